use proto::v1 as wire;

use super::*;

const LOG: &str = "/data/log";

/// As strace writes it, but for the strings: there every byte is two hexadecimal digits.
const COVERED: &str = r#"
712 recvfrom(19<socket:[7]>, "POST /federation/contrib", 24, 0, NULL, NULL) = 24
712 recvfrom(19<socket:[7]>, "ute HTTP/1.1", 8192, 0, NULL, NULL) = 12
705 fdatasync(11</data/log/1.log> <unfinished ...>
712 recvfrom(19<socket:[7]>, 0x7f, 8192, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
705 <... fdatasync resumed>)            = 0
712 sendto(19<socket:[7]>, "HTTP/1.1 200 OK", 15, MSG_NOSIGNAL, NULL, 0) = 15
"#;

fn parse(text: &str) -> Trace {
    Trace::parse(text, Path::new(LOG))
}

/// How many answers no sync covers, of how many.
fn uncovered(trace: &Trace) -> (usize, u64) {
    let coverage = trace.coverage();
    (coverage.uncovered.len(), coverage.granted.values().sum())
}

fn with_lines_swapped(one: usize, other: usize) -> Trace {
    let mut lines: Vec<&str> = COVERED.trim().lines().collect();
    lines.swap(one, other);
    parse(&lines.join("\n"))
}

#[test]
fn a_sync_between_request_and_answer_covers() {
    let trace = parse(COVERED);
    assert_eq!(trace.coverage().granted, BTreeMap::from([(Asked::Contribute, 1)]));
    assert_eq!(uncovered(&trace), (0, 1));
    assert_eq!(uncovered(&trace.without_syncs(Synced::Log)), (1, 1));
}

#[test]
fn a_sync_that_began_before_the_request_was_whole_does_not_cover() {
    assert_eq!(uncovered(&with_lines_swapped(1, 2)), (1, 1));
}

#[test]
fn a_sync_that_ends_after_the_answer_does_not_cover() {
    assert_eq!(uncovered(&with_lines_swapped(4, 5)), (1, 1));
}

#[test]
fn a_sync_of_another_file_does_not_cover() {
    for other in [
        "/data/db/000011.sst",
        "/data/log",
        "/data/logs/1.log",
        "/elsewhere/log/1.log",
    ] {
        let trace = parse(&COVERED.replace("/data/log/1.log", other));
        assert_eq!(uncovered(&trace), (1, 1), "{other}");
        assert_eq!(trace.syncs_to_start(), 0);
    }
}

#[test]
fn a_sync_that_failed_does_not_cover() {
    let failed = "fdatasync resumed>)            = -1 EIO (Input/output error) (INJECTED)";
    let trace = parse(&COVERED.replace("fdatasync resumed>)            = 0", failed));
    assert_eq!(uncovered(&trace), (1, 1));
}

#[test]
fn each_request_that_changes_something_is_looked_at_and_no_other() {
    for (head, asked) in [
        ("POST /federation/registe", Some(Asked::Register)),
        ("POST /federation/contrib", Some(Asked::Contribute)),
        ("POST /federation/knowled", Some(Asked::Knowledge)),
        ("GET /federation/status H", None),
    ] {
        let granted = parse(&COVERED.replace("POST /federation/contrib", head))
            .coverage()
            .granted;
        assert_eq!(granted, asked.map(|asked| (asked, 1)).into_iter().collect(), "{head}");
    }
    let refused = parse(&COVERED.replace("200 OK", "429 To"));
    assert_eq!(uncovered(&refused), (0, 0), "a refusal promises nothing");
}

#[test]
fn a_read_split_in_two_lines_is_a_request() {
    let split = COVERED.replace(
        "712 recvfrom(19<socket:[7]>, \"POST",
        "712 recvfrom(19<socket:[7]>,  <unfinished ...>\n705 fdatasync(11</data/log/1.log>) = 0\n712 <... recvfrom resumed>\"POST",
    );
    let trace = parse(&split);
    assert_eq!(uncovered(&trace), (0, 1));
    assert_eq!(
        trace.events[0],
        Event::SyncBegins {
            thread: 705,
            of: Synced::Log
        }
    );
}

/// Bytes as `strace -xx` writes them.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let head = [0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    [&head, payload].concat()
}

/// A gRPC call on one stream: read in two pieces that cut a frame, synced, answered with a message.
fn rpc(sync: &str, answer: &[u8]) -> Trace {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let request = [frame(4, 0, 0, &[]), frame(1, 4, 3, b"head"), frame(0, 1, 3, b"message")].concat();
    let (first, second) = request.split_at(30);
    let mut text = String::new();
    for read in [&preface[..], first, second] {
        let length = read.len();
        text.push_str(&format!(
            "712 recvfrom(19<socket:[7]>, \"{}\", 8192, 0, NULL, NULL) = {length}\n",
            escaped(read)
        ));
    }
    text.push_str(sync);
    let (one, two) = answer.split_at(4);
    text.push_str(&format!(
        "712 writev(19<socket:[7]>, [{{iov_base=\"{}\", iov_len=4}}, {{iov_base=\"{}\", iov_len=9}}], 2) = {}\n",
        escaped(one),
        escaped(two),
        answer.len()
    ));
    parse(&text)
}

#[test]
fn a_grpc_call_is_looked_at_like_any_other_request() {
    let sync = "705 fdatasync(11</data/log/1.log>) = 0\n";
    let granted = [
        frame(1, 4, 3, b"head"),
        frame(0, 0, 3, b"message"),
        frame(1, 5, 3, b"trailers"),
    ]
    .concat();
    let trace = rpc(sync, &granted);
    assert_eq!(trace.coverage().granted, BTreeMap::from([(Asked::Rpc, 1)]));
    assert_eq!(uncovered(&trace), (0, 1));
    assert_eq!(uncovered(&rpc("", &granted)), (1, 1));
    let refused = frame(1, 5, 3, b"refusal");
    assert_eq!(uncovered(&rpc("", &refused)), (0, 0));
}

#[test]
fn paths_and_bytes_are_read_from_hexadecimal() {
    let path = escaped("/data/log/é.log".as_bytes());
    let text = format!("705 fdatasync(11<{path}>) = 0");
    assert_eq!(
        parse(&text).events[0],
        Event::SyncBegins {
            thread: 705,
            of: Synced::Log
        }
    );
}

#[test]
fn a_segment_needs_a_sync_of_the_directory_before_the_next_yes() {
    let made =
        "705 openat(AT_FDCWD</>, \"/data/log/2.log\", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0666) = 12</data/log/2.log>\n";
    let synced = "705 fsync(9</data/log>) = 0\n";
    let request = COVERED.trim();
    let files = |before: &str| parse(&format!("{before}{request}")).segments_made();
    assert_eq!(files(&format!("{made}{synced}")), (1, 0));
    assert_eq!(files(&format!("{synced}{made}")), (1, 1), "a sync before says nothing");
    assert_eq!(files(made), (1, 1));
    assert_eq!(files(&format!("{made}{}", synced.replace("log", "db"))), (1, 1));
    for other in [
        made.replace("data/log", "data/db"),
        made.replace("O_CREAT|", ""),
        made.replace("2.log\"", "reserve\""),
        made.replace("12</data/log/2.log>", "-1 EEXIST (File exists)"),
    ] {
        assert_eq!(files(&other), (0, 0), "{other}");
    }
    assert_eq!(
        parse(&format!("{request}\n{made}")).segments_made(),
        (1, 0),
        "nothing was granted since"
    );
}

#[test]
fn answers_after_a_failed_sync_are_counted() {
    let failure = "705 fdatasync(11</data/log/1.log>) = -1 EIO (Input/output error) (INJECTED)\n";
    let trace = parse(&format!("{failure}{}", COVERED.trim()));
    assert_eq!(trace.granted_after_failed_sync(), Some(1));
    assert_eq!(parse(COVERED).granted_after_failed_sync(), None);
    // Synced in time, answered late.
    let late = COVERED.replace("712 sendto", &format!("{failure}712 sendto"));
    assert_eq!(parse(&late).granted_after_failed_sync(), Some(0));
}

/// A gRPC message in a frame of stream 1.
fn message(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    frame(0, 0, 1, &[&[0][..], &length, &message].concat())
}

fn read_line(bytes: &[u8]) -> String {
    let (length, bytes) = (bytes.len(), escaped(bytes));
    format!("712 recvfrom(19<socket:[7]>, \"{bytes}\", 8192, 0, NULL, NULL) = {length}\n")
}

fn write_line(bytes: &[u8]) -> String {
    let (length, bytes) = (bytes.len(), escaped(bytes));
    format!("712 sendto(19<socket:[7]>, \"{bytes}\", 8192, 0, NULL, NULL) = {length}\n")
}

const SYNC: &str = "705 fdatasync(11</data/log/1.log>) = 0\n";

/// A conversation of two members, and what it promises: votes, appends, and how many of them no sync covers.
fn promises(lines: &[&str]) -> (u64, u64, usize) {
    let preface = read_line(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let found = parse(&(preface + &lines.concat())).promises();
    (found.votes, found.appends, found.uncovered.len())
}

#[test]
fn a_vote_is_synced_before_it_is_given() {
    let ballot = |committed| {
        Some(wire::Ballot {
            term: 7,
            node: 9,
            committed,
        })
    };
    let request = |pre| wire::VoteRequest {
        ballot: ballot(false),
        pre,
        ..wire::VoteRequest::default()
    };
    let answer = |granted| wire::VoteResponse {
        ballot: ballot(false),
        granted,
        last: None,
    };
    let asked = read_line(&message(&request(false)));
    let (given, refused) = (
        write_line(&message(&answer(true))),
        write_line(&message(&answer(false))),
    );
    assert_eq!(promises(&[&asked, SYNC, &given]), (1, 0, 0));
    assert_eq!(promises(&[SYNC, &asked, &given]), (1, 0, 1));
    assert_eq!(promises(&[&asked, &given, SYNC]), (1, 0, 1));
    assert_eq!(promises(&[&asked, &refused]), (0, 0, 0));
    let asked = read_line(&message(&request(true)));
    assert_eq!(promises(&[&asked, &given]), (0, 0, 0), "a pre-vote promises nothing");
}

#[test]
fn entries_are_synced_before_they_are_said_to_be_stored() {
    let request = |indexes: std::ops::Range<u64>| {
        let entry = |index| wire::LogEntry {
            index,
            record: vec![7; 20],
        };
        let request = wire::AppendRequest {
            ballot: Some(wire::Ballot {
                term: 7,
                node: 9,
                committed: true,
            }),
            entries: indexes.map(entry).collect(),
            ..wire::AppendRequest::default()
        };
        read_line(&message(&request))
    };
    let stored = |index| {
        let last = Some(wire::LogId {
            term: 7,
            leader: 9,
            index,
        });
        let outcome = Some(wire::append_response::Outcome::Stored(wire::Stored { last }));
        write_line(&message(&wire::AppendResponse { outcome }))
    };
    let (one, two, heartbeat) = (request(1..4), request(4..5), request(4..4));
    assert_eq!(promises(&[&one, SYNC, &stored(3)]), (0, 1, 0));
    assert_eq!(promises(&[&one, &stored(3), SYNC]), (0, 1, 1));
    // Each up to what it says; two may share a sync.
    assert_eq!(promises(&[&one, SYNC, &two, &stored(3), &stored(4)]), (0, 2, 1));
    assert_eq!(promises(&[&one, &two, SYNC, &stored(3), &stored(4)]), (0, 2, 0));
    // What was answered before needs no other sync.
    assert_eq!(promises(&[&one, SYNC, &stored(3), &heartbeat, &stored(3)]), (0, 1, 0));
    assert_eq!(promises(&[&one, SYNC, &stored(3), &one, &stored(3)]), (0, 1, 0));
    // An answer in two pieces is on its way with its last.
    let answer = message(&wire::AppendResponse {
        outcome: Some(wire::append_response::Outcome::Stored(wire::Stored {
            last: Some(wire::LogId {
                term: 7,
                leader: 9,
                index: 3,
            }),
        })),
    });
    let (first, rest) = answer.split_at(12);
    assert_eq!(
        promises(&[&one, &write_line(first), SYNC, &write_line(rest)]),
        (0, 1, 0)
    );
}

#[test]
fn traces_of_several_nodes_are_one_by_their_times() {
    let place = tempfile::tempdir().unwrap();
    let node = |name: &str, lines: &str| {
        let (trace, data) = (place.path().join(format!("{name}.trace")), place.path().join(name));
        std::fs::create_dir_all(data.join("log")).unwrap();
        std::fs::write(&trace, lines.replace("LOG", data.join("log").to_str().unwrap())).unwrap();
        (trace, data)
    };
    let asked = "POST /federation/contrib";
    let one = node(
        "one",
        &format!(
            "12 100.000001 recvfrom(9<socket:[7]>, \"{asked}\", 24, 0, NULL, NULL) = 24\n\
             13 100.000002 fdatasync(11<LOG/1.log> <unfinished ...>\n\
             12 100.000005 sendto(9<socket:[7]>, \"HTTP/1.1 200 OK\", 15, 0, NULL, 0) = 15\n\
             13 100.000006 <... fdatasync resumed>) = 0\n"
        ),
    );
    let two = node("two", "22 100.000003 fdatasync(11<LOG/1.log>) = 0\n");
    let three = node("three", "32 100.000007 fdatasync(11<LOG/1.log>) = 0\n");
    let nodes = [&one, &two, &three].map(|(trace, data)| (trace.as_path(), data.as_path()));
    let traces = Trace::together(&nodes);
    let grants: Vec<Vec<_>> = traces.iter().map(|trace| trace.grants().collect()).collect();
    let at = grants[0][0].0;
    assert_eq!(
        grants,
        [false, true, false].map(|is_covered| vec![(at, Asked::Contribute, is_covered)])
    );
}

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

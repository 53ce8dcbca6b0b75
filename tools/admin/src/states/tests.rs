use client::wire::{Entry, Seen, Sums, entry::Content};

use super::*;

fn namespace() -> Namespace {
    Namespace {
        name: "notes".to_owned(),
        replication: "mesh".to_owned(),
        strategy: "keep_siblings".to_owned(),
    }
}

fn seen(node: &str, incarnation: u64, counter: u64) -> Seen {
    Seen {
        node: node.to_owned(),
        incarnation,
        counter,
    }
}

fn entry(counter: u64, content: Content) -> Entry {
    Entry {
        node: "replica-1".to_owned(),
        incarnation: 0xa7,
        counter,
        stamp: u64::MAX,
        expires: (counter == 2).then_some(5),
        content: Some(content),
    }
}

/// One key of each type, one that was deleted, names and values that need escapes.
fn states() -> Vec<KeyState> {
    let state = |key: &str, entries: Vec<Entry>| KeyState {
        key: key.to_owned(),
        context: vec![seen("replica-1", 0xa7, 9), seen("ré\"2", u64::MAX, u64::MAX)],
        entries,
    };
    vec![
        state(
            "a",
            vec![entry(
                1,
                Content::Register("{\"a\": 1.50, \"é\":\"\\u00e9\\n\"}".to_owned()),
            )],
        ),
        state(
            "b",
            vec![
                entry(2, Content::Sibling("1".to_owned())),
                entry(3, Content::Sibling("\"\u{1f600}\"".to_owned())),
            ],
        ),
        state("c\u{7f}\"\\", vec![entry(4, Content::Element("[]".to_owned()))]),
        state(
            "d",
            vec![entry(
                5,
                Content::Sums(Sums {
                    increments: u64::MAX,
                    decrements: 0,
                }),
            )],
        ),
        state("é", Vec::new()),
    ]
}

fn export() -> Vec<String> {
    let (mut writer, first) = Writer::begin(namespace());
    let mut lines = vec![first];
    lines.extend(states().iter().map(|state| writer.key(state)));
    assert_eq!(writer.keys(), 5);
    lines.push(writer.end());
    lines
}

fn read(lines: &[String]) -> Result<Vec<KeyState>, String> {
    let (mut reader, header) = Reader::begin(lines[0].trim_end().as_bytes()).ok_or("no export")??;
    assert_eq!(header.namespace, namespace());
    let mut found = Vec::new();
    for line in &lines[1..] {
        if let Read::Key(state) = reader.next(line.trim_end_matches('\n').as_bytes())? {
            found.push(state);
        }
    }
    reader.end().map(|()| found)
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(read(&export()), Ok(states()));
}

/// What stands in files of users: never changed, a new form gets a new number.
#[test]
fn the_bytes_are_these() {
    let lines = export();
    assert_eq!(
        lines[0],
        "{\"continuum_export\":1,\"namespace\":{\"name\":\"notes\",\"replication\":\"mesh\",\"strategy\":\"keep_siblings\"}}\n"
    );
    assert_eq!(
        lines[1],
        concat!(
            r#"{"key":"a","context":[["replica-1","00000000000000a7",9],["ré\"2","ffffffffffffffff",18446744073709551615]],"#,
            r#""entries":[{"dot":["replica-1","00000000000000a7",1],"stamp":18446744073709551615,"#,
            r#""register":"{\"a\": 1.50, \"é\":\"\\u00e9\\n\"}"}]}"#,
            "\n"
        )
    );
    assert!(lines[2].contains(r#""expires":5,"sibling":"1"}"#), "{}", lines[2]);
    assert!(lines[4].contains(r#""sums":[18446744073709551615,0]}"#), "{}", lines[4]);
    assert!(lines[5].ends_with("\"entries\":[]}\n"), "{}", lines[5]);
    let sum = crate::sum::of(lines[..6].concat().as_bytes());
    assert_eq!(lines[6], format!("{{\"end\":{{\"keys\":5,\"sha256\":\"{sum}\"}}}}\n"));
}

#[test]
fn a_cut_a_change_and_a_missing_line_are_noticed() {
    let whole = export();
    for cut in 1..whole.len() {
        let told = read(&whole[..cut]).unwrap_err();
        assert!(told.contains("cut off"), "{told}");
    }
    for missing in 1..whole.len() - 1 {
        let mut lines = whole.clone();
        lines.remove(missing);
        assert!(read(&lines).unwrap_err().contains("there were 4"));
    }
    let mut lines = whole.clone();
    lines[1] = lines[1].replace("1.50", "1.51");
    assert!(read(&lines).unwrap_err().contains("SHA-256"));
    let mut lines = whole.clone();
    lines.swap(1, 2);
    assert!(read(&lines).unwrap_err().contains("not in order"));
    let mut lines = whole;
    lines.push("{}\n".to_owned());
    assert!(read(&lines).unwrap_err().contains("follows"));
}

#[test]
fn other_forms_are_told_apart() {
    assert!(Reader::begin(b"{\"key\":\"a\",\"value\":1}").is_none());
    assert!(Reader::begin(b"").is_none());
    assert!(
        Reader::begin(b"{\"continuum_export\":2}")
            .unwrap()
            .unwrap_err()
            .contains("newer")
    );
    assert!(
        Reader::begin(b"{\"continuum_export\":1}")
            .unwrap()
            .unwrap_err()
            .contains("namespace")
    );
}

#[test]
fn lines_that_say_too_much_or_too_little_are_refused() {
    let dot = r#"["n","00000000000000a7",1]"#;
    for (entry, what) in [
        (format!(r#"{{"dot":{dot},"stamp":1}}"#), "must have one of"),
        (
            format!(r#"{{"dot":{dot},"stamp":1,"register":"1","sibling":"1"}}"#),
            "must have one of",
        ),
        (format!(r#"{{"dot":{dot},"register":"1"}}"#), "stamp"),
        (
            format!(r#"{{"dot":{dot},"stamp":1,"register":"1","color":2}}"#),
            "color",
        ),
        (
            r#"{"dot":["n","A7",1],"stamp":1,"register":"1"}"#.to_owned(),
            "16 small",
        ),
    ] {
        let line = format!(r#"{{"key":"k","context":[{dot}],"entries":[{entry}]}}"#);
        let told = line::Line::read(line.as_bytes()).unwrap_err();
        assert!(told.contains(what), "{told}");
    }
}

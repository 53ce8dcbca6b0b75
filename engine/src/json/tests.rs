use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Value {
    parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(body: &[u8]) -> ParseError {
    parse(body).expect_err("must be refused")
}

/// Inputs with their stored text, canonical form and hash, computed by an independent implementation in Python.
const GOLDEN: &str = include_str!("golden.jsonl");

#[test]
fn golden_inputs_keep_their_text_and_hash() {
    let mut count = 0;
    for line in GOLDEN.lines() {
        let golden = read(line);
        let field = |name: &str| golden[name].as_str().expect("a string");
        let mut value = read(field("input"));
        Anonymiser::default().anonymise(&mut value);
        assert_eq!(to_text(&value), field("stored"), "{line}");
        assert_eq!(canonical(&value), field("canonical"), "{line}");
        assert_eq!(ContentHash::of(&value).to_string(), field("hash"), "{line}");
        assert_eq!(field("hash").parse(), Ok(ContentHash::of(&value)));
        assert_eq!(
            ContentHash::of(&read(&to_text(&value))),
            ContentHash::of(&value),
            "what is stored has the hash it is stored under"
        );
        count += 1;
    }
    assert!(count >= 30, "{count} golden inputs");
}

/// RFC 8785, appendix B: doubles and their canonical text.
#[test]
fn numbers_of_rfc_8785() {
    for (bits, text) in [
        (0x0000_0000_0000_0000, "0"),
        (0x8000_0000_0000_0000, "0"),
        (0x0000_0000_0000_0001, "5e-324"),
        (0x8000_0000_0000_0001, "-5e-324"),
        (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
        (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
        (0x4340_0000_0000_0000, "9007199254740992"),
        (0xc340_0000_0000_0000, "-9007199254740992"),
        (0x4430_0000_0000_0000, "295147905179352830000"),
        (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
        (0x44b5_2d02_c7e1_4af6, "1e+23"),
        (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
        (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
        (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
        (0x444b_1ae4_d6e2_ef50, "1e+21"),
        (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
        (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
        (0x41b3_de43_5555_5553, "333333333.3333332"),
        (0x41b3_de43_5555_5554, "333333333.33333325"),
        (0x41b3_de43_5555_5555, "333333333.3333333"),
        (0x41b3_de43_5555_5556, "333333333.3333334"),
        (0x41b3_de43_5555_5557, "333333333.33333343"),
        (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
    ] {
        assert_eq!(canonical_number(&format!("{:e}", f64::from_bits(bits))), text);
        assert_eq!(canonical_number(text), text);
    }
}

#[test]
fn integers_beyond_doubles_keep_their_digits_however_they_are_spelled() {
    for (spellings, form) in [
        (&["1", "1.0", "10e-1", "0.1E1", "1e+0"][..], "1"),
        (&["0", "-0", "-0.0", "0e99999999999999999999", "-0e-5"], "0"),
        (
            &[
                "9007199254740993",
                "9007199254740993.0",
                "9.007199254740993e15",
                "90071992547409930e-1",
            ],
            "9007199254740993",
        ),
        (&["1e21", "1000000000000000000000", "1.0e+21"], "1e+21"),
        (
            &["-12345678901234567890123", "-1.2345678901234567890123e22"],
            "-12345678901234567890123",
        ),
        (&["100000000000000000000", "1e20"], "100000000000000000000"),
        (&["1e-400", "1e-99999999999999999999"], "0"),
        (&["123456789012345", "123456789012345.0"], "123456789012345"),
        (&["1234567890123456", "1234567890123456.0"], "1234567890123456"),
    ] {
        for spelling in spellings {
            assert_eq!(canonical(&read(spelling)), form, "{spelling}");
        }
    }
}

#[test]
fn hostile_bodies_are_refused_with_their_reason() {
    use ParseError::{DuplicateKey, LoneSurrogate, Malformed, NotUtf8, Nul, NumberOutOfRange, TooDeep};
    assert!(matches!(refused(b"{\"a\":\"\xff\"}"), NotUtf8 { offset: 6 }));
    assert!(
        matches!(refused(b"\xed\xa0\x80"), NotUtf8 { offset: 0 }),
        "a surrogate encoded as UTF-8 is no UTF-8"
    );
    for text in [
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "--1",
        "0x1",
        "tru",
        "nul",
        "",
        "  ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "[1 2]",
        "{\"a\" 1}",
        "\"a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\u{1}\"",
        "\"\0\"",
        "1 2",
        "// c\n1",
        "\u{feff}1",
        "[1}",
    ] {
        assert!(
            matches!(refused(text.as_bytes()), Malformed { .. }),
            "{text:?}: {:?}",
            refused(text.as_bytes())
        );
    }
    for text in ["{\"a\":1,\"a\":1}", "[{\"x\":{\"b\":1,\"c\":2,\"\\u0062\":3}}]"] {
        assert!(matches!(refused(text.as_bytes()), DuplicateKey { .. }), "{text}");
    }
    for text in ["1e400", "-1e400", "[1e309]", "1e99999999999999999999", &"9".repeat(310)] {
        assert!(matches!(refused(text.as_bytes()), NumberOutOfRange { .. }), "{text}");
    }
    for text in [
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800x\"",
        "\"\\ud800\\n\"",
        "\"\\ud800\\ud800\"",
        "{\"\\udfff\":1}",
        "\"\\ud800\\u0041\"",
    ] {
        assert!(matches!(refused(text.as_bytes()), LoneSurrogate { .. }), "{text}");
    }
    assert!(matches!(refused(b"\"a\\u0000b\""), Nul { .. }));
    assert!(matches!(refused(b"{\"\\u0000\":1}"), Nul { .. }));
    for levels in [129, 900, 1_000_000] {
        assert!(matches!(refused("[".repeat(levels).as_bytes()), TooDeep { .. }));
        assert!(matches!(refused("{\"a\":".repeat(levels).as_bytes()), TooDeep { .. }));
    }
}

#[test]
fn the_deepest_allowed_body_is_read() {
    let text = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
    assert_eq!(depth(&read(&text)), DEPTH_MAX);
    assert_eq!(depth(&read("{\"a\":[{}],\"b\":1}")), 3);
    assert_eq!(depth(&read("1")), 0);
}

#[test]
fn a_refusal_says_where() {
    let position = |body: &str| match refused(body.as_bytes()) {
        ParseError::Malformed { position, .. } | ParseError::DuplicateKey { position, .. } => {
            (position.offset, position.line, position.column)
        }
        other => panic!("{other}"),
    };
    assert_eq!(position("{\"ä\": 1,\n  \"b\": x}"), (17, 2, 8));
    assert_eq!(position("{\"a\":1,\n\"a\":2}"), (8, 2, 1));
    assert_eq!(position("[1,é]"), (3, 1, 4));
}

#[test]
fn number_text_and_key_order_stay_as_sent() {
    let text = r#"{"z":1.50,"a":1E5,"m":[0.10,12345678901234567890123,-0],"b":{"y":1,"x":2e+07}}"#;
    assert_eq!(to_text(&read(text)), text);
    let odd = r#"{"$serde_json::private::Number":"1"}"#;
    assert_eq!(to_text(&read(odd)), odd, "no key has a hidden meaning");
}

#[test]
fn reading_is_linear_in_the_body() {
    // Quadratic work on any of these would take minutes.
    let many_keys: String = (0..200_000).map(|key| format!("\"k{key}\":1,")).collect();
    for body in [
        format!("{{{}\"z\":1}}", many_keys),
        format!("\"{}\"", "\\n".repeat(2 << 20)),
        format!("[{}1]", "\"\\ud83d\\ude00\",".repeat(200_000)),
        format!("0.{}1", "0".repeat(4 << 20)),
        format!("[{}1]", "\n".repeat(4 << 20)),
    ] {
        read(&body);
    }
}

#[test]
fn anonymisation_rules_can_be_added_but_never_cut() {
    let rules = Anonymiser::default()
        .with_name("email")
        .with_prefix("private_")
        .expect("a rule")
        .with_suffix("_by")
        .expect("a rule");
    for name in [
        "id",
        "tenant_id",
        "user_id",
        "session_id",
        "user_",
        "tenant_x",
        "_at",
        "created_at",
        "end_time",
        "email",
        "private_x",
        "made_by",
    ] {
        assert!(rules.drops(name), "{name}");
    }
    for name in [
        "ID",
        "identity",
        "Id",
        "User_x",
        "at",
        "time",
        "created_At",
        "atlas",
        "my_user_x",
        "_at_",
        "emails",
    ] {
        assert!(!rules.drops(name), "{name}");
    }
    assert!(!Anonymiser::default().drops("email"));
    assert_eq!(Anonymiser::default().with_prefix("").err(), Some(RuleError));
    assert_eq!(Anonymiser::default().with_suffix("").err(), Some(RuleError));
}

#[test]
fn texts_are_values_in_order_with_the_name_marked() {
    let value = read(r#"{"k":"one","name":["two",{"x":"three"}],"n":1.50,"b":[true,null,false],"o":{"name":"four"}}"#);
    let seen: Vec<(&str, bool)> = texts(&value).map(|text| (text.text, text.in_name)).collect();
    assert_eq!(
        seen,
        [
            ("one", false),
            ("two", true),
            ("three", true),
            ("1.50", false),
            ("true", false),
            ("false", false),
            ("four", false)
        ]
    );
    let list = read(r#"["a","b"]"#);
    assert_eq!(texts(&list).map(|text| text.text).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn folding_is_simple_and_covers_scripts() {
    for (text, folded) in [
        ("ABC xyz", "abc xyz"),
        ("ÄÖÜß", "äöüß"),
        ("ẞ", "ß"),
        ("ΣΊΣΥΦΟΣς", "σίσυφοσσ"),
        ("МОСКВА", "москва"),
        ("日本語", "日本語"),
        ("İI", "İi"),
        ("Ա", "ա"),
        ("K", "k"),
        ("Ꭰ", "Ꭰ"),
        ("ﬀ", "ﬀ"),
    ] {
        assert_eq!(fold(text), folded, "{text}");
    }
    assert!(matches!(fold("already folded ß 日本"), std::borrow::Cow::Borrowed(_)));
}

#[test]
fn a_fault_is_told_with_the_value_it_stands_in() {
    let place = |body: &str| parse_located(body.as_bytes()).unwrap_err().place;
    assert_eq!(place(r#"{"concepts":[{"a":1},{"name":1e400}]}"#), "concepts[1].name");
    assert_eq!(place(r#"{"concepts":[{"a":1,"a":2}]}"#), "concepts[0]");
    assert_eq!(place(r#"[[[[[["\u0000"]]]]]]"#), "[0][0][0][0]", "cut");
    assert_eq!(place(&format!(r#"{{"{}":x}}"#, "k".repeat(100))), "k".repeat(64), "cut");
    assert_eq!(place("nul"), "");
    assert_eq!(place(r#"{"concepts":[]} x"#), "");
}

#[test]
fn hash_text_is_strict() {
    let hash = ContentHash([0xab; 32]);
    assert_eq!(hash.to_string().parse(), Ok(hash));
    for text in [
        "",
        "ab",
        &"a".repeat(63),
        &"a".repeat(65),
        &"g".repeat(64),
        &"é".repeat(32),
    ] {
        assert_eq!(text.parse::<ContentHash>(), Err(HashFormatError), "{text}");
    }
}

/// Any JSON value, keys and strings from several scripts.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(|number| read(&format!("{number:e}"))),
        "[a-z\u{e000}-\u{10ffff}\u{1}-\u{1f}\"\\\\é]{0,6}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map("[a-c\u{e000}\u{fffd}\u{10000}\u{10ffff}]{0,3}", inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn reversed(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .rev()
                .map(|(key, item)| (key.clone(), reversed(item)))
                .collect(),
        ),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn canonical_is_idempotent_and_stored_text_reads_back(value in value()) {
        let form = canonical(&value);
        prop_assert_eq!(canonical(&read(&form)), form);
        prop_assert_eq!(&read(&to_text(&value)), &value);
    }

    #[test]
    fn key_order_is_irrelevant_and_list_order_relevant(value in value(), items in prop::collection::vec(any::<u8>(), 2..6)) {
        prop_assert_eq!(canonical(&reversed(&value)), canonical(&value));
        let mut turned = items.clone();
        turned.reverse();
        let [left, right] = [&items, &turned].map(|list| canonical(&serde_json::json!(list)));
        prop_assert_eq!(left == right, items == turned);
    }

    #[test]
    fn any_bytes_are_read_or_refused_and_never_panic(body in prop::collection::vec(prop_oneof![Just(b'{'), Just(b'"'), Just(b'\\'), Just(b'u'), Just(b'd'), Just(b'8'), Just(b'0'), Just(b'['), Just(b','), Just(b':'), Just(b'-'), Just(b'e'), any::<u8>()], 0..40)) {
        if let Ok(value) = parse(&body) {
            // The second opinion; what we accept it accepts.
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
            prop_assert_eq!(canonical(&read(&canonical(&value))), canonical(&value));
        }
    }
}

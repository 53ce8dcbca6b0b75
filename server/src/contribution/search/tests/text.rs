//! What is text, and what folding does and does not.

use serde_json::json;

use super::*;

#[test]
fn values_match_and_keys_and_punctuation_do_not() {
    let concept =
        json!({"name": "Oak tree", "leaves": 1200, "evergreen": false, "kin": ["Elm", {"ash": "ASH"}], "gone": null});
    let index = index_of(&[concept]);
    for text in [
        "oak", "OAK TREE", "k t", "1200", "20", "false", "als", "elm", "ash", "e",
    ] {
        assert_eq!(found(&index, text), [1], "{text}");
    }
    for text in [
        "leaves",
        "evergreen",
        "kin",
        "null",
        "{",
        "[",
        "\"",
        ":",
        ",",
        "oaktree",
        "oak  tree",
    ] {
        assert!(found(&index, text).is_empty(), "{text}");
    }
}

#[test]
fn numbers_match_as_they_were_sent() {
    let concept = engine::json::parse(br#"{"a": 1.50, "b": 1E5, "c": 123456789012345678901234567890}"#).expect("sound");
    let index = index_of(&[concept]);
    for text in ["1.50", "1e5", "678901234567890"] {
        assert_eq!(found(&index, text), [1], "{text}");
    }
    for text in ["100000", "1.5e"] {
        assert!(found(&index, text).is_empty(), "{text}");
    }
}

#[test]
fn a_match_never_spans_two_values() {
    let index = index_of(&[json!({"name": ["ab", "cd"], "list": ["ef", "gh"], "one": "i", "two": "й", "three": "中"})]);
    for text in [
        "bc", "abc", "bcd", "abcd", "abcde", "fg", "de", "ghi", "hi", "iй", "й中", "\u{0}", "\n",
    ] {
        assert!(found(&index, text).is_empty(), "{text}");
    }
    for text in ["ab", "cd", "ef", "gh", "i", "й", "中"] {
        assert_eq!(found(&index, text), [1], "{text}");
    }
}

#[test]
fn bytes_that_are_no_letter_of_their_own_find_nothing_else() {
    // й is D0 B9, ѹ is D1 B9, й + к gives D0 B9 D0 BA: shared bytes are not shared letters.
    let index = index_of(&[json!("йк"), json!("ѹ"), json!("中"), json!("丮")]);
    assert_eq!(found(&index, "й"), [1]);
    assert_eq!(found(&index, "ѹ"), [2]);
    assert_eq!(found(&index, "йк"), [1]);
    assert_eq!(found(&index, "中"), [3]);
}

/// Simple case folding (`CaseFolding.txt`, C and S): one character becomes one character, whatever the language.
#[test]
fn folding_is_simple_case_folding() {
    let finds = |text: &str, query: &str| found(&index_of(&[json!(text)]), query) == [1];
    let equal = [
        ("Straße", "STRAẞE"),     // capital sharp s folds to ß
        ("ὈΔΥΣΣΕΎΣ", "ὀδυσσεύς"), // final sigma is sigma
        ("ΟΔΟΣ", "οδος"),
        ("ЁЛКА", "ёлка"),
        ("300 K", "300 k"), // Kelvin sign
        ("Å", "å"),         // Ångström sign
        ("ſ", "S"),         // long s
        ("µ", "Μ"),         // micro sign and Greek capital mu
        ("ǅ", "ǆ"),         // title case
        ("Ꭰ", "ꭰ"),         // Cherokee folds upwards
        ("𐐀", "𐐨"),         // Deseret, beyond the basic plane
        ("ŉ", "ŉ"),
        ("ﬁ", "ﬁ"),
    ];
    for (text, query) in equal {
        assert!(
            finds(text, query) && finds(query, text),
            "{text} and {query} are the same"
        );
    }
    let unequal = [
        ("Straße", "strasse"),    // full folding would make ss of ß
        ("İstanbul", "istanbul"), // İ has no simple folding
        ("Işık", "işik"),         // ı neither
        ("ı", "I"),
        ("İ", "I"),
        ("é", "e"),        // accents stay
        ("é", "e\u{301}"), // nothing is normalised
        ("ﬁ", "fi"),       // ligatures stay
    ];
    for (text, query) in unequal {
        assert!(!finds(text, query), "{text} does not hold {query}");
    }
    assert!(finds("İstanbul", "İST") && finds("Istanbul", "istanbul"));
}

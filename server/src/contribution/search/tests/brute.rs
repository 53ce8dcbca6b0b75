//! A second opinion: a search that shares no code with the index, neither the walk over a concept nor the folding.
//!
//! ```text
//!  the index     json::texts ─► json::fold (Unicode's table) ─► grams ─► ranking
//!  here          a walk of its own over serde_json::Value ─► to_lowercase, letter by letter ─► every letter as a start
//! ```
//!
//! Lower case is not case folding everywhere (final sigma, ß, İ, Cherokee …). So the letters here come from ranges where it is:
//! five scripts, each letter with a partner in the other case or with no case at all.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A value's letters in lower case, and whether it stands in the top-level `name`.
struct Told {
    letters: Vec<char>,
    in_name: bool,
}

fn lower(text: &str) -> Vec<char> {
    let one = |letter: char| {
        let mut lower = letter.to_lowercase();
        match (lower.next(), lower.next()) {
            (Some(only), None) => only,
            _ => panic!("{letter} is not one letter in lower case"),
        }
    };
    text.chars().map(one).collect()
}

/// Everything a concept says, found by recursion.
fn collect(value: &Value, in_name: bool, told: &mut Vec<Told>) {
    let text = match value {
        Value::Null => return,
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(values) => return values.iter().for_each(|value| collect(value, in_name, told)),
        Value::Object(fields) => return fields.values().for_each(|value| collect(value, in_name, told)),
    };
    let letters = lower(&text);
    told.push(Told { letters, in_name });
}

fn told_by(concept: &Value) -> Vec<Told> {
    let mut told = Vec::new();
    match concept {
        Value::Object(fields) => {
            for (field, value) in fields {
                collect(value, field == "name", &mut told);
            }
        }
        other => collect(other, false, &mut told),
    }
    told
}

/// How often `needle` stands in each value: in those of the name, and in all.
fn matches(concept: &Value, needle: &[char]) -> (usize, usize) {
    let (mut in_name, mut total) = (0, 0);
    for told in told_by(concept) {
        let count = told
            .letters
            .windows(needle.len())
            .filter(|window| *window == needle)
            .count();
        total += count;
        in_name += if told.in_name { count } else { 0 };
    }
    (in_name, total)
}

/// Numbers (from 1) of the concepts that hold `text`, best first; each was delivered as often as `usage` says, just now.
fn brute_force(concepts: &[(Value, u64)], text: &str) -> Vec<u64> {
    let needle = lower(text);
    let mut found = Vec::new();
    for (number, (concept, usage)) in (1..).zip(concepts) {
        let (in_name, total) = if needle.is_empty() {
            (0, 1)
        } else {
            matches(concept, &needle)
        };
        if total > 0 {
            // Better is greater: more deliveries, more matches in the name, more matches, an earlier number.
            found.push((*usage, in_name, total, std::cmp::Reverse(number)));
        }
    }
    found.sort();
    found.into_iter().rev().map(|(.., number)| number.0).collect()
}

/// Letters in which lower case is simple case folding: Latin, Greek without the final sigma, Cyrillic, Armenian, and CJK,
/// which has no case. Between them the UTF-8 of one letter takes one, two and three bytes.
const SCRIPTS: [&[char]; 5] = [
    &['a', 'B', 'c', 'A', 'b', 'é', 'É', 'ø', 'Ø', ' '],
    &['α', 'Α', 'β', 'Β', 'σ', 'Σ', 'ω', 'Ω', 'ά', 'Ά'],
    &['а', 'А', 'б', 'Б', 'ж', 'Ж', 'ё', 'Ё', 'ї', 'Ї'],
    &['ա', 'Ա', 'բ', 'Բ', 'գ', 'Գ', 'ֆ', 'Ֆ'],
    &['中', '文', '字', '漢', 'か', 'カ', '한'],
];

fn string(letters: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let one_script = (0..SCRIPTS.len(), letters.clone())
        .prop_flat_map(|(script, count)| prop::collection::vec(prop::sample::select(SCRIPTS[script]), count));
    let all: Vec<char> = SCRIPTS.concat();
    let mixed = prop::collection::vec(prop::sample::select(all), letters);
    prop_oneof![4 => one_script, 1 => mixed].prop_map(|letters| letters.into_iter().collect())
}

/// Trees of any shape; `name` occurs at every level and counts at the top only.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => string(0..10).prop_map(Value::from),
        1 => (-20..120_i32).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let fields = prop::collection::vec(
            (prop::sample::select(vec!["name", "a", "б", "文"]), inner.clone()),
            0..4,
        );
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| fields
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<Value>()),
        ]
    })
}

fn concepts() -> impl Strategy<Value = Vec<(Value, u64)>> {
    let concept = prop_oneof![
        4 => (value(), value()).prop_map(|(name, more)| json!({"name": name, "more": more})),
        1 => value(),
    ];
    prop::collection::vec((concept, prop_oneof![3 => Just(0), 1 => 0..4_u64]), 1..40)
}

/// Queries: some of their own, some cut out of what a concept says, in whatever case it was said.
fn queries() -> impl Strategy<Value = Vec<Cut>> {
    let cut = (any::<[prop::sample::Index; 3]>(), 1..6_usize).prop_map(|(at, letters)| Cut::Piece { at, letters });
    prop::collection::vec(prop_oneof![1 => string(0..5).prop_map(Cut::Whole), 3 => cut], 1..30)
}

#[derive(Clone, Debug)]
enum Cut {
    Whole(String),
    Piece {
        at: [prop::sample::Index; 3],
        letters: usize,
    },
}

impl Cut {
    /// The text to search for.
    fn text(&self, concepts: &[(Value, u64)]) -> String {
        let (at, letters) = match self {
            Cut::Whole(text) => return text.clone(),
            Cut::Piece { at, letters } => (at, letters),
        };
        let told = told_by(&at[0].get(concepts).0);
        let Some(told) = (!told.is_empty()).then(|| at[1].get(&told)) else {
            return String::new();
        };
        let skipped = at[2].index(told.letters.len() + 1);
        let piece: String = told.letters.iter().skip(skipped).take(*letters).collect();
        // As a shout: the index must fold the query too.
        if skipped.is_multiple_of(2) {
            piece
        } else {
            piece.to_uppercase()
        }
    }
}

fn index_with_usage(concepts: &[(Value, u64)]) -> Index {
    let mut index = Index::new();
    for (counter, (concept, usage)) in (1..).zip(concepts) {
        assert!(index.insert(&document(counter, concept, Timestamp(0), *usage)));
    }
    index
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_an_independent_search_does(concepts in concepts(), queries in queries()) {
        let index = index_with_usage(&concepts);
        for query in &queries {
            let text = query.text(&concepts);
            prop_assert_eq!(found(&index, &text), brute_force(&concepts, &text), "query {:?}", text);
        }
    }
}

/// What the ranges above promise: in both directions one letter for one letter, and folding no two letters into one that
/// lower case keeps apart.
#[test]
fn the_letters_are_those_where_lower_case_is_folding() {
    for letter in SCRIPTS.concat() {
        let folded = lower(&letter.to_string());
        let upper: String = letter.to_uppercase().collect();
        assert_eq!(lower(&upper), folded, "{letter}");
        let index = index_of(&[json!(letter.to_string())]);
        assert_eq!(found(&index, &upper), [1], "{letter} is found by {upper}");
    }
}

/// The two searches can disagree: this one keeps the final sigma apart, which the index, by Unicode's table, does not.
#[test]
fn it_is_another_search() {
    let concepts = [(json!("ς"), 0)];
    assert!(brute_force(&concepts, "σ").is_empty());
    assert_eq!(found(&index_with_usage(&concepts), "σ"), [1]);
}

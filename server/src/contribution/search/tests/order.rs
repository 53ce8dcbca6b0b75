//! The order of answers, one rule at a time.

use serde_json::json;

use super::*;

fn order(index: &Index, text: &str, now: u64) -> Vec<u64> {
    index
        .query(
            &Query {
                text,
                limit: 10,
                quality_min: 0.0,
                counter_max: u64::MAX,
            },
            Timestamp(now),
        )
        .iter()
        .map(|hit| hit.counter)
        .collect()
}

#[test]
fn quality_comes_before_relevance_and_age() {
    let index = index_of(&[
        json!({"name": "oak oak"}),
        json!({"name": "oak"}),
        json!({"text": "oak"}),
    ]);
    assert_eq!(order(&index, "oak", 0), [1, 2, 3]);
    assert!(index.deliver(3, 1));
    assert_eq!(order(&index, "oak", 0), [3, 1, 2]);
    assert!(!index.deliver(4, 1), "there is no fourth");
}

#[test]
fn usage_is_raised_also_of_what_is_still_to_come_and_never_falls() {
    let mut index = Index::new();
    let insert = |index: &mut Index, counter, usage| {
        let concept = json!({"name": format!("oak {counter}")});
        index.insert(&Document {
            counter,
            hash: ContentHash::of(&concept),
            first_contributed: Timestamp(0),
            usage,
            text: Text::of(&concept),
            json: json::to_text(&concept).into(),
        })
    };
    for (counter, at_least) in [(1, 3), (2, 9), (1, 2)] {
        index.raise(counter, at_least);
    }
    assert!(insert(&mut index, 1, 0) && insert(&mut index, 2, 10) && insert(&mut index, 3, 1));
    let usage = |index: &Index| {
        let mut found: Vec<(u64, u64)> = index
            .query(
                &Query {
                    text: "oak",
                    limit: 10,
                    quality_min: 0.0,
                    counter_max: u64::MAX,
                },
                Timestamp(0),
            )
            .iter()
            .map(|hit| (hit.counter, hit.usage))
            .collect();
        found.sort_unstable();
        found
    };
    assert_eq!(usage(&index), [(1, 3), (2, 10), (3, 1)]);
    index.raise(3, 4);
    index.raise(2, 4);
    assert_eq!(usage(&index), [(1, 3), (2, 10), (3, 4)]);
}

#[test]
fn matches_in_the_name_come_before_all_matches_and_those_before_age() {
    let index = index_of(&[
        json!({"text": "oak oak oak", "name": "elm"}),
        json!({"text": "oak"}),
        json!({"text": "elm", "name": "oak"}),
        json!({"text": "oak", "name": "oak"}),
        json!({"text": "oak"}),
        json!({"other": {"name": "oak oak"}}),
    ]);
    assert_eq!(found(&index, "oak"), [4, 3, 1, 6, 2, 5]);
    assert_eq!(found(&index, "o"), [4, 3, 1, 6, 2, 5]);
    assert_eq!(found(&index, "oa"), [4, 3, 1, 6, 2, 5]);
}

#[test]
fn matches_may_overlap() {
    let index = index_of(&[json!("aa aa"), json!("aaaa"), json!("aaa")]);
    assert_eq!(found(&index, "aa"), [2, 1, 3], "three, two and two positions");
    assert_eq!(found(&index, "aaa"), [2, 3]);
    let index = index_of(&[json!("abcdabcd abcd"), json!("ababab ababababa")]);
    assert_eq!(found(&index, "abab"), [2]);
    assert_eq!(
        found(&index_of(&[json!("abcabcabc abc"), json!("ababababab")]), "abab"),
        [2]
    );
}

#[test]
fn quality_falls_with_time_once_a_day_has_passed() {
    let mut index = Index::new();
    let concept = json!({"name": "oak"});
    assert!(index.insert(&document(1, &concept, Timestamp(0), 6)));
    assert!(index.insert(&document(2, &concept, Timestamp(9 * DAY), 2)));
    let at = |now: u64| -> Vec<(u64, f64, u64)> {
        let hits = index.query(
            &Query {
                text: "oak",
                limit: 10,
                quality_min: 0.0,
                counter_max: u64::MAX,
            },
            Timestamp(now),
        );
        hits.iter().map(|hit| (hit.counter, hit.quality, hit.usage)).collect()
    };
    assert_eq!(at(9 * DAY), [(2, 2.0, 2), (1, 6.0 / 9.0, 6)]);
    assert_eq!(
        at(DAY / 2),
        [(1, 6.0, 6), (2, 2.0, 2)],
        "a clock set back counts as no time"
    );
    assert_eq!(at(DAY * 3 / 2), [(1, 4.0, 6), (2, 2.0, 2)], "days are fractions");
    assert_eq!(
        at(3 * DAY),
        [(1, 2.0, 6), (2, 2.0, 2)],
        "equal quality: first contributed first"
    );
    let query = Query {
        text: "",
        limit: 10,
        quality_min: 2.0,
        counter_max: u64::MAX,
    };
    assert_eq!(
        index.query(&query, Timestamp(9 * DAY)).len(),
        1,
        "2.0 is enough, 0.67 is not"
    );
    let totals = index.totals(Timestamp(9 * DAY));
    assert_eq!((totals.concepts, totals.average_quality), (2, (2.0 + 6.0 / 9.0) / 2.0));
    assert_eq!(Index::new().totals(Timestamp(0)).average_quality, 0.0);
}

#[test]
fn an_empty_query_finds_all_by_quality_and_age() {
    let index = index_of(&[json!({"name": "a"}), json!({}), json!({"name": "b"})]);
    index.deliver(3, 1);
    assert_eq!(found(&index, ""), [3, 1, 2]);
    assert_eq!(
        index
            .query(
                &Query {
                    text: "",
                    limit: 2,
                    quality_min: 0.0,
                    counter_max: u64::MAX,
                },
                Timestamp(0)
            )
            .len(),
        2
    );
    assert!(
        index
            .query(
                &Query {
                    text: "",
                    limit: 0,
                    quality_min: 0.0,
                    counter_max: u64::MAX,
                },
                Timestamp(0)
            )
            .is_empty()
    );
    assert!(found(&Index::new(), "").is_empty());
    assert!(found(&Index::new(), "a").is_empty());
    assert!(found(&Index::new(), "abcd").is_empty());
}

//! The real pool: all of WordNet contributed over HTTP, then searched, and the answers compared with a plain scan.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use continuum_tests::{Member, Node, federation, words};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;

/// Concepts in one contribution.
const GIVEN: usize = 1000;
/// Contributions of one member; its limit is 100.
const CONTRIBUTIONS: usize = 60;
/// Searches of one member; the gate lets a newcomer have ten.
const SEARCHES: usize = 10;
const SEARCH_MEMBERS: usize = 20;
const LIMIT: usize = 100;
/// A concept in a hundred is looked for by its whole name.
const NAMES_EVERY: usize = 1_000;

/// The pool as it should answer: what was contributed, in order, and how often each was delivered.
struct Model {
    concepts: Vec<Value>,
    /// Of each concept, folded: its name, and all its values with a line feed after each.
    texts: Vec<(String, String)>,
    place: HashMap<String, usize>,
    usage: BTreeMap<usize, u64>,
}

impl Model {
    fn new(concepts: &[Value]) -> Model {
        let concepts: Vec<Value> = concepts.iter().map(words::anonymised).collect();
        let texts = concepts.iter().map(|concept| {
            let name = concept["name"].as_str().unwrap().to_lowercase();
            (
                name,
                words::texts(concept)
                    .into_iter()
                    .flat_map(|text| [text, "\n".to_owned()])
                    .collect(),
            )
        });
        let place = concepts
            .iter()
            .enumerate()
            .map(|(at, concept)| (concept.to_string(), at))
            .collect();
        Model {
            texts: texts.collect(),
            place,
            usage: BTreeMap::new(),
            concepts,
        }
    }

    /// Places of the best `limit` concepts, best first, by a plain look at every one.
    fn search(&self, query: &str, limit: usize) -> Vec<usize> {
        let query = query.to_lowercase();
        let mut found: Vec<_> = (0..self.concepts.len())
            .filter_map(|at| {
                let (name, text) = &self.texts[at];
                if !text.contains(&query) {
                    return None;
                }
                let (in_name, total) = (occurrences(name, &query), occurrences(text, &query));
                let usage = self.usage.get(&at).copied().unwrap_or(0);
                // An empty query finds everything and counts no matches.
                Some((Reverse(usage), Reverse(in_name), Reverse(total), at))
            })
            .collect();
        found.sort_unstable();
        found.into_iter().take(limit).map(|(.., at)| at).collect()
    }

    /// Compares an answer, then counts what it delivered.
    fn check(&mut self, query: &str, limit: usize, answer: &Value) {
        let delivered: Vec<usize> = answer["concepts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| self.place[&entry["concept"].to_string()])
            .collect();
        let expected = self.search(query, limit);
        let names =
            |places: &[usize]| -> Vec<&Value> { places.iter().take(8).map(|&at| &self.concepts[at]["name"]).collect() };
        assert_eq!(
            delivered.len(),
            expected.len(),
            "{query:?}: {:?} and {:?}",
            names(&delivered),
            names(&expected)
        );
        let differs = delivered
            .iter()
            .zip(&expected)
            .position(|(found, wanted)| found != wanted);
        if let Some(at) = differs {
            panic!(
                "{query:?} differs at {at}: {:?}, expected {:?}",
                names(&delivered[at..]),
                names(&expected[at..])
            );
        }
        assert_eq!(answer["count"], delivered.len());
        for at in delivered {
            *self.usage.entry(at).or_default() += 1;
        }
    }
}

/// At how many places `query` stands in `text`; they may overlap.
fn occurrences(text: &str, query: &str) -> usize {
    let mut count = 0;
    let mut rest = text;
    while let Some(at) = rest.find(query).filter(|_| !query.is_empty()) {
        count += 1;
        let next = rest[at..].chars().next().map_or(1, char::len_utf8);
        rest = &rest[at + next..];
    }
    count
}

async fn load(node: &Node, concepts: &[Value]) -> Duration {
    let started = Instant::now();
    for (number, share) in concepts.chunks(GIVEN * CONTRIBUTIONS).enumerate() {
        let mut giver = Member::new(node, format!("giver {number}"));
        for chunk in share.chunks(GIVEN) {
            let answer = giver.contribute(chunk).await.unwrap().ok();
            assert_eq!(answer["new_concepts"], chunk.len());
        }
    }
    started.elapsed()
}

fn queries(concepts: &[Value], random: &mut StdRng) -> Vec<String> {
    let pick = |random: &mut StdRng| {
        concepts[random.random_range(0..concepts.len())]["description"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut queries = vec![
        String::new(),
        "e".into(),
        "Entity".into(),
        "ZZTOP-no-such-thing".into(),
        "'s ".into(),
    ];
    while queries.len() < SEARCHES * SEARCH_MEMBERS - concepts.len() / NAMES_EVERY / 2 {
        let text = pick(random);
        let letters: Vec<char> = text.chars().collect();
        let length = random.random_range(1..7).min(letters.len());
        let start = random.random_range(0..=letters.len() - length);
        queries.push(letters[start..start + length].iter().collect());
    }
    // Whole names last; a few more than the loop left room for are cut by the caller.
    queries.extend(
        concepts
            .iter()
            .step_by(NAMES_EVERY)
            .map(|concept| concept["name"].as_str().unwrap().to_uppercase()),
    );
    queries.truncate(SEARCHES * SEARCH_MEMBERS);
    queries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_of_wordnet_is_contributed_and_found() {
    let concepts = words::all();
    let mut node = Node::start().await;
    let took = load(&node, &concepts).await;
    println!("{} concepts in {took:?}", concepts.len());
    assert_eq!(
        federation::total_concepts(&mut node.client()).await,
        words::COUNT as u64
    );
    let mut model = Model::new(&concepts);
    let mut random = StdRng::seed_from_u64(20_251_207);
    let queries = queries(&concepts, &mut random);
    for (number, share) in queries.chunks(SEARCHES).enumerate() {
        if number == SEARCH_MEMBERS / 2 {
            // Half of the way through, the index is built anew from the database, and usage counts are read back.
            assert!(node.stop(Duration::from_secs(5)).await.success());
            node.restart().await;
            node.wait_searchable().await;
        }
        let mut reader = Member::new(&node, format!("reader {number}"));
        for query in share {
            let answer = reader.knowledge(query, LIMIT).await.unwrap().ok();
            model.check(query, LIMIT, &answer);
        }
    }
}

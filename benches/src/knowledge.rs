//! Searches over the whole pool: eight clients, a seeded mix, the gate and the limits on.

use std::{sync::Arc, time::Instant};

use continuum_tests::{Member, Node, federation::PI_PHI, words};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;

use crate::{
    contribute::load,
    report::{Better, Figure, quantile},
};

const CLIENTS: usize = 8;
/// Members of one client in one repetition; each may ask 50 times an hour.
const MEMBERS_EACH: usize = 26;
const QUESTIONS_EACH: usize = 50;
/// Enough for 50 questions at a ratio of 0.1.
const GIVEN_EACH: u64 = 5;
const LIMIT: usize = 100;
/// One answer in so many is compared with a plain scan.
const CHECKED_EVERY: usize = 100;
const SEED: u64 = 117_659;
/// Answers in one repetition at least.
const SAMPLES_MIN: f64 = 10_000.0;

/// The next question of the mix.
fn question(concepts: &[Value], random: &mut StdRng) -> String {
    let text = |random: &mut StdRng| -> String {
        concepts[random.random_range(0..concepts.len())]["description"]
            .as_str()
            .unwrap_or("entity")
            .to_owned()
    };
    let letters = |random: &mut StdRng, count: usize| loop {
        let text = text(random);
        let words: Vec<&str> = text
            .split_whitespace()
            .filter(|word| word.len() >= count && word.is_ascii())
            .collect();
        if let Some(word) = words.get(random.random_range(0..words.len().max(1))) {
            let start = random.random_range(0..=word.len() - count);
            return word[start..start + count].to_owned();
        }
    };
    match random.random_range(0..100) {
        0..40 => {
            let text = text(random);
            let words: Vec<&str> = text.split_whitespace().collect();
            words
                .get(random.random_range(0..words.len().max(1)))
                .copied()
                .unwrap_or("entity")
                .to_owned()
        }
        40..60 => letters(random, 3),
        60..75 => {
            let count = random.random_range(1..=2);
            letters(random, count)
        }
        75..90 => String::new(),
        _ => format!("qqx{}", random.random_range(0..1_000_000)),
    }
}

/// Compares an answer with a plain look at every concept. Usage moves under concurrent searches, so the order is not
/// compared: whatever is delivered must match, and nothing may be missing that fits under the limit.
fn check(pool: &[Value], question: &str, answer: &Value) {
    let found = pool.iter().filter(|concept| words::matches(concept, question)).count();
    let delivered = answer["concepts"].as_array().expect("concepts");
    assert_eq!(delivered.len(), found.min(LIMIT), "{question:?}");
    for entry in delivered {
        assert!(
            words::matches(&entry["concept"], question),
            "{question:?} delivered {entry}"
        );
    }
}

/// One client's share: milliseconds of each answer, and those to be compared.
async fn ask(node_members: Vec<Member>, concepts: Arc<Vec<Value>>, seed: u64) -> (Vec<f64>, Vec<(String, Value)>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut samples = Vec::new();
    let mut kept = Vec::new();
    for mut member in node_members {
        for _ in 0..QUESTIONS_EACH {
            let question = question(&concepts, &mut random);
            let started = Instant::now();
            let answer = member.knowledge(&question, LIMIT).await.expect("an answer");
            samples.push(started.elapsed().as_secs_f64() * 1e3);
            assert_eq!(answer.status, 200, "{}", answer.text());
            if samples.len().is_multiple_of(CHECKED_EVERY) {
                kept.push((question, answer.json()));
            }
        }
    }
    (samples, kept)
}

/// Members that may ask: half of them verified, half of them have given. What the latter gave is added to `pool`.
async fn members(node: &Node, repetition: usize, pool: &mut Vec<Value>) -> Vec<Vec<Member>> {
    let mut all = Vec::new();
    for client in 0..CLIENTS {
        let mut own = Vec::new();
        for number in 0..MEMBERS_EACH {
            let name = format!("asker {repetition} {client} {number}");
            let mut member = Member::new(node, &name);
            let verified = number.is_multiple_of(2);
            let _ = member
                .register(verified.then_some(PI_PHI))
                .await
                .expect("an answer")
                .ok();
            if !verified {
                let given: Vec<Value> = (0..GIVEN_EACH).map(|number| words::made(&name, number)).collect();
                let _ = member.contribute(&given).await.expect("an answer").ok();
                pool.extend(given);
            }
            own.push(member);
        }
        all.push(own);
    }
    all
}

/// All figures of this part.
///
/// # Panics
/// When an answer is not what a plain scan finds.
pub async fn figures(repetitions: usize) -> Vec<Figure> {
    let concepts = Arc::new(words::all());
    let mut pool: Vec<Value> = concepts.iter().map(words::anonymised).collect();
    let node = Node::start().await;
    load(&node, "loader", &concepts).await;
    let (mut p50, mut p99, mut rates, mut scans) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut measured, mut checked) = (Vec::new(), Vec::new());
    for repetition in 0..repetitions {
        let members = members(&node, repetition, &mut pool).await;
        let started = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for (client, own) in members.into_iter().enumerate() {
            let seed = SEED + (repetition * CLIENTS + client) as u64;
            running.spawn(ask(own, Arc::clone(&concepts), seed));
        }
        let (mut samples, mut kept) = (Vec::new(), Vec::new());
        while let Some(ended) = running.join_next().await {
            let (own, own_kept) = ended.expect("a client that got its answers");
            samples.extend(own);
            kept.extend(own_kept);
        }
        rates.push(samples.len() as f64 / started.elapsed().as_secs_f64());
        measured.push(samples.len() as f64);
        checked.push(kept.len() as f64);
        samples.sort_by(f64::total_cmp);
        p50.push(quantile(&samples, 0.5));
        p99.push(quantile(&samples, 0.99));
        for (question, answer) in &kept {
            let started = Instant::now();
            check(&pool, question, answer);
            scans.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    scans.sort_by(f64::total_cmp);
    let (scan, slowest_scans) = (quantile(&scans, 0.5), quantile(&scans, 0.99));
    vec![
        Figure::new("knowledge", "8 clients, seeded mix, p50", "ms", Better::Lower, &p50)
            .beside("a plain scan, alone", scan)
            .bar(5.0),
        Figure::new("knowledge", "8 clients, seeded mix, p99", "ms", Better::Lower, &p99)
            .beside("a plain scan, alone, p99", slowest_scans)
            .bar(25.0),
        Figure::new(
            "knowledge",
            "8 clients, seeded mix, answers",
            "1/s",
            Better::Higher,
            &rates,
        ),
        Figure::new(
            "knowledge",
            "8 clients, seeded mix, answers measured",
            "",
            Better::Higher,
            &measured,
        )
        .bar(SAMPLES_MIN),
        Figure::new(
            "knowledge",
            "8 clients, seeded mix, answers equal to a plain scan (number and members)",
            "",
            Better::Higher,
            &checked,
        ),
    ]
}

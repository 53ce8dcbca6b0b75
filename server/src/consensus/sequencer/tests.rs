#![allow(clippy::disallowed_methods)] // a test makes its own callers and waits for them

use std::sync::atomic::{AtomicU64, Ordering};

use engine::{
    Environment,
    clock::Timestamp,
    ledger::{NodeId, Outcome, PoolConcept, Refusal},
    store::memory::Memory,
};
use serde_json::json;
use wal::storage::Faulty;

use super::*;

/// A clock that ticks a microsecond at each look.
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }
}

fn engine() -> (Engine, Arc<dyn Clock>) {
    let clock: Arc<dyn Clock> = Arc::new(Ticking(AtomicU64::new(0)));
    let environment = Environment {
        node: "test".to_owned(),
        clock: Arc::clone(&clock),
        entropy: || 7,
        log: Arc::new(Faulty::new()),
        store: Arc::new(Memory::new()),
    };
    (Engine::open(engine::Settings::default(), environment).unwrap(), clock)
}

fn sequencer(settings: Settings) -> (Engine, Sequencer, Metrics) {
    let (engine, clock) = engine();
    let metrics = Metrics::new();
    let sequencer = Sequencer::start(engine.clone(), clock, settings, &metrics).unwrap();
    (engine, sequencer, metrics)
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn concept(name: &str) -> PoolConcept {
    PoolConcept::new(json!({ "name": name }), &engine::json::Anonymiser::default()).unwrap()
}

fn contribute(by: &str, names: &[String]) -> Command {
    Command::Contribute {
        node: node(by),
        concepts: names.iter().map(|name| concept(name)).collect(),
    }
}

fn metric(metrics: &Metrics, name: &str) -> u64 {
    let text = metrics.render();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .expect("a metric")
        .to_owned();
    line.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_contributions_in_parallel_credit_each_concept_once() {
    let (engine, sequencer, _) = sequencer(Settings::default());
    let calls = (0..60).map(|member: usize| {
        let sequencer = sequencer.clone();
        // Each concept is offered by six members.
        let names: Vec<String> = (0..10)
            .map(|offset| format!("concept {}", (member / 6) * 10 + offset))
            .collect();
        tokio::spawn(async move {
            sequencer
                .propose(contribute(&format!("member {member}"), &names), None)
                .await
        })
    });
    let mut credited = 0;
    for call in calls.collect::<Vec<_>>() {
        let Outcome::Contributed { new, duplicates, .. } = call.await.unwrap().unwrap().outcome else {
            panic!("not contributed")
        };
        assert_eq!(new + duplicates, 10);
        credited += new;
    }
    assert_eq!(credited, 100);
    assert_eq!(ledger::pool_stats(engine.view()).unwrap().concepts, 100);
    sequencer.close();
    engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_at_once_are_all_answered_and_the_limit_is_exact() {
    // Room for a hundredth of them: the others wait their turn.
    let settings = Settings {
        queue_bytes_max: 100 * COMMAND_BYTES_MIN,
        ..Settings::default()
    };
    let (_engine, sequencer, metrics) = sequencer(settings);
    let calls = (0..10_000).map(|_| {
        let sequencer = sequencer.clone();
        tokio::spawn(async move {
            sequencer
                .propose(
                    Command::Register {
                        node: node("a"),
                        verified: true,
                    },
                    None,
                )
                .await
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(matches!(
            call.await.unwrap().unwrap().outcome,
            Outcome::Registered { .. }
        ));
    }
    let calls = (0..1_000).map(|number| {
        let sequencer = sequencer.clone();
        tokio::spawn(async move {
            sequencer
                .propose(contribute("a", &[format!("concept {number}")]), None)
                .await
        })
    });
    let (mut accepted, mut limited) = (0, 0);
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap().unwrap().outcome {
            Outcome::Contributed { new: 1, .. } => accepted += 1,
            Outcome::Refused(Refusal::RateLimited { .. }) => limited += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((accepted, limited), (100, 900));
    assert_eq!(metric(&metrics, "continuum_sequencer_commands_total"), 11_000);
    assert_eq!(metric(&metrics, "continuum_sequencer_queue_commands"), 0);
    sequencer.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_one_caller_see_those_before_them() {
    let (_engine, sequencer, metrics) = sequencer(Settings::default());
    for round in 0..20_u64 {
        let Outcome::Contributed { new, standing, .. } = sequencer
            .propose(contribute("a", &[format!("concept {round}")]), None)
            .await
            .unwrap()
            .outcome
        else {
            panic!("not contributed")
        };
        assert_eq!((new, standing.contributed), (1, (round + 1) as f64));
    }
    assert_eq!(
        metric(&metrics, "continuum_sequencer_batch_commands_count"),
        20,
        "one by one, each its own batch"
    );
    sequencer.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_commands_share_a_batch() {
    let (engine, sequencer, metrics) = sequencer(Settings::default());
    let before = engine.committed().borrow().0;
    let calls = (0..500)
        .map(|number| sequencer.propose(contribute(&format!("member {number}"), &[format!("c {number}")]), None));
    let calls = futures_of(calls);
    for outcome in calls.await {
        assert!(matches!(outcome.unwrap().outcome, Outcome::Contributed { new: 1, .. }));
    }
    let batches = metric(&metrics, "continuum_sequencer_batch_commands_count");
    assert!(batches < 250, "{batches} batches for 500 commands");
    // Each is an entry and what came of it; beside them the log's beginning, and the mark of the commands above.
    sequencer.close();
    engine.close().unwrap();
    let records = engine.committed().borrow().0 - before;
    assert!(records <= 2 * batches + 4, "{records} records of {batches} batches");
    sequencer.close();
}

/// Polls all of them before waiting for any.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut outputs = Vec::new();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                outputs.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if futures.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_in_time_the_caller_is_told_to_retry_and_nothing_happens() {
    let settings = Settings {
        queue_bytes_max: COMMAND_BYTES_MIN,
        queue_wait_max: Duration::from_millis(20),
        ..Settings::default()
    };
    let (engine, sequencer, _) = sequencer(settings);
    let held = Arc::clone(&sequencer.0.room).acquire_owned().await.unwrap();
    let refused = sequencer.propose(contribute("a", &["one".to_owned()]), None).await;
    assert!(matches!(refused, Err(CommitError::Busy)), "{refused:?}");
    drop(held);
    assert_eq!(ledger::pool_stats(engine.view()).unwrap().concepts, 0);
    let accepted = sequencer.propose(contribute("a", &["one".to_owned()]), None).await;
    assert!(
        matches!(
            accepted.as_ref().map(|decision| &decision.outcome),
            Ok(Outcome::Contributed { new: 1, .. })
        ),
        "{accepted:?}"
    );
    sequencer.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_answers_what_was_queued_and_takes_no_more() {
    let (engine, sequencer, _) = sequencer(Settings::default());
    let calls: Vec<_> = (0..200)
        .map(|number| {
            let sequencer = sequencer.clone();
            tokio::spawn(async move {
                sequencer
                    .propose(contribute(&format!("m {number}"), &[format!("c {number}")]), None)
                    .await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(2)).await;
    let closing = sequencer.clone();
    tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
    let mut accepted = 0;
    for call in calls {
        match call.await.unwrap().map(|decision| decision.outcome) {
            Ok(Outcome::Contributed { new: 1, .. }) => accepted += 1,
            Err(CommitError::Busy) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        ledger::pool_stats(engine.view()).unwrap().concepts,
        accepted,
        "told so, and only those"
    );
    assert!(matches!(
        sequencer.propose(contribute("late", &["late".to_owned()]), None).await,
        Err(CommitError::Busy)
    ));
    sequencer.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_is_told_to_the_caller_and_stops_the_sequencer() {
    let (engine, sequencer, storage) = failing();
    assert!(
        sequencer
            .propose(contribute("a", &["one".to_owned()]), None)
            .await
            .is_ok()
    );
    storage.fail_syncs_after(0);
    let unknown = sequencer.propose(contribute("a", &["two".to_owned()]), None).await;
    assert!(matches!(unknown, Err(CommitError::Stopped(_))), "{unknown:?}");
    let mut stopped = sequencer.stopped();
    assert!(stopped.wait_for(Option::is_some).await.is_ok());
    let after = sequencer.propose(contribute("a", &["three".to_owned()]), None).await;
    assert!(matches!(after, Err(CommitError::Stopped(_))), "{after:?}");
    drop(engine);
}

fn failing() -> (Engine, Sequencer, Arc<Faulty>) {
    let clock: Arc<dyn Clock> = Arc::new(Ticking(AtomicU64::new(0)));
    let storage = Arc::new(Faulty::new());
    let environment = Environment {
        node: "test".to_owned(),
        clock: Arc::clone(&clock),
        entropy: || 7,
        log: Arc::clone(&storage) as Arc<dyn wal::storage::Storage>,
        store: Arc::new(Memory::new()),
    };
    let engine = Engine::open(engine::Settings::default(), environment).unwrap();
    let sequencer = Sequencer::start(engine.clone(), clock, Settings::default(), &Metrics::new()).unwrap();
    (engine, sequencer, storage)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_writes_little_but_does_not_fit_the_log_is_refused_and_the_node_goes_on() {
    let (engine, sequencer, _) = sequencer(Settings::default());
    let concepts: Vec<PoolConcept> = (0..200)
        .map(|number| {
            let concept = json!({ "name": number, "text": "x".repeat(63_000) });
            PoolConcept::new(concept, &engine::json::Anonymiser::default()).unwrap()
        })
        .collect();
    let give = |concepts: &[PoolConcept]| Command::Contribute {
        node: node("a"),
        concepts: concepts.to_vec(),
    };
    for part in concepts.chunks(50) {
        let decision = sequencer.propose(give(part), None).await.unwrap();
        assert!(
            matches!(decision.outcome, Outcome::Contributed { new: 50, .. }),
            "{decision:?}"
        );
    }
    // All are known, so they write next to nothing, but they lie in the log.
    let refused = sequencer.propose(give(&concepts), None).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
    let again = sequencer.propose(give(&concepts[..150]), None).await.unwrap();
    assert!(
        matches!(again.outcome, Outcome::Contributed { new: 0, .. }),
        "{again:?}"
    );
    assert!(sequencer.stopped().borrow().is_none());
    assert_eq!(ledger::pool_stats(engine.view()).unwrap().concepts, 200);
    sequencer.close();
    engine.close().unwrap();
}

/// To the byte, and in the company of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_transaction_is_decided_and_a_larger_one_is_refused() {
    let (engine, sequencer, _) = sequencer(Settings::default());
    let bytes_max = record_bytes_max(&engine);
    let of = |bytes| messages::proposals(&Proposals([super::super::tests::unwritten(bytes)].into())).len();
    let around = of(bytes_max) - bytes_max;
    for (bytes, fits) in [(bytes_max - around, true), (bytes_max - around + 1, false)] {
        let heavy = super::super::tests::unwritten(bytes).command;
        let (heavy, light) = tokio::join!(
            sequencer.propose(heavy, None),
            sequencer.propose(contribute("a", &[bytes.to_string()]), None),
        );
        assert_eq!(heavy.is_ok(), fits, "{heavy:?}");
        assert!(fits || matches!(heavy, Err(CommitError::TooLarge { .. })), "{heavy:?}");
        assert!(light.is_ok(), "{light:?}");
    }
    assert!(sequencer.stopped().borrow().is_none());
    sequencer.close();
    engine.close().unwrap();
}

/// So that most commands need not be measured.
#[test]
fn a_command_weighs_more_than_its_record_has_bytes() {
    let name = "n".repeat(NodeId::BYTES_MAX);
    let long = node(&name);
    let member = ledger::AdoptedMember {
        node: long.clone(),
        registered_at: Some(Timestamp(u64::MAX)),
        verified: true,
        contributed: u64::MAX,
        consumed: u64::MAX,
        contributions: vec![
            ledger::AdoptedContribution {
                at: Timestamp(u64::MAX),
                new: u64::MAX,
            };
            100
        ],
    };
    let concepts: Vec<PoolConcept> = (0..100).map(|number| concept(&number.to_string())).collect();
    let adopted = concepts.iter().map(|concept| ledger::AdoptedConcept {
        concept: concept.clone(),
        first_at: Timestamp(u64::MAX),
    });
    let admit = ledger::MemberChange::Admit {
        token: [255; 32],
        name: name.clone(),
        voter: u64::MAX,
        address: "a".repeat(10_000),
    };
    let commands = [
        Command::Register {
            node: long.clone(),
            verified: true,
        },
        Command::Adopt {
            contributor: long.clone(),
            members: vec![member; 10],
            concepts: adopted.collect(),
        },
        Command::Contribute { node: long, concepts },
        Command::Members(admit),
        super::super::tests::unwritten(100_000).command,
    ];
    for command in commands {
        let weight = weight_of(&command);
        let proposal = Proposal {
            at: Timestamp(u64::MAX),
            idempotency: Some(Idempotency {
                caller: name.clone(),
                key: name.clone(),
                body: [255; 32],
            }),
            command,
        };
        let bytes = messages::proposals(&Proposals([proposal.clone()].into())).len();
        assert!(bytes < weight, "{bytes} bytes weigh {weight}: {proposal:?}");
    }
}

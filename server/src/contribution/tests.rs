mod adoption;

use std::sync::atomic::{AtomicU64, Ordering};

use engine::{
    Environment,
    image::Applied,
    keyspace::raft_state::{self, Installing},
    store::memory::Memory,
};
use serde_json::json;
use wal::storage::Faulty;

use super::{search::Source as _, *};
use crate::consensus;

struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A service whose index nobody fills until [`Contribution::follow_pool`] runs.
fn service() -> Contribution {
    service_counting(&Metrics::new())
}

fn service_counting(metrics: &Metrics) -> Contribution {
    let clock: Arc<dyn Clock> = Arc::new(Ticking(AtomicU64::new(0)));
    let environment = Environment {
        node: "test".to_owned(),
        clock: Arc::clone(&clock),
        entropy: || 7,
        log: Arc::new(Faulty::new()),
        store: Arc::new(Memory::new()),
    };
    let engine = Engine::open(engine::Settings::default(), environment).unwrap();
    let sequencer = Sequencer::start(
        engine.clone(),
        Arc::clone(&clock),
        consensus::Settings::default(),
        metrics,
    )
    .unwrap();
    let settings = Settings {
        index_wait_max: Duration::from_millis(200),
        ..Settings::default()
    };
    Contribution::new(engine, sequencer, clock, settings, metrics)
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn concepts(names: &[&str]) -> Vec<PoolConcept> {
    let rules = engine::json::Anonymiser::default();
    names
        .iter()
        .map(|name| PoolConcept::new(json!({ "name": name }), &rules).unwrap())
        .collect()
}

fn key(key: &str) -> Option<Idempotency> {
    Some(Idempotency {
        caller: "a".to_owned(),
        key: key.to_owned(),
        body: [0; 32],
    })
}

/// An index that follows the pool until this is dropped.
struct Following {
    stopper: tasks::Stopper,
    task: tokio::task::JoinHandle<Result<(), search::Error>>,
}

fn follow(service: &Contribution) -> Following {
    let (stopper, stop) = tasks::stop();
    let service = service.clone();
    let task = tasks::spawn(async move { service.follow_pool(stop).await });
    Following { stopper, task }
}

impl Following {
    /// Nothing is indexed any more once this returns.
    async fn end(self) {
        self.stopper.stop();
        self.task.await.unwrap().unwrap();
    }
}

fn consumed(service: &Contribution) -> f64 {
    service.status(&node("a")).unwrap().consumed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_image_has_brought_half_of_is_not_looked_at() {
    let service = service();
    service.contribute(node("a"), concepts(&["Tea"]), None).await.unwrap();
    let engine = &service.0.engine;
    let listed = || engine.entry_page(0, 10).unwrap().len();
    assert_eq!(listed(), 1);
    let write = async |row| {
        let frame = engine::Batch::one(engine::Mutation::Raft(vec![row]));
        engine.commit(frame, engine::Durability::Synced).await.unwrap();
    };
    let installing = Installing {
        file: "image".to_owned(),
        then: Applied::default(),
    };
    write(raft_state::put(&installing)).await;
    assert_eq!(listed(), 0);
    write(raft_state::delete::<Installing>()).await;
    assert_eq!(listed(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_paid_and_not_delivered_is_not_charged_again() {
    let service = service();
    service.contribute(node("a"), concepts(&["Tea"]), None).await.unwrap();
    let behind = service.knowledge(node("a"), "tea", 10, 0.0, None).await;
    assert!(matches!(behind, Err(Error::Behind)), "{behind:?}");
    assert_eq!(consumed(&service), 1.0);

    let _following = follow(&service);
    let delivered = service.knowledge(node("a"), "tea", 10, 0.0, None).await.unwrap();
    assert_eq!(&*delivered[0].json, r#"{"name":"Tea"}"#);
    assert_eq!(consumed(&service), 1.0, "the retry was free");
    service.knowledge(node("a"), "tea", 10, 0.0, None).await.unwrap();
    assert_eq!(consumed(&service), 2.0, "the next one is not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_at_its_limit_may_still_fetch_what_it_paid_for() {
    let service = service();
    service
        .register(Some(node("a")), Some(TWILIGHT_CONSTANT), None)
        .await
        .unwrap();
    service.contribute(node("a"), concepts(&["Tea"]), None).await.unwrap();
    let following = follow(&service);
    for _ in 0..49 {
        service.knowledge(node("a"), "tea", 1, 0.0, None).await.unwrap();
    }
    following.end().await;
    service
        .contribute(node("a"), concepts(&["Coffee"]), None)
        .await
        .unwrap();
    assert!(matches!(
        service.knowledge(node("a"), "coffee", 1, 0.0, None).await,
        Err(Error::Behind)
    ));
    assert_eq!(consumed(&service), 50.0);
    assert_eq!(service.limited(&node("a"), Limited::Knowledge).unwrap(), None);
    let _following = follow(&service);
    assert_eq!(
        service
            .knowledge(node("a"), "coffee", 1, 0.0, None)
            .await
            .unwrap()
            .len(),
        1
    );
    let refused = service.knowledge(node("a"), "coffee", 1, 0.0, None).await;
    assert!(
        matches!(refused, Err(Error::Refused(Refusal::RateLimited { .. }))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_flight_is_told_so_and_its_retry_is_free() {
    let service = service();
    service.contribute(node("a"), concepts(&["Tea"]), None).await.unwrap();
    let first = service.knowledge(node("a"), "tea", 10, 0.0, key("k"));
    let second = service.knowledge(node("a"), "tea", 10, 0.0, key("k"));
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, Err(Error::Behind)), "{first:?}");
    assert!(matches!(second, Err(Error::InFlight)), "{second:?}");
    let _following = follow(&service);
    assert_eq!(
        service
            .knowledge(node("a"), "tea", 10, 0.0, key("k"))
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(consumed(&service), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_gives_no_more_than_was_paid_for_and_counts_for_nothing() {
    let metrics = Metrics::new();
    let service = service_counting(&metrics);
    let _following = follow(&service);
    service
        .contribute(node("a"), concepts(&["Tea"]), key("c"))
        .await
        .unwrap();
    service.knowledge(node("a"), "tea", 10, 0.0, key("k")).await.unwrap();
    let again = service.contribute(node("a"), concepts(&["Tea"]), key("c")).await;
    assert_eq!(again.unwrap().new, 1, "told again");
    service
        .contribute(node("a"), concepts(&["Green tea"]), None)
        .await
        .unwrap();
    for _ in 0..ledger::Limits::default().knowledge_per_hour {
        let repeated = service.knowledge(node("a"), "tea", 10, 0.0, key("k")).await.unwrap();
        let repeated: Vec<_> = repeated.iter().map(|one| (&*one.json, one.usage)).collect();
        assert_eq!(repeated, [(r#"{"name":"Tea"}"#, 1)]);
    }
    let refused = service.knowledge(node("a"), "tea", 10, 0.0, key("k")).await;
    assert!(
        matches!(refused, Err(Error::Refused(Refusal::RateLimited { limit: 50, .. }))),
        "{refused:?}"
    );
    assert_eq!(consumed(&service), 1.0);
    let delivered = service.knowledge(node("a"), "tea", 10, 0.0, None).await.unwrap();
    assert_eq!(
        delivered.iter().map(|one| one.usage).collect::<Vec<_>>(),
        [1, 0],
        "a new request gets what is new"
    );
    let rendered = metrics.render();
    for counted in [
        r#"continuum_contribution_concepts_total{result="new"} 2"#,
        "continuum_contribution_delivered_total 3",
    ] {
        assert!(rendered.contains(counted), "{counted} in {rendered}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_while_it_is_charged_has_a_request_to_its_credit() {
    let service = service();
    let _following = follow(&service);
    service.contribute(node("a"), concepts(&["Tea"]), None).await.unwrap();
    let leaving = service.knowledge(node("a"), "tea", 10, 0.0, None);
    // One look is enough for the charge to be on its way.
    tokio::select! {
        biased;
        answered = leaving => panic!("answered at once: {answered:?}"),
        () = std::future::ready(()) => {}
    }
    while consumed(&service) < 1.0 || !service.0.paid.has(&node("a")) {
        tokio::task::yield_now().await;
    }
    service.knowledge(node("a"), "tea", 10, 0.0, None).await.unwrap();
    assert_eq!(consumed(&service), 1.0, "it had paid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_count_at_once_and_survive_in_the_engine() {
    let service = service();
    let _following = follow(&service);
    service
        .contribute(node("a"), concepts(&["Tea", "Green tea"]), None)
        .await
        .unwrap();
    for usage in 0..3 {
        let delivered = service.knowledge(node("a"), "tea", 10, 0.0, None).await.unwrap();
        assert_eq!(
            delivered.iter().map(|one| one.usage).collect::<Vec<_>>(),
            [usage, usage]
        );
        service.0.usage.flush(&tasks::stop().1).await.unwrap();
    }
    let counts = service.0.engine.usage_page(None, 10).unwrap();
    assert_eq!(counts.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [3, 3]);
}

/// Every row that the ledger has written.
fn owned(service: &Contribution) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    for family in engine::image::FAMILIES {
        let mut visit = |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            true
        };
        service.0.engine.view().scan(family, &[], None, &mut visit).unwrap();
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_put_into_force_once() {
    let service = service();
    service.enforce_limits().await.unwrap();
    assert_eq!(owned(&service), [], "the defaults need no word");
    let mut changed = service.0.settings.clone();
    changed.limits.contribute_per_hour = 1;
    let service = Contribution::new(
        service.0.engine.clone(),
        service.0.sequencer.clone(),
        Arc::clone(&service.0.clock),
        changed.clone(),
        &Metrics::new(),
    );
    service.enforce_limits().await.unwrap();
    service.enforce_limits().await.unwrap();
    assert_eq!(ledger::limits(service.0.engine.view()).unwrap(), changed.limits);
    service.contribute(node("a"), concepts(&["Tea"]), None).await.unwrap();
    let refused = service.contribute(node("a"), concepts(&["Coffee"]), None).await;
    assert!(
        matches!(refused, Err(Error::Refused(Refusal::RateLimited { limit: 1, .. }))),
        "{refused:?}"
    );
}

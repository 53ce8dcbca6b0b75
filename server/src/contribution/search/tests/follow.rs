//! The index sees what the pool holds, from the start and as it grows.

use std::{
    collections::BTreeMap,
    future::{pending, ready},
    sync::{Arc, Mutex},
};

use serde_json::json;
use tokio::sync::watch;

use super::{
    super::{Behind, Entry, Error, Search, Source},
    *,
};

/// A database of maps.
#[derive(Clone, Default)]
struct Pool(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    entries: Vec<Entry>,
    concepts: BTreeMap<ContentHash, String>,
    usage: BTreeMap<ContentHash, u64>,
    broken: bool,
}

impl Pool {
    fn contribute(&self, concepts: std::ops::Range<u64>) {
        let mut tables = self.0.lock().expect("no test panics while it holds this");
        for number in concepts {
            let concept = concept(number);
            let hash = ContentHash::of(&concept);
            let counter = tables.entries.len() as u64 + 1;
            tables.entries.push(Entry {
                counter,
                hash,
                first_contributed: Timestamp(number),
            });
            tables.concepts.insert(hash, concept.to_string());
        }
    }

    fn tables(&self) -> Result<std::sync::MutexGuard<'_, Tables>, Error> {
        let tables = self.0.lock().expect("no test panics while it holds this");
        if tables.broken {
            Err(Error("the disk is gone".to_owned()))
        } else {
            Ok(tables)
        }
    }
}

fn concept(number: u64) -> Value {
    json!({"name": format!("concept {number}"), "parity": if number.is_multiple_of(2) { "even" } else { "odd" }})
}

fn page<T: Clone>(
    rows: &BTreeMap<ContentHash, T>,
    after: Option<&ContentHash>,
    rows_max: usize,
) -> Vec<(ContentHash, T)> {
    let rows = rows.iter().filter(|&(hash, _)| after.is_none_or(|after| hash > after));
    rows.take(rows_max).map(|(&hash, row)| (hash, row.clone())).collect()
}

impl Source for Pool {
    fn entry_page(&self, after: u64, rows_max: usize) -> Result<Vec<Entry>, Error> {
        Ok(self
            .tables()?
            .entries
            .iter()
            .skip(after as usize)
            .take(rows_max)
            .copied()
            .collect())
    }
    fn concept_page(&self, after: Option<&ContentHash>, rows_max: usize) -> Result<Vec<(ContentHash, String)>, Error> {
        Ok(page(&self.tables()?.concepts, after, rows_max))
    }
    fn concept_json(&self, hash: &ContentHash) -> Result<String, Error> {
        self.tables()?
            .concepts
            .get(hash)
            .cloned()
            .ok_or_else(|| Error(format!("no concept {hash}")))
    }
    fn usage_page(&self, after: Option<&ContentHash>, rows_max: usize) -> Result<Vec<(ContentHash, u64)>, Error> {
        Ok(page(&self.tables()?.usage, after, rows_max))
    }
}

/// Runs `body` beside the follower.
fn beside_the_follower(pool: &Pool, body: impl AsyncFnOnce(&Search, &watch::Sender<u64>)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O");
    let search = Search::new();
    let (commits, watched) = watch::channel(0);
    runtime.block_on(async {
        tokio::select! {
            ended = search.run(pool.clone(), watched) => panic!("the follower ended: {ended:?}"),
            () = body(&search, &commits) => {}
        }
    });
}

fn count(search: &Search, text: &str) -> usize {
    search
        .query(
            &Query {
                text,
                limit: 10_000,
                quality_min: 0.0,
                counter_max: u64::MAX,
            },
            Timestamp(0),
        )
        .len()
}

#[test]
fn what_was_there_at_the_start_is_found_with_its_usage() {
    let pool = Pool::default();
    pool.contribute(0..2000);
    pool.0
        .lock()
        .expect("sound")
        .usage
        .insert(ContentHash::of(&concept(1234)), 7);
    beside_the_follower(&pool, async |search, _| {
        search.wait_until(2000, pending()).await.expect("no deadline");
        assert_eq!(
            (count(search, ""), count(search, "even"), count(search, "concept 1999")),
            (2000, 1000, 1)
        );
        let best = search.query(
            &Query {
                text: "",
                limit: 1,
                quality_min: 0.0,
                counter_max: u64::MAX,
            },
            Timestamp(0),
        );
        let expected = Hit {
            counter: 1235,
            hash: ContentHash::of(&concept(1234)),
            quality: 7.0,
            usage: 7,
            json: concept(1234).to_string().into(),
        };
        assert_eq!(best, [expected]);
    });
}

#[test]
fn what_is_contributed_later_is_found_once_its_counter_is_reached() {
    let pool = Pool::default();
    beside_the_follower(&pool, async |search, commits| {
        let mut total = 0;
        for batch in [1, 1, 700, 3, 64, 65, 1000] {
            let behind = search.wait_until(total + batch, ready(())).await;
            assert_eq!(
                behind,
                Err(Behind {
                    indexed: total,
                    wanted: total + batch
                })
            );
            pool.contribute(total..total + batch);
            total += batch;
            commits.send_modify(|lsn| *lsn += 1);
            search.wait_until(total, pending()).await.expect("no deadline");
            assert_eq!(search.indexed(), total);
            assert_eq!(count(search, "odd"), total as usize / 2);
            search.deliver([total, total + 1]);
            let best = search.query(
                &Query {
                    text: "",
                    limit: 1,
                    quality_min: 0.0,
                    counter_max: u64::MAX,
                },
                Timestamp(0),
            );
            assert_eq!(best[0].usage, 1);
        }
    });
}

#[test]
fn a_failing_database_ends_the_follower_and_it_can_go_on_later() {
    let pool = Pool::default();
    pool.contribute(0..10);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O");
    let search = Search::new();
    let (commits, watched) = watch::channel(0_u64);
    runtime.block_on(async {
        pool.0.lock().expect("sound").broken = true;
        let broken = search.run(pool.clone(), watched.clone()).await;
        assert_eq!(broken, Err(Error("the disk is gone".to_owned())));
        pool.0.lock().expect("sound").broken = false;
        drop(commits);
        assert_eq!(
            search.run(pool.clone(), watched.clone()).await,
            Ok(()),
            "the commits have ended"
        );
        assert_eq!((search.indexed(), count(&search, "concept")), (10, 10));
        pool.contribute(10..20);
        assert_eq!(search.run(pool.clone(), watched).await, Ok(()));
        assert_eq!((search.indexed(), count(&search, "concept")), (20, 20));
    });
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "queries and insertions must meet on real threads"
)]
fn queries_run_beside_insertions_and_never_see_half_a_concept() {
    let search = Search::new();
    let documents: Vec<_> = (1..=3000)
        .map(|counter| document(counter, &json!({"name": "whole", "text": "part part"}), Timestamp(0), 0))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let indexed = search.indexed();
                    let (part, whole) = (count(&search, "part"), count(&search, "whole"));
                    assert!(
                        indexed as usize <= part && part <= whole,
                        "{indexed} indexed, {part} and then {whole} found"
                    );
                    if whole == documents.len() {
                        break;
                    }
                }
            });
        }
        documents.chunks(7).for_each(|group| search.insert(group));
    });
}

/// The follower can be spawned with the engine as its source.
#[allow(dead_code, reason = "compiling it is the test")]
fn the_follower_may_move_between_threads(search: &Search, engine: engine::Engine) -> impl Send {
    let commits = engine.committed();
    search.run(engine, commits)
}

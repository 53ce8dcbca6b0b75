//! From the death of the leader to the next write that succeeds.

use std::time::{Duration, Instant};

use tokio::{task::JoinSet, time::timeout};

use super::{Client as _, MEMBERS, READY_WITHIN, Security, Store, key, value};

/// One try of a write; a node may answer later than that while nobody leads.
const TRY: Duration = Duration::from_millis(250);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// Kills the leader once and starts it again: seconds from the kill to a write that was sent afterwards and succeeded at one of the
/// others.
///
/// # Panics
/// When nobody leads before, or nobody comes to lead.
pub async fn once<S: Store>(store: &mut S, security: &Security) -> f64 {
    let leader = leader(store, None).await;
    // Connections that are open already, as a program's are.
    let mut survivors: Vec<S::Client> = Vec::new();
    for member in (0..MEMBERS).filter(|member| *member != leader) {
        let mut client = S::client(security.channel(&store.endpoint(member)));
        client.put(key(0), value()).await.expect("a put while all are there");
        survivors.push(client);
    }
    let killed = Instant::now();
    store.kill(leader);
    let mut writers = JoinSet::new();
    for mut client in survivors {
        writers.spawn(async move {
            while killed.elapsed() < READY_WITHIN {
                if let Ok(Ok(())) = timeout(TRY, client.put(key(0), value())).await {
                    return Some(killed.elapsed());
                }
                tokio::time::sleep(PAUSE).await;
            }
            None
        });
    }
    let first = writers.join_next().await.expect("two writers");
    let took = first
        .expect("a writer that ends")
        .expect("a write after the leader's death");
    drop(writers);
    self::leader(store, Some(leader)).await;
    store.restart(leader).await;
    took.as_secs_f64()
}

async fn leader<S: Store>(store: &S, without: Option<usize>) -> usize {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        if let Some(leader) = store.leader(without).await {
            return leader;
        }
        assert!(Instant::now() < deadline, "nobody leads {}", S::NAME);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! Another system's pool is taken over, and taking it over again changes nothing.

use engine::ledger::{AdoptedContribution, AdoptedMember};

use super::*;

const NOW: u64 = 1_800_000_000_000_000;
const DAY: u64 = 86_400_000_000;

fn member(name: &str, contributions: u64) -> AdoptedMember {
    AdoptedMember {
        node: node(name),
        registered_at: Some(Timestamp(NOW - DAY)),
        verified: false,
        contributed: 7,
        consumed: 2,
        contributions: (0..contributions)
            .map(|step| AdoptedContribution {
                at: Timestamp(NOW - DAY + step),
                new: 1,
            })
            .collect(),
    }
}

/// Concepts ten days old, delivered as often as said.
fn given(names_and_usage: &[(&str, u64)]) -> Vec<GivenConcept> {
    let names: Vec<&str> = names_and_usage.iter().map(|(name, _)| *name).collect();
    let usage = names_and_usage.iter().map(|(_, usage)| *usage);
    concepts(&names)
        .into_iter()
        .zip(usage)
        .map(|(concept, usage)| GivenConcept {
            concept,
            first_at: Timestamp(NOW - 10 * DAY),
            usage,
        })
        .collect()
}

async fn adopt(service: &Contribution, concepts: Vec<GivenConcept>) -> Adopted {
    service.adopt(node("other"), Vec::new(), concepts).await.unwrap()
}

/// Usage and quality of what a member finds.
async fn found(service: &Contribution, query: &str) -> Vec<(u64, f64)> {
    let delivered = service.knowledge(node("reader"), query, 10, 0.0, None).await.unwrap();
    delivered
        .iter()
        .map(|one| (one.usage, (one.quality * 1_000.0).round() / 1_000.0))
        .collect()
}

fn durable_usage(service: &Contribution) -> Vec<u64> {
    let counts = service.0.engine.usage_page(None, 10).unwrap();
    counts.into_iter().map(|(_, count)| count).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adopted_concepts_are_found_with_their_age_and_usage() {
    // Indexed while it is adopted, and built from the database afterwards.
    for follows in [true, false] {
        let service = service();
        let following = follows.then(|| follow(&service));
        let concepts = || given(&[("Green tea", 20), ("Black tea", 50), ("Coffee", 0)]);
        let adopted = adopt(&service, concepts()).await;
        assert_eq!((adopted.concepts_new, adopted.concepts_known), (3, 0));
        let _following = following.unwrap_or_else(|| follow(&service));
        assert_eq!(
            found(&service, "tea").await,
            [(50, 5.0), (20, 2.0)],
            "follows: {follows}"
        );
        assert_eq!(found(&service, "coffee").await, [(0, 0.0)]);
        assert_eq!(
            found(&service, "tea").await,
            [(51, 5.1), (21, 2.1)],
            "deliveries go on from there"
        );
        let mut durable = durable_usage(&service);
        durable.sort_unstable();
        assert_eq!(durable, [20, 50], "a count of nothing is none");
        assert_eq!(service.status(&node("other")).unwrap().contributed, 0.0);
        assert_eq!(service.stats().unwrap().concepts, 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taken_over_again_nothing_is_written() {
    let service = service();
    let _following = follow(&service);
    let concepts = || given(&[("Tea", 20), ("Coffee", 3), ("Tea", 10)]);
    let members = || vec![member("a", 3), member("b", 0)];
    let first = service.adopt(node("other"), members(), concepts()).await.unwrap();
    let expected = Adopted {
        members_new: 2,
        members_known: 0,
        concepts_new: 2,
        concepts_known: 1,
    };
    assert_eq!(first, expected);
    let before = owned(&service);
    let again = service.adopt(node("other"), members(), concepts()).await.unwrap();
    let expected = Adopted {
        members_new: 0,
        members_known: 2,
        concepts_new: 0,
        concepts_known: 3,
    };
    assert_eq!(again, expected);
    assert_eq!(owned(&service), before, "no record");
    let standing = service.status(&node("a")).unwrap();
    assert_eq!((standing.contributed, standing.consumed), (7.0, 2.0));
    assert_eq!(found(&service, "tea").await, [(20, 2.0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_that_are_not_durable_yet_count() {
    let service = service();
    let _following = follow(&service);
    service
        .contribute(node("a"), concepts(&["Tea", "Coffee"]), None)
        .await
        .unwrap();
    for _ in 0..2 {
        found(&service, "tea").await;
    }
    adopt(&service, given(&[("Tea", 5), ("Coffee", 0)])).await;
    service.0.usage.flush(&tasks::stop().1).await.unwrap();
    assert_eq!(durable_usage(&service), [5], "three more than the two");
    adopt(&service, given(&[("Tea", 4)])).await;
    assert_eq!(durable_usage(&service), [5], "it never falls");
    assert_eq!(found(&service, "tea").await[0].0, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_much_as_may_come_is_decided_in_parts() {
    let service = service();
    let names: Vec<String> = (0..1_000)
        .map(|number| format!("concept {number} {}", "x".repeat(2_000)))
        .collect();
    let concepts: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let members: Vec<AdoptedMember> = (0..1_000).map(|number| member(&format!("m{number}"), 100)).collect();
    let adopted = service.adopt(node("other"), members, given(&concepts)).await.unwrap();
    assert_eq!((adopted.members_new, adopted.concepts_new), (1_000, 1_000));
    let stats = service.stats().unwrap();
    assert_eq!((stats.concepts, stats.contributors), (1_000, 1_000));
    let events = ledger::contribution_events(service.0.engine.view(), &node("m999")).unwrap();
    assert_eq!(events.len(), 100);
    assert_eq!(service.0.engine.usage_page(None, 2_000).unwrap().len(), 1_000);
    let _following = follow(&service);
    assert_eq!(found(&service, "concept 999").await, [(1, 0.1)]);
}

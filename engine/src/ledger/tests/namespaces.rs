//! The registry of namespaces.

use super::*;

const POLICY: NamespacePolicy = NamespacePolicy {
    replication: Replication::Mesh,
    strategy: Strategy::LastWriteWins,
};

fn create(world: &mut World, name: &str) -> Outcome {
    world.propose(Command::CreateNamespace {
        name: name.to_owned(),
        policy: POLICY,
    })
}

#[test]
fn numbers_begin_at_sixteen_and_are_given_once() {
    let mut world = World::default();
    for (name, number) in [("b", 16), ("a", 17), ("c", 18)] {
        assert_eq!(
            create(&mut world, name),
            Outcome::NamespaceCreated(Namespace {
                id: NamespaceId(number),
                name: name.to_owned(),
                policy: POLICY
            })
        );
    }
    assert_eq!(create(&mut world, "a"), Outcome::Refused(Refusal::NamespaceExists));
    let listed: Vec<(String, u32)> = namespaces(&world)
        .expect("sound")
        .into_iter()
        .map(|namespace| (namespace.name, namespace.id.0))
        .collect();
    assert_eq!(
        listed,
        [("a".to_owned(), 17), ("b".to_owned(), 16), ("c".to_owned(), 18)]
    );
}

#[test]
fn names_follow_the_rules() {
    let mut world = World::default();
    for name in ["a", "0", "team-1.notes_x", &"x".repeat(63)] {
        assert!(
            matches!(create(&mut world, name), Outcome::NamespaceCreated(_)),
            "{name}"
        );
    }
    for name in [
        "",
        "system",
        "shared",
        "A",
        "-a",
        ".a",
        "_a",
        "a b",
        "a/b",
        "ä",
        "a\n",
        &"x".repeat(64),
    ] {
        assert_eq!(
            create(&mut world, name),
            Outcome::Refused(Refusal::NamespaceName),
            "{name:?}"
        );
    }
}

#[test]
fn the_strategy_can_change_and_the_replication_cannot() {
    let mut world = World::default();
    create(&mut world, "n");
    let set = |world: &mut World, name: &str| {
        world.propose(Command::SetNamespacePolicy {
            name: name.to_owned(),
            strategy: Strategy::MergeUnion,
        })
    };
    assert_eq!(set(&mut world, "n"), Outcome::Done);
    let policy = namespace(&world, "n").expect("sound").expect("created").policy;
    assert_eq!(
        policy,
        NamespacePolicy {
            replication: Replication::Mesh,
            strategy: Strategy::MergeUnion
        }
    );
    for name in ["unknown", "system", "shared"] {
        assert_eq!(set(&mut world, name), Outcome::Refused(Refusal::NamespaceUnknown));
        assert_eq!(namespace(&world, name).expect("sound"), None);
    }
}

//! Who belongs to the cluster: those that formed it together.

use super::*;

fn form(names: &[&str]) -> Command {
    let member = |(number, name): (u64, &&str)| ((*name).to_owned(), number, format!("{name}:7000"));
    Command::Members(MemberChange::Form {
        members: (1..).zip(names).map(member).collect(),
    })
}

fn roster(world: &World) -> Vec<(String, u64, Role)> {
    let members = members(world).expect("sound").into_iter();
    members.map(|member| (member.name, member.voter, member.role)).collect()
}

#[test]
fn only_the_first_word_says_who_the_first_members_are() {
    let mut world = World::default();
    assert_eq!(world.propose(form(&["b", "a", "c"])), Outcome::Done);
    let first = [("a", 2), ("b", 1), ("c", 3)].map(|(name, number)| (name.to_owned(), number, Role::Voter));
    assert_eq!(roster(&world), first);
    let remove = MemberChange::Remove { name: "c".to_owned() };
    assert_eq!(world.propose(Command::Members(remove)), Outcome::Done);
    // Another of them says the same, late.
    assert_eq!(world.propose(form(&["b", "a", "c"])), Outcome::Done);
    assert_eq!(roster(&world), first[..2], "who was removed stays so");
    assert_eq!(world.propose(form(&["x", "y"])), Outcome::Done);
    assert_eq!(roster(&world), first[..2]);
}

#[test]
fn no_more_vote_than_may() {
    let mut world = World::default();
    let many = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let refused = Outcome::Refused(Refusal::Members(MemberRefusal::VotersFull));
    assert_eq!(world.propose(form(&many)), refused);
    assert!(roster(&world).is_empty());
    assert_eq!(world.propose(form(&many[1..])), Outcome::Done);
    assert_eq!(roster(&world).len(), VOTERS_MAX);
}

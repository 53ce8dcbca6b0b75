//! Schedules drawn at random: messages are lost, late and out of order, processes die between any two of their steps, and some lose their data.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::*;

/// What survives a crash.
#[derive(Clone, Debug)]
struct Disk {
    number: u64,
    key: [u8; 32],
    bound: Option<Set>,
    /// The cluster, its secret, and the numbers it began with.
    formed: Option<([u8; 16], [u8; 32], BTreeSet<u64>)>,
}

/// An answer on its way to the process that asked, and to no later one.
struct Answer {
    to: usize,
    life: u64,
    place: usize,
    heard: Heard,
}

struct World {
    rng: StdRng,
    expect: u32,
    /// Whom each is told of, as indexes.
    lists: Vec<Vec<usize>>,
    disks: Vec<Disk>,
    running: Vec<Option<Agreement>>,
    lives: Vec<u64>,
    answers: Vec<Answer>,
    /// Every cluster there ever was: the numbers it began with.
    clusters: BTreeMap<[u8; 16], BTreeSet<u64>>,
    keys: BTreeMap<[u8; 16], [u8; 32]>,
    drawn: u64,
    /// What a process of which node last said when it gave up.
    given_up: BTreeMap<usize, String>,
}

fn address(node: usize) -> String {
    format!("h{node}:7000")
}

fn everybody_else(nodes: usize, but: usize) -> Vec<usize> {
    (0..nodes).filter(|node| *node != but).collect()
}

impl World {
    fn new(seed: u64, expect: u32, lists: Vec<Vec<usize>>) -> World {
        let nodes = lists.len();
        let mut world = World {
            rng: StdRng::seed_from_u64(seed),
            expect,
            lists,
            disks: Vec::new(),
            running: vec![None; nodes],
            lives: vec![0; nodes],
            answers: Vec::new(),
            clusters: BTreeMap::new(),
            keys: BTreeMap::new(),
            drawn: 0,
            given_up: BTreeMap::new(),
        };
        for _ in 0..nodes {
            let disk = world.empty();
            world.disks.push(disk);
        }
        world
    }

    /// A new data directory, with a number nobody had.
    fn empty(&mut self) -> Disk {
        self.drawn += 1;
        let number = self.rng.random::<u64>() << 16 | self.drawn;
        Disk {
            number,
            key: [self.drawn as u8; 32],
            bound: None,
            formed: None,
        }
    }

    fn start(&mut self, node: usize) {
        let disk = &self.disks[node];
        if disk.formed.is_some() {
            self.running[node] = None;
            self.lives[node] += 1;
            return;
        }
        let seat = Seat {
            number: disk.number,
            name: format!("n{node}"),
            address: address(node),
        };
        let addresses = self.lists[node].iter().map(|other| address(*other)).collect();
        self.running[node] = Some(Agreement::new(
            (seat, disk.key),
            (self.expect, addresses),
            None,
            disk.bound.clone(),
        ));
        self.lives[node] += 1;
    }

    fn kill(&mut self, node: usize) {
        self.running[node] = None;
        self.lives[node] += 1;
    }

    fn wipe(&mut self, node: usize) {
        self.kill(node);
        self.disks[node] = self.empty();
    }

    /// `node` asks whom its list names at `place`; the answer is on its way.
    fn ask(&mut self, node: usize, place: usize) {
        let Some(asking) = &self.running[node] else { return };
        let other = self.lists[node][place];
        let (number, name) = (asking.seat().number, &asking.seat().name);
        let heard = match (&self.disks[other].formed, &self.running[other]) {
            // One that has formed answers as long as it lives, which is as good as always.
            (Some((cluster, key, members)), _) => Heard::Formed {
                cluster: *cluster,
                name: format!("n{other}"),
                context_key: members.contains(&number).then_some(*key),
            },
            (None, Some(asked)) => Heard::Forming(asked.report(number, name)),
            (None, None) => Heard::Nothing("down".to_owned()),
        };
        self.answers.push(Answer {
            to: node,
            life: self.lives[node],
            place,
            heard,
        });
    }

    fn deliver(&mut self, index: usize) {
        let answer = self.answers.swap_remove(index);
        if answer.life != self.lives[answer.to] {
            return;
        }
        if let Some(running) = &mut self.running[answer.to] {
            running.hear(answer.place, answer.heard);
        }
    }

    /// Takes its next step; dies in the middle of it with the given chance.
    fn act(&mut self, node: usize, dies: f64) {
        let Some(running) = &self.running[node] else { return };
        match running.step() {
            Step::Wait(_) => {}
            Step::Never(why) => {
                self.given_up.insert(node, why);
                self.kill(node);
            }
            Step::Bind(set) => {
                if self.rng.random_bool(dies) {
                    return self.kill(node);
                }
                assert_eq!(self.disks[node].bound, None, "bound once");
                self.disks[node].bound = Some(set.clone());
                if self.rng.random_bool(dies) {
                    return self.kill(node);
                }
                if let Some(running) = &mut self.running[node] {
                    running.bind(set);
                }
            }
            Step::Form { cluster, context_key } => {
                if self.rng.random_bool(dies) {
                    return self.kill(node);
                }
                self.form(node, cluster, context_key);
                self.kill(node);
            }
        }
    }

    fn form(&mut self, node: usize, cluster: [u8; 16], key: [u8; 32]) {
        let set = self.disks[node].bound.clone().expect("bound before it forms");
        assert_eq!(cluster, cluster_of(&set.sum(None)));
        assert_eq!(set.seats().len(), self.expect as usize);
        let numbers: BTreeSet<u64> = set.seats().iter().map(|seat| seat.number).collect();
        assert!(numbers.contains(&self.disks[node].number));
        for (other, members) in &self.clusters {
            assert!(
                *other == cluster || members.is_disjoint(&numbers),
                "two clusters share a node: {members:?} and {numbers:?}"
            );
        }
        assert_eq!(*self.keys.entry(cluster).or_insert(key), key, "one secret");
        self.clusters.insert(cluster, numbers.clone());
        self.disks[node].formed = Some((cluster, key, numbers));
    }

    /// So many things happen, whatever comes; nodes of `fragile` may lose their data.
    fn storm(&mut self, events: usize, fragile: &[usize]) {
        let nodes = self.lists.len();
        for _ in 0..events {
            let node = self.rng.random_range(0..nodes);
            match self.rng.random_range(0..100) {
                0..40 => {
                    let place = self.rng.random_range(0..self.lists[node].len());
                    self.ask(node, place);
                }
                40..70 if !self.answers.is_empty() => {
                    let index = self.rng.random_range(0..self.answers.len());
                    self.deliver(index);
                }
                70..74 if !self.answers.is_empty() => {
                    let index = self.rng.random_range(0..self.answers.len());
                    drop(self.answers.swap_remove(index));
                }
                74..90 => self.act(node, 0.1),
                90..92 => self.kill(node),
                92..99 if self.running[node].is_none() => self.start(node),
                99 if self.rng.random_bool(0.3) => {
                    if let Some(node) = fragile.choose(&mut self.rng) {
                        self.wipe(*node);
                    }
                }
                _ => {}
            }
        }
    }

    /// Everybody runs and hears everybody.
    fn calm(&mut self) {
        self.answers.clear();
        for node in 0..self.lists.len() {
            self.start(node);
        }
        for _ in 0..8 {
            for node in 0..self.lists.len() {
                for place in 0..self.lists[node].len() {
                    self.ask(node, place);
                    if !self.answers.is_empty() {
                        self.deliver(0);
                    }
                }
                self.act(node, 0.0);
            }
        }
    }

    fn formed(&self) -> usize {
        self.disks.iter().filter(|disk| disk.formed.is_some()).count()
    }
}

fn among_themselves(nodes: usize) -> Vec<Vec<usize>> {
    (0..nodes).map(|node| everybody_else(nodes, node)).collect()
}

#[test]
fn whatever_happens_on_the_way_all_form_one_cluster() {
    let mut on_the_way = 0;
    for seed in 0..3_000 {
        let nodes = [2, 3, 3, 5][seed as usize % 4];
        let mut lists = among_themselves(nodes);
        if seed % 3 == 0 {
            // Their own address is in the list, too.
            lists.iter_mut().enumerate().for_each(|(node, list)| list.push(node));
        }
        let mut world = World::new(seed, nodes as u32, lists);
        let events = world.rng.random_range(0..600);
        world.storm(events, &[]);
        on_the_way += usize::from((1..nodes).contains(&world.formed()));
        world.calm();
        assert_eq!(world.formed(), nodes, "seed {seed}: {:?}", world.given_up);
        assert_eq!(world.clusters.len(), 1, "seed {seed}");
    }
    assert!(on_the_way > 100, "storms end in the middle of it: {on_the_way}");
}

#[test]
fn a_node_that_loses_its_data_makes_no_second_cluster() {
    let (mut formed, mut refused) = (0, 0);
    for seed in 0..3_000 {
        let nodes = [3, 5][seed as usize % 2];
        let mut world = World::new(seed, nodes as u32, among_themselves(nodes));
        let events = world.rng.random_range(100..1_500);
        world.storm(events, &[0]);
        world.calm();
        assert!(world.clusters.len() <= 1, "seed {seed}: {:?}", world.clusters);
        formed += world.clusters.len();
        if world.formed() > 0 && world.disks[0].formed.is_none() {
            let why = world.given_up.get(&0).map(String::as_str).unwrap_or_default();
            assert!(why.contains("cluster replace n0"), "seed {seed}: {why}");
            refused += 1;
        }
    }
    assert!(formed > 1_000 && refused > 100, "{formed} {refused}");
}

#[test]
fn clusters_never_share_a_node_whatever_the_lists_say() {
    let mut formed = 0;
    for seed in 0..3_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let lists = (0..5).map(|node| {
            let mut list = everybody_else(5, node);
            while list.len() > 2 {
                list.swap_remove(rng.random_range(0..list.len()));
            }
            list
        });
        let mut lists: Vec<_> = lists.collect();
        if seed % 2 == 0 {
            lists[..3].clone_from_slice(&among_themselves(3));
        }
        let mut world = World::new(seed, 3, lists);
        world.storm(800, &[0, 1, 2, 3, 4]);
        world.calm();
        formed += world.clusters.len();
    }
    assert!(formed > 500, "{formed}");
}

#[test]
fn one_too_many_is_none_of_them() {
    // All four know each other, and each expects three: nobody may choose.
    for seed in 0..200 {
        let mut world = World::new(seed, 3, among_themselves(4));
        world.storm(800, &[]);
        world.calm();
        assert_eq!(world.formed(), 0, "seed {seed}");
        let why = &world.given_up[&0];
        assert!(
            why.contains("leads to 4 nodes") && why.contains("bootstrap_expect is 3"),
            "{why}"
        );
    }
    // Three know each other, and a fourth knows them.
    let mut lists = among_themselves(3);
    lists.push(vec![0, 1]);
    for seed in 0..200 {
        let mut world = World::new(seed, 3, lists.clone());
        world.storm(800, &[]);
        world.calm();
        assert_eq!((world.formed(), world.clusters.len()), (3, 1), "seed {seed}");
        let why = world.given_up.get(&3).expect("the fourth gives up");
        assert!(
            why.contains("belongs to a cluster already") && why.contains("token"),
            "{why}"
        );
    }
}

fn seat(number: u64) -> Seat {
    Seat {
        number,
        name: format!("n{number}"),
        address: format!("h{number}:1"),
    }
}

fn gathering(number: u64) -> Agreement {
    let others = (1..=3)
        .filter(|other| *other != number)
        .map(|other| format!("h{other}:1"));
    Agreement::new((seat(number), [number as u8; 32]), (3, others.collect()), None, None)
}

fn waits(step: Step, words: &str) {
    match step {
        Step::Wait(why) => assert!(why.contains(words), "{words}: {why}"),
        other => panic!("{words}: {other:?}"),
    }
}

#[test]
fn it_says_for_whom_and_what_it_waits() {
    let mut one = gathering(1);
    waits(one.step(), "h2:1 (not asked yet), h3:1 (not asked yet)");
    let (two, three) = (gathering(2).report(1, "n1"), gathering(3).report(1, "n1"));
    one.hear(0, Heard::Forming(two.clone()));
    one.hear(1, Heard::Nothing("connection refused".to_owned()));
    waits(one.step(), "h3:1 (connection refused)");
    one.hear(
        1,
        Heard::Forming(Report {
            expect: 5,
            ..three.clone()
        }),
    );
    waits(one.step(), "`n3` (h3:1) expects 5, this one 3");
    let mut twin = three.clone();
    twin.seat.name = "n2".to_owned();
    one.hear(1, Heard::Forming(twin));
    waits(one.step(), "`n2` (h2:1) and `n2` (h3:1)");
    let mut copied = three.clone();
    copied.seat.number = 1;
    one.hear(1, Heard::Forming(copied));
    waits(one.step(), "data directory copied");
    one.hear(1, Heard::Forming(three.clone()));
    waits(one.step(), "`n2` (h2:1) to see the same 3 nodes");
    let sum = Set::of(vec![seat(3), seat(1), seat(2)]).sum(None);
    let agreeing = |report: Report| {
        Heard::Forming(Report {
            agrees: Some(sum),
            ..report
        })
    };
    one.hear(0, agreeing(two.clone()));
    one.hear(1, agreeing(three));
    let Step::Bind(set) = one.step() else {
        panic!("all agree")
    };
    one.bind(set);
    waits(one.step(), "`n2` (h2:1), `n3` (h3:1) to agree");
    let mut anew = two;
    anew.seat.number = 22;
    one.hear(0, Heard::Forming(anew));
    waits(one.step(), "`n2` (h2:1) lost its data after it had agreed");
    // Of a cluster that is not this set's it takes nothing, whatever that one says.
    let formed = |cluster| Heard::Formed {
        cluster,
        name: "n3".to_owned(),
        context_key: Some([3; 32]),
    };
    one.hear(0, Heard::Nothing("down".to_owned()));
    one.hear(1, formed([9; 16]));
    waits(one.step(), "`n3` at h3:1 belongs to another cluster");
    one.hear(1, formed(cluster_of(&sum)));
    let (cluster, context_key) = (cluster_of(&sum), [3; 32]);
    assert_eq!(one.step(), Step::Form { cluster, context_key });
}

#[test]
fn the_secret_is_for_those_it_is_bound_to_and_the_sum_depends_on_everything() {
    let mut one = gathering(1);
    assert_eq!(one.report(2, "n2").context_key, None, "bound to nobody");
    let set = Set::of(vec![seat(1), seat(2), seat(3)]);
    one.bind(set.clone());
    assert_eq!(one.report(2, "n2").context_key, Some([1; 32]));
    for (number, name) in [(4, "n4"), (2, "n3"), (22, "n2")] {
        assert_eq!(one.report(number, name).context_key, None, "{number} {name}");
    }
    let mut sums = BTreeSet::from([set.sum(None), set.sum(Some([0; 32])), set.sum(Some([1; 32]))]);
    let changes: [fn(&mut Seat); 3] = [
        |seat| seat.number = 9,
        |seat| seat.name.push('x'),
        |seat| seat.address.push('0'),
    ];
    for change in changes {
        let mut seats = set.seats().to_vec();
        change(&mut seats[1]);
        sums.insert(Set::of(seats).sum(None));
    }
    assert_eq!(sums.len(), 6);
    // For ever: nodes of two builds form a cluster together.
    assert_eq!(
        engine::backup::hex(&cluster_of(&set.sum(None))),
        "b6956775fce9b5940ad71f4c78443aa7"
    );
}

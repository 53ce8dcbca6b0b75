//! Nodes that expect each other become one cluster, whichever comes first and whoever dies on the way; and nobody forms a second one.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use continuum_tests::{
    Admin, Launch, Member, Node,
    loopback::{WITHIN, joining, launch, status, token, until, votes},
    words::made,
};
use serde_json::Value;

/// Starts of nodes that expect each other; each is told of all, itself among them or not.
struct Founders {
    launches: Vec<Launch>,
}

impl Founders {
    /// Nodes of these names that expect so many.
    fn of(names: &[&str], expect: usize) -> Founders {
        let launches: Vec<Launch> = names.iter().map(|name| launch(name)).collect();
        let addresses: Vec<SocketAddr> = launches.iter().map(Launch::grpc).collect();
        let told = launches.into_iter().enumerate().map(|(place, launch)| {
            // Every other one finds its own address in the list.
            let others = addresses
                .iter()
                .enumerate()
                .filter(|(other, _)| place % 2 == 0 || *other != place);
            let list: Vec<String> = others.map(|(_, address)| address.to_string()).collect();
            expecting(launch, expect, &list)
        });
        Founders {
            launches: told.collect(),
        }
    }

    fn addresses(&self) -> Vec<String> {
        self.launches.iter().map(|launch| launch.grpc().to_string()).collect()
    }
}

fn expecting(launch: Launch, expect: usize, list: &[String]) -> Launch {
    launch
        .argument("--bootstrap-expect")
        .argument(expect.to_string())
        .environment("CONTINUUM_BOOTSTRAP_NODES", &list.join(","))
}

/// What `/readyz?verbose` says of a node that waits for others, and that it lives.
async fn unready(node: &Node) -> String {
    let mut client = node.client();
    let mut told = String::new();
    until("it says for whom it waits", async || {
        if let Ok(ready) = client.get("/readyz?verbose").await {
            assert_eq!(ready.status, 503, "{}", ready.text());
            told = ready.text();
        }
        told.contains("waiting for")
    })
    .await;
    assert_eq!(client.get("/livez").await.unwrap().status, 200);
    told
}

/// Waits until the log of a node says it.
async fn logged(node: &Node, words: &str) {
    until(words, async || node.log().contains(words)).await;
}

fn cluster(node: &Node) -> String {
    status(node)["cluster"].as_str().unwrap().to_owned()
}

/// Writes at each node, and reads at each what each has written.
async fn writes_work_everywhere(nodes: &[Node]) {
    for (place, node) in nodes.iter().enumerate() {
        let name = format!("member {place}");
        let given = Member::new(node, name.clone()).contribute(&[made(&name, 0)]).await;
        assert_eq!(given.unwrap().ok()["new_concepts"], 1);
    }
    for node in nodes {
        for place in 0..nodes.len() {
            let seen = async || {
                let answer = Member::new(node, format!("member {place}")).status().await.unwrap();
                answer.status == 200 && answer.json()["contribution_score"] == 1.0
            };
            until("what was written at one is read at all", seen).await;
        }
    }
}

fn voters(node: &Node) -> Vec<String> {
    let status = status(node);
    let members = status["members"].as_array().unwrap().iter();
    let voters = members.filter(|member| member["votes"] == true && member["role"] == "voter");
    voters
        .map(|member| member["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Ends by itself, with this exit code and these words in its log.
async fn refused(node: &mut Node, code: i32, words: &str) {
    let ended = node.wait_ended(WITHIN).await;
    assert_eq!(ended.code(), Some(code), "{}", node.log());
    assert!(node.log().contains(words), "{words}: {}", node.log());
}

const EX_CONFIG: i32 = 78;

#[tokio::test]
async fn three_that_expect_each_other_form_one_cluster_and_no_fourth_joins_them_so() {
    let founders = Founders::of(&["one", "two", "three"], 3);
    let two = founders.launches[1].spawn();
    let mut three = founders.launches[2].spawn();
    let waiting = unready(&two).await;
    assert!(
        waiting.contains("formation: waiting for") && waiting.contains(&founders.addresses()[0]),
        "{waiting}"
    );
    logged(&three, &founders.addresses()[0]).await;
    let told = Admin::of(&two).run(&["--timeout", "2s", "cluster", "status"]);
    assert!(
        told.code != Some(0) && told.err.contains("forming a cluster"),
        "{}",
        told.err
    );
    // One dies while it waits, one comes late.
    three.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let one = founders.launches[0].spawn();
    three.respawn();
    let mut nodes = [one, two, three];
    for node in &mut nodes {
        node.wait_ready().await;
        votes(node, 3).await;
    }
    writes_work_everywhere(&nodes).await;
    for node in &nodes {
        assert_eq!(voters(node), ["one", "three", "two"]);
        assert_eq!(cluster(node), cluster(&nodes[0]));
        let lines = node.log().lines().filter(|line| line.contains("waiting for")).count();
        assert!(lines <= 8, "at a sane rate: {}", node.log());
    }
    let verified = Admin::of(&nodes[0]).ok(&["-o", "json", "verify", "--cluster"]).json();
    assert_eq!(
        (&verified["same"], verified["members"].as_array().map(Vec::len)),
        (&Value::from(true), Some(3))
    );

    // All lose power, and come back with the same settings.
    nodes.iter_mut().for_each(Node::kill);
    nodes.iter_mut().for_each(Node::respawn);
    for node in &mut nodes {
        node.wait_ready().await;
    }
    writes_go_on(&nodes).await;

    let list = [founders.addresses()[0].clone(), founders.addresses()[1].clone()];
    let mut four = expecting(launch("four"), 3, &list).spawn();
    refused(&mut four, EX_CONFIG, "belongs to a cluster already").await;
    assert!(four.log().contains("cluster token"), "{}", four.log());
    assert_eq!(voters(&nodes[0]).len(), 3);

    a_wiped_node_is_replaced(&founders, nodes).await;
}

async fn writes_go_on(nodes: &[Node]) {
    for node in nodes {
        let given = Member::new(node, "later")
            .contribute(&[made("later", u64::from(node.id()))])
            .await;
        assert_eq!(given.unwrap().ok()["new_concepts"], 1);
    }
}

/// It forms no second cluster, and comes in by a token although it is told to form one.
async fn a_wiped_node_is_replaced(founders: &Founders, nodes: [Node; 3]) {
    let [one, two, mut three] = nodes;
    three.kill();
    let data = founders.launches[2].data_directory();
    fs::remove_dir_all(data).unwrap();
    three.respawn();
    refused(&mut three, EX_CONFIG, "cluster replace three").await;
    let before = cluster(&one);
    let token = Admin::of(&one).ok(&["cluster", "replace", "three"]).out;
    let mut back = joining(founders.launches[2].clone(), token.trim_end()).spawn();
    back.wait_ready().await;
    votes(&back, 3).await;
    assert_eq!(cluster(&back), before);
    until("the others know it", async || voters(&two) == ["one", "three", "two"]).await;
}

#[tokio::test]
async fn whoever_is_killed_while_they_agree_goes_on_where_it_was() {
    // Each round, one of them is killed a little later in the course of it.
    for round in 0..8_u64 {
        let founders = Founders::of(&["one", "two", "three"], 3);
        let mut nodes: Vec<Node> = founders.launches.iter().map(Launch::spawn).collect();
        let victim = usize::try_from(round % 3).unwrap();
        // At the moment it has become bound, or so many milliseconds later.
        let bound = founders.launches[victim].data_directory().join("FORMING");
        let deadline = std::time::Instant::now() + WITHIN;
        while !is_bound(&bound) {
            assert!(std::time::Instant::now() < deadline, "never bound");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(round * round * 5)).await;
        nodes[victim].kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        nodes[victim].respawn();
        for node in &mut nodes {
            node.wait_ready().await;
            votes(node, 3).await;
        }
        writes_work_everywhere(&nodes).await;
        let clusters: Vec<String> = nodes.iter().map(cluster).collect();
        assert!(clusters.iter().all(|other| *other == clusters[0]), "{clusters:?}");
    }
}

fn is_bound(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains("member "))
}

#[tokio::test]
async fn what_cannot_become_a_cluster_says_why() {
    // Four of whom each expects three.
    let founders = Founders::of(&["one", "two", "three", "four"], 4);
    let list = founders.addresses();
    let few = expecting(launch("x"), 3, &list);
    let mut few = few.spawn();
    refused(
        &mut few,
        EX_CONFIG,
        "name exactly the nodes that are to form the cluster",
    )
    .await;

    // A node that has data is no part of a cluster that is formed.
    let settled = launch("settled").start().await;
    let other = launch("other");
    let list = [settled.grpc().to_string(), other.grpc().to_string()];
    let mut hopeful = expecting(launch("hopeful"), 3, &list).spawn();
    refused(&mut hopeful, EX_CONFIG, "`settled`").await;
    // Itself it stays what it is, whatever it is told.
    let id = cluster(&settled);
    let again = expecting(settled_again(settled).await, 3, &list[..2]);
    let mut again = again.spawn();
    again.wait_ready().await;
    assert_eq!(cluster(&again), id);

    // Once it is bound, it is bound.
    let founders = Founders::of(&["one", "two"], 2);
    let mut nodes: Vec<Node> = founders.launches.iter().map(Launch::spawn).collect();
    for node in &mut nodes {
        node.wait_ready().await;
    }
    let one = &founders.launches[0];
    let kept = fs::read(one.data_directory().join("FORMING")).unwrap();
    drop(nodes);
    for (arguments, words) in [
        (false, "start it with bootstrap_expect"),
        (true, "by the name and at the address"),
    ] {
        let fresh = launch("one");
        fs::create_dir_all(fresh.data_directory()).unwrap();
        fs::write(fresh.data_directory().join("FORMING"), &kept).unwrap();
        let list = founders.addresses();
        let fresh = if arguments {
            expecting(fresh, 2, &list[1..])
        } else {
            fresh
        };
        let mut bound = fresh.spawn();
        refused(&mut bound, EX_CONFIG, words).await;
    }
}

/// The start of a node that is stopped first.
async fn settled_again(mut node: Node) -> Launch {
    assert!(node.stop(WITHIN).await.success());
    node.launch().clone()
}

fn member_names(status: &Value) -> Vec<&str> {
    let members = status["members"].as_array().unwrap().iter();
    members.map(|member| member["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_cluster_that_was_formed_takes_others_by_tokens() {
    let founders = Founders::of(&["one", "two"], 2);
    let mut nodes: Vec<Node> = founders.launches.iter().map(Launch::spawn).collect();
    for node in &mut nodes {
        node.wait_ready().await;
    }
    votes(&nodes[0], 2).await;
    writes_work_everywhere(&nodes).await;
    let token = token(&nodes[1], &[]);
    let three = joining(launch("three"), &token).start().await;
    votes(&three, 3).await;
    assert_eq!(member_names(&status(&three)), ["one", "three", "two"]);
    // What was written before it came is there.
    let answer = Member::new(&three, "member 0").status().await.unwrap();
    assert_eq!(answer.ok()["contribution_score"], 1.0);
}

/// A folder of certificates for `names`, which everybody calls by an address of loopback.
fn certificates(admin: &Admin, folder: &str, names: &[&str]) -> std::path::PathBuf {
    let folder = admin.home().join(folder);
    let mut words = vec!["cert", "create", "--dir", folder.to_str().unwrap(), "--client", "me"];
    words.extend(names.iter().flat_map(|name| ["--node", name]));
    admin.ok(&words);
    folder
}

fn with_certificate(launch: Launch, folder: &Path, name: &str) -> Launch {
    let file = |name: String| folder.join(name).to_str().unwrap().to_owned();
    launch
        .environment("CONTINUUM_TLS_CA", &file("ca.pem".to_owned()))
        .environment("CONTINUUM_TLS_CERT", &file(format!("{name}.pem")))
        .environment("CONTINUUM_TLS_KEY", &file(format!("{name}-key.pem")))
}

#[tokio::test]
async fn over_tls_only_nodes_of_one_authority_form_a_cluster() {
    let admin = Admin::alone();
    let names = ["one", "two", "three"];
    let ours = certificates(&admin, "ours", &names);
    let theirs = certificates(&admin, "theirs", &names);
    let founders = Founders::of(&names, 3);
    let of = |place: usize, folder: &Path| with_certificate(founders.launches[place].clone(), folder, names[place]);
    let mut nodes = vec![of(0, &ours).spawn(), of(1, &ours).spawn()];
    let foreign = of(2, &theirs).spawn();
    for node in [&nodes[0], &foreign] {
        logged(node, "certificate").await;
        assert!(unready(node).await.contains("answer from 127.0.0.1"), "{}", node.log());
    }
    // Signed by ours, but for another: whoever it says it is, it is not.
    let bound = |launch: &Launch| is_bound(&launch.data_directory().join("FORMING"));
    assert!(!founders.launches.iter().any(bound), "nobody agreed to anything");
    drop(foreign);
    let liar = with_certificate(founders.launches[2].clone(), &ours, "one").spawn();
    logged(&liar, "certificate does not bear that name").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!founders.launches.iter().any(bound), "nobody agreed to anything");
    drop(liar);
    nodes.push(of(2, &ours).spawn());
    for node in &mut nodes {
        node.wait_ready().await;
    }
    writes_work_everywhere(&nodes).await;
    let mut words: Vec<String> = Vec::new();
    for (option, file) in [("ca", "ca"), ("cert", "me"), ("key", "me-key")] {
        words.push(format!("--tls-{option}"));
        words.push(ours.join(format!("{file}.pem")).to_str().unwrap().to_owned());
    }
    words.extend(["--endpoint".to_owned(), nodes[1].grpc().to_string()]);
    words.extend(["-o", "json", "cluster", "status"].map(str::to_owned));
    let status = continuum_tests::admin::Ran::of(admin.command(words).output().unwrap()).json();
    let votes = status["members"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|member| member["votes"] == true);
    assert_eq!((votes.count(), &status["trouble"]), (3, &Value::from("")), "{status}");
}

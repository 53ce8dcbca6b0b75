//! Three nodes of one process, over real sockets: they come together by tokens and stay of one mind.

use std::time::Duration;

use engine::ledger;
use proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, HandOverRequest, InitClusterRequest, InviteRequest,
    RemoveMemberRequest, cluster_client::ClusterClient,
};
use tonic::transport::{Channel, Endpoint};

use super::*;

fn settings_of(place: &tempfile::TempDir, name: &str) -> config::Settings {
    let mut settings = settings(place);
    settings.storage.path = place.path().join(name);
    settings.node.id = Some(name.to_owned());
    settings.storage.log_keep_bytes = 0;
    settings
}

fn client(node: &Node) -> ClusterClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc_address())).unwrap();
    ClusterClient::new(endpoint.connect_lazy())
}

async fn status(node: &Node) -> ClusterStatusResponse {
    client(node).status(ClusterStatusRequest {}).await.unwrap().into_inner()
}

/// Looks again and again until `is_so`.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

async fn votes(node: &Node, count: usize) {
    until(&format!("{count} vote"), async || {
        let status = status(node).await;
        status.trouble.is_empty() && status.members.iter().filter(|member| member.votes).count() == count
    })
    .await;
}

async fn invite(node: &Node, replaces: &str) -> String {
    let request = InviteRequest {
        replaces: replaces.to_owned(),
        ..InviteRequest::default()
    };
    client(node).invite(request).await.unwrap().into_inner().token
}

async fn join(place: &tempfile::TempDir, name: &str, token: String) -> Node {
    let mut settings = settings_of(place, name);
    settings.node.join = Some(token);
    Node::start(&settings).await.unwrap()
}

/// Everything that raft owns, as it lies there.
fn ledger_of(node: &Node) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    for family in engine::image::FAMILIES {
        let mut take = |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            true
        };
        node.engine().view().scan(family, &[], None, &mut take).unwrap();
    }
    rows
}

async fn give(node: &Node, member: &str, name: &str) -> u16 {
    let body = json!({ "concepts": [{ "name": name }] });
    call(
        node.http_address(),
        "POST",
        "/federation/contribute",
        member,
        Some(body),
    )
    .await
    .0
}

async fn same(nodes: &[&Node]) {
    until("the ledgers are the same", async || {
        let first = ledger_of(nodes[0]);
        nodes.iter().all(|node| ledger_of(node) == first)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_nodes_come_together_and_outlive_each_of_them() {
    let place = tempfile::tempdir().unwrap();
    let one = Node::start(&settings_of(&place, "one")).await.unwrap();
    assert_eq!(give(&one, "ada", "before").await, 200);
    client(&one).init(InitClusterRequest {}).await.unwrap();
    let two = join(&place, "two", invite(&one, "").await).await;
    votes(&two, 2).await;
    let three = join(&place, "three", invite(&two, "").await).await;
    for node in [&one, &two, &three] {
        votes(node, 3).await;
    }
    let addresses = [one.grpc_address(), two.grpc_address()];
    for (number, node) in [&one, &two, &three].into_iter().enumerate() {
        assert_eq!(give(node, "ada", &format!("concept {number}")).await, 200);
        let found = knowledge(node, "ada", &format!("concept {number}")).await;
        assert_eq!(found["count"], 1, "what was given here is found here at once: {found}");
    }
    same(&[&one, &two, &three]).await;
    assert_eq!(
        knowledge(&three, "ada", "before").await["count"],
        1,
        "what was there before they came"
    );

    // Whoever leads, hands over and then goes.
    client(&two)
        .hand_over(HandOverRequest { name: "two".to_owned() })
        .await
        .unwrap();
    assert_eq!(status(&three).await.leader, "two");
    two.shutdown().await.unwrap();
    until("another leads", async || {
        let leader = status(&one).await.leader;
        !leader.is_empty() && leader != "two"
    })
    .await;
    assert_eq!(give(&three, "ada", "without two").await, 200);

    // Without a majority nothing is decided, and that is told.
    one.shutdown().await.unwrap();
    until("no quorum", async || !three.health().ready().passes()).await;
    let body = json!({ "concepts": [{ "name": "alone" }] });
    let (code, answer) = call(
        three.http_address(),
        "POST",
        "/federation/contribute",
        "ada",
        Some(body),
    )
    .await;
    assert_eq!((code, &answer["code"]), (503, &json!("no_quorum")), "{answer}");

    // They come back where they were, and nothing is missing.
    let one = again(&place, "one", addresses[0]).await;
    assert_eq!(give(&three, "ada", "two of three").await, 200);
    let two = again(&place, "two", addresses[1]).await;
    same(&[&one, &two, &three]).await;
    assert_eq!(ledger::pool_stats(one.engine().view()).unwrap().concepts, 6);

    // A member that goes for good leaves the others able to decide.
    client(&two)
        .remove(RemoveMemberRequest { name: "one".to_owned() })
        .await
        .unwrap();
    votes(&two, 2).await;
    one.shutdown().await.unwrap();
    assert_eq!(give(&two, "ada", "without one").await, 200);
    same(&[&two, &three]).await;
    three.shutdown().await.unwrap();
    two.shutdown().await.unwrap();
}

async fn again(place: &tempfile::TempDir, name: &str, address: SocketAddr) -> Node {
    let mut settings = settings_of(place, name);
    settings.node.bind_address = address;
    Node::start(&settings).await.unwrap()
}

//! Namespaces, health and reflection.

use prost::Message;
use prost_types::FileDescriptorProto;
use proto::v1::{
    CreateNamespaceRequest, GetNamespaceRequest, ListNamespacesRequest, Replication, SetPolicyRequest, Strategy,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    node::{Node, reason},
    reserved,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_created_once_and_found_again() {
    let node = Node::start().await;
    let request = CreateNamespaceRequest {
        name: "notes".into(),
        ..CreateNamespaceRequest::default()
    };
    let created = node
        .namespaces()
        .create(request.clone())
        .await
        .expect("create")
        .into_inner()
        .namespace
        .expect("present");
    assert_eq!(
        (created.replication(), created.strategy()),
        (Replication::Mesh, Strategy::LastWriteWins)
    );
    assert!(created.id >= 16);
    let again = node.namespaces().create(request).await.expect_err("taken");
    assert_eq!(
        (again.code(), reason(&again).as_str()),
        (Code::AlreadyExists, "NAMESPACE_EXISTS")
    );
    let node = node.restarted().await;
    let found = node
        .namespaces()
        .get(GetNamespaceRequest { name: "notes".into() })
        .await
        .expect("get")
        .into_inner();
    assert_eq!(found.namespace, Some(created));
    let absent = node
        .namespaces()
        .get(GetNamespaceRequest { name: "none".into() })
        .await
        .expect_err("absent");
    assert_eq!(
        (absent.code(), reason(&absent).as_str()),
        (Code::NotFound, "NAMESPACE_UNKNOWN")
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consensus_is_chosen_at_creation_and_has_no_strategies() {
    let node = Node::start().await;
    let request = |name: &str, strategy: Strategy| CreateNamespaceRequest {
        name: name.into(),
        replication: Replication::Consensus.into(),
        strategy: strategy.into(),
    };
    for (name, strategy) in [("strict", Strategy::Unspecified), ("other", Strategy::LastWriteWins)] {
        let created = node.namespaces().create(request(name, strategy)).await.expect("create");
        let created = created.into_inner().namespace.expect("always there");
        assert_eq!(
            (created.replication(), created.strategy()),
            (Replication::Consensus, Strategy::LastWriteWins)
        );
    }
    for strategy in [Strategy::HighestNodeWins, Strategy::MergeUnion, Strategy::KeepSiblings] {
        let refused = node
            .namespaces()
            .create(request("third", strategy))
            .await
            .expect_err("no strategy");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "STRATEGY_CONSENSUS")
        );
    }
    let absent = node
        .namespaces()
        .get(GetNamespaceRequest { name: "third".into() })
        .await;
    assert_eq!(absent.expect_err("absent").code(), Code::NotFound);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_can_be_changed_and_must_be_named() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let changed = node.set_policy("notes", Strategy::KeepSiblings).await.expect("set");
    assert_eq!(changed.strategy(), Strategy::KeepSiblings);
    let found = node
        .namespaces()
        .get(GetNamespaceRequest { name: "notes".into() })
        .await
        .expect("get")
        .into_inner();
    assert_eq!(found.namespace, Some(changed));
    let missing = node
        .set_policy("notes", Strategy::Unspecified)
        .await
        .expect_err("which?");
    assert_eq!(
        (missing.code(), reason(&missing).as_str()),
        (Code::InvalidArgument, "STRATEGY_MISSING")
    );
    let unknown = node
        .namespaces()
        .set_policy(SetPolicyRequest {
            name: "notes".into(),
            strategy: 99,
        })
        .await
        .expect_err("99");
    assert_eq!(
        (unknown.code(), reason(&unknown).as_str()),
        (Code::InvalidArgument, "STRATEGY_UNKNOWN")
    );
    assert_eq!(
        node.set_policy("none", Strategy::KeepSiblings)
            .await
            .expect_err("absent")
            .code(),
        Code::NotFound
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_listed_by_name_in_pages() {
    let node = Node::start().await;
    for name in ["c", "a", "e", "b", "d"] {
        node.create(name, Strategy::LastWriteWins).await;
    }
    let mut names = Vec::new();
    let mut request = ListNamespacesRequest {
        page_size: 2,
        page_token: Vec::new(),
    };
    loop {
        let page = node
            .namespaces()
            .list(request.clone())
            .await
            .expect("list")
            .into_inner();
        assert!(page.namespaces.len() <= 2);
        names.extend(page.namespaces.into_iter().map(|namespace| namespace.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(
        names,
        ["a", "b", "c", "d", "e"],
        "and the reserved ones are not among them"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_readiness() {
    let node = Node::start().await;
    for service in ["", "continuum.v1.Concepts", "continuum.v1.Namespaces"] {
        let mut client = HealthClient::new(node.channel.clone());
        let request = || HealthCheckRequest {
            service: service.to_owned(),
        };
        super::super::set_ready(&node.health, true).await;
        assert_eq!(
            client.check(request()).await.expect("check").into_inner().status(),
            ServingStatus::Serving,
            "{service}"
        );
        super::super::set_ready(&node.health, false).await;
        assert_eq!(
            client.check(request()).await.expect("check").into_inner().status(),
            ServingStatus::NotServing,
            "{service}"
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_method_and_code() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    for _ in 0..2 {
        node.get("notes", "k").await.expect_err("absent");
    }
    let invented = reserved::call(&node, "/continuum.v1.Concepts/Invented", Vec::new()).await;
    assert_eq!(invented.expect_err("no such call").code(), Code::Unimplemented);
    let counted = node.metrics.render();
    for (method, code, calls) in [
        ("/continuum.v1.Concepts/Get", "NOT_FOUND", 2),
        ("/continuum.v1.Namespaces/Create", "OK", 1),
        ("unknown", "UNIMPLEMENTED", 1),
    ] {
        let line = format!("continuum_grpc_requests_total{{method=\"{method}\",code=\"{code}\"}} {calls}");
        assert!(counted.contains(&line), "{line} is missing of\n{counted}");
    }
    assert!(counted.contains("continuum_grpc_request_duration_seconds_count{method=\"/continuum.v1.Concepts/Get\"} 2"));
    assert!(!counted.contains("Invented"), "labels never come from the caller");
    node.stop().await;
}

const SERVICES: [&str; 5] = [
    "continuum.v1.Concepts",
    "continuum.v1.Namespaces",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// One function per version of the protocol; the two differ in their module names alone.
macro_rules! reflection {
    ($test:ident, $version:ident, $own:expr) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let node = Node::start().await;
            let ask = async |message_request: MessageRequest| {
                let request = ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(message_request),
                };
                let mut client = ServerReflectionClient::new(node.channel.clone());
                let mut answers = client
                    .server_reflection_info(tokio_stream::once(request))
                    .await
                    .expect("answers")
                    .into_inner();
                answers
                    .message()
                    .await
                    .expect("an answer")
                    .expect("one")
                    .message_response
                    .expect("filled")
            };
            let MessageResponse::ListServicesResponse(listed) = ask(MessageRequest::ListServices(String::new())).await
            else {
                panic!("a list of services")
            };
            let names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
            for service in SERVICES
                .iter()
                .filter(|service| !service.contains("reflection") || **service == $own)
            {
                assert!(
                    names.iter().any(|name| name == service),
                    "{service} is missing of {names:?}"
                );
            }
            let symbol = MessageRequest::FileContainingSymbol("continuum.v1.Concepts".to_owned());
            let MessageResponse::FileDescriptorResponse(files) = ask(symbol).await else {
                panic!("a file")
            };
            let file = FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice()).expect("a descriptor");
            assert_eq!(file.package(), "continuum.v1");
            node.stop().await;
        }
    };
}

reflection!(
    reflection_v1_describes_every_service,
    v1,
    "grpc.reflection.v1.ServerReflection"
);
reflection!(
    reflection_v1alpha_describes_every_service,
    v1alpha,
    "grpc.reflection.v1alpha.ServerReflection"
);

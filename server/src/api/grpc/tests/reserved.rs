//! `shared` and `system` are closed to every call there is: the calls are read from the descriptors, so that one added
//! tomorrow is walked tomorrow.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};
use proto::v1::{
    ImportStatesResponse, ListNamespacesRequest, ListRequest, Strategy, WriteResponse, import_states_response,
    write_response::Outcome,
};
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::node::{Node, reason, register};

/// Calls that name no namespace, and what shows that they reveal nothing of the reserved ones, or why they may.
const NAMELESS: [(&str, &str); 27] = [
    (
        "/continuum.v1.Namespaces/List",
        "namespaces_are_listed_by_name_in_pages, and the test below",
    ),
    ("/continuum.v1.Admin/Status", "counts only"),
    (
        "/continuum.v1.Admin/CreateSnapshot",
        "for operators: everything, as files",
    ),
    ("/continuum.v1.Admin/ListSnapshots", "names of snapshots"),
    ("/continuum.v1.Admin/DeleteSnapshot", "names of snapshots"),
    ("/continuum.v1.Admin/Backup", "for operators: everything, as files"),
    ("/continuum.v1.Admin/Verify", "for operators: keys of what is damaged"),
    ("/continuum.v1.Admin/GetLogLevel", "of the process"),
    ("/continuum.v1.Admin/SetLogLevel", "of the process"),
    (
        "/continuum.v1.Admin/ImportPool",
        "for operators: goes through the ledger's own rules",
    ),
    ("/continuum.v1.Cluster/Status", "members only"),
    ("/continuum.v1.Cluster/Init", "members only"),
    ("/continuum.v1.Cluster/Invite", "members only"),
    ("/continuum.v1.Cluster/SetRole", "names of members"),
    ("/continuum.v1.Cluster/Remove", "names of members"),
    ("/continuum.v1.Cluster/HandOver", "names of members"),
    ("/continuum.v1.Cluster/Digest", "a sum"),
    ("/continuum.v1.Peers/Join", "only who has a token of the cluster"),
    (
        "/continuum.v1.Peers/Meet",
        "nodes that form a cluster; there are no namespaces yet",
    ),
    (
        "/continuum.v1.Peers/Vote",
        "only members: everything is replicated to them",
    ),
    ("/continuum.v1.Peers/Append", "only members"),
    ("/continuum.v1.Peers/Received", "only members"),
    ("/continuum.v1.Peers/Install", "only members"),
    ("/continuum.v1.Peers/TransferLeader", "only members"),
    ("/continuum.v1.Peers/Propose", "only members"),
    ("/continuum.v1.Peers/ReadIndex", "only members"),
    ("/continuum.v1.Peers/Clock", "a time"),
];

/// The fields by which messages name a namespace: `name` only where a namespace is all that has one.
fn names_a_namespace(message: &DescriptorProto, field: &str) -> bool {
    let of_namespaces = ["Namespace", "SetPolicy"]
        .iter()
        .any(|part| message.name().contains(part));
    field == "namespace" || field == "name" && of_namespaces
}

/// One call of `continuum.v1`, as the descriptors have it.
struct Call {
    path: String,
    /// Where a request may name a namespace: the numbers of the fields that lead there. A batch names one in each write.
    ways: Vec<Vec<u32>>,
}

fn calls() -> Vec<Call> {
    let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).expect("the descriptors of this build");
    let ours: Vec<_> = set
        .file
        .iter()
        .filter(|file| file.package() == "continuum.v1")
        .collect();
    let messages: Vec<&DescriptorProto> = ours.iter().flat_map(|file| &file.message_type).collect();
    let mut calls = Vec::new();
    for service in ours.iter().flat_map(|file| &file.service) {
        for method in &service.method {
            let input = method.input_type().trim_start_matches(".continuum.v1.");
            let message = messages
                .iter()
                .find(|message| message.name() == input)
                .expect("requests are messages of ours");
            let path = format!("/continuum.v1.{}/{}", service.name(), method.name());
            let ways = ways(message, &messages);
            calls.push(Call { path, ways });
        }
    }
    calls
}

/// Every way from `message` to a field that names a namespace, through the messages inside it.
fn ways(message: &DescriptorProto, messages: &[&DescriptorProto]) -> Vec<Vec<u32>> {
    let mut found = Vec::new();
    for field in &message.field {
        let number = field.number().unsigned_abs();
        if names_a_namespace(message, field.name()) {
            assert_eq!(field.r#type(), Type::String, "{}", message.name());
            found.push(vec![number]);
        }
        let inner = field.type_name().trim_start_matches(".continuum.v1.");
        if let Some(inner) = messages.iter().find(|message| message.name() == inner) {
            let rest = ways(inner, messages).into_iter();
            found.extend(rest.map(|rest| [vec![number], rest].concat()));
        }
    }
    found
}

/// Bytes as they are.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; bytes::Buf::remaining(buffer)];
        bytes::Buf::copy_to_slice(buffer, &mut item);
        Ok(Some(item))
    }
}

pub(super) async fn call(node: &Node, path: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut client = tonic::client::Grpc::new(node.channel.clone());
    client.ready().await.expect("connected");
    let path = path.parse().expect("a path");
    // On the wire every call is a stream both ways: the first message that comes back will do.
    let request = Request::new(tokio_stream::once(body));
    let mut answer = client.streaming(request, path, Raw).await?.into_inner();
    Ok(answer.message().await?.unwrap_or_default())
}

/// A request that names a namespace in one place.
fn naming(way: &[u32], name: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let (last, outer) = way.split_last().expect("a way has at least one step");
    prost::encoding::string::encode(*last, &name.to_owned(), &mut body);
    for field in outer.iter().rev() {
        let mut whole = Vec::new();
        prost::encoding::bytes::encode(*field, &body, &mut whole);
        body = whole;
    }
    body
}

/// Every way to name a namespace, with its call.
fn all_ways() -> Vec<(String, Vec<u32>)> {
    let one = |Call { path, ways }| ways.into_iter().map(move |way| (String::clone(&path), way));
    calls().into_iter().flat_map(one).collect()
}

/// How a request is refused.
async fn refusal(node: &Node, path: &str, body: Vec<u8>) -> Status {
    match call(node, path, body).await {
        Err(refused) => refused,
        Ok(answer) if path.ends_with("/Write") => {
            let answer = WriteResponse::decode(answer.as_slice()).expect("an acknowledgement");
            let Some(Outcome::Fault(fault)) = answer.outcome else {
                panic!("{path} acknowledged {answer:?}")
            };
            let message = fault.message.clone();
            Status::with_details(Code::from_i32(fault.code), message, fault.encode_to_vec().into())
        }
        Ok(answer) if path.ends_with("/ImportStates") => {
            let answer = ImportStatesResponse::decode(answer.as_slice()).expect("an acknowledgement");
            let Some(import_states_response::Outcome::Fault(fault)) = answer.outcome else {
                panic!("{path} acknowledged {answer:?}")
            };
            let message = fault.message.clone();
            Status::with_details(Code::from_i32(fault.code), message, fault.encode_to_vec().into())
        }
        Ok(answer) => panic!("{path} answered {answer:?}"),
    }
}

#[test]
fn every_call_names_a_namespace_or_is_listed_as_nameless() {
    let (named, nameless): (Vec<Call>, Vec<Call>) = calls().into_iter().partition(|call| !call.ways.is_empty());
    assert!(named.len() >= 7, "the walk found only {} calls", named.len());
    let nameless: BTreeSet<String> = nameless.into_iter().map(|call| call.path).collect();
    let listed: BTreeSet<String> = NAMELESS.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(
        nameless, listed,
        "a new call must name its namespace, or say here why it needs none"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_refuses_the_reserved_names() {
    let node = Node::start().await;
    for name in ["shared", "system"] {
        for (path, way) in all_ways() {
            let refused = refusal(&node, &path, naming(&way, name)).await;
            assert_eq!(
                refused.code(),
                Code::PermissionDenied,
                "{path} {way:?} {name}: {refused:?}"
            );
            assert_eq!(reason(&refused), "RESERVED_NAMESPACE", "{path} {way:?} {name}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_resemble_the_reserved_ones_reach_nothing() {
    let node = Node::start().await;
    let tricks = [
        "",
        " shared",
        "shared ",
        "Shared",
        "SYSTEM",
        "shared\0",
        "shared/",
        "./shared",
        "ｓｈａｒｅｄ",
        "\u{1}",
        "0",
        "1",
        "sha",
        "system.",
    ];
    for name in tricks {
        for (path, way) in all_ways() {
            if path.ends_with("/Create") || name.is_empty() && path.ends_with("/Compact") {
                continue; // some of these are good names for a new namespace; none means everything
            }
            let refused = refusal(&node, &path, naming(&way, name)).await;
            assert!(
                matches!(refused.code(), Code::InvalidArgument | Code::NotFound),
                "{path} {name:?}: {refused:?}"
            );
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_from_elsewhere_do_not_open_the_reserved_namespaces() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    for key in ["a", "b"] {
        node.put(register("notes", key, "1")).await.expect("put");
    }
    let (_, token) = node
        .list_keys(ListRequest {
            namespace: "notes".into(),
            page_size: 1,
            ..ListRequest::default()
        })
        .await;
    let context = node.get("notes", "a").await.expect("get").context;
    for name in ["shared", "system"] {
        let list = ListRequest {
            namespace: name.into(),
            page_size: 1,
            page_token: token.clone(),
            ..ListRequest::default()
        };
        assert_eq!(
            node.client().list(list).await.expect_err("list").code(),
            Code::PermissionDenied
        );
        let delete = node.delete(name, "a", context.clone()).await.expect_err("delete");
        assert_eq!(delete.code(), Code::PermissionDenied);
    }
    let listed = node
        .namespaces()
        .list(ListNamespacesRequest::default())
        .await
        .expect("list")
        .into_inner();
    assert_eq!(listed.namespaces.len(), 1);
    assert!(
        listed
            .namespaces
            .iter()
            .all(|namespace| namespace.id >= 16 && namespace.name == "notes")
    );
    node.stop().await;
}

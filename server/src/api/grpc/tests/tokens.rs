//! Forged, foreign and old tokens.

use engine::{
    crdt::{Dot, VersionVector},
    identity::Actor,
    keyspace::NamespaceId,
};
use proto::v1::{ListNamespacesRequest, ListRequest, PutRequest, Strategy};
use tonic::Code;

use super::{
    super::token::{self, Key, Subject},
    node::{Node, reason, register},
};

const NOTES: NamespaceId = NamespaceId(16);

fn vector() -> VersionVector {
    let mut vector = VersionVector::default();
    vector.insert(&Dot {
        actor: Actor::new("replica-1", u64::MAX),
        counter: 3,
    });
    vector.insert(&Dot {
        actor: Actor::new("replica-2", 0),
        counter: 1,
    });
    vector
}

#[test]
fn a_context_opens_for_its_key_under_its_cluster_key_only() {
    let key = Key::new([7; 32]);
    let sealed = token::seal_context(&key, NOTES, b"k", &vector());
    assert_eq!(
        token::open_context(&key, NOTES, b"k", &sealed).expect("its own"),
        vector()
    );
    let refused = [
        token::open_context(&key, NOTES, b"l", &sealed),
        token::open_context(&key, NamespaceId(17), b"k", &sealed),
        token::open_context(&Key::new([8; 32]), NOTES, b"k", &sealed),
    ];
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    assert!(
        token::open(&key, Subject::ConceptPage(NOTES, b"k"), &sealed).is_err(),
        "a context is no page token"
    );
}

#[test]
fn every_changed_or_missing_byte_is_noticed() {
    let key = Key::new([7; 32]);
    let sealed = token::seal_context(&key, NOTES, b"k", &vector());
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut forged = sealed.clone();
            forged[at] ^= 1 << bit;
            assert!(
                token::open_context(&key, NOTES, b"k", &forged).is_err(),
                "byte {at}, bit {bit}"
            );
        }
        assert!(
            token::open_context(&key, NOTES, b"k", &sealed[..at]).is_err(),
            "cut at {at}"
        );
    }
    let longer = [sealed.as_slice(), &[0]].concat();
    assert!(token::open_context(&key, NOTES, b"k", &longer).is_err());
}

#[test]
fn a_token_keeps_its_bytes() {
    let sealed = token::seal_context(&Key::new([7; 32]), NOTES, b"k", &vector());
    let shown: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = include_str!("context.golden").trim();
    assert_eq!(
        shown, golden,
        "contexts in clients' hands must stay good: a change of format needs a new version byte"
    );
}

#[test]
fn the_key_is_not_shown() {
    assert_eq!(format!("{:?}", Key::new([7; 32])), "Key(…)");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_foreign_and_old_contexts_are_refused_by_the_service() {
    let node = Node::with_namespace("notes", Strategy::KeepSiblings).await;
    node.create("other", Strategy::KeepSiblings).await;
    for (namespace, key) in [("notes", "k"), ("notes", "l"), ("other", "k")] {
        node.put(register(namespace, key, "1")).await.expect("put");
    }
    let good = node.get("notes", "k").await.expect("get").context;
    let mut forged = good.clone();
    *forged.last_mut().expect("not empty") ^= 1;
    let mut old = good.clone();
    old[0] = 0;
    let cases = [
        (forged, "TOKEN_INVALID"),
        (old, "TOKEN_FORMAT"),
        (b"\x01short".to_vec(), "TOKEN_INVALID"),
        (node.get("notes", "l").await.expect("get").context, "TOKEN_INVALID"),
        (node.get("other", "k").await.expect("get").context, "TOKEN_INVALID"),
    ];
    for (context, expected) in cases {
        let put = node
            .put(PutRequest {
                context: context.clone(),
                ..register("notes", "k", "2")
            })
            .await
            .expect_err("put");
        assert_eq!((put.code(), reason(&put).as_str()), (Code::InvalidArgument, expected));
        let delete = node.delete("notes", "k", context).await.expect_err("delete");
        assert_eq!(
            (delete.code(), reason(&delete).as_str()),
            (Code::InvalidArgument, expected)
        );
    }
    node.put(PutRequest {
        context: good,
        ..register("notes", "k", "2")
    })
    .await
    .expect("the good one");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_is_good_for_its_own_list_only() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.create("other", Strategy::LastWriteWins).await;
    for key in ["a1", "a2", "a3"] {
        node.put(register("notes", key, "1")).await.expect("put");
    }
    let request = ListRequest {
        namespace: "notes".into(),
        prefix: "a".into(),
        page_size: 1,
        ..ListRequest::default()
    };
    let (_, token) = node.list_keys(request.clone()).await;
    let context = node.get("notes", "a1").await.expect("get").context;
    let names = node
        .namespaces()
        .list(ListNamespacesRequest {
            page_size: 1,
            page_token: Vec::new(),
        })
        .await
        .expect("list");
    let names_token = names.into_inner().next_page_token;
    let with = |namespace: &str, prefix: &str, page_token: &[u8]| ListRequest {
        namespace: namespace.to_owned(),
        prefix: prefix.to_owned(),
        page_size: 1,
        page_token: page_token.to_vec(),
        ..ListRequest::default()
    };
    let foreign = [
        with("other", "a", &token),
        with("notes", "", &token),
        with("notes", "a1", &token),
        with("notes", "a", &context),
        with("notes", "a", &names_token),
    ];
    for request in foreign {
        let refused = node.client().list(request).await.expect_err("foreign");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "TOKEN_INVALID")
        );
    }
    let wrong = ListNamespacesRequest {
        page_size: 1,
        page_token: token.clone(),
    };
    assert_eq!(
        node.namespaces().list(wrong).await.expect_err("foreign").code(),
        Code::InvalidArgument
    );
    let (keys, _) = node
        .list_keys(ListRequest {
            page_token: token,
            ..request
        })
        .await;
    assert_eq!(keys, ["a2"]);
    node.stop().await;
}

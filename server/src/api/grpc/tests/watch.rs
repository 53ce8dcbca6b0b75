//! Watch: every change, in order, from any position the log still has; and everything that ends it.

use std::{collections::BTreeMap, time::Duration};

use engine::keyspace::NamespaceId;
use proto::v1::{
    Change, Concept, DeleteRequest, PutRequest, ResyncReason, ScanRequest, SetChange, Strategy, WatchRequest,
    WatchResponse, batch_write, change, concept, put_request::Write, watch_response::Event,
};
use tonic::{Code, Request, Status, Streaming};

use super::{
    super::{
        Settings,
        token::{self, Key, Position},
    },
    node::{Node, batch, put_all, put_write, reason, register},
};
use crate::runtime::{tasks, time};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(20);

pub(super) fn watching(prefix: &str, resume_token: Vec<u8>) -> WatchRequest {
    WatchRequest {
        namespace: "notes".into(),
        prefix: prefix.into(),
        resume_token,
        ..WatchRequest::default()
    }
}

/// A watch as its caller holds it.
pub(super) struct Watching {
    messages: Streaming<WatchResponse>,
    /// Changes received and not asked for yet.
    ahead: Vec<Change>,
    pub(super) token: Vec<u8>,
    pub(super) lsn: u64,
}

impl Watching {
    /// Begins, and reads the first message.
    pub(super) async fn begin(node: &Node, request: WatchRequest) -> Result<Watching, Status> {
        let messages = node.client().watch(request).await?.into_inner();
        let mut watching = Watching {
            messages,
            ahead: Vec::new(),
            token: Vec::new(),
            lsn: 0,
        };
        match watching.event().await? {
            Some(Event::Progress(_)) => Ok(watching),
            other => panic!("expected progress first, found {other:?}"),
        }
    }

    async fn event(&mut self) -> Result<Option<Event>, Status> {
        let message = time::within(LONG, self.messages.message()).await.expect("in time")?;
        let Some(message) = message else { return Ok(None) };
        assert!(message.lsn >= self.lsn || message.lsn == 0, "never back");
        (self.lsn, self.token) = (message.lsn, message.resume_token);
        Ok(Some(message.event.expect("always there")))
    }

    /// The next `count` changes as `key=json`, deletions as `key-`.
    pub(super) async fn changes(&mut self, count: usize) -> Vec<String> {
        // Progress goes on where changes are missed: the time for each message alone would never be over.
        let collected = time::within(LONG, self.collect(count)).await;
        let changes = collected.unwrap_or_else(|| panic!("{count} changes do not come"));
        changes.iter().map(shown).collect()
    }

    /// The next change, which must be a put.
    pub(super) async fn concept(&mut self) -> Concept {
        let next = time::within(LONG, self.collect(1)).await.expect("in time").remove(0);
        match next.change {
            Some(change::Change::Put(concept)) => concept,
            other => panic!("expected a put, found {other:?}"),
        }
    }

    async fn collect(&mut self, count: usize) -> Vec<Change> {
        while self.ahead.len() < count {
            match self.event().await.expect("no error") {
                Some(Event::Changes(changes)) => self.ahead.extend(changes.changes),
                Some(Event::Progress(_)) => {}
                other => panic!("expected {count} changes, found {:?} and {other:?}", self.ahead.len()),
            }
        }
        self.ahead.drain(..count).collect()
    }
}

fn shown(change: &Change) -> String {
    match change.change.as_ref().expect("always there") {
        change::Change::Deleted(key) => format!("{key}-"),
        change::Change::Put(concept) => format!("{}={}", concept.key, value(concept)),
    }
}

fn value(concept: &Concept) -> String {
    match concept.value.as_ref().expect("always there") {
        concept::Value::Register(value) => value.json.clone(),
        concept::Value::Set(set) => set.elements.join(","),
        other => panic!("expected a register or a set, found {other:?}"),
    }
}

/// What is kept of the log, and for whom, once those who left have let go.
async fn followers_become(node: &Node, expected: &[&str]) {
    let names = || -> Vec<String> { node.engine.followers().into_iter().map(|(name, _)| name).collect() };
    for _ in 0..400 {
        if names() == expected {
            return;
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    panic!("expected {expected:?}, found {:?}", names());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_now_brings_every_change_in_order() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.create("other", Strategy::LastWriteWins).await;
    node.put(register("notes", "a/old", "0")).await.expect("put");
    let mut watching = Watching::begin(&node, watching("a/", Vec::new())).await.expect("watch");

    node.put(register("notes", "a/1", "1")).await.expect("put");
    node.put(register("notes", "b", "1")).await.expect("put");
    node.put(register("other", "a/1", "9")).await.expect("put");
    node.put(register("notes", "a/1", "2")).await.expect("put");
    node.delete("notes", "a/old", Vec::new()).await.expect("delete");
    node.delete("notes", "a/never", Vec::new()).await.expect("delete");
    let set = Write::Set(SetChange {
        add: vec!["1".into(), "2".into()],
        remove: Vec::new(),
    });
    node.put(PutRequest {
        write: Some(set),
        ..register("notes", "a/set", "")
    })
    .await
    .expect("put");
    assert_eq!(watching.changes(4).await, ["a/1=1", "a/1=2", "a/old-", "a/set=1,2"]);

    // A batch shows of each key what it is afterwards.
    let gone = DeleteRequest {
        namespace: "notes".into(),
        key: "a/1".into(),
        ..DeleteRequest::default()
    };
    let writes = vec![
        put_write(register("notes", "a/x", "1")),
        put_write(register("notes", "a/1", "3")),
        put_write(register("notes", "a/x", "2")),
        proto::v1::BatchWrite {
            write: Some(batch_write::Write::Delete(gone)),
        },
        put_write(register("notes", "a/y", "1")),
    ];
    batch(&node, writes).await.expect("batch");
    node.put(register("notes", "a/end", "1")).await.expect("put");
    assert_eq!(watching.changes(4).await, ["a/x=2", "a/1-", "a/y=1", "a/end=1"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concepts_of_a_watch_can_be_written_back() {
    let node = Node::with_namespace("notes", Strategy::KeepSiblings).await;
    let mut full = node
        .client()
        .watch(watching("", Vec::new()))
        .await
        .expect("watch")
        .into_inner();
    let mut lean = node
        .client()
        .watch(WatchRequest {
            omit_contexts: true,
            ..watching("", Vec::new())
        })
        .await
        .expect("watch")
        .into_inner();
    for stream in [&mut full, &mut lean] {
        stream.message().await.expect("no error").expect("progress");
    }
    node.put(register("notes", "k", "1")).await.expect("put");
    let mut concepts = Vec::new();
    for stream in [&mut full, &mut lean] {
        let message = stream.message().await.expect("no error").expect("a change");
        let Some(Event::Changes(mut changes)) = message.event else {
            panic!("{message:?}")
        };
        match changes.changes.remove(0).change {
            Some(change::Change::Put(concept)) => concepts.push(concept),
            other => panic!("{other:?}"),
        }
    }
    assert!(concepts[1].context.is_empty() && concepts[1].clock.is_empty());
    let put = PutRequest {
        if_context: Some(concepts[0].context.clone()),
        ..register("notes", "k", "2")
    };
    node.put(put).await.expect("nobody wrote since");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_and_the_watch_after_it_miss_nothing() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    for round in 0..20 {
        let mut client = node.client();
        let writer = tasks::spawn(async move {
            for count in 0..60 {
                let key = format!("k{:02}", count * 7 % 20);
                let put = register("notes", &key, &format!("[{round},{count}]"));
                client.put(put).await.expect("put");
            }
        });
        // Somewhere in the middle of the writing.
        time::sleep(Duration::from_millis(round)).await;
        let request = ScanRequest {
            namespace: "notes".into(),
            ..ScanRequest::default()
        };
        let mut scan = node.client().scan(request).await.expect("scan").into_inner();
        let mut state = BTreeMap::new();
        let mut token = Vec::new();
        while let Some(message) = scan.message().await.expect("scan") {
            if token.is_empty() {
                token = message.resume_token;
            }
            state.extend(
                message
                    .concepts
                    .iter()
                    .map(|concept| (concept.key.clone(), value(concept))),
            );
        }
        writer.await.expect("written");
        let end = node.put(register("notes", "~", &round.to_string())).await;
        end.expect("put");
        let mut watching = Watching::begin(&node, watching("", token)).await.expect("watch");
        loop {
            let change = watching.changes(1).await.remove(0);
            let (key, value) = change.split_once('=').expect("no deletions");
            state.insert(key.to_owned(), value.to_owned());
            if change == format!("~={round}") {
                break;
            }
        }
        for (key, value) in &state {
            let read = node.get("notes", key).await.expect("get");
            assert_eq!(value, &self::value(&read), "round {round}: {key}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_on_behind_its_message_and_nothing_is_missed() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let mut first = Watching::begin(&node, watching("", Vec::new())).await.expect("watch");
    for count in 0..10 {
        node.put(register("notes", "k", &count.to_string())).await.expect("put");
    }
    let mut seen = first.changes(4).await;
    seen.extend(first.ahead.iter().map(shown));
    let token = first.token.clone();
    drop(first);
    for count in 10..1_500 {
        if count % 100 == 0 {
            node.put(register("notes", "other", "1")).await.expect("put");
        }
        node.put(register("notes", "k", &count.to_string())).await.expect("put");
    }
    // Nobody watched meanwhile: these come from the log itself.
    let mut second = Watching::begin(&node, watching("k", Vec::new())).await.expect("watch");
    drop(std::mem::take(&mut second.token));
    let mut resumed = Watching::begin(&node, watching("", token)).await.expect("watch");
    while seen.last().is_none_or(|last| last != "k=1499") {
        seen.extend(resumed.changes(1).await);
    }
    seen.retain(|change| change.starts_with("k="));
    let expected: Vec<String> = (0..1_500).map(|count| format!("k={count}")).collect();
    assert_eq!(seen, expected);
    // And those that follow from the feed again.
    node.put(register("notes", "k", "1500")).await.expect("put");
    assert_eq!(resumed.changes(1).await, ["k=1500"]);
    assert_eq!(second.changes(1).await, ["k=1500"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_falls_behind_the_feed_and_still_misses_nothing() {
    let node = Node::with_settings(Settings {
        recent_bytes_max: 1,
        ..Settings::default()
    })
    .await;
    let mut slow = Watching::begin(&node, watching("", Vec::new())).await.expect("watch");
    let padding = "x".repeat(50_000);
    for count in 0..200 {
        let put = register("notes", "k", &format!("[{count},\"{padding}\"]"));
        node.put(put).await.expect("put");
    }
    let mut seen = Vec::new();
    for change in slow.changes(200).await {
        let count: u64 = change["k=[".len()..]
            .split(',')
            .next()
            .expect("a number")
            .parse()
            .expect("a number");
        seen.push(count);
    }
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    node.put(register("notes", "k", "1")).await.expect("put");
    assert_eq!(slow.changes(1).await, ["k=1"]);
    followers_become(&node, &["watch"]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_several_messages_is_seen_whole_after_a_break() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let mut watching_all = Watching::begin(&node, watching("", Vec::new())).await.expect("watch");
    let begin = watching_all.token.clone();
    let value = format!("\"{}\"", "x".repeat(20_000));
    put_all(&node, "notes", (0..50).map(|key| (format!("{key:02}"), value.clone()))).await;
    let Some(Event::Changes(first)) = watching_all.event().await.expect("no error") else {
        panic!("changes")
    };
    assert!(first.changes.len() < 50, "1 MB comes in messages of 256 KiB");
    let mut again = Watching::begin(&node, watching("", watching_all.token.clone()))
        .await
        .expect("watch");
    let keys = |changes: Vec<String>| -> Vec<String> { changes.iter().map(|change| change[..2].to_owned()).collect() };
    let expected: Vec<String> = (0..50).map(|key| format!("{key:02}")).collect();
    assert_eq!(
        keys(again.changes(50).await),
        expected,
        "from the first change of the batch"
    );
    let mut whole = Watching::begin(&node, watching("", begin)).await.expect("watch");
    assert_eq!(keys(whole.changes(50).await), expected);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_made_where_nothing_matches() {
    let node = Node::with_settings(Settings {
        progress_interval: Duration::from_millis(100),
        ..Settings::default()
    })
    .await;
    let mut watching = Watching::begin(&node, watching("a/", Vec::new())).await.expect("watch");
    let (begin, token) = (watching.lsn, watching.token.clone());
    for _ in 0..3 {
        node.put(register("notes", "b", "1")).await.expect("put");
    }
    while watching.lsn < begin + 3 {
        let event = watching.event().await.expect("no error");
        assert!(matches!(event, Some(Event::Progress(_))), "{event:?}");
    }
    assert_ne!(watching.token, token);
    // Also where nothing at all happens.
    assert!(matches!(watching.event().await, Ok(Some(Event::Progress(_)))));
    node.stop().await;
}

/// Why a watch must begin anew: the only message, and the end.
async fn resync(node: &Node, resume_token: Vec<u8>) -> ResyncReason {
    let mut messages = node
        .client()
        .watch(watching("", resume_token))
        .await
        .expect("watch")
        .into_inner();
    loop {
        let message = messages.message().await.expect("no error").expect("a resync");
        match message.event {
            Some(Event::Progress(_)) => {}
            Some(Event::Resync(resync)) => {
                assert!(messages.message().await.expect("no error").is_none(), "it is the last");
                return resync.reason();
            }
            other => panic!("expected a resync, found {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_lead_nowhere_are_answered_by_a_resync() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let id = NamespaceId::FIRST_USER;
    let position = Position {
        cluster: node.engine.cluster().to_vec(),
        incarnation: node.engine.actor().incarnation,
        lsn: node.engine.committed().borrow().0,
    };
    let key = Key::new(*node.engine.context_key());
    let seal = |position: &Position| token::seal_position(&key, id, b"", position);
    Watching::begin(&node, watching("", seal(&position)))
        .await
        .expect("a good one");

    let elsewhere = Position {
        incarnation: 7,
        ..position.clone()
    };
    assert_eq!(resync(&node, seal(&elsewhere)).await, ResyncReason::OtherLog);
    let ahead = Position {
        lsn: position.lsn + 1,
        ..position.clone()
    };
    assert_eq!(resync(&node, seal(&ahead)).await, ResyncReason::LogBehind);
    let foreign = Position {
        cluster: vec![7; 16],
        ..position.clone()
    };
    let foreign = token::seal_position(&Key::new([9; 32]), id, b"", &foreign);
    assert_eq!(resync(&node, foreign).await, ResyncReason::OtherCluster);

    let forged = token::seal_position(&Key::new([9; 32]), id, b"", &position);
    let other_prefix = token::seal_position(&key, id, b"a", &position);
    let other_namespace = token::seal_position(&key, NamespaceId(17), b"", &position);
    let page = token::seal(&key, token::Subject::ConceptPage(id, b""), &[]);
    for bad in [forged, other_prefix, other_namespace, page, vec![1], vec![1; 40]] {
        let refused = node.client().watch(watching("", bad)).await.expect_err("refused");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "TOKEN_INVALID")
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_no_longer_reaches_back_is_answered_by_a_resync() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let watching_none = Watching::begin(&node, watching("none", Vec::new()))
        .await
        .expect("watch");
    drop(watching_none);
    let early = Watching::begin(&node, watching("", Vec::new()))
        .await
        .expect("watch")
        .token;
    let value = format!("\"{}\"", "x".repeat(60_000));
    put_all(&node, "notes", (0..400).map(|key| (key.to_string(), value.clone()))).await;
    followers_become(&node, &[]).await;
    // An orderly stop flushes, and nothing keeps the first segments.
    let node = node.restarted().await;
    let late = Watching::begin(&node, watching("", Vec::new()))
        .await
        .expect("watch")
        .token;
    assert_eq!(resync(&node, early).await, ResyncReason::LogRetired);
    node.put(register("notes", "k", "1")).await.expect("put");
    let mut resumed = Watching::begin(&node, watching("", late)).await.expect("watch");
    assert_eq!(resumed.changes(1).await, ["k=1"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_too_long_to_catch_up_begins_anew() {
    let node = Node::with_settings(Settings {
        catch_up_max: Duration::ZERO,
        ..Settings::default()
    })
    .await;
    let early = Watching::begin(&node, watching("", Vec::new()))
        .await
        .expect("watch")
        .token;
    followers_become(&node, &[]).await;
    node.put(register("notes", "k", "1")).await.expect("put");
    assert_eq!(resync(&node, early).await, ResyncReason::TooSlow);
    followers_become(&node, &[]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_kept_for_nobody_who_has_gone() {
    let node = Node::with_settings(Settings {
        watches_max: 2,
        // That nobody listens is noticed at once, not when there is something to say.
        progress_interval: Duration::from_secs(600),
        ..Settings::default()
    })
    .await;
    let one = Watching::begin(&node, watching("", Vec::new())).await.expect("watch");
    let two = Watching::begin(&node, watching("", Vec::new())).await.expect("watch");
    followers_become(&node, &["watch"]).await;
    let full = node
        .client()
        .watch(watching("", Vec::new()))
        .await
        .expect_err("two at a time");
    assert_eq!(
        (full.code(), reason(&full).as_str()),
        (Code::ResourceExhausted, "WATCHES_FULL")
    );
    drop((one, two));
    followers_become(&node, &[]).await;
    let mut late = Request::new(watching("", Vec::new()));
    late.metadata_mut()
        .insert("grpc-timeout", "1S".parse().expect("a value"));
    let mut messages = node
        .client()
        .watch(late)
        .await
        .expect("there is room again")
        .into_inner();
    messages.message().await.expect("no error").expect("progress");
    let over = messages.message().await.expect_err("the time is over");
    assert_eq!(over.code(), Code::DeadlineExceeded);
    followers_become(&node, &[]).await;

    let mut stopped = Watching::begin(&node, watching("", Vec::new())).await.expect("watch");
    node.faces.stop();
    let end = stopped.event().await.expect_err("it was ended");
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unavailable, "STOPPING"));
    followers_become(&node, &[]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_nobody_reads_is_ended() {
    let node = Node::with_settings(Settings {
        stall_max: Duration::from_millis(300),
        ..Settings::default()
    })
    .await;
    let mut stalled = Watching::begin(&node, watching("", Vec::new())).await.expect("watch");
    let value = format!("\"{}\"", "x".repeat(60_000));
    put_all(&node, "notes", (0..150).map(|key| (key.to_string(), value.clone()))).await;
    followers_become(&node, &[]).await;
    let ended = loop {
        match stalled.event().await {
            Ok(Some(Event::Changes(_))) => {}
            Ok(other) => panic!("expected changes, found {other:?}"),
            Err(ended) => break ended,
        }
    };
    assert_eq!(
        (ended.code(), reason(&ended).as_str()),
        (Code::Aborted, "STREAM_STALLED")
    );
    // Where it broke off it goes on.
    let mut resumed = Watching::begin(&node, watching("", stalled.token))
        .await
        .expect("watch");
    while resumed.changes(1).await[0].split('=').next() != Some("149") {}
    node.stop().await;
}

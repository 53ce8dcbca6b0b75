//! Admin: what an operator sees and moves, over a real connection.

use std::{collections::HashMap, fs, path::Path, time::Duration};

use engine::backup;
use proto::v1::{
    BackupEnd, BackupRequest, BackupResponse, BackupStart, Concept, CreateSnapshotRequest, DeleteSnapshotRequest,
    Entry, ExportStatesRequest, ImportStatesRequest, KeyState, ListSnapshotsRequest, Received, Seen, StatusRequest,
    Strategy, backup_response::Part, entry, import_states_response::Outcome,
};
use tonic::{Code, Status, Streaming};

use super::node::{Node, put_all, reason, register, sibling};
use crate::runtime::time;

async fn notes(count: usize) -> Node {
    let node = Node::with_namespace("notes", Strategy::KeepSiblings).await;
    // Nothing that compresses: what is streamed shall not fit the buffers on the way.
    let mut bits = 1_u64;
    let mut noise = move || {
        bits = bits
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        format!("{:016x}", bits)
    };
    let all = (0..count).map(|number| {
        let text: String = (0..12).map(|_| noise()).collect();
        (format!("k{number:05}"), format!("\"{text}\""))
    });
    put_all(&node, "notes", all).await;
    node
}

async fn backup(node: &Node, request: BackupRequest) -> Result<Streaming<BackupResponse>, Status> {
    Ok(node.admin().backup(request).await?.into_inner())
}

/// What a caller has of a backup.
#[derive(Default)]
struct Copy {
    start: BackupStart,
    files: HashMap<u32, Vec<u8>>,
    end: Option<BackupEnd>,
}

impl Copy {
    /// Takes messages until the end, or until so many bytes have come.
    async fn take(&mut self, stream: &mut Streaming<BackupResponse>, bytes_max: usize) {
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(message) = stream.message().await.expect("a message")
        {
            match message.part.expect("a part") {
                Part::Start(start) => self.start = start,
                Part::Chunk(chunk) => {
                    bytes += chunk.data.len();
                    let file = self.files.entry(chunk.file).or_default();
                    assert_eq!(file.len() as u64, chunk.offset, "in order, without a gap");
                    file.extend(chunk.data);
                }
                Part::End(end) => self.end = Some(end),
            }
        }
    }

    fn outline(&self) -> backup::Outline {
        backup::Outline::from_json(&self.start.outline).expect("an outline")
    }

    fn manifest(&self) -> backup::Manifest {
        let end = self.end.as_ref().expect("it came to its end");
        backup::Manifest::from_json(&end.manifest).expect("a manifest")
    }

    fn write(&self, directory: &Path) {
        fs::create_dir_all(directory.join(backup::DATABASE)).expect("a directory");
        let end = self.end.as_ref().expect("it came to its end");
        fs::write(directory.join(backup::MANIFEST), &end.manifest).expect("written");
        fs::write(directory.join(backup::MANIFEST_SUM), &end.manifest_sum).expect("written");
        for (number, file) in self.outline().files.iter().enumerate() {
            let content = self.files.get(&u32::try_from(number).expect("few files")).cloned();
            fs::write(directory.join(&file.path), content.unwrap_or_default()).expect("written");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_of_every_row() {
    let node = notes(10).await;
    let status = node
        .admin()
        .status(StatusRequest {})
        .await
        .expect("status")
        .into_inner();
    assert_eq!((status.node.as_str(), status.namespaces), ("node-1", 1));
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(status.cluster, node.engine.cluster());
    assert_eq!(status.lsn, node.engine.committed().borrow().0);
    let log = status.log.expect("the log");
    assert!(
        log.segments == 1 && log.bytes >= 8 << 20 && log.first_lsn == 1,
        "{log:?}"
    );
    let families: Vec<&str> = status.families.iter().map(|family| family.name.as_str()).collect();
    assert!(families.contains(&"concepts") && families.len() == 12, "{families:?}");
    assert!(
        status
            .disk
            .is_some_and(|disk| disk.free_bytes > 0 || disk.needed_bytes > 0)
    );
    assert!(status.resident_bytes > 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_made_listed_and_deleted_by_name() {
    let node = notes(10).await;
    let mut admin = node.admin();
    let create = |name: &str| CreateSnapshotRequest { name: name.to_owned() };
    let made = admin
        .create_snapshot(create("before-the-move"))
        .await
        .expect("made")
        .into_inner();
    let made = made.snapshot.expect("always there");
    assert_eq!(made.lsn, node.engine.committed().borrow().0);
    assert!(backup::verify(Path::new(&made.path), &mut |_, _| {}).is_ok());
    let named = admin.create_snapshot(create("")).await.expect("made").into_inner();
    assert_eq!(named.snapshot.expect("always there").name, "2023-11-14t22-13-20z");

    let again = admin
        .create_snapshot(create("before-the-move"))
        .await
        .expect_err("taken");
    assert_eq!(
        (again.code(), reason(&again).as_str()),
        (Code::AlreadyExists, "SNAPSHOT_EXISTS")
    );
    for name in ["..", ".cut-1", "A", "a/b", "x.partial", &"a".repeat(64)] {
        let refused = admin.create_snapshot(create(name)).await.expect_err(name);
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "SNAPSHOT_NAME"),
            "{name}"
        );
    }

    let listed = admin
        .list_snapshots(ListSnapshotsRequest {})
        .await
        .expect("listed")
        .into_inner();
    let names: Vec<&str> = listed.snapshots.iter().map(|snapshot| snapshot.name.as_str()).collect();
    assert_eq!(names, ["2023-11-14t22-13-20z", "before-the-move"]);
    assert!(
        listed
            .snapshots
            .iter()
            .all(|snapshot| snapshot.damage.is_empty() && snapshot.bytes > 0)
    );

    let delete = DeleteSnapshotRequest {
        name: "before-the-move".to_owned(),
    };
    admin.delete_snapshot(delete.clone()).await.expect("deleted");
    assert!(!Path::new(&made.path).exists());
    let gone = admin.delete_snapshot(delete).await.expect_err("gone");
    assert_eq!(
        (gone.code(), reason(&gone).as_str()),
        (Code::NotFound, "SNAPSHOT_UNKNOWN")
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_listed_as_such() {
    let node = notes(10).await;
    let mut admin = node.admin();
    let made = admin
        .create_snapshot(CreateSnapshotRequest { name: "one".into() })
        .await
        .expect("made");
    let path = made.into_inner().snapshot.expect("always there").path;
    fs::write(Path::new(&path).join(backup::MANIFEST), "{}").expect("written");
    let listed = admin
        .list_snapshots(ListSnapshotsRequest {})
        .await
        .expect("listed")
        .into_inner();
    assert!(!listed.snapshots[0].damage.is_empty());
    assert!(
        backup(
            &node,
            BackupRequest {
                snapshot: "one".into(),
                ..BackupRequest::default()
            }
        )
        .await
        .is_err()
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_streams_a_whole_cut_and_leaves_nothing_behind() {
    let node = notes(5_000).await;
    let lsn = node.engine.committed().borrow().0;
    let mut stream = backup(&node, BackupRequest::default()).await.expect("begun");
    node.put(register("notes", "later", "1")).await.expect("put");
    let mut copy = Copy::default();
    copy.take(&mut stream, usize::MAX).await;
    assert!(copy.end.is_some());
    assert_eq!(
        copy.manifest().lsn.0,
        lsn,
        "everything before the call, and nothing later"
    );
    let target = tempfile::tempdir().expect("a directory");
    copy.write(target.path());
    backup::verify(target.path(), &mut |_, _| {}).expect("sound");
    let kept = || {
        fs::read_dir(node.data_directory().join("snapshots"))
            .expect("a directory")
            .count()
    };
    assert_eq!(
        kept(),
        1,
        "that the last message was sent does not say that it has come"
    );
    drop(stream);
    let release = DeleteSnapshotRequest {
        name: copy.start.id.clone(),
    };
    node.admin().delete_snapshot(release.clone()).await.expect("released");
    assert_eq!(kept(), 0);
    let gone = node.admin().delete_snapshot(release).await.expect_err("gone");
    assert_eq!(reason(&gone), "SNAPSHOT_UNKNOWN");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_broke_goes_on_where_it_was() {
    let node = notes(20_000).await;
    let mut stream = backup(&node, BackupRequest::default()).await.expect("begun");
    let mut copy = Copy::default();
    copy.take(&mut stream, 600_000).await;
    drop(stream);
    assert!(copy.end.is_none());
    let outline = copy.outline();
    let received = copy.files.iter().map(|(number, content)| Received {
        path: outline.files[*number as usize].path.clone(),
        bytes: content.len() as u64,
    });
    let request = BackupRequest {
        resume_id: copy.start.id.clone(),
        received: received.collect(),
        ..BackupRequest::default()
    };
    node.put(register("notes", "later", "1")).await.expect("put");
    let mut stream = backup(&node, request).await.expect("resumed");
    copy.take(&mut stream, usize::MAX).await;
    assert!(copy.end.is_some());
    assert_eq!(copy.outline(), outline, "the same cut");
    assert_eq!(copy.manifest().outline(), outline);
    let target = tempfile::tempdir().expect("a directory");
    copy.write(target.path());
    backup::verify(target.path(), &mut |_, _| {}).expect("sound");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_kept_for_an_hour_and_not_over_a_restart() {
    let node = notes(5_000).await;
    let begin = async |node: &Node| {
        let mut stream = backup(node, BackupRequest::default()).await.expect("begun");
        let mut copy = Copy::default();
        copy.take(&mut stream, 1).await;
        drop(stream);
        while node.snapshots.leases() > 0 {
            time::sleep(Duration::from_millis(5)).await;
        }
        BackupRequest {
            resume_id: copy.start.id,
            ..BackupRequest::default()
        }
    };
    let old = begin(&node).await;
    node.clock.advance_ms(2 * 3_600_000);
    // A new one sweeps the others away.
    let fresh = begin(&node).await;
    let gone = backup(&node, old).await.expect_err("gone");
    assert_eq!(
        (gone.code(), reason(&gone).as_str()),
        (Code::NotFound, "BACKUP_UNKNOWN")
    );
    let node = node.restarted().await;
    let gone = backup(&node, fresh).await.expect_err("gone");
    assert_eq!(reason(&gone), "BACKUP_UNKNOWN");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_streamed_cannot_be_deleted() {
    let node = notes(20_000).await;
    let mut admin = node.admin();
    admin
        .create_snapshot(CreateSnapshotRequest { name: "one".into() })
        .await
        .expect("made");
    let request = BackupRequest {
        snapshot: "one".into(),
        bytes_per_s_max: 1,
        ..BackupRequest::default()
    };
    let mut stream = backup(&node, request.clone()).await.expect("begun");
    let mut copy = Copy::default();
    copy.take(&mut stream, 1).await;
    let _second = backup(&node, request.clone()).await.expect("two may");
    let third = backup(&node, request).await.expect_err("no more");
    assert_eq!(
        (third.code(), reason(&third).as_str()),
        (Code::ResourceExhausted, "BACKUPS_FULL")
    );
    let delete = DeleteSnapshotRequest { name: "one".into() };
    let refused = admin.delete_snapshot(delete).await.expect_err("in use");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "SNAPSHOT_IN_USE")
    );
    node.stop().await;
}

async fn export(node: &Node, omit_deleted: bool) -> Vec<KeyState> {
    let request = ExportStatesRequest {
        namespace: "notes".into(),
        omit_deleted,
        ..ExportStatesRequest::default()
    };
    let mut stream = node.admin().export_states(request).await.expect("begun").into_inner();
    let mut states = Vec::new();
    let mut first = true;
    while let Some(message) = stream.message().await.expect("a message") {
        assert_eq!(message.lsn > 0, first, "the first message tells the position");
        first = false;
        states.extend(message.states);
    }
    states
}

async fn import(node: &Node, states: Vec<KeyState>) -> Vec<Outcome> {
    let chunks: Vec<ImportStatesRequest> = states
        .chunks(100)
        .map(|states| ImportStatesRequest {
            namespace: "notes".into(),
            states: states.to_vec(),
        })
        .collect();
    let count = chunks.len();
    let mut answers = node
        .admin()
        .import_states(tokio_stream::iter(chunks))
        .await
        .expect("begun")
        .into_inner();
    let mut outcomes = Vec::new();
    while let Some(answer) = answers.message().await.expect("an answer") {
        assert_eq!(answer.chunk, outcomes.len() as u64);
        outcomes.push(answer.outcome.expect("an outcome"));
    }
    assert_eq!(outcomes.len(), count);
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn states_go_out_and_come_in_without_a_loss() {
    let node = notes(1_000).await;
    node.put(sibling("notes", "siblings", "{\"b\": 1.0}", Vec::new()))
        .await
        .expect("put");
    node.put(sibling("notes", "siblings", "[2]", Vec::new()))
        .await
        .expect("put");
    let context = node.get("notes", "k00007").await.expect("get").context;
    node.delete("notes", "k00007", context).await.expect("delete");
    let states = export(&node, false).await;
    assert_eq!(states.len(), 1_001);
    assert_eq!(export(&node, true).await.len(), 1_000);
    let deleted = states.iter().find(|state| state.key == "k00007").expect("a tombstone");
    assert!(deleted.entries.is_empty() && deleted.context[0].counter > 0);

    let other = Node::with_namespace("notes", Strategy::KeepSiblings).await;
    for _ in 0..2 {
        let outcomes = import(&other, states.clone()).await;
        assert!(
            outcomes.iter().all(|outcome| matches!(outcome, Outcome::States(_))),
            "{outcomes:?}"
        );
        assert_eq!(export(&other, false).await, states);
    }
    let value = |concept: Concept| concept.value;
    let found = value(other.get("notes", "siblings").await.expect("get"));
    assert_eq!(found, value(node.get("notes", "siblings").await.expect("get")));
    // Its own writes go on beside those it took in.
    other.put(register("notes", "new", "1")).await.expect("put");
    node.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsound_states_are_refused_by_place_and_nothing_is_written() {
    let node = notes(1).await;
    let seen = |counter| Seen {
        node: "other".into(),
        incarnation: 1,
        counter,
    };
    let entry = |counter, content| Entry {
        node: "other".into(),
        incarnation: 1,
        counter,
        stamp: 1,
        expires: None,
        content,
    };
    let state = |context, entries| KeyState {
        key: "k".into(),
        context,
        entries,
    };
    let register = |json: &str| Some(entry::Content::Register(json.to_owned()));
    let sound = state(vec![seen(2)], vec![entry(2, register("1"))]);
    let cases = [
        state(vec![], vec![]),
        state(vec![seen(1)], vec![entry(2, register("1"))]),
        state(vec![seen(1), seen(2)], vec![]),
        state(vec![seen(2)], vec![entry(2, register("1")), entry(2, register("1"))]),
        state(vec![seen(2)], vec![entry(2, None)]),
        state(vec![seen(2)], vec![entry(2, register("{\"a\":1,\"a\":2}"))]),
        state(vec![seen(2)], vec![entry(0, register("1"))]),
        state(
            vec![seen(2)],
            vec![entry(2, Some(entry::Content::Element("{\"b\":1,\"a\":2}".into())))],
        ),
        state(
            vec![Seen {
                node: String::new(),
                ..seen(1)
            }],
            vec![],
        ),
        KeyState {
            key: String::new(),
            ..sound.clone()
        },
    ];
    for case in cases {
        let outcomes = import(&node, vec![sound.clone(), case.clone()]).await;
        let Outcome::Fault(fault) = &outcomes[0] else {
            panic!("{case:?} was taken")
        };
        assert_eq!(Code::from_i32(fault.code), Code::InvalidArgument, "{case:?}");
        assert!(fault.message.starts_with("states[1]: "), "{}", fault.message);
    }
    assert_eq!(export(&node, false).await.len(), 1);
    assert!(matches!(import(&node, vec![sound]).await[0], Outcome::States(1)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_this_node_that_it_does_not_have_are_refused() {
    let node = notes(1).await;
    let mut states = export(&node, false).await;
    states[0].context[0].counter += 1;
    let outcomes = import(&node, states).await;
    let Outcome::Fault(fault) = &outcomes[0] else {
        panic!("taken")
    };
    assert_eq!(Code::from_i32(fault.code), Code::FailedPrecondition);
    assert!(fault.message.contains("older than the export"), "{}", fault.message);
    node.stop().await;
}

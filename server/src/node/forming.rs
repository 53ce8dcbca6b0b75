//! A node that forms a cluster with others: its faces before there are data, and the registry's first members after.

use std::time::Duration;

use engine::{
    Engine,
    ledger::{self, Command, MemberChange},
};
use tokio::task::JoinHandle as Task;

use super::assemble::{Sockets, listener_settings};
use crate::{
    api::{grpc, http},
    config,
    consensus::{Founding, Sequencer},
    formation::{Founders, Meeting},
    metrics::{self as counts, Metrics},
    runtime::{
        health::Health,
        listener,
        tasks::{self, Stop, Stopper},
        time::{sleep, within},
    },
};

/// Answers of the faces are a few bytes, so their connections end by then.
const DRAIN_MAX: Duration = Duration::from_millis(300);
/// How often it is looked whether somebody has registered the first members.
const LOOK: Duration = Duration::from_millis(100);

/// The first members of a cluster: number, name and address of each.
pub(super) type Members = Vec<(u64, String, String)>;

/// With whom this node is to form a cluster, if it is.
pub(super) fn wanted(settings: &config::Settings) -> Option<Founders> {
    let discovery = &settings.discovery;
    (discovery.bootstrap_expect > 0).then(|| Founders {
        expect: discovery.bootstrap_expect,
        addresses: discovery.bootstrap_nodes.clone(),
    })
}

/// Those with whom this node formed its cluster.
pub(super) fn founders(founding: &Founding) -> Option<Members> {
    match founding {
        Founding::Together(members) => Some(members.clone()),
        Founding::Alone | Founding::Joins => None,
    }
}

/// The faces of a node that is forming. They listen on the very sockets of those that follow, so no caller is refused in between.
pub(super) struct Stage {
    stopper: Stopper,
    faces: [Task<()>; 2],
}

impl Stage {
    /// Answers on both sockets.
    ///
    /// # Errors
    /// When the system gives no second handle on a socket.
    pub(super) fn open(
        meeting: &Meeting,
        secure: bool,
        sockets: &Sockets,
        (settings, health, metrics): (&config::Settings, &Health, &Metrics),
    ) -> std::io::Result<Stage> {
        let (stopper, stop) = tasks::stop();
        let face = |face: &'static str, socket: listener::Socket, routes: axum::Router| {
            let settings = listener::Settings {
                drain_ms_max: u64::try_from(DRAIN_MAX.as_millis()).unwrap_or(u64::MAX),
                ..listener_settings(settings)
            };
            let (connections, stop) = (metrics.gauge(counts::CONNECTIONS, &[("face", face)]), stop.clone());
            tasks::spawn(async move {
                let stopped = async move { stop.given().await };
                listener::serve(socket, routes, settings, http::unreadable, connections, stopped).await;
            })
        };
        let faces = [
            face(
                "grpc",
                sockets.grpc.again()?,
                grpc::forming::routes(meeting.clone(), secure),
            ),
            face("http", sockets.http.again()?, http::forming::routes(health.clone())),
        ];
        Ok(Stage { stopper, faces })
    }

    /// Ends both.
    pub(super) async fn close(self) {
        self.stopper.stop();
        for face in self.faces {
            // They end by themselves; this only guards against one that does not.
            let _ended = within(2 * DRAIN_MAX, face).await;
        }
    }
}

/// Says to the registry who the first members are, as each of them does until somebody was heard, or `stop`.
pub(super) async fn register(engine: Engine, sequencer: Sequencer, founders: Members, stop: Stop) {
    let member = |(number, name, address): &(u64, String, String)| (name.clone(), *number, address.clone());
    let form = MemberChange::Form {
        members: founders.iter().map(member).collect(),
    };
    while !stop.is_given() {
        match ledger::members(engine.view()) {
            Ok(members) if !members.is_empty() => return,
            // A store that fails is told by the engine's own check.
            _ => {}
        }
        if sequencer.quorum().borrow().is_none()
            && let Err(error) = sequencer.propose(Command::Members(form.clone()), None).await
        {
            tracing::debug!(%error, "the first members are not registered yet");
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = stop.given() => {}
        }
    }
}

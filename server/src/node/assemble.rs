//! Starting: every row handed what it stands on.

use std::{net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use engine::{Engine, Environment, OpenError, clock::Clock, json::Anonymiser, ledger};
use tokio::{net::TcpListener, task::JoinHandle as Task};
use tonic_health::server::HealthReporter;

use super::{
    CHECK_ENGINE, CHECK_FORMATION, CHECK_SEARCH, CHECK_SEARCH_BUILT, CHECK_SEQUENCER, CHECK_SERVING, CHECKS,
    Components, Node, StartError, forming, timed_log::Timed, upkeep, watch,
};
use crate::{
    api::{grpc, http},
    config,
    consensus::{self, Company, Sequencer},
    contribution::{self, Contribution},
    formation::{self, Begin},
    metrics::{self as counts, Metrics},
    runtime::{
        directory::Directory,
        entropy,
        health::Health,
        listener,
        tasks::{self, Stop},
        tls::{Credentials, Face, Files},
    },
    snapshots::Snapshots,
    transport::Transport,
};

/// Where snapshots from other members lie in the data directory.
const INCOMING: &str = "incoming";

impl Node {
    /// Starts a node.
    ///
    /// # Errors
    /// [`StartError`]; nothing keeps running then.
    pub async fn start_with(settings: &config::Settings, components: Components) -> Result<Node, StartError> {
        let metrics = Metrics::new();
        let health = Health::starting(&CHECKS);
        let credentials = credentials(&settings.tls)?;
        let sockets = Sockets::bind(settings, credentials.as_ref()).await?;
        let (grpc_address, http_address) = sockets.addresses()?;

        let Components { clock } = components;
        let reach = grpc::Reach {
            address: advertised(settings, grpc_address),
            authority: credentials.as_ref().and_then(|credentials| credentials.authority()),
        };
        let store = Store::open_beside(settings, &clock, &metrics).await?;
        let stage = (&sockets, &health, &metrics);
        let company = store.settle(settings, credentials.as_ref(), &reach, stage).await?;
        let founders = forming::founders(&company.founding);
        let (directory, name, engine, snapshots) = store.engine_beside(&clock).await?;
        health.pass(CHECK_ENGINE);
        let order = sequencer_settings(settings, directory.path());
        let sequencer = start_sequencer(&engine, &clock, company, order, &metrics).await?;
        health.pass(CHECK_SEQUENCER);
        let about = about(&name, (grpc_address, http_address), &directory, &*clock);
        let rows = Rows {
            snapshots,
            contribution: Contribution::new(
                engine.clone(),
                sequencer.clone(),
                Arc::clone(&clock),
                contribution_settings(settings),
                &metrics,
            ),
            engine,
            sequencer,
            clock,
            health,
            metrics,
        };
        let enforced = rows.enforce_limits().await?;

        let (background_stopper, background_stop) = tasks::stop();
        let search = rows.follow_pool(background_stop.clone())?;
        let (faces_stopper, faces_stop) = tasks::stop();
        let (faces, grpc_health) = rows.serve(sockets, about, (settings, reach), &faces_stop);
        rows.health.pass(CHECK_SERVING);
        grpc::set_ready(&grpc_health, rows.health.ready().passes()).await;
        let mut background = rows.watch(grpc_health, (enforced, founders), &background_stop);
        background
            .extend(credentials.map(|credentials| tasks::spawn(watch::over_credentials(credentials, background_stop))));
        let Rows {
            engine,
            sequencer,
            contribution,
            health,
            metrics,
            ..
        } = rows;
        Ok(Node {
            grpc_address,
            http_address,
            name,
            directory,
            engine,
            sequencer,
            contribution,
            health,
            metrics,
            drain_max: Duration::from_millis(settings.runtime.shutdown_timeout_ms),
            faces: (faces_stopper, faces),
            background: (background_stopper, background),
            search,
        })
    }
}

/// The rows under the faces, once they stand.
struct Rows {
    engine: Engine,
    sequencer: Sequencer,
    contribution: Contribution,
    clock: Arc<dyn Clock>,
    health: Health,
    metrics: Metrics,
    snapshots: Snapshots,
}

impl Rows {
    /// The search index's own thread: it reads the database without a pause while it rebuilds. The node takes requests
    /// meanwhile; only knowledge has to wait.
    fn follow_pool(&self, stop: Stop) -> Result<JoinHandle<()>, StartError> {
        let (contribution, health) = (self.contribution.clone(), self.health.clone());
        let pool = contribution.stats().map_err(StartError::Pool)?;
        health.pass(CHECK_SEARCH);
        if pool.concepts == 0 {
            health.pass(CHECK_SEARCH_BUILT);
        } else {
            health.fail(
                CHECK_SEARCH_BUILT,
                format!(
                    "the index of {} concepts is being built; knowledge requests wait or are asked to retry",
                    pool.concepts
                ),
            );
        }
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            let search = contribution.search().clone();
            let rebuilt = async {
                if search.wait_until(pool.counter, stop.given()).await.is_ok() {
                    health.pass(CHECK_SEARCH_BUILT);
                }
            };
            let (followed, ()) =
                runtime.block_on(async { tokio::join!(contribution.follow_pool(stop.clone()), rebuilt) });
            if let Err(error) = followed {
                tracing::error!(%error, "knowledge requests will be refused until the node is restarted");
                health.fail(CHECK_SEARCH, error.to_string());
            }
        };
        Ok(tasks::thread("search", work)?)
    }

    /// Both faces, from now on until `stop`.
    fn serve(
        &self,
        sockets: Sockets,
        about: grpc::admin::About,
        (settings, reach): (&config::Settings, grpc::Reach),
        stop: &Stop,
    ) -> (Vec<Task<()>>, HealthReporter) {
        let components = grpc::Components {
            engine: self.engine.clone(),
            sequencer: self.sequencer.clone(),
            reach,
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            settings: grpc_settings(settings),
            stop: stop.clone(),
        };
        let operations = grpc::admin::Operations {
            about,
            health: self.health.clone(),
            contribution: self.contribution.clone(),
            snapshots: self.snapshots.clone(),
        };
        let grpc::Face { services, health } = grpc::routes(components, operations);
        let site = http::Face::new(
            self.contribution.clone(),
            Arc::clone(&self.clock),
            self.health.clone(),
            self.metrics.clone(),
        );
        let faces = vec![
            self.listen("grpc", sockets.grpc, services, settings, stop),
            self.listen("http", sockets.http, site.router(), settings, stop),
        ];
        (faces, health)
    }

    /// Answers on one socket, until `stop`.
    fn listen(
        &self,
        face: &'static str,
        socket: listener::Socket,
        services: impl listener::Answers,
        settings: &config::Settings,
        stop: &Stop,
    ) -> Task<()> {
        let settings = listener_settings(settings);
        let connections = self.metrics.gauge(counts::CONNECTIONS, &[("face", face)]);
        let stop = stop.clone();
        tasks::spawn(async move {
            let stopped = async move { stop.given().await };
            listener::serve(socket, services, settings, http::unreadable, connections, stopped).await;
        })
    }

    /// Puts the configured limits into force before anybody is answered, where this node decides alone; whether it did. Among others
    /// that is done as soon as something can be decided.
    async fn enforce_limits(&self) -> Result<bool, StartError> {
        let decides = self.sequencer.quorum().borrow().is_none();
        if decides {
            self.contribution.enforce_limits().await.map_err(StartError::Limits)?;
        }
        Ok(decides)
    }

    /// What works behind the faces, until `stop`.
    fn watch(
        &self,
        grpc_health: HealthReporter,
        (enforced, founders): (bool, Option<forming::Members>),
        stop: &Stop,
    ) -> Vec<Task<()>> {
        let Rows {
            engine,
            sequencer,
            contribution,
            clock,
            health,
            metrics,
            snapshots,
        } = self;
        metrics.sample_with(watch::numbers(
            engine.clone(),
            sequencer.clone(),
            contribution.search().clone(),
            metrics,
        ));
        let members = sequencer.clone();
        metrics.rows_with(move || members.rows());
        let (usage, usage_stop) = (contribution.clone(), stop.clone());
        let mut tasks = vec![
            tasks::spawn(watch::over_life(
                engine.clone(),
                sequencer.clone(),
                health.clone(),
                stop.clone(),
            )),
            tasks::spawn(watch::over_quorum(
                sequencer.clone(),
                health.clone(),
                (contribution.clone(), enforced),
                stop.clone(),
            )),
            tasks::spawn(watch::over_disk(engine.clone(), health.clone(), stop.clone())),
            tasks::spawn(watch::over_clock(
                (engine.clone(), sequencer.clone()),
                Arc::clone(clock),
                health.clone(),
                metrics.clone(),
                stop.clone(),
            )),
            tasks::spawn(watch::over_grpc(health.clone(), grpc_health, stop.clone())),
            tasks::spawn(watch::over_samples(metrics.clone(), stop.clone())),
            tasks::spawn(watch::over_cuts(snapshots.clone(), stop.clone())),
            tasks::spawn(upkeep::run(engine.clone(), Arc::clone(clock), stop.clone())),
            tasks::spawn(async move { usage.flush_usage(usage_stop).await }),
        ];
        tasks.extend(founders.map(|founders| {
            let (engine, sequencer) = (engine.clone(), sequencer.clone());
            tasks::spawn(forming::register(engine, sequencer, founders, stop.clone()))
        }));
        tasks
    }
}

async fn start_sequencer(
    engine: &Engine,
    clock: &Arc<dyn Clock>,
    company: Company,
    settings: consensus::Settings,
    metrics: &Metrics,
) -> Result<Sequencer, StartError> {
    let (engine, clock, metrics) = (engine.clone(), Arc::clone(clock), metrics.clone());
    let started = tasks::blocking(move || Sequencer::start_in(engine, clock, company, settings, &metrics)).await;
    started
        .unwrap_or_else(|| Err(std::io::Error::other("starting raft panicked")))
        .map_err(StartError::Consensus)
}

/// Where both faces are served.
pub(super) struct Sockets {
    pub(super) grpc: listener::Socket,
    pub(super) http: listener::Socket,
}

impl Sockets {
    /// HTTP on loopback stays plain: programs of this machine have no certificates, and nobody listens between.
    async fn bind(settings: &config::Settings, credentials: Option<&Arc<Credentials>>) -> Result<Sockets, StartError> {
        let (grpc, http) = (settings.node.bind_address, settings.node.http_address);
        let server = |face| credentials.map(|credentials| Credentials::server(credentials, face));
        Ok(Sockets {
            grpc: listener::Socket {
                tcp: bind("gRPC", grpc, "bind").await?,
                tls: server(Face::Grpc),
            },
            http: listener::Socket {
                tcp: bind("HTTP", http, "http").await?,
                tls: server(Face::Http).filter(|_| !http.ip().is_loopback()),
            },
        })
    }

    fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.grpc.tcp.local_addr()?, self.http.tcp.local_addr()?))
    }
}

fn credentials(tls: &config::Tls) -> Result<Option<Arc<Credentials>>, StartError> {
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(None);
    };
    let files = Files {
        cert: cert.clone(),
        key: key.clone(),
        ca: tls.ca.clone(),
    };
    Ok(Some(Arc::new(Credentials::load(files).map_err(StartError::Tls)?)))
}

async fn bind(face: &'static str, address: SocketAddr, flag: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind {
        face,
        address,
        flag,
        source,
    })
}

fn about(
    name: &str,
    (grpc_address, http_address): (SocketAddr, SocketAddr),
    directory: &Directory,
    clock: &dyn Clock,
) -> grpc::admin::About {
    grpc::admin::About {
        name: name.to_owned(),
        grpc_address,
        http_address,
        data_directory: directory.path().to_owned(),
        started_at: clock.now(),
    }
}

/// The data directory, locked, and what is in it, not opened for writing yet.
struct Store {
    directory: Directory,
    name: String,
    settings: engine::Settings,
    environment: Arc<Environment>,
}

impl Store {
    async fn open_beside(
        settings: &config::Settings,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Store, StartError> {
        let (settings, clock, metrics) = (settings.clone(), Arc::clone(clock), metrics.clone());
        let opened = tasks::blocking(move || Store::open(&settings, clock, &metrics)).await;
        opened.ok_or_else(|| std::io::Error::other("opening the data panicked"))?
    }

    async fn engine_beside(self, clock: &Arc<dyn Clock>) -> Result<(Directory, String, Engine, Snapshots), StartError> {
        let clock = Arc::clone(clock);
        let opened = tasks::blocking(move || self.engine(clock)).await;
        opened.ok_or_else(|| std::io::Error::other("opening the engine panicked"))?
    }

    /// Blocks.
    fn open(settings: &config::Settings, clock: Arc<dyn Clock>, metrics: &Metrics) -> Result<Store, StartError> {
        let directory = Directory::open(&settings.storage.path)?;
        let name = directory.node_name(settings.node.id.as_deref())?;
        let engine_settings = engine_settings(&settings.storage.clone().fitted(directory.disk_bytes()?));
        let path = directory.path();
        let environment = Environment::in_directory(path, &engine_settings, &name, clock, entropy::bits);
        let mut environment = environment.map_err(|source| refused(&directory, source))?;
        environment.log = Arc::new(Timed::new(environment.log, metrics));
        Ok(Store {
            directory,
            name,
            settings: engine_settings,
            environment: Arc::new(environment),
        })
    }

    /// Whose data they are, or come to be.
    async fn settle(
        &self,
        settings: &config::Settings,
        credentials: Option<&Arc<Credentials>>,
        reach: &grpc::Reach,
        (sockets, health, metrics): (&Sockets, &Health, &Metrics),
    ) -> Result<Company, StartError> {
        let transport = Transport::new(credentials.cloned());
        let token = settings.node.join.as_deref().map(str::parse).transpose();
        let token: Option<formation::Token> = token.map_err(StartError::Token)?;
        let newcomer = formation::Newcomer {
            name: &self.name,
            address: reach.address.clone(),
            authority: reach.authority,
            transport: &transport,
            entropy: entropy::bits,
        };
        let (directory, environment) = (self.directory.path(), &self.environment);
        let told = (token.as_ref(), forming::wanted(settings));
        let founding = match formation::begin(directory, environment, told, &newcomer)? {
            Begin::Settled(founding) => founding,
            Begin::Join => {
                let token = token.as_ref().expect("only a token lets a node join");
                formation::join(directory, environment, token, &newcomer).await?
            }
            Begin::Meet(meeting) => {
                let secure = reach.authority.is_some();
                let stage = forming::Stage::open(&meeting, secure, sockets, (settings, health, metrics))?;
                let waiting = |why: &str| health.fail(CHECK_FORMATION, format!("waiting for {why}"));
                let formed = formation::meet(&meeting, environment, &transport, waiting).await;
                stage.close().await;
                formed?
            }
        };
        health.pass(CHECK_FORMATION);
        Ok(Company { founding, transport })
    }

    /// Opens the engine, and looks through what is kept beside it. Blocks.
    fn engine(self, clock: Arc<dyn Clock>) -> Result<(Directory, String, Engine, Snapshots), StartError> {
        let Store {
            directory,
            name,
            settings,
            environment,
        } = self;
        let environment = Arc::into_inner(environment).expect("nobody settles any more");
        let engine = Engine::open(settings, environment).map_err(|source| refused(&directory, source))?;
        let snapshots = Snapshots::open(directory.path(), engine.clone(), clock)?;
        Ok((directory, name, engine, snapshots))
    }
}

fn refused(directory: &Directory, source: OpenError) -> StartError {
    StartError::Engine {
        path: directory.path().to_owned(),
        source,
    }
}

/// Where others reach this node: as configured, else where it serves, unless that is every address it has.
fn advertised(settings: &config::Settings, grpc: SocketAddr) -> Option<String> {
    let configured = settings.node.advertise_address.clone();
    configured.or_else(|| (!grpc.ip().is_unspecified()).then(|| grpc.to_string()))
}

fn engine_settings(storage: &config::Storage) -> engine::Settings {
    engine::Settings {
        block_cache_bytes: bytes(storage.block_cache_bytes),
        flush_log_bytes: storage.flush_log_bytes,
        queue_bytes_max: bytes(storage.queue_bytes_max),
        segment_bytes: storage.segment_bytes,
        free_soft_bytes: storage.free_soft_bytes,
        free_hard_bytes: storage.free_hard_bytes,
        compaction_bytes_per_s: storage.compaction_bytes_per_s,
        log_keep_bytes: storage.log_keep_bytes,
        log_keep_s: storage.log_keep_s,
    }
}

fn sequencer_settings(settings: &config::Settings, directory: &std::path::Path) -> consensus::Settings {
    let (contribution, raft) = (&settings.contribution, &settings.raft);
    consensus::Settings {
        queue_bytes_max: bytes(contribution.queue_bytes_max),
        queue_wait_max: Duration::from_millis(contribution.queue_wait_ms_max),
        raft: consensus::RaftSettings {
            election_timeout_ms: raft.election_timeout_ms,
            heartbeat_interval_ms: raft.heartbeat_interval_ms,
            snapshot_entries: raft.snapshot_entries,
            keep_entries: raft.keep_entries,
            incoming: Some(directory.join(INCOMING)),
        },
    }
}

fn contribution_settings(settings: &config::Settings) -> contribution::Settings {
    let contribution = &settings.contribution;
    contribution::Settings {
        limits: ledger::Limits {
            contribute_per_hour: contribution.contribute_per_hour,
            knowledge_per_hour: contribution.knowledge_per_hour,
        },
        index_wait_max: Duration::from_millis(contribution.index_wait_ms_max),
        usage_flush_interval: Duration::from_millis(contribution.usage_flush_interval_ms),
        anonymiser: anonymiser(contribution),
    }
}

fn anonymiser(contribution: &config::Contribution) -> Anonymiser {
    let rules = Anonymiser::default();
    let rules = contribution
        .anonymise_names
        .iter()
        .fold(rules, |rules, name| rules.with_name(name));
    let (mut prefixes, mut suffixes) = (
        contribution.anonymise_prefixes.iter(),
        contribution.anonymise_suffixes.iter(),
    );
    prefixes
        .try_fold(rules, |rules, prefix| rules.with_prefix(prefix))
        .and_then(|rules| suffixes.try_fold(rules, |rules, suffix| rules.with_suffix(suffix)))
        .expect("the parts of a list in the configuration are never empty")
}

/// Streams are ended before the listener resets them, for only the streams can say why.
fn grpc_settings(settings: &config::Settings) -> grpc::Settings {
    let defaults = grpc::Settings::default();
    let write_limit = Duration::from_millis(settings.http.write_timeout_ms);
    grpc::Settings {
        stall_max: defaults.stall_max.min(write_limit * 2 / 3),
        backup_bytes_per_s: settings.storage.backup_bytes_per_s,
        ..defaults
    }
}

pub(super) fn listener_settings(settings: &config::Settings) -> listener::Settings {
    let http = &settings.http;
    listener::Settings {
        connections_max: http.connections_max as usize,
        connections_per_address_max: http.connections_per_address_max as usize,
        head_ms_max: http.header_timeout_ms,
        body_ms_max: http.body_timeout_ms,
        idle_ms_max: http.idle_timeout_ms,
        write_ms_max: http.write_timeout_ms,
        drain_ms_max: settings.runtime.shutdown_timeout_ms,
        ..listener::Settings::default()
    }
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

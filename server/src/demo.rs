//! A cluster on this machine in one command, for trying out: each node a process with a data directory of its own.
//!
//! ```text
//!  FOLDER/certs/            an authority, a certificate for each node and one for the caller, unless without TLS
//!  FOLDER/node-1 …          data;  node-1.log … what each says
//!  FOLDER/demo.json         the ports: the same folder is the same cluster again
//!
//!  node 1 ─► Cluster.Init ─► a token for each of the others, which start with it ─► all vote ─► ready
//! ```

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use engine::clock::Clock as _;
use proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, InitClusterRequest, InviteRequest, cluster_client::ClusterClient,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tonic::transport::Channel;

use crate::{
    certificates::{self, Authority, Leaf, cert_path, key_path},
    runtime::{
        entropy,
        time::{Stopwatch, SystemClock, sleep, within},
        tls::{Credentials, Files, TlsError},
    },
    transport::Transport,
};

/// Nodes of a demo, at most: as many as may vote.
pub const NODES_MAX: u8 = 7;
/// The cluster is ready within this time.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(50);
/// A node that was asked to stop ends within this time.
const STOPPED_WITHIN: Duration = Duration::from_secs(15);
/// The first node's ports, and what HTTP is above gRPC.
const PORTS: (u16, u16) = (7000, 1000);
/// The ports, once the cluster has come together.
const KEPT: &str = "demo.json";
/// The caller's certificate.
const CALLER: &str = "demo";
/// What the environment says for one node is not for all of these.
const OURS: [&str; 4] = ["CONTINUUM_", "NODE_ID", "BIND_ADDRESS", "BOOTSTRAP_NODES"];

/// What is wished for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many nodes, 1 to [`NODES_MAX`].
    pub nodes: u8,
    /// gRPC of the first node; the others follow, HTTP a thousand above. Without, any port that is free is taken where the usual one is not.
    pub base_port: Option<u16>,
    /// Where everything lies; without, in a temporary folder that goes with the demo.
    pub folder: Option<PathBuf>,
    /// No TLS.
    pub insecure: bool,
    /// `continuumd` itself.
    pub program: PathBuf,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system, or a process that cannot be started.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A port is taken.
    #[error("port {0} is taken: choose others with --base-port")]
    Port(u16),
    /// The certificates.
    #[error(transparent)]
    Certificates(#[from] certificates::Error),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A node ended.
    #[error("{name} ended with {status}; what it said is in {}", log.display())]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
        /// What it said.
        log: PathBuf,
    },
    /// It took too long.
    #[error("the nodes did not come together in {} s: {last}; what they said is in {}", READY_WITHIN.as_secs(), folder.display())]
    Late {
        /// What was missing.
        last: String,
        /// Where their logs are.
        folder: PathBuf,
    },
}

/// A running cluster.
pub struct Demo {
    folder: PathBuf,
    temporary: bool,
    insecure: bool,
    transport: Transport,
    nodes: Vec<Node>,
    leader: String,
}

struct Node {
    name: String,
    grpc: u16,
    http: u16,
    process: Child,
    pid: u32,
}

impl Demo {
    /// Starts it; returns when every node votes and one of them leads. Dropped, its processes are killed.
    ///
    /// # Errors
    /// [`Error`]; nothing keeps running then.
    pub async fn start(settings: &Settings) -> Result<Demo, Error> {
        let temporary = settings.folder.is_none();
        let folder = settings
            .folder
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(format!("continuum-demo-{:08x}", entropy::bits() >> 32)));
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let folder = folder.canonicalize().map_err(failed("find", &folder))?;
        let (ports, known) = ports(settings, &folder)?;
        let text = serde_json::to_vec(&ports).expect("numbers are JSON");
        let transport = Transport::new(credentials(settings, &folder, ports.len())?);
        let mut demo = Demo {
            folder,
            temporary,
            insecure: settings.insecure,
            transport,
            nodes: Vec::new(),
            leader: String::new(),
        };
        let mut tokens = Vec::new();
        for (number, (grpc, http)) in (1..).zip(ports) {
            let node = demo.spawn(settings, number, (grpc, http), tokens.pop())?;
            demo.nodes.push(node);
            if !known && number == 1 {
                // All at once, while nobody has to be asked.
                demo.init().await?;
                for _ in 1..settings.nodes {
                    tokens.push(demo.invite().await?);
                }
            }
        }
        let all = demo.nodes.len();
        demo.leader = demo
            .until(|status| {
                let votes = status.members.iter().filter(|member| member.votes).count();
                match votes == all && !status.leader.is_empty() {
                    true => Ok(status.leader),
                    false => Err(format!("{votes} of {all} vote; {}", status.trouble)),
                }
            })
            .await?;
        // From now on the folder is this cluster's.
        let kept = demo.folder.join(KEPT);
        fs::write(&kept, text).map_err(failed("write", &kept))?;
        Ok(demo)
    }

    fn spawn(
        &self,
        settings: &Settings,
        number: u8,
        (grpc, http): (u16, u16),
        token: Option<String>,
    ) -> Result<Node, Error> {
        let name = name(number);
        let log = self.log(&name);
        let output = fs::File::create(&log).map_err(failed("create", &log))?;
        let mut command = Command::new(&settings.program);
        for (variable, _) in std::env::vars_os() {
            if OURS.iter().any(|ours| variable.to_string_lossy().starts_with(ours)) {
                command.env_remove(variable);
            }
        }
        command
            .args(["--node-id", &name])
            .args(["--bind", &format!("127.0.0.1:{grpc}")])
            .args(["--http", &format!("127.0.0.1:{http}")])
            .arg("--data-dir")
            .arg(self.folder.join(&name));
        if !self.insecure {
            let certs = self.certs();
            command
                .arg("--tls-ca")
                .arg(cert_path(&certs, "ca"))
                .arg("--tls-cert")
                .arg(cert_path(&certs, &name))
                .arg("--tls-key")
                .arg(key_path(&certs, &name));
        }
        // Not on the command line, where everybody can read it.
        command.envs(token.map(|token| ("CONTINUUM_JOIN", token)));
        let errors = output.try_clone().map_err(failed("open", &log))?;
        command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true);
        let process = command.spawn().map_err(failed("start", &settings.program))?;
        Ok(Node {
            name,
            grpc,
            http,
            pid: process.id().unwrap_or_default(),
            process,
        })
    }

    fn certs(&self) -> PathBuf {
        self.folder.join("certs")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    fn client(&self, node: &Node) -> ClusterClient<Channel> {
        let channel = self.transport.channel(&format!("127.0.0.1:{}", node.grpc), &node.name);
        ClusterClient::new(channel.expect("loopback and a port are an address"))
    }

    async fn init(&mut self) -> Result<(), Error> {
        self.until(|_| Ok(())).await?;
        let asked = self.client(&self.nodes[0]).init(InitClusterRequest {}).await;
        asked.map(drop).map_err(|status| self.late(status.message()))
    }

    async fn invite(&mut self) -> Result<String, Error> {
        let asked = self.client(&self.nodes[0]).invite(InviteRequest::default()).await;
        let invited = asked.map_err(|status| self.late(status.message()))?;
        Ok(invited.into_inner().token)
    }

    fn late(&self, last: &str) -> Error {
        Error::Late {
            last: last.to_owned(),
            folder: self.folder.clone(),
        }
    }

    /// Looks at the first node again and again.
    async fn until<T>(&mut self, found: impl Fn(ClusterStatusResponse) -> Result<T, String>) -> Result<T, Error> {
        let since = Stopwatch::start();
        let mut last = String::new();
        while since.elapsed() < READY_WITHIN {
            self.still_there()?;
            let asked = within(LOOK * 20, self.client(&self.nodes[0]).status(ClusterStatusRequest {})).await;
            match asked {
                Some(Ok(status)) => match found(status.into_inner()) {
                    Ok(found) => return Ok(found),
                    Err(missing) => last = missing,
                },
                Some(Err(status)) => status.message().clone_into(&mut last),
                None => "no answer".clone_into(&mut last),
            }
            sleep(LOOK).await;
        }
        Err(self.late(&last))
    }

    fn still_there(&mut self) -> Result<(), Error> {
        for place in 0..self.nodes.len() {
            let node = &mut self.nodes[place];
            if let Ok(Some(status)) = node.process.try_wait() {
                let name = node.name.clone();
                let log = self.log(&name);
                return Err(Error::Ended { name, status, log });
            }
        }
        Ok(())
    }

    /// The cluster as one line for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let node = |node: &Node| {
            json!({
                "id": node.name,
                "pid": node.pid,
                "grpc": format!("127.0.0.1:{}", node.grpc),
                "http": format!("127.0.0.1:{}", node.http),
                "dir": self.folder.join(&node.name),
            })
        };
        let certs = self.certs();
        let file = |path: PathBuf| (!self.insecure).then_some(path);
        json!({
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
            "leader": self.leader,
            "ca": file(cert_path(&certs, "ca")),
            "client_cert": file(cert_path(&certs, CALLER)),
            "client_key": file(key_path(&certs, CALLER)),
        })
    }

    /// The cluster for people, with what to try.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} nodes, {} leads; data and logs are in {}\n\n",
            self.nodes.len(),
            self.leader,
            self.folder.display()
        );
        text.push_str("NODE     PID      gRPC              HTTP\n");
        for node in &self.nodes {
            let grpc = format!("127.0.0.1:{}", node.grpc);
            text.push_str(&format!(
                "{:<8} {:<8} {grpc:<17} http://127.0.0.1:{}\n",
                node.name, node.pid, node.http
            ));
        }
        let (first, certs) = (&self.nodes[0], self.certs());
        let tls = match self.insecure {
            true => String::new(),
            false => format!(
                " --tls-ca {} --tls-cert {} --tls-key {}",
                cert_path(&certs, "ca").display(),
                cert_path(&certs, CALLER).display(),
                key_path(&certs, CALLER).display()
            ),
        };
        text.push_str(&format!(
            "\nTry:\n  curl -s http://127.0.0.1:{}/federation/stats\n  continuum-admin --endpoint 127.0.0.1:{}{tls} cluster status\n  kill -9 {}        a majority goes on\n\nCtrl-C stops all of them.\n",
            first.http, first.grpc, first.pid
        ));
        text
    }

    /// Stops every node in order, and removes what was temporary.
    ///
    /// # Errors
    /// When the folder cannot be removed.
    pub async fn stop(mut self) -> Result<(), Error> {
        for node in &mut self.nodes {
            let running = matches!(node.process.try_wait(), Ok(None));
            let pid = i32::try_from(node.pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| running) {
                // One that has just ended needs no signal.
                let _ended = kill_process(pid, Signal::TERM);
            }
        }
        for node in &mut self.nodes {
            if within(STOPPED_WITHIN, node.process.wait()).await.is_none() {
                let _ended = node.process.kill().await;
            }
        }
        if self.temporary {
            fs::remove_dir_all(&self.folder).map_err(failed("remove", &self.folder))?;
        }
        Ok(())
    }
}

fn name(number: u8) -> String {
    format!("node-{number}")
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// The nodes' ports, gRPC and HTTP, and whether they are those of a cluster that there was before.
fn ports(settings: &Settings, folder: &Path) -> Result<(Vec<(u16, u16)>, bool), Error> {
    let kept = folder.join(KEPT);
    match fs::read(&kept) {
        Ok(bytes) => {
            let ports = serde_json::from_slice(&bytes).map_err(io::Error::other);
            return Ok((ports.map_err(failed("read", &kept))?, true));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("read", &kept)(error)),
        Err(_) => {}
    }
    // Held until all are found, so that none is found twice.
    let mut held = Vec::new();
    let mut take = |wished: u16| {
        let exact = TcpListener::bind(("127.0.0.1", wished));
        let listener = match (exact, settings.base_port) {
            (Ok(listener), _) => listener,
            (Err(_), Some(_)) => return Err(Error::Port(wished)),
            (Err(_), None) => TcpListener::bind("127.0.0.1:0").map_err(failed("listen on", Path::new("127.0.0.1")))?,
        };
        let address = listener
            .local_addr()
            .map_err(failed("listen on", Path::new("127.0.0.1")))?;
        held.push(listener);
        Ok(address.port())
    };
    let (base, above) = (settings.base_port.unwrap_or(PORTS.0), PORTS.1);
    let each = (0..u16::from(settings.nodes)).map(|number| {
        let grpc = base.saturating_add(number);
        Ok((take(grpc)?, take(grpc.saturating_add(above))?))
    });
    let ports: Vec<(u16, u16)> = each.collect::<Result<_, Error>>()?;
    Ok((ports, false))
}

/// The caller's credentials; with them certificates for everybody are made where there are none.
fn credentials(settings: &Settings, folder: &Path, nodes: usize) -> Result<Option<Arc<Credentials>>, Error> {
    if settings.insecure {
        return Ok(None);
    }
    let certs = folder.join("certs");
    fs::create_dir_all(&certs).map_err(failed("create", &certs))?;
    let authority = Authority::in_folder(&certs, SystemClock.now())?;
    let serving = (1..).take(nodes).map(|number| (name(number), true));
    for (name, serves) in serving.chain([(CALLER.to_owned(), false)]) {
        if cert_path(&certs, &name).exists() {
            continue;
        }
        authority.sign(&Leaf {
            name,
            hosts: Vec::new(),
            serves,
        })?;
    }
    let files = Files {
        cert: cert_path(&certs, CALLER),
        key: key_path(&certs, CALLER),
        ca: Some(cert_path(&certs, "ca")),
    };
    Ok(Some(Arc::new(Credentials::load(files)?)))
}

//! A cluster as it runs in earnest: each node a `continuumd` in a network namespace of its own, with a certificate for its
//! address, let in by a token that `continuum-admin` made.
//!
//! ```text
//!  Cluster ─┬─ Subnet     the network, and what is lost in it
//!           ├─ Node n1 …  processes: killed, stopped for a while, restarted; HTTP over TLS at :8000, gRPC at :7000
//!           ├─ Proxy …    before each node, where the test wants it: what members say to each other goes through
//!           ├─ Client …   one connection to each node, from outside: never cut
//!           └─ Admin      continuum-admin with the caller's certificate
//! ```
//!
//! One cluster runs at a time in a test process: two cores are what there is, and an election that is lost to another test proves
//! nothing.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use client::{Client, Identity, Settings, Tls};
use proto::v1::ClusterStatusResponse;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::rustls::{self, pki_types::CertificateDer, pki_types::pem::PemObject as _};

use crate::{
    Admin, Launch, Node,
    admin::Ran,
    proxy::Proxy,
    subnet::{Loss, Subnet},
};

/// Whatever members do by themselves is done by then.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// Names and addresses there are certificates for.
pub const NODES_MAX: u8 = 7;
/// A call of the clients here is over by then: short, so that a fault of a second or two is seen by many calls.
pub const CALL_WITHIN: Duration = Duration::from_millis(1_500);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// Held by the cluster that runs.
static TURN: std::sync::LazyLock<Arc<Semaphore>> = std::sync::LazyLock::new(|| Arc::new(Semaphore::new(1)));

/// What a test adds to how a node is started.
pub type Adjust = Box<dyn Fn(u8, Launch) -> Launch + Send + Sync>;

/// A running cluster; dropped, its processes are killed and its network is removed.
pub struct Cluster {
    // Dropped in this order: the processes before the network they are in.
    nodes: BTreeMap<u8, Node>,
    /// What is lost between them.
    pub subnet: Subnet,
    /// What stands before each node, as the other members see it; none where the test wants none.
    proxies: BTreeMap<u8, Proxy>,
    /// Those that try a call again, and those that do not.
    clients: BTreeMap<(u8, bool), Client>,
    /// `continuum-admin`, for certificates; they lie in its home.
    admin: Admin,
    certificates: PathBuf,
    adjust: Adjust,
    _turn: OwnedSemaphorePermit,
}

impl Cluster {
    /// A cluster of `size` nodes that all vote.
    ///
    /// # Errors
    /// What this machine does not allow.
    ///
    /// # Panics
    /// When the nodes do not come together; their logs are shown.
    pub async fn form(size: u8) -> Result<Cluster, String> {
        Cluster::adjusted(size, Box::new(|_, launch| launch)).await
    }

    /// The same, each node started as `adjust` says.
    ///
    /// # Errors
    /// What this machine does not allow.
    ///
    /// # Panics
    /// When the nodes do not come together; their logs are shown.
    pub async fn adjusted(size: u8, adjust: Adjust) -> Result<Cluster, String> {
        Cluster::made(size, adjust, false).await
    }

    /// The same, but members reach each other through a [`Proxy`] that stands before each.
    ///
    /// # Errors
    /// What this machine does not allow.
    ///
    /// # Panics
    /// When the nodes do not come together; their logs are shown.
    pub async fn proxied(size: u8, adjust: Adjust) -> Result<Cluster, String> {
        Cluster::made(size, adjust, true).await
    }

    async fn made(size: u8, adjust: Adjust, proxied: bool) -> Result<Cluster, String> {
        let turn = Arc::clone(&TURN).acquire_owned().await.expect("never closed");
        let subnet = Subnet::new(NODES_MAX)?;
        let admin = Admin::alone();
        let certificates = admin.home().join("certificates");
        let mut words = vec!["cert".to_owned(), "create".to_owned()];
        words.extend(["--dir".to_owned(), certificates.to_string_lossy().into_owned()]);
        words.extend(["--client".to_owned(), "me".to_owned()]);
        for node in 1..=NODES_MAX {
            words.extend(["--node".to_owned(), format!("{}={}", name(node), subnet.address(node))]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        admin.ok(&words);
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            subnet,
            proxies: BTreeMap::new(),
            clients: BTreeMap::new(),
            admin,
            certificates,
            adjust,
            _turn: turn,
        };
        cluster.connect();
        for node in (1..=NODES_MAX).filter(|_| proxied) {
            let behind = SocketAddr::new(cluster.subnet.address(node), 7000);
            let proxy = Proxy::start(cluster.subnet.outside(), behind).await;
            cluster.proxies.insert(node, proxy.map_err(|error| error.to_string())?);
        }
        let first = cluster.launch(1).start().await;
        cluster.nodes.insert(1, first);
        cluster.admin(&["cluster", "init"]);
        for node in 2..=size {
            cluster.join(node).await;
        }
        cluster.wait_voters(usize::from(size)).await;
        Ok(cluster)
    }

    /// How a node is started, at its address and with its certificate.
    #[must_use]
    pub fn launch(&self, node: u8) -> Launch {
        let file = |name: String| self.certificates.join(name).to_string_lossy().into_owned();
        let at = |port| SocketAddr::new(self.subnet.address(node), port);
        let launch = Launch::at(at(8000), at(7000))
            .argument("--node-id")
            .argument(name(node))
            .wrapped(self.subnet.inside(node))
            .over_tls(self.https())
            .environment("CONTINUUM_TLS_CA", &file("ca.pem".to_owned()))
            .environment("CONTINUUM_TLS_CERT", &file(format!("{}.pem", name(node))))
            .environment("CONTINUUM_TLS_KEY", &file(format!("{}-key.pem", name(node))));
        let launch = match self.proxies.get(&node) {
            Some(proxy) => launch
                .argument("--advertise-address")
                .argument(proxy.address().to_string()),
            None => launch,
        };
        (self.adjust)(node, launch)
    }

    /// What stands before a node.
    ///
    /// # Panics
    /// When nothing does.
    #[must_use]
    pub fn proxy(&self, node: u8) -> &Proxy {
        &self.proxies[&node]
    }

    /// Starts a node that has no data and lets it in by a token. It votes a little later.
    ///
    /// # Panics
    /// When it is not let in.
    pub async fn join(&mut self, node: u8) {
        let token = self.admin(&["cluster", "token"]).out;
        self.join_with(node, token.trim_end()).await;
    }

    /// The same with a token that there is.
    ///
    /// # Panics
    /// When it is not let in.
    pub async fn join_with(&mut self, node: u8, token: &str) {
        let launch = self.launch(node).environment("CONTINUUM_JOIN", token);
        let started = launch.start().await;
        self.nodes.insert(node, started);
    }

    /// Ends a node for good: its data go with it.
    pub fn lose(&mut self, node: u8) {
        self.nodes.remove(&node);
    }

    /// Runs `continuum-admin`, at the running nodes, and expects success.
    ///
    /// # Panics
    /// When it fails.
    pub fn admin(&self, words: &[&str]) -> Ran {
        let ran = self.admin_run(words);
        assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.err);
        ran
    }

    /// Runs `continuum-admin`, at the running nodes.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn admin_run(&self, words: &[&str]) -> Ran {
        let mut all: Vec<String> = Vec::new();
        for node in self.nodes.values() {
            all.extend(["--endpoint".to_owned(), node.grpc().to_string()]);
        }
        for (option, file) in [("ca", "ca"), ("cert", "me"), ("key", "me-key")] {
            let path = self.certificates.join(format!("{file}.pem"));
            all.extend([format!("--tls-{option}"), path.to_string_lossy().into_owned()]);
        }
        all.extend(words.iter().map(|word| (*word).to_owned()));
        Ran::of(self.admin.command(all).output().expect("continuum-admin starts"))
    }

    /// The numbers of the nodes that belong to it.
    #[must_use]
    pub fn members(&self) -> Vec<u8> {
        self.nodes.keys().copied().collect()
    }

    /// One node.
    ///
    /// # Panics
    /// When there is none of that number.
    #[must_use]
    pub fn node(&self, node: u8) -> &Node {
        &self.nodes[&node]
    }

    /// One node, to be killed or restarted.
    ///
    /// # Panics
    /// When there is none of that number.
    pub fn node_mut(&mut self, node: u8) -> &mut Node {
        self.nodes.get_mut(&node).expect("a node of the cluster")
    }

    /// A client of one node, and of no other, whether it runs or not. Clients of the same node share a connection.
    ///
    /// # Panics
    /// When there can be no node of that number.
    #[must_use]
    pub fn client(&self, node: u8) -> Client {
        self.clients[&(node, true)].clone()
    }

    /// The same, but it makes each call once, and its writes have no names: what it is told is what the node said, which sends nothing
    /// again either, and whatever happens twice is seen.
    ///
    /// # Panics
    /// When there can be no node of that number.
    #[must_use]
    pub fn client_without_retries(&self, node: u8) -> Client {
        self.clients[&(node, false)].clone()
    }

    fn connect(&mut self) {
        for (node, again) in (1..=NODES_MAX).flat_map(|node| [(node, true), (node, false)]) {
            let settings = Settings {
                call_timeout: CALL_WITHIN,
                connect_timeout: CALL_WITHIN / 3,
                attempts_max: if again { 4 } else { 1 },
                named_writes: again,
                unreachable_rounds_max: 2,
                ..self.settings(node)
            };
            let client = Client::connect(settings).expect("settings that fit together");
            self.clients.insert((node, again), client);
        }
    }

    /// A client of one node that waits as long as clients do by default, and asks once.
    ///
    /// # Panics
    /// When there can be no node of that number.
    #[must_use]
    pub fn patient_client(&self, node: u8) -> Client {
        let settings = Settings {
            attempts_max: 1,
            ..self.settings(node)
        };
        Client::connect(settings).expect("settings that fit together")
    }

    fn settings(&self, node: u8) -> Settings {
        Settings {
            tls: Some(self.tls()),
            ..Settings::of([format!("{}:7000", self.subnet.address(node))])
        }
    }

    fn read(&self, name: &str) -> String {
        let path = self.certificates.join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn tls(&self) -> Tls {
        Tls {
            ca: self.read("ca.pem"),
            identity: Some(Identity {
                cert: self.read("me.pem"),
                key: self.read("me-key.pem"),
            }),
        }
    }

    /// Members of HTTP show no certificate.
    fn https(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        let path: &Path = &self.certificates.join("ca.pem");
        let ca = CertificateDer::from_pem_file(path).expect("the authority that was just made");
        roots.add(ca).expect("the authority that was just made");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let builder = builder.expect("ring speaks TLS 1.3");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// The cluster as one node sees it; `None` while it does not answer.
    pub async fn status(&self, node: u8) -> Option<ClusterStatusResponse> {
        self.client(node).cluster().status().await.ok()
    }

    /// Who leads: the node that says so of itself, in the highest term, and can decide. Waited for.
    ///
    /// # Panics
    /// When nobody leads within [`SETTLED_WITHIN`].
    pub async fn leader(&mut self) -> u8 {
        let deadline = Instant::now() + SETTLED_WITHIN;
        let mut seen = Vec::new();
        loop {
            if let Some(leader) = self.leader_now(&mut seen).await {
                return leader;
            }
            assert!(Instant::now() < deadline, "nobody leads: {seen:#?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn leader_now(&mut self, seen: &mut Vec<ClusterStatusResponse>) -> Option<u8> {
        seen.clear();
        for node in self.members() {
            if self.node_mut(node).ended().is_none() {
                seen.extend(self.status(node).await);
            }
        }
        let newest = seen
            .iter()
            .filter(|status| status.leader == status.node && status.trouble.is_empty())
            .max_by_key(|status| status.term)?;
        self.members().into_iter().find(|node| name(*node) == newest.node)
    }

    /// Waits until exactly so many vote, and every running node sees it and can decide.
    ///
    /// # Panics
    /// When it does not come to be within [`SETTLED_WITHIN`].
    pub async fn wait_voters(&mut self, count: usize) {
        let deadline = Instant::now() + SETTLED_WITHIN;
        for node in self.members() {
            if self.node_mut(node).ended().is_some() {
                continue;
            }
            loop {
                let status = self.status(node).await;
                let voters =
                    |status: &ClusterStatusResponse| status.members.iter().filter(|member| member.votes).count();
                let settled = status.as_ref().is_some_and(|status| {
                    status.trouble.is_empty() && voters(status) == count && status.members.len() == count
                });
                if settled {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "{count} should vote; {} says {status:#?}",
                    name(node)
                );
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// A number that a node measures of itself.
    ///
    /// # Panics
    /// When the node does not answer, or does not know it.
    pub async fn metric(&self, node: u8, name: &str) -> f64 {
        let answer = self.node(node).client().get("/metrics").await;
        let text = answer.expect("a running node tells its metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let number = line.unwrap_or_else(|| panic!("no metric {name}:\n{text}"));
        number.trim().parse().expect("a metric is a number")
    }

    /// Loses exactly these packets from now on.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub fn cut(&mut self, losses: &[Loss]) {
        self.subnet.lose(losses);
    }

    /// Loses nothing any more.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub fn heal(&mut self) {
        self.subnet.lose(&[]);
    }
}

/// The name of a node.
#[must_use]
pub fn name(node: u8) -> String {
    format!("n{node}")
}

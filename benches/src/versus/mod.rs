//! Three of our nodes beside three of etcd, on one machine and in one run: the same clients, keys, values and connections.
//!
//! ```text
//!  for each number of clients, several times over:   puts │ etcd │ ours      gets │ etcd │ ours     [`load`]
//!  leader killed (-9) ─► the next write that succeeds, and back with it; as often as asked           [`failover`]
//!                                   │
//!                       trait Store: etcd │ ours (a namespace with `replication = consensus`)
//! ```
//!
//! Both clusters run all the time, each with its data in a folder of its own on one file system, and are loaded in turns. Clients
//! are spread over the three nodes; each waits for its answer before it asks again. Every put is durable on a majority, every get
//! linearizable. Both sides are asked through the same connections of the same library, with TLS on both or on none.

pub mod etcd;
pub mod failover;
pub mod load;
pub mod ours;

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use continuum_tests::Admin;
use tonic::transport::Channel;

/// Members of each cluster.
pub const MEMBERS: usize = 3;
/// Names of the members; their certificates carry them.
const NAMES: [&str; MEMBERS] = ["one", "two", "three"];
/// Bytes of each value.
pub const VALUE_BYTES: usize = 256;
/// Keys that exist before the first trial; reads and writes choose among them.
pub const KEYS: u64 = 10_000;
/// A cluster comes together within this time.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// One client's way to a store.
pub trait Client: Clone + Send + 'static {
    /// Writes `value` under `key`: durable on a majority when it returns.
    fn put(&mut self, key: String, value: String) -> impl Future<Output = Result<(), tonic::Status>> + Send;

    /// Reads `key`, linearizably; the length of what it holds.
    fn get(&mut self, key: String) -> impl Future<Output = Result<usize, tonic::Status>> + Send;
}

/// A cluster of [`MEMBERS`].
pub trait Store {
    /// What asks it.
    type Client: Client;

    /// As it is called in figures.
    const NAME: &'static str;

    /// Asks through `channel`.
    fn client(channel: Channel) -> Self::Client;

    /// Where the member is asked, `HOST:PORT`.
    fn endpoint(&self, member: usize) -> String;

    /// Who leads now, if a member knows; the members in `without` are not asked.
    fn leader(&self, without: Option<usize>) -> impl Future<Output = Option<usize>> + Send;

    /// `kill -9`.
    fn kill(&mut self, member: usize);

    /// Starts a member again on its data.
    fn restart(&mut self, member: usize) -> impl Future<Output = ()> + Send;
}

/// With what clients and nodes prove who they are; both clusters use the same.
pub struct Security {
    /// The files, and where they lie.
    files: Option<Admin>,
    /// For [`client::channel`].
    settings: client::Settings,
}

/// Who asks, by the name in its certificate.
const CALLER: &str = "caller";

impl Security {
    /// No TLS.
    #[must_use]
    pub fn none() -> Security {
        Security {
            files: None,
            settings: client::Settings::default(),
        }
    }

    /// TLS with certificates on both ends, made by `continuum-admin`.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn mutual_tls() -> Security {
        let admin = Admin::alone();
        let folder = admin.home().to_str().expect("a folder for temporary files in UTF-8");
        let mut words = vec!["cert", "create", "--dir", folder, "--client", CALLER];
        words.extend(NAMES.iter().flat_map(|name| ["--node", name]));
        admin.ok(&words);
        let read = |name: &str| fs::read_to_string(admin.home().join(name)).expect("a file that the tool has made");
        let identity = client::Identity {
            cert: read(&format!("{CALLER}.pem")),
            key: read(&format!("{CALLER}-key.pem")),
        };
        let tls = client::Tls {
            ca: read("ca.pem"),
            identity: Some(identity),
        };
        Security {
            settings: client::Settings {
                tls: Some(tls),
                ..client::Settings::default()
            },
            files: Some(admin),
        }
    }

    /// The authority, and certificate and key of `name`.
    fn files(&self, name: &str) -> Option<[PathBuf; 3]> {
        let home = self.files.as_ref()?.home();
        let files = ["ca.pem".to_owned(), format!("{name}.pem"), format!("{name}-key.pem")];
        Some(files.map(|file| home.join(file)))
    }

    /// A connection to `endpoint`, opened when it is first needed.
    fn channel(&self, endpoint: &str) -> Channel {
        client::channel(&self.settings, endpoint).expect("an address of ours")
    }
}

/// Connections to all members in turn.
#[must_use]
pub fn connections<S: Store>(store: &S, security: &Security, count: usize) -> Vec<S::Client> {
    let all = (0..count).map(|number| store.endpoint(number % MEMBERS));
    all.map(|endpoint| S::client(security.channel(&endpoint))).collect()
}

/// Ports on loopback that were free a moment ago.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let held = [(); COUNT].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback"));
    held.map(|listener| listener.local_addr().expect("a bound listener has an address").port())
}

/// The key of `number`.
fn key(number: u64) -> String {
    format!("key-{number:012}")
}

/// A JSON string of [`VALUE_BYTES`], always the same: making one would be the clients' work.
fn value() -> String {
    format!("\"{}\"", "w".repeat(VALUE_BYTES - 2))
}

//! Three `etcd` processes, with their own defaults, asked through the few messages of its API that are needed here.
//!
//! Source of the messages: `etcdserverpb/rpc.proto` and `mvccpb/kv.proto` of etcd 3.4; fields that are not looked at are left out.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use continuum_tests::has_program;
use tempfile::TempDir;
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use super::{Client, MEMBERS, NAMES, READY_WITHIN, Security, Store, free_ports};

const PROGRAM: &str = "etcd";

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member: u64,
}

/// One client of etcd.
#[derive(Clone)]
pub struct Asking(Grpc<Channel>);

impl Asking {
    async fn ask<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let unready = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        self.0.ready().await.map_err(unready)?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        Ok(self.0.unary(Request::new(request), path, codec).await?.into_inner())
    }

    async fn status(&mut self) -> Result<StatusResponse, Status> {
        self.ask("/etcdserverpb.Maintenance/Status", StatusRequest {}).await
    }
}

impl Client for Asking {
    async fn put(&mut self, key: String, value: String) -> Result<(), Status> {
        let request = PutRequest {
            key: key.into_bytes(),
            value: value.into_bytes(),
        };
        let PutResponse {} = self.ask("/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }

    async fn get(&mut self, key: String) -> Result<usize, Status> {
        let request = RangeRequest { key: key.into_bytes() };
        let found: RangeResponse = self.ask("/etcdserverpb.KV/Range", request).await?;
        Ok(found.kvs.first().map_or(0, |found| found.value.len()))
    }
}

/// The cluster; dropped, its processes are killed and reaped.
pub struct Etcd<'a> {
    security: &'a Security,
    ports: [[u16; 2]; MEMBERS],
    processes: [Option<Child>; MEMBERS],
    /// Removed after the processes.
    directory: TempDir,
}

/// Whether it can run.
///
/// # Errors
/// With what to do about it.
pub fn check() -> Result<(), String> {
    if has_program(PROGRAM) {
        return Ok(());
    }
    Err(format!(
        "{PROGRAM}, which is measured beside ours, is missing: install it with `tools/setup measure`"
    ))
}

impl<'a> Etcd<'a> {
    /// Starts it, and waits until all its members know who leads.
    ///
    /// # Panics
    /// When it does not come together.
    pub async fn start(security: &'a Security) -> Etcd<'a> {
        let ports = free_ports::<{ 2 * MEMBERS }>();
        let mut etcd = Etcd {
            security,
            ports: std::array::from_fn(|member| [ports[2 * member], ports[2 * member + 1]]),
            processes: [const { None }; MEMBERS],
            directory: TempDir::with_prefix("continuum-etcd-").expect("a folder for temporary files"),
        };
        for member in 0..MEMBERS {
            etcd.spawn(member);
        }
        for member in 0..MEMBERS {
            etcd.ready(member).await;
        }
        etcd
    }

    fn spawn(&mut self, member: usize) {
        let scheme = if self.security.files.is_some() { "https" } else { "http" };
        let url = |member: usize, port: usize| format!("{scheme}://127.0.0.1:{}", self.ports[member][port]);
        let all: Vec<String> = (0..MEMBERS)
            .map(|member| format!("{}={}", NAMES[member], url(member, 1)))
            .collect();
        let mut command = Command::new(PROGRAM);
        command
            .args(["--name", NAMES[member], "--initial-cluster", &all.join(",")])
            .arg("--data-dir")
            .arg(self.directory.path().join(NAMES[member]))
            .args(["--listen-client-urls", &url(member, 0)])
            .args(["--advertise-client-urls", &url(member, 0)])
            .args(["--listen-peer-urls", &url(member, 1)])
            .args(["--initial-advertise-peer-urls", &url(member, 1)])
            .args(["--logger", "zap", "--log-level", "error"]);
        if let Some(files) = self.security.files(NAMES[member]) {
            let [ca, cert, key] = files;
            for [ca_option, cert_option, key_option, require] in [
                ["--trusted-ca-file", "--cert-file", "--key-file", "--client-cert-auth"],
                [
                    "--peer-trusted-ca-file",
                    "--peer-cert-file",
                    "--peer-key-file",
                    "--peer-client-cert-auth",
                ],
            ] {
                command.arg(ca_option).arg(&ca).arg(cert_option).arg(&cert);
                command.arg(key_option).arg(&key).arg(require);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.processes[member] = Some(command.spawn().expect("etcd was found before"));
    }

    fn asking(&self, member: usize) -> Asking {
        Etcd::client(self.security.channel(&self.endpoint(member)))
    }

    /// Waits until the member knows who leads and answers a read.
    async fn ready(&self, member: usize) {
        let deadline = Instant::now() + READY_WITHIN;
        let mut asking = self.asking(member);
        loop {
            if asking.get(String::from("ready")).await.is_ok() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "etcd's member {} is not ready",
                NAMES[member]
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Store for Etcd<'_> {
    type Client = Asking;

    const NAME: &'static str = "etcd";

    fn client(channel: Channel) -> Asking {
        Asking(Grpc::new(channel))
    }

    fn endpoint(&self, member: usize) -> String {
        format!("127.0.0.1:{}", self.ports[member][0])
    }

    async fn leader(&self, without: Option<usize>) -> Option<usize> {
        for member in (0..MEMBERS).filter(|member| Some(*member) != without) {
            let status = self.asking(member).status().await.ok()?;
            if status.leader != 0 && status.header.is_some_and(|header| header.member == status.leader) {
                return Some(member);
            }
        }
        None
    }

    fn kill(&mut self, member: usize) {
        if let Some(mut process) = self.processes[member].take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    async fn restart(&mut self, member: usize) {
        self.spawn(member);
        self.ready(member).await;
    }
}

impl Drop for Etcd<'_> {
    fn drop(&mut self) {
        for member in 0..MEMBERS {
            self.kill(member);
        }
    }
}

/// Its version, for the report.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn version() -> String {
    let output = Command::new(PathBuf::from(PROGRAM)).arg("--version").output();
    let output = output.expect("etcd was found before");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().unwrap_or_default().trim().replace(" Version:", "")
}

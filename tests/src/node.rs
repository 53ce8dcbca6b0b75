//! One `continuumd` process: started, asked whether it is ready, killed, started again, and always reaped.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_rustls::rustls;

use crate::http::Client;

/// How long a node may take until `/readyz` answers 200, under strace and on a busy machine.
pub const READY_WITHIN: Duration = Duration::from_secs(60);
/// Lines of a node's log shown when its test fails.
const LOG_LINES_SHOWN: usize = 60;

/// How a node is to be started; a restart uses the same.
#[derive(Clone, Debug)]
pub struct Launch {
    directory: Arc<TempDir>,
    data: PathBuf,
    http: SocketAddr,
    grpc: SocketAddr,
    wrapper: Vec<OsString>,
    arguments: Vec<OsString>,
    environment: BTreeMap<String, String>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Default for Launch {
    fn default() -> Launch {
        Launch::new()
    }
}

impl Launch {
    /// A node with a new directory and ports that were free a moment ago.
    ///
    /// # Panics
    /// When there is no directory or port to be had.
    #[must_use]
    pub fn new() -> Launch {
        let [http, grpc] = free_addresses();
        Launch::at(http, grpc)
    }

    /// A node with a new directory, at these addresses.
    ///
    /// # Panics
    /// When there is no directory to be had.
    #[must_use]
    pub fn at(http: SocketAddr, grpc: SocketAddr) -> Launch {
        let directory = TempDir::with_prefix("continuum-test-").expect("a temporary directory");
        let data = directory.path().join("data");
        Launch {
            directory: Arc::new(directory),
            data,
            http,
            grpc,
            wrapper: Vec::new(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            tls: None,
        }
    }

    /// It will be asked over TLS.
    #[must_use]
    pub fn over_tls(mut self, tls: Arc<rustls::ClientConfig>) -> Launch {
        self.tls = Some(tls);
        self
    }

    /// Keeps the data elsewhere (a small file system, say).
    #[must_use]
    pub fn data(mut self, data: impl Into<PathBuf>) -> Launch {
        self.data = data.into();
        self
    }

    /// Starts the node through another program that becomes it or stays out of its way (`strace -D …`).
    #[must_use]
    pub fn wrapped<S: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Launch {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an argument of `continuumd`.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Launch {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable of `continuumd`.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Launch {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A folder that lives as long as the launch, for traces and the like.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the node keeps its data.
    #[must_use]
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// Where its gRPC will be served.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Starts the process without waiting for it to be ready.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(&self) -> Node {
        let log_path = self.directory.path().join("node.log");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .expect("the node's log file");
        let mut words = self.wrapper.clone();
        words.push(binary().into_os_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
            .arg("--bind")
            .arg(self.grpc.to_string())
            .arg("--http")
            .arg(self.http.to_string());
        command.arg("--data-dir").arg(&self.data).args(&self.arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CONTINUUM_") {
                command.env_remove(name);
            }
        }
        command
            .envs(&self.environment)
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command.stdout(duplicate(&log)).stderr(duplicate(&log));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {words:?}: {error}"));
        Node {
            launch: self.clone(),
            child: Some(child),
            log_path,
        }
    }

    /// Starts the process and waits until it is ready.
    ///
    /// # Panics
    /// When it ends or is not ready in time; the log is shown.
    pub async fn start(&self) -> Node {
        let mut node = self.spawn();
        node.wait_ready().await;
        node
    }
}

/// A running process; dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Node {
    launch: Launch,
    child: Option<Child>,
    log_path: PathBuf,
}

impl Node {
    /// A fresh node, ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start() -> Node {
        Launch::new().start().await
    }

    /// How it was started.
    #[must_use]
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Where it serves HTTP.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.launch.http
    }

    /// Where it serves gRPC.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.launch.grpc
    }

    /// A new HTTP connection to it, opened at the first request.
    #[must_use]
    pub fn client(&self) -> Client {
        let client = Client::new(self.launch.http);
        match &self.launch.tls {
            Some(tls) => client.over_tls(Arc::clone(tls)),
            None => client,
        }
    }

    /// Its process id, while it runs.
    ///
    /// # Panics
    /// When it was stopped.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("a running node").id()
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// When the process has gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most memory in bytes that was ever resident.
    ///
    /// # Panics
    /// When the process has gone.
    #[must_use]
    pub fn resident_bytes_max(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a running node");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .expect("a field of every process");
        let kib: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .trim()
            .parse()
            .expect("a number of kB");
        kib * 1024
    }

    /// Everything it has logged, of all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log_path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Panics
    /// When the process ends, or is not ready within [`READY_WITHIN`].
    pub async fn wait_ready(&mut self) {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(answer) = self.client().get("/readyz").await
                && answer.status == 200
            {
                return;
            }
            if let Some(status) = self.ended() {
                panic!("continuumd ended with {status} before it was ready:\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "continuumd is not ready after {READY_WITHIN:?}:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the search index holds what the pool held at start: a node is ready before, and knowledge has to wait.
    ///
    /// # Panics
    /// When it is not built within [`READY_WITHIN`].
    pub async fn wait_searchable(&mut self) {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answer = self
                .client()
                .get("/readyz?verbose")
                .await
                .expect("a ready node answers")
                .ok();
            let checks = answer["checks"].as_array().expect("a list of checks");
            if checks
                .iter()
                .any(|check| check["name"] == "search_built" && check["status"] == "ok")
            {
                return;
            }
            assert!(Instant::now() < deadline, "no index after {READY_WITHIN:?}: {answer}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How the process ended, if it has.
    ///
    /// # Panics
    /// When the system cannot tell.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("a node that was started");
        child.try_wait().expect("the status of our own child")
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// When it still runs after `within`.
    pub async fn wait_ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "continuumd still runs after {within:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// `kill -9`, and reaps it. Its data stays.
    pub fn kill(&mut self) {
        if let Some(child) = self.child.as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop (SIGTERM).
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Stands still (SIGSTOP) until [`go_on`](Node::go_on).
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn stand_still(&self) {
        self.signal(Signal::STOP);
    }

    /// Goes on (SIGCONT).
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id().cast_signed()).expect("a process id");
        kill_process(id, signal).expect("a signal to our own child");
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Panics
    /// When it still runs after `within`.
    pub async fn stop(&mut self, within: Duration) -> ExitStatus {
        self.ask_to_stop();
        self.wait_ended(within).await
    }

    /// Starts it again on the same data and ports, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn restart(&mut self) {
        self.respawn();
        self.wait_ready().await;
    }

    /// The same without waiting.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn respawn(&mut self) {
        self.kill();
        let mut next = self.launch.spawn();
        // The old node owned nothing but its reaped process.
        self.child = next.child.take();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.child.is_none() {
            return;
        }
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- the last lines of the node's log\n{}\n---", shown.join("\n"));
        }
    }
}

/// Whether a process was ended by signal 9.
#[must_use]
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// The `continuumd` that was built beside the running test.
///
/// # Panics
/// When there is none; says how to build it.
#[must_use]
pub fn binary() -> PathBuf {
    match std::env::var_os("CONTINUUM_TEST_BINARY") {
        Some(named) => named.into(),
        None => built("continuumd"),
    }
}

/// A program that was built beside the running test.
///
/// # Panics
/// When there is none; says how to build it.
#[must_use]
pub fn built(program: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the path of the running program");
    let built = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    built.unwrap_or_else(|| {
        panic!(
            "no {program} beside {}: build it with `cargo build --release --bin {program}`",
            this.display()
        )
    })
}

/// Two loopback addresses whose ports are free now.
fn free_addresses() -> [SocketAddr; 2] {
    let held = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback"));
    held.map(|listener| listener.local_addr().expect("the address of a bound listener"))
}

fn duplicate(file: &File) -> Stdio {
    let copy: io::Result<File> = file.try_clone();
    Stdio::from(copy.expect("a second handle on the log file"))
}

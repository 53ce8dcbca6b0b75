//! The face through a real socket, on a real node in memory.

mod documents;
mod federation;
mod hostile;
mod order;

use std::{net::Ipv4Addr, sync::Arc};

use axum::{Router, routing::get};
use engine::{
    Engine, Environment,
    clock::{Clock, Timestamp},
    store::memory::Memory,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    consensus::{self, Sequencer},
    contribution,
    runtime::{
        health::Bearing,
        listener::{self, Settings},
        tasks,
    },
};

/// A clock that goes where it is told.
#[derive(Clone)]
struct Hand(Arc<Mutex<u64>>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(*self.0.lock())
    }
}

/// A node that listens, and a client for it.
struct Node {
    address: std::net::SocketAddr,
    clock: Hand,
    health: Health,
}

/// 2026-01-02T03:04:05.678901+00:00.
const START: u64 = 1_767_323_045_678_901;
const HOUR: u64 = 3_600_000_000;

async fn node() -> Node {
    let clock = Hand(Arc::new(Mutex::new(START)));
    let health = Health::starting(&[("process", Bearing::Live), ("engine", Bearing::Ready)]);
    health.pass("engine");
    let contribution = contribution(&clock);
    let face = Face::new(contribution, Arc::new(clock.clone()), health.clone(), Metrics::new());
    let layer = middleware::from_fn_with_state(face.clone(), envelope::envelope);
    let broken = Router::new()
        .route("/panic", get(async || -> &'static str { panic!("asked to") }))
        .layer(layer);
    let router = face.router().merge(broken);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let gauge = Metrics::new().gauge(crate::metrics::CONNECTIONS, &[("face", "http")]);
    tasks::spawn(listener::serve(
        listener,
        router,
        Settings::default(),
        unreadable,
        gauge,
        std::future::pending(),
    ));
    Node { address, clock, health }
}

/// The real service over an engine in memory.
fn contribution(clock: &Hand) -> Contribution {
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let environment = Environment {
        node: "test".to_owned(),
        clock: Arc::clone(&clock),
        entropy: entropy::bits,
        log: Arc::new(wal::storage::Faulty::new()),
        store: Arc::new(Memory::new()),
    };
    let metrics = Metrics::new();
    let engine = Engine::open(engine::Settings::default(), environment).unwrap();
    let sequencer = Sequencer::start(
        engine.clone(),
        Arc::clone(&clock),
        consensus::Settings::default(),
        &metrics,
    )
    .unwrap();
    let contribution = Contribution::new(engine, sequencer, clock, contribution::Settings::default(), &metrics);
    let (stopper, stop) = tasks::stop();
    let followed = contribution.clone();
    tasks::spawn(async move {
        let _kept = stopper;
        followed.follow_pool(stop).await
    });
    contribution
}

/// A request under construction.
struct Call<'a> {
    node: &'a Node,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Node {
    fn call(&self, method: &str, path: &str) -> Call<'_> {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n").into_bytes();
        Call {
            node: self,
            head,
            body: Vec::new(),
        }
    }

    fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    /// A JSON body.
    fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Call<'_> {
        self.call("POST", path)
            .header("content-type", "application/json")
            .body(body)
    }

    async fn contribute(&self, caller: &str, body: impl AsRef<[u8]>) -> Answer {
        self.post("/federation/contribute", body)
            .header("x-node-id", caller)
            .send()
            .await
    }

    async fn knowledge(&self, caller: &str, body: impl AsRef<[u8]>) -> Answer {
        self.post("/federation/knowledge", body)
            .header("x-node-id", caller)
            .send()
            .await
    }
}

impl Call<'_> {
    fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
        self.head.extend_from_slice(value.as_ref());
        self.head.extend_from_slice(b"\r\n");
        self
    }

    fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    async fn send(self) -> Answer {
        let mut bytes = self.head;
        if !self.body.is_empty() && !bytes.windows(18).any(|window| window == b"transfer-encoding:") {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        let mut stream = TcpStream::connect(self.node.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        Answer::read(&answer)
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Answer {
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("a whole head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let split = |line: &str| {
            line.split_once(": ")
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .unwrap()
        };
        Answer {
            status,
            headers: lines.map(split).collect(),
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that this is a refusal of the one shape, and gives its `detail`.
    #[track_caller]
    fn refusal(&self, status: u16, code: &str) -> Value {
        assert_eq!(
            (self.status, self.json()["code"].as_str()),
            (status, Some(code)),
            "{self:?}"
        );
        let body = self.json();
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("urn:continuum:problem:{code}"));
        assert!(!body["title"].as_str().unwrap().is_empty());
        assert_eq!(body["request_id"], self.header("x-request-id"));
        let detail = body["detail"].clone();
        let empty = match &detail {
            Value::String(text) => text.is_empty(),
            Value::Array(faults) => faults.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => true,
        };
        assert!(!empty, "{body}");
        if let Value::Array(faults) = &detail {
            for fault in faults {
                let keys: Vec<&String> = fault.as_object().unwrap().keys().collect();
                assert_eq!(keys, ["type", "loc", "msg", "input"], "{body}");
            }
        }
        detail
    }
}

/// `{"concepts": […]}` with concepts of these names.
fn concepts<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let concepts: Vec<Value> = names
        .into_iter()
        .map(|name| serde_json::json!({ "name": name }))
        .collect();
    serde_json::json!({ "concepts": concepts }).to_string()
}

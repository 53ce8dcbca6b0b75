//! Through real sockets: what each kind of slow, greedy or broken caller gets.

mod frames;
mod reading;
mod secure;
mod streaming;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::Extension,
    http::StatusCode,
    routing::{get, post},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
};

use axum::Router;

use super::*;

/// Longer than any time-out under test, shorter than patience.
const LONG: Duration = Duration::from_secs(20);

fn quick() -> Settings {
    Settings {
        head_ms_max: 400,
        body_ms_max: 400,
        idle_ms_max: 1_200,
        write_ms_max: 400,
        drain_ms_max: 1_000,
        ..Settings::default()
    }
}

fn routes() -> Router {
    Router::new()
        .route(
            "/",
            get(async |Extension(peer): Extension<Peer>| format!("hello {}", peer.address.ip())),
        )
        .route(
            "/slow",
            get(async || {
                time::sleep(Duration::from_millis(700)).await;
                "slow"
            }),
        )
        .route(
            "/stuck",
            get(async || {
                time::sleep(LONG).await;
                "never"
            }),
        )
        .route("/large", get(async || "x".repeat(64 * 1024 * 1024)))
        .merge(streaming::routes())
        .route("/mebibyte", get(async || "x".repeat(1024 * 1024)))
        .route("/nothing", get(async || StatusCode::NO_CONTENT))
        .route("/unread", post(async || StatusCode::PAYLOAD_TOO_LARGE))
        .route(
            "/echo",
            post(async |body: Body| match axum::body::to_bytes(body, usize::MAX).await {
                Ok(bytes) => (StatusCode::OK, bytes),
                Err(error) => (
                    if BodyError::late(&error).is_some() {
                        StatusCode::REQUEST_TIMEOUT
                    } else {
                        StatusCode::BAD_REQUEST
                    },
                    Bytes::new(),
                ),
            }),
        )
}

struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn served(settings: Settings) -> Served {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    served_on(listener, settings)
}

fn served_on(socket: impl Into<Socket>, settings: Settings) -> Served {
    let socket = socket.into();
    let address = socket.tcp.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let refusal: Unreadable = |status| format!("{{\"status\":{status}}}");
    let task = tokio::spawn(serve(socket, routes(), settings, refusal, Gauge::noop(), async {
        drop(stopped.await)
    }));
    Served { address, stop, task }
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request` on a connection of its own and reads until the server closes it.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        rest(&mut stream).await
    }

    async fn answers(&self) -> bool {
        self.exchange(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    }
}

/// Everything until the server closes, however it closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    time::timeout(LONG, async {
        while let Ok(read) = stream.read(&mut chunk).await
            && read > 0
        {
            text.extend_from_slice(&chunk[..read]);
        }
    })
    .await
    .expect("the server closes the connection");
    String::from_utf8_lossy(&text).into_owned()
}

/// One answer on a connection that stays open; the body's length must be declared.
async fn one_answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut byte = [0; 1];
    while !text.ends_with("\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1, "closed after {text:?}");
        text.push(char::from(byte[0]));
    }
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap()
        .parse()
        .unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    text + &String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn an_answer_names_the_peer_and_the_connection_is_kept() {
    let served = served(quick()).await;
    let mut stream = served.connect().await;
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(one_answer(&mut stream).await.ends_with("hello 127.0.0.1"));
    }
}

#[tokio::test]
async fn h2_is_understood_by_its_preface() {
    let served = served(quick()).await;
    let mut stream = served.connect().await;
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]); // SETTINGS
    hello.extend_from_slice(&[0, 0, 6, 1, 5, 0, 0, 0, 1]); // HEADERS, END_STREAM and END_HEADERS, stream 1
    hello.extend_from_slice(&[0x82, 0x86, 0x84, 0x41, 1, b'a']); // GET http / authority a
    stream.write_all(&hello).await.unwrap();
    let mut seen = Vec::new();
    let answered = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            match head[3] {
                1 => assert_eq!(payload[0], 0x88, "status 200 from the static table"),
                0 if !payload.is_empty() => return payload,
                kind => seen.push(kind),
            }
        }
    };
    let body = time::timeout(LONG, answered).await.expect("an h2 answer");
    assert_eq!(body, b"hello 127.0.0.1");
    // GOAWAY is frame type 7: the caller knows which of its requests were seen.
    let farewell = rest(&mut stream).await.into_bytes();
    assert!(
        farewell.windows(9).any(|frame| frame[..5] == [0, 0, 8, 7, 0]),
        "{farewell:?}"
    );
}

#[tokio::test]
async fn a_dribbled_head_is_cut_in_its_time() {
    let served = served(quick()).await;
    for start in ["GET / HTTP/1.1\r\nx: ", "", "PRI * HT"] {
        let mut stream = served.connect().await;
        let began = Instant::now();
        stream.write_all(start.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let dribble = async {
            loop {
                time::sleep(Duration::from_millis(40)).await;
                if !start.is_empty() && !start.starts_with("PRI") && writer.write_all(b"a").await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut byte = [0; 1];
        let cut = tokio::select! {
            () = dribble => unreachable!(),
            read = time::timeout(LONG, reader.read(&mut byte)) => read.expect("cut"),
        };
        assert!(!matches!(cut, Ok(1..)), "no answer to half a head");
        let took = began.elapsed();
        assert!(
            took >= Duration::from_millis(380) && took < Duration::from_secs(5),
            "{start:?} was cut after {took:?}"
        );
    }
    assert!(served.answers().await);
}

#[tokio::test]
async fn a_second_head_on_a_kept_connection_has_its_own_time() {
    let served = served(Settings {
        head_ms_max: 500,
        idle_ms_max: 15_000,
        ..quick()
    })
    .await;
    let mut stream = served.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    one_answer(&mut stream).await;
    // Longer than a head may take, shorter than idleness may last.
    time::sleep(Duration::from_millis(1_000)).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    one_answer(&mut stream).await;
    let began = Instant::now();
    stream.write_all(b"GET /").await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "a head's time, not that of idleness: {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_its_time() {
    let served = served(quick()).await;
    let mut stream = served.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    one_answer(&mut stream).await;
    let began = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(1_100) && took < Duration::from_secs(6),
        "closed after {took:?}"
    );
}

#[tokio::test]
async fn a_dribbled_body_is_late() {
    let served = served(quick()).await;
    let mut stream = served.connect().await;
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n")
        .await
        .unwrap();
    let (mut reader, mut writer) = stream.split();
    let dribble = async {
        for _ in 0..200 {
            let _until_cut = writer.write_all(b"a").await;
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answer = vec![0; 12];
    let (_, read) = tokio::join!(dribble, time::timeout(LONG, reader.read_exact(&mut answer)));
    read.expect("answered").unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn a_slow_answer_is_no_idle_connection() {
    let settings = Settings {
        idle_ms_max: 300,
        head_ms_max: 300,
        ..quick()
    };
    let served = served(settings).await;
    let answer = served
        .exchange(b"GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.ends_with("slow"), "{answer}");
}

#[tokio::test]
async fn a_caller_that_does_not_read_its_answer_loses_its_place() {
    let served = served(Settings {
        connections_max: 1,
        idle_ms_max: 60_000,
        ..quick()
    })
    .await;
    let mut greedy = served.connect().await;
    greedy
        .write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    time::sleep(Duration::from_millis(100)).await;
    assert!(!served.answers().await, "the place is taken");
    let began = Instant::now();
    while !served.answers().await {
        assert!(began.elapsed() < LONG, "the place is never given back");
        time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_caller_that_reads_slowly_gets_all_of_its_answer() {
    let settings = Settings {
        idle_ms_max: 300,
        write_ms_max: 4_000,
        ..quick()
    };
    let served = served(settings).await;
    let mut stream = served.connect().await;
    stream
        .write_all(b"GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut sip = vec![0; 2 * 1024 * 1024];
    let mut total = 0;
    // Longer than idleness and parting together, with pauses far shorter than a stalled write may last.
    for _ in 0..32 {
        time::sleep(Duration::from_millis(190)).await;
        total += stream.read_exact(&mut sip).await.unwrap();
    }
    assert_eq!(total, 64 * 1024 * 1024);
}

#[tokio::test]
async fn many_silent_connections_do_not_keep_others_out() {
    const SILENT: usize = 300;
    let served = served(Settings {
        connections_max: SILENT + 10,
        ..quick()
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(served.connect().await);
    }
    assert!(served.answers().await);
    for stream in &mut silent {
        assert_eq!(rest(stream).await, "");
    }
    assert!(served.answers().await);
}

#[tokio::test]
async fn one_over_the_limit_is_closed_at_once_and_the_next_free_place_is_taken() {
    let served = served(Settings {
        connections_max: 2,
        ..Settings::default()
    })
    .await;
    let first = served.connect().await;
    let mut second = served.connect().await;
    second.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    one_answer(&mut second).await;
    assert!(!served.answers().await);
    drop(first);
    let began = Instant::now();
    while !served.answers().await {
        assert!(began.elapsed() < LONG, "the place is never given back");
        time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn each_address_has_its_share_and_loopback_all_there_is() {
    let settings = Settings {
        connections_max: 10,
        connections_per_address_max: 2,
        ..Settings::default()
    };
    let (_stopper, stop) = tasks::stop();
    let host = Host::new(settings, Router::new(), None, |_| String::new(), Gauge::noop(), stop);
    let host = Arc::new(host);
    let take = |address: &str| Place::take(&host, address.parse().unwrap());
    let one = take("192.0.2.1").unwrap();
    let _same_caller = take("::ffff:192.0.2.1").unwrap();
    assert!(take("192.0.2.1").is_none());
    let _other = take("192.0.2.2").unwrap();
    drop(one);
    let _again = take("192.0.2.1").unwrap();
    let local: Vec<Option<Place<Router>>> = (0..8).map(|_| take("127.0.0.1")).collect();
    assert_eq!(local.iter().flatten().count(), 7, "3 of 10 places are taken");
    drop(local);
    assert_eq!(host.crowd.lock().by_address.len(), 2, "who left is forgotten");
}

#[tokio::test]
async fn heads_that_cannot_be_read_are_refused_with_a_body() {
    let served = served(quick()).await;
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    let cases: [(&[u8], u16); 4] = [
        (b"GET / HTTP/1.1\r\nhost: a\r\nx-node-id: a\x01b\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: nine\r\n\r\n", 400),
        (large.as_bytes(), 431),
    ];
    for (request, status) in cases {
        let answer = served.exchange(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
        assert!(
            answer.ends_with(&format!("\r\n\r\n{{\"status\":{status}}}")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_early_answer_reaches_a_caller_that_is_still_sending() {
    let served = served(Settings {
        body_ms_max: 10_000,
        ..quick()
    })
    .await;
    let mut request = b"POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 8000000\r\n\r\n".to_vec();
    request.resize(request.len() + 8_000_000, b'x');
    for _ in 0..5 {
        let answer = served.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer:?}");
    }
}

#[tokio::test]
async fn stopping_lets_requests_in_flight_end_and_nobody_else_in() {
    let served = served(quick()).await;
    let mut working = served.connect().await;
    working
        .write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut idle = served.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    one_answer(&mut idle).await;
    served.stop.send(()).unwrap();
    assert!(rest(&mut working).await.ends_with("slow"));
    assert_eq!(rest(&mut idle).await, "");
    // The idle caller keeps its end open; nobody waits for that.
    let began = Instant::now();
    time::timeout(LONG, served.task)
        .await
        .expect("the listener ends")
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let served = served(quick()).await;
    let mut stuck = served.connect().await;
    stuck
        .write_all(b"GET /stuck HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    served.stop.send(()).unwrap();
    time::timeout(LONG, served.task)
        .await
        .expect("the listener ends")
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn settings_that_would_refuse_everybody_are_refused() {
    assert_eq!(Settings::default().validate(), Ok(()));
    let zero = Settings {
        idle_ms_max: 0,
        ..Settings::default()
    };
    assert!(zero.validate().unwrap_err().contains("idle_ms_max"));
    let small = Settings {
        head_bytes_max: 100,
        ..Settings::default()
    };
    assert!(small.validate().unwrap_err().contains("head_bytes_max"));
}

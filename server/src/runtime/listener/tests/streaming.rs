//! gRPC streams: long, idle, dribbled, and ended by a stop.

use axum::{extract::State, response::IntoResponse};
use tokio::sync::broadcast;
use tokio_stream::{StreamExt, wrappers::BroadcastStream};

use super::{super::body::Message, frames::*, *};

/// A message of five bytes, as it is framed.
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

pub(super) fn routes() -> Router {
    let (events, _) = broadcast::channel::<()>(16);
    Router::new()
        .route("/tell", get(tell))
        .route("/watch", post(watch))
        .route(
            "/talk",
            post(async |body: Body| Body::from_stream(body.into_data_stream())),
        )
        .route("/detached", post(detached))
        .route("/flood", post(flood))
        .with_state(events)
}

async fn tell(State(events): State<broadcast::Sender<()>>) -> StatusCode {
    let _nobody = events.send(());
    StatusCode::NO_CONTENT
}

/// Says something whenever somebody asks `/tell`, without an end.
async fn watch(State(events): State<broadcast::Sender<()>>) -> impl IntoResponse {
    let told = BroadcastStream::new(events.subscribe());
    Body::from_stream(told.map(|_| Ok::<_, Infallible>(Bytes::from_static(MESSAGE))))
}

/// Says more at once than any caller's window holds.
async fn flood() -> impl IntoResponse {
    let large = Bytes::from(vec![b'x'; 1024 * 1024]);
    Body::from_stream(tokio_stream::once(Ok::<_, Infallible>(large)))
}

/// Like reflection: a task of its own reads the request for as long as it lasts, and the answer waits for it.
async fn detached(State(events): State<broadcast::Sender<()>>, body: Body) -> impl IntoResponse {
    tokio::spawn(async move {
        let mut body = body.into_data_stream();
        while let Some(Ok(_)) = body.next().await {}
        drop(body);
    });
    watch(State(events)).await
}

/// Every limit far shorter than the streams last.
fn hasty() -> Settings {
    Settings {
        head_ms_max: 300,
        body_ms_max: 300,
        idle_ms_max: 300,
        write_ms_max: 300,
        drain_ms_max: 15_000,
        ..Settings::default()
    }
}

#[tokio::test]
async fn an_idle_grpc_stream_stays_open_both_ways() {
    let served = served(hasty()).await;
    let mut caller = Caller::connect(&served, 65_535).await;
    caller.open(1, "/watch").await;
    caller.accepted(1).await;
    caller.open(3, "/talk").await;
    caller.accepted(3).await;
    for _ in 0..3 {
        time::sleep(Duration::from_millis(1_000)).await;
        assert!(
            served
                .exchange(b"GET /tell HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 204")
        );
        assert_eq!(caller.data(1, MESSAGE.len()).await, MESSAGE);
        caller.send(DATA, 0, 3, MESSAGE).await;
        assert_eq!(caller.data(3, MESSAGE.len()).await, MESSAGE);
    }
    caller.send(DATA, END_STREAM, 3, &[]).await;
    while let Some(seen) = caller.frame().await {
        assert_eq!((seen.kind, seen.stream, seen.payload.len()), (DATA, 3, 0), "{seen:?}");
        if seen.flags == END_STREAM {
            return;
        }
    }
    panic!("the connection was closed");
}

#[tokio::test]
async fn a_grpc_stream_whose_messages_are_not_taken_is_reset_alone() {
    let served = served(hasty()).await;
    let mut caller = Caller::connect(&served, 65_535).await;
    caller.open(1, "/watch").await;
    caller.accepted(1).await;
    caller.open(3, "/flood").await;
    caller.accepted(3).await;
    caller.data(3, 65_535).await;
    let seen = caller.frame().await.expect("the connection lives");
    assert_eq!((seen.kind, seen.stream, &seen.payload[..]), (RESET, 3, &CANCEL[..]));
    caller.get(5, "/tell").await;
    let mut kinds = [
        caller.frame().await.expect("a frame").kind,
        caller.frame().await.expect("a frame").kind,
    ];
    kinds.sort_unstable();
    assert_eq!(kinds, [DATA, HEADERS], "the watch goes on");
}

#[tokio::test]
async fn a_grpc_message_without_room_ends_its_stream_in_trailers() {
    let served = served(Settings {
        answers_bytes_max: 512 * 1024,
        ..hasty()
    })
    .await;
    let mut caller = Caller::connect(&served, 65_535).await;
    caller.open(1, "/flood").await;
    caller.accepted(1).await;
    let seen = caller.frame().await.expect("trailers");
    assert_eq!((seen.kind, seen.flags & END_STREAM), (HEADERS, END_STREAM), "{seen:?}");
}

#[tokio::test]
async fn a_grpc_stream_may_keep_talking_past_the_time_of_a_body() {
    let served = served(Settings {
        body_ms_max: 1_000,
        ..hasty()
    })
    .await;
    let mut caller = Caller::connect(&served, 65_535).await;
    caller.open(1, "/talk").await;
    caller.accepted(1).await;
    let began = Instant::now();
    // Never between two messages: each frame ends one and begins the next.
    caller.send(DATA, 0, 1, &MESSAGE[..7]).await;
    caller.data(1, 7).await;
    while began.elapsed() < Duration::from_millis(3_000) {
        time::sleep(Duration::from_millis(50)).await;
        let turn = [&MESSAGE[7..], &MESSAGE[..7]].concat();
        caller.send(DATA, 0, 1, &turn).await;
        assert_eq!(caller.data(1, MESSAGE.len()).await, turn);
    }
    caller.send(DATA, END_STREAM, 1, &MESSAGE[7..]).await;
    caller.data(1, 3).await;
}

#[tokio::test]
async fn a_dribbled_grpc_message_is_late() {
    let served = served(hasty()).await;
    let mut caller = Caller::connect(&served, 65_535).await;
    caller.open(1, "/echo").await;
    caller.send(DATA, 0, 1, MESSAGE).await;
    caller.send(DATA, 0, 1, &[0, 0, 1, 0, 0]).await;
    let began = Instant::now();
    let answer = loop {
        tokio::select! {
            seen = caller.next() => break seen.expect("an answer"),
            () = time::sleep(Duration::from_millis(40)) => caller.send(DATA, 0, 1, b"x").await,
        }
        assert!(began.elapsed() < LONG, "a byte now and then is enough");
    };
    // 408 is not in the static table: name 8, three characters.
    assert_eq!((answer.kind, answer.stream), (HEADERS, 1));
    assert_ne!(answer.payload[0], OK);
}

#[tokio::test]
async fn stopping_ends_grpc_streams_that_are_quiet() {
    for path in ["/watch", "/talk", "/detached", "/echo"] {
        let served = served(hasty()).await;
        let mut caller = Caller::connect(&served, 65_535).await;
        caller.open(1, path).await;
        if path != "/echo" {
            caller.accepted(1).await;
        }
        time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        served.stop.send(()).unwrap();
        let (mut told, mut ended) = (false, false);
        while let Some(seen) = caller.frame().await {
            told |= seen.kind == GOAWAY;
            ended |= seen.kind == HEADERS && (seen.flags & END_STREAM != 0 || path == "/echo");
        }
        assert!(told && ended, "{path}: GOAWAY {told}, an end in trailers {ended}");
        time::timeout(LONG, served.task)
            .await
            .expect("the listener ends")
            .unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "{path}: {:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn stopping_lets_a_grpc_stream_that_talks_go_on() {
    let served = served(Settings {
        quiet_ms_max: 2_000,
        ..hasty()
    })
    .await;
    let mut caller = Caller::connect(&served, 65_535).await;
    caller.open(1, "/talk").await;
    caller.accepted(1).await;
    served.stop.send(()).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(4_500) {
        caller.send(DATA, 0, 1, MESSAGE).await;
        loop {
            let seen = caller.frame().await.expect("an echo");
            if seen.kind == DATA {
                assert_eq!(seen.payload, MESSAGE);
                break;
            }
            assert_eq!(seen.kind, GOAWAY);
        }
        time::sleep(Duration::from_millis(20)).await;
    }
    time::timeout(LONG, served.task)
        .await
        .expect("the listener ends once it is quiet")
        .unwrap();
}

#[test]
fn messages_are_followed_wherever_they_are_cut() {
    let body = [MESSAGE, b"\0\0\0\0\0", b"\x01\0\0\x01\x00", &[7; 256], MESSAGE].concat();
    let ends = [10, 15, 276, 286];
    for step in [1, 2, 3, 5, 7, 10, 16, 100, body.len()] {
        let mut message = Message::default();
        let mut at = 0;
        for piece in body.chunks(step) {
            let before = at;
            at += piece.len();
            let ended = ends.iter().any(|end| (before + 1..=at).contains(end));
            assert_eq!(message.follow(piece), ended, "{step}: {before} to {at}");
            assert_eq!(message.is_between(), ends.contains(&at), "{step}: at {at}");
        }
    }
}

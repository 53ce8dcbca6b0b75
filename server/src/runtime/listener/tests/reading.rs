//! Callers that read their answers slowly, in sips, or not at all.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::net::TcpSocket;

use super::{frames::*, *};

const MEBIBYTE: usize = 1024 * 1024;

#[tokio::test]
async fn an_h2_stream_whose_window_stays_shut_is_reset_alone() {
    let served = served(Settings {
        idle_ms_max: 60_000,
        ..quick()
    })
    .await;
    let mut caller = Caller::connect(&served, 0).await;
    let began = Instant::now();
    caller.get(1, "/large").await;
    caller.accepted(1).await;
    let seen = caller.frame().await.expect("the connection lives");
    assert_eq!((seen.kind, seen.stream, &seen.payload[..]), (RESET, 1, &CANCEL[..]));
    assert!(began.elapsed() >= Duration::from_millis(380), "{:?}", began.elapsed());
    // So does the next stream.
    caller.get(3, "/").await;
    caller.grant(3, 100).await;
    caller.accepted(3).await;
    assert_eq!(caller.data(3, 15).await, b"hello 127.0.0.1");
}

#[tokio::test]
async fn an_h2_stream_that_is_read_in_sips_is_reset() {
    let served = served(quick()).await;
    let mut caller = Caller::connect(&served, 1).await;
    caller.get(1, "/large").await;
    caller.accepted(1).await;
    let began = Instant::now();
    loop {
        let seen = tokio::select! {
            seen = caller.next() => seen.expect("the connection lives"),
            () = time::sleep(Duration::from_millis(50)) => {
                caller.grant(1, 1).await;
                assert!(began.elapsed() < LONG, "a byte now and then is enough");
                continue;
            }
        };
        match seen.kind {
            DATA => assert!(seen.payload.len() < 64, "{} bytes", seen.payload.len()),
            _ => break assert_eq!((seen.kind, &seen.payload[..]), (RESET, &CANCEL[..])),
        }
    }
}

#[tokio::test]
async fn an_end_of_an_h2_answer_that_is_not_read_costs_the_connection() {
    let served = served(Settings {
        connections_max: 1,
        idle_ms_max: 2_000,
        ..quick()
    })
    .await;
    // The first bytes pass, and with them the whole answer into h2's buffers: its stream is over for hyper.
    let mut caller = Caller::connect(&served, 5).await;
    caller.get(1, "/").await;
    caller.accepted(1).await;
    assert_eq!(caller.data(1, 5).await, b"hello");
    let began = Instant::now();
    let mut stream = 3;
    loop {
        // Other requests, on a connection that would be idle without them, change nothing.
        tokio::select! {
            seen = caller.next() => match seen {
                Some(seen) => assert_eq!(seen.kind, HEADERS, "{seen:?}"),
                None => break,
            },
            () = time::sleep(Duration::from_millis(100)) => {
                caller.get(stream, "/nothing").await;
                stream += 2;
                assert!(began.elapsed() < LONG, "requests renew it");
            }
        }
    }
    assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
    while !served.answers().await {
        assert!(began.elapsed() < 2 * LONG, "the place is never given back");
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_long_h2_answer_whose_last_bytes_are_not_read_costs_only_its_stream() {
    let served = served(quick()).await;
    let mut caller = Caller::connect(&served, u32::try_from(MEBIBYTE - 10).unwrap()).await;
    caller.get(1, "/mebibyte").await;
    caller.accepted(1).await;
    caller.data(1, MEBIBYTE - 10).await;
    let seen = caller.frame().await.expect("the connection lives");
    assert_eq!((seen.kind, seen.stream, &seen.payload[..]), (RESET, 1, &CANCEL[..]));
    caller.get(3, "/nothing").await;
    assert_eq!(caller.frame().await.expect("a head").kind, HEADERS);
}

#[test]
fn a_request_is_in_flight_until_the_last_piece_of_its_answer_is_gone() {
    let phase = Arc::new(Phase::new(&quick()));
    let progress = Arc::new(Progress::new(LONG));
    let delivery = Delivery::new(progress, Phase::begin(&phase));
    let body = Body::from(vec![b'x'; PIECE_BYTES + 1]);
    let mut answer = Answer::new(body, None, Room::new(MEBIBYTE), delivery, Kind::H2);
    let mut pieces = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut answer).poll_frame(&mut context) {
        pieces.push(frame.into_data().ok().unwrap());
    }
    assert_eq!(pieces.len(), 2);
    drop(answer);
    for piece in pieces {
        assert!(phase.busy());
        drop(piece);
    }
    assert!(!phase.busy());
}

#[tokio::test]
async fn an_h2_stream_that_is_read_slowly_gets_all_of_its_answer() {
    const STEP: usize = 32 * 1024;
    let served = served(Settings {
        write_ms_max: 2_000,
        idle_ms_max: 300,
        ..quick()
    })
    .await;
    let mut caller = Caller::connect(&served, 0).await;
    caller.get(1, "/mebibyte").await;
    caller.accepted(1).await;
    let began = Instant::now();
    for _ in 0..MEBIBYTE / STEP {
        time::sleep(Duration::from_millis(150)).await;
        caller.grant(1, u32::try_from(STEP).unwrap()).await;
        caller.data(1, STEP).await;
    }
    let seen = caller.frame().await.expect("an end");
    assert_eq!((seen.kind, seen.flags, seen.payload.len()), (DATA, END_STREAM, 0));
    assert!(began.elapsed() > Duration::from_secs(4), "longer than the limit");
}

/// Sockets that hold next to nothing, so that little is taken only by those who read little.
async fn served_narrow(settings: Settings) -> (Served, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4 * 1024).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let caller = TcpSocket::new_v4().unwrap();
    caller.set_recv_buffer_size(4 * 1024).unwrap();
    (served_on(socket.listen(16).unwrap(), settings), caller)
}

#[tokio::test]
async fn an_http_1_answer_that_is_read_in_sips_is_cut() {
    // A sip every 100 ms moves bytes several times a second, but by far not 64 KiB within the limit.
    let (served, caller) = served_narrow(Settings {
        write_ms_max: 3_000,
        ..quick()
    })
    .await;
    let mut stream = caller.connect(served.address).await.unwrap();
    stream
        .write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let began = Instant::now();
    let mut sip = [0; 512];
    let mut total = 0;
    while let Ok(read @ 1..) = stream.read(&mut sip).await {
        total += read;
        assert!(began.elapsed() < LONG, "sips are enough");
        time::sleep(Duration::from_millis(100)).await;
    }
    assert!(total > 8 * 1024, "it was being read: {total}");
}

#[tokio::test]
async fn an_http_1_answer_through_narrow_sockets_arrives_whole() {
    let (served, caller) = served_narrow(quick()).await;
    let mut stream = caller.connect(served.address).await.unwrap();
    stream
        .write_all(b"GET /mebibyte HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(rest(&mut stream).await.ends_with(&"x".repeat(MEBIBYTE)));
}

#[tokio::test]
async fn an_answer_without_room_is_refused_and_room_comes_back() {
    let served = served(Settings {
        answers_bytes_max: 64 * MEBIBYTE,
        write_ms_max: 1_500,
        ..quick()
    })
    .await;
    let mut greedy = Caller::connect(&served, 0).await;
    greedy.get(1, "/large").await;
    greedy.accepted(1).await;
    const LARGE: &[u8] = b"GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let refused = served.exchange(LARGE).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{}", &refused[..100]);
    assert!(refused.contains("retry-after: 1\r\n") && refused.ends_with("\r\n\r\n{\"status\":503}"));
    assert!(served.answers().await, "a short answer needs no room");
    let seen = greedy.frame().await.expect("an end");
    assert_eq!((seen.kind, seen.stream), (RESET, 1));
    let began = Instant::now();
    while !served.exchange(LARGE).await.starts_with("HTTP/1.1 200") {
        assert!(began.elapsed() < LONG, "the room is never given back");
    }
}

#[tokio::test]
async fn a_caller_that_has_said_all_is_answered() {
    let served = served(Settings {
        idle_ms_max: 60_000,
        ..quick()
    })
    .await;
    for request in ["GET /slow HTTP/1.1\r\nhost: a\r\n\r\n", "GET /slow HTTP/1.0\r\n\r\n"] {
        let mut stream = served.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.ends_with("\r\n\r\nslow"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_caller_that_died_loses_its_place() {
    let served = served(Settings {
        connections_max: 1,
        idle_ms_max: 60_000,
        write_ms_max: 60_000,
        ..quick()
    })
    .await;
    for (path, reset) in [("/slow", false), ("/slow", true), ("/large", false), ("/large", true)] {
        let mut dying = served.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        dying.write_all(request.as_bytes()).await.unwrap();
        time::sleep(Duration::from_millis(100)).await;
        if reset {
            dying.set_zero_linger().unwrap();
        }
        drop(dying);
        let began = Instant::now();
        while !served.answers().await {
            assert!(began.elapsed() < LONG, "{path} {reset}: the place is never given back");
            time::sleep(Duration::from_millis(50)).await;
        }
    }
}

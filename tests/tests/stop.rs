//! SIGTERM: requests under way are answered, streams that only wait are ended, the process ends by itself and in time,
//! and everything is there afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::time::{Duration, Instant};

use continuum_tests::{Member, Node, federation, grpc, words::made};
use tokio_stream::StreamExt;
use tonic::{Code, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

const STOPPED_WITHIN: Duration = Duration::from_secs(5);
/// Far below the time that requests in flight are given (10 s), which is what a stream without an end would take.
const STREAMS_ENDED_WITHIN: Duration = Duration::from_secs(4);
const MEMBERS: u64 = 8;
const CONTRIBUTIONS: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_stops_within_five_seconds_and_loses_nothing() {
    let mut node = Node::start().await;
    let mut running = tokio::task::JoinSet::new();
    for number in 0..MEMBERS {
        let mut member = Member::new(&node, format!("member {number}"));
        running.spawn(async move {
            let mut acknowledged = 0;
            for contribution in 0..CONTRIBUTIONS {
                match member.contribute(&[made(&member.name, contribution)]).await {
                    Ok(answer) if answer.status == 200 => acknowledged += 1,
                    Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                    Err(_) => break,
                }
            }
            (member.name, acknowledged)
        });
    }
    // An idle connection must not hold the stop up.
    let mut idle = node.client();
    assert_eq!(idle.get("/health").await.unwrap().status, 200);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let asked = Instant::now();
    let status = node.stop(STOPPED_WITHIN).await;
    assert_eq!(status.code(), Some(0), "{status}");
    println!("stopped after {:?}", asked.elapsed());
    let mut acknowledged = Vec::new();
    while let Some(ended) = running.join_next().await {
        acknowledged.push(ended.unwrap());
    }
    node.restart().await;
    let mut total = 0.0;
    for (name, promised) in acknowledged {
        let status = Member::new(&node, name.clone()).status().await.unwrap().ok();
        let score = federation::number(&status["contribution_score"]);
        // One answer may have been cut off; none may be missing.
        assert!(
            score >= f64::from(promised) && score <= f64::from(promised) + 1.0,
            "{name}: {score} of {promised}"
        );
        total += score;
    }
    assert!(total > 0.0);
    assert_eq!(federation::total_concepts(&mut node.client()).await as f64, total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_streams_that_only_wait() {
    let mut node = Node::start().await;
    let channel = grpc::channel(&node).await;
    let mut health = HealthClient::new(channel.clone());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let status = watch.message().await.unwrap().expect("a first status");
    assert_eq!(status.status, ServingStatus::Serving as i32);
    // The question is answered and the stream stays open for the next one, which never comes.
    let question = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let questions = tokio_stream::once(question).chain(tokio_stream::pending());
    let mut reflection = ServerReflectionClient::new(channel);
    let mut answers = reflection.server_reflection_info(questions).await.unwrap().into_inner();
    answers.message().await.unwrap().expect("an answer");
    let (watched, answered) = (tokio::spawn(last_word(watch)), tokio::spawn(last_word(answers)));
    let asked = Instant::now();
    let status = node.stop(STREAMS_ENDED_WITHIN).await;
    assert_eq!(status.code(), Some(0), "{status}");
    println!("stopped after {:?} with two open streams", asked.elapsed());
    assert_eq!(watched.await.unwrap(), Code::Unavailable);
    assert_eq!(answered.await.unwrap(), Code::Unavailable);
}

/// How a stream ends, whatever it says before.
async fn last_word<T>(mut stream: Streaming<T>) -> Code {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Code::Ok,
            Err(status) => return status.code(),
        }
    }
}

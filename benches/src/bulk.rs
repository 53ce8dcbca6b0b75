//! Many concepts through `Concepts/Write`: one stream, chunks of a thousand, and when each was durable.

use std::time::{Duration, Instant};

use proto::v1::{
    BatchWrite, PutRequest, WriteRequest, batch_write, concepts_client::ConceptsClient, put_request::Write,
    write_response::Outcome,
};
use tonic::transport::Channel;

/// Writes in one chunk.
pub const CHUNK: usize = 1000;

/// One register, as a write of a chunk.
#[must_use]
pub fn register(namespace: &str, key: String, json: String) -> BatchWrite {
    let put = PutRequest {
        namespace: namespace.to_owned(),
        key,
        write: Some(Write::Register(json)),
        ..PutRequest::default()
    };
    BatchWrite {
        write: Some(batch_write::Write::Put(put)),
    }
}

/// Sends all `chunks` over one stream, each made when the connection has room for it; returns the time from the beginning to
/// each acknowledgement.
///
/// # Panics
/// When the node refuses one.
pub async fn write(channel: &Channel, chunks: impl Iterator<Item = Vec<BatchWrite>> + Send + 'static) -> Vec<Duration> {
    let requests = chunks.map(|writes| WriteRequest {
        writes,
        ..WriteRequest::default()
    });
    let started = Instant::now();
    let mut answers = ConceptsClient::new(channel.clone())
        .write(tokio_stream::iter(requests))
        .await
        .expect("a stream of chunks")
        .into_inner();
    let mut durable = Vec::new();
    while let Some(answer) = answers.message().await.expect("an acknowledgement") {
        match answer.outcome {
            Some(Outcome::Written(_)) => durable.push(started.elapsed()),
            other => panic!("chunk {} was not written: {other:?}", answer.chunk),
        }
    }
    durable
}

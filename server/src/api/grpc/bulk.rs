//! `Concepts/Write`: chunks in, acknowledgements out, in the same order.
//!
//! ```text
//!  chunk ─► checked beside the workers ─► Engine::commit ─► under way (≤ 4) ─► durable ─► acknowledgement
//!           one at a time, so that they reach the committer in order
//! ```
//!
//! A chunk for a namespace that replicates by consensus is one transaction, proposed once all before it are done.
//!
//! It is all one stream that does something only when the connection asks it for the next acknowledgement: a caller that
//! reads none is sent none and heard no further, and nothing is left of a stream that is dropped but batches under way.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use engine::{CommitError, Receipt};
use proto::v1::{WriteRequest, WriteResponse, Written, write_response::Outcome};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::{
    concepts::Service,
    status::{self, Refused},
    writes::{Answers, Done, Sent, Several, several},
};
use crate::runtime::{tasks, time};

/// Chunks of one stream under way at once: enough that the next is there when a sync ends.
const CHUNKS_MAX: usize = 4;
/// After a chunk that was refused because the node is busy, the next is taken after this long.
const PAUSE: Duration = Duration::from_millis(100);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The acknowledgements of one stream of chunks.
pub(super) struct Acknowledgements {
    service: Service,
    chunks: Streaming<WriteRequest>,
    /// The chunk that is being checked, behind all those under way.
    checking: Option<Checking>,
    under_way: VecDeque<UnderWay>,
    /// Chunks acknowledged.
    acknowledged: u64,
    /// Until when no chunk is taken.
    pause: Option<Boxed<()>>,
    stopping: Boxed<()>,
    /// Set once no more chunks are taken: what the caller is told behind the last acknowledgement.
    end: Option<Result<(), Status>>,
}

/// A chunk that is not on its way yet.
struct Checking {
    with_results: bool,
    writes: usize,
    /// `None`: the work panicked.
    sent: Boxed<Option<Result<Several, Refused>>>,
}

/// A chunk on its way to its acknowledgement.
enum UnderWay {
    Sent {
        pending: engine::Pending,
        answers: Answers,
        with_results: bool,
    },
    /// Carried out before: its keys are read for the results. Or to be proposed, which is done when it is the first.
    Working {
        done: Boxed<Result<Done, Refused>>,
        writes: usize,
        with_results: bool,
    },
    Refused(Refused),
}

impl Acknowledgements {
    pub(super) fn new(service: Service, chunks: Streaming<WriteRequest>) -> Acknowledgements {
        let stop = service.stop();
        Acknowledgements {
            service,
            chunks,
            checking: None,
            under_way: VecDeque::with_capacity(CHUNKS_MAX),
            acknowledged: 0,
            pause: None,
            stopping: Box::pin(async move { stop.given().await }),
            end: None,
        }
    }

    /// Takes the next chunk if there is room for it; whether anything came.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> bool {
        let full = self.under_way.len() + usize::from(self.checking.is_some()) >= CHUNKS_MAX;
        if self.end.is_some() || self.checking.is_some() || full {
            return false;
        }
        if self.stopping.as_mut().poll(context).is_ready() {
            self.end = Some(Err(Refused::Stopping.into()));
            return true;
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(context).is_pending() {
                return false;
            }
            self.pause = None;
        }
        match Pin::new(&mut self.chunks).poll_next(context) {
            Poll::Pending => return false,
            Poll::Ready(None) => self.end = Some(Ok(())),
            Poll::Ready(Some(Err(status))) => self.end = Some(Err(status)),
            Poll::Ready(Some(Ok(chunk))) => {
                let service = self.service.clone();
                let (with_results, writes) = (chunk.return_results, chunk.writes.len());
                let check = move || several(&service, chunk);
                self.checking = Some(Checking {
                    with_results,
                    writes,
                    sent: Box::pin(tasks::blocking(check)),
                });
            }
        }
        true
    }

    /// Sends the chunk that was checked on its way; whether one was.
    fn poll_checked(&mut self, context: &mut Context<'_>) -> bool {
        let Some(Checking {
            with_results,
            writes,
            sent,
        }) = &mut self.checking
        else {
            return false;
        };
        let Poll::Ready(checked) = sent.as_mut().poll(context) else {
            return false;
        };
        self.under_way.push_back(match checked.ok_or(Refused::Confused) {
            Ok(Ok(Several::Mesh(Sent { pending, answers }))) => UnderWay::Sent {
                pending,
                answers,
                with_results: *with_results,
            },
            Ok(Ok(Several::Consensus(draft))) => UnderWay::Working {
                done: Box::pin(draft.done()),
                writes: *writes,
                with_results: *with_results,
            },
            Ok(Err(refused)) | Err(refused) => UnderWay::Refused(refused),
        });
        self.checking = None;
        true
    }

    /// What became of the first chunk under way.
    fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Written, Refused>>> {
        loop {
            let written = match self.under_way.front_mut() {
                None => return Poll::Ready(None),
                Some(UnderWay::Sent { pending, .. }) => {
                    let Poll::Ready(done) = Pin::new(pending).poll(context) else {
                        return Poll::Pending;
                    };
                    match self.answer(done) {
                        Some(written) => written,
                        None => continue,
                    }
                }
                Some(UnderWay::Working {
                    done,
                    writes,
                    with_results,
                }) => {
                    let Poll::Ready(done) = done.as_mut().poll(context) else {
                        return Poll::Pending;
                    };
                    let (writes, with_results) = (*writes, *with_results);
                    self.under_way.pop_front();
                    done.map(|Done { mut results, replayed }| {
                        results.truncate(if with_results { writes } else { 0 });
                        written(writes, Done { results, replayed })
                    })
                }
                Some(UnderWay::Refused(_)) => match self.under_way.pop_front() {
                    Some(UnderWay::Refused(refused)) => Err(refused),
                    _ => Err(Refused::Confused),
                },
            };
            return Poll::Ready(Some(written));
        }
    }

    /// Takes the first chunk, which is done, from those under way; `None` when its keys have to be read first.
    fn answer(&mut self, done: Result<Receipt, CommitError>) -> Option<Result<Written, Refused>> {
        let Some(UnderWay::Sent {
            answers, with_results, ..
        }) = self.under_way.pop_front()
        else {
            return Some(Err(Refused::Confused));
        };
        let receipt = match done {
            Ok(receipt) => receipt,
            Err(error) => return Some(Err(answers.refused(error))),
        };
        let writes = answers.writes();
        match receipt.replayed {
            Some(replayed) if with_results => {
                let done = Box::pin(answers.again(replayed));
                self.under_way.push_front(UnderWay::Working {
                    done,
                    writes,
                    with_results,
                });
                None
            }
            None if with_results => Some(answers.now(&receipt).map(|done| written(writes, done))),
            replayed => {
                let (results, replayed) = (Vec::new(), replayed.is_some());
                Some(Ok(written(writes, Done { results, replayed })))
            }
        }
    }

    /// The acknowledgement of the next chunk, or what ends the stream.
    fn acknowledge(&mut self, outcome: Result<Written, Refused>) -> Result<WriteResponse, Status> {
        let outcome = match outcome {
            Ok(written) => Outcome::Written(written),
            // Nothing that is sent from now on would be taken either, and of what is under way nobody knows.
            Err(stopped @ Refused::Commit(CommitError::Stopped(_))) => {
                self.under_way.clear();
                self.checking = None;
                self.end = Some(Ok(()));
                return Err(stopped.into());
            }
            Err(refused) => {
                if matches!(refused, Refused::Commit(CommitError::Busy)) {
                    self.pause = Some(Box::pin(time::sleep(PAUSE)));
                }
                Outcome::Fault(status::embedded(&refused.into()))
            }
        };
        let chunk = self.acknowledged;
        self.acknowledged += 1;
        Ok(WriteResponse {
            chunk,
            outcome: Some(outcome),
        })
    }
}

fn written(writes: usize, done: Done) -> Written {
    Written {
        writes: u32::try_from(writes).unwrap_or(u32::MAX),
        results: done.results,
        replayed: done.replayed,
    }
}

impl Stream for Acknowledgements {
    type Item = Result<WriteResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // New chunks first: while an acknowledgement is on its way the next sync already has work.
        while this.poll_checked(context) || this.poll_chunk(context) {}
        match this.poll_first(context) {
            Poll::Ready(Some(outcome)) => Poll::Ready(Some(this.acknowledge(outcome))),
            Poll::Ready(None) if this.checking.is_none() => match this.end.take() {
                Some(Ok(())) => {
                    this.end = Some(Ok(()));
                    Poll::Ready(None)
                }
                Some(Err(status)) => {
                    this.end = Some(Ok(()));
                    Poll::Ready(Some(Err(status)))
                }
                None => Poll::Pending,
            },
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

//! Writing much: chunks over one stream, several under way, acknowledged in order, and sent again when the stream breaks.
//!
//! ```text
//!   send ──► Due ──► OnWire ──► Done ──► handed to the caller, in the order in which they were sent
//!             ▲         │ busy: after a wait
//!             │         │ the stream broke: at once, over a new one, at the same node
//!             └─────────┘
//! ```
//!
//! Each chunk has a request id, or is of a kind that may be taken twice, so that sending it again is safe at the node that may
//! have taken it; a stream that broke is resumed there and nowhere else. No task is started: the work is done while the
//! caller waits in [`Bulk::send`] and [`Bulk::settle`].

use std::{collections::VecDeque, fmt, time::Duration};

use prost::Message;
use proto::v1::{
    ImportStatesRequest, ImportStatesResponse, KeyState, WriteRequest, WriteResponse, admin_client::AdminClient,
    concepts_client::ConceptsClient, import_states_response, write_response,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming, transport::Channel};
use tonic_types::pb as rpc;

use crate::{
    Batched, Client,
    connection::ANSWER_BYTES_MAX,
    error::{Error, Kind},
    resume::{self, Breaks},
    retry::Repeat,
};

/// The largest chunk that a node takes, in bytes.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;

/// A call that takes chunks.
pub trait Road: sealed::Sealed {
    /// A chunk.
    #[doc(hidden)]
    type Chunk: Message + Clone;
    /// An acknowledgement as it travels.
    #[doc(hidden)]
    type Answer;
    /// What a chunk did.
    type Done: fmt::Debug;

    #[doc(hidden)]
    fn open(
        channel: Channel,
        chunks: ReceiverStream<Self::Chunk>,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Answer>>, Status>> + Send;

    /// Which chunk of the stream it is about, and what became of it.
    #[doc(hidden)]
    fn outcome(answer: Self::Answer) -> (u64, Option<Result<Self::Done, rpc::Status>>);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Writes {}
    impl Sealed for super::StateJoins {}
}

/// Writes of concepts.
#[derive(Clone, Copy, Debug)]
pub enum Writes {}

/// Joins of whole states.
#[derive(Clone, Copy, Debug)]
pub enum StateJoins {}

/// A bulk write: see [`Namespace::bulk`](crate::Namespace::bulk).
pub type BulkWrite = Bulk<Writes>;

/// An import of whole states: see [`Admin::import_states`](crate::Admin::import_states).
pub type StateImport = Bulk<StateJoins>;

/// What became of a chunk.
#[derive(Debug)]
pub struct Acknowledgement<D> {
    /// Which, from 0, in the order in which they were sent.
    pub chunk: u64,
    /// What it did, all of it; or why nothing of it has happened, which sending it again as it is would not change.
    pub outcome: Result<D, Error>,
}

/// Chunks over one stream.
///
/// Chunks are carried out in order, but one that the node was too busy for is sent again after those behind it: where their
/// order matters, allow one unacknowledged chunk only.
pub struct Bulk<R: Road> {
    client: Client,
    namespace: String,
    stream: Option<Open<R>>,
    /// The endpoint that has taken chunks.
    place: Option<usize>,
    /// Not yet handed to the caller, in order.
    chunks: VecDeque<Chunk<R>>,
    /// The number of the next chunk.
    next: u64,
    breaks: Breaks,
}

struct Open<R: Road> {
    sender: mpsc::Sender<R::Chunk>,
    answers: Streaming<R::Answer>,
    /// Numbers of the chunks sent over it and not acknowledged, in order.
    on_wire: VecDeque<u64>,
    /// Place of the next acknowledgement in the stream.
    acknowledged: u64,
}

struct Chunk<R: Road> {
    number: u64,
    request: R::Chunk,
    stage: Stage<R::Done>,
    /// When the node was too busy for it first.
    busy_since: Option<Instant>,
    busy: u32,
}

enum Stage<D> {
    Due(Instant),
    OnWire,
    Done(Result<D, Error>),
}

impl<R: Road> fmt::Debug for Bulk<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unacknowledged = self.unacknowledged();
        write!(
            formatter,
            "Bulk {{ namespace: {:?}, sent: {}, unacknowledged: {unacknowledged} }}",
            self.namespace, self.next
        )
    }
}

impl<R: Road> Bulk<R> {
    pub(crate) fn new(client: Client, namespace: String) -> Bulk<R> {
        Bulk {
            client,
            namespace,
            stream: None,
            place: None,
            chunks: VecDeque::new(),
            next: 0,
            breaks: Breaks::default(),
        }
    }

    /// Chunks that were sent and not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        let open = |chunk: &&Chunk<R>| !matches!(chunk.stage, Stage::Done(_));
        self.chunks.iter().filter(open).count()
    }

    /// Waits until every chunk is acknowledged.
    ///
    /// # Errors
    /// As [`BulkWrite::send`].
    pub async fn settle(&mut self) -> Result<Vec<Acknowledgement<R::Done>>, Error> {
        while self.unacknowledged() > 0 {
            self.turn().await?;
        }
        Ok(self.collect())
    }

    /// Sends a chunk and returns once there is room for another one.
    async fn push(&mut self, request: R::Chunk) -> Result<Vec<Acknowledgement<R::Done>>, Error> {
        let bytes = request.encoded_len();
        if bytes > CHUNK_BYTES_MAX {
            return Err(Error::settings(format!(
                "a chunk may have {CHUNK_BYTES_MAX} bytes, and this one has {bytes}: use several"
            )));
        }
        self.chunks.push_back(Chunk {
            number: self.next,
            request,
            stage: Stage::Due(Instant::now()),
            busy_since: None,
            busy: 0,
        });
        self.next += 1;
        let most = self.client.settings().unacknowledged_chunks_max;
        self.hand_over().await?;
        while self.unacknowledged() >= most {
            self.turn().await?;
        }
        Ok(self.collect())
    }

    /// Done chunks at the head of the queue.
    fn collect(&mut self) -> Vec<Acknowledgement<R::Done>> {
        let mut done = Vec::new();
        while let Some(chunk) = self.chunks.pop_front_if(|chunk| matches!(chunk.stage, Stage::Done(_))) {
            if let Stage::Done(outcome) = chunk.stage {
                let chunk = chunk.number;
                done.push(Acknowledgement { chunk, outcome });
            }
        }
        done
    }

    /// Waits for one thing to happen: an acknowledgement, the end of a wait, a break.
    async fn turn(&mut self) -> Result<(), Error> {
        let due = self.hand_over().await?;
        let Some(open) = &mut self.stream else {
            return Ok(());
        };
        let silence_max = self.client.settings().silence_max;
        let answer = async {
            match timeout(silence_max, open.answers.message()).await {
                Ok(Ok(answer)) => answer.ok_or_else(|| Status::unavailable("the node ended the stream").into()),
                Ok(Err(status)) => Err(Error::from(status)),
                Err(_) => Err(resume::silent(silence_max)),
            }
        };
        let wait = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let nothing_sent = open.on_wire.is_empty();
        let answer = tokio::select! {
            () = wait => return Ok(()),
            answer = answer, if !nothing_sent || due.is_none() => answer,
        };
        match answer {
            Ok(answer) => self.acknowledge(answer),
            Err(error) => self.broke(error),
        }
    }

    /// Opens the stream if need be and puts on it what is due; returns when the next chunk will be.
    async fn hand_over(&mut self) -> Result<Option<Instant>, Error> {
        if self.stream.is_none() {
            self.breaks.pause(self.client.settings()).await;
            self.open().await?;
        }
        let Some(open) = &mut self.stream else {
            return Ok(None);
        };
        let (now, mut next) = (Instant::now(), None);
        for chunk in &mut self.chunks {
            let Stage::Due(due) = chunk.stage else { continue };
            if due > now {
                next = next.into_iter().chain([due]).min();
                continue;
            }
            // The channel has room for all that may be unacknowledged: what it refuses, it refuses because it is closed.
            if open.sender.try_send(chunk.request.clone()).is_err() {
                break;
            }
            open.on_wire.push_back(chunk.number);
            chunk.stage = Stage::OnWire;
        }
        Ok(next)
    }

    async fn open(&mut self) -> Result<(), Error> {
        let room = self.client.settings().unacknowledged_chunks_max + 1;
        let bounds = match self.place {
            Some(place) => self.client.resume(Some(place)),
            None => self.client.begin(),
        };
        // The sender of the last try that was made.
        let (keep, mut kept) = mpsc::unbounded_channel();
        let begin = |channel, _: Request<()>| {
            let (sender, chunks) = mpsc::channel(room);
            let _receiver_is_ours = keep.send(sender);
            R::open(channel, ReceiverStream::new(chunks))
        };
        let connection = self.client.connection();
        let (answers, place) = connection.call_within(bounds, Repeat::Safe, (), begin).await?;
        let mut sender = None;
        while let Ok(latest) = kept.try_recv() {
            sender = Some(latest);
        }
        let sender = sender.ok_or_else(|| Error::confused("a stream that nobody opened"))?;
        self.place = Some(place);
        self.stream = Some(Open {
            sender,
            answers,
            on_wire: VecDeque::new(),
            acknowledged: 0,
        });
        Ok(())
    }

    fn acknowledge(&mut self, answer: R::Answer) -> Result<(), Error> {
        let (place, outcome) = R::outcome(answer);
        let Some(open) = &mut self.stream else {
            return Ok(());
        };
        let number = open.on_wire.pop_front();
        let (Some(number), Some(outcome), true) = (number, outcome, place == open.acknowledged) else {
            return Err(Error::confused("an acknowledgement of a chunk that was not sent"));
        };
        open.acknowledged += 1;
        self.breaks.forget();
        let patience = self.client.settings().resume_timeout;
        let backoff_max = self.client.settings().backoff_max;
        let Some(chunk) = self.chunks.iter_mut().find(|chunk| chunk.number == number) else {
            return Ok(());
        };
        chunk.stage = match outcome.map_err(|fault| Error::from(&fault)) {
            Err(error) if chunk.waits_again(&error, patience) => Stage::Due(chunk.again(&error, backoff_max)),
            outcome => Stage::Done(outcome),
        };
        Ok(())
    }

    /// What was on the wire is due again.
    fn broke(&mut self, error: Error) -> Result<(), Error> {
        self.stream = None;
        for chunk in &mut self.chunks {
            if matches!(chunk.stage, Stage::OnWire) {
                chunk.stage = Stage::Due(Instant::now());
            }
        }
        self.breaks.note(error.perhaps_earlier(true))
    }
}

impl<R: Road> Chunk<R> {
    /// Whether the node was too busy for it, and may be less so. A full disk is the caller's to hear of.
    fn waits_again(&mut self, error: &Error, patience: Duration) -> bool {
        let since = *self.busy_since.get_or_insert_with(Instant::now);
        *error.kind() == Kind::Busy && error.code() == Code::Unavailable && since.elapsed() < patience
    }

    fn again(&mut self, error: &Error, backoff_max: Duration) -> Instant {
        let said = error.retry_after().unwrap_or_default();
        let wait = said.saturating_mul(2_u32.saturating_pow(self.busy)).min(backoff_max);
        self.busy += 1;
        Instant::now() + wait.max(said)
    }
}

impl Bulk<Writes> {
    /// Sends a chunk: 1 to 1000 writes, all or none. Returns once there is room for another one, with the acknowledgements
    /// that have come meanwhile, in order; often none.
    ///
    /// # Errors
    /// When the node cannot be reached for too long, or refuses the stream. Chunks that were not acknowledged are kept: call
    /// [`settle`](Bulk::settle) to go on with them.
    pub async fn send(
        &mut self,
        writes: impl IntoIterator<Item = crate::Write>,
    ) -> Result<Vec<Acknowledgement<Batched>>, Error> {
        let namespace = &self.namespace;
        let request = WriteRequest {
            writes: writes.into_iter().map(|write| write.wire(namespace)).collect(),
            return_results: false,
            request_id: crate::request_id(),
        };
        self.push(request).await
    }
}

impl Bulk<StateJoins> {
    /// Sends a chunk: 1 to 1000 states, all or none. Returns once there is room for another one.
    ///
    /// # Errors
    /// As [`BulkWrite::send`].
    pub async fn send(&mut self, states: Vec<KeyState>) -> Result<Vec<Acknowledgement<u32>>, Error> {
        let namespace = self.namespace.clone();
        self.push(ImportStatesRequest { namespace, states }).await
    }
}

impl Road for Writes {
    type Chunk = WriteRequest;
    type Answer = WriteResponse;
    type Done = Batched;

    async fn open(
        channel: Channel,
        chunks: ReceiverStream<WriteRequest>,
    ) -> Result<Response<Streaming<WriteResponse>>, Status> {
        let mut concepts = ConceptsClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        concepts.write(chunks).await
    }

    fn outcome(answer: WriteResponse) -> (u64, Option<Result<Batched, rpc::Status>>) {
        let outcome = answer.outcome.and_then(|outcome| match outcome {
            write_response::Outcome::Written(done) => Batched::of(done.results, done.replayed).ok().map(Ok),
            write_response::Outcome::Fault(fault) => Some(Err(fault)),
        });
        (answer.chunk, outcome)
    }
}

impl Road for StateJoins {
    type Chunk = ImportStatesRequest;
    type Answer = ImportStatesResponse;
    type Done = u32;

    async fn open(
        channel: Channel,
        chunks: ReceiverStream<ImportStatesRequest>,
    ) -> Result<Response<Streaming<ImportStatesResponse>>, Status> {
        AdminClient::new(channel).import_states(chunks).await
    }

    fn outcome(answer: ImportStatesResponse) -> (u64, Option<Result<u32, rpc::Status>>) {
        let outcome = answer.outcome.map(|outcome| match outcome {
            import_states_response::Outcome::States(states) => Ok(states),
            import_states_response::Outcome::Fault(fault) => Err(fault),
        });
        (answer.chunk, outcome)
    }
}

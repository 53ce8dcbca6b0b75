//! Every change of some keys, in the order of a node's log, over breaks and restarts.

use std::collections::VecDeque;

use proto::v1::{self, WatchRequest, WatchResponse, change, concepts_client::ConceptsClient, watch_response};
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::Streaming;

use crate::{
    Client, Concept, ResumeToken,
    connection::{ANSWER_BYTES_MAX, Bounds},
    error::{Error, Kind},
    resume::{self, Breaks},
    retry::Repeat,
};

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key holds this now: its whole value, with every concurrent one.
    Put {
        /// Position in the node's log; changes of one batch have the same.
        lsn: u64,
        /// The key and what it holds.
        concept: Concept,
    },
    /// The key holds nothing any more.
    Deleted {
        /// Position in the node's log.
        lsn: u64,
        /// The key.
        key: String,
    },
    /// There was nothing else up to here.
    Progress {
        /// Position in the node's log.
        lsn: u64,
    },
    /// The watch cannot go on from where it was, and ends: scan again, then watch from the token of that scan.
    Resync {
        /// Why.
        reason: Resync,
    },
}

/// Why a watch cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Resync {
    /// See the text.
    #[error("the changes since are no longer in the node's log")]
    LogRetired,
    /// See the text.
    #[error("the node was restored from a backup since, or it is another node")]
    OtherLog,
    /// See the text.
    #[error("the token is of another cluster")]
    OtherCluster,
    /// See the text.
    #[error("the node's data were replaced by an older copy")]
    LogBehind,
    /// See the text.
    #[error("changes came faster than they were taken, for too long")]
    TooSlow,
    /// A reason that this client does not know yet.
    #[error("the node says so")]
    Unknown,
}

/// A watch: see [`Namespace::watch`](crate::Namespace::watch).
///
/// A break is resumed with the newest token: for [`same_node_timeout`](crate::Settings::same_node_timeout) at the node whose
/// log the token is of, then anywhere, which begins with a resync. Changes may come twice, never one after a later one of the
/// same key; none is missed.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    /// With the token that goes on after all that was received.
    request: WatchRequest,
    messages: Option<Streaming<WatchResponse>>,
    /// The endpoint whose log it follows.
    place: usize,
    ready: VecDeque<(Event, Option<ResumeToken>)>,
    /// Goes on after the last event handed out.
    token: ResumeToken,
    lsn: u64,
    breaks: Breaks,
    /// When it broke, until something is received.
    broken_since: Option<Instant>,
    ended: bool,
}

impl Watch {
    /// Begins; the first message, which tells where, has been received when it returns.
    pub(crate) async fn begin(client: Client, request: WatchRequest) -> Result<Watch, Error> {
        let mut watch = Watch {
            token: request.resume_token.clone().into(),
            client,
            request,
            messages: None,
            place: 0,
            ready: VecDeque::new(),
            lsn: 0,
            breaks: Breaks::default(),
            broken_since: None,
            ended: false,
        };
        let begin = watch.client.begin();
        let first = watch.open(begin).await?;
        watch.take(first)?;
        Ok(watch)
    }

    /// The next event; `None` after a resync. Dropping the future before it is done loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        loop {
            if let Some((event, token)) = self.ready.pop_front() {
                if let Some(token) = token {
                    self.token = token;
                }
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.receive().await {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    /// Goes on after the last event that was handed out: keep it, to watch again in another process.
    #[must_use]
    pub fn resume_token(&self) -> &ResumeToken {
        &self.token
    }

    /// Position in the node's log up to which everything was received.
    #[must_use]
    pub fn lsn(&self) -> u64 {
        self.lsn
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Error>> + Send {
        resume::stream(self, |mut watch: Watch| async move {
            let next = watch.next().await;
            (next, watch)
        })
    }

    async fn receive(&mut self) -> Result<(), Error> {
        let Some(messages) = &mut self.messages else {
            self.breaks.pause(self.client.settings()).await;
            let message = self.reopen().await?;
            return self.take(message);
        };
        match resume::message(self.client.settings(), messages).await {
            Ok(Some(message)) => self.take(message),
            // Only a resync ends a watch in order.
            Ok(None) => self.broke(tonic::Status::unavailable("the node ended the watch").into()),
            Err(error) => self.broke(error),
        }
    }

    fn broke(&mut self, error: Error) -> Result<(), Error> {
        self.breaks.note(error.reading())?;
        self.broken_since.get_or_insert_with(Instant::now);
        self.messages = None;
        Ok(())
    }

    /// At its own node first; after a while anywhere.
    async fn reopen(&mut self) -> Result<WatchResponse, Error> {
        let settings = self.client.settings();
        let passed = self.broken_since.map_or_else(Default::default, |since| since.elapsed());
        let alone = settings.endpoints.len() == 1;
        let here = if alone {
            settings.resume_timeout
        } else {
            settings.same_node_timeout
        };
        let left = here.saturating_sub(passed);
        if !left.is_zero() {
            let bounds = Bounds {
                time: left,
                ..self.client.resume(Some(self.place))
            };
            match self.open(bounds).await {
                Err(error) if !alone && gone(&error) => {}
                opened => return opened,
            }
        }
        let anywhere = self.client.resume(None);
        self.open(anywhere).await
    }

    async fn open(&mut self, bounds: Bounds) -> Result<WatchResponse, Error> {
        let begin = |channel, request| async {
            let mut concepts = ConceptsClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            let mut answer = concepts.watch(request).await?;
            let first = answer.get_mut().message().await?;
            Ok(answer.map(|messages| (first, messages)))
        };
        let request = self.request.clone();
        let connection = self.client.connection();
        let ((first, messages), place) = connection.call_within(bounds, Repeat::Reads, request, begin).await?;
        self.messages = Some(messages);
        self.place = place;
        first.ok_or_else(|| Error::confused("a stream without a first message"))
    }

    fn take(&mut self, message: WatchResponse) -> Result<(), Error> {
        self.breaks.forget();
        self.broken_since = None;
        let event = message
            .event
            .ok_or_else(|| Error::confused("a watch that tells nothing"))?;
        match event {
            watch_response::Event::Resync(resync) => {
                let reason = resync.reason().into();
                self.ready.push_back((Event::Resync { reason }, None));
                self.ended = true;
                return Ok(());
            }
            watch_response::Event::Progress(_) => {
                self.ready.push_back((Event::Progress { lsn: message.lsn }, None));
            }
            watch_response::Event::Changes(changes) => {
                for change in changes.changes {
                    self.ready.push_back((event_of(change)?, None));
                }
            }
        }
        self.lsn = message.lsn;
        // The caller may go on from here only once it has had all of the message.
        let token = ResumeToken::from(message.resume_token.clone());
        match self.ready.back_mut() {
            Some((_, last)) => *last = Some(token),
            None => self.token = token,
        }
        self.request.resume_token = message.resume_token;
        Ok(())
    }
}

/// Whether another node may be asked instead.
fn gone(error: &Error) -> bool {
    matches!(
        error.kind(),
        Kind::Unreachable | Kind::Tls | Kind::Broken | Kind::Busy | Kind::OutOfTime
    )
}

fn event_of(change: v1::Change) -> Result<Event, Error> {
    let lsn = change.lsn;
    match change.change {
        Some(change::Change::Put(concept)) => Ok(Event::Put {
            lsn,
            concept: concept.try_into()?,
        }),
        Some(change::Change::Deleted(key)) => Ok(Event::Deleted { lsn, key }),
        None => Err(Error::confused("a change that changes nothing")),
    }
}

impl From<v1::ResyncReason> for Resync {
    fn from(reason: v1::ResyncReason) -> Resync {
        match reason {
            v1::ResyncReason::Unspecified => Resync::Unknown,
            v1::ResyncReason::LogRetired => Resync::LogRetired,
            v1::ResyncReason::OtherLog => Resync::OtherLog,
            v1::ResyncReason::OtherCluster => Resync::OtherCluster,
            v1::ResyncReason::LogBehind => Resync::LogBehind,
            v1::ResyncReason::TooSlow => Resync::TooSlow,
        }
    }
}

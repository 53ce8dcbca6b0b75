//! Streams of keys in their order: broken ones go on after the last key that was received.

use std::collections::VecDeque;

use proto::v1::{
    self, ExportStatesRequest, ExportStatesResponse, KeyState, ScanRequest, ScanResponse, admin_client::AdminClient,
    concepts_client::ConceptsClient,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use crate::{
    Client, Concept, ResumeToken,
    connection::ANSWER_BYTES_MAX,
    error::Error,
    resume::{self, Breaks},
};

/// A call that streams keys in their order.
pub trait Source: sealed::Sealed {
    /// What asks for them.
    #[doc(hidden)]
    type Request: Clone + Send + Sync;
    /// A message of them.
    #[doc(hidden)]
    type Message: Send;
    /// One of them.
    type Item: Send;

    #[doc(hidden)]
    fn open(
        channel: Channel,
        request: Request<Self::Request>,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Message>>, Status>> + Send;

    /// The position, the token and the items of a message.
    #[doc(hidden)]
    fn unpack(message: Self::Message) -> Result<Page<Self::Item>, Error>;

    /// Goes on after `item`.
    #[doc(hidden)]
    fn after(request: &mut Self::Request, item: &Self::Item);
}

/// A message, taken apart.
#[doc(hidden)]
#[derive(Debug)]
pub struct Page<T> {
    lsn: u64,
    token: ResumeToken,
    items: Vec<T>,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Concepts {}
    impl Sealed for super::States {}
}

/// The concepts of a namespace.
#[derive(Clone, Copy, Debug)]
pub enum Concepts {}

/// The whole states of the keys of a namespace.
#[derive(Clone, Copy, Debug)]
pub enum States {}

/// The keys of a namespace with what they hold, in byte order, all as they were at one moment.
pub type Scan = Pages<Concepts>;

/// The whole states of the keys of a namespace.
pub type StateExport = Pages<States>;

/// A stream of keys in their order. After a break it goes on behind the last key received, and what follows is as it was at
/// a later moment.
#[derive(Debug)]
pub struct Pages<S: Source> {
    client: Client,
    request: S::Request,
    messages: Option<Streaming<S::Message>>,
    ready: VecDeque<S::Item>,
    lsn: u64,
    token: ResumeToken,
    breaks: Breaks,
    ended: bool,
}

impl<S: Source> Pages<S> {
    /// Begins; the first message has been received when it returns.
    pub(crate) async fn begin(client: Client, request: S::Request) -> Result<Pages<S>, Error> {
        let mut pages = Pages {
            client,
            request,
            messages: None,
            ready: VecDeque::new(),
            lsn: 0,
            token: ResumeToken::default(),
            breaks: Breaks::default(),
            ended: false,
        };
        let begin = pages.client.begin();
        let first = pages.open(begin).await?;
        (pages.lsn, pages.token) = (first.lsn, first.token);
        pages.take(first.items);
        Ok(pages)
    }

    /// Every change up to this position of the node's log is in what follows.
    #[must_use]
    pub fn lsn(&self) -> u64 {
        self.lsn
    }

    /// Every change after [`lsn`](Pages::lsn) comes in a watch that begins with it. Empty of an export.
    #[must_use]
    pub fn resume_token(&self) -> &ResumeToken {
        &self.token
    }

    /// The next key; `None` when there are no more. Dropping the future before it is done loses nothing.
    pub async fn next(&mut self) -> Option<Result<S::Item, Error>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
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

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<S::Item, Error>> + Send
    where
        S: Send + 'static,
        S::Request: 'static,
        S::Message: 'static,
        S::Item: 'static,
    {
        resume::stream(self, |mut pages: Self| async move {
            let next = pages.next().await;
            (next, pages)
        })
    }

    async fn receive(&mut self) -> Result<(), Error> {
        let Some(messages) = &mut self.messages else {
            self.breaks.pause(self.client.settings()).await;
            let again = self.client.resume(None);
            let page = self.open(again).await?;
            self.take(page.items);
            return Ok(());
        };
        match resume::message(self.client.settings(), messages).await {
            Ok(Some(message)) => {
                let items = S::unpack(message)?.items;
                self.take(items);
            }
            Ok(None) => self.ended = true,
            Err(error) => {
                self.breaks.note(error.reading())?;
                self.messages = None;
            }
        }
        Ok(())
    }

    async fn open(&mut self, bounds: crate::connection::Bounds) -> Result<Page<S::Item>, Error> {
        let begin = |channel, request| async {
            let mut answer = S::open(channel, request).await?;
            let first = answer.get_mut().message().await?;
            Ok(answer.map(|messages| (first, messages)))
        };
        let reads = crate::retry::Repeat::Reads;
        let connection = self.client.connection();
        let ((first, messages), _) = connection
            .call_within(bounds, reads, self.request.clone(), begin)
            .await?;
        self.messages = Some(messages);
        S::unpack(first.ok_or_else(|| Error::confused("a stream without a first message"))?)
    }

    fn take(&mut self, items: Vec<S::Item>) {
        if let Some(last) = items.last() {
            S::after(&mut self.request, last);
            self.breaks.forget();
        }
        self.ready.extend(items);
    }
}

impl Source for Concepts {
    type Request = ScanRequest;
    type Message = ScanResponse;
    type Item = Concept;

    async fn open(
        channel: Channel,
        request: Request<ScanRequest>,
    ) -> Result<Response<Streaming<ScanResponse>>, Status> {
        let mut concepts = ConceptsClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        concepts.scan(request).await
    }

    fn unpack(message: ScanResponse) -> Result<Page<Concept>, Error> {
        let concepts = message.concepts.into_iter().map(Concept::try_from);
        Ok(Page {
            lsn: message.lsn,
            token: message.resume_token.into(),
            items: concepts.collect::<Result<_, Error>>()?,
        })
    }

    fn after(request: &mut ScanRequest, concept: &Concept) {
        request.start_after.clone_from(&concept.key);
    }
}

impl Source for States {
    type Request = ExportStatesRequest;
    type Message = ExportStatesResponse;
    type Item = KeyState;

    async fn open(
        channel: Channel,
        request: Request<ExportStatesRequest>,
    ) -> Result<Response<Streaming<ExportStatesResponse>>, Status> {
        let mut admin = AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        admin.export_states(request).await
    }

    fn unpack(message: ExportStatesResponse) -> Result<Page<v1::KeyState>, Error> {
        Ok(Page {
            lsn: message.lsn,
            token: ResumeToken::default(),
            items: message.states,
        })
    }

    fn after(request: &mut ExportStatesRequest, state: &KeyState) {
        request.start_after.clone_from(&state.key);
    }
}

//! One namespace: reads, writes, scans, watches.

use proto::v1::{
    BatchRequest, GetManyRequest, GetRequest, ListRequest, ScanRequest, WatchRequest, concepts_client::ConceptsClient,
};
use tonic::transport::Channel;

use crate::{
    Batched, BulkWrite, Client, Concept, Delete, Deleted, Kind, Put, ResumeToken, Scan, Transacted, Transaction, Watch,
    Write, Written, connection::ANSWER_BYTES_MAX, error::Error, request_id, retry::Repeat,
};

/// What a read of a namespace looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Only keys that begin with this; empty for all.
    pub prefix: String,
    /// Only keys above this one; empty for no such bound. Of scans only.
    pub start_after: String,
    /// Only keys below this one; empty for no such bound. Of scans only.
    pub end: String,
    /// Whether concepts come with context and clock. Without them reads are faster and smaller.
    pub contexts: bool,
}

impl Default for Selection {
    fn default() -> Selection {
        Selection {
            prefix: String::new(),
            start_after: String::new(),
            end: String::new(),
            contexts: true,
        }
    }
}

impl Selection {
    /// Keys that begin with this, with contexts.
    #[must_use]
    pub fn prefix(prefix: impl Into<String>) -> Selection {
        Selection {
            prefix: prefix.into(),
            ..Selection::default()
        }
    }
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of their keys. May be fewer than asked for, even none, while there is a next page.
    pub concepts: Vec<Concept>,
    /// Pass it to [`Namespace::list`] for the next page; empty on the last.
    pub next: PageToken,
}

/// Where the next page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageToken(Vec<u8>);

impl PageToken {
    /// Whether there is no further page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A namespace of a cluster: a handle, which says nothing of whether there is one of that name.
#[derive(Clone, Debug)]
pub struct Namespace {
    client: Client,
    name: String,
}

impl Namespace {
    pub(crate) fn new(client: Client, name: String) -> Namespace {
        Namespace { client, name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads one key; `None` when it holds nothing. Where the namespace replicates by consensus, everything acknowledged before
    /// the call is seen; else it is as the node has it.
    ///
    /// # Errors
    /// When there is no such namespace, or no answer.
    pub async fn get(&self, key: impl Into<String>) -> Result<Option<Concept>, Error> {
        Ok(self.read(key.into(), false).await?.0)
    }

    /// Reads one key of a namespace that replicates by consensus as the node has it, however old; with the index of raft's log up to
    /// which it was applied there. `None` when it holds nothing there: then no index is told, and it is 0.
    ///
    /// # Errors
    /// As [`get`](Namespace::get).
    pub async fn get_stale(&self, key: impl Into<String>) -> Result<(Option<Concept>, u64), Error> {
        self.read(key.into(), true).await
    }

    async fn read(&self, key: String, stale_ok: bool) -> Result<(Option<Concept>, u64), Error> {
        let request = GetRequest {
            namespace: self.name.clone(),
            key,
            stale_ok,
        };
        let get = |channel, request| async { concepts(channel).get(request).await };
        match self.client.connection().call(Repeat::Reads, request, get).await {
            Ok(answer) => {
                let concept = answer
                    .concept
                    .ok_or_else(|| Error::confused("a read without a concept"))?;
                Ok((Some(concept.try_into()?), answer.index))
            }
            Err(error) if *error.kind() == Kind::NotFound && error.reason() == "CONCEPT_ABSENT" => Ok((None, 0)),
            Err(error) => Err(error),
        }
    }

    /// Reads 1 to 1000 keys, each as it is at some moment during the call: one for each key, in their order, `None` where it
    /// holds nothing.
    ///
    /// # Errors
    /// As [`get`](Namespace::get); [`Kind::Refused`] when the answer would be too large: ask for fewer.
    pub async fn get_many<S: Into<String>>(
        &self,
        keys: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Option<Concept>>, Error> {
        let request = GetManyRequest {
            namespace: self.name.clone(),
            keys: keys.into_iter().map(Into::into).collect(),
            ..GetManyRequest::default()
        };
        let get = |channel, request| async { concepts(channel).get_many(request).await };
        let answer = self.client.connection().call(Repeat::Reads, request, get).await?;
        let found = answer.results.into_iter().map(|result| result.concept);
        found
            .map(|concept| concept.map(Concept::try_from).transpose())
            .collect()
    }

    /// Writes one key. Durable when it returns.
    ///
    /// # Errors
    /// When the node refuses it, or there is no answer: [`Error::changed`] tells whether it may have been carried out.
    pub async fn put(&self, key: impl Into<String>, put: Put) -> Result<Written, Error> {
        let (repeat, request_id) = self.write_name();
        let request = put.request(&self.name, key.into(), request_id);
        let send = |channel, request| async { concepts(channel).put(request).await };
        let answer = self.client.connection().call(repeat, request, send).await?;
        answer.try_into()
    }

    /// Deletes one key.
    ///
    /// # Errors
    /// As [`put`](Namespace::put).
    pub async fn delete(&self, key: impl Into<String>, delete: Delete) -> Result<Deleted, Error> {
        let (repeat, request_id) = self.write_name();
        let request = delete.request(&self.name, key.into(), request_id);
        let send = |channel, request| async { concepts(channel).delete(request).await };
        let answer = self.client.connection().call(repeat, request, send).await?;
        Ok(answer.into())
    }

    /// Carries out 1 to 1000 writes at once: all of them or none, visible and durable together.
    ///
    /// # Errors
    /// As [`put`](Namespace::put); the message begins with the write that is to blame.
    pub async fn batch(&self, writes: impl IntoIterator<Item = Write>) -> Result<Batched, Error> {
        let (repeat, request_id) = self.write_name();
        let request = BatchRequest {
            writes: writes.into_iter().map(|write| write.wire(&self.name)).collect(),
            request_id,
        };
        let send = |channel, request| async { concepts(channel).batch(request).await };
        let answer = self.client.connection().call(repeat, request, send).await?;
        Batched::of(answer.results, answer.replayed)
    }

    /// Compares and changes keys of a namespace that replicates by consensus, at one moment. That a compare does not hold is no
    /// error: see [`Transacted::succeeded`].
    ///
    /// # Errors
    /// As [`put`](Namespace::put).
    pub async fn transact(&self, transaction: Transaction) -> Result<Transacted, Error> {
        let (repeat, request_id) = self.write_name();
        let request = transaction.request(&self.name, request_id);
        let send = |channel, request| async { concepts(channel).transact(request).await };
        let answer = self.client.connection().call(repeat, request, send).await?;
        answer.try_into()
    }

    /// What a write is called, if it is to have a name, and what may then be done when its outcome is unknown.
    fn write_name(&self) -> (Repeat, String) {
        if self.client.connection().settings().named_writes {
            (Repeat::Safe, request_id())
        } else {
            (Repeat::Never, String::new())
        }
    }

    /// One page of the keys that begin with `prefix`, at most `page_size` (1 to 1000); an empty token begins.
    ///
    /// # Errors
    /// When the node refuses it, or there is no answer.
    pub async fn list(&self, prefix: &str, page_size: u32, page: &PageToken) -> Result<Page, Error> {
        let request = ListRequest {
            namespace: self.name.clone(),
            prefix: prefix.to_owned(),
            page_size,
            page_token: page.0.clone(),
            ..ListRequest::default()
        };
        let list = |channel, request| async { concepts(channel).list(request).await };
        let answer = self.client.connection().call(Repeat::Reads, request, list).await?;
        let concepts = answer.concepts.into_iter().map(Concept::try_from);
        Ok(Page {
            concepts: concepts.collect::<Result<_, Error>>()?,
            next: PageToken(answer.next_page_token),
        })
    }

    /// Every key of the selection, in byte order, as they were at one moment.
    ///
    /// # Errors
    /// When the node refuses it, or it does not begin in time.
    pub async fn scan(&self, selection: Selection) -> Result<Scan, Error> {
        let request = ScanRequest {
            namespace: self.name.clone(),
            prefix: selection.prefix,
            start_after: selection.start_after,
            end: selection.end,
            omit_contexts: !selection.contexts,
            ..ScanRequest::default()
        };
        Scan::begin(self.client.clone(), request).await
    }

    /// Every change of the keys of the selection, from `resume` on; an empty token means from now.
    ///
    /// # Errors
    /// When the node refuses it, or it does not begin in time.
    pub async fn watch(&self, selection: Selection, resume: &ResumeToken) -> Result<Watch, Error> {
        let request = WatchRequest {
            namespace: self.name.clone(),
            prefix: selection.prefix,
            resume_token: resume.as_bytes().to_vec(),
            omit_contexts: !selection.contexts,
        };
        Watch::begin(self.client.clone(), request).await
    }

    /// Writes much, in chunks over one stream. Nothing is sent before the first chunk.
    #[must_use]
    pub fn bulk(&self) -> BulkWrite {
        BulkWrite::new(self.client.clone(), self.name.clone())
    }
}

fn concepts(channel: Channel) -> ConceptsClient<Channel> {
    ConceptsClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

//! What is written, and what a write did.

use std::{collections::BTreeMap, time::Duration};

use proto::v1::{
    self, BatchWrite, CounterChange, DeleteRequest, PutRequest, SetChange, batch_write, put_request, write_result,
};

use crate::{Concept, Context, error::Error};

/// A write of one key. It says its type, which the first write of a key fixes until the key is deleted.
///
/// ```
/// use std::time::Duration;
/// use continuum_client::Put;
///
/// let session = Put::register(r#"{"user": 7}"#).ttl(Duration::from_secs(3600));
/// let once = Put::register("1").if_absent();
/// let tags = Put::set([r#""red""#, r#""blue""#], [r#""green""#]);
/// let hits = Put::counter(1);
/// ```
#[derive(Clone, Debug)]
pub struct Put(PutRequest);

impl Put {
    /// A register's new value: JSON text.
    #[must_use]
    pub fn register(json: impl Into<String>) -> Put {
        Put::of(put_request::Write::Register(json.into()))
    }

    /// A siblings key's new value: JSON text.
    #[must_use]
    pub fn sibling(json: impl Into<String>) -> Put {
        Put::of(put_request::Write::Sibling(json.into()))
    }

    /// Elements to add to a set, and to remove from it: JSON texts. An element in both is present afterwards.
    #[must_use]
    pub fn set<S: Into<String>>(add: impl IntoIterator<Item = S>, remove: impl IntoIterator<Item = S>) -> Put {
        Put::of(put_request::Write::Set(SetChange {
            add: add.into_iter().map(Into::into).collect(),
            remove: remove.into_iter().map(Into::into).collect(),
        }))
    }

    /// A move of a counter; negative takes away.
    #[must_use]
    pub fn counter(delta: i64) -> Put {
        Put::of(put_request::Write::Counter(CounterChange { delta }))
    }

    fn of(write: put_request::Write) -> Put {
        Put(PutRequest {
            write: Some(write),
            ..PutRequest::default()
        })
    }

    /// Hides the value from reads after so long. For registers and siblings only.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Put {
        // Longer than a signed number of seconds is refused by the node, as everything over a thousand years.
        let most = prost_types::Duration {
            seconds: i64::MAX,
            nanos: 0,
        };
        self.0.ttl = Some(ttl.try_into().unwrap_or(most));
        self
    }

    /// Replaces what the read that returned this context has seen, and stays concurrent with everything else.
    #[must_use]
    pub fn context(mut self, context: &Context) -> Put {
        self.0.context = context.as_bytes().to_vec();
        self
    }

    /// Writes only if nobody has written the key since the read that returned this context: else
    /// [`Kind::ConditionFailed`](crate::Kind::ConditionFailed).
    #[must_use]
    pub fn if_context(mut self, context: &Context) -> Put {
        self.0.if_context = Some(context.as_bytes().to_vec());
        self
    }

    /// Writes only if the key holds nothing.
    #[must_use]
    pub fn if_absent(self) -> Put {
        self.if_context(&Context::default())
    }

    /// Returns the key as it is after the write, with its context.
    #[must_use]
    pub fn return_concept(mut self) -> Put {
        self.0.return_concept = true;
        self
    }

    pub(crate) fn request(self, namespace: &str, key: String, request_id: String) -> PutRequest {
        PutRequest {
            namespace: namespace.to_owned(),
            key,
            request_id,
            ..self.0
        }
    }
}

/// A deletion of one key. Deleting what is not there is no error.
#[derive(Clone, Debug, Default)]
pub struct Delete(DeleteRequest);

impl Delete {
    /// Of all that the node has; siblings keys, and registers whose concurrent values must not vanish unread, need a context.
    #[must_use]
    pub fn new() -> Delete {
        Delete::default()
    }

    /// Of what the read that returned this context has seen.
    #[must_use]
    pub fn context(mut self, context: &Context) -> Delete {
        self.0.context = context.as_bytes().to_vec();
        self
    }

    /// Only if nobody has written the key since the read that returned this context.
    #[must_use]
    pub fn if_context(mut self, context: &Context) -> Delete {
        self.0.if_context = Some(context.as_bytes().to_vec());
        self
    }

    pub(crate) fn request(self, namespace: &str, key: String, request_id: String) -> DeleteRequest {
        DeleteRequest {
            namespace: namespace.to_owned(),
            key,
            request_id,
            ..self.0
        }
    }
}

/// One write of several, in a batch or in a chunk of a bulk write.
#[derive(Clone, Debug)]
pub struct Write {
    namespace: Option<String>,
    key: String,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Put(Put),
    Delete(Delete),
}

impl Write {
    /// Writes a key.
    #[must_use]
    pub fn put(key: impl Into<String>, put: Put) -> Write {
        let (key, change) = (key.into(), Change::Put(put));
        Write {
            namespace: None,
            key,
            change,
        }
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(key: impl Into<String>, delete: Delete) -> Write {
        let (key, change) = (key.into(), Change::Delete(delete));
        Write {
            namespace: None,
            key,
            change,
        }
    }

    /// In another namespace than the handle's.
    #[must_use]
    pub fn within(mut self, namespace: impl Into<String>) -> Write {
        self.namespace = Some(namespace.into());
        self
    }

    /// As it travels; `namespace` is that of the handle.
    pub(crate) fn wire(self, namespace: &str) -> BatchWrite {
        let namespace = self.namespace.as_deref().unwrap_or(namespace);
        // The batch has a request id, and its writes none of their own.
        let write = match self.change {
            Change::Put(put) => batch_write::Write::Put(put.request(namespace, self.key, String::new())),
            Change::Delete(delete) => batch_write::Write::Delete(delete.request(namespace, self.key, String::new())),
        };
        BatchWrite { write: Some(write) }
    }
}

/// What a put did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What the node has seen of the key, folded by node.
    pub clock: BTreeMap<String, u64>,
    /// The key after the write, where it was asked for.
    pub concept: Option<Concept>,
    /// An earlier try had been carried out; the rest tells of the key as it is now, or, where the namespace replicates by
    /// consensus, as it was then.
    pub replayed: bool,
    /// Where the namespace replicates by consensus: the revision of the write.
    pub revision: Option<u64>,
}

/// What a deletion did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Whether something was there to be deleted.
    pub deleted: bool,
    /// What the node has seen of the key, folded by node.
    pub clock: BTreeMap<String, u64>,
    /// An earlier try had been carried out; the clock tells of the key as it is now.
    pub replayed: bool,
    /// Where the namespace replicates by consensus: the revision of the deletion, or of the last change before it when nothing
    /// was there.
    pub revision: Option<u64>,
}

/// What one write of several did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// A put.
    Put(Written),
    /// A deletion.
    Deleted(Deleted),
}

/// What a batch did: all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batched {
    /// One for each write, in order. Empty of a chunk whose results were not asked for.
    pub results: Vec<WriteResult>,
    /// An earlier try had been carried out; the results tell of the keys as they are now.
    pub replayed: bool,
}

impl TryFrom<v1::PutResponse> for Written {
    type Error = Error;

    fn try_from(answer: v1::PutResponse) -> Result<Written, Error> {
        Ok(Written {
            clock: answer.clock.into_iter().collect(),
            concept: answer.concept.map(Concept::try_from).transpose()?,
            replayed: answer.replayed,
            revision: revision(answer.revision),
        })
    }
}

/// Namespaces that replicate by mesh have none.
fn revision(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

impl From<v1::DeleteResponse> for Deleted {
    fn from(answer: v1::DeleteResponse) -> Deleted {
        Deleted {
            deleted: answer.deleted,
            clock: answer.clock.into_iter().collect(),
            replayed: answer.replayed,
            revision: revision(answer.revision),
        }
    }
}

impl TryFrom<v1::WriteResult> for WriteResult {
    type Error = Error;

    fn try_from(result: v1::WriteResult) -> Result<WriteResult, Error> {
        match result.result {
            Some(write_result::Result::Put(put)) => Ok(WriteResult::Put(put.try_into()?)),
            Some(write_result::Result::Delete(delete)) => Ok(WriteResult::Deleted(delete.into())),
            None => Err(Error::confused("the result of a write is missing")),
        }
    }
}

impl Batched {
    pub(crate) fn of(results: Vec<v1::WriteResult>, replayed: bool) -> Result<Batched, Error> {
        let results = results.into_iter().map(WriteResult::try_from);
        Ok(Batched {
            results: results.collect::<Result<_, Error>>()?,
            replayed,
        })
    }
}

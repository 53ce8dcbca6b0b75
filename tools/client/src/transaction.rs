//! Transactions on the keys of one namespace that replicates by consensus.

use proto::v1::{self, PutAction, TransactRequest, TransactResponse, action, action_result, compare};

use crate::{Concept, Context, error::Error};

/// Compares, what is done when all hold, and what is done otherwise: at one moment, whole.
///
/// ```
/// use continuum_client::{Action, Compare, Transaction};
///
/// let transfer = Transaction::new()
///     .compare(Compare::revision("a", 7))
///     .compare(Compare::absent("b"))
///     .then(Action::put("b", "1"))
///     .then(Action::delete("a"))
///     .otherwise(Action::get("a"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Transaction(TransactRequest);

impl Transaction {
    /// Nothing yet; 1 to 1000 compares and actions together are taken.
    #[must_use]
    pub fn new() -> Transaction {
        Transaction::default()
    }

    /// One more that must hold of what there was before the transaction.
    #[must_use]
    pub fn compare(mut self, compare: Compare) -> Transaction {
        self.0.compares.push(compare.0);
        self
    }

    /// One more that is done when all compares hold.
    #[must_use]
    pub fn then(mut self, action: Action) -> Transaction {
        self.0.then.push(action.0);
        self
    }

    /// One more that is done when a compare does not hold.
    #[must_use]
    pub fn otherwise(mut self, action: Action) -> Transaction {
        self.0.otherwise.push(action.0);
        self
    }

    pub(crate) fn request(self, namespace: &str, request_id: String) -> TransactRequest {
        TransactRequest {
            namespace: namespace.to_owned(),
            request_id,
            ..self.0
        }
    }
}

/// What one key must hold.
#[derive(Clone, Debug)]
pub struct Compare(v1::Compare);

impl Compare {
    fn of(key: impl Into<String>, expected: compare::Expected) -> Compare {
        Compare(v1::Compare {
            key: key.into(),
            expected: Some(expected),
        })
    }

    /// Nothing.
    #[must_use]
    pub fn absent(key: impl Into<String>) -> Compare {
        Compare::of(key, compare::Expected::Exists(false))
    }

    /// Anything.
    #[must_use]
    pub fn present(key: impl Into<String>) -> Compare {
        Compare::of(key, compare::Expected::Exists(true))
    }

    /// What was written at this revision, and nothing since; 0: nothing.
    #[must_use]
    pub fn revision(key: impl Into<String>, revision: u64) -> Compare {
        Compare::of(key, compare::Expected::Revision(revision))
    }

    /// This very text, as a read returned it.
    #[must_use]
    pub fn json(key: impl Into<String>, json: impl Into<String>) -> Compare {
        Compare::of(key, compare::Expected::Json(json.into()))
    }

    /// What the read that returned this context returned.
    #[must_use]
    pub fn context(key: impl Into<String>, context: &Context) -> Compare {
        Compare::of(key, compare::Expected::Context(context.as_bytes().to_vec()))
    }
}

/// One step of a transaction. Each sees what those before it did.
#[derive(Clone, Debug)]
pub struct Action(v1::Action);

impl Action {
    fn of(action: action::Action) -> Action {
        Action(v1::Action { action: Some(action) })
    }

    /// Writes a key: JSON text.
    #[must_use]
    pub fn put(key: impl Into<String>, json: impl Into<String>) -> Action {
        Action::of(action::Action::Put(PutAction {
            key: key.into(),
            json: json.into(),
        }))
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(key: impl Into<String>) -> Action {
        Action::of(action::Action::Delete(key.into()))
    }

    /// Reads a key.
    #[must_use]
    pub fn get(key: impl Into<String>) -> Action {
        Action::of(action::Action::Get(key.into()))
    }
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transacted {
    /// Place of the first compare that did not hold; `None`: all held.
    pub failed: Option<usize>,
    /// Its own, if it changed something; else that of the last change before it.
    pub revision: u64,
    /// One for each action that was carried out, in order.
    pub results: Vec<ActionResult>,
    /// An earlier try had been carried out; everything here tells of then.
    pub replayed: bool,
}

impl Transacted {
    /// Whether all compares held.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.failed.is_none()
    }
}

/// What one action did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionResult {
    /// A put: how many times the key has been written since it was made.
    Put {
        /// From 1.
        version: u64,
    },
    /// A deletion.
    Deleted {
        /// Whether something was there.
        deleted: bool,
    },
    /// A read.
    Got {
        /// `None`: the key holds nothing.
        concept: Option<Concept>,
        /// The value was left out, and an empty text stands for it: together it was too much to be told, or remembered.
        omitted: bool,
    },
}

impl TryFrom<TransactResponse> for Transacted {
    type Error = Error;

    fn try_from(answer: TransactResponse) -> Result<Transacted, Error> {
        let results = answer.results.into_iter().map(ActionResult::try_from);
        Ok(Transacted {
            failed: answer.failed.map(|place| place as usize),
            revision: answer.revision,
            results: results.collect::<Result<_, Error>>()?,
            replayed: answer.replayed,
        })
    }
}

impl TryFrom<v1::ActionResult> for ActionResult {
    type Error = Error;

    fn try_from(result: v1::ActionResult) -> Result<ActionResult, Error> {
        Ok(match result.result {
            Some(action_result::Result::Version(version)) => ActionResult::Put { version },
            Some(action_result::Result::Deleted(deleted)) => ActionResult::Deleted { deleted },
            Some(action_result::Result::Got(got)) => ActionResult::Got {
                concept: got.concept.map(Concept::try_from).transpose()?,
                omitted: got.omitted,
            },
            None => return Err(Error::confused("the result of an action is missing")),
        })
    }
}

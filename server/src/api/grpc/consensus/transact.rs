//! `Concepts/Transact`.

use engine::{
    keyspace::consensus::Row,
    ledger::{
        Action, Compare, Got, Holds, Namespace, Performed, Replication, TRANSACTION_PARTS_MAX, Transacted, Transaction,
    },
};
use proto::v1::{self as wire, ActionResult, GotResult, TransactRequest, TransactResponse, action_result};

use super::{
    super::{concepts::Service, fields, status::Refused},
    RowReader, named,
    writes::holds,
};

impl Service {
    /// Carries out a transaction.
    pub(in crate::api::grpc) async fn transact_checked(
        &self,
        mut request: TransactRequest,
    ) -> Result<TransactResponse, Refused> {
        let namespace = self.namespace(&request.namespace)?;
        if namespace.policy.replication == Replication::Mesh {
            return Err(Refused::ConsensusOnly {
                namespace: namespace.name,
            });
        }
        let idempotency = named(&mut request)?;
        let transaction = self.transaction(&namespace, request)?;
        // Of a retry the same branch is told as the first time, and so the same keys.
        let (then, otherwise) = (keys_read(&transaction.then), keys_read(&transaction.otherwise));
        let (transacted, replayed) = self.transact(transaction, idempotency).await?;
        let Transacted {
            failed,
            revision,
            results,
            ..
        } = transacted;
        let keys = if failed.is_none() { then } else { otherwise };
        let mut keys = keys.into_iter();
        let reader = self.row_reader(namespace.id, true);
        let results = results
            .into_iter()
            .map(|performed| result(reader, performed, &mut keys));
        Ok(TransactResponse {
            succeeded: failed.is_none(),
            revision,
            results: results.collect::<Result<Vec<ActionResult>, Refused>>()?,
            replayed,
            failed: failed.map(|failed| failed.compare),
        })
    }

    fn transaction(&self, namespace: &Namespace, request: TransactRequest) -> Result<Transaction, Refused> {
        let parts = request.compares.len() + request.then.len() + request.otherwise.len();
        match parts {
            0 => {
                let rule = "name at least one compare or action";
                return Err(Refused::field("then", "TRANSACTION_EMPTY", rule));
            }
            1..=TRANSACTION_PARTS_MAX => {}
            _ => {
                let rule =
                    format!("compares and actions must be at most {TRANSACTION_PARTS_MAX} together, were {parts}");
                return Err(Refused::field("then", "TRANSACTION_PARTS", rule));
            }
        }
        let compares = each("compares", request.compares, |compare| self.compare(namespace, compare))?;
        Ok(Transaction {
            namespace: namespace.id,
            compares,
            then: each("then", request.then, action)?,
            otherwise: each("otherwise", request.otherwise, action)?,
        })
    }

    fn compare(&self, namespace: &Namespace, compare: wire::Compare) -> Result<Compare, Refused> {
        use wire::compare::Expected;
        fields::key_length(&compare.key)?;
        let holds = match compare.expected {
            Some(Expected::Exists(true)) => Holds::Something,
            Some(Expected::Exists(false) | Expected::Revision(0)) => Holds::Nothing,
            Some(Expected::Revision(revision)) => Holds::Revision(revision),
            Some(Expected::Json(json)) => {
                fields::concept("json", &json)?;
                Holds::Json(json)
            }
            Some(Expected::Context(context)) => holds(self, namespace, &compare.key, &context, "context")?,
            None => {
                let rule = "one of exists, revision, json and context must be given";
                return Err(Refused::field("expected", "EXPECTED_MISSING", rule));
            }
        };
        let key = compare.key;
        Ok(Compare { key, holds })
    }
}

/// Takes all of a list, or names the first that cannot be taken.
fn each<T, U>(
    list: &'static str,
    all: Vec<T>,
    mut take: impl FnMut(T) -> Result<U, Refused>,
) -> Result<Vec<U>, Refused> {
    let taken = all.into_iter().enumerate();
    taken
        .map(|(index, one)| take(one).map_err(|refused| refused.at_place(list, index)))
        .collect()
}

fn action(action: wire::Action) -> Result<Action, Refused> {
    use wire::action::Action as Asked;
    Ok(match action.action {
        Some(Asked::Put(wire::PutAction { key, json })) => {
            fields::key_length(&key)?;
            fields::concept("json", &json)?;
            Action::Put { key, json }
        }
        Some(Asked::Delete(key)) => {
            fields::key_length(&key)?;
            Action::Delete { key }
        }
        Some(Asked::Get(key)) => {
            fields::key_length(&key)?;
            Action::Get { key }
        }
        None => {
            let rule = "one of put, delete and get must be given";
            return Err(Refused::field("action", "ACTION_MISSING", rule));
        }
    })
}

fn keys_read(actions: &[Action]) -> Vec<String> {
    let read = actions.iter().filter_map(|action| match action {
        Action::Get { key } => Some(key.clone()),
        Action::Put { .. } | Action::Delete { .. } => None,
    });
    read.collect()
}

fn result(
    reader: RowReader<'_>,
    performed: Performed,
    keys: &mut impl Iterator<Item = String>,
) -> Result<ActionResult, Refused> {
    let result = match performed {
        Performed::Put { version, .. } => action_result::Result::Version(version),
        Performed::Deleted { found } => action_result::Result::Deleted(found),
        Performed::Got(got) => {
            let key = keys.next().ok_or(Refused::Confused)?;
            action_result::Result::Got(match got {
                Some(got) => self::got(reader, key, got),
                None => GotResult::default(),
            })
        }
    };
    Ok(ActionResult { result: Some(result) })
}

fn got(reader: RowReader<'_>, key: String, got: Got) -> GotResult {
    let omitted = got.json.is_none();
    let row = Row {
        created: got.created,
        modified: got.modified,
        version: got.version,
        at: got.at,
        json: got.json.unwrap_or_default(),
    };
    GotResult {
        concept: Some(reader.concept(key, row)),
        omitted,
    }
}

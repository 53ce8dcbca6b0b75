//! Put, Delete, Batch and the chunks of Write as transactions: conditions are compares, writes are what is done then.

use engine::{
    keyspace::consensus::Row,
    ledger::{Action, Compare, Failed, Holds, Idempotency, Namespace, Performed, Transacted, Transaction},
};
use proto::v1::{
    BatchWrite, DeleteRequest, DeleteResponse, PutRequest, PutResponse, WriteResult, batch_write::Write, put_request,
    write_result,
};

use super::{
    super::{
        concepts::Service,
        fields,
        status::Refused,
        token,
        writes::{Done, Writes},
    },
    named,
};

/// Writes that become one transaction.
pub(in crate::api::grpc) struct Draft {
    service: Service,
    namespace: Namespace,
    idempotency: Option<Idempotency>,
    compares: Vec<Compare>,
    /// Which write asked for which compare, and of which key.
    conditional: Vec<(usize, String)>,
    actions: Vec<Action>,
    answers: Vec<Answer>,
}

/// How a write is answered.
enum Answer {
    Put {
        /// Key and value, where the concept is asked for.
        concept: Option<(String, String)>,
    },
    Delete,
}

impl Draft {
    fn new(service: &Service, namespace: Namespace, idempotency: Option<Idempotency>, writes: usize) -> Draft {
        Draft {
            service: service.clone(),
            namespace,
            idempotency,
            compares: Vec::new(),
            conditional: Vec::new(),
            actions: Vec::with_capacity(writes),
            answers: Vec::with_capacity(writes),
        }
    }

    /// A put that comes alone.
    pub(in crate::api::grpc) fn of_put(
        service: &Service,
        namespace: Namespace,
        mut put: PutRequest,
    ) -> Result<Draft, Refused> {
        let mut draft = Draft::new(service, namespace, named(&mut put)?, 1);
        draft.put(put)?;
        Ok(draft)
    }

    /// A deletion that comes alone.
    pub(in crate::api::grpc) fn of_delete(
        service: &Service,
        namespace: Namespace,
        mut delete: DeleteRequest,
    ) -> Result<Draft, Refused> {
        let mut draft = Draft::new(service, namespace, named(&mut delete)?, 1);
        draft.delete(delete)?;
        Ok(draft)
    }

    /// Takes all writes of `message`, or names the first that cannot be taken.
    pub(in crate::api::grpc) fn of(
        service: &Service,
        namespace: Namespace,
        mut message: impl Writes,
    ) -> Result<Draft, Refused> {
        let idempotency = named(&mut message)?;
        let writes = std::mem::take(message.writes());
        fields::batch_size(writes.len())?;
        let mut draft = Draft::new(service, namespace, idempotency, writes.len());
        for (index, write) in writes.into_iter().enumerate() {
            draft.add(write).map_err(|refused| refused.at(index))?;
        }
        Ok(draft)
    }

    fn add(&mut self, BatchWrite { write }: BatchWrite) -> Result<(), Refused> {
        let write = write.ok_or_else(fields::write_missing)?;
        let (Write::Put(PutRequest { namespace, .. }) | Write::Delete(DeleteRequest { namespace, .. })) = &write;
        if *namespace != self.namespace.name {
            // One that is closed, or not there, is told as such.
            self.service.namespace(namespace)?;
            return Err(Refused::batch_mixed());
        }
        match write {
            Write::Put(request) => self.put(request),
            Write::Delete(request) => self.delete(request),
        }
    }

    fn put(&mut self, request: PutRequest) -> Result<(), Refused> {
        fields::no_request_id(&request.request_id)?;
        fields::key_length(&request.key)?;
        let json = match request.write {
            Some(put_request::Write::Register(json)) => json,
            Some(put_request::Write::Sibling(_)) => return Err(self.mesh_only("a sibling")),
            Some(put_request::Write::Set(_)) => return Err(self.mesh_only("a set")),
            Some(put_request::Write::Counter(_)) => return Err(self.mesh_only("a counter")),
            None => return Err(fields::put_missing()),
        };
        if request.ttl.is_some() {
            return Err(self.mesh_only("a time to live"));
        }
        fields::concept("register", &json)?;
        self.condition(&request.key, &request.context, request.if_context)?;
        let concept = request.return_concept.then(|| (request.key.clone(), json.clone()));
        self.answers.push(Answer::Put { concept });
        self.actions.push(Action::Put { key: request.key, json });
        Ok(())
    }

    fn delete(&mut self, request: DeleteRequest) -> Result<(), Refused> {
        fields::no_request_id(&request.request_id)?;
        fields::key_length(&request.key)?;
        self.condition(&request.key, &request.context, request.if_context)?;
        self.answers.push(Answer::Delete);
        self.actions.push(Action::Delete { key: request.key });
        Ok(())
    }

    fn condition(&mut self, key: &str, context: &[u8], if_context: Option<Vec<u8>>) -> Result<(), Refused> {
        if !context.is_empty() {
            return Err(self.mesh_only("a context other than if_context"));
        }
        let Some(expected) = if_context else { return Ok(()) };
        let holds = holds(&self.service, &self.namespace, key, &expected, "if_context")?;
        self.conditional.push((self.actions.len(), key.to_owned()));
        self.compares.push(Compare {
            key: key.to_owned(),
            holds,
        });
        Ok(())
    }

    fn mesh_only(&self, what: &'static str) -> Refused {
        Refused::MeshOnly {
            namespace: self.namespace.name.clone(),
            what,
        }
    }

    /// Has the writes carried out: what each did, or why there was none.
    pub(in crate::api::grpc) async fn done(self) -> Result<Done, Refused> {
        let Draft {
            service,
            namespace,
            idempotency,
            compares,
            conditional,
            actions,
            answers,
        } = self;
        let transaction = Transaction {
            namespace: namespace.id,
            compares,
            then: actions,
            otherwise: Vec::new(),
        };
        let (transacted, replayed) = service.transact(transaction, idempotency).await?;
        if let Some(failed) = transacted.failed {
            return Err(refused(&service, namespace, conditional, failed));
        }
        if transacted.results.len() != answers.len() {
            return Err(Refused::Confused);
        }
        let Transacted {
            revision, at, results, ..
        } = transacted;
        let reader = service.row_reader(namespace.id, true);
        let told = answers.into_iter().zip(results).map(|(answer, performed)| {
            let result = match (answer, performed) {
                (Answer::Put { concept }, Performed::Put { created, version }) => {
                    let row = |json| Row {
                        created,
                        modified: revision,
                        version,
                        at,
                        json,
                    };
                    write_result::Result::Put(PutResponse {
                        concept: concept.map(|(key, json)| reader.concept(key, row(json))),
                        replayed,
                        revision,
                        ..PutResponse::default()
                    })
                }
                (Answer::Delete, Performed::Deleted { found }) => write_result::Result::Delete(DeleteResponse {
                    deleted: found,
                    replayed,
                    revision,
                    ..DeleteResponse::default()
                }),
                _ => return Err(Refused::Confused),
            };
            Ok(WriteResult { result: Some(result) })
        });
        let results = told.collect::<Result<Vec<WriteResult>, Refused>>()?;
        Ok(Done { results, replayed })
    }
}

/// What a token says that its key holds; empty: nothing.
pub(super) fn holds(
    service: &Service,
    namespace: &Namespace,
    key: &str,
    token: &[u8],
    field: &'static str,
) -> Result<Holds, Refused> {
    if token.is_empty() {
        return Ok(Holds::Nothing);
    }
    let revision = token::open_revision(service.key(), namespace.id, key.as_bytes(), token);
    Ok(match revision.map_err(|refused| refused.in_field(field))? {
        0 => Holds::Nothing,
        revision => Holds::Revision(revision),
    })
}

fn refused(service: &Service, namespace: Namespace, conditional: Vec<(usize, String)>, failed: Failed) -> Refused {
    let place = usize::try_from(failed.compare).unwrap_or(usize::MAX);
    let Some((write, key)) = conditional.into_iter().nth(place) else {
        return Refused::Confused;
    };
    let found = failed.found.unwrap_or_default();
    let refused = Refused::ConditionFailed {
        write,
        context: token::seal_revision(service.key(), namespace.id, key.as_bytes(), found),
        namespace: namespace.name,
        key,
        exists: failed.found.is_some(),
    };
    refused.at(write)
}

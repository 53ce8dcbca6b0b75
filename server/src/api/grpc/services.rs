//! All services as one: each call counted, within its deadline, and handed to who serves it.
//!
//! Concepts are found by their name's beginning, because a search through all routes and a copy of the one found is much of what
//! a read costs; everything else is found by the router.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use proto::v1::concepts_server::{ConceptsServer, SERVICE_NAME};
use tower::Service;

use super::{concepts, count::Counts, deadline};

/// The face's services; clones share them.
#[derive(Clone)]
pub struct Services {
    concepts: ConceptsServer<concepts::Service>,
    others: Router,
    counts: Counts,
}

impl Services {
    pub(super) fn new(concepts: ConceptsServer<concepts::Service>, others: Router, counts: Counts) -> Services {
        Services {
            concepts,
            others,
            counts,
        }
    }
}

/// A call in the hands of who serves it.
enum Answering {
    Concepts(<ConceptsServer<concepts::Service> as Service<Request<Body>>>::Future),
    Others(Box<<Router as Service<Request<Body>>>::Future>),
}

impl Answering {
    async fn answer(self) -> Response<Body> {
        let answer = match self {
            Answering::Concepts(answer) => answer.await.map(|answer| answer.map(Body::new)),
            Answering::Others(answer) => answer.await,
        };
        answer.unwrap_or_else(|never| match never {})
    }
}

/// Whether a method of `Concepts` is at `path`.
fn is_of_concepts(path: &str) -> bool {
    let method = path.strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME));
    method.is_some_and(|method| method.starts_with('/'))
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    /// Always: the services behind it queue within themselves.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = self.counts.begin(request.uri().path());
        let limit = deadline::asked(request.headers());
        let answer = if is_of_concepts(request.uri().path()) {
            Answering::Concepts(self.concepts.call(request))
        } else {
            Answering::Others(Box::new(self.others.call(request)))
        };
        Box::pin(async move {
            let response = deadline::keep(limit, answer.answer()).await;
            call.end(response.headers());
            Ok(response)
        })
    }
}

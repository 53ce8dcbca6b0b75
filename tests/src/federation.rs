//! The contribution calls of one member, as a program would make them.

use std::io;

use serde_json::{Value, json};

use crate::{Answer, Client, Node};

/// π·(1+√5)/2, which makes a member verified in `open` mode.
pub const PI_PHI: f64 = 5.083_203_692_315_26;

/// A member: its name and its connection.
#[derive(Debug)]
pub struct Member {
    /// Sent as `X-Node-ID`.
    pub name: String,
    /// Its connection.
    pub client: Client,
}

impl Member {
    /// A member that has not said anything yet; in `open` mode it need not register.
    #[must_use]
    pub fn new(node: &Node, name: impl Into<String>) -> Member {
        Member {
            name: name.into(),
            client: node.client(),
        }
    }

    /// Registers; `constant` is the proof of a verified member.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn register(&mut self, constant: Option<f64>) -> io::Result<Answer> {
        let mut body = json!({"node_id": self.name});
        if let Some(constant) = constant {
            body["verify_constant"] = json!(constant);
        }
        self.client.post("/federation/register", &self.name, &body).await
    }

    /// Contributes.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn contribute(&mut self, concepts: &[Value]) -> io::Result<Answer> {
        self.client
            .post("/federation/contribute", &self.name, &json!({ "concepts": concepts }))
            .await
    }

    /// Draws knowledge.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn knowledge(&mut self, query: &str, limit: usize) -> io::Result<Answer> {
        self.client
            .post(
                "/federation/knowledge",
                &self.name,
                &json!({"query": query, "limit": limit}),
            )
            .await
    }

    /// Asks for its standing.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn status(&mut self) -> io::Result<Answer> {
        let headers = [("x-node-id", self.name.as_str())];
        self.client
            .call(hyper::Method::GET, "/federation/status", &headers, bytes::Bytes::new())
            .await
    }
}

/// The pool's size, as `/federation/stats` tells it.
///
/// # Panics
/// When the node does not answer.
pub async fn total_concepts(client: &mut Client) -> u64 {
    let stats = client
        .get("/federation/stats")
        .await
        .expect("stats of a running node")
        .ok();
    stats["federation"]["total_concepts"]
        .as_u64()
        .expect("total_concepts is a whole number")
}

/// A number of an answer. JSON with number text kept makes no difference between 2 and 2.0 here.
///
/// # Panics
/// When it is not a number.
#[must_use]
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

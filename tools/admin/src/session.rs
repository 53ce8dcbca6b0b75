//! What a verb runs with: which cluster, how long, how it is shown, and whether it may destroy.

use std::time::Duration;

use client::{Client, Settings};

use crate::{
    command::{Caution, ENDPOINT_VARIABLE, Options},
    contexts::{Contexts, TlsFiles},
    error::{Code, Failure},
    output::Output,
};

/// Where a node serves that was started with no configuration.
const ENDPOINT_DEFAULT: &str = "127.0.0.1:7000";
/// Times that every endpoint is tried before it is said that none can be reached: people wait for it.
const UNREACHABLE_ROUNDS_MAX: u32 = 3;

/// What a verb runs with.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    options: Options,
    /// Where data and words go.
    pub(crate) output: Output,
}

/// The nodes to ask, and who named them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) endpoints: Vec<String>,
    pub(crate) named_by: String,
    pub(crate) tls: Option<TlsFiles>,
}

impl Session {
    /// What `--endpoint` named on this command line.
    pub(crate) fn endpoints_given(&self) -> &[String] {
        &self.options.endpoint
    }

    /// What `--tls-ca`, `--tls-cert` and `--tls-key` named on this command line.
    pub(crate) fn tls_given(&self) -> Result<Option<TlsFiles>, Failure> {
        let Options {
            tls_ca,
            tls_cert,
            tls_key,
            ..
        } = self.options.clone();
        TlsFiles::of(tls_ca, tls_cert, tls_key)
    }

    pub(crate) fn new(options: Options, output: Output) -> Session {
        Session { options, output }
    }

    /// How long one call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// The nodes to ask: `--endpoint`, `--context`, the variable, the context in use, the default.
    pub(crate) fn cluster(&self) -> Result<Cluster, Failure> {
        let given = self.tls_given()?;
        let cluster = |endpoints: Vec<String>, named_by: String| Cluster {
            endpoints,
            named_by,
            tls: given.clone(),
        };
        // Not clap's to see: one may stand before the verb and the other behind it.
        if !self.options.endpoint.is_empty() && self.options.context.is_some() {
            return Err(Failure::usage("--endpoint cannot be used with --context").next("name nodes, or a context"));
        }
        if !self.options.endpoint.is_empty() {
            return Ok(cluster(self.options.endpoint.clone(), "--endpoint".to_owned()));
        }
        let variable = std::env::var(ENDPOINT_VARIABLE).unwrap_or_default();
        if self.options.context.is_none() && !variable.is_empty() {
            let endpoints = variable.split(',').map(|endpoint| endpoint.trim().to_owned());
            return Ok(cluster(endpoints.collect(), ENDPOINT_VARIABLE.to_owned()));
        }
        let contexts = Contexts::load()?;
        match self.options.context.as_ref().or(contexts.current.as_ref()) {
            Some(name) => {
                let context = contexts.get(name)?.clone();
                let cluster = cluster(context.endpoints, format!("context {name}"));
                Ok(Cluster {
                    tls: cluster.tls.or(context.tls),
                    ..cluster
                })
            }
            None => Ok(cluster(vec![ENDPOINT_DEFAULT.to_owned()], "default".to_owned())),
        }
    }

    /// A client of the cluster; nothing is connected yet.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let cluster = self.cluster()?;
        self.client_of(&cluster, cluster.endpoints.clone())
    }

    /// A client of one node of the cluster.
    pub(crate) fn client_at(&self, endpoint: &str) -> Result<Client, Failure> {
        self.client_of(&self.cluster()?, vec![endpoint.to_owned()])
    }

    /// A client of each node by itself, for what is about one node and nobody else may answer.
    pub(crate) fn clients(&self) -> Result<Vec<Client>, Failure> {
        let cluster = self.cluster()?;
        let endpoints = cluster.endpoints.iter();
        endpoints
            .map(|endpoint| self.client_of(&cluster, vec![endpoint.clone()]))
            .collect()
    }

    fn client_of(&self, cluster: &Cluster, endpoints: Vec<String>) -> Result<Client, Failure> {
        let settings = Settings {
            endpoints,
            tls: cluster.tls.as_ref().map(TlsFiles::read).transpose()?,
            call_timeout: self.options.timeout,
            unreachable_rounds_max: UNREACHABLE_ROUNDS_MAX,
            ..Settings::default()
        };
        Client::connect(settings).map_err(|error| {
            Failure::new(Code::Config, format!("{error} ({})", cluster.named_by))
                .next("name a node as HOST:PORT, db1:7000 say")
        })
    }

    /// Whether to do `what`, which destroys: told `--yes`, or asked at the terminal. False for `--dry-run`.
    pub(crate) fn may(&self, caution: Caution, what: &str) -> Result<bool, Failure> {
        if caution.dry_run {
            self.output.say(&format!("would {what}; nothing was changed"));
            return Ok(false);
        }
        if caution.yes {
            return Ok(true);
        }
        match self.output.ask(&format!("{what}?"))? {
            Some(true) => Ok(true),
            Some(false) => Err(Failure::new(Code::No, "not confirmed: nothing was changed")),
            None => Err(Failure::usage(format!(
                "there is no terminal to ask whether to {what}: nothing was changed"
            ))
            .next("add --yes, or --dry-run to see what would be done")),
        }
    }
}

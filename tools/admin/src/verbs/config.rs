//! `config`: the clusters that this tool knows by name.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Verb;
use crate::{
    contexts::{self, Context, Contexts, TlsFiles},
    error::Failure,
    session::Session,
};

/// Name several clusters, and choose the one to ask
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin config set home --endpoint db1:7000 --endpoint db2:7000
  continuum-admin config set work --endpoint db3:7000 --tls-ca certs/ca.pem --tls-cert certs/me.pem --tls-key certs/me-key.pem
  continuum-admin config use home
  continuum-admin config list
  continuum-admin --context home status")]
pub(super) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Name a cluster, or change its nodes; the first one named is used from then on
    #[command(after_help = "Examples:\n  continuum-admin config set home --endpoint db1:7000 --endpoint db2:7000")]
    Set {
        /// Its name
        #[arg(value_parser = contexts::name)]
        name: String,
    },
    /// Ask this cluster when nothing else is said
    #[command(after_help = "Examples:\n  continuum-admin config use home")]
    Use {
        /// Its name
        name: String,
    },
    /// List the clusters
    #[command(after_help = "Examples:\n  continuum-admin config list\n  continuum-admin config list -o json")]
    List,
    /// Show which nodes would be asked, and why
    #[command(after_help = "Examples:\n  continuum-admin config show\n  continuum-admin --context home config show")]
    Show,
    /// Forget a cluster's name; the cluster itself is not touched
    #[command(after_help = "Examples:\n  continuum-admin config remove home")]
    Remove {
        /// Its name
        name: String,
    },
    /// Say where the file is
    #[command(after_help = "Examples:\n  continuum-admin config path")]
    Path,
}

impl Verb for Config {
    const NAME: &'static str = "config";

    async fn run(self, session: Session) -> Result<(), Failure> {
        match self.what {
            What::Set { name } => set(&session, name),
            What::Use { name } => choose(&session, &name),
            What::List => list(&session),
            What::Show => show(&session),
            What::Remove { name } => remove(&session, &name),
            What::Path => {
                let path = Contexts::path()?;
                session
                    .output
                    .data(&json!({ "path": path }), || format!("{}\n", path.display()))
            }
        }
    }
}

fn set(session: &Session, name: String) -> Result<(), Failure> {
    let endpoints = session.endpoints_given().to_vec();
    if endpoints.is_empty() {
        return Err(
            Failure::usage(format!("the context {name} needs a node at least")).next("add --endpoint HOST:PORT")
        );
    }
    let tls = session.tls_given()?.map(TlsFiles::absolute);
    let settings = client::Settings {
        tls: tls.as_ref().map(TlsFiles::read).transpose()?,
        ..client::Settings::of(&endpoints)
    };
    settings.validate().map_err(|error| Failure::usage(error.to_string()))?;
    let mut contexts = Contexts::load()?;
    let first = contexts.current.is_none();
    if first {
        contexts.current = Some(name.clone());
    }
    contexts.contexts.insert(name.clone(), Context { endpoints, tls });
    contexts.save()?;
    let used = if first { ", and used from now on" } else { "" };
    session.output.say(&format!("the context {name} is set{used}"));
    session.output.data(&one(&contexts, &name), String::new)
}

fn choose(session: &Session, name: &str) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    contexts.get(name)?;
    contexts.current = Some(name.to_owned());
    contexts.save()?;
    session.output.say(&format!("the context {name} is used from now on"));
    session.output.data(&one(&contexts, name), String::new)
}

fn list(session: &Session) -> Result<(), Failure> {
    let contexts = Contexts::load()?;
    let json: Vec<Value> = contexts.contexts.keys().map(|name| one(&contexts, name)).collect();
    session.output.data(&json!({ "contexts": json }), || {
        let row = |(name, context): (&String, &Context)| {
            let mark = if contexts.current.as_ref() == Some(name) {
                "*"
            } else {
                ""
            };
            vec![mark.to_owned(), name.clone(), context.endpoints.join(" ")]
        };
        let rows = contexts.contexts.iter().map(row).collect();
        session.output.table(&["", "CONTEXT", "ENDPOINTS"], &[], rows)
    })
}

fn show(session: &Session) -> Result<(), Failure> {
    let cluster = session.cluster()?;
    let ca = cluster.tls.as_ref().map(|tls| &tls.ca);
    let json = json!({ "endpoints": cluster.endpoints, "named_by": cluster.named_by, "tls_ca": ca });
    session.output.data(&json, || {
        session.output.facts(&[
            ("endpoints", cluster.endpoints.join(" ")),
            ("named by", cluster.named_by.clone()),
            (
                "authority",
                ca.map_or_else(|| "none: no TLS".to_owned(), |ca| ca.display().to_string()),
            ),
        ])
    })
}

fn remove(session: &Session, name: &str) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    let removed = one(&contexts, name);
    contexts.get(name)?;
    contexts.contexts.remove(name);
    let mut words = format!("the context {name} is forgotten");
    if contexts.current.as_deref() == Some(name) {
        contexts.current = None;
        words.push_str("; none is in use now: choose one with `config use`");
    }
    contexts.save()?;
    session.output.say(&words);
    session.output.data(&removed, String::new)
}

fn one(contexts: &Contexts, name: &str) -> Value {
    let context = contexts.contexts.get(name);
    let tls = context.and_then(|context| context.tls.as_ref());
    json!({
        "name": name,
        "endpoints": context.map(|context| context.endpoints.clone()).unwrap_or_default(),
        "tls_ca": tls.map(|tls| &tls.ca),
        "current": contexts.current.as_deref() == Some(name),
    })
}

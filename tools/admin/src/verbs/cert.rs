//! `cert`: an authority of one's own, and the certificates of a small cluster and its callers.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use engine::clock::Clock as _;
use serde_json::{Value, json};
use server::{
    certificates::{Authority, Error, Leaf, Signed, cert_path, key_path},
    runtime::time::SystemClock,
};

use super::Verb;
use crate::{
    error::{Code, Failure},
    session::Session,
};

/// The longest name of a node or caller: it is a label of DNS.
const NAME_BYTES_MAX: usize = 63;

/// Make certificates for a cluster of one's own
///
/// For trying out and for small clusters: the authority's key lies in a file beside the others. Where there is an authority
/// already, let it sign: nodes need a certificate for servers and clients with their name among its DNS names.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin cert create --dir certs --node db1=10.0.0.1 --node db2=10.0.0.2 --client me
  continuumd --bind 10.0.0.1:7000 --tls-ca certs/ca.pem --tls-cert certs/db1.pem --tls-key certs/db1-key.pem
  continuum-admin --endpoint 10.0.0.1:7000 --tls-ca certs/ca.pem --tls-cert certs/me.pem --tls-key certs/me-key.pem status")]
pub(super) struct Cert {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Make an authority, if the folder has none yet, and certificates that it signs
    #[command(after_help = "\
Examples:
  continuum-admin cert create --dir certs --node db1 --client me           nodes on this machine
  continuum-admin cert create --dir certs --node db2=10.0.0.2,db2.lan      one more, with the same authority")]
    Create {
        /// The folder; created when absent. The authority is ca.pem and ca-key.pem, others are NAME.pem and NAME-key.pem
        #[arg(long, value_name = "FOLDER")]
        dir: PathBuf,

        /// A node, and by what else than its name it is called: host names and addresses, with commas between
        #[arg(long, value_name = "NAME[=HOST,…]", value_parser = node)]
        node: Vec<Leaf>,

        /// A caller of gRPC: a program or an operator
        #[arg(long, value_name = "NAME", value_parser = caller)]
        client: Vec<Leaf>,
    },
}

impl Verb for Cert {
    const NAME: &'static str = "cert";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let What::Create { dir, node, client } = self.what;
        let leaves: Vec<Leaf> = node.into_iter().chain(client).collect();
        create(&session, &dir, &leaves)
    }
}

fn create(session: &Session, folder: &Path, leaves: &[Leaf]) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| {
        Failure::new(
            Code::CannotCreate,
            format!("cannot create {}: {error}", folder.display()),
        )
    })?;
    let paths = |leaf: &Leaf| [cert_path(folder, &leaf.name), key_path(folder, &leaf.name)];
    let mut all = HashSet::from([cert_path(folder, "ca"), key_path(folder, "ca")]);
    if let Some(path) = leaves.iter().flat_map(paths).find(|path| !all.insert(path.clone())) {
        return Err(
            Failure::usage(format!("{} would be written twice; nothing was made", path.display()))
                .next("give each node and caller a name of its own"),
        );
    }
    for leaf in leaves {
        if let Some(path) = paths(leaf).into_iter().find(|path| path.exists()) {
            return Err(Failure::new(
                Code::CannotCreate,
                format!("{} is there already; nothing was made", path.display()),
            )
            .next("choose another name, or move the file away to make a new certificate"));
        }
    }
    let authority = Authority::in_folder(folder, SystemClock.now()).map_err(|error| failure(&error))?;
    let new = authority.new;
    let made = leaves.iter().map(|leaf| {
        let made = authority.sign(leaf).map_err(|error| failure(&error))?;
        let Signed {
            cert,
            key,
            names,
            expires_at,
        } = made;
        Ok(json!({ "name": leaf.name, "cert": cert, "key": key, "names": names, "expires_at": expires_at }))
    });
    let made = made.collect::<Result<Vec<Value>, Failure>>()?;
    let ca = cert_path(folder, "ca");
    session.output.say(&format!(
        "{} {}; keep {} to yourself",
        if new {
            "a new authority is in"
        } else {
            "signed by the authority in"
        },
        ca.display(),
        key_path(folder, "ca").display()
    ));
    let json = json!({ "ca": ca, "ca_created": new, "certificates": made });
    session.output.data(&json, || {
        let text = |made: &Value, key: &str| made[key].as_str().unwrap_or_default().to_owned();
        let row = |made: &Value| {
            let names: Vec<&str> = made["names"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            vec![
                text(made, "name"),
                text(made, "cert"),
                text(made, "key"),
                text(made, "expires_at"),
                names.join(" "),
            ]
        };
        let rows = made.iter().map(row).collect();
        session
            .output
            .table(&["NAME", "CERTIFICATE", "KEY", "EXPIRES", "FOR"], &[], rows)
    })
}

/// What went wrong, for a person.
fn failure(error: &Error) -> Failure {
    let told = error.to_string();
    match error {
        Error::NoKey { .. } => {
            Failure::new(Code::Data, told).next("name another folder, or move ca.pem and ca-key.pem away to begin anew")
        }
        Error::Half { .. } => {
            Failure::new(Code::NoInput, told).next("bring the other half back, or name another folder")
        }
        Error::Io { .. } => Failure::new(Code::CannotCreate, told),
        Error::Clock(_) => Failure::new(Code::Config, told),
        Error::Library(_) => Failure::new(Code::Software, told),
    }
}

/// `db1`, or `db1=10.0.0.1,db1.lan`.
fn node(text: &str) -> Result<Leaf, String> {
    let (name, hosts) = text.split_once('=').unwrap_or((text, ""));
    let hosts: Vec<String> = hosts
        .split(',')
        .filter(|host| !host.is_empty())
        .map(str::to_owned)
        .collect();
    if let Some(host) = hosts.iter().find(|host| !is_host(host)) {
        return Err(format!("`{host}` is no host name and no address"));
    }
    Ok(Leaf {
        name: label(name)?,
        hosts,
        serves: true,
    })
}

fn caller(text: &str) -> Result<Leaf, String> {
    Ok(Leaf {
        name: label(text)?,
        hosts: Vec::new(),
        serves: false,
    })
}

/// A name that can stand in a certificate and in the name of a file.
fn label(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let edge = text.bytes().next().is_some_and(|byte| byte != b'-') && !text.ends_with('-');
    if edge && text.len() <= NAME_BYTES_MAX && text.bytes().all(plain) && text != "ca" {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no name: expected 1 to {NAME_BYTES_MAX} letters, digits and dashes, not `ca`, as node_id says"
        ))
    }
}

fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    text.parse::<std::net::IpAddr>().is_ok() || (!text.is_empty() && text.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_with_their_hosts() {
        let db1 = node("db1=10.0.0.1,db1.lan").expect("a node");
        assert_eq!((db1.name.as_str(), db1.serves), ("db1", true));
        assert_eq!(db1.hosts, ["10.0.0.1", "db1.lan"]);
        assert_eq!(node("db1").expect("a node").hosts, Vec::<String>::new());
        for bad in ["", "=10.0.0.1", "-a", "a b", "../a", "ca", "db1=10.0.0.1,a b"] {
            assert!(node(bad).is_err(), "{bad}");
        }
    }
}

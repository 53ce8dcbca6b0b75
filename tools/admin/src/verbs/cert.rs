//! `cert`: an authority of one's own, and the certificates of a small cluster and its callers.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::{Args, Subcommand};
use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

use super::Verb;
use crate::{
    error::{Code, Failure},
    session::Session,
};

/// Years until the authority's own certificate ends.
const AUTHORITY_YEARS: i32 = 10;
/// Days until the certificate of a node or caller ends.
const LEAF_DAYS: i32 = 365;
/// A clock that is behind must not find a certificate too young.
const BACK_DAYS: i32 = 1;
/// By these names every node may be called on its own machine.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
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

/// A certificate to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Leaf {
    name: String,
    /// By what else it is called.
    hosts: Vec<String>,
    serves: bool,
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
    fs::create_dir_all(folder).map_err(|error| cannot("create", folder, &error))?;
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
    let (authority, new) = authority(folder)?;
    let made = leaves.iter().map(|leaf| sign(folder, leaf, &authority));
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

/// The folder's authority, made if there is none; whether it was made.
fn authority(folder: &Path) -> Result<(Issuer<'static, KeyPair>, bool), Failure> {
    let (cert, key) = (cert_path(folder, "ca"), key_path(folder, "ca"));
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Continuum development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after, _) = validity(Span::new().years(AUTHORITY_YEARS))?;
    match (cert.exists(), key.exists()) {
        (true, true) => {
            let text = fs::read_to_string(&key).map_err(|error| cannot("read", &key, &error))?;
            let pair = KeyPair::from_pem(&text).map_err(|error| {
                Failure::new(Code::Data, format!("{} holds no private key: {error}", key.display()))
                    .next("name another folder, or move ca.pem and ca-key.pem away to begin anew")
            })?;
            // Names and key identifier are those of ca.pem, which was made by these very lines.
            Ok((Issuer::new(params, pair), false))
        }
        (false, false) => {
            let pair = KeyPair::generate().map_err(internal)?;
            let certificate = params.self_signed(&pair).map_err(internal)?;
            write(&key, &pair.serialize_pem(), 0o600)?;
            write(&cert, &certificate.pem(), 0o644)?;
            Ok((Issuer::new(params, pair), true))
        }
        (whole, _) => {
            let (there, missing) = if whole { (&cert, &key) } else { (&key, &cert) };
            Err(Failure::new(
                Code::NoInput,
                format!(
                    "{} is there without {}; nothing was made",
                    there.display(),
                    missing.display()
                ),
            )
            .next("bring the other half back, or name another folder"))
        }
    }
}

fn sign(folder: &Path, leaf: &Leaf, authority: &Issuer<'static, KeyPair>) -> Result<Value, Failure> {
    let (cert, key) = (cert_path(folder, &leaf.name), key_path(folder, &leaf.name));
    let mut names = vec![leaf.name.clone()];
    names.extend(leaf.hosts.iter().cloned());
    if leaf.serves {
        names.extend(LOOPBACK.map(str::to_owned));
    }
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let mut params = CertificateParams::new(names.clone()).map_err(internal)?;
    params.distinguished_name.push(DnType::CommonName, leaf.name.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if leaf.serves {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    let expires;
    (params.not_before, params.not_after, expires) = validity(Span::new().days(LEAF_DAYS))?;
    let pair = KeyPair::generate().map_err(internal)?;
    let certificate = params.signed_by(&pair, authority).map_err(internal)?;
    write(&key, &pair.serialize_pem(), 0o600)?;
    write(&cert, &certificate.pem(), 0o644)?;
    Ok(json!({ "name": leaf.name, "cert": cert, "key": key, "names": names, "expires_at": expires }))
}

/// From a day before now to `after` it, as certificates have it and as people do.
fn validity<T>(after: Span) -> Result<(T, T, String), Failure>
where
    T: From<SystemTime>,
{
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let wrong =
        |error: jiff::Error| Failure::new(Code::Config, format!("this machine's clock cannot be right: {error}"));
    let from = now.checked_sub(Span::new().days(BACK_DAYS)).map_err(wrong)?;
    let until = now.checked_add(after).map_err(wrong)?;
    let date = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Ok((
        SystemTime::from(from.timestamp()).into(),
        SystemTime::from(until.timestamp()).into(),
        date,
    ))
}

fn cert_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.pem"))
}

fn key_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}-key.pem"))
}

/// Writes a file that was not there.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let opened = File::options().write(true).create_new(true).mode(mode).open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|error| cannot("write", path, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::CannotCreate, format!("cannot {what} {}: {error}", path.display()))
}

fn internal(error: rcgen::Error) -> Failure {
    Failure::new(Code::Software, format!("cannot make a certificate: {error}"))
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

//! Several clusters by name: `admin.toml`.
//!
//! ```toml
//! current = "home"
//!
//! [contexts.home]
//! endpoints = ["db1:7000", "db2:7000"]
//!
//! [contexts.home.tls]
//! ca = "/etc/continuum/ca.pem"
//! ```

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Code, Failure};

/// The longest name of a context.
const NAME_CHARACTERS_MAX: usize = 63;

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is asked when nothing else is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its nodes.
    pub(crate) endpoints: Vec<String>,
    /// How they are spoken with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<TlsFiles>,
}

/// Certificates, as files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFiles {
    /// The authority that signed the nodes' certificates.
    pub(crate) ca: PathBuf,
    /// What is shown to nodes that ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
}

impl TlsFiles {
    /// Three options as one, if there are any.
    pub(crate) fn of(
        ca: Option<PathBuf>,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Result<Option<TlsFiles>, Failure> {
        if cert.is_some() != key.is_some() {
            return Err(Failure::usage("--tls-cert and --tls-key belong together").next("give both or neither"));
        }
        match ca {
            Some(ca) => Ok(Some(TlsFiles { ca, cert, key })),
            None if cert.is_some() => Err(Failure::usage("--tls-cert needs --tls-ca: the nodes are checked too")
                .next("add --tls-ca FILE, the authority of the cluster")),
            None => Ok(None),
        }
    }

    /// The same wherever the tool is started.
    pub(crate) fn absolute(self) -> TlsFiles {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        TlsFiles {
            ca: absolute(self.ca),
            cert: self.cert.map(absolute),
            key: self.key.map(absolute),
        }
    }

    /// Reads them.
    pub(crate) fn read(&self) -> Result<client::Tls, Failure> {
        let read = |path: &PathBuf| {
            fs::read_to_string(path).map_err(|error| {
                Failure::new(Code::NoInput, format!("cannot read {}: {error}", path.display()))
                    .next("`continuum-admin cert create` makes certificates")
            })
        };
        let ca = read(&self.ca)?;
        if !ca.contains("BEGIN CERTIFICATE") {
            return Err(Failure::new(
                Code::Data,
                format!("{} holds no certificate in PEM form", self.ca.display()),
            )
            .next("give the authority's certificate, ca.pem say, and not its key"));
        }
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(client::Identity {
                cert: read(cert)?,
                key: read(key)?,
            }),
            (None, None) => None,
            _ => {
                return Err(Failure::new(
                    Code::Config,
                    "the context names a certificate without its key, or a key alone",
                )
                .next(
                    "set it again: continuum-admin config set NAME --endpoint … --tls-ca … --tls-cert … --tls-key …",
                ));
            }
        };
        Ok(client::Tls { ca, identity })
    }
}

impl Contexts {
    /// Where the file is, or would be.
    pub(crate) fn path() -> Result<PathBuf, Failure> {
        let folder = |name: &str| {
            std::env::var_os(name)
                .filter(|folder| !folder.is_empty())
                .map(PathBuf::from)
        };
        let base = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
        let base = base.ok_or_else(|| {
            Failure::new(Code::Config, "there is no folder for configuration")
                .next("set XDG_CONFIG_HOME or HOME, or name a node with --endpoint")
        })?;
        Ok(base.join("continuum").join("admin.toml"))
    }

    /// Reads the file; one that is missing names nothing.
    pub(crate) fn load() -> Result<Contexts, Failure> {
        // A machine without a home has no contexts either.
        let Ok(path) = Contexts::path() else {
            return Ok(Contexts::default());
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => {
                return Err(Failure::new(
                    Code::Config,
                    format!("cannot read {}: {error}", path.display()),
                ));
            }
        };
        toml::from_str(&text).map_err(|error| {
            Failure::new(Code::Config, format!("{}: {}", path.display(), error.message()))
                .next("correct the file, or remove it and begin anew with `config set`")
        })
    }

    /// Writes the file, whole or not at all.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let path = Contexts::path()?;
        let text = toml::to_string(self).map_err(|error| Failure::new(Code::Software, error.to_string()))?;
        let new = path.with_extension("toml.new");
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| Failure::new(Code::CannotCreate, format!("cannot write {}: {error}", path.display())))
    }

    /// One that is there.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let next = match names.as_slice() {
                [] => format!("there are none yet: `continuum-admin config set {name} --endpoint HOST:PORT`"),
                names => format!("there are: {}", names.join(", ")),
            };
            Failure::new(Code::Config, format!("there is no context {name}")).next(next)
        })
    }
}

/// Checks a name for a context.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    if (1..=NAME_CHARACTERS_MAX).contains(&text.len()) && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected 1 to {NAME_CHARACTERS_MAX} letters, digits, dots, lines or dashes"
        ))
    }
}

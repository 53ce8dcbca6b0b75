//! How one setting is written and read: the same text in a flag, a variable and (quoted or bare) the file.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::settings::{DiscoveryMethod, LogFormat};

/// A value that can be read from text and shown so that reading it again gives the same value.
pub(super) trait Value: Sized {
    /// What stands in the help for a value.
    const PLACEHOLDER: &'static str;

    /// Reads the value; the error says what was expected.
    fn read(text: &str) -> Result<Self, String>;

    /// The text that `read` takes.
    fn show(&self) -> String;
}

fn number<N: std::str::FromStr>(text: &str, what: &str) -> Result<N, String> {
    text.trim()
        .replace('_', "")
        .parse()
        .map_err(|_| format!("expected {what}, got `{text}`"))
}

impl Value for u32 {
    const PLACEHOLDER: &'static str = "NUMBER";

    fn read(text: &str) -> Result<u32, String> {
        number(text, "a whole number")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    const PLACEHOLDER: &'static str = "NUMBER";

    /// A bare number, or one with a binary unit where the setting counts bytes.
    fn read(text: &str) -> Result<u64, String> {
        let trimmed = text.trim();
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
        for (unit, shift) in units {
            if let Some(count) = trimmed.strip_suffix(unit) {
                let count: u64 = number(count.trim_end(), "a whole number before the unit")?;
                return count
                    .checked_mul(1 << shift)
                    .ok_or_else(|| format!("`{text}` is too large"));
            }
        }
        number(trimmed, "a whole number (byte counts may end in KiB, MiB or GiB)")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for bool {
    const PLACEHOLDER: &'static str = "BOOL";

    fn read(text: &str) -> Result<bool, String> {
        match text.trim() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(format!("expected true or false, got `{text}`")),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const PLACEHOLDER: &'static str = "TEXT";

    fn read(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    const PLACEHOLDER: &'static str = "PATH";

    fn read(text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("expected a path, got nothing".to_owned());
        }
        Ok(PathBuf::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for SocketAddr {
    const PLACEHOLDER: &'static str = "ADDRESS";

    fn read(text: &str) -> Result<SocketAddr, String> {
        let expected = || format!("expected IP:PORT such as 127.0.0.1:7000, got `{text}`");
        match text.strip_prefix("localhost:") {
            Some(port) => Ok(SocketAddr::from((
                Ipv4Addr::LOCALHOST,
                port.parse().map_err(|_| expected())?,
            ))),
            None => text.parse().map_err(|_| expected()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// `None` is written as nothing.
impl<V: Value> Value for Option<V> {
    const PLACEHOLDER: &'static str = V::PLACEHOLDER;

    fn read(text: &str) -> Result<Option<V>, String> {
        if text.is_empty() {
            Ok(None)
        } else {
            V::read(text).map(Some)
        }
    }

    fn show(&self) -> String {
        self.as_ref().map(V::show).unwrap_or_default()
    }
}

/// Separated by commas.
impl<V: Value> Value for Vec<V> {
    const PLACEHOLDER: &'static str = "A,B";

    fn read(text: &str) -> Result<Vec<V>, String> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(V::read)
            .collect()
    }

    fn show(&self) -> String {
        self.iter().map(V::show).collect::<Vec<_>>().join(",")
    }
}

/// Least and greatest.
impl Value for (u64, u64) {
    const PLACEHOLDER: &'static str = "LOW,HIGH";

    fn read(text: &str) -> Result<(u64, u64), String> {
        match Vec::<u64>::read(text)?.as_slice() {
            [low, high] => Ok((*low, *high)),
            _ => Err(format!("expected two numbers such as 150,300, got `{text}`")),
        }
    }

    fn show(&self) -> String {
        format!("{},{}", self.0, self.1)
    }
}

/// The names of a closed choice.
fn choice<V: Copy + PartialEq>(text: &str, names: &[(&'static str, V)]) -> Result<V, String> {
    let wanted = text.trim().to_lowercase();
    names
        .iter()
        .find(|(name, _)| *name == wanted)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            format!("expected one of {}, got `{text}`", known.join(", "))
        })
}

fn chosen<V: Copy + PartialEq>(value: V, names: &[(&'static str, V)]) -> String {
    names
        .iter()
        .find(|(_, named)| *named == value)
        .map(|(name, _)| (*name).to_owned())
        .unwrap_or_default()
}

const LOG_FORMATS: [(&str, LogFormat); 3] = [
    ("auto", LogFormat::Auto),
    ("text", LogFormat::Text),
    ("json", LogFormat::Json),
];

impl Value for LogFormat {
    const PLACEHOLDER: &'static str = "auto|text|json";

    fn read(text: &str) -> Result<LogFormat, String> {
        choice(text, &LOG_FORMATS)
    }

    fn show(&self) -> String {
        chosen(*self, &LOG_FORMATS)
    }
}

const DISCOVERY_METHODS: [(&str, DiscoveryMethod); 5] = [
    ("dns", DiscoveryMethod::Dns),
    ("mdns", DiscoveryMethod::Mdns),
    ("bootstrap", DiscoveryMethod::Bootstrap),
    ("gossip", DiscoveryMethod::Gossip),
    ("static", DiscoveryMethod::Static),
];

impl Value for DiscoveryMethod {
    const PLACEHOLDER: &'static str = "METHOD";

    fn read(text: &str) -> Result<DiscoveryMethod, String> {
        choice(text, &DISCOVERY_METHODS)
    }

    fn show(&self) -> String {
        chosen(*self, &DISCOVERY_METHODS)
    }
}

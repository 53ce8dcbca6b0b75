//! A network of nodes on this machine: each in a network namespace of its own, joined by a bridge, and cut at will.
//!
//! ```text
//!  the test's own namespace                  hub            ctm-PID-S-1 … ctm-PID-S-7
//!  ctm-S  198.18.S.254 ──── veth ──── uplink ─ bridge ─ veth ─ eth0 198.18.S.1 …
//!
//!  a fault is dropped packets: at the receiver's own door (iptables, INPUT), by the sender's address; the match `statistic`
//!  drops a part. What clients in the test's namespace send is never dropped: they see how a node answers that is cut off.
//! ```
//!
//! 198.18.0.0/15 is for measuring networks (RFC 2544), so nothing real is there. The name of the interface `ctm-S` says who has
//! which part of it: making it is atomic, and it goes with the hub. Namespaces are removed when the network is dropped; those of
//! test processes that were killed, by the next that comes.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// The name of everything made here begins so.
const PREFIX: &str = "ctm";
/// Networks that this machine holds at once.
const SUBNETS: u8 = 250;
/// The test itself.
const OUTSIDE: u8 = 254;

/// Packets that do not arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Number of the node that sends them.
    pub from: u8,
    /// Number of the node that would receive them.
    pub to: u8,
    /// How many of them are lost, 0 to 1.
    pub share: f64,
}

/// The network; removed when dropped.
#[derive(Debug)]
pub struct Subnet {
    number: u8,
    nodes: u8,
    /// What is lost now, by receiver.
    losses: BTreeMap<u8, Vec<Loss>>,
}

impl Subnet {
    /// A network of `nodes` nodes, numbered from 1.
    ///
    /// # Errors
    /// What this machine does not allow.
    pub fn new(nodes: u8) -> Result<Subnet, String> {
        for program in ["ip", "iptables-restore", "nsenter"] {
            if !crate::has_program(program) {
                return Err(format!("there is no {program}"));
            }
        }
        remove_left_over();
        let mut number = 0;
        let subnet = loop {
            let subnet = Subnet {
                number,
                nodes,
                losses: BTreeMap::new(),
            };
            if subnet.claim()? {
                break subnet;
            }
            // Another test has it.
            std::mem::forget(subnet);
            number += 1;
            if number == SUBNETS {
                return Err(format!("all {SUBNETS} networks are taken"));
            }
        };
        for node in 1..=nodes {
            subnet.attach(node)?;
        }
        // Whether packets can be dropped at all is found out before anything rests on it.
        if nodes > 1 {
            let loss = Loss {
                from: 2,
                to: 1,
                share: 0.5,
            };
            subnet.restore(1, &[loss])?;
            subnet.restore(1, &[])?;
        }
        Ok(subnet)
    }

    fn hub(&self) -> String {
        format!("{PREFIX}-{}-{}", std::process::id(), self.number)
    }

    fn namespace(&self, node: u8) -> String {
        format!("{}-{node}", self.hub())
    }

    /// The address of a node.
    #[must_use]
    pub fn address(&self, node: u8) -> IpAddr {
        Ipv4Addr::new(198, 18, self.number, node).into()
    }

    /// The address of the test itself.
    #[must_use]
    pub fn outside(&self) -> IpAddr {
        self.address(OUTSIDE)
    }

    /// The words that start a program in the namespace of a node, as our direct child.
    #[must_use]
    pub fn inside(&self, node: u8) -> Vec<OsString> {
        let net = format!("--net=/run/netns/{}", self.namespace(node));
        ["nsenter", &net, "--"].map(OsString::from).into()
    }

    /// Makes the hub and the way to it; false when the number is taken.
    fn claim(&self) -> Result<bool, String> {
        let hub = self.hub();
        let taken = |refused: String| {
            if refused.contains("File exists") {
                Ok(false)
            } else {
                Err(refused)
            }
        };
        if let Err(refused) = run("ip", &["netns", "add", &hub]) {
            return taken(refused);
        }
        let ours = format!("{PREFIX}-{}", self.number);
        let link = [
            "link", "add", &ours, "type", "veth", "peer", "name", "uplink", "netns", &hub,
        ];
        if let Err(refused) = run("ip", &link) {
            run("ip", &["netns", "delete", &hub])?;
            return taken(refused);
        }
        let address = format!("{}/24", self.address(OUTSIDE));
        run("ip", &["address", "add", &address, "dev", &ours])?;
        run("ip", &["link", "set", &ours, "up"])?;
        run("ip", &["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        run("ip", &["-n", &hub, "link", "set", "bridge", "up"])?;
        run("ip", &["-n", &hub, "link", "set", "uplink", "master", "bridge", "up"])?;
        Ok(true)
    }

    fn attach(&self, node: u8) -> Result<(), String> {
        let (hub, namespace, port) = (self.hub(), self.namespace(node), format!("port{node}"));
        let address = format!("{}/24", self.address(node));
        run("ip", &["netns", "add", &namespace])?;
        let peer = ["type", "veth", "peer", "name", &port, "netns", &hub];
        run(
            "ip",
            &[&["link", "add", "eth0", "netns", &namespace][..], &peer].concat(),
        )?;
        run("ip", &["-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
        run("ip", &["-n", &namespace, "address", "add", &address, "dev", "eth0"])?;
        run("ip", &["-n", &namespace, "link", "set", "eth0", "up"])?;
        run("ip", &["-n", &namespace, "link", "set", "lo", "up"])
    }

    /// From now on exactly these packets are lost.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub fn lose(&mut self, losses: &[Loss]) {
        for node in 1..=self.nodes {
            let here: Vec<Loss> = losses.iter().copied().filter(|loss| loss.to == node).collect();
            if self.losses.get(&node).is_none_or(Vec::is_empty) && here.is_empty() {
                continue;
            }
            self.restore(node, &here)
                .expect("it was possible when the network was made");
            self.losses.insert(node, here);
        }
    }

    /// Replaces the rules of one node at once.
    fn restore(&self, node: u8, losses: &[Loss]) -> Result<(), String> {
        let mut rules = "*filter\n:INPUT ACCEPT [0:0]\n".to_owned();
        for loss in losses {
            let part = match loss.share < 1.0 {
                true => format!("-m statistic --mode random --probability {:.3} ", loss.share),
                false => String::new(),
            };
            rules.push_str(&format!("-A INPUT -s {} {part}-j DROP\n", self.address(loss.from)));
        }
        rules.push_str("COMMIT\n");
        let mut words = self.inside(node);
        words.push("iptables-restore".into());
        let mut child = command(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("nsenter: {error}"))?;
        let written = child.stdin.take().expect("a pipe").write_all(rules.as_bytes());
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        match (output.status.success(), written) {
            (true, Ok(())) => Ok(()),
            _ => Err(format!(
                "iptables-restore: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }
}

impl Drop for Subnet {
    fn drop(&mut self) {
        for node in 1..=self.nodes {
            // What was not made yet cannot be removed.
            let _ = run("ip", &["netns", "delete", &self.namespace(node)]);
        }
        let _ = run("ip", &["netns", "delete", &self.hub()]);
    }
}

/// Everything between these two, both ways.
#[must_use]
pub fn cut(one: u8, other: u8) -> Vec<Loss> {
    [(one, other), (other, one)]
        .map(|(from, to)| Loss { from, to, share: 1.0 })
        .into()
}

/// Everything between `node` and each of `others`.
#[must_use]
pub fn isolated(node: u8, others: impl IntoIterator<Item = u8>) -> Vec<Loss> {
    let others = others.into_iter().filter(|other| *other != node);
    others.flat_map(|other| cut(node, other)).collect()
}

/// Removes what test processes left that were killed: first the nodes that still run in their networks.
fn remove_left_over() {
    let Ok(kept) = std::fs::read_dir("/run/netns") else {
        return;
    };
    for entry in kept.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-'));
        let owner = owner.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_none_or(|process| Path::new(&format!("/proc/{process}")).exists()) {
            continue;
        }
        let inside = command("ip").args(["netns", "pids", &name]).output();
        let inside = inside.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for process in inside.unwrap_or_default().split_whitespace() {
            let process = process.parse().ok().and_then(Pid::from_raw);
            // Another test may be faster, here and below.
            let _ = process.map(|process| kill_process(process, Signal::KILL));
        }
        let _ = run("ip", &["netns", "delete", &name]);
    }
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("env");
    command.env("PATH", path).arg(program);
    command
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    match command(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

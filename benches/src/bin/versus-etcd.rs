//! Sets a cluster of three beside etcd: `cargo run --release --bin versus-etcd -- [--clients 256] [-o json|table] [--tls mutual]`.
//!
//! The machine's own `fdatasync` comes first, for every durable figure stands on it.
#![allow(clippy::disallowed_methods, reason = "measuring is what the real clock is for")]

use std::{process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use continuum_benches::{
    Output, build_beside, disk, print,
    report::{Better, Figure, table},
    versus::{
        Security, connections,
        etcd::{self, Etcd},
        failover,
        load::{Call, Trial, fill, trial},
        ours::Ours,
    },
};

/// The numbers of clients measured when none is named.
const CLIENTS: [usize; 5] = [1, 16, 64, 256, 512];
const SEED: u64 = 3;
/// What these figures are a part of.
const PART: &str = "versus-etcd";

/// Three nodes beside three of etcd: linearizable puts and gets, and the time without a leader.
#[derive(Debug, Parser)]
struct Arguments {
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Concurrent clients; may be given several times. Without: 1, 16, 64, 256 and 512.
    #[arg(long)]
    clients: Vec<usize>,
    /// Connections that the clients share, spread over the nodes; without, each client has its own.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: Option<u16>,
    /// Whether nodes and clients prove themselves by certificates, on both sides alike.
    #[arg(long, value_enum, default_value_t = Tls::None)]
    tls: Tls,
    /// How often each trial is repeated; medians and spreads are taken over these.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    repetitions: u16,
    /// Seconds that one trial lasts.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// How often the leader is killed; 0 leaves that out.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=1000))]
    kills: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tls {
    None,
    Mutual,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if let Err(what) = etcd::check() {
        eprintln!("versus-etcd: {what}");
        return ExitCode::FAILURE;
    }
    if arguments.clients.is_empty() {
        arguments.clients = CLIENTS.to_vec();
    }
    let mut figures = match disk::figures() {
        Ok(figures) => figures,
        Err(error) => {
            eprintln!("versus-etcd: the folder for temporary files cannot be written: {error}");
            return ExitCode::FAILURE;
        }
    };
    if matches!(arguments.output, Output::Table) {
        println!("{}", table(&figures));
    }
    if let Err(what) = build_beside() {
        eprintln!("versus-etcd: {what}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("threads for the clients");
    let machine = figures.len();
    figures.extend(runtime.block_on(all(&arguments)));
    print(arguments.output, &figures, machine);
    ExitCode::SUCCESS
}

async fn all(arguments: &Arguments) -> Vec<Figure> {
    let security = match arguments.tls {
        Tls::None => Security::none(),
        Tls::Mutual => Security::mutual_tls(),
    };
    let mut theirs = Etcd::start(&security).await;
    let mut ours = Ours::start(&security).await;
    let most = arguments.clients.iter().copied().max().unwrap_or(1);
    let count = arguments.connections.map_or(most, usize::from);
    let (at_theirs, at_ours) = (
        connections(&theirs, &security, count),
        connections(&ours, &security, count),
    );
    fill(&at_theirs).await;
    fill(&at_ours).await;
    let lasting = Duration::from_secs(arguments.seconds.into());
    let mut figures = Vec::new();
    for &clients in &arguments.clients {
        let connected = count.min(clients);
        for call in [Call::Put, Call::Get] {
            let (mut of_theirs, mut of_ours) = (Vec::new(), Vec::new());
            for repetition in 0..u64::from(arguments.repetitions) {
                let seed = SEED + repetition * most as u64;
                of_theirs.push(trial(&at_theirs[..connected], clients, call, lasting, seed).await);
                of_ours.push(trial(&at_ours[..connected], clients, call, lasting, seed).await);
            }
            figures.extend(compared(call, clients, &of_theirs, &of_ours));
        }
    }
    drop((at_theirs, at_ours));
    if arguments.kills > 0 {
        let (mut of_theirs, mut of_ours) = (Vec::new(), Vec::new());
        for _ in 0..arguments.kills {
            of_theirs.push(failover::once(&mut theirs, &security).await);
            of_ours.push(failover::once(&mut ours, &security).await);
        }
        figures.extend(outages(of_theirs, of_ours));
    }
    figures
}

/// The figures of one call by one number of clients.
fn compared(call: Call, clients: usize, theirs: &[Trial], ours: &[Trial]) -> Vec<Figure> {
    let name = match call {
        Call::Put => "puts of 256 B",
        Call::Get => "gets",
    };
    let kinds: [(&str, &str, Better, fn(&Trial) -> f64); 3] = [
        ("", "/s", Better::Higher, |trial| trial.rate),
        (", p50", "ms", Better::Lower, |trial| trial.p50),
        (", p99", "ms", Better::Lower, |trial| trial.p99),
    ];
    let figure = |(kind, unit, better, of): (&str, &'static str, Better, fn(&Trial) -> f64)| {
        let all = |trials: &[Trial]| trials.iter().map(of).collect::<Vec<f64>>();
        let peer = Figure::new(PART, "", unit, better, &all(theirs)).median;
        let name = format!("{name}, {clients} clients{kind}");
        let figure = Figure::new(PART, name, unit, better, &all(ours)).beside(etcd::version(), peer);
        match (call, clients, kind) {
            (Call::Put, 256, "") => figure.bar_ratio(2.0),
            (Call::Put, 1, ", p50") => figure.bar_ratio(1.0),
            (Call::Get, 256, "") => figure.bar_ratio(1.5),
            _ => figure,
        }
    };
    kinds.map(figure).into()
}

/// The figures of leaders that were killed: the median, the worst of 19 in 20, and the worst.
fn outages(mut theirs: Vec<f64>, mut ours: Vec<f64>) -> Vec<Figure> {
    theirs.sort_by(f64::total_cmp);
    ours.sort_by(f64::total_cmp);
    let nearly_all = ours.len() * 19 / 20;
    let figure = |name: String, theirs: &[f64], ours: &[f64]| {
        let peer = Figure::new(PART, "", "s", Better::Lower, theirs).median;
        Figure::new(PART, name, "s", Better::Lower, ours).beside(etcd::version(), peer)
    };
    let last = |all: &[f64], count: usize| [all[count.clamp(1, all.len()) - 1]];
    let kills = ours.len();
    vec![
        figure(format!("leader killed to next write, {kills} kills"), &theirs, &ours),
        figure(
            format!("… the longest of {nearly_all}"),
            &last(&theirs, nearly_all),
            &last(&ours, nearly_all),
        )
        .bar(1.0),
        figure("… the longest".to_owned(), &last(&theirs, kills), &last(&ours, kills)).bar(2.0),
    ]
}

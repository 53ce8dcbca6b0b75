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
        Security, Store, connections,
        etcd::{self, Etcd},
        failover,
        load::{Call, Trial, fill, trial},
        ours::Ours,
    },
};

/// The numbers of clients measured when none is named.
const CLIENTS: [usize; 5] = [1, 16, 64, 256, 512];
const SEED: u64 = 3;
/// Between the seeds of two repetitions: more than there are clients.
const SEEDS: u64 = 1 << 20;
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
    /// One of the two alone, without ratios: for a profiler.
    #[arg(long, value_enum)]
    only: Option<Only>,
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
enum Only {
    Etcd,
    Continuum,
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
    let runs = |one| arguments.only.is_none_or(|only| only == one);
    let mut theirs = None;
    if runs(Only::Etcd) {
        theirs = Some(Contestant::new(Etcd::start(&security).await, &security, arguments).await);
    }
    let mut ours = None;
    if runs(Only::Continuum) {
        ours = Some(Contestant::new(Ours::start(&security).await, &security, arguments).await);
    }
    let mut figures = Vec::new();
    for &clients in &arguments.clients {
        for call in [Call::Put, Call::Get] {
            for repetition in 0..u64::from(arguments.repetitions) {
                let seed = SEED + repetition * SEEDS;
                if let Some(theirs) = &mut theirs {
                    theirs.run(clients, call, seed).await;
                }
                if let Some(ours) = &mut ours {
                    ours.run(clients, call, seed).await;
                }
            }
            let trials = (taken(theirs.as_mut()), taken(ours.as_mut()));
            figures.extend(compared(call, clients, &trials.0, &trials.1));
        }
    }
    for _ in 0..arguments.kills {
        if let Some(theirs) = &mut theirs {
            theirs.lose_leader(&security).await;
        }
        if let Some(ours) = &mut ours {
            ours.lose_leader(&security).await;
        }
    }
    if arguments.kills > 0 {
        let of_theirs = theirs.map_or_else(Vec::new, |theirs| theirs.outages);
        figures.extend(outages(of_theirs, ours.map_or_else(Vec::new, |ours| ours.outages)));
    }
    figures
}

/// A store with its connections, and what was measured of it.
struct Contestant<S: Store> {
    store: S,
    connections: Vec<S::Client>,
    lasting: Duration,
    trials: Vec<Trial>,
    outages: Vec<f64>,
}

impl<S: Store> Contestant<S> {
    async fn new(store: S, security: &Security, arguments: &Arguments) -> Contestant<S> {
        let most = arguments.clients.iter().copied().max().unwrap_or(1);
        let count = arguments.connections.map_or(most, usize::from);
        let connections = connections(&store, security, count);
        fill(&connections).await;
        Contestant {
            store,
            connections,
            lasting: Duration::from_secs(arguments.seconds.into()),
            trials: Vec::new(),
            outages: Vec::new(),
        }
    }

    async fn run(&mut self, clients: usize, call: Call, seed: u64) {
        let connections = &self.connections[..clients.min(self.connections.len())];
        self.trials
            .push(trial(connections, clients, call, self.lasting, seed).await);
    }

    async fn lose_leader(&mut self, security: &Security) {
        self.outages.push(failover::once(&mut self.store, security).await);
    }
}

fn taken<S: Store>(contestant: Option<&mut Contestant<S>>) -> Vec<Trial> {
    contestant.map_or_else(Vec::new, |contestant| std::mem::take(&mut contestant.trials))
}

/// What was measured of ours, beside the median of etcd's; of etcd's alone when ours did not run.
fn beside(name: String, unit: &'static str, better: Better, theirs: &[f64], ours: &[f64]) -> Figure {
    let figure = |samples| Figure::new(PART, name.clone(), unit, better, samples);
    match (theirs, ours) {
        ([], ours) => figure(ours),
        (theirs, []) => figure(theirs),
        (theirs, ours) => figure(ours).beside(etcd::version(), figure(theirs).median),
    }
}

/// A number of each trial: what its name ends with, its unit, which way is better, and where it is.
type Kind = (&'static str, &'static str, Better, fn(&Trial) -> f64);

/// The figures of one call by one number of clients.
fn compared(call: Call, clients: usize, theirs: &[Trial], ours: &[Trial]) -> Vec<Figure> {
    let name = match call {
        Call::Put => "puts of 256 B",
        Call::Get => "gets",
    };
    let kinds: [Kind; 3] = [
        ("", "/s", Better::Higher, |trial| trial.rate),
        (", p50", "ms", Better::Lower, |trial| trial.p50),
        (", p99", "ms", Better::Lower, |trial| trial.p99),
    ];
    let figure = |(kind, unit, better, of): Kind| {
        let all = |trials: &[Trial]| trials.iter().map(of).collect::<Vec<f64>>();
        let name = format!("{name}, {clients} clients{kind}");
        let figure = beside(name, unit, better, &all(theirs), &all(ours));
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
    let kills = ours.len().max(theirs.len());
    let nearly_all = kills * 19 / 20;
    let figure = |name, theirs: &[f64], ours: &[f64]| beside(name, "s", Better::Lower, theirs, ours);
    let at = |count: usize| {
        let of = move |all: &[f64]| all.get(count.max(1) - 1).copied().into_iter().collect::<Vec<f64>>();
        (of(&theirs), of(&ours))
    };
    let (nearly, last) = (at(nearly_all), at(kills));
    vec![
        figure(format!("leader killed to next write, {kills} kills"), &theirs, &ours),
        figure(format!("… the longest of {nearly_all}"), &nearly.0, &nearly.1).bar(1.0),
        figure("… the longest".to_owned(), &last.0, &last.1).bar(2.0),
    ]
}

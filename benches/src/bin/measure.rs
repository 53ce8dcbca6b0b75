//! Measures this build on this machine: `cargo run --release --bin measure -- [-o json|table] [--only PART]`.
//!
//! The machine's own `fdatasync` comes first, for every durable figure stands on it.
#![allow(clippy::disallowed_methods, reason = "measuring is what the real clock is for")]

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use continuum_benches::{
    Output, backup, build_beside, contribute, disk, engine_puts, import, knowledge, print, redis,
    report::{Better, Figure, table},
    scan, start,
};

/// Measures engine, contributions, searches, starts and the gRPC face, each beside its peer.
#[derive(Debug, Parser)]
struct Arguments {
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// One part instead of all.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// How often each part is repeated; medians and spreads are taken over these.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    repetitions: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Engine,
    Contribute,
    Knowledge,
    Start,
    Scan,
    Redis,
    Import,
    Backup,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runs = |part| arguments.only.is_none_or(|only| only == part);
    let repetitions = usize::from(arguments.repetitions);
    if runs(Part::Redis)
        && let Err(what) = redis::check()
    {
        eprintln!("measure: {what}");
        return ExitCode::FAILURE;
    }
    let mut figures = match disk::figures() {
        Ok(figures) => figures,
        Err(error) => {
            eprintln!("measure: the folder for temporary files cannot be written: {error}");
            return ExitCode::FAILURE;
        }
    };
    if matches!(arguments.output, Output::Table) {
        println!("{}", table(&figures));
    }
    if arguments.only != Some(Part::Engine)
        && let Err(what) = build_beside()
    {
        eprintln!("measure: {what}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("threads for the clients");
    let machine = figures.len();
    if runs(Part::Engine) {
        figures.extend(engine(repetitions));
    }
    if runs(Part::Contribute) {
        figures.extend(runtime.block_on(contribute::figures(repetitions)));
    }
    if runs(Part::Knowledge) {
        figures.extend(runtime.block_on(knowledge::figures(repetitions)));
    }
    if runs(Part::Start) {
        figures.extend(runtime.block_on(start::figures(repetitions)));
    }
    if runs(Part::Scan) {
        figures.extend(runtime.block_on(scan::figures(repetitions)));
    }
    if runs(Part::Redis) {
        figures.extend(runtime.block_on(redis::figures(repetitions)));
    }
    if runs(Part::Import) {
        figures.extend(runtime.block_on(import::figures(repetitions)));
    }
    if runs(Part::Backup) {
        figures.extend(runtime.block_on(backup::figures(repetitions)));
    }
    print(arguments.output, &figures, machine);
    ExitCode::SUCCESS
}

/// Durable puts through the door beside raw RocksDB, and how far RocksDB differs from itself in the same run.
fn engine(repetitions: usize) -> Vec<Figure> {
    let directory = tempfile::tempdir().expect("a folder for temporary files");
    let settings = engine_puts::Settings {
        rounds: repetitions,
        ..engine_puts::Settings::default()
    };
    let mut figures = Vec::new();
    for measured in engine_puts::run(directory.path(), &settings) {
        let writers = measured.writers;
        let peer = engine_puts::median(&measured.rocksdb);
        let name = format!("durable puts of 256 B, {writers} writers");
        let figure = Figure::new("engine", name, "puts/s", Better::Higher, &measured.engine);
        let figure = figure.beside("raw RocksDB, synced puts", peer);
        figures.push(match writers {
            64 => figure.bar_ratio(1.0),
            256 => figure.bar_ratio(1.2),
            _ => figure,
        });
        let itself: Vec<f64> = measured.rocksdb.iter().map(|rate| rate / peer).collect();
        let name = format!("A/A: raw RocksDB over its own median, {writers} writers");
        figures.push(Figure::new("engine", name, "×", Better::Higher, &itself));
    }
    figures
}

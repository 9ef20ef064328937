//! The load generator: measures Signalbox beside bare tonic, which sends the same bytes, in the same run.
//!
//! It starts both servers itself, each in a process of its own, watches and writes through generated messages, and
//! prints medians and ratios. A run in which a stream missed or reordered a revision fails. `benches/README.md` says
//! how to run it and how to read what it prints.

mod bare;
mod callers;
mod cases;
mod failure;
mod link;
#[path = "../../tests/support/pgbouncer.rs"]
mod pgbouncer;
mod plan;
#[path = "../../tests/support/postgres.rs"]
mod postgres;
mod replicas;
mod report;
mod scrape;
mod servers;
mod state;
mod watchers;

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use cases::Case;
use failure::{Context, Failure, Outcome};
use plan::{Options, Part, Plan};
use report::Report;
use servers::{Side, Yard};
use state::State;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ran = runtime.map_err(Failure::from).and_then(|runtime| {
        runtime.block_on(async {
            match &options.part {
                Some(Part::Bare { folder }) => bare::serve(folder).await,
                None => tokio::select! {
                    measured = measure(&options) => measured,
                    stopped = told_to_stop() => stopped,
                },
            }
        })
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Outcome<()> {
    let plan = options.plan();
    open_files(plan.files())?;
    if cfg!(debug_assertions) {
        eprintln!("load: a debug build; its figures say nothing about speed");
    }
    let signalbox = options.server.canonicalize().context(options.server.display())?;
    let folder = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    let yard = Yard { signalbox, folder };
    if options.replicas {
        return replicas::measure(&yard, &plan).await;
    }
    if options.scrape {
        return scrape::measure(&yard, &plan).await;
    }
    let mut report = Report::default();
    for case in Case::all(&plan) {
        eprintln!("load: {}. {case}", case.measure());
        run_case(case, &yard, &plan, &mut report).await?;
    }
    println!("{}", report.table());
    match &options.json {
        Some(file) => report.write_json(&plan, file),
        None => Ok(()),
    }
}

/// All rounds of a case. The servers take turns at being first, and only one of them runs at a time.
async fn run_case(case: Case, yard: &Yard, plan: &Plan, report: &mut Report) -> Outcome<()> {
    let (payload, count) = case.payload();
    let mut state: Option<Arc<State>> = None;
    for round in 0..plan.rounds {
        let mut sides = [Side::Signalbox, Side::Bare];
        // The reference holds what Signalbox was seen to hold, so it can't be first in the first round.
        if round % 2 == 1 {
            sides.reverse();
        }
        for side in sides {
            let target = match (side, &state) {
                (Side::Bare, Some(state)) => yard.bare(state).await?,
                _ => yard.signalbox(payload, count).await?,
            };
            state = Some(Arc::clone(&target.state));
            let figures = case.run(&target, plan).await.context(format_args!("{case}, {side}"))?;
            report.add(case, side, figures);
        }
    }
    Ok(())
}

/// Fails when the process is told to stop, so that the servers are taken along.
async fn told_to_stop() -> Outcome<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Err(Failure::new("stopped before the end"))
}

/// Raises the limit on open files as far as it has to be; the servers inherit it.
fn open_files(needed: u64) -> Outcome<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if maximum.is_some_and(|maximum| maximum < needed) {
        return Err(Failure::new(format!(
            "{needed} files have to be open at once; raise the hard limit (`ulimit -Hn {needed}`), or ask for fewer --watchers"
        )));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .context("raising the limit on open files")
}

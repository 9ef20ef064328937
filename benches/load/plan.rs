//! How much is measured: the options, and the sizes that follow from them.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, value_parser};

/// Measures Signalbox beside bare tonic, which sends the same bytes, in the same run.
#[derive(Parser)]
#[command(name = "load", args_conflicts_with_subcommands = true)]
pub struct Options {
    /// Small and short: shows that every stream gets everything in order, not how fast
    #[arg(long)]
    quick: bool,
    /// Only these measures: 1 write to callback, 2 memory of an idle watcher, 3 saturated fan-out, 4 reads, 5 writes,
    /// 6 reconnect storm, 7 writes beside watchers
    #[arg(long, value_delimiter = ',', value_name = "N,N", value_parser = value_parser!(u8).range(1..=7))]
    only: Vec<u8>,
    /// Numbers of watchers for measure 1; the largest is that of measure 7
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    watchers: Vec<usize>,
    /// Instead of the measures: from a write on one replica on PostgreSQL to the callbacks on another, with the doorbell
    /// and without it
    #[arg(long, conflicts_with = "only")]
    pub replicas: bool,
    /// Instead of the measures: writes beside watchers, with a scrape of the metrics each second and without
    #[arg(long, conflicts_with_all = ["only", "replicas"])]
    pub scrape: bool,
    /// Rounds, of which the median counts
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// The server's binary; by default the one that was built with this
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_signalbox"))]
    pub server: PathBuf,
    /// Where the servers keep their data, whose disk is the one that is synced to; by default the temporary folder
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Write every figure of every round into this file as well
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Run as the reference
    #[command(subcommand)]
    pub part: Option<Part>,
}

/// What this program is when it starts itself.
#[derive(Subcommand)]
pub enum Part {
    /// The reference server, in a folder
    #[command(hide = true)]
    Bare {
        /// The folder.
        folder: PathBuf,
    },
}

/// How much of everything.
pub struct Plan {
    /// The measures to make; empty is all.
    pub only: Vec<u8>,
    /// Rounds.
    pub rounds: usize,
    /// Numbers of watchers for measure 1.
    pub watchers: Vec<usize>,
    /// Watchers of the storm, the saturation and the run with secrets.
    pub crowd: usize,
    /// Watchers whose memory is measured.
    pub idle: usize,
    /// Watchers that are there before them.
    pub few: usize,
    /// Revisions that saturate. Fewer than the ring of either server holds: beyond it the reference loses some.
    pub revisions: usize,
    /// How long callers call.
    pub time: Duration,
    /// Writes at 5 a second.
    pub paced_writes: usize,
    /// Writes from one replica to another: enough to meet polling at every moment.
    pub replicated_writes: usize,
    /// Scrapes of the metrics by themselves.
    pub scrapes: usize,
    most_writes: usize,
}

impl Options {
    /// The plan that the options ask for.
    pub fn plan(&self) -> Plan {
        let mut plan = if self.quick { Plan::quick() } else { Plan::full() };
        plan.only.clone_from(&self.only);
        plan.rounds = self.rounds.unwrap_or(plan.rounds).max(1);
        if !self.watchers.is_empty() {
            plan.watchers = self.watchers.iter().copied().filter(|watchers| *watchers > 0).collect();
        }
        plan
    }
}

impl Plan {
    fn full() -> Self {
        Self {
            only: Vec::new(),
            rounds: 5,
            watchers: vec![1, 100, 1000, 5000],
            crowd: 1000,
            idle: 2000,
            few: 100,
            revisions: 3000,
            time: Duration::from_secs(3),
            paced_writes: 25,
            replicated_writes: 60,
            scrapes: 100,
            most_writes: 200,
        }
    }

    fn quick() -> Self {
        Self {
            only: Vec::new(),
            rounds: 1,
            watchers: vec![1, 20],
            crowd: 20,
            idle: 20,
            few: 4,
            revisions: 300,
            time: Duration::from_millis(300),
            paced_writes: 3,
            replicated_writes: 4,
            scrapes: 5,
            most_writes: 10,
        }
    }

    /// Writes of measure 1: many where there are few watchers, so that there is something to take a p99 from.
    pub fn writes(&self, watchers: usize) -> usize {
        (20_000 / watchers).clamp(20, 200).min(self.most_writes)
    }

    /// The most watchers.
    pub fn multitude(&self) -> usize {
        self.watchers.iter().copied().max().unwrap_or(self.crowd)
    }

    /// Files that this process and each server may have to have open.
    pub fn files(&self) -> u64 {
        let most = [self.multitude(), self.crowd, self.idle].into_iter().max().unwrap_or_default();
        most as u64 + 256
    }
}

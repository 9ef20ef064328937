//! What a read costs in the hot cache of the Rust client: time, allocations, and the memory of the cache.
//!
//! `benches/README.md` says how to run it and how to read what it prints.

mod cache;
mod counting;

use std::{
    io,
    process::ExitCode,
    time::{Duration, Instant},
};

use cache::{Cache, Measured, READS, RESOURCES, Read};
use counting::Counter;

/// What a read may cost: the aim of the project.
const LIMIT: Duration = Duration::from_nanos(100);

/// How much is measured.
struct Plan {
    /// Of which the median counts.
    runs: usize,
    /// Reads in each of them.
    loops: usize,
    /// Resources in the cache.
    resources: usize,
    /// Whether the figures mean anything.
    counts: bool,
}

const FULL: Plan = Plan { runs: 9, loops: 500_000, resources: RESOURCES, counts: true };
const QUICK: Plan = Plan { runs: 1, loops: 100, resources: 100, counts: false };

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let ran = runtime.map_err(Into::into).and_then(|runtime| {
        // A client belongs to a runtime, also where nothing runs in it.
        let _inside = runtime.enter();
        match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => measure(&FULL),
            ["--quick"] => measure(&QUICK),
            ["--count", resources, read, loops] => count(resources, read, loops),
            _ => Err("the arguments are: --quick, or none".into()),
        }
    });
    match ran {
        Ok(kept) if kept => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("read: {problem}");
            ExitCode::FAILURE
        }
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Prints every figure, and tells whether the limit is kept.
fn measure(plan: &Plan) -> Outcome<bool> {
    let cache = Cache::filled(plan.resources)?;
    let counter = Counter::build();
    if let Err(problem) = &counter {
        println!("allocations and memory are not counted here: {problem}");
    }
    let counter = counter.ok();
    println!("reads of a cache of {} resources: median (best) in ns, allocations", cache.len());
    let mut worst = Duration::ZERO;
    for Measured { name, read, is_one_look } in READS {
        let mut times: Vec<_> = (0..plan.runs).map(|_| time(&cache, read, plan.loops)).collect();
        times.sort_unstable();
        let (best, median) = (times[0], times[times.len() / 2]);
        let allocations = counter.as_ref().map(|counter| allocations(counter, plan, name)).transpose()?;
        let allocations = allocations.map_or_else(|| "-".to_owned(), |count| format!("{count:.2}"));
        println!("  {name:40} {:6} ({})   {allocations}", median.as_nanos(), best.as_nanos());
        if is_one_look {
            worst = worst.max(median);
        }
    }
    if let Some(counter) = &counter {
        let held = held(counter, plan.resources)? - held(counter, 0)?;
        println!("memory of {} resources: {} KiB", cache.len(), held / 1_024);
    }
    let kept = worst <= LIMIT || !plan.counts;
    println!(
        "the slowest of those that are one look: {} ns, limit {}: {}",
        worst.as_nanos(),
        LIMIT.as_nanos(),
        verdict(plan, kept)
    );
    Ok(kept)
}

fn verdict(plan: &Plan, kept: bool) -> &'static str {
    match (plan.counts, kept) {
        (false, _) => "not judged",
        (true, true) => "kept",
        (true, false) => "MISSED",
    }
}

/// How long one read takes, of so many in a row.
fn time(cache: &Cache, read: Read, loops: usize) -> Duration {
    let begun = Instant::now();
    (0..loops).for_each(|turn| read(cache, turn));
    begun.elapsed() / u32::try_from(loops).unwrap_or(u32::MAX)
}

/// Allocations of one read: two processes that differ in nothing but how often they read.
fn allocations(counter: &Counter, plan: &Plan, name: &str) -> io::Result<f64> {
    let few = run(counter, plan.resources, name, 1)?;
    let many = run(counter, plan.resources, name, 101)?;
    Ok(f64::from(i32::try_from(many.calls - few.calls).unwrap_or(i32::MAX)) / 100.0)
}

/// Bytes that a process with so many resources holds.
fn held(counter: &Counter, resources: usize) -> io::Result<i64> {
    Ok(run(counter, resources, READS[0].name, 0)?.held)
}

fn run(counter: &Counter, resources: usize, name: &str, loops: usize) -> io::Result<counting::Counted> {
    let arguments = ["--count".to_owned(), resources.to_string(), name.to_owned(), loops.to_string()];
    counter.run(&arguments)
}

/// What is counted, in a process of its own: it ends with everything in place.
fn count(resources: &str, name: &str, loops: &str) -> Outcome<bool> {
    let cache = Cache::filled(resources.parse()?)?;
    let read = READS.iter().find(|read| read.name == name).ok_or("no such read")?.read;
    (0..loops.parse()?).for_each(|turn| read(&cache, turn));
    std::process::exit(0)
}

//! What is measured, and how: each case is run against one server at a time, on a server that is new.

use std::{
    fmt,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use tokio::time::{interval, sleep};

use super::{
    callers::{Call, Called, Until, Writer, call},
    failure::Outcome,
    plan::Plan,
    servers::{Target, own_cpu},
    state::Payload,
    watchers::{Opening, Watchers, Wiring},
};

/// Writes before the ones that count.
const WARM_UP: usize = 3;
/// Pause between two writes whose arrival is timed, so that one does not run into the other.
pub const BREATH: Duration = Duration::from_millis(5);
/// How long memory and connections are given to come to rest.
const REST: Duration = Duration::from_secs(1);
/// Writers that write at the same time, where there are many.
const WRITERS: usize = 64;
/// Readers that read at the same time, where there are many.
const READERS: usize = 64;
/// Revisions that a stream has missed when it comes back in a storm.
const MISSED: usize = 20;
/// Time between writes of somebody who is not in a hurry.
const PACE: Duration = Duration::from_millis(200);

/// Something to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
    /// From the write call to the callback in all watchers.
    WriteToCallback {
        /// How many.
        watchers: usize,
        /// Over which connections.
        wiring: Wiring,
        /// Of what.
        payload: Payload,
    },
    /// Memory of the server for a watcher that nothing is sent to.
    IdleWatcher(Wiring),
    /// Deliveries a second when more is written than can be sent.
    Saturation,
    /// Reads a second.
    Reads,
    /// Durable writes a second.
    Writes,
    /// All watchers come back at once.
    Storm,
    /// How long a write takes beside many watchers.
    WritesBesideWatchers,
}

/// One number that a run of a case found.
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// The number.
    pub value: f64,
}

fn figure(name: &'static str, unit: &'static str, value: f64) -> Figure {
    Figure { name, unit, value }
}

impl Case {
    /// All cases of a plan, in the order of the measures.
    pub fn all(plan: &Plan) -> Vec<Self> {
        let mut cases = Vec::new();
        let case = |watchers, wiring, payload| Self::WriteToCallback { watchers, wiring, payload };
        for &watchers in &plan.watchers {
            cases.push(case(watchers, Wiring::Own, Payload::Providers));
        }
        for &watchers in plan.watchers.iter().filter(|watchers| **watchers > 1) {
            cases.push(case(watchers, Wiring::Shared, Payload::Providers));
        }
        cases.push(case(plan.crowd, Wiring::Own, Payload::Secrets));
        cases.extend([Self::IdleWatcher(Wiring::Own), Self::IdleWatcher(Wiring::Shared)]);
        cases.extend([Self::Saturation, Self::Reads, Self::Writes, Self::Storm, Self::WritesBesideWatchers]);
        cases.retain(|case| plan.only.is_empty() || plan.only.contains(&case.measure()));
        cases
    }

    /// The number of the measure that the case belongs to, as `--only` has it.
    pub fn measure(&self) -> u8 {
        match self {
            Self::WriteToCallback { .. } => 1,
            Self::IdleWatcher(_) => 2,
            Self::Saturation => 3,
            Self::Reads => 4,
            Self::Writes => 5,
            Self::Storm => 6,
            Self::WritesBesideWatchers => 7,
        }
    }

    /// What the server has to hold.
    pub fn payload(&self) -> (Payload, usize) {
        match self {
            Self::WriteToCallback { payload, .. } => (*payload, 1),
            // As many as writers, so that these don't meet on one of them.
            Self::Saturation | Self::Writes => (Payload::Providers, WRITERS),
            _ => (Payload::Providers, 1),
        }
    }

    /// Runs the case once.
    pub async fn run(&self, target: &Target, plan: &Plan) -> Outcome<Vec<Figure>> {
        match *self {
            Self::WriteToCallback { watchers, wiring, .. } => {
                write_to_callback(target, target, (watchers, wiring), plan.writes(watchers), || BREATH).await
            }
            Self::IdleWatcher(wiring) => idle_watcher(target, plan, wiring).await,
            Self::Saturation => saturation(target, plan).await,
            Self::Reads => reads(target, plan).await,
            Self::Writes => writes(target, plan).await,
            Self::Storm => storm(target, plan).await,
            Self::WritesBesideWatchers => writes_beside_watchers(target, plan).await,
        }
    }
}

/// Writes on one server and waits for the arrivals at watchers of the same one, or of another replica; pauses after each.
pub async fn write_to_callback(
    written: &Target,
    watched: &Target,
    (count, wiring): (usize, Wiring),
    writes: usize,
    pause: impl Fn() -> Duration,
) -> Outcome<Vec<Figure>> {
    let opening = Opening::quiet(count, wiring);
    let watchers = Watchers::open(watched, opening, (WARM_UP + writes) * count).await?;
    let mut writer = Writer::new(written).await?;
    sleep(pause()).await;
    let (mut all, mut slowest) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + writes {
        let (called, _, _) = writer.write().await?;
        watchers.arrived((round + 1) * count).await?;
        if round >= WARM_UP {
            let latencies = watchers.board.latencies(called, round * count..(round + 1) * count);
            slowest.push(latencies.iter().copied().fold(0.0, f64::max));
            all.extend(latencies);
        }
        sleep(pause()).await;
    }
    watchers.check(writer.written)?;
    Ok(vec![
        figure("p50", "ms", percentile(&mut all, 0.5)),
        figure("p99", "ms", percentile(&mut all, 0.99)),
        figure("all have it", "ms", percentile(&mut slowest, 0.5)),
    ])
}

async fn idle_watcher(target: &Target, plan: &Plan, wiring: Wiring) -> Outcome<Vec<Figure>> {
    // What the first streams cost once is not theirs.
    drop(Watchers::open(target, Opening::quiet(plan.few, wiring), 0).await?);
    sleep(REST).await;
    let before = target.memory()?;
    let watchers = Watchers::open(target, Opening::quiet(plan.idle, wiring), 0).await?;
    sleep(REST).await;
    let after = target.memory()?;
    watchers.check(Vec::new())?;
    Ok(vec![figure("memory a watcher", "KiB", (after - before) / plan.idle as f64)])
}

async fn saturation(target: &Target, plan: &Plan) -> Outcome<Vec<Figure>> {
    let watchers = Watchers::open(target, Opening::quiet(plan.crowd, Wiring::Own), 0).await?;
    sleep(REST).await;
    let cores = available_parallelism()?.get() as f64;
    let (server, own) = (target.cpu()?, own_cpu()?);
    let Called { began, written, .. } =
        call(target, Call::Write, WRITERS, Until::Calls(plan.revisions)).await?;
    let deliveries = written.len() * plan.crowd;
    watchers.arrived(deliveries).await?;
    let all = began.elapsed();
    let (server, own) = (target.cpu()? - server, own_cpu()? - own);
    watchers.check(written)?;
    let millions = deliveries as f64 / 1e6;
    Ok(vec![
        figure("deliveries", "/s", deliveries as f64 / all.as_secs_f64()),
        figure("server CPU for a million", "s", server / millions),
        figure("generator CPU for a million", "s", own / millions),
        // Well below 1, something waited: either was not saturated, or somebody else used the machine as well.
        figure("share of the cores in use", "", (server + own) / (all.as_secs_f64() * cores)),
    ])
}

async fn reads(target: &Target, plan: &Plan) -> Outcome<Vec<Figure>> {
    let time = Until::Time(plan.time);
    call(target, Call::Read, READERS, Until::Calls(READERS)).await?;
    let one = call(target, Call::Read, 1, time).await?.rate();
    let many = call(target, Call::Read, READERS, time).await?.rate();
    Ok(vec![figure("1 caller", "/s", one), figure("64 callers", "/s", many)])
}

async fn writes(target: &Target, plan: &Plan) -> Outcome<Vec<Figure>> {
    let time = Until::Time(plan.time);
    call(target, Call::Write, WRITERS, Until::Calls(WRITERS)).await?;
    let one = call(target, Call::Write, 1, time).await?.rate();
    let many = call(target, Call::Write, WRITERS, time).await?.rate();
    let gain = figure("64 writers to 1", "times", many / one);
    Ok(vec![figure("1 writer", "/s", one), figure("64 writers", "/s", many), gain])
}

async fn storm(target: &Target, plan: &Plan) -> Outcome<Vec<Figure>> {
    let opening = Opening::quiet(plan.crowd, Wiring::Own);
    let mut watchers = Watchers::open(target, opening, 0).await?;
    let mut writer = Writer::new(target).await?;
    let (_, _, token) = writer.write().await?;
    watchers.arrived(plan.crowd).await?;
    watchers.cut().await;
    for _ in 0..MISSED {
        writer.write().await?;
    }
    sleep(REST).await;
    let began = Instant::now();
    watchers.storm(target, opening, &token).await?;
    watchers.synced(2 * plan.crowd).await?;
    let synced = began.elapsed();
    watchers.arrived((1 + MISSED) * plan.crowd).await?;
    let caught_up = began.elapsed();
    watchers.check(writer.written)?;
    Ok(vec![
        figure("all synced", "ms", synced.as_secs_f64() * 1e3),
        figure("all caught up", "ms", caught_up.as_secs_f64() * 1e3),
    ])
}

async fn writes_beside_watchers(target: &Target, plan: &Plan) -> Outcome<Vec<Figure>> {
    let mut writer = Writer::new(target).await?;
    let alone = paced(&mut writer, plan).await?;
    // With the heartbeats that workers have by default: they belong to what watchers may cost.
    let heartbeat = Duration::from_secs(5);
    let opening = Opening { heartbeat, ..Opening::quiet(plan.multitude(), Wiring::Own) };
    let watchers = Watchers::open(target, opening, 0).await?;
    writer.written.clear();
    let beside = paced(&mut writer, plan).await?;
    watchers.arrived(writer.written.len() * plan.multitude()).await?;
    watchers.check(writer.written)?;
    Ok(vec![
        figure("p50 without watchers", "ms", alone),
        figure("p50 beside watchers", "ms", beside),
        figure("beside to without", "times", beside / alone),
    ])
}

/// Median time of a write, at 5 writes a second.
async fn paced(writer: &mut Writer, plan: &Plan) -> Outcome<f64> {
    let mut times = Vec::new();
    let mut pace = interval(PACE);
    for round in 0..1 + plan.paced_writes {
        pace.tick().await;
        let (_, took, _) = writer.write().await?;
        // The first one finds everything cold.
        if round > 0 {
            times.push(took.as_secs_f64() * 1e3);
        }
    }
    Ok(percentile(&mut times, 0.5))
}

/// The value below which this part of the values lies; 0 if there are none.
pub fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (values.len() as f64 * part).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteToCallback { watchers, wiring, payload } => {
                let what = if *payload == Payload::Secrets { ", with secrets" } else { "" };
                write!(out, "write to callback, {watchers} watchers, {wiring}{what}")
            }
            Self::IdleWatcher(wiring) => write!(out, "idle watcher, {wiring}"),
            Self::Saturation => write!(out, "saturated fan-out"),
            Self::Reads => write!(out, "unary reads"),
            Self::Writes => write!(out, "durable writes"),
            Self::Storm => write!(out, "reconnect storm"),
            Self::WritesBesideWatchers => write!(out, "a write at 5/s"),
        }
    }
}

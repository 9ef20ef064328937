//! A worker in Python and one in Rust beside three replicas, through kills, partitions, compactions and restores, under
//! writes. Both are asked all the time how they are. Whenever one says that it is fresh, its cache is the store at its
//! revision, digest for digest, and holds whatever was committed longer ago than the staleness bound; cut off for longer than
//! that, neither is ever ready.
//!
//! `SIGNALBOX_TEST_SECONDS` says for how long faults go on; without it each of a few happens once. `SIGNALBOX_TEST_SEED`
//! repeats their order.

mod asked;
mod lives;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use rustix::process::Signal;
use signalbox::proto::v1::{CompactLogRequest, Selector};
use tokio::{task::JoinHandle, time::sleep};

use self::{
    asked::{Answer, Journal},
    lives::{Life, Told},
};
use crate::{
    cluster::{Cluster, Member, agree},
    harness::{PATIENCE, until, until_answered},
    postgres,
    proxy::Proxy,
    support::{
        Alarm,
        caller::{Caller, Rights, Site},
        from_env, load,
        plan::Planner,
        seed,
        writer::Writer,
    },
};

/// The workers' staleness bound.
const BOUND: Duration = Duration::from_secs(3);
/// How long a fault lasts that has to be seen as staleness.
const LONG: Duration = Duration::from_secs(5);
const WRITERS: usize = 2;

/// What happens to them.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// kill -9 of a replica.
    Kill,
    /// A replica is stopped in good order, and comes back.
    Stop,
    /// A replica stands still.
    Pause,
    /// Nothing passes between the workers and a replica.
    Partition,
    /// Nothing passes between the workers and any replica.
    CutOff,
    /// Nothing passes between a replica and the database: the replica talks on.
    Detach,
    /// The database stands still: all replicas talk on.
    Freeze,
    /// The log is compacted past where the workers are.
    Compact,
    /// The database comes back as an older copy of itself.
    Restore,
}

const FEW: [Fault; 4] = [Fault::CutOff, Fault::Kill, Fault::Compact, Fault::Restore];
const ALL: [Fault; 9] = [
    Fault::Kill,
    Fault::Stop,
    Fault::Pause,
    Fault::Partition,
    Fault::CutOff,
    Fault::Detach,
    Fault::Freeze,
    Fault::Compact,
    Fault::Restore,
];

/// Writes into one life of the store.
struct Load {
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Everything that is there.
struct World {
    database: postgres::Server,
    members: [Member; 3],
    /// What the workers know of the replicas.
    fronts: [Proxy; 3],
    /// What each replica knows of the database.
    backs: [Proxy; 3],
    admin: Caller,
    token: String,
    base: u64,
    lives: Vec<Arc<Life>>,
    load: Load,
    loads: usize,
    journals: [Journal; 2],
    /// When no worker could hear from the store.
    outages: Vec<(Instant, Instant)>,
    alarm: Alarm,
    rng: StdRng,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_say_they_are_fresh_are_the_store() {
    let (seed, seconds) = (seed(), from_env("SIGNALBOX_TEST_SECONDS", 0));
    eprintln!("SIGNALBOX_TEST_SEED={seed}");
    let mut world = World::begin(seed).await;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    if seconds == 0 {
        world.suffer_all(&FEW, None).await;
    }
    while Instant::now() < deadline {
        let mut faults = ALL;
        faults.shuffle(&mut world.rng);
        world.suffer_all(&faults, Some(deadline)).await;
    }
    world.last_until_it_shows_something().await;
    world.judge(seed).await;
}

impl World {
    async fn begin(seed: u64) -> Self {
        let database = postgres::Server::start(&["fsync=on"]);
        let direct = database.database().await;
        let cluster = Cluster::on(direct.clone()).await.with("SIGNALBOX_SHUTDOWN_GRACE", "1s");
        let backs = before([database.port(); 3]).await;
        let urls = backs.each_ref().map(|back| back.url(&direct, database.port()));
        let started =
            tokio::join!(cluster.start_at(&urls[0]), cluster.start_at(&urls[1]), cluster.start_at(&urls[2]));
        let members: [Member; 3] = started.into();
        let fronts = before(members.each_ref().map(port)).await;
        let token = cluster.first_token().await;
        let sites: Vec<Site> = members.iter().map(|member| member.site.clone()).collect();
        let admin = Caller::new(&Site::among(&sites), &token);
        let rights = Rights::worker(vec![Selector::default()], true);
        let worker = admin.token_for("worker", &rights).await;
        let urls = fronts.each_ref().map(|front| format!("http://127.0.0.1:{}", front.port())).join(",");
        let alarm = Alarm::default();
        let journals =
            [asked::python(&alarm, &urls, &worker, BOUND).await, asked::rust(&alarm, &urls, &worker, BOUND)];
        let base = admin.status().await.revision;
        let mut world = Self {
            database,
            members,
            fronts,
            backs,
            admin,
            token,
            base,
            lives: vec![Arc::default()],
            load: Load { over: Arc::default(), tasks: Vec::new() },
            loads: 0,
            journals,
            outages: Vec::new(),
            alarm,
            rng: StdRng::seed_from_u64(seed),
        };
        world.write();
        world.recover("the start").await;
        world
    }

    fn life(&self) -> &Arc<Life> {
        self.lives.last().expect("there is a life")
    }

    /// Begins to write, under names of this load's own.
    fn write(&mut self) {
        let over = Arc::<AtomicBool>::default();
        let tasks = (0..WRITERS).map(|_| {
            self.loads += 1;
            let planner = Planner::new(self.rng.random(), self.loads);
            let (life, caller) = (Arc::clone(self.life()), self.admin.reconnected());
            self.alarm.spawn(write(life, caller, planner, Arc::clone(&over)))
        });
        let tasks = tasks.collect();
        self.load = Load { over, tasks };
    }

    /// Ends the writing: whatever was asked for has its answer.
    async fn rest(&mut self) {
        self.load.over.store(true, Ordering::Relaxed);
        for task in self.load.tasks.drain(..) {
            let ended = self.alarm.unless(PATIENCE * 2, "a writer's end", task).await;
            ended.expect("no writer fails");
        }
    }

    async fn suffer_all(&mut self, faults: &[Fault], until: Option<Instant>) {
        for fault in faults {
            if until.is_some_and(|until| Instant::now() >= until) {
                return;
            }
            self.suffer(*fault).await;
            self.recover(&format!("{fault:?}")).await;
        }
    }

    async fn suffer(&mut self, fault: Fault) {
        let which = self.rng.random_range(0..3);
        match fault {
            Fault::Kill => {
                self.members[which].kill().await;
                self.come_back(which).await;
            }
            Fault::Stop => {
                self.members[which].stop().await;
                self.come_back(which).await;
            }
            Fault::Pause => {
                self.members[which].signal(Signal::STOP);
                sleep(LONG).await;
                self.members[which].signal(Signal::CONT);
            }
            Fault::Partition => {
                self.fronts[which].hold(true);
                sleep(LONG).await;
                self.fronts[which].hold(false);
            }
            Fault::CutOff => {
                self.hold(true);
                self.last_long().await;
                self.hold(false);
            }
            Fault::Detach => {
                self.backs[which].hold(true);
                sleep(LONG).await;
                self.backs[which].hold(false);
            }
            Fault::Freeze => {
                self.database.freeze();
                self.last_long().await;
                self.database.thaw();
            }
            Fault::Compact => self.compact().await,
            Fault::Restore => self.restore().await,
        }
    }

    async fn come_back(&mut self, which: usize) {
        self.members[which].start().await;
        self.fronts[which].lead_to(port(&self.members[which]));
    }

    fn hold(&self, held: bool) {
        self.fronts.iter().for_each(|front| front.hold(held));
    }

    /// An outage for every worker that has begun goes on for longer than the bound.
    async fn last_long(&mut self) {
        let from = Instant::now();
        sleep(LONG).await;
        self.outages.push((from, Instant::now()));
    }

    /// Compacts past where the workers are, while they can't follow.
    async fn compact(&mut self) {
        self.hold(true);
        let least = self.life().newest().unwrap_or_default() + 10;
        self.written(least).await;
        let revision = self.life().newest().expect("something was written");
        let mut admin = self.members[0].caller(&self.token).admin();
        let compacted = admin.compact_log(CompactLogRequest { revision }).await;
        compacted.expect("the log is compacted");
        self.fronts.iter().for_each(Proxy::cut);
        self.hold(false);
    }

    /// Waits until so much was acknowledged.
    async fn written(&self, revision: u64) {
        let life = Arc::clone(self.life());
        let reached = until(PATIENCE * 2, "the writers go on", || life.newest() >= Some(revision));
        self.alarm.unless(PATIENCE * 3, "writes", reached).await;
    }

    /// Takes the database away, and brings back an older copy.
    async fn restore(&mut self) {
        self.rest().await;
        let kept = self.life().newest().expect("something was written");
        self.database.stop();
        self.database.save();
        self.database.run(&["fsync=on"]);
        self.write();
        self.written(kept + 10).await;
        self.rest().await;
        let callers = self.members.each_ref().map(|member| member.caller(&self.token));
        let epoch = callers[0].status().await.epoch;
        self.life().end();
        self.database.stop();
        self.database.restore();
        self.database.run(&["fsync=on"]);
        for caller in &callers {
            until_answered(PATIENCE, "a new life", async || caller.status().await.epoch != epoch).await;
        }
        agree(&callers, kept).await;
        let restored = self.life().restored_at(self.base, kept);
        self.lives.push(Arc::new(restored));
        self.write();
    }

    /// Waits until both workers have all that was written by now, and say that they are fresh.
    async fn recover(&mut self, what: &str) {
        let begin = Instant::now();
        let wanted = self.life().newest().unwrap_or_default() + 1;
        self.written(wanted).await;
        let settled = |answer: &Answer| {
            answer.asked > begin && answer.said.ready && self.is_in_this_life(answer, wanted)
        };
        for journal in &self.journals {
            let settled = || journal.newest().as_ref().is_some_and(settled);
            let fresh = tokio::time::timeout(PATIENCE, until(PATIENCE * 2, journal.name, settled));
            let fresh = self.alarm.unless(PATIENCE * 2, what, fresh).await;
            let newest = || (journal.newest(), self.life().newest());
            assert!(fresh.is_ok(), "{} after {what}, at {wanted}: {:?}", journal.name, newest());
            eprintln!("{what}: {} is fresh again after {:?}", journal.name, begin.elapsed());
        }
    }

    /// Whether a worker has come to a revision, and not to one of that number in a life that is over.
    fn is_in_this_life(&self, answer: &Answer, wanted: u64) -> bool {
        answer.said.revision >= wanted && answer.said.revision <= self.life().newest().unwrap_or_default()
    }

    /// Waits until each worker was seen fresh at revisions enough to judge by.
    async fn last_until_it_shows_something(&self) {
        for journal in &self.journals {
            let enough = until(PATIENCE, "fresh at enough revisions", || in_turn(&journal.answers()) > LEAST);
            self.alarm.unless(PATIENCE * 2, journal.name, enough).await;
        }
    }

    /// Holds all that was said against all that was.
    async fn judge(mut self, seed: u64) {
        self.rest().await;
        let told: Vec<Told> = self.lives.iter().map(|life| life.told(self.base)).collect();
        for journal in &self.journals {
            let answers = journal.answers();
            for answer in answers.iter().filter(|answer| answer.said.ready) {
                let objections: Vec<_> = told.iter().map(|life| life.objection(answer, BOUND)).collect();
                assert!(
                    objections.iter().any(Option::is_none),
                    "{} says {:?}, {objections:?} (SIGNALBOX_TEST_SEED={seed})",
                    journal.name,
                    answer.said
                );
            }
            self.judge_outages(journal, &answers);
            report(journal, &answers, &told);
        }
    }

    /// Nobody who is cut off for longer than the bound is ready.
    fn judge_outages(&self, journal: &Journal, answers: &[Answer]) {
        for (from, to) in &self.outages {
            let overdue = |answer: &&Answer| answer.asked > *from + BOUND && answer.answered < *to;
            let overdue: Vec<&Answer> = answers.iter().filter(overdue).collect();
            assert!(overdue.len() > 10, "{} was not asked enough: {}", journal.name, overdue.len());
            let ready = overdue.iter().find(|answer| answer.said.ready);
            assert!(ready.is_none(), "{} is cut off, and says {ready:?}", journal.name);
        }
    }
}

/// Writes until it is over, at a pace that leaves the machine to the others.
async fn write(life: Arc<Life>, caller: Caller, mut planner: Planner, over: Arc<AtomicBool>) {
    let mut writer = Writer::new(caller, life.recorder.clone());
    while !over.load(Ordering::Relaxed) {
        load::step(&mut writer, &mut planner).await;
        life.note();
        sleep(Duration::from_millis(30)).await;
    }
}

/// Revisions that a worker has to be seen fresh at, one after the other, and more.
const LEAST: usize = 20;

/// At how many revisions in turn a worker was fresh.
fn in_turn(answers: &[Answer]) -> usize {
    let fresh = answers.iter().filter(|answer| answer.said.ready);
    let mut revisions: Vec<u64> = fresh.map(|answer| answer.said.revision).collect();
    revisions.dedup();
    revisions.len()
}

/// What the run was worth: one in which nobody was ever behind proves little.
fn report(journal: &Journal, answers: &[Answer], told: &[Told]) {
    let fresh: Vec<&Answer> = answers.iter().filter(|answer| answer.said.ready).collect();
    let revisions = in_turn(answers);
    // Of the lives that it can be of, the one that speaks for it.
    let understated = |answer: &&Answer| told.iter().map(|life| life.understated(answer)).min();
    let worst = fresh.iter().filter_map(understated).max().unwrap_or_default();
    eprintln!(
        "{}: {} answers, {} of them fresh, at {} revisions in turn; an age was understated by {worst:?} at most",
        journal.name,
        answers.len(),
        fresh.len(),
        revisions,
    );
    assert!(fresh.len() < answers.len() && revisions > LEAST, "the run shows nothing");
}

/// A proxy before each port.
async fn before(ports: [u16; 3]) -> [Proxy; 3] {
    let [one, two, three] = ports.map(Proxy::before);
    tokio::join!(one, two, three).into()
}

fn port(member: &Member) -> u16 {
    let address = member.site.address();
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("an address has a port")
}

//! The database fails over to one that has lost the last commits: the store begins a new life, every watcher is told, and
//! nobody is given an older answer of the same life.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signalbox::{
    domain::RevisionToken,
    proto::v1::{
        GetStatusResponse, ListResourcesRequest, ResetReason, Resource, VerifyLogRequest,
        watch_config_response::Event,
    },
};
use tonic::Code;

use crate::{
    cluster::{Cluster, agree, create, insist, is_refused_for_now, read, request},
    harness::{PATIENCE, calls::refusal, until_answered},
    postgres,
    proxy::Proxy,
    support::{
        Alarm,
        caller::{Caller, Site},
        resources::setting,
        view::View,
        watcher::{Cursor, Open},
    },
};

const KEPT: usize = 8;

/// What every replica warns of once commits were lost.
const LOST: &str = "the store began a new life at ";

/// Replicas whose way to a primary can be led to its standby.
struct Pair {
    primary: postgres::Server,
    standby: postgres::Server,
    proxy: Proxy,
    cluster: Cluster,
    /// URL of the database on the standby.
    there: String,
}

impl Pair {
    async fn start() -> Self {
        let primary = postgres::Server::start(&["fsync=on"]);
        let direct = primary.database().await;
        let standby = primary.standby();
        let proxy = Proxy::before(primary.port()).await;
        let cluster = Cluster::on(proxy.url(&direct, primary.port())).await;
        let there = direct.replace(&format!(":{}/", primary.port()), &format!(":{}/", standby.port()));
        Self { primary, standby, proxy, cluster, there }
    }

    /// Waits until the standby has a revision.
    async fn has(&self, revision: u64) {
        let has = async || revision_in(&self.there).await == revision as i64;
        until_answered(PATIENCE, "the standby has it", has).await;
    }

    /// The primary is gone, and who asks for it meets the standby, which takes no writes yet.
    fn fail_over(&mut self) {
        self.primary.stop();
        self.proxy.lead_to(self.standby.port());
    }
}

/// Waits until a replica warns of commits that were lost.
async fn warns(caller: &Caller) {
    let warned = async || caller.status().await.warnings.iter().any(|told| told.starts_with(LOST));
    until_answered(PATIENCE, "the warning", warned).await;
}

/// What clients hold of the life that is about to end.
struct Old {
    status: GetStatusResponse,
    cursor: Cursor,
    page: ListResourcesRequest,
    streams: Vec<Open>,
}

/// Writes what will be kept.
async fn keep(callers: &[Caller]) {
    let mut revision = 0;
    for index in 0..KEPT {
        let kept = setting(&format!("settings/kept_{index}"), "x");
        revision = create(&callers[index % callers.len()], kept).await;
    }
    agree(callers, revision).await;
}

/// Writes what will be lost, and takes hold of it in every way.
async fn lose(callers: &[Caller]) -> Old {
    let mut revision = 0;
    for index in 0..4 {
        let lost = request(setting(&format!("settings/lost_{index}"), "x"));
        revision = insist(&callers[index % callers.len()], &lost).await.revision;
    }
    let status = agree(callers, revision).await;
    let mut streams = Vec::new();
    for caller in callers {
        let mut stream = Open::fresh(caller, &View::everything()).await;
        stream.reach(revision).await;
        streams.push(stream);
    }
    let cursor = streams[0].cursor.clone().expect("it is synced");
    let mut page = ListResourcesRequest { page_size: 3, ..ListResourcesRequest::default() };
    let first = callers[0].config().list_resources(page.clone()).await.expect("a page").into_inner();
    page.page_token = first.next_page_token;
    assert!(!page.page_token.is_empty());
    Old { status, cursor, page, streams }
}

/// Every watcher is told, every replica is in the same new life, and nothing of the old one is honoured anywhere.
async fn is_a_new_life(callers: &[Caller], old: &mut Old) -> GetStatusResponse {
    for stream in &mut old.streams {
        let event = stream.wait_for("the reset", |event| matches!(event, Event::Reset(_))).await;
        let Event::Reset(reset) = event else { unreachable!() };
        assert_eq!(reset.reason(), ResetReason::OtherStore);
        let shown = snapshot(stream).await;
        assert_eq!(shown.len(), KEPT);
        assert!(shown.iter().all(|resource| resource.name.starts_with("settings/kept")));
    }
    for caller in callers {
        let renewed = async || caller.status().await.epoch != old.status.epoch;
        until_answered(PATIENCE, "a new life", renewed).await;
    }
    let now = agree(callers, 0).await;
    for caller in callers {
        let told = read(caller, "settings/kept_0", &old.status.revision_token).await;
        assert_eq!(refusal(told), (Code::FailedPrecondition, "OTHER_STORE".into()));
        is_over(caller, &old.page).await;
        let mut stream = Open::resumed(caller, &View::everything(), &old.cursor).await;
        let first = stream.next().await.expect("an event");
        assert!(
            matches!(&first, Event::Reset(reset) if reset.reason() == ResetReason::OtherStore),
            "{first:?}"
        );
        assert_eq!(snapshot(&mut stream).await.len(), KEPT);
    }
    now
}

/// A list that was begun in a life that is over does not go on.
async fn is_over(caller: &Caller, page: &ListResourcesRequest) {
    let told = caller.config().list_resources(page.clone()).await;
    assert_eq!(refusal(told), (Code::FailedPrecondition, "PAGE_TOKEN_EXPIRED".into()));
}

/// What a stream shows until it is synced.
async fn snapshot(stream: &mut Open) -> Vec<Resource> {
    let mut resources = Vec::new();
    stream
        .wait_for("the snapshot", |event| {
            if let Event::Snapshot(part) = event {
                resources.extend(part.resources.iter().cloned());
            }
            matches!(event, Event::Synced(_))
        })
        .await;
    resources
}

/// After it all, writes go on, and are seen by everybody. What was lost is not there again when its revision is.
async fn goes_on(callers: &[Caller], old: &Old) {
    let mut revision = 0;
    for index in 0..6 {
        let after = request(setting(&format!("settings/after_{index}"), "x"));
        revision = insist(&callers[index % callers.len()], &after).await.revision;
    }
    assert!(revision > old.status.revision);
    agree(callers, revision).await;
    for caller in callers {
        is_over(caller, &old.page).await;
    }
    let verified = callers[0].admin().verify_log(VerifyLogRequest::default()).await.expect("it is checked");
    assert!(verified.get_ref().intact, "{:?}", verified.get_ref().defects);
}

/// Reads on one replica after the other, each time no older than the answer before: it must not be, or it must be refused
/// because that life is over. Whoever has been answered of the new life is never refused again. How often it was refused.
async fn read_around(caller: Caller, over: Arc<AtomicBool>) -> usize {
    let (mut caller, mut held, mut first, mut refusals) = (caller, None::<RevisionToken>, None, 0);
    while !over.load(Ordering::Relaxed) {
        let least = held.map(|token| token.to_string()).unwrap_or_default();
        match read(&caller, "settings/kept_0", &least).await {
            Ok(answer) => {
                let token = RevisionToken::parse(&answer.revision_token).expect("a token");
                if let Some(held) = held {
                    assert_eq!(token.epoch, held.epoch, "an answer of another life than the token's");
                    assert!(token.revision >= held.revision, "{token:?} after {held:?}");
                }
                held = Some(token);
                first = first.or(Some(token.epoch));
                caller = caller.reconnected();
            }
            Err(status) if status.code() == Code::Unavailable => {}
            told => {
                assert_eq!(refusal(told), (Code::FailedPrecondition, "OTHER_STORE".into()));
                assert_eq!(held.map(|token| token.epoch), first, "a token of the new life was refused");
                (held, refusals) = (None, refusals + 1);
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    refusals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_a_restore_lost_end_the_life_of_the_store_for_every_replica() {
    let mut database = postgres::Server::start(&["fsync=on"]);
    let cluster = Cluster::on(database.database().await).await;
    let members = cluster.start_three().await;
    let token = cluster.first_token().await;
    let callers = members.each_ref().map(|member| member.caller(&token));
    keep(&callers).await;
    database.stop();
    database.save();
    database.run(&["fsync=on"]);
    let mut old = lose(&callers).await;
    let (alarm, over) = (Alarm::default(), Arc::new(AtomicBool::new(false)));
    let sites: Vec<Site> = members.iter().map(|member| member.site.clone()).collect();
    let reading = alarm.spawn(read_around(Caller::new(&Site::among(&sites), &token), Arc::clone(&over)));
    database.stop();
    database.restore();
    database.run(&["fsync=on"]);
    let judged = is_a_new_life(&callers, &mut old);
    let now = alarm.unless(PATIENCE * 3, "a new life", judged).await;
    assert_eq!(now.revision, KEPT as u64);
    goes_on(&callers, &old).await;
    // Once, whichever replica noticed, and however many did.
    let begun = "SELECT count(*) FROM audit WHERE event = 'life_begun'";
    until_answered(PATIENCE, "the audit tells", async || postgres::count(cluster.url(), begun).await == 1)
        .await;
    over.store(true, Ordering::Relaxed);
    let refusals = alarm.unless(PATIENCE, "the reader's end", reading).await.expect("no answer is older");
    assert!(refusals > 0, "the reader noticed");
    // Every replica warns, also one that was not there.
    for caller in &callers {
        warns(caller).await;
    }
    let late = cluster.start().await;
    warns(&late.caller(&token)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_standby_that_was_behind_is_promoted() {
    let mut pair = Pair::start().await;
    let members = pair.cluster.start_three().await;
    let token = pair.cluster.first_token().await;
    let callers = members.each_ref().map(|member| member.caller(&token));
    keep(&callers).await;
    pair.has(KEPT as u64).await;
    pair.standby.fall_behind().await;
    let mut old = lose(&callers).await;
    pair.fail_over();

    // A standby that takes no writes is behind what was read: it is not believed, and memory serves on.
    for caller in &callers {
        let early = request(setting("settings/too_early", "x"));
        is_refused_for_now("a write to a standby", caller.config().create_resource(early)).await;
        let answer = read(caller, "settings/lost_0", &old.status.revision_token).await.expect("from memory");
        assert_eq!(answer.revision_token, old.status.revision_token);
    }
    pair.standby.promote().await;
    is_a_new_life(&callers, &mut old).await;
    goes_on(&callers, &old).await;
}

/// The revision that a database holds; none before it has the tables.
async fn revision_in(url: &str) -> i64 {
    let mut connection = postgres::connect(url).await;
    sqlx::query_scalar("SELECT revision FROM head").fetch_one(&mut connection).await.unwrap_or(0)
}

/// What a client holds of a life.
async fn hold(caller: &Caller) -> (String, Cursor) {
    let status = caller.status().await;
    let mut stream = Open::fresh(caller, &View::everything()).await;
    stream.reach(status.revision).await;
    (status.epoch, stream.cursor.clone().expect("it is synced"))
}

/// The epoch that one replica alone serves, once it has started, and what it tells a client of another life.
async fn served_at(cluster: &Cluster, url: &str, cursor: &Cursor) -> (String, bool) {
    let mut member = cluster.start_at(url).await;
    let caller = member.caller(&cluster.first_token().await);
    let epoch = caller.status().await.epoch;
    let mut stream = Open::resumed(&caller, &View::everything(), cursor).await;
    let first = stream.next().await.expect("an event");
    let reset = matches!(&first, Event::Reset(reset) if reset.reason() == ResetReason::OtherStore);
    drop(stream);
    member.stop().await;
    (epoch, reset)
}

/// A dump that is restored is another database, as this copy is. Nobody who serves it can know what it lacks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_copy_that_comes_back_while_nobody_runs_is_in_a_new_life() {
    let cluster = Cluster::new().await;
    let mut member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    create(&caller, setting("settings/kept", "x")).await;
    let (epoch, cursor) = hold(&caller).await;
    member.stop().await;
    assert_eq!(served_at(&cluster, cluster.url(), &cursor).await, (epoch.clone(), false), "a mere restart");

    let name = cluster.url().rsplit('/').next().expect("a database");
    let copy = format!("{name}_copy");
    let beside = cluster.url().replace(&format!("/{name}"), "/postgres");
    postgres::run(&beside, &format!("CREATE DATABASE {copy} TEMPLATE {name}")).await;
    let there = cluster.url().replace(&format!("/{name}"), &format!("/{copy}"));
    let (begun, reset) = served_at(&cluster, &there, &cursor).await;
    assert!(reset && begun != epoch);
    let told = "SELECT count(*) FROM audit WHERE event = 'life_begun'";
    assert_eq!(postgres::count(&there, told).await, 1);
    // Once, however often it starts; and the one that was copied goes on.
    assert_eq!(served_at(&cluster, &there, &cursor).await, (begun, true));
    assert_eq!(served_at(&cluster, cluster.url(), &cursor).await, (epoch, false));
}

/// A volume that was put back leaves no trace in the database: who did it says so, as docs/operating.md tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_puts_a_database_back_can_say_so() {
    let cluster = Cluster::new().await;
    let mut member = cluster.start().await;
    let (epoch, cursor) = hold(&member.caller(&cluster.first_token().await)).await;
    member.stop().await;
    postgres::run(cluster.url(), "UPDATE whereabouts SET place = 'put back'").await;
    let (begun, reset) = served_at(&cluster, cluster.url(), &cursor).await;
    assert!(reset && begun != epoch);
    assert_eq!(served_at(&cluster, cluster.url(), &cursor).await, (begun, true));
}

/// Killed replicas can't say goodbye: their rows are waited for, and then the life is over all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_whose_replicas_were_killed_is_in_a_new_life_too() {
    let cluster = Cluster::new().await;
    let mut member = cluster.start().await;
    let (epoch, cursor) = hold(&member.caller(&cluster.first_token().await)).await;
    member.kill().await;
    postgres::run(cluster.url(), "UPDATE whereabouts SET place = 'another'").await;
    let (one, two) = tokio::join!(cluster.start(), cluster.start());
    let token = cluster.first_token().await;
    let callers = [one.caller(&token), two.caller(&token)];
    let status = agree(&callers, 0).await;
    assert_ne!(status.epoch, epoch);
    let told = "SELECT count(*) FROM audit WHERE event = 'life_begun'";
    assert_eq!(postgres::count(cluster.url(), told).await, 1, "once, though both found it");
    let mut stream = Open::resumed(&callers[0], &View::everything(), &cursor).await;
    let first = stream.next().await.expect("an event");
    assert!(matches!(&first, Event::Reset(reset) if reset.reason() == ResetReason::OtherStore), "{first:?}");
}

/// Whether the standby had all of it, nobody can say who comes later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_standby_that_is_promoted_while_nobody_runs_is_in_a_new_life() {
    let mut pair = Pair::start().await;
    let mut member = pair.cluster.start().await;
    let caller = member.caller(&pair.cluster.first_token().await);
    let revision = create(&caller, setting("settings/kept", "x")).await;
    let (epoch, cursor) = hold(&caller).await;
    pair.has(revision).await;
    member.stop().await;
    pair.fail_over();
    pair.standby.promote().await;
    let (begun, reset) = served_at(&pair.cluster, pair.cluster.url(), &cursor).await;
    assert!(reset && begun != epoch);
    assert_eq!(served_at(&pair.cluster, pair.cluster.url(), &cursor).await, (begun, true));
}

/// A replica that went along knows that nothing it saw is lost: neither it nor one that starts after it ends the life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_that_lost_nothing_costs_no_client_a_reset() {
    let mut pair = Pair::start().await;
    let member = pair.cluster.start().await;
    let caller = member.caller(&pair.cluster.first_token().await);
    let revision = create(&caller, setting("settings/kept", "x")).await;
    let (epoch, cursor) = hold(&caller).await;
    pair.has(revision).await;
    pair.fail_over();
    pair.standby.promote().await;
    let after = insist(&caller, &request(setting("settings/after", "x"))).await;
    assert_eq!(after.revision, revision + 1);
    assert_eq!(
        served_at(&pair.cluster, pair.cluster.url(), &cursor).await,
        (epoch.clone(), false),
        "one that starts after it"
    );
    let status = caller.status().await;
    assert_eq!(status.epoch, epoch);
    assert!(!status.warnings.iter().any(|told| told.starts_with(LOST)), "{:?}", status.warnings);
}

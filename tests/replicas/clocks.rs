//! Replicas whose clocks are wrong: the binary with another clock is `examples/another_release.rs`.

use std::time::Duration;

use chrono::TimeDelta;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use signalbox::{
    domain::{Clock as _, SystemClock},
    proto::v1::{GetStatusRequest, RevokeTokenRequest},
};
use tonic::Code;

use crate::{
    cluster::{Cluster, Member, create, insist, request},
    harness::{PATIENCE, example, until_answered, within},
    postgres,
    support::{
        caller::{Caller, Rights},
        resources::setting,
    },
};

/// By when a revoked token is refused on every replica.
const REVOKED: Duration = Duration::from_secs(5);
/// Signs every token.
const SECRET: &str = "0123456789abcdef0123456789abcdef-of-tests";
const AUDITED: &str = "SELECT count(*) FROM audit";
const LOGGED: &str = "SELECT count(*) FROM log";
const REQUESTED: &str = "SELECT count(*) FROM requests";
/// Turns of housekeeping that were done by those whose clocks are wrong: they tell of another address.
const KEPT: &str = "SELECT count(*) FROM leases JOIN replicas ON replicas.id = leases.holder \
    WHERE leases.work = 'housekeeping' AND replicas.address = 'wrong.example:1' AND leases.ends <= clock_timestamp()";

/// One more replica, whose clock is so far ahead.
async fn start_ahead(cluster: &Cluster, by: TimeDelta) -> Member {
    let home = cluster.home().running(&example("another_release").await).with("OLDER_BY", "0");
    let home = home.with("CLOCK_AHEAD", by.num_seconds().to_string());
    Member::start_in(home.with("SIGNALBOX_ADVERTISE", "wrong.example:1")).await
}

/// Found by an attack: one replica whose clock was ahead took everybody's history, audit and idempotency keys away within a
/// second of its start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_replicas_whose_clocks_are_ahead_forget_nothing() {
    let cluster = Cluster::new().await;
    let member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    let first = request(setting("settings/first", "x"));
    let before = insist(&caller, &first).await;
    for index in 0..5 {
        create(&caller, setting(&format!("settings/s{index}"), "x")).await;
    }
    let count = async || {
        let url = cluster.url();
        [
            postgres::count(url, AUDITED).await,
            postgres::count(url, LOGGED).await,
            postgres::count(url, REQUESTED).await,
        ]
    };
    let there = count().await;
    for by in [TimeDelta::hours(27), TimeDelta::days(400)] {
        let mut wrong = start_ahead(&cluster, by).await;
        until_answered(PATIENCE, "it has kept the house", async || {
            postgres::count(cluster.url(), KEPT).await == 1
        })
        .await;
        wrong.stop().await;
        let left = count().await;
        assert!(left.iter().zip(&there).all(|(left, there)| left >= there), "{by}: {left:?} of {there:?}");
        assert_eq!(caller.status().await.floor_revision, 0, "{by}: all of the history is there");
    }
    let again = insist(&caller, &first).await;
    assert_eq!((again.revision, again.resource), (before.revision, before.resource), "it was done before");
}

/// An administrator's token that was made long ago, so that whoever's clock is behind takes it as well.
fn older_token() -> String {
    let now = SystemClock.now().timestamp();
    let claims = json!({
        "iss": "signalbox", "aud": "signalbox", "sub": "admin", "iat": now - 3600, "exp": now + 7200, "jti": "old",
        "role": "admin",
    });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// Waits until a token is refused everywhere, soon.
async fn is_refused(token: &str, members: &[&Member]) {
    for member in members {
        let caller = member.caller(token);
        let refused = async || {
            let asked = caller.admin().get_status(GetStatusRequest {}).await;
            asked.is_err_and(|status| status.code() == Code::Unauthenticated)
        };
        within(REVOKED, "the end of a revoked token", until_answered(PATIENCE, "it is refused", refused))
            .await;
    }
}

/// Found by an attack: all tokens of a subject were revoked up to the time of whoever was asked, and one that was made by a
/// clock that is ahead of it went on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_tokens_are_revoked_through_whichever_replica_whatever_its_clock_says() {
    const OFF: TimeDelta = TimeDelta::minutes(2);
    let cluster = Cluster::new().await.with("SIGNALBOX_JWT_SECRET", SECRET);
    let (right, ahead, behind) =
        tokio::join!(cluster.start(), start_ahead(&cluster, OFF), start_ahead(&cluster, -OFF));
    let members = [&right, &ahead, &behind];
    let token = older_token();
    let at = |member: &Member| -> Caller { member.caller(&token) };
    let pairs = [
        ("dan", &right, &behind),
        ("eve", &ahead, &right),
        ("flo", &ahead, &behind),
        ("gus", &behind, &right),
        ("hal", &behind, &ahead),
    ];
    for (subject, makes, revokes) in pairs {
        let made = at(makes).token_for(subject, &Rights::viewer()).await;
        // To the one that is behind it is of a time that is still to come, and is refused until then.
        for member in [&right, &ahead] {
            member.caller(&made).status().await;
        }
        let revoke = RevokeTokenRequest { subject: subject.to_owned(), ..RevokeTokenRequest::default() };
        at(revokes).admin().revoke_token(revoke).await.expect("it is revoked");
        is_refused(&made, &members).await;
    }
    for (member, which) in [(&ahead, "ahead of"), (&behind, "behind")] {
        let told = format!("this replica's clock is 2m {which} the database's");
        let caller = at(member);
        until_answered(PATIENCE, "the warning", async || {
            caller.status().await.warnings.iter().any(|warning| {
                // To the second, as the two are read one after the other.
                warning.contains(&told) || warning.contains(&told.replace("2m", "1m 59s"))
            })
        })
        .await;
    }
    assert!(!at(&right).status().await.warnings.iter().any(|warning| warning.contains("clock is")));
}

/// Found by an attack: rows that were far ahead were taken away by the heartbeat that should have told of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_heartbeats_of_a_time_to_come_are_told_of_however_far_it_is() {
    let cluster = Cluster::new().await;
    let member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    let told = async |rows: usize| {
        let words = format!("had {rows} row");
        until_answered(PATIENCE, &words, async || {
            let warnings = caller.status().await.warnings;
            warnings.iter().any(|warning| {
                warning.contains(&words) && warning.contains("of a time that was still to come")
            })
        })
        .await;
    };
    let left = "SELECT count(*) FROM replicas WHERE seen > clock_timestamp() OR id LIKE 'ahead%'";
    let gone = async || postgres::count(cluster.url(), left).await == 0;
    // Its own, as after the database's clock was set back.
    postgres::run(cluster.url(), "UPDATE replicas SET seen = now() + interval '20 minutes'").await;
    told(1).await;
    for (rows, by) in [(2, "20 seconds"), (3, "20 minutes"), (4, "10 years"), (5, "infinity")] {
        let seen =
            if by == "infinity" { "'infinity'".to_owned() } else { format!("now() + interval '{by}'") };
        let forge = format!(
            "INSERT INTO replicas SELECT (jsonb_populate_record(replicas, jsonb_build_object('id', 'ahead' || i, 'seen', \
             {seen}))).* FROM replicas, generate_series(1, {rows}) AS i"
        );
        postgres::run(cluster.url(), &forge).await;
        told(rows).await;
        until_answered(PATIENCE, "they are taken away", gone).await;
    }
    told(5).await;
    let page = member.metrics(caller.token()).await;
    assert_eq!(
        page.value("signalbox_replica_alarms", &[("alarm", "ahead")]),
        1.0,
        "it is told of when they are gone"
    );
    assert_eq!(caller.status().await.replicas.len(), 1);
}

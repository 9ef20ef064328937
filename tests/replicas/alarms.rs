//! What replicas find out about each other that an operator has to look at, and what is none of that.

use signalbox::proto::v1::{
    DeleteResourceRequest, GetResourceRequest, GetStatusRequest, GetStatusResponse, RaiseFeatureLevelRequest,
    resource::Spec, setting_spec::Value,
};

use crate::{
    cluster::{Cluster, Member, create, knows_of, read, request},
    harness::{Home, PATIENCE, calls::refusal, until_answered},
    postgres,
    proxy::Proxy,
    support::{
        caller::{Caller, Rights},
        resources::{by_prefix, secret_setting, setting},
    },
};

fn tells(status: &GetStatusResponse, words: &str) -> bool {
    status.warnings.iter().any(|warning| warning.contains(words))
}

/// What `doctor` says of a running replica, and what it ends with.
async fn doctor(cluster: &Cluster, member: &Member, token: &str) -> (Option<i32>, String) {
    let url = format!("http://{}", member.site.address());
    let home = cluster.home().with("SIGNALBOX_URL", url).with("SIGNALBOX_TOKEN", token);
    let output = home.run(&["doctor"]).await;
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// What the status had told was thrown away with the answer that the log could not be checked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_the_doctor_says_what_it_knows_while_the_database_is_away() {
    let cluster = Cluster::new().await;
    let port = postgres::port_of(cluster.url());
    let proxy = Proxy::before(port).await;
    let member = cluster.start_at(&proxy.url(cluster.url(), port)).await;
    let caller = member.caller(&cluster.first_token().await);
    assert_eq!(doctor(&cluster, &member, caller.token()).await.0, Some(0), "nothing to find yet");
    proxy.close(true);
    proxy.cut();
    until_answered(PATIENCE, "it is stale", async || caller.status().await.stale).await;
    let (code, told) = doctor(&cluster, &member, caller.token()).await;
    assert_eq!(code, Some(1), "{told}");
    for part in ["the server has lost touch with it", "not checked: ", "every secret can be opened"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

/// For the first seconds of an outage probes sent to the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_probes_say_at_once_that_the_database_is_away() {
    let cluster = Cluster::new().await;
    let port = postgres::port_of(cluster.url());
    let proxy = Proxy::before(port).await;
    let member = cluster.start_at(&proxy.url(cluster.url(), port)).await;
    let caller = member.caller(&cluster.first_token().await);
    create(&caller, setting("settings/a", "x")).await;
    proxy.close(true);
    proxy.cut();
    let write = caller.config().create_resource(request(setting("settings/b", "x"))).await;
    assert_eq!(refusal(write).1, "STORE_UNAVAILABLE");
    let reasons = async || {
        let page = member.page("/readyz", "").await.json();
        let degraded = page["degraded"].as_array().expect("a list").clone();
        degraded.iter().map(|found| found["reason"].as_str().expect("a word").to_owned()).collect::<Vec<_>>()
    };
    until_answered(PATIENCE, "probes say it", async || reasons().await == ["STORE_AWAY"]).await;
    proxy.close(false);
    until_answered(PATIENCE, "it is back", async || !reasons().await.contains(&"STORE_AWAY".to_owned()))
        .await;
}

/// The alarm sends to the doctor, who said nothing of digests and ended with 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_the_doctor_names_the_replica_that_holds_another_state() {
    let cluster = Cluster::new().await;
    let member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    create(&caller, setting("settings/a", "x")).await;
    let revision = caller.status().await.revision;
    until_answered(PATIENCE, "its heartbeat", async || {
        caller.status().await.replicas.first().is_some_and(|own| own.revision == revision)
    })
    .await;
    assert_eq!(doctor(&cluster, &member, caller.token()).await.0, Some(0), "nothing to find yet");
    // Another one that lives, for as long as a heartbeat is good.
    let wrong = "INSERT INTO replicas (id, address, version, feature_level, epoch, revision, digest, key_ids, doorbell, watchers, \
                 seen) SELECT 'wrong', 'wrong.example:1', version, feature_level, epoch, revision, \
                 decode(repeat('ab', 16), 'hex'), key_ids, doorbell, watchers, now() FROM replicas";
    postgres::run(cluster.url(), wrong).await;
    until_answered(PATIENCE, "the alarm", async || tells(&caller.status().await, "holds another state"))
        .await;
    let (code, told) = doctor(&cluster, &member, caller.token()).await;
    assert_eq!(code, Some(1), "{told}");
    let named = format!("wrong.example:1 (digest {}) is not what the store holds", "ab".repeat(16));
    assert!(told.contains(&named) && told.contains("restart the replicas that are named"), "{told}");
    assert!(!told.contains(&format!("{} (digest", member.site.address())), "it holds the right one: {told}");
}

/// A raise that an operator has to ask for is not forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raise_that_waits_is_a_warning_until_it_is_done() {
    const WAITS: &str = "`signalbox raise-feature-level`";
    let cluster = Cluster::new().await.with("SIGNALBOX_RAISE_FEATURE_LEVEL", "manual");
    let mut member = cluster.start().await;
    let token = cluster.first_token().await;
    let caller = member.caller(&token);
    create(&caller, setting("settings/a", "x")).await;
    assert!(!tells(&caller.status().await, WAITS), "a new store begins with all there is");
    member.stop().await;
    let lower = "SET LOCAL session_replication_role = replica; UPDATE feature_level SET level = 1";
    postgres::run(cluster.url(), lower).await;
    member.start().await;
    let caller = member.caller(&token);
    until_answered(PATIENCE, "the warning", async || tells(&caller.status().await, WAITS)).await;
    caller.admin().raise_feature_level(RaiseFeatureLevelRequest {}).await.expect("nobody else lives");
    assert!(!tells(&caller.status().await, WAITS));
}

/// Waits until every replica has heard of every other one once more.
async fn hear_of_each_other(callers: &[&Caller], name: &str) -> Vec<GetStatusResponse> {
    let at = create(callers[0], setting(name, "x")).await;
    let mut all = Vec::new();
    for caller in callers {
        let mut status = GetStatusResponse::default();
        until_answered(PATIENCE, "heartbeats", async || {
            status = caller.status().await;
            status.replicas.len() == callers.len()
                && status.replicas.iter().all(|replica| replica.revision >= at)
        })
        .await;
        all.push(status);
    }
    all
}

/// Each would take the other's tokens for forged, and nobody would know why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_replica_that_verifies_tokens_with_another_key_is_an_alarm() {
    const ALARM: &str = "verify tokens with different keys";
    let cluster = Cluster::new().await;
    let first = cluster.start().await;
    let caller = first.caller(&cluster.first_token().await);
    create(&caller, setting("settings/a", "x")).await;
    let same = cluster.start().await;
    let same_caller = same.caller(caller.token());
    for status in hear_of_each_other(&[&caller, &same_caller], "settings/b").await {
        assert!(!tells(&status, ALARM), "{:?}", status.warnings);
    }
    let secret = "hBq3vQXk1mZr8sYt5nWc2pLd7gJf4aUe9iOx";
    let mut other = Member::start_in(cluster.home().with("SIGNALBOX_JWT_SECRET", secret)).await;
    until_answered(PATIENCE, "the alarm", async || tells(&caller.status().await, ALARM)).await;
    let told = caller.status().await.warnings.join(" ");
    assert!(
        told.contains(&other.site.address()) && told.contains("SIGNALBOX_JWT_") && !told.contains(secret),
        "{told}"
    );
    let page = first.metrics(caller.token()).await;
    assert_eq!(page.value("signalbox_replica_alarms", &[("alarm", "verification")]), 1.0);
    let refused = other.caller(caller.token()).admin().get_status(GetStatusRequest {}).await;
    assert_eq!(refused.expect_err("it has another key").code(), tonic::Code::Unauthenticated);
    other.stop().await;
    until_answered(PATIENCE, "its end", async || !tells(&caller.status().await, ALARM)).await;
}

/// The first step of a rotation: one replica has the new key in front, and seals with the data key that all can open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_new_key_in_front_of_the_old_one_is_no_alarm() {
    let cluster = Cluster::new().await;
    let old = cluster.start().await;
    let caller = old.caller(&cluster.first_token().await);
    let made = Home::new().run(&["keys", "generate"]).await;
    let key = format!("{},{}", String::from_utf8(made.stdout).unwrap().trim(), cluster.key());
    let new = Member::start_in(cluster.home().with("ENCRYPTION_KEY", key)).await;
    let new_caller = new.caller(caller.token());
    knows_of(&caller, 2).await;
    let all = hear_of_each_other(&[&caller, &new_caller], "settings/b").await;
    assert_eq!(all[1].key_ids.len(), 2, "it has both");
    for status in all {
        assert!(!tells(&status, "has not loaded the key"), "{:?}", status.warnings);
    }
    // What it seals the other one opens.
    create(&new_caller, secret_setting("settings/sealed", "hidden")).await;
    let rights = Rights::worker(vec![by_prefix("settings/")], true);
    let worker = caller.colleague("worker", &rights).await;
    until_answered(PATIENCE, "the secret", async || opened(&worker).await).await;
}

async fn opened(worker: &Caller) -> bool {
    let name = "settings/sealed".to_owned();
    let request = GetResourceRequest { name, include_secrets: true, ..GetResourceRequest::default() };
    let Ok(answer) = worker.config().get_resource(request).await else { return false };
    let Some(Spec::Setting(spec)) = answer.into_inner().resource.and_then(|resource| resource.spec) else {
        return false;
    };
    matches!(spec.value, Some(Value::SecretValue(secret)) if secret.value.as_deref() == Some("hidden"))
}

/// Written by hand, or while the clock was wrong: the house would never be kept again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_lease_without_an_end_is_taken_over() {
    let cluster = Cluster::new().await;
    cluster.start().await.stop().await;
    let forge = "INSERT INTO leases (work, holder, fence, ends) VALUES ('housekeeping', 'dead', 7, '2099-01-01') \
                 ON CONFLICT (work) DO UPDATE SET holder = 'dead', fence = 7, ends = '2099-01-01'";
    postgres::run(cluster.url(), forge).await;
    let _second = cluster.start().await;
    let kept = "SELECT count(*) FROM leases WHERE fence = 8 AND holder <> 'dead' AND ends <= now()";
    until_answered(PATIENCE, "the house is kept", async || postgres::count(cluster.url(), kept).await == 1)
        .await;
}

/// A start that failed late had taken leases along, and the others waited ten minutes for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_start_that_fails_leaves_no_lease_behind() {
    let cluster = Cluster::new().await;
    cluster.start().await.stop().await;
    let slow = "CREATE FUNCTION refuse_slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); \
                RAISE EXCEPTION 'the test refuses it'; END $$; CREATE TRIGGER refuse_slowly BEFORE INSERT ON replicas \
                FOR EACH ROW EXECUTE FUNCTION refuse_slowly()";
    postgres::run(cluster.url(), slow).await;
    // Every holder has a fence of its own.
    let fences = "SELECT coalesce(sum(fence), 0)::bigint FROM leases";
    let before = postgres::count(cluster.url(), fences).await;
    assert_eq!(cluster.home().refused().await.code, Some(1));
    assert_eq!(postgres::count(cluster.url(), fences).await, before);
}

/// A head row that somebody set forward: no replica may show a revision that the log does not have, nor say that it is fresh.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_damaged_store_is_not_shown_as_fresh() {
    const DAMAGED: &str = "the store is damaged";
    let cluster = Cluster::new().await;
    let member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    let before = create(&caller, setting("settings/before", "x")).await;
    postgres::run(cluster.url(), "UPDATE head SET revision = revision + 1").await;
    until_answered(PATIENCE, "the warning", async || tells(&caller.status().await, DAMAGED)).await;
    let refused = caller.config().create_resource(request(setting("settings/refused", "x"))).await;
    assert_eq!(refusal(refused), (tonic::Code::FailedPrecondition, "STORE_DAMAGED".into()));
    until_answered(PATIENCE, "it is stale", async || caller.status().await.stale).await;
    assert_eq!(caller.status().await.revision, before, "what was read before is served");
    let page = member.page("/readyz", "").await;
    assert!(page.code == 200 && page.json()["degraded"][0]["reason"] == "STORE_DAMAGED", "{page:?}");
    assert_eq!(member.metrics(caller.token()).await.value("signalbox_store_damaged", &[]), 1.0);
    // A trigger lets the head only grow.
    let repair = "SET LOCAL session_replication_role = replica; UPDATE head SET revision = revision - 1";
    postgres::run(cluster.url(), repair).await;
    until_answered(PATIENCE, "it heals", async || {
        let status = caller.status().await;
        !status.stale && !tells(&status, DAMAGED)
    })
    .await;
    assert_eq!(create(&caller, setting("settings/after", "x")).await, before + 1);
    assert_eq!(member.metrics(caller.token()).await.value("signalbox_store_damaged", &[]), 0.0);
}

/// Found by an attack: who wrote to such a name was told to try again, for ever, because of other writes that there were none of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_row_that_was_taken_away_is_damage_and_no_contention() {
    let cluster = Cluster::new().await;
    let member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    create(&caller, setting("settings/gone", "x")).await;
    postgres::run(cluster.url(), "DELETE FROM resources WHERE name = 'settings/gone'").await;
    let delete = DeleteResourceRequest { name: "settings/gone".into(), ..DeleteResourceRequest::default() };
    let refused = caller.config().delete_resource(delete).await;
    assert_eq!(refusal(refused), (tonic::Code::FailedPrecondition, "STORE_DAMAGED".into()));
    until_answered(PATIENCE, "it is told", async || tells(&caller.status().await, "the store is damaged"))
        .await;
}

/// Found by an attack: whoever started on an edited store served what it held as fresh, and wrote on top of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_store_found_damaged_at_the_start_is_not_shown_as_fresh() {
    let cluster = Cluster::new().await;
    let mut member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    create(&caller, setting("settings/whole", "x")).await;
    create(&caller, setting("settings/edited", "before")).await;
    member.stop().await;
    let edit = |from: &str, to: &str| {
        format!(
            "UPDATE resources SET spec_text = replace(spec_text, '{from}', '{to}') WHERE name = 'settings/edited'"
        )
    };
    postgres::run(cluster.url(), &edit("before", "behind")).await;

    member.start().await;
    let caller = member.caller(caller.token());
    let status = caller.status().await;
    assert!(status.stale && tells(&status, "the store is damaged"), "{status:?}");
    read(&caller, "settings/whole", "").await.expect("what can be read is served");
    let refused = caller.config().create_resource(request(setting("settings/refused", "x"))).await;
    assert_eq!(refusal(refused), (tonic::Code::FailedPrecondition, "STORE_DAMAGED".into()));
    let page = member.page("/readyz", "").await;
    assert!(page.code == 200 && page.json()["degraded"][0]["reason"] == "STORE_DAMAGED", "{page:?}");
    assert_eq!(member.metrics(caller.token()).await.value("signalbox_store_damaged", &[]), 1.0);
    // Its log goes on all the while; that makes it no better.
    let polled = async || caller.status().await.confirmed_age.is_some_and(|age| age.seconds >= 3);
    until_answered(PATIENCE, "several polls", polled).await;
    assert!(caller.status().await.stale);

    postgres::run(cluster.url(), &edit("behind", "before")).await;
    until_answered(PATIENCE * 2, "it heals", async || {
        let status = caller.status().await;
        !status.stale && !tells(&status, "the store is damaged")
    })
    .await;
    create(&caller, setting("settings/after", "x")).await;
}

/// Ten thousand forged heartbeats: the status comes, says what is wrong, and stays short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_forged_heartbeats_leave_the_status_readable() {
    let cluster = Cluster::new().await;
    let member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    knows_of(&caller, 1).await;
    // Of a time that is still to come they are no word of a replica.
    let ahead = "INSERT INTO replicas SELECT (jsonb_populate_record(replicas, jsonb_build_object('id', 'ahead' || i, 'seen', \
        now() + interval '9 seconds'))).* FROM replicas, generate_series(1, 200) AS i";
    postgres::run(cluster.url(), ahead).await;
    until_answered(PATIENCE, "they are told of", async || {
        tells(&caller.status().await, "had 128 rows or more of a time that was still to come")
    })
    .await;
    assert_eq!(caller.status().await.replicas.len(), 1, "they are ignored");
    let alarm = async |name| {
        member.metrics(caller.token()).await.value("signalbox_replica_alarms", &[("alarm", name)])
    };
    assert_eq!(alarm("ahead").await, 1.0);
    postgres::run(cluster.url(), "DELETE FROM replicas WHERE id LIKE 'ahead%'").await;
    let forge = "INSERT INTO replicas (id, address, version, feature_level, epoch, revision, digest, key_ids, doorbell, \
        watchers, environment, verification, seen) SELECT 'forged' || i, repeat('x', 1000), version, feature_level, epoch, \
        revision, decode(md5(i::text), 'hex'), ARRAY(SELECT repeat('k', 250) || i || j FROM generate_series(1, 60) AS j), \
        doorbell, watchers, decode(md5(i::text) || md5(i::text), 'hex'), verification, now() \
        FROM replicas, generate_series(1, 10000) AS i WHERE id NOT LIKE 'forged%' ON CONFLICT (id) DO NOTHING";
    postgres::run(cluster.url(), forge).await;
    until_answered(PATIENCE, "the alarm", async || tells(&caller.status().await, "128 replicas or more"))
        .await;
    let status = caller.status().await;
    assert_eq!(status.replicas.len(), 128);
    assert!(
        status.replicas.iter().any(|replica| replica.address == member.site.address()),
        "its own is listed"
    );
    let told: usize = status.warnings.iter().map(String::len).sum();
    assert!(told < 20_000, "{told}: {:?}", status.warnings);
    assert_eq!(alarm("crowd").await, 1.0);
    postgres::run(cluster.url(), "DELETE FROM replicas WHERE id LIKE 'forged%'").await;
    until_answered(PATIENCE, "it is over", async || !tells(&caller.status().await, "replicas or more")).await;
}

/// One that was killed is told of, with where it was; one that was told to stop is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_vanished_is_a_warning_and_one_that_said_goodbye_is_none() {
    const VANISHED: &str = "fell silent and did not say goodbye";
    let cluster = Cluster::new().await;
    let [first, mut stopped, mut killed] = cluster.start_three().await;
    let caller = first.caller(&cluster.first_token().await);
    knows_of(&caller, 3).await;
    let (left, dead) = (stopped.site.address(), killed.site.address());
    killed.kill().await;
    stopped.stop().await;
    until_answered(PATIENCE, "the warning", async || tells(&caller.status().await, VANISHED)).await;
    let told = caller.status().await.warnings.join(" ");
    assert!(told.contains(&dead) && !told.contains(&left), "{told}");
    let page = first.metrics(caller.token()).await;
    assert_eq!(page.value("signalbox_replica_alarms", &[("alarm", "vanished")]), 1.0);
    let page = first.page("/readyz", "").await;
    assert!(page.code == 200 && page.json()["degraded"][0]["reason"] == "REPLICA_ALARM", "{page:?}");
}

/// A lease that nobody can take: the house is not kept, and nobody was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_housekeeping_that_fails_is_told_with_what_to_do() {
    let cluster = Cluster::new().await;
    cluster.start().await.stop().await;
    let forge = "INSERT INTO leases (work, holder, fence, ends) VALUES ('housekeeping', 'dead', 8999999999999999999, now()) \
                 ON CONFLICT (work) DO UPDATE SET holder = 'dead', fence = excluded.fence, ends = now()";
    postgres::run(cluster.url(), forge).await;
    let member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    let told = "delete the row `housekeeping` of the table `leases`";
    until_answered(PATIENCE, "the warning", async || tells(&caller.status().await, told)).await;
}

/// Who started after another one had died did not know of it, and counted the workers of a rotation without those behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_one_that_vanished_is_told_of_by_who_starts_after_it() {
    let cluster = Cluster::new().await;
    let mut died = cluster.start().await;
    let token = cluster.first_token().await;
    knows_of(&died.caller(&token), 1).await;
    let address = died.site.address();
    died.kill().await;
    let silent = "SELECT count(*) FROM replicas WHERE seen < now() - interval '11 seconds'";
    until_answered(PATIENCE, "it is silent", async || postgres::count(cluster.url(), silent).await == 1)
        .await;
    let next = cluster.start().await;
    let caller = next.caller(&token);
    let told = format!("at {address} fell silent and did not say goodbye");
    until_answered(PATIENCE, "the alarm", async || tells(&caller.status().await, &told)).await;
}

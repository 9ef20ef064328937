//! A new store that several servers start on: it begins once, with what one of them found.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;
use signalbox::{
    domain::FeatureLevel,
    proto::v1::{ListResourcesRequest, Resource, resource::Spec},
};

use crate::{
    cluster::{Cluster, Member, agree, create, knows_of},
    harness::{Home, Server, api::deletion_of, example, forms::Forms},
    postgres,
    support::{
        caller::{Caller, Site},
        resources::setting,
    },
};

const BEGUN: &str = "the store is new, and begins with";

async fn cluster() -> Cluster {
    Cluster::new().await.with("SIGNALBOX_STARTERS", "on")
}

async fn resources(caller: &Caller) -> Vec<Resource> {
    let request = ListResourcesRequest { page_size: 1000, ..ListResourcesRequest::default() };
    caller.config().list_resources(request).await.unwrap().into_inner().resources
}

fn keys(resources: &[Resource]) -> BTreeSet<&str> {
    let keys = resources.iter().filter(|one| matches!(one.spec, Some(Spec::ApiKey(_))));
    keys.map(|one| one.name.as_str()).collect()
}

/// Each finds other keys around it, so that a mixture of two of them would be seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_replicas_that_start_together_begin_once() {
    const FOUND: [(&str, &str); 5] = [
        ("GROQ_API_KEY", "groq"),
        ("OPENAI_API_KEY", "chatgpt"),
        ("GEMINI_API_KEY", "google_ai"),
        ("MISTRAL_API_KEY", "mistral"),
        ("XAI_API_KEY", "xai"),
    ];
    let cluster = cluster().await;
    let start = |index: usize| {
        let (variable, _) = FOUND[index % FOUND.len()];
        Member::start_in(cluster.home().with(variable, format!("key-of-replica-{index}")))
    };
    let members = join_all((0..10).map(start)).await;
    let token = cluster.first_token().await;
    let callers: Vec<Caller> = members.iter().map(|member| member.caller(&token)).collect();
    assert_eq!(agree(&callers, 1).await.revision, 1, "one revision");
    let begun: Vec<usize> =
        (0..members.len()).filter(|index| members[*index].log().contains(BEGUN)).collect();
    assert_eq!(begun.len(), 1, "one of them began, and told so: {begun:?}");
    let all = resources(&callers[0]).await;
    let (_, winner) = FOUND[begun[0] % FOUND.len()];
    assert_eq!(keys(&all), BTreeSet::from([format!("providers/{winner}/apiKeys/env").as_str()]));
    assert_eq!(all.iter().find(|one| one.name == "providers/groq").map(|one| one.create_revision), Some(1));
    for member in &members {
        assert!(!member.log().contains("ERROR"), "{}", member.log());
    }
    // One that comes later finds it as it is, also when nothing is left of it.
    callers[0].config().batch_write(deletion_of(&all)).await.unwrap();
    let late = cluster.start().await;
    let mut callers = callers;
    callers.push(late.caller(&token));
    assert_eq!(agree(&callers, 2).await.revision, 2);
    assert_eq!(resources(&callers[10]).await, Vec::new());
}

/// A replica connects by the variables of libpq itself, and its own store is no business of workers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_of_the_store_itself_is_not_taken_over() {
    const PASSWORD: &str = "pw-canary-f7aa10b2c3d94e58";
    let cluster = cluster().await;
    let home = cluster
        .home()
        .with("PGPASSWORD", PASSWORD)
        .with("PGAPPNAME", "signalbox")
        .with("DATABASE_URL", cluster.url())
        .with("REDIS_URL", "redis://cache.example:6379/1");
    std::fs::write(home.path(".env"), format!("PGHOST=db.example\nPGPASSWORD={PASSWORD}\n")).unwrap();
    let member = Member::start_in(home).await;
    let all = resources(&member.caller(&cluster.first_token().await)).await;
    let databases: Vec<&str> =
        all.iter().map(|one| one.name.as_str()).filter(|name| name.starts_with("databases/")).collect();
    assert_eq!(databases, ["databases/redis"]);
    let log = member.log();
    assert!(log.contains("DATABASE_URL: not carried over: leads to this server's own store"), "{log}");
    assert_eq!(Forms::of(PASSWORD).found_in(log.as_bytes()), None);
}

/// What an older replica could not hold is not written while one lives; nothing is half done meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_an_older_replica_the_beginning_waits() {
    let cluster = Cluster::new().await;
    // Before there were models and routers.
    let before = cluster
        .home()
        .with("OLDER_BY", (FeatureLevel::CURRENT.0 - 1).to_string())
        .running(&example("another_release").await);
    let mut old = Member::start_in(before).await;
    let token = cluster.first_token().await;
    let on = || cluster.home().with("SIGNALBOX_STARTERS", "on");
    let mut new = Member::start_in(on()).await;
    knows_of(&new.caller(&token), 2).await;
    assert_eq!(new.caller(&token).status().await.revision, 0);
    assert!(new.log().contains("the first start failed: nothing was written"), "{}", new.log());
    assert!(new.log().contains("needs feature level"), "{}", new.log());
    new.stop().await;
    old.stop().await;
    new.start().await;
    assert_eq!(new.caller(&token).status().await.revision, 1);
}

/// A store that moves has begun, even if nothing is left in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_moved_does_not_begin_again() {
    let home = Arc::new(Home::new().with("SIGNALBOX_STARTERS", "on"));
    let server = Server::start_in(&home).await;
    let admin = Caller::new(&Site::of(&server), &server.admin_token());
    let all = resources(&admin).await;
    admin.config().batch_write(deletion_of(&all)).await.unwrap();
    assert_eq!(resources(&admin).await, Vec::new());
    let revision = create(&admin, setting("settings/left", "x")).await;
    server.stop().await;
    let url = postgres::shared().database().await;
    let moved = home.run(&["migrate", "--from", "sqlite://data/signalbox.db", "--to", &url]).await;
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    let key = std::fs::read_to_string(home.path("data/encryption.key")).unwrap();
    let there = Home::new()
        .with("SIGNALBOX_STARTERS", "on")
        .with("SIGNALBOX_DATABASE_URL", &url)
        .with("ENCRYPTION_KEY", key.trim());
    let member = Member::start_in(there).await;
    let caller = member.caller(&home.admin_token());
    assert_eq!(caller.status().await.revision, revision);
    assert_eq!(resources(&caller).await.len(), 1);
}

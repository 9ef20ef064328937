//! Requests under an id that was used before: whose id it is, and what a repetition does.

use signalbox::proto::v1::BatchWriteResponse;
use support::caller::Rights;

use super::*;

/// Another administrator of everything.
async fn second(server: &Server) -> Caller {
    let rights = Rights { role: Role::Admin, ttl_seconds: 3600, ..Rights::default() };
    server.admin().colleague("second", &rights).await
}

fn job(op: Op) -> Job {
    Job { request_id: "the-same".into(), ..Job::one(op) }
}

async fn write(caller: &Caller, job: &Job) -> Result<BatchWriteResponse, Status> {
    Writer::new(caller.clone(), Recorder::default()).carry_out(job).await
}

async fn get(server: &Server, name: &str) -> Result<Resource, Status> {
    let request = GetResourceRequest { name: name.into(), ..Default::default() };
    Ok(server.admin().config().get_resource(request).await?.into_inner().resource.expect("a resource"))
}

#[tokio::test]
async fn a_request_id_belongs_to_who_uses_it() {
    let server = furnished().await;
    let (first, second) = (server.admin(), second(&server).await);
    let [one, two] = ["settings/one", "settings/two"].map(|name| job(Op::Create(setting(name, "x"))));
    let by_first = write(&first, &one).await.expect("the first to use it");
    let by_second = write(&second, &two).await.expect("his own id, though it looks the same");
    assert!(by_second.revision > by_first.revision, "it was done, and not answered from the other's");
    for name in ["settings/one", "settings/two"] {
        get(&server, name).await.expect(name);
    }
    // Each has his own answer again, and nothing happens.
    let before = first.status().await;
    assert_eq!(write(&first, &one).await.unwrap(), by_first);
    assert_eq!(write(&second, &two).await.unwrap(), by_second);
    assert_eq!(first.status().await.revision, before.revision);
    for (caller, other) in [(&first, two), (&second, one)] {
        let reused = vec![("another body", Call::Job(other), INVALID, "REQUEST_ID_REUSED", "request_id")];
        refused_to(caller, &server, reused).await;
    }
}

#[tokio::test]
async fn what_changed_nothing_changes_nothing_when_it_comes_again() {
    let server = furnished().await;
    let (first, second) = (server.admin(), second(&server).await);
    let to = |value: &str| Op::update(setting("settings/s", value), &["setting.string_value"]);
    let same = job(to("x"));
    let answer = write(&first, &same).await.expect("it is so already");
    assert!(answer.results[0].diffs.iter().all(|diff| diff.fields.is_empty()), "{answer:?}");
    write(&second, &Job::one(to("y"))).await.expect("a change");
    let (changed, before) = (get(&server, "settings/s").await.unwrap(), first.status().await);
    assert_eq!(write(&first, &same).await.expect("the answer again"), answer);
    assert_eq!(get(&server, "settings/s").await.unwrap(), changed, "the other's change stands");
    assert_eq!(first.status().await.revision, before.revision);
}

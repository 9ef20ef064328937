//! Reads of the past: they show what was, but never open a secret, neither an old one nor the one of today.

use std::{fs, sync::Arc};

use signalbox::proto::v1::{GetResourceRequest, ListResourcesRequest, ListResourcesResponse, secret::State};

use crate::{
    api::{Api, api_key, provider, secret_setting, secrets_of, setting},
    harness::{Home, Server},
};

const KEY: &str = "providers/groq/apiKeys/k";
const PASS: &str = "settings/pass";
const OLD: &str = "past-key-old~?>-17320508075";
const NEW: &str = "past-key-new~?>-22360679774";
const SAME: &str = "past-pass~?>-26457513110";

/// The only secret of a resource, as an answer has it.
type Shown = (Option<String>, State);

fn masked() -> Shown {
    (None, State::Present)
}

fn open(value: &str) -> Shown {
    (Some(value.to_owned()), State::Present)
}

async fn get(worker: &mut Api, name: &str, revision: u64) -> Shown {
    let request =
        GetResourceRequest { name: name.to_owned(), revision, include_secrets: true, ..Default::default() };
    let answer = worker.config.get_resource(request).await.expect(name).into_inner();
    let [secret] = secrets_of(&answer.resource.expect("a resource")).try_into().expect("one secret");
    (secret.value.clone(), secret.state())
}

async fn list(worker: &mut Api, request: &ListResourcesRequest) -> ListResourcesResponse {
    let request = ListResourcesRequest { include_secrets: true, ..request.clone() };
    worker.config.list_resources(request).await.expect("a list").into_inner()
}

/// Every secret of a list.
fn shown(list: &ListResourcesResponse) -> Vec<(&str, Shown)> {
    let of = |resource| secrets_of(resource).into_iter().map(|secret| (secret.value.clone(), secret.state()));
    list.resources.iter().flat_map(|each| of(each).map(|secret| (each.name.as_str(), secret))).collect()
}

/// The pages of a list of one resource each.
fn page(revision: u64, before: Option<&ListResourcesResponse>) -> ListResourcesRequest {
    let page_token = before.map(|page| page.next_page_token.clone()).unwrap_or_default();
    ListResourcesRequest { page_size: 1, revision, page_token, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_opens_no_secret() {
    let home = Arc::new(Home::new());
    let server = Server::start_in(&home).await;
    let (mut admin, mut worker) = (Api::admin(&server).await, Api::worker(&server).await);
    admin.create("providers/groq", provider(&[])).await;
    admin.create(KEY, api_key(OLD)).await;
    admin.create(PASS, secret_setting(SAME)).await;
    admin.create("settings/z", setting("in the clear")).await;
    // A list that has a second page holds its revision in memory; the one before it is only in the log.
    let first = list(&mut worker, &page(0, None)).await;
    assert_eq!((first.resources[0].name.as_str(), first.revision), ("providers/groq", 4));
    assert_eq!(get(&mut worker, KEY, 0).await, open(OLD), "it is not the past yet");
    assert_eq!(get(&mut worker, KEY, 4).await, open(OLD), "nor by its number");

    admin.update(KEY, api_key(NEW)).await;
    assert_eq!(get(&mut worker, KEY, 0).await, open(NEW));
    assert_eq!(get(&mut worker, KEY, 5).await, open(NEW));
    for revision in [3, 4] {
        for name in [KEY, PASS] {
            assert_eq!(get(&mut worker, name, revision).await, masked(), "{name} at {revision}");
        }
        let whole = list(&mut worker, &ListResourcesRequest { revision, ..Default::default() }).await;
        assert_eq!(shown(&whole), [(KEY, masked()), (PASS, masked())], "at {revision}");
        let mut pages = list(&mut worker, &page(revision, None)).await;
        for name in [KEY, PASS] {
            pages = list(&mut worker, &page(revision, Some(&pages))).await;
            assert_eq!(shown(&pages), [(name, masked())], "page by page at {revision}");
        }
    }
    // The list that was begun before goes on: with what is still the secret of today, and without what is not.
    let second = list(&mut worker, &page(0, Some(&first))).await;
    assert_eq!((shown(&second), second.revision), (vec![(KEY, masked())], 4));
    let third = list(&mut worker, &page(0, Some(&second))).await;
    assert_eq!((shown(&third), third.revision), (vec![(PASS, open(SAME))], 4));

    assert!(admin.undecryptable().await.is_empty(), "nothing is wrong with any secret");
    server.stop().await;
    let log = fs::read_to_string(home.path("server.log")).unwrap();
    assert!(!log.contains("can't be decrypted"), "{log}");
}

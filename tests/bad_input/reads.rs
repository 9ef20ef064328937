//! Reads, streams and chores that make no sense, and bytes that are no message.

use super::*;

#[tokio::test]
async fn reads_that_make_no_sense() {
    let server = furnished().await;
    let selectors = |count: usize| vec![by_kind("setting"); count];
    let of = |selectors: Vec<Selector>| ListResourcesRequest { selectors, ..Default::default() };
    let page = |page_token: &str| {
        list(ListResourcesRequest { page_token: page_token.to_owned(), ..Default::default() })
    };
    let next = |server: &Server| {
        let admin = server.admin();
        async move {
            let mut config = admin.config();
            let first = ListResourcesRequest { page_size: 1, ..Default::default() };
            config.list_resources(first).await.unwrap().into_inner().next_page_token
        }
    };
    let own = next(&server).await;
    let foreign = next(&furnished().await).await;
    let other_query =
        ListResourcesRequest { page_token: own.clone(), selectors: selectors(1), ..Default::default() };
    let forged = support::watcher::rewritten(&own, |bytes| bytes[3] ^= 1);
    let at = |revision| {
        Call::Get(GetResourceRequest { name: "settings/s".into(), revision, ..Default::default() })
    };
    let newer = |token: &str| {
        Call::Get(GetResourceRequest {
            name: "settings/s".into(),
            min_revision_token: token.into(),
            ..Default::default()
        })
    };
    let foreign_token = Server::start().await.admin().status().await.revision_token;
    let admin = server.admin();
    admin.admin().compact_log(CompactLogRequest { revision: 2 }).await.unwrap();
    refused(
        &server,
        vec![
            ("65 selectors", list(of(selectors(65))), INVALID, "TOO_MANY", "selectors"),
            (
                "an unknown kind",
                list(of(vec![by_kind("planet")])),
                INVALID,
                "INVALID_NAME",
                "selectors[0].kind",
            ),
            (
                "a prefix without its slash",
                list(of(vec![by_prefix("providers")])),
                INVALID,
                "INVALID_NAME",
                "selectors[0].prefix",
            ),
            (
                "an empty prefix",
                list(of(vec![by_prefix("")])),
                INVALID,
                "INVALID_NAME",
                "selectors[0].prefix",
            ),
            (
                "a prefix with NUL",
                list(of(vec![by_prefix("providers/\0/")])),
                INVALID,
                "INVALID_NAME",
                "selectors[0].prefix",
            ),
            (
                "a label with a space",
                list(of(vec![narrowed(by_kind("setting"), "a b", "x")])),
                INVALID,
                "INVALID_FORMAT",
                "selectors[0].labels.\"a b\"",
            ),
            (
                "a negative page",
                list(ListResourcesRequest { page_size: -1, ..Default::default() }),
                INVALID,
                "OUT_OF_RANGE",
                "page_size",
            ),
            ("a page token that is none", page("nonsense"), INVALID, "INVALID_PAGE_TOKEN", "page_token"),
            ("a giant page token", page(&"A".repeat(100_000)), INVALID, "INVALID_PAGE_TOKEN", "page_token"),
            ("a page token of another server", page(&foreign), INVALID, "INVALID_PAGE_TOKEN", "page_token"),
            ("a page token that was changed", page(&forged), INVALID, "INVALID_PAGE_TOKEN", "page_token"),
            ("a page token of another list", list(other_query), INVALID, "INVALID_PAGE_TOKEN", "page_token"),
            (
                "a filter that is none",
                list(ListResourcesRequest { filter: "AND (".into(), ..Default::default() }),
                INVALID,
                "INVALID_FILTER",
                "filter",
            ),
            (
                "a giant filter",
                list(ListResourcesRequest { filter: "a = 1 AND ".repeat(1000), ..Default::default() }),
                INVALID,
                "INVALID_FILTER",
                "filter",
            ),
            (
                "a deep filter",
                list(ListResourcesRequest { filter: "(".repeat(4000), ..Default::default() }),
                INVALID,
                "INVALID_FILTER",
                "filter",
            ),
            ("a revision ahead", at(1_000_000), Code::OutOfRange, "AHEAD", ""),
            ("a revision that is compacted", at(1), Code::OutOfRange, "COMPACTED", ""),
            (
                "a revision token that is none",
                newer("nonsense"),
                INVALID,
                "INVALID_TOKEN",
                "min_revision_token",
            ),
            (
                "a revision token of another store",
                newer(&foreign_token),
                Code::FailedPrecondition,
                "OTHER_STORE",
                "",
            ),
            (
                "something that is not there",
                Call::Get(GetResourceRequest { name: "settings/none".into(), ..Default::default() }),
                Code::NotFound,
                "NOT_FOUND",
                "",
            ),
        ],
    )
    .await;
    let status = call(&admin, at(1)).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().metadata["floor_revision"], "2", "the floor is told");
}

/// The words of a page token lie open; only its MAC keeps them as they were.
#[tokio::test]
async fn no_byte_of_a_page_token_can_be_changed() {
    let server = furnished().await;
    let admin = server.admin();
    let ask = async |request: ListResourcesRequest| admin.config().list_resources(request).await;
    let page = ListResourcesRequest { page_size: 1, ..Default::default() };
    let token = ask(page).await.unwrap().into_inner().next_page_token;
    let of = |page_token: String| ListResourcesRequest { page_token, ..Default::default() };
    assert_eq!(ask(of(token.clone())).await.unwrap().into_inner().resources.len(), 2, "as it is, it is good");
    let mut length = 0;
    support::watcher::rewritten(&token, |bytes| length = bytes.len());
    assert!(length > 32, "{token}");
    for at in 0..length {
        // The lowest bit turns a digit into a digit and a letter into a letter: mostly it still can be read.
        let changed = support::watcher::rewritten(&token, |bytes| bytes[at] ^= 1);
        let status = ask(of(changed)).await.expect_err("a token that was changed");
        judge(&status, INVALID, "INVALID_PAGE_TOKEN", "page_token")
            .unwrap_or_else(|why| panic!("{at}: {why}"));
    }
}

#[tokio::test]
async fn a_page_token_goes_on_with_its_own_list_only() {
    let server = furnished().await;
    let revision = server.admin().status().await.revision;
    let first = || ListResourcesRequest { page_size: 1, ..Default::default() };
    let token = server.admin().config().list_resources(first()).await.unwrap().into_inner().next_page_token;
    let on = || ListResourcesRequest { page_token: token.clone(), ..Default::default() };
    let other = |what, request| (what, list(request), INVALID, "INVALID_PAGE_TOKEN", "page_token");
    let worker = support::caller::Rights::worker(vec![Selector::default()], true);
    let worker = server.admin().colleague("w", &worker).await;
    refused_to(
        &worker,
        &server,
        vec![
            other("other selectors", ListResourcesRequest { selectors: vec![by_kind("setting")], ..on() }),
            other("another filter", ListResourcesRequest { filter: "name = \"settings/s\"".into(), ..on() }),
            other("a revision", ListResourcesRequest { revision, ..on() }),
            other("secrets", ListResourcesRequest { include_secrets: true, ..on() }),
        ],
    )
    .await;
    call(&worker, list(ListResourcesRequest { page_size: 2, ..on() }))
        .await
        .expect("pages may differ in size");
}

#[tokio::test]
async fn streams_and_chores_that_make_no_sense() {
    let server = furnished().await;
    let watch = Call::Watch;
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let worker = |worker: Worker| watch(WatchConfigRequest { worker: Some(worker), ..Default::default() });
    let day = prost_types::Duration { seconds: 86_400, nanos: 0 };
    let sound = || CreateTokenRequest {
        role: Role::Worker.into(),
        subject: "w".into(),
        ttl: Some(day),
        ..Default::default()
    };
    let token = Call::Token;
    refused(
        &server,
        vec![
            (
                "65 selectors",
                watch(WatchConfigRequest { selectors: vec![by_kind("setting"); 65], ..Default::default() }),
                INVALID,
                "TOO_MANY",
                "selectors",
            ),
            (
                "a negative heartbeat",
                watch(WatchConfigRequest { progress_interval: Some(negative), ..Default::default() }),
                INVALID,
                "OUT_OF_RANGE",
                "progress_interval",
            ),
            (
                "a giant worker",
                worker(Worker { id: "x".repeat(129), ..Default::default() }),
                INVALID,
                "TOO_LONG",
                "worker.id",
            ),
            (
                "a worker with NUL",
                worker(Worker { client_version: "\0".into(), ..Default::default() }),
                INVALID,
                "FORBIDDEN_CHARACTER",
                "worker.client_version",
            ),
            (
                "a token without a role",
                token(CreateTokenRequest { role: 0, ..sound() }),
                INVALID,
                "REQUIRED",
                "role",
            ),
            (
                "a token of an unknown role",
                token(CreateTokenRequest { role: 77, ..sound() }),
                INVALID,
                "REQUIRED",
                "role",
            ),
            (
                "a token of nobody",
                token(CreateTokenRequest { subject: String::new(), ..sound() }),
                INVALID,
                "REQUIRED",
                "subject",
            ),
            (
                "a token for ever",
                token(CreateTokenRequest {
                    ttl: Some(prost_types::Duration { seconds: i64::MAX, nanos: 0 }),
                    ..sound()
                }),
                INVALID,
                "OUT_OF_RANGE",
                "ttl",
            ),
            (
                "a token of the past",
                token(CreateTokenRequest { ttl: Some(negative), ..sound() }),
                INVALID,
                "OUT_OF_RANGE",
                "ttl",
            ),
            (
                "a token without an end",
                token(CreateTokenRequest { ttl: None, ..sound() }),
                INVALID,
                "REQUIRED",
                "ttl",
            ),
            (
                "a grant by labels",
                token(CreateTokenRequest { grants: vec![narrowed(by_kind("setting"), "a", "b")], ..sound() }),
                INVALID,
                "NOT_ALLOWED",
                "grants[0].labels",
            ),
            (
                "65 grants",
                token(CreateTokenRequest { grants: vec![by_kind("setting"); 65], ..sound() }),
                INVALID,
                "TOO_MANY",
                "grants",
            ),
            (
                "secrets for a viewer",
                token(CreateTokenRequest { role: Role::Viewer.into(), include_secrets: true, ..sound() }),
                INVALID,
                "ROLE_MISMATCH",
                "include_secrets",
            ),
            ("a compaction of the future", Call::Compact(1_000_000), Code::OutOfRange, "AHEAD", ""),
            ("an anchor that is none", Call::Verify("nonsense"), INVALID, "INVALID_TOKEN", "anchor_token"),
        ],
    )
    .await;
}

#[tokio::test]
async fn bytes_that_are_no_message() {
    let server = furnished().await;
    let request =
        CreateResourceRequest { resource: Some(setting("settings/new", "PLACE")), ..Default::default() };
    let sound = request.encode_to_vec();
    let place = sound.windows(5).position(|window| window == b"PLACE").expect("the value is in the message");
    let mut not_utf8 = sound.clone();
    not_utf8[place] = 0xFF;
    let cut = sound[..sound.len() - 3].to_vec();
    let selector =
        WatchConfigRequest { selectors: vec![by_name("PLACE")], ..Default::default() }.encode_to_vec();
    let mut bad_selector = selector.clone();
    *bad_selector.last_mut().expect("it is not empty") = 0xFF;
    refused(
        &server,
        vec![
            ("invalid UTF-8", Call::Raw(CREATE, not_utf8), INVALID, "UNDECODABLE", ""),
            ("a message that is cut off", Call::Raw(CREATE, cut), INVALID, "UNDECODABLE", ""),
            ("random bytes", Call::Raw(CREATE, vec![0xA5; 300]), INVALID, "UNDECODABLE", ""),
            ("invalid UTF-8 in a watch", Call::Raw(WATCH, bad_selector), INVALID, "UNDECODABLE", ""),
            ("random bytes in a watch", Call::Raw(WATCH, vec![0xA5; 300]), INVALID, "UNDECODABLE", ""),
            (
                "a message beyond 1 MiB",
                Call::Raw(CREATE, vec![0; (1 << 20) + 1]),
                Code::ResourceExhausted,
                "REQUEST_TOO_LARGE",
                "",
            ),
            (
                "a watch beyond 1 MiB",
                Call::Raw(WATCH, vec![0; (1 << 20) + 1]),
                Code::ResourceExhausted,
                "REQUEST_TOO_LARGE",
                "",
            ),
        ],
    )
    .await;
}

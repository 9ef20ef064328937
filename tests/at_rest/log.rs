//! The log and the state against each other: what was changed by hand is named by `signalbox doctor`, beside a running
//! server and without one, and a tail that is gone is missed by whoever kept a token.

use std::{process::Command, sync::Arc};

use signalbox::proto::v1::{
    DeleteResourceRequest, GetResourceRequest, GetStatusRequest, ResetReason, VerifyLogRequest,
    WatchConfigRequest, watch_config_response::Event,
};

use tonic::Code;

use crate::{
    api::{Api, setting},
    harness::{Home, Server, calls::refusal, http::get, run},
    sqlite::edit,
};

/// Six revisions: a at 1, 2 and 6; b at 3 and gone at 5; c at 4. Answers the newest token.
async fn filled(server: &Server) -> String {
    let mut admin = Api::admin(server).await;
    admin.create("settings/a", setting("one")).await;
    admin.update("settings/a", setting("two")).await;
    admin.create("settings/b", setting("one")).await;
    admin.create("settings/c", setting("one")).await;
    let name = "settings/b".to_owned();
    admin.config.delete_resource(DeleteResourceRequest { name, ..Default::default() }).await.expect("gone");
    admin.update("settings/a", setting("three")).await
}

/// What a doctor printed, who must have found something.
fn findings(output: std::process::Output) -> String {
    let printed = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("restore a backup from before"), "what to do: {printed}");
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_by_hand_is_named_by_the_doctor() {
    let cases: [(&str, &[&str]); 9] = [
        (
            "UPDATE log SET spec = replace(spec, 'two', 'six') WHERE revision = 2",
            &["log_row_edited revision 2 settings/a"],
        ),
        ("UPDATE log SET actor = 'mallory' WHERE revision = 5", &["log_row_edited revision 5 settings/b"]),
        ("DELETE FROM log WHERE revision = 3", &["log_row_missing revision 3"]),
        ("DELETE FROM log WHERE revision = 6", &["log_row_missing revision 6"]),
        (
            "UPDATE log SET revision = 7 - revision + 100 WHERE revision IN (3, 4); \
             UPDATE log SET revision = revision - 100 WHERE revision > 100",
            &["log_row_edited revision 3 settings/c", "log_row_edited revision 4 settings/b"],
        ),
        (
            "UPDATE resources SET spec = replace(spec, 'three', 'six') WHERE name = 'settings/a'",
            &["state_edited revision 6 settings/a"],
        ),
        ("DELETE FROM resources WHERE name = 'settings/c'", &["state_missing settings/c"]),
        (
            "INSERT INTO resources SELECT 'settings/z', kind, uid, labels, version, create_revision, create_time, \
             update_revision, update_time, updated_by, spec, secrets, digest FROM resources WHERE name = 'settings/c'",
            &["state_edited revision 4 settings/z"],
        ),
        ("UPDATE head SET revision = 5, hash = (SELECT hash FROM log WHERE revision = 5)", &["head_edited"]),
    ];
    let home = Arc::new(Home::new());
    let server = Server::start_in(&home).await;
    filled(&server).await;
    server.stop().await;
    let database = home.path("data/signalbox.db");
    let untouched = std::fs::read(&database).unwrap();
    assert!(home.run(&["doctor", "--offline"]).await.status.success(), "nothing to find yet");
    for (sql, expected) in cases {
        std::fs::write(&database, &untouched).unwrap();
        let server = Server::start_in(&home).await;
        assert!(server.run(&["doctor"]).await.status.success(), "nothing to find yet");
        edit(&home, sql).await;
        let online = findings(server.run(&["doctor"]).await);
        server.stop().await;
        let offline = findings(home.run(&["doctor", "--offline"]).await);
        for finding in expected {
            assert!(online.contains(finding), "{sql}\nagainst a server:\n{online}");
            assert!(offline.contains(finding), "{sql}\noffline:\n{offline}");
        }
        // A server on it serves what is there, and says what is wrong.
        let server = Server::start_in(&home).await;
        findings(server.run(&["doctor"]).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_is_gone_is_found_against_a_token() {
    let home = Arc::new(Home::new());
    let server = Server::start_in(&home).await;
    let early = filled(&server).await;
    server.stop().await;
    let database = home.path("data/signalbox.db");
    let before = std::fs::read(&database).unwrap();
    let server = Server::start_in(&home).await;
    let late = Api::admin(&server).await.create("settings/late", setting("acknowledged")).await;
    server.stop().await;

    // The whole file of an hour ago: in itself all is well.
    std::fs::write(&database, &before).unwrap();
    assert!(home.run(&["doctor", "--offline"]).await.status.success());
    let elsewhere = Server::start().await;
    let foreign = Api::admin(&elsewhere).await.create("settings/late", setting("elsewhere")).await;
    let doctor = async |mut command: Command, token: &str| {
        let output = run(command.args(["--anchor", token])).await;
        (
            output.status.code(),
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat(),
        )
    };
    let all = async |command: &dyn Fn() -> Command| {
        assert_eq!(doctor(command(), &early).await.0, Some(0));
        for (token, word) in [(&late, "rolled_back"), (&foreign, "another life")] {
            let (code, told) = doctor(command(), token).await;
            assert!(code == Some(1) && told.contains(word), "{told}");
        }
        let (code, told) = doctor(command(), "nonsense").await;
        assert!(code == Some(2) && told.contains("--anchor"), "{told}");
    };
    all(&|| home.signalbox(&["doctor", "--offline"])).await;
    let server = Server::start_in(&home).await;
    all(&|| server.signalbox(&["doctor"])).await;
    let mut admin = Api::admin(&server).await;
    let mut verify = async |anchor: &str| {
        let request = VerifyLogRequest { anchor_token: anchor.to_owned() };
        let found = admin.admin.verify_log(request).await.expect("an answer").into_inner();
        let reasons: Vec<_> = found.defects.iter().map(|defect| defect.reason.clone()).collect();
        assert_eq!(found.intact, reasons.is_empty());
        reasons
    };
    assert_eq!(verify("").await, [""; 0]);
    assert_eq!(verify(&early).await, [""; 0]);
    assert_eq!(verify(&late).await, ["rolled_back"]);
    // Another history of the same length is not the one that the token saw.
    Api::admin(&server).await.create("settings/late", setting("another")).await;
    assert_eq!(verify(&early).await, [""; 0]);
    assert_eq!(verify(&late).await, ["rolled_back"]);
    // Nor is a read answered from it that wants to be no older than what was lost.
    for (token, code) in [(&early, Code::Ok), (&late, Code::FailedPrecondition)] {
        let least = GetResourceRequest {
            name: "settings/late".to_owned(),
            min_revision_token: token.clone(),
            ..Default::default()
        };
        let answer = admin.config.get_resource(least).await;
        assert_eq!(answer.as_ref().map_or_else(tonic::Status::code, |_| Code::Ok), code, "{answer:?}");
    }

    // A watcher that comes back with it is told, and gets the state anew.
    let mut stream = admin.config.watch_config(WatchConfigRequest::default()).await.unwrap().into_inner();
    let view_id = loop {
        if let Some(Event::Synced(synced)) = stream.message().await.unwrap().unwrap().event {
            break synced.view_id;
        }
    };
    for (resume_token, resets) in [(late, true), (early, false)] {
        let request = WatchConfigRequest { resume_token, view_id: view_id.clone(), ..Default::default() };
        let mut stream = admin.config.watch_config(request).await.unwrap().into_inner();
        match stream.message().await.unwrap().unwrap().event {
            Some(Event::Reset(reset)) => assert!(resets && reset.reason() == ResetReason::OtherStore),
            other => assert!(!resets, "{other:?}"),
        }
    }
}

/// Found by an attack: whoever started on an edited store served what it held as fresh, and wrote on top of it.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_store_found_damaged_at_the_start_is_not_shown_as_fresh() {
    let home = Arc::new(Home::new());
    let server = Server::start_in(&home).await;
    filled(&server).await;
    server.stop().await;
    edit(&home, "UPDATE resources SET spec = replace(spec, 'three', 'six') WHERE name = 'settings/a'").await;
    let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
    let mut admin = Api::admin(&server).await;
    let status = admin.admin.get_status(GetStatusRequest {}).await.expect("an answer").into_inner();
    assert!(status.stale && status.warnings.iter().any(|warning| warning.contains("the store is damaged")));
    let name = "settings/c".to_owned();
    let refused = admin.config.delete_resource(DeleteResourceRequest { name, ..Default::default() }).await;
    assert_eq!(refusal(refused), (Code::FailedPrecondition, "STORE_DAMAGED".into()));
    let page = get(server.http_address(), "/readyz", "").await;
    assert!(page.code == 200 && page.json()["degraded"][0]["reason"] == "STORE_DAMAGED", "{page:?}");
    server.stop().await;

    // What can't be read at all is not served, and the line says what to do.
    edit(&home, "DELETE FROM head").await;
    let refused = home.refused().await;
    assert!(refused.message.contains("restore a backup"), "{refused:?}");
}

//! Watchers that read nothing of what they are sent: freed, while those that only have nothing to read stay.

use signalbox::proto::v1::{Role, setting_spec::Value, watch_config_response::Event};
use tonic::Code;

use crate::{
    access::status,
    calls::{channel, event, token, watch},
    harness::{Server, soon},
    shutdown::{create, unread},
};

/// Fault 15 of the reliability contract.
#[tokio::test]
async fn a_watcher_that_never_reads_is_cut_and_one_with_nothing_to_read_stays() {
    let server = Server::start_with(&["--stream-stall-timeout", "1s"]).await;
    let idle_token = token(&server, Role::Worker, "idle").await;
    let mut idle = watch(&channel(server.address()).await, &idle_token).await.unwrap();
    let stalled = unread(&server).await;
    for number in 0..4 {
        let next = event(&mut idle).await.unwrap();
        assert!(matches!(next, Some(Event::Changes(_))), "{number}: {next:?}");
    }
    soon(async { while status(&server).await.watchers > 1 {} }).await;
    assert!(server.home().log().contains("leaves unread what it is sent"), "{}", server.home().log());
    let mut stalled = stalled;
    let end = loop {
        match soon(stalled.message()).await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    // What had reached the client it may still read; then the connection is gone.
    assert!(matches!(&end, Err(status) if status.code() != Code::Ok), "{end:?}");
    let mut config = signalbox::proto::v1::config_service_client::ConfigServiceClient::new(
        channel(server.address()).await,
    );
    let request = create(&server.admin_token(), "settings/after", Value::BoolValue(true));
    config.create_resource(request).await.unwrap();
    let next = event(&mut idle).await.unwrap();
    assert!(matches!(next, Some(Event::Changes(_))), "{next:?}");
}

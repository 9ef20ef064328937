//! Old defects of others, by name: each is a line of watch.md's "What others got wrong" that one replica can show.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../support/mod.rs"]
mod support;

mod behind;
mod heartbeats;
mod revoked;
mod rights;
mod streams;

use signalbox::proto::v1::{CompactLogRequest, watch_config_response::Event};
use support::{
    caller::Caller,
    resources::setting,
    server::Server,
    truth::Recorder,
    writer::{Op, Writer},
};

fn writer(server: &Server) -> Writer {
    Writer::new(server.admin(), Recorder::default())
}

/// Writes so much that neither the windows of a stream nor a ring of 1 MiB hold it.
async fn flood(writer: &mut Writer, name: &str) -> u64 {
    let mut last = 0;
    for round in 0..60 {
        let resource = setting(name, format!("{round}:{}", "x".repeat(40_000)));
        let op = Op::Update { resource, mask: vec!["*".to_owned()], allow_missing: true };
        last = writer.write(op).await.revision;
    }
    last
}

async fn compact(admin: &Caller, revision: u64) {
    let done = admin.admin().compact_log(CompactLogRequest { revision }).await.expect("the log is compacted");
    assert_eq!(done.get_ref().floor_revision, revision);
}

fn is_progress(at_least: u64) -> impl FnMut(&Event) -> bool {
    move |event| matches!(event, Event::Progress(progress) if progress.revision >= at_least)
}

fn is_synced(event: &Event) -> bool {
    matches!(event, Event::Synced(_))
}

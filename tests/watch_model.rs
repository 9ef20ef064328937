//! The model-based test of the watch contract, against one real server on SQLite; `tests/replicas/model.rs` is the same
//! against three on one PostgreSQL.
//!
//! `SIGNALBOX_TEST_SEED` repeats a run's plan, `SIGNALBOX_TEST_WRITES` enlarges it (writes of each of four writers).

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod harness;
mod support;

use support::{
    caller::Caller,
    model::{Stage, every_row_of_the_table_holds},
    server::Server,
};

impl Stage for Server {
    fn admin(&self) -> Caller {
        Server::admin(self)
    }

    fn each(&self) -> Vec<Caller> {
        vec![Server::admin(self)]
    }

    async fn disturb(&mut self) {
        self.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_for_one_server() {
    let mut server = Server::with(&[("log-ring-bytes", "1MiB"), ("shutdown-grace", "1s")]).await;
    let foreign = Server::start().await.admin().status().await.revision_token;
    every_row_of_the_table_holds(&mut server, &foreign).await;
    server.stop().await;
}

//! The management of changes through gRPC, on both databases: imports and exports, the history, differences of revisions,
//! rollbacks.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod foreign;
#[path = "../harness/mod.rs"]
mod harness;
mod history;
mod imported;
mod keeping;
mod place;
#[path = "../support/postgres.rs"]
mod postgres;
mod property;
mod rollback;
#[path = "../support/mod.rs"]
mod support;
mod switch;
mod transfer;

/// A test of something on a server, once on each database: empty ones, or `started` ones as operators have them.
macro_rules! on_both_databases {
    (started: $($test:ident;)*) => {
        $(mod $test {
            #[tokio::test]
            async fn on_sqlite() {
                super::$test(crate::place::Place::started_on_sqlite().await).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                super::$test(crate::place::Place::started_on_postgres().await).await;
            }
        })*
    };
    ($($(#[$meta:meta])* $test:ident;)*) => {
        $(mod $test {
            $(#[$meta])*
            #[tokio::test]
            async fn on_sqlite() {
                super::$test(crate::place::Place::on_sqlite().await).await;
            }

            $(#[$meta])*
            #[tokio::test]
            async fn on_postgres() {
                super::$test(crate::place::Place::on_postgres().await).await;
            }
        })*
    };
}
use on_both_databases;

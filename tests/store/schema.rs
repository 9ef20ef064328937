//! What goes along when a store moves is held against the schema: a table or column that is new must not stay behind.

use std::collections::{BTreeMap, BTreeSet};

use signalbox::domain::FeatureLevel;
use signalbox::store::{
    moving::tables::{Arrival, TABLES},
    postgres::PostgresDatabase,
    sqlite::SqliteDatabase,
};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

use crate::postgres::server;

/// The first step that says on either database which binaries can run over it.
const FIRST_SAID: (i64, i64) = (6, 9);

/// Of the place, and not of the store: who serves it, and what was done to its schema.
const STAYS: [&str; 10] = [
    "whereabouts",
    "schema_steps",
    "_sqlx_migrations",
    "signalbox_migrations",
    "replicas",
    "vanished",
    "leases",
    "moves",
    "worker_sessions",
    "worker_reports",
];

type Schema = BTreeMap<String, BTreeSet<String>>;

fn gathered(columns: Vec<(String, String)>) -> Schema {
    let mut schema = Schema::new();
    for (table, column) in columns {
        if !STAYS.contains(&table.as_str()) {
            schema.entry(table).or_default().insert(column);
        }
    }
    schema
}

fn moved(name: impl Fn(&signalbox::store::moving::tables::Column) -> &'static str) -> Schema {
    let columns = TABLES.iter().flat_map(|table| {
        // The only row of a table needs no number.
        let id = (table.arrival == Arrival::Replaced).then_some("id");
        table.columns.iter().map(&name).chain(id).map(|column| (table.name.to_owned(), column.to_owned()))
    });
    gathered(columns.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_table_of_sqlite_goes_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signalbox.db");
    SqliteDatabase::open(&path, true).await.unwrap().close().await;
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let columns = sqlx::query_as(
        "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns \
         WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%'",
    );
    assert_eq!(gathered(columns.fetch_all(&mut connection).await.unwrap()), moved(|column| column.name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_table_of_postgres_goes_along() {
    let url = server::shared().database().await;
    drop(PostgresDatabase::open(&url, true).await.unwrap());
    let mut connection = server::connect(&url).await;
    // What the database makes of the text is not copied.
    let columns = sqlx::query_as(
        "SELECT columns.table_name::text, column_name::text FROM information_schema.columns \
         JOIN information_schema.tables USING (table_schema, table_name) \
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND is_generated = 'NEVER'",
    );
    assert_eq!(
        gathered(columns.fetch_all(&mut connection).await.unwrap()),
        moved(|column| column.on_postgres)
    );
}

/// A step without its row would keep the release before out, and one beyond this binary's level this binary.
fn say_what_they_need(first: i64, steps: &[(i64, Option<i64>)]) {
    let said: Vec<_> = steps.iter().filter(|(version, _)| *version >= first).collect();
    assert!(!said.is_empty());
    for (version, needs) in said {
        let level = i64::from(FeatureLevel::CURRENT.0);
        assert!(
            needs.is_some_and(|needs| needs <= level),
            "step {version} ends with its row in `schema_steps`"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_of_sqlite_says_which_binaries_can_run_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signalbox.db");
    SqliteDatabase::open(&path, true).await.unwrap().close().await;
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let steps = "SELECT version, needs FROM _sqlx_migrations LEFT JOIN schema_steps USING (version)";
    say_what_they_need(FIRST_SAID.0, &sqlx::query_as(steps).fetch_all(&mut connection).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_of_postgres_says_which_binaries_can_run_over_it() {
    let url = server::shared().database().await;
    drop(PostgresDatabase::open(&url, true).await.unwrap());
    let mut connection = server::connect(&url).await;
    let steps = "SELECT version, needs FROM signalbox_migrations LEFT JOIN schema_steps USING (version)";
    say_what_they_need(FIRST_SAID.1, &sqlx::query_as(steps).fetch_all(&mut connection).await.unwrap());
}

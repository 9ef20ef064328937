//! What is found in a database before anything is written there.

use signalbox::store::{Log as _, Store as _, StoreError, postgres::PostgresDatabase};
use sqlx::Row as _;

use super::{Database, first_keys, server};
use crate::fixture::{DEADLINE, Place as _, apply, create, labels, put, with_secret, write};

async fn refusal(url: &str, create: bool) -> StoreError {
    match PostgresDatabase::open(url, create).await {
        Ok(database) => panic!("opened {}", database.identity().store_id.0),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_store_is_made_only_if_that_is_asked_for() {
    let place = Database::new().await;
    let error = refusal(&place.0, false).await.to_string();
    assert!(error.contains("there is no store in this database"), "{error}");
    assert!(PostgresDatabase::open(&place.0, true).await.unwrap().identity().fresh);
    assert!(PostgresDatabase::open(&place.0, false).await.is_ok());
}

#[tokio::test]
async fn regression_a_database_or_schema_that_is_not_there_is_told_with_what_to_do() {
    let place = Database::new().await;
    let nowhere = refusal(&format!("{}_of_nobody", place.0), true).await;
    let StoreError::Absent(told) = &nowhere else { panic!("trying again does not make it: {nowhere:?}") };
    assert!(told.contains("createdb") && told.contains("_of_nobody"), "{told}");
    let schema = refusal(&format!("{}?options=-csearch_path%3Dfoo", place.0), true).await.to_string();
    assert!(schema.contains("no such schema") && schema.contains("CREATE SCHEMA"), "{schema}");
}

#[tokio::test]
async fn keys_are_given_once_and_the_identity_is_made_once() {
    let place = Database::new().await;
    let mut first = PostgresDatabase::open(&place.0, true).await.unwrap();
    let mut second = PostgresDatabase::open(&place.0, true).await.unwrap();
    assert_eq!(first.identity(), second.identity());
    assert!(first.initialise(first_keys()).await.unwrap());
    let mut others = first_keys();
    others.check.value = "another".into();
    assert!(!second.initialise(others).await.unwrap());
    assert_eq!(first.identity(), second.identity());
}

#[tokio::test]
async fn another_programs_tables_and_other_schemas_are_left_alone() {
    let place = Database::new().await;
    server::run(&place.0, "CREATE TABLE resources (id INT)").await;
    let error = refusal(&place.0, true).await.to_string();
    assert!(error.contains("tables are in the way"), "{error}");
    server::run(&place.0, "DROP TABLE resources").await;
    PostgresDatabase::open(&place.0, true).await.unwrap();
    for (change, told) in [
        ("INSERT INTO signalbox_migrations VALUES (99, 'future', 'x')", "newer signalbox: its schema is 99"),
        (
            "DELETE FROM signalbox_migrations WHERE version = 99; UPDATE signalbox_migrations SET checksum = 'x'",
            "not the one of this signalbox",
        ),
    ] {
        server::run(&place.0, change).await;
        let error = refusal(&place.0, true).await.to_string();
        assert!(error.contains(told), "{error}");
    }
    let latin = format!("{}_latin", place.0);
    let name = latin.rsplit_once('/').unwrap().1;
    server::run(&place.0, &format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"))
        .await;
    let error = refusal(&latin, true).await.to_string();
    assert!(error.contains("ENCODING 'UTF8'"), "{error}");
}

#[tokio::test]
async fn a_migration_that_another_holds_up_leaves_the_old_schema() {
    let place = Database::new().await;
    let mut other = server::connect(&place.0).await;
    // Something that the migration has to wait for; then its session is killed.
    sqlx::raw_sql("BEGIN; CREATE TABLE audit (id INT)").execute(&mut other).await.unwrap();
    let opening = tokio::spawn({
        let url = place.0.clone();
        async move { PostgresDatabase::open(&url, true).await.map(|_| ()) }
    });
    let killing = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut admin = server::connect(&place.0).await;
    loop {
        let killed: i64 = sqlx::query_scalar(killing).fetch_one(&mut admin).await.unwrap();
        if killed > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(matches!(opening.await.unwrap(), Err(StoreError::Unavailable(_))));
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(tables, 0, "nothing is half there");
    assert!(PostgresDatabase::open(&place.0, true).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_query_the_database_as_json_and_see_no_secrets() {
    let place = Database::new().await;
    let store = place.open().await;
    let mut planned = put("settings/a", 1, "one");
    planned.labels = labels(&[("team", "red")]);
    let mut first = write(vec![]);
    first.sealed.push(with_secret(&mut planned, "secret-1"));
    first.changes.push(signalbox::domain::PlannedChange::Put(Box::new(planned)));
    apply(&*store, first).await;
    let mut connection = server::connect(&place.0).await;
    let row = sqlx::query(
        "SELECT spec -> 'setting' ->> 'stringValue', labels ->> 'team', pg_typeof(spec)::text \
         FROM configuration WHERE spec @> '{\"setting\": {\"stringValue\": \"one\"}}'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(["one", "red", "jsonb"], [row.get::<&str, _>(0), row.get(1), row.get(2)]);
    let history: i64 =
        sqlx::query_scalar("SELECT count(*) FROM history").fetch_one(&mut connection).await.unwrap();
    assert_eq!(history, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_never_be_is_refused_by_the_database() {
    let place = Database::new().await;
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    apply(&*store, create("settings/b", "one")).await;
    store.compact(signalbox::domain::Revision(1)).await.unwrap();
    store.close(DEADLINE).await;
    let mut connection = server::connect(&place.0).await;
    for sql in [
        "UPDATE log SET actor = 'mallory'",
        "DELETE FROM log WHERE revision = 2",
        "TRUNCATE log",
        "UPDATE identity SET store_id = gen_random_uuid()::text",
        "DELETE FROM identity",
        "DELETE FROM head",
        "TRUNCATE head",
        "INSERT INTO head SELECT 2, epoch, revision, hash, digest, floor, floor_hash FROM head",
        "UPDATE head SET revision = 1",
        "UPDATE head SET floor = 0",
        "UPDATE head SET floor = 3",
        "UPDATE head SET epoch = 'garbage'",
        "UPDATE secrets SET token = 'x' WHERE true; INSERT INTO secrets VALUES ('x', 'no such key', 'x')",
        "UPDATE resources SET spec_text = 'garbage'",
        "UPDATE resources SET spec = '{}'",
        "UPDATE resources SET spec_text = '{\"a\":\"\\u0000\"}'",
        "INSERT INTO log SELECT * FROM log",
    ] {
        let done = sqlx::raw_sql(sql).execute(&mut connection).await;
        assert!(done.is_err(), "{sql}");
    }
    sqlx::raw_sql("UPDATE head SET epoch = '0123456789abcdef', revision = 2")
        .execute(&mut connection)
        .await
        .unwrap();
    let store = place.open().await;
    assert_eq!(store.verify(None).await.unwrap().defects, []);
    assert_eq!(store.snapshot().await.unwrap().defect, None);
}

//! The database as somebody with `sqlite3` sees it, and changes it.

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, sqlite::SqliteConnectOptions};

use crate::harness::Home;

fn options(home: &Home) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(home.path("data/signalbox.db")).foreign_keys(false)
}

/// Changes it by hand, past triggers and checks. At least one row must change.
pub async fn edit(home: &Home, sql: &str) {
    let mut connection =
        options(home).pragma("ignore_check_constraints", "ON").connect().await.expect("a database");
    let drops = "DROP TRIGGER IF EXISTS log_is_written_once; DROP TRIGGER IF EXISTS secrets_are_written_once; \
                 DROP TRIGGER IF EXISTS head_stays;";
    sqlx::raw_sql(drops).execute(&mut connection).await.expect("the triggers go");
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
    assert!(done.rows_affected() > 0, "{sql} changes nothing");
    connection.close().await.expect("it closes");
}

/// Answers of a query that asks for text.
pub async fn texts(home: &Home, sql: &str) -> Vec<String> {
    let mut connection = options(home).read_only(true).connect().await.expect("a database");
    let rows = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.expect(sql);
    connection.close().await.expect("it closes");
    rows
}

/// Every value of every table, blobs as they are.
pub async fn everything(home: &Home) -> Vec<u8> {
    let tables = texts(home, "SELECT name FROM sqlite_schema WHERE type = 'table'").await;
    assert!(tables.len() >= 10, "{tables:?}");
    let mut connection = options(home).read_only(true).connect().await.expect("a database");
    let mut all = Vec::new();
    for table in tables {
        let query = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}")));
        for row in query.fetch_all(&mut connection).await.expect("rows") {
            for column in 0..row.len() {
                let value = row.try_get_unchecked::<Option<Vec<u8>>, _>(column).expect("bytes");
                all.extend_from_slice(&value.unwrap_or_default());
                all.push(b'\n');
            }
        }
    }
    connection.close().await.expect("it closes");
    all
}

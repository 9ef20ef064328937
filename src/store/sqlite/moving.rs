//! A file of SQLite as one end of a move: its lock file keeps everybody else out, from the beginning to the end.

use std::path::Path;

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Connection as _, Row as _, Sqlite, SqlitePool, query::Query, sqlite::SqliteArguments,
};

use super::{
    SqliteDatabase,
    moment::SqliteMoment,
    open::{self, Lock},
};
use crate::domain::Release;
use crate::store::{
    StoreError, Verification,
    chain::ChainKeys,
    failure::Failure,
    moving::{
        carrier::{Carrier, Guest, Held, Place},
        tables::{Column, Row, Sort, Table, Value},
    },
    reads,
};

/// Rows of one statement. Few, because SQLite looks at all parameters for each.
const TOGETHER: usize = 40;

impl SqliteDatabase {
    /// Opens the file as one end of a move: even if its store was moved away.
    ///
    /// # Errors
    /// As [`SqliteDatabase::open`]; [`StoreError::Unavailable`] if its schema is newer than this binary's.
    pub async fn hold(release: Release, path: &Path, create: bool) -> Result<Held, StoreError> {
        let Self { writer, readers, identity, options, lock } =
            Self::open_fenced(release, path, create).await?;
        readers.close().await;
        writer.close().await.map_err(Failure::from)?;
        open::know_all(path, &identity, release)?;
        let place = SqlitePlace { pool: open::aside(options), _lock: lock };
        Ok(Held { identity, place: Box::new(place) })
    }
}

struct SqlitePlace {
    /// One connection.
    pool: SqlitePool,
    _lock: Lock,
}

#[async_trait]
impl Place for SqlitePlace {
    async fn begin(&self) -> Result<Box<dyn Carrier>, Failure> {
        Ok(Box::new(SqliteCarrier(SqliteMoment(self.pool.begin_with("BEGIN IMMEDIATE").await?))))
    }

    async fn close(self: Box<Self>) {
        // The last connection folds its log into the file.
        self.pool.close().await;
    }
}

struct SqliteCarrier(SqliteMoment);

type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

#[async_trait]
impl Carrier for SqliteCarrier {
    fn name(&self, column: &Column) -> &'static str {
        column.name
    }

    async fn rows(&mut self, text: String, sorts: &[Sort], given: &[Value]) -> Result<Vec<Row>, Failure> {
        let query = bind_all(sqlx::query(AssertSqlSafe(text)), given);
        let rows = query.fetch_all(&mut *self.0.0).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let values = sorts.iter().enumerate().map(|(index, sort)| {
                Ok(match sort {
                    Sort::Text => row.try_get::<Option<String>, _>(index)?.map(Value::Text),
                    Sort::Integer => row.try_get::<Option<i64>, _>(index)?.map(Value::Integer),
                    Sort::Bytes => row.try_get::<Option<Vec<u8>>, _>(index)?.map(Value::Bytes),
                }
                .unwrap_or(Value::Null))
            });
            values.collect::<Result<Row, sqlx::Error>>()
        };
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    async fn execute(&mut self, text: String, given: &[Value]) -> Result<u64, Failure> {
        let query = bind_all(sqlx::query(AssertSqlSafe(text)), given);
        Ok(query.execute(&mut *self.0.0).await?.rows_affected())
    }

    async fn add(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), Failure> {
        let names: Vec<_> = table.written().iter().map(|column| column.name).collect();
        let row = format!("({})", vec!["?"; names.len()].join(", "));
        for part in rows.chunks(TOGETHER) {
            let marks = vec![row.as_str(); part.len()].join(", ");
            let text = format!("INSERT INTO {} ({}) VALUES {marks}", table.name, names.join(", "));
            let start = sqlx::query(AssertSqlSafe(text));
            let query = part.iter().fold(start, |query, row| bind_all(query, table.content(row)));
            if query.execute(&mut *self.0.0).await?.rows_affected() != part.len() as u64 {
                return Err(Failure::Internal(format!("{} did not take all rows", table.name)));
            }
        }
        Ok(())
    }

    /// Whoever serves a file holds its lock.
    async fn guests(&mut self) -> Result<Vec<Guest>, Failure> {
        Ok(vec![])
    }

    async fn check(&mut self, keys: &ChainKeys) -> Result<Verification, Failure> {
        reads::check(keys, &mut self.0, None).await
    }

    async fn commit(self: Box<Self>) -> Result<(), Failure> {
        Ok(self.0.0.commit().await?)
    }
}

fn bind_all<'q>(query: Statement<'q>, given: &'q [Value]) -> Statement<'q> {
    given.iter().fold(query, |query, value| match value {
        Value::Null => query.bind(None::<String>),
        Value::Integer(number) => query.bind(*number),
        Value::Text(text) => query.bind(text.as_str()),
        Value::Bytes(bytes) => query.bind(bytes.as_slice()),
    })
}

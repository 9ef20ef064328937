//! PostgreSQL as one end of a move: a transaction under the locks of all who write, and rows in and out of it as arrays.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row as _, postgres::PgArguments, query::Query};

use super::{
    PostgresDatabase,
    failure::bounded,
    moment::PostgresMoment,
    open,
    session::{BEGIN_MOVE, LONG_SILENCE, Lease, SILENCE, Server, say},
};
use crate::domain::Release;
use crate::store::{
    StoreError, Verification,
    chain::ChainKeys,
    cluster::LIFETIME,
    failure::Failure,
    moving::{
        carrier::{Carrier, Guest, Held, Place},
        tables::{Column, Row, Sort, Table, Value},
    },
    reads,
};

/// How long the commit of a whole store may take.
const COMMITTING: Duration = Duration::from_secs(120);
/// Who was lately heard of, whatever became of it since.
const GUESTS: &str = "SELECT address, extract(epoch FROM clock_timestamp() - seen)::bigint FROM replicas \
    WHERE seen > clock_timestamp() - make_interval(secs => $1) ORDER BY seen DESC";

impl PostgresDatabase {
    /// Opens the database as one end of a move: even if its store was moved away.
    ///
    /// # Errors
    /// As [`PostgresDatabase::open`]; [`StoreError::Unavailable`] if its schema is newer than this binary's.
    pub async fn hold(release: Release, url: &str, create: bool) -> Result<Held, StoreError> {
        let server = Server::parse(url)?;
        let identity = open::prepare(&server, create, release).await?.identity;
        open::know_all(&identity, release)?;
        Ok(Held { identity, place: Box::new(PostgresPlace(server.readers())) })
    }

    /// Whether the database has a store, be it an empty one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it can't be reached.
    pub async fn exists(release: Release, url: &str) -> Result<bool, StoreError> {
        open::exists(&Server::parse(url)?, release).await
    }

    /// Finds out whether a store could be made in a database that has none. Nothing of it is left.
    ///
    /// # Errors
    /// As [`PostgresDatabase::open`] when it makes one; [`StoreError::Unavailable`] when tables of others are in the way.
    pub async fn rehearse(release: Release, url: &str) -> Result<(), StoreError> {
        open::rehearse(&Server::parse(url)?, release).await
    }
}

struct PostgresPlace(PgPool);

#[async_trait]
impl Place for PostgresPlace {
    async fn begin(&self) -> Result<Box<dyn Carrier>, Failure> {
        Ok(Box::new(PostgresCarrier(Lease::begin(&self.0, BEGIN_MOVE).await?.into())))
    }

    async fn close(self: Box<Self>) {
        // What was not committed is rolled back by the server, whether it hears of it or not.
        let _ = tokio::time::timeout(SILENCE, self.0.close()).await;
    }
}

struct PostgresCarrier(PostgresMoment);

impl PostgresCarrier {
    fn connection(&mut self) -> Result<&mut PgConnection, Failure> {
        self.0.lease.connection()
    }
}

type Statement<'q> = Query<'q, Postgres, PgArguments>;

#[async_trait]
impl Carrier for PostgresCarrier {
    fn name(&self, column: &Column) -> &'static str {
        column.on_postgres
    }

    async fn rows(&mut self, text: String, sorts: &[Sort], given: &[Value]) -> Result<Vec<Row>, Failure> {
        let query = bind_all(sqlx::query(AssertSqlSafe(text)), given).persistent(false);
        let rows = bounded(LONG_SILENCE, query.fetch_all(self.connection()?)).await?;
        let read = |row: &sqlx::postgres::PgRow| {
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
        let query = bind_all(sqlx::query(AssertSqlSafe(text)), given).persistent(false);
        Ok(bounded(LONG_SILENCE, query.execute(self.connection()?)).await?.rows_affected())
    }

    async fn add(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), Failure> {
        let columns = table.written();
        let names: Vec<_> = columns.iter().map(|column| column.on_postgres).collect();
        let arrays = columns.iter().enumerate().map(|(index, column)| {
            let array = match column.sort {
                Sort::Text => "text[]",
                Sort::Integer => "bigint[]",
                Sort::Bytes => "bytea[]",
            };
            format!("${}::{array}", index + 1)
        });
        let arrays: Vec<_> = arrays.collect();
        let text = format!(
            "INSERT INTO {} ({}) SELECT * FROM unnest({})",
            table.name,
            names.join(", "),
            arrays.join(", ")
        );
        let contents: Vec<&[Value]> = rows.iter().map(|row| table.content(row)).collect();
        let start = sqlx::query(AssertSqlSafe(text)).persistent(false);
        let query = columns.iter().enumerate().fold(start, |query, (index, column)| {
            let values = contents.iter().map(|row| &row[index]);
            match column.sort {
                Sort::Text => query.bind(values.map(as_text).collect::<Vec<_>>()),
                Sort::Integer => query.bind(values.map(as_integer).collect::<Vec<_>>()),
                Sort::Bytes => query.bind(values.map(as_bytes).collect::<Vec<_>>()),
            }
        });
        let written = bounded(LONG_SILENCE, query.execute(self.connection()?)).await?.rows_affected();
        match written == rows.len() as u64 {
            true => Ok(()),
            false => Err(Failure::Internal(format!("{} did not take all rows", table.name))),
        }
    }

    async fn guests(&mut self) -> Result<Vec<Guest>, Failure> {
        let lifetime = i64::try_from(LIFETIME.as_secs()).unwrap_or(i64::MAX);
        let sorts = [Sort::Text, Sort::Integer];
        let found = self.rows(GUESTS.to_owned(), &sorts, &[Value::Integer(lifetime)]).await?;
        let guest = |row: Row| match <[Value; 2]>::try_from(row) {
            Ok([address, Value::Integer(seconds)]) => Some(Guest { address: address.into_text(), seconds }),
            _ => None,
        };
        Ok(found.into_iter().filter_map(guest).collect())
    }

    async fn check(&mut self, keys: &ChainKeys) -> Result<Verification, Failure> {
        reads::check(keys, &mut self.0, None).await
    }

    async fn commit(mut self: Box<Self>) -> Result<(), Failure> {
        say(self.connection()?, "COMMIT", COMMITTING).await?;
        self.0.lease.give_back();
        Ok(())
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

fn as_text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn as_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        _ => None,
    }
}

fn as_bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

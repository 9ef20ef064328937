//! What a database gives to a move: one transaction that nobody writes beside, and rows in and out of it.

use async_trait::async_trait;

use super::tables::{Arrival, Column, Fingerprint, Row, Sort, Table, Value};
use crate::{
    domain::keys::Identity,
    store::{Verification, chain::ChainKeys, failure::Failure},
};

/// A database that a move has opened.
pub struct Held {
    /// What it says of itself.
    pub identity: Identity,
    /// Where transactions on it come from.
    pub place: Box<dyn Place>,
}

/// Where a move's transactions come from.
#[async_trait]
pub trait Place: Send + Sync {
    /// Begins a transaction under the lock that whoever writes takes first: until it ends nobody writes beside it, and what
    /// an earlier one was still committing is done or gone.
    async fn begin(&self) -> Result<Box<dyn Carrier>, Failure>;
    /// Lets go of the database.
    async fn close(self: Box<Self>);
}

/// A replica that was lately heard of.
pub struct Guest {
    /// Where it is reached.
    pub address: String,
    /// Seconds since it was heard.
    pub seconds: i64,
}

/// One transaction. Dropped without [`Carrier::commit`], it is as if it had never been.
#[async_trait]
pub trait Carrier: Send {
    /// What a column is called here.
    fn name(&self, column: &Column) -> &'static str;
    /// Rows of a statement with `$1` parameters, whose columns are of these sorts.
    async fn rows(&mut self, text: String, sorts: &[Sort], given: &[Value]) -> Result<Vec<Row>, Failure>;
    /// Carries out a statement with `$1` parameters; how many rows it wrote.
    async fn execute(&mut self, text: String, given: &[Value]) -> Result<u64, Failure>;
    /// Adds rows to a table.
    async fn add(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), Failure>;
    /// Who serves the store now.
    async fn guests(&mut self) -> Result<Vec<Guest>, Failure>;
    /// Checks the log, and the state against it.
    async fn check(&mut self, keys: &ChainKeys) -> Result<Verification, Failure>;
    /// Makes it durable.
    async fn commit(self: Box<Self>) -> Result<(), Failure>;
}

/// Rows that are on their way at once.
const PAGE: usize = 200;

/// Gives the rows of a table, page by page in the order of its key.
pub struct Pages {
    table: &'static Table,
    after: Option<Row>,
    ended: bool,
}

impl Pages {
    /// From the first row.
    pub fn of(table: &'static Table) -> Self {
        Self { table, after: None, ended: false }
    }

    /// The next rows; none at the end.
    pub async fn next(&mut self, carrier: &mut dyn Carrier) -> Result<Vec<Row>, Failure> {
        if self.ended {
            return Ok(vec![]);
        }
        let after = self.after.as_deref().unwrap_or(&[]);
        let rows = carrier.rows(self.text(carrier), &self.sorts(), after).await?;
        self.ended = rows.len() < PAGE;
        self.after = rows.last().map(|row| row[..self.table.key].to_vec());
        Ok(rows)
    }

    fn sorts(&self) -> Vec<Sort> {
        self.table.columns.iter().map(|column| column.sort).collect()
    }

    fn text(&self, carrier: &dyn Carrier) -> String {
        let names: Vec<_> = self.table.columns.iter().map(|column| carrier.name(column)).collect();
        let (key, name) = (names[..self.table.key].join(", "), self.table.name);
        let after = self.after.as_ref().map_or_else(String::new, |row| {
            let marks: Vec<_> = (1..=row.len()).map(|number| format!("${number}")).collect();
            format!(" WHERE ({key}) > ({})", marks.join(", "))
        });
        format!("SELECT {} FROM {name}{after} ORDER BY {key} LIMIT {PAGE}", names.join(", "))
    }
}

/// Writes rows into their table.
pub async fn put(carrier: &mut dyn Carrier, table: &'static Table, rows: &[Row]) -> Result<(), Failure> {
    if table.arrival != Arrival::Replaced {
        return carrier.add(table, rows).await;
    }
    for row in rows {
        let columns = table.columns.iter().enumerate();
        let set = columns.map(|(index, column)| format!("{} = ${}", carrier.name(column), index + 1));
        let text = format!("UPDATE {} SET {} WHERE id = 1", table.name, set.collect::<Vec<_>>().join(", "));
        if carrier.execute(text, row).await? != 1 {
            return Err(Failure::Damaged(format!("its row of {} is missing", table.name)));
        }
    }
    Ok(())
}

/// How many rows a table has.
pub async fn count(carrier: &mut dyn Carrier, table: &Table, which: &str) -> Result<u64, Failure> {
    let text = format!("SELECT count(*) FROM {}{which}", table.name);
    let found = carrier.rows(text, &[Sort::Integer], &[]).await?;
    match found.first().and_then(|row| row.first()) {
        Some(Value::Integer(count)) => Ok(count.unsigned_abs()),
        _ => Err(Failure::Internal(format!("{} can't be counted", table.name))),
    }
}

/// What the content of a table comes down to.
pub async fn fingerprint(carrier: &mut dyn Carrier, table: &'static Table) -> Result<Fingerprint, Failure> {
    let (mut pages, mut found) = (Pages::of(table), Fingerprint::default());
    loop {
        let rows = pages.next(carrier).await?;
        if rows.is_empty() {
            return Ok(found);
        }
        rows.iter().for_each(|row| found.add(table, row));
    }
}

/// A sealed secret of the service: its id, its data key, its token.
pub async fn service_secret(place: &dyn Place, name: &str) -> Result<Option<[String; 3]>, Failure> {
    let mut carrier = place.begin().await?;
    let text = "SELECT id, data_key, token FROM service_secrets WHERE name = $1";
    let rows = carrier.rows(text.to_owned(), &[Sort::Text; 3], &[Value::text(name)]).await?;
    let texts = rows.into_iter().next().map(|row| row.into_iter().map(Value::into_text).collect::<Vec<_>>());
    Ok(texts.and_then(|texts| texts.try_into().ok()))
}

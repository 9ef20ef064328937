//! The copy itself: every row of every table into one transaction of the target, and back again to compare.

use super::{
    MoveError, Order, Progress, Service, Tell,
    carrier::{Carrier, Pages, put},
    fence::{self, Passage, State},
    of_source, of_target,
    tables::{AUDIT, Fingerprint, HEAD, Row, SERVICE_SECRETS, TABLES, Table, Value},
};
use crate::domain::{Epoch, SealedSecret};

/// Rows after which somebody who waits is told again.
const TOLD: u64 = 20_000;
/// Who is named in the audit: the command line has no token.
const ACTOR: &str = "signalbox migrate";

/// A table that was copied, and what it has to come down to.
pub struct Copied {
    /// The table.
    pub table: &'static Table,
    /// What was written.
    pub expected: Fingerprint,
}

/// Copies everything, in a new life, and notes where it came from.
pub async fn copy(
    source: &mut dyn Carrier,
    target: &mut dyn Carrier,
    order: &Order<'_>,
    passage: &Passage,
    tell: Tell<'_>,
) -> Result<Vec<Copied>, MoveError> {
    let mut copied = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        let mut expected = Fingerprint::default();
        let mut pages = Pages::of(table);
        loop {
            let rows = pages.next(source).await.map_err(of_source)?;
            if rows.is_empty() {
                break;
            }
            let rows = revised(table, rows, order);
            write(target, table, &rows, &mut expected).await?;
            if expected.rows.is_multiple_of(TOLD) {
                tell(Progress::Copied { what: table.shown, rows: expected.rows });
            }
        }
        tell(Progress::Copied { what: table.shown, rows: expected.rows });
        let further = added(table, order, passage);
        write(target, table, &further, &mut expected).await?;
        copied.push(Copied { table, expected });
    }
    note(source, target, order, passage).await?;
    Ok(copied)
}

async fn write(
    target: &mut dyn Carrier,
    table: &'static Table,
    rows: &[Row],
    expected: &mut Fingerprint,
) -> Result<(), MoveError> {
    if rows.is_empty() {
        return Ok(());
    }
    rows.iter().for_each(|row| expected.add(table, row));
    put(target, table, rows).await.map_err(of_target)
}

/// The rows as they are to be in the target: all are as they were, but for the life and the secrets of the service.
fn revised(table: &Table, mut rows: Vec<Row>, order: &Order<'_>) -> Vec<Row> {
    if table.name == HEAD.name {
        let epoch = Epoch(rand::random()).to_string();
        rows.iter_mut().filter_map(|row| row.first_mut()).for_each(|first| *first = Value::text(&epoch));
    }
    if table.name == SERVICE_SECRETS.name
        && let Service::Given(name, _) | Service::LeftOut(name) = &order.service
    {
        rows.retain(|row| !row[0].is(name));
    }
    rows
}

/// Rows that only the target has, behind those of the source.
fn added(table: &Table, order: &Order<'_>, passage: &Passage) -> Vec<Row> {
    if table.name == AUDIT.name {
        let detail = format!("move {} from {} to {}", passage.id, order.from, order.to);
        let texts = [order.time.as_str(), ACTOR, "store_moved", &detail].map(Value::text);
        // The database numbers it.
        return vec![std::iter::once(Value::Null).chain(texts).collect()];
    }
    match &order.service {
        Service::Given(name, SealedSecret { id, data_key, token }) if table.name == SERVICE_SECRETS.name => {
            vec![[name, id.0.as_str(), data_key, token].map(Value::text).to_vec()]
        }
        _ => vec![],
    }
}

/// The target remembers this move, and those before it.
async fn note(
    source: &mut dyn Carrier,
    target: &mut dyn Carrier,
    order: &Order<'_>,
    passage: &Passage,
) -> Result<(), MoveError> {
    let before = fence::passages(source).await.map_err(of_source)?;
    for earlier in before.iter().filter(|earlier| earlier.state == State::Arrived) {
        fence::put(target, earlier).await.map_err(of_target)?;
    }
    let arrival = Passage {
        state: State::Arrived,
        place: order.from.clone(),
        other_id: String::new(),
        ..passage.clone()
    };
    fence::put(target, &arrival).await.map_err(of_target)
}

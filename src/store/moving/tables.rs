//! Every table whose rows go along when a store moves, and what a row is on the way: plain values, in the order of columns.
//!
//! What replicas tell of themselves and of their workers, and their leases, stay behind: they are of the old place. A test of the schema holds
//! this list against the tables that there are.

use sha2::{Digest, Sha256};

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// Text.
    Text,
    /// A number of 64 bits.
    Integer,
    /// Bytes.
    Bytes,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name on SQLite, and everywhere else unless told otherwise.
    pub name: &'static str,
    /// Its name on PostgreSQL.
    pub on_postgres: &'static str,
    /// What it holds.
    pub sort: Sort,
}

/// How rows come into their table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// As new ones.
    Added,
    /// In the place of the only one, which every store has from its beginning.
    Replaced,
    /// As new ones, and the database numbers them itself: the first column only orders them.
    Numbered,
}

/// A table.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// What its rows are called when they are counted for a person.
    pub shown: &'static str,
    /// Its columns; the key comes first.
    pub columns: &'static [Column],
    /// Columns of the key, by which rows are ordered.
    pub key: usize,
    /// How rows come into it.
    pub arrival: Arrival,
}

/// A value on its way.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// None.
    Null,
    /// A number.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A row on its way.
pub type Row = Vec<Value>;

const fn column(name: &'static str, sort: Sort) -> Column {
    Column { name, on_postgres: name, sort }
}

const fn text(name: &'static str) -> Column {
    column(name, Sort::Text)
}

const fn number(name: &'static str) -> Column {
    column(name, Sort::Integer)
}

const fn bytes(name: &'static str) -> Column {
    column(name, Sort::Bytes)
}

/// Kept as text on PostgreSQL too, beside the JSONB that the database makes of it.
const fn json(name: &'static str, on_postgres: &'static str) -> Column {
    Column { name, on_postgres, sort: Sort::Text }
}

const fn table(
    name: &'static str,
    shown: &'static str,
    arrival: Arrival,
    key: usize,
    columns: &'static [Column],
) -> Table {
    Table { name, shown, columns, key, arrival }
}

/// The head row. Its first column is the epoch.
pub static HEAD: Table = table(
    "head",
    "head",
    Arrival::Replaced,
    1,
    &[
        text("epoch"),
        number("revision"),
        bytes("hash"),
        bytes("digest"),
        number("floor"),
        bytes("floor_hash"),
    ],
);
/// The feature level.
pub static FEATURE_LEVEL: Table =
    table("feature_level", "feature level", Arrival::Replaced, 1, &[number("level"), bytes("mac")]);
/// Sealed secrets of the service itself, by name.
pub static SERVICE_SECRETS: Table = table(
    "service_secrets",
    "secrets of the service",
    Arrival::Added,
    1,
    &[text("name"), text("id"), text("data_key"), text("token")],
);
/// The current state.
pub static RESOURCES: Table = table(
    "resources",
    "resources and revocations",
    Arrival::Added,
    1,
    &[
        text("name"),
        text("kind"),
        text("uid"),
        json("labels", "labels_text"),
        number("version"),
        number("create_revision"),
        text("create_time"),
        number("update_revision"),
        text("update_time"),
        text("updated_by"),
        json("spec", "spec_text"),
        json("secrets", "secrets_text"),
        bytes("digest"),
    ],
);
/// The log.
pub static LOG: Table = table(
    "log",
    "rows of the log",
    Arrival::Added,
    2,
    &[
        number("revision"),
        number("ordinal"),
        text("change_type"),
        text("action"),
        text("name"),
        text("kind"),
        text("uid"),
        text("labels"),
        number("version"),
        number("create_revision"),
        text("create_time"),
        text("spec"),
        text("secrets"),
        text("previous_labels"),
        number("previous_revision"),
        text("actor"),
        text("time"),
        text("reason"),
        text("request_id"),
        bytes("digest"),
        bytes("previous_hash"),
        bytes("hash"),
        text("traceparent"),
    ],
);
/// Sealed values.
pub static SECRETS: Table =
    table("secrets", "secrets", Arrival::Added, 1, &[text("id"), text("data_key"), text("token")]);
/// The audit.
pub static AUDIT: Table = table(
    "audit",
    "audit events",
    Arrival::Numbered,
    1,
    &[number("id"), text("time"), text("actor"), text("event"), text("detail")],
);
static OBSERVATIONS: Table = table(
    "observations",
    "observations",
    Arrival::Added,
    2,
    &[text("uid"), text("what"), text("value"), text("time")],
);
static IDENTITY: Table =
    table("identity", "identity", Arrival::Replaced, 1, &[text("store_id"), bytes("password_salt")]);
static KEY_CHECKS: Table =
    table("key_checks", "key checks", Arrival::Added, 1, &[text("kek"), text("value")]);
static DATA_KEYS: Table =
    table("data_keys", "keys", Arrival::Added, 1, &[text("id"), text("kek"), text("wrapped")]);
static CHECKPOINTS: Table = table(
    "checkpoints",
    "checkpoints",
    Arrival::Added,
    1,
    &[number("floor"), bytes("hash"), bytes("digest"), text("time"), bytes("mac")],
);
static REQUESTS: Table = table(
    "requests",
    "answered requests",
    Arrival::Added,
    2,
    &[
        text("principal"),
        text("request_id"),
        bytes("mac"),
        number("revision"),
        bytes("hash"),
        text("time"),
        bytes("outcome"),
    ],
);

/// Every table, in an order that can be written: the identity while there is no key yet, keys before what they seal, and the
/// head last, as ever.
pub static TABLES: [&Table; 13] = [
    &IDENTITY,
    &KEY_CHECKS,
    &DATA_KEYS,
    &SECRETS,
    &SERVICE_SECRETS,
    &RESOURCES,
    &LOG,
    &CHECKPOINTS,
    &REQUESTS,
    &AUDIT,
    &OBSERVATIONS,
    &FEATURE_LEVEL,
    &HEAD,
];

impl Table {
    /// The columns that are written: all but a number that the database gives itself.
    pub fn written(&self) -> &'static [Column] {
        match self.arrival {
            Arrival::Numbered => &self.columns[1..],
            Arrival::Added | Arrival::Replaced => self.columns,
        }
    }

    /// A row's values for [`Table::written`].
    pub fn content<'r>(&self, row: &'r [Value]) -> &'r [Value] {
        &row[self.columns.len() - self.written().len()..]
    }
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Whether it is this text.
    pub fn is(&self, text: &str) -> bool {
        matches!(self, Self::Text(own) if own == text)
    }

    /// The text; empty for anything else.
    pub fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            _ => String::new(),
        }
    }
}

/// What the content of a table comes down to, in whatever order its rows are fed: how many they are, and the sum of their
/// hashes. It finds what was lost or changed on the way; what was forged is found by the chain of the log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fingerprint {
    /// Rows so far.
    pub rows: u64,
    sum: u128,
}

impl Fingerprint {
    /// Takes a row in.
    pub fn add(&mut self, table: &Table, row: &[Value]) {
        let mut hash = Sha256::new();
        for value in table.content(row) {
            match value {
                Value::Null => field(&mut hash, 0, &[]),
                Value::Integer(number) => field(&mut hash, 1, &number.to_le_bytes()),
                Value::Text(text) => field(&mut hash, 2, text.as_bytes()),
                Value::Bytes(bytes) => field(&mut hash, 3, bytes),
            }
        }
        let mut half = [0; 16];
        half.copy_from_slice(&hash.finalize()[..16]);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half));
    }
}

/// With its sort and its length before it, so that no two rows read alike.
fn field(hash: &mut Sha256, sort: u8, bytes: &[u8]) {
    hash.update([sort]);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

//! The store's rules, held against SQLite.

mod conformance;
mod fixture;
mod model;
mod sqlite;
mod tampering;

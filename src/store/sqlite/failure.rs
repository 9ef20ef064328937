//! What SQLite's own codes mean.

use crate::store::failure::Failure;

/// Primary result codes of SQLite, which extended ones hold in their low byte.
mod code {
    pub const PERM: i32 = 3;
    pub const BUSY: i32 = 5;
    pub const LOCKED: i32 = 6;
    pub const NOMEM: i32 = 7;
    pub const READONLY: i32 = 8;
    pub const IOERR: i32 = 10;
    pub const CORRUPT: i32 = 11;
    pub const FULL: i32 = 13;
    pub const CANTOPEN: i32 = 14;
    pub const PROTOCOL: i32 = 15;
    pub const TOOBIG: i32 = 18;
    pub const CONSTRAINT: i32 = 19;
    pub const NOTADB: i32 = 26;
}

/// What a code of SQLite means.
pub fn failure_of(code: i32, message: &str) -> Failure {
    match code & 0xff {
        code::FULL => Failure::Unavailable("the disk is full"),
        code::IOERR => Failure::Unavailable("the disk does not read or write"),
        code::BUSY | code::LOCKED | code::PROTOCOL => {
            Failure::Unavailable("another process holds the database")
        }
        code::READONLY | code::PERM => Failure::Unavailable("the database can't be written"),
        code::CANTOPEN => Failure::Unavailable("the database can't be opened"),
        code::NOMEM => Failure::Unavailable("there is no memory left"),
        code::CORRUPT => Failure::Damaged("its pages contradict each other".into()),
        code::NOTADB => Failure::Damaged("it is no database".into()),
        code::CONSTRAINT | code::TOOBIG => Failure::Refused(message.to_owned()),
        _ => Failure::Internal(format!("database error {code}: {message}")),
    }
}

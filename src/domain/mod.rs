//! The engine's own words: names, selectors, revisions, records, changes, preconditions, principals, errors.
//!
//! Everything else stands on this room. It must not know tonic, sqlx or tokio: what is here is data and rules, and
//! can be tested without a runtime.

pub mod audit;
pub mod change;
pub mod clock;
pub mod error;
pub mod fleet;
pub mod keys;
pub mod limits;
pub mod name;
pub mod observation;
pub mod principal;
pub mod record;
pub mod replica;
pub mod revision;
pub mod revocation;
pub mod selector;
pub mod spec;
pub mod violations;
pub mod write;

pub use crate::trace_context::TraceContext;
pub use change::{Action, ChangeType, LoggedChange, Previous, RevisionBatch, Revocation};
pub use clock::{Clock, OffsetClock, SystemClock};
pub use error::{Error, FieldViolation, Result, Unmet};
pub use fleet::{Rejection, Report, Session, SessionId};
pub use name::{KindName, ResourceName};
pub use observation::{Matter, Observation};
pub use principal::{Principal, Role, Subject};
pub use record::{Etag, FieldPath, Labels, Record, SealedSecret, SecretId, Spec, Uid};
pub use replica::{FeatureLevel, Release, ReplicaId};
pub use revision::{ChainHash, Epoch, Revision, RevisionToken, StoreId};
pub use revocation::RevocationSet;
pub use selector::{Pattern, Selector};
pub use violations::{Text, Violations};
pub use write::{Applied, ApplyError, PlannedChange, Read, WriteSet};

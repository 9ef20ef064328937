//! What every write takes, and which verbs write.

use clap::Args;

use super::{Keys, Verb};

/// What every write takes.
#[derive(Args, Clone, Default)]
pub struct Write {
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the history
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Makes the write idempotent for a day: the same id and content are carried out once
    #[arg(long, default_value = "", hide_default_value = true)]
    pub request_id: String,
}

impl Verb {
    /// What this verb takes as a write, if it is one. An import names its requests itself: it may send more than one.
    fn write_mut(&mut self) -> Option<&mut Write> {
        match self {
            Self::Set(args) => Some(&mut args.write),
            Self::Delete(args) => Some(&mut args.write),
            Self::Rollback(args) => Some(&mut args.write),
            Self::Switch(args) if args.provider.is_some() => Some(&mut args.write),
            Self::Default(args) if args.provider.is_some() || args.none => Some(&mut args.write),
            Self::Keys(Keys::Rotate(args)) => Some(&mut args.write),
            _ => None,
        }
    }

    /// Gives a write a request id if it has none, so that whoever hears no answer can learn what became of it. The id, if there is
    /// one now.
    pub fn name_request(&mut self) -> Option<String> {
        let write = self.write_mut().filter(|write| !write.dry_run)?;
        if write.request_id.is_empty() {
            write.request_id = uuid::Uuid::new_v4().to_string();
        }
        Some(write.request_id.clone())
    }
}

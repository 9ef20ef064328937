//! Feeds a [`Checker`] from one read transaction, row by row, so that memory stays small.

use futures_util::TryStreamExt as _;
use sqlx::{FromRow as _, Row as _};

use super::{commit::read_head, failure::Failure, reads::Reader};
use crate::{
    domain::Revision,
    store::{
        Defect, Verification,
        rows::{CheckpointRow, LogRow, ResourceRow},
        sql,
        verify::Checker,
    },
};

impl Reader {
    /// See [`crate::store::Store::verify`]. An answer with defects is still an answer; an error is a database that
    /// can't be read.
    pub async fn verify(&self, anchor: Option<(Revision, [u8; 16])>) -> Result<Verification, Failure> {
        let mut transaction = self.pool.begin().await?;
        let head = match read_head(&mut transaction).await {
            Ok(head) => head,
            Err(Failure::Damaged(text)) => return Ok(broken_head(text)),
            Err(failure) => return Err(failure),
        };
        let mut checker = Checker::new(&self.keys, head, anchor);
        let checkpoints: Vec<CheckpointRow> =
            sqlx::query_as(sql::CHECKPOINTS).fetch_all(&mut *transaction).await?;
        checkpoints.iter().for_each(|row| checker.checkpoint(row));
        checker.end_of_checkpoints(checkpoints.last().map(|row| row.floor));
        {
            let mut rows = sqlx::query(sql::LOG).fetch(&mut *transaction);
            while let Some(row) = rows.try_next().await? {
                match LogRow::from_row(&row) {
                    Ok(row) => checker.log_row(&row),
                    Err(_) => checker.unreadable_log_row(row.try_get("revision").ok()),
                }
            }
        }
        checker.end_of_log();
        let mut rows = sqlx::query(sql::RESOURCES).fetch(&mut *transaction);
        while let Some(row) = rows.try_next().await? {
            match ResourceRow::from_row(&row) {
                Ok(row) => checker.state_row(&row),
                Err(_) => checker.unreadable_state_row(),
            }
        }
        Ok(checker.finish())
    }
}

fn broken_head(description: String) -> Verification {
    let defect = Defect { reason: "head_edited", revision: None, name: None, description };
    Verification { defects: vec![defect], ..Verification::default() }
}

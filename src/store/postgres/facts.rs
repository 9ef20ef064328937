//! What a group of writes asks of PostgreSQL: in the message that takes the head row's lock, so that neither its caller nor other
//! replicas wait for further ways to the server and back.
//!
//! A message of several statements has no parameters. What is asked for is spelled in it, in digits alone ([`spelled`]).

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, FromRow as _, PgConnection, Row as _, SqlSafeStr as _, SqlStr, postgres::PgRow};

use super::session::{Answers, BEGIN_WRITE, SILENCE, all, first};
use crate::{
    domain::WriteSet,
    store::{
        failure::Failure,
        plan::{Facts, Wanted},
        rows::{HeadState, RequestRow, ResourceRow},
        sql,
    },
};

const REQUESTS_NAMED: &str = "SELECT requests.* FROM unnest($1::text[], $2::text[]) AS wanted (principal, id) \
    JOIN requests ON requests.principal = wanted.principal AND requests.request_id = wanted.id";
const RESOURCES_NAMED: &str = "SELECT name, kind, uid, labels_text AS labels, version, create_revision, create_time, \
    update_revision, update_time, updated_by, spec_text AS spec, secrets_text AS secrets, digest \
    FROM resources WHERE name = ANY(ARRAY[$1]::text[])";

/// What a group has to know.
pub struct Question<'a>(Wanted<'a>);

/// What a group has to know, and the answers: one for all names, and one for each prefix.
pub struct Found<'a>(Wanted<'a>, Answers);

impl<'a> Question<'a> {
    /// Of a group.
    pub fn of(writes: &'a [WriteSet]) -> Self {
        let mut wanted = Wanted::default();
        writes.iter().for_each(|write| wanted.add(write));
        Self(wanted)
    }

    /// What begins a write, takes the lock, and asks.
    pub fn text(&self) -> SqlStr {
        let Wanted { names, prefixes, changed_prefixes, requests: _ } = &self.0;
        let names: Vec<String> = names.iter().copied().map(spelled).collect();
        let beneath = |text: &str, prefix: &str| {
            text.replace("$1", &spelled(prefix)).replace("$2", &spelled(&sql::beyond(prefix)))
        };
        let mut statements = vec![BEGIN_WRITE.to_owned(), RESOURCES_NAMED.replace("$1", &names.join(", "))];
        statements.extend(prefixes.iter().map(|prefix| beneath(sql::NEWEST_BENEATH, prefix)));
        statements.extend(changed_prefixes.iter().map(|prefix| beneath(sql::NEWEST_CHANGE_BENEATH, prefix)));
        AssertSqlSafe(statements.join("; ")).into_sql_str()
    }

    /// Takes what was asked out of what the text's statements answered, and leaves what its beginning did.
    pub fn found(self, answers: &mut Answers) -> Found<'a> {
        let asked = 1 + self.0.prefixes.len() + self.0.changed_prefixes.len();
        let found = answers.split_off(answers.len().saturating_sub(asked));
        Found(self.0, found)
    }
}

impl Found<'_> {
    /// What the group is planned on, as if none of its requests had been carried out before.
    pub fn facts(&self, head: HeadState) -> Result<Facts, Failure> {
        let Self(wanted, answers) = self;
        let mut answers = answers.iter();
        let resources: Vec<ResourceRow> =
            answers.next().into_iter().flatten().map(ResourceRow::from_row).collect::<Result<_, _>>()?;
        let mut newest = |prefix: &&str| {
            let row = answers.next().and_then(|rows| rows.first());
            Ok(((*prefix).to_owned(), row.map_or(Ok(0), |row: &PgRow| row.try_get(0))?))
        };
        let newest_beneath = wanted.prefixes.iter().map(&mut newest).collect::<Result<_, sqlx::Error>>()?;
        let newest_change_beneath =
            wanted.changed_prefixes.iter().map(newest).collect::<Result<_, sqlx::Error>>()?;
        Ok(Facts {
            head,
            resources: resources.into_iter().map(|row| (row.name.clone(), row)).collect(),
            requests: HashMap::new(),
            log_hashes: HashMap::new(),
            newest_beneath,
            newest_change_beneath,
        })
    }

    /// Adds what became of the requests, if they were carried out before.
    pub async fn look_up(&self, connection: &mut PgConnection, facts: &mut Facts) -> Result<(), Failure> {
        let (principals, ids): (Vec<&str>, Vec<&str>) = self.0.requests.iter().copied().unzip();
        let query = sqlx::query(REQUESTS_NAMED).bind(principals).bind(ids);
        let requests: Vec<RequestRow> = all(connection, query, SILENCE).await?;
        for row in requests {
            let hash: Option<(Vec<u8>,)> =
                first(connection, sqlx::query(sql::HASH_AT).bind(row.revision)).await?;
            facts.log_hashes.extend(hash.map(|(hash,)| (row.revision, hash)));
            facts.requests.insert((row.principal.clone(), row.request_id.clone()), row);
        }
        Ok(())
    }
}

/// A text as SQL that nothing but this text can come out of, whatever is in it and however the database reads quotes.
fn spelled(text: &str) -> String {
    format!("convert_from(decode('{}', 'hex'), 'UTF8')", hex::encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_spelled_in_digits_alone() {
        for text in ["", "settings/a", "'; DROP TABLE log; --", "\\' $1 $2 ä\n\0"] {
            let spelled = spelled(text);
            let inner = spelled.strip_prefix("convert_from(decode('").unwrap();
            let digits = inner.strip_suffix("', 'hex'), 'UTF8')").unwrap();
            assert!(digits.chars().all(|digit| digit.is_ascii_hexdigit()), "{spelled}");
            assert_eq!(hex::decode(digits).unwrap(), text.as_bytes());
        }
    }
}

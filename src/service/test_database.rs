//! A database is tried for real: connected to and signed in to with its stored password.

use serde_json::json;
use tokio::time::Instant;

use super::{Service, fields::parse_unrepeated, probe::since, provider::entry_of};
use crate::{
    crypto::SecretText,
    domain::{Error, KindName, Matter, Observation, Principal, Result, Spec},
    outbound::{DEADLINE, Fault, Found, Login, Refusal, Trouble},
    proto::v1::{DatabaseSpec, DatabaseTestReason, TestDatabaseRequest, TestDatabaseResponse},
    view::Entry,
    watch::timestamp,
};

const DATABASE: KindName = KindName("database");
const PASSWORD: &str = "database.password";

impl Service {
    /// Connects to a database with its stored password.
    ///
    /// # Errors
    /// `Invalid`, `PermissionDenied`, `NotFound`, `Unavailable` when it can't be audited. A connection that fails is no error.
    pub async fn test_database(
        &self,
        caller: &Principal,
        request: &TestDatabaseRequest,
    ) -> Result<TestDatabaseResponse> {
        let name = parse_unrepeated("name", &request.name, DATABASE.0)?;
        // One state: the password goes to the host that was stored with it.
        let state = self.parts.view.state();
        let entry = entry_of(caller, &state, "name", &name, DATABASE)?;
        let Spec::Database(spec) = &entry.record.spec else {
            return Err(Error::internal("a database holds another kind's spec"));
        };
        self.audit(caller, "database_tested", name.to_string()).await?;
        let begun = Instant::now();
        let answer = match self.password(entry) {
            Ok(password) => {
                let login = Login { spec, password: password.as_ref() };
                told(spec, self.parts.outbound.try_database(&login, begun + DEADLINE).await)
            }
            Err(description) => TestDatabaseResponse {
                reason: DatabaseTestReason::PasswordUnreadable.into(),
                description,
                ..TestDatabaseResponse::default()
            },
        };
        let time = self.parts.clock.now();
        let answer = TestDatabaseResponse { latency: since(begun), time: Some(timestamp(time)), ..answer };
        let (uid, value_json) = (entry.record.uid.clone(), outcome(&answer, begun));
        self.remember(Observation { uid, what: Matter::TEST, value_json, time });
        Ok(answer)
    }

    /// Opens the stored password. To be called once the test is audited.
    ///
    /// # Errors
    /// What to say where it can't be opened. Nothing else is then tried in its place.
    fn password(&self, entry: &Entry) -> Result<Option<SecretText>, String> {
        let (opened, closed) = self.parts.revealer.open_all(&entry.record, &entry.sealed);
        if closed.iter().any(|field| field.0 == PASSWORD) {
            return Err(format!(
                "the password of {} can't be decrypted, so that nothing was sent: give the server the key that it was \
                 sealed with, or store the password again",
                entry.record.name
            ));
        }
        Ok(opened.into_iter().find(|(field, _)| field.0 == PASSWORD).map(|(_, password)| password))
    }
}

/// What is told of what was found.
fn told(spec: &DatabaseSpec, found: Found) -> TestDatabaseResponse {
    let Found { version, encrypted, trouble } = found;
    let (reason, description, server_code) = match trouble {
        None => (DatabaseTestReason::Ok, String::new(), String::new()),
        Some(Trouble::Fault(fault)) => {
            let (reason, description) = of_fault(fault);
            (reason, description, String::new())
        }
        Some(Trouble::Unsupported(why)) => {
            let description = format!("{why}: try it from where the workers run");
            (DatabaseTestReason::Unsupported, description, String::new())
        }
        Some(Trouble::NotTried) => {
            let description = "the server is there; user and password were not tried, because `tls_mode` does not prove \
                that it is the server, and what is said to it gives the password away to who guesses: set `tls_mode` to \
                DATABASE_TLS_MODE_VERIFY_FULL, or try them from where the workers run";
            (DatabaseTestReason::CredentialsNotTried, description.to_owned(), String::new())
        }
        Some(Trouble::Lacks(what)) => {
            let description = format!("the server wants a {what}, and none is stored: set `{what}`");
            (DatabaseTestReason::NoPassword, description, String::new())
        }
        Some(Trouble::Refused { how, code }) => {
            let (reason, description) = of_refusal(how, spec);
            (reason, description, code)
        }
    };
    TestDatabaseResponse {
        reason: reason.into(),
        description,
        server_code,
        server_version: version,
        encrypted,
        ..TestDatabaseResponse::default()
    }
}

fn of_refusal(how: Refusal, spec: &DatabaseSpec) -> (DatabaseTestReason, String) {
    let (reason, description) = match how {
        Refusal::Authentication => (
            DatabaseTestReason::AuthenticationFailed,
            "the server does not let the user in: check `user` and `password`, and whether the server takes \
             connections from here",
        ),
        Refusal::Permission => (
            DatabaseTestReason::PermissionDenied,
            "the user may not use this database: grant it, or set another `user`",
        ),
        Refusal::DatabaseMissing if spec.database.is_empty() => (
            DatabaseTestReason::DatabaseMissing,
            "there is no database of the user's own name, which is meant where none is given: set `database`",
        ),
        Refusal::DatabaseMissing => {
            (DatabaseTestReason::DatabaseMissing, "there is no such database: check `database`, or create it")
        }
        Refusal::Unavailable => (
            DatabaseTestReason::Unavailable,
            "the server takes no connection now: it is full, starts or stops; try again later",
        ),
        Refusal::Other => {
            (DatabaseTestReason::Rejected, "the server has refused the connection; its own log says more")
        }
    };
    (reason, description.to_owned())
}

/// Why there was no answer to judge, and what to do.
fn of_fault(fault: Fault) -> (DatabaseTestReason, String) {
    let (reason, description) = match fault {
        Fault::EgressRefused(word) => {
            let description = format!(
                "this server does not call the host: it is {word}. Whoever runs the server can allow it: \
                 `--allow-outbound HOST[:PORT]`"
            );
            return (DatabaseTestReason::EgressRefused, description);
        }
        Fault::Tls(why) => {
            let description =
                format!("there is no secure connection: {why}; check `tls_mode`, `host` and `port`");
            return (DatabaseTestReason::Tls, description);
        }
        Fault::NoSuchHost => {
            (DatabaseTestReason::NoSuchHost, "the host has no address; check how `host` is spelled")
        }
        Fault::ConnectionRefused => (
            DatabaseTestReason::Refused,
            "nobody listens there; check `host` and `port`, or start the server",
        ),
        Fault::Unreachable => (
            DatabaseTestReason::Unreachable,
            "the host can't be reached, or ends the connection; check `port` and `tls_mode`, and try again",
        ),
        Fault::Timeout => {
            (DatabaseTestReason::Timeout, "there was no answer in time; check `port`, and try again")
        }
        Fault::TooLarge | Fault::Redirected | Fault::BadAnswer => (
            DatabaseTestReason::BadAnswer,
            "what answers there does not speak as this type does; check `type`, `host`, `port` and `tls_mode`",
        ),
        Fault::Unsendable => {
            (DatabaseTestReason::Unreachable, "there is nowhere to connect to; check `host` and `port`")
        }
    };
    (reason, description.to_owned())
}

/// What is kept of a test.
fn outcome(answer: &TestDatabaseResponse, begun: Instant) -> String {
    let reason = answer.reason().as_str_name().trim_start_matches("DATABASE_TEST_REASON_");
    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    json!({"reason": reason, "encrypted": answer.encrypted, "latency_ms": millis}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_a_reason_and_says_what_to_do() {
        let faults = [
            Fault::EgressRefused("loopback"),
            Fault::NoSuchHost,
            Fault::ConnectionRefused,
            Fault::Unreachable,
            Fault::Tls("its certificate has expired"),
            Fault::Timeout,
            Fault::TooLarge,
            Fault::Redirected,
            Fault::BadAnswer,
            Fault::Unsendable,
        ];
        let ways = [
            Refusal::Authentication,
            Refusal::Permission,
            Refusal::DatabaseMissing,
            Refusal::Unavailable,
            Refusal::Other,
        ];
        let refused = ways.map(|how| Trouble::Refused { how, code: "28P01".into() });
        let others = [Trouble::Unsupported("it is a file"), Trouble::NotTried, Trouble::Lacks("password")];
        for trouble in faults.map(Trouble::Fault).into_iter().chain(refused).chain(others) {
            let what = format!("{trouble:?}");
            let answer = told(&DatabaseSpec::default(), Found { trouble: Some(trouble), ..Found::default() });
            assert!(answer.reason() != DatabaseTestReason::Ok && answer.description.len() > 20, "{what}");
            assert_eq!(answer.server_code.is_empty(), !what.contains("28P01"), "{what}");
        }
        assert_eq!(told(&DatabaseSpec::default(), Found::default()).reason(), DatabaseTestReason::Ok);
    }
}

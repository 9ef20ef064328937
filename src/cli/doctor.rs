//! `doctor`: checks a running server, or the store of a stopped one, and says what to do about each finding.

use std::collections::BTreeMap;

use serde::Serialize;
use tonic::Code;
use tonic_types::StatusExt;

use super::{
    args::{Doctor, Target},
    connect,
    failure::{Exit, Failure, Outcome},
    session::Session,
    status, table,
    text::printable,
};
use crate::{
    app::{self, AppError, StoreError, Unopened},
    client::Connection,
    domain::RevisionToken,
    proto::v1::{GetStatusRequest, GetStatusResponse, Replica, VerifyLogRequest, VerifyLogResponse},
    settings::{Database, Settings},
};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, but should be looked at.
    Warn,
    /// Wrong.
    Fail,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub what_to_do: &'static str,
}

const EDITED: &str = "somebody changed the database behind the server's back: restore a backup from before, and find \
                      out who can write the database";
const DAMAGED: &str = "stop the server, keep a copy of the files, and restore a backup";
const MOVED: &str = "somebody changed the database behind the server's back: set the secret again, or restore a backup from \
                     before, and find out who can write the database";
const OTHER_LIFE: &str = "a restored backup, a failover that lost commits and a move by `signalbox migrate` each begin another life: \
                          after one of these take a new anchor; after none, somebody put another store in its place: restore the \
                          newest backup, and find out who can write the database";
const ROLLED_BACK: &str = "if you restored an older copy of the store, or it failed over to one that lacked the last commits, this is what \
                           it looks like, and all is well: take a new anchor; if not, somebody has cut off what was written last: restore the newest backup, and find out who can \
                           write the database";
const FORGED_LEVEL: &str = "put the level right as it is said there: nothing else has to be restored for that; and find out who can \
                            write the database";
const WRONG_REPLICA: &str = "restart the replicas that are named: each reads the store anew";
const OTHER_REPLICA: &str = "ask again while nothing is written, with a token that reaches everything: then it says which of them is \
                             wrong; or restart all of them, one after the other";
const POLLED: &str = "what other replicas write is seen up to a second later, until it is said to be over; where a pooler in transaction \
                      mode stands in between, name the database itself in the replicas' addresses, or live with it";
const UNCHECKED: &str =
    "ask again once the server is in touch with its store, and can write to it: the check is audited";
const NO_STORE: &str =
    "name the right --data-dir or --database-url; a new store is made by `signalbox serve`";
const NO_KEY: &str = "give the key that sealed it (ENCRYPTION_KEY takes several), or set the secret again";

/// Checks, prints what was found, and fails if anything is wrong.
pub async fn doctor(session: &mut Session<'_>, target: &Target, args: &Doctor) -> Outcome {
    let anchor = args.anchor.as_deref().map(|text| {
        RevisionToken::parse(text).ok_or_else(|| Failure::usage("--anchor: is not a token of Signalbox"))
    });
    let anchor = anchor.transpose()?;
    let checks = if args.offline {
        offline(session, args, anchor).await
    } else {
        match connect::connect(session, target).await {
            Ok(connection) => online(connection, anchor).await?,
            Err(failure) if failure.exit() == Exit::Unavailable && !connect::address(session, target).1 => {
                session.remark("no server answers; checking the store of a stopped one");
                offline(session, args, anchor).await
            }
            Err(failure) => return Err(failure),
        }
    };
    report(session, &checks)
}

/// Prints the checks; a failure among them is the command's.
fn report(session: &mut Session<'_>, checks: &[Check]) -> Outcome {
    if !session.documents(checks)? {
        let word = |verdict| match verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        let rows = checks.iter().map(|check| {
            vec![word(check.verdict).to_owned(), check.name.to_owned(), printable(&check.detail)]
        });
        session.line(&table::plain(&["", "CHECK", "FOUND"], rows.collect()))?;
        let mut told: Vec<&str> = Vec::new();
        for check in checks.iter().filter(|check| !check.what_to_do.is_empty()) {
            if !told.contains(&check.what_to_do) {
                told.push(check.what_to_do);
                session.line(&format!("{}: {}", check.name, check.what_to_do))?;
            }
        }
    }
    let found = checks.iter().any(|check| check.verdict == Verdict::Fail);
    if found { Err(Failure::Found) } else { Ok(()) }
}

async fn online(mut connection: Connection, anchor: Option<RevisionToken>) -> Result<Vec<Check>, Failure> {
    let status = connection.admin.get_status(GetStatusRequest {}).await?.into_inner();
    let anchor_token = anchor.map(|token| token.to_string()).unwrap_or_default();
    let mut checks = of_status(&status);
    let log = match connection.admin.verify_log(VerifyLogRequest { anchor_token }).await {
        Ok(log) => Some(log.into_inner()),
        Err(refused) => {
            checks.push(of_refusal(&refused).ok_or_else(|| Failure::from(refused))?);
            None
        }
    };
    checks.extend(match status.stale {
        false => of_replicas(&status.replicas, log.as_ref()),
        // They tell of themselves by the store.
        true => vec![warn("replicas", "how they are now is not known".to_owned(), UNCHECKED)],
    });
    checks.extend(log.iter().flat_map(of_log));
    Ok(checks)
}

/// Why the log was not checked, where that is a finding like others: what the status told is not lost with it.
fn of_refusal(refused: &tonic::Status) -> Option<Check> {
    match refused.code() {
        // The anchor is of another life of the store.
        Code::FailedPrecondition if reason(refused) == "OTHER_STORE" => {
            Some(fail("log", refused.message().to_owned(), OTHER_LIFE))
        }
        Code::FailedPrecondition => Some(fail("log", refused.message().to_owned(), DAMAGED)),
        Code::Unavailable | Code::DeadlineExceeded => {
            Some(fail("log", format!("not checked: {}", refused.message()), UNCHECKED))
        }
        _ => None,
    }
}

fn reason(refused: &tonic::Status) -> String {
    refused.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Replicas that hold different states at one revision, and which of them are wrong: where the store tells what it holds there.
fn of_replicas(replicas: &[Replica], log: Option<&VerifyLogResponse>) -> Vec<Check> {
    let mut by_revision: BTreeMap<u64, Vec<&Replica>> = BTreeMap::new();
    for replica in replicas {
        by_revision.entry(replica.revision).or_default().push(replica);
    }
    by_revision.retain(|_, here| here.iter().any(|replica| replica.digest != here[0].digest));
    let name = |replica: &Replica| format!("{} (digest {})", replica.address, hex::encode(&replica.digest));
    let mut checks = Vec::new();
    for (revision, here) in by_revision {
        let held = log.filter(|log| log.revision == revision && !log.digest.is_empty());
        let Some(held) = held.map(|log| &log.digest) else {
            let all: Vec<String> = here.into_iter().map(name).collect();
            let text = format!("different states at revision {revision}: {}", all.join(", "));
            checks.push(fail("replicas", text, OTHER_REPLICA));
            continue;
        };
        for wrong in here.into_iter().filter(|replica| replica.digest != *held) {
            let held = hex::encode(held);
            let text =
                format!("{} is not what the store holds at revision {revision} (digest {held})", name(wrong));
            checks.push(fail("replicas", text, WRONG_REPLICA));
        }
    }
    if checks.is_empty() {
        checks.extend(match replicas {
            // Of what only one server can have there are no others.
            [only] if only.doorbell != "local" => {
                Some(ok("replicas", "only the one that answers is heard of".to_owned()))
            }
            [] | [_] => None,
            several => Some(ok("replicas", format!("{} of them, in agreement", several.len()))),
        });
    }
    checks
}

fn of_status(status: &GetStatusResponse) -> Vec<Check> {
    let mut checks = vec![ok("server", format!("version {}, revision {}", status.version, status.revision))];
    checks.push(match status.stale {
        true if status::is_damaged(status) => {
            fail("store", "in touch, but it holds what was never written".to_owned(), "")
        }
        false => ok("store", format!("{}, schema {}, in touch", status.store_kind, status.schema_version)),
        true => fail(
            "store",
            "the server has lost touch with it".to_owned(),
            "look at the disk or the database, and at the server's log",
        ),
    });
    if status.doorbell.starts_with("polling") && !status.stale {
        checks.push(warn("doorbell", status.doorbell.clone(), POLLED));
    }
    // The server says why beside its other warnings, of as many as fit.
    let (why, others): (Vec<&String>, Vec<&String>) = status.warnings.iter().partition(|warning| {
        warning
            .split_once(": ")
            .is_some_and(|(name, _)| status.undecryptable.iter().any(|other| other == name))
    });
    let told = |name: &String| why.iter().any(|warning| warning.starts_with(&format!("{name}: ")));
    let untold = status.undecryptable.iter().filter(|name| !told(name));
    let untold = untold.map(|name| format!("{name}: a secret can't be decrypted"));
    checks.extend(of_undecryptable(why.iter().map(ToString::to_string).chain(untold)));
    checks.extend(others.into_iter().map(|warning| warn("server", warning.clone(), "")));
    checks
}

fn of_log(log: &VerifyLogResponse) -> Vec<Check> {
    if log.intact && log.defects.is_empty() {
        return vec![ok("log", format!("{} rows are as they were written", log.checked_rows))];
    }
    let defect = |defect: &crate::proto::v1::LogDefect| {
        let text = row_text(&defect.reason, defect.revision, &defect.name, &defect.description);
        fail("log", text, to_do(&defect.reason))
    };
    let mut checks: Vec<Check> = log.defects.iter().map(defect).collect();
    if checks.is_empty() {
        checks.push(fail("log", "it is not as it was written".to_owned(), EDITED));
    }
    checks
}

fn of_undecryptable(found: impl Iterator<Item = String>) -> Vec<Check> {
    let what_to_do =
        |text: &str| match Unopened::ALL.iter().find(|reason| text.ends_with(&reason.to_string())) {
            Some(Unopened::Altered | Unopened::Missing) => MOVED,
            Some(Unopened::NoKey) | None => NO_KEY,
        };
    let mut checks: Vec<Check> = found
        .map(|text| {
            let what_to_do = what_to_do(&text);
            fail("secrets", text, what_to_do)
        })
        .collect();
    if checks.is_empty() {
        checks.push(ok("secrets", "every secret can be opened".to_owned()));
    }
    checks
}

async fn offline(session: &Session<'_>, args: &Doctor, anchor: Option<RevisionToken>) -> Vec<Check> {
    let settings = match Settings::load(&args.flags.0, session.env) {
        Ok(mut settings) => {
            settings.cluster.release = session.release;
            settings
        }
        Err(problems) => {
            return problems
                .0
                .iter()
                .map(|problem| fail("settings", problem.to_string(), "correct the setting"))
                .collect();
        }
    };
    let mut checks = vec![ok("settings", "they can be used".to_owned())];
    checks.extend(settings.warnings().into_iter().map(|warning| warn("settings", warning, "")));
    let file = match &settings.store.database {
        Database::Sqlite(file) => Some(file),
        Database::Postgres(_) => None,
    };
    if let Some(file) = file.filter(|file| !file.exists()) {
        checks.push(fail("database", format!("{} does not exist", file.display()), NO_STORE));
        return checks;
    }
    match app::inspect(&settings, anchor).await {
        Ok(found) => {
            if file.is_some() {
                checks.extend(of_corruption(&found.corruption));
            }
            checks.extend(of_verification(&found.verification));
            checks.extend(of_undecryptable(found.undecryptable.iter().map(ToString::to_string)));
        }
        Err(error) => {
            let absent = matches!(error, AppError::Store(StoreError::Absent(_)));
            checks.push(fail("database", error.to_string(), if absent { NO_STORE } else { "" }));
        }
    }
    checks
}

fn of_corruption(found: &[String]) -> Vec<Check> {
    if found.is_empty() {
        return vec![ok("database", "its own check finds nothing".to_owned())];
    }
    found.iter().map(|found| fail("database", found.clone(), DAMAGED)).collect()
}

fn of_verification(found: &app::Verification) -> Vec<Check> {
    if found.defects.is_empty() {
        return vec![ok("log", format!("{} rows are as they were written", found.checked_rows))];
    }
    let defect = |defect: &app::Defect| {
        let revision = defect.revision.map_or(0, |revision| revision.0);
        let name = defect.name.as_deref().unwrap_or_default();
        fail("log", row_text(defect.reason, revision, name, &defect.description), to_do(defect.reason))
    };
    found.defects.iter().map(defect).collect()
}

/// What to do about a defect of the log.
fn to_do(reason: &str) -> &'static str {
    match reason {
        "other_life" => OTHER_LIFE,
        "rolled_back" => ROLLED_BACK,
        "feature_level" => FORGED_LEVEL,
        _ => EDITED,
    }
}

/// Names the row: that is what the operator has to find.
fn row_text(reason: &str, revision: u64, name: &str, description: &str) -> String {
    let at = if revision == 0 { String::new() } else { format!(" revision {revision}") };
    let of = if name.is_empty() { String::new() } else { format!(" {name}") };
    format!("{reason}{at}{of}: {description}")
}

fn ok(name: &'static str, detail: String) -> Check {
    Check { name, verdict: Verdict::Ok, detail, what_to_do: "" }
}

fn warn(name: &'static str, detail: String, what_to_do: &'static str) -> Check {
    Check { name, verdict: Verdict::Warn, detail, what_to_do }
}

fn fail(name: &'static str, detail: String, what_to_do: &'static str) -> Check {
    Check { name, verdict: Verdict::Fail, detail, what_to_do }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Revision;

    #[test]
    fn an_edited_row_is_named() {
        let defect = app::Defect {
            reason: "log_row_edited",
            revision: Some(Revision(7)),
            name: Some("providers/groq".into()),
            description: "its hash does not match".into(),
        };
        let found = app::Verification { checked_rows: 9, defects: vec![defect], ..Default::default() };
        let checks = of_verification(&found);
        assert_eq!(checks[0].verdict, Verdict::Fail);
        assert_eq!(checks[0].detail, "log_row_edited revision 7 providers/groq: its hash does not match");
        assert_eq!(of_verification(&app::Verification::default())[0].verdict, Verdict::Ok);
    }

    #[test]
    fn regression_an_older_copy_that_was_restored_is_no_proof_of_a_hand_in_the_database() {
        let defect = crate::proto::v1::LogDefect { reason: "rolled_back".into(), ..Default::default() };
        let log = VerifyLogResponse { defects: vec![defect], ..Default::default() };
        assert!(of_log(&log)[0].what_to_do.contains("restored an older copy"));
    }

    #[test]
    fn regression_a_doorbell_that_does_not_ring_is_a_finding() {
        let polled = |stale| {
            let doorbell = "polling: a pooler".to_owned();
            let status = GetStatusResponse { doorbell, stale, ..GetStatusResponse::default() };
            of_status(&status).into_iter().find(|check| check.name == "doorbell")
        };
        let told = polled(false).unwrap();
        assert_eq!((told.verdict, told.what_to_do), (Verdict::Warn, POLLED));
        assert_eq!(polled(true), None, "a store that is away is not polled either");
    }

    #[test]
    fn regression_what_the_status_told_is_not_lost_with_the_log() {
        let refused = |code| of_refusal(&tonic::Status::new(code, "the database can't be reached"));
        let away = refused(Code::Unavailable).unwrap();
        assert_eq!((away.name, away.verdict), ("log", Verdict::Fail));
        assert_eq!(away.detail, "not checked: the database can't be reached");
        assert_eq!(refused(Code::PermissionDenied), None, "that is an error");
        assert_eq!(refused(Code::FailedPrecondition).unwrap().what_to_do, DAMAGED);
    }

    #[test]
    fn regression_of_replicas_that_differ_the_wrong_one_is_named() {
        let at = |address: &str, revision, digest: u8| Replica {
            address: address.into(),
            revision,
            digest: vec![digest; 16],
            ..Replica::default()
        };
        let log = |revision| VerifyLogResponse { revision, digest: vec![1; 16], ..Default::default() };
        let all = [at("a", 7, 1), at("b", 7, 2), at("c", 6, 3)];
        let told = of_replicas(&all, Some(&log(7)));
        assert!(told.len() == 1 && told[0].detail.starts_with("b (digest 0202"), "{told:?}");
        assert_eq!((told[0].verdict, told[0].what_to_do), (Verdict::Fail, WRONG_REPLICA));
        for unknown in [None, Some(&log(8)), Some(&VerifyLogResponse { revision: 7, ..Default::default() })] {
            let told = of_replicas(&all, unknown);
            assert_eq!(told.iter().map(|check| check.what_to_do).collect::<Vec<_>>(), [OTHER_REPLICA]);
            assert!(told[0].detail.contains("a (digest 0101") && told[0].detail.contains("b (digest 0202"));
        }
        assert_eq!(of_replicas(&all[1..], None)[0].verdict, Verdict::Ok, "at one revision each");
        let alone = of_replicas(&all[..1], None);
        assert!(alone.len() == 1 && alone[0].verdict == Verdict::Ok, "{alone:?}");
        assert_eq!(of_replicas(&[Replica { doorbell: "local".into(), ..Replica::default() }], None), []);
    }

    #[test]
    fn a_log_that_is_not_intact_is_a_finding_even_without_a_row() {
        assert_eq!(of_log(&VerifyLogResponse::default())[0].verdict, Verdict::Fail);
        let intact = VerifyLogResponse { intact: true, checked_rows: 3, ..Default::default() };
        assert_eq!(of_log(&intact), [ok("log", "3 rows are as they were written".into())]);
    }

    #[test]
    fn a_secret_without_its_key_and_one_that_was_altered_want_different_things() {
        let warnings = ["settings/a: f can't be decrypted: ", "settings/b: f can't be decrypted: "];
        let [a, b] = warnings.map(str::to_owned);
        let status = GetStatusResponse {
            undecryptable: ["settings/a", "settings/b", "settings/c"].map(str::to_owned).into(),
            warnings: vec![
                "backups: none".into(),
                a + &Unopened::NoKey.to_string(),
                b + &Unopened::Altered.to_string(),
            ],
            ..Default::default()
        };
        let checks = of_status(&status);
        let found = checks.iter().skip(2).map(|check| (check.name, check.verdict, check.what_to_do));
        let expected = [
            ("secrets", Verdict::Fail, NO_KEY),
            ("secrets", Verdict::Fail, MOVED),
            ("secrets", Verdict::Fail, NO_KEY),
            ("server", Verdict::Warn, ""),
        ];
        assert!(found.eq(expected), "{checks:?}");
        assert!(checks[4].detail.starts_with("settings/c: "), "{checks:?}");
    }

    #[test]
    fn undecryptable_secrets_and_lost_touch_are_findings() {
        let status =
            GetStatusResponse { stale: true, undecryptable: vec!["settings/x".into()], ..Default::default() };
        let failed = of_status(&status).into_iter().filter(|check| check.verdict == Verdict::Fail);
        assert_eq!(failed.map(|check| check.name).collect::<Vec<_>>(), ["store", "secrets"]);
    }
}

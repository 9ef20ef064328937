//! `test` and `discover`: what providers and databases say when they are asked.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Response, Status};

use super::{
    args::{Discover, Target, Test},
    connect::connect,
    failure::{Exit, Failure, Outcome},
    scalar::with_words,
    session::{Session, canonical},
    switch::whole_name,
    table,
    text::{duration, printable, relative},
};
use crate::proto::v1::{
    DatabaseTestReason, DiscoverModelsRequest, DiscoveredProvider, ProbeReason, TestDatabaseRequest,
    TestDatabaseResponse, TestProviderRequest, TestProviderResponse,
};

/// How long is waited for what came of a test: the server gives one 10 s, and tells then whatever came of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What names of databases begin with.
const DATABASES: &str = "databases/";

/// Has a provider or a database tested; a test that fails is a check that found something.
pub async fn test(session: &mut Session<'_>, target: &Target, args: &Test) -> Outcome {
    if args.what.starts_with(DATABASES) {
        return test_database(session, target, args).await;
    }
    let mut connection = connect(session, target).await?;
    let request = TestProviderRequest {
        name: whole_name(&args.what),
        api_key: args.key.clone().unwrap_or_default(),
        model: args.model.clone().unwrap_or_default(),
    };
    let answer = bounded(connection.providers.test_provider(request)).await?;
    if !session.document(&canonical(&answer)?)? {
        session.line(&table::plain(&[], rows(&answer)))?;
    }
    if answer.reason() == ProbeReason::Ok { Ok(()) } else { Err(Failure::Found) }
}

/// What the server says, unless it says nothing.
async fn bounded<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    match timeout(PATIENCE, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Failure::told(
            Exit::Unavailable,
            format!(
                "the server did not say within {} s what came of the test, for which it takes 10 s at most; look at its log, \
                 and at `signalbox status`",
                PATIENCE.as_secs()
            ),
        )),
    }
}

async fn test_database(session: &mut Session<'_>, target: &Target, args: &Test) -> Outcome {
    if args.key.is_some() || args.model.is_some() {
        return Err(Failure::usage("--key and --model are for providers"));
    }
    let mut connection = connect(session, target).await?;
    let request = TestDatabaseRequest { name: args.what.clone() };
    let answer = bounded(connection.databases.test_database(request)).await?;
    if !session.document(&canonical(&answer)?)? {
        session.line(&table::plain(&[], database_rows(&answer)))?;
    }
    if answer.reason() == DatabaseTestReason::Ok { Ok(()) } else { Err(Failure::Found) }
}

fn database_rows(answer: &TestDatabaseResponse) -> Vec<Vec<String>> {
    let description = with_words(&answer.description);
    let reason = answer.reason().as_str_name().trim_start_matches("DATABASE_TEST_REASON_");
    let encrypted = match answer.encrypted {
        true => "yes",
        false if was_connected(answer.reason()) => "no",
        false => "",
    };
    let latency = answer.latency.as_ref().map(duration).unwrap_or_default();
    let told = [
        ("result", reason),
        ("what to do", &description),
        ("server's code", &answer.server_code),
        ("version", &answer.server_version),
        ("encrypted", encrypted),
        ("took", &latency),
    ];
    let told = told.iter().filter(|(_, text)| !text.is_empty());
    told.map(|(what, text)| vec![(*what).to_owned(), printable(text)]).collect()
}

/// Whether the server was talked to, so that it can be told how.
fn was_connected(reason: DatabaseTestReason) -> bool {
    use DatabaseTestReason as Reason;
    matches!(
        reason,
        Reason::Ok
            | Reason::CredentialsNotTried
            | Reason::AuthenticationFailed
            | Reason::PermissionDenied
            | Reason::DatabaseMissing
            | Reason::Rejected
    )
}

/// Has providers asked for their models; one that could not be asked is a check that found something.
pub async fn discover(session: &mut Session<'_>, target: &Target, args: &Discover) -> Outcome {
    let mut connection = connect(session, target).await?;
    let names = args.providers.iter().map(|provider| whole_name(provider)).collect();
    let answer = connection.providers.discover_models(DiscoverModelsRequest { names }).await?.into_inner();
    if !session.document(&canonical(&answer)?)? {
        let now = session.clock.now();
        let rows = answer.providers.iter().flat_map(|provider| {
            provider.models.iter().map(|model| {
                let window = model.context_window_tokens;
                let window = if window == 0 { String::new() } else { window.to_string() };
                let listed = provider.list_time.as_ref().map(|then| relative(now, then)).unwrap_or_default();
                vec![
                    printable(&provider.name),
                    printable(&model.id),
                    printable(&model.display_name),
                    window,
                    listed,
                ]
            })
        });
        let rows = rows.collect();
        session.line(&table::plain(&["PROVIDER", "MODEL", "NAME", "CONTEXT", "LISTED"], rows))?;
    }
    session.warn(&answer.providers.iter().filter_map(trouble).collect::<Vec<_>>());
    let all = answer.providers.iter().all(|provider| provider.reason() == ProbeReason::Ok);
    if all { Ok(()) } else { Err(Failure::Found) }
}

fn rows(answer: &TestProviderResponse) -> Vec<Vec<String>> {
    let row = |what: &str, value: String| vec![what.to_owned(), printable(&value)];
    let mut rows = vec![row("result", word(answer.reason()))];
    let description = with_words(&answer.description);
    let told = [
        ("what to do", &description),
        ("provider says", &answer.provider_message),
        ("key", &answer.api_key),
        ("model", &answer.model),
    ];
    rows.extend(
        told.iter().filter(|(_, text)| !text.is_empty()).map(|(what, text)| row(what, (*text).clone())),
    );
    for attempt in &answer.attempts {
        let step = attempt.step().as_str_name().trim_start_matches("PROBE_STEP_").to_ascii_lowercase();
        let latency = attempt.latency.as_ref().map(duration).unwrap_or_default();
        let status = match attempt.http_status {
            0 => String::new(),
            status => format!(", HTTP {status}"),
        };
        rows.push(row(&step, format!("{}{status}, {latency}", word(attempt.reason()))));
    }
    rows
}

/// What kept a provider from telling its models.
fn trouble(provider: &DiscoveredProvider) -> Option<String> {
    let DiscoveredProvider { name, description, provider_message, .. } = provider;
    let message =
        if provider_message.is_empty() { String::new() } else { format!(" (it says: {provider_message})") };
    (provider.reason() != ProbeReason::Ok)
        .then(|| format!("{name}: {}: {description}{message}", word(provider.reason())))
}

fn word(reason: ProbeReason) -> String {
    reason.as_str_name().trim_start_matches("PROBE_REASON_").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_nothing_is_said_of_a_connection_that_there_was_not() {
        let told = |reason: DatabaseTestReason, encrypted| {
            let answer = TestDatabaseResponse { reason: reason.into(), encrypted, ..Default::default() };
            database_rows(&answer).into_iter().find(|row| row[0] == "encrypted").map(|row| row[1].clone())
        };
        assert_eq!(told(DatabaseTestReason::Refused, false), None);
        assert_eq!(told(DatabaseTestReason::EgressRefused, false), None);
        assert_eq!(told(DatabaseTestReason::Ok, false).as_deref(), Some("no"));
        assert_eq!(told(DatabaseTestReason::Ok, true).as_deref(), Some("yes"));
    }

    #[tokio::test(start_paused = true)]
    async fn regression_a_server_that_says_nothing_is_given_up() {
        let silent = std::future::pending::<Result<Response<()>, Status>>();
        let failure = bounded(silent).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Unavailable);
        assert!(failure.to_string().contains("did not say within 30 s"), "{failure}");
        let told = bounded(async { Ok(Response::new(7)) }).await;
        assert!(told.is_ok_and(|told| told == 7));
    }
}

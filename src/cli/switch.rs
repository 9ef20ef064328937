//! `switch`: which provider is active, and making another one so.

use super::{
    args::{Switch, Target},
    connect::connect,
    diff,
    failure::{Exit, Failure, Outcome},
    session::{Session, canonical},
    table,
    text::printable,
    workers,
};
use crate::{
    client::Connection,
    proto::v1::{
        GetActiveProviderRequest, SwitchActiveProviderRequest, SwitchActiveProviderResponse, SwitchFallbacks,
        resource::Spec,
    },
};

/// Shows the active provider, or makes the named one active.
pub async fn switch(session: &mut Session<'_>, target: &Target, args: &Switch) -> Outcome {
    let mut connection = connect(session, target).await?;
    match &args.provider {
        Some(provider) => switch_to(session, target, &mut connection, provider, args).await,
        None => show(session, &mut connection).await,
    }
}

async fn show(session: &mut Session<'_>, connection: &mut Connection) -> Outcome {
    let request = GetActiveProviderRequest::default();
    let answer = connection.providers.get_active_provider(request).await.map_err(|status| {
        let failure = Failure::from(status);
        match failure.exit() {
            Exit::NotFound => Failure::told(
                Exit::NotFound,
                format!(
                    "{failure}\nhint: no provider is active yet; `signalbox switch PROVIDER` makes one so"
                ),
            ),
            _ => failure,
        }
    })?;
    let answer = answer.into_inner();
    if session.document(&canonical(&answer)?)? {
        return Ok(());
    }
    let roles = std::iter::once("active").chain(std::iter::repeat("fallback"));
    let providers = answer.provider.iter().chain(&answer.fallbacks);
    let rows = roles.zip(providers).map(|(role, provider)| vec![role.to_owned(), printable(&provider.name)]);
    session.line(&table::plain(&[], rows.collect()))
}

async fn switch_to(
    session: &mut Session<'_>,
    target: &Target,
    connection: &mut Connection,
    provider: &str,
    args: &Switch,
) -> Outcome {
    let given = args.no_fallbacks || !args.fallbacks.is_empty();
    let fallbacks = given.then(|| SwitchFallbacks {
        providers: args.fallbacks.iter().map(|fallback| whole_name(fallback)).collect(),
    });
    let request = SwitchActiveProviderRequest {
        provider: whole_name(provider),
        fallbacks,
        etag: args.etag.clone().unwrap_or_default(),
        validate_only: args.write.dry_run,
        request_id: args.write.request_id.clone(),
        reason: args.write.reason.clone(),
    };
    let answer = connection.providers.switch_active_provider(request).await.map_err(refusal)?.into_inner();
    session.warn(&answer.warnings);
    if !session.document(&canonical(&answer)?)? && !session.quiet {
        diff::print(session, answer.diff.as_slice(), answer.revision, args.write.dry_run)?;
        if !given && !answer.previous.is_empty() {
            session.remark(&fallbacks_now(&answer));
        }
    }
    workers::wait_for(session, target, &args.wait, (answer.revision, &answer.revision_token)).await
}

/// What became of the fallbacks, which nobody has named.
fn fallbacks_now(answer: &SwitchActiveProviderResponse) -> String {
    let told = |name: &String| match *name == answer.previous {
        true => format!("{name} (the one that was active)"),
        false => name.clone(),
    };
    let fallbacks = match answer.router.as_ref().and_then(|router| router.spec.as_ref()) {
        Some(Spec::Router(router)) => router.fallbacks.iter().map(told).collect(),
        _ => Vec::new(),
    };
    printable(&format!(
        "when it fails, these are asked: {}; --fallback names others, --no-fallbacks none",
        fallbacks.join(", ")
    ))
}

/// The server's refusal, with where to look for a provider that is not there.
pub fn refusal(status: tonic::Status) -> Failure {
    match Failure::from(status) {
        failure if failure.exit() == Exit::NotFound => Failure::told(
            Exit::NotFound,
            format!("{failure}\nhint: `signalbox list providers` shows which there are"),
        ),
        other => other,
    }
}

/// `groq` is short for `providers/groq`.
pub fn whole_name(text: &str) -> String {
    if text.contains('/') { text.to_owned() } else { format!("providers/{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{Resource, RouterSpec};

    /// A trial left its provider among the fallbacks, and only the difference said so.
    #[test]
    fn regression_what_became_of_the_fallbacks_is_said() {
        let fallbacks = ["providers/trial", "providers/mistral"].map(str::to_owned).into();
        let spec = Some(Spec::Router(RouterSpec { fallbacks, ..RouterSpec::default() }));
        let answer = SwitchActiveProviderResponse {
            router: Some(Resource { spec, ..Resource::default() }),
            previous: "providers/trial".into(),
            ..SwitchActiveProviderResponse::default()
        };
        let told = fallbacks_now(&answer);
        assert!(
            told.contains("asked: providers/trial (the one that was active), providers/mistral; --fallback"),
            "{told}"
        );
    }
}

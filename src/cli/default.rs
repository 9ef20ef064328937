//! `default`: which provider stands for a type, and saying which one does.

use prost_reflect::EnumDescriptor;

use super::{
    args::{DefaultProvider, Target},
    connect::connect,
    diff,
    failure::{Exit, Failure, Outcome},
    keys::{self, KeyInUse},
    scalar,
    session::{Session, canonical, canonical_all},
    switch::{refusal, whole_name},
    table,
    text::printable,
    workers,
};
use crate::{
    client::Connection,
    proto::{
        DESCRIPTOR_POOL,
        v1::{
            GetDefaultProviderRequest, GetDefaultProviderResponse, ProviderType, Resource,
            SetDefaultProviderRequest, resource::Spec,
        },
    },
};

/// Shows the provider of a type or of all types, or says which one it is.
pub async fn default(session: &mut Session<'_>, target: &Target, args: &DefaultProvider) -> Outcome {
    let wanted = args.provider_type.as_deref().map(parse).transpose()?;
    let mut connection = connect(session, target).await?;
    match wanted {
        Some(wanted) if args.none || args.provider.is_some() => {
            set(session, target, &mut connection, wanted, args).await
        }
        Some(wanted) => show(session, &mut connection, wanted).await,
        None => show_all(session, &mut connection).await,
    }
}

/// A type as it is typed, in a word such as `groq`.
fn parse(text: &str) -> Result<ProviderType, Failure> {
    types().find(|known| word(*known) == text).ok_or_else(|| {
        // Not repeated: it may be a key in the wrong place.
        let words: Vec<String> = types().map(word).collect();
        Failure::usage(format!("that is no type of providers; there are {}", words.join(", ")))
    })
}

/// All types, in the order of the API.
fn types() -> impl Iterator<Item = ProviderType> {
    let numbers =
        words().into_iter().flat_map(|words| words.values().map(|word| word.number()).collect::<Vec<_>>());
    numbers
        .filter_map(|number| ProviderType::try_from(number).ok())
        .filter(|known| *known != ProviderType::Unspecified)
}

fn word(known: ProviderType) -> String {
    words().map(|words| scalar::enum_word(&words, known.into())).unwrap_or_default()
}

fn words() -> Option<EnumDescriptor> {
    DESCRIPTOR_POOL.get_enum_by_name("signalbox.v1.ProviderType")
}

async fn ask(
    connection: &mut Connection,
    wanted: ProviderType,
) -> Result<GetDefaultProviderResponse, Failure> {
    let request = GetDefaultProviderRequest { r#type: wanted.into(), ..GetDefaultProviderRequest::default() };
    Ok(connection.providers.get_default_provider(request).await?.into_inner())
}

async fn show(session: &mut Session<'_>, connection: &mut Connection, wanted: ProviderType) -> Outcome {
    let answer = ask(connection, wanted).await?;
    if session.document(&canonical(&answer)?)? {
        return Ok(());
    }
    let row = row(connection, wanted, &answer).await?;
    session.line(&table::plain(&[], vec![row]))
}

async fn show_all(session: &mut Session<'_>, connection: &mut Connection) -> Outcome {
    let mut found = Vec::new();
    for wanted in types() {
        match ask(connection, wanted).await {
            Ok(answer) => found.push((wanted, answer)),
            Err(failure) if failure.exit() == Exit::NotFound => {}
            Err(failure) => return Err(failure),
        }
    }
    let answers: Vec<_> = found.iter().map(|(_, answer)| answer.clone()).collect();
    if session.documents(&canonical_all(&answers)?)? {
        return Ok(());
    }
    if found.is_empty() {
        session.remark("there is no enabled provider");
        return Ok(());
    }
    let mut rows = Vec::with_capacity(found.len());
    for (wanted, answer) in &found {
        rows.push(row(connection, *wanted, answer).await?);
    }
    session.line(&table::plain(&["TYPE", "PROVIDER", "BECAUSE", "KEY"], rows))
}

async fn row(
    connection: &mut Connection,
    wanted: ProviderType,
    answer: &GetDefaultProviderResponse,
) -> Result<Vec<String>, Failure> {
    let name = answer.provider.as_ref().map(|provider| provider.name.as_str()).unwrap_or_default();
    let because = if answer.named { "named in routers/default" } else { "the first enabled one" };
    let key = key(connection, answer).await?;
    Ok(vec![word(wanted), printable(name), because.to_owned(), key.to_owned()])
}

/// Whether the provider can be called, as far as its keys that may be seen tell.
async fn key(
    connection: &mut Connection,
    answer: &GetDefaultProviderResponse,
) -> Result<&'static str, Failure> {
    let Some(Resource { name, spec: Some(Spec::Provider(spec)), .. }) = &answer.provider else {
        return Ok("");
    };
    Ok(match keys::key_in_use(connection, name, spec).await? {
        KeyInUse::Key(_) => "active",
        KeyInUse::Lacking => "no active key",
        KeyInUse::NotNeeded => "needs none",
        KeyInUse::Unseen => "",
    })
}

async fn set(
    session: &mut Session<'_>,
    target: &Target,
    connection: &mut Connection,
    wanted: ProviderType,
    args: &DefaultProvider,
) -> Outcome {
    let request = SetDefaultProviderRequest {
        r#type: wanted.into(),
        provider: args.provider.as_deref().map(whole_name).unwrap_or_default(),
        etag: args.etag.clone().unwrap_or_default(),
        validate_only: args.write.dry_run,
        request_id: args.write.request_id.clone(),
        reason: args.write.reason.clone(),
    };
    let answer = connection.providers.set_default_provider(request).await.map_err(refusal)?.into_inner();
    session.warn(&answer.warnings);
    if !session.document(&canonical(&answer)?)? && !session.quiet {
        diff::print(session, answer.diff.as_slice(), answer.revision, args.write.dry_run)?;
    }
    workers::wait_for(session, target, &args.wait, (answer.revision, &answer.revision_token)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_a_word() {
        assert_eq!(parse("openai_compatible").ok(), Some(ProviderType::OpenaiCompatible));
        let told = parse("sk-a-key").err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(told.contains("there are openai, anthropic,") && !told.contains("sk-a-key"), "{told}");
    }
}

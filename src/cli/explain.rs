//! `explain`: documents kinds and their fields, and says which value of a setting counts.

use super::{
    args::{Explain, Target},
    connect::connect,
    failure::{Failure, Outcome},
    reference::{self, Entry},
    session::{Session, canonical},
    table, text,
};
use crate::import::{self, Format};
use crate::proto::v1::{EffectiveSetting, ExplainSettingRequest, SettingSource, SourcedSetting};

/// Columns of a terminal that descriptions are broken to.
const WIDTH: usize = 96;

/// Explains what was asked for.
pub async fn explain(session: &mut Session<'_>, target: &Target, args: &Explain) -> Outcome {
    match args.what.as_deref() {
        None => kinds(session),
        Some(name) if name.contains('/') => setting(session, target, args, name).await,
        Some(_) if args.user.is_some() || args.secrets => Err(Failure::usage(
            "--user and --secrets are for settings, for example `explain settings/max_retries`",
        )),
        Some("import") => formats(session, import::FORMATS),
        Some(path) => match path.strip_prefix("import.") {
            Some(name) => format(session, name),
            None => field(session, path),
        },
    }
}

fn kinds(session: &mut Session<'_>) -> Outcome {
    let kinds = reference::kinds();
    if session.document(&kinds)? {
        return Ok(());
    }
    let rows = kinds.into_iter().map(|kind| vec![kind.path, kind.description]);
    session.line(&table::plain(&["KIND", "WHAT IT IS"], rows.collect()))?;
    session.remark(
        "\n`signalbox explain KIND` tells its fields, `signalbox explain KIND.FIELD` tells one of them",
    );
    Ok(())
}

fn format(session: &mut Session<'_>, name: &str) -> Outcome {
    match import::FORMATS.iter().position(|format| format.name == name) {
        Some(place) => formats(session, &import::FORMATS[place..=place]),
        None => {
            let names: Vec<&str> = import::FORMATS.iter().map(|format| format.name).collect();
            let what = format!("there is no format `{name}`; there are {}", names.join(", "));
            Err(Failure::usage(text::printable(&what)))
        }
    }
}

/// What is accepted of formats.
fn formats(session: &mut Session<'_>, formats: &[Format]) -> Outcome {
    let told = |format: &Format| Shape { name: format.name, about: format.about, accepted: format.shape() };
    let shapes: Vec<Shape> = formats.iter().map(told).collect();
    if session.document(&shapes)? {
        return Ok(());
    }
    for (index, Shape { name, about, accepted }) in shapes.iter().enumerate() {
        let before = if index == 0 { "" } else { "\n" };
        let indented: Vec<String> = accepted.lines().map(|line| format!("  {line}")).collect();
        session.line(&format!("{before}--from {name}: {about}\n\n{}", indented.join("\n")))?;
    }
    Ok(())
}

/// What is accepted of one format.
#[derive(serde::Serialize)]
struct Shape {
    name: &'static str,
    about: &'static str,
    accepted: String,
}

fn field(session: &mut Session<'_>, path: &str) -> Outcome {
    let found = reference::find(path)?;
    if session.document(&found)? {
        return Ok(());
    }
    session.line(&described(&found))
}

/// A kind or a field, for people.
fn described(entry: &Entry) -> String {
    let mut lines = vec![headline(entry), String::new(), wrapped(&entry.description, 2)];
    if !entry.one_of.is_empty() {
        lines.extend([String::new(), format!("  One of: {}", entry.one_of.join(", "))]);
    }
    if !entry.values.is_empty() {
        lines.extend([String::new(), "VALUES".to_owned()]);
        for word in &entry.values {
            lines.extend([format!("  {}", word.word), wrapped(&word.description, 6)]);
        }
    }
    if !entry.fields.is_empty() {
        lines.extend([String::new(), "FIELDS".to_owned()]);
        for field in &entry.fields {
            let name = field.path.rsplit('.').next().unwrap_or_default();
            let headline = headline(field).replacen(&field.path, name, 1);
            lines.extend([format!("  {headline}"), wrapped(&field.description, 6)]);
        }
    }
    lines.join("\n")
}

fn headline(entry: &Entry) -> String {
    let required = if entry.required { " (required)" } else { "" };
    format!("{} <{}>{required}", entry.path, entry.of_type)
}

/// Text broken into lines, each indented.
fn wrapped(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = margin.clone();
        for word in paragraph.split(' ') {
            if line.len() > indent && line.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::replace(&mut line, margin.clone()));
            }
            if line.len() > indent {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

async fn setting(session: &mut Session<'_>, target: &Target, args: &Explain, name: &str) -> Outcome {
    let segments: Vec<&str> = name.split('/').collect();
    let (user, key) = match segments.as_slice() {
        ["settings", key] => (args.user.as_deref(), *key),
        ["users", user, "settings", key] if args.user.as_deref().is_none_or(|other| other == *user) => {
            (Some(*user), *key)
        }
        ["users", _, "settings", _] => {
            return Err(Failure::usage("the name and --user tell of different users"));
        }
        _ => {
            let what = "only settings are explained by name, as settings/KEY or users/USER/settings/KEY; \
                        `signalbox explain KIND` documents a kind";
            return Err(Failure::usage(what));
        }
    };
    let request = ExplainSettingRequest {
        key: key.to_owned(),
        user: user.unwrap_or_default().to_owned(),
        include_secrets: args.secrets,
        ..Default::default()
    };
    let mut connection = connect(session, target).await?;
    let answer = connection.settings.explain_setting(request).await?.into_inner();
    let found = answer.setting.unwrap_or_default();
    if session.document(&canonical(&found)?)? {
        return Ok(());
    }
    session.line(&sources(&found))
}

/// A line for each place where a setting stands; the first is the one that counts.
fn sources(found: &EffectiveSetting) -> String {
    let row = |counts: &str, sourced: &SourcedSetting| {
        let (of_type, value) = sourced.setting.as_ref().map(table::setting_value).unwrap_or_default();
        let value = if sourced.problem.is_empty() { value } else { format!("({})", sourced.problem) };
        let source = match sourced.source() {
            SettingSource::Environment => "environment",
            SettingSource::User => "user",
            SettingSource::Global => "global",
            SettingSource::Default => "default",
            SettingSource::Unspecified => "?",
        };
        let cells = [counts, source, &of_type, &value, &sourced.origin];
        cells.map(text::printable).to_vec()
    };
    let effective = found.effective.iter().map(|sourced| row("yes", sourced));
    let rows = effective.chain(found.hidden.iter().map(|sourced| row("hidden", sourced)));
    table::plain(&["COUNTS", "SOURCE", "TYPE", "VALUE", "FROM"], rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_documented_for_people() {
        let shown = described(&reference::find("provider").unwrap());
        assert!(
            shown.starts_with("provider <ProviderSpec>\n\n  An LLM provider: `providers/{id}`."),
            "{shown}"
        );
        assert!(shown.contains("\n  type <ProviderType> (required)\n      What kind of service"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= WIDTH), "{shown}");
        let scheme = described(&reference::find("provider.auth.scheme").unwrap());
        assert!(scheme.contains("VALUES\n  AUTH_SCHEME_NONE\n      No authentication."), "{scheme}");
        let secret = described(&reference::find("provider.headers.secret").unwrap());
        assert!(
            secret.contains("provider.headers.secret <secret>") && secret.contains("One of: plain, secret")
        );
    }
}

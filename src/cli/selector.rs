//! Selectors as they are typed: `*`, `providers/*`, `kind:provider`, `providers`, or a name.

use std::collections::BTreeMap;

use super::{failure::Failure, schema};
use crate::proto::v1::{Selector, selector::Pattern};

/// Reads selectors, or kinds, each narrowed by the labels. Labels alone narrow everything.
///
/// Several selectors are a union, in which a kind would add to a selector instead of narrowing it: only beside `*` do they
/// say the same.
pub fn parse_all(texts: &[String], kinds: &[String], labels: &[String]) -> Result<Vec<Selector>, Failure> {
    let labels = parse_labels(labels)?;
    if let (Some(kind), Some(other)) = (kinds.first(), texts.iter().find(|text| *text != "*")) {
        return Err(Failure::usage(format!(
            "--kind does not go with `{other}`: give kind:{kind} instead of the selector, or narrow with --filter"
        )));
    }
    let texts = if kinds.is_empty() { texts } else { &[] };
    let kinds = kinds.iter().map(|kind| format!("kind:{kind}"));
    let mut selectors = Vec::new();
    for text in texts.iter().cloned().chain(kinds) {
        selectors.push(Selector { pattern: parse(&text)?, labels: labels.clone() });
    }
    if selectors.is_empty() && !labels.is_empty() {
        selectors.push(Selector { pattern: None, labels });
    }
    Ok(selectors)
}

/// Reads `key=value` pairs.
pub fn parse_labels(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            Failure::usage(format!("--label: `{text}` is not a label; give KEY=VALUE, for example env=prod"))
        })?;
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}

/// Reads one pattern; `None` is everything.
fn parse(text: &str) -> Result<Option<Pattern>, Failure> {
    if text == "*" {
        return Ok(None);
    }
    if let Some(kind) = text.strip_prefix("kind:") {
        return match schema::arm_of_kind(kind) {
            Some(arm) => Ok(Some(Pattern::Kind(arm.name().to_owned()))),
            None => {
                Err(Failure::usage(format!("`{kind}` is not a kind; there are {}", schema::kind_names())))
            }
        };
    }
    if let Some(prefix) =
        text.strip_suffix('*').filter(|prefix| prefix.ends_with('/') && !prefix.contains('*'))
    {
        return Ok(Some(Pattern::Prefix(prefix.to_owned())));
    }
    if text == "users" || (!text.contains('/') && schema::arm_of_collection(text).is_some()) {
        return Ok(Some(Pattern::Prefix(format!("{text}/"))));
    }
    if text.contains('*') || text.ends_with('/') || !text.contains('/') {
        return Err(Failure::usage(format!(
            "`{text}` is not a selector; give a name such as providers/groq, everything beneath one such as \
             `providers/*`, a kind such as kind:provider, or `*`"
        )));
    }
    Ok(Some(Pattern::Name(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Option<Pattern>, String> {
        parse(text).map_err(|failure| failure.to_string())
    }

    #[test]
    fn selectors_are_read() {
        assert_eq!(one("*"), Ok(None));
        assert_eq!(one("providers/*"), Ok(Some(Pattern::Prefix("providers/".into()))));
        assert_eq!(one("providers/groq/*"), Ok(Some(Pattern::Prefix("providers/groq/".into()))));
        assert_eq!(one("providers"), Ok(Some(Pattern::Prefix("providers/".into()))));
        assert_eq!(one("kind:api_key"), Ok(Some(Pattern::Kind("api_key".into()))));
        assert_eq!(one("providers/groq"), Ok(Some(Pattern::Name("providers/groq".into()))));
        assert_eq!(one("kind:apiKey"), Ok(Some(Pattern::Kind("api_key".into()))), "as documents have it");
        assert!(one("kind:nonsense").unwrap_err().contains("provider, api_key, setting"));
        for wrong in ["providers/g*", "*/x", "groq", "providers/", ""] {
            assert!(one(wrong).unwrap_err().contains("is not a selector"), "{wrong}");
        }
    }

    #[test]
    fn regression_a_kind_narrows_and_never_adds() {
        let read = |text: &str| parse_all(&[text.to_owned()], &["api_key".into(), "router".into()], &[]);
        let kinds = |found: Vec<Selector>| {
            found.into_iter().map(|selector| selector.pattern.unwrap()).collect::<Vec<_>>()
        };
        let both = vec![Pattern::Kind("api_key".into()), Pattern::Kind("router".into())];
        assert_eq!(kinds(read("*").unwrap()), both);
        assert_eq!(kinds(parse_all(&[], &["api_key".into(), "router".into()], &[]).unwrap()), both);
        for text in ["providers/*", "providers", "providers/groq", "kind:provider"] {
            let told = read(text).unwrap_err().to_string();
            let right = "give kind:api_key instead of the selector, or narrow with --filter";
            assert!(told.contains(right) && told.contains(text), "{told}");
        }
    }

    #[test]
    fn labels_narrow_every_selector() {
        let all = parse_all(&["*".into()], &["provider".into()], &["env=prod".into()]).unwrap();
        assert!(all.len() == 1 && all[0].labels["env"] == "prod");
        assert_eq!(parse_all(&[], &[], &["env=prod".into()]).unwrap().len(), 1);
        assert!(parse_all(&[], &[], &[]).unwrap().is_empty());
        assert!(parse_all(&[], &[], &["env".into()]).unwrap_err().to_string().contains("give KEY=VALUE"));
    }
}

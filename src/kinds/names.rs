//! From text to names, patterns and selectors: which kind a name belongs to, and how it is spelt.
//!
//! Every way in goes through here, so that a setting has one spelling before anything is decided about it,
//! authorisation included.

use crate::{
    domain::{Error, FieldViolation, KindName, Pattern, ResourceName, Selector, Violations, limits, spec},
    proto::v1,
};

use super::{Kind, check_labels, kind_named, registry};

/// The kind that a name belongs to.
#[must_use]
pub fn resolve(name: &ResourceName) -> Option<&'static dyn Kind> {
    let segments: Vec<&str> = name.segments().collect();
    resolve_segments(&segments)
}

/// Reads a name, puts it into its one spelling, and finds its kind.
///
/// # Errors
/// Says what is wrong; the text reads on from the field's path.
pub fn parse_name(text: &str) -> Result<(ResourceName, &'static dyn Kind), String> {
    let raw = ResourceName::parse(text).map_err(|error| error.to_string())?;
    let segments: Vec<&str> = raw.segments().collect();
    let kind = resolve_segments(&segments).ok_or_else(|| unknown_collection(&segments))?;
    let id = kind.normalise_id(raw.id());
    if id == raw.id() {
        return Ok((raw, kind));
    }
    let path = &text[..text.len() - raw.id().len()];
    let name = ResourceName::parse(&format!("{path}{id}")).map_err(|error| error.to_string())?;
    Ok((name, kind))
}

/// Reads the text form of grants and of the command line: `*`, `providers/*`, `kind:provider`, or a name.
#[must_use]
pub fn parse_pattern(text: &str) -> Option<Pattern> {
    if text == "*" {
        return Some(Pattern::All);
    }
    if let Some(kind) = text.strip_prefix("kind:") {
        return known_kind(kind).map(Pattern::Kind);
    }
    match text.strip_suffix('*') {
        Some(prefix) => parse_prefix(prefix).ok().map(Pattern::Prefix),
        None => parse_name(text).ok().map(|(name, _)| Pattern::Name(name)),
    }
}

/// Reads a selector of a request; `field` is its path there.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_selector(selector: &v1::Selector, field: &str) -> Result<Selector, Vec<FieldViolation>> {
    use v1::selector::Pattern as Given;
    let mut violations = check_labels(&selector.labels, &format!("{field}.labels"));
    let (part, pattern) = match &selector.pattern {
        None => ("", Ok(Pattern::All)),
        Some(Given::Name(name)) => ("name", parse_name(name).map(|(name, _)| Pattern::Name(name))),
        Some(Given::Prefix(prefix)) => ("prefix", parse_prefix(prefix).map(Pattern::Prefix)),
        Some(Given::Kind(kind)) => ("kind", known_kind(kind).map(Pattern::Kind).ok_or_else(unknown_kind)),
    };
    match pattern {
        Ok(pattern) if violations.is_empty() => Ok(Selector { pattern, labels: selector.labels.clone() }),
        Ok(_) => Err(violations),
        Err(description) => {
            violations.push(FieldViolation::new(format!("{field}.{part}"), "INVALID_NAME", description));
            Err(violations)
        }
    }
}

/// Reads the selectors of a request; `field` is their path there.
///
/// # Errors
/// `Invalid` with everything that is wrong with any of them.
pub fn parse_selectors(selectors: &[v1::Selector], field: &str) -> Result<Vec<Selector>, Error> {
    let mut violations = Violations::default();
    violations.at_most(field, selectors.len(), limits::SELECTORS, "selectors");
    let mut parsed = Vec::with_capacity(selectors.len().min(limits::SELECTORS));
    for (index, selector) in selectors.iter().take(limits::SELECTORS).enumerate() {
        match parse_selector(selector, &format!("{field}[{index}]")) {
            Ok(selector) => parsed.push(selector),
            Err(found) => violations.extend(found),
        }
    }
    violations.allow(Some(parsed))
}

/// The kind that all resources which a pattern can reach are of, if it is one.
#[must_use]
pub fn kind_of_pattern(pattern: &Pattern) -> Option<KindName> {
    match pattern {
        Pattern::All => None,
        Pattern::Name(name) => resolve(name).map(Kind::name),
        Pattern::Kind(kind) => Some(*kind),
        Pattern::Prefix(prefix) => {
            let segments: Vec<&str> = prefix.trim_end_matches('/').split('/').collect();
            let mut kinds: Vec<KindName> = patterns()
                .filter(|(_, pattern)| pattern.len() > segments.len() && begins(pattern, &segments))
                .map(|(kind, _)| kind.name())
                .collect();
            kinds.dedup();
            <[KindName; 1]>::try_from(kinds).ok().map(|[kind]| kind)
        }
    }
}

/// Reads a prefix, which ends in `/`, and puts it into its one spelling.
///
/// # Errors
/// Says what is wrong; the text reads on from the field's path.
pub fn parse_prefix(text: &str) -> Result<String, String> {
    let Some(path) = text.strip_suffix('/') else {
        return Err("must end in `/`, for example `providers/groq/`; name one resource with `name`".into());
    };
    let name = ResourceName::parse(path).map_err(|error| error.to_string())?;
    let segments: Vec<&str> = name.segments().collect();
    if resolve_segments(&segments).is_some() {
        return parse_name(path).map(|(name, _)| name.beneath());
    }
    match patterns().any(|(_, pattern)| begins(&pattern, &segments)) {
        true => Ok(text.to_owned()),
        false => Err(unknown_collection(&segments)),
    }
}

fn known_kind(name: &str) -> Option<KindName> {
    spec::kind_named(name).filter(|kind| kind_named(*kind).is_some())
}

fn unknown_kind() -> String {
    let names: Vec<String> = registry().iter().map(|kind| format!("`{}`", kind.name())).collect();
    format!("is no kind; known are {}", names.join(", "))
}

/// Every pattern of every kind, cut into segments.
fn patterns() -> impl Iterator<Item = (&'static dyn Kind, Vec<&'static str>)> {
    registry()
        .iter()
        .flat_map(|kind| kind.patterns().iter().map(|pattern| (*kind, pattern.split('/').collect())))
}

fn resolve_segments(segments: &[&str]) -> Option<&'static dyn Kind> {
    patterns()
        .find(|(_, pattern)| pattern.len() == segments.len() && begins(pattern, segments))
        .map(|(kind, _)| kind)
}

/// Whether the segments are the beginning of what the pattern stands for.
fn begins(pattern: &[&str], segments: &[&str]) -> bool {
    segments.len() <= pattern.len()
        && pattern.iter().zip(segments).all(|(part, segment)| is_placeholder(part) || part == segment)
}

fn is_placeholder(part: &str) -> bool {
    part.starts_with('{')
}

fn unknown_collection(segments: &[&str]) -> String {
    if let Some((_, pattern)) =
        patterns().find(|(_, pattern)| segments.len() < pattern.len() && begins(pattern, segments))
    {
        let (whole, own) = (pattern.join("/"), segments.join("/"));
        return format!("is the beginning of names such as `{whole}`; everything beneath it is `{own}/*`");
    }
    let known: Vec<String> = patterns().map(|(_, pattern)| format!("`{}`", pattern.join("/"))).collect();
    let known = known.join(", ");
    match nearest(segments) {
        Some(meant) => format!("is in no known collection; did you mean `{meant}`? Known are {known}"),
        None => format!("is in no known collection; known are {known}"),
    }
}

/// The name that was probably meant: the one with the fewest letters changed in its collections.
fn nearest(segments: &[&str]) -> Option<String> {
    let distance = |pattern: &[&str]| -> usize {
        let literals = pattern.iter().zip(segments).filter(|(part, _)| !is_placeholder(part));
        literals.map(|(part, segment)| edits(part, segment)).sum()
    };
    let (best, pattern) = patterns()
        .filter(|(_, pattern)| pattern.len() == segments.len())
        .map(|(_, pattern)| (distance(&pattern), pattern))
        .min_by_key(|(distance, _)| *distance)?;
    let meant = pattern.iter().zip(segments);
    let meant: Vec<&str> =
        meant.map(|(part, segment)| if is_placeholder(part) { segment } else { part }).copied().collect();
    (best <= 3).then(|| meant.join("/"))
}

/// Letters to insert, delete or replace to get from one word to the other, upper and lower case alike.
fn edits(left: &str, right: &str) -> usize {
    let right = right.as_bytes();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, letter) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (index, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(!letter.eq_ignore_ascii_case(other));
            diagonal = row[index + 1];
            row[index + 1] = replaced.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<String, String> {
        parse_name(text).map(|(name, kind)| format!("{name} {}", kind.name()))
    }

    #[test]
    fn the_kind_follows_from_the_collection() {
        assert_eq!(name("providers/groq").unwrap(), "providers/groq provider");
        assert_eq!(name("providers/groq/apiKeys/prodKey").unwrap(), "providers/groq/apiKeys/prodKey api_key");
        assert_eq!(name("settings/maxRetries").unwrap(), "settings/max_retries setting");
        assert_eq!(
            name("users/Alice/settings/HTTPTimeout").unwrap(),
            "users/Alice/settings/http_timeout setting"
        );
    }

    #[test]
    fn unknown_collections_are_refused_with_a_hint() {
        for (text, hint) in [
            ("provider/groq", "did you mean `providers/groq`?"),
            ("providers/groq/apikeys/a", "did you mean `providers/groq/apiKeys/a`?"),
            ("Settings/x", "did you mean `settings/x`?"),
            ("somewhere/else", "is in no known collection; known are `providers/{id}`"),
            ("provider", "is in no known collection; known are"),
            ("models/openai", "everything beneath it is `models/openai/*`"),
            ("users/alice", "is the beginning of names such as `users/{user}/settings/{key}`"),
            ("", "is required"),
            ("providers//x", "empty segment"),
        ] {
            let problem = name(text).unwrap_err();
            assert!(problem.contains(hint), "{text}: {problem}");
        }
        // Normalisation can make a key too long.
        let long = "aB".repeat(64);
        assert!(name(&format!("settings/{long}")).unwrap_err().contains("at most 128"));
    }

    #[test]
    fn patterns_are_read_as_they_are_written() {
        for (text, spelt) in [
            ("*", "*"),
            ("providers/*", "providers/*"),
            ("providers/groq/*", "providers/groq/*"),
            ("users/alice/*", "users/alice/*"),
            ("kind:api_key", "kind:api_key"),
            ("settings/maxRetries", "settings/max_retries"),
            ("settings/maxRetries/*", "settings/max_retries/*"),
        ] {
            let pattern = parse_pattern(text).unwrap();
            assert_eq!(pattern.to_text(), spelt);
            assert_eq!(parse_pattern(spelt), Some(pattern));
        }
        for bad in
            ["", "/*", "**", "providers*", "nothing/*", "kind:", "kind:nothing", "providers/groq*", "a b"]
        {
            assert_eq!(parse_pattern(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_pattern_is_bound_to_a_kind_or_is_not() {
        for (text, kind) in [
            ("*", None),
            ("providers/*", None),
            ("providers/groq", Some("provider")),
            ("providers/groq/*", Some("api_key")),
            ("providers/groq/apiKeys/*", Some("api_key")),
            ("settings/*", Some("setting")),
            ("users/*", Some("setting")),
            ("settings/x/*", None),
            ("kind:setting", Some("setting")),
        ] {
            let found = kind_of_pattern(&parse_pattern(text).unwrap());
            assert_eq!(found.map(|kind| kind.0), kind, "{text}");
        }
    }

    #[test]
    fn selectors_are_checked_whole() {
        use v1::selector::Pattern as Given;
        let selector = |pattern, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            parse_selector(&v1::Selector { pattern, labels }, "selectors[0]")
        };
        let paths = |result: Result<Selector, Vec<FieldViolation>>| -> Vec<String> {
            result.unwrap_err().into_iter().map(|violation| violation.field).collect()
        };
        assert_eq!(selector(None, &[]).unwrap(), Selector::of(Pattern::All));
        let one = selector(Some(Given::Name("settings/aB".into())), &[("team", "x")]).unwrap();
        assert_eq!((one.pattern.to_text().as_str(), one.labels.len()), ("settings/a_b", 1));
        assert_eq!(paths(selector(Some(Given::Prefix("providers".into())), &[])), ["selectors[0].prefix"]);
        assert_eq!(paths(selector(Some(Given::Prefix("/".into())), &[])), ["selectors[0].prefix"]);
        assert_eq!(
            paths(selector(Some(Given::Kind("nothing".into())), &[("-", "x")])),
            ["selectors[0].labels.-", "selectors[0].kind"]
        );
    }
}

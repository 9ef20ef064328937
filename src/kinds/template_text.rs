//! Texts with variables: `{{name}}` stands for one, `{{"{{"}}` for two opening braces, everything else for itself.
//!
//! Single braces are left alone, because prompts are full of JSON.

/// A place where a text uses a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage<'text> {
    /// The variable.
    pub name: &'text str,
    /// The character that its braces begin at, counted from 1.
    pub at: usize,
}

/// What is wrong with the braces that begin at a character, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BraceError {
    /// They are never closed.
    Unclosed(usize),
    /// What is between them is not the name of a variable.
    NoName(usize),
}

/// Every use of a variable in a text, up to the first thing that is wrong with it.
pub(super) fn usages(text: &str) -> Result<Vec<Usage<'_>>, BraceError> {
    let (mut found, mut rest, mut at) = (Vec::new(), text, 1);
    while let Some(start) = rest.find("{{") {
        at += rest[..start].chars().count();
        let inside = &rest[start + 2..];
        let literal = inside.trim_start_matches(' ').strip_prefix("\"{{\"");
        let (name, after) = match literal {
            Some(after) => {
                (None, after.trim_start_matches(' ').strip_prefix("}}").ok_or(BraceError::NoName(at))?)
            }
            None => {
                let (name, after) = inside.split_once("}}").ok_or(BraceError::Unclosed(at))?;
                (Some(name.trim_matches(' ')), after)
            }
        };
        match name {
            Some(name) if is_name(name) => found.push(Usage { name, at }),
            Some(_) => return Err(BraceError::NoName(at)),
            None => {}
        }
        at += rest[start..rest.len() - after.len()].chars().count();
        rest = after;
    }
    Ok(found)
}

/// The first name between single braces, which other systems' templates have for a variable. What stands behind a letter, `\\`,
/// `$`, `%` or `#`, as in LaTeX and shell scripts, is none.
pub(super) fn single_braced(text: &str) -> Option<&str> {
    let starts = text.match_indices('{').map(|(start, _)| start);
    let mut names = starts.filter_map(|start| {
        let before = text[..start].chars().next_back();
        let begins = before.is_none_or(|letter| !letter.is_alphanumeric() && !"{}\\$%#_^".contains(letter));
        let (name, after) = text[start + 1..].split_once('}')?;
        (begins && is_name(name) && !after.starts_with('}')).then_some(name)
    });
    names.next()
}

/// Whether a text is the name of a variable.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 64
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<(&str, usize)> {
        usages(text).unwrap().into_iter().map(|usage| (usage.name, usage.at)).collect()
    }

    #[test]
    fn variables_are_found_where_they_stand() {
        assert_eq!(found("Hällo {{name}}, {{ _a1 }}{{name}}!"), [("name", 7), ("_a1", 17), ("name", 26)]);
        assert_eq!(found("{\"a\": {\"b\": {{value}}}} }} { {x} {% if %}"), [("value", 13)]);
        assert_eq!(found("say {{\"{{\"}} and {{ \"{{\" }}x}} {{y}}"), [("y", 32)]);
        assert_eq!(found(""), []);
    }

    #[test]
    fn braces_that_are_no_variable_are_told() {
        assert_eq!(usages("ä {{name"), Err(BraceError::Unclosed(3)));
        assert_eq!(usages("{{"), Err(BraceError::Unclosed(1)));
        let long = format!("{{{{{}}}}}", "x".repeat(65));
        for text in [
            "{{}}",
            "{{ }}",
            "{{1a}}",
            "{{a b}}",
            "{{a.b}}",
            "{{{a}}}",
            "{{ä}}",
            "{{\n a}}",
            "{{\"{{\"x}}",
            &long,
        ] {
            assert_eq!(usages(text), Err(BraceError::NoName(1)), "{text}");
        }
    }

    #[test]
    fn regression_variables_of_other_systems_are_noticed() {
        assert_eq!(single_braced("Rewrite {text} for {audience}"), Some("text"));
        assert_eq!(single_braced("{\"a\": {b}}, ({_x})"), Some("_x"));
        for text in [
            "",
            "{{text}}",
            "{\"a\": 1}",
            "{ text }",
            "{}",
            "\\frac{a}{b}",
            "${HOME}",
            "{a",
            "}{",
            "{% if %}",
        ] {
            assert_eq!(single_braced(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([{} \"a-c]|\\PC){0,40}") {
            let _ = (usages(&text), single_braced(&text));
        }

        #[test]
        fn what_is_put_in_is_found(names in proptest::collection::vec("[a-z_][a-z0-9_]{0,8}", 0..6), between in "[^{]{0,6}") {
            let text: String = names.iter().map(|name| format!("{between}{{{{{name}}}}}")).collect();
            let found = usages(&text).unwrap();
            prop_assert_eq!(found.iter().map(|usage| usage.name).collect::<Vec<_>>(), names);
            for usage in found {
                let behind: String = text.chars().skip(usage.at - 1).collect();
                let expected = format!("{{{{{}}}}}", usage.name);
                prop_assert!(behind.starts_with(&expected));
            }
        }
    }
}

//! `.env` files and environment lists: `NAME=VALUE` lines as variables.
//!
//! Knows the syntax, and nothing of what a name means. Accepted are
//!
//! - a byte order mark, LF and CRLF, empty lines, comments (`#` at the beginning of a line, or after white space behind an
//!   unquoted or quoted value), `export` before a name, white space around the name and the `=`;
//! - `'single quotes'`, in which everything stands for itself; `"double quotes"`, in which `\n`, `\r`, `\t`, `\"`, `\'`, `\\`,
//!   `\$` and `` \` `` are escapes; both may hold line breaks;
//! - `${NAME}` and `${NAME:-default}` in unquoted and double-quoted values, for variables that stand further up. A bare `$` is
//!   itself, because passwords hold it.
//!
//! The last of several lines with one name wins, as it does in a shell.

use std::{collections::BTreeMap, iter::Peekable, str::CharIndices};

use zeroize::Zeroizing;

use super::Problem;
use crate::crypto::SecretText;

/// A variable of a file.
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: SecretText,
    /// The line where it begins, from 1.
    pub line: usize,
    /// The earlier lines that it overrides.
    pub overrides: Vec<usize>,
}

/// Reads the variables of a text, in the order of their lines, and what is wrong with the lines that can't be read, with `place`
/// and the line's number.
#[must_use]
pub fn parse(place: &str, text: &str) -> (Vec<Variable>, Vec<Problem>) {
    let mut reader = Reader::new(place, text.strip_prefix('\u{FEFF}').unwrap_or(text));
    while reader.rest.peek().is_some() {
        reader.line();
    }
    let mut variables: Vec<Variable> = reader.variables.into_values().collect();
    variables.sort_by_key(|variable| variable.line);
    (variables, reader.problems)
}

struct Reader<'a> {
    place: &'a str,
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    line: usize,
    variables: BTreeMap<String, Variable>,
    problems: Vec<Problem>,
}

type Value = Zeroizing<String>;

impl<'a> Reader<'a> {
    fn new(place: &'a str, text: &'a str) -> Self {
        Self {
            place,
            text,
            rest: text.char_indices().peekable(),
            line: 1,
            variables: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    /// Reads one line, or several where a value goes over them, with its end.
    fn line(&mut self) {
        let line = self.line;
        let begin = self.rest.clone();
        self.spaces();
        let read = match self.rest.peek() {
            Some((_, '#' | '\n' | '\r')) | None => Ok(None),
            Some(_) => self.assignment(),
        };
        if read.is_err() {
            // A quote that nobody has closed takes no lines along.
            (self.rest, self.line) = (begin, line);
        }
        self.skip_line();
        match read {
            Ok(None) => {}
            Ok(Some((name, value))) => self.keep(name, &value, line),
            Err(what) => {
                let place = format!("{}, line {line}", self.place);
                self.problems.push(Problem { place, what });
            }
        }
    }

    fn keep(&mut self, name: String, value: &str, line: usize) {
        let before = self.variables.remove(&name);
        let overrides = before.map_or_else(Vec::new, |before| {
            let mut overrides = before.overrides;
            overrides.push(before.line);
            overrides
        });
        let variable = Variable { name: name.clone(), value: SecretText::from(value), line, overrides };
        self.variables.insert(name, variable);
    }

    fn assignment(&mut self) -> Result<Option<(String, Value)>, String> {
        let mut name = self.word();
        if name == "export" && self.spaces() > 0 && !self.at('=') {
            name = self.word();
            self.spaces();
            if self.at_line_end() {
                // `export NAME` only passes on what is set elsewhere.
                return Ok(None);
            }
        }
        self.spaces();
        if !self.at('=') {
            return Err(
                "is not NAME=VALUE; put `#` before comments, and values of several lines in quotes".into()
            );
        }
        self.rest.next();
        let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if name.is_empty() || !letters || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err("has a name that is none; names are letters, digits and `_`".into());
        }
        self.spaces();
        let value = match self.rest.peek().map(|(_, letter)| *letter) {
            Some('\'') => self.quoted('\''),
            Some('"') => self.quoted('"'),
            _ => self.bare(),
        };
        let value = value.map_err(|what| format!("{name} {what}"))?;
        Ok(Some((name, value)))
    }

    /// Letters up to white space, `=` or the line's end.
    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some((_, letter)) =
            self.rest.next_if(|(_, letter)| !letter.is_whitespace() && *letter != '=')
        {
            word.push(letter);
        }
        word
    }

    fn bare(&mut self) -> Result<Value, String> {
        let mut value = self.buffer();
        while let Some((_, letter)) = self.rest.next_if(|(_, letter)| !matches!(letter, '\n' | '\r')) {
            match letter {
                '#' if value.is_empty() || value.ends_with([' ', '\t']) => break,
                '$' if self.at('{') => self.substitute(&mut value)?,
                letter => value.push(letter),
            }
        }
        let length = value.trim_end().len();
        value.truncate(length);
        Ok(value)
    }

    fn quoted(&mut self, quote: char) -> Result<Value, String> {
        self.rest.next();
        let mut value = self.buffer();
        loop {
            let Some((_, letter)) = self.rest.next() else {
                return Err(format!("has a value that begins with {quote} and does not end with it"));
            };
            match letter {
                letter if letter == quote => break,
                '\\' if quote == '"' => self.escape(&mut value),
                '$' if quote == '"' && self.at('{') => self.substitute(&mut value)?,
                letter => {
                    self.line += usize::from(letter == '\n');
                    value.push(letter);
                }
            }
        }
        let spaces = self.spaces();
        match self.at_line_end() || (spaces > 0 && self.at('#')) {
            true => Ok(value),
            false => Err("has something behind its closing quote; escape quotes within the value".into()),
        }
    }

    fn escape(&mut self, value: &mut Value) {
        match self.rest.next() {
            Some((_, 'n')) => value.push('\n'),
            Some((_, 'r')) => value.push('\r'),
            Some((_, 't')) => value.push('\t'),
            Some((_, letter @ ('"' | '\'' | '\\' | '$' | '`'))) => value.push(letter),
            Some((_, letter)) => {
                self.line += usize::from(letter == '\n');
                value.push('\\');
                value.push(letter);
            }
            None => value.push('\\'),
        }
    }

    /// Puts the value of `${NAME}` in; the `$` is read already.
    fn substitute(&mut self, value: &mut Value) -> Result<(), String> {
        self.rest.next();
        let mut inner = self.buffer();
        loop {
            match self.rest.next() {
                Some((_, '}')) => break,
                Some((_, '\n' | '\r')) | None => {
                    return Err(
                        "has `${` without `}`; put the value in single quotes if it is meant so".into()
                    );
                }
                Some((_, letter)) => inner.push(letter),
            }
        }
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner.as_str(), None),
        };
        let found = self.variables.get(name).map(|variable| variable.value.expose());
        let Some(found) = found.filter(|found| !found.is_empty() || default.is_none()).or(default) else {
            return Err(
                "refers with `${...}` to a variable that is not set further up; put the value in single \
                        quotes if it is meant so"
                    .into(),
            );
        };
        value.push_str(found);
        Ok(())
    }

    /// Room for all that may come, so that growing leaves no copies behind that nobody wipes.
    fn buffer(&mut self) -> Value {
        let here = self.rest.peek().map_or(self.text.len(), |(index, _)| *index);
        Zeroizing::new(String::with_capacity((self.text.len() - here).min(64 * 1024)))
    }

    fn spaces(&mut self) -> usize {
        let mut count = 0;
        while self.rest.next_if(|(_, letter)| matches!(letter, ' ' | '\t')).is_some() {
            count += 1;
        }
        count
    }

    fn at(&mut self, letter: char) -> bool {
        self.rest.peek().is_some_and(|(_, next)| *next == letter)
    }

    fn at_line_end(&mut self) -> bool {
        self.rest.peek().is_none_or(|(_, next)| matches!(next, '\n' | '\r'))
    }

    fn skip_line(&mut self) {
        for (_, letter) in self.rest.by_ref() {
            if letter == '\n' {
                self.line += 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let (variables, problems) = parse(".env", text);
        assert_eq!(problems, []);
        variables.into_iter().map(|one| (one.name.clone(), one.value.expose().to_owned())).collect()
    }

    #[track_caller]
    fn value(text: &str) -> String {
        let all = read(&format!("OTHER=other\nX={text}\nLAST=1"));
        assert_eq!(all.last().map(|(name, _)| name.as_str()), Some("LAST"), "what follows is read");
        all.into_iter().find(|(name, _)| name == "X").unwrap().1
    }

    #[test]
    fn values_in_every_form() {
        for (text, expected) in [
            ("a", "a"),
            ("", ""),
            ("  a b  ", "a b"),
            ("a # comment", "a"),
            ("a#b", "a#b"),
            ("# comment", ""),
            ("'a # b'", "a # b"),
            (r"'a\n${OTHER}'", r"a\n${OTHER}"),
            (r#""a\n\"b\"\\ \$c" # comment"#, "a\n\"b\"\\ $c"),
            (r#""a\d""#, r"a\d"),
            ("\"a\nb\"", "a\nb"),
            ("'a\nb'", "a\nb"),
            ("${OTHER}-x", "other-x"),
            ("\"${OTHER}\"", "other"),
            ("${MISSING:-d}", "d"),
            ("p$w$d", "p$w$d"),
            ("a=b==", "a=b=="),
            ("a\r", "a"),
            ("\"\"", ""),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_in_every_form() {
        let text = "\u{FEFF}A=1\r\n\r\n# comment\r\nexport B='2'\r\n  C = 3\r\nexport D\r\nA=4\r\nexport=5";
        let expected = [("B", "2"), ("C", "3"), ("A", "4"), ("export", "5")];
        assert_eq!(read(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let (variables, _) = parse(".env", text);
        let last = variables.iter().find(|variable| variable.name == "A").unwrap();
        assert_eq!((last.line, last.overrides.as_slice()), (7, [1].as_slice()));
    }

    #[test]
    fn problems_name_the_line_and_no_value() {
        let text = "A=1\nsk-secret\nB=\"sk-secret\nC=sk-secret";
        let (variables, problems) = parse(".env", text);
        let names: Vec<&str> = variables.iter().map(|variable| variable.name.as_str()).collect();
        assert_eq!(names, ["A", "C"], "what can be read is read");
        let places: Vec<&str> = problems.iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places, [".env, line 2", ".env, line 3"]);
        assert!(!format!("{problems:?}").contains("secret"));
        for text in ["1A=x", "A B=x", "=x", "A='x'y", "A=${", "A=${NONE}", "A=\"x", "export A B"] {
            assert!(!parse(".env", text).1.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn regression_a_quote_that_is_not_closed_takes_no_lines_along() {
        for text in ["A=\"x\nB=1\nC=2", "A='x\nB=1\nC=2", "A=\"x\nB=\"1\"\nC=2", "A=\"x ${\nB=1\nC=2"] {
            let (variables, problems) = parse(".env", text);
            let names: Vec<&str> = variables.iter().map(|variable| variable.name.as_str()).collect();
            assert_eq!((names.as_slice(), problems.len()), (&["B", "C"][..], 1), "{text:?}");
            assert_eq!(problems[0].place, ".env, line 1");
            assert_eq!(variables.iter().map(|variable| variable.line).collect::<Vec<_>>(), [2, 3]);
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}|([A-B]|[=\"'\\\\${}#: \n\r]|export){0,40}") {
            let _ = parse(".env", &text);
        }

        #[test]
        fn single_quotes_keep_everything(text in "[^'\r]{0,40}") {
            prop_assert_eq!(value(&format!("'{text}'")), text);
        }
    }
}

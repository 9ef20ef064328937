//! Everything that is wrong with a request, gathered before anything is answered; and the rules for texts, which hold in
//! every field of every request.
//!
//! Descriptions read on from the field's path and say what would be right. They never repeat a value, which may be a
//! secret in the wrong place.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::{Error, FieldViolation, Result};

/// What a text may look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Text {
    /// One line that is shown, compared and searched: nothing invisible, and only one spelling of what looks the same
    /// (Unicode's normalisation form C).
    Line,
    /// Several lines, for people: line feeds and tabs are fine.
    Prose,
    /// A value for programs: white space is fine, and so are the marks that right-to-left scripts need; what reorders the
    /// text around it is not.
    Value,
}

/// Collects everything that is wrong.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Notes one thing.
    pub fn add(&mut self, field: impl Into<String>, reason: &'static str, description: impl Into<String>) {
        self.0.push(FieldViolation::new(field, reason, description));
    }

    /// Checks the length and the characters of a text.
    pub fn text(&mut self, field: &str, value: &str, form: Text, max_chars: usize) {
        let chars = value.chars().count();
        if chars > max_chars {
            self.add(field, "TOO_LONG", format!("has {chars} characters; at most {max_chars} are allowed"));
        }
        if let Some((index, letter)) = value.chars().enumerate().find(|(_, letter)| forbidden(*letter, form))
        {
            let code = u32::from(letter);
            let what =
                if letter.is_control() { "a control character" } else { "an invisible formatting character" };
            self.add(
                field,
                "FORBIDDEN_CHARACTER",
                format!("holds {what} (U+{code:04X}) as character {}; remove it", index + 1),
            );
        } else if form == Text::Line && !is_nfc(value) {
            self.add(
                field,
                "NOT_NORMALISED",
                "must be in Unicode's normalisation form C, so that what looks the same is the same",
            );
        }
    }

    /// As [`Self::text`], of a text that has to be there.
    pub fn required(&mut self, field: &str, value: &str, form: Text, max_chars: usize) {
        match value {
            "" => self.add(field, "REQUIRED", format!("is required, with at most {max_chars} characters")),
            value => self.text(field, value, form, max_chars),
        }
    }

    /// Checks that a count is within bounds.
    pub fn at_most(&mut self, field: &str, count: usize, max: usize, what: &str) {
        if count > max {
            self.add(field, "TOO_MANY", format!("has {count} {what}; at most {max} are allowed"));
        }
    }

    /// The value of a part that is right; what is wrong with it is noted, and there is none.
    ///
    /// # Errors
    /// Those of the part that are not about a field: they end the request at once.
    pub fn take<T>(&mut self, part: Result<T>) -> Result<Option<T>> {
        match part {
            Ok(value) => Ok(Some(value)),
            Err(Error::Invalid(found)) => {
                self.0.extend(found);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that was noted.
    #[must_use]
    pub fn into_vec(self) -> Vec<FieldViolation> {
        self.0
    }

    /// The value that was read, if nothing is wrong; where there is none, something must have been noted.
    ///
    /// # Errors
    /// [`Error::Invalid`] with everything that was noted, if anything was.
    pub fn allow<T>(self, value: Option<T>) -> Result<T> {
        self.into_result()?;
        value.ok_or_else(|| Error::internal("a request is incomplete, and nothing is wrong with it"))
    }

    /// # Errors
    /// [`Error::Invalid`] with everything that was noted, if anything was.
    pub fn into_result(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}

impl Extend<FieldViolation> for Violations {
    fn extend<T: IntoIterator<Item = FieldViolation>>(&mut self, found: T) {
        self.0.extend(found);
    }
}

fn forbidden(letter: char, form: Text) -> bool {
    match form {
        Text::Line => letter.is_control() || misleads(letter),
        Text::Prose => (letter.is_control() && !is_space(letter)) || misleads(letter),
        Text::Value => (letter.is_control() && !is_space(letter)) || reorders(letter),
    }
}

fn is_space(letter: char) -> bool {
    matches!(letter, '\n' | '\t' | '\r')
}

/// Characters that make a reader see something else than what stands there: bidirectional controls and line separators.
fn misleads(letter: char) -> bool {
    reorders(letter)
        || matches!(letter, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}' | '\u{2029}' | '\u{FEFF}')
}

/// The bidirectional embeddings, overrides and isolates (UAX #9), which show a text in another order than programs read.
fn reorders(letter: char) -> bool {
    matches!(letter, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn is_nfc(text: &str) -> bool {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => true,
        IsNormalized::No => false,
        IsNormalized::Maybe => text.nfc().eq(text.chars()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(value: &str, form: Text) -> Vec<String> {
        let mut violations = Violations::default();
        violations.text("field", value, form, 10);
        violations.into_vec().into_iter().map(|violation| violation.description).collect()
    }

    #[test]
    fn texts_show_what_they_hold() {
        assert!(problem("Grüße 👋", Text::Line).is_empty());
        assert!(problem("a\n\tb", Text::Prose).is_empty());
        assert_eq!(
            problem("ab\u{202E}", Text::Line),
            ["holds an invisible formatting character (U+202E) as character 3; remove it"]
        );
        assert_eq!(problem("a\nb", Text::Line).len(), 1);
        assert_eq!(problem("a\0b", Text::Value).len(), 1);
        assert_eq!(problem("12345678901", Text::Line), ["has 11 characters; at most 10 are allowed"]);
    }

    /// Fault 25 of the reliability contract.
    #[test]
    fn nothing_reorders_a_text_but_marks_of_right_to_left_scripts_are_values() {
        for letter in ['\u{202A}', '\u{202E}', '\u{2066}', '\u{2069}'] {
            for form in [Text::Line, Text::Prose, Text::Value] {
                assert_eq!(problem(&format!("a{letter}b"), form).len(), 1, "{letter:?} {form:?}");
            }
        }
        assert!(problem("\u{200F}שלום", Text::Value).is_empty());
        assert_eq!(problem("\u{200F}שלום", Text::Line).len(), 1);
    }

    #[test]
    fn what_looks_the_same_has_one_spelling_in_a_line() {
        assert!(problem("Gr\u{fc}n", Text::Line).is_empty());
        assert_eq!(problem("Gru\u{308}n", Text::Line).len(), 1);
        assert!(problem("Gru\u{308}n", Text::Value).is_empty(), "a value is taken as it is");
    }

    #[test]
    fn parts_are_gathered_and_other_errors_end_it() {
        let mut violations = Violations::default();
        assert_eq!(violations.take(Ok(1)), Ok(Some(1)));
        assert!(violations.is_empty());
        assert_eq!(violations.take::<u8>(Err(Error::invalid("a", "R", "is wrong"))), Ok(None));
        violations.required("b", "", Text::Line, 9);
        let denied = Error::NotFound { name: "x".into() };
        assert_eq!(violations.take::<u8>(Err(denied.clone())), Err(denied));
        let Err(Error::Invalid(found)) = violations.into_result() else { panic!("two things are wrong") };
        assert_eq!(found.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}

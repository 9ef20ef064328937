//! Reads filters: recursive descent over the text, with a bound on its depth.

use super::{
    Comparison, Expression, FilterError, SpecField, Subject,
    operand::{Literal, Operand},
};
use crate::{
    domain::{KindName, limits, spec},
    kinds::{
        paths::{self, PathError, Step},
        reflect, registry,
        rules::shown,
    },
};

/// Parentheses and negations within each other.
const MAX_DEPTH: usize = 32;

/// Longer spellings come before their beginnings.
const COMPARISONS: [(&str, Comparison); 7] = [
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("=", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    (":", Comparison::Has),
];

type Parsed<T> = Result<T, FilterError>;

pub(super) fn parse(text: &str, kind: Option<KindName>) -> Parsed<Expression> {
    let mut parser = Parser { text, at: 0, depth: 0, kind };
    if text.len() > limits::FILTER_BYTES {
        let max = limits::FILTER_BYTES;
        return Err(
            parser.error(0, format!("the filter has {} bytes; at most {max} are allowed", text.len()))
        );
    }
    parser.skip_space();
    if parser.rest().is_empty() {
        return Ok(Expression::All(Vec::new()));
    }
    let expression = parser.expression()?;
    if parser.rest().is_empty() {
        return Ok(expression);
    }
    let hint = match parser.rest().starts_with(')') {
        true => "this parenthesis closes nothing",
        false => "expected `AND` or `OR` (in capital letters) or the end; put texts with spaces in quotes",
    };
    Err(parser.error(parser.at, hint))
}

struct Parser<'text> {
    text: &'text str,
    at: usize,
    depth: usize,
    /// The kind that is filtered, where it is a single one: its fields are those to be told of.
    kind: Option<KindName>,
}

impl Parser<'_> {
    fn expression(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.factor()?];
        while self.take_keyword("AND") {
            parts.push(self.factor()?);
        }
        Ok(one_or(parts, Expression::All))
    }

    fn factor(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.term()?];
        while self.take_keyword("OR") {
            parts.push(self.term()?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn term(&mut self) -> Parsed<Expression> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(self.at, format!("nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let start = self.at;
        let term = if self.take_keyword("NOT") || self.take("-") {
            Expression::Not(Box::new(self.term()?))
        } else if self.take("(") {
            let inner = self.expression()?;
            if !self.take(")") {
                return Err(self.error(start, "this parenthesis is not closed"));
            }
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(term)
    }

    fn comparison(&mut self) -> Parsed<Expression> {
        let start = self.at;
        let field = self.word(|letter| letter.is_alphanumeric() || "_.-/`@+".contains(letter));
        if field.is_empty() {
            return Err(self.error(start, "expected a field, for example `enabled = true`"));
        }
        let found = COMPARISONS.into_iter().find(|(sign, _)| self.take(sign));
        let Some((_, comparison)) = found else {
            let field = shown(&field);
            let message = format!("expected one of `=`, `!=`, `<`, `<=`, `>`, `>=`, `:` after `{field}`");
            return Err(self.error(self.at, message));
        };
        let at_literal = self.at;
        let literal = self.literal()?;
        let subject = subject(&field, comparison, &literal).map_err(|problem| match problem {
            Problem::Field(message) => self.error(start, message),
            Problem::Unknown => {
                let known = known_fields(self.kind);
                self.error(start, format!("there is no field `{}`; known are {known}", shown(&field)))
            }
            Problem::Literal(message) => self.error(at_literal, message),
        })?;
        Ok(Expression::Compare(subject, comparison))
    }

    fn literal(&mut self) -> Parsed<Literal> {
        let start = self.at;
        let Some(quote) = self.rest().chars().next().filter(|letter| matches!(letter, '"' | '\'')) else {
            let text = self.word(|letter| !letter.is_whitespace() && !"()\"'=<>!".contains(letter));
            if text.is_empty() {
                return Err(self.error(start, "expected a value; put an empty or special text in quotes"));
            }
            return Ok(Literal { text, quoted: false });
        };
        let mut text = String::new();
        let mut escaped = false;
        for (index, letter) in self.rest().char_indices().skip(1) {
            match letter {
                _ if escaped => {
                    escaped = false;
                    text.push(letter);
                }
                '\\' => escaped = true,
                _ if letter == quote => {
                    self.at += index + 1;
                    self.skip_space();
                    return Ok(Literal { text, quoted: true });
                }
                _ => text.push(letter),
            }
        }
        Err(self.error(start, "this quote is not closed"))
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
            self.skip_space();
        }
        found
    }

    /// Takes a keyword, which ends where a word would.
    fn take_keyword(&mut self, keyword: &str) -> bool {
        let after = self.rest().strip_prefix(keyword).map(|after| after.chars().next());
        after.is_some_and(|next| next.is_none_or(|letter| letter.is_whitespace() || letter == '('))
            && self.take(keyword)
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let rest = self.rest();
        let end = rest.find(|letter| !belongs(letter)).unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.at += end;
        self.skip_space();
        word
    }

    fn error(&self, at: usize, message: impl Into<String>) -> FilterError {
        let position = self.text.get(..at).unwrap_or_default().chars().count() + 1;
        FilterError { position, message: message.into() }
    }
}

fn one_or(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => join(parts),
    }
}

/// Which side of a comparison is at fault.
enum Problem {
    Field(String),
    /// There is no such field.
    Unknown,
    Literal(String),
}

fn subject(field: &str, comparison: Comparison, literal: &Literal) -> Result<Subject, Problem> {
    let has = comparison == Comparison::Has;
    let text = || Operand::text(comparison, literal);
    match field {
        "name" => Ok(Subject::Name(text())),
        "kind" => kind_operand(comparison, literal).map(Subject::Kind),
        "labels" if has => Ok(Subject::Labels(text())),
        "labels" => {
            Err(Problem::Field("compare one label, `labels.<key>`, or ask for a key, `labels: <key>`".into()))
        }
        _ => match field.strip_prefix("labels.") {
            Some(key) => Ok(Subject::Label(key.replace('`', ""), text())),
            None => spec_fields(field, comparison, literal),
        },
    }
}

fn kind_operand(comparison: Comparison, literal: &Literal) -> Result<Operand, Problem> {
    if !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
        return Err(Problem::Field("`kind` is compared with `=` or `!=`".into()));
    }
    if spec::kind_named(&literal.text).is_none() {
        let known: Vec<&str> = registry().iter().map(|kind| kind.name().0).collect();
        return Err(Problem::Literal(format!("there is no such kind; known are {}", known.join(", "))));
    }
    Ok(Operand::text(comparison, literal))
}

/// The field in every kind that has it; at least one must, and must take the literal.
fn spec_fields(field: &str, comparison: Comparison, literal: &Literal) -> Result<Subject, Problem> {
    let mut fields = Vec::new();
    let mut refused = Vec::new();
    for (kind, steps) in places(field)? {
        match Operand::read(&steps, comparison, literal) {
            Ok(operand) => fields.push(SpecField { kind, steps, operand }),
            Err(problem) => refused.push((kind, problem)),
        }
    }
    if !fields.is_empty() {
        return Ok(Subject::Fields(fields));
    }
    let first = refused.first().map(|(_, problem)| problem.clone()).unwrap_or_default();
    if refused.iter().all(|(_, problem)| *problem == first) {
        return Err(Problem::Literal(first));
    }
    let each: Vec<String> = refused.iter().map(|(kind, problem)| format!("of `{kind}` {problem}")).collect();
    Err(Problem::Literal(each.join("; ")))
}

/// Where a path leads, in every kind.
fn places(field: &str) -> Result<Vec<(KindName, Vec<Step>)>, Problem> {
    let segments = paths::split(field);
    let resource = reflect::resource();
    let mut places = Vec::new();
    let mut problem = None;
    for kind in registry().iter().map(|kind| kind.name()) {
        let with_arm: Vec<String> = match segments.first().is_some_and(|first| paths::arm_is(first, kind)) {
            true => segments.clone(),
            false => [kind.0.to_owned()].into_iter().chain(segments.iter().cloned()).collect(),
        };
        match paths::resolve(&resource, &with_arm) {
            Ok(steps) if paths::ends_in_secret(&steps) => problem = Some(SECRET.to_owned()),
            Ok(steps) if steps.len() > 1 => places.push((kind, steps)),
            Ok(_) => problem = Some(format!("name a field of `{kind}`, or compare `kind = {kind}`")),
            Err(PathError::TooDeep { secret: true, .. }) => problem = Some(SECRET.to_owned()),
            Err(PathError::TooDeep { end, .. }) => {
                problem = Some(format!("nothing follows after `{}`", shown(&end)))
            }
            Err(PathError::Unknown { .. }) => {}
        }
    }
    match problem {
        _ if !places.is_empty() => Ok(places),
        Some(problem) => Err(Problem::Field(problem)),
        None => Err(Problem::Unknown),
    }
}

const SECRET: &str = "secrets can't be filtered by";

/// The fields of a kind, or of all.
fn known_fields(of: Option<KindName>) -> String {
    let mut known = vec!["name".to_owned(), "kind".to_owned(), "labels.<key>".to_owned()];
    for arm in reflect::arms().into_iter().filter(|arm| of.is_none_or(|kind| kind.0 == arm.name())) {
        let kind = arm.kind();
        let fields = kind.as_message().into_iter().flat_map(|message| message.fields().collect::<Vec<_>>());
        known.extend(
            fields
                .filter(|field| !paths::is_secret(field))
                .map(|field| format!("{}.{}", arm.name(), field.name())),
        );
    }
    known.join(", ")
}

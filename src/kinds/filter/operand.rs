//! The right side of a comparison: read once, in the type of the field on the left.

use std::cmp::Ordering;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, Value};

use super::Comparison;
use crate::{
    kinds::{paths::Step, reflect},
    setting_key,
};

/// A value to compare with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    /// `*`: whether there is anything.
    Presence,
    Text(String),
    Whole(i128),
    Number(f64),
    Truth(bool),
    Enum(i32),
    /// In nanoseconds.
    Duration(i128),
    /// A key of a map.
    Key(String),
    /// An element of a list.
    Element(Box<Operand>),
}

/// What was written on the right.
pub(super) struct Literal {
    pub(super) text: String,
    pub(super) quoted: bool,
}

impl Literal {
    /// Whether it is the star that stands for anything.
    pub(super) fn is_star(&self) -> bool {
        !self.quoted && self.text == "*"
    }
}

impl Operand {
    /// Reads a literal for the field that the steps lead to.
    pub(super) fn read(steps: &[Step], comparison: Comparison, literal: &Literal) -> Result<Self, String> {
        let field = match steps.last() {
            Some(Step::Field(field)) => field,
            Some(Step::Key { value, .. }) => value,
            None => return Err("name a field".into()),
        };
        let is_has = comparison == Comparison::Has;
        if is_has && literal.is_star() {
            return Ok(Operand::Presence);
        }
        if field.is_map() || field.is_list() {
            return match (is_has, field.is_map()) {
                (true, true) => Ok(Operand::Key(literal.text.clone())),
                (true, false) => Ok(Operand::Element(Box::new(Self::scalar(field, literal)?))),
                (false, _) => Err(format!("`{}` holds several values; ask with `:`", field.name())),
            };
        }
        let operand = Self::scalar(field, literal)?;
        if operand.has_order() || matches!(comparison, Comparison::Equal | Comparison::NotEqual) || is_has {
            return Ok(operand);
        }
        Err(format!("`{}` has no order; compare with `=` or `!=`", field.name()))
    }

    /// Reads a text.
    pub(super) fn text(comparison: Comparison, literal: &Literal) -> Self {
        match comparison == Comparison::Has && literal.is_star() {
            true => Operand::Presence,
            false => Operand::Text(literal.text.clone()),
        }
    }

    fn scalar(field: &FieldDescriptor, literal: &Literal) -> Result<Self, String> {
        let (name, text) = (field.name(), literal.text.as_str());
        let wrong = |what: &str| Err(format!("`{name}` is compared with {what}"));
        match field.kind() {
            Kind::String => Ok(Operand::Text(text.to_owned())),
            Kind::Bool => match text.to_ascii_lowercase().as_str() {
                "true" => Ok(Operand::Truth(true)),
                "false" => Ok(Operand::Truth(false)),
                _ => wrong("`true` or `false`"),
            },
            Kind::Float | Kind::Double => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Operand::Number(number)),
                _ => wrong("a number"),
            },
            Kind::Enum(values) => enum_value(&values, text).map(Operand::Enum),
            Kind::Message(message) if message.full_name() == "google.protobuf.Duration" => nanoseconds(text)
                .map_or_else(|| wrong("a duration such as `1.5s`"), |it| Ok(Operand::Duration(it))),
            Kind::Message(message) if reflect::is_secret(&message) => {
                Err("secrets can't be filtered by".into())
            }
            Kind::Message(_) => Err(format!("`{name}` has parts; name one of them, or ask `{name}: *`")),
            Kind::Bytes => Err(format!("`{name}` can't be compared")),
            _ => match text.parse::<i64>().map(i128::from).or_else(|_| text.parse::<u64>().map(i128::from)) {
                Ok(number) => Ok(Operand::Whole(number)),
                Err(_) => wrong("a whole number"),
            },
        }
    }

    fn has_order(&self) -> bool {
        matches!(self, Operand::Text(_) | Operand::Whole(_) | Operand::Number(_) | Operand::Duration(_))
    }

    pub(super) fn is_presence(&self) -> bool {
        *self == Operand::Presence
    }

    /// Whether the comparison holds for a field's value; `None` is one that is not set.
    pub(super) fn holds(&self, comparison: Comparison, value: Option<&Value>) -> bool {
        match (self, value) {
            (Operand::Presence, value) => value.is_some(),
            (_, None) => comparison == Comparison::NotEqual,
            (Operand::Key(key), Some(Value::Map(map))) => {
                map.keys().any(|own| reflect::key_text(own) == *key)
            }
            (Operand::Element(element), Some(Value::List(values))) => {
                values.iter().any(|value| element.order(value) == Some(Ordering::Equal))
            }
            (_, Some(Value::String(text))) => self.holds_for_text(comparison, Some(text)),
            (_, Some(value)) => by_order(comparison, self.order(value)),
        }
    }

    /// Whether the comparison holds for a text; `None` is one that is not set.
    pub(super) fn holds_for_text(&self, comparison: Comparison, text: Option<&str>) -> bool {
        match (self, text) {
            (Operand::Presence, text) => text.is_some(),
            (Operand::Text(part), Some(text)) if comparison == Comparison::Has => {
                text.to_lowercase().contains(&part.to_lowercase())
            }
            (Operand::Text(other), Some(text)) => by_order(comparison, Some(text.cmp(other.as_str()))),
            _ => comparison == Comparison::NotEqual,
        }
    }

    /// Whether one of the keys is meant.
    pub(super) fn holds_for_keys<'key>(&self, mut keys: impl Iterator<Item = &'key str>) -> bool {
        match self {
            Operand::Text(key) => keys.any(|own| own == key),
            _ => keys.next().is_some(),
        }
    }

    /// How a value stands to the operand.
    fn order(&self, value: &Value) -> Option<Ordering> {
        match (self, value) {
            (Operand::Text(other), Value::String(text)) => Some(text.cmp(other)),
            (Operand::Whole(other), value) => Some(whole(value)?.cmp(other)),
            (Operand::Number(other), Value::F64(number)) => number.partial_cmp(other),
            (Operand::Number(other), Value::F32(number)) => f64::from(*number).partial_cmp(other),
            (Operand::Truth(other), Value::Bool(truth)) => Some(truth.cmp(other)),
            (Operand::Enum(other), Value::EnumNumber(number)) => Some(number.cmp(other)),
            (Operand::Duration(other), Value::Message(duration)) => {
                let part = |name: &str| duration.get_field_by_name(name).and_then(|part| whole(&part));
                Some((part("seconds")? * 1_000_000_000 + part("nanos")?).cmp(other))
            }
            _ => None,
        }
    }
}

fn by_order(comparison: Comparison, order: Option<Ordering>) -> bool {
    match comparison {
        Comparison::Equal | Comparison::Has => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

fn whole(value: &Value) -> Option<i128> {
    match *value {
        Value::I32(number) => Some(number.into()),
        Value::I64(number) => Some(number.into()),
        Value::U32(number) => Some(number.into()),
        Value::U64(number) => Some(number.into()),
        _ => None,
    }
}

/// `GROQ`, `groq` and `PROVIDER_TYPE_GROQ` are the same value of `ProviderType`.
fn enum_value(values: &EnumDescriptor, text: &str) -> Result<i32, String> {
    let prefix = format!("{}_", setting_key::normalise(values.name()).to_ascii_uppercase());
    let short = |name: &str| name.strip_prefix(&prefix).unwrap_or(name).to_owned();
    let wanted = text.to_ascii_uppercase();
    let found = values.values().find(|value| value.name() == wanted || short(value.name()) == wanted);
    found.map(|value| value.number()).ok_or_else(|| {
        let known: Vec<String> = values.values().skip(1).map(|value| short(value.name())).collect();
        format!("there is no such value; known are {}", known.join(", "))
    })
}

/// Reads the canonical text of a duration.
fn nanoseconds(text: &str) -> Option<i128> {
    let (sign, digits) =
        text.strip_suffix('s')?.strip_prefix('-').map_or((1, text.strip_suffix('s')?), |it| (-1, it));
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(fraction) || seconds.len() > 15 || fraction.len() > 9 {
        return None;
    }
    let seconds: i128 = seconds.parse().ok()?;
    let nanos: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(sign * (seconds * 1_000_000_000 + nanos))
}

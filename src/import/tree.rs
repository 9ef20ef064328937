//! YAML and JSON as one tree, read so that nothing gets lost: a key given twice is refused, and so is what is nested
//! too deeply.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use zeroize::Zeroize as _;

/// Deeper documents are refused, before they can exhaust the stack.
const MAX_DEPTH: usize = 64;

/// A document.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A number, as text.
    Number(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// A map, in the order in which it was written.
    Map(Vec<(String, Tree)>),
}

/// Reads one or several documents. JSON is a subset of YAML only nearly, and much faster to read on its own.
pub fn parse(text: &str, is_json: bool) -> Result<Vec<Tree>, String> {
    if is_json {
        let documents = serde_json::Deserializer::from_str(text).into_iter::<Tree>();
        return documents.collect::<Result<_, _>>().map_err(|error| error.to_string());
    }
    // A file of thousands of resources is no attack: what a text holds is bounded by its length, and what aliases make of
    // it by limits of their own.
    let budget = serde_saphyr::budget! {
        max_documents: usize::MAX,
        max_events: usize::MAX,
        max_nodes: usize::MAX,
    };
    // Without excerpts: the document may hold secrets.
    // `.nan` and `.inf` are numbers that no field takes: who knows the field tells its path.
    let non_finite = serde_saphyr::NonFiniteFloatPolicy::PassThrough;
    let options = serde_saphyr::options! {
        budget: budget,
        with_snippet: false,
        strict_booleans: true,
        non_finite_float_policy: non_finite,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| yaml_problem(&error))
}

/// What is wrong with a YAML text: in words of ours what a person may well have written, else in those of the reader.
fn yaml_problem(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::{Error, budget::BudgetBreach};
    let what = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{}` is given twice; keep one of them", key.escape_debug())
        }
        Error::DuplicateMappingKey { key: None, .. } => "a key is given twice; keep one of them".to_owned(),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => "is nested too deeply".to_owned(),
        // What is bounded besides are anchors and aliases.
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => {
            "its aliases (`*name`) stand for far more than is written there; write out what they stand for"
                .to_owned()
        }
        Error::AliasError { error, .. } => return yaml_problem(error),
        other => return other.to_string(),
    };
    match error.location() {
        Some(at) => format!("{what}, at line {} column {}", at.line(), at.column()),
        None => what,
    }
}

impl Tree {
    /// What it is, for an error. Never what it says: that may be a secret.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self {
            Tree::Null => "nothing",
            Tree::Bool(_) => "true or false",
            Tree::Number(_) => "a number",
            Tree::Text(_) => "text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a map",
        }
    }

    /// The value of a map's key; `None` where there is none, or nothing.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Tree> {
        let Tree::Map(map) = self else { return None };
        map.iter().find(|(name, value)| name == key && *value != Tree::Null).map(|(_, value)| value)
    }

    /// A map's entries; none of anything else.
    #[must_use]
    pub fn entries(&self) -> &[(String, Tree)] {
        match self {
            Tree::Map(map) => map,
            _ => &[],
        }
    }

    /// A list's items; none of anything else.
    #[must_use]
    pub fn items(&self) -> &[Tree] {
        match self {
            Tree::List(list) => list,
            _ => &[],
        }
    }

    /// Text, or a number as text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Tree::Text(text) | Tree::Number(text) => Some(text),
            _ => None,
        }
    }

    /// A flag, in every way in which databases and files write one.
    #[must_use]
    pub fn flag(&self) -> Option<bool> {
        match self {
            Tree::Bool(value) => Some(*value),
            Tree::Text(text) | Tree::Number(text) => match text.to_ascii_lowercase().as_str() {
                "t" | "true" | "1" | "yes" | "on" => Some(true),
                "f" | "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// A whole number that fits, also where it is written as text or with a fraction of nothing.
    #[must_use]
    pub fn whole<T: std::str::FromStr>(&self) -> Option<T> {
        let text = self.text()?;
        text.strip_suffix(".0").unwrap_or(text).parse().ok()
    }

    /// The tree as a JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        match self {
            Tree::Null => "null".to_owned(),
            Tree::Bool(value) => value.to_string(),
            // JSON has no other numbers.
            Tree::Number(text) if !text.ends_with(".nan") && !text.ends_with(".inf") => text.clone(),
            Tree::Number(text) | Tree::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Tree::List(list) => {
                let items: Vec<String> = list.iter().map(Tree::to_json).collect();
                format!("[{}]", items.join(","))
            }
            Tree::Map(map) => {
                let entry = |(key, value): &(String, Tree)| {
                    format!("{}:{}", serde_json::Value::from(key.as_str()), value.to_json())
                };
                format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Level(0).deserialize(deserializer)
    }
}

/// Reads a node at a depth.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.0 >= MAX_DEPTH {
            return Err(E::custom(format_args!("is nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self(self.0 + 1))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Tree;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a document")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
        // As YAML writes what is no finite number.
        Ok(Tree::Number(match value {
            value if value.is_nan() => ".nan".to_owned(),
            f64::INFINITY => ".inf".to_owned(),
            f64::NEG_INFINITY => "-.inf".to_owned(),
            value => value.to_string(),
        }))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let below = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = access.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let below = self.deeper()?;
        let (mut seen, mut map) = (HashSet::new(), Vec::new());
        while let Some(key) = access.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                let key = key.escape_debug();
                return Err(A::Error::custom(format_args!(
                    "the key `{key}` is given twice; keep one of them"
                )));
            }
            map.push((key, access.next_value_seed(below)?));
        }
        Ok(Tree::Map(map))
    }
}

/// Documents that may hold keys: wiped when dropped.
pub struct Wiped(pub Vec<Tree>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(wipe);
    }
}

fn wipe(tree: &mut Tree) {
    match tree {
        Tree::Null | Tree::Bool(_) => {}
        Tree::Number(text) | Tree::Text(text) => text.zeroize(),
        Tree::List(list) => list.iter_mut().for_each(wipe),
        Tree::Map(map) => map.iter_mut().for_each(|(_, value)| wipe(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_read_as_an_import_takes() {
        let text = "---\nname: settings/x\n".repeat(10_000);
        assert_eq!(parse(&text, false).map(|documents| documents.len()), Ok(10_000));
        let text = format!("[{}]", "x,".repeat(300_000));
        let documents = parse(&text, false).unwrap_or_default();
        assert_eq!(documents.iter().flat_map(Tree::items).count(), 300_000);
    }

    #[test]
    fn regression_what_is_wrong_is_told_in_our_words_with_its_line() {
        for (text, is_json) in [("a: 1\nb: 2\na: 3\n", false), ("{\"a\": 1,\n \"b\": 2,\n \"a\": 3}", true)] {
            let told = parse(text, is_json).unwrap_err();
            assert!(told.contains("the key `a` is given twice; keep one of them"), "{told}");
            assert!(told.contains("line 3 column"), "{told}");
        }
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (name, before) in ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip("abcdefgh".chars()) {
            let ten = vec![format!("*{before}"); 10].join(", ");
            bomb += &format!("{name}: &{name} [{ten}]\n");
        }
        let told = parse(&bomb, false).unwrap_err();
        assert!(told.contains("aliases") && told.contains("write out") && told.contains("line "), "{told}");
        // What is no finite number is for the field to refuse.
        let read = parse("a: [.nan, .inf, -.inf, 1e999, 1.5]\n", false).unwrap();
        assert_eq!(read[0].get("a").unwrap().to_json(), "[\".nan\",\".inf\",\"-.inf\",\".inf\",1.5]");
        // An alias that is used as people do is read.
        let read = parse("a: &a {x: 1}\nb: *a\nc: *a\n", false).unwrap();
        assert_eq!(read[0].get("b"), read[0].get("a"));
    }
}

//! Paths from a JSON value to values in it; the language is that of `wire.proto`.

use std::borrow::Cow;

use serde_json::Value;

const PATH_BYTES: usize = 256;
const MAX_STEPS: usize = 16;

/// A path that can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    Element(usize),
    Every,
    /// Those of which the member, however deep, equals the text; or does not.
    Where {
        members: Vec<String>,
        text: String,
        equal: bool,
    },
}

impl Path {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("must be a path, for example `choices[0].message.content`".into());
        }
        if text.len() > PATH_BYTES {
            return Err(format!("has {} bytes; at most {PATH_BYTES} are allowed", text.len()));
        }
        if text == "$" {
            return Ok(Self(Vec::new()));
        }
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (step, after) = match rest.strip_prefix('[') {
                Some(inside) => bracket(inside)?,
                None => member(rest, steps.is_empty())?,
            };
            steps.push(step);
            rest = after;
        }
        if steps.len() > MAX_STEPS {
            return Err(format!("has {} steps; at most {MAX_STEPS} are allowed", steps.len()));
        }
        Ok(Self(steps))
    }

    /// Whether another path goes on from where this one ends, and its next step finds anything there.
    pub fn is_opened_by(&self, other: &Self, value: &Value) -> bool {
        let next = self.0.len() + 1;
        next <= other.0.len()
            && other.0.starts_with(&self.0)
            && !Self(other.0[..next].to_vec()).find(value).is_empty()
    }

    /// Everything that it leads to from a value, in order. Null is nothing.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.of(value)).collect();
        }
        found.retain(|value| !value.is_null());
        found
    }
}

impl Step {
    fn of<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Self::Member(name), Value::Object(object)) => object.get(name).into_iter().collect(),
            (Self::Element(index), Value::Array(list)) => list.get(*index).into_iter().collect(),
            (Self::Every, Value::Array(list)) => list.iter().collect(),
            (Self::Where { .. }, Value::Array(list)) => {
                list.iter().filter(|value| self.accepts(value)).collect()
            }
            (Self::Where { .. }, value) if self.accepts(value) => vec![value],
            _ => Vec::new(),
        }
    }

    fn accepts(&self, value: &Value) -> bool {
        let Self::Where { members, text, equal } = self else { return false };
        let member = members.iter().try_fold(value, |value, member| value.get(member));
        let equals = member.and_then(scalar_text).is_some_and(|member| member == *text);
        value.is_object() && equals == *equal
    }
}

/// A string as it is, a number or boolean as JSON; nothing else is a scalar.
pub(super) fn scalar_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(_) | Value::Number(_) => Some(Cow::Owned(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn member(text: &str, first: bool) -> Result<(Step, &str), String> {
    let name = match (first, text.strip_prefix('.')) {
        (true, None) => text,
        (false, Some(name)) => name,
        _ => return Err("must have one dot in front of each name but the first".into()),
    };
    let (name, rest) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
    if !is_name(name) {
        return Err("has an empty name, or a `]` without its `[`".into());
    }
    Ok((Step::Member(name.to_owned()), rest))
}

fn bracket(inside: &str) -> Result<(Step, &str), String> {
    let form = || "has brackets that hold none of `[0]`, `[*]`, `[name=text]`, `[name!=text]`".to_owned();
    let (inside, rest) = inside.split_once(']').ok_or_else(form)?;
    if inside == "*" {
        return Ok((Step::Every, rest));
    }
    if let Some((name, text)) = inside.split_once('=') {
        let equal = !name.ends_with('!');
        let members: Vec<String> = name.trim_end_matches('!').split('.').map(str::to_owned).collect();
        return match members.iter().all(|member| is_name(member)) {
            true => Ok((Step::Where { members, text: text.to_owned(), equal }, rest)),
            false => Err(form()),
        };
    }
    match inside.bytes().all(|byte| byte.is_ascii_digit()).then(|| inside.parse().ok()).flatten() {
        Some(index) => Ok((Step::Element(index), rest)),
        None => Err(form()),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['.', '[', ']'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn find(path: &str, value: &Value) -> Vec<Value> {
        Path::parse(path).unwrap().find(value).into_iter().cloned().collect()
    }

    #[test]
    fn steps_lead_where_they_say() {
        let value = json!({"a": [{"t": "x", "v": 1, "in": {"k": true}}, {"t": "y", "v": 2}, {"v": null}, 3], "b": {"t": "x"}});
        for (path, found) in [
            ("b.t", json!(["x"])),
            ("a[1].v", json!([2])),
            ("a[*].v", json!([1, 2])),
            ("a[t=x].v", json!([1])),
            ("a[v=2].t", json!(["y"])),
            ("a[in.k=true].t", json!(["x"])),
            ("a[t!=x].v", json!([2])),
            ("b[t=x].t", json!(["x"])),
            ("b[t=y].t", json!([])),
            ("a[3]", json!([3])),
            ("a[4]", json!([])),
            ("a.v", json!([])),
            ("b[*]", json!([])),
            ("c.d.e", json!([])),
        ] {
            assert_eq!(json!(find(path, &value)), found, "{path}");
        }
        assert_eq!(find("$", &json!(1)), [json!(1)]);
        assert_eq!(find("[t=x].v", &json!({"t": "x", "v": 1})), [json!(1)]);
        assert_eq!(find("[type=a.b]", &json!({"type": "a.b"})).len(), 1);
        assert_eq!(find("[t=]", &json!({"t": ""})).len(), 1);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in
            ["", ".a", "a.", "a..b", "a[", "a]", "a[b]", "a[-1]", "a[1", "[=x]", "a[]b", "a[0]b", "[a..b=x]"]
        {
            assert!(Path::parse(text).is_err(), "{text:?}");
        }
        assert!(Path::parse(&"a".repeat(257)).is_err());
        assert!(Path::parse(&vec!["a"; 17].join(".")).is_err());
        assert!(Path::parse(&vec!["a"; 16].join(".")).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_judged_and_any_path_followed(text in "[a\\[\\].*=!$0-9]{0,12}") {
            if let Ok(path) = Path::parse(&text) {
                path.find(&json!({"a": [{"a": 1}, [0], "a"], "0": {"a": {"a": null}}}));
            }
        }
    }
}

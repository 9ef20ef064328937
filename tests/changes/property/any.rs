//! Resources of every kind that may be taken: fields put together from the examples, and values beside them.

use std::collections::BTreeMap;

use prost_reflect::{DynamicMessage, ReflectMessage};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Map, Value, json};
use signalbox::proto::v1::{Resource, Secret, secret::State};

use crate::support::{
    examples::{Examples, arms, examples, merge, put},
    resources::secrets_in,
};

/// Texts that a reader, a writer or a format may stumble over. Many are refused, and that is right.
const TEXTS: &[&str] = &[
    "",
    " ",
    " x ",
    "x ",
    "é",
    "e\u{301}",
    "日本語",
    "👩‍👩‍👧",
    "ﬁ",
    "İ",
    "\u{202E}x",
    "\u{2028}",
    "\u{85}",
    "\u{FEFF}x",
    "\u{7F}",
    "\u{1}",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "a\n",
    "\n",
    "  a\n b\n\n",
    "yes",
    "null",
    "~",
    "true",
    "0x1F",
    "1e3",
    "007",
    "-0",
    "1_000",
    ".inf",
    "2024-04-18",
    "12:30:00",
    "- a: b",
    "a: b",
    "a #b",
    "#c",
    "---",
    "...",
    "!!binary x",
    "&a",
    "*a",
    "%x",
    "@x",
    "`x`",
    "|",
    ">",
    "'",
    "\"",
    "\\",
    "\\n",
    "{{\"{{\"}}",
    "{a}",
    "${HOME}",
    "$(x)",
    "{\"a\": 1.10}",
    "{\"a\": 12345678901234567890123}",
    "{\"b\": 1, \"a\": 1e400}",
    "[-0.0, 1E5]",
    " {} ",
    "\"\\u00e9\"",
    "{\"type\": \"object\"}",
    "https://x.example/%7Ea/?q=é#f",
    "https://X.Example:443/",
    "http://127.0.0.1:1",
    "A.B:c@D+e-f_1",
    "models/*",
    "*",
];

/// Lengths at which bounds are found.
const LENGTHS: &[usize] = &[63, 64, 65, 100, 128, 129, 200, 256, 500, 1024, 1025, 4096, 65_536];

/// Edges of what numbers can be.
const NUMBERS: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.0,
    9.0,
    10.0,
    255.0,
    1000.0,
    65_535.0,
    65_536.0,
    2_147_483_647.0,
    -2_147_483_648.0,
    4_294_967_295.0,
    9_007_199_254_740_993.0,
    0.1,
    0.3,
    1.0 / 3.0,
    0.999_999_999,
    1e-7,
    1e21,
    1e300,
    f64::MAX,
    f64::MIN_POSITIVE,
    5e-324,
];

/// Texts of numbers that JSON can't hold, and of times.
const WRITTEN: &[&str] = &[
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "9007199254740993",
    "0s",
    "1s",
    "0.001s",
    "0.000000001s",
    "1.5s",
    "59.999999999s",
    "-1s",
    "86400s",
    "315576000000s",
    "2.50",
    "0000001.5",
    "9999999.999999999",
    "1970-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "2100-02-28T12:00:00.5+02:00",
    "2024-02-29",
    "2025",
];

/// Makes resources, by a seed.
pub struct Maker {
    rng: StdRng,
    kinds: Vec<(String, Examples)>,
    /// What has been taken, by kind: others may refer to it and live beneath it, and it may be changed.
    taken: BTreeMap<String, Vec<String>>,
    count: u32,
}

impl Maker {
    pub fn new(seed: u64) -> Self {
        let kinds = arms().iter().map(|arm| (arm.name().to_owned(), examples(arm.name()))).collect();
        Self { rng: StdRng::seed_from_u64(seed), kinds, taken: BTreeMap::new(), count: 0 }
    }

    /// The kinds.
    pub fn kinds(&self) -> Vec<String> {
        self.kinds.iter().map(|(kind, _)| kind.clone()).collect()
    }

    /// Others may refer to it from now on.
    pub fn taken(&mut self, kind: &str, name: &str) {
        self.taken.entry(kind.to_owned()).or_default().push(name.to_owned());
    }

    /// The next resource of a kind, and the document that it was read from.
    pub fn next(&mut self, kind: &str) -> (Value, Resource) {
        let name = self.name(kind);
        self.named(kind, &name)
    }

    /// Something else for a resource that was taken.
    pub fn change(&mut self, kind: &str) -> Option<(Value, Resource)> {
        if kind == "model" && self.rng.random_bool(0.5) {
            return Some(self.narrowed());
        }
        let name = self.taken.get(kind)?.choose(&mut self.rng)?.clone();
        let (mut sent, mut resource) = self.named(kind, &name);
        // Often without the values of its secrets: kept, cleared, or not there.
        if self.rng.random_bool(0.6) {
            let state = self.pick(&[State::Absent, State::Present, State::Missing]);
            for (_, secret) in secrets_in(&mut resource) {
                *secret = Secret { value: None, state: state.into() };
            }
            sent["secrets"] = state.as_str_name().into();
        }
        Some((sent, resource))
    }

    /// A model that can do less than before, which templates may rely on.
    fn narrowed(&mut self) -> (Value, Resource) {
        let spec = json!({"capabilities": ["MODEL_CAPABILITY_CHAT"], "limits": {"maxOutputTokens": 1}});
        let name = self.other("models/target/model");
        read(json!({"name": name, "model": spec})).expect("a model")
    }

    fn named(&mut self, kind: &str, name: &str) -> (Value, Resource) {
        loop {
            let document = json!({"name": name, "labels": self.labels(), kind: self.spec(kind)});
            // A value beside the schema is no message: another one.
            if let Some(read) = read(document) {
                return read;
            }
        }
    }

    fn name(&mut self, kind: &str) -> String {
        self.count += 1;
        let count = self.count;
        let id = match self.rng.random_range(0..10) {
            0 => format!("e.{count}"),
            1 => format!("A:b@c+D-_{count}"),
            2 => format!("{}{count}", "x".repeat(128 - count.to_string().len())),
            3 => count.to_string(),
            4 => format!("someCamelHTTPKey{count}"),
            5 => format!("some__snake_KEY_{count}"),
            6 => format!("1e{count}"),
            _ => format!("e{count}"),
        };
        let parent = match kind {
            "setting" if self.rng.random_bool(0.3) => {
                format!("users/{}/settings", self.pick(&["alice", "a@b.example", "0", "U+1:x"]))
            }
            "api_key" => format!("{}/apiKeys", self.other("providers/target")),
            "model" => self.other("providers/target").replacen("providers/", "models/", 1),
            _ => {
                let example = &self.kinds.iter().find(|(name, _)| name == kind).unwrap().1.name;
                example.rsplit_once('/').unwrap().0.to_owned()
            }
        };
        format!("{parent}/{id}")
    }

    fn labels(&mut self) -> Value {
        let count = self.pick(&[0, 0, 0, 1, 3, 32]);
        let keys = (0..count).map(|number| {
            let key = match self.rng.random_range(0..4) {
                0 => format!("a.b-{number}"),
                1 => format!("Team{number}"),
                _ => format!("k_{number}"),
            };
            (key, Value::from(self.pick(&["", "x", "A.b-c_1", "true", "0", "null"])))
        });
        Value::Object(keys.collect())
    }

    /// Some of a kind's examples together, and then perhaps something else in their places.
    fn spec(&mut self, kind: &str) -> Value {
        let (_, examples) = self.kinds.iter().find(|(name, _)| name == kind).unwrap();
        let given = examples.fields.iter().map(|field| (&field.at, &field.with, &field.valid));
        let free = examples.free.iter().map(|field| (&field.at, &field.with, &field.valid));
        let all: Vec<(&String, &Map<String, Value>, &Value)> = given.chain(free).collect();
        let mut spec = examples.base.clone();
        for _ in 0..self.rng.random_range(1..6) {
            let (at, with, valid) = *all.choose(&mut self.rng).unwrap();
            merge(&mut spec, with);
            put(&mut spec, at, valid.clone());
        }
        self.refer(&mut spec);
        for _ in 0..self.pick(&[0, 0, 1, 1, 1, 2, 3]) {
            self.disturb(&mut spec);
        }
        spec
    }

    /// References to something else than always the same.
    fn refer(&mut self, value: &mut Value) {
        match value {
            Value::String(text) if text.contains("/target") => *text = self.other(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.refer(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.refer(field)),
            _ => {}
        }
    }

    /// What a name names, or another of the same kind.
    fn other(&mut self, name: &str) -> String {
        let (collection, _) = name.split_once('/').unwrap_or_default();
        let taken = self.taken.get(collection.trim_end_matches('s'));
        match taken.and_then(|taken| taken.choose(&mut self.rng)) {
            Some(other) if self.rng.random_bool(0.3) => other.clone(),
            _ => name.to_owned(),
        }
    }

    /// Puts something else in one place.
    fn disturb(&mut self, spec: &mut Value) {
        let mut places = Vec::new();
        pointers(spec, "", &mut places);
        let Some(place) = places.choose(&mut self.rng).and_then(|at| spec.pointer_mut(at)) else { return };
        *place = match place.take() {
            Value::Bool(value) => Value::Bool(!value),
            Value::Number(_) => self.number(),
            Value::String(_) => self.text(),
            Value::Array(items) => self.list(items),
            Value::Object(fields) => self.map(fields),
            Value::Null => Value::Null,
        };
    }

    fn number(&mut self) -> Value {
        let number = match self.rng.random_range(0..3) {
            0 => self.rng.random_range(0.0..2.0),
            1 => f64::from(self.rng.random_range(0..2000)),
            _ => self.pick(NUMBERS),
        };
        // Whole ones as such: `1.0` is not read where there can't be a fraction.
        if number.fract() == 0.0 && number.abs() < 1e15 && (number != 0.0 || number.is_sign_positive()) {
            #[allow(clippy::cast_possible_truncation, reason = "it is whole and small")]
            return json!(number as i64);
        }
        json!(number)
    }

    fn text(&mut self) -> Value {
        match self.rng.random_range(0..10) {
            0 => {
                let letter = self.pick(&["x", "é", "日", "0"]);
                letter.repeat(self.pick(LENGTHS)).into()
            }
            1..4 => self.pick(WRITTEN).into(),
            4 => format!("{}{}", self.pick(TEXTS), self.pick(TEXTS)).into(),
            // The number of a value, where a name is one of an enumeration.
            5 => self.rng.random_range(0..18).into(),
            _ => self.pick(TEXTS).into(),
        }
    }

    fn list(&mut self, mut items: Vec<Value>) -> Value {
        match self.rng.random_range(0..4) {
            0 => items.clear(),
            1 => items.reverse(),
            2 => items.extend(items.clone()),
            _ => items.push(self.text()),
        }
        items.into()
    }

    fn map(&mut self, mut fields: Map<String, Value>) -> Value {
        let Some(key) = fields.keys().cloned().collect::<Vec<_>>().choose(&mut self.rng).cloned() else {
            return fields.into();
        };
        // Where a secret stands.
        if key == "value" && self.rng.random_bool(0.7) {
            let states = ["STATE_ABSENT", "STATE_PRESENT", "STATE_MISSING", "STATE_UNSPECIFIED"];
            return json!({"state": self.pick(&states)});
        }
        let value = fields.remove(&key).unwrap_or_default();
        match self.rng.random_range(0..4) {
            0 => {}
            1 => fields = Map::new(),
            _ => drop(fields.insert(self.pick(TEXTS).to_owned(), value)),
        }
        fields.into()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.rng).unwrap()
    }
}

/// The resource that a document is, and the document.
fn read(document: Value) -> Option<(Value, Resource)> {
    let read = DynamicMessage::deserialize(Resource::default().descriptor(), document.clone()).ok()?;
    Some((document, read.transcode_to().unwrap()))
}

/// Every place beneath a value.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut below = |key: &str, value: &Value| {
        let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        pointers(value, &at, found);
        found.push(at);
    };
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| below(&index.to_string(), item));
        }
        Value::Object(fields) => fields.iter().for_each(|(key, field)| below(key, field)),
        _ => {}
    }
}

//! Reads a page of metrics, strictly: what Prometheus would only overlook is an error here.

use std::collections::{BTreeMap, BTreeSet};

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Exposition {
    /// By name, as samples have it: that of a counter ends in `_total`.
    pub families: BTreeMap<String, Family>,
    /// By name and labels as they stand there, sorted: `name{a="b",c="d"}`.
    samples: BTreeMap<String, f64>,
}

/// What is said of all samples of one name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub labels: BTreeSet<String>,
}

impl Exposition {
    /// Reads a page in either form. That of OpenMetrics has a mark at its end, and counters are described without `_total`.
    pub fn parse(page: &str) -> Self {
        let (body, open_metrics) = page.strip_suffix("# EOF\n").map_or((page, false), |body| (body, true));
        let (mut read, mut current, mut help) = (Self::default(), String::new(), String::new());
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').unwrap_or_else(|| panic!("no text: {line}"));
                assert!(text.len() > 10 && text.ends_with('.') && !text.ends_with(".."), "{line}");
                (current, help) = (name.to_owned(), text.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert_eq!(name, current, "a type without a text before it");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                if kind == "counter" && open_metrics {
                    current += "_total";
                }
                assert_eq!(kind == "counter", current.ends_with("_total"), "{line}");
                let family =
                    Family { kind: kind.to_owned(), help: std::mem::take(&mut help), ..Family::default() };
                let before = read.families.insert(current.clone(), family);
                assert!(before.is_none(), "{current} comes twice");
            } else {
                read.sample(&current, line);
            }
        }
        read.check_histograms();
        read
    }

    fn sample(&mut self, current: &str, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("a closed brace")),
            None => (series, ""),
        };
        let labels: BTreeMap<&str, &str> =
            labels.split(',').filter(|label| !label.is_empty()).map(label).collect();
        let family = self.families.get_mut(current).unwrap_or_else(|| panic!("{line} belongs to nothing"));
        let parts = match family.kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"].map(|part| format!("{current}{part}")).to_vec(),
            _ => vec![current.to_owned()],
        };
        assert!(parts.iter().any(|part| part == name), "{line} is none of {parts:?}");
        family.labels.extend(labels.keys().filter(|name| **name != "le").map(|name| (*name).to_owned()));
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(value >= 0.0, "{line}");
        assert!(self.samples.insert(written(name, &labels), value).is_none(), "{line} comes twice");
    }

    fn check_histograms(&self) {
        let counts = self.samples.iter().filter_map(|(series, count)| {
            let (name, labels) = series.split_once("_count")?;
            self.families.get(name).filter(|family| family.kind == "histogram")?;
            Some((name, labels, count))
        });
        for (name, labels, count) in counts {
            let inner = labels.trim_matches(['{', '}']);
            let mut labels: BTreeMap<&str, &str> =
                inner.split(',').filter(|text| !text.is_empty()).map(label).collect();
            labels.insert("le", "+Inf");
            let all = self.samples.get(&written(&format!("{name}_bucket"), &labels)).copied();
            assert_eq!(all, Some(*count), "{name}{labels:?}");
        }
    }

    /// The value of a series; labels in the order of their names.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let series = written(name, &labels.iter().copied().collect());
        *self
            .samples
            .get(&series)
            .unwrap_or_else(|| panic!("there is no {series}: {:#?}", self.samples.keys()))
    }

    /// The value of a series, if it is there.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.samples.get(&written(name, &labels.iter().copied().collect())).copied()
    }

    /// Every name that a query may use.
    pub fn names(&self) -> BTreeSet<String> {
        self.samples.keys().map(|series| series.split('{').next().unwrap_or_default().to_owned()).collect()
    }
}

/// A label's name and its value, of which a short word without any oddity is expected.
fn label(text: &str) -> (&str, &str) {
    let (name, value) = text.split_once('=').unwrap_or_else(|| panic!("no label: {text}"));
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect("quotes");
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/+-".contains(c);
    assert!(!value.is_empty() && value.len() < 80 && value.chars().all(plain), "{text}");
    (name, value)
}

fn written(name: &str, labels: &BTreeMap<&str, &str>) -> String {
    let inner: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    if inner.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", inner.join(",")) }
}

//! Gathers what a converter makes, and checks it by the rules of its kind before anybody is given it.
//!
//! Must not know any format.

use std::collections::{BTreeMap, BTreeSet};

use super::{Imported, Item, Outcome, Problem, azure, edited};
use crate::{
    domain::{FieldViolation, record::Spec},
    kinds::{
        self, CheckContext, model,
        provider_types::{is_googles_openai, recut_base_url, word},
    },
    proto::v1::{ProviderSpec, ProviderType, Resource},
};

/// What was made so far.
pub struct Gathered {
    format: &'static str,
    resources: BTreeMap<String, Made>,
    items: Vec<Item>,
    problems: Vec<Problem>,
    /// Those that leave what is around them as it is.
    parts: Vec<Problem>,
    only_new: BTreeMap<String, &'static str>,
    fills: BTreeMap<String, Vec<String>>,
    stand_ins: BTreeMap<String, Vec<String>>,
    numbered: Numbered,
}

/// Numbers behind what several want to be called. Many may want the same: what was taken before is not tried again.
#[derive(Default)]
pub struct Numbered(BTreeMap<String, u32>);

impl Numbered {
    /// What nobody has so far: the wanted text, or with a number behind it.
    pub fn free(&mut self, wanted: &str, is_taken: impl Fn(&str) -> bool) -> String {
        let mut number = self.0.get(wanted).copied().unwrap_or(1);
        let free = loop {
            let text = if number == 1 { wanted.to_owned() } else { format!("{wanted}-{number}") };
            if !is_taken(&text) {
                break text;
            }
            number += 1;
        };
        self.0.insert(wanted.to_owned(), number);
        free
    }
}

/// A resource, and where it comes from.
struct Made {
    from: String,
    spec: Spec,
}

impl Gathered {
    /// Nothing yet, of this format.
    #[must_use]
    pub fn new(format: &'static str) -> Self {
        Self {
            format,
            resources: BTreeMap::new(),
            items: Vec::new(),
            problems: Vec::new(),
            parts: Vec::new(),
            only_new: BTreeMap::new(),
            fills: BTreeMap::new(),
            stand_ins: BTreeMap::new(),
            numbered: Numbered::default(),
        }
    }

    /// A resource, without an item of the report. The base URL of a provider is cut where its type's is.
    pub fn put(&mut self, from: &str, name: impl Into<String>, mut spec: Spec) {
        let (name, from) = (name.into(), from.to_owned());
        if let Spec::Provider(spec) = &mut spec {
            if spec.r#type() == ProviderType::GoogleAi && is_googles_openai(&spec.base_url) {
                spec.set_type(ProviderType::OpenaiCompatible);
                self.item(format!("{from}, base URL"), &name, Outcome::Changed, GOOGLES_OPENAI);
            }
            let place = format!("{from}, base URL");
            match azure::settle(spec) {
                Ok(Some(told)) => self.item(place, &name, Outcome::Changed, told),
                Ok(None) if recut(spec) => self.item(place, &name, Outcome::Changed, cut(&spec.base_url)),
                Ok(None) => {}
                Err(why) => self.problem(place, why),
            }
        }
        match self.resources.get(&name) {
            Some(other) => {
                let what = format!("would be {name}, which {} is already; rename one of them", other.from);
                self.problem(from, what);
            }
            None => {
                self.resources.insert(name, Made { from, spec });
            }
        }
    }

    /// The spec that was put under a name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Spec> {
        self.resources.get_mut(name).map(|made| &mut made.spec)
    }

    /// Lets a resource be made only where there is none in the store; `why` one that is there stays.
    pub fn only_new(&mut self, name: impl Into<String>, why: &'static str) {
        self.only_new.insert(name.into(), why);
    }

    /// Lets a field of a resource that is made only where there is none be filled in where one is there without it. The item of
    /// the report is that field's.
    pub fn fills(&mut self, from: impl Into<String>, name: &str, path: String) {
        self.items.push(Item { field: path.clone(), ..Item::new(from, name, Outcome::Imported, "") });
        self.fills.entry(name.to_owned()).or_default().push(path);
    }

    /// Names who may be the primary of a router that the source does not have, in their order: the first that is valid is.
    pub fn stand_ins(&mut self, router: &str, providers: Vec<String>) {
        self.stand_ins.insert(router.to_owned(), providers);
    }

    /// Whether there is a resource of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.resources.contains_key(name)
    }

    /// An id that nothing of a collection has so far: the wanted one, or with a number behind it.
    pub fn free_id(&mut self, collection: &str, wanted: &str) -> String {
        let resources = &self.resources;
        let name = self.numbered.free(&format!("{collection}/{wanted}"), |name| resources.contains_key(name));
        name.get(collection.len() + 1..).unwrap_or_default().to_owned()
    }

    /// What became of an item that went into the resource `to`.
    pub fn item(
        &mut self,
        from: impl Into<String>,
        to: impl Into<String>,
        outcome: Outcome,
        note: impl Into<String>,
    ) {
        self.items.push(Item::new(from, to, outcome, note));
    }

    /// An item that was taken over as it was.
    pub fn imported(&mut self, from: impl Into<String>, to: impl Into<String>) {
        self.item(from, to, Outcome::Imported, "");
    }

    /// An item that was not carried over, and why.
    pub fn left_out(&mut self, from: impl Into<String>, why: impl Into<String>) {
        self.item(from, "", Outcome::LeftOut, why);
    }

    /// Something that is not valid. What is made at that place, or around it, is not to be taken.
    pub fn problem(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem { place: place.into(), what: what.into() });
    }

    /// A part that is not valid, and without which what is around it stands: a key that can't be opened takes no provider
    /// along.
    pub fn part_problem(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.parts.push(Problem { place: place.into(), what: what.into() });
    }

    /// Whether something is not valid already.
    #[must_use]
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty() || !self.parts.is_empty()
    }

    /// Several of them.
    pub fn problems(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
    }

    /// Everything that is valid, checked and labelled, and what is not.
    #[must_use]
    pub fn finish(mut self) -> Imported {
        let mut spoilt: BTreeMap<String, &'static str> = BTreeMap::new();
        for (name, Made { from, spec }) in &self.resources {
            if self.problems.iter().any(|problem| is_within(&problem.place, from)) {
                spoilt.insert(name.clone(), SPOILT);
            }
            for violation in violations(name, spec) {
                spoilt.insert(name.clone(), SPOILT);
                let is_told = |problem: &Problem| {
                    problem.what == violation.description && is_within(&problem.place, from)
                };
                if self.problems.iter().any(is_told) {
                    continue;
                }
                let what = format!("{} {}", violation.field, violation.description);
                let what = format!("{name} can't be made of it: {what}");
                self.problems.push(Problem { place: from.clone(), what });
            }
        }
        self.problems.append(&mut self.parts);
        self.spread(&mut spoilt);
        self.stand_in(&mut spoilt);
        for item in self.items.iter_mut().filter(|item| item.outcome != Outcome::LeftOut) {
            if let Some(why) = spoilt.get(&item.to) {
                (item.outcome, item.note) = (Outcome::Refused, (*why).to_owned());
            }
        }
        self.without_lost_fallbacks(&spoilt);
        let format = self.format;
        let taken = self.resources.into_iter().filter(|(name, _)| !spoilt.contains_key(name));
        let resources = taken.map(|(name, Made { spec, .. })| {
            let mut resource = Resource { name, spec: Some(spec), ..Resource::default() };
            edited::stamp(&mut resource, format);
            resource
        });
        Imported {
            resources: resources.collect(),
            items: self.items,
            only_new: self.only_new,
            fills: self.fills,
            providers: BTreeSet::new(),
            made_up: BTreeMap::new(),
            because: BTreeMap::new(),
            problems: self.problems,
        }
    }

    /// Adds what lives beneath a spoilt resource, or can't do without one, and the models that nobody else here serves.
    fn spread(&self, spoilt: &mut BTreeMap<String, &'static str>) {
        let servers = self.servers();
        while !spoilt.is_empty() {
            let relies = |(name, made): (&String, &Made)| {
                let (parsed, kind) = kinds::parse_name(name).ok()?;
                let named = kind.references(&made.spec).into_iter().map(|one| one.name);
                let mut needed =
                    named.filter(|one| !is_fallback(&made.spec, one.as_str())).chain(parsed.parent());
                let serving = serving(&servers, name, &made.spec);
                let is_lost = needed.any(|needed| spoilt.contains_key(needed.as_str()))
                    || (!serving.is_empty() && serving.iter().all(|one| spoilt.contains_key(*one)));
                (is_lost && !spoilt.contains_key(name)).then(|| name.clone())
            };
            let lost: Vec<String> = self.resources.iter().filter_map(relies).collect();
            if lost.is_empty() {
                return;
            }
            spoilt.extend(lost.into_iter().map(|name| (name, RELIES)));
        }
    }

    /// The providers that were made, by the beginnings of the models that they serve: their own, and those of their type.
    fn servers(&self) -> Servers<'_> {
        let mut servers = Servers::new();
        for (name, made) in &self.resources {
            let Spec::Provider(spec) = &made.spec else { continue };
            let own = name.strip_prefix("providers/").unwrap_or_default().to_owned();
            for segment in [own, word(spec.r#type())] {
                servers.entry(segment).or_default().push((name, spec));
            }
        }
        servers
    }

    /// Gives the routers whose primary is spoilt the first one that is not, and says so. Such a router stands at the place of its
    /// primary, so that what is wrong there is no fault of its own.
    fn stand_in(&mut self, spoilt: &mut BTreeMap<String, &'static str>) {
        for (name, providers) in &self.stand_ins {
            let Some(Made { spec, .. }) = self.resources.get_mut(name) else { continue };
            let is_sound = violations(name, spec).is_empty();
            let (Spec::Router(router), true) = (spec, is_sound) else { continue };
            let valid = providers.iter().find(|one| !spoilt.contains_key(*one));
            let (true, Some(valid)) = (spoilt.contains_key(&router.primary), valid) else { continue };
            let note = format!("{}, which is not valid, gives way to {valid}", router.primary);
            router.primary.clone_from(valid);
            router.fallbacks.retain(|one| one != valid);
            spoilt.remove(name);
            self.items.iter_mut().filter(|item| item.to == *name).for_each(|item| add_note(item, &note));
        }
    }

    /// Takes spoilt providers out of the fallbacks of routers, which stand without them.
    fn without_lost_fallbacks(&mut self, spoilt: &BTreeMap<String, &'static str>) {
        for (name, made) in self.resources.iter_mut().filter(|(name, _)| !spoilt.contains_key(*name)) {
            let Spec::Router(router) = &mut made.spec else { continue };
            let is_lost = |one: &String| spoilt.contains_key(one);
            let lost: Vec<String> = router.fallbacks.extract_if(.., |one| is_lost(one)).collect();
            if lost.is_empty() {
                continue;
            }
            let note = format!("without the fallback {}, which is not valid", lost.join(", "));
            for item in self.items.iter_mut().filter(|item| item.to == *name) {
                add_note(item, &note);
            }
        }
    }
}

/// Says of an item what else of it is otherwise than it was.
fn add_note(item: &mut Item, note: &str) {
    if item.outcome == Outcome::Imported {
        item.outcome = Outcome::Changed;
    }
    let end = if item.note.is_empty() { "" } else { "; " };
    item.note = format!("{}{end}{note}", item.note);
}

/// Providers by the beginnings of the models that they serve.
type Servers<'a> = BTreeMap<String, Vec<(&'a str, &'a ProviderSpec)>>;

/// The providers that serve a model: those that say so, or take any; where none does, all of its type.
fn serving<'a>(servers: &Servers<'a>, name: &str, spec: &Spec) -> Vec<&'a str> {
    let (Spec::Model(spec), Some((of, segment))) =
        (spec, name.strip_prefix("models/").and_then(|rest| rest.split_once('/')))
    else {
        return Vec::new();
    };
    let own = model::model_id_of(segment);
    let id = if spec.model_id.is_empty() { &own } else { &spec.model_id };
    let all = servers.get(of).map(Vec::as_slice).unwrap_or_default();
    let takes = |server: &ProviderSpec| server.models.is_empty() || server.models.contains(id);
    match all.iter().any(|(_, server)| takes(server)) {
        true => all.iter().filter(|(_, server)| takes(server)).map(|(name, _)| *name).collect(),
        false => all.iter().map(|(name, _)| *name).collect(),
    }
}

/// Whether a router has a provider only to fall back to.
fn is_fallback(spec: &Spec, provider: &str) -> bool {
    let Spec::Router(router) = spec else { return false };
    router.primary != provider
        && router.fallbacks.iter().any(|one| one == provider)
        && !router.type_defaults.values().any(|one| one == provider)
}

/// Cuts a base URL where that of its type is, if it leads there and no path of its own goes with it. Says whether it was another.
fn recut(spec: &mut ProviderSpec) -> bool {
    let cut = recut_base_url(spec.r#type(), &spec.base_url).filter(|_| spec.endpoint_path.is_empty());
    cut.map(|cut| spec.base_url = cut).is_some()
}

/// What a report says of a provider there.
const GOOGLES_OPENAI: &str = "is where Google speaks the OpenAI protocol: its type is openai_compatible";

/// What a report says of a base URL that was cut elsewhere.
pub(super) fn cut(base_url: &str) -> String {
    format!("is cut where the base URL of its type is: `{base_url}`")
}

/// Why nothing came of an item.
const SPOILT: &str = "something in it is not valid";
const RELIES: &str = "it goes with what is not valid";

/// Whether a place is another one, or a part of it: `file, row 1, port` of `file, row 1`.
pub(super) fn is_within(place: &str, other: &str) -> bool {
    let rest = place.strip_prefix(other);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', ',', ':', ' ']))
}

/// What the kind of a new resource has against it. References are the server's to look up.
#[must_use]
pub fn violations(name: &str, spec: &Spec) -> Vec<FieldViolation> {
    let (name, kind) = match kinds::parse_name(name) {
        Ok(found) => found,
        Err(problem) => return vec![FieldViolation::new("name", "INVALID_NAME", problem)],
    };
    let mut spec = spec.clone();
    if let Some(violation) = kinds::check_arm(kind, &name, &spec) {
        return vec![violation];
    }
    kind.fill_defaults(&mut spec, &name);
    let secrets = kinds::secrets::split(&mut spec);
    kinds::check(
        kind,
        &CheckContext { name: &name, spec: &spec, before: None, secrets: &secrets, imported: true },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        import::providers,
        proto::v1::{ProviderType, RouterSpec, SettingSpec},
    };

    #[test]
    fn what_is_wrong_spoils_what_is_around_it_and_goes_with_it() {
        let mut made = Gathered::new("test");
        let provider = |url: &str| {
            let spec = ProviderSpec {
                base_url: url.into(),
                r#type: ProviderType::Groq.into(),
                ..Default::default()
            };
            Spec::Provider(spec)
        };
        for id in ["a", "a-b", "c"] {
            made.put(&format!("file: {id}"), format!("providers/{id}"), provider(""));
            made.put(
                "keys",
                format!("providers/{id}/apiKeys/k"),
                Spec::ApiKey(providers::api_key(Some("k"), "")),
            );
        }
        let router = RouterSpec { primary: "providers/a".into(), ..Default::default() };
        made.put("routes", "routers/x", Spec::Router(router));
        made.put("file: d", "providers/d", provider("ftp://x"));
        made.imported("routes", "routers/x");
        made.problem("file: a.port", "is none");
        let found = made.finish();
        let names: Vec<&str> = found.resources.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(
            names,
            ["providers/a-b", "providers/a-b/apiKeys/k", "providers/c", "providers/c/apiKeys/k"]
        );
        assert_eq!((found.problems.len(), found.items[0].outcome), (2, Outcome::Refused));
        assert!(found.whole().is_err());
    }

    /// Each was looked for from the first on: a dump of many rows of one name took minutes.
    #[test]
    fn regression_many_of_one_name_are_numbered_without_trying_all() {
        let mut made = Gathered::new("test");
        let spec = || Spec::Setting(SettingSpec::default());
        made.put("row 1", "settings/x-3", spec());
        let ids: Vec<String> = (0..20_000)
            .map(|_| {
                let id = made.free_id("settings", "x");
                made.put("row", format!("settings/{id}"), spec());
                id
            })
            .collect();
        assert_eq!(ids[..4], ["x", "x-2", "x-4", "x-5"]);
        assert_eq!(ids.last().map(String::as_str), Some("x-20001"));
        assert!(!made.has_problems());
    }
}

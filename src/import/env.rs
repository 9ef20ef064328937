//! `env`: providers with their keys, and database connections, from environment variables and `.env` files.
//!
//! What is accepted stands in `shapes`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Environment, Gathered, Imported, Input, Outcome, Problem, Problems, azure,
    databases::{self, Connection, PG_LEFT_OUT, PG_USED, Refused},
    dotenv,
    gather::cut,
    providers::{KNOWN, Known, PLACEHOLDER, api_key, is_no_key, key_problem},
};
use crate::{
    crypto::SecretText,
    domain::record::Spec,
    kinds::{
        database::default_port,
        provider_types::{OLLAMA_CLOUD, base_url, default_model, is_at_home, needs_no_key, recut_base_url},
        rules::url_problem,
    },
    proto::v1::{AuthScheme, HeaderValue, ProviderAuth, ProviderSpec, ProviderType, header_value::Value},
};

/// The format's name.
pub const FORMAT: &str = "env";

/// Variables with the URL of a database, and the ids of their connections.
const URLS: [(&str, &str); 7] = [
    ("DATABASE_URL", "main"),
    ("POSTGRES_URL", "postgres"),
    ("SUPABASE_DB_URL", "supabase"),
    ("MYSQL_URL", "mysql"),
    ("MONGODB_URL", "mongodb"),
    ("MONGODB_URI", "mongodb"),
    ("REDIS_URL", "redis"),
];
/// The id of the connection that the variables of libpq make.
const LIBPQ: &str = "postgres";
const OPENAI_HEADERS: [(&str, &str); 2] =
    [("OPENAI_ORG_ID", "OpenAI-Organization"), ("OPENAI_PROJECT_ID", "OpenAI-Project")];
const API_VERSION: &str = "OPENAI_API_VERSION";
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// Variables by name, from the environment, from files, or from both.
#[derive(Default)]
pub struct Variables {
    by_name: BTreeMap<String, Variable>,
    /// What can't be read.
    problems: Vec<Problem>,
}

/// Where the URL of a variable leads.
struct Led {
    variable: &'static str,
    id: &'static str,
    place: Place,
}

/// Type, host, port and database; a port that is not said is the type's.
type Place = (i32, String, u32, String);

fn place(Connection { spec, .. }: &Connection) -> Place {
    let port = if spec.port == 0 { default_port(spec.r#type()) } else { Some(spec.port) };
    (spec.r#type, spec.host.clone(), port.unwrap_or_default(), spec.database.clone())
}

impl Led {
    fn leads_to(&self, connection: &Connection) -> bool {
        self.place == place(connection)
    }

    /// Why a connection that is called alike, or leads there, is not taken.
    fn told(&self, connection: &Connection) -> String {
        let Self { variable, id, .. } = self;
        match self.leads_to(connection) {
            true => format!("leads to where {variable} leads, which is databases/{id}"),
            false => format!("{variable} is databases/{id} already; store this one under another name"),
        }
    }
}

struct Variable {
    value: SecretText,
    /// Where it stands, if not in the environment itself.
    place: Option<String>,
    /// Places that it overrides.
    overrides: Vec<String>,
}

impl Variables {
    /// The variables of the environment that [`convert`] knows.
    #[must_use]
    pub fn of_environment(environment: Environment<'_>) -> Self {
        let mut found = Self::default();
        for name in names() {
            match environment(name).map(std::ffi::OsString::into_string) {
                None => {}
                Some(Ok(value)) => {
                    let variable = Variable { value: value.into(), place: None, overrides: Vec::new() };
                    found.by_name.insert(name.to_owned(), variable);
                }
                Some(Err(_)) => found.problems.extend(Problems::one(name, "is not valid UTF-8").0),
            }
        }
        found
    }

    /// All variables of a file; `place` is its name.
    #[must_use]
    pub fn of_file(place: &str, text: &str) -> Self {
        let line = |line: usize| format!("{place}, line {line}");
        let (variables, problems) = dotenv::parse(place, text);
        let variables = variables.into_iter().map(|one| {
            let overrides = one.overrides.iter().map(|at| line(*at)).collect();
            (one.name, Variable { value: one.value, place: Some(line(one.line)), overrides })
        });
        Self { by_name: variables.collect(), problems }
    }

    /// No variables, but a source of them that can't be read.
    #[must_use]
    pub fn unread(problems: Problems) -> Self {
        Self { by_name: BTreeMap::new(), problems: problems.0 }
    }

    /// These, and those of `other` that are not set here. What is empty here stays empty.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (name, variable) in other.by_name {
            self.by_name.entry(name).or_insert(variable);
        }
        self.problems.extend(other.problems);
        self
    }

    /// Takes out the variables that `which` is true of, by name and value, and tells them as a report names them.
    pub fn take(&mut self, which: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let taken: Vec<String> = self
            .by_name
            .iter()
            .filter(|(name, one)| which(name, one.value.expose()))
            .map(|(name, _)| self.shown(name))
            .collect();
        self.by_name.retain(|name, one| !which(name, one.value.expose()));
        taken
    }

    fn get(&self, name: &str) -> Option<&str> {
        let value = self.by_name.get(name)?.value.expose().trim();
        (!value.is_empty()).then_some(value)
    }

    /// A variable as a report names it.
    fn shown(&self, name: &str) -> String {
        match self.by_name.get(name).and_then(|variable| variable.place.as_ref()) {
            Some(place) => format!("{name} ({place})"),
            None => name.to_owned(),
        }
    }
}

/// The variables that are looked at.
pub fn names() -> impl Iterator<Item = &'static str> {
    let of_providers = KNOWN.iter().flat_map(|known| known.keys.iter().chain(known.base_urls).copied());
    of_providers
        .chain(OPENAI_HEADERS.map(|(name, _)| name))
        .chain([API_VERSION])
        .chain(REGIONS)
        .chain(URLS.map(|(name, _)| name))
        .chain(PG_USED)
        .chain(PG_LEFT_OUT)
}

/// Converts files. The first one that sets a variable wins.
///
/// # Errors
/// None: what can't be read is told by the line.
pub fn from_files(input: &Input<'_>) -> Result<Imported, Problems> {
    let files = input.files.iter().map(|file| Variables::of_file(&file.name, file.text.expose()));
    Ok(convert(files.fold(Variables::default(), Variables::or)))
}

/// Converts variables. Of one whose value is wrong, and of what goes with it, nothing is made.
#[must_use]
pub fn convert(mut variables: Variables) -> Imported {
    let mut made = Gathered::new(FORMAT);
    made.problems(std::mem::take(&mut variables.problems));
    let mut converter = Converter { variables: &variables, made, used: BTreeSet::new() };
    for known in &KNOWN {
        converter.provider(known);
    }
    converter.databases();
    converter.rest();
    converter.made.finish()
}

struct Converter<'a> {
    variables: &'a Variables,
    made: Gathered,
    used: BTreeSet<&'static str>,
}

impl<'a> Converter<'a> {
    /// The value of a variable, which is then reported as used.
    fn take(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.variables.get(name)?;
        self.used.insert(name);
        Some(value)
    }

    fn problem(&mut self, name: &str, what: &str) {
        self.made.problem(self.variables.shown(name), what);
    }

    fn left_out(&mut self, name: &str, why: impl Into<String>) {
        self.made.left_out(self.variables.shown(name), why);
    }

    /// The first of several variables that is set; the others are told that it wins.
    fn first(&mut self, names: &'static [&'static str]) -> Option<(&'static str, &'a str)> {
        let mut set = names.iter().filter_map(|name| Some((*name, self.take(name)?))).collect::<Vec<_>>();
        for (loser, _) in set.drain(1.min(set.len())..).collect::<Vec<_>>() {
            let winner =
                names.iter().find(|name| self.variables.get(name).is_some()).copied().unwrap_or_default();
            self.left_out(loser, format!("{winner} is set too, and wins"));
        }
        set.pop()
    }

    fn provider(&mut self, known: &'static Known) {
        let key = self.key(known);
        let (base_name, base) =
            self.first(known.base_urls).map_or(("", None), |(name, url)| (name, Some(url)));
        let name = format!("providers/{}", known.id);
        // What runs on one's own machine needs no key.
        let keyless = needs_no_key(known.provider_type) && base.is_some();
        if key.is_none() && !keyless {
            if base.is_some() {
                self.left_out(base_name, format!("there is no {} to go with it", known.keys.join(" or ")));
            }
            return;
        }
        let mut spec = ProviderSpec {
            r#type: known.provider_type.into(),
            display_name: known.display_name.to_owned(),
            ..ProviderSpec::default()
        };
        if let Some(base) = base
            && let Err(problem) = self.base_url(&mut spec, &name, base_name, base)
        {
            self.problem(base_name, problem);
            // It is for there, and goes nowhere else.
            if let Some((variable, _)) = key {
                self.left_out(variable, format!("goes with {base_name}, which is not valid"));
            }
            return;
        }
        if let Err((needed, why)) = self.complete(&mut spec, key.is_some(), &name) {
            let key = key.map_or(needed, |(key, _)| key);
            self.left_out(key, why);
            return;
        }
        if is_at_home(&spec) {
            // The starter has it too, which this one may replace.
            default_model(known.provider_type).clone_into(&mut spec.default_model);
        }
        // All that can be wrong with it is what its URL says; a key is a resource of its own.
        let from = match (base, key) {
            (None, Some((key, _))) => key,
            _ => base_name,
        };
        self.made.put(&self.variables.shown(from), name.as_str(), Spec::Provider(spec));
        if let Some((variable, value)) = key {
            let from = self.variables.shown(variable);
            let key_name = format!("{name}/apiKeys/env");
            let spec = api_key(Some(value), &format!("From the variable {variable}."));
            self.made.put(&from, key_name.as_str(), Spec::ApiKey(spec));
            self.made.imported(from, key_name);
        }
    }

    /// Takes where a provider is from a variable. A target URI of Azure's says its deployment and version as well.
    ///
    /// # Errors
    /// What is wrong with it.
    fn base_url(
        &mut self,
        spec: &mut ProviderSpec,
        name: &str,
        variable: &str,
        given: &str,
    ) -> Result<(), &'static str> {
        let given = base_url(spec.r#type(), given);
        let target = match spec.r#type() {
            ProviderType::AzureOpenai => azure::target(&given)?,
            _ => None,
        };
        let told = match target {
            Some(target) => {
                let versioned = target.version.is_some() || self.variables.get(API_VERSION).is_some();
                Some(target.lay_into(spec, name, versioned))
            }
            None => {
                let own = recut_base_url(spec.r#type(), &given);
                let told = own.as_deref().map(cut);
                spec.base_url = own.unwrap_or(given);
                told
            }
        };
        url_problem(&spec.base_url).map_or(Ok(()), Err)?;
        let from = self.variables.shown(variable);
        match told {
            Some(told) => self.made.item(from, name, Outcome::Changed, told),
            None => self.made.imported(from, name),
        }
        Ok(())
    }

    fn key(&mut self, known: &'static Known) -> Option<(&'static str, &'a str)> {
        let (variable, value) = self.first(known.keys)?;
        if is_no_key(value) {
            self.left_out(variable, PLACEHOLDER);
            return None;
        }
        if let Some(problem) = key_problem(value) {
            self.problem(variable, problem);
            return None;
        }
        Some((variable, value))
    }

    /// What a type needs beyond a key; the variable that is missing, and why nothing comes of the provider without it.
    fn complete(
        &mut self,
        spec: &mut ProviderSpec,
        has_key: bool,
        name: &str,
    ) -> Result<(), (&'static str, String)> {
        match spec.r#type() {
            ProviderType::Openai => self.openai_headers(spec, name),
            ProviderType::AzureOpenai => {
                if spec.base_url.is_empty() {
                    return Err(("AZURE_OPENAI_ENDPOINT", "needs AZURE_OPENAI_ENDPOINT beside it".into()));
                }
                self.azure_version(spec, name)?;
            }
            ProviderType::Bedrock => {
                let Some((variable, region)) = self.first(&REGIONS) else {
                    return Err((REGIONS[0], "needs AWS_REGION beside it".into()));
                };
                let is_region = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                if !region.bytes().all(is_region) {
                    self.problem(variable, "is not the name of a region, such as `us-east-1`");
                    return Err((variable, format!("goes with {variable}, which is not valid")));
                }
                spec.base_url = format!("https://bedrock-runtime.{region}.amazonaws.com");
                self.made.imported(self.variables.shown(variable), name);
            }
            ProviderType::Ollama if has_key => {
                let auth = ProviderAuth { scheme: AuthScheme::Bearer.into(), ..ProviderAuth::default() };
                spec.auth = Some(auth);
                if spec.base_url.is_empty() {
                    OLLAMA_CLOUD.clone_into(&mut spec.base_url);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn openai_headers(&mut self, spec: &mut ProviderSpec, name: &str) {
        for (variable, header) in OPENAI_HEADERS {
            if let Some(value) = self.take(variable) {
                let value = Some(Value::Plain(value.to_owned()));
                spec.headers.insert(header.to_owned(), HeaderValue { value });
                self.made.imported(self.variables.shown(variable), name);
            }
        }
    }

    /// Deployments have the version in their URL; the path without one needs none.
    fn azure_version(&mut self, spec: &mut ProviderSpec, name: &str) -> Result<(), (&'static str, String)> {
        let Some(version) = self.take(API_VERSION) else { return Ok(()) };
        if !spec.endpoint_path.is_empty() {
            self.left_out(API_VERSION, "AZURE_OPENAI_ENDPOINT names a version too, and wins");
            return Ok(());
        }
        if !version.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            self.problem(API_VERSION, "is not a version of the API, such as `2024-10-21`");
            return Err((API_VERSION, format!("goes with {API_VERSION}, which is not valid")));
        }
        spec.endpoint_path = azure::endpoint(azure::MODEL, version);
        self.made.imported(self.variables.shown(API_VERSION), name);
        Ok(())
    }

    fn databases(&mut self) {
        let mut known = Vec::new();
        for (variable, id) in URLS {
            let Some(url) = self.take(variable) else { continue };
            match databases::from_url(url) {
                Ok(connection) => self.database(variable, id, connection, &mut known),
                Err(refused) => self.refused(variable, refused),
            }
        }
        self.libpq(&known);
    }

    /// A connection of a URL, unless an earlier one leads there or is called so.
    fn database(&mut self, variable: &'static str, id: &'static str, read: Connection, known: &mut Vec<Led>) {
        let led = Led { variable, id, place: place(&read) };
        match known.iter().find(|other| other.id == id || other.leads_to(&read)) {
            Some(other) => self.left_out(variable, other.told(&read)),
            None => {
                self.connection(variable, id, read);
                known.push(led);
            }
        }
    }

    fn libpq(&mut self, known: &[Led]) {
        let set: Vec<&'static str> = PG_USED.into_iter().filter(|name| self.take(name).is_some()).collect();
        for name in PG_LEFT_OUT {
            if self.take(name).is_some() {
                self.left_out(
                    name,
                    "leads elsewhere or to a file of one machine; set the fields of the connection",
                );
            }
        }
        // `PGUSER` alone is what many have set for psql.
        if set.is_empty() {
            return;
        }
        let variables = self.variables;
        match databases::from_pg(|name| variables.get(name)) {
            Ok(connection) => {
                let there = |other: &&Led| other.id == LIBPQ || other.leads_to(&connection);
                if let Some(why) = known.iter().find(there).map(|other| other.told(&connection)) {
                    for name in set {
                        self.left_out(name, why.clone());
                    }
                    return;
                }
                for name in set.iter().filter(|name| **name != "PGHOST") {
                    self.made.imported(self.variables.shown(name), format!("databases/{LIBPQ}"));
                }
                self.connection("PGHOST", LIBPQ, connection);
            }
            Err((_, Refused::NotCarried(_))) if !set.contains(&"PGHOST") => {
                for name in set {
                    self.left_out(name, "there is no PGHOST to go with it");
                }
            }
            Err((name, refused)) => self.refused(name, refused),
        }
    }

    fn connection(&mut self, variable: &str, id: &str, Connection { spec, notes }: Connection) {
        let (from, name) = (self.variables.shown(variable), format!("databases/{id}"));
        let outcome = if notes.is_empty() { Outcome::Imported } else { Outcome::Changed };
        self.made.put(&from, name.as_str(), Spec::Database(spec));
        self.made.item(from, name, outcome, notes.join("; "));
    }

    fn refused(&mut self, variable: &str, refused: Refused) {
        match refused {
            Refused::Invalid(what) => self.problem(variable, &what),
            Refused::NotCarried(why) => self.left_out(variable, why),
        }
    }

    /// What nobody asked for. Of the environment itself only what is known was looked at.
    fn rest(&mut self) {
        let variables = self.variables;
        for (name, variable) in &variables.by_name {
            for place in &variable.overrides {
                self.made.left_out(format!("{name} ({place})"), "a later line sets it again");
            }
            let unused = !self.used.contains(name.as_str());
            if unused && variables.get(name).is_none() && names().any(|known| known == name) {
                self.left_out(name, "is empty");
            } else if unused && names().any(|known| known == name) {
                self.left_out(name, "belongs to a provider that has no key here");
            } else if unused && variable.place.is_some() {
                self.left_out(name, "says nothing of a provider or a database");
            }
        }
    }
}

#[cfg(test)]
mod tests;

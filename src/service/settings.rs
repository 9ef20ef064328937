//! Which value of a setting counts, and what it hides: environment, then the user's, then the global one, then a default.
//!
//! The environment is this server's own, and shows only here: a worker goes by its own, with the same precedence and the
//! same reading of texts. Nothing here is written.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use sha2::{Digest, Sha256};

use super::{
    Service, age,
    read::{PageToken, page_size, parse_min_revision},
};
use crate::{
    domain::{Error, FieldViolation, KindName, Principal, ResourceName, Result, Spec, Violations, limits},
    kinds::{self, CheckContext, SecretInputs, setting::credential_in},
    proto::v1::{
        EffectiveSetting, ExplainSettingRequest, ExplainSettingResponse, ResolveSettingsRequest,
        ResolveSettingsResponse, Secret, SettingSource, SettingSpec, SourcedSetting, secret::State,
        setting_spec::Value,
    },
    setting_key, setting_text,
    settings::Override,
    view::{Entry, Reveal, State as ViewState},
    watch::{authorise_secrets, not_granted},
};

const SETTING: KindName = KindName("setting");
/// Keys and defaults of a request at most.
const MAX_KEYS: usize = 1_000;
/// Bytes of all defaults of a request: each is searched for what looks like a credential.
const DEFAULTS_BYTES: usize = 1024 * 1024;
const GLOBAL: &str = "settings/";

impl Service {
    /// Tells the effective settings of a scope, by key in bytewise order, all pages at one revision.
    ///
    /// # Errors
    /// `Invalid`, `PermissionDenied`, `FailedPrecondition` when a page is too old, `Unavailable`.
    pub async fn resolve_settings(
        &self,
        caller: &Principal,
        request: &ResolveSettingsRequest,
    ) -> Result<ResolveSettingsResponse> {
        let query = fingerprint(request);
        let mut violations = Violations::default();
        let user = violations.take(parse_user(&request.user))?;
        let keys = parse_keys(&request.keys, &mut violations);
        let defaults = parse_defaults(&request.defaults, &mut violations);
        let size = violations.take(page_size(request.page_size))?;
        let page = violations.take(self.parse_page(&request.page_token, &query))?.flatten();
        let least = violations.take(parse_min_revision(&request.min_revision_token))?.flatten();
        let (user, size) = violations.allow(user.zip(size))?;
        let reveal = authorise_secrets(caller, request.include_secrets)?;
        self.at_least(least).await?;
        let confirmed = self.confirmed();
        let state = match &page {
            Some(page) => self.page_state(page).await?,
            None => self.parts.view.state(),
        };
        let current = self.parts.view.state();
        let scope = Scope { service: self, caller, state: &state, current: &current, user, defaults, reveal };
        for (index, key) in keys.iter().enumerate() {
            scope.check_reach(key).map_err(|error| error.at(format!("keys[{index}]")))?;
        }
        let keys = if request.keys.is_empty() { scope.keys() } else { keys.into_iter().collect() };
        let (settings, more) = scope.page(&keys, page.as_ref().map(|page| page.after.as_str()), size);
        let next = settings.last().filter(|_| more).map(|last| {
            self.parts.view.pin(&state);
            PageToken { at: state.token().to_string(), after: last.key.clone(), query, past: false }
        });
        let opened = settings.iter().filter(|setting| holds_secret(setting)).count();
        if reveal == Reveal::Plain && opened > 0 {
            let detail = format!("{opened} settings at revision {}", state.revision);
            self.audit(caller, "settings_resolved", detail).await?;
        }
        let (stale, confirmed_age) = age(confirmed);
        Ok(ResolveSettingsResponse {
            settings,
            next_page_token: next.map(|token| self.encode_page(&token)).transpose()?.unwrap_or_default(),
            revision: state.revision.0,
            revision_token: state.token().to_string(),
            stale,
            confirmed_age,
        })
    }

    /// Tells everything that is known of one setting in a scope.
    ///
    /// # Errors
    /// `NotFound` when it stands nowhere, `Invalid`, `PermissionDenied`, `Unavailable`.
    pub async fn explain_setting(
        &self,
        caller: &Principal,
        request: &ExplainSettingRequest,
    ) -> Result<ExplainSettingResponse> {
        let mut violations = Violations::default();
        let user = violations.take(parse_user(&request.user))?;
        let key = violations.take(parse_key("key", &request.key))?;
        let least = violations.take(parse_min_revision(&request.min_revision_token))?.flatten();
        let mut defaults = BTreeMap::new();
        if let (Some(key), Some(default)) = (&key, &request.default_setting) {
            check_default("default_setting", key, default, &mut violations);
            defaults.insert(key.clone(), default.clone());
        }
        let (user, key) = violations.allow(user.zip(key))?;
        let reveal = authorise_secrets(caller, request.include_secrets)?;
        self.at_least(least).await?;
        let confirmed = self.confirmed();
        let state = self.parts.view.state();
        let scope = Scope { service: self, caller, state: &state, current: &state, user, defaults, reveal };
        scope.check_reach(&key).map_err(|error| error.at("key"))?;
        let found = scope.explain(&key);
        let found = found.ok_or_else(|| Error::NotFound { name: format!("{GLOBAL}{key}") })?;
        if reveal == Reveal::Plain && holds_secret(&found) {
            self.audit(caller, "setting_explained", format!("{key} at revision {}", state.revision)).await?;
        }
        let (stale, confirmed_age) = age(confirmed);
        Ok(ExplainSettingResponse {
            setting: Some(found),
            revision: state.revision.0,
            revision_token: state.token().to_string(),
            stale,
            confirmed_age,
        })
    }

    /// The variables of this server's environment that can't be read as what they override is, by name.
    #[must_use]
    pub fn unreadable_overrides(&self) -> Vec<String> {
        let state = self.parts.view.state();
        let unreadable = |(key, found): (&str, &Override)| {
            let name = format!("{GLOBAL}{key}");
            let hidden = setting_of(state.get(&name)?)?.value.as_ref()?;
            let problem = read_as(found, hidden).err()?;
            Some(format!("{}: {problem}, which {name} is", found.variable))
        };
        self.parts.overrides.iter().filter_map(unreadable).collect()
    }
}

/// Whose settings are looked at, on which state, by whom.
struct Scope<'a> {
    service: &'a Service,
    caller: &'a Principal,
    state: &'a ViewState,
    /// What is stored now, where `state` is that of a list which goes on.
    current: &'a ViewState,
    user: Option<String>,
    defaults: BTreeMap<String, SettingSpec>,
    reveal: Reveal,
}

impl Scope<'_> {
    /// Prefix of the user's own settings.
    fn own(&self) -> Option<String> {
        self.user.as_ref().map(|user| format!("users/{user}/{GLOBAL}"))
    }

    /// Where a key may be stored, the strongest first.
    fn names(&self, key: &str) -> impl Iterator<Item = (SettingSource, String)> {
        let own = self.own().map(|own| (SettingSource::User, format!("{own}{key}")));
        own.into_iter().chain([(SettingSource::Global, format!("{GLOBAL}{key}"))])
    }

    fn reaches(&self, name: &str) -> bool {
        ResourceName::parse(name).is_ok_and(|name| self.caller.reaches(&name, SETTING))
    }

    /// Whether the caller may ask for this key.
    fn check_reach(&self, key: &str) -> Result<()> {
        match self.names(key).any(|(_, name)| self.reaches(&name)) {
            true => Ok(()),
            false => Err(not_granted(self.caller, &format!("{}{key}", self.own().unwrap_or(GLOBAL.into())))),
        }
    }

    /// Every key that stands anywhere in the scope.
    fn keys(&self) -> BTreeSet<String> {
        let prefixes = self.own().into_iter().chain([GLOBAL.to_owned()]);
        let stored = prefixes.flat_map(|prefix| {
            self.state.beneath(&prefix).map(|entry| entry.record.name.id().to_owned()).collect::<Vec<_>>()
        });
        let variables = self.service.parts.overrides.iter().map(|(key, _)| key.to_owned());
        stored.chain(variables).chain(self.defaults.keys().cloned()).collect()
    }

    /// One page: as many as were asked for and fit into a message, and whether there are more.
    fn page(
        &self,
        keys: &BTreeSet<String>,
        after: Option<&str>,
        size: usize,
    ) -> (Vec<EffectiveSetting>, bool) {
        let mut bytes = 0;
        let mut settings = Vec::new();
        for key in keys.iter().filter(|key| after.is_none_or(|after| key.as_str() > after)) {
            let Some(setting) = self.explain(key) else { continue };
            bytes += setting.encoded_len() + 8;
            if settings.len() == size || (bytes > limits::MESSAGE_OUT_BYTES / 2 && !settings.is_empty()) {
                return (settings, true);
            }
            settings.push(setting);
        }
        (settings, false)
    }

    /// Everything that the caller may know of a key; `None` if that is nothing.
    fn explain(&self, key: &str) -> Option<EffectiveSetting> {
        if !self.names(key).any(|(_, name)| self.reaches(&name)) {
            return None;
        }
        let mut found: Vec<SourcedSetting> =
            self.names(key).filter_map(|(source, name)| self.stored(source, name)).collect();
        found.extend(self.defaults.get(key).map(|default| SourcedSetting {
            source: SettingSource::Default.into(),
            setting: Some(default.clone()),
            ..SourcedSetting::default()
        }));
        // It stands for the global setting, and is for who reaches that: a user's own settings open no other.
        let variable = self.service.parts.overrides.get(key);
        if let Some(variable) = variable.filter(|_| self.reaches(&format!("{GLOBAL}{key}"))) {
            let hidden = found.iter().find_map(|hidden| hidden.setting.as_ref()?.value.as_ref());
            let first = self.environment(key, variable, hidden);
            found.insert(0, first);
        }
        let mut found = found.into_iter();
        let effective = Some(found.next()?);
        Some(EffectiveSetting { key: key.to_owned(), effective, hidden: found.collect() })
    }

    fn stored(&self, source: SettingSource, name: String) -> Option<SourcedSetting> {
        let entry = self.state.get(&name).filter(|_| self.reaches(&name))?;
        let shown = self.service.shown_on_page(self.state, self.current, entry, self.reveal);
        let Some(Spec::Setting(setting)) = shown.spec else { return None };
        Some(SourcedSetting {
            source: source.into(),
            origin: name,
            setting: Some(setting),
            ..Default::default()
        })
    }

    fn environment(&self, key: &str, found: &Override, hidden: Option<&Value>) -> SourcedSetting {
        let secret = || {
            let value = (self.reveal == Reveal::Plain).then(|| found.text.expose().to_owned());
            Value::SecretValue(Secret { value, state: State::Present.into() })
        };
        let read = match hidden {
            _ if self.is_secret(key) => Ok(secret()),
            Some(hidden) => read_as(found, hidden),
            None => Ok(Value::StringValue(found.text.expose().to_owned())),
        };
        let (value, problem) = match read {
            Ok(value) if credential_in(&value).is_some() => (Some(secret()), String::new()),
            Ok(value) => (Some(value), String::new()),
            Err(problem) => (None, problem),
        };
        SourcedSetting {
            source: SettingSource::Environment.into(),
            origin: found.variable.clone(),
            setting: value.map(|value| SettingSpec { value: Some(value), description: String::new() }),
            problem,
        }
    }

    /// Whether a variable's text is a secret: by its key, or because somebody keeps a secret under it, whether or not the
    /// caller can see that.
    fn is_secret(&self, key: &str) -> bool {
        let secret = |entry: &Entry| {
            let value = setting_of(entry).and_then(|setting| setting.value.as_ref());
            entry.record.name.id() == key && matches!(value, Some(Value::SecretValue(_)))
        };
        setting_key::is_secret(key)
            || self.state.get(&format!("{GLOBAL}{key}")).is_some_and(secret)
            || self.state.beneath("users/").any(secret)
    }
}

fn setting_of(entry: &Entry) -> Option<&SettingSpec> {
    match &entry.record.spec {
        Spec::Setting(setting) => Some(setting),
        _ => None,
    }
}

fn holds_secret(setting: &EffectiveSetting) -> bool {
    let values =
        setting.effective.iter().chain(&setting.hidden).filter_map(|sourced| sourced.setting.as_ref());
    let mut values = values.filter_map(|setting| setting.value.as_ref());
    values.any(|value| matches!(value, Value::SecretValue(_)))
}

/// The text of a variable as the type of a value, as a worker reads it; else what it is not.
fn read_as(found: &Override, like: &Value) -> Result<Value, String> {
    let text = found.text.expose();
    let (read, wanted) = match like {
        Value::StringValue(_) => (Some(Value::StringValue(text.to_owned())), "a string"),
        // Taken to the letter, as the client takes it.
        Value::JsonValue(_) => {
            (setting_text::json(text).map(|text| Value::JsonValue(text.to_owned())), "a JSON document")
        }
        Value::SecretValue(_) => {
            (Some(Value::SecretValue(Secret { value: None, state: State::Present.into() })), "a secret")
        }
        Value::IntValue(_) => (setting_text::int(text).map(Value::IntValue), "an integer"),
        Value::FloatValue(_) => (setting_text::float(text).map(Value::FloatValue), "a finite number"),
        Value::BoolValue(_) => {
            (setting_text::boolean(text).map(Value::BoolValue), "a truth value such as true, no or 1")
        }
        Value::DurationValue(_) => {
            let read =
                setting_text::duration(text).and_then(|read| prost_types::Duration::try_from(read).ok());
            (read.map(Value::DurationValue), "a length of time such as 250ms, 5s or 2h")
        }
    };
    read.ok_or_else(|| format!("is not {wanted}"))
}

/// A user as names have it; `None` where none is meant.
fn parse_user(user: &str) -> Result<Option<String>> {
    if user.is_empty() {
        return Ok(None);
    }
    match kinds::parse_name(&format!("users/{user}/settings/x")) {
        Ok((name, kind)) if kind.name() == SETTING && name.segments().nth(1) == Some(user) => {
            Ok(Some(user.to_owned()))
        }
        Ok(_) => Err(Error::invalid("user", "INVALID_NAME", "must be one segment of a name, without `/`")),
        Err(why) => Err(Error::invalid("user", "INVALID_NAME", why)),
    }
}

fn parse_key(field: &str, key: &str) -> Result<String> {
    if key.is_empty() {
        return Err(Error::invalid(field, "REQUIRED", "is required, for example `max_retries`"));
    }
    match kinds::parse_name(&format!("{GLOBAL}{key}")) {
        Ok((name, kind)) if kind.name() == SETTING => Ok(name.id().to_owned()),
        Ok(_) => {
            Err(Error::invalid(field, "INVALID_NAME", "must be a key without `/`, for example `max_retries`"))
        }
        Err(why) => Err(Error::invalid(field, "INVALID_NAME", why)),
    }
}

fn parse_keys(given: &[String], violations: &mut Violations) -> Vec<String> {
    violations.at_most("keys", given.len(), MAX_KEYS, "keys");
    let mut keys = Vec::new();
    for (index, key) in given.iter().take(MAX_KEYS).enumerate() {
        match parse_key(&format!("keys[{index}]"), key) {
            Ok(key) => keys.push(key),
            Err(Error::Invalid(found)) => violations.extend(found),
            Err(_) => {}
        }
    }
    keys
}

fn parse_defaults(
    given: &BTreeMap<String, SettingSpec>,
    violations: &mut Violations,
) -> BTreeMap<String, SettingSpec> {
    violations.at_most("defaults", given.len(), MAX_KEYS, "defaults");
    let mut defaults = BTreeMap::new();
    let bytes: usize = given.iter().map(|(key, setting)| key.len() + setting.encoded_len()).sum();
    if bytes > DEFAULTS_BYTES {
        let problem = format!("have {bytes} bytes together; at most {DEFAULTS_BYTES} are allowed");
        violations.add("defaults", "TOO_LONG", problem);
        return defaults;
    }
    for (key, setting) in given.iter().take(MAX_KEYS) {
        let field = format!("defaults.{key}");
        match parse_key(&field, key) {
            Ok(key) => {
                check_default(&field, &key, setting, violations);
                if defaults.insert(key, setting.clone()).is_some() {
                    violations.add(field, "DUPLICATE", "is another spelling of a key that is given as well");
                }
            }
            Err(Error::Invalid(found)) => violations.extend(found),
            Err(_) => {}
        }
    }
    defaults
}

/// Holds a default to what a stored setting is held to; and it is no secret, because it would be told to whoever resolves.
fn check_default(field: &str, key: &str, setting: &SettingSpec, violations: &mut Violations) {
    let secret = |value: &Value| matches!(value, Value::SecretValue(_)) || credential_in(value).is_some();
    if setting.value.as_ref().is_some_and(secret) || setting_key::is_secret(key) {
        let what = "must not be given, because a secret has no default; store it as `secret_value`";
        return violations.add(field, "NOT_ALLOWED", what);
    }
    let name = ResourceName::parse(&format!("{GLOBAL}{key}"));
    let (Ok(name), Some(kind)) = (name, kinds::kind_named(SETTING)) else { return };
    let (spec, secrets) = (Spec::Setting(setting.clone()), SecretInputs::new());
    let context = CheckContext { name: &name, spec: &spec, before: None, secrets: &secrets, imported: false };
    let place = |violation: FieldViolation| {
        let rest = violation.field.strip_prefix(SETTING.0).unwrap_or_default();
        FieldViolation { field: format!("{field}{rest}"), ..violation }
    };
    violations.extend(kinds::check(kind, &context).into_iter().map(place));
}

fn fingerprint(request: &ResolveSettingsRequest) -> String {
    let whole = ResolveSettingsRequest {
        page_size: 0,
        page_token: String::new(),
        min_revision_token: String::new(),
        ..request.clone()
    };
    hex::encode(&Sha256::digest(whole.encode_to_vec())[..8])
}

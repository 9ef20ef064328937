//! Parts of providers that several formats give in the same way: ids, authentication, headers, models, capabilities, and who
//! is active. Must not know any format.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_reflect::{DynamicMessage, ReflectMessage as _};

use super::{Gathered, Outcome, gather, providers, tree::Tree};
use crate::{
    crypto::{Foreign, ForeignKeys, SecretText},
    domain::{FieldViolation, limits, record::Spec},
    proto::v1::{
        AuthScheme, HeaderValue, ProviderAuth, ProviderCapabilities, ProviderSpec, ProviderType, RouterSpec,
        Secret, header_value::Value,
    },
    setting_key,
};

/// The router whose primary is the active provider.
pub const DEFAULT_ROUTER: &str = "routers/default";
/// Fallbacks that a router has at most.
const MAX_FALLBACKS: usize = 16;

/// What a stored secret turned out to be.
pub struct Opened {
    /// The secret.
    pub value: SecretText,
    /// Whether it lay there in the clear.
    pub clear: bool,
}

/// An id for a name: lower case, what no id may hold replaced by `-`. `None` where nothing is left.
#[must_use]
pub fn id_for(name: &str) -> Option<String> {
    let letter = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() || "._:@+".contains(letter) => letter.to_ascii_lowercase(),
        _ => '-',
    };
    let mut id = String::with_capacity(name.len());
    for letter in name.trim().chars().map(letter) {
        if letter != '-' || !id.ends_with('-') {
            id.push(letter);
        }
    }
    let id = id.trim_start_matches(|letter: char| !letter.is_ascii_alphanumeric()).trim_end_matches('-');
    let id: String = id.chars().take(limits::SEGMENT_BYTES).collect();
    (!id.is_empty()).then_some(id)
}

/// The id of a provider that goes by several names: importers and starters meet the same one under it. `None` for a word that
/// is nobody's name.
#[must_use]
pub fn known_id(word: &str) -> Option<String> {
    providers::type_of(word).and_then(providers::row).map(|known| known.id.to_owned())
}

/// The keys of an object that say what another one says already, with that one: in another spelling, or by another name that
/// `same` lists beside it, the one that is taken first.
#[must_use]
pub fn repeated<'t>(given: &'t Tree, same: &[&[&str]]) -> BTreeMap<&'t str, &'t str> {
    let mut taken: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    let mut repeated = BTreeMap::new();
    for (key, _) in given.entries().iter().filter(|(_, value)| *value != Tree::Null) {
        let plain = setting_key::normalise(key);
        let of_group = |group: &&&[&str]| group.contains(&&*plain);
        let group = same.iter().find(of_group);
        let place = group.and_then(|group| group.iter().position(|name| *name == plain)).unwrap_or(0);
        let what = group.map_or_else(|| plain.clone().into_owned(), |group| group[0].to_owned());
        match taken.get(&what).copied() {
            Some((before, other)) if before <= place => {
                repeated.insert(key.as_str(), other);
            }
            Some((_, other)) => {
                repeated.insert(other, key.as_str());
                taken.insert(what, (place, key));
            }
            None => {
                taken.insert(what, (place, key));
            }
        }
    }
    repeated
}

/// The type of a provider by the first of these words that is one, or by where it is. What is called custom and says where it
/// is speaks the OpenAI protocol, as nearly everything does: a custom type has nothing to fill in.
#[must_use]
pub fn type_by(words: &[Option<&str>], base_url: Option<&str>) -> ProviderType {
    let says_more = |found: &ProviderType| base_url.is_none() || *found != ProviderType::Custom;
    let by_word = words.iter().flatten().filter_map(|word| providers::type_of(word)).find(says_more);
    by_word.unwrap_or(match base_url {
        Some(url) => type_by_url(url).unwrap_or(ProviderType::OpenaiCompatible),
        None => ProviderType::Custom,
    })
}

/// The type whose services are at a URL's host.
#[must_use]
pub fn type_by_url(url: &str) -> Option<ProviderType> {
    let host = |url: &str| url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let wanted = host(url)?;
    let mut rows = crate::kinds::provider_types::TYPES.iter();
    rows.find(|row| {
        let base = row.base_url.filter(|base| base.starts_with("https://"));
        base.and_then(host).is_some_and(|known| known == wanted)
    })
    .map(|row| row.provider_type)
}

/// What the name of a column says of the secrets in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Nothing: they may lie there in the clear.
    Plain,
    /// That they are sealed (`encrypted_...`).
    Sealed,
}

/// Opens a stored secret. What is sealed, or should be, is never taken as it stands.
///
/// # Errors
/// What is wrong, and what to do.
pub fn open(keys: &ForeignKeys, stored: &str, column: Column) -> Result<Opened, &'static str> {
    match keys.open(stored) {
        Foreign::Opened(value) => Ok(Opened { value, clear: false }),
        Foreign::Ciphertext => {
            Err("is ciphertext, but no whole token of Fernet: it was cut, or sealed by other means; \
                                    dump it whole, or open it there and select it as `api_key`")
        }
        Foreign::Plain if column == Column::Sealed => Err(
            "is no token of Fernet, which the name of its column promises; dump it whole, or open it there and \
                 select it as `api_key`",
        ),
        Foreign::Plain => Ok(Opened { value: stored.trim().into(), clear: true }),
        Foreign::Sealed => Err("is sealed, and no given key opens it; give the key that it was sealed with \
                                (--fernet-key-file, or --password-file with --salt)"),
    }
}

/// A scheme of authentication with its template, in the words that other systems have for them. What is told is what could
/// not be taken as it was.
pub fn authenticate(spec: &mut ProviderSpec, scheme: Option<&str>, template: Option<&str>) -> Option<String> {
    let template = template.map(normal_template);
    let is_bearer = |template: &str| {
        let template = template.trim().to_ascii_lowercase();
        matches!(template.trim_start_matches("authorization:").trim(), "bearer {api_key}")
    };
    let word = scheme.unwrap_or_default().to_ascii_lowercase().replace(['-', ' '], "_");
    let auth = |scheme: AuthScheme, header_template: String| {
        Some(ProviderAuth { scheme: scheme.into(), header_template })
    };
    let named = template.as_deref().filter(|template| template.contains(':') && !is_bearer(template));
    match (word.as_str(), named) {
        (_, Some(template)) => spec.auth = auth(AuthScheme::Header, template.to_owned()),
        ("none", _) => spec.auth = auth(AuthScheme::None, String::new()),
        ("bearer" | "bearer_token", _) => {
            spec.auth = auth(AuthScheme::Bearer, String::new());
            if template.as_deref().is_some_and(|template| !is_bearer(template)) {
                return Some("its template names no header; the key goes as `Authorization: Bearer`".into());
            }
        }
        ("x_api_key" | "api_key" | "x_goog_api_key", _) => {
            spec.auth = auth(AuthScheme::Header, format!("{}: {{api_key}}", word.replace('_', "-")));
        }
        ("", _) => {}
        _ => {
            return Some(format!(
                "its scheme of authentication `{}` is none that is known; the one of its type is used",
                word.escape_debug()
            ));
        }
    }
    None
}

/// The placeholder for the key in its one spelling.
fn normal_template(template: &str) -> String {
    let mut normal = template.trim().to_owned();
    for other in ["{{api_key}}", "${api_key}", "{{ api_key }}", "{key}", "{token}", "{API_KEY}", "{apiKey}"] {
        normal = normal.replace(other, "{api_key}");
    }
    normal
}

/// A path in which `{model}` is the one placeholder.
#[must_use]
pub fn endpoint(path: &str) -> String {
    let mut path = path.trim().to_owned();
    for other in ["{{model}}", "{model_name}", "{model_id}", "{{model_name}}"] {
        path = path.replace(other, "{model}");
    }
    if path.is_empty() || path.starts_with('/') { path } else { format!("/{path}") }
}

/// Takes headers, in the clear or sealed as the kind wants them. Those that it refuses are left out and told.
pub fn headers(made: &mut Gathered, from: &str, spec: &mut ProviderSpec, given: &Tree) {
    for (name, value) in given.entries() {
        header(made, &format!("{from}, header {}", name.escape_debug()), spec, name, value);
    }
}

/// Takes one of them. Whether it was taken.
pub fn header(made: &mut Gathered, path: &str, spec: &mut ProviderSpec, name: &str, value: &Tree) -> bool {
    let Some(text) = value.text() else {
        made.left_out(path, "has a value that is no text");
        return false;
    };
    match put_header(spec, name, Value::Plain(text.to_owned())) {
        Ok(()) => true,
        Err(violation) if violation.reason == "SECRET_REQUIRED" => {
            let sealed = Secret { value: Some(text.to_owned()), ..Secret::default() };
            secret_header(made, path, spec, name, sealed)
        }
        Err(violation) => {
            made.left_out(path, violation.description);
            false
        }
    }
}

/// Takes a header whose value is a secret. Whether it was taken; one that the kind refuses is left out and told.
pub fn secret_header(
    made: &mut Gathered,
    path: &str,
    spec: &mut ProviderSpec,
    name: &str,
    secret: Secret,
) -> bool {
    let refused = put_header(spec, name, Value::Secret(secret)).err();
    refused.map(|violation| made.left_out(path, violation.description)).is_none()
}

/// Sets a header; leaves the spec as it is where the kind refuses that.
fn put_header(spec: &mut ProviderSpec, name: &str, value: Value) -> Result<(), FieldViolation> {
    let before = spec.headers.clone();
    spec.headers.insert(name.to_owned(), HeaderValue { value: Some(value) });
    let found = gather::violations("providers/x", &Spec::Provider(spec.clone()));
    match found.into_iter().find(|violation| violation.field.starts_with("provider.headers")) {
        None => Ok(()),
        Some(violation) => {
            spec.headers = before;
            Err(violation)
        }
    }
}

/// Takes a field that is a message, as JSON in either spelling. `false` where there is no such field.
///
/// # Errors
/// When the JSON is no such message: names the field within it.
pub fn message_field(spec: &mut ProviderSpec, field: &str, json: &Tree) -> Result<bool, String> {
    let descriptor = ProviderSpec::default().descriptor();
    if descriptor.get_field_by_name(field).is_none() {
        return Ok(false);
    }
    let message = read(&[field.to_owned()], json).ok_or_else(|| {
        let at = culprit(field, json);
        format!(
            "`{at}` is not what `provider.{field}` takes; `signalbox explain provider.{field}` describes it"
        )
    })?;
    let bytes = message.encode_to_vec();
    spec.merge(bytes.as_slice()).map_err(|_| format!("can't be taken as `provider.{field}`"))?;
    Ok(true)
}

/// Reads a provider that has nothing but this value at this path.
fn read(path: &[String], value: &Tree) -> Option<DynamicMessage> {
    let nested = path
        .iter()
        .rev()
        .fold(value.to_json(), |json, key| format!("{{{}:{json}}}", serde_json::Value::from(key.as_str())));
    let descriptor = ProviderSpec::default().descriptor();
    DynamicMessage::deserialize(descriptor, &mut serde_json::Deserializer::from_str(&nested)).ok()
}

/// Where a message that can't be read goes wrong: the path to the innermost field that alone can't be read either.
fn culprit(field: &str, json: &Tree) -> String {
    let (mut path, mut within) = (vec![field.to_owned()], json);
    loop {
        let deeper = within.entries().iter().find(|(key, value)| {
            let mut path = path.clone();
            path.push(key.clone());
            read(&path, value).is_none()
        });
        let Some((key, value)) = deeper else { break };
        path.push(key.clone());
        within = value;
    }
    path.join(".").escape_debug().to_string()
}

/// Models by id: a list of ids, or of objects with an `id` or a `name`.
#[must_use]
pub fn models(given: &Tree) -> Vec<String> {
    let id = |item: &Tree| {
        let of_map = ["id", "name", "model"].iter().find_map(|key| item.get(key).and_then(Tree::text));
        item.text().or(of_map).map(str::to_owned)
    };
    let mut models: Vec<String> = Vec::new();
    for model in given.items().iter().filter_map(id) {
        if !models.contains(&model) {
            models.push(model);
        }
    }
    models
}

/// Sets the default model, which is one of the models where there are some.
pub fn default_model(spec: &mut ProviderSpec, model: &str) {
    model.clone_into(&mut spec.default_model);
    if !model.is_empty() && !spec.models.is_empty() && !spec.models.iter().any(|known| known == model) {
        spec.models.push(model.to_owned());
    }
}

/// Takes capabilities, a map of flags or a list of words; what is unknown is left out and told.
pub fn capabilities(made: &mut Gathered, from: &str, spec: &mut ProviderSpec, given: &Tree) {
    let flags = given.entries().iter().map(|(name, value)| (name.as_str(), value.flag()));
    let words = given.items().iter().filter_map(|word| Some((word.text()?, Some(true))));
    for (name, flag) in flags.chain(words) {
        let path = format!("{from}, capability {}", name.escape_debug());
        let Some(value) = flag else {
            made.left_out(path, "is neither true nor false");
            continue;
        };
        let all: &mut ProviderCapabilities = spec.capabilities.get_or_insert_default();
        let word = name.to_ascii_lowercase().replace(['-', ' '], "_");
        let field = match word.strip_prefix("supports_").unwrap_or(&word) {
            "chat" | "chat_completion" | "chat_completions" => &mut all.chat,
            "stream" | "streaming" => &mut all.streaming,
            "tools" | "tool_use" | "tool_calls" | "function_calling" | "functions" => &mut all.tools,
            "vision" | "images" | "image_input" => &mut all.vision,
            "structured_output" | "structured_outputs" | "json_schema" | "response_schema" => {
                &mut all.structured_output
            }
            "reasoning" | "thinking" => &mut all.reasoning,
            "embeddings" | "embedding" => &mut all.embeddings,
            _ => {
                made.left_out(path, "is none of the capabilities of providers");
                continue;
            }
        };
        *field = Some(value);
    }
}

/// Whether a source says which provider is active.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// It does.
    Who,
    /// It does not: what is made of it is for a store that has no active provider yet.
    Nothing,
}

/// Why an active provider stays so.
pub const ACTIVE_STAYS: &str = "nothing in the file says which provider is active, so that the active one stays; `signalbox switch` changes it";

/// Makes the router that says who is active, from providers in their order, the active one first. A disabled one can't be it:
/// the first that is enabled is, and the disabled ones come last.
pub fn default_router(made: &mut Gathered, from: &str, says: Says, order: &[String], note: &str) {
    let Some(first) = order.first() else { return };
    let mut is_off = |name: &&String| matches!(made.get_mut(name), Some(Spec::Provider(spec)) if spec.enabled == Some(false));
    let (off, on): (Vec<&String>, Vec<&String>) = order.iter().partition(|name| is_off(name));
    let Some((primary, others)) = on.split_first() else {
        let why = format!("{first} is the active one and disabled at once; the active one stays");
        return made.left_out(from, why);
    };
    let mut notes = Vec::from_iter((!note.is_empty()).then(|| note.to_owned()));
    if *primary != first {
        notes.push(format!("{first} is disabled, so that {primary} is the active one"));
    }
    let mut fallbacks: Vec<String> = Vec::new();
    for name in others.iter().chain(&off).filter(|name| *name != primary) {
        if !fallbacks.contains(*name) && fallbacks.len() < MAX_FALLBACKS {
            fallbacks.push((*name).clone());
        }
    }
    let spec = RouterSpec { primary: (*primary).clone(), fallbacks, ..RouterSpec::default() };
    made.put(from, DEFAULT_ROUTER, Spec::Router(spec));
    if says == Says::Nothing {
        made.only_new(DEFAULT_ROUTER, ACTIVE_STAYS);
    }
    let outcome = if notes.is_empty() { Outcome::Imported } else { Outcome::Changed };
    made.item(from, DEFAULT_ROUTER, outcome, notes.join("; "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_made_of_names() {
        for (name, id) in [
            ("Groq", Some("groq")),
            ("google_ai", Some("google_ai")),
            (" My Provider (EU) ", Some("my-provider-eu")),
            ("ähnlich", Some("hnlich")),
            ("--", None),
            ("", None),
        ] {
            assert_eq!(id_for(name).as_deref(), id, "{name}");
        }
        assert_eq!(id_for(&"x".repeat(200)).map(|id| id.len()), Some(128));
    }

    #[test]
    fn regression_what_should_be_sealed_is_not_taken_as_it_stands() {
        let open = |stored, column| open(&ForeignKeys::none(), stored, column).map(|opened| opened.clear);
        assert_eq!(open("sk-1", Column::Plain), Ok(true));
        assert!(open("sk-1", Column::Sealed).is_err_and(|told| told.contains("`api_key`")));
        for stored in ["gAAAAABcut", "\\xc30d0407", "c30d0407"] {
            for column in [Column::Plain, Column::Sealed] {
                assert!(open(stored, column).is_err_and(|told| told.contains("ciphertext")), "{stored}");
            }
        }
    }

    #[test]
    fn schemes_in_other_words() {
        let read = |scheme, template| {
            let mut spec = ProviderSpec::default();
            let told = authenticate(&mut spec, scheme, template);
            let auth = spec.auth.unwrap_or_default();
            (auth.scheme(), auth.header_template, told.is_some())
        };
        let bearer = || (AuthScheme::Bearer, String::new(), false);
        assert_eq!(read(Some("bearer"), None), bearer());
        assert_eq!(read(Some("Bearer"), Some("Authorization: Bearer {api_key}")), bearer());
        assert_eq!(read(Some("bearer"), Some("Bearer {{api_key}}")), bearer());
        let header = (AuthScheme::Header, "x-goog-api-key: {api_key}".to_owned(), false);
        assert_eq!(read(Some("header"), Some("x-goog-api-key: {key}")), header);
        assert_eq!(read(Some("x-goog-api-key"), None), header);
        assert!(read(Some("hmac"), None).2);
        assert_eq!(read(None, None), (AuthScheme::Unspecified, String::new(), false));
    }

    #[test]
    fn regression_what_is_said_twice_is_found() {
        let trees = crate::import::tree::parse(
            r#"{"apiKey": 1, "api_key": 2, "api_base": 3, "baseUrl": 4, "model": null, "defaultModel": 5}"#,
            true,
        );
        let given = trees.unwrap().remove(0);
        let same: [&[&str]; 2] = [&["base_url", "api_base"], &["default_model", "model"]];
        let found = repeated(&given, &same);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("api_base", "baseUrl"), ("api_key", "apiKey")]);
    }

    #[test]
    fn regression_a_message_that_cannot_be_read_names_its_field() {
        let read = |text: &str| {
            let json = crate::import::tree::parse(text, true).unwrap().remove(0);
            message_field(&mut ProviderSpec::default(), "response_extractor", &json).unwrap_err()
        };
        let told = read(
            r#"{"version": "1.0", "extraction_rules": {"text_content": {"type": "string", "paths": 7}}}"#,
        );
        assert!(
            told.starts_with("`response_extractor.extraction_rules.text_content.paths` is not"),
            "{told}"
        );
        let told = read(r#"{"version": "1.0", "nothing": 1}"#);
        assert!(told.starts_with("`response_extractor.nothing` is not"), "{told}");
        assert!(read("[]").starts_with("`response_extractor` is not"));
    }

    #[test]
    fn types_are_known_by_where_they_are() {
        assert_eq!(type_by_url("https://api.groq.com"), Some(ProviderType::Groq));
        assert_eq!(type_by(&[Some("mine")], Some("https://llm.example/v1")), ProviderType::OpenaiCompatible);
        assert_eq!(type_by(&[Some("mine"), Some("claude")], None), ProviderType::Anthropic);
        assert_eq!(type_by(&[], None), ProviderType::Custom);
    }
}

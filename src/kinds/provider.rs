//! LLM providers: `providers/{id}`.
//!
//! Names no provider; what a type brings with it is data in [`provider_types`](super::provider_types).

mod in_the_clear;

use std::collections::BTreeSet;

use super::{
    CheckContext, Contract, Kind, Outlook, Remark, Turn, active,
    contract::ProviderContract,
    headers::{CONNECTION_HEADERS, HEADER_BYTES, check_headers, is_one_of},
    provider_types::{TypeDefaults, default_model, defaults, is_at_home},
    rules::{
        DESCRIPTION_CHARS, NAME_CHARS, check_not_moved, header_value_problem, is_header_name, unknown_value,
        url_problem,
    },
    switched,
};
use crate::{
    domain::{Action, FeatureLevel, FieldViolation, KindName, ResourceName, Text, Violations, record::Spec},
    proto::v1::{
        AuthScheme, HeaderValue, HttpMethod, ProviderAuth, ProviderSpec, ProviderType, header_value::Value,
    },
    wire,
};

/// The kind `provider`.
pub struct Provider;

const MAX_MODELS: usize = 1000;
const PLACEHOLDER: &str = "{api_key}";

impl Kind for Provider {
    fn name(&self) -> KindName {
        KindName("provider")
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["providers/{id}"]
    }

    fn fill_defaults(&self, spec: &mut Spec, _name: &ResourceName) {
        let Spec::Provider(spec) = spec else { return };
        spec.enabled.get_or_insert(true);
        if spec.method == i32::from(HttpMethod::Unspecified) {
            spec.method = HttpMethod::Post.into();
        }
        if let Some(row) = defaults(spec.r#type) {
            fill_from_type(spec, row);
        }
    }

    fn fill_newer_defaults(&self, spec: &mut Spec, level: FeatureLevel) {
        let Spec::Provider(spec) = spec else { return };
        if level < FeatureLevel::WIRE {
            return;
        }
        let given = spec.response_extractor.is_some();
        wire::families::fill(spec);
        if let Some(filled) =
            spec.response_extractor.as_mut().filter(|_| !given && level < FeatureLevel::FRAMES)
        {
            filled.frame_stream = None;
        }
    }

    fn begin(&self, spec: &mut Spec) {
        if let Spec::Provider(spec) = spec
            && let Some(row) = defaults(spec.r#type)
        {
            begin_with_model(spec, row);
        }
    }

    fn feature_level(&self, spec: &Spec) -> FeatureLevel {
        let Spec::Provider(spec) = spec else { return FeatureLevel::FIRST };
        let ProviderSpec { request_builder, response_extractor, model_listing, .. } = spec;
        if response_extractor.as_ref().is_some_and(|extractor| extractor.frame_stream.is_some()) {
            return FeatureLevel::FRAMES;
        }
        let older = request_builder.is_none() && response_extractor.is_none() && model_listing.is_none();
        if older { FeatureLevel::FIRST } else { FeatureLevel::WIRE }
    }

    fn moves_secrets_beneath(&self, before: &Spec, after: &Spec) -> Option<&'static str> {
        match (before, after) {
            (Spec::Provider(before), Spec::Provider(after)) => moved_by(before, after),
            _ => None,
        }
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::Provider(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        check_texts(spec, &mut violations);
        check_enums(spec, &mut violations);
        check_base_url(spec, &mut violations);
        check_auth(spec, &mut violations);
        check_endpoint_path(spec, &mut violations);
        check_wire(spec, &mut violations);
        let key_header = |name: &str| key_header_problem(spec.auth.as_ref(), name);
        check_headers(context, &spec.headers, key_header, &mut violations);
        check_address_kept(context, spec, &mut violations);
        check_models(spec, &mut violations);
        in_the_clear::check(spec, &mut violations);
        violations.into_vec()
    }

    fn action(&self, before: &Spec, after: &Spec, rotated: bool) -> Action {
        switched(is_enabled(before), is_enabled(after), rotated)
    }

    fn warnings(&self, before: Option<&Spec>, after: &Spec) -> Vec<String> {
        let Spec::Provider(after) = after else { return Vec::new() };
        let before = match before {
            Some(Spec::Provider(before)) => Some(before),
            _ => None,
        };
        [
            type_left_behind(before, after),
            wire_left_behind(before, after),
            nothing_renders(after),
            key_in_the_clear(after),
            limits_crossed(after),
            endpoint_doubled(after),
            body_of_get(after),
        ]
        .into_iter()
        .flatten()
        .chain(placeholders_in_headers(after))
        .collect()
    }

    fn contract<'s>(&self, spec: &'s Spec) -> Option<Contract<'s>> {
        let Spec::Provider(spec) = spec else { return None };
        Some(Contract::Provider(ProviderContract::of(spec)))
    }

    fn turns_warnings(&self, before: &Spec, after: &Spec) -> bool {
        let (Spec::Provider(before), Spec::Provider(after)) = (before, after) else { return false };
        before.request_builder != after.request_builder
    }

    fn remarks(&self, turn: &Turn<'_>, outlook: &dyn Outlook) -> Vec<Remark> {
        active::of_provider(turn, outlook)
    }
}

fn fill_from_type(spec: &mut ProviderSpec, row: &TypeDefaults) {
    if spec.base_url.is_empty() {
        spec.base_url = row.base_url.unwrap_or_default().to_owned();
    }
    if spec.endpoint_path.is_empty() {
        row.endpoint_path.clone_into(&mut spec.endpoint_path);
    }
    let auth = spec.auth.get_or_insert_default();
    if auth.scheme == i32::from(AuthScheme::Unspecified) {
        auth.scheme = row.scheme.into();
    }
    if auth.scheme == i32::from(AuthScheme::Header) && auth.header_template.is_empty() {
        row.header_template.clone_into(&mut auth.header_template);
    }
    for (name, value) in row.headers {
        if !spec.headers.keys().any(|given| given.eq_ignore_ascii_case(name)) {
            let value = Some(Value::Plain((*value).to_owned()));
            spec.headers.insert((*name).to_owned(), HeaderValue { value });
        }
    }
}

/// The model of a call that names none, where the provider is the one that the type is called after: what else is served
/// elsewhere nobody knows. One that may not be used is none.
fn begin_with_model(spec: &mut ProviderSpec, row: &TypeDefaults) {
    let model = default_model(row.provider_type);
    let may_be_used = spec.models.is_empty() || spec.models.iter().any(|known| known == model);
    if spec.default_model.is_empty() && is_at_home(spec) && may_be_used {
        model.clone_into(&mut spec.default_model);
    }
}

fn check_texts(spec: &ProviderSpec, violations: &mut Violations) {
    violations.text("provider.display_name", &spec.display_name, Text::Line, NAME_CHARS);
    violations.text("provider.description", &spec.description, Text::Prose, DESCRIPTION_CHARS);
}

fn check_enums(spec: &ProviderSpec, violations: &mut Violations) {
    match ProviderType::try_from(spec.r#type) {
        Ok(ProviderType::Unspecified) => violations.add(
            "provider.type",
            "REQUIRED",
            "is required, for example PROVIDER_TYPE_OPENAI, or PROVIDER_TYPE_CUSTOM for anything else",
        ),
        Ok(_) => {}
        Err(_) => violations.add("provider.type", "UNKNOWN_VALUE", unknown_value(spec.r#type)),
    }
    if HttpMethod::try_from(spec.method).is_err() {
        violations.add("provider.method", "UNKNOWN_VALUE", unknown_value(spec.method));
    }
}

fn check_base_url(spec: &ProviderSpec, violations: &mut Violations) {
    let path = "provider.base_url";
    if spec.base_url.is_empty() {
        if let Some(row) = defaults(spec.r#type) {
            let (of, example) = (row.provider_type.as_str_name(), row.base_url_example);
            violations.add(path, "REQUIRED", format!("is required for {of}, for example `{example}`"));
        }
    } else if let Some(problem) = url_problem(&spec.base_url) {
        violations.add(path, "INVALID_FORMAT", problem);
    }
}

fn check_auth(spec: &ProviderSpec, violations: &mut Violations) {
    let auth = spec.auth.clone().unwrap_or_default();
    let template_path = "provider.auth.header_template";
    match AuthScheme::try_from(auth.scheme) {
        // Without a known type nothing is filled in, and the type is the thing to mend.
        Ok(AuthScheme::Unspecified) if defaults(spec.r#type).is_none() => {}
        Ok(AuthScheme::Unspecified) => violations.add(
            "provider.auth.scheme",
            "REQUIRED",
            "is required for this type: AUTH_SCHEME_BEARER, AUTH_SCHEME_HEADER or AUTH_SCHEME_NONE",
        ),
        Ok(AuthScheme::Header) => {
            if let Some(problem) = template_problem(&auth.header_template) {
                violations.add(template_path, "INVALID_FORMAT", problem);
            }
        }
        Ok(AuthScheme::None | AuthScheme::Bearer) if !auth.header_template.is_empty() => violations.add(
            template_path,
            "NOT_ALLOWED",
            "goes with AUTH_SCHEME_HEADER only; change the scheme or leave the template out",
        ),
        Ok(AuthScheme::None | AuthScheme::Bearer) => {}
        Err(_) => violations.add("provider.auth.scheme", "UNKNOWN_VALUE", unknown_value(auth.scheme)),
    }
}

fn template_problem(template: &str) -> Option<&'static str> {
    let form = "must have the form `Header-Name: text with {api_key}`, for example `x-api-key: {api_key}`";
    let Some((name, value)) = template.split_once(':') else { return Some(form) };
    let rest = value.replacen(PLACEHOLDER, "", 1);
    if !is_header_name(name) || template.len() > HEADER_BYTES {
        return Some(form);
    }
    if is_one_of(name, &CONNECTION_HEADERS) {
        return Some("names a header that belongs to the connection and can't carry a key");
    }
    if rest.len() == value.len() || rest.contains(['{', '}']) {
        return Some("must hold `{api_key}` exactly once and no other placeholder");
    }
    header_value_problem(value.trim_start_matches(' '))
}

fn check_endpoint_path(spec: &ProviderSpec, violations: &mut Violations) {
    let field = "provider.endpoint_path";
    if spec.endpoint_path.is_empty() {
        if defaults(spec.r#type).is_some() {
            violations.add(field, "REQUIRED", "is required for this type, for example `/chat/completions`");
        }
    } else if spec.request_builder.is_none()
        && let Some((reason, problem)) = wire::path_problem(&spec.endpoint_path, &["model"])
    {
        // What a path may hold beside a builder is checked with that.
        violations.add(field, reason, problem);
    }
}

fn check_wire(spec: &ProviderSpec, violations: &mut Violations) {
    for wire::Problem { path, reason, description } in wire::check(spec) {
        violations.add(format!("provider.{path}"), reason, description);
    }
}

/// The header that carries the API key is the scheme's.
fn key_header_problem(auth: Option<&ProviderAuth>, name: &str) -> Option<&'static str> {
    let auth = auth?;
    let taken = match auth.scheme() {
        AuthScheme::Bearer => "authorization",
        AuthScheme::Header => auth.header_template.split_once(':')?.0,
        _ => return None,
    };
    taken
        .eq_ignore_ascii_case(name)
        .then_some("is the header that carries the API key; store the key as an API key, or change `auth`")
}

/// A stored secret goes only to the base URL that it was saved with, and to the neighbour that it was saved with.
fn check_address_kept(context: &CheckContext<'_>, spec: &ProviderSpec, violations: &mut Violations) {
    let Some(Spec::Provider(before)) = context.before else { return };
    if let Some(field) = moved_by(before, spec) {
        check_not_moved(context, field.trim_start_matches("provider."), violations);
    }
}

/// The field by which a provider's secrets would go elsewhere.
fn moved_by(before: &ProviderSpec, after: &ProviderSpec) -> Option<&'static str> {
    if before.base_url != after.base_url {
        return Some("provider.base_url");
    }
    let (old, new) = (wire::neighbour(before), wire::neighbour(after));
    (old != new && !new.is_empty()).then_some("provider.model_listing.host_label")
}

fn check_models(spec: &ProviderSpec, violations: &mut Violations) {
    violations.at_most("provider.models", spec.models.len(), MAX_MODELS, "models");
    let mut seen = BTreeSet::new();
    for (index, model) in spec.models.iter().enumerate().take(MAX_MODELS) {
        let path = format!("provider.models[{index}]");
        if model.trim().len() != model.len() || model.is_empty() {
            violations.add(&path, "INVALID_FORMAT", "must not be empty, nor begin or end with white space");
        }
        violations.text(&path, model, Text::Line, NAME_CHARS);
        if !seen.insert(model) {
            violations.add(&path, "DUPLICATE", "is listed twice; list it once");
        }
    }
    let default = &spec.default_model;
    violations.text("provider.default_model", default, Text::Line, NAME_CHARS);
    if !default.is_empty() && !spec.models.is_empty() && !seen.contains(default) {
        violations.add(
            "provider.default_model",
            "NOT_ALLOWED",
            "must be one of `models`; name one of them, add it there, or leave `models` empty to allow any",
        );
    }
}

fn is_enabled(spec: &Spec) -> bool {
    matches!(spec, Spec::Provider(spec) if spec.enabled.unwrap_or(true))
}

/// Defaults are filled in once; a new type does not bring its own along.
fn type_left_behind(before: Option<&ProviderSpec>, after: &ProviderSpec) -> Option<String> {
    let before = before.filter(|before| before.r#type != after.r#type)?;
    let row = defaults(before.r#type)?;
    let old_url = row.base_url?;
    let old_model = default_model(row.provider_type);
    let model = match !old_model.is_empty() && after.default_model == old_model {
        true => format!(", and name another `default_model` than `{old_model}`"),
        false => String::new(),
    };
    (after.base_url == old_url).then(|| {
        format!(
            "`type` has changed, but `base_url` is still `{old_url}`; clear it to take the new type's{model}"
        )
    })
}

/// As [`type_left_behind`], for how the provider is spoken to, which depends on the type and on the endpoint path.
fn wire_left_behind(before: Option<&ProviderSpec>, after: &ProviderSpec) -> Option<String> {
    let before = before?;
    let filled = |spec: &ProviderSpec| {
        let ProviderSpec { r#type, endpoint_path, .. } = spec.clone();
        let mut filled = ProviderSpec { r#type, endpoint_path, ..Default::default() };
        wire::families::fill(&mut filled);
        (filled.request_builder, filled.response_extractor, filled.model_listing)
    };
    let (old, new) = (filled(before), filled(after));
    let kept = (old.0 != new.0 && after.request_builder == old.0)
        || (old.1 != new.1 && after.response_extractor == old.1)
        || (old.2 != new.2 && after.model_listing == old.2);
    (new.0.is_some() && kept).then(|| {
        "`type` or `endpoint_path` has changed, but `request_builder`, `response_extractor` or `model_listing` is still that of before; \
         clear all three to take those that belong to it now"
            .into()
    })
}

fn nothing_renders(spec: &ProviderSpec) -> Option<String> {
    let mut filled = spec.clone();
    wire::families::fill(&mut filled);
    (filled.request_builder.is_none() || filled.response_extractor.is_none()).then(|| {
        "there is no `request_builder` or no `response_extractor`: clients can't call this provider by its configuration"
            .into()
    })
}

/// The key is put into one header only.
fn placeholders_in_headers(spec: &ProviderSpec) -> impl Iterator<Item = String> {
    let plain = spec.headers.iter().filter_map(|(name, header)| match &header.value {
        Some(Value::Plain(text)) => Some((name, text)),
        _ => None,
    });
    let named = plain.filter(|(_, text)| text.contains(PLACEHOLDER));
    named.map(|(name, _)| {
        format!(
            "`headers.{name}` is sent with `{PLACEHOLDER}` as it stands: only `auth.header_template` has the key put there"
        )
    })
}

fn key_in_the_clear(spec: &ProviderSpec) -> Option<String> {
    let scheme = spec.auth.as_ref().map(ProviderAuth::scheme);
    let url = url::Url::parse(&spec.base_url).ok().filter(|url| url.scheme() == "http")?;
    let local = match url.host()? {
        url::Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    };
    (!local && scheme != Some(AuthScheme::None))
        .then(|| "`base_url` is plain http: API keys go over the network in the clear".into())
}

/// Said and not refused: a server of one's own may read it.
fn body_of_get(spec: &ProviderSpec) -> Option<String> {
    let builder = spec.request_builder.as_ref().filter(|_| spec.method() == HttpMethod::Get)?;
    let in_body = builder.payload_structure.values().any(|entry| !entry.target.starts_with("url:"));
    in_body.then(|| {
        "`method` is GET, and the request builder makes a body, which most servers don't read with it: calls are POST".into()
    })
}

fn limits_crossed(spec: &ProviderSpec) -> Option<String> {
    (spec.context_window_tokens > 0 && spec.max_output_tokens > spec.context_window_tokens)
        .then(|| "`max_output_tokens` is larger than `context_window_tokens`".into())
}

fn endpoint_doubled(spec: &ProviderSpec) -> Option<String> {
    let ProviderSpec { base_url, endpoint_path, .. } = spec;
    (!endpoint_path.is_empty() && base_url.trim_end_matches('/').ends_with(endpoint_path)).then(|| {
        format!("`base_url` ends in `{endpoint_path}`, which is the `endpoint_path` too: calls go to both, one behind the other")
    })
}

#[cfg(test)]
mod tests;

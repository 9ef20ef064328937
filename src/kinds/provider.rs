//! LLM providers: `providers/{id}`.
//!
//! Names no provider; what a type brings with it is data in [`provider_types`](super::provider_types).

use std::collections::BTreeSet;

use super::{
    CheckContext, Kind, Outlook, Remark, Turn, active,
    headers::{CONNECTION_HEADERS, HEADER_BYTES, check_headers, is_one_of},
    provider_types::{TypeDefaults, defaults},
    rules::{
        DESCRIPTION_CHARS, NAME_CHARS, check_not_moved, header_value_problem, is_header_name, unknown_value,
        url_problem,
    },
    switched,
};
use crate::{
    domain::{Action, FieldViolation, KindName, ResourceName, Text, Violations, record::Spec},
    proto::v1::{
        AuthScheme, HeaderValue, HttpMethod, ProviderAuth, ProviderSpec, ProviderType, header_value::Value,
    },
};

/// The kind `provider`.
pub struct Provider;

const PATH_BYTES: usize = 1024;
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

    fn moves_secrets_beneath(&self, before: &Spec, after: &Spec) -> Option<&'static str> {
        match (before, after) {
            (Spec::Provider(before), Spec::Provider(after)) => {
                (before.base_url != after.base_url).then_some("provider.base_url")
            }
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
        let key_header = |name: &str| key_header_problem(spec.auth.as_ref(), name);
        check_headers(context, &spec.headers, key_header, &mut violations);
        check_base_url_kept(context, spec, &mut violations);
        check_models(spec, &mut violations);
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
        [type_left_behind(before, after), key_in_the_clear(after), limits_crossed(after)]
            .into_iter()
            .flatten()
            .collect()
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
    let path = &spec.endpoint_path;
    let rest = path.replacen("{model}", "", 1);
    let (reason, problem) = if path.is_empty() {
        match defaults(spec.r#type) {
            Some(_) => ("REQUIRED", "is required for this type, for example `/chat/completions`"),
            None => return,
        }
    } else if !path.starts_with('/') || path.starts_with("//") {
        ("INVALID_FORMAT", "must begin with one `/`")
    } else if path.len() > PATH_BYTES {
        ("TOO_LONG", "is longer than 1024 bytes")
    } else if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains(['\\', '#']) {
        ("INVALID_FORMAT", "may hold only the characters of a URL's path and query, in ASCII")
    } else if rest.contains(['{', '}']) {
        ("INVALID_FORMAT", "may hold `{model}` once and no other placeholder")
    } else if path.split(['/', '?']).any(|segment| matches!(segment, "." | "..")) {
        ("INVALID_FORMAT", "must not hold `.` or `..` as a segment")
    } else {
        return;
    };
    violations.add(field, reason, problem);
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

/// A stored secret goes only to the base URL that it was saved with.
fn check_base_url_kept(context: &CheckContext<'_>, spec: &ProviderSpec, violations: &mut Violations) {
    if matches!(context.before, Some(Spec::Provider(before)) if before.base_url != spec.base_url) {
        check_not_moved(context, "base_url", violations);
    }
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
            "must be one of `models`; add it there, or leave `models` empty to allow any",
        );
    }
}

fn is_enabled(spec: &Spec) -> bool {
    matches!(spec, Spec::Provider(spec) if spec.enabled.unwrap_or(true))
}

/// Defaults are filled in once; a new type does not bring its own along.
fn type_left_behind(before: Option<&ProviderSpec>, after: &ProviderSpec) -> Option<String> {
    let before = before.filter(|before| before.r#type != after.r#type)?;
    let old_url = defaults(before.r#type)?.base_url?;
    (after.base_url == old_url).then(|| {
        format!("`type` has changed, but `base_url` is still `{old_url}`; clear it to take the new type's")
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

fn limits_crossed(spec: &ProviderSpec) -> Option<String> {
    (spec.context_window_tokens > 0 && spec.max_output_tokens > spec.context_window_tokens)
        .then(|| "`max_output_tokens` is larger than `context_window_tokens`".into())
}

#[cfg(test)]
mod tests;

//! Entries of `model_list`: the provider, the key and the model of each.

use std::collections::BTreeMap;

use super::{Converter, Deployment, Outcome, REFERENCE, Tree, Value, azure, headers, parts};
use crate::import::{gather::cut, litellm_prices, providers};
use crate::{
    domain::record::Spec,
    kinds::{
        provider_types::{self, Owner},
        rules::url_problem,
    },
    proto::v1::{HeaderValue, ProviderSpec, ProviderType, header_value},
};

/// Prefixes of models that stand for nothing but the OpenAI protocol.
const COMPATIBLE: [&str; 5] = ["openai_like", "custom_openai", "litellm_proxy", "lm_studio", "llamafile"];

const MODEL_STAYS: &str = "the catalogue has this model already, and what it says of it stays";

/// What sets a provider apart, as far as an entry says it.
struct Place<'t> {
    provider_type: ProviderType,
    base_url: String,
    endpoint_path: String,
    organization: String,
    headers: &'t [(String, Tree)],
}

impl Converter<'_> {
    pub(super) fn deployment(&mut self, path: &str, entry: &Tree) {
        let group = entry.get("model_name").and_then(Tree::text).unwrap_or_default().to_owned();
        let params = entry.get("litellm_params").filter(|params| matches!(params, Tree::Map(_)));
        let Some(params) = params else {
            return self.made().problem(path, "has no map `litellm_params` with `model`");
        };
        let Some(model) = params.get("model").and_then(Tree::text).filter(|model| !model.trim().is_empty())
        else {
            let what = "is missing; give the model as `provider/name`, for example `openai/gpt-4o`";
            return self.made().problem(format!("{path}.litellm_params.model"), what);
        };
        if group.is_empty() {
            return self
                .made()
                .problem(format!("{path}.model_name"), "is missing; it is the name that callers use");
        }
        let named = format!("{path} ({})", group.escape_debug());
        let params = match self.with_credential(params) {
            Ok(params) => params,
            Err(why) => return self.left_out(named, why),
        };
        let Some(params) = params.0.first() else { return };
        let place = match self.place(path, model, params) {
            Ok(place) => place,
            Err(why) => return self.left_out(named, why),
        };
        let model_id = self.model_id(&place, model);
        let provider = self.provider(path, &place);
        self.key(path, &provider, place.provider_type, params);
        self.params(path, params);
        self.model(&named, &group, &provider, model_id.clone(), entry);
        for (key, _) in entry.entries() {
            if !["model_name", "litellm_params", "model_info"].contains(&key.as_str()) {
                self.left_out(format!("{path}.{}", key.escape_debug()), "there is no field for it");
            }
        }
        self.deployments.push(Deployment { place: path.to_owned(), group, provider, model_id });
    }

    /// Where an entry goes; why nowhere, if it can't be said.
    fn place<'t>(&mut self, path: &str, model: &str, params: &'t Tree) -> Result<Place<'t>, String> {
        // Whatever it refers to, it is checked to be a URL.
        let base_url = self.open_text(path, params, &["api_base", "base_url"], |_| true)?;
        let base_url = base_url.trim_end_matches('/').to_owned();
        let custom = params.get("custom_llm_provider").and_then(Tree::text);
        let word = match custom.or(model.split_once('/').map(|(word, _)| word)) {
            Some(word) => word.to_owned(),
            None => provider_types::word(unnamed(model, &base_url, params)?),
        };
        let word = word.as_str();
        let version = self.open_text(path, params, &["api_version"], azure::is_version)?;
        let organization = self.open_text(path, params, &["organization"], is_organization)?;
        let region = self.open_text(path, params, &["aws_region_name"], is_region)?;
        let headers = self.extra_headers(path, params);
        let compatible = COMPATIBLE.contains(&word);
        let provider_type = match providers::type_of(word) {
            Some(ProviderType::Openai) if !base_url.is_empty() && parts::type_by_url(&base_url).is_none() => {
                ProviderType::OpenaiCompatible
            }
            Some(known) => known,
            None if compatible => ProviderType::OpenaiCompatible,
            None => {
                let known = provider_types::words();
                return Err(format!(
                    "its provider `{}` is no type here; known are {known}",
                    word.escape_debug()
                ));
            }
        };
        let target = match provider_type {
            ProviderType::AzureOpenai => {
                azure::target(&base_url).map_err(|why| format!("its `api_base` {why}"))?
            }
            _ => None,
        };
        let base_url = match &target {
            Some(target) => {
                let note = target.told(target.version.is_some() || !version.is_empty());
                self.made().item(format!("{path}.litellm_params.api_base"), "", Outcome::Changed, note);
                target.base_url.clone()
            }
            None => base_url,
        };
        if !base_url.is_empty()
            && let Some(problem) = url_problem(&base_url)
        {
            self.made().problem(format!("{path}.litellm_params.api_base"), problem);
        }
        let base_url = match provider_types::recut_base_url(provider_type, &base_url) {
            Some(own) => {
                self.made().item(format!("{path}.litellm_params.api_base"), "", Outcome::Changed, cut(&own));
                own
            }
            None => base_url,
        };
        let mut place = Place {
            provider_type,
            base_url,
            endpoint_path: String::new(),
            organization: String::new(),
            headers,
        };
        match provider_type {
            ProviderType::Openai | ProviderType::OpenaiCompatible => place.organization = organization,
            _ if organization.is_empty() => {}
            _ => {
                self.left_out(format!("{path}.litellm_params.organization"), "only OpenAI has organizations")
            }
        }
        match provider_type {
            ProviderType::AzureOpenai | ProviderType::OpenaiCompatible if place.base_url.is_empty() => {
                return Err("has no `api_base`, without which nobody knows where it is".to_owned());
            }
            ProviderType::AzureOpenai => {
                let model_id = model.split_once('/').map_or(model, |(_, id)| id);
                place.endpoint_path = azure_path(target, version, model_id)?;
            }
            ProviderType::Bedrock if place.base_url.is_empty() => {
                let region = Some(region)
                    .filter(|region| !region.is_empty())
                    .or_else(|| self.variable("AWS_REGION").filter(|region| is_region(region)));
                let region =
                    region.ok_or("has no `aws_region_name`, without which nobody knows where it is")?;
                place.base_url = format!("https://bedrock-runtime.{region}.amazonaws.com");
            }
            _ => {}
        }
        Ok(place)
    }

    /// A parameter that goes into a field which everybody reads: what a reference stands for is taken only if it has the form
    /// of what is `meant`, since a variable may as well hold a secret. It is told where it is not.
    ///
    /// # Errors
    /// When it refers to a variable that is not set.
    fn open_text(
        &mut self,
        path: &str,
        params: &Tree,
        names: &[&str],
        meant: fn(&str) -> bool,
    ) -> Result<String, String> {
        let found = names.iter().find_map(|name| Some((*name, params.get(name).and_then(Tree::text)?)));
        let Some((name, given)) = found else { return Ok(String::new()) };
        let refers = given.trim().starts_with(REFERENCE);
        match self.value(given) {
            Value::Text(text) if !refers || meant(&text) => Ok(text),
            Value::Text(_) => {
                let why = "refers to a variable whose value does not look like one; nothing else is taken from the \
                           environment but keys, so set it on the provider if it is no secret";
                self.left_out(format!("{path}.litellm_params.{name}"), why);
                Ok(String::new())
            }
            Value::Unset(variable) => Err(format!(
                "{name} refers to the variable {variable}, which is not set here; set it and import again"
            )),
        }
    }

    /// The model's id as calls carry it; `None` for a pattern of many.
    fn model_id(&self, place: &Place<'_>, model: &str) -> Option<String> {
        let prefixed = |word: &str| {
            providers::type_of(word).is_some()
                || COMPATIBLE.contains(&word)
                || place.provider_type == ProviderType::Custom
        };
        let id = model.split_once('/').filter(|(word, _)| prefixed(word)).map_or(model, |(_, id)| id).trim();
        // `bedrock/converse/...` and `openai/responses/...` choose an API, not a model.
        let id = ["converse/", "responses/"].iter().find_map(|api| id.strip_prefix(api)).unwrap_or(id);
        (!id.contains('*') && !id.is_empty()).then(|| id.to_owned())
    }

    fn provider(&mut self, path: &str, place: &Place<'_>) -> String {
        let mut apart = vec![
            provider_types::word(place.provider_type),
            place.base_url.clone(),
            place.endpoint_path.clone(),
            place.organization.clone(),
        ];
        apart.extend(headers::apart(place.headers));
        if let Some(name) = self.providers.get(&apart) {
            return name.clone();
        }
        let host = url::Url::parse(&place.base_url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let wanted = match place.provider_type {
            ProviderType::OpenaiCompatible => host.as_deref().and_then(parts::id_for),
            _ => None,
        };
        let wanted = wanted.unwrap_or_else(|| providers::id_of(place.provider_type));
        let made_up = &self.made_up;
        let id = self.numbered.free(&wanted, |id| made_up.contains_key(id));
        self.made_up.insert(id.clone(), wanted);
        let ids = self.input.ids;
        let own = ids.iter().find(|(made_up, _)| *made_up == id).map(|(_, own)| own.as_str());
        let name = format!("providers/{}", own.unwrap_or(&id));
        let display_name =
            providers::row(place.provider_type).map_or(id.as_str(), |known| known.display_name);
        let mut spec = ProviderSpec {
            r#type: place.provider_type.into(),
            display_name: display_name.to_owned(),
            base_url: place.base_url.clone(),
            endpoint_path: place.endpoint_path.clone(),
            ..ProviderSpec::default()
        };
        if !place.organization.is_empty() {
            let value = Some(header_value::Value::Plain(place.organization.clone()));
            spec.headers.insert("OpenAI-Organization".to_owned(), HeaderValue { value });
        }
        self.headers(path, &name, &mut spec, place.headers);
        self.made().put(path, name.as_str(), Spec::Provider(spec));
        match own {
            None => self.made().imported(path, name.as_str()),
            Some(_) => {
                let note = format!("`providers/{id}` is a provider at another base URL, and stays");
                self.made().item(path, name.as_str(), Outcome::Changed, note);
            }
        }
        self.providers.insert(apart, name.clone());
        name
    }

    /// The key of an entry, which is taken once for each provider.
    fn key(&mut self, path: &str, provider: &str, provider_type: ProviderType, params: &Tree) {
        let from = format!("{path}.litellm_params.api_key");
        let given = params.get("api_key").and_then(Tree::text).map(str::trim).filter(|key| !key.is_empty());
        // Without one LiteLLM reads the variable that everybody knows.
        let known = providers::row(provider_type).map(|row| row.keys).unwrap_or_default();
        let implied = known.iter().find(|name| self.variable(name).is_some());
        let source = match (given, implied) {
            (Some(given), _) => given.to_owned(),
            (None, Some(name)) => format!("{REFERENCE}{name}"),
            (None, None) if matches!(provider_type, ProviderType::Ollama | ProviderType::Vllm) => return,
            (None, None) => {
                let why = match known {
                    [] => "there is none".to_owned(),
                    known => format!("there is none, and {} is not set here", known.join(" or ")),
                };
                return self.left_out(from, why);
            }
        };
        if let Some(name) = self.keys.get(&(provider.to_owned(), source.clone())).cloned() {
            return self.made().imported(from, name);
        }
        let variable = source.strip_prefix(REFERENCE).map(str::to_owned);
        let id = variable.as_deref().and_then(parts::id_for).unwrap_or_else(|| "litellm".to_owned());
        let id = self.made().free_id(&format!("{provider}/apiKeys"), &id);
        let name = format!("{provider}/apiKeys/{id}");
        let (value, note) = match self.value(&source) {
            Value::Text(value) => (Some(value), String::new()),
            Value::Unset(name) => {
                (None, format!("the variable {name} is not set here: the key is MISSING until it is set"))
            }
        };
        if value.as_deref().is_some_and(providers::is_no_key) {
            return self.left_out(from, providers::PLACEHOLDER);
        }
        if let Some(problem) = value.as_deref().and_then(providers::key_problem) {
            return self.made().problem(from, problem);
        }
        let description = variable.map_or_else(
            || "From LiteLLM's configuration.".to_owned(),
            |variable| format!("From the variable {variable}, as LiteLLM's configuration says."),
        );
        let spec = providers::api_key(value.as_deref(), &description);
        self.made().put(&from, name.as_str(), Spec::ApiKey(spec));
        let outcome = if note.is_empty() { Outcome::Imported } else { Outcome::Changed };
        self.made().item(from, name.as_str(), outcome, note);
        self.keys.insert((provider.to_owned(), source), name);
    }

    /// The parameters that have no place here.
    fn params(&mut self, path: &str, params: &Tree) {
        let taken = [
            "model",
            "api_key",
            "api_base",
            "base_url",
            "api_version",
            "organization",
            "extra_headers",
            "aws_region_name",
            "custom_llm_provider",
            "litellm_credential_name",
            "input_cost_per_token",
            "output_cost_per_token",
        ];
        for (key, _) in params.entries().iter().filter(|(key, _)| !taken.contains(&key.as_str())) {
            let why = match key.as_str() {
                "rpm" | "tpm" | "max_parallel_requests" | "max_budget" | "budget_duration" => {
                    "limits of a deployment have no place; those of a virtual key do"
                }
                "timeout" | "stream_timeout" | "max_retries" | "num_retries" | "cooldown_time" => {
                    "is set for a router, not for a model"
                }
                "temperature" | "top_p" | "max_tokens" | "stop" | "seed" | "frequency_penalty"
                | "presence_penalty" => "belongs into a prompt template",
                "weight" | "order" => "shares of deployments have no place; weights of keys do",
                key if key.starts_with("aws_") => {
                    "only a bearer key reaches Bedrock (AWS_BEARER_TOKEN_BEDROCK)"
                }
                _ => "there is no field for it",
            };
            self.left_out(format!("{path}.litellm_params.{}", key.escape_debug()), why);
        }
    }

    /// The model, once in the catalogue and once in the list of its provider.
    fn model(&mut self, named: &str, group: &str, provider: &str, model_id: Option<String>, entry: &Tree) {
        let Some(model_id) = model_id else {
            // A pattern lets every model through, which an empty list says. The first one is the default still.
            if let Some(Spec::Provider(spec)) = self.made().get_mut(provider) {
                spec.models.clear();
            }
            self.patterns.insert(provider.to_owned());
            let note = "is a pattern: the provider takes any model";
            return self.made().item(named, provider, Outcome::Changed, note);
        };
        let open = self.patterns.contains(provider);
        if let Some(Spec::Provider(spec)) = self.made().get_mut(provider).filter(|_| !open) {
            if spec.default_model.is_empty() {
                spec.default_model.clone_from(&model_id);
            }
            if !spec.models.contains(&model_id) {
                spec.models.push(model_id.clone());
            }
        }
        let segment = self.collection(provider);
        let name = format!("models/{segment}/{}", crate::kinds::model::segment_of(&model_id));
        if !self.made().has(&name) {
            // A configuration says little of a model, and a catalogue much.
            self.made().only_new(name.as_str(), MODEL_STAYS);
            let info = self.info(named, entry);
            let fields: Result<litellm_prices::Fields<'_>, _> = serde_json::from_str(&info);
            let spec = fields.map_err(|_| "model_info".to_owned());
            match spec.and_then(|fields| litellm_prices::spec(&mut self.catalogue, &fields)) {
                Ok(spec) => self.catalogue.put(named, &segment, &model_id, spec),
                Err(field) => self.made().problem(format!("{named}.{field}"), "is not what it has to be"),
            }
        }
        if group != model_id && self.made().has(&name) {
            let why = format!(
                "callers asked for `{}`, and models go by no other name here: let them ask for `{}`",
                group.escape_debug(),
                model_id.escape_debug()
            );
            self.left_out(format!("{named}, model_name"), why);
        }
    }

    /// Where the models of a provider are: with those of its type, or with its own where it hosts what it likes.
    fn collection(&mut self, provider: &str) -> String {
        let own = provider.trim_start_matches("providers/").to_owned();
        match self.made().get_mut(provider) {
            Some(Spec::Provider(spec)) => match spec.r#type() {
                ProviderType::OpenaiCompatible | ProviderType::Custom => own,
                provider_type => provider_types::word(provider_type),
            },
            _ => own,
        }
    }

    /// What an entry says of its model, as the price file would; what that does not know is left out.
    fn info(&mut self, named: &str, entry: &Tree) -> String {
        let mut known: BTreeMap<String, Tree> = BTreeMap::new();
        for (key, value) in entry.get("model_info").map(Tree::entries).unwrap_or_default() {
            let priced = key.ends_with("_token") || key.ends_with("_token_cost") || key.ends_with("_tokens");
            match priced || key.starts_with("supports_") || key == "mode" {
                true => {
                    known.insert(key.clone(), value.clone());
                }
                false => self.left_out(
                    format!("{named}.model_info.{}", key.escape_debug()),
                    "there is no field for it",
                ),
            }
        }
        for key in ["input_cost_per_token", "output_cost_per_token"] {
            if let Some(price) = entry.get("litellm_params").and_then(|params| params.get(key)) {
                known.entry(key.to_owned()).or_insert_with(|| price.clone());
            }
        }
        Tree::Map(known.into_iter().collect()).to_json()
    }
}

/// Who serves a model whose entry names no provider: as far as its name tells, or its key's. A key goes to nobody else.
///
/// # Errors
/// When neither tells, or the two tell of different ones.
fn unnamed(model: &str, base_url: &str, params: &Tree) -> Result<ProviderType, String> {
    let variable =
        params.get("api_key").and_then(Tree::text).and_then(|key| key.trim().strip_prefix(REFERENCE));
    let by_model = provider_types::type_of_model(model);
    if !base_url.is_empty() {
        return Ok(by_model.unwrap_or(ProviderType::Openai));
    }
    let shown = model.escape_debug();
    match (by_model, variable.map_or(Owner::Unsaid, provider_types::owner_of_variable)) {
        (Some(one), Owner::Type(other)) if one != other => {
            let (one, other) = (provider_types::word(one), provider_types::word(other));
            Err(format!(
                "names no provider: its model is one of `{one}`, and its key is one of `{other}`; write `{one}/{shown}` or \
                 `{other}/{shown}`"
            ))
        }
        (Some(found), Owner::Unsaid | Owner::Type(_)) | (None, Owner::Type(found)) => Ok(found),
        (Some(found), Owner::Somebody) => Err(format!(
            "names no provider: its model is one of `{0}`, and its key's variable does not say so; write `{0}/{shown}` if it \
             is, or the provider whose key it is",
            provider_types::word(found)
        )),
        (None, Owner::Unsaid | Owner::Somebody) => Err(format!(
            "names no provider, and neither its model nor its key tells which; write it as `provider/model`, for example \
             `openai/{shown}`"
        )),
    }
}

/// The endpoint path of an entry of Azure's; empty where no version is said. A deployment that is called otherwise than the model
/// stands in it by its name.
///
/// # Errors
/// When such a deployment can't be called for want of a version.
fn azure_path(target: Option<azure::Target>, version: String, model_id: &str) -> Result<String, String> {
    let (deployment, own) = target.map_or((None, None), |target| (target.deployment, target.version));
    let version = own.unwrap_or(version);
    match deployment.filter(|deployment| deployment != model_id) {
        Some(_) if version.is_empty() => {
            Err("has no `api_version`, without which the deployment that its `api_base` names, \
             and its `model` does not, can't be called"
                .to_owned())
        }
        None if version.is_empty() => Ok(String::new()),
        other => Ok(azure::endpoint(other.as_deref().unwrap_or(azure::MODEL), &version)),
    }
}

/// Whether it is an organization of OpenAI, such as `org-a1B2`.
fn is_organization(text: &str) -> bool {
    text.strip_prefix("org-")
        .is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Whether it is a region of AWS, such as `eu-central-1`.
fn is_region(text: &str) -> bool {
    let Some((area, number)) = text.rsplit_once('-') else { return false };
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && area.contains('-')
        && text.len() <= 32
        && area.split('-').all(word)
}

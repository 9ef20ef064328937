//! Lists of models: the requests for their pages, and what stands on a page.

use super::{
    answer::{Malformed, parse},
    endpoint::{at_neighbour, neighbour, path_problem, with_query},
    path::Path,
    problems::{Problems, name_problem},
    request::{HttpRequest, get},
    rules::{first_count, first_text, parse_paths},
};
use crate::proto::v1::{ModelListing, ProviderSpec};

const PREFIX_BYTES: usize = 128;

/// How models are listed.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    path: String,
    models: Path,
    id: Vec<Path>,
    id_prefix: String,
    display_name: Vec<Path>,
    context_window: Vec<Path>,
    max_output: Vec<Path>,
    token_parameter: String,
    token: Option<Path>,
    has_more: Option<Path>,
    key_check_path: String,
}

/// A model, as a provider lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedModel {
    /// Its id, as calls name it.
    pub id: String,
    /// Its name for people; may be empty.
    pub display_name: String,
    /// Tokens that fit into its context, if the provider tells.
    pub context_window_tokens: Option<u64>,
    /// The most tokens of an answer, if the provider tells.
    pub max_output_tokens: Option<u64>,
}

/// A page of a provider's models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPage {
    /// The models.
    pub models: Vec<ListedModel>,
    /// The token of the next page; empty on the last one.
    pub next_page_token: String,
}

impl Listing {
    /// Reads a listing; `None` where something is wrong with it.
    pub fn parse(wire: &ModelListing, problems: &mut Problems) -> Option<Self> {
        let before = problems.count();
        let field = |name: &str| format!("model_listing.{name}");
        if wire.path.is_empty() {
            problems.required(field("path"), "the path of the list, for example `/models`");
        }
        for (name, path) in [("path", &wire.path), ("key_check_path", &wire.key_check_path)] {
            let problem = if path.is_empty() { None } else { path_problem(path, &[]) };
            if let Some((reason, problem)) = problem {
                problems.add(field(name), reason, problem);
            }
        }
        check_texts(wire, problems);
        let models = problems.take(&field("models_path"), "INVALID_FORMAT", Path::parse(&wire.models_path));
        let mut paths =
            |name: &str, wire: &[String], required: bool| parse_paths(wire, &field(name), required, problems);
        let id = paths("id_paths", &wire.id_paths, true);
        let display_name = paths("display_name_paths", &wire.display_name_paths, false);
        let context_window = paths("context_window_paths", &wire.context_window_paths, false);
        let max_output = paths("max_output_paths", &wire.max_output_paths, false);
        let mut path = |name: &str, text: &str| match text {
            "" => None,
            text => problems.take(&field(name), "INVALID_FORMAT", Path::parse(text)),
        };
        let token = path("page_token_path", &wire.page_token_path);
        let has_more = path("has_more_path", &wire.has_more_path);
        let models = (problems.count() == before).then_some(models?)?;
        let (path, id_prefix) = (wire.path.clone(), wire.id_prefix.clone());
        let (token_parameter, key_check_path) =
            (wire.page_token_parameter.clone(), wire.key_check_path.clone());
        Some(Self {
            path,
            models,
            id,
            id_prefix,
            display_name,
            context_window,
            max_output,
            token_parameter,
            token,
            has_more,
            key_check_path,
        })
    }

    pub fn request(&self, provider: &ProviderSpec, page_token: &str) -> HttpRequest {
        let base_url = at_neighbour(&provider.base_url, &neighbour(provider));
        let mut request = get(provider, &base_url, &self.path);
        if !page_token.is_empty() && !self.token_parameter.is_empty() {
            request.url = with_query(&request.url, &self.token_parameter, page_token);
        }
        request
    }

    pub fn key_check(&self, provider: &ProviderSpec) -> Option<HttpRequest> {
        let path = Some(&self.key_check_path).filter(|path| !path.is_empty());
        path.map(|path| get(provider, &provider.base_url, path))
    }

    pub fn page(&self, body: &[u8]) -> Result<ModelPage, Malformed> {
        let document = parse(body)?;
        let found = self.models.find(&document);
        let models: Vec<ListedModel> = found.into_iter().filter_map(|model| self.model(model)).collect();
        let more = self
            .has_more
            .as_ref()
            .is_none_or(|path| path.find(&document).first().is_some_and(|more| more.as_bool() == Some(true)));
        let token = self.token.as_ref().filter(|_| more && !self.token_parameter.is_empty());
        let token = token.and_then(|path| first_text(std::slice::from_ref(path), &document, false));
        if models.is_empty() && !document.is_array() && !document.is_object() {
            return Err(Malformed::new("is no list of models"));
        }
        Ok(ModelPage { models, next_page_token: token.unwrap_or_default() })
    }

    fn model(&self, model: &serde_json::Value) -> Option<ListedModel> {
        let id = first_text(&self.id, model, false)?;
        let id = id.strip_prefix(&self.id_prefix).unwrap_or(&id).to_owned();
        Some(ListedModel {
            id,
            display_name: first_text(&self.display_name, model, false).unwrap_or_default(),
            context_window_tokens: first_count(&self.context_window, model),
            max_output_tokens: first_count(&self.max_output, model),
        })
    }
}

fn check_texts(wire: &ModelListing, problems: &mut Problems) {
    let label = wire.host_label.as_bytes();
    let allowed = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    if label.len() > 63 || !label.iter().all(allowed) || label.starts_with(b"-") || label.ends_with(b"-") {
        let problem = "must be one label of a host name: lower case letters, digits and `-`";
        problems.add("model_listing.host_label", "INVALID_FORMAT", problem);
    }
    if !wire.page_token_parameter.is_empty() && name_problem(&wire.page_token_parameter).is_some() {
        let problem = "must be 1 to 64 letters, digits, `_` and `-` in ASCII";
        problems.add("model_listing.page_token_parameter", "INVALID_FORMAT", problem);
    }
    if wire.page_token_parameter.is_empty() != wire.page_token_path.is_empty() {
        let problem = "and `page_token_path` go together: give both or neither";
        problems.add("model_listing.page_token_parameter", "REQUIRED", problem);
    }
    if wire.id_prefix.len() > PREFIX_BYTES {
        let problem = format!("has more than {PREFIX_BYTES} bytes");
        problems.add("model_listing.id_prefix", "TOO_LONG", problem);
    }
}

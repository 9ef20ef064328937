//! Which RPC a method and a path mean: the bindings that the proto files declare, spelt out for every kind of resource.
//!
//! Paths are compared segment by segment, byte by byte. Only where a name stands is anything decoded, and what would become
//! another path by that is none.

use axum::http::Method;
use percent_encoding::percent_decode_str;
use prost_reflect::MethodDescriptor;

use crate::{
    domain::KindName,
    kinds,
    proto::{
        DESCRIPTOR_POOL,
        v1::{RestBinding, Selector, selector::Pattern},
    },
};

/// The option of a method that holds its bindings.
const OPTION: &str = "signalbox.v1.rest";
/// Every name of a resource.
const RESOURCE: &str = "resource";
/// Everything that names of resources stand in.
const COLLECTION: &str = "collection";

/// What one method and one form of path mean.
#[derive(Clone, Debug)]
pub(in crate::http) struct Route {
    /// The method of HTTP.
    pub method: Method,
    /// Its segments, those of a name with a word for each that is free.
    pub segments: Vec<Segment>,
    /// What stands behind the last `:` of the path.
    pub verb: Option<String>,
    /// What the path says of the request.
    pub variable: Option<Variable>,
    /// What the body holds.
    pub body: Body,
    /// What is called.
    pub rpc: MethodDescriptor,
}

/// A segment of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::http) enum Segment {
    /// Exactly this.
    Fixed(String),
    /// Something, by the name under which it is described.
    Free(String),
}

/// A part of a path that gives a field its value.
#[derive(Clone, Debug)]
pub(in crate::http) struct Variable {
    /// Path of the field from the request.
    pub field: String,
    /// The first segment, and how many there are.
    pub place: (usize, usize),
    /// Whether it is a collection, and of which kind alone where others live beneath.
    pub collection: Option<Collection>,
}

/// What a collection holds.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Collection {
    /// The kind that is meant, where others live beneath as well.
    pub only: Option<KindName>,
}

/// What the body of a request holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::http) enum Body {
    /// There is none.
    None,
    /// The whole request.
    Whole,
    /// One field of it.
    Field(String),
}

/// What a method and a path were found to mean.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// This route, and the name in its path, if there is one.
    Route(&'a Route, Option<String>),
    /// Something, but not with this method; these are the methods.
    OtherMethod(Vec<Method>),
    /// Nothing.
    Nothing,
}

/// All routes, in the order of the proto files.
#[must_use]
pub(in crate::http) fn routes() -> Vec<Route> {
    let methods = DESCRIPTOR_POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.flat_map(|rpc| expand_all(&rpc)).collect()
}

/// The bindings that a method declares.
#[must_use]
pub(in crate::http) fn bindings(rpc: &MethodDescriptor) -> Vec<RestBinding> {
    let Some(option) = DESCRIPTOR_POOL.get_extension_by_name(OPTION) else { return Vec::new() };
    let options = rpc.options();
    let declared = options.get_extension(&option).into_owned();
    let messages = declared.as_list().unwrap_or_default();
    messages.iter().filter_map(|value| value.as_message()?.transcode_to().ok()).collect()
}

/// Finds what is meant.
pub(super) fn find<'a>(routes: &'a [Route], method: &Method, path: &str) -> Found<'a> {
    let Some(raw) = path.strip_prefix('/') else { return Found::Nothing };
    let whole: Vec<&str> = raw.split('/').collect();
    let with_verb = raw.rsplit_once(':').filter(|(_, verb)| !verb.contains('/'));
    let split = with_verb.map(|(rest, verb)| (rest.split('/').collect::<Vec<_>>(), verb));
    let verbs: Vec<&Route> = match &split {
        Some((rest, verb)) => {
            routes.iter().filter(|route| route.verb.as_deref() == Some(*verb) && route.fits(rest)).collect()
        }
        None => Vec::new(),
    };
    // A verb goes before a name that ends like it, with any method: there `%3A` stands for the colon.
    let (found, segments) = match split {
        Some((rest, _)) if !verbs.is_empty() => (verbs, rest),
        _ => (routes.iter().filter(|route| route.verb.is_none() && route.fits(&whole)).collect(), whole),
    };
    if let Some(route) = found.iter().find(|route| route.methods().contains(method)) {
        return Found::Route(route, route.name(&segments));
    }
    match found.is_empty() {
        true => Found::Nothing,
        false => Found::OtherMethod(found.into_iter().flat_map(Route::methods).collect()),
    }
}

impl Route {
    /// The methods that it takes. Of what is read the head can be asked for alone; a stream has no end to tell of.
    fn methods(&self) -> Vec<Method> {
        let reads = self.method == Method::GET && !self.rpc.is_server_streaming();
        [self.method.clone()].into_iter().chain(reads.then_some(Method::HEAD)).collect()
    }

    fn fits(&self, segments: &[&str]) -> bool {
        segments.len() == self.segments.len()
            && self.segments.iter().zip(segments).all(|(wanted, given)| match wanted {
                Segment::Fixed(text) => text == given,
                Segment::Free(_) => decode(given).is_some(),
            })
    }

    /// The name that stands in the path.
    fn name(&self, segments: &[&str]) -> Option<String> {
        let (first, count) = self.variable.as_ref()?.place;
        let segments = segments.get(first..first + count)?.iter();
        segments.map(|segment| decode(segment)).collect::<Option<Vec<_>>>().map(|segments| segments.join("/"))
    }

    /// The path as it is described, with a name in braces for every segment that is free.
    #[must_use]
    pub fn template(&self) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Fixed(text) => format!("/{text}"),
            Segment::Free(name) => format!("/{{{name}}}"),
        });
        let verb = self.verb.as_ref().map(|verb| format!(":{verb}"));
        segments.chain(verb).collect()
    }
}

impl Collection {
    /// Whether a name is that of a resource in it.
    pub fn holds(self, collection: &str, name: &str) -> bool {
        let within = name.strip_prefix(collection).is_some_and(|rest| rest.starts_with('/'));
        within
            && self.only.is_none_or(|only| kinds::parse_name(name).is_ok_and(|(_, kind)| kind.name() == only))
    }

    /// The selector of everything in a collection.
    pub fn selector(name: &str) -> Selector {
        Selector { pattern: Some(Pattern::Prefix(format!("{name}/"))), ..Selector::default() }
    }
}

/// A segment of a name; `None` where it is empty, no text, or more than a segment.
fn decode(segment: &str) -> Option<String> {
    let text = percent_decode_str(segment).decode_utf8().ok()?;
    (!text.is_empty() && !text.contains('/')).then(|| text.into_owned())
}

fn expand_all(rpc: &MethodDescriptor) -> Vec<Route> {
    bindings(rpc).iter().flat_map(|binding| expand(rpc, binding)).collect()
}

/// One binding, spelt out for everything that its variable may be.
fn expand(rpc: &MethodDescriptor, binding: &RestBinding) -> Vec<Route> {
    let Some((method, path)) = binding.call.split_once(' ') else { return Vec::new() };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return Vec::new() };
    let body = match binding.body.as_str() {
        "" => Body::None,
        "*" => Body::Whole,
        field => Body::Field(field.to_owned()),
    };
    let path = path.trim_start_matches('/');
    // A verb stands behind the last segment, never within a variable.
    let (path, verb) = match path.rsplit_once(':').filter(|(_, verb)| !verb.contains(['/', '}'])) {
        Some((path, verb)) => (path, Some(verb.to_owned())),
        None => (path, None),
    };
    let route = Route { method, segments: Vec::new(), verb, variable: None, body, rpc: rpc.clone() };
    let Some((before, rest)) = path.split_once('{') else {
        return vec![Route { segments: fixed(path).collect(), ..route }];
    };
    let Some((variable, after)) = rest.split_once('}') else { return Vec::new() };
    let (field, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
    let spelt = |(middle, collection): (Vec<Segment>, Option<Collection>)| {
        let before: Vec<Segment> = fixed(before).collect();
        let place = (before.len(), middle.len());
        let variable = Some(Variable { field: field.to_owned(), place, collection });
        let segments = before.into_iter().chain(middle).chain(fixed(after)).collect();
        Route { segments, variable, ..route.clone() }
    };
    forms(pattern).into_iter().map(spelt).collect()
}

fn fixed(path: &str) -> impl Iterator<Item = Segment> {
    path.split('/').filter(|segment| !segment.is_empty()).map(|segment| Segment::Fixed(segment.to_owned()))
}

/// Everything that a variable's pattern stands for.
fn forms(pattern: &str) -> Vec<(Vec<Segment>, Option<Collection>)> {
    let patterns =
        kinds::registry().iter().flat_map(|kind| kind.patterns().iter().map(|each| (kind.name(), *each)));
    match pattern {
        RESOURCE => patterns.map(|(_, pattern)| (segments(pattern), None)).collect(),
        COLLECTION => {
            let mut forms: Vec<(Vec<Segment>, Option<Collection>)> = Vec::new();
            for (kind, pattern) in patterns.collect::<Vec<_>>() {
                let all = segments(pattern);
                for length in (1..all.len()).filter(|length| matches!(all[*length], Segment::Free(_))) {
                    let segments = all[..length].to_vec();
                    if forms.iter().all(|(other, _)| *other != segments) {
                        forms.push((segments, Some(Collection { only: only(kind, pattern, length) })));
                    }
                }
            }
            forms
        }
        pattern => vec![(segments(pattern), None)],
    }
}

/// The kind that a collection is of, if other kinds live beneath its resources.
fn only(kind: KindName, pattern: &str, length: usize) -> Option<KindName> {
    let own: Vec<&str> = pattern.split('/').collect();
    let deeper = |other: &str| {
        let other: Vec<&str> = other.split('/').collect();
        other.len() > own.len() && other[..length] == own[..length]
    };
    let others = kinds::registry().iter().filter(|other| other.name() != kind);
    (length + 1 == own.len() && others.flat_map(|other| other.patterns()).any(|other| deeper(other)))
        .then_some(kind)
}

/// The segments of a pattern; what is free is called after the collection that it stands in, unless it has a name.
fn segments(pattern: &str) -> Vec<Segment> {
    let mut last = "";
    let segments = pattern.split('/').map(|segment| {
        let free = match segment {
            "*" | "{id}" => Some(singular(last)),
            _ => segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')).map(str::to_owned),
        };
        last = segment;
        free.map_or_else(|| Segment::Fixed(segment.to_owned()), Segment::Free)
    });
    segments.collect()
}

fn singular(plural: &str) -> String {
    match plural.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => plural.strip_suffix('s').unwrap_or(plural).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(method: &str, path: &str) -> String {
        let routes = routes();
        match find(&routes, &Method::from_bytes(method.as_bytes()).unwrap(), path) {
            Found::Route(route, name) => format!("{} {}", route.rpc.name(), name.unwrap_or_default()),
            Found::OtherMethod(mut methods) => {
                methods.sort_by_key(Method::to_string);
                format!("{methods:?}")
            }
            Found::Nothing => "nothing".to_owned(),
        }
    }

    /// An RPC that takes one request needs a binding in its proto file.
    #[test]
    fn every_rpc_that_takes_one_request_has_a_binding() {
        for rpc in DESCRIPTOR_POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let bindings = bindings(&rpc);
            assert_eq!(bindings.is_empty(), rpc.is_client_streaming(), "{}: option (rest)", rpc.full_name());
            for binding in bindings {
                let routes = expand(&rpc, &binding);
                assert!(!routes.is_empty(), "{}: {:?} is no binding", rpc.full_name(), binding);
                for route in routes {
                    assert!(matches!(route.segments.first(), Some(Segment::Fixed(first)) if first == "v1"));
                    let reads = route.method == Method::GET || route.method == Method::DELETE;
                    assert_eq!(reads, route.body == Body::None, "{}", rpc.full_name());
                }
            }
        }
    }

    #[test]
    fn no_two_routes_are_meant_by_one_path() {
        let routes = routes();
        for (index, one) in routes.iter().enumerate() {
            for other in &routes[index + 1..] {
                let meet = one.method == other.method
                    && one.verb == other.verb
                    && one.segments.len() == other.segments.len()
                    && one.segments.iter().zip(&other.segments).all(|pair| match pair {
                        (Segment::Fixed(one), Segment::Fixed(other)) => one == other,
                        _ => true,
                    });
                assert!(!meet, "{} {} twice", one.method, one.template());
            }
        }
    }

    #[test]
    fn a_path_means_what_its_names_say() {
        for (method, path, expected) in [
            ("GET", "/v1/providers/groq", "GetResource providers/groq"),
            ("GET", "/v1/providers", "ListResources providers"),
            ("GET", "/v1/providers/groq/apiKeys", "ListResources providers/groq/apiKeys"),
            ("GET", "/v1/models/openai", "ListResources models/openai"),
            ("GET", "/v1/models/ollama/llama3:8b", "GetResource models/ollama/llama3:8b"),
            ("GET", "/v1/models/ollama/x%3Ahistory", "GetResource models/ollama/x:history"),
            ("GET", "/v1/models/ollama/x:history", "ListHistory models/ollama/x"),
            ("GET", "/v1/config", "ListResources "),
            ("POST", "/v1/users/alice/settings", "CreateResource users/alice/settings"),
            ("PATCH", "/v1/settings/max_retries", "UpdateResource settings/max_retries"),
            ("DELETE", "/v1/tools/a", "DeleteResource tools/a"),
            ("POST", "/v1/providers/groq:test", "TestProvider providers/groq"),
            ("POST", "/v1/routers/default:switch", "SwitchActiveProvider "),
            ("GET", "/v1:watch", "WatchConfig "),
            ("GET", "/v1/providers/groq/apiKeys:active", "GetActiveApiKey providers/groq"),
            ("PUT", "/v1/providers", "[GET, HEAD, POST]"),
            ("HEAD", "/v1/providers/groq", "GetResource providers/groq"),
            ("HEAD", "/v1:watch", "[GET, POST]"),
            ("GET", "/v1/config:batchWrite", "[POST]"),
            ("DELETE", "/v1/routers/default:switch", "[POST]"),
            ("DELETE", "/v1/routers/default%3Aswitch", "DeleteResource routers/default:switch"),
        ] {
            assert_eq!(meant(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn tricks_with_paths_mean_nothing() {
        for path in [
            "/v1/providers/",
            "/v1//providers",
            "//v1/providers",
            "/v1/Providers",
            "/V1/providers",
            "/v1/%70roviders",
            "/v1/providers%2Fgroq",
            "/v1/providers/groq%2FapiKeys",
            "/v1/providers/groq%2FapiKeys%2Fprod",
            "/v1/providers/%FF",
            "/v1/providers/groq/",
            "/v1/providers/../routers",
            "/v1/config%3AbatchWrite",
            "/v1",
            "/v1/",
            "/v1:",
            "v1/providers",
            "",
        ] {
            assert_eq!(meant("GET", path), "nothing", "{path}");
        }
    }
}

//! Settings of LiteLLM's router, and the routers that come of them.

use super::{Converter, Outcome, Tree, parts};
use crate::{
    domain::record::Spec,
    proto::v1::{CachePolicySpec, RouterSpec, RoutingStrategy},
};

/// Fallbacks and retries that a router has at most.
const MAX_FALLBACKS: usize = 16;
const MAX_RETRIES: u32 = 10;
/// An hour: no timeout of a router is longer.
const MAX_SECONDS: f64 = 3600.0;

const ONE_ORDER: &str =
    "; is asked in order, deployments first: a strategy would choose the fallbacks for every call as well";

impl Converter<'_> {
    /// Takes `router_settings` or `litellm_settings`, which share most of their names.
    pub(super) fn section(&mut self, file: &str, section: &str, settings: &Tree) {
        for (key, value) in settings.entries().iter().filter(|(_, value)| *value != Tree::Null) {
            let path = format!("{section}.{}", key.escape_debug());
            match key.as_str() {
                "num_retries" | "max_retries" => self.retries(file, &path, value),
                "timeout" | "request_timeout" | "stream_timeout" | "retry_after" => {
                    self.length(file, &path, key, value)
                }
                "routing_strategy" => self.strategy(&path, value),
                "fallbacks" => self.fallbacks(file, &path, value),
                "default_fallbacks" => {
                    self.default_fallbacks = Some((path, parts::models(value)));
                }
                "cache" if value.flag() == Some(true) => self.cache(&path, settings),
                "cache_params" if settings.get("cache").and_then(Tree::flag) == Some(true) => {
                    for (name, _) in value.entries().iter().filter(|(name, _)| name != "ttl") {
                        let why = "says where the proxy keeps its answers; workers keep theirs themselves";
                        self.left_out(format!("{path}.{}", name.escape_debug()), why);
                    }
                }
                "context_window_fallbacks" | "content_policy_fallbacks" => {
                    self.left_out(path, "a router has one list of fallbacks, whatever the reason");
                }
                _ => self.left_out(path, "there is no field for it"),
            }
        }
    }

    fn retries(&mut self, file: &str, path: &str, value: &Tree) {
        let Some(number) = value.whole::<u32>() else {
            return self.made().problem(format!("{file}: {path}"), "is not a whole number of retries");
        };
        self.routing.retries.get_or_insert_default().max_retries = Some(number.min(MAX_RETRIES));
        match number > MAX_RETRIES {
            true => self.made().item(
                path,
                "routers",
                Outcome::Changed,
                format!("is {MAX_RETRIES}, which is the most"),
            ),
            false => self.made().imported(path, "routers"),
        }
    }

    /// A length of time in seconds. What is 0 is not set.
    fn length(&mut self, file: &str, path: &str, key: &str, value: &Tree) {
        let seconds =
            value.text().and_then(|text| text.parse::<f64>().ok()).filter(|seconds| *seconds >= 0.0);
        let Some(seconds) = seconds else {
            return self.made().problem(format!("{file}: {path}"), "is not a number of seconds");
        };
        let most = if key == "retry_after" { 60.0 } else { MAX_SECONDS };
        let kept = std::time::Duration::from_secs_f64(seconds.min(most));
        let Some(length) = prost_types::Duration::try_from(kept).ok().filter(|_| !kept.is_zero()) else {
            return self.left_out(path, "is 0, which is what nothing said means");
        };
        match key {
            "retry_after" => self.routing.retries.get_or_insert_default().initial_backoff = Some(length),
            "stream_timeout" => self.routing.timeouts.get_or_insert_default().first_token = Some(length),
            _ => self.routing.timeouts.get_or_insert_default().request = Some(length),
        }
        match seconds > most {
            true => {
                self.made().item(path, "routers", Outcome::Changed, format!("is {most} s, which is the most"))
            }
            false => self.made().imported(path, "routers"),
        }
    }

    fn strategy(&mut self, path: &str, value: &Tree) {
        let (strategy, same) = match value.text().unwrap_or_default() {
            "simple-shuffle" => (RoutingStrategy::Random, true),
            "latency-based-routing" => (RoutingStrategy::LowestLatency, true),
            "cost-based-routing" => (RoutingStrategy::LowestPrice, true),
            "least-busy" | "usage-based-routing" | "usage-based-routing-v2" => {
                (RoutingStrategy::Random, false)
            }
            _ => {
                return self.left_out(
                    path,
                    "is a strategy that is not known; the providers are asked in their order",
                );
            }
        };
        self.routing.strategy = strategy.into();
        match same {
            true => self.made().imported(path, "routers"),
            false => {
                let note = "is random from now on: workers don't know how busy the others are";
                self.made().item(path, "routers", Outcome::Changed, note);
            }
        }
    }

    fn fallbacks(&mut self, file: &str, path: &str, value: &Tree) {
        let entries: Vec<&(String, Tree)> = match value {
            Tree::List(items) => items.iter().flat_map(Tree::entries).collect(),
            _ => {
                let what = "is not a list such as `[{gpt-4o: [claude]}]`";
                return self.made().problem(format!("{file}: {path}"), what);
            }
        };
        for (group, others) in entries {
            self.fallbacks.push((path.to_owned(), group.clone(), parts::models(others)));
        }
    }

    fn cache(&mut self, path: &str, settings: &Tree) {
        let ttl = settings.get("cache_params").and_then(|params| params.get("ttl"));
        let seconds = ttl.and_then(|ttl| ttl.whole::<i64>());
        let spec = CachePolicySpec {
            enabled: Some(true),
            ttl: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            ..CachePolicySpec::default()
        };
        self.made().put(path, "cachePolicies/default", Spec::CachePolicy(spec));
        self.made().imported(path, "cachePolicies/default");
    }

    /// Makes the routers, when all deployments are known.
    pub(super) fn routers(&mut self) {
        let Some(first) = self.deployments.first() else { return };
        let (place, primary) = (first.place.clone(), first.provider.clone());
        let mut order = vec![primary];
        let fallbacks = self.default_fallbacks.take();
        if let Some((path, groups)) = &fallbacks {
            for group in groups {
                self.extend(path, group, &mut order);
            }
        }
        let has_fallbacks = order.len() > 1;
        let (in_order, why) = self.order_of(order.len() > 1);
        let note = format!("LiteLLM has no active provider; the one of the first model is{why}");
        self.router(&place, parts::DEFAULT_ROUTER.to_owned(), order, in_order, &note);
        self.made().only_new(parts::DEFAULT_ROUTER, parts::ACTIVE_STAYS);
        let all = self.deployments.iter().map(|deployment| deployment.provider.clone()).collect();
        self.made().stand_ins(parts::DEFAULT_ROUTER, all);
        if let Some((path, groups)) = fallbacks.filter(|_| has_fallbacks) {
            let note = self.other_models(&groups);
            let outcome = if note.is_empty() { Outcome::Imported } else { Outcome::Changed };
            self.made().item(path, parts::DEFAULT_ROUTER, outcome, note);
        }
        let mut groups: Vec<(String, String)> = Vec::new();
        for deployment in &self.deployments {
            if !groups.iter().any(|(group, _)| *group == deployment.group) {
                groups.push((deployment.group.clone(), deployment.place.clone()));
            }
        }
        for (group, place) in groups {
            self.group(&group, &place);
        }
        for (path, group, _) in std::mem::take(&mut self.fallbacks) {
            if !self.deployments.iter().any(|deployment| deployment.group == group) {
                let why = format!("there is no model `{}` that could be carried over", group.escape_debug());
                self.left_out(path, why);
            }
        }
    }

    fn group(&mut self, group: &str, place: &str) {
        let mut order = Vec::new();
        self.extend(place, group, &mut order);
        let own = order.len();
        let fallbacks = self.fallbacks.iter().filter(|(_, of, _)| of == group);
        let fallbacks: Vec<(String, Vec<String>)> =
            fallbacks.map(|(path, _, to)| (path.clone(), to.clone())).collect();
        for (path, others) in &fallbacks {
            for other in others {
                let before = order.len();
                let there = self.extend(path, other, &mut order);
                if there && order.len() == before {
                    let from = format!("{path}: {} to {}", group.escape_debug(), other.escape_debug());
                    self.left_out(
                        from,
                        "goes to the same provider; a router goes to providers, and not to models",
                    );
                }
            }
        }
        if order.len() < 2 {
            return;
        }
        let id = parts::id_for(group).unwrap_or_else(|| "group".to_owned());
        let id = self.made().free_id("routers", &id);
        let place = format!("{place} ({}), routing", group.escape_debug());
        let (in_order, note) = self.order_of(order.len() > own);
        self.router(&place, format!("routers/{id}"), order, in_order, note.trim_start_matches("; "));
        for (path, others) in fallbacks {
            let from = format!("{path}: {} to {}", group.escape_debug(), others.join(", ").escape_debug());
            let note = self.other_models(&others);
            let outcome = if note.is_empty() { Outcome::Imported } else { Outcome::Changed };
            self.made().item(from, format!("routers/{id}"), outcome, note);
        }
    }

    /// Whether a router has to be asked in order although a strategy is given, and the note of that. A strategy chooses among
    /// all of a router: what comes after failures only would get calls of every day.
    fn order_of(&self, has_fallbacks: bool) -> (bool, &'static str) {
        let chooses =
            !matches!(self.routing.strategy(), RoutingStrategy::Unspecified | RoutingStrategy::Ordered);
        if has_fallbacks && chooses { (true, ONE_ORDER) } else { (false, "") }
    }

    /// Which fallbacks are models that a router can't name: it goes to a provider, which takes its default model.
    fn other_models(&mut self, groups: &[String]) -> String {
        let of_groups = self.deployments.iter().filter(|deployment| groups.contains(&deployment.group));
        let wanted: Vec<(String, String)> = of_groups
            .filter_map(|deployment| Some((deployment.provider.clone(), deployment.model_id.clone()?)))
            .collect();
        let mut notes = Vec::new();
        for (provider, model) in wanted {
            let default = match self.made().get_mut(&provider) {
                Some(Spec::Provider(spec)) if spec.default_model != model => spec.default_model.clone(),
                _ => continue,
            };
            let short = provider.trim_start_matches("providers/");
            notes.push(match default.as_str() {
                "" => format!("calls {short} with the model of the call, not with {}", model.escape_debug()),
                default => format!(
                    "calls {short} with its default model {}, not with {}",
                    default.escape_debug(),
                    model.escape_debug()
                ),
            });
        }
        notes.join("; ")
    }

    /// Adds the providers of a group; `false` where there is no such group.
    fn extend(&mut self, path: &str, group: &str, order: &mut Vec<String>) -> bool {
        let of_group = self.deployments.iter().filter(|deployment| deployment.group == group);
        let providers: Vec<String> = of_group.map(|deployment| deployment.provider.clone()).collect();
        if providers.is_empty() {
            let why = "is no model of model_list that could be carried over";
            self.left_out(format!("{path}: {}", group.escape_debug()), why);
            return false;
        }
        for provider in providers {
            if !order.contains(&provider) {
                order.push(provider);
            }
        }
        true
    }

    fn router(&mut self, place: &str, name: String, mut order: Vec<String>, in_order: bool, note: &str) {
        let primary = order.remove(0);
        let mut notes: Vec<String> = Vec::from_iter((!note.is_empty()).then(|| note.to_owned()));
        if order.len() > MAX_FALLBACKS {
            notes
                .push(format!("{} of its fallbacks are too many, and left out", order.len() - MAX_FALLBACKS));
            order.truncate(MAX_FALLBACKS);
        }
        let mut spec = RouterSpec { primary, fallbacks: order, ..self.routing.clone() };
        if in_order {
            spec.set_strategy(RoutingStrategy::Ordered);
        }
        self.made().put(place, name.as_str(), Spec::Router(spec));
        let outcome = if notes.is_empty() { Outcome::Imported } else { Outcome::Changed };
        self.made().item(place, name, outcome, notes.join("; "));
    }
}

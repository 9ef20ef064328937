//! Walks around the active provider, over one server or several that share a store: each step asks the next one.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use signalbox::proto::v1::{
    BatchWriteResponse, GetActiveProviderRequest, GetActiveProviderResponse, GetDefaultProviderRequest,
    GetDefaultProviderResponse, ListResourcesRequest, ProviderType, Resource, SetDefaultProviderRequest,
    SetDefaultProviderResponse, SwitchActiveProviderRequest, SwitchActiveProviderResponse, SwitchFallbacks,
    resource::Spec,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    caller::Caller,
    resources::{api_key, named, provider},
    truth::Recorder,
    writer::{Job, Op, Writer},
};

/// Code, reason, field and subject of a refusal.
pub type Refusal = (Code, String, String, String);

/// Who asks, one after the other.
pub struct Callers {
    all: Vec<Caller>,
    turn: AtomicUsize,
    /// Of the newest write: whoever is asked next has to have seen it.
    token: Mutex<String>,
}

impl Callers {
    pub fn new(all: Vec<Caller>) -> Self {
        Self { all, turn: AtomicUsize::new(0), token: Mutex::default() }
    }

    pub fn keep(&self, token: &str) {
        if !token.is_empty() {
            token.clone_into(&mut self.token.lock().unwrap());
        }
    }

    /// Waits until every server has seen the newest write.
    pub async fn settle(&self) {
        let min_revision_token = self.token.lock().unwrap().clone();
        for caller in &self.all {
            let min_revision_token = min_revision_token.clone();
            let request = ListResourcesRequest { page_size: 1, min_revision_token, ..Default::default() };
            caller.config().list_resources(request).await.unwrap();
        }
    }

    pub fn next(&self) -> Caller {
        self.all[self.turn.fetch_add(1, Ordering::Relaxed) % self.all.len()].clone()
    }

    pub async fn write(&self, ops: Vec<Op>) -> Result<BatchWriteResponse, Status> {
        let done = Writer::new(self.next(), Recorder::default()).carry_out(&Job::batch(ops)).await?;
        self.keep(&done.revision_token);
        Ok(done)
    }

    pub async fn refused(&self, ops: Vec<Op>) -> Refusal {
        refusal(&self.write(ops).await.expect_err("it has to be refused"))
    }

    pub async fn switch(
        &self,
        request: SwitchActiveProviderRequest,
    ) -> Result<SwitchActiveProviderResponse, Status> {
        let done = self.next().provider().switch_active_provider(request).await?.into_inner();
        self.keep(&done.revision_token);
        Ok(done)
    }

    pub async fn active(&self) -> Result<GetActiveProviderResponse, Status> {
        let request = GetActiveProviderRequest { min_revision_token: self.token.lock().unwrap().clone() };
        Ok(self.next().provider().get_active_provider(request).await?.into_inner())
    }

    /// The active provider and its fallbacks, by id.
    pub async fn order(&self) -> Vec<String> {
        let active = self.active().await.unwrap();
        let named = active.provider.into_iter().chain(active.fallbacks);
        named.map(|provider| provider.name.trim_start_matches("providers/").to_owned()).collect()
    }

    async fn default(&self, of: ProviderType) -> Result<GetDefaultProviderResponse, Status> {
        let request = GetDefaultProviderRequest {
            r#type: of.into(),
            min_revision_token: self.token.lock().unwrap().clone(),
        };
        Ok(self.next().provider().get_default_provider(request).await?.into_inner())
    }

    async fn set_default(
        &self,
        of: ProviderType,
        provider: &str,
    ) -> Result<SetDefaultProviderResponse, Status> {
        let request = SetDefaultProviderRequest {
            r#type: of.into(),
            provider: provider.to_owned(),
            ..Default::default()
        };
        let done = self.next().provider().set_default_provider(request).await?.into_inner();
        self.keep(&done.revision_token);
        Ok(done)
    }
}

pub fn refusal(status: &Status) -> Refusal {
    let info = status.get_error_details().error_info().expect("a reason").clone();
    let told = |key: &str| info.metadata.get(key).cloned().unwrap_or_default();
    (status.code(), info.reason.clone(), told("field"), told("subject"))
}

fn precondition(reason: &str, field: &str, subject: &str) -> Refusal {
    (Code::FailedPrecondition, reason.into(), field.into(), subject.into())
}

pub fn to(provider: &str) -> SwitchActiveProviderRequest {
    SwitchActiveProviderRequest { provider: format!("providers/{provider}"), ..Default::default() }
}

/// A provider of a type, enabled or not.
pub fn of_type(name: &str, of: ProviderType, enabled: bool) -> Resource {
    let mut resource = provider(name);
    if let Some(Spec::Provider(spec)) = &mut resource.spec {
        spec.set_type(of);
        spec.enabled = Some(enabled);
    }
    resource
}

/// An update that enables or disables a provider.
pub fn enable(name: &str, enabled: bool) -> Op {
    let mut resource = named(name, Spec::Provider(Default::default()));
    if let Some(Spec::Provider(spec)) = &mut resource.spec {
        spec.enabled = Some(enabled);
    }
    Op::update(resource, &["provider.enabled"])
}

/// An update that activates or deactivates a key.
pub fn activate(name: &str, active: bool) -> Op {
    let mut resource = named(name, Spec::ApiKey(Default::default()));
    if let Some(Spec::ApiKey(spec)) = &mut resource.spec {
        spec.active = Some(active);
    }
    Op::update(resource, &["api_key.active"])
}

/// Providers `a` and `b` with a key each, and a disabled one.
pub async fn prepare(callers: &Callers) {
    let all = [
        of_type("providers/a", ProviderType::Openai, true),
        of_type("providers/b", ProviderType::Groq, true),
        of_type("providers/off", ProviderType::Groq, false),
        api_key("providers/a/apiKeys/k", "sk-0123456789"),
        api_key("providers/b/apiKeys/k", "gsk-0123456789"),
    ];
    callers.write(all.into_iter().map(Op::Create).collect()).await.unwrap();
    callers.settle().await;
}

/// Switch, and switch back; what stands against it changes nothing.
pub async fn switches_and_switches_back(callers: &Callers) {
    prepare(callers).await;
    assert_eq!(callers.active().await.unwrap_err().code(), Code::NotFound);
    let too_early = callers.set_default(ProviderType::Groq, "providers/b").await.unwrap_err();
    assert_eq!(refusal(&too_early).1, "NO_ACTIVE_PROVIDER");

    let first = callers.switch(to("a")).await.unwrap();
    assert_eq!(first.previous, "");
    assert_eq!(first.warnings, Vec::<String>::new(), "it began with the model of its type");
    assert_eq!(callers.order().await, ["a"]);
    let without_model = named("providers/b", Spec::Provider(Default::default()));
    callers.write(vec![Op::update(without_model, &["provider.default_model"])]).await.unwrap();
    callers.settle().await;
    let second = callers.switch(to("b")).await.unwrap();
    assert_eq!(second.previous, "providers/a");
    assert!(
        matches!(&second.warnings[..], [told] if told.contains("no default model")),
        "{:?}",
        second.warnings
    );
    assert!(second.revision > first.revision);
    assert_eq!(callers.order().await, ["b", "a"]);
    callers.switch(to("a")).await.unwrap();
    assert_eq!(callers.order().await, ["a", "b"]);
    // Again is no change.
    let again = callers.switch(to("a")).await.unwrap();
    assert_eq!((again.previous.as_str(), again.diff.unwrap().fields.len()), ("", 0));

    let told = refusal(&callers.switch(to("off")).await.unwrap_err());
    assert_eq!(told, precondition("PROVIDER_DISABLED", "provider", "providers/off"));
    let told = refusal(&callers.switch(to("none")).await.unwrap_err());
    assert_eq!(told, (Code::NotFound, "NOT_FOUND".into(), "provider".into(), String::new()));
    let missing = SwitchActiveProviderRequest {
        fallbacks: Some(SwitchFallbacks { providers: vec!["providers/none".into()] }),
        ..to("a")
    };
    let status = callers.switch(missing).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no providers/none"));
    assert_eq!(refusal(&status).2, "fallbacks.providers[0]");
    let doubled = SwitchActiveProviderRequest {
        fallbacks: Some(SwitchFallbacks { providers: vec!["providers/b".into(), "providers/a".into()] }),
        ..to("a")
    };
    let status = callers.switch(doubled.clone()).await.unwrap_err();
    let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
    assert_eq!(violations[0].field, "fallbacks.providers[1]");
    assert_eq!(callers.order().await, ["a", "b"], "a refusal changes nothing");

    let alone = SwitchActiveProviderRequest { fallbacks: Some(SwitchFallbacks::default()), ..to("a") };
    let dry = SwitchActiveProviderRequest { validate_only: true, ..alone.clone() };
    let dry = callers.switch(dry).await.unwrap();
    assert_eq!((dry.revision_token.as_str(), dry.diff.unwrap().fields.len()), ("", 1));
    assert_eq!(callers.order().await, ["a", "b"]);
    let etag = callers.active().await.unwrap().router.unwrap().etag;
    let alone = SwitchActiveProviderRequest { etag, request_id: "alone".into(), ..alone };
    let done = callers.switch(alone.clone()).await.unwrap();
    assert_eq!(callers.order().await, ["a"]);
    let repeated = callers.switch(alone.clone()).await.unwrap();
    assert_eq!((repeated.revision, &repeated.diff), (done.revision, &done.diff));
    let stale = SwitchActiveProviderRequest { request_id: String::new(), ..alone.clone() };
    let (code, reason, field, _) = refusal(&callers.switch(stale).await.unwrap_err());
    assert_eq!((code, reason.as_str(), field.as_str()), (Code::Aborted, "ETAG_MISMATCH", "etag"));
    let other = SwitchActiveProviderRequest { request_id: "alone".into(), ..to("b") };
    assert_eq!(refusal(&callers.switch(other).await.unwrap_err()).1, "REQUEST_ID_REUSED");
}

/// The order is full: the last one goes, which is told, also to who asks again.
pub async fn regression_a_full_order_drops_its_last(callers: &Callers) {
    let name = |number: usize| format!("providers/p{number:02}");
    let all = (0..18).map(|number| Op::Create(provider(&name(number))));
    callers.write(all.collect()).await.unwrap();
    callers.settle().await;
    let full = SwitchFallbacks { providers: (1..17).map(name).collect() };
    callers.switch(SwitchActiveProviderRequest { fallbacks: Some(full), ..to("p00") }).await.unwrap();
    let told = |warnings: &[String]| warnings.iter().filter(|told| told.contains("at most 16")).count();
    let inner = callers.switch(to("p03")).await.unwrap();
    assert_eq!(told(&inner.warnings), 0, "who is in the order makes a place free");
    let request = SwitchActiveProviderRequest { request_id: "full".into(), ..to("p17") };
    let done = callers.switch(request.clone()).await.unwrap();
    assert!(done.warnings.iter().any(|told| told.starts_with("providers/p16 is no fallback any more")));
    assert_eq!(callers.order().await.len(), 17);
    assert_eq!(callers.order().await[..2], ["p17", "p03"]);
    let again = callers.switch(request).await.unwrap();
    assert_eq!((again.revision, told(&again.warnings)), (done.revision, 1));
}

/// What is active stays, until another one is. What is left alone by the rules is left alone.
pub async fn what_is_active_stays(callers: &Callers) {
    prepare(callers).await;
    callers.switch(to("b")).await.unwrap();
    callers.switch(to("a")).await.unwrap();
    let delete = |name: &str| vec![Op::delete(name)];
    let told = callers.refused(delete("providers/a")).await;
    assert_eq!(told, precondition("PROVIDER_ACTIVE", "operations[0].delete.name", "providers/a"));
    let told = callers.refused(vec![enable("providers/a", false)]).await;
    let field = "operations[0].update.resource.provider.enabled";
    assert_eq!(told, precondition("PROVIDER_ACTIVE", field, "providers/a"));
    let told = callers.refused(delete("routers/default")).await;
    assert_eq!(told, precondition("PROVIDER_ACTIVE", "operations[0].delete.name", "providers/a"));
    let status = callers.write(delete("routers/default")).await.unwrap_err();
    assert!(status.message().contains("`signalbox switch PROVIDER`"), "{}", status.message());
    assert_eq!(callers.refused(delete("providers/b")).await.1, "IN_USE");
    // A fallback may be disabled.
    callers.write(vec![enable("providers/b", false)]).await.unwrap();
    callers.write(vec![enable("providers/b", true)]).await.unwrap();

    // What counts is what the whole batch leaves.
    let router = |primary: &str, fallbacks: &[&str]| {
        let fallbacks = fallbacks.iter().map(|id| format!("providers/{id}")).collect();
        let spec = signalbox::proto::v1::RouterSpec {
            primary: format!("providers/{primary}"),
            fallbacks,
            ..Default::default()
        };
        Op::update(named("routers/default", Spec::Router(spec)), &["router.primary", "router.fallbacks"])
    };
    let both_off = vec![enable("providers/b", false), router("b", &["a"])];
    assert_eq!(callers.refused(both_off).await.1, "PROVIDER_ACTIVE");
    let idle = callers.write(vec![enable("providers/a", false), router("b", &["a"])]).await.unwrap();
    assert!(
        idle.warnings.iter().any(|told| told.starts_with("providers/a is a fallback")),
        "{:?}",
        idle.warnings
    );
    callers.write(vec![router("a", &["b"]), enable("providers/a", true)]).await.unwrap();
    let idle = vec![router("a", &["b"]), enable("providers/a", false)];
    assert_eq!(callers.refused(idle).await.1, "PROVIDER_ACTIVE");

    // A leaked key has to go; that it was the last one is told.
    let gone = callers.write(vec![activate("providers/a/apiKeys/k", false)]).await.unwrap();
    assert_eq!(gone.warnings.len(), 1, "{:?}", gone.warnings);
    assert!(gone.warnings[0].starts_with("providers/a/apiKeys/k was the last active key of providers/a,"));
    callers.write(vec![activate("providers/a/apiKeys/k", true)]).await.unwrap();
    let another = Op::Create(api_key("providers/a/apiKeys/l", "sk-9876543210"));
    let replaced = callers.write(vec![Op::delete("providers/a/apiKeys/k"), another]).await.unwrap();
    assert_eq!(replaced.warnings, Vec::<String>::new());
    let gone = callers.write(delete("providers/a/apiKeys/l")).await.unwrap();
    assert!(gone.warnings[0].starts_with("providers/a/apiKeys/l was the last active key of providers/a,"));
    assert_eq!(callers.write(delete("providers/b/apiKeys/k")).await.unwrap().warnings, Vec::<String>::new());
    let keyless = callers.switch(to("b")).await.unwrap();
    assert!(keyless.warnings[0].contains("no active key"), "{:?}", keyless.warnings);

    let together = vec![Op::delete("providers/b"), Op::delete("routers/default")];
    callers.write(together).await.unwrap();
    assert_eq!(callers.active().await.unwrap_err().code(), Code::NotFound);
}

/// One for each type: said, or by the rule.
pub async fn each_type_has_its_default(callers: &Callers) {
    prepare(callers).await;
    let more = of_type("providers/0", ProviderType::Groq, true);
    callers.write(vec![Op::Create(more)]).await.unwrap();
    let groq = ProviderType::Groq;
    let found = callers.default(groq).await.unwrap();
    let waits = "it stands behind one that has a key";
    assert_eq!((found.provider.unwrap().name.as_str(), found.named), ("providers/b", false), "{waits}");
    let key = Op::Create(api_key("providers/0/apiKeys/k", "gsk-9876543210"));
    callers.write(vec![key]).await.unwrap();
    let found = callers.default(groq).await.unwrap();
    assert_eq!((found.provider.unwrap().name.as_str(), found.named), ("providers/0", false));
    callers.switch(to("b")).await.unwrap();
    callers.switch(to("a")).await.unwrap();
    let found = callers.default(groq).await.unwrap();
    assert_eq!((found.provider.unwrap().name.as_str(), found.named), ("providers/b", false));
    callers.set_default(groq, "providers/0").await.unwrap();
    let found = callers.default(groq).await.unwrap();
    assert_eq!((found.provider.unwrap().name.as_str(), found.named), ("providers/0", true));
    assert_eq!(callers.default(ProviderType::Mistral).await.unwrap_err().code(), Code::NotFound);

    for (name, field) in [("providers/a", "provider"), ("groq", "provider")] {
        let status = callers.set_default(groq, name).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, field);
    }
    let told = refusal(&callers.set_default(groq, "providers/off").await.unwrap_err());
    assert_eq!(told, precondition("PROVIDER_DISABLED", "provider", "providers/off"));
    assert_eq!(callers.refused(vec![enable("providers/0", false)]).await.1, "PROVIDER_DEFAULT");
    assert_eq!(callers.refused(vec![Op::delete("providers/0")]).await.1, "PROVIDER_DEFAULT");
    callers.set_default(groq, "").await.unwrap();
    callers.write(vec![Op::delete("providers/0")]).await.unwrap();
}

/// Some switch to a provider while others disable or delete it, all at once: whoever wins, what is active is there and
/// enabled. Between `hold` and `release` writes may be planned and not made.
pub async fn race<H>(callers: &Callers, rounds: usize, hold: impl AsyncFn() -> H, release: impl AsyncFn(H)) {
    callers.write(vec![Op::Create(provider("providers/safe"))]).await.unwrap();
    let (mut won, mut lost) = (0, 0);
    for round in 0..rounds {
        callers.switch(to("safe")).await.unwrap();
        callers.write(vec![Op::Create(provider("providers/p"))]).await.unwrap();
        let held = hold().await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..6 {
            let caller = callers.next();
            tasks.spawn(async move {
                let alone = Callers::new(vec![caller]);
                let outcome = match (number + round) % 3 {
                    0 => alone.switch(to("p")).await.map(drop),
                    1 => alone.write(vec![enable("providers/p", false)]).await.map(drop),
                    _ => alone.write(vec![Op::delete("providers/p")]).await.map(drop),
                };
                let switches = (number + round) % 3 == 0;
                let Err(status) = outcome else { return Some(switches) };
                let reason = refusal(&status).1;
                let known =
                    ["PROVIDER_ACTIVE", "PROVIDER_DISABLED", "REFERENCE_MISSING", "NOT_FOUND", "IN_USE"];
                assert!(known.contains(&reason.as_str()), "{status:?}");
                None
            });
        }
        release(held).await;
        // Whether a switch was carried out, or what stands against one.
        let carried_out: BTreeSet<bool> = tasks.join_all().await.into_iter().flatten().collect();
        let active = callers.active().await.unwrap();
        let Some(Spec::Provider(spec)) = active.provider.unwrap().spec else { panic!("no provider") };
        assert_ne!(spec.enabled, Some(false), "what is active is enabled");
        let switched = callers.order().await[0] == "p";
        assert_eq!(carried_out, BTreeSet::from([switched]), "one side wins, and what is active says which");
        match switched {
            true => won += 1,
            false => lost += 1,
        }
        callers
            .switch(SwitchActiveProviderRequest { fallbacks: Some(SwitchFallbacks::default()), ..to("safe") })
            .await
            .unwrap();
        let gone = Op::Delete { name: "providers/p".into(), etag: String::new(), allow_missing: true };
        callers.write(vec![gone]).await.unwrap();
    }
    println!("switched {won} times, gone or disabled {lost} times");
}

/// All switch at once: each builds on what the one before left, so that nobody is lost from the order.
pub async fn switches_at_once_build_on_each_other(callers: &Callers) {
    let ids: Vec<String> = (0..5).map(|number| format!("p{number}")).collect();
    let all = ids.iter().map(|id| Op::Create(provider(&format!("providers/{id}"))));
    callers.write(all.collect()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for id in ids.clone() {
        let caller = callers.next();
        tasks.spawn(async move { Callers::new(vec![caller]).switch(to(&id)).await.unwrap() });
    }
    let done = tasks.join_all().await;
    let newest = done.into_iter().max_by_key(|done| done.revision).unwrap();
    callers.keep(&newest.revision_token);
    let order = callers.order().await;
    assert_eq!(order.len(), ids.len(), "{order:?}");
    assert_eq!(order.into_iter().collect::<BTreeSet<_>>(), ids.into_iter().collect());
}

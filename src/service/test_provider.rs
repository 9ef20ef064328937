//! A provider is tried for real: by the requests that workers make, in steps, until one fails.

use prost_types::Duration;
use serde_json::json;
use tokio::time::Instant;

use super::{
    Service,
    fields::parse_unrepeated,
    probe::{Finding, audited, since},
    provider::{entry_of, no_mapping, provider_spec},
};
use crate::{
    domain::{
        Error, KindName, Matter, Observation, Principal, ResourceName, Result, Text, Violations, record::Uid,
    },
    outbound::{Answer, Credentials, DEADLINE},
    proto::v1::{
        ChatMessage, ChatRole, GenerationParameters, ProbeAttempt, ProbeReason, ProbeStep, ProviderSpec,
        TestProviderRequest, TestProviderResponse,
    },
    watch::timestamp,
    wire::{self, HttpRequest, Mapping},
};

const PROVIDER: KindName = KindName("provider");
const MODEL_CHARS: usize = 256;
/// What is chatted.
const GREETING: &str = "Reply with the word OK.";
/// Tokens of the answer: the least that every provider takes.
const TOKENS: u32 = 16;

/// What is tried, in this order.
type Plan = Vec<(ProbeStep, HttpRequest)>;

/// What was tried.
struct Course {
    finding: Finding,
    attempts: Vec<ProbeAttempt>,
}

impl Service {
    /// Calls a provider with a stored key.
    ///
    /// # Errors
    /// `Invalid`, `PermissionDenied`, `NotFound`, `FailedPrecondition` when the provider has no request builder, `Unavailable`
    /// when it can't be audited. A call that fails is no error.
    pub async fn test_provider(
        &self,
        caller: &Principal,
        request: &TestProviderRequest,
    ) -> Result<TestProviderResponse> {
        let Names { provider: name, key } = check(request)?;
        // One state: the key goes to the address that was stored with it.
        let state = self.parts.view.state();
        let entry = entry_of(caller, &state, "name", &name, PROVIDER)?;
        let spec = provider_spec(entry)?;
        let key = self.probing_key(caller, &state, &name, key.as_ref())?;
        let mapping = Mapping::of(spec).map_err(|problems| no_mapping(&name, &problems))?;
        let model = model_of(request, spec);
        let plan = plan(&name, &mapping, model)?;
        self.audit(caller, "provider_tested", audited(entry, key)).await?;

        let begun = Instant::now();
        let requests: Vec<&HttpRequest> = plan.iter().map(|(_, request)| request).collect();
        let course = match self.credentials(entry, key, &requests) {
            Ok(credentials) => self.run(&mapping, &plan, &credentials).await,
            Err(finding) => Course { finding, attempts: Vec::new() },
        };
        let Course { finding, attempts } = course;
        let (time, latency) = (self.parts.clock.now(), since(begun));
        let chatted = attempts.iter().any(|attempt| attempt.step() == ProbeStep::Chat);
        let sent = !attempts.is_empty();
        let answer = TestProviderResponse {
            reason: finding.reason.into(),
            description: finding.description,
            provider_message: finding.provider_message,
            attempts,
            api_key: key.filter(|_| sent).map(|key| key.record.name.to_string()).unwrap_or_default(),
            model: if chatted { model.to_owned() } else { String::new() },
            latency,
            time: Some(timestamp(time)),
        };
        self.remember(Observation {
            uid: entry.record.uid.clone(),
            what: Matter::TEST,
            value_json: outcome(&answer),
            time,
        });
        Ok(answer)
    }

    async fn run(&self, mapping: &Mapping, plan: &Plan, credentials: &Credentials) -> Course {
        let deadline = Instant::now() + DEADLINE;
        let (mut finding, mut attempts) = (nothing_to_try(), Vec::new());
        for (place, (step, request)) in plan.iter().enumerate() {
            let begun = Instant::now();
            let answer = self.parts.outbound.send(request, credentials, deadline).await;
            let http_status = answer.as_ref().map_or(0, |answer| answer.status.into());
            finding = match answer {
                Ok(answer) => judge(*step, mapping, &answer, credentials),
                Err(fault) => Finding::of_fault(fault),
            };
            let reason = finding.reason;
            attempts.push(ProbeAttempt {
                step: (*step).into(),
                reason: reason.into(),
                http_status,
                latency: since(begun),
            });
            let last = place + 1 == plan.len();
            if last || reason != ProbeReason::Ok && !may_go_on(*step, reason) {
                break;
            }
        }
        Course { finding, attempts }
    }

    /// Takes an observation; the answer does not depend on it.
    pub(super) fn remember(&self, seen: Observation) {
        let uid: Uid = seen.uid.clone();
        if let Err(error) = self.parts.observer.take(vec![seen]) {
            tracing::warn!(%error, uid = uid.0, "what was seen is not remembered");
        }
    }
}

/// The resources that a test is about.
struct Names {
    provider: ResourceName,
    key: Option<ResourceName>,
}

fn check(request: &TestProviderRequest) -> Result<Names> {
    let TestProviderRequest { name, api_key, model } = request;
    let mut violations = Violations::default();
    let provider = violations.take(parse_unrepeated("name", name, PROVIDER.0))?;
    let mut key = None;
    if !api_key.is_empty() {
        key = violations.take(parse_unrepeated("api_key", api_key, "api_key"))?;
        let beneath = provider.as_ref().map(ResourceName::beneath);
        if let (Some(key), Some(beneath)) = (&key, beneath)
            && !key.as_str().starts_with(beneath.as_str())
        {
            violations.add("api_key", "NOT_ALLOWED", "must be a key of the provider that is named");
        }
    }
    violations.text("model", model, Text::Line, MODEL_CHARS);
    violations.allow(provider.map(|provider| Names { provider, key }))
}

fn model_of<'a>(request: &'a TestProviderRequest, spec: &'a ProviderSpec) -> &'a str {
    let named = [request.model.as_str(), spec.default_model.as_str()];
    let named = named.into_iter().find(|model| !model.is_empty());
    named.or_else(|| spec.models.first().map(String::as_str)).unwrap_or_default()
}

/// Renders everything before anything is sent.
fn plan(name: &ResourceName, mapping: &Mapping, model: &str) -> Result<Plan> {
    let key_check = mapping.key_check_request().map(|request| (ProbeStep::KeyCheck, request));
    let list = mapping.models_request("").map(|request| (ProbeStep::ListModels, request));
    let mut plan: Plan = key_check.into_iter().chain(list).collect();
    if !model.is_empty() {
        // Not every builder knows a bound.
        let rendered =
            mapping.request(&chat(model, Some(TOKENS))).or_else(|_| mapping.request(&chat(model, None)));
        let rendered = rendered.map_err(|problems| unrenderable(name, &problems))?;
        plan.push((ProbeStep::Chat, rendered.request));
    }
    Ok(plan)
}

fn chat(model: &str, max_tokens: Option<u32>) -> wire::Call {
    let role = ChatRole::User.into();
    wire::Call {
        model: model.to_owned(),
        messages: vec![ChatMessage { role, text: GREETING.to_owned(), ..ChatMessage::default() }],
        generation: GenerationParameters { max_tokens, ..GenerationParameters::default() },
        ..wire::Call::default()
    }
}

fn unrenderable(name: &ResourceName, problems: &[wire::Problem]) -> Error {
    let mut violations = Violations::default();
    for problem in problems.iter().filter(|problem| problem.path == "model") {
        violations.add("model", problem.reason, problem.description.clone());
    }
    match violations.into_result() {
        Err(error) => error,
        Ok(()) => no_mapping(name, problems),
    }
}

/// What a step's answer says.
fn judge(step: ProbeStep, mapping: &Mapping, answer: &Answer, credentials: &Credentials) -> Finding {
    if !(200..300).contains(&answer.status) {
        return Finding::of_status(mapping, answer, credentials);
    }
    let fits = match step {
        ProbeStep::ListModels => mapping.models_page(&answer.body).is_ok(),
        ProbeStep::Chat => mapping.answer(&answer.body).is_ok(),
        ProbeStep::KeyCheck | ProbeStep::Unspecified => true,
    };
    if fits { Finding::ok() } else { Finding::bad_answer() }
}

/// Whether a failure leaves it to the next step: many a provider that chats has no list of models.
fn may_go_on(step: ProbeStep, reason: ProbeReason) -> bool {
    step == ProbeStep::ListModels
        && matches!(reason, ProbeReason::NotFound | ProbeReason::InvalidRequest | ProbeReason::BadAnswer)
}

fn nothing_to_try() -> Finding {
    Finding::new(
        ProbeReason::NotConfigured,
        "there is nothing to try: the provider lists no models, and no model is given; set `default_model`",
    )
}

/// What is kept of a test: nothing that somebody who reaches the provider alone must not see.
fn outcome(answer: &TestProviderResponse) -> String {
    let millis = |latency: &Duration| latency.seconds * 1000 + i64::from(latency.nanos) / 1_000_000;
    let reason = answer.reason().as_str_name().trim_start_matches("PROBE_REASON_");
    json!({"reason": reason, "model": answer.model, "latency_ms": answer.latency.as_ref().map(millis)})
        .to_string()
}

//! Which provider a call goes to, with which key, and what happens when that fails: on the router's terms.
//!
//! Owns the order of attempts, their pauses and deadlines. It sends nothing. All of a call reads one snapshot.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    AttemptError, AttemptFailure, Completion, CompletionError,
    ask::Request,
    model,
    order::{self, Memory},
    pause::Pause,
};
use crate::{
    client::{ApiKey, Provider, SecretError, SecretText, Snapshot},
    duration,
    proto::v1::{CallFailure, RetryPolicy, RouterSpec, RouterTimeouts, resource::Spec},
    wire::{Answer, Call, HeaderKind, HttpRequest, Mapping, Rendered},
};

/// Where a router or its parts leave it open.
const RETRIES: u32 = 2;
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
const MULTIPLIER: f64 = 2.0;
const RETRY_ON: [CallFailure; 4] =
    [CallFailure::Connection, CallFailure::Timeout, CallFailure::RateLimited, CallFailure::Unavailable];
/// How long a call may take in all where neither the router nor the caller says.
const TOTAL: Duration = Duration::from_secs(600);
/// Stands for the API key in a rendered header.
const KEY: &str = "{api_key}";

/// The attempts of one call.
pub(super) struct Route {
    snapshot: Arc<Snapshot>,
    request: Request,
    /// Whom the call's own model is meant for.
    meant: String,
    terms: Terms,
    candidates: std::vec::IntoIter<Provider>,
    present: Option<Present>,
    /// Values of keys that were refused, or are not to be used for a while, by the key's name; whether it was the one before
    /// the present.
    refused_keys: BTreeSet<(String, bool)>,
    failures: Vec<AttemptFailure>,
    deadline: Instant,
    memory: Memory,
}

/// The provider that is asked at present.
struct Present {
    provider: Provider,
    /// Attempts that are left.
    left: u32,
    /// The longest that the next pause may be.
    pause: Duration,
}

/// What the router says of failures and times.
struct Terms {
    retries: RetryPolicy,
    timeouts: RouterTimeouts,
}

/// The value of a key that is presented.
pub(super) struct Chosen {
    key: ApiKey,
    pub(super) secret: SecretText,
    /// Whether it is the one before the present, which a rotation has kept.
    previous: bool,
}

/// One request to one provider, with its secrets in place.
pub(super) struct Attempt {
    pub(super) provider: String,
    pub(super) mapping: Mapping,
    pub(super) request: HttpRequest,
    pub(super) secrets: Vec<(String, SecretText)>,
    pub(super) key: Option<Chosen>,
    pub(super) deadline: Instant,
    pub(super) connect: Option<Duration>,
    pub(super) first_token: Option<Duration>,
    model: String,
    unused: Vec<&'static str>,
}

impl Route {
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        request: Request,
        memory: &Memory,
    ) -> Result<Self, CompletionError> {
        let router = request.router.as_str();
        let found = snapshot.get(&format!("routers/{router}"));
        let spec = match found.as_deref().map(|resource| &resource.spec) {
            Some(Some(Spec::Router(spec))) => spec.clone(),
            _ => RouterSpec::default(),
        };
        let named = match &request.provider {
            Some(provider) => vec![provider.clone()],
            None => std::iter::once(&spec.primary).chain(&spec.fallbacks).cloned().collect(),
        };
        let bare = |name: &String| name.strip_prefix("providers/").unwrap_or(name).to_owned();
        let ids: Vec<_> = named.iter().map(bare).filter(|id| !id.is_empty()).collect();
        let meant = named.first().map(bare).unwrap_or_default();
        let price = |id: &str| {
            let provider = snapshot.provider(id)?;
            let model = model::asked_for(&snapshot, &provider, &request.call.model, &meant);
            order::price(&snapshot, &provider, model)
        };
        let ordered = memory.order(ids.clone(), spec.strategy(), router, price);
        let usable = ordered.iter().filter_map(|id| snapshot.provider(id)).filter(Provider::enabled);
        let candidates: Vec<_> = usable.collect();
        if candidates.is_empty() {
            return Err(CompletionError::NotConfigured(ids));
        }
        let terms = Terms {
            retries: spec.retries.clone().unwrap_or_default(),
            timeouts: spec.timeouts.unwrap_or_default(),
        };
        let total = request.timeout.or_else(|| span(terms.timeouts.total.as_ref())).unwrap_or(TOTAL);
        Ok(Self {
            deadline: Instant::now() + total,
            candidates: candidates.into_iter(),
            present: None,
            refused_keys: BTreeSet::new(),
            failures: Vec::new(),
            snapshot,
            request,
            meant,
            terms,
            memory: memory.clone(),
        })
    }

    /// The next attempt.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn next_attempt(&mut self) -> Result<Attempt, CompletionError> {
        loop {
            if self.present.as_ref().is_none_or(|present| present.left == 0) {
                let next = self.candidates.next();
                self.present = next.map(|provider| Present {
                    provider,
                    left: 1 + self.terms.retries.max_retries.unwrap_or(RETRIES),
                    pause: self.terms.first_pause(),
                });
            }
            let in_time = Instant::now() < self.deadline;
            let Some(present) = self.present.as_mut().filter(|_| in_time) else {
                return Err(self.over());
            };
            present.left -= 1;
            let provider = present.provider.clone();
            match self.attempt(&provider) {
                Ok(attempt) => return Ok(attempt),
                Err(error) => self.give_up(&provider, error),
            }
        }
    }

    /// Takes note of a failed attempt, and gives the pause before the next one.
    pub(super) fn failed(&mut self, attempt: &Attempt, error: AttemptError) -> Duration {
        let (kind, asked) = (error.kind(), error.retry_after());
        self.failures.push(AttemptFailure { provider: attempt.provider.clone(), error });
        let refused = attempt.key.as_ref().filter(|_| kind == Some(CallFailure::Authentication));
        if let Some(key) = refused {
            self.refused_keys.insert((key.key.resource().name.clone(), key.previous));
        }
        // The same provider may have another key that is good.
        let other_key = refused.is_some() && !self.keys(&attempt.provider).is_empty();
        let again = kind.is_some_and(|kind| self.terms.retries_on(kind));
        let asked = asked.and_then(|asked| self.asked_to_wait(attempt, asked));
        let others = asked.is_some() && self.candidates.as_slice().iter().any(|next| self.may_ask(next));
        let left = self.deadline.saturating_duration_since(Instant::now());
        let Some(present) = &mut self.present else { return Duration::ZERO };
        if present.left == 0 || other_key {
            return Duration::ZERO;
        }
        let pause = Pause { own: present.pause, longest: self.terms.longest_pause(), asked, others, left };
        present.pause = self.terms.pause_after(present.pause);
        let pause = if again { pause.length(rand::random()) } else { None };
        if pause.is_none() {
            present.left = 0;
        }
        pause.unwrap_or_default()
    }

    /// How long the provider is left alone by its own wish, by later calls as well. Where it has another key, that one is taken
    /// instead: it was not asked to wait.
    fn asked_to_wait(&mut self, attempt: &Attempt, asked: Duration) -> Option<Duration> {
        if let Some(key) = &attempt.key {
            let name = key.key.resource().name.clone();
            if self.keys(&attempt.provider).iter().any(|other| other.key.resource().name != name) {
                self.refused_keys.extend([(name.clone(), false), (name, true)]);
                return None;
            }
        }
        self.memory.leave_alone(&attempt.provider, asked);
        Some(asked)
    }

    /// Whether a provider can be asked at once.
    fn may_ask(&self, provider: &Provider) -> bool {
        !self.memory.leaves_alone(provider.id()) && self.attempt(provider).is_ok()
    }

    pub(super) fn completion(&mut self, attempt: Attempt, answer: Answer) -> Completion {
        Completion {
            answer,
            provider: attempt.provider,
            model: attempt.model,
            revision: self.snapshot.revision(),
            unused: attempt.unused,
            failures: std::mem::take(&mut self.failures),
        }
    }

    /// The error of an answer that has begun and does not end.
    pub(super) fn broke_off(&mut self, attempt: &Attempt, error: AttemptError) -> CompletionError {
        self.failures.push(AttemptFailure { provider: attempt.provider.clone(), error });
        CompletionError::BrokeOff { failures: std::mem::take(&mut self.failures) }
    }

    fn give_up(&mut self, provider: &Provider, error: AttemptError) {
        self.failures.push(AttemptFailure { provider: provider.id().to_owned(), error });
        if let Some(present) = &mut self.present {
            present.left = 0;
        }
    }

    fn over(&mut self) -> CompletionError {
        let failures = std::mem::take(&mut self.failures);
        let wrong = failures.iter().map(|failure| match &failure.error {
            AttemptError::Call(problems) => Some(problems.clone()),
            _ => None,
        });
        // A call that nobody can be asked is the caller's error.
        match wrong.collect::<Option<Vec<_>>>().and_then(|wrong| wrong.into_iter().next()) {
            Some(problems) => CompletionError::Call(problems),
            None => CompletionError::NobodyAnswered { late: Instant::now() >= self.deadline, failures },
        }
    }

    fn attempt(&self, provider: &Provider) -> Result<Attempt, AttemptError> {
        let mapping = Mapping::of(provider.spec()).map_err(AttemptError::Mapping)?;
        let model = model::asked_for(&self.snapshot, provider, &self.request.call.model, &self.meant);
        let call = Call { model: model.to_owned(), ..self.request.call.clone() };
        let Rendered { request, unused, .. } = mapping.request(&call).map_err(AttemptError::Call)?;
        let takes_key = request.headers.iter().any(|header| header.kind == HeaderKind::ApiKey);
        let key = takes_key.then(|| self.choose_key(provider)).transpose()?;
        let secrets = secrets(provider, &request, key.as_ref().map(|key| &key.secret))?;
        let limit = span(self.terms.timeouts.request.as_ref()).map(|limit| Instant::now() + limit);
        Ok(Attempt {
            provider: provider.id().to_owned(),
            model: call.model,
            mapping,
            request,
            secrets,
            key,
            deadline: limit.map_or(self.deadline, |limit| limit.min(self.deadline)),
            connect: span(self.terms.timeouts.connect.as_ref()),
            first_token: span(self.terms.timeouts.first_token.as_ref()),
            unused,
        })
    }

    /// One of the keys that may be used, by weight.
    fn choose_key(&self, provider: &Provider) -> Result<Chosen, AttemptError> {
        let keys = self.keys(provider.id());
        let all: u32 = keys.iter().map(|key| key.key.weight()).sum();
        let mut place = if all > 0 { rand::random_range(0..all) } else { 0 };
        let chosen = keys.into_iter().find(|key| {
            let here = place < key.key.weight();
            place = place.saturating_sub(key.key.weight());
            here
        });
        chosen.ok_or_else(|| self.why_no_key(provider))
    }

    /// The keys that may still be presented. While one is rotated, it is presented with the value before once the new one was
    /// refused: the provider may not know that yet.
    fn keys(&self, provider: &str) -> Vec<Chosen> {
        let refused =
            |key: &ApiKey, previous| self.refused_keys.contains(&(key.resource().name.clone(), previous));
        let presented = |key: ApiKey| {
            let previous = refused(&key, false);
            if previous && refused(&key, true) {
                return None;
            }
            let secret = if previous { key.previous_secret() } else { key.secret() };
            Some(Chosen { secret: secret.ok()?, key, previous })
        };
        self.snapshot.active_api_keys(provider).into_iter().filter_map(presented).collect()
    }

    /// The reason of a key that is there and can't be read, before that there is none.
    fn why_no_key(&self, provider: &Provider) -> AttemptError {
        let key = self.snapshot.active_api_key(provider.id());
        let told = key.and_then(|key| Some((key.resource().name.clone(), key.secret().err()?)));
        let none = || (format!("{}/apiKeys", provider.resource().name), SecretError::Absent);
        let (name, error) = told.unwrap_or_else(none);
        AttemptError::Secret { name, error }
    }
}

impl Terms {
    fn retries_on(&self, kind: CallFailure) -> bool {
        if self.retries.retry_on.is_empty() {
            return RETRY_ON.contains(&kind);
        }
        self.retries.retry_on().any(|told| told == kind)
    }

    fn first_pause(&self) -> Duration {
        span(self.retries.initial_backoff.as_ref()).unwrap_or(INITIAL_BACKOFF)
    }

    fn longest_pause(&self) -> Duration {
        span(self.retries.max_backoff.as_ref()).unwrap_or(MAX_BACKOFF.max(self.first_pause()))
    }

    fn pause_after(&self, pause: Duration) -> Duration {
        let multiplier =
            self.retries.backoff_multiplier.filter(|multiplier| (1.0..=10.0).contains(multiplier));
        pause.mul_f64(multiplier.unwrap_or(MULTIPLIER)).min(self.longest_pause())
    }
}

/// The values of the headers that are secret, by their names.
fn secrets(
    provider: &Provider,
    request: &HttpRequest,
    key: Option<&SecretText>,
) -> Result<Vec<(String, SecretText)>, AttemptError> {
    let refused = |name: &str, error| AttemptError::Secret { name: name.to_owned(), error };
    let mut secrets = Vec::new();
    for header in &request.headers {
        let value = match (header.kind, key) {
            (HeaderKind::ApiKey, Some(key)) => SecretText::new(header.value.replacen(KEY, key.expose(), 1)),
            (HeaderKind::Secret, _) => {
                let name = provider.resource().name.as_str();
                let value = provider.header(&header.name).map_err(|error| refused(name, error))?;
                value.ok_or_else(|| refused(name, SecretError::Absent))?
            }
            (HeaderKind::Plain | HeaderKind::ApiKey, _) => continue,
        };
        secrets.push((header.name.clone(), value));
    }
    Ok(secrets)
}

/// A length of time from the wire; what is not set or is none is left open.
fn span(duration: Option<&prost_types::Duration>) -> Option<Duration> {
    duration.and_then(|given| duration::read(*given)).filter(|span| !span.is_zero())
}

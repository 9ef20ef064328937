//! Providers that ask to be left alone: for how long, and whom they are left for.

use super::*;
use crate::{
    executor::pause::Pause,
    wire::{Mapping, retry_after},
};

fn vectors(part: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors/routing.json")).unwrap();
    let part = vectors[part].as_array().unwrap().clone();
    assert!(part.len() >= 10);
    part
}

fn seconds(value: &Value) -> Option<Duration> {
    value.as_f64().map(Duration::from_secs_f64)
}

#[test]
fn what_providers_ask_for_is_read_as_the_vectors_have_it() {
    let mapping = Mapping::of(&stored(&json!({"type": "PROVIDER_TYPE_GOOGLE_AI"}))).unwrap();
    let now = "2026-11-28T12:00:00Z".parse().unwrap();
    for vector in vectors("waits") {
        let header = vector["header"].as_str().and_then(|header| retry_after(header, now));
        let body = mapping.failure(429, vector["body"].to_string().as_bytes(), None).retry_after;
        assert_eq!(header.or(body), seconds(&vector["seconds"]), "{}", vector["description"]);
    }
}

#[test]
fn the_pause_is_as_the_vectors_have_it() {
    for vector in vectors("pauses") {
        let span = |field: &str| seconds(&vector[field]).unwrap();
        let pause = Pause {
            own: span("own"),
            longest: span("longest"),
            asked: seconds(&vector["asked"]),
            others: vector["others"].as_bool().unwrap(),
            left: span("left"),
        };
        let length = pause.length(vector["random"].as_f64().unwrap());
        assert_eq!(length, seconds(&vector["pause"]), "{}", vector["description"]);
    }
}

const LATER: &str = "Retry-After: 25\r\n";
const SOON: &str = "Retry-After: 1\r\n";

/// A provider that had said when to come again was asked twice more within a second or so.
#[tokio::test]
async fn regression_a_provider_that_asks_to_be_left_alone_is() {
    let worker = Worker::start().await;
    worker.route("openai", &["mistral"], |_| ());
    worker.speaker.lay("mistral", &[(200, &body_of("mistral"))]);
    for (status, head, body) in [(429, LATER, "{}"), (503, LATER, "{}"), (429, "", RETRY_INFO)] {
        worker.speaker.lay_with_heads("openai", &[(status, head, body)]);
        // Another one has not been told yet.
        let executor = Executor::new(worker.fake.client()).unwrap();
        let completion = executor.complete("Hello", "m", None, None).await.unwrap();
        assert_eq!(
            (completion.provider.as_str(), completion.failures.len()),
            ("mistral", 1),
            "{status} {head}"
        );
        let asked = completion.failures[0].error.retry_after();
        assert_eq!(asked, Some(Duration::from_secs(25)), "{status} {head}");
    }
    // Another one that can't be asked anyhow is no reason not to wait, and what is to be waited is too long.
    worker.fake.delete("providers/mistral/apiKeys/main");
    let begun = Instant::now();
    let error = worker.hello().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(25)));
    assert!(error.to_string().contains("asks to be left alone for 25 s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20) && worker.speaker.heard().len() == 7);
}

/// Every call went to it first, and was told the same.
#[tokio::test]
async fn regression_a_provider_that_asks_to_be_left_alone_is_left_alone_by_later_calls() {
    let worker = Worker::start().await;
    worker.route("openai", &["mistral"], |_| ());
    let good = body_of("mistral");
    worker.speaker.lay("mistral", &[(200, &good)]);
    worker.speaker.lay_with_heads("openai", &[(429, LATER, "{}")]);
    let asked = async || {
        let provider = worker.executor.clone().complete("Hello", "m", None, None).await.map(|it| it.provider);
        let heard: Vec<_> = worker.speaker.heard().into_iter().map(|(name, ..)| name).collect();
        (provider.ok(), heard)
    };
    assert_eq!(asked().await, (Some("mistral".into()), vec!["openai".into(), "mistral".into()]));
    assert_eq!(asked().await, (Some("mistral".into()), vec!["mistral".into()]));
    let named = worker.executor.complete("Hello", "m", None, None).provider("openai").await;
    assert_eq!(named.unwrap_err().retry_after(), Some(Duration::from_secs(25)), "who names it gets it");
    worker.speaker.heard();
    worker.speaker.lay_with_heads("mistral", &[(429, LATER, "{}")]);
    assert_eq!(asked().await.1, ["mistral", "openai"], "nobody else may answer");
    worker.speaker.lay("openai", &[(200, &body_of("openai"))]);
    assert_eq!(asked().await, (Some("openai".into()), vec!["openai".into()]), "the first of them is asked");
    worker.speaker.lay("mistral", &[(200, &good)]);
    assert_eq!(asked().await, (Some("openai".into()), vec!["openai".into()]), "it has answered");
}

#[tokio::test]
async fn a_provider_that_nobody_stands_in_for_is_waited_for() {
    let worker = Worker::start().await;
    let retries = |spec: &mut RouterSpec| {
        let (long, short) = (Duration::from_secs(5), Duration::from_millis(1));
        let retries = spec.retries.as_mut().unwrap();
        retries.max_backoff = Some(long.try_into().unwrap());
        retries.initial_backoff = Some(short.try_into().unwrap());
    };
    worker.route("openai", &[], retries);
    let good = body_of("openai");
    worker.speaker.lay_with_heads("openai", &[(429, SOON, "{}"), (200, "", &good)]);
    let begun = Instant::now();
    assert_eq!(worker.hello().await.unwrap().failures.len(), 1);
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    // Not beyond the time of the call: that fails at once, and says when to come again.
    worker.speaker.lay_with_heads("openai", &[(429, SOON, "{}"), (200, "", &good)]);
    let asked = worker.executor.complete("Hello", "m", None, None).timeout(Duration::from_millis(900));
    let error = asked.await.unwrap_err();
    assert!(matches!(error, CompletionError::NobodyAnswered { late: false, .. }), "{error}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn another_key_of_the_provider_was_not_asked_to_wait() {
    let worker = Worker::start().await;
    worker.route("openai", &["mistral"], |_| ());
    worker.fake.put("providers/openai/apiKeys/second", key("sk-second"));
    let good = body_of("openai");
    for _ in 0..5 {
        worker.speaker.lay_with_heads("openai", &[(429, LATER, "{}"), (200, "", &good)]);
        let completion = worker.hello().await.unwrap();
        assert_eq!((completion.provider.as_str(), completion.failures.len()), ("openai", 1));
        let heard = worker.speaker.heard();
        assert_ne!(heard[0].1.contains("sk-second"), heard[1].1.contains("sk-second"));
    }
}

const RETRY_INFO: &str = r#"{"error": {"code": 429, "message": "quota", "details": [
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "25s"}]}}"#;

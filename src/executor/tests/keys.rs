//! Which key a provider is shown, and where no secret goes.

use super::*;

#[tokio::test]
async fn a_key_that_is_refused_makes_room_for_another() {
    let worker = Worker::start().await;
    worker.route("openai", &[], |_| ());
    worker.fake.put("providers/openai/apiKeys/second", key("sk-second"));
    worker.speaker.lay("openai", &[(401, "{}"), (200, &body_of("openai"))]);
    let completion = worker.hello().await.unwrap();
    assert_eq!(kinds_of(&completion.failures), [Some(CallFailure::Authentication)]);
    let heard = worker.speaker.heard();
    let keys: Vec<_> = heard.iter().map(|(_, head, _)| head.contains("sk-second")).collect();
    assert!(keys == [true, false] || keys == [false, true], "{keys:?}");
}

/// The new value is at the workers before the provider knows it.
#[tokio::test]
async fn a_key_in_rotation_that_is_refused_is_presented_as_it_was_before() {
    let worker = Worker::start().await;
    worker.route("openai", &[], |_| ());
    let secret = |value: &str| Some(Secret { value: Some(value.to_owned()), ..Secret::default() });
    let rotated =
        ApiKeySpec { secret: secret("sk-new"), previous_secret: secret("sk-old"), ..ApiKeySpec::default() };
    worker.fake.put("providers/openai/apiKeys/main", Spec::ApiKey(rotated));
    worker.speaker.lay("openai", &[(401, "{}"), (200, &body_of("openai"))]);
    let completion = worker.hello().await.unwrap();
    assert_eq!(kinds_of(&completion.failures), [Some(CallFailure::Authentication)]);
    let heard = worker.speaker.heard();
    assert!(heard[0].1.contains("sk-new") && heard[1].1.contains("sk-old"));
    worker.speaker.lay("openai", &[(401, "{}")]);
    assert_eq!(worker.hello().await.unwrap_err().failures().len(), 2, "and no third time");
    assert_eq!(worker.speaker.heard().len(), 2);
}

#[tokio::test]
async fn keys_are_chosen_by_weight_and_one_that_can_not_be_read_is_told_of() {
    let worker = Worker::start().await;
    worker.route("openai", &[], |_| ());
    let secret = Some(Secret { value: Some("sk-heavy".to_owned()), ..Secret::default() });
    let heavy = ApiKeySpec { secret, weight: Some(1_000), ..ApiKeySpec::default() };
    worker.fake.put("providers/openai/apiKeys/heavy", Spec::ApiKey(heavy));
    worker.speaker.lay("openai", &[(200, &body_of("openai"))]);
    for _ in 0..20 {
        worker.hello().await.unwrap();
    }
    let heard = worker.speaker.heard();
    assert!(heard.iter().filter(|(_, head, _)| head.contains("sk-heavy")).count() > 15);
    worker.fake.delete("providers/openai/apiKeys/heavy");
    for (state, reason) in [(State::Present, SecretError::Masked), (State::Absent, SecretError::Absent)] {
        let masked = Secret { value: None, state: state.into() };
        let masked = ApiKeySpec { secret: Some(masked), ..ApiKeySpec::default() };
        worker.fake.put("providers/openai/apiKeys/main", Spec::ApiKey(masked));
        let error = worker.hello().await.unwrap_err();
        let AttemptError::Secret { error, .. } = error.failures()[0].error else { panic!("{error}") };
        assert_eq!(error, reason);
    }
    worker.fake.put("providers/openai/apiKeys/main", key("sk-1"));
    worker.fake.set_age(Duration::from_secs(4_000));
    let error = worker.hello().await.unwrap_err();
    assert!(error.to_string().contains("staleness"), "{error}");
    assert!(worker.speaker.heard().is_empty());
}

#[tokio::test]
async fn a_key_in_the_error_of_a_stream_is_cut_out() {
    let worker = Worker::start().await;
    worker.route("openai", &[], |_| ());
    let echo = "data: {\"error\": {\"message\": \"no such key: sk-openai-key-canary\"}}\n\n";
    worker.speaker.lay("openai", &[(200, echo)]);
    let mut stream = worker.executor.complete("Hello", "m", None, None).stream().unwrap();
    let error = stream.next().await.unwrap().unwrap_err().to_string();
    assert!(error.contains("[removed]") && !error.contains("canary"), "{error}");
}

/// Only the key was cut out.
#[tokio::test]
async fn regression_a_secret_header_in_a_providers_words_is_cut_out() {
    let worker = Worker::start().await;
    let written = json!({"type": "PROVIDER_TYPE_OPENAI", "headers": {
        "x-team": {"secret": {"value": "hunter2-canary"}}, "x-plain": {"plain": "seen"}}});
    let base_url = format!("{}/echo", worker.speaker.url);
    worker.fake.put("providers/echo", Spec::Provider(ProviderSpec { base_url, ..stored(&written) }));
    worker.fake.put("providers/echo/apiKeys/a", key("sk-echo-canary"));
    let ask = || worker.executor.complete("Hello", "m", None, None).provider("echo");
    let echo = r#"{"error": {"message": "x-team: hunter2-canary or sk-echo-canary is bad, seen", "code": "hunter2-canary"}}"#;
    worker.speaker.lay("echo", &[(400, echo)]);
    let whole = ask().await.unwrap_err().to_string();
    worker.speaker.lay("echo", &[(200, &format!("data: {echo}\n\n"))]);
    let streamed = ask().stream().unwrap().next().await.unwrap().unwrap_err().to_string();
    for words in [whole, streamed] {
        assert!(words.contains("is bad, seen") && !words.contains("canary"), "{words}");
    }
}

#[tokio::test]
async fn no_secret_goes_beyond_the_machine_in_the_clear_or_after_a_redirect() {
    let worker = Worker::start().await;
    // An address of documentation, which leads nowhere.
    let base_url = "http://192.0.2.1:1/v1".to_owned();
    let spec =
        ProviderSpec { base_url, ..stored(&json!({"type": "PROVIDER_TYPE_VLLM", "baseUrl": "http://x"})) };
    worker.fake.put("providers/far", Spec::Provider(spec));
    worker.fake.put("providers/far/apiKeys/a", key("sk-far-canary"));
    let ask = |executor: &Executor| {
        let executor = executor.clone();
        async move {
            let asked = executor.complete("Hello", "m", None, None).provider("far");
            asked.timeout(Duration::from_millis(200)).await.unwrap_err()
        }
    };
    let error = ask(&worker.executor).await;
    assert!(
        matches!(&error.failures()[0].error, AttemptError::Plaintext { host } if host == "192.0.2.1"),
        "{error}"
    );
    let error = ask(&worker.executor.clone().allow_plaintext("192.0.2.1")).await;
    assert!(!matches!(error.failures()[0].error, AttemptError::Plaintext { .. }), "{error}");
    worker.speaker.lay("openai", &[(307, "{}")]);
    let asked = worker.executor.complete("Hello", "m", None, None).provider("openai");
    let error = asked.timeout(Duration::from_secs(5)).await.unwrap_err();
    let AttemptError::Refused { status: 307, failure } = &error.failures()[0].error else {
        panic!("{error}")
    };
    assert_eq!(failure.reason, Reason::Unavailable);
}

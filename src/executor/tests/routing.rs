//! Who is asked, for which model, how often, and who when that fails.

use super::*;

#[tokio::test]
async fn what_fails_is_tried_again_or_left_for_the_next_on_the_routers_terms() {
    let worker = Worker::start().await;
    worker.route("openai", &["mistral"], |_| ());
    worker.speaker.lay("mistral", &[(200, &body_of("mistral"))]);
    for (status, body, kind, attempts) in [
        (503, "{}", Some(CallFailure::Unavailable), 2),
        (429, "{}", Some(CallFailure::RateLimited), 2),
        (504, "{}", Some(CallFailure::Timeout), 2),
        (0, "", Some(CallFailure::Connection), 2),
        (500, "{}", Some(CallFailure::ServerError), 1),
        (401, "{}", Some(CallFailure::Authentication), 1),
        (400, "{}", None, 1),
        (302, "{}", None, 1),
        (200, "<html>", Some(CallFailure::BadAnswer), 1),
    ] {
        worker.speaker.lay("openai", &[(status, body)]);
        let completion = worker.hello().await.unwrap();
        assert_eq!(completion.provider, "mistral");
        let kinds = kinds_of(&completion.failures);
        assert!(
            kinds.len() == attempts && (status == 302 || kinds.iter().all(|one| *one == kind)),
            "{status}: {kinds:?}"
        );
    }
    worker.speaker.lay("openai", &[(503, "{}"), (200, &body_of("openai"))]);
    assert_eq!(worker.hello().await.unwrap().provider, "openai", "one that recovers is not left");
    worker.speaker.lay("openai", &[(500, "{}")]);
    worker.speaker.lay("mistral", &[(500, "{}")]);
    let error = worker.hello().await.unwrap_err();
    assert!(
        matches!(error, CompletionError::NobodyAnswered { late: false, .. }) && error.failures().len() == 2
    );
}

#[tokio::test]
async fn a_slow_answer_is_given_up() {
    let worker = Worker::start().await;
    let limits = |spec: &mut RouterSpec| {
        let request = Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 });
        spec.timeouts = Some(RouterTimeouts { request, ..RouterTimeouts::default() });
        spec.retries = Some(RetryPolicy { max_retries: Some(0), ..RetryPolicy::default() });
    };
    worker.route("openai", &["mistral"], limits);
    worker.speaker.lay_slow("openai", &body_of("openai"), Duration::from_secs(30));
    worker.speaker.lay("mistral", &[(200, &body_of("mistral"))]);
    let completion = worker.hello().await.unwrap();
    assert_eq!(kinds_of(&completion.failures), [Some(CallFailure::Timeout)]);
    worker.speaker.lay_slow("mistral", &body_of("mistral"), Duration::from_secs(30));
    let begun = Instant::now();
    let asked = worker.executor.complete("Hello", "m", None, None).timeout(Duration::from_millis(300));
    let error = asked.await.unwrap_err();
    assert!(matches!(error, CompletionError::NobodyAnswered { late: true, .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn once_something_was_said_nobody_else_is_asked() {
    let worker = Worker::start().await;
    worker.route("openai", &["mistral"], |_| ());
    worker.speaker.lay("openai", &[(200, SAID)]);
    let ask = || worker.executor.complete("Hello", "m", None, None).stream().unwrap();
    let mut stream = ask();
    assert_eq!(stream.next().await.unwrap().unwrap().text(), "Hi");
    let error = stream.next().await.unwrap().unwrap_err();
    let cut_off = AttemptError::Stream(StreamFailure::CutOff);
    assert!(
        matches!(&error, CompletionError::BrokeOff { failures } if failures[0].error == cut_off),
        "{error}"
    );
    assert!(stream.next().await.is_none() && stream.completion().is_none());
    worker.speaker.lay("openai", &[(503, "{}")]);
    worker.speaker.lay("mistral", &[(200, &format!("{SAID}{END}"))]);
    let mut stream = ask();
    assert_eq!(stream.next().await.unwrap().unwrap(), Piece::Text("Hi".to_owned()));
    assert!(stream.next().await.is_none());
    let completion = stream.completion().unwrap();
    assert_eq!((completion.provider.as_str(), completion.failures.len()), ("mistral", 2));
}

#[tokio::test]
async fn an_error_in_a_frame_counts_as_what_it_is_until_something_was_said() {
    let worker = Worker::start().await;
    worker.route("bedrock", &["mistral"], |_| ());
    worker.speaker.lay("mistral", &[(200, &format!("{SAID}{END}"))]);
    let ask = || worker.executor.complete("Hello", "m", None, None).stream().unwrap();
    for (case, kind, attempts) in [
        ("throttled before anything is said", Some(CallFailure::RateLimited), 2),
        ("an error of the transport", Some(CallFailure::Unavailable), 2),
        ("a call that is wrong", None, 1),
        ("a page", Some(CallFailure::BadAnswer), 1),
        ("nothing", Some(CallFailure::Connection), 2),
    ] {
        worker.speaker.lay_bytes("bedrock", &[stream_of("bedrock", case)]);
        let mut stream = ask();
        while stream.next().await.transpose().unwrap().is_some() {}
        let completion = stream.completion().unwrap();
        assert_eq!(completion.provider, "mistral", "{case}");
        assert_eq!(kinds_of(&completion.failures), vec![kind; attempts], "{case}");
    }
    let once_more = [stream_of("bedrock", "throttled before anything is said"), stream_of("bedrock", "text")];
    worker.speaker.lay_bytes("bedrock", &once_more);
    let mut stream = ask();
    while stream.next().await.transpose().unwrap().is_some() {}
    assert_eq!(
        (stream.completion().unwrap().text(), stream.completion().unwrap().failures.len()),
        ("Hi there.", 1)
    );
    worker.speaker.lay_bytes("bedrock", &[stream_of("bedrock", "cut off between frames")]);
    let mut stream = ask();
    assert_eq!(stream.next().await.unwrap().unwrap().text(), "Hi");
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, CompletionError::BrokeOff { failures } if failures.len() == 1), "{error}");
}

/// Its request is not made: the next one is asked.
#[tokio::test]
async fn one_whose_answers_come_whole_is_not_asked_for_a_stream() {
    let worker = Worker::start().await;
    let change = |spec: &mut ProviderSpec| spec.response_extractor.as_mut().unwrap().frame_stream = None;
    worker.configure("bedrock", change);
    worker.route("bedrock", &["mistral"], |_| ());
    worker.speaker.lay("mistral", &[(200, &format!("{SAID}{END}"))]);
    let ask = || worker.executor.complete("Hello", "m", None, None);
    let mut stream = ask().stream().unwrap();
    while stream.next().await.transpose().unwrap().is_some() {}
    assert_eq!(stream.completion().unwrap().provider, "mistral");
    let refused = ask().provider("bedrock").stream().unwrap().next().await.unwrap().unwrap_err();
    assert!(matches!(&refused, CompletionError::Call(problems) if problems[0].path == "chat.stream"));
    assert!(worker.speaker.heard().iter().all(|(name, ..)| name == "mistral"));
}

#[tokio::test]
async fn the_strategy_is_the_routers() {
    let worker = Worker::start().await;
    let turns = |spec: &mut RouterSpec| spec.strategy = RoutingStrategy::RoundRobin.into();
    worker.route("openai", &["mistral", "groq"], turns);
    for name in ["openai", "mistral", "groq"] {
        worker.speaker.lay(name, &[(200, &body_of(name))]);
    }
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(worker.hello().await.unwrap().provider);
    }
    assert_eq!(asked, ["openai", "mistral", "groq", "openai"]);
}

#[derive(Deserialize)]
struct Asked {
    description: String,
    first: Value,
    second: Value,
    catalogue: Option<String>,
    call: String,
    asked: Vec<String>,
}

/// A model that another provider does not have was asked of it all the same, and refused there.
#[tokio::test]
async fn regression_a_model_goes_along_only_to_a_provider_that_has_it() {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors/routing.json")).unwrap();
    let vectors: Vec<Asked> = serde_json::from_value(vectors["models"].clone()).unwrap();
    assert!(vectors.len() >= 7);
    for vector in vectors {
        let worker = Worker::start().await;
        for (name, more) in [("first", &vector.first), ("second", &vector.second)] {
            let mut written = json!({"type": "PROVIDER_TYPE_OPENAI"});
            written.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let base_url = format!("{}/{name}", worker.speaker.url);
            let default_model = more["defaultModel"].as_str().unwrap_or_default().to_owned();
            let spec = ProviderSpec { base_url, default_model, ..stored(&written) };
            worker.fake.put(&format!("providers/{name}"), Spec::Provider(spec));
            worker.fake.put(&format!("providers/{name}/apiKeys/k"), key("sk-1"));
        }
        if let Some(name) = &vector.catalogue {
            worker.fake.put(name, Spec::Model(ModelSpec::default()));
        }
        let once = |spec: &mut RouterSpec| spec.retries.as_mut().unwrap().max_retries = Some(0);
        worker.route("first", &["second"], once);
        worker.speaker.lay("first", &[(503, "{}")]);
        worker.speaker.lay("second", &[(200, &body_of("openai"))]);
        let completion = worker.executor.complete("Hello", vector.call.as_str(), None, None).await.unwrap();
        let heard = worker.speaker.heard();
        let asked: Vec<_> = heard.iter().map(|(_, _, body)| body["model"].as_str().unwrap()).collect();
        assert_eq!(asked, vector.asked, "{}", vector.description);
        assert_eq!(Some(&completion.model), vector.asked.last(), "{}", vector.description);
    }
}

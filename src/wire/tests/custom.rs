//! Mappings that are written by hand against the shared vectors, and headers of a provider's own.

use super::*;

/// A provider whose mapping is written by hand.
#[derive(Deserialize)]
pub(super) struct Custom {
    name: String,
    provider: Value,
    requests: Vec<BodyCase>,
    refused: Vec<RefusedCase>,
    answers: Vec<AnswerCase>,
    malformed: Vec<String>,
}

#[derive(Deserialize)]
struct BodyCase {
    name: String,
    call: Value,
    body: Value,
    unused: Value,
}

#[test]
fn mappings_that_are_written_by_hand() {
    let vectors = vectors();
    for custom in &vectors.custom {
        let provider = stored(&custom.provider);
        assert_eq!(check(&provider), [], "{}", custom.name);
        let mapping = Mapping::of(&provider).unwrap();
        for case in &custom.requests {
            let what = format!("{}: {}", custom.name, case.name);
            let rendered = mapping.request(&call(&vectors, &case.call));
            let rendered = rendered.unwrap_or_else(|problems| panic!("{what}: {problems:?}"));
            assert_eq!(rendered.request.body.as_ref(), Some(&case.body), "{what}");
            assert_eq!(json!(rendered.unused), case.unused, "{what}");
        }
        for case in &custom.refused {
            let problems = mapping.request(&call(&vectors, &case.call)).unwrap_err();
            let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
            assert_eq!(paths, case.paths, "{}: {}", custom.name, case.name);
        }
        for case in &custom.answers {
            let answer = mapping.answer(case.body.to_string().as_bytes());
            let answer = answer.unwrap_or_else(|error| panic!("{}: {}: {error}", custom.name, case.name));
            assert_eq!(shown_answer(&answer), case.expect, "{}: {}", custom.name, case.name);
        }
        for body in &custom.malformed {
            assert!(mapping.answer(body.as_bytes()).is_err(), "{}: {body}", custom.name);
        }
    }
}

#[test]
fn secret_headers_and_keys_are_placeholders() {
    let provider = stored(&json!({
        "type": "PROVIDER_TYPE_GROQ", "headers": {"x-team": {"plain": "a"}, "x-token": {"secret": {"state": "STATE_PRESENT"}}}
    }));
    let call =
        call(&vectors(), &json!({"model": "m", "messages": [{"role": "CHAT_ROLE_USER", "text": "x"}]}));
    let rendered = Mapping::of(&provider).unwrap().request(&call).unwrap();
    let shown = rendered.request.headers.iter().map(|one| (one.name.as_str(), one.value.as_str(), one.kind));
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            ("Authorization", "Bearer {api_key}", HeaderKind::ApiKey),
            ("Content-Type", "application/json", HeaderKind::Plain),
            ("x-team", "a", HeaderKind::Plain),
            ("x-token", "{secret}", HeaderKind::Secret),
        ]
    );
}

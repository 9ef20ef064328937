//! Filters by example, on any text, and against a reference that evaluates the same trees by hand.

use proptest::prelude::*;

use super::*;
use crate::{
    kinds::tests::any_spec,
    proto::v1::{ApiKeySpec, HeaderValue, ProviderSpec, Secret, SettingSpec, header_value, setting_spec},
};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn provider() -> (ResourceName, Labels, Spec) {
    let spec = ProviderSpec {
        r#type: 5,
        display_name: "Groq Cloud".into(),
        models: vec!["llama-3".into(), "qwen".into()],
        headers: [("X-Team".to_owned(), HeaderValue { value: Some(header_value::Value::Plain("a".into())) })]
            .into(),
        context_window_tokens: 8192,
        enabled: Some(true),
        ..Default::default()
    };
    let name = ResourceName::parse("providers/groq").unwrap();
    (name, labels(&[("team", "search"), ("app.io/tier", "1")]), Spec::Provider(spec))
}

fn setting(value: setting_spec::Value) -> (ResourceName, Labels, Spec) {
    let spec = SettingSpec { value: Some(value), description: "some text".into() };
    (ResourceName::parse("settings/x").unwrap(), Labels::new(), Spec::Setting(spec))
}

#[track_caller]
fn matches(filter: &str, (name, labels, spec): &(ResourceName, Labels, Spec)) -> bool {
    Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}")).matches(name, labels, spec)
}

#[test]
fn comparisons_that_hold() {
    let provider = provider();
    for filter in [
        "",
        "  ",
        "enabled = true",
        "enabled=TRUE",
        "type = GROQ",
        "type = groq",
        "provider.type = PROVIDER_TYPE_GROQ",
        "type != OPENAI",
        "name = providers/groq",
        "name : GRO",
        "name >= \"providers/\" AND name < 'providers0'",
        "kind = provider",
        "kind != setting",
        "labels.team = search",
        "labels.team != other",
        "labels.none != other",
        "labels.app.io/tier = 1",
        "labels.team : *",
        "labels : team",
        "labels : *",
        "provider.display_name : \"gro\"",
        "displayName : cloud",
        "display_name = \"Groq Cloud\"",
        "models : llama-3",
        "headers : X-Team",
        "headers.X-Team.plain = a",
        "headers.X-Team : *",
        "headers.X-None.plain != a",
        "context_window_tokens > 8000",
        "context_window_tokens <= 8192",
        "max_output_tokens = 0",
        "base_url = \"\"",
        "-enabled = false",
        "NOT NOT enabled = true",
        "NOT base_url : *",
        "NOT int_value = 1",
        "NOT auth : *",
        "auth.scheme != BEARER",
        "(enabled = true)AND(type = GROQ)",
        "enabled = false OR type = GROQ",
        // OR binds tighter than AND.
        "type = GROQ OR type = XAI AND enabled = true",
        "description = '' OR enabled = false",
    ] {
        assert!(matches(filter, &provider), "{filter}");
    }
}

#[test]
fn comparisons_that_do_not_hold() {
    let provider = provider();
    for filter in [
        "enabled = false",
        "enabled != true",
        "type = OPENAI",
        "kind = setting",
        "labels.none = x",
        "labels.none : *",
        "labels : none",
        "models : llama",
        "models : qwen-2",
        "capabilities : *",
        "auth.scheme = BEARER",
        "headers : x-none",
        "int_value != 1",
        "active = true",
        "enabled = true AND type = XAI",
        "type = XAI AND enabled = true OR enabled = true",
    ] {
        assert!(!matches(filter, &provider), "{filter}");
    }
}

#[test]
fn values_of_settings() {
    use setting_spec::Value;
    let three = setting(Value::IntValue(-3));
    assert!(matches("int_value = -3 AND setting.int_value < 0", &three));
    assert!(!matches("string_value : *", &three));
    assert!(matches("int_value : * AND description : TEXT", &three));
    assert!(matches("float_value >= 1.5e0", &setting(Value::FloatValue(1.5))));
    let large = setting(Value::IntValue(i64::MAX));
    assert!(matches("int_value = 9223372036854775807", &large));
    assert!(!matches("int_value = 9223372036854775806", &large));
    let short = setting(Value::DurationValue(prost_types::Duration { seconds: -1, nanos: -500_000_000 }));
    assert!(matches("duration_value = -1.5s AND duration_value < 1s", &short));
    let text = setting(Value::StringValue("a \"b\" \\ 'c'".into()));
    assert!(matches(r#"string_value = "a \"b\" \\ 'c'""#, &text));
    assert!(matches(r#"string_value : '"B"'"#, &text));
}

#[test]
fn errors_name_the_place_and_what_is_right() {
    for (filter, position, hint) in [
        ("enabled", 8, "expected one of `=`"),
        ("enabled = ", 11, "expected a value"),
        ("= true", 1, "expected a field"),
        ("enabled = true and type = GROQ", 16, "capital letters"),
        ("enabled = true type = GROQ", 16, "expected `AND` or `OR`"),
        ("enabled = true AND", 19, "expected a field"),
        ("(enabled = true", 1, "not closed"),
        ("enabled = true)", 15, "closes nothing"),
        ("name = \"x", 8, "quote is not closed"),
        ("nothing = 1", 1, "known are name, kind, labels.<key>, provider.type"),
        ("ü = 1 AND nothing = 1", 1, "no field `\"ü\"`"),
        ("enabled = maybe", 11, "`true` or `false`"),
        ("enabled > true", 11, "no order"),
        ("type = NOTHING", 8, "known are OPENAI, ANTHROPIC"),
        ("type > GROQ", 8, "no order"),
        ("kind = nothing", 8, "known are provider, api_key, setting"),
        ("kind : provider", 1, "`=` or `!=`"),
        ("weight = 1.5", 10, "a whole number"),
        ("float_value = nan", 15, "a number"),
        ("duration_value > 5", 18, "such as `1.5s`"),
        ("models = x", 10, "ask with `:`"),
        ("auth = x", 8, "name one of them"),
        ("api_key = x", 1, "compare `kind = api_key`"),
        ("labels = x", 1, "compare one label"),
        ("secret : *", 1, "secrets can't be filtered by"),
        ("api_key.secret = x", 1, "secrets can't be filtered by"),
        ("api_key.secret.value : x", 1, "secrets can't be filtered by"),
        ("setting.secret_value.state = 1", 1, "secrets can't be filtered by"),
        ("headers.X.secret.value = x", 1, "secrets can't be filtered by"),
        ("headers.X.secret : *", 1, "secrets can't be filtered by"),
        ("display_name.x = 1", 1, "nothing follows after `display_name`"),
    ] {
        let error = Filter::parse(filter).map(|_| ()).unwrap_err();
        assert_eq!(error.position, position, "{filter}: {error}");
        assert!(error.message.contains(hint), "{filter}: {error}");
    }
}

/// The list was cut before it came to the kind that is asked for.
#[test]
fn regression_the_fields_of_the_kind_are_told() {
    let error = Filter::parse_of("value = 3", Some(KindName("setting"))).map(|_| ()).unwrap_err();
    assert!(error.message.contains("known are name, kind, labels.<key>, setting."), "{error}");
    assert!(!error.message.contains("provider."), "{error}");
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}enabled=true{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&nested(31)).is_ok());
    assert!(Filter::parse(&nested(32)).unwrap_err().message.contains("nested"));
    assert!(Filter::parse(&"-".repeat(4000)).unwrap_err().message.contains("nested"));
    let long = format!("name = \"{}\"", "x".repeat(4096));
    assert!(Filter::parse(&long).unwrap_err().message.contains("at most 4096"));
}

/// The same trees, evaluated without descriptors.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(&'static str, fn(&str, &Labels, &Spec) -> bool),
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
}

impl Tree {
    fn text(&self) -> String {
        let join = |parts: &[Tree], word| parts.iter().map(Tree::text).collect::<Vec<_>>().join(word);
        match self {
            Tree::Leaf(text, _) => (*text).to_owned(),
            Tree::All(parts) => format!("({})", join(parts, " AND ")),
            Tree::Any(parts) => format!("({})", join(parts, " OR ")),
            Tree::Not(part) => format!("NOT {}", part.text()),
        }
    }

    fn holds(&self, name: &str, labels: &Labels, spec: &Spec) -> bool {
        match self {
            Tree::Leaf(_, test) => test(name, labels, spec),
            Tree::All(parts) => parts.iter().all(|part| part.holds(name, labels, spec)),
            Tree::Any(parts) => parts.iter().any(|part| part.holds(name, labels, spec)),
            Tree::Not(part) => !part.holds(name, labels, spec),
        }
    }
}

fn provider_of(spec: &Spec) -> Option<&ProviderSpec> {
    if let Spec::Provider(spec) = spec { Some(spec) } else { None }
}

/// Of the kinds that have one.
fn enabled_of(spec: &Spec) -> Option<Option<bool>> {
    match spec {
        Spec::Provider(spec) => Some(spec.enabled),
        Spec::Tool(spec) => Some(spec.enabled),
        _ => None,
    }
}

fn key_of(spec: &Spec) -> Option<&ApiKeySpec> {
    if let Spec::ApiKey(spec) = spec { Some(spec) } else { None }
}

fn int_of(spec: &Spec) -> Option<Option<i64>> {
    match spec {
        Spec::Setting(SettingSpec { value: Some(setting_spec::Value::IntValue(number)), .. }) => {
            Some(Some(*number))
        }
        Spec::Setting(_) => Some(None),
        _ => None,
    }
}

const LEAVES: [Tree; 13] = [
    Tree::Leaf("name : some", |name, _, _| name.contains("some")),
    Tree::Leaf("kind = api_key", |_, _, spec| key_of(spec).is_some()),
    Tree::Leaf("labels.a = \"1\"", |_, labels, _| labels.get("a").is_some_and(|value| value == "1")),
    Tree::Leaf("labels.a != 1", |_, labels, _| labels.get("a").is_none_or(|value| value != "1")),
    Tree::Leaf("enabled = true", |_, _, spec| enabled_of(spec).is_some_and(|it| it == Some(true))),
    Tree::Leaf("enabled != true", |_, _, spec| enabled_of(spec).is_some_and(|it| it != Some(true))),
    Tree::Leaf("type = GROQ", |_, _, spec| provider_of(spec).is_some_and(|it| it.r#type == 5)),
    Tree::Leaf("headers : a", |_, _, spec| provider_of(spec).is_some_and(|it| it.headers.contains_key("a"))),
    Tree::Leaf("models : ab", |_, _, spec| {
        provider_of(spec).is_some_and(|it| it.models.iter().any(|model| model == "ab"))
    }),
    Tree::Leaf("weight >= 500", |_, _, spec| {
        key_of(spec).is_some_and(|it| it.weight.is_some_and(|it| it >= 500))
    }),
    // Every kind has one.
    Tree::Leaf("description < 'm'", |_, _, spec| {
        let json = crate::domain::spec::to_value(spec).unwrap_or_default();
        let content = json.as_object().and_then(|arm| arm.values().next());
        content.is_some_and(|it| it["description"].as_str().unwrap_or_default() < "m")
    }),
    Tree::Leaf("int_value < 0", |_, _, spec| int_of(spec).is_some_and(|it| it.is_some_and(|it| it < 0))),
    Tree::Leaf("int_value != 0", |_, _, spec| int_of(spec).is_some_and(|it| it.is_none_or(|it| it != 0))),
];

fn any_tree() -> impl Strategy<Value = Tree> {
    let leaf = (0..LEAVES.len()).prop_map(|index| LEAVES[index].clone());
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Tree::All),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Tree::Any),
            inner.prop_map(|part| Tree::Not(Box::new(part))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn agrees_with_the_reference(tree in any_tree(), (name, spec) in any_spec(), label in 0..3u8) {
        let name = ResourceName::parse(&name).unwrap();
        let labels = labels(match label { 0 => &[], 1 => &[("a", "1")], _ => &[("a", "2")] });
        let filter = Filter::parse(&tree.text()).unwrap();
        prop_assert_eq!(
            filter.matches(&name, &labels, &spec),
            tree.holds(name.as_str(), &labels, &spec),
            "{}", tree.text()
        );
    }

    #[test]
    fn no_text_is_too_odd(text in "\\PC{0,60}") {
        drop(Filter::parse(&text));
    }

    #[test]
    fn nor_is_one_that_looks_like_a_filter(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "enabled", "type", "labels.a", "secret", "int_value", "=", "!=", ":", "<", "(", ")", "AND", "OR",
                "NOT", "-", "\"", "'", "\\", "*", "true", "1", "GROQ", "ü", " ", "`", ".", "headers",
            ]),
            0..24,
        ),
        (name, spec) in any_spec(),
    ) {
        for separator in ["", " "] {
            if let Ok(filter) = Filter::parse(&parts.join(separator)) {
                let _: bool = filter.matches(&ResourceName::parse(&name).unwrap(), &Labels::new(), &spec);
            }
        }
    }
}

#[test]
fn a_secret_s_value_never_decides() {
    let key = |value: &str| ApiKeySpec {
        secret: Some(Secret { value: Some(value.to_owned()), state: 0 }),
        ..Default::default()
    };
    let name = ResourceName::parse("providers/a/apiKeys/b").unwrap();
    for filter in ["name : b", "description : s", "kind = api_key"] {
        let filter = Filter::parse(filter).unwrap();
        let holds = |value| filter.matches(&name, &Labels::new(), &Spec::ApiKey(key(value)));
        assert_eq!(holds("s"), holds("t"));
    }
}

//! Masks by example, and what holds for all of them.

use proptest::prelude::*;

use super::*;
use crate::{
    kinds::tests::{any_spec, secret},
    proto::v1::{
        ApiKeySpec, HeaderValue, ProviderAuth, ProviderSpec, Secret, SettingSpec, header_value,
        secret::State, setting_spec,
    },
};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn header(value: header_value::Value) -> HeaderValue {
    HeaderValue { value: Some(value) }
}

fn plain(text: &str) -> HeaderValue {
    header(header_value::Value::Plain(text.to_owned()))
}

fn base() -> ProviderSpec {
    ProviderSpec {
        display_name: "old".into(),
        description: "kept".into(),
        auth: Some(ProviderAuth { scheme: 3, header_template: "x: {api_key}".into() }),
        headers: [("A".to_owned(), plain("1")), ("B".to_owned(), plain("2"))].into(),
        models: vec!["m".into()],
        enabled: Some(true),
        ..Default::default()
    }
}

fn mask(paths: &[&str]) -> Mask {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    Mask::parse(&paths, KindName("provider"), "update_mask").unwrap()
}

fn applied(paths: &[&str], patch: ProviderSpec) -> ProviderSpec {
    let (base, patch) = (Spec::Provider(base()), Spec::Provider(patch));
    match mask(paths).apply((&Labels::new(), &base), (&Labels::new(), Some(&patch))) {
        (_, Spec::Provider(spec)) => spec,
        _ => panic!("another arm"),
    }
}

#[test]
fn a_path_sets_or_clears_what_it_names_and_nothing_else() {
    let patch =
        ProviderSpec { display_name: "new".into(), description: "ignored".into(), ..Default::default() };
    assert_eq!(
        applied(&["provider.display_name"], patch.clone()),
        ProviderSpec { display_name: "new".into(), ..base() }
    );
    assert_eq!(
        applied(&["provider.displayName", "provider.enabled", "provider.models"], patch.clone()),
        ProviderSpec { display_name: "new".into(), enabled: None, models: vec![], ..base() }
    );
    let auth = Some(ProviderAuth { scheme: 3, header_template: String::new() });
    assert_eq!(applied(&["provider.auth.header_template"], patch.clone()), ProviderSpec { auth, ..base() });
    assert_eq!(applied(&["provider.capabilities.chat"], patch.clone()), base());
    assert_eq!(applied(&["provider"], patch.clone()), patch);
}

#[test]
fn entries_of_maps_have_paths() {
    let patch = ProviderSpec { headers: [("B".to_owned(), plain("3"))].into(), ..Default::default() };
    let headers = |paths: &[&str]| applied(paths, patch.clone()).headers;
    assert_eq!(headers(&["provider.headers.B"])["B"], plain("3"));
    assert_eq!(headers(&["provider.headers.B"]).len(), 2);
    assert_eq!(headers(&["provider.headers.A"]).len(), 1);
    assert_eq!(headers(&["provider.headers"]), patch.headers);
    assert_eq!(headers(&["provider.headers.B.plain"])["B"], plain("3"));
    assert_eq!(headers(&["provider.headers.C.secret"]), base().headers);
}

#[test]
fn without_paths_the_populated_fields_are_taken() {
    let patch = ProviderSpec {
        display_name: "new".into(),
        auth: Some(ProviderAuth { scheme: 2, ..Default::default() }),
        headers: [("C".to_owned(), plain("3"))].into(),
        enabled: Some(false),
        ..Default::default()
    };
    let expected = ProviderSpec {
        auth: Some(ProviderAuth { scheme: 2, header_template: "x: {api_key}".into() }),
        models: base().models,
        description: "kept".into(),
        ..patch.clone()
    };
    assert_eq!(applied(&[], patch), expected);
    assert_eq!(applied(&[], ProviderSpec::default()), base());
}

#[test]
fn labels_are_masked_as_well() {
    let (base, old, new) =
        (Spec::Provider(base()), labels(&[("a", "1"), ("b.c", "1")]), labels(&[("a", "2")]));
    let result = |paths: &[&str], patch: Option<&Spec>| mask(paths).apply((&old, &base), (&new, patch));
    assert_eq!(result(&["labels.a"], None), (labels(&[("a", "2"), ("b.c", "1")]), base.clone()));
    assert_eq!(result(&["labels.b.c"], None).0, labels(&[("a", "1")]));
    assert_eq!(result(&["labels"], None), (new.clone(), base.clone()));
    assert_eq!(result(&[], None), (new.clone(), base.clone()));
    assert_eq!(result(&["provider.display_name"], Some(&base)).0, old);
    let empty = Spec::Provider(ProviderSpec::default());
    assert_eq!(result(&["*"], None), (new.clone(), empty.clone()));
    assert_eq!(result(&["*"], Some(&empty)), (new.clone(), empty));
}

#[test]
fn members_of_a_oneof_take_each_other_s_place() {
    use setting_spec::Value;
    let setting = |value| Spec::Setting(SettingSpec { value, ..Default::default() });
    let (base, none) = (setting(Some(Value::IntValue(1))), Labels::new());
    let result = |path: &str, patch: Option<Value>| {
        let mask = Mask::parse(&[path.to_owned()], KindName("setting"), "update_mask").unwrap();
        mask.apply((&none, &base), (&none, Some(&setting(patch)))).1
    };
    assert_eq!(result("setting.int_value", Some(Value::IntValue(0))), setting(Some(Value::IntValue(0))));
    let text = Some(Value::StringValue("a".into()));
    assert_eq!(result("setting.string_value", text.clone()), setting(text));
    assert_eq!(result("setting.stringValue", None), base);
    assert_eq!(result("setting.int_value", None), setting(None));
}

#[test]
fn a_secret_is_one_field() {
    let key = |secret| Spec::ApiKey(ApiKeySpec { secret, weight: Some(2), ..Default::default() });
    let state = |state: State| Some(Secret { value: None, state: state.into() });
    let (base, none) = (key(state(State::Present)), Labels::new());
    let mask = Mask::parse(&["api_key.secret".into()], KindName("api_key"), "update_mask").unwrap();
    let result = |patch| mask.apply((&none, &base), (&none, Some(&key(patch)))).1;
    assert_eq!(result(Some(secret("new"))), key(Some(secret("new"))));
    assert_eq!(result(state(State::Absent)), key(state(State::Absent)));
    assert_eq!(result(None), key(None));
}

#[test]
fn paths_that_lead_nowhere_are_named() {
    for (path, hint) in [
        ("display_name", "did you mean `provider.display_name`?"),
        ("nothing", "paths begin with `labels` or `provider`"),
        ("", "paths begin with"),
        ("provider.nothing", "there is no `nothing` there, but `type`, `display_name`"),
        ("provider.models.0", "end the path with `models`"),
        ("provider.headers.X.secret.value", "end the path with `secret`"),
        ("name", "a rename is a delete and a create"),
        ("uid", "set by the server"),
        ("createTime", "set by the server"),
        ("version", "set by the server"),
        ("etag", "precondition"),
        ("setting.int_value", "of kind `setting`, but the resource is of kind `provider`"),
        ("spec", "paths begin with"),
        ("*", "must stand alone"),
        ("labels.", "lacks the key"),
        ("provider.headers..secret", "lacks the key"),
    ] {
        let paths = ["provider.type".to_owned(), path.to_owned()];
        let violations = Mask::parse(&paths, KindName("provider"), "update_mask").unwrap_err();
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].field, "update_mask.paths[1]");
        assert!(violations[0].description.contains(hint), "{path}: {}", violations[0].description);
    }
    let many = vec!["labels".to_owned(); 1001];
    assert_eq!(Mask::parse(&many, KindName("provider"), "update_mask").unwrap_err().len(), 1);
}

proptest! {
    // Of two specs at random only a few are of one kind.
    #![proptest_config(ProptestConfig { max_global_rejects: 65_536, ..ProptestConfig::default() })]

    #[test]
    fn replacing_everything_gives_the_patch((_, base) in any_spec(), (_, patch) in any_spec()) {
        prop_assume!(kind_of(&base) == kind_of(&patch));
        let (none, some) = (Labels::new(), labels(&[("a", "1")]));
        prop_assert_eq!(
            Mask::Everything.apply((&none, &base), (&some, Some(&patch))),
            (some.clone(), patch.clone())
        );
        let arm = Mask::parse(&[kind_of(&base).0.to_owned()], kind_of(&base), "m").unwrap();
        prop_assert_eq!(arm.apply((&some, &base), (&none, Some(&patch))), (some, patch));
    }

    #[test]
    fn own_populated_fields_change_nothing((_, base) in any_spec()) {
        let none = Labels::new();
        prop_assert_eq!(Mask::Populated.apply((&none, &base), (&none, Some(&base))).1, base);
    }

    #[test]
    fn no_path_is_too_odd(path in "\\PC{0,30}|([a-z_`.]{1,8}\\.){0,4}[a-z_]{0,8}") {
        drop(Mask::parse(&[path], KindName("provider"), "m"));
    }
}

#[test]
fn regression_a_message_that_is_given_empty_is_not_absent() {
    use crate::proto::v1::RequestBuilder;
    let stored = Spec::Provider(ProviderSpec {
        request_builder: Some(RequestBuilder { version: "1.0".into(), ..Default::default() }),
        ..base()
    });
    let given = Spec::Provider(ProviderSpec {
        request_builder: Some(RequestBuilder::default()),
        ..Default::default()
    });
    let none = Labels::new();
    let (_, Spec::Provider(after)) = Mask::Populated.apply((&none, &stored), (&none, Some(&given))) else {
        panic!("another kind")
    };
    assert_eq!(after.request_builder, Some(RequestBuilder::default()));
    assert_eq!(after.display_name, base().display_name, "the others stay");
    let part = RequestBuilder { stream_endpoint_path: "/s".into(), ..Default::default() };
    let given = Spec::Provider(ProviderSpec { request_builder: Some(part), ..Default::default() });
    let (_, Spec::Provider(after)) = Mask::Populated.apply((&none, &stored), (&none, Some(&given))) else {
        panic!("another kind")
    };
    assert_eq!(after.request_builder.unwrap().version, "1.0", "what is in it is merged");
    // The arm alone says only of which kind it is.
    let bare = Spec::Provider(ProviderSpec::default());
    assert_eq!(Mask::Populated.apply((&none, &stored), (&none, Some(&bare))).1, stored);
}

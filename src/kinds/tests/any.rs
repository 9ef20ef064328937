//! Any spec of the kinds that workers and gateways read, most of them sensible.

use proptest::prelude::*;

use super::{any_header, any_secret, any_spec};
use crate::{
    domain::record::Spec,
    proto::v1::{
        CachePolicySpec, DatabaseOption, DatabasePool, DatabaseSpec, FeatureFlagRule, FeatureFlagSpec,
        NotificationChannelSpec, Secret, VirtualKeyBudget, VirtualKeySpec, database_option,
        feature_flag_rule::Outcome,
    },
};

/// Any spec of any kind.
pub(super) fn of_every_kind() -> impl Strategy<Value = (String, Spec)> {
    prop_oneof![
        3 => any_spec(),
        1 => any_virtual_key().prop_map(|spec| ("virtualKeys/one".to_owned(), Spec::VirtualKey(spec))),
        1 => any_channel()
            .prop_map(|spec| ("notificationChannels/one".to_owned(), Spec::NotificationChannel(spec))),
        1 => any_flag().prop_map(|spec| ("featureFlags/one".to_owned(), Spec::FeatureFlag(spec))),
        1 => any_policy().prop_map(|spec| ("cachePolicies/one".to_owned(), Spec::CachePolicy(spec))),
        1 => any_database().prop_map(|spec| ("databases/main".to_owned(), Spec::Database(spec))),
    ]
}

fn any_duration() -> impl Strategy<Value = prost_types::Duration> {
    (-1..700i64, prop_oneof![Just(0), Just(1_000_000), Just(-5)])
        .prop_map(|(seconds, nanos)| prost_types::Duration { seconds, nanos })
}

fn any_database() -> impl Strategy<Value = DatabaseSpec> {
    let option = prop_oneof![
        "[a-z]{0,4}".prop_map(database_option::Value::Plain),
        any_secret().prop_map(database_option::Value::Secret)
    ];
    let options = proptest::collection::btree_map("[a-d]", proptest::option::weighted(0.9, option), 0..3);
    let pool = (0..12u32, proptest::option::of(0..12u32), proptest::option::of(any_duration()));
    let numbers = (1..9i32, prop_oneof![Just(0), 1..70_000u32], 0..7i32, any::<Option<bool>>());
    let texts = (prop_oneof![Just(""), Just("localhost"), Just("db.example"), Just("a b")], "[0-9]{0,3}");
    (options, pool, numbers, texts, proptest::option::of(any_secret())).prop_map(
        |(options, pool, numbers, texts, password)| DatabaseSpec {
            r#type: numbers.0,
            host: texts.0.to_owned(),
            port: numbers.1,
            database: texts.1.clone(),
            user: texts.1,
            password,
            tls_mode: numbers.2,
            options: options.into_iter().map(|(name, value)| (name, DatabaseOption { value })).collect(),
            pool: Some(DatabasePool {
                min_connections: pool.0,
                max_connections: pool.1,
                connect_timeout: pool.2,
                idle_timeout: pool.2,
                ..Default::default()
            }),
            enabled: numbers.3,
            ..Default::default()
        },
    )
}

fn any_virtual_key() -> impl Strategy<Value = VirtualKeySpec> {
    let providers = proptest::collection::vec(
        prop_oneof![4 => Just("providers/a"), 4 => Just("providers/b"), 1 => Just("c")],
        0..3,
    );
    let models = proptest::collection::btree_set("[a-z]{1,3}", 0..4);
    let budget = proptest::option::of((0..5u64, 0..6i32));
    let time = proptest::option::of((-1..i64::from(u32::MAX), 0..5i32));
    let made = (prop_oneof![4 => Just(""), 1 => Just("x")], proptest::option::weighted(0.3, any_secret()));
    (providers, models, budget, time, made, any::<Option<bool>>()).prop_map(
        |(providers, models, budget, time, made, enabled)| VirtualKeySpec {
            key_id: made.0.to_owned(),
            key_hash: made.1,
            allowed_models: models.into_iter().collect(),
            allowed_providers: providers.into_iter().map(str::to_owned).collect(),
            budget: budget.map(|(amount_micro_usd, period)| VirtualKeyBudget { amount_micro_usd, period }),
            expire_time: time.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
            enabled,
            ..Default::default()
        },
    )
}

fn any_channel() -> impl Strategy<Value = NotificationChannelSpec> {
    let given = |value: &str| Secret { value: Some(value.to_owned()), state: 0 };
    let url = prop_oneof![4 => Just(given("https://a.example/x")), 1 => any_secret()];
    let signing = proptest::option::of(prop_oneof![Just(given("0123456789abcdef")), any_secret()]);
    let selectors = proptest::collection::vec(
        prop_oneof![4 => Just("providers/*"), 4 => Just("kind:setting"), 1 => Just("x")],
        0..3,
    );
    let events = proptest::collection::vec(0..5i32, 0..3);
    let headers = proptest::collection::btree_map("[a-d]", any_header(), 0..3);
    (0..7i32, url, signing, selectors, events, headers, any::<Option<bool>>()).prop_map(
        |(r#type, url, signing_secret, selectors, events, headers, enabled)| NotificationChannelSpec {
            r#type,
            url: Some(url),
            signing_secret,
            selectors: selectors.into_iter().map(str::to_owned).collect(),
            events,
            headers,
            enabled,
            ..Default::default()
        },
    )
}

fn any_flag() -> impl Strategy<Value = FeatureFlagSpec> {
    let outcome = prop_oneof![
        any::<bool>().prop_map(Outcome::On),
        (0..10_100_u32).prop_map(Outcome::RolloutBasisPoints),
    ];
    let rule = (
        "[a-c]{0,2}",
        0..12i32,
        proptest::collection::vec("[0-9]{0,2}", 0..3),
        proptest::option::of(outcome),
    )
        .prop_map(|(attribute, operator, values, outcome)| FeatureFlagRule {
            attribute,
            operator,
            values,
            outcome,
        });
    let rules = proptest::collection::vec(rule, 0..2);
    (0..4i32, any::<Option<bool>>(), any::<bool>(), prop_oneof![Just(0), 0..10_100_u32], "[a-z]{0,3}", rules)
        .prop_map(|(r#type, enabled, default_on, rollout_basis_points, salt, rules)| FeatureFlagSpec {
            r#type,
            enabled,
            default_on,
            rollout_basis_points,
            salt,
            rules,
            ..Default::default()
        })
}

fn any_policy() -> impl Strategy<Value = CachePolicySpec> {
    let size = || proptest::option::of(prop_oneof![Just(0), 1000..1_000_000_u64]);
    let list = |last: i32| proptest::collection::btree_set(1..=last, 0..4);
    (any::<Option<bool>>(), proptest::option::of(any_duration()), 0..6i32, (size(), size()), list(9), list(9))
        .prop_map(|(enabled, ttl, scope, sizes, fields, kinds)| CachePolicySpec {
            enabled,
            ttl,
            scope,
            max_entries: sizes.0,
            max_bytes: sizes.1,
            key_fields: fields.into_iter().collect(),
            request_kinds: kinds.into_iter().collect(),
            ..Default::default()
        })
}

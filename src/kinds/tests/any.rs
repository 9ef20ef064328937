//! Any spec of the kinds that workers and gateways read, most of them sensible.

use proptest::prelude::*;

use super::{any_secret, any_spec};
use crate::{
    domain::record::Spec,
    proto::v1::{DatabaseOption, DatabasePool, DatabaseSpec, database_option},
};

/// Any spec of any kind.
pub(super) fn of_every_kind() -> impl Strategy<Value = (String, Spec)> {
    prop_oneof![
        3 => any_spec(),
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

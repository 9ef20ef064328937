//! A client with a full cache, and the reads that are measured.
//!
//! Owns what lies in the cache: resources of the mixed sort that a fleet has.

use std::hint::black_box;

use signalbox::{
    client::{Client, ClientOptions, Error, FlagContext, testing::Fake},
    proto::v1::{
        ApiKeySpec, FeatureFlagSpec, FeatureFlagType, PromptTemplateSpec, ProviderSpec, ProviderType,
        RouterSpec, Secret, SettingSpec, resource::Spec, setting_spec::Value,
    },
};

/// Resources in a full cache, beside a router.
pub const RESOURCES: usize = 10_000;
const KINDS: usize = 5;

/// A client, and what reads of it take with them.
pub struct Cache {
    client: Client,
    names: Vec<String>,
    everybody: FlagContext,
}

/// One read. Which turn it is says which resource is meant, where that varies.
pub type Read = fn(&Cache, usize);

/// What is measured.
pub struct Measured {
    /// Its name.
    pub name: &'static str,
    /// How it is done.
    pub read: Read,
    /// Whether it is one look into the cache, which the limit is for.
    pub is_one_look: bool,
}

const fn one(name: &'static str, read: Read) -> Measured {
    Measured { name, read, is_one_look: true }
}

const fn several(name: &'static str, read: Read) -> Measured {
    Measured { name, read, is_one_look: false }
}

/// All that is measured.
pub const READS: [Measured; 11] = [
    one("get", |cache, _| drop(black_box(cache.client.get("settings/k7")))),
    one("get, each resource in turn", |cache, turn| drop(black_box(cache.client.get(cache.name(turn))))),
    one("provider", |cache, _| drop(black_box(cache.client.provider("p7")))),
    one("prompt_template", |cache, _| drop(black_box(cache.client.prompt_template("t7")))),
    one("feature_flag", |cache, _| drop(black_box(cache.client.feature_flag("f7")))),
    one("setting_int", |cache, _| {
        black_box(cache.client.setting_int("k7")).ok();
    }),
    one("setting_int, in camelCase, by default", |cache, _| {
        black_box(cache.client.setting_int("maxRetries")).ok();
    }),
    one("snapshot", |cache, _| drop(black_box(cache.client.snapshot()))),
    several("flag, evaluated for a key", |cache, _| {
        black_box(cache.client.flag("f7", &cache.everybody, false));
    }),
    several("active_provider", |cache, _| drop(black_box(cache.client.active_provider()))),
    several("active_api_key", |cache, _| drop(black_box(cache.client.active_api_key("p7")))),
];

impl Cache {
    /// Fills a cache with so many resources.
    ///
    /// # Errors
    /// Outside of a tokio runtime.
    pub fn filled(resources: usize) -> Result<Self, Error> {
        let options = ClientOptions::new("http://unused");
        let fake = Fake::new(&options.default_setting("max_retries", Value::IntValue(5)))?;
        let mut names = Vec::new();
        for number in 0..resources.div_ceil(KINDS) {
            for (name, spec) in five(number) {
                fake.put(&name, spec);
                names.push(name);
            }
        }
        if resources > 0 {
            let primary = "providers/p7".to_owned();
            fake.put("routers/default", Spec::Router(RouterSpec { primary, ..RouterSpec::default() }));
        }
        Ok(Self { client: fake.client(), names, everybody: FlagContext::new("user-7") })
    }

    /// Resources in it.
    pub fn len(&self) -> usize {
        self.client.snapshot().len()
    }

    fn name(&self, turn: usize) -> &str {
        // A step that meets each of them, and none of its neighbours.
        self.names.get(turn.wrapping_mul(7_919) % self.names.len().max(1)).map_or("", String::as_str)
    }
}

fn five(number: usize) -> [(String, Spec); KINDS] {
    let provider = ProviderSpec {
        r#type: ProviderType::Groq.into(),
        base_url: format!("https://p{number}.example/v1"),
        models: ["a", "b", "c"].map(str::to_owned).to_vec(),
        ..ProviderSpec::default()
    };
    let secret = Some(Secret { value: Some("s".repeat(56)), ..Secret::default() });
    let value = i64::try_from(number).ok().map(Value::IntValue);
    let flag = FeatureFlagSpec {
        r#type: FeatureFlagType::Percentage.into(),
        rollout_basis_points: 5_000,
        salt: format!("salt-{number}"),
        ..FeatureFlagSpec::default()
    };
    let template = PromptTemplateSpec {
        template: "Summarise {{text}} in {{count}} sentences. ".repeat(10),
        ..PromptTemplateSpec::default()
    };
    [
        (format!("providers/p{number}"), Spec::Provider(provider)),
        (
            format!("providers/p{number}/apiKeys/main"),
            Spec::ApiKey(ApiKeySpec { secret, ..ApiKeySpec::default() }),
        ),
        (format!("settings/k{number}"), Spec::Setting(SettingSpec { value, ..SettingSpec::default() })),
        (format!("promptTemplates/t{number}"), Spec::PromptTemplate(template)),
        (format!("featureFlags/f{number}"), Spec::FeatureFlag(flag)),
    ]
}

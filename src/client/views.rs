//! Typed views of the kinds whose resources stand alone in their collection.
//!
//! Owns nothing but their shape: each reads one snapshot. Must not know streams.

use std::time::Duration;

use super::{
    entry::{CHANNEL_SIGNING_SECRET, CHANNEL_URL, DATABASE_PASSWORD, Held, SecretError},
    secret::SecretText,
    snapshot::Snapshot,
};
use crate::{
    model_id::{model_id_of, segment_of},
    proto::v1::{
        CachePolicySpec, DatabaseSpec, FeatureFlagSpec, ModelSpec, NotificationChannelSpec,
        PromptTemplateSpec, Resource, RouterSpec, ToolSpec, VirtualKeySpec, database_option, resource::Spec,
    },
};

/// A view of a kind: its id, its resource, its spec, and how a snapshot finds it where one id is enough for that.
macro_rules! view {
    ($(#[$doc:meta])* $view:ident, $spec:ident of $arm:ident $(, $collection:literal, $getter:ident)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $view(pub(super) Held);

        impl $view {
            pub(super) fn of(held: Held) -> Option<Self> {
                matches!(held.entry.resource.spec, Some(Spec::$arm(_))).then_some(Self(held))
            }

            /// Its id, the last segment of its name.
            #[must_use]
            pub fn id(&self) -> &str {
                self.resource().name.rsplit('/').next().unwrap_or_default()
            }

            /// The whole resource, masked.
            #[must_use]
            pub fn resource(&self) -> &Resource {
                &self.0.entry.resource
            }

            /// Its configuration; secrets are masked.
            #[must_use]
            pub fn spec(&self) -> &$spec {
                static NONE: std::sync::LazyLock<$spec> = std::sync::LazyLock::new(<$spec>::default);
                match &self.resource().spec {
                    Some(Spec::$arm(spec)) => spec,
                    // `of` lets no other in.
                    _ => &NONE,
                }
            }
        }

        $(impl Snapshot {
            #[doc = concat!("A resource of `", $collection, "/` by its id, also one that is disabled.")]
            #[must_use]
            pub fn $getter(&self, id: &str) -> Option<$view> {
                self.held($collection, id).and_then($view::of)
            }
        })?
    };
}

/// Whether what a view shows is switched on.
macro_rules! switchable {
    ($($view:ident)*) => {
        $(impl $view {
            /// Whether it may be used.
            #[must_use]
            pub fn enabled(&self) -> bool {
                self.spec().enabled.unwrap_or(true)
            }
        })*
    };
}

switchable!(Database VirtualKey NotificationChannel FeatureFlag CachePolicy Tool);

view!(
    /// A model of the catalogue, as it was in one snapshot.
    Model, ModelSpec of Model
);

view!(
    /// A prompt template, as it was in one snapshot.
    PromptTemplate, PromptTemplateSpec of PromptTemplate, "promptTemplates", prompt_template
);

view!(
    /// Who is asked, and who when that fails, as it was in one snapshot.
    ///
    /// The primary of `default` is the active provider: see [`Snapshot::active_provider`].
    Router, RouterSpec of Router, "routers", router
);

view!(
    /// A tool that a model may call, as it was in one snapshot.
    Tool, ToolSpec of Tool, "tools", tool
);

view!(
    /// A connection to a database, as it was in one snapshot.
    Database, DatabaseSpec of Database, "databases", database
);

view!(
    /// A key that a gateway takes from its callers, as it was in one snapshot.
    ///
    /// [`Snapshot::find_virtual_key`] finds the one that a caller presents.
    VirtualKey, VirtualKeySpec of VirtualKey, "virtualKeys", virtual_key
);

view!(
    /// Where changes are told to, as it was in one snapshot.
    NotificationChannel, NotificationChannelSpec of NotificationChannel,
    "notificationChannels", notification_channel
);

view!(
    /// A switch of a feature, as it was in one snapshot.
    FeatureFlag, FeatureFlagSpec of FeatureFlag, "featureFlags", feature_flag
);

view!(
    /// Which answers of providers are kept, as it was in one snapshot.
    CachePolicy, CachePolicySpec of CachePolicy, "cachePolicies", cache_policy
);

impl Snapshot {
    /// A model of the catalogue, by the id or the type of its provider (`openai`) and its own: as calls carry it
    /// (`meta-llama/Llama-3.1-8B`), or as it stands in the name, where a slash is a plus.
    #[must_use]
    pub fn model(&self, provider: &str, id: &str) -> Option<Model> {
        let segment = segment_of(id);
        let found = self.held("models", &format!("{provider}/{segment}")).and_then(Model::of)?;
        // What a name can't hold is a `-` there, so that several ids come to the same segment.
        let is_exact = segment == id || model_id_of(&segment) == id;
        (is_exact || found.spec().model_id == id).then_some(found)
    }
}

impl CachePolicy {
    /// How long an answer is good for.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.spec().ttl.and_then(crate::duration::read).unwrap_or_default()
    }
}

impl NotificationChannel {
    /// Where to post.
    ///
    /// # Errors
    /// Says why it can't be had.
    pub fn url(&self) -> Result<SecretText, SecretError> {
        self.0.secret(CHANNEL_URL)
    }

    /// What messages are signed with.
    ///
    /// # Errors
    /// Says why it can't be had; [`SecretError::Absent`] where the channel signs nothing.
    pub fn signing_secret(&self) -> Result<SecretText, SecretError> {
        self.0.secret(CHANNEL_SIGNING_SECRET)
    }

    /// The value of an extra header, sealed or not; `None` when there is no such header.
    ///
    /// # Errors
    /// Says why a sealed value can't be had.
    pub fn header(&self, name: &str) -> Result<Option<SecretText>, SecretError> {
        self.0.header("notification_channel", &self.spec().headers, name)
    }
}

impl Database {
    /// The user's password.
    ///
    /// # Errors
    /// Says why it can't be had; [`SecretError::Absent`] where the connection has none.
    pub fn password(&self) -> Result<SecretText, SecretError> {
        self.0.secret(DATABASE_PASSWORD)
    }

    /// The value of a further option, sealed or not; `None` when there is no such option.
    ///
    /// # Errors
    /// Says why a sealed value can't be had.
    pub fn option(&self, name: &str) -> Result<Option<SecretText>, SecretError> {
        match self.spec().options.get(name).and_then(|option| option.value.as_ref()) {
            None => Ok(None),
            Some(database_option::Value::Plain(text)) => Ok(Some(SecretText::new(text.as_str()))),
            Some(database_option::Value::Secret(_)) => {
                self.0.secret(&format!("database.options.{name}.secret")).map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        CachePolicySpec, DatabaseSpec, ModelSpec, NotificationChannelSpec, PromptTemplateSpec, Resource,
        RouterSpec, SecretError, Snapshot, Spec, ToolSpec, database_option::Value,
    };
    use crate::{
        client::entry::Entry,
        proto::v1::{DatabaseOption, Secret, SettingSpec},
    };

    fn put(snapshot: &mut Snapshot, name: &str, spec: Spec) {
        let resource = Resource { name: name.to_owned(), spec: Some(spec), ..Resource::default() };
        snapshot.upsert(Arc::new(Entry::new(resource)));
    }

    fn secret(value: &str) -> Secret {
        Secret { value: Some(value.to_owned()), ..Secret::default() }
    }

    #[test]
    fn resources_are_read_with_their_secrets() {
        let mut snapshot = Snapshot::default();
        let option = |value| DatabaseOption { value: Some(value) };
        let options = [
            ("application_name".to_owned(), option(Value::Plain("worker".to_owned()))),
            ("sslpassword".to_owned(), option(Value::Secret(secret("s3")))),
        ];
        let spec = DatabaseSpec {
            host: "db".to_owned(),
            password: Some(secret("hunter2")),
            options: options.into(),
            ..DatabaseSpec::default()
        };
        put(&mut snapshot, "databases/main", Spec::Database(spec));
        put(&mut snapshot, "databases/other", Spec::Setting(SettingSpec::default()));
        let database = snapshot.database("main").unwrap();
        assert_eq!((database.id(), database.enabled()), ("main", true));
        assert_eq!(database.spec().host, "db");
        assert_eq!(database.password().unwrap().expose(), "hunter2");
        let option = |name| database.option(name).map(|value| value.map(|value| value.expose().to_owned()));
        assert_eq!(option("application_name"), Ok(Some("worker".to_owned())));
        assert_eq!(option("sslpassword"), Ok(Some("s3".to_owned())));
        assert_eq!(option("none"), Ok(None));
        assert!(snapshot.database("none").is_none() && snapshot.database("other").is_none());
        put(
            &mut snapshot,
            "notificationChannels/ops",
            Spec::NotificationChannel(NotificationChannelSpec {
                url: Some(secret("https://a.example")),
                ..NotificationChannelSpec::default()
            }),
        );
        let channel = snapshot.notification_channel("ops").unwrap();
        assert_eq!(channel.url().unwrap().expose(), "https://a.example");
        assert_eq!(channel.signing_secret(), Err(SecretError::Absent));
        assert_eq!(channel.header("x"), Ok(None));
        let ttl = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let policy = CachePolicySpec { ttl, ..CachePolicySpec::default() };
        put(&mut snapshot, "cachePolicies/default", Spec::CachePolicy(policy));
        assert_eq!(snapshot.cache_policy("default").unwrap().ttl().as_secs(), 60);
        put(&mut snapshot, "databases/open", Spec::Database(DatabaseSpec::default()));
        assert_eq!(snapshot.database("open").unwrap().password(), Err(SecretError::Absent));
    }

    #[test]
    fn every_kind_has_its_getter() {
        let mut snapshot = Snapshot::default();
        let spec = ModelSpec { display_name: "Kimi".to_owned(), ..ModelSpec::default() };
        put(&mut snapshot, "models/groq/moonshotai+kimi-k2", Spec::Model(spec));
        let template = PromptTemplateSpec { template: "Hi".to_owned(), ..PromptTemplateSpec::default() };
        put(&mut snapshot, "promptTemplates/greet", Spec::PromptTemplate(template));
        let router = RouterSpec { primary: "providers/groq".to_owned(), ..RouterSpec::default() };
        put(&mut snapshot, "routers/default", Spec::Router(router));
        let tool = ToolSpec { enabled: Some(false), ..ToolSpec::default() };
        put(&mut snapshot, "tools/search", Spec::Tool(tool));
        for id in ["moonshotai/kimi-k2", "moonshotai+kimi-k2"] {
            let model = snapshot.model("groq", id).unwrap();
            assert_eq!((model.spec().display_name.as_str(), model.id()), ("Kimi", "moonshotai+kimi-k2"));
        }
        let spec = ModelSpec { model_id: "@cf/llama".to_owned(), ..ModelSpec::default() };
        put(&mut snapshot, "models/groq/cf+llama", Spec::Model(spec));
        assert!(
            snapshot.model("groq", "@cf/llama").is_some() && snapshot.model("groq", "cf/llama").is_some()
        );
        assert!(snapshot.model("groq", "~cf/llama").is_none(), "another id that comes to the same name");
        assert_eq!(snapshot.prompt_template("greet").unwrap().spec().template, "Hi");
        assert_eq!(snapshot.router("default").unwrap().spec().primary, "providers/groq");
        assert!(!snapshot.tool("search").unwrap().enabled());
        assert!(snapshot.model("groq", "other").is_none() && snapshot.prompt_template("default").is_none());
        // Longer than any name that is put together without an allocation.
        assert!(snapshot.tool(&"x".repeat(300)).is_none());
    }
}

//! The accepted shape of every format: the one place where it stands, for `signalbox explain import` and for whoever reads the code.
//!
//! Texts only. A change of a format goes together with a change of its text here.

/// `env`.
pub const ENV: &str = "\
Variables, one a line as in a shell, in the forms that .env files have.
- OPENAI_API_KEY, GROQ_API_KEY and so on: a provider and its key `env`. Where several hold one thing, the first counts:
  GOOGLE_API_KEY before GEMINI_API_KEY.
- OPENAI_BASE_URL, OLLAMA_HOST and so on: the base URL of that provider.
- OPENAI_ORG_ID, OPENAI_PROJECT_ID: headers of that provider.
- AZURE_OPENAI_ENDPOINT, OPENAI_API_VERSION: base URL and path of Azure OpenAI, which needs the first. It may be a target URI as
  the portal shows it, whose deployment becomes the default model.
- AWS_REGION, else AWS_DEFAULT_REGION: base URL of Bedrock, which needs one.
- DATABASE_URL, POSTGRES_URL, SUPABASE_DB_URL, MYSQL_URL, MONGODB_URL or MONGODB_URI, REDIS_URL: `databases/main`, `postgres`,
  `supabase`, `mysql`, `mongodb`, `redis`. One that leads where an earlier one leads is left out.
- PGHOST and the others of libpq: `databases/postgres`, unless one of those leads there or is called so.
What is empty counts as not set. Who is active is not decided by it.";

/// `catalogue`.
pub const CATALOGUE: &str = "\
It takes no file: the models come with this binary. One that was deleted here stays deleted; --replace brings it back.";

/// `admin-settings`.
pub const ADMIN_SETTINGS: &str = r#"
{
  "active_provider": "groq",
  "providers": {
    "groq": {
      "display_name": "Groq",
      "base_url": "https://api.groq.com",
      "endpoint": "/openai/v1/responses",
      "model": "openai/gpt-oss-120b",
      "api_key": "gsk_...",
      "enabled": true
    }
  }
}
Names may be in snake_case or camelCase. `providers` may be a list, whose items have a `name`. A file with one provider may
have its object as `provider` or `llm`, or the fields themselves at the top; its id is then its `name` or `provider`, else the
type that its base URL is of. What a provider is called elsewhere leads to the same one: `openai` is `providers/chatgpt`. In
a provider `type`, `models`, `auth_scheme`, `auth_header_template`, `headers`, `description`, `context_window_tokens` and
`max_output_tokens` are taken too, `api_base` for `base_url`, `endpoint_path` for `endpoint`, `default_model` for `model`. The
active provider is `active_provider`, else the one with `"active": true`, else the first where the store has none.
Everything else is told as not carried over."#;

/// `litellm`.
pub const LITELLM: &str = "\
The YAML file of the proxy.
- An entry of `model_list`: its provider, one for each type, base URL, version and organisation; and its model, unless it is
  there already.
- `api_key`, or else the variable that LiteLLM reads: a key of that provider. `os.environ/NAME` has the value that the variable
  has here, and is MISSING where it is not set.
- `api_base` of Azure's: the resource, or the target URI of a deployment, with the call behind it or without.
- `litellm_credential_name`: what that entry of `credential_list` says, where the entry of the model does not say it itself.
- `os.environ/NAME` elsewhere: its value, where that has the form of what is meant, because those fields are in the clear.
- `extra_headers`: headers of the provider, which entries with others do not share. Those that carry credentials, and those
  with `os.environ/NAME`, are secrets.
- A `model_name` with several providers or fallbacks: `routers/{model_name}`.
- The first entry and `default_fallbacks`: `routers/default`, where there is none.
- `num_retries`, `timeout`, `stream_timeout`, `retry_after`, `routing_strategy`, `fallbacks`: those of the routers.
- `cache`, `cache_params.ttl`: `cachePolicies/default`.
A `model` without a provider is one of whoever serves models of its name (`claude-...`), or whose key the variable holds.
Everything else is told by its path as not carried over, and so is a `model_name` that is another name than the model's,
because calls name their model themselves.";

/// `litellm-prices`.
pub const LITELLM_PRICES: &str = "\
An object with an object for each model. Taken are `litellm_provider`, `mode`, `max_input_tokens` (the context window too, where
nothing else has told one), `max_output_tokens`,
`max_tokens` where there is no `max_output_tokens`, the prices for a token of input and output, read from and written to the
cache, of reasoning and of sound, the flags `supports_...`, and `deprecation_date`. What else there is is told by name with
the number of models that have it. `sample_spec` is passed over.
What another file has told of a model stays, and this one fills in what is missing; --replace overwrites it. The catalogue that
comes with this binary yields.";

/// `models-dev`.
pub const MODELS_DEV: &str = "\
An object of providers, each with an object `models`. Taken are `name`, `tool_call`, `reasoning`, `structured_output`,
`temperature`, `knowledge`, `release_date`, `status`, `modalities`, `limit` and `cost`, whose prices are for a million tokens.
What else there is is told by name with the number of models that have it.
What another file has told of a model stays, and this one fills in what is missing; --replace overwrites it. The catalogue that
comes with this binary yields.";

/// What all files have in common.
const FILES: &str = "\
What is not valid fails the whole import, all of it told at once; --skip-invalid leaves it out instead, and what goes with it: with a
provider its keys and models, the router that begins with it, or its place among the fallbacks of another; with a key that can't be
opened nothing else.
Placeholders (`sk-ant-xxx`, `your-api-key`, `changeme`, `<key>`) are told, and are no keys.";

/// What files of models have in common.
const MODELS: &str = "\
A file that is no such object fails the whole import. An entry that is not valid is told and left out, and all others come in.
A model that something here could then no longer use as it does fails the whole import; --skip-invalid leaves it as it was.";

/// What every dump of a table has in common.
const DUMP: &str = "\
A dump is JSON (an array of rows, or a row a line) or CSV with a header and commas:
  psql -c \"\\copy (SELECT * FROM TABLE) TO dump.csv WITH (FORMAT csv, HEADER)\"
Columns that are not named here are told as not carried over.";

/// `settings`.
pub const SETTINGS: &str = "\
Rows with `setting_type` and the JSON column `config`.
- llm_provider: `provider`, `api_key` (sealed), `base_url`, `models`, `default_model` or `model`, `is_primary`, `is_fallback`
  become a provider, its key `settings`, and its place in `routers/default`.
- database: `type`, `host`, `port`, `database`, `user`, `password` (sealed) become a connection.
`name` (else what is in `config`) makes the id; `enabled`, `is_enabled` or `is_active` says whether it may be used. Rows of
other types are told as not carried over. Sealed is what Fernet made, in base64 once or twice.";

/// `llm-provider-configs`.
pub const LLM_PROVIDER_CONFIGS: &str = "\
Rows with the columns `provider_name`, `display_name`, `description`, `auth_scheme`, `auth_header_template`, `base_url`,
`endpoint_path_template`, `http_method`, `additional_headers`, `request_builder_config`, `response_extractor_config`,
`default_model`, `supported_models`, `model_capabilities`, `context_window_tokens`, `max_output_tokens_limit`, `is_active` and
`is_enabled`; all but the name may be missing. The active one becomes the primary of `routers/default`.
`api_key_encrypted` was sealed inside the database by pgcrypto, and only the database opens it: select it opened, as a column
`api_key`.";

/// `provider-configs`, and `api-keys`.
pub const PROVIDER_CONFIGS: &str = "\
Rows of both tables, in one file or in several; a row is a key if it has the column `encrypted_key` or `key_name`.
- provider_configs: `provider_type`, `name`, `is_default` and the JSON column `settings`, whose keys may be in snake_case or
  camelCase: `base_url`, `endpoint_path`, `model` or `default_model`, `models`, `headers`, `capabilities`, `description`,
  `display_name`, `enabled`, `context_window_tokens`, `max_output_tokens`.
- api_keys: `provider_type`, `key_name`, `encrypted_key` (Fernet, and never in the clear) or `api_key`, `is_active`.
Keys belonged to a type of providers; here they belong to a provider: the default one of the type, else its first, else one
that is made for them. Defaults of types go into `routers/default`; those of types that have one there stay, and --replace
overwrites them. The first of them becomes its primary where the store has none.";

/// `runtime-config`.
pub const RUNTIME_CONFIG: &str = "\
Rows with the columns `key`, `value`, `user_id`, and if they are there `value_type`, `description`, `updated_at`, `created_at`
and `id`. Keys get their one spelling (snake_case). Of several rows that come to one key of one user the newest stays: by
`updated_at`, else `created_at`, else `id`, else the place in the dump. A `user_id` that is NULL or empty is no user.
Times are such as 2026-01-31 12:00:00+00, 2026-01-31T12:00:00Z, 2026-01-31, Sat, 31 Jan 2026 12:00:00 +0000, or seconds
or milliseconds since 1970; others are told and not compared.
A value that shows a credential, such as a URL with a password, becomes a secret.
`value_type` may be string, int, float, bool, json, secret or duration, in the usual other words too. Without it a JSON value
has its own type, and a text that is written exactly as a number or a flag is taken for one. Well-known secrets are sealed,
whatever their type says; what Fernet sealed is opened first.";

/// `prompt-templates`.
pub const PROMPT_TEMPLATES: &str = "\
Rows with the columns `name` or `title`, else `id`; `template`, `content`, `prompt` or `body`; `system_prompt`; `description`;
`variables` (a list of names, or a map of them); and `llm_preferences` or `preferences`, a JSON column whose keys may be in
camelCase or snake_case. Every preference is kept: what has a parameter becomes it, the others are kept as JSON in the setting
`prompt_templates.{id}.preferences`. One that is not valid, by itself or beside another, is told and left to its default. Of
several that say the same, such as `top_k` and `topK`, one is taken and the others are told. What is a secret by its name is
told and left out. Variables are `{{name}}`; where `variables` are given, `{name}` of one of these is taken as well.";

/// A shape as it is told: with what all files have in common, and of a dump what all dumps have.
#[must_use]
pub fn told(shape: &str, is_dump: bool) -> String {
    let mut parts = vec![shape.trim()];
    if is_dump {
        parts.push(DUMP);
    }
    match shape {
        CATALOGUE => {}
        LITELLM_PRICES | MODELS_DEV => parts.push(MODELS),
        _ => parts.push(FILES),
    }
    parts.join("\n")
}

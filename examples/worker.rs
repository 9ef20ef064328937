//! A worker that prints what it is told, and never a secret.
//!
//! `SIGNALBOX_URL=http://127.0.0.1:50051 SIGNALBOX_TOKEN_FILE=data/admin.token cargo run --example worker`

use std::{error::Error, time::Duration};

use signalbox::{
    client::{ChangeEvent, Client, ClientOptions, Snapshot, Update},
    proto::v1::{Resource, Secret, header_value, resource::Spec, secret::State, setting_spec::Value},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::connect(ClientOptions::from_env())?;
    // Before the client is ready, so that nothing can fall between the state that is printed and its first change.
    let mut changes = client.subscribe();
    client.wait_ready(Duration::from_secs(30)).await?;
    loop {
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => {
                client.close().await;
                return Ok(stopped?);
            }
            update = changes.next() => match update {
                Some(Update::Changes(set)) => set.events.iter().for_each(print_event),
                Some(Update::Lagged { missed }) => println!("! too slow: {missed} change sets missed"),
                Some(Update::Resync(snapshot)) => print_all(&snapshot),
                None => return Ok(()),
            },
        }
    }
}

fn print_all(snapshot: &Snapshot) {
    println!("= {} resources at revision {}", snapshot.len(), snapshot.revision());
    for resource in snapshot.with_prefix("") {
        println!("  {} {}", resource.name, summary(resource));
    }
}

fn print_event(event: &ChangeEvent) {
    let summary = event.after.as_deref().map(summary).unwrap_or_default();
    println!("{} {:?} {} {summary}", event.revision, event.kind, event.name);
}

/// What can be shown of a resource in one line.
fn summary(resource: &Resource) -> String {
    match &resource.spec {
        Some(Spec::Provider(provider)) => {
            let secrets = provider.headers.values().filter_map(|header| match &header.value {
                Some(header_value::Value::Secret(secret)) => Some(set_or_unset(secret)),
                _ => None,
            });
            let enabled = provider.enabled.unwrap_or(true);
            let secrets: Vec<_> = secrets.collect();
            format!(
                "enabled={enabled} model={:?} url={} secret_headers={secrets:?}",
                provider.default_model, provider.base_url
            )
        }
        Some(Spec::ApiKey(key)) => {
            let secret = key.secret.as_ref().map_or("unset", set_or_unset);
            format!("active={} key={secret}", key.active.unwrap_or(true))
        }
        Some(Spec::Setting(setting)) => match &setting.value {
            Some(Value::SecretValue(secret)) => set_or_unset(secret).to_owned(),
            Some(value) => format!("{value:?}"),
            None => "unset".to_owned(),
        },
        // A worker shows what it uses.
        Some(_) | None => String::new(),
    }
}

fn set_or_unset(secret: &Secret) -> &'static str {
    match secret.state() {
        State::Present => "set",
        State::Undecryptable => "set, but undecryptable",
        State::Absent | State::Missing | State::Unspecified => "unset",
    }
}

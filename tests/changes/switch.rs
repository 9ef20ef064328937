//! The active provider on the command line: switched and switched back, and what stands against it.

use std::process::Output;

use crate::{
    harness::run,
    on_both_databases,
    place::Place,
    support::{
        active::{Callers, prepare},
        caller::Rights,
        keys::{record, wait_for_use},
    },
};
use signalbox::proto::v1::ApiKeyUsage;

on_both_databases! {
    the_active_provider_is_switched_on_the_command_line;
    the_use_of_keys_shows_in_lists;
}

/// A command line as an administrator.
struct Shell<'a> {
    place: &'a Place,
    token: String,
}

impl<'a> Shell<'a> {
    async fn new(place: &'a Place) -> Self {
        prepare(&Callers::new(vec![place.admin.clone()])).await;
        Self { place, token: place.admin.token_for("cli", &Rights::admin()).await }
    }

    async fn run(&self, line: &str) -> Output {
        let arguments: Vec<&str> = line.split(' ').collect();
        run(self.place.server.signalbox(&arguments).env("SIGNALBOX_TOKEN", &self.token)).await
    }

    /// What it prints when it is done.
    async fn prints(&self, line: &str) -> String {
        let output = self.run(line).await;
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says when it is refused with this code.
    async fn refused(&self, code: i32, line: &str) -> String {
        let output = self.run(line).await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {told}");
        told
    }

    async fn order(&self) -> Vec<String> {
        let shown = self.prints("switch").await;
        let words = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        words.collect()
    }
}

async fn the_active_provider_is_switched_on_the_command_line(place: Place) {
    let shell = Shell::new(&place).await;
    assert!(shell.refused(3, "switch").await.contains("`signalbox switch PROVIDER` makes one so"));
    shell.prints("switch a").await;
    assert_eq!(shell.order().await, ["active providers/a"]);
    let told = shell.prints("switch providers/b").await;
    assert!(told.contains("routers/default updated at revision"), "{told}");
    assert_eq!(shell.order().await, ["active providers/b", "fallback providers/a"]);
    assert!(shell.prints("switch a --dry-run").await.contains("would be updated"));
    shell.prints("switch a --no-fallbacks").await;
    assert_eq!(shell.order().await, ["active providers/a"]);
    shell.prints("switch a --fallback b").await;
    assert_eq!(shell.order().await, ["active providers/a", "fallback providers/b"]);

    assert!(shell.refused(5, "switch off").await.contains("is disabled"));
    assert!(shell.refused(5, "delete --yes providers/a").await.contains("is the active provider"));
    assert!(shell.refused(5, "set providers/a --field enabled=false").await.contains("switch to another"));
    shell.refused(2, "switch a --fallback b --no-fallbacks").await;
    assert_eq!(shell.order().await, ["active providers/a", "fallback providers/b"]);

    // A key is activated and deactivated like any field.
    let output = shell.run("set providers/a/apiKeys/k --field apiKey.active=false").await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && told.contains("warning: providers/a/apiKeys/k was the last"),
        "{told}"
    );
}

async fn the_use_of_keys_shows_in_lists(place: Place) {
    let shell = Shell::new(&place).await;
    let key = "providers/a/apiKeys/k";
    let last_used_at = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 });
    record(&place.admin, vec![ApiKeyUsage { name: key.to_owned(), last_used_at }]).await.unwrap();
    wait_for_use(&place.admin, key, 1_700_000_000).await;
    let list = shell.prints("list kind:api_key").await;
    let lines: Vec<&str> = list.lines().collect();
    assert!(["ACTIVE", "WEIGHT", "LAST USED"].iter().all(|heading| lines[0].contains(heading)), "{list}");
    assert!(lines[1].contains(key) && lines[1].contains("d ago"), "{list}");
    assert!(shell.prints(&format!("get {key}")).await.contains("last_used"));
    let plain = shell.prints("list kind:api_key -o json").await;
    assert!(!plain.contains("observations"), "{plain}");
    let asked = shell.prints("list kind:api_key --observations -o json").await;
    assert!(asked.contains("\"lastUsed\"") || asked.contains("last_used"), "{asked}");
}

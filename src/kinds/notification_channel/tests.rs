//! For every field of a notification channel what is accepted, and what is refused under which path.

use super::*;
use crate::{
    kinds::{
        DISABLED, ENABLED, ROTATED,
        tests::{plan, secret, wrong},
    },
    proto::v1::{HeaderValue, Secret, header_value::Value},
};

const NAME: &str = "notificationChannels/ops";
const SIGNATURE: &str = "0123456789abcdef";

fn spec(change: impl FnOnce(&mut NotificationChannelSpec)) -> Spec {
    let mut channel = NotificationChannelSpec {
        r#type: NotificationChannelType::Webhook.into(),
        url: Some(secret("https://hooks.example.com/x?token=y")),
        ..Default::default()
    };
    change(&mut channel);
    Spec::NotificationChannel(channel)
}

#[track_caller]
fn good(change: impl FnOnce(&mut NotificationChannelSpec)) {
    assert_eq!(plan(NAME, spec(change), None).1, []);
}

#[track_caller]
fn bad(path: &str, change: impl FnOnce(&mut NotificationChannelSpec)) {
    assert_eq!(wrong(NAME, spec(change)), [format!("notification_channel.{path}")]);
}

fn header(name: &str, value: Value) -> impl FnOnce(&mut NotificationChannelSpec) {
    let name = name.to_owned();
    move |spec| drop(spec.headers.insert(name, HeaderValue { value: Some(value) }))
}

#[test]
fn type_texts_and_switch() {
    for number in 1..=5 {
        good(|spec| spec.r#type = number);
    }
    bad("type", |spec| spec.r#type = 0);
    bad("type", |spec| spec.r#type = 99);
    good(|spec| spec.display_name = "On call".into());
    bad("display_name", |spec| spec.display_name = "a\n".into());
    good(|spec| spec.description = "one\ntwo".into());
    bad("description", |spec| spec.description = "x".repeat(4097));
    good(|spec| spec.enabled = Some(false));
    let (Spec::NotificationChannel(filled), _) = plan(NAME, spec(|_| ()), None) else { panic!() };
    assert_eq!(filled.enabled, Some(true));
}

#[test]
fn urls() {
    for url in [
        "https://hooks.slack.com/services/T0/B0/XXXX",
        "HTTPS://a.example:8443/?x=1&y=2",
        "https://8.8.8.8/hook",
        "https://[2606:4700::1111]/",
        "https://internal.corp.example/hook",
    ] {
        good(|spec| spec.url = Some(secret(url)));
    }
    for url in [
        "",
        "a.example",
        "http://a.example",
        "ftp://a.example",
        "https://",
        "https://u:p@a.example/",
        "https://@a.example",
        "https://a.example/#x",
        "https://a.example/ ",
        "https://a.example/\n",
        "https://a.example\\@b",
        "https://ä.example",
        "https://a:99999/",
        "https:a.example",
        &format!("https://a/{}", "x".repeat(2048)),
    ] {
        bad("url", |spec| spec.url = Some(secret(url)));
    }
    bad("url", |spec| spec.url = None);
    bad("url", |spec| spec.url = Some(Secret::default()));
}

/// What security.md refuses for calls, where the URL itself says it.
#[test]
fn addresses_that_are_not_public_are_refused() {
    for host in [
        "localhost",
        "LOCALHOST.",
        "x.localhost",
        "127.0.0.1",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.1",
        "198.18.0.1",
        "192.0.2.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:8.8.8.8]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1]",
        "[fd00::1]",
        "[ff02::1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[2001:db8::1]",
    ] {
        bad("url", |spec| spec.url = Some(secret(&format!("https://{host}/x"))));
    }
}

#[test]
fn signing_secrets() {
    good(|spec| spec.signing_secret = Some(secret(SIGNATURE)));
    good(|spec| spec.signing_secret = Some(Secret::default()));
    bad("signing_secret", |spec| spec.signing_secret = Some(secret("")));
    bad("signing_secret", |spec| spec.signing_secret = Some(secret(&SIGNATURE[1..])));
    bad("signing_secret", |spec| spec.signing_secret = Some(secret(&"x".repeat(1025))));
    bad("signing_secret", |spec| spec.signing_secret = Some(secret(&format!("{SIGNATURE}\n"))));
    bad("signing_secret", |spec| {
        spec.r#type = NotificationChannelType::Slack.into();
        spec.signing_secret = Some(secret(SIGNATURE));
    });
}

#[test]
fn selectors_and_events() {
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    good(|spec| spec.selectors = list(&["*", "providers/*", "kind:setting", "settings/maxRetries"]));
    for text in ["", "providers", "nothing/*", "kind:nothing", "a b", "providers/groq*"] {
        bad("selectors[0]", |spec| spec.selectors = list(&[text]));
    }
    bad("selectors[1]", |spec| spec.selectors = list(&["settings/maxRetries", "settings/max_retries"]));
    bad("selectors", |spec| {
        spec.selectors = (0..65).map(|number| format!("settings/s{number}")).collect();
    });
    good(|spec| spec.events = vec![1, 2, 3]);
    bad("events[0]", |spec| spec.events = vec![0]);
    bad("events[1]", |spec| spec.events = vec![1, 9]);
    bad("events[2]", |spec| spec.events = vec![1, 2, 1]);
    bad("events[1]", |spec| spec.events = vec![1; 10_000]);
}

#[test]
fn headers() {
    good(header("X-Team", Value::Plain("a".into())));
    good(header("Authorization", Value::Secret(secret("Bearer x"))));
    bad("headers.Authorization.plain", header("Authorization", Value::Plain("Bearer x".into())));
    bad("headers.Host", header("Host", Value::Plain("a".into())));
    bad("headers.Content-Type", header("Content-Type", Value::Plain("a".into())));
    bad("headers.Signalbox-Signature", header("Signalbox-Signature", Value::Secret(secret("a"))));
    bad("headers.X.secret", header("X", Value::Secret(secret("a\n"))));
}

#[test]
fn stored_secrets_do_not_follow_to_another_url() {
    let given = spec(|spec| {
        spec.signing_secret = Some(secret(SIGNATURE));
        header("X-Token", Value::Secret(secret("x")))(spec);
    });
    let (stored, violations) = plan(NAME, given, None);
    assert_eq!(violations, []);
    let changed = |change: fn(&mut NotificationChannelSpec)| {
        let Spec::NotificationChannel(mut after) = stored.clone() else { panic!() };
        change(&mut after);
        let found = plan(NAME, Spec::NotificationChannel(after), Some(&stored)).1;
        found.into_iter().map(|violation| violation.field).collect::<Vec<_>>()
    };
    let both = ["notification_channel.headers.X-Token.secret", "notification_channel.signing_secret"];
    assert_eq!(changed(|spec| spec.url = Some(secret("https://elsewhere.example"))), both);
    assert_eq!(changed(|spec| spec.description = "x".into()), [""; 0]);
    assert_eq!(changed(|spec| spec.signing_secret = Some(secret("fedcba9876543210"))), [""; 0]);
    assert_eq!(
        changed(|spec| {
            spec.url = Some(secret("https://elsewhere.example"));
            spec.signing_secret = Some(Secret { state: State::Absent.into(), ..Secret::default() });
            header("X-Token", Value::Secret(secret("new")))(spec);
        }),
        [""; 0]
    );
}

#[test]
fn actions_and_warnings() {
    let (on, off) = (spec(|_| ()), spec(|spec| spec.enabled = Some(false)));
    assert_eq!(NotificationChannel.action(&on, &off, true), DISABLED);
    assert_eq!(NotificationChannel.action(&off, &on, false), ENABLED);
    assert_eq!(NotificationChannel.action(&on, &on, true), ROTATED);
    let (stored, _) = plan(NAME, on, None);
    assert!(NotificationChannel.warnings(None, &stored).is_empty());
    let (mute, violations) = plan(NAME, spec(|spec| spec.url = None), Some(&stored));
    assert_eq!(violations, []);
    assert_eq!(NotificationChannel.warnings(Some(&stored), &mute).len(), 1);
}

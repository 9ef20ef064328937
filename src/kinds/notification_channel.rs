//! Where changes are told to: `notificationChannels/{id}`.
//!
//! Must not know how a notification is made or sent. What an address in a URL resolves to, the call judges; here only
//! what the URL itself says is refused.

use std::{collections::BTreeSet, net::IpAddr};

use url::{Host, Url};

use super::{
    CheckContext, Kind, SecretInput,
    headers::{check_headers, is_one_of},
    names::parse_pattern,
    put_out,
    rules::{
        DESCRIPTION_CHARS, NAME_CHARS, URL_BYTES, check_not_moved, is_loopback, names_metadata, unknown_value,
    },
    switched,
};
use crate::{
    domain::{
        Action, FeatureLevel, FieldPath, FieldViolation, KindName, ResourceName, Text, Violations, limits,
        record::Spec,
    },
    proto::v1::{NotificationChannelSpec, NotificationChannelType, NotificationEvent, secret::State},
};

/// The kind `notification_channel`.
pub struct NotificationChannel;

const URL: &str = "notification_channel.url";
const SIGNING_SECRET: &str = "notification_channel.signing_secret";
const SIGNING_BYTES: std::ops::RangeInclusive<usize> = 16..=1024;

/// Headers that the notification itself sets.
const OWN_HEADERS: [&str; 5] =
    ["content-type", "content-encoding", "user-agent", "signalbox-signature", "signalbox-timestamp"];

impl Kind for NotificationChannel {
    fn name(&self) -> KindName {
        KindName("notification_channel")
    }

    fn feature_level(&self, _: &Spec) -> FeatureLevel {
        FeatureLevel::KINDS
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["notificationChannels/{id}"]
    }

    fn fill_defaults(&self, spec: &mut Spec, _name: &ResourceName) {
        if let Spec::NotificationChannel(spec) = spec {
            spec.enabled.get_or_insert(true);
        }
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::NotificationChannel(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        check_type(spec, &mut violations);
        violations.text("notification_channel.display_name", &spec.display_name, Text::Line, NAME_CHARS);
        violations.text(
            "notification_channel.description",
            &spec.description,
            Text::Prose,
            DESCRIPTION_CHARS,
        );
        check_url(context, spec, &mut violations);
        check_signing_secret(context, spec, &mut violations);
        check_selectors(spec, &mut violations);
        check_events(spec, &mut violations);
        let own = |name: &str| {
            is_one_of(name, &OWN_HEADERS).then_some("is set by the notification itself; leave it out")
        };
        check_headers(context, &spec.headers, own, &mut violations);
        // A new URL can't be compared with the stored one, which is sealed: any counts as another.
        if replaced(context, URL).is_some() && context.before.is_some() {
            check_not_moved(context, "url", &mut violations);
        }
        violations.into_vec()
    }

    fn revoker(&self) -> Option<fn(&str, Option<&Spec>) -> bool> {
        Some(|action, after| put_out(action, after.map(is_enabled)))
    }

    fn action(&self, before: &Spec, after: &Spec, rotated: bool) -> Action {
        switched(is_enabled(before), is_enabled(after), rotated)
    }

    fn warnings(&self, _before: Option<&Spec>, after: &Spec) -> Vec<String> {
        let Spec::NotificationChannel(spec) = after else { return Vec::new() };
        let mute = is_enabled(after) && !has_url(spec);
        let warning = "the channel is enabled but has no URL; set `notification_channel.url`";
        mute.then(|| warning.to_owned()).into_iter().collect()
    }
}

fn check_type(spec: &NotificationChannelSpec, violations: &mut Violations) {
    let path = "notification_channel.type";
    match NotificationChannelType::try_from(spec.r#type) {
        Ok(NotificationChannelType::Unspecified) => {
            let problem = "is required, for example NOTIFICATION_CHANNEL_TYPE_SLACK, or NOTIFICATION_CHANNEL_TYPE_WEBHOOK \
                           for any receiver";
            violations.add(path, "REQUIRED", problem);
        }
        Ok(_) => {}
        Err(_) => violations.add(path, "UNKNOWN_VALUE", unknown_value(spec.r#type)),
    }
}

fn check_url(context: &CheckContext<'_>, spec: &NotificationChannelSpec, violations: &mut Violations) {
    if context.creates() && !has_url(spec) {
        violations.add(URL, "REQUIRED", "is required; give the URL as `value`");
    }
    // What is wrong with every secret, the engine says.
    let given = replaced(context, URL).filter(|url| !url.is_empty());
    if let Some(problem) = given.and_then(url_problem) {
        violations.add(URL, "INVALID_FORMAT", problem);
    }
}

/// What is wrong with a URL to post to, if anything. It is a secret, so nothing of it is repeated.
fn url_problem(text: &str) -> Option<&'static str> {
    if text.len() > URL_BYTES {
        return Some("is longer than 2048 bytes");
    }
    // The parser would mend some of these silently, and another parser in another way.
    if !text.bytes().all(|byte| byte.is_ascii_graphic())
        || text.contains(['\\', '{', '}', '<', '>', '"', '`', '^', '|'])
    {
        return Some(
            "may hold only the characters of a URL, in ASCII; check its ends for spaces and line breaks",
        );
    }
    let is_https = text.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    if !is_https {
        return Some("must begin with `https://`");
    }
    let Ok(url) = Url::parse(text) else {
        return Some("is not a URL with a host, such as `https://hooks.example.com/services/T0/B0`");
    };
    let authority = text[8..].split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        Some("must not hold a user name or password; send credentials in a secret header")
    } else if url.fragment().is_some() {
        Some("must not hold a fragment")
    } else if authority.is_empty() || url.port() == Some(0) {
        Some("must name a host, and no port 0")
    } else if names_metadata(&url) || !url.host().is_some_and(|host| is_public(&host)) {
        Some("must not name an address of this machine or of a private network; give a public one, or a name")
    } else {
        None
    }
}

/// Whether a host may be a public one: an address that is, or a name that does not say otherwise.
fn is_public(host: &Host<&str>) -> bool {
    let address: IpAddr = match host {
        Host::Domain(name) => return !is_loopback(name),
        Host::Ipv4(address) => (*address).into(),
        Host::Ipv6(address) => (*address).into(),
    };
    match address {
        IpAddr::V4(address) => {
            let [first, second, third, _] = address.octets();
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_documentation()
                // This network, shared address space, protocol assignments, benchmarks, reserved and broadcast.
                || first == 0
                || (first == 100 && second & 0xc0 == 64)
                || (first, second, third) == (192, 0, 0)
                || (first == 198 && second & 0xfe == 18)
                || first >= 240)
        }
        // Global unicast is 2000::/3; what wraps an IPv4 address (6to4, Teredo) and examples are not for webhooks.
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            first & 0xe000 == 0x2000
                && first != 0x2002
                && (first, second) != (0x2001, 0)
                && (first, second) != (0x2001, 0xdb8)
        }
    }
}

fn check_signing_secret(
    context: &CheckContext<'_>,
    spec: &NotificationChannelSpec,
    violations: &mut Violations,
) {
    let held = spec.signing_secret.as_ref().is_some_and(|secret| secret.state() != State::Absent);
    let typed =
        ![NotificationChannelType::Webhook, NotificationChannelType::Unspecified].contains(&spec.r#type());
    if held && typed {
        let problem =
            "goes with NOTIFICATION_CHANNEL_TYPE_WEBHOOK only, because no other receiver checks it; clear it";
        violations.add(SIGNING_SECRET, "NOT_ALLOWED", problem);
    }
    let Some(value) = replaced(context, SIGNING_SECRET).filter(|value| !value.is_empty()) else { return };
    if !SIGNING_BYTES.contains(&value.len()) {
        let (length, least, most) = (value.len(), SIGNING_BYTES.start(), SIGNING_BYTES.end());
        let problem = format!("has {length} bytes; {least} to {most} are allowed, 32 random ones are best");
        violations.add(SIGNING_SECRET, "OUT_OF_RANGE", problem);
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = "may hold only visible ASCII characters; check its ends for spaces and line breaks";
        violations.add(SIGNING_SECRET, "FORBIDDEN_CHARACTER", problem);
    }
}

fn check_selectors(spec: &NotificationChannelSpec, violations: &mut Violations) {
    let field = "notification_channel.selectors";
    violations.at_most(field, spec.selectors.len(), limits::SELECTORS, "selectors");
    let mut seen = BTreeSet::new();
    for (index, text) in spec.selectors.iter().enumerate().take(limits::SELECTORS) {
        let path = format!("{field}[{index}]");
        match parse_pattern(text) {
            None => {
                let problem = "is no selector; give a name, `providers/*` for everything beneath, `kind:setting` or `*`";
                violations.add(path, "INVALID_NAME", problem);
            }
            Some(pattern) if !seen.insert(pattern.to_text()) => {
                violations.add(path, "DUPLICATE", "is listed twice; list it once");
            }
            Some(_) => {}
        }
    }
}

fn check_events(spec: &NotificationChannelSpec, violations: &mut Violations) {
    let field = "notification_channel.events";
    let mut seen = BTreeSet::new();
    for (index, event) in spec.events.iter().enumerate() {
        let path = format!("{field}[{index}]");
        match NotificationEvent::try_from(*event) {
            Ok(NotificationEvent::Unspecified) => {
                let problem = "must be NOTIFICATION_EVENT_CREATED, _UPDATED or _DELETED";
                return violations.add(path, "REQUIRED", problem);
            }
            Ok(_) if seen.insert(event) => {}
            // One is enough: there may be as many as fit into a message.
            Ok(_) => return violations.add(path, "DUPLICATE", "is listed twice; list it once"),
            Err(_) => return violations.add(path, "UNKNOWN_VALUE", unknown_value(*event)),
        }
    }
}

/// The new value of a secret, if it is given one.
fn replaced<'a>(context: &CheckContext<'a>, path: &str) -> Option<&'a str> {
    match context.secrets.get(&FieldPath(path.to_owned())) {
        Some(SecretInput::Replace(value)) => Some(value.as_str()),
        _ => None,
    }
}

fn has_url(spec: &NotificationChannelSpec) -> bool {
    spec.url.as_ref().is_some_and(|url| url.state() != State::Absent)
}

fn is_enabled(spec: &Spec) -> bool {
    matches!(spec, Spec::NotificationChannel(spec) if spec.enabled.unwrap_or(true))
}

#[cfg(test)]
mod tests;

//! The page of diagnostics: what `GetStatus` tells, for people with a browser and nothing else.
//!
//! It is plain HTML, made here: no script, no style, nothing from elsewhere, and the policy that is sent along holds a
//! browser to that. What others may have written (addresses, warnings, names) is text and never markup. It must not know
//! more of the service than its status, so that the two can't disagree.

use std::{fmt::Display, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::answer;
use crate::{
    auth::Caller,
    replica::Seen,
    service::{Degradation, Service, Status},
};

const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// The page, as far as the caller may see it.
pub(super) async fn diagnostics(State(service): State<Arc<Service>>, request: Request) -> Response {
    let Some(caller) = Caller::among(request.extensions()) else {
        // The gate lets nobody in without a token.
        return answer::status(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
            "nobody is known to have asked",
        );
    };
    let status = service.status(caller).await;
    (HEADERS, page(&status, &service.degradations())).into_response()
}

fn page(status: &Status, degradations: &[Degradation]) -> String {
    let mut page = Page::default();
    page.0 += "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Signalbox</title></head>\n<body>\n";
    page.0 += "<h1>Signalbox</h1>\n";
    page.list("What to look at", &status.warnings);
    let degraded =
        degradations.iter().map(|degradation| format!("{}: {}", degradation.reason, degradation.description));
    page.list("Not at its best", &degraded.collect::<Vec<_>>());
    page.rows("Configuration", &configuration(status));
    page.rows("Store", &store(status));
    page.replicas(&status.replicas);
    page.list("Keys, the current one first", &status.key_ids);
    page.list("Resources with a secret that can't be opened", &status.undecryptable);
    page.0 += "</body>\n</html>\n";
    page.0
}

fn configuration(status: &Status) -> [(&'static str, String); 7] {
    [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("started", status.started.to_rfc3339()),
        ("revision", status.token.revision.to_string()),
        ("revision token", status.token.to_string()),
        ("oldest revision", status.floor.map(|floor| floor.to_string()).unwrap_or_default()),
        // Told only to who reaches everything, as the digest is.
        ("resources", status.digest.map(|_| status.resources.to_string()).unwrap_or_default()),
        ("state digest", status.digest.map(hex::encode).unwrap_or_default()),
    ]
}

fn store(status: &Status) -> [(&'static str, String); 7] {
    let touch = if status.freshness.stale { "lost" } else { "in touch" };
    [
        ("kind", format!("{} (schema {})", status.store_kind, status.schema_version)),
        ("state", format!("{touch}, confirmed {:.1} s ago", status.freshness.confirmed_age.as_secs_f64())),
        ("doorbell", status.doorbell.to_string()),
        ("feature level", status.feature_level.to_string()),
        ("store id", status.store_id.0.clone()),
        ("epoch", status.epoch.to_string()),
        ("watchers", status.watchers.to_string()),
    ]
}

/// HTML that grows. Every text passes [`Page::text`].
#[derive(Default)]
struct Page(String);

impl Page {
    fn text(&mut self, text: impl Display) {
        for letter in text.to_string().chars() {
            match letter {
                '&' => self.0 += "&amp;",
                '<' => self.0 += "&lt;",
                '>' => self.0 += "&gt;",
                '"' => self.0 += "&quot;",
                '\'' => self.0 += "&#39;",
                // What is not seen, or turns the direction of what is: shown as what it is.
                letter if letter.is_control() || is_invisible(letter) => {
                    self.0.extend(letter.escape_unicode())
                }
                letter => self.0.push(letter),
            }
        }
    }

    fn element(&mut self, name: &str, text: impl Display) {
        self.0 += &format!("<{name}>");
        self.text(text);
        self.0 += &format!("</{name}>");
    }

    /// A list under a title, unless it is empty.
    fn list(&mut self, title: &str, items: &[String]) {
        if items.is_empty() {
            return;
        }
        self.element("h2", title);
        self.0 += "\n<ul>\n";
        for item in items {
            self.element("li", item);
            self.0.push('\n');
        }
        self.0 += "</ul>\n";
    }

    /// What is known, a row each; what is not told is left out.
    fn rows(&mut self, title: &str, rows: &[(&str, String)]) {
        self.element("h2", title);
        self.0 += "\n<table>\n";
        for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            self.0 += "<tr>";
            self.element("th", name);
            self.element("td", value);
            self.0 += "</tr>\n";
        }
        self.0 += "</table>\n";
    }

    fn replicas(&mut self, replicas: &[Seen]) {
        const COLUMNS: [&str; 9] = [
            "address",
            "id",
            "version",
            "feature level",
            "revision",
            "state digest",
            "watchers",
            "doorbell",
            "heard",
        ];
        if replicas.is_empty() {
            return;
        }
        self.element("h2", "Replicas");
        self.0 += "\n<table>\n<tr>";
        COLUMNS.iter().for_each(|column| self.element("th", column));
        self.0 += "</tr>\n";
        for Seen { heartbeat, age, own } in replicas {
            let heard = match own {
                true => "answers this".to_owned(),
                false => format!("{:.1} s ago", age.as_secs_f64()),
            };
            let cells = [
                heartbeat.address.clone(),
                heartbeat.id.0.clone(),
                heartbeat.version.clone(),
                heartbeat.feature_level.to_string(),
                heartbeat.revision.to_string(),
                hex::encode(heartbeat.digest),
                heartbeat.watchers.to_string(),
                heartbeat.doorbell.clone(),
                heard,
            ];
            self.0 += "<tr>";
            cells.iter().for_each(|cell| self.element("td", cell));
            self.0 += "</tr>\n";
        }
        self.0 += "</table>\n";
    }
}

/// Marks of direction, and what has no width.
const fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text() {
        let mut page = Page::default();
        page.list("<i>", &["<script>alert('1')</script> & \"x\"\n\u{202e}".to_owned()]);
        assert_eq!(
            page.0,
            "<h2>&lt;i&gt;</h2>\n<ul>\n<li>&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &quot;x&quot;\\u{a}\\u{202e}</li>\n</ul>\n"
        );
    }

    #[test]
    fn what_is_not_told_has_no_row() {
        let mut page = Page::default();
        page.rows("Store", &[("epoch", "7".to_owned()), ("digest", String::new())]);
        page.list("Keys", &[]);
        page.replicas(&[]);
        assert_eq!(page.0, "<h2>Store</h2>\n<table>\n<tr><th>epoch</th><td>7</td></tr>\n</table>\n");
    }
}

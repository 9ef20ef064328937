//! The only map from errors to the wire.
//!
//! Every status carries `ErrorInfo` with a stable reason, so that no client has to read a message. What is internal
//! goes to the log under a correlation id, and only the id goes out.

use std::collections::HashMap;

use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, FieldViolation as WireViolation, StatusExt};

use crate::{
    auth::Refused,
    domain::{Error, FieldViolation, Unmet},
};

/// Whose reasons these are.
pub const DOMAIN: &str = "signalbox";
/// A status travels in trailers, of which some clients take no more than 8 KiB in all (Netty's default; gRPC's core has 16).
/// The details are in there in base64, and hold the message again.
const MAX_VIOLATION_BYTES: usize = 4_000;
/// Characters of a message, which also travels by itself.
const MAX_MESSAGE: usize = 400;
/// Characters of one description.
const MAX_DESCRIPTION: usize = 300;

/// Turns an error into the status that api.md names for it.
#[must_use]
pub fn to_status(error: Error) -> Status {
    let (field, error) = match error {
        Error::At { field, cause } => (Some(field), *cause),
        error => (None, error),
    };
    let message = clip(&error.to_string(), MAX_MESSAGE);
    let (code, reason, metadata) = told(&error);
    if let Error::Internal { detail } = &error {
        return internal(detail);
    }
    let field = field.map(|field| ("field", field));
    let metadata = metadata.into_iter().chain(field).map(|(key, value)| (key.to_owned(), clip(&value, 600)));
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata.collect::<HashMap<_, _>>());
    match error {
        Error::Invalid(violations) => list(&mut details, violations, MAX_VIOLATION_BYTES),
        Error::FailedPrecondition { reason, subject, description } => {
            let (subject, description) = (clip(&subject, 600), clip(&description, MAX_DESCRIPTION));
            details.add_precondition_failure_violation(reason, subject, description);
        }
        Error::Missing { unmet, .. } => list_unmet(&mut details, unmet),
        Error::Exhausted { retry_after, .. } | Error::Unavailable { retry_after, .. } => {
            details.set_retry_info(Some(retry_after));
        }
        _ => {}
    }
    Status::with_error_details(code, message, details)
}

/// A status that stands for no error of the engine, with a reason of its own.
#[must_use]
pub fn refusal(code: Code, reason: &str, message: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// What the gate answers in its refusal.
#[must_use]
pub fn refuse(refused: Refused) -> http::Response<Body> {
    let status = match refused {
        Refused::Denied(error) => to_status(error),
        Refused::NoSuchPath => refusal(Code::Unimplemented, "METHOD_UNKNOWN", "there is no such method"),
    };
    status.into_http()
}

/// Code, reason and metadata of an error.
fn told(error: &Error) -> (Code, &'static str, Vec<(&'static str, String)>) {
    match error {
        Error::NotFound { name } => (Code::NotFound, "NOT_FOUND", vec![("name", name.clone())]),
        Error::AlreadyExists { name } => {
            (Code::AlreadyExists, "ALREADY_EXISTS", vec![("name", name.clone())])
        }
        Error::EtagMismatch { name, current } => {
            let metadata = vec![("name", name.clone()), ("current_etag", current.clone())];
            (Code::Aborted, "ETAG_MISMATCH", metadata)
        }
        Error::FailedPrecondition { reason, subject, .. } => {
            (Code::FailedPrecondition, reason, vec![("subject", subject.clone())])
        }
        Error::Missing { unmet, .. } => {
            let (reason, subject) =
                unmet.first().map_or(("REFERENCE_MISSING", ""), |first| (first.reason, &first.subject));
            let metadata = vec![("subject", subject.to_owned()), ("violations", unmet.len().to_string())];
            (Code::FailedPrecondition, reason, metadata)
        }
        Error::Invalid(violations) => {
            let reason = violations.first().map_or("INVALID_ARGUMENT", |violation| violation.reason);
            (Code::InvalidArgument, reason, vec![("violations", violations.len().to_string())])
        }
        Error::Unauthenticated { reason, .. } => (Code::Unauthenticated, reason, vec![]),
        Error::PermissionDenied { reason, .. } => (Code::PermissionDenied, reason, vec![]),
        Error::Exhausted { reason, .. } => (Code::ResourceExhausted, reason, vec![]),
        Error::Unavailable { reason, .. } => (Code::Unavailable, reason, vec![]),
        Error::OutOfRange { reason, floor, .. } => {
            (Code::OutOfRange, reason, vec![("floor_revision", floor.to_string())])
        }
        Error::Internal { .. } | Error::At { .. } => (Code::Internal, "INTERNAL", vec![]),
    }
}

fn internal(detail: &str) -> Status {
    let correlation = uuid::Uuid::new_v4().simple().to_string();
    tracing::error!(correlation_id = %correlation, detail, "internal error");
    let message = format!("internal error; the server's log has it under correlation id {correlation}");
    let metadata = HashMap::from([("correlation_id".to_owned(), correlation)]);
    let details = ErrorDetails::with_error_info("INTERNAL", DOMAIN, metadata);
    Status::with_error_details(Code::Internal, message, details)
}

/// Lists violations, in their order, as far as they fit; the metadata say how many there are.
fn list(details: &mut ErrorDetails, violations: Vec<FieldViolation>, max_bytes: usize) {
    let mut bytes = 0;
    let mut listed = Vec::new();
    for violation in violations {
        let wire = WireViolation {
            field: clip(&violation.field, 600),
            description: clip(&violation.description, MAX_DESCRIPTION),
            reason: violation.reason.to_owned(),
            localized_message: None,
        };
        bytes += wire.field.len() + wire.description.len() + wire.reason.len() + 12;
        if bytes > max_bytes && !listed.is_empty() {
            break;
        }
        listed.push(wire);
    }
    details.set_bad_request(listed);
}

/// Lists what is not there: as preconditions, of which each has its subject, and as violations, of which each has its field.
fn list_unmet(details: &mut ErrorDetails, unmet: Vec<Unmet>) {
    let violation = |one: &Unmet| FieldViolation::new(&one.field, one.reason, &one.description);
    list(details, unmet.iter().map(violation).collect(), MAX_VIOLATION_BYTES / 2);
    let listed = details.bad_request().map_or(0, |listed| listed.field_violations.len());
    for Unmet { reason, subject, description, .. } in unmet.into_iter().take(listed) {
        let (subject, description) = (clip(&subject, 600), clip(&description, MAX_DESCRIPTION));
        details.add_precondition_failure_violation(reason, subject, description);
    }
}

/// Cuts a text, so that a giant name can't make a giant header: between words, unless the last one is giant.
fn clip(text: &str, characters: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(characters) else { return text.to_owned() };
    let head = &text[..end];
    match head.rfind(' ').filter(|at| *at > end / 2) {
        Some(at) => format!("{} …", head[..at].trim_end_matches([',', ';', ' '])),
        None => format!("{head}…"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_details_stay_inside() {
        let status = to_status(Error::internal("SELECT * FROM secrets"));
        assert_eq!(status.code(), Code::Internal);
        assert!(!format!("{status:?}").contains("SELECT"));
        assert!(status.get_error_details().error_info().unwrap().metadata.contains_key("correlation_id"));
    }

    #[test]
    fn every_violation_keeps_its_path() {
        let violations = vec![
            FieldViolation::new("resource.name", "REQUIRED", "is required"),
            FieldViolation::new("resource.provider.base_url", "INVALID_URL", "must be an http or https URL"),
        ];
        let details = to_status(Error::Invalid(violations)).get_error_details();
        let fields: Vec<_> =
            details.bad_request().unwrap().field_violations.iter().map(|v| v.field.clone()).collect();
        assert_eq!(fields, ["resource.name", "resource.provider.base_url"]);
        assert_eq!(details.error_info().unwrap().domain, "signalbox");
    }

    /// Netty takes 8 KiB of trailers and gRPC's core 16 KiB, unless told otherwise: beyond that the client sees no status at
    /// all.
    #[test]
    fn regression_a_status_fits_into_what_clients_take() {
        let bytes = |status: Status| {
            let headers = status.into_http::<()>().into_parts().0.headers;
            headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>()
        };
        let many = |text: &str| {
            let violation = |i| FieldViolation::new(format!("operations[{i}].{text}"), "R", text.repeat(50));
            Error::Invalid((0..10_000).map(violation).collect())
        };
        assert!(bytes(to_status(many("must be"))) < 8 * 1024);
        assert!(bytes(to_status(many("\u{1F600}"))) < 16 * 1024);
        let denied = Error::PermissionDenied { reason: "NOT_GRANTED", description: "p/*, ".repeat(5_000) };
        assert!(bytes(to_status(denied.at("f".repeat(9_000)))) < 8 * 1024);
    }

    #[test]
    fn regression_a_list_of_words_is_not_cut_within_one() {
        let words = (0..100).map(|i| format!("`word{i}`")).collect::<Vec<_>>().join(", ");
        let told = clip(&format!("use one of {words}"), MAX_DESCRIPTION);
        assert!(told.ends_with("` …") && told.chars().count() <= MAX_DESCRIPTION + 2, "{told}");
        assert_eq!(clip(&"x".repeat(500), 3), "xxx…", "what has no words is cut all the same");
        assert_eq!(clip("short", 300), "short");
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        let violations = (0..300).map(|i| FieldViolation::new(format!("f{i}"), "R", "is wrong".repeat(20)));
        let details = to_status(Error::Invalid(violations.collect())).get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["violations"], "300");
        let listed = &details.bad_request().unwrap().field_violations;
        assert!((10..300).contains(&listed.len()), "{}", listed.len());
        assert_eq!(listed[9].field, "f9", "the first ones, in their order");
    }

    #[test]
    fn an_error_of_one_part_says_of_which() {
        let error = Error::NotFound { name: "settings/x".into() }.at("operations[3].delete.name");
        let status = to_status(error);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "there is no settings/x");
        let info = status.get_error_details().error_info().unwrap().clone();
        assert_eq!(info.reason, "NOT_FOUND");
        assert_eq!(info.metadata["field"], "operations[3].delete.name");
        assert_eq!(info.metadata["name"], "settings/x");
    }
}

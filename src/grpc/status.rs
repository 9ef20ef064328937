//! The only map from errors to the wire.
//!
//! Every status carries `ErrorInfo` with a stable reason, so that no client has to read a message. What is internal
//! goes to the log under a correlation id, and only the id goes out.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation as WireViolation, StatusExt};

use crate::domain::{Error, FieldViolation};

pub(super) const DOMAIN: &str = "signalbox";
/// More violations than these are counted, not listed: a status travels in headers, which are bounded.
const MAX_VIOLATIONS: usize = 50;
/// Characters of one description, for the same reason.
const MAX_DESCRIPTION: usize = 300;

/// Turns an error into the status that api.md names for it.
#[must_use]
pub fn to_status(error: Error) -> Status {
    let message = clip(&error.to_string(), 1024);
    match error {
        Error::NotFound { name } => plain(Code::NotFound, &message, "NOT_FOUND", &[("name", &name)]),
        Error::AlreadyExists { name } => {
            plain(Code::AlreadyExists, &message, "ALREADY_EXISTS", &[("name", &name)])
        }
        Error::EtagMismatch { name, current } => {
            plain(Code::Aborted, &message, "ETAG_MISMATCH", &[("name", &name), ("current_etag", &current)])
        }
        Error::FailedPrecondition { reason, subject, description } => {
            let mut details = info(reason, &[("subject", &subject)]);
            details.add_precondition_failure_violation(
                reason,
                clip(&subject, 600),
                clip(&description, MAX_DESCRIPTION),
            );
            Status::with_error_details(Code::FailedPrecondition, message, details)
        }
        Error::Invalid(violations) => invalid(&message, violations),
        Error::Unauthenticated { reason, .. } => plain(Code::Unauthenticated, &message, reason, &[]),
        Error::PermissionDenied { reason, .. } => plain(Code::PermissionDenied, &message, reason, &[]),
        Error::Exhausted { reason, retry_after, .. } => {
            let mut details = info(reason, &[]);
            details.set_retry_info(Some(retry_after));
            Status::with_error_details(Code::ResourceExhausted, message, details)
        }
        Error::Unavailable { reason, retry_after, .. } => {
            let mut details = info(reason, &[]);
            details.set_retry_info(Some(retry_after));
            Status::with_error_details(Code::Unavailable, message, details)
        }
        Error::OutOfRange { reason, floor, .. } => {
            plain(Code::OutOfRange, &message, reason, &[("floor_revision", &floor.to_string())])
        }
        Error::Internal { detail } => internal(&detail),
    }
}

fn internal(detail: &str) -> Status {
    let correlation = uuid::Uuid::new_v4().simple().to_string();
    tracing::error!(correlation_id = %correlation, detail, "internal error");
    let message = format!("internal error; the server's log has it under correlation id {correlation}");
    plain(Code::Internal, &message, "INTERNAL", &[("correlation_id", &correlation)])
}

fn invalid(message: &str, violations: Vec<FieldViolation>) -> Status {
    let reason = violations.first().map_or("INVALID_ARGUMENT", |violation| violation.reason);
    let total = violations.len().to_string();
    let mut details = info(reason, &[("violations", &total)]);
    let listed = violations.into_iter().take(MAX_VIOLATIONS).map(|violation| WireViolation {
        field: clip(&violation.field, 600),
        description: clip(&violation.description, MAX_DESCRIPTION),
        reason: violation.reason.to_owned(),
        localized_message: None,
    });
    details.set_bad_request(listed.collect::<Vec<_>>());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn plain(code: Code, message: &str, reason: &str, metadata: &[(&str, &str)]) -> Status {
    Status::with_error_details(code, message, info(reason, metadata))
}

fn info(reason: &str, metadata: &[(&str, &str)]) -> ErrorDetails {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), clip(value, 600))).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

/// Cuts a text at a character, so that a giant name can't make a giant header.
fn clip(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
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

    #[test]
    fn giant_texts_fit_into_headers() {
        let violations = (0..10_000)
            .map(|i| FieldViolation::new("f".repeat(9000), "R", format!("{i}").repeat(5000)))
            .collect();
        assert!(to_status(Error::Invalid(violations)).details().len() < 64 * 1024);
    }
}

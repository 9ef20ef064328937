//! Answers in JSON: the one map from statuses to HTTP, in the form of `google.rpc.Status`.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{auth::Refused, domain::Error, grpc};

/// An answer that is no error.
pub(super) fn json(code: StatusCode, content: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (code, headers, content.to_string()).into_response()
}

/// An error of this listener's own; HTTP says more precisely than gRPC what it is.
pub(super) fn status(code: StatusCode, reason: &'static str, message: &'static str) -> Response {
    render(code, &grpc::refusal(rpc_code(code), reason, message))
}

/// What the gate answers in its refusal.
pub(super) fn refuse(refused: Refused) -> Response<Body> {
    match refused {
        Refused::NoSuchPath => no_such_path(),
        Refused::Denied(error) => {
            let status = grpc::to_status(error);
            render(http_code(status.code()), &status)
        }
    }
}

/// The answer of a path that has a row and no page: another method may be meant.
pub(super) async fn not_found() -> Response {
    no_such_path()
}

/// The answer to any method that a page does not have.
pub(super) async fn wrong_method() -> Response {
    status(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this page is there to be read: use GET")
}

/// A status that an RPC has ended with; `conditional` says that the request had `If-Match`.
pub(super) fn of_status(status: &Status, conditional: bool) -> Response {
    let details = status.get_error_details();
    let code = match details.error_info().map(|info| info.reason.as_str()) {
        Some("ETAG_MISMATCH") if conditional => StatusCode::PRECONDITION_FAILED,
        Some("REQUEST_TOO_LARGE") => StatusCode::PAYLOAD_TOO_LARGE,
        Some("UNSUPPORTED_MEDIA_TYPE") => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Some("NOT_ACCEPTABLE") => StatusCode::NOT_ACCEPTABLE,
        _ => http_code(status.code()),
    };
    render(code, status)
}

/// The answer of a server that takes no calls yet.
pub(super) fn starting() -> Response {
    let error = Error::Unavailable {
        reason: "STARTING",
        description: "the server has not read its store yet; come again".to_owned(),
        retry_after: Duration::from_secs(1),
    };
    of_status(&grpc::to_status(error), false)
}

/// The answer of a server that takes no more calls.
pub(super) fn draining() -> Response {
    let error = Error::Unavailable {
        reason: "SHUTTING_DOWN",
        description: "the server is about to stop; come again, and reach another one or the next".to_owned(),
        retry_after: Duration::from_secs(1),
    };
    of_status(&grpc::to_status(error), false)
}

/// The status of an answer that can't be read: a defect.
pub(super) fn unreadable() -> Status {
    grpc::to_status(Error::internal("an answer can't be written as JSON"))
}

/// A status as JSON.
pub(super) fn content(status: &Status) -> Value {
    json!({
        "code": i32::from(status.code()),
        "message": status.message(),
        "details": details(&status.get_error_details()),
    })
}

/// What is answered where nothing is.
pub(super) fn no_such_path() -> Response {
    status(
        StatusCode::NOT_FOUND,
        "PATH_UNKNOWN",
        "there is no such path; /openapi.json lists all that there are",
    )
}

fn render(code: StatusCode, status: &Status) -> Response {
    let mut response = json(code, &content(status));
    let headers = response.headers_mut();
    if code == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(delay) = retry_delay(&status.get_error_details()) {
        // Whole seconds, and not before the time is over.
        headers.insert(header::RETRY_AFTER, HeaderValue::from(delay.as_millis().div_ceil(1000) as u64));
    }
    response
}

fn retry_delay(details: &ErrorDetails) -> Option<Duration> {
    details.retry_info().and_then(|info| info.retry_delay)
}

/// The details that statuses of ours have, each as the JSON form of an `Any`.
fn details(details: &ErrorDetails) -> Vec<Value> {
    let mut all = Vec::new();
    let mut add = |message: &str, mut content: Value| {
        content["@type"] = format!("type.googleapis.com/google.rpc.{message}").into();
        all.push(content);
    };
    if let Some(info) = details.error_info() {
        add("ErrorInfo", json!({ "reason": info.reason, "domain": info.domain, "metadata": info.metadata }));
    }
    if let Some(delay) = retry_delay(details) {
        add("RetryInfo", json!({ "retryDelay": format!("{:.3}s", delay.as_secs_f64()) }));
    }
    if let Some(bad) = details.bad_request() {
        let violations = bad.field_violations.iter().map(|violation| {
            json!({
                "field": violation.field,
                "description": violation.description,
                "reason": violation.reason,
            })
        });
        add("BadRequest", json!({ "fieldViolations": violations.collect::<Vec<_>>() }));
    }
    if let Some(failure) = details.precondition_failure() {
        let violations = failure.violations.iter().map(|violation| {
            json!({
                "type": violation.r#type,
                "subject": violation.subject,
                "description": violation.description,
            })
        });
        add("PreconditionFailure", json!({ "violations": violations.collect::<Vec<_>>() }));
    }
    all
}

/// The code of HTTP that `google/rpc/code.proto` names for each.
fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // 499 has no name there: nobody waits for it.
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// The other way, for the errors of this listener's own.
fn rpc_code(code: StatusCode) -> Code {
    match code {
        StatusCode::BAD_REQUEST => Code::InvalidArgument,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::Unimplemented,
        StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::domain::FieldViolation;

    async fn shown(error: Error) -> (StatusCode, Option<String>, Value) {
        let response = refuse(Refused::Denied(error));
        let retry = response.headers().get(header::RETRY_AFTER);
        let retry = retry.map(|value| value.to_str().unwrap().to_owned());
        let code = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, retry, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn an_error_is_told_with_all_its_details() {
        let error = Error::Invalid(vec![FieldViolation {
            field: "name".into(),
            reason: "REQUIRED",
            description: "is required".into(),
        }]);
        let (code, _, body) = shown(error).await;
        assert_eq!((code, &body["code"]), (StatusCode::BAD_REQUEST, &json!(3)));
        let [info, bad] = body["details"].as_array().unwrap().as_slice() else { panic!("{body}") };
        assert_eq!(info["@type"], "type.googleapis.com/google.rpc.ErrorInfo");
        assert_eq!((&info["reason"], &info["domain"]), (&json!("REQUIRED"), &json!("signalbox")));
        assert_eq!(bad["fieldViolations"][0]["field"], "name");
    }

    #[tokio::test]
    async fn who_is_to_come_again_is_told_when() {
        let retry_after = Duration::from_millis(1_200);
        let error =
            Error::Unavailable { reason: "STORE_UNAVAILABLE", description: "away".into(), retry_after };
        let (code, retry, body) = shown(error).await;
        assert_eq!((code, retry.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("2")));
        assert_eq!(body["details"][1]["retryDelay"], "1.200s");
    }

    #[tokio::test]
    async fn what_is_internal_is_not_told() {
        let (code, _, body) = shown(Error::internal("hunter2")).await;
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!body.to_string().contains("hunter2"), "{body}");
    }
}

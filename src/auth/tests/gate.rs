//! What comes through the gate, and what a service then knows.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Code, Status, body::Body, service::Interceptor as _};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::{Layer as _, Service};

use super::*;
use crate::domain::Role;

/// Stands for all services: says who it was told called, and whether it still saw the token.
#[derive(Clone)]
struct Handler;

impl Service<Request<Body>> for Handler {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!(!request.headers().contains_key("authorization"), "the token stays outside");
        let request = tonic::Request::from_http(request);
        let who = Caller::of(&request).map_or("nobody".to_owned(), |principal| principal.subject.clone());
        ready(Ok(Response::builder().header("x-reached", who).body(Body::empty()).unwrap()))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "as the real one, which the gate takes as a pointer")]
fn to_status(error: Error) -> Status {
    let (code, reason) = match &error {
        Error::Unauthenticated { reason, .. } => (Code::Unauthenticated, *reason),
        Error::PermissionDenied { reason, .. } => (Code::PermissionDenied, *reason),
        _ => (Code::Internal, ""),
    };
    let details = ErrorDetails::with_error_info(reason, "signalbox", HashMap::new());
    Status::with_error_details(code, error.to_string(), details)
}

fn refuse(refused: Refused) -> Response<Body> {
    match refused {
        Refused::Denied(error) => to_status(error).into_http(),
        Refused::NoSuchPath => {
            let details = ErrorDetails::with_error_info("METHOD_UNKNOWN", "signalbox", HashMap::new());
            Status::with_error_details(Code::Unimplemented, "there is no such method", details).into_http()
        }
    }
}

/// Sends a request through the gate: who the handler was told called, or the refusal's code and reason.
fn send(fixture: &Fixture, path: &str, headers: &[&str]) -> Result<String, (Code, String)> {
    let layer = AuthenticateLayer::new(Arc::clone(&fixture.authenticator), RPCS, refuse);
    let mut request = Request::builder().method("POST").uri(format!("http://localhost{path}"));
    for header in headers {
        request = request.header("authorization", *header);
    }
    let answer = layer.layer(Handler).call(request.body(Body::empty()).unwrap());
    // Both the gate's and the handler's futures are ready at once.
    let answer = answer.into_inner().into_inner().unwrap();
    match answer.headers().get("x-reached") {
        Some(who) => Ok(who.to_str().unwrap().to_owned()),
        None => {
            let status = Status::from_header_map(answer.headers()).unwrap();
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.domain, "signalbox");
            Err((status.code(), info.reason))
        }
    }
}

const RPCS: Policy = Policy::Rpcs { reflection: false };
const GET: &str = "/signalbox.v1.ConfigService/GetResource";
const CREATE: &str = "/signalbox.v1.ConfigService/CreateResource";

fn bearer(changes: &Value) -> String {
    format!("Bearer {}", own(changes))
}

fn refused(code: Code, reason: &str) -> Result<String, (Code, String)> {
    Err((code, reason.to_owned()))
}

#[test]
fn tokens_and_roles_decide() {
    let fixture = Fixture::own();
    let worker = bearer(&json!({}));
    assert_eq!(send(&fixture, GET, &[&worker]), Ok("ci".into()));
    assert_eq!(send(&fixture, CREATE, &[&worker]), refused(Code::PermissionDenied, "ROLE_DENIED"));
    assert_eq!(send(&fixture, CREATE, &[&bearer(&json!({ "role": "admin" }))]), Ok("ci".into()));
    let nobody = bearer(&json!({ "role": "nobody" }));
    assert_eq!(send(&fixture, GET, &[&nobody]), refused(Code::PermissionDenied, "ROLE_UNKNOWN"));
    let expired = bearer(&json!({ "exp": NOW, "role": "nobody" }));
    assert_eq!(send(&fixture, CREATE, &[&expired]), refused(Code::Unauthenticated, "TOKEN_EXPIRED"));
    assert_eq!(send(&fixture, GET, &[]), refused(Code::Unauthenticated, "TOKEN_MISSING"));
    assert_eq!(send(&fixture, "/grpc.health.v1.Health/Check", &[]), Ok("nobody".into()));
    assert_eq!(send(&fixture, "/grpc.health.v1.Health/Check", &["Bearer x"]), Ok("nobody".into()));
}

#[test]
fn one_header_of_one_scheme() {
    let fixture = Fixture::own();
    let token = own(&json!({}));
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(send(&fixture, GET, &[&format!("{scheme} {token}")]), Ok("ci".into()));
    }
    let good = format!("Bearer {token}");
    for headers in [
        vec![good.as_str(), good.as_str()],
        vec![good.as_str(), "Basic eDp5"],
        vec![token.as_str()],
        vec!["Bearer"],
        vec!["Bearer "],
        vec![""],
        vec!["Basic eDp5"],
        vec!["Bearer a b"],
        vec!["Bearer \u{fc}"],
    ] {
        let answer = send(&fixture, GET, &headers);
        assert_eq!(answer, refused(Code::Unauthenticated, "TOKEN_INVALID"), "{headers:?}");
    }
}

#[test]
fn no_other_spelling_of_a_path_reaches_a_handler() {
    let fixture = Fixture::own();
    let admin = bearer(&json!({ "role": "admin" }));
    for path in [
        "",
        "/",
        "//signalbox.v1.ConfigService/GetResource",
        "/signalbox.v1.ConfigService//GetResource",
        "/signalbox.v1.ConfigService/GetResource/",
        "/signalbox.v1.ConfigService%2fGetResource",
        "/signalbox.v1.ConfigService%2FGetResource",
        "/signalbox.v1.ConfigService/%47etResource",
        "/signalbox.v1.ConfigService/getresource",
        "/SIGNALBOX.V1.CONFIGSERVICE/GETRESOURCE",
        "/signalbox.v1.ConfigService/GetResource;x",
        "/signalbox.v1.ConfigService/GetResource%00",
        "/./signalbox.v1.ConfigService/GetResource",
        "/grpc.health.v1.Health/../signalbox.v1.ConfigService/GetResource",
        "/grpc.health.v1.Health/Check/../../signalbox.v1.ConfigService/GetResource",
        "/signalbox.v1.ConfigService.GetResource",
        "/signalbox.v1.ConfigService/NoSuchMethod",
        "/grpc.health.v1.Health/List",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        for headers in [vec![], vec![admin.as_str()]] {
            let answer = send(&fixture, path, &headers);
            assert_eq!(answer, refused(Code::Unimplemented, "METHOD_UNKNOWN"), "{path}");
        }
    }
    let query = format!("{GET}?/grpc.health.v1.Health/Check");
    assert_eq!(send(&fixture, &query, &[]), refused(Code::Unauthenticated, "TOKEN_MISSING"));
}

#[test]
fn the_admin_interceptor_holds_by_itself() {
    let fixture = Fixture::own();
    let code = |role: Option<&str>, admitted: &'static [Role]| {
        let mut request = tonic::Request::new(());
        if let Some(role) = role {
            let principal = fixture.principal(&own(&json!({ "role": role }))).unwrap();
            Caller::stamp(&mut request, principal, admitted);
        }
        AdminOnly::new(to_status).call(request).map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(code(None, &[]), Code::Unauthenticated);
    assert_eq!(code(Some("admin"), &[]), Code::Ok);
    assert_eq!(code(Some("worker"), &[Role::Admin]), Code::PermissionDenied);
    assert_eq!(code(Some("viewer"), &[]), Code::PermissionDenied);
    assert_eq!(
        code(Some("viewer"), &[Role::Admin, Role::Viewer]),
        Code::Ok,
        "a row's exception, as for GetStatus"
    );
}

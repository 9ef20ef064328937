//! The gate in front of all services: decides by path and token, before a byte of the body is read.
//!
//! Services ask [`Caller::of`] who called; there is no other way to a principal. [`AdminOnly`] stands behind
//! the gate once more, in front of the admin service.

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tonic::{Status, service::Interceptor};
use tower::{Layer, Service};

use super::{
    authenticator::Authenticator,
    claims::invalid,
    policy::{Access, Policy},
};
use crate::domain::{Error, Principal, Role};

/// The one map from errors to the wire; `grpc` owns it.
type ToStatus = fn(Error) -> Status;

/// Why the gate does not open.
#[derive(Debug)]
pub enum Refused {
    /// Nobody may call what is at this path, whoever asks: the API is public, so this tells nothing.
    NoSuchPath,
    /// The caller may not.
    Denied(Error),
}

/// Makes the answer of a refusal, in the form that the listener speaks.
type Refuse<A> = fn(Refused) -> Response<A>;

/// Who called. Only the gate makes one.
#[derive(Clone)]
pub struct Caller {
    principal: Arc<Principal>,
    /// The roles of the row that let the call in.
    admitted: &'static [Role],
    /// Asked once more when the message is there: a caller may take its time with the body.
    authenticator: Option<Arc<Authenticator>>,
}

/// Puts the gate in front of services that answer with bodies of the type `A`.
pub struct AuthenticateLayer<A> {
    gate: Arc<Gate>,
    refuse: Refuse<A>,
}

/// The gate, in front of a service.
pub struct Authenticate<S, A> {
    inner: S,
    gate: Arc<Gate>,
    refuse: Refuse<A>,
}

struct Gate {
    authenticator: Arc<Authenticator>,
    policy: Policy,
}

/// Lets admins through, and whoever else the policy table names for the very method.
///
/// The gate has decided that already; this holds even where somebody forgets the gate.
#[derive(Clone, Copy)]
pub struct AdminOnly {
    to_status: ToStatus,
}

impl Caller {
    /// Who made this request.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when the request did not come through the gate, or may be made by everybody; when the
    /// token has expired or was revoked since, while the message was on its way.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<&Principal, Error> {
        let caller = Self::find(request)?;
        if let Some(authenticator) = &caller.authenticator {
            authenticator.check_still_valid(&caller.principal)?;
        }
        Ok(&caller.principal)
    }

    /// Who made a request that came through the gate; `None` where everybody may make it.
    #[must_use]
    pub fn among(extensions: &http::Extensions) -> Option<&Principal> {
        extensions.get::<Self>().map(|caller| &*caller.principal)
    }

    fn find<T>(request: &tonic::Request<T>) -> Result<&Self, Error> {
        request.extensions().get().ok_or_else(token_missing)
    }

    /// A request that came from this principal, for tests of services without a gate.
    #[cfg(test)]
    pub(crate) fn stamp<T>(request: &mut tonic::Request<T>, principal: Principal, admitted: &'static [Role]) {
        request.extensions_mut().insert(Self {
            principal: Arc::new(principal),
            admitted,
            authenticator: None,
        });
    }
}

impl<A> AuthenticateLayer<A> {
    /// A gate that decides by this authenticator and this policy.
    #[must_use]
    pub fn new(authenticator: Arc<Authenticator>, policy: Policy, refuse: Refuse<A>) -> Self {
        Self { gate: Arc::new(Gate { authenticator, policy }), refuse }
    }
}

// Not derived: the body need not be `Clone`.
impl<A> Clone for AuthenticateLayer<A> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate), refuse: self.refuse }
    }
}

impl<S: Clone, A> Clone for Authenticate<S, A> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate), refuse: self.refuse }
    }
}

impl<S, A> Layer<S> for AuthenticateLayer<A> {
    type Service = Authenticate<S, A>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticate { inner, gate: Arc::clone(&self.gate), refuse: self.refuse }
    }
}

impl<S, B, A> Service<Request<B>> for Authenticate<S, A>
where
    S: Service<Request<B>, Response = Response<A>>,
{
    type Response = Response<A>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response<A>, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.gate.admit(&mut request) {
            Ok(()) => Either::Right(self.inner.call(request)),
            Err(refused) => Either::Left(ready(Ok((self.refuse)(refused)))),
        }
    }
}

impl Gate {
    /// Decides, and leaves in the request what services may know of it.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<(), Refused> {
        let access = self.policy.access(request.uri().path()).ok_or(Refused::NoSuchPath)?;
        let Access::Roles(roles) = access else {
            request.headers_mut().remove(AUTHORIZATION);
            return Ok(());
        };
        let caller = self.caller(request.headers(), roles).map_err(Refused::Denied)?;
        // Nothing behind the gate needs the token, so nothing behind it can log it.
        request.headers_mut().remove(AUTHORIZATION);
        request.extensions_mut().insert(caller);
        Ok(())
    }

    fn caller(&self, headers: &HeaderMap, roles: &'static [Role]) -> Result<Caller, Error> {
        let principal = self.authenticator.authenticate(bearer(headers)?)?;
        let caller =
            Caller { principal, admitted: roles, authenticator: Some(Arc::clone(&self.authenticator)) };
        check_role(&caller, roles)?;
        Ok(caller)
    }
}

/// The token of the one `authorization` header (RFC 6750).
fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or_else(token_missing)?;
    if values.next().is_some() {
        // Two readers could pick different ones.
        return Err(invalid("the request has more than one `authorization` header"));
    }
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim_matches(' '))
        .filter(|token| !token.is_empty())
        .ok_or_else(|| invalid("the `authorization` header must be `Bearer <token>`"))
}

fn check_role(caller: &Caller, roles: &[Role]) -> Result<(), Error> {
    let role = caller.principal.role;
    if roles.contains(&role) {
        return Ok(());
    }
    let wanted = roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or ");
    Err(Error::PermissionDenied {
        reason: "ROLE_DENIED",
        description: format!("this needs the role {wanted}; the token's is {}", role.as_str()),
    })
}

fn token_missing() -> Error {
    Error::Unauthenticated {
        reason: "TOKEN_MISSING",
        description: "there is no token; send `authorization: Bearer <token>`".into(),
    }
}

impl AdminOnly {
    /// The interceptor of the admin service.
    #[must_use]
    pub fn new(to_status: ToStatus) -> Self {
        Self { to_status }
    }
}

impl Interceptor for AdminOnly {
    fn call(&mut self, request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        let check = |caller: &Caller| match caller.principal.role {
            Role::Admin => Ok(()),
            _ => check_role(caller, caller.admitted),
        };
        Caller::find(&request).and_then(check).map_err(self.to_status)?;
        Ok(request)
    }
}

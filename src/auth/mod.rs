//! Who calls, and what they may call: tokens, roles, the policy table, and the layer that decides by them.
//!
//! A call comes in through [`Authenticate`], which looks its path up in the one table ([`policy`]), verifies the bearer
//! token ([`Authenticator`]), and puts a [`Caller`] where only [`Caller::of`] finds it. What the caller may see within a call
//! (grants, secrets) is for the use cases to ask the [`Principal`](crate::domain::Principal).
//!
//! It must not know storage, nor which kinds of configuration exist: grants are read by a function that is
//! given to it, revocations are asked for through another.

mod authenticator;
mod claims;
mod issuer;
mod keys;
mod layer;
pub mod policy;
mod roles;

pub use authenticator::{Authenticator, GrantParser, RevocationCheck, Trust, TrustedIssuer};
pub use claims::told_id;
pub use issuer::{
    BootstrapError, IssuedToken, LONGEST_TTL, NewToken, OWN_NAME, SUBJECT_CHARS, Scope, TokenIssuer,
    bootstrap_admin, check_scopes, check_ttl, load_or_create_secret,
};
pub use keys::{KeySource, TokenKeyError, VerificationKeys};
pub use layer::{AdminOnly, Authenticate, AuthenticateLayer, Caller, Refused};
pub use policy::{Access, Policy, pages};
pub use roles::{IdentityMap, IdentityMapError, RoleClaim};

#[cfg(test)]
mod tests;

//! Reads that are answered only if something has changed (`If-None-Match`), and reads of the head alone (`HEAD`).
//!
//! An etag tells one version of one resource, and no more: what was seen of a resource is not part of it.

use axum::{
    body::{Body, HttpBody as _},
    http::{
        HeaderValue, Method, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
        request::Parts,
    },
    response::Response,
};

/// The parameter with which an answer holds more than its etag tells.
const OBSERVATIONS: [&str; 2] = ["include_observations", "includeObservations"];

/// What a request makes its answer depend on.
pub(super) struct Conditional {
    known: Vec<HeaderValue>,
    head: bool,
}

impl Conditional {
    /// What a request says.
    pub fn of(request: &Parts) -> Self {
        let reads = [Method::GET, Method::HEAD].contains(&request.method);
        let query = request.uri.query().unwrap_or_default();
        let mut parameters = url::form_urlencoded::parse(query.as_bytes());
        let told = reads && !parameters.any(|(name, _)| OBSERVATIONS.contains(&name.as_ref()));
        let known = request.headers.get_all(IF_NONE_MATCH).iter().filter(|_| told).cloned();
        Self { known: known.collect(), head: request.method == Method::HEAD }
    }

    /// The answer as it is to be given.
    pub fn apply(&self, mut response: Response) -> Response {
        let etag = response.headers().get(ETAG).filter(|_| response.status() == StatusCode::OK);
        if etag.is_some_and(|etag| self.known.iter().any(|known| names(known, etag))) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().remove(CONTENT_TYPE);
            *response.body_mut() = Body::empty();
        } else if self.head {
            // Told as it would be, though nothing of it comes.
            if let Some(length) = response.body().size_hint().exact() {
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            *response.body_mut() = Body::empty();
        }
        response
    }
}

/// Whether a list of etags has this one. For reads a weak one is as good.
fn names(list: &HeaderValue, etag: &HeaderValue) -> bool {
    let (Ok(list), Ok(etag)) = (list.to_str(), etag.to_str()) else { return false };
    list.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_found_in_a_list() {
        let names =
            |list: &'static str| names(&HeaderValue::from_static(list), &HeaderValue::from_static("\"a-1\""));
        assert!(["\"a-1\"", "W/\"a-1\"", "\"x\", \"a-1\"", "*"].into_iter().all(names));
        assert!(!["", "a-1", "\"a-10\"", "\"A-1\"", "\"x\""].into_iter().any(names));
    }
}

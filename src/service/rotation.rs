//! Keys turned over to another value, and the value before, which goes when nobody needs it any more.

use std::time::Duration;

use super::{
    Service,
    active::body,
    fields::{parse_unrepeated, renamed},
    plan::{Previous, RotateKey},
    write::{Operation, OperationKind, WriteRequest},
};
use crate::{
    domain::{Principal, ResourceName, Result, Violations},
    duration,
    kinds::api_key::rotation::{DEFAULT_TIMEOUT, TIMEOUTS},
    proto::v1::{BatchWriteResponse, RotateApiKeyRequest, RotateApiKeyResponse},
};

impl Service {
    /// Replaces the value of a key, or ends such a rotation.
    ///
    /// # Errors
    /// As [`Service::write`], with the fields of this request.
    pub async fn rotate_api_key(
        &self,
        caller: &Principal,
        request: &RotateApiKeyRequest,
    ) -> Result<RotateApiKeyResponse> {
        let mut violations = Violations::default();
        let name = violations.take(parse_unrepeated("name", &request.name, "api_key"))?;
        let previous = parse_previous(request, &mut violations);
        let has_value = request.secret.as_ref().is_some_and(|secret| secret.value.is_some());
        if !has_value && (request.secret.is_some() || matches!(previous, Previous::Kept(_))) {
            violations.add(
                "secret.value",
                "REQUIRED",
                "is required: the key's new value; only with `retire_now` or `revoke_previous` may `secret` be left out, to \
                 end the rotation that is under way",
            );
        }
        let name = violations.allow(name)?;
        let rotate = RotateKey {
            name: name.to_string(),
            etag: request.etag.clone(),
            secret: request.secret.clone(),
            previous,
        };
        let write = WriteRequest {
            operations: vec![Operation { path: String::new(), action: OperationKind::Rotate(rotate) }],
            validate_only: request.validate_only,
            request_id: request.request_id.clone(),
            reason: request.reason.clone(),
            body: body("RotateApiKey", request),
        };
        let names = [("resource.api_key.secret", "secret"), ("resource.", "")];
        let answer = self.write(caller, write).await.map_err(|error| renamed(error, &names))?;
        if !request.validate_only {
            self.rotations.asked(has_value, &previous);
        }
        let BatchWriteResponse { results, revision, revision_token, warnings } = answer;
        let result = results.into_iter().next().unwrap_or_default();
        let diff = result.diffs.into_iter().next();
        Ok(RotateApiKeyResponse { api_key: result.resource, revision, revision_token, diff, warnings })
    }

    /// Lets go of the value before of a key whose rotation is over. Whoever has changed the key meanwhile is left alone: then
    /// it is looked at once more.
    ///
    /// # Errors
    /// As [`Service::write`].
    pub(super) async fn retire(&self, name: &ResourceName, etag: &str, reason: String) -> Result<()> {
        let rotate = RotateKey {
            name: name.to_string(),
            etag: etag.to_owned(),
            secret: None,
            previous: Previous::Retired,
        };
        let write = WriteRequest {
            operations: vec![Operation { path: String::new(), action: OperationKind::Rotate(rotate) }],
            validate_only: false,
            request_id: String::new(),
            reason,
            body: Vec::new(),
        };
        self.write(&Principal::service(), write).await.map(|_| ())
    }
}

/// What is to become of the value before.
fn parse_previous(request: &RotateApiKeyRequest, violations: &mut Violations) -> Previous {
    let RotateApiKeyRequest { timeout, retire_now, revoke_previous, .. } = request;
    if *retire_now && *revoke_previous {
        let problem = "goes further than `retire_now`; set one of the two";
        violations.add("revoke_previous", "NOT_ALLOWED", problem);
    }
    if timeout.is_some() && (*retire_now || *revoke_previous) {
        let problem = "is for a value that is kept; leave it out with `retire_now` and `revoke_previous`";
        violations.add("timeout", "NOT_ALLOWED", problem);
    }
    match (revoke_previous, retire_now) {
        (true, _) => Previous::Revoked,
        (_, true) => Previous::Retired,
        _ => Previous::Kept(parse_timeout(*timeout, violations)),
    }
}

fn parse_timeout(given: Option<prost_types::Duration>, violations: &mut Violations) -> Duration {
    let Some(given) = given else { return DEFAULT_TIMEOUT };
    match duration::read(given) {
        Some(timeout) if TIMEOUTS.contains(&timeout) => timeout,
        _ => {
            let problem = "must be from 1 s to 7 days (604800s); leave it out for an hour";
            violations.add("timeout", "OUT_OF_RANGE", problem);
            DEFAULT_TIMEOUT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(change: impl FnOnce(&mut RotateApiKeyRequest)) -> (Previous, Vec<String>) {
        let (mut request, mut violations) = (RotateApiKeyRequest::default(), Violations::default());
        change(&mut request);
        let previous = parse_previous(&request, &mut violations);
        (previous, violations.into_vec().into_iter().map(|violation| violation.field).collect())
    }

    #[test]
    fn what_becomes_of_the_value_before_is_said_in_one_way() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        assert_eq!(parsed(|_| ()), (Previous::Kept(DEFAULT_TIMEOUT), vec![]));
        let minute = (Previous::Kept(Duration::from_secs(60)), vec![]);
        assert_eq!(parsed(|request| request.timeout = seconds(60)), minute);
        assert_eq!(parsed(|request| request.retire_now = true), (Previous::Retired, vec![]));
        assert_eq!(parsed(|request| request.revoke_previous = true), (Previous::Revoked, vec![]));
        for wrong in [0, -5, 604_801, i64::MAX] {
            assert_eq!(parsed(|request| request.timeout = seconds(wrong)).1, ["timeout"], "{wrong}");
        }
        let both = parsed(|request| (request.retire_now, request.revoke_previous) = (true, true));
        assert_eq!(both.1, ["revoke_previous"]);
        let kept = parsed(|request| (request.retire_now, request.timeout) = (true, seconds(60)));
        assert_eq!(kept.1, ["timeout"]);
    }
}

//! Exports: what is granted, at one revision, as an import takes it. Secrets stay behind, unless who may have them read asks
//! for them, and then they are sealed with his key.

use std::{collections::VecDeque, sync::Arc};

use prost::Message;

use super::Service;
use crate::{
    crypto::ExportKey,
    domain::{Error, FieldPath, Principal, ResourceName, Result, Selector, Violations, limits},
    kinds,
    proto::v1::{self, ExportConfigResponse, ExportedSecret, Resource},
    view::{Entry, State},
    watch::Filter,
};

/// Bytes of one message of an export, so that the next resource and its secrets still fit.
const PART_BYTES: usize = limits::MESSAGE_OUT_BYTES / 4;
/// Warnings of an export.
const WARNINGS: usize = 100;

/// An export, as it came.
pub struct ExportRequest {
    /// What to export.
    pub selectors: Vec<v1::Selector>,
    /// A past revision; 0 is the current one.
    pub revision: u64,
    /// The caller's key for secrets; may be empty.
    pub export_key: String,
}

/// An export that goes out part by part, as fast as it is taken. It holds one state, which costs nothing.
pub struct Export {
    service: Arc<Service>,
    caller: Principal,
    state: Arc<State>,
    scope: Filter,
    key: Option<ExportKey>,
    after: Option<ResourceName>,
    /// Sealed secrets of resources that were told already.
    pending: VecDeque<ExportedSecret>,
    warnings: Vec<String>,
    done: bool,
}

impl Service {
    /// Begins an export. One with secrets is audited before the first of them goes out.
    ///
    /// # Errors
    /// `Invalid`, `PermissionDenied`, `OutOfRange`, `Unavailable` when it can't be audited.
    pub async fn export(self: &Arc<Self>, caller: &Principal, request: ExportRequest) -> Result<Export> {
        let (selectors, key) = parse(&request)?;
        if key.is_some() && !caller.grants_secrets {
            return Err(Error::PermissionDenied {
                reason: "SECRETS_GRANT_DENIED",
                description: "an export with secrets needs the scope secrets:grant".into(),
            });
        }
        let scope = Filter::authorise(caller, selectors, false)?;
        let state = self.state_at(request.revision).await?;
        let with = if key.is_some() { "with" } else { "without" };
        let detail = format!("{} {with} secrets at revision {}", scope.describe(), state.revision);
        self.audit(caller, "config_exported", detail).await?;
        let (service, caller) = (Arc::clone(self), caller.clone());
        let (after, pending, warnings) = (None, VecDeque::new(), Vec::new());
        Ok(Export { service, caller, state, scope, key, after, pending, warnings, done: false })
    }

    /// Whether a token that was verified is still good.
    fn still_valid(&self, caller: &Principal) -> Result<()> {
        let (reason, word) = match self.parts.clock.now() >= caller.expires_at {
            true => ("TOKEN_EXPIRED", "has expired"),
            false if self.parts.view.state().revocations.revokes(caller) => ("TOKEN_REVOKED", "was revoked"),
            false => return Ok(()),
        };
        let description = format!("the token {word} meanwhile; get a new one, and begin again");
        Err(Error::Unauthenticated { reason, description })
    }
}

/// Reads the request, with every violation in it.
fn parse(request: &ExportRequest) -> Result<(Vec<Selector>, Option<ExportKey>)> {
    let mut violations = Violations::default();
    let selectors = violations.take(kinds::parse_selectors(&request.selectors, "selectors"))?;
    let asked = !request.export_key.is_empty();
    let key = asked.then(|| ExportKey::parse(&request.export_key)).transpose();
    let key = key.map_err(|problem| {
        let right = "give 32 random bytes in URL-safe base64, as `signalbox keys generate` makes them";
        violations.add("export_key", "INVALID_KEY", format!("{problem}; {right}"));
    });
    if asked && request.revision != 0 {
        let problem = "goes with the current state only: secrets of the past are not opened; leave out the one or the other";
        violations.add("export_key", "NOT_ALLOWED", problem);
    }
    violations.allow(selectors.zip(key.ok()))
}

impl Export {
    /// The next part; `None` when everything is told. An empty export has one part as well, which tells the revision.
    ///
    /// # Errors
    /// `Unauthenticated` when the token is not good any more.
    pub fn part(&mut self) -> Result<Option<ExportConfigResponse>> {
        if self.done {
            return Ok(None);
        }
        self.service.still_valid(&self.caller)?;
        let state = Arc::clone(&self.state);
        let mut part = ExportConfigResponse {
            revision: state.revision.0,
            revision_token: state.token().to_string(),
            ..ExportConfigResponse::default()
        };
        let mut bytes = 0;
        let after = self.after.clone();
        let mut entries = state.after_name(after.as_ref().map(ResourceName::as_str));
        while bytes < PART_BYTES {
            if let Some(secret) = self.pending.pop_front() {
                bytes += secret.encoded_len();
                part.secrets.push(secret);
                continue;
            }
            let Some(entry) = entries.find(|entry| self.scope.shows(entry)) else {
                self.done = true;
                break;
            };
            let resource = self.exported(entry);
            bytes += resource.encoded_len();
            part.resources.push(resource);
            self.after = Some(entry.record.name.clone());
        }
        if !self.done {
            return Ok(Some(part));
        }
        part.warnings = std::mem::take(&mut self.warnings);
        Ok(Some(part))
    }

    /// One resource. Its secrets, if they were asked for, wait for their turn.
    fn exported(&mut self, entry: &Entry) -> Resource {
        let record = &entry.record;
        let mut spec = record.spec.clone();
        if let Some(kind) = kinds::kind_named(record.kind) {
            kind.leave_behind(&mut spec);
        }
        if !record.secrets.is_empty() {
            let carried = kinds::secrets::states(&spec);
            kinds::secrets::withhold(&mut spec);
            self.seal(entry, |field| carried.contains_key(field));
        }
        let (name, labels) = (record.name.to_string(), record.labels.clone());
        Resource { name, labels, spec: Some(spec), ..Resource::default() }
    }

    /// Seals the secrets that the resource carries with it.
    fn seal(&mut self, entry: &Entry, carried: impl Fn(&FieldPath) -> bool) {
        let Some(key) = &self.key else { return };
        let name = entry.record.name.as_str();
        let (opened, closed) = self.service.parts.revealer.open_all(&entry.record, &entry.sealed);
        for field in closed.into_iter().filter(|field| carried(field)) {
            match self.warnings.len() {
                count if count < WARNINGS => {
                    self.warnings.push(format!("{name}: {field} can't be decrypted, and was left out"));
                }
                WARNINGS => self.warnings.push("more secrets were left out than are listed".into()),
                _ => {}
            }
        }
        for (field, value) in opened.into_iter().filter(|(field, _)| carried(field)) {
            let sealed = key.seal(name, &field.0, &value);
            self.pending.push_back(ExportedSecret { name: name.to_owned(), field: field.0, sealed });
        }
    }
}

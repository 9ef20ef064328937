//! The secrets of a resource, wherever in its spec they are.
//!
//! Which message leads to which secret is made from the descriptors by `build.rs`: a new kind is found without a line here.
//! Paths are those of masks and diffs, from the arm on. Must not know what becomes of a secret.

use std::collections::BTreeMap;

use crate::proto::v1::{self, Secret, resource::Spec};

/// What is done with a secret and its path.
pub(super) type Visit<'a> = dyn FnMut(&str, &mut Secret) + 'a;

/// Something that may hold secrets.
pub(super) trait Fields {
    /// Visits each of them; `path` is its own, and is the same afterwards.
    fn visit(&mut self, path: &mut String, visit: &mut Visit<'_>);
}

include!(concat!(env!("OUT_DIR"), "/secret_fields.rs"));

impl Fields for Secret {
    fn visit(&mut self, path: &mut String, visit: &mut Visit<'_>) {
        visit(path, self);
    }
}

impl<F: Fields> Fields for Option<F> {
    fn visit(&mut self, path: &mut String, visit: &mut Visit<'_>) {
        if let Some(inner) = self {
            inner.visit(path, visit);
        }
    }
}

impl<F: Fields> Fields for Vec<F> {
    fn visit(&mut self, path: &mut String, visit: &mut Visit<'_>) {
        for (index, inner) in self.iter_mut().enumerate() {
            within(path, &index.to_string(), |path| inner.visit(path, visit));
        }
    }
}

impl<F: Fields> Fields for BTreeMap<String, F> {
    fn visit(&mut self, path: &mut String, visit: &mut Visit<'_>) {
        for (key, inner) in self {
            within(path, key, |path| inner.visit(path, visit));
        }
    }
}

/// Runs `inside` with the path longer by one segment.
fn within(path: &mut String, segment: &str, inside: impl FnOnce(&mut String)) {
    let length = path.len();
    if length > 0 {
        path.push('.');
    }
    path.push_str(segment);
    inside(path);
    path.truncate(length);
}

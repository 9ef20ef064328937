//! Framed messages on their way into one DATA frame: a large one carries a backlog several times faster than many.

use bytes::{Bytes, BytesMut};

/// Joins framed messages; a single one is passed on as it is, shared.
#[derive(Default)]
pub(super) struct Joined {
    first: Option<Bytes>,
    more: BytesMut,
}

impl Joined {
    pub fn push(&mut self, bytes: Option<Bytes>) {
        let Some(bytes) = bytes else { return };
        match self.first.take() {
            None if self.more.is_empty() => self.first = Some(bytes),
            first => {
                first.iter().chain([&bytes]).for_each(|part| self.more.extend_from_slice(part));
            }
        }
    }

    pub fn len(&self) -> usize {
        self.first.as_ref().map_or(0, Bytes::len) + self.more.len()
    }

    pub fn finish(self) -> Option<Bytes> {
        self.first.or_else(|| (!self.more.is_empty()).then(|| self.more.freeze()))
    }
}

//! The limits of api.md, in one place, so that every way in refuses the same things.

/// Bytes of one encoded resource.
pub const RESOURCE_BYTES: usize = 256 * 1024;
/// Bytes of one request message.
pub const REQUEST_BYTES: usize = 1024 * 1024;
/// Bytes of one message that the server sends.
pub const MESSAGE_OUT_BYTES: usize = 1024 * 1024;
/// Changes in one revision.
pub const BATCH_CHANGES: usize = 10_000;
/// Bytes of all resources in one revision.
pub const BATCH_BYTES: usize = 64 * 1024 * 1024;
/// Selectors of one list, stream or token.
pub const SELECTORS: usize = 64;
/// Labels of one resource.
pub const LABELS: usize = 32;
/// Bytes of a label's key; its value may have twice as many.
pub const LABEL_KEY_BYTES: usize = 63;
/// Bytes of a label's value.
pub const LABEL_VALUE_BYTES: usize = 128;
/// Bytes of one segment of a name.
pub const SEGMENT_BYTES: usize = 128;
/// Bytes of a whole name.
pub const NAME_BYTES: usize = 512;
/// Characters of a request id.
pub const REQUEST_ID_CHARS: usize = 128;
/// Characters of the name of a worker's session.
pub const SESSION_ID_CHARS: usize = 128;
/// Characters of the reason of a write.
pub const REASON_CHARS: usize = 1024;
/// Bytes of one secret.
pub const SECRET_BYTES: usize = 64 * 1024;
/// Resources of one page, if nothing is asked for.
pub const PAGE_DEFAULT: usize = 100;
/// Resources of one page at most.
pub const PAGE_MAX: usize = 1000;
/// Bytes of a list filter.
pub const FILTER_BYTES: usize = 4096;
/// Bytes of a bearer token.
pub const TOKEN_BYTES: usize = 8 * 1024;

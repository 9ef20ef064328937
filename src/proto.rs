//! The generated messages and services of `signalbox.v1`, and their descriptors.
//!
//! Owns nothing of its own: what is here is made from `proto/` by `build.rs`.

/// Messages, clients and servers of the package `signalbox.v1`.
#[allow(missing_docs, unused_qualifications, clippy::all, rustdoc::all)]
pub mod v1 {
    tonic::include_proto!("signalbox.v1");
}

impl std::fmt::Debug for v1::Secret {
    /// Whether there is a value, never the value.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.value.is_some() { "(set)" } else { "(none)" };
        formatter.debug_struct("Secret").field("value", &value).field("state", &self.state()).finish()
    }
}

impl std::fmt::Debug for v1::CreateTokenResponse {
    /// Everything but the token.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("CreateTokenResponse")
            .field("token_id", &self.token_id)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for v1::CreateResourceResponse {
    /// Everything but the secret that is shown once.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("CreateResourceResponse");
        shown.field("resource", &self.resource).field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for v1::UpdateResourceResponse {
    /// Everything but the secret that is shown once.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("UpdateResourceResponse");
        shown.field("resource", &self.resource).field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for v1::BatchResult {
    /// Everything but the secret that is shown once.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("BatchResult");
        shown.field("resource", &self.resource).field("diffs", &self.diffs).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for v1::ExportConfigRequest {
    /// Everything but the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("ExportConfigRequest");
        shown.field("selectors", &self.selectors).field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// The encoded `FileDescriptorSet` of the API, imports included; it serves reflection and ships beside the binary.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/signalbox.v1.bin"));

/// The descriptors of the API, decoded once.
#[cfg(feature = "server")]
pub static DESCRIPTOR_POOL: std::sync::LazyLock<prost_reflect::DescriptorPool> =
    std::sync::LazyLock::new(|| {
        prost_reflect::DescriptorPool::decode(FILE_DESCRIPTOR_SET)
            .unwrap_or_else(|error| unreachable!("build.rs wrote an unreadable descriptor set: {error}"))
    });

/// The comment in front of something in a proto file, by its path there (`descriptor.proto` says how that is made), its lines
/// joined to paragraphs; empty where there is none.
#[cfg(feature = "server")]
#[must_use]
pub fn comment(file: &prost_reflect::FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    let text = location.map(|location| location.leading_comments()).unwrap_or_default();
    let joined = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    text.split("\n\n").map(joined).filter(|paragraph| !paragraph.is_empty()).collect::<Vec<_>>().join("\n\n")
}

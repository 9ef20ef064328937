//! Which fields have to be given, by what their comments say: the one place where that stands.
//!
//! A field of a request is required where its comment has a sentence that is `Required` without a condition: `Required.`,
//! `Required, at most 128 characters.`, `Required; it has to exist.` Specs of resources are left out: an update sends only
//! what its mask names, and so does an import; what a resource needs is said in words, and refused by its name.

use prost_reflect::FieldDescriptor;

use crate::proto;

/// Whether a request is refused without the field.
pub(super) fn is_required(field: &FieldDescriptor) -> bool {
    let message = field.parent_message();
    message.name().ends_with("Request")
        && says_required(&proto::comment(&message.parent_file(), field.path()))
}

fn says_required(words: &str) -> bool {
    let conditions = [", unless", ", but", " when", " where"];
    let sentences =
        words.match_indices("Required").map(|(at, word)| (&words[..at], &words[at + word.len()..]));
    sentences.into_iter().any(|(before, after)| {
        let begins = before.is_empty() || before.ends_with(". ");
        begins
            && after.starts_with(['.', ',', ';'])
            && !conditions.iter().any(|condition| after.starts_with(condition))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_no_condition_is_required() {
        for words in
            ["Role. Required.", "Required; it has to exist.", "Whom. Required, at most 128 characters."]
        {
            assert!(says_required(words), "{words}");
        }
        for words in [
            "Required when the resource is created.",
            "The value. Required, unless `longest` is set.",
            "Required, but for SQLite.",
            "Not Required. Really.",
            "Whether it is required.",
        ] {
            assert!(!says_required(words), "{words}");
        }
    }

    /// A comment that is written anew must not change the contract unnoticed.
    #[test]
    fn these_fields_of_requests_are_required() {
        let messages =
            proto::DESCRIPTOR_POOL.all_messages().filter(|message| message.package_name() == "signalbox.v1");
        let mut found: Vec<String> = messages
            .flat_map(|message| message.fields().collect::<Vec<_>>())
            .filter(is_required)
            .map(|field| format!("{}.{}", field.parent_message().name(), field.name()))
            .collect();
        found.sort();
        let expected = [
            "CreateTokenRequest.role",
            "CreateTokenRequest.subject",
            "DiffRevisionsRequest.from_revision",
            "ExplainSettingRequest.key",
            "RenderRequestRequest.messages",
            "RollbackAllRequest.revision",
            "RollbackResourceRequest.revision",
        ];
        assert_eq!(found, expected);
    }
}

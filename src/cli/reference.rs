//! What there is to know of kinds and fields, from the comments of the proto files: for people, and as a document.
//!
//! Works on descriptors alone, without a server; a new kind or field is documented without a change here.

use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde::Serialize;

use super::{
    failure::Failure,
    schema::{self, field_names, kind_names},
};

/// A kind or a field of one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Kind and fields, as `provider.auth.scheme`.
    pub path: String,
    /// What it holds, as `[]string` or `map[string]HeaderValue`.
    #[serde(rename = "type")]
    pub of_type: String,
    /// The comment.
    pub description: String,
    /// What is filled in where nothing is given, in the comment's words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filled_in: Vec<String>,
    /// Whether the comment says that it has to be given.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Whether it is stored sealed, and shown as a mask.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Fields of which only one can be set, itself among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
    /// The words that it can be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Word>,
    /// What it consists of, each without what that consists of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Entry>,
}

/// A word of an enum.
#[derive(Debug, Serialize)]
pub struct Word {
    /// As it is written.
    pub word: String,
    /// What it means.
    pub description: String,
}

/// Every kind, without its fields.
pub fn kinds() -> Vec<Entry> {
    schema::arms().map(|arm| entry(arm.name(), &arm)).collect()
}

/// The kind or field at a path, with what it consists of. Names are taken in both spellings, and a kind also as its
/// collection.
///
/// # Errors
/// Says which part of the path there is not, and which there are.
pub fn find(path: &str) -> Result<Entry, Failure> {
    let mut parts = path.split('.');
    let kind = parts.next().unwrap_or_default();
    let arms = || schema::arms().find(|arm| arm.name() == kind || arm.json_name() == kind);
    let mut field = arms()
        .or_else(|| schema::arm_of_collection(kind))
        .ok_or_else(|| Failure::usage(unknown(kind, path)))?;
    let mut found = field.name().to_owned();
    for part in parts {
        let message = parent_of_fields(&field).ok_or_else(|| {
            Failure::usage(format!("`{found}` has no fields, for it is {}", type_of(&field)))
        })?;
        field = schema::field(&message, part).ok_or_else(|| {
            Failure::usage(format!("`{found}` has no field `{part}`; it has {}", field_names(&message)))
        })?;
        found = format!("{found}.{}", field.name());
    }
    Ok(with_contents(&found, &field))
}

fn unknown(kind: &str, path: &str) -> String {
    let known = format!("`{kind}` is no kind; known are {}", kind_names());
    let may_be_setting =
        !path.is_empty() && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match may_be_setting {
        true => format!("{known}; if a setting is meant, `signalbox explain settings/{path}`"),
        false => known,
    }
}

fn with_contents(path: &str, field: &FieldDescriptor) -> Entry {
    let mut entry = entry(path, field);
    if let Some(message) = parent_of_fields(field) {
        let of_message = comment(&message.parent_file(), message.path());
        entry.description = match of_message.starts_with(&entry.description) {
            true => of_message,
            false => [entry.description, of_message].join("\n\n").trim().to_owned(),
        };
        let below = |field: FieldDescriptor| self::entry(&format!("{path}.{}", field.name()), &field);
        entry.fields = message.fields().map(below).collect();
    }
    if let Kind::Enum(words) = held(field) {
        entry.values = words_of(&words);
    }
    entry
}

fn entry(path: &str, field: &FieldDescriptor) -> Entry {
    let description = comment(&field.parent_file(), field.path());
    let said = |wanted: &str| {
        let sentences = description.split_inclusive(". ").map(str::trim);
        sentences.filter(|sentence| sentence.contains(wanted)).map(str::to_owned).collect::<Vec<_>>()
    };
    let siblings = schema::real_oneof(field).filter(|oneof| oneof.name() != "spec");
    Entry {
        path: path.to_owned(),
        of_type: type_of(field),
        filled_in: said("illed in"),
        required: description.split(['\n', '.']).any(says_required),
        secret: matches!(held(field), Kind::Message(message) if schema::is_secret(&message)),
        one_of: siblings
            .map(|oneof| oneof.fields().map(|field| field.name().to_owned()).collect())
            .unwrap_or_default(),
        description,
        values: Vec::new(),
        fields: Vec::new(),
    }
}

/// Whether a sentence says that the field always has to be given. What is required under a condition is told by the
/// description alone.
fn says_required(sentence: &str) -> bool {
    let Some(rest) = sentence.trim().strip_prefix("Required") else { return false };
    let added = rest.strip_prefix([',', ';']);
    let conditional = |added: &str| {
        let word = added.split_whitespace().next().unwrap_or_default();
        ["where", "when", "but", "unless", "if"].contains(&word)
    };
    rest.is_empty() || added.is_some_and(|added| !conditional(added))
}

/// What a field holds, apart from how many of it.
fn held(field: &FieldDescriptor) -> Kind {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    }
}

/// The message whose fields stand beneath a field, if they are ours to set.
fn parent_of_fields(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match held(field) {
        Kind::Message(message) if !schema::is_secret(&message) && !schema::is_well_known(&message) => {
            Some(message)
        }
        _ => None,
    }
}

fn type_of(field: &FieldDescriptor) -> String {
    let held = match held(field) {
        Kind::Message(message) if schema::is_secret(&message) => "secret".to_owned(),
        Kind::Message(message) if schema::is_well_known(&message) => message.name().to_lowercase(),
        Kind::Message(message) => message.name().to_owned(),
        Kind::Enum(words) => words.name().to_owned(),
        kind => format!("{kind:?}").to_lowercase(),
    };
    match () {
        () if field.is_map() => format!("map[string]{held}"),
        () if field.is_list() => format!("[]{held}"),
        () => held,
    }
}

/// The words of an enum but the one that stands for none.
fn words_of(words: &EnumDescriptor) -> Vec<Word> {
    let set = words.values().filter(|word| word.number() != 0);
    set.map(|word| Word {
        word: word.name().to_owned(),
        description: comment(&words.parent_file(), word.path()),
    })
    .collect()
}

/// The comment in front of something, its lines joined to paragraphs.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    let text = location.map(|location| location.leading_comments()).unwrap_or_default();
    let paragraphs = text.split("\n\n").flat_map(|paragraph| {
        // Numbered points and rows of tables keep lines of their own.
        let mut lines: Vec<String> = Vec::new();
        for line in paragraph.lines().filter(|line| !line.trim().is_empty()) {
            let (begins, line) = (is_row(line), line.trim());
            match lines.last_mut() {
                Some(last) if !begins && !line.starts_with(|c: char| c.is_ascii_digit()) => {
                    last.push(' ');
                    last.push_str(line);
                }
                _ => lines.push(line.to_owned()),
            }
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Whether a line of a comment is a row of a table: it is indented, and begins with a word of the file's language.
fn is_row(line: &str) -> bool {
    line.starts_with("   `")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_what_a_kind_is_is_said_once() {
        let told = find("router").unwrap().description;
        assert_eq!(told.matches("Where calls go").count(), 1, "{told}");
        let told = find("database").unwrap().description;
        assert!(told.contains("`databases/{id}`") && told.contains("that workers use"), "{told}");
    }

    #[test]
    fn regression_rows_of_a_table_do_not_run_together() {
        let told = find("provider.request_builder.payload_structure.source").unwrap().description;
        let row = |word: &str| told.lines().any(|line| line.starts_with(&format!("`{word}` ")));
        assert!(row("model_name") && row("tools") && row("chain_of_thought"), "{told}");
    }

    #[test]
    fn regression_the_key_of_a_setting_alone_leads_to_the_setting() {
        let told = |path: &str| find(path).unwrap_err().to_string();
        assert!(told("max_retries").contains("`signalbox explain settings/max_retries`"));
        assert!(!told("no-kind.at.all").contains("settings/"));
    }

    #[test]
    fn every_kind_and_every_field_is_documented() {
        fn walk(entry: &Entry, depth: usize) {
            assert!(!entry.description.is_empty(), "{} has no comment", entry.path);
            for word in &entry.values {
                assert!(!word.description.is_empty(), "{} of {} has no comment", word.word, entry.path);
            }
            for field in &entry.fields {
                assert!(depth < 8, "{} is too deep", field.path);
                walk(&find(&field.path).unwrap(), depth + 1);
            }
        }
        let kinds = kinds();
        assert!(kinds.len() >= 12, "{kinds:?}");
        for kind in kinds {
            walk(&find(&kind.path).unwrap(), 0);
        }
    }

    #[test]
    fn a_field_is_told_with_all_that_its_comment_says() {
        let scheme = find("providers.auth.scheme").unwrap();
        assert_eq!((scheme.path.as_str(), scheme.of_type.as_str()), ("provider.auth.scheme", "AuthScheme"));
        assert!(
            scheme
                .values
                .iter()
                .any(|word| word.word == "AUTH_SCHEME_BEARER" && !word.description.is_empty())
        );
        assert!(scheme.values.iter().all(|word| !word.word.ends_with("UNSPECIFIED")));
        let kind = find("provider").unwrap();
        let field = |name: &str| kind.fields.iter().find(|field| field.path.ends_with(name)).unwrap();
        assert!(field(".type").required);
        assert_eq!(field(".enabled").filled_in, ["True is filled in."]);
        assert_eq!(field(".headers").of_type, "map[string]HeaderValue");
        assert_eq!(field(".models").of_type, "[]string");
        assert_eq!(find("apiKey").unwrap().path, "api_key");
        let secret = find("provider.headers.secret").unwrap();
        assert!(secret.secret && secret.fields.is_empty());
        assert_eq!(secret.one_of, ["plain", "secret"]);
        assert_eq!(find("router.retries.initialBackoff").unwrap().of_type, "duration");
    }

    #[test]
    fn regression_only_what_always_has_to_be_given_is_required() {
        for (path, required) in [
            ("tool.strict", false),
            ("database.database", false),
            ("database.host", false),
            ("prompt_template.template", false),
            ("api_key.secret", false),
            ("notification_channel.url", false),
            ("provider.type", true),
            ("router.primary", true),
            ("database.type", true),
        ] {
            assert_eq!(find(path).unwrap().required, required, "{path}");
        }
        for (sentence, required) in [
            ("Required", true),
            ("Required, at most 128 characters", true),
            ("Required; it has to exist", true),
            ("Required, but for SQLite, which has none", false),
            ("Required where there are no messages", false),
            ("Whether it is required", false),
        ] {
            assert_eq!(says_required(sentence), required, "{sentence}");
        }
    }

    #[test]
    fn a_wrong_path_is_told_what_there_is() {
        for (path, told) in [
            ("nothing", "`nothing` is no kind; known are provider, api_key"),
            ("provider.nothing", "`provider` has no field `nothing`; it has type, display_name"),
            ("provider.type.x", "`provider.type` has no fields, for it is ProviderType"),
            ("api_key.secret.value", "`api_key.secret` has no fields, for it is secret"),
        ] {
            let error = find(path).unwrap_err().to_string();
            assert!(error.contains(told), "{path}: {error}");
        }
    }
}

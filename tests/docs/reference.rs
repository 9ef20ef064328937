//! `docs/api.md` is made of the proto files and their comments, so that it says what they say.
//!
//! `UPDATE_DOCS=1 cargo test --test docs reference` writes it anew.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    ServiceDescriptor,
};
use signalbox::proto::DESCRIPTOR_POOL;

const PACKAGE: &str = "signalbox.v1";
const FILE: &str = "docs/api.md";
const HEAD: &str = "\
# API reference

<!-- Made from proto/ by `UPDATE_DOCS=1 cargo test --test docs reference`. Edit the comments there. -->

Package `signalbox.v1`. [`proto/`](../proto) has the files; a server with reflection describes itself. [Concepts](concepts.md)
says what the words mean, [operating](operating.md#when-a-call-is-refused) what to do about each reason of an error.

";

#[test]
fn the_reference_of_the_api_is_what_the_proto_files_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let made = reference(&DESCRIPTOR_POOL);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &made).expect("it can be written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let differs = made.lines().zip(there.lines()).position(|(made, there)| made != there);
    let at = differs.map_or("its end".to_owned(), |line| format!("line {}", line + 1));
    assert!(made == there, "{FILE} is out of date at {at}: UPDATE_DOCS=1 cargo test --test docs reference");
}

#[test]
fn the_reference_leaves_nothing_out() {
    let made = reference(&DESCRIPTOR_POOL);
    for name in
        ["## ConfigService", "### WatchConfig", "### ProviderSpec", "### AuthScheme", "| `base_url` |"]
    {
        assert!(made.contains(name), "{name}");
    }
    let undocumented: Vec<_> = made.lines().filter(|line| line.ends_with("|  |")).collect();
    assert!(undocumented.is_empty(), "{undocumented:#?}");
}

/// The whole document.
fn reference(pool: &DescriptorPool) -> String {
    let mut out = HEAD.to_owned();
    let mut services: Vec<_> = pool.services().filter(|service| service.package_name() == PACKAGE).collect();
    services.sort_by_key(|service| service.name().to_owned());
    let mut types: BTreeMap<String, Type> = BTreeMap::new();
    for message in pool.all_messages().filter(|each| each.package_name() == PACKAGE && !each.is_map_entry()) {
        types.insert(short(message.full_name()).to_owned(), Type::Message(message));
    }
    for words in pool.all_enums().filter(|each| each.package_name() == PACKAGE) {
        types.insert(short(words.full_name()).to_owned(), Type::Enum(words));
    }
    out.push_str("| service | RPCs |\n|---|---|\n");
    for service in &services {
        let links: Vec<String> = service.methods().map(|rpc| link(rpc.name())).collect();
        let _ = writeln!(out, "| {} | {} |", link(service.name()), links.join(", "));
    }
    services.iter().for_each(|service| describe_service(&mut out, service));
    out.push_str("\n## Messages and enums\n");
    types.iter().for_each(|(name, described)| describe(&mut out, name, described));
    out
}

enum Type {
    Message(MessageDescriptor),
    Enum(EnumDescriptor),
}

fn describe_service(out: &mut String, service: &ServiceDescriptor) {
    let file = service.parent_file();
    let _ = write!(out, "\n## {}\n\n{}\n", service.name(), comment(&file, service.path()));
    for rpc in service.methods() {
        let text = comment(&file, rpc.path());
        // What a reader looks for stands in lines of its own.
        let text = ["Roles", "Order", "Errors"].iter().fold(text, |text, word| {
            let text = text.replace(&format!(" {word}: "), &format!("\n\n**{word}:** "));
            text.replace(&format!("\n{word}: "), &format!("\n**{word}:** "))
        });
        let stream = |is: bool| if is { "a stream of " } else { "" };
        let (input, output) = (rpc.input(), rpc.output());
        let _ = write!(
            out,
            "\n### {}\n\n{}{} → {}{}\n\n{text}\n",
            rpc.name(),
            stream(rpc.is_client_streaming()),
            link(short(input.full_name())),
            stream(rpc.is_server_streaming()),
            link(short(output.full_name())),
        );
    }
}

fn describe(out: &mut String, name: &str, described: &Type) {
    match described {
        Type::Message(message) => {
            let _ = write!(out, "\n### {name}\n\n{}\n", comment(&message.parent_file(), message.path()));
            if message.fields().len() > 0 {
                out.push_str("\n| field | type | what |\n|---|---|---|\n");
            }
            for field in message.fields() {
                let what = cell(&comment(&field.parent_file(), field.path()));
                let _ = writeln!(
                    out,
                    "| `{}` | {} | {what}{} |",
                    field.name(),
                    type_of(&field),
                    alternatives(&field)
                );
            }
        }
        Type::Enum(words) => {
            let _ = write!(out, "\n### {name}\n\n{}\n", comment(&words.parent_file(), words.path()));
            out.push_str("\n| word | what |\n|---|---|\n");
            for word in words.values() {
                let what = cell(&comment(&words.parent_file(), word.path()));
                let _ = writeln!(out, "| `{}` | {what} |", word.name());
            }
        }
    }
}

/// What a field holds.
fn type_of(field: &FieldDescriptor) -> String {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        return format!(
            "map of {} to {}",
            one(&entry.map_entry_key_field()),
            one(&entry.map_entry_value_field())
        );
    }
    let optional = field.field_descriptor_proto().proto3_optional();
    let before = if field.is_list() {
        "list of "
    } else if optional {
        "optional "
    } else {
        ""
    };
    format!("{before}{}", one(field))
}

fn one(field: &FieldDescriptor) -> String {
    let named = |package: &str, name: &str| match package {
        PACKAGE => link(short(name)),
        _ => format!("`{name}`"),
    };
    match field.kind() {
        Kind::Message(message) => named(message.package_name(), message.full_name()),
        Kind::Enum(words) => named(words.package_name(), words.full_name()),
        kind => format!("{kind:?}").to_lowercase(),
    }
}

/// Which other fields a field shuts out.
fn alternatives(field: &FieldDescriptor) -> String {
    let written = |field: &FieldDescriptor| !field.field_descriptor_proto().proto3_optional();
    match field.containing_oneof().filter(|_| written(field)) {
        Some(oneof) if oneof.fields().len() > 1 => format!(" One of `{}`.", oneof.name()),
        _ => String::new(),
    }
}

/// A name without the package.
fn short(name: &str) -> &str {
    name.strip_prefix(PACKAGE).and_then(|name| name.strip_prefix('.')).unwrap_or(name)
}

/// A link to the heading of that name.
fn link(name: &str) -> String {
    format!("[{name}](#{})", name.to_lowercase().replace('.', ""))
}

/// A comment in a cell of a table.
fn cell(text: &str) -> String {
    text.replace("\n\n", "<br>").replace('\n', "<br>").replace('|', "\\|")
}

/// The comments in front of something, those that stand apart as well: paragraphs, and points in lines of their own.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let Some(location) = info.and_then(|info| info.location.iter().find(|location| location.path == path))
    else {
        return String::new();
    };
    let detached = location.leading_detached_comments.iter().map(String::as_str);
    let texts: Vec<String> = detached.chain([location.leading_comments()]).map(paragraphs).collect();
    texts.join("\n\n").trim().to_owned()
}

fn paragraphs(text: &str) -> String {
    let mut out = String::new();
    let mut in_list = false;
    for raw in text.trim_end().lines() {
        let raw = raw.strip_prefix(' ').unwrap_or(raw);
        let line = raw.split_whitespace().collect::<Vec<_>>().join(" ");
        let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let numbered = number.len() < line.len() && number.starts_with(". ");
        let listed = raw.starts_with("  `") || raw.starts_with("- ");
        // What is not indented any more is no part of the last point.
        let ends = in_list && !raw.starts_with(' ');
        let between = match () {
            () if line.is_empty() || ends && !listed && !numbered => "\n\n",
            () if out.is_empty() || out.ends_with("\n\n") => "",
            () if listed || numbered => "\n",
            () => " ",
        };
        let bullet = if listed { "- " } else { "" };
        out = format!("{}{between}{bullet}{}", out.trim_end_matches(' '), line.trim_start_matches("- "));
        in_list = listed || in_list && !ends && !line.is_empty();
    }
    out
}

//! Our own format: what `export`, `get` and `list` write. Sealed secrets are opened here, with the key of the export, and go
//! to the server as values.

use std::path::Path;

use prost_reflect::{DynamicMessage, MapKey, ReflectMessage, Value};
use prost_types::FieldMask;

use crate::{
    app::{ExportKey, SecretText},
    cli::{
        document::{self, Document},
        export::{SEALED, read_key},
        failure::Failure,
        input::Input,
        schema,
        tree::{self, Tree},
    },
    proto::v1::{ExportedSecret, ImportItem, Resource},
};

/// Reads files. A resource stands in them once.
///
/// # Errors
/// Everything that is wrong with the first file that is.
pub fn read(inputs: &[Input], key_file: Option<&Path>) -> Result<Vec<ImportItem>, Failure> {
    let mut documents: Vec<Document> = Vec::new();
    let mut sealed = Vec::new();
    for Input { place, text, is_json } in inputs {
        let wrong = |wrong: String| Failure::usage(format!("{place} can't be used:\n{wrong}"));
        let mut trees = tree::parse(text, *is_json).map_err(wrong)?;
        for tree in &mut trees {
            sealed.extend(take_sealed(tree).map_err(wrong)?);
        }
        let more = document::of_trees(trees, None).map_err(wrong)?;
        let twice =
            more.iter().find(|new| documents.iter().any(|old| old.resource.name == new.resource.name));
        if let Some(twice) = twice {
            return Err(wrong(format!("{}: is in another file as well", twice.resource.name)));
        }
        documents.extend(more);
    }
    open_sealed(&mut documents, &sealed, key_file)?;
    Ok(documents.into_iter().map(item).collect())
}

fn item(Document { resource, mask }: Document) -> ImportItem {
    ImportItem {
        resource: Some(resource),
        update_mask: Some(FieldMask { paths: mask }),
        ..ImportItem::default()
    }
}

/// Takes the sealed secrets out of a document.
fn take_sealed(tree: &mut Tree) -> Result<Vec<ExportedSecret>, String> {
    let Tree::Map(map) = tree else { return Ok(Vec::new()) };
    let Some(index) = map.iter().position(|(key, _)| key == SEALED) else { return Ok(Vec::new()) };
    let (_, list) = map.remove(index);
    if map.is_empty() {
        *tree = Tree::Null;
    }
    let Tree::List(list) = list else {
        return Err(format!("{SEALED}: must be a list, but is {}", list.what()));
    };
    list.iter().enumerate().map(|(index, entry)| sealed_of(index, entry)).collect()
}

fn sealed_of(index: usize, entry: &Tree) -> Result<ExportedSecret, String> {
    let text = |key: &str| match entry {
        Tree::Map(map) => map.iter().find(|(other, _)| other == key).and_then(|(_, value)| match value {
            Tree::Text(text) => Some(text.clone()),
            _ => None,
        }),
        _ => None,
    };
    let lacks = || format!("{SEALED}[{index}]: must have the texts name, field and sealed");
    let (name, field) = (text("name").ok_or_else(lacks)?, text("field").ok_or_else(lacks)?);
    Ok(ExportedSecret { name, field, sealed: text("sealed").ok_or_else(lacks)? })
}

/// Opens every sealed secret and puts it where it belongs.
fn open_sealed(
    documents: &mut [Document],
    sealed: &[ExportedSecret],
    key_file: Option<&Path>,
) -> Result<(), Failure> {
    if sealed.is_empty() {
        return Ok(());
    }
    let Some(key_file) = key_file else {
        return Err(Failure::usage(format!(
            "the export holds {} sealed secrets: give --export-key-file with the key that they were sealed with, or take \
             `{SEALED}` out of the file to import without them",
            sealed.len()
        )));
    };
    let key = ExportKey::parse(read_key(key_file)?.expose())
        .map_err(|problem| Failure::usage(format!("--export-key-file: the key {problem}")))?;
    for secret in sealed {
        let ExportedSecret { name, field, sealed } = secret;
        let value = key.open(name, field, sealed).ok_or_else(|| {
            Failure::usage(format!(
                "--export-key-file: is not the key of this export, or {field} of {name} was altered"
            ))
        })?;
        let document = documents.iter_mut().find(|document| document.resource.name == *name);
        let placed = document.is_some_and(|document| put(&mut document.resource, field, &value));
        if !placed {
            return Err(Failure::usage(format!(
                "{SEALED}: there is a secret of {field} of {name}, but no such field in the file"
            )));
        }
    }
    Ok(())
}

/// Puts a value into the secret at a path, as the server writes paths; whether there is such a secret.
fn put(resource: &mut Resource, field: &str, value: &SecretText) -> bool {
    let mut message = resource.transcode_to_dynamic();
    let placed = put_within(&mut message, "", field, value);
    if placed && let Ok(filled) = message.transcode_to() {
        *resource = filled;
    }
    placed
}

fn put_within(message: &mut DynamicMessage, place: &str, field: &str, value: &SecretText) -> bool {
    let path = |segment: &str| match place {
        "" => segment.to_owned(),
        place => format!("{place}.{segment}"),
    };
    message.fields_mut().any(|(descriptor, inner)| {
        let path = path(descriptor.name());
        match inner {
            Value::Message(inner) => put_into(inner, &path, field, value),
            Value::Map(entries) => entries.iter_mut().any(|(key, inner)| match (key, inner) {
                (MapKey::String(key), Value::Message(inner)) => {
                    put_into(inner, &format!("{path}.{key}"), field, value)
                }
                _ => false,
            }),
            _ => false,
        }
    })
}

fn put_into(inner: &mut DynamicMessage, path: &str, field: &str, value: &SecretText) -> bool {
    if !schema::is_secret(&inner.descriptor()) {
        return put_within(inner, path, field, value);
    }
    if path != field {
        return false;
    }
    inner.set_field_by_name("value", Value::String(value.expose().to_owned()));
    true
}

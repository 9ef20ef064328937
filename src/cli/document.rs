//! Resources as they are written in files: canonical proto JSON, or the same as YAML.
//!
//! Both spellings of field names are taken, and short words for enums. A field that is not known is refused with its
//! path. What a document mentions is what it changes: the mask is made from it.

use std::collections::BTreeSet;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use super::{
    scalar, schema,
    tree::{self, Tree},
};
use crate::proto::v1;

/// A resource from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What it says.
    pub resource: v1::Resource,
    /// The fields that it mentions.
    pub mask: Vec<String>,
}

/// Reads every resource of a text. `name` is for a single document that leaves its name out.
///
/// # Errors
/// Everything that is wrong, a line each.
pub fn read_all(text: &str, is_json: bool, name: Option<&str>) -> Result<Vec<Document>, String> {
    of_trees(tree::parse(text, is_json)?, name)
}

/// Reads every resource of documents that were parsed already.
///
/// # Errors
/// As [`read_all`].
pub fn of_trees(trees: Vec<Tree>, name: Option<&str>) -> Result<Vec<Document>, String> {
    let trees: Vec<Tree> = trees.into_iter().flat_map(resources_of).collect();
    if trees.is_empty() {
        return Err("holds no resource".to_owned());
    }
    let mut reader = Reader::default();
    let mut documents = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        reader.start(tree, index);
        documents.extend(reader.document(tree, name));
    }
    reader.refuse_duplicates(&documents);
    if reader.problems.is_empty() { Ok(documents) } else { Err(reader.problems.join("\n")) }
}

/// A document may be one resource, a list of them, or what `list` answers.
fn resources_of(tree: Tree) -> Vec<Tree> {
    match tree {
        Tree::Null => Vec::new(),
        Tree::List(list) => list,
        Tree::Map(mut map) if matches!(map.as_slice(), [(key, Tree::List(_)), ..] if key == "resources") => {
            resources_of(map.swap_remove(0).1)
        }
        other => vec![other],
    }
}

#[derive(Default)]
struct Reader {
    place: String,
    mask: BTreeSet<String>,
    problems: Vec<String>,
}

impl Reader {
    fn start(&mut self, tree: &Tree, index: usize) {
        let name = match tree {
            Tree::Map(map) => map.iter().find(|(key, _)| key == "name").map(|(_, value)| value),
            _ => None,
        };
        self.place = match name {
            Some(Tree::Text(name)) => name.clone(),
            _ => format!("document {}", index + 1),
        };
        self.mask.clear();
    }

    fn problem(&mut self, path: &str, what: impl std::fmt::Display) {
        let colon = if path.is_empty() { "" } else { ": " };
        self.problems.push(format!("{}: {path}{colon}{what}", self.place));
    }

    fn document(&mut self, tree: &Tree, name: Option<&str>) -> Option<Document> {
        let Tree::Map(map) = tree else {
            self.problem("", format_args!("is {}; a resource is a map with a name", tree.what()));
            return None;
        };
        let message = self.message(&schema::resource(), map, "");
        let mut resource: v1::Resource = match message.transcode_to() {
            Ok(resource) => resource,
            Err(error) => {
                self.problem("", error);
                return None;
            }
        };
        match name {
            Some(name) if resource.name.is_empty() => name.clone_into(&mut resource.name),
            Some(name) if resource.name != name => {
                self.problem("name", format_args!("is not {name}, which was asked for"))
            }
            None if resource.name.is_empty() => self.problem("name", "is missing"),
            _ => {}
        }
        let arm = schema::arms().find(|arm| message.has_field(arm));
        if let (Some(arm), Some(own)) = (arm, schema::arm_of_name(&resource.name))
            && arm != own
        {
            let what = format_args!("does not go with the name, which is of the kind {}", own.name());
            self.problem(arm.name(), what);
        }
        Some(Document { resource, mask: self.mask.iter().cloned().collect() })
    }

    fn refuse_duplicates(&mut self, documents: &[Document]) {
        let mut seen = BTreeSet::new();
        for document in documents {
            let name = document.resource.name.as_str();
            if !name.is_empty() && !seen.insert(name) {
                name.clone_into(&mut self.place);
                self.problem("", "is given twice; one write can change a resource once");
            }
        }
    }

    fn message(
        &mut self,
        descriptor: &MessageDescriptor,
        map: &[(String, Tree)],
        path: &str,
    ) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut seen: Vec<(FieldDescriptor, &str)> = Vec::new();
        for (key, tree) in map {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let Some(field) = schema::field(descriptor, key) else {
                let there = beneath(descriptor, map)
                    .unwrap_or_else(|| format!("there are {}", schema::field_names(descriptor)));
                self.problem(&path, format_args!("there is no such field; {there}"));
                continue;
            };
            let rival = seen.iter().find(|(other, _)| {
                *other == field
                    || schema::real_oneof(other)
                        .is_some_and(|oneof| schema::real_oneof(&field) == Some(oneof))
            });
            if let Some((other, rival)) = rival {
                let same = if *other == field { ", which is the same field" } else { "" };
                self.problem(
                    &path,
                    format_args!("stands beside `{rival}`{same}; only one of them can be set"),
                );
                continue;
            }
            seen.push((field.clone(), key));
            if let Some(value) = self.field(&field, tree, &path) {
                message.set_field(&field, value);
            }
        }
        message
    }

    /// The value of a field; `None` where there is none, or nothing to be kept.
    fn field(&mut self, field: &FieldDescriptor, tree: &Tree, path: &str) -> Option<Value> {
        let depth = path.matches('.').count();
        if depth == 0 && schema::OUTPUT_ONLY.contains(&field.name()) {
            return None;
        }
        let group = schema::message_of(field).filter(|message| {
            !field.is_list()
                && !field.is_map()
                && !schema::is_well_known(message)
                && !schema::is_secret(message)
        });
        // An empty group is given as such: what it lacks is to be told, not passed over.
        let is_bare = matches!(tree, Tree::Map(entries) if entries.is_empty());
        if depth > 0 && (group.is_none() || is_bare) || field.name() == "labels" {
            self.mention(path);
        }
        match tree {
            Tree::Null => {
                // Mentioned and without a value: cleared.
                if depth > 0 {
                    self.mention(path);
                }
                None
            }
            Tree::List(items) if field.is_list() => {
                let items = items.iter().enumerate();
                Some(Value::List(
                    items
                        .filter_map(|(i, item)| self.value(&field.kind(), item, &format!("{path}[{i}]")))
                        .collect(),
                ))
            }
            Tree::Map(entries) if field.is_map() => self.map(field, entries, path),
            _ if field.is_list() || field.is_map() => {
                let wanted = if field.is_list() { "a list" } else { "a map" };
                self.problem(path, format_args!("must be {wanted}, but is {}", tree.what()));
                None
            }
            _ => self.value(&field.kind(), tree, path),
        }
    }

    /// Notes a path for the mask, in the spelling of the proto files.
    fn mention(&mut self, path: &str) {
        let mut message = Some(schema::resource());
        let mut names = Vec::new();
        for key in path.split('.') {
            let Some(field) = message.and_then(|message| schema::field(&message, key)) else { return };
            names.push(field.name().to_owned());
            // What lies in a list, a map or a secret is written with the whole of it.
            let whole =
                |message: &MessageDescriptor| field.is_list() || field.is_map() || schema::is_secret(message);
            message = schema::message_of(&field).filter(|message| !whole(message));
        }
        self.mask.insert(names.join("."));
    }

    fn map(&mut self, field: &FieldDescriptor, entries: &[(String, Tree)], path: &str) -> Option<Value> {
        let kind = schema::message_of(field)?.map_entry_value_field().kind();
        let mut values = std::collections::HashMap::new();
        for (key, tree) in entries {
            if let Some(value) = self.value(&kind, tree, &format!("{path}[{key}]")) {
                values.insert(MapKey::String(key.clone()), value);
            }
        }
        Some(Value::Map(values))
    }

    fn value(&mut self, kind: &Kind, tree: &Tree, path: &str) -> Option<Value> {
        let wanted = match (kind, tree) {
            (Kind::Message(message), Tree::Map(map)) if !schema::is_well_known(message) => {
                return Some(Value::Message(self.message(message, map, path)));
            }
            (Kind::Message(message), _) if schema::is_secret(message) => {
                "a map with the secret as `value`, such as {value: ...}"
            }
            (Kind::Message(message), _) if !schema::is_well_known(message) => "a map",
            (Kind::String | Kind::Bytes | Kind::Message(_), Tree::Text(text)) => {
                return self.scalar(kind, text, path);
            }
            (Kind::String, Tree::Number(_) | Tree::Bool(_)) => "text; write it in quotes",
            (Kind::String, Tree::Map(_) | Tree::List(_)) => {
                "text; a JSON document is written in quotes, such as '{\"a\": 1}'"
            }
            (Kind::String | Kind::Bytes | Kind::Message(_), _) => "text",
            (Kind::Bool, Tree::Bool(value)) => return Some(Value::Bool(*value)),
            (Kind::Bool, _) => "true or false",
            // Canonical JSON writes 64-bit numbers as text.
            (Kind::Enum(_), Tree::Text(text) | Tree::Number(text)) => return self.scalar(kind, text, path),
            (Kind::Enum(_), _) => "a word",
            (_, Tree::Number(text) | Tree::Text(text)) => return self.scalar(kind, text, path),
            _ => "a number",
        };
        self.problem(path, format_args!("must be {wanted}, but is {}", tree.what()));
        None
    }

    fn scalar(&mut self, kind: &Kind, text: &str, path: &str) -> Option<Value> {
        scalar::parse(kind, text).map_err(|wrong| self.problem(path, wrong)).ok()
    }
}

/// Where the fields of the kind stand, for who writes one of them beside the name.
fn beneath(descriptor: &MessageDescriptor, map: &[(String, Tree)]) -> Option<String> {
    let name = map.iter().find_map(|(key, tree)| match tree {
        Tree::Text(name) if key == "name" => Some(name),
        _ => None,
    });
    let arm = schema::arm_of_name(name?).filter(|_| *descriptor == schema::resource())?;
    let fields = schema::field_names(&schema::message_of(&arm)?);
    Some(format!("what it holds stands beneath `{}`: {fields}", arm.name()))
}

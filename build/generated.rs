//! Code that follows from the descriptors, so that nothing about a kind is written down a second time.

use std::{collections::BTreeSet, error::Error, fmt::Write as _};

use prost_reflect::{
    DescriptorPool, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, OneofDescriptor,
};

const SECRET: &str = "signalbox.v1.Secret";

/// The arms of `Resource.spec`.
fn arms(pool: &DescriptorPool) -> Result<Vec<FieldDescriptor>, Box<dyn Error>> {
    let resource = pool.get_message_by_name("signalbox.v1.Resource").ok_or("no Resource message")?;
    let spec = resource.oneofs().find(|oneof| oneof.name() == "spec").ok_or("no spec in Resource")?;
    Ok(spec.fields().collect())
}

/// The names of the arms, and the name of the one that is set.
pub fn spec_arms(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let names: Vec<String> = arms(pool)?.iter().map(|field| field.name().to_owned()).collect();
    let arms: String = names.iter().map(|name| format!("Spec::{}(_) => \"{name}\", ", camel(name))).collect();
    Ok(format!(
        "const ARMS: &[&str] = &{names:?};\nfn arm(spec: &Spec) -> &'static str {{ match spec {{ {arms} }} }}\n"
    ))
}

/// The kinds as a client names them.
pub fn client_kinds(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let (mut variants, mut of, mut names) = (String::new(), String::new(), String::new());
    for arm in arms(pool)? {
        let (variant, name) = (camel(arm.name()), arm.name());
        writeln!(variants, "/// {}\n{variant},", comment(&arm.parent_file(), arm.path()))?;
        writeln!(of, "Spec::{variant}(_) => Self::{variant},")?;
        writeln!(names, "Self::{variant} => {name:?},")?;
    }
    Ok(format!(
        "/// A kind of configuration, by the arm of `Resource.spec`.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\n#[non_exhaustive]\n\
         pub enum Kind {{ {variants} }}\n\
         impl Kind {{\n\
         fn of_spec(spec: &Spec) -> Self {{ match spec {{ {of} }} }}\n\
         /// The name of the spec arm, as selectors have it.\n#[must_use]\n\
         pub fn as_str(self) -> &'static str {{ match self {{ {names} }} }}\n}}\n"
    ))
}

/// How each spec leads to its secrets: `Fields` for every message that holds any.
pub fn secret_fields(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let arms = arms(pool)?;
    let mut reached = BTreeSet::new();
    for message in arms.iter().filter_map(message_in) {
        reach(&message, &mut reached);
    }
    let mut code = String::new();
    for name in &reached {
        let message = pool.get_message_by_name(name).ok_or("a message without a descriptor")?;
        if name != SECRET && leads_to_secrets(&message, &mut BTreeSet::new()) {
            code += &fields_of(&message)?;
        }
    }
    let mut cases = String::new();
    for arm in arms.iter().filter(|arm| leads(arm)) {
        let (variant, name) = (camel(arm.name()), arm.name());
        writeln!(
            cases,
            "Spec::{variant}(inner) => within(path, {name:?}, |path| inner.visit(path, visit)),"
        )?;
    }
    writeln!(
        code,
        "impl Fields for Spec {{ fn visit(&mut self, path: &mut String, visit: &mut Visit<'_>) {{\n\
         match self {{ {cases} _ => {{}} }} }} }}"
    )?;
    Ok(code)
}

fn fields_of(message: &MessageDescriptor) -> Result<String, Box<dyn Error>> {
    let mut body = String::new();
    for field in message.fields().filter(|field| leads(field) && alternatives(field).is_none()) {
        let name = field.name();
        writeln!(body, "within(path, {name:?}, |path| self.{name}.visit(path, visit));")?;
    }
    for oneof in
        message.oneofs().filter(|oneof| oneof.fields().len() > 1 && oneof.fields().any(|field| leads(&field)))
    {
        let (name, choice) =
            (oneof.name(), format!("v1::{}::{}", snake(message.name()), camel(oneof.name())));
        for field in oneof.fields().filter(leads) {
            let (variant, alternative) = (camel(field.name()), field.name());
            writeln!(
                body,
                "if let Some({choice}::{variant}(inner)) = &mut self.{name} \
                 {{ within(path, {alternative:?}, |path| inner.visit(path, visit)); }}"
            )?;
        }
    }
    let message = message.name();
    Ok(format!(
        "impl Fields for v1::{message} {{ fn visit(&mut self, path: &mut String, visit: &mut Visit<'_>) {{ {body} }} }}\n"
    ))
}

/// The `oneof` whose alternative a field is, unless that only stands for `optional`.
fn alternatives(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|oneof| oneof.fields().len() > 1)
}

/// The message of ours that a field holds, be it in a list or a map.
fn message_in(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let kind = match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    match kind {
        Kind::Message(message) if message.package_name() == "signalbox.v1" => Some(message),
        _ => None,
    }
}

/// Whether there can be a secret in a field.
fn leads(field: &FieldDescriptor) -> bool {
    message_in(field).is_some_and(|message| leads_to_secrets(&message, &mut BTreeSet::new()))
}

fn leads_to_secrets(message: &MessageDescriptor, seen: &mut BTreeSet<String>) -> bool {
    message.full_name() == SECRET
        || (seen.insert(message.full_name().to_owned())
            && message
                .fields()
                .filter_map(|field| message_in(&field))
                .any(|inner| leads_to_secrets(&inner, seen)))
}

fn reach(message: &MessageDescriptor, reached: &mut BTreeSet<String>) {
    if reached.insert(message.full_name().to_owned()) {
        message.fields().filter_map(|field| message_in(&field)).for_each(|inner| reach(&inner, reached));
    }
}

/// The comment in front of something, on one line.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    let text = location.map(|location| location.leading_comments()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn camel(snake: &str) -> String {
    snake.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

fn snake(camel: &str) -> String {
    let mut snake = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

//! The conversation in the form that a provider wants it in.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    call::{Call, arguments},
    problems::{Problems, name_problem, shown},
    template::{Room, Template},
};
use crate::proto::v1::{ChatMessage, ChatRole, MessageFormat, ToolCall, ToolPart};

const CONTENT: &str = "content";
const ROLE_CHARS: usize = 64;
const ROLES: [(ChatRole, &str); 4] = [
    (ChatRole::System, "system"),
    (ChatRole::User, "user"),
    (ChatRole::Assistant, "assistant"),
    (ChatRole::Tool, "tool"),
];

/// What a message looks like. The default is text, and no tools.
#[derive(Clone, Debug, Default)]
pub(super) struct Format {
    roles: BTreeMap<String, String>,
    /// Empty is [`CONTENT`].
    content_field: String,
    text: Option<Template>,
    tool_call: Option<Part>,
    tool_result: Option<Part>,
    merge: bool,
}

#[derive(Clone, Debug)]
struct Part {
    place: Place,
    template: Template,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Content,
    Field(String),
    List,
}

/// A message that is being made.
#[derive(Default)]
struct Draft {
    role: String,
    parts: Vec<Value>,
    fields: Map<String, Value>,
    behind: Vec<Value>,
}

impl Format {
    pub fn parse(wire: &MessageFormat, path: &str, problems: &mut Problems) -> Self {
        for (role, name) in &wire.roles {
            let path = format!("{path}.roles.{}", shown(role));
            if !ROLES.iter().any(|(_, known)| known == role) {
                problems.add(&path, "UNKNOWN_VALUE", "is no role; `system`, `user`, `assistant`, `tool` are");
            }
            if name.is_empty() || name.chars().count() > ROLE_CHARS {
                problems.add(&path, "INVALID_FORMAT", "must be 1 to 64 characters");
            }
        }
        if !wire.content_field.is_empty() && name_problem(&wire.content_field).is_some() {
            let problem = "must be 1 to 64 letters, digits, `_` and `-` in ASCII";
            problems.add(format!("{path}.content_field"), "INVALID_FORMAT", problem);
        }
        let text = match wire.text_json.as_str() {
            "" => None,
            text => {
                let template = Template::parse(text, &["text"]);
                problems.take(&format!("{path}.text_json"), "INVALID_FORMAT", template)
            }
        };
        let lists = !wire.text_json.is_empty();
        if wire.merge && !lists {
            let problem = "needs `text_json`: only contents that are lists can be joined";
            problems.add(format!("{path}.merge"), "NOT_ALLOWED", problem);
        }
        let call = ("tool_call", &["id", "name", "arguments", "arguments_text"][..]);
        let result = ("tool_result", &["id", "name", "text"][..]);
        let mut part = |wire: &Option<ToolPart>, (field, known): (&str, &[&str])| {
            let path = format!("{path}.{field}");
            wire.as_ref().and_then(|wire| Part::parse(wire, &path, known, lists, problems))
        };
        let (tool_call, tool_result) = (part(&wire.tool_call, call), part(&wire.tool_result, result));
        if tool_result.as_ref().is_some_and(|part| matches!(part.place, Place::Field(_))) {
            let problem = "must be `content` or `list` for a result";
            problems.add(format!("{path}.tool_result.place"), "NOT_ALLOWED", problem);
        }
        let (roles, content_field) = (wire.roles.clone(), wire.content_field.clone());
        let format = Self { roles, content_field, text, tool_call, tool_result, merge: wire.merge };
        let place = format.tool_call.as_ref().map(|part| &part.place);
        if matches!(place, Some(Place::Field(name)) if name == "role" || name == format.content_field()) {
            let problem = "names the member that holds the role or the content; calls have one of their own";
            problems.add(format!("{path}.tool_call.place"), "NOT_ALLOWED", problem);
        }
        format
    }

    /// The list of messages. `system`: with what the model is told before everything else.
    pub fn render(&self, call: &Call, system: bool, room: &Room, problems: &mut Problems) -> Value {
        let functions = call.functions();
        let mut drafts: Vec<Draft> = Vec::new();
        let prompt = Some(call.chat.system_prompt.as_str()).filter(|text| system && !text.is_empty());
        drafts.extend(prompt.map(|text| self.text_draft(ChatRole::System, text, false, room)));
        for (index, message) in call.messages.iter().enumerate() {
            if message.role() == ChatRole::System && !system {
                continue;
            }
            let draft = self.draft(message, &functions, &format!("messages[{index}]"), room, problems);
            match drafts.last_mut().filter(|last| self.merge && last.joins(&draft)) {
                Some(last) => last.parts.extend(draft.parts),
                None => drafts.push(draft),
            }
        }
        drafts.into_iter().flat_map(|draft| self.finish(draft)).collect()
    }

    fn draft(
        &self,
        message: &ChatMessage,
        functions: &BTreeMap<&str, &str>,
        path: &str,
        room: &Room,
        problems: &mut Problems,
    ) -> Draft {
        if message.role() == ChatRole::Tool {
            return self.result_draft(message, functions, path, room, problems);
        }
        let mut draft = self.text_draft(message.role(), &message.text, !message.tool_calls.is_empty(), room);
        for call in &message.tool_calls {
            let Some(part) = &self.tool_call else {
                let problem = "can't be told to this provider: its request builder has no `tool_call`";
                problems.add(format!("{path}.tool_calls"), "NOT_SUPPORTED", problem);
                break;
            };
            draft.put(&part.place, part.template.fill(&call_values(call), room));
        }
        draft
    }

    fn result_draft(
        &self,
        message: &ChatMessage,
        functions: &BTreeMap<&str, &str>,
        path: &str,
        room: &Room,
        problems: &mut Problems,
    ) -> Draft {
        let mut draft = Draft { role: self.role(ChatRole::Tool), ..Draft::default() };
        let Some(part) = &self.tool_result else {
            let problem = "can't be told to this provider: its request builder has no `tool_result`";
            problems.add(format!("{path}.role"), "NOT_SUPPORTED", problem);
            return draft;
        };
        let id = message.tool_call_id.as_str();
        let name = functions.get(id).map(|name| json!(name));
        let values = [("id", Some(json!(id))), ("name", name), ("text", Some(json!(message.text)))];
        draft.put(&part.place, part.template.fill(&values, room));
        draft
    }

    /// A message that says a text, but for an empty one that something else stands beside.
    fn text_draft(&self, role: ChatRole, text: &str, beside: bool, room: &Room) -> Draft {
        let mut draft = Draft { role: self.role(role), ..Draft::default() };
        if text.is_empty() && beside {
            return draft;
        }
        match &self.text {
            Some(template) => draft.parts.extend(template.fill(&[("text", Some(json!(text)))], room)),
            None => drop(draft.fields.insert(self.content_field().to_owned(), json!(text))),
        }
        draft
    }

    fn finish(&self, draft: Draft) -> Vec<Value> {
        let Draft { role, parts, mut fields, behind } = draft;
        if !parts.is_empty() {
            fields.insert(self.content_field().to_owned(), Value::Array(parts));
        }
        let mut list = Vec::new();
        if !fields.is_empty() {
            fields.insert("role".into(), json!(role));
            list.push(Value::Object(fields));
        }
        list.extend(behind);
        list
    }

    fn role(&self, role: ChatRole) -> String {
        let word = ROLES.iter().find(|(known, _)| *known == role).map_or("", |(_, word)| *word);
        self.roles.get(word).cloned().unwrap_or_else(|| word.to_owned())
    }

    fn content_field(&self) -> &str {
        if self.content_field.is_empty() { CONTENT } else { &self.content_field }
    }
}

impl Part {
    fn parse(
        wire: &ToolPart,
        path: &str,
        known: &[&str],
        lists: bool,
        problems: &mut Problems,
    ) -> Option<Self> {
        let place = match wire.place.as_str() {
            "content" if lists => Some(Place::Content),
            "content" => {
                let problem = "is `content`, which needs `text_json`: a text has no parts";
                problems.add(format!("{path}.place"), "NOT_ALLOWED", problem);
                None
            }
            "list" => Some(Place::List),
            place => {
                let field = place.strip_prefix("field:").filter(|name| name_problem(name).is_none());
                if field.is_none() {
                    let problem =
                        "must be `content`, `list`, or `field:` and a name, for example `field:tool_calls`";
                    problems.add(format!("{path}.place"), "UNKNOWN_VALUE", problem);
                }
                field.map(|name| Place::Field(name.to_owned()))
            }
        };
        let template = Template::parse(&wire.template_json, known);
        let template = problems.take(&format!("{path}.template_json"), "INVALID_FORMAT", template);
        Some(Self { place: place?, template: template? })
    }
}

impl Draft {
    fn put(&mut self, place: &Place, value: Option<Value>) {
        let Some(value) = value else { return };
        match place {
            Place::Content => self.parts.push(value),
            Place::List => self.behind.push(value),
            Place::Field(name) => {
                if let Value::Array(list) = self.fields.entry(name).or_insert_with(|| json!([])) {
                    list.push(value);
                }
            }
        }
    }

    /// Whether another one can become part of it.
    fn joins(&self, other: &Self) -> bool {
        let plain = |draft: &Self| draft.fields.is_empty() && draft.behind.is_empty();
        self.role == other.role && plain(self) && plain(other)
    }
}

fn call_values(call: &ToolCall) -> [(&'static str, Option<Value>); 4] {
    let arguments = arguments(&call.arguments_json);
    // As the model has said it: another text of the same would not be found in the provider's cache of prompts.
    let text = if call.arguments_json.is_empty() { "{}" } else { &call.arguments_json };
    let text = arguments.as_ref().map(|_| json!(text));
    [
        ("id", Some(json!(call.id))),
        ("name", Some(json!(call.function_name))),
        ("arguments", arguments),
        ("arguments_text", text),
    ]
}

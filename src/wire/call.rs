//! A call of a model, as the caller has it: what is asked, with which parameters, offering which tools.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    bounds,
    problems::{Problem, Problems},
};
use crate::proto::v1::{
    ChatMessage, ChatParameters, ChatRole, GenerationParameters, ReasoningParameters, ToolChoiceMode,
    ToolSpec,
};

/// Messages of a conversation at most.
const MAX_MESSAGES: usize = 256;
/// Calls of tools in one message at most.
const MAX_CALLS: usize = 64;

/// What a model is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// The model; the provider's default where it is empty.
    pub model: String,
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// How the answer is generated.
    pub generation: GenerationParameters,
    /// How the conversation is held.
    pub chat: ChatParameters,
    /// How the model thinks.
    pub reasoning: ReasoningParameters,
    /// The tools that are offered.
    pub tools: Vec<Tool>,
}

/// A tool that a call offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Name of its resource, `tools/{id}`.
    pub name: String,
    /// What it is.
    pub spec: ToolSpec,
}

/// Everything that is wrong with a conversation, by paths that begin with `messages`.
#[must_use]
pub fn check_conversation(messages: &[ChatMessage]) -> Vec<Problem> {
    let mut problems = Problems::default();
    check_messages(messages, &mut problems);
    problems.into_result().err().unwrap_or_default()
}

impl Call {
    /// Notes everything that is wrong with the call, whoever it goes to.
    pub(super) fn check(&self, problems: &mut Problems) {
        check_messages(&self.messages, problems);
        let choice = self.chat.tool_choice.as_ref();
        let chosen = choice.filter(|choice| choice.mode() == ToolChoiceMode::Tool);
        if chosen.is_some_and(|chosen| !self.tools.iter().any(|tool| tool.name == chosen.tool)) {
            problems.add(
                "chat.tool_choice.tool",
                "NOT_ALLOWED",
                "must be one of the `tools` that are offered",
            );
        }
        bounds::check_parameters(self, problems);
    }

    /// The names of the functions that were called, by the ids of the calls.
    pub(super) fn functions(&self) -> BTreeMap<&str, &str> {
        let calls = self.messages.iter().flat_map(|message| &message.tool_calls);
        calls.map(|call| (call.id.as_str(), call.function_name.as_str())).collect()
    }

    /// What the model is told before everything else, in order.
    pub(super) fn system_texts(&self) -> impl Iterator<Item = &str> {
        let messages = self.messages.iter().filter(|message| message.role() == ChatRole::System);
        let texts = messages.map(|message| message.text.as_str());
        std::iter::once(self.chat.system_prompt.as_str()).chain(texts).filter(|text| !text.is_empty())
    }
}

fn check_messages(messages: &[ChatMessage], problems: &mut Problems) {
    if messages.is_empty() {
        problems.required("messages", "at least one message");
    }
    problems.at_most("messages", messages.len(), MAX_MESSAGES, "messages");
    let mut calls = BTreeSet::new();
    for (index, message) in messages.iter().enumerate().take(MAX_MESSAGES) {
        check_message(&format!("messages[{index}]"), message, &calls, problems);
        calls.extend(message.tool_calls.iter().map(|call| call.id.as_str()));
    }
}

fn check_message(path: &str, message: &ChatMessage, calls: &BTreeSet<&str>, problems: &mut Problems) {
    let role = ChatRole::try_from(message.role).unwrap_or(ChatRole::Unspecified);
    if role == ChatRole::Unspecified {
        let roles = "CHAT_ROLE_SYSTEM, CHAT_ROLE_USER, CHAT_ROLE_ASSISTANT or CHAT_ROLE_TOOL";
        problems.required(format!("{path}.role"), roles);
    }
    if role != ChatRole::Tool && message.text.is_empty() && message.tool_calls.is_empty() {
        problems.required(format!("{path}.text"), "a message says something");
    }
    if role != ChatRole::Assistant && !message.tool_calls.is_empty() {
        problems.add(format!("{path}.tool_calls"), "NOT_ALLOWED", "belong to CHAT_ROLE_ASSISTANT only");
    }
    check_calls(path, message, problems);
    let (path, id) = (format!("{path}.tool_call_id"), message.tool_call_id.as_str());
    match role {
        ChatRole::Tool if !calls.contains(id) => {
            problems.add(path, "UNKNOWN_VALUE", "must be the id of a tool call in an earlier message");
        }
        ChatRole::Tool => {}
        _ if !id.is_empty() => problems.add(path, "NOT_ALLOWED", "belongs to CHAT_ROLE_TOOL only"),
        _ => {}
    }
}

fn check_calls(path: &str, message: &ChatMessage, problems: &mut Problems) {
    problems.at_most(&format!("{path}.tool_calls"), message.tool_calls.len(), MAX_CALLS, "calls");
    for (index, call) in message.tool_calls.iter().enumerate().take(MAX_CALLS) {
        let path = format!("{path}.tool_calls[{index}]");
        if call.id.is_empty() {
            problems.required(format!("{path}.id"), "the id of the call");
        }
        if call.function_name.is_empty() {
            problems.required(format!("{path}.function_name"), "the name of the function");
        }
        if arguments(&call.arguments_json).is_none() {
            problems.add(format!("{path}.arguments_json"), "INVALID_FORMAT", "must be a JSON object");
        }
    }
}

/// The arguments of a tool call, of which the text may be empty.
pub(super) fn arguments(text: &str) -> Option<Value> {
    let text = if text.is_empty() { "{}" } else { text };
    serde_json::from_str(text).ok().filter(Value::is_object)
}

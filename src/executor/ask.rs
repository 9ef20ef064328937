//! A call as it is put together, and the whole answer to it.
//!
//! Owns the forms in which callers say what they want. Must not know where a call goes.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    Completion, CompletionError, CompletionStream, Executor,
    route::{Attempt, Route},
};
use crate::{
    client::Snapshot,
    proto::v1::{
        ChatMessage, ChatParameters, ChatRole, GenerationParameters, ReasoningParameters, resource::Spec,
    },
    wire::{Answer, Call, Problem, Tool},
};

const DEFAULT_ROUTER: &str = "default";

/// What is said to a model: a text by the user, or a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation(Vec<ChatMessage>);

impl From<&str> for Conversation {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for Conversation {
    fn from(text: String) -> Self {
        Self(vec![ChatMessage { role: ChatRole::User.into(), text, ..ChatMessage::default() }])
    }
}

impl From<Vec<ChatMessage>> for Conversation {
    fn from(messages: Vec<ChatMessage>) -> Self {
        Self(messages)
    }
}

/// A call that is not made yet: await it, or take its pieces.
#[derive(Debug)]
#[must_use = "a call is made when it is awaited or streamed"]
pub struct Ask<'e> {
    executor: &'e Executor,
    request: Request,
    tools: Vec<String>,
}

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) call: Call,
    pub(super) provider: Option<String>,
    pub(super) router: String,
    pub(super) timeout: Option<Duration>,
}

impl<'e> Ask<'e> {
    pub(super) fn new(
        executor: &'e Executor,
        messages: Conversation,
        model: Option<&str>,
        generation: Option<GenerationParameters>,
        reasoning: Option<ReasoningParameters>,
    ) -> Self {
        let call = Call {
            model: model.unwrap_or_default().to_owned(),
            messages: messages.0,
            generation: generation.unwrap_or_default(),
            reasoning: reasoning.unwrap_or_default(),
            ..Call::default()
        };
        let request = Request { call, provider: None, router: DEFAULT_ROUTER.to_owned(), timeout: None };
        Self { executor, request, tools: Vec::new() }
    }

    /// Asks this provider, by its id, and no other; by default the active one, and then its fallbacks.
    pub fn provider(mut self, id: impl Into<String>) -> Self {
        self.request.provider = Some(id.into());
        self
    }

    /// On the terms of this router, by its id; `default` by default.
    pub fn router(mut self, id: impl Into<String>) -> Self {
        self.request.router = id.into();
        self
    }

    /// How long the call may take in all, in place of what the router says.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.timeout = Some(limit);
        self
    }

    /// How the conversation is held. Whether the answer is streamed is said by how it is asked for.
    pub fn chat(mut self, chat: ChatParameters) -> Self {
        self.request.call.chat = chat;
        self
    }

    /// Offers tools that are configured, by their ids.
    pub fn tools<I: Into<String>>(mut self, ids: impl IntoIterator<Item = I>) -> Self {
        self.tools.extend(ids.into_iter().map(Into::into));
        self
    }

    /// Offers a tool that is not configured.
    pub fn tool(mut self, tool: Tool) -> Self {
        self.request.call.tools.push(tool);
        self
    }

    /// Asks for the answer piece by piece. Once something was said nobody else is asked.
    ///
    /// # Errors
    /// When there is nobody to ask, or a tool is not there.
    pub fn stream(self) -> Result<CompletionStream, CompletionError> {
        let executor = self.executor.clone();
        Ok(CompletionStream::new(executor, self.route(true)?))
    }

    fn route(mut self, streamed: bool) -> Result<Route, CompletionError> {
        let snapshot = self.executor.client.snapshot_for_calls();
        self.request.call.chat.stream = if streamed { Some(true) } else { None };
        let problems = offer(&mut self.request.call, &self.tools, &snapshot);
        if !problems.is_empty() {
            return Err(CompletionError::Call(problems));
        }
        Route::new(snapshot, self.request, &self.executor.memory)
    }

    async fn completed(self) -> Result<Completion, CompletionError> {
        let executor = self.executor;
        let mut route = self.route(false)?;
        loop {
            let attempt = route.next_attempt()?;
            let begun = Instant::now();
            match answer(executor, &attempt).await {
                Ok(answer) => {
                    executor.memory.took(&attempt.provider, begun.elapsed());
                    return Ok(route.completion(attempt, answer));
                }
                Err(error) => sleep(route.failed(&attempt, error)).await,
            }
        }
    }
}

impl<'e> IntoFuture for Ask<'e> {
    type Output = Result<Completion, CompletionError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'e>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.completed())
    }
}

async fn answer(executor: &Executor, attempt: &Attempt) -> Result<Answer, super::AttemptError> {
    let mut reply = executor.http.send(attempt, attempt.deadline).await?;
    let body = reply.rest(attempt.deadline).await?;
    if reply.is_good() { Ok(attempt.mapping.answer(&body)?) } else { Err(attempt.refused(&reply, &body)) }
}

/// Puts the tools with these ids into the call; gives what is wrong with them.
fn offer(call: &mut Call, ids: &[String], snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, id) in ids.iter().enumerate() {
        let name = if id.starts_with("tools/") { id.clone() } else { format!("tools/{id}") };
        let found = snapshot.get(&name);
        match found.as_deref().map(|resource| &resource.spec) {
            Some(Some(Spec::Tool(spec))) if spec.enabled.unwrap_or(true) => {
                call.tools.push(Tool { name, spec: spec.clone() });
            }
            _ => problems.push(Problem {
                path: format!("tools[{index}]"),
                reason: "UNKNOWN_VALUE",
                description: "must be the id of a tool that is configured and enabled".to_owned(),
            }),
        }
    }
    problems
}

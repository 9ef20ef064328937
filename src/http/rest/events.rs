//! Streams as server-sent events.
//!
//! An event is named after the arm of the message's `oneof` that is set, and holds the message as canonical JSON. One that can
//! be resumed from has an id, which comes back as `Last-Event-ID`: the resume token, a slash, and the view that it is of. The
//! last event is always `status`, a `google.rpc.Status`, also when all is well; after it the connection ends.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use tonic::{Code, Status};

use super::frames::{Answer, Next};
use crate::http::answer;

/// A silent stream says so this often, so that nothing between takes it for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The answer of a call that streams.
pub(super) fn respond(answer: Answer, output: MessageDescriptor, last_event_id: Option<&str>) -> Response {
    let view = last_event_id.and_then(|id| id.split_once('/')).map(|(_, view)| view.to_owned());
    let events = Events { answer: Some(answer), output, view: view.unwrap_or_default() };
    let body = stream::unfold(events, async |mut events| {
        let text = events.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), events))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

struct Events {
    /// Let go of with the last event, so that the place among the open streams is free by then.
    answer: Option<Answer>,
    output: MessageDescriptor,
    view: String,
}

impl Events {
    async fn next(&mut self) -> Option<String> {
        let answer = self.answer.as_mut()?;
        let Ok(next) = tokio::time::timeout(HEARTBEAT, answer.next()).await else {
            return Some(":\n\n".to_owned());
        };
        let ended = match next {
            Next::Message(bytes) => match DynamicMessage::decode(self.output.clone(), bytes) {
                Ok(message) => match self.event(&message) {
                    Some(text) => return Some(text),
                    None => answer::unreadable(),
                },
                Err(_) => answer::unreadable(),
            },
            Next::End(status) => status,
        };
        self.answer = None;
        Some(format!("event: status\ndata: {}\n\n", status_json(&ended)))
    }

    /// A message as an event; `None` if it can't be written.
    fn event(&mut self, message: &DynamicMessage) -> Option<String> {
        let arm = self.output.oneofs().flat_map(|oneof| oneof.fields().collect::<Vec<_>>());
        let arm = arm.into_iter().find(|arm| message.has_field(arm));
        let name = arm.as_ref().map_or("message", |arm| arm.name());
        let inner = arm.as_ref().map(|arm| message.get_field(arm));
        let inner = inner.as_deref().and_then(Value::as_message).unwrap_or(message);
        let text = |field: &str| {
            let value = inner.get_field_by_name(field)?;
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        if let Some(view) = text("view_id") {
            self.view = view;
        }
        let id = text("resume_token").map(|token| format!("id: {token}/{}\n", self.view)).unwrap_or_default();
        let retry = reconnect_after(inner).map(|pause| format!("retry: {pause}\n")).unwrap_or_default();
        let json = super::text(message)?;
        Some(format!("event: {name}\n{id}{retry}data: {json}\n\n"))
    }
}

/// When a client is to come back, in milliseconds.
fn reconnect_after(message: &DynamicMessage) -> Option<u128> {
    let value = message.get_field_by_name("reconnect_after")?;
    let pause: prost_types::Duration = value.as_message()?.transcode_to().ok()?;
    Duration::try_from(pause).ok().map(|pause| pause.as_millis())
}

fn status_json(status: &Status) -> String {
    match status.code() {
        Code::Ok => r#"{"code":0}"#.to_owned(),
        _ => answer::content(status).to_string(),
    }
}

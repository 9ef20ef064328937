//! What a refusal leaves of a request's body: read, up to a bound, before the answer goes out over HTTP/2. An answer that comes
//! before the request's end has the rest of it cut off there, and some clients (curl 7.88) then show the cut in the place of the
//! answer. It must not know what a body holds.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::{sync::oneshot, time::timeout};

/// Bytes that are read; who sends more sees the cut.
const BYTES: usize = 64 * 1024;
/// How long they may take: who sends slowly does not keep a request open.
const TIME: Duration = Duration::from_secs(1);

/// Gets a body back that was lent out, once who had it lets go of it.
pub(super) struct Unread(oneshot::Receiver<Body>);

impl Unread {
    /// Lends a request's body out.
    pub fn lend(request: Request) -> (Request, Self) {
        let (owner, unread) = oneshot::channel();
        let lent = |body| Body::new(Lent { body, owner: Some(owner) });
        (request.map(lent), Self(unread))
    }

    /// Reads what is left of it, if it was let go of before its end.
    pub async fn read(mut self) {
        let Ok(mut body) = self.0.try_recv() else { return };
        let read = async {
            let mut left = BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    return;
                }
            }
        };
        // Whatever is left then is cut off.
        let _ = timeout(TIME, read).await;
    }
}

/// A body that goes back to its owner.
struct Lent {
    body: Body,
    owner: Option<oneshot::Sender<Body>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take()
            && !self.body.is_end_stream()
        {
            // Nobody may wait for it.
            let _ = owner.send(std::mem::take(&mut self.body));
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

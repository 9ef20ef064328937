//! Lends a request's body out, and reads what has come back of it before the answer goes out (`grpc::read_on` says why). It must
//! not know what a body holds.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use crate::grpc::read_on;

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
        if let Ok(body) = self.0.try_recv() {
            read_on(body).await;
        }
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

//! What an RPC answers: messages in frames of gRPC, and the status at the end.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tonic::{Code, Status, body::Body};

/// The answer of a call, to be read message by message.
pub(super) struct Answer {
    body: Body,
    buffer: BytesMut,
    /// How it ended, once that is known.
    status: Option<Status>,
}

/// What comes next in an answer.
pub(super) enum Next {
    /// An encoded message.
    Message(Bytes),
    /// The end.
    End(Status),
}

impl Answer {
    /// Begins to read, unless the call has failed at once.
    pub fn begin(response: http::Response<Body>) -> Result<Self, Status> {
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => Err(status),
            status => Ok(Self { body: response.into_body(), buffer: BytesMut::new(), status }),
        }
    }

    /// Waits for what comes next. To be let go of while it waits loses nothing.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(message) = self.take_message() {
                return Next::Message(message);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        self.status = frame.trailers_ref().and_then(Status::from_header_map);
                    }
                },
                Some(Err(status)) => return Next::End(status),
                None => {
                    let broken_off = || Status::internal("the answer broke off");
                    return Next::End(self.status.take().unwrap_or_else(broken_off));
                }
            }
        }
    }

    fn take_message(&mut self) -> Option<Bytes> {
        let (_, mut length) = self.buffer.split_at_checked(1)?;
        let length = usize::try_from(length.try_get_u32().ok()?).ok()?;
        if self.buffer.len() < 5 + length {
            return None;
        }
        self.buffer.advance(5);
        Some(self.buffer.split_to(length).freeze())
    }
}

//! What a refusal leaves of a request's body: read, up to a bound, before the answer goes out over HTTP/2. An answer that comes
//! before the request's end has the rest of it cut off there, and some clients (curl 7.88) then show the cut in the place of the
//! answer. It must not know what a body holds.

use std::{pin::pin, time::Duration};

use bytes::Buf;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

/// Bytes that are read; who sends more sees the cut.
const BYTES: usize = 64 * 1024;
/// How long they may take: who sends slowly does not keep a request open.
const TIME: Duration = Duration::from_secs(1);

/// Reads on, to the end or the bound.
pub async fn read_on<B: Body>(body: B) {
    let read = async {
        let (mut body, mut left) = (pin!(body), BYTES);
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Buf::remaining));
            if left == 0 {
                return;
            }
        }
    };
    // Whatever is left then is cut off.
    let _ = timeout(TIME, read).await;
}

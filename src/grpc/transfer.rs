//! Imports and exports on the wire: what comes in many messages is put together, and what goes out is cut into them.

use std::pin::Pin;

use futures_util::{Stream, stream};
use prost::Message;
use tonic::{Request, Status, Streaming};

use super::to_status;
use crate::{
    auth::Caller,
    domain::Error,
    proto::v1::{ExportConfigResponse, ImportConfigRequest},
    service::{Export, ImportRequest, check_growth},
};

/// An export on its way out.
pub type ExportStream = Pin<Box<dyn Stream<Item = Result<ExportConfigResponse, Status>> + Send>>;

/// Reads a whole import, within bounds. The request that is left tells who called: to be asked once more now, because the
/// messages may have taken their time.
pub async fn receive(
    request: Request<Streaming<ImportConfigRequest>>,
) -> Result<(Request<()>, ImportRequest), Status> {
    Caller::of(&request).map_err(to_status)?;
    let (metadata, extensions, mut messages) = request.into_parts();
    let (mut import, mut bytes, mut first) = (ImportRequest::default(), 0, true);
    while let Some(message) = messages.message().await? {
        bytes += message.encoded_len();
        let ImportConfigRequest { options, items } = message;
        match options {
            Some(options) if first => import.options = options,
            Some(_) => {
                let description = "belongs into the first message only";
                return Err(to_status(Error::invalid("options", "NOT_ALLOWED", description)));
            }
            None => {}
        }
        first = false;
        import.items.extend(items);
        check_growth(import.items.len(), bytes).map_err(to_status)?;
    }
    Ok((Request::from_parts(metadata, extensions, ()), import))
}

/// Sends an export, a part as soon as the one before is taken.
pub fn send(export: Export) -> ExportStream {
    let step = async |mut export: Export| {
        let part = export.part().map_err(to_status).transpose()?;
        Some((part, export))
    };
    Box::pin(stream::unfold(export, step))
}

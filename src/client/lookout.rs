//! Looks for a server which hears of the store, while a stream is followed whose server does not.
//!
//! Owns whom it asks, how often, and what counts as better. The stream goes on meanwhile: it is not given up for a server that
//! is no better. Must not know streams.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::Code;

use super::{backoff::Backoff, connection::Connection, error::Error, options::ClientOptions};
use crate::{duration, proto::v1::ListResourcesRequest};

/// Between two questions: all workers of a service that has lost its store ask.
const FLOOR: Duration = Duration::from_secs(1);
const CEILING: Duration = Duration::from_secs(30);
/// How long a server may take to be reached and to say how fresh it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that hears of the store.
pub(super) struct Found {
    /// Its place among the endpoints.
    pub(super) endpoint: usize,
    pub(super) connection: Connection,
}

/// Asks the endpoints after the present one, one after the other, until the store of one was heard of within `patience`.
pub(super) async fn look(options: ClientOptions, present: usize, patience: Duration) -> Found {
    let mut backoff = Backoff::new(FLOOR, CEILING, Box::new(rand::random::<f64>));
    let mut endpoint = present;
    loop {
        sleep(backoff.next_delay()).await;
        // The one that is followed comes last: behind its name there may be others.
        endpoint = endpoint.wrapping_add(1) % options.endpoints.len().max(1);
        let Some(url) = options.endpoints.get(endpoint) else { continue };
        if let Ok(Ok(connection)) = timeout(PATIENCE, ask(url, &options, patience)).await {
            return Found { endpoint, connection };
        }
    }
}

/// A connection to a server that hears of its store.
async fn ask(url: &str, options: &ClientOptions, patience: Duration) -> Result<Connection, Error> {
    let mut connection = Connection::open_to(url, options).await?;
    // The cheapest question that is answered with it, to whoever may watch.
    let request = ListResourcesRequest { page_size: 1, ..ListResourcesRequest::default() };
    match connection.config.list_resources(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let age = answer.confirmed_age.and_then(duration::read).unwrap_or_default();
            if answer.stale || age > patience { Err(Error::Unconfirmed(age)) } else { Ok(connection) }
        }
        // Who can't be asked is no worse than one that does not hear of its store.
        Err(status) if status.code() == Code::Unimplemented => Ok(connection),
        Err(status) => Err(status.into()),
    }
}

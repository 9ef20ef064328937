//! How a watch stream is opened.
//!
//! Owns the choice of the endpoint and the seam at which tests put a script in place of the network. Must not know what
//! a stream says.

use std::{future::Future, pin::Pin, time::Duration};

use futures_util::Stream;
use tonic::Status;

use super::{
    connection::{Authorized, Connection},
    error::Error,
    lookout::{self, Found},
    options::ClientOptions,
    token::Subject,
};
use crate::proto::v1::{WatchConfigRequest, WatchConfigResponse, fleet_service_client::FleetServiceClient};

pub(super) type EventStream = Pin<Box<dyn Stream<Item = Result<WatchConfigResponse, Status>> + Send>>;

/// Ends with a server that hears of the store, however long that takes.
pub(super) type Looking<F> = Pin<Box<dyn Future<Output = F> + Send>>;

/// Opens streams.
pub(super) trait Transport: Send + 'static {
    /// A server that was looked for.
    type Found: Send;

    /// Opens a stream to the present endpoint, over a connection of its own and with the token read anew.
    fn open(
        &mut self,
        request: WatchConfigRequest,
    ) -> impl Future<Output = Result<EventStream, Error>> + Send;

    /// Goes on to the next endpoint, if there is another; or to the server that was found.
    fn rotate(&mut self);

    /// Looks for a server whose store was heard of within `patience`.
    fn look(&self, patience: Duration) -> Looking<Self::Found>;

    /// The next stream is opened there.
    fn go_to(&mut self, found: Self::Found);

    /// Whom the token of the stream that was opened last speaks for.
    fn subject(&self) -> &Subject;

    /// What takes reports, over the connection of the present stream; where nothing does, none are made.
    fn reports(&self) -> Option<FleetServiceClient<Authorized>> {
        None
    }
}

/// The transport of real life.
pub(super) struct Dialer {
    options: ClientOptions,
    present: usize,
    /// Over which the next stream is opened, where it is there already.
    found: Option<Connection>,
    reports: Option<FleetServiceClient<Authorized>>,
    subject: Subject,
}

impl Dialer {
    pub(super) fn new(options: ClientOptions) -> Self {
        Self { options, present: 0, found: None, reports: None, subject: Subject::default() }
    }
}

impl Transport for Dialer {
    type Found = Found;

    async fn open(&mut self, request: WatchConfigRequest) -> Result<EventStream, Error> {
        let endpoints = &self.options.endpoints;
        let endpoint = endpoints.get(self.present % endpoints.len().max(1));
        let endpoint =
            endpoint.ok_or_else(|| Error::Options("at least one endpoint is needed".to_owned()))?;
        let mut connection = match self.found.take() {
            Some(found) => found,
            None => Connection::open_to(endpoint, &self.options).await?,
        };
        self.reports = Some(connection.fleet.clone());
        let stream = connection.config.watch_config(request).await?;
        self.subject = connection.subject;
        Ok(Box::pin(stream.into_inner()))
    }

    fn rotate(&mut self) {
        if self.found.is_none() {
            self.present = self.present.wrapping_add(1);
        }
    }

    fn look(&self, patience: Duration) -> Looking<Found> {
        Box::pin(lookout::look(self.options.clone(), self.present, patience))
    }

    fn go_to(&mut self, found: Found) {
        (self.present, self.found) = (found.endpoint, Some(found.connection));
    }

    fn subject(&self) -> &Subject {
        &self.subject
    }

    fn reports(&self) -> Option<FleetServiceClient<Authorized>> {
        self.reports.clone()
    }
}

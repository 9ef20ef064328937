//! How much of the server one caller, one connection and all together may take.

use std::time::Duration;

use super::{
    options::{Opt, Problem},
    reader::Reader,
    values::{self, show_bytes, show_duration},
};

macro_rules! limit {
    ($name:ident, $flag:literal, $env:literal, $key:literal, $value:literal, $default:literal, $help:literal) => {
        const $name: Opt = Opt::new($flag, $env, $key, $value, $help).or($default);
    };
}

limit!(
    MAX_STREAMS,
    "max-streams",
    "SIGNALBOX_MAX_STREAMS",
    "limits.max_streams",
    "N",
    "20000",
    "Open watch streams in all"
);
limit!(
    MAX_STREAMS_PER_IDENTITY,
    "max-streams-per-identity",
    "SIGNALBOX_MAX_STREAMS_PER_IDENTITY",
    "limits.max_streams_per_identity",
    "N",
    "10000",
    "Open watch streams of one subject"
);
limit!(
    MAX_STREAMS_PER_CONNECTION,
    "max-streams-per-connection",
    "SIGNALBOX_MAX_STREAMS_PER_CONNECTION",
    "limits.max_streams_per_connection",
    "N",
    "2000",
    "Concurrent HTTP/2 streams on one connection"
);
limit!(
    MAX_CONNECTIONS,
    "max-connections",
    "SIGNALBOX_MAX_CONNECTIONS",
    "limits.max_connections",
    "N",
    "20000",
    "Open connections of each listener; one peer without a good token has at most half of them"
);
limit!(
    MAX_REQUEST_BYTES,
    "max-request-bytes",
    "SIGNALBOX_MAX_REQUEST_BYTES",
    "limits.max_request_bytes",
    "SIZE",
    "1MiB",
    "Size of one message that comes in"
);
limit!(
    MAX_RESPONSE_BYTES,
    "max-response-bytes",
    "SIGNALBOX_MAX_RESPONSE_BYTES",
    "limits.max_response_bytes",
    "SIZE",
    "1MiB",
    "Size of one message that goes out"
);
limit!(
    HEADER_LIST_BYTES,
    "header-list-bytes",
    "SIGNALBOX_HEADER_LIST_BYTES",
    "limits.header_list_bytes",
    "SIZE",
    "16KiB",
    "Size of all headers of one call"
);
limit!(
    ACCEPT_BACKLOG,
    "accept-backlog",
    "SIGNALBOX_ACCEPT_BACKLOG",
    "limits.accept_backlog",
    "N",
    "4096",
    "Connections that wait to be accepted"
);
limit!(
    KEEPALIVE_INTERVAL,
    "keepalive-interval",
    "SIGNALBOX_KEEPALIVE_INTERVAL",
    "limits.keepalive_interval",
    "TIME",
    "10s",
    "How often a silent connection is probed"
);
limit!(
    KEEPALIVE_TIMEOUT,
    "keepalive-timeout",
    "SIGNALBOX_KEEPALIVE_TIMEOUT",
    "limits.keepalive_timeout",
    "TIME",
    "10s",
    "How long a probe may go unanswered"
);
limit!(
    HANDSHAKE_TIMEOUT,
    "handshake-timeout",
    "SIGNALBOX_HANDSHAKE_TIMEOUT",
    "limits.handshake_timeout",
    "TIME",
    "10s",
    "How long TLS and the beginning of HTTP/2 may take"
);
limit!(
    STREAM_STALL_TIMEOUT,
    "stream-stall-timeout",
    "SIGNALBOX_STREAM_STALL_TIMEOUT",
    "limits.stream_stall_timeout",
    "TIME",
    "1m",
    "How long a watcher may read nothing of what it is sent, beyond what buffers hold, before its connection is cut"
);
limit!(
    CONNECTION_MAX_AGE,
    "connection-max-age",
    "SIGNALBOX_CONNECTION_MAX_AGE",
    "limits.connection_max_age",
    "TIME",
    "1h",
    "Age at which a connection is asked to come anew, or off"
);
limit!(
    CONNECTION_AGE_JITTER,
    "connection-age-jitter",
    "SIGNALBOX_CONNECTION_AGE_JITTER",
    "limits.connection_age_jitter",
    "TIME",
    "10m",
    "What the age of connections is spread by, at random"
);
limit!(
    REQUEST_TIMEOUT,
    "request-timeout",
    "SIGNALBOX_REQUEST_TIMEOUT",
    "limits.request_timeout",
    "TIME",
    "30s",
    "How long a call that is no stream may take"
);
limit!(
    LOG_RING_BYTES,
    "log-ring-bytes",
    "SIGNALBOX_LOG_RING_BYTES",
    "limits.log_ring_bytes",
    "SIZE",
    "64MiB",
    "Memory for the newest changes, encoded, that all watchers read from"
);

/// The options of this section.
pub static OPTIONS: [&Opt; 16] = [
    &MAX_STREAMS,
    &MAX_STREAMS_PER_IDENTITY,
    &MAX_STREAMS_PER_CONNECTION,
    &MAX_CONNECTIONS,
    &MAX_REQUEST_BYTES,
    &MAX_RESPONSE_BYTES,
    &HEADER_LIST_BYTES,
    &ACCEPT_BACKLOG,
    &KEEPALIVE_INTERVAL,
    &KEEPALIVE_TIMEOUT,
    &HANDSHAKE_TIMEOUT,
    &STREAM_STALL_TIMEOUT,
    &CONNECTION_MAX_AGE,
    &CONNECTION_AGE_JITTER,
    &REQUEST_TIMEOUT,
    &LOG_RING_BYTES,
];

/// How much may be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open watch streams in all.
    pub max_streams: usize,
    /// Open watch streams of one subject.
    pub max_streams_per_identity: usize,
    /// Concurrent HTTP/2 streams on one connection.
    pub max_streams_per_connection: u32,
    /// Open connections of each listener; one peer without a good token has at most half of them.
    pub max_connections: usize,
    /// Bytes of one message that comes in.
    pub max_request_bytes: usize,
    /// Bytes of one message that goes out.
    pub max_response_bytes: usize,
    /// Bytes of all headers of one call.
    pub header_list_bytes: u32,
    /// Connections that wait to be accepted.
    pub accept_backlog: u32,
    /// How often a silent connection is probed.
    pub keepalive_interval: Duration,
    /// How long a probe may go unanswered.
    pub keepalive_timeout: Duration,
    /// How long TLS and the beginning of HTTP/2 may take.
    pub handshake_timeout: Duration,
    /// How long a stream may leave what it was sent unread.
    pub stream_stall_timeout: Duration,
    /// Age at which a connection is asked to come anew; `None` for never.
    pub connection_max_age: Option<Duration>,
    /// What the age is spread by: each connection lives between the age less this and the age.
    pub connection_age_jitter: Duration,
    /// How long a unary call may take.
    pub request_timeout: Duration,
    /// Memory of the ring of encoded changes.
    pub log_ring_bytes: usize,
}

impl Limits {
    /// Reads the section.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let max_streams = from.get(&MAX_STREAMS, values::number);
        let max_streams_per_identity = from.get(&MAX_STREAMS_PER_IDENTITY, values::number);
        let max_streams_per_connection = from.get(&MAX_STREAMS_PER_CONNECTION, values::number);
        let max_connections = from.get(&MAX_CONNECTIONS, values::number);
        let max_request_bytes = from.get(&MAX_REQUEST_BYTES, values::bytes);
        let max_response_bytes = from.get(&MAX_RESPONSE_BYTES, values::bytes);
        let header_list_bytes = from.get(&HEADER_LIST_BYTES, small_bytes);
        let accept_backlog = from.get(&ACCEPT_BACKLOG, values::number);
        let keepalive_interval = from.get(&KEEPALIVE_INTERVAL, values::duration);
        let keepalive_timeout = from.get(&KEEPALIVE_TIMEOUT, values::duration);
        let handshake_timeout = from.get(&HANDSHAKE_TIMEOUT, values::duration);
        let stream_stall_timeout = from.get(&STREAM_STALL_TIMEOUT, values::duration);
        let connection_max_age = from.get(&CONNECTION_MAX_AGE, values::duration_or_off);
        let connection_age_jitter = from.get(&CONNECTION_AGE_JITTER, values::duration);
        let request_timeout = from.get(&REQUEST_TIMEOUT, values::duration);
        let log_ring_bytes = from.get(&LOG_RING_BYTES, values::bytes);
        Some(Self {
            max_streams: max_streams?,
            max_streams_per_identity: max_streams_per_identity?,
            max_streams_per_connection: max_streams_per_connection?,
            max_connections: max_connections?,
            max_request_bytes: max_request_bytes?,
            max_response_bytes: max_response_bytes?,
            header_list_bytes: header_list_bytes?,
            accept_backlog: accept_backlog?,
            keepalive_interval: keepalive_interval?,
            keepalive_timeout: keepalive_timeout?,
            handshake_timeout: handshake_timeout?,
            stream_stall_timeout: stream_stall_timeout?,
            connection_max_age: connection_max_age?,
            connection_age_jitter: connection_age_jitter?,
            request_timeout: request_timeout?,
            log_ring_bytes: log_ring_bytes?,
        })
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let (kib, mib) = (1usize << 10, 1usize << 20);
        let secs = Duration::from_secs;
        let count =
            |option, value: usize, most| Problem::unless_between(option, value, (1, most), |n| n.to_string());
        let size = |option, value, bounds| Problem::unless_between(option, value, bounds, show_bytes);
        let time = |option, value, bounds| Problem::unless_between(option, value, bounds, show_duration);
        let (connection, header) =
            (self.max_streams_per_connection as usize, self.header_list_bytes as usize);
        // A message must hold one resource of the greatest size, and what is around it.
        let message = (512 * kib, 16 * mib);
        let probe = (secs(1), secs(300));
        [
            count(&MAX_STREAMS, self.max_streams, 1_000_000),
            count(&MAX_STREAMS_PER_IDENTITY, self.max_streams_per_identity, 1_000_000),
            count(&MAX_STREAMS_PER_CONNECTION, connection, 1_000_000),
            count(&MAX_CONNECTIONS, self.max_connections, 1_000_000),
            count(&ACCEPT_BACKLOG, self.accept_backlog as usize, 65_535),
            size(&MAX_REQUEST_BYTES, self.max_request_bytes, message),
            size(&MAX_RESPONSE_BYTES, self.max_response_bytes, message),
            // A bearer token alone may have 8 KiB.
            size(&HEADER_LIST_BYTES, header, (10 * kib, mib)),
            size(&LOG_RING_BYTES, self.log_ring_bytes, (mib, 16 << 30)),
            time(&KEEPALIVE_INTERVAL, self.keepalive_interval, probe),
            time(&KEEPALIVE_TIMEOUT, self.keepalive_timeout, probe),
            time(&HANDSHAKE_TIMEOUT, self.handshake_timeout, probe),
            time(&REQUEST_TIMEOUT, self.request_timeout, (secs(1), secs(600))),
            time(&STREAM_STALL_TIMEOUT, self.stream_stall_timeout, (secs(1), secs(86_400))),
            self.connection_max_age
                .and_then(|age| time(&CONNECTION_MAX_AGE, age, (secs(10), secs(30 * 86_400)))),
            self.jitter_beyond_age(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn jitter_beyond_age(&self) -> Option<Problem> {
        let age = self.connection_max_age.filter(|age| self.connection_age_jitter > *age / 2)?;
        let what = format!(
            "{} is more than half of --connection-max-age ({}); give less",
            show_duration(self.connection_age_jitter),
            show_duration(age)
        );
        Some(Problem::with(&CONNECTION_AGE_JITTER, what))
    }
}

fn small_bytes(text: &str) -> Result<u32, values::Wrong> {
    u32::try_from(values::bytes(text)?).map_err(|_| format!("`{text}` is too large"))
}

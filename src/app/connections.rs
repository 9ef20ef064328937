//! Connections as they come in: accepted up to a limit, behind TLS where there is a certificate, and dropped when they
//! have nothing to say.
//!
//! It must not know what is spoken on them.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use rustix::io::Errno;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::{
    grpc::{ConnectionHandle, PeerPlace, Peers},
    telemetry::ConnectionsGivenUp,
};

/// Pause after a failed accept: mostly the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What every HTTP/2 client says first (RFC 9113, section 3.4): an empty line is in there. Only then does keepalive find out
/// who is gone.
const PREFACE_BYTES: usize = 24;

/// Binds a listener.
pub(super) fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// How many connections may be open, and how long each may take to say what it wants.
#[derive(Clone)]
pub(super) struct Admission {
    pub connections: usize,
    /// How many of them one peer may have on which nobody has said yet who it is: it can't keep everybody else out.
    pub unproven: usize,
    pub handshake: Duration,
    /// How long a peer may leave unacknowledged what it is sent. HTTP/2 asks by itself whether somebody is there; HTTP/1.1
    /// has nothing to ask with.
    pub silence: Duration,
    /// Counts those that were given up for it.
    pub given_up: ConnectionsGivenUp,
}

/// A connection that holds its place among the open ones.
pub(super) struct Connection<S> {
    stream: S,
    _place: OwnedSemaphorePermit,
    opening: Option<Opening>,
    handle: ConnectionHandle,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    given_up: ConnectionsGivenUp,
}

/// The time until the client has to have introduced itself: by the preface of HTTP/2, or the first head of HTTP/1.1.
struct Opening {
    deadline: Pin<Box<Sleep>>,
    heard: usize,
    /// Ends of lines that were heard last, one after the other.
    line_ends: u8,
}

impl Opening {
    /// Takes in what was read, and says whether it is enough. Both begin with lines, up to an empty one.
    fn is_over(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            self.line_ends = match byte {
                b'\n' => self.line_ends + 1,
                b'\r' => self.line_ends,
                _ if self.line_ends < 2 => 0,
                _ => self.line_ends,
            };
            self.line_ends = self.line_ends.min(2);
        }
        self.heard = self.heard.saturating_add(bytes.len());
        self.line_ends == 2 && self.heard >= PREFACE_BYTES
    }
}

impl<S> Connection<S> {
    fn new(stream: S, place: Place, (handshake, cut): (Duration, &CancellationToken)) -> Self {
        let opening = Opening { deadline: Box::pin(sleep(handshake)), heard: 0, line_ends: 0 };
        let Place { open, peer, unproven, given_up } = place;
        let handle = ConnectionHandle::new(peer, unproven, cut);
        let cut = Box::pin(handle.is_cut());
        Self { stream, _place: open, opening: Some(opening), handle, cut, given_up }
    }

    /// Counts it if the kernel has given it up, which it tells once.
    fn heard<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let given_up = Some(Errno::TIMEDOUT.raw_os_error());
        if matches!(&outcome, Poll::Ready(Err(error)) if error.raw_os_error() == given_up) {
            self.given_up.count();
        }
        outcome
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        // Calls that outlive it have the handle as well.
        self.handle.give_back();
    }
}

/// What a connection holds: one of all places, and one of its peer's.
struct Place {
    open: OwnedSemaphorePermit,
    peer: IpAddr,
    unproven: PeerPlace,
    given_up: ConnectionsGivenUp,
}

/// The places of one listener.
struct Places {
    open: Arc<Semaphore>,
    peers: Peers,
    unproven: usize,
    given_up: ConnectionsGivenUp,
}

impl Places {
    fn take(&self, peer: IpAddr) -> Result<Place, &'static str> {
        let open = Arc::clone(&self.open).try_acquire_owned().map_err(|_| "too many are open")?;
        let unproven = self.peers.take(peer, self.unproven);
        let unproven = unproven.ok_or("its peer has too many without a good token on them")?;
        Ok(Place { open, peer, unproven, given_up: self.given_up.clone() })
    }
}

/// Connections in plaintext. `cut` cuts them all: a listener that is dropped leaves its connections to themselves.
pub(super) fn plaintext(
    listener: Arc<TcpListener>,
    admission: Admission,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection<TcpStream>>> {
    let handshake = admission.handshake;
    accepted(listener, admission)
        .map(move |(stream, place)| Ok(Connection::new(stream, place, (handshake, &cut))))
}

/// Connections that have agreed on TLS. One that can't, or takes too long, holds nobody else up.
pub(super) fn secured(
    listener: Arc<TcpListener>,
    admission: Admission,
    cut: CancellationToken,
    acceptor: impl Fn() -> TlsAcceptor,
) -> impl Stream<Item = io::Result<Connection<TlsStream<TcpStream>>>> {
    let (limit, handshake) = (admission.connections, admission.handshake);
    let agree = move |(stream, place)| {
        let accepting = acceptor().accept(stream);
        let cut = cut.clone();
        // In a task of its own, so that handshakes are spread over the processors.
        tokio::spawn(async move {
            let stream = tokio::time::timeout(handshake, accepting).await??;
            io::Result::Ok(Connection::new(stream, place, (handshake, &cut)))
        })
    };
    accepted(listener, admission)
        .map(agree)
        // There are never more than may be open, so that no handshake waits for another.
        .buffer_unordered(limit)
        .filter_map(async |agreed| match agreed.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(connection) => Some(Ok(connection)),
            Err(error) => {
                tracing::debug!(%error, "a connection did not agree on TLS");
                None
            }
        })
}

/// Accepts connections. Beyond the limit a new one is closed at once: waiting would hide it from the client.
fn accepted(listener: Arc<TcpListener>, admission: Admission) -> impl Stream<Item = (TcpStream, Place)> {
    let Admission { connections, unproven, silence, given_up, .. } = admission;
    let open = Arc::new(Semaphore::new(connections));
    let places = Places { open, peers: Peers::default(), unproven, given_up };
    stream::unfold((listener, places), move |(listener, places)| async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => match places.take(peer.ip()) {
                    Ok(place) => {
                        let _ = stream.set_nodelay(true);
                        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(silence));
                        return Some(((stream, place), (listener, places)));
                    }
                    Err(why) => tracing::warn!("a connection was refused: {why}"),
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = ConnectionHandle;

    fn connect_info(&self) -> ConnectionHandle {
        self.handle.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let read = this.heard(read);
        if let Some(opening) = &mut this.opening {
            if opening.is_over(&buffer.filled()[before..]) {
                this.opening = None;
            } else if opening.deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.heard(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.heard(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.heard(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_acknowledges_nothing_is_given_up() {
        let listener = Arc::new(bind(SocketAddr::from(([127, 0, 0, 1], 0)), 16).unwrap());
        let address = listener.local_addr().unwrap();
        let (silence, given_up) = (Duration::from_secs(30), ConnectionsGivenUp::default());
        let admission = Admission { connections: 1, unproven: 1, handshake: silence, silence, given_up };
        let mut incoming = Box::pin(plaintext(listener, admission, CancellationToken::new()));
        let (_client, connection) = tokio::join!(TcpStream::connect(address), incoming.next());
        let connection = connection.unwrap().unwrap();
        assert_eq!(SockRef::from(&connection.stream).tcp_user_timeout().unwrap(), Some(silence));
    }

    #[tokio::test]
    async fn a_client_has_introduced_itself_by_a_preface_or_a_head() {
        let over = |parts: &[&str]| {
            let mut opening = Opening { deadline: Box::pin(sleep(Duration::ZERO)), heard: 0, line_ends: 0 };
            parts.iter().map(|part| opening.is_over(part.as_bytes())).collect::<Vec<_>>()
        };
        assert_eq!(over(&["PRI * HTTP/2.0\r\n\r\n", "SM\r\n\r", "\n"]), [false, false, true]);
        assert_eq!(over(&["POST /a HTTP/1.1\r\nHost: b\r\n", "\r", "\n"]), [false, false, true]);
        assert_eq!(over(&["POST /a HTTP/1.1\r\nX: y\r\n\r\n{}"]), [true]);
        assert_eq!(over(&["\n\n", "x"]), [false, false], "too short for anything");
        assert_eq!(over(&["x".repeat(100).as_str()]), [false]);
    }

    /// Half of the places of a listener are never one peer's that says nothing; who has said who it is, gives its own back.
    #[tokio::test]
    async fn regression_one_silent_peer_does_not_take_every_place() {
        let listener = Arc::new(bind(SocketAddr::from(([127, 0, 0, 1], 0)), 16).unwrap());
        let address = listener.local_addr().unwrap();
        let long = Duration::from_secs(60);
        let given_up = ConnectionsGivenUp::default();
        let admission = Admission { connections: 4, unproven: 2, handshake: long, silence: long, given_up };
        let mut incoming = Box::pin(plaintext(listener, admission, CancellationToken::new()));
        let mut open = Vec::new();
        for _ in 0..2 {
            let (client, connection) = tokio::join!(TcpStream::connect(address), incoming.next());
            open.push((client.unwrap(), connection.unwrap().unwrap()));
        }
        // The third is closed, and the fourth comes from somebody else: the next that is taken is that one.
        let _refused = TcpStream::connect(address).await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
        let (_other, connection) = tokio::join!(socket.connect(address), incoming.next());
        let other = connection.unwrap().unwrap();
        assert_eq!(other.handle.peer(), Some(IpAddr::from([127, 0, 0, 2])));
        open[0].1.handle.give_back();
        let (_again, connection) = tokio::join!(TcpStream::connect(address), incoming.next());
        let again = connection.unwrap().unwrap();
        assert_eq!(again.handle.peer(), Some(IpAddr::from([127, 0, 0, 1])), "a proven one is not counted");
    }
}

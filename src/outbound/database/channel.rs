//! A connection to a database, encrypted once that is agreed on, of which no more is read than its bounds allow.

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use url::Host;
use zeroize::Zeroizing;

use crate::outbound::{
    Fault, Outbound,
    tls::{self, Trust},
};

/// Bytes that are read of a server in all: signing in takes a few thousand.
const MOST_BYTES: usize = 256 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection.
pub(super) struct Channel<'o> {
    outbound: &'o Outbound,
    host: Host<String>,
    stream: Option<Box<dyn Stream>>,
    local: bool,
    room: usize,
}

impl<'o> Channel<'o> {
    pub fn new(outbound: &'o Outbound, host: Host<String>, stream: TcpStream) -> Self {
        let local = stream.peer_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
        Self { outbound, host, stream: Some(Box::new(stream)), local, room: MOST_BYTES }
    }

    /// The same, as if its server were on another machine.
    #[cfg(test)]
    pub fn elsewhere(mut self) -> Self {
        self.local = false;
        self
    }

    /// Whether the server is on this machine.
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// Agrees on TLS. What was sent before it is forgotten: nobody vouches for that.
    ///
    /// # Errors
    /// `Tls`; the connection is gone then.
    pub async fn encrypt(&mut self, trust: Trust) -> Result<(), Fault> {
        let connector =
            tls::connector(self.outbound.roots(), trust, &[]).ok_or(Fault::Tls(tls::NO_AUTHORITY))?;
        let name = tls::server_name(&self.host)?;
        let stream = self.stream.take().ok_or(Fault::Unreachable)?;
        let encrypted = connector.connect(name, stream).await.map_err(|error| tls::fault(&error))?;
        self.stream = Some(Box::new(encrypted));
        Ok(())
    }

    /// Sends bytes, which are wiped.
    pub async fn send(&mut self, bytes: Zeroizing<Vec<u8>>) -> Result<(), Fault> {
        let stream = self.stream.as_mut().ok_or(Fault::Unreachable)?;
        stream.write_all(&bytes).await.map_err(|_| Fault::Unreachable)?;
        stream.flush().await.map_err(|_| Fault::Unreachable)
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// `TooLarge` beyond the bounds, `Unreachable` when the server ends before.
    pub async fn read(&mut self, length: usize) -> Result<Vec<u8>, Fault> {
        self.room = self.room.checked_sub(length).ok_or(Fault::TooLarge)?;
        let mut bytes = vec![0; length];
        let stream = self.stream.as_mut().ok_or(Fault::Unreachable)?;
        stream.read_exact(&mut bytes).await.map_err(|_| Fault::Unreachable)?;
        Ok(bytes)
    }

    /// Reads up to a line feed, which is not part of what is given, nor is a carriage return before it.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub async fn read_line(&mut self, most: usize) -> Result<Vec<u8>, Fault> {
        let mut line = Vec::new();
        loop {
            match self.read(1).await?[0] {
                b'\n' => break,
                _ if line.len() == most => return Err(Fault::TooLarge),
                byte => line.push(byte),
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }
}

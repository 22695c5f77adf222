//! One client's connection, as bytes: over TCP or a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::rt::net::{TcpStream, UnixStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::RequestCounter;
use super::read_ahead::ReadAhead;

/// How long a client may leave sent bytes unacknowledged.
const TAKE_NOTHING_MAX: Duration = Duration::from_secs(20);
/// Send buffer of a connection, which bounds what the kernel holds for a slow client.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// An accepted socket.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl Socket {
    /// Returns the client's address, which only TCP has.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Lets the kernel disconnect a client that reads nothing, and bounds the memory that it holds until then.
    pub(super) fn bound_sending(&self) {
        use rustix::net::sockopt;
        // Best effort: a system without these options serves without them.
        match self {
            Self::Tcp(stream) => {
                let millis = u32::try_from(TAKE_NOTHING_MAX.as_millis()).unwrap_or(u32::MAX);
                let _best_effort = sockopt::set_tcp_user_timeout(stream, millis);
                let _best_effort = sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES);
            }
            Self::Unix(stream) => {
                let _best_effort = sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES);
            }
        }
    }

    /// Sends a last word, as far as it goes at once, and closes.
    pub(super) fn close_with(self, last_word: &[u8]) {
        use std::io::Write;
        let _best_effort = match self {
            Self::Tcp(stream) => stream.into_std().and_then(|mut stream| stream.write(last_word)),
            Self::Unix(stream) => stream.into_std().and_then(|mut stream| stream.write(last_word)),
        };
    }
}

/// A connection that is ready for HTTP.
pub(super) struct Connection {
    stream: Stream,
    requests: RequestCounter,
    read_ahead: ReadAhead,
}

enum Stream {
    Plain(Socket),
}

impl Connection {
    /// Makes a connection that is not encrypted.
    pub(super) fn plain(socket: Socket, requests: RequestCounter) -> Self {
        Self::over(Stream::Plain(socket), requests)
    }

    fn over(stream: Stream, requests: RequestCounter) -> Self {
        let read_ahead = ReadAhead::new(requests.gate());
        Self { stream, requests, read_ahead }
    }

    /// Adds what the requests of this connection know of it.
    pub(super) fn describe(&self, data: &mut Extensions) {
        data.insert(self.requests.clone());
    }
}

/// Calls a method of the stream inside.
macro_rules! of_stream {
    ($connection:expr, $stream:ident => $call:expr) => {
        match &mut $connection.stream {
            Stream::Plain(Socket::Tcp($stream)) => $call,
            Stream::Plain(Socket::Unix($stream)) => $call,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let connection = self.get_mut();
        connection.read_ahead.poll_read(
            context,
            buffer,
            |context, piece| of_stream!(connection, stream => Pin::new(stream).poll_read(context, piece)),
        )
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let connection = self.get_mut();
        let written = of_stream!(connection, stream => Pin::new(stream).poll_write(context, bytes));
        connection.read_ahead.observe_write(&written);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_stream!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_stream!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }
}

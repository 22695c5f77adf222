//! One client's connection, as bytes: over TCP, with or without TLS, or a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::rt::net::{TcpStream, UnixStream};
use openssl::ssl::Ssl;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_openssl::SslStream;

use super::connections::RequestCounter;
use super::read_ahead::ReadAhead;

/// How long a client may leave sent bytes unacknowledged.
const TAKE_NOTHING_MAX: Duration = Duration::from_secs(20);
/// Send buffer of a connection, which bounds what the kernel holds for a slow client.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// What a client reads that speaks plain HTTP to a listener with TLS.
const NEEDS_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
    content-length: 53\r\n\r\nThis port speaks HTTPS: use https:// in the address.\n";

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

/// What begins a TLS connection: a record of the handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Makes the handshake of a new connection; `None`: it failed, and the socket is closed.
pub(super) async fn handshake(stream: TcpStream, session: Ssl) -> Option<SslStream<TcpStream>> {
    let mut first = [0];
    if stream.peek(&mut first).await.ok()? == 1 && first[0] != HANDSHAKE_RECORD {
        // A client that speaks plain HTTP reads why. What it has sent is taken first, so that closing does not reset.
        let _as_far_as_it_goes = stream.try_read(&mut [0; 4096]);
        Socket::Tcp(stream).close_with(NEEDS_TLS);
        return None;
    }
    let mut stream = SslStream::new(session, stream).ok()?;
    Pin::new(&mut stream).accept().await.ok()?;
    Some(stream)
}

/// A connection that is ready for HTTP.
pub(super) struct Connection {
    stream: Stream,
    requests: RequestCounter,
    read_ahead: ReadAhead,
}

enum Stream {
    Plain(Socket),
    Tls(Box<SslStream<TcpStream>>),
}

/// What the requests of a connection know of its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    Tls,
    None,
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

    /// Makes a connection whose handshake has succeeded.
    pub(super) fn tls(stream: SslStream<TcpStream>, requests: RequestCounter) -> Self {
        Self::over(Stream::Tls(Box::new(stream)), requests)
    }

    /// Adds what the requests of this connection know of it.
    pub(super) fn describe(&self, data: &mut Extensions) {
        data.insert(self.requests.clone());
        data.insert(match self.stream {
            Stream::Tls(_) => Encryption::Tls,
            Stream::Plain(_) => Encryption::None,
        });
    }
}

/// Calls a method of the stream inside.
macro_rules! of_stream {
    ($connection:expr, $stream:ident => $call:expr) => {
        match &mut $connection.stream {
            Stream::Plain(Socket::Tcp($stream)) => $call,
            Stream::Plain(Socket::Unix($stream)) => $call,
            Stream::Tls($stream) => $call,
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

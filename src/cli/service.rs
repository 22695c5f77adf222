//! Asks the running service over HTTP, for `andon health` and, if the database is away, for `andon machines`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};
use openssl::x509::X509;

use crate::config::{Http, Secret};
use crate::domain::{ListenAddress, Role};

/// Bound on connecting, and on each wait for more of the answer.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The answer of the service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status code as text.
    pub(super) status: String,
    pub(super) body: String,
}

impl Answer {
    /// Says what is wrong with an answer that is not the expected one.
    pub(super) fn complaint(&self) -> String {
        match self.status.as_str() {
            "401" | "403" => "the service rejects the token of this configuration; give the command the http.token or \
                http.tokens that the service runs with, of the role that it needs (health: metrics, machines: view)"
                .to_owned(),
            status => format!("unexpected answer {status}; is it Andon that listens there?"),
        }
    }
}

/// Returns the answer to `GET path`, which needs `role`, at most `bytes_max` of it, or says why there is none.
pub(super) fn ask(http: &Http, role: Role, path: &str, bytes_max: u64) -> Result<Answer, String> {
    ask_at(&ListenAddress::Tcp(http.bind), http, role, path, bytes_max)
}

/// As [`ask`], for a path that the listener for health checks serves, if there is one.
pub(super) fn ask_health(http: &Http, path: &str, bytes_max: u64) -> Result<Answer, String> {
    let main = ListenAddress::Tcp(http.bind);
    ask_at(http.health_bind.as_ref().unwrap_or(&main), http, Role::Metrics, path, bytes_max)
}

fn ask_at(
    bind: &ListenAddress,
    http: &Http,
    role: Role,
    path: &str,
    bytes_max: u64,
) -> Result<Answer, String> {
    let token = http.token_for(role);
    let certificate = certificate_at(bind, http);
    if certificate.is_some() && http.tls.client_ca_file.is_some() {
        return Err(
            "the service wants a client certificate (http.tls.client_ca_file), which commands have not: set \
            http.health_bind to a Unix socket or to 127.0.0.1, for `andon health`"
                .to_owned(),
        );
    }
    let (place, answer) = match bind {
        ListenAddress::Tcp(bind) => {
            let address = reachable(*bind);
            let connected = TcpStream::connect_timeout(&address, WAIT_MAX).and_then(|stream| {
                stream.set_read_timeout(Some(WAIT_MAX))?;
                stream.set_write_timeout(Some(WAIT_MAX))?;
                Ok(stream)
            });
            let host = address.to_string();
            match certificate {
                Some(file) => {
                    let encrypted = connected.and_then(|stream| over_tls(stream, file));
                    let answer = encrypted.and_then(|stream| exchange(stream, &host, path, token, bytes_max));
                    (format!("https://{address}{path}"), answer)
                }
                None => {
                    let answer = connected.and_then(|stream| exchange(stream, &host, path, token, bytes_max));
                    (format!("http://{address}{path}"), answer)
                }
            }
        }
        ListenAddress::Unix(socket) => {
            let connected = UnixStream::connect(socket).and_then(|stream| {
                stream.set_read_timeout(Some(WAIT_MAX))?;
                stream.set_write_timeout(Some(WAIT_MAX))?;
                Ok(stream)
            });
            let answer = connected.and_then(|stream| exchange(stream, "localhost", path, None, bytes_max));
            (format!("{path} at {}", socket.display()), answer)
        }
    };
    let answer =
        answer.map_err(|error| format!("no answer from {place}: {error}; is `andon run` running?"))?;
    Ok(read(&answer))
}

/// Replaces an address that means "all" by one of this computer.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

/// Returns the certificate that the service shows at an address, if it speaks TLS there.
fn certificate_at<'a>(bind: &ListenAddress, http: &'a Http) -> Option<&'a Path> {
    let is_main = *bind == ListenAddress::Tcp(http.bind);
    http.tls.cert_file.as_deref().filter(|_| is_main || !bind.is_local())
}

/// Encrypts a connection. Trusts exactly the certificate in `file`: nobody else has its key, whatever its names and dates.
fn over_tls(stream: TcpStream, file: &Path) -> std::io::Result<SslStream<TcpStream>> {
    use std::io::Error;
    let expected = X509::from_pem(&std::fs::read(file)?)?;
    let mut connector = SslConnector::builder(SslMethod::tls_client())?;
    connector.set_verify(SslVerifyMode::NONE);
    let session = connector.build().configure()?.verify_hostname(false).use_server_name_indication(false);
    let stream = session.connect("", stream).map_err(|error| Error::other(format!("TLS: {error}")))?;
    let shown = stream.ssl().peer_certificate().map(|shown| shown.to_der()).transpose()?;
    if shown != Some(expected.to_der()?) {
        let file = file.display();
        return Err(Error::other(format!("it shows another certificate than {file} (http.tls.cert_file)")));
    }
    Ok(stream)
}

fn exchange(
    mut connection: impl Read + Write,
    host: &str,
    path: &str,
    token: Option<&Secret>,
    bytes_max: u64,
) -> std::io::Result<String> {
    let token = token.map(|token| format!("Authorization: Bearer {}\r\n", token.expose()));
    let token = token.unwrap_or_default();
    // HTTP/1.0: the answer ends with the connection.
    connection.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n{token}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    connection.take(bytes_max).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn read(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split_ascii_whitespace().nth(1).unwrap_or("no status");
    Answer { status: status.to_owned(), body: body.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_separated() {
        let answer = |status: &str, body: &str| Answer { status: status.to_owned(), body: body.to_owned() };
        assert_eq!(read("HTTP/1.0 200 OK\r\nX: y\r\n\r\n{}\r\n\r\n"), answer("200", "{}\r\n\r\n"));
        assert_eq!(read("SSH-2.0-OpenSSH\r\n"), answer("no status", ""));
    }

    #[test]
    fn an_address_that_means_all_becomes_this_machine() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(reachable("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(reachable("10.0.0.7:80".parse().unwrap()).to_string(), "10.0.0.7:80");
    }
}

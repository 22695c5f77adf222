//! Asking the running service over HTTP, as `andon health` and, without a database, `andon machines` do.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::Http;

/// Bound on connecting, and on each wait for more of the answer.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status code as text.
    pub(super) status: String,
    pub(super) body: String,
}

impl Answer {
    /// What to say of an answer that is not what was asked for.
    pub(super) fn complaint(&self) -> String {
        match self.status.as_str() {
            "401" => "the service asks for another token than http.token".to_owned(),
            status => format!(
                "the service answered {status}, which is not what was asked for; does something else listen there?"
            ),
        }
    }
}

/// The answer to `GET path`, of at most `bytes_max`; otherwise why there is none.
pub(super) fn ask(http: &Http, path: &str, bytes_max: u64) -> Result<Answer, String> {
    let address = reachable(http.bind);
    let answer = exchange(address, path, http, bytes_max).map_err(|error| {
        format!("no answer from http://{address}{path}: {error}; is `andon run` running?")
    })?;
    Ok(read(&answer))
}

/// An address of this machine for one that means "all".
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

fn exchange(address: SocketAddr, path: &str, http: &Http, bytes_max: u64) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, WAIT_MAX)?;
    connection.set_read_timeout(Some(WAIT_MAX))?;
    connection.set_write_timeout(Some(WAIT_MAX))?;
    let token = http.token.as_ref().map(|token| format!("Authorization: Bearer {}\r\n", token.expose()));
    let token = token.unwrap_or_default();
    // HTTP/1.0: the answer ends with the connection.
    connection.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{token}\r\n").as_bytes())?;
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
    fn status_and_body_are_told_apart() {
        let answer = |status: &str, body: &str| Answer { status: status.to_owned(), body: body.to_owned() };
        assert_eq!(read("HTTP/1.0 200 OK\r\nX: y\r\n\r\n{}\r\n\r\n"), answer("200", "{}\r\n\r\n"));
        assert_eq!(read("SSH-2.0-OpenSSH\r\n"), answer("no status", ""));
    }

    #[test]
    fn all_addresses_mean_this_machine() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(reachable("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(reachable("10.0.0.7:80".parse().unwrap()).to_string(), "10.0.0.7:80");
    }
}

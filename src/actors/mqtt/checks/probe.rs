//! Reaches a broker step by step, to learn what the client library does not report. Sends nothing of MQTT.
//!
//! Everything here blocks, each step for at most the given time: call it on a thread of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use openssl::base64::encode_block;

use super::super::client::options::ProxyOptions;
use crate::domain::Endpoint;

/// Bound on a proxy's answer.
const PROXY_ANSWER_BYTES_MAX: usize = 8 * 1024;

/// Resolves a host name.
///
/// # Errors
/// The reason in words.
pub fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, String> {
    let addresses = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
    let addresses: Vec<SocketAddr> =
        addresses.map_err(|error| format!("{} cannot be resolved: {error}", endpoint.host))?.collect();
    if addresses.is_empty() { Err(format!("{} has no address", endpoint.host)) } else { Ok(addresses) }
}

/// Connects to the first address that accepts a TCP connection.
///
/// # Errors
/// The reason at the last address, in words.
pub fn connect(addresses: &[SocketAddr], within: Duration) -> Result<TcpStream, String> {
    let mut reason = "no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(address, within) {
            Ok(stream) => {
                let bounded = stream
                    .set_read_timeout(Some(within))
                    .and_then(|()| stream.set_write_timeout(Some(within)));
                bounded.map_err(|error| format!("{address}: {error}"))?;
                return Ok(stream);
            }
            Err(error) => reason = format!("{address}: {error}"),
        }
    }
    Err(reason)
}

/// Asks the HTTP proxy at the other end of `stream` for a tunnel to the broker.
///
/// # Errors
/// The reason in words, without the login.
pub fn tunnel(stream: &mut TcpStream, endpoint: &Endpoint, proxy: &ProxyOptions) -> Result<(), String> {
    let shown = proxy.at.address();
    let address = endpoint.address();
    let login = proxy.username.as_ref().map(|username| {
        let login = format!("{username}:{}", proxy.password.as_deref().unwrap_or_default());
        format!("Proxy-Authorization: Basic {}\r\n", encode_block(login.as_bytes()))
    });
    let request =
        format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{}\r\n", login.unwrap_or_default());
    stream
        .write_all(request.as_bytes())
        .map_err(|error| format!("the proxy {shown} does not accept the request: {error}"))?;
    let head =
        answer_head(stream).map_err(|reason| format!("the proxy {shown} does not answer: {reason}"))?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    match status {
        "200" => Ok(()),
        "407" => Err(format!(
            "the proxy {shown} rejects the login (407); see mqtt.proxy_username and mqtt.proxy_password"
        )),
        _ => {
            let line: String = head.lines().next().unwrap_or_default().chars().take(100).collect();
            Err(format!("the proxy {shown} does not lead to the broker: {line:?}; see mqtt.proxy"))
        }
    }
}

/// Reads byte by byte, because what follows the empty line comes from the broker.
fn answer_head(stream: &mut TcpStream) -> Result<String, String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_ANSWER_BYTES_MAX {
            return Err("its answer is too long".to_owned());
        }
        match stream.read(&mut byte) {
            Ok(0) => return Err("it closes the connection".to_owned()),
            Ok(_) => head.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Resolves, connects, and asks the proxy, if there is one, for a tunnel. Returns a connection to the broker.
///
/// # Errors
/// The reason in words.
pub fn reach(
    endpoint: &Endpoint,
    proxy: Option<&ProxyOptions>,
    within: Duration,
) -> Result<TcpStream, String> {
    let first = proxy.map_or(endpoint, |proxy| &proxy.at);
    let mut stream = connect(&resolve(first)?, within)?;
    if let Some(proxy) = proxy {
        tunnel(&mut stream, endpoint, proxy)?;
    }
    Ok(stream)
}

//! `andon health`: asks the running service whether it is ready, for containers and service managers.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::{Exit, Output};
use crate::config::Settings;
use crate::terminal;

/// Bound on connecting and on the whole answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only ask whether the process can do work (/livez), not whether messages come in and are stored (/readyz)
    #[arg(long)]
    live: bool,
}

#[derive(Deserialize)]
struct Health {
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    ok: bool,
    reason: String,
}

pub(super) fn run(options: &Options, settings: &Settings) -> Output {
    let path = if options.live { "/livez" } else { "/readyz" };
    let address = reachable(settings.http.bind);
    let answer = ask(address, path, settings)
        .map_err(|error| format!("no answer from http://{address}{path}: {error}; is `andon run` running?"));
    match answer.and_then(|answer| read(&answer)) {
        Ok(text) => Output::clean(text),
        Err(complaint) => Output::failed(Exit::Failure, complaint),
    }
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

fn ask(address: SocketAddr, path: &str, settings: &Settings) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    connection.set_read_timeout(Some(ANSWER_MAX))?;
    connection.set_write_timeout(Some(ANSWER_MAX))?;
    let token =
        settings.http.token.as_ref().map(|token| format!("Authorization: Bearer {}\r\n", token.expose()));
    let token = token.unwrap_or_default();
    // HTTP/1.0: the answer ends with the connection.
    connection.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{token}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    connection.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// One line a check; those that fail are the complaint.
fn read(answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split_ascii_whitespace().nth(1).unwrap_or("no status");
    let Ok(Health { checks }) = serde_json::from_str(body) else {
        return Err(match status {
            "401" => "the service asks for another token than http.token".to_owned(),
            _ => format!(
                "the service answered {status}, which is no health check; does something else listen there?"
            ),
        });
    };
    let lines = |wanted: fn(&Check) -> bool| -> String {
        let lines = checks.iter().filter(|check| wanted(check));
        let line = |check: &Check| format!("{}: {}", check.name, check.reason);
        lines.map(|check| format!("{}\n", terminal::printable(&line(check)))).collect()
    };
    let failing = lines(|check| !check.ok);
    if status == "200" && failing.is_empty() {
        Ok(lines(|_| true))
    } else {
        Err(failing.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, ok: bool) -> String {
        format!(
            "HTTP/1.0 {status}\r\nX: y\r\n\r\n{{\"status\":\"?\",\"checks\":[{{\"name\":\"mqtt\",\"ok\":{ok},\"reason\":\"r\"}}]}}"
        )
    }

    #[test]
    fn the_answer_is_told_in_a_line_a_check() {
        assert_eq!(read(&answer("200 OK", true)), Ok("mqtt: r\n".to_owned()));
        assert_eq!(read(&answer("503 Service Unavailable", false)), Err("mqtt: r".to_owned()));
        assert!(read("HTTP/1.0 401 Unauthorized\r\n\r\n{}").is_err_and(|error| error.contains("token")));
        assert!(read("SSH-2.0-OpenSSH\r\n").is_err_and(|error| error.contains("something else")));
    }

    #[test]
    fn all_addresses_mean_this_machine() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(reachable("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(reachable("10.0.0.7:80".parse().unwrap()).to_string(), "10.0.0.7:80");
    }
}

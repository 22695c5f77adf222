//! Where a server listens: an IP address with port, or a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// Longest path that the kernel takes for a socket, without its closing NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address with port.
    Tcp(SocketAddr),
    /// The absolute path of a socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// True if only programs on this computer can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

/// The text is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither an IP address with port nor \"unix:\" with an absolute path of at most {SOCKET_PATH_BYTES_MAX} bytes"
)]
pub struct NoListenAddress;

/// `127.0.0.1:9100`, `[::1]:9100` or `unix:/run/andon/health.sock`.
impl FromStr for ListenAddress {
    type Err = NoListenAddress;

    fn from_str(text: &str) -> Result<Self, NoListenAddress> {
        match text.strip_prefix("unix:") {
            Some(path)
                if path.starts_with('/') && path.len() <= SOCKET_PATH_BYTES_MAX && !path.contains('\0') =>
            {
                Ok(Self::Unix(path.into()))
            }
            Some(_) => Err(NoListenAddress),
            None => text.parse().map(Self::Tcp).map_err(|_| NoListenAddress),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_shown() {
        for (text, local) in [
            ("127.0.0.1:9100", true),
            ("[::1]:9100", true),
            ("0.0.0.0:9100", false),
            ("unix:/run/andon/health.sock", true),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_local()), (text, local));
        }
        let long = format!("unix:/{}", "x".repeat(SOCKET_PATH_BYTES_MAX));
        for text in ["", "9100", "localhost:9100", "unix:", "unix:health.sock", "/run/health.sock", &long] {
            assert_eq!(text.parse::<ListenAddress>(), Err(NoListenAddress), "{text}");
        }
    }
}

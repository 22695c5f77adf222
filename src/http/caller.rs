//! Who sent a request, and from where.
//!
//! The one home of the client's address: limits per address, the audit log and log lines ask here, never the connection.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use actix_web::{HttpMessage, HttpRequest, web};

use super::auth::Session;
use super::connection::Encryption;
use super::network::Network;
use super::{HttpSettings, HttpState};
use crate::domain::Timestamp;

/// Name of a caller without a token.
pub const ANYONE: &str = "anyone";

/// The name of the token or of the user, as authentication found it. An extension of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerName(pub String);

/// The session that the request came with. An extension of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerSession {
    /// The session.
    pub session: Session,
    /// When it is over.
    pub until: Timestamp,
}

/// Returns the session of the caller, if it came with one.
pub fn session(request: &HttpRequest) -> Option<CallerSession> {
    request.extensions().get().cloned()
}

/// True if nobody between the client and this server, or the nearest trusted proxy, can read along.
pub fn is_secure(request: &HttpRequest) -> bool {
    let by_tls = request.conn_data::<Encryption>() == Some(&Encryption::Tls);
    let by_proxy = || {
        settings(request).is_some_and(|settings| settings.proxies.is_secure(peer(request), request.headers()))
    };
    by_tls || by_proxy()
}

/// Returns the address of the client: of the connection, or what a trusted proxy says.
pub fn address(request: &HttpRequest) -> IpAddr {
    let peer = peer(request);
    settings(request).map_or(peer, |settings| settings.proxies.client(peer, request.headers()))
}

/// Returns the address of the other end of the connection, which may be a proxy.
pub fn peer(request: &HttpRequest) -> IpAddr {
    // Only a Unix socket has none.
    request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip().to_canonical())
}

fn settings(request: &HttpRequest) -> Option<Arc<HttpSettings>> {
    request.app_data::<web::Data<HttpState>>().map(|state| state.settings())
}

/// Returns the client as the limits count it.
pub fn network(request: &HttpRequest) -> Network {
    Network::of(address(request))
}

/// Returns the name of the caller.
pub fn name(request: &HttpRequest) -> String {
    request.extensions().get::<CallerName>().map_or_else(|| ANYONE.to_owned(), |name| name.0.clone())
}

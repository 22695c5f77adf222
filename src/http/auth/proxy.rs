//! What a trusted proxy says of a request: the client's address, whether it came by TLS, and who the user is.
//!
//! Only `http.trusted_proxies` are believed, by the address of the connection; from anybody else these headers count as
//! absent. Pure.

use std::net::IpAddr;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::{IpRange, Role, is_invisible};

/// Longest name of a user, in characters.
const USER_CHARS_MAX: usize = 100;
/// Most proxies in a row.
const HOPS_MAX: usize = 32;

/// `http.trusted_proxies` and `http.proxy_*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxies {
    /// Whom to believe.
    pub trusted: Vec<IpRange>,
    /// Which header names the user.
    pub user_header: Option<HeaderName>,
    /// What users may do.
    pub user_role: Role,
    /// Users that may change something.
    pub operators: Vec<String>,
}

impl Default for Proxies {
    fn default() -> Self {
        Self { trusted: Vec::new(), user_header: None, user_role: Role::View, operators: Vec::new() }
    }
}

/// A user that a proxy has named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUser {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

impl Proxies {
    /// True if whoever has this address is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(address))
    }

    /// Returns the address of the client: the rightmost one that no trusted proxy has. What stands left of it was written by
    /// the client.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trusts(peer) {
            return peer;
        }
        let lines: Vec<&str> =
            headers.get_all("x-forwarded-for").map(|line| line.to_str().unwrap_or("?")).collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
        let mut nearest = peer;
        for hop in hops.take(HOPS_MAX) {
            let Some(address) = address_in(hop) else { break };
            nearest = address;
            if !self.trusts(address) {
                break;
            }
        }
        nearest
    }

    /// True if the client speaks TLS to the nearest proxy.
    pub fn is_secure(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let last = headers.get_all("x-forwarded-proto").last().and_then(|line| line.to_str().ok());
        let nearest = last.and_then(|line| line.rsplit(',').next());
        self.trusts(peer) && nearest.is_some_and(|word| word.trim().eq_ignore_ascii_case("https"))
    }

    /// Returns the user, if a trusted proxy names one.
    ///
    /// # Errors
    /// Why the header cannot be one of a well configured proxy.
    pub fn user(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Option<ProxyUser>, &'static str> {
        let Some(header) = self.user_header.as_ref().filter(|_| self.trusts(peer)) else { return Ok(None) };
        let mut values = headers.get_all(header);
        let (value, another) = (values.next(), values.next());
        if another.is_some() {
            return Err(
                "it comes twice, so one is not the proxy's: the proxy must replace what a client sends",
            );
        }
        let Some(value) = value else { return Ok(None) };
        let name = user_name(value)?;
        let is_operator = self.operators.iter().any(|operator| operator == name);
        let role = if is_operator { Role::Operate } else { self.user_role };
        Ok(Some(ProxyUser { name: name.to_owned(), role }))
    }
}

fn user_name(value: &HeaderValue) -> Result<&str, &'static str> {
    let name = std::str::from_utf8(value.as_bytes()).map_err(|_| "it is not UTF-8")?.trim();
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.chars().count() > USER_CHARS_MAX {
        return Err("it has more than 100 characters");
    }
    if name.chars().any(|character| character.is_control() || is_invisible(character)) {
        return Err("it has control or invisible characters");
    }
    Ok(name)
}

/// Reads an address, with or without port.
fn address_in(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim().trim_matches('"');
    if let Ok(address) = hop.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(with_port) = hop.parse::<std::net::SocketAddr>() {
        return Some(with_port.ip().to_canonical());
    }
    let bracketed = hop.strip_prefix('[')?.strip_suffix(']')?;
    bracketed.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> Proxies {
        Proxies {
            trusted: ["10.0.0.5", "10.1.0.0/24", "fd00::5"]
                .map(|range| IpRange::parse(range).unwrap())
                .to_vec(),
            user_header: Some(HeaderName::from_static("x-remote-user")),
            user_role: Role::View,
            operators: vec!["anna".to_owned()],
        }
    }

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static(name);
        lines
            .iter()
            .for_each(|line| headers.append(name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap()));
        headers
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_no_trusted_proxy_has() {
        for (peer, lines, client) in [
            ("10.0.0.5", &["192.168.7.7"][..], "192.168.7.7"),
            // Whatever the client wrote itself stands to the left.
            ("10.0.0.5", &["1.1.1.1, 192.168.7.7"], "192.168.7.7"),
            ("10.0.0.5", &["10.1.0.9, 192.168.7.7"], "192.168.7.7"),
            ("10.0.0.5", &["1.1.1.1", "192.168.7.7"], "192.168.7.7"),
            ("10.0.0.5", &["1.1.1.1, 192.168.7.7, 10.1.0.9"], "192.168.7.7"),
            ("10.0.0.5", &["192.168.7.7", "10.1.0.9 , 10.1.0.8"], "192.168.7.7"),
            ("fd00::5", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.5", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.5", &["\"[2001:db8::1]\""], "2001:db8::1"),
            ("10.0.0.5", &["192.168.7.7:4711"], "192.168.7.7"),
            ("::ffff:10.0.0.5", &["::ffff:192.168.7.7"], "192.168.7.7"),
            // All are proxies.
            ("10.0.0.5", &["10.1.0.7, 10.1.0.8"], "10.1.0.7"),
            // What cannot be read ends the search at the last one that is known.
            ("10.0.0.5", &["192.168.7.7, unknown"], "10.0.0.5"),
            ("10.0.0.5", &["192.168.7.7, unknown, 10.1.0.9"], "10.1.0.9"),
            ("10.0.0.5", &["\u{e9}"], "10.0.0.5"),
            ("10.0.0.5", &[""], "10.0.0.5"),
            ("10.0.0.5", &[], "10.0.0.5"),
            // Nobody else is believed.
            ("10.0.0.6", &["192.168.7.7"], "10.0.0.6"),
            ("192.168.7.7", &["10.0.0.5"], "192.168.7.7"),
        ] {
            let found = proxies().client(peer.parse().unwrap(), &headers("x-forwarded-for", lines));
            assert_eq!(found, client.parse::<IpAddr>().unwrap().to_canonical(), "{peer} {lines:?}");
        }
        let endless = vec!["10.1.0.1"; 5_000].join(",");
        let found = proxies().client("10.0.0.5".parse().unwrap(), &headers("x-forwarded-for", &[&endless]));
        assert_eq!(found.to_string(), "10.1.0.1");
    }

    #[test]
    fn only_a_trusted_proxy_makes_a_request_secure() {
        for (peer, lines, secure) in [
            ("10.0.0.5", &["https"][..], true),
            ("10.0.0.5", &["HTTPS"], true),
            ("10.0.0.5", &["http, https"], true),
            ("10.0.0.5", &["https, http"], false),
            ("10.0.0.5", &["https", "http"], false),
            ("10.0.0.5", &["http"], false),
            ("10.0.0.5", &[], false),
            ("10.0.0.6", &["https"], false),
        ] {
            let found = proxies().is_secure(peer.parse().unwrap(), &headers("x-forwarded-proto", lines));
            assert_eq!(found, secure, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_user_is_who_a_trusted_proxy_names_once() {
        let user = |peer: &str, lines: &[&str]| {
            proxies().user(peer.parse().unwrap(), &headers("x-remote-user", lines))
        };
        let named = |name: &str, role| Ok(Some(ProxyUser { name: name.to_owned(), role }));
        assert_eq!(user("10.0.0.5", &["bert"]), named("bert", Role::View));
        assert_eq!(user("10.0.0.5", &[" jürgen@plant.example "]), named("jürgen@plant.example", Role::View));
        assert_eq!(user("10.0.0.5", &["anna"]), named("anna", Role::Operate));
        assert_eq!(user("10.0.0.5", &["Anna"]), named("Anna", Role::View), "exactly");
        assert_eq!(user("10.0.0.5", &[]), Ok(None));
        for (peer, lines) in
            [("10.0.0.6", &["anna"][..]), ("127.0.0.1", &["anna"]), ("10.0.0.6", &["a", "b"])]
        {
            assert_eq!(user(peer, lines), Ok(None), "{peer}");
        }
        let long = "x".repeat(101);
        for wrong in [
            &["anna", "bert"][..],
            &["anna", "anna"],
            &[""],
            &["  "],
            &[&long],
            &["an\tna"],
            &["an\u{200b}na"],
            &["\u{202e}anna"],
        ] {
            assert!(user("10.0.0.5", wrong).is_err(), "{wrong:?}");
        }
        let off = Proxies { user_header: None, ..proxies() };
        assert_eq!(off.user("10.0.0.5".parse().unwrap(), &headers("x-remote-user", &["anna"])), Ok(None));
    }
}

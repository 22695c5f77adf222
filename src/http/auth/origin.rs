//! Where a request comes from: which host it names, and whether a page of another site sent it.

use actix_web::http::uri::Authority;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};

use crate::http::problem::Problem;

/// True if a page of another site sent the request. Browsers say so in `Sec-Fetch-Site`, old ones and those on plain HTTP
/// only in `Origin`, or `Referer`. Programs
/// say none of these.
pub fn is_cross_site(request: &HttpRequest) -> bool {
    let text = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text("host").unwrap_or_default();
    let is_own = |origin: &str| {
        let rest = origin.split_once("://").map(|(_, rest)| rest);
        rest.and_then(|rest| rest.split('/').next())
            .is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    match text("sec-fetch-site") {
        Some(site) => !matches!(site, "same-origin" | "none"),
        None => text("origin").or_else(|| text("referer")).is_some_and(|origin| !is_own(origin)),
    }
}

/// True if the request names no other host: `Host`, and the authority of an absolute request target, are IP addresses,
/// `localhost`, or missing.
pub(super) fn names_no_other_host(request: &HttpRequest) -> bool {
    named_hosts(request).all(is_own_host)
}

fn named_hosts(request: &HttpRequest) -> impl Iterator<Item = &str> {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    host.into_iter().chain(request.uri().authority().map(Authority::as_str))
}

fn is_own_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(name) => name.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

/// Returns the answer to a request that names another host.
pub(super) fn wrong_host(request: &HttpRequest) -> HttpResponse {
    let host = named_hosts(request).find(|host| !is_own_host(host)).unwrap_or("?");
    let detail = format!(
        "without http.token Andon answers only to an IP address or \"localhost\", not to {host:?}; to use another name, set \
         http.token, or http.anonymous = true"
    );
    Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).response()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_our_own_host() {
        let named = |host: &str| {
            let request = TestRequest::default().insert_header((header::HOST, host));
            names_no_other_host(&request.to_http_request())
        };
        for ours in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "10.1.2.3"] {
            assert!(named(ours), "{ours}");
        }
        for theirs in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "[::1].evil.example",
            "[::1]evil:80",
            "::1",
        ] {
            assert!(!named(theirs), "{theirs}");
        }
    }
}

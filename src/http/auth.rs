//! Authentication.
//!
//! With `http.token`, every request needs the token: as `Authorization: Bearer <token>`, or as the cookie that the
//! login sets in a browser. Without it, a page answers 401 with a login form: programs read the status, people the
//! form. The form posts to `/login`, which sets the cookie and returns to the page. A screen without a keyboard opens
//! any page with `?token=<token>`: the response sets the cookie and redirects to the same address without the token.
//!
//! The cookie is `HttpOnly` and `SameSite=Strict`. It holds not the token but a digest of the site's name, keyed with
//! the token. It stays valid across restarts of Andon until the token changes, so a wall screen runs for months.
//! `POST /logout` removes it. The cookie's name contains the site, because browsers share cookies between all ports of
//! a host: two sites on one host would log each other out.
//!
//! Comparisons take constant time (digests of equal length, `openssl::memcmp`).
//!
//! Without a token and without `http.anonymous`, Andon answers only requests whose `Host` is an IP address or
//! `localhost`. A foreign web page can point its own name at this machine (DNS rebinding), but cannot forge the `Host`.
//! A page of another site cannot log a browser out either: `POST /logout` checks where the request comes from.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::uri::Authority;
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpRequest, HttpResponse, web};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::HttpState;
use super::login_page;
use super::problem::Problem;

/// How long a client may take to send the login form.
const FORM_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);
/// Prefix of the cookie's name; the site follows.
const COOKIE: &str = "andon-";
/// Browsers drop a cookie without a maximum age when they close. This is the longest age they accept.
const COOKIE_AGE: Duration = Duration::days(400);
/// Paths for programs. All others are for browsers.
const FOR_PROGRAMS: [&str; 4] = ["/api/", "/metrics", "/livez", "/readyz"];

/// Which requests are answered.
#[derive(Clone)]
pub enum Access {
    /// All of them.
    Anonymous,
    /// Those whose `Host` is an IP address or `localhost`.
    Local,
    /// Those with the token.
    Token(TokenCheck),
}

/// Checks tokens and cookies. Keeps digests of the token, never the token itself.
#[derive(Clone)]
pub struct TokenCheck {
    token: Vec<u8>,
    cookie_name: String,
    cookie: String,
    key: Vec<u8>,
}

impl Access {
    /// Builds the rule from `http.token` and `http.anonymous`.
    ///
    /// # Errors
    /// OpenSSL cannot compute a digest.
    pub fn new(site: &str, token: Option<&str>, anonymous: bool) -> Result<Self, openssl::error::ErrorStack> {
        match token {
            Some(token) => TokenCheck::new(site, token).map(Self::Token),
            None if anonymous => Ok(Self::Anonymous),
            None => Ok(Self::Local),
        }
    }
}

impl TokenCheck {
    fn new(site: &str, token: &str) -> Result<Self, openssl::error::ErrorStack> {
        let mut key = vec![0; 32];
        openssl::rand::rand_bytes(&mut key)?;
        let cookie = keyed_digest(token.as_bytes(), format!("andon board {site}").as_bytes())?;
        let cookie = cookie.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { token: keyed_digest(&key, token.as_bytes())?, cookie_name: cookie_name(site), cookie, key })
    }

    fn is_token(&self, given: &[u8]) -> bool {
        keyed_digest(&self.key, given).is_ok_and(|digest| openssl::memcmp::eq(&digest, &self.token))
    }

    fn is_cookie(&self, given: &str) -> bool {
        given.len() == self.cookie.len() && openssl::memcmp::eq(given.as_bytes(), self.cookie.as_bytes())
    }

    fn admits(&self, request: &HttpRequest) -> bool {
        let bearer = request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
        let bearer = bearer.and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
        });
        match bearer {
            Some(token) => self.is_token(token),
            None => request.cookie(&self.cookie_name).is_some_and(|cookie| self.is_cookie(cookie.value())),
        }
    }
}

/// Returns the name of the site's cookie. Replaces characters that a cookie's name must not contain.
fn cookie_name(site: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    format!("{COOKIE}{}", site.chars().map(allowed).collect::<String>())
}

fn keyed_digest(key: &[u8], text: &[u8]) -> Result<Vec<u8>, openssl::error::ErrorStack> {
    let key = PKey::hmac(key)?;
    Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(text)
}

/// Middleware: answers requests that may not pass itself (HTTP-4).
pub async fn authorize<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let state = request.app_data::<web::Data<HttpState>>().cloned();
    let refusal = match state.as_ref().map(|state| &state.access) {
        Some(Access::Anonymous) => None,
        Some(Access::Local) => {
            (!names_no_other_host(request.request())).then(|| wrong_host(request.request()))
        }
        Some(Access::Token(check)) => refusal(check, request.request()),
        None => Some(HttpResponse::InternalServerError().finish()),
    };
    match refusal {
        Some(response) => Ok(request.into_response(response).map_into_right_body()),
        None => next.call(request).await.map(ServiceResponse::map_into_left_body),
    }
}

/// Returns the response that replaces the handler's; `None` if the request may pass.
fn refusal(check: &TokenCheck, request: &HttpRequest) -> Option<HttpResponse> {
    let path = routed_path(request);
    if path == "/login" || path == "/logout" || login_page::is_public(path) {
        return None;
    }
    if request.method() == Method::GET
        && !is_for_programs(path)
        && let Some(token) = token_in_query(request)
        && check.is_token(token.as_bytes())
    {
        return Some(admitted(check, &without_token(request)));
    }
    if check.admits(request) {
        return None;
    }
    let mut response = if is_for_programs(path) {
        let detail = "this needs the token: send the header \"Authorization: Bearer <token>\" with the value of http.token";
        Problem::new(StatusCode::UNAUTHORIZED, detail).response()
    } else {
        login_page::response(&without_token(request), false)
    };
    let challenge = header::HeaderValue::from_static("Bearer realm=\"andon\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    Some(response)
}

/// Returns the decoded path, as the router matches it: `/%61pi/v1/status` is a path for programs, too.
fn routed_path(request: &HttpRequest) -> &str {
    request.match_info().as_str()
}

fn is_for_programs(path: &str) -> bool {
    FOR_PROGRAMS.iter().any(|place| path.starts_with(place))
}

fn token_in_query(request: &HttpRequest) -> Option<String> {
    let pair = request.query_string().split('&').find_map(|pair| pair.strip_prefix("token="))?;
    percent_decode_str(pair).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// Returns path and query without the token.
fn without_token(request: &HttpRequest) -> String {
    let kept: Vec<&str> = request
        .query_string()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("token="))
        .collect();
    let path = request.uri().path();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

/// Returns the redirect to `place` that sets the cookie.
fn admitted(check: &TokenCheck, place: &str) -> HttpResponse {
    let cookie = Cookie::build(check.cookie_name.clone(), check.cookie.clone())
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(COOKIE_AGE)
        .finish();
    go_to(place).cookie(cookie).finish()
}

fn go_to(place: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::SeeOther();
    response.insert_header((header::LOCATION, own_place(place)));
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    response
}

/// Returns `place` if it is a path on this server, else `/`. `//host` or `/\host` would be another server.
fn own_place(place: &str) -> &str {
    let mut characters = place.chars();
    let is_ours = characters.next() == Some('/') && !matches!(characters.next(), Some('/' | '\\'));
    if is_ours && !place.contains(char::is_control) { place } else { "/" }
}

/// The fields of the login form.
#[derive(Deserialize)]
pub struct Login {
    token: String,
    #[serde(default)]
    next: String,
}

/// `POST /login`
pub async fn login(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> Result<HttpResponse, Error> {
    let mut payload = payload.into_inner();
    let form = web::Form::<Login>::from_request(&request, &mut payload);
    // A client that never sends the body must not hold the connection for ever.
    let Ok(form) = actix_rt::time::timeout(FORM_WITHIN, form).await else {
        return Ok(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the form did not arrive within {} s", FORM_WITHIN.as_secs()),
        )
        .response());
    };
    let form = match form {
        Ok(form) => form,
        Err(error) => return Ok(unreadable_form(&error).response()),
    };
    let response = match &state.access {
        Access::Token(check) if check.is_token(form.token.trim().as_bytes()) => admitted(check, &form.next),
        Access::Token(_) => login_page::response(own_place(&form.next), true),
        Access::Anonymous | Access::Local => go_to("/").finish(),
    };
    Ok(response)
}

fn unreadable_form(error: &Error) -> Problem {
    let detail = format!(
        "the form cannot be read ({error}); expected token=<token>, as application/x-www-form-urlencoded"
    );
    Problem::new(error.as_response_error().status_code(), detail)
}

/// `GET /login`
pub async fn login_form(state: web::Data<HttpState>) -> HttpResponse {
    match &state.access {
        Access::Token(_) => login_page::response("/", false),
        Access::Anonymous | Access::Local => go_to("/").finish(),
    }
}

/// `POST /logout`
pub async fn logout(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    if is_cross_site(&request) {
        let detail = "a page of another site sent this; log out on a page of this server";
        return Problem::new(StatusCode::FORBIDDEN, detail).response();
    }
    let name = cookie_name(&state.site);
    let mut forgotten =
        Cookie::build(name, "").path("/").http_only(true).same_site(SameSite::Strict).finish();
    forgotten.make_removal();
    go_to("/login").cookie(forgotten).finish()
}

/// True if a page of another site sent the request. Browsers say so in `Sec-Fetch-Site`, old ones and those on plain HTTP
/// only in `Origin`.
fn is_cross_site(request: &HttpRequest) -> bool {
    let text = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text("host").unwrap_or_default();
    let is_own = |origin: &str| {
        origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    };
    match text("sec-fetch-site") {
        Some(site) => !matches!(site, "same-origin" | "none"),
        None => text("origin").is_some_and(|origin| !is_own(origin)),
    }
}

/// True if the request names no other host: `Host`, and the authority of an absolute request target, are IP addresses,
/// `localhost`, or missing.
fn names_no_other_host(request: &HttpRequest) -> bool {
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

fn wrong_host(request: &HttpRequest) -> HttpResponse {
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

    fn check() -> TokenCheck {
        TokenCheck::new("hall-3", "s3cret").unwrap()
    }

    #[test]
    fn nothing_but_the_exact_token_passes() {
        let check = check();
        assert!(check.is_token(b"s3cret"));
        for wrong in ["", "s3cre", "s3cret ", "S3cret", "s3cret\0"] {
            assert!(!check.is_token(wrong.as_bytes()), "{wrong:?}");
        }
        let with = |value: &str| {
            let request =
                TestRequest::default().insert_header((header::AUTHORIZATION, value)).to_http_request();
            check.admits(&request)
        };
        assert!(with("Bearer s3cret") && with("bearer   s3cret"));
        for wrong in ["s3cret", "Basic s3cret", "Bearer", "Bearer ", "Bearer s3cret2", "Bearers3cret"] {
            assert!(!with(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn the_cookie_is_not_the_token_and_outlives_a_restart_but_not_another_token_or_site() {
        let cookie = check().cookie;
        assert!(!cookie.contains("s3cret"));
        assert!(check().is_cookie(&cookie));
        for other in
            [TokenCheck::new("hall-3", "other").unwrap(), TokenCheck::new("hall-4", "s3cret").unwrap()]
        {
            assert!(!other.is_cookie(&cookie));
        }
        let with = |name: &'static str, value: &str| {
            let request = TestRequest::default().cookie(Cookie::new(name, value.to_owned()));
            check().admits(&request.to_http_request())
        };
        assert!(with("andon-hall-3", &cookie));
        assert!(!with("andon-hall-3", "s3cret"));
        assert!(!with("andon-hall-4", &cookie), "the cookie of another site on this host");
    }

    #[test]
    fn the_cookie_is_named_after_the_site_and_fits_into_a_header() {
        assert_eq!(cookie_name("hall-3.north"), "andon-hall-3.north");
        assert_eq!(cookie_name("a;b=c\r\n é"), "andon-a_b_c____");
    }

    #[test]
    fn a_wrong_bearer_token_fails_despite_a_valid_cookie() {
        let request = TestRequest::default()
            .cookie(Cookie::new("andon-hall-3", check().cookie))
            .insert_header((header::AUTHORIZATION, "Bearer wrong"));
        assert!(!check().admits(&request.to_http_request()));
    }

    #[test]
    fn the_login_redirects_to_this_server_only() {
        for place in ["/", "/machines/a%2Fb?kiosk", "/?x=//y"] {
            assert_eq!(own_place(place), place);
        }
        for elsewhere in
            ["", "//evil.example", "/\\evil.example", "https://evil.example", "/x\r\nSet-Cookie: a=b"]
        {
            assert_eq!(own_place(elsewhere), "/", "{elsewhere:?}");
        }
    }

    #[test]
    fn the_token_is_removed_from_the_address() {
        let request = TestRequest::with_uri("/machines/x?kiosk&token=s3%20cret&a=b").to_http_request();
        assert_eq!(token_in_query(&request).as_deref(), Some("s3 cret"));
        assert_eq!(without_token(&request), "/machines/x?kiosk&a=b");
        let request = TestRequest::with_uri("/?token=x").to_http_request();
        assert_eq!(without_token(&request), "/");
    }

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

//! Authentication.
//!
//! With `http.token` or `http.tokens`, every request needs a token of the right role ([`Role`]): as
//! `Authorization: Bearer <token>`, or as the cookie that the login sets in a browser. Without one, a page answers 401
//! with a login form: programs read the status, people the form. The form posts to `/login`, which sets the cookie and returns to the page. A screen without a keyboard opens
//! any page with `?token=<token>`: the response sets the cookie and redirects to the same address without the token.
//!
//! The cookie is `HttpOnly` and `SameSite=Strict`. It holds not the token but a digest of the site's name, keyed with
//! the token. It stays valid across restarts of Andon until the token changes, so a wall screen runs for months. A reload
//! that changes the token ends the live streams and the sessions with it.
//! `POST /logout` removes it. The cookie's name contains the site, because browsers share cookies between all ports of
//! a host: two sites on one host would log each other out.
//!
//! Comparisons take constant time (digests of equal length, `openssl::memcmp`).
//!
//! Without a token and without `http.anonymous`, Andon answers only requests whose `Host` is an IP address or
//! `localhost`. A foreign web page can point its own name at this machine (DNS rebinding), but cannot forge the `Host`.
//! A page of another site cannot log a browser out either: `POST /logout` checks where the request comes from.

mod guard;
mod guessing;
mod login;
mod origin;
mod pace;
mod token;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, web};

pub use self::guard::TokenGuard;
use self::guessing::Verdict;
use self::login::{admitted, token_in_query, without_token};
pub use self::login::{login, login_form, logout};
pub use self::origin::is_cross_site;
use self::origin::{names_no_other_host, wrong_host};
use self::token::{KnownToken, bearer};
pub use self::token::{Token, TokenCheck};
use super::HttpState;
use super::caller::{self, CallerName};
use super::login_page::{self, Refused};
use super::problem::Problem;
use crate::domain::Role;

/// Paths for programs. All others are for browsers.
const FOR_PROGRAMS: [&str; 4] = ["/api/", "/metrics", "/livez", "/readyz"];

/// Which requests are answered.
#[derive(Clone)]
pub enum Access {
    /// All of them.
    Anonymous,
    /// Those whose `Host` is an IP address or `localhost`.
    Local,
    /// Those with a token of the role that they need.
    Token(TokenCheck),
}

impl Access {
    /// Builds the rule from the tokens and `http.anonymous`.
    ///
    /// # Errors
    /// OpenSSL cannot compute a digest.
    pub fn new(
        site: &str,
        tokens: &[Token<'_>],
        anonymous: bool,
    ) -> Result<Self, openssl::error::ErrorStack> {
        match (tokens, anonymous) {
            ([], true) => Ok(Self::Anonymous),
            ([], false) => Ok(Self::Local),
            _ => TokenCheck::new(site, tokens).map(Self::Token),
        }
    }
}

/// Middleware: answers requests that may not pass itself (HTTP-4).
pub async fn authorize<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let state = request.app_data::<web::Data<HttpState>>().cloned();
    let refusal = match &state {
        Some(state) => refusal_now(state, request.request()),
        None => Some(HttpResponse::InternalServerError().finish()),
    };
    match refusal {
        Some(response) => Ok(request.into_response(response).map_into_right_body()),
        None => next.call(request).await.map(ServiceResponse::map_into_left_body),
    }
}

/// Returns the response that replaces the handler's by the rule in effect now; `None` if the request may pass.
pub fn refusal_now(state: &HttpState, request: &HttpRequest) -> Option<HttpResponse> {
    match &state.settings().access {
        Access::Anonymous => None,
        Access::Local => (!names_no_other_host(request)).then(|| wrong_host(request)),
        Access::Token(check) => refusal(state, check, request),
    }
}

fn refusal(state: &HttpState, check: &TokenCheck, request: &HttpRequest) -> Option<HttpResponse> {
    let path = routed_path(request);
    if path == "/login" || path == "/logout" || login_page::is_public(path) {
        return None;
    }
    let in_address = (request.method() == Method::GET && !is_for_programs(path))
        .then(|| token_in_query(request))
        .flatten()
        .map(|token| find(state, check, request, token.as_bytes()));
    if let Some(Ok(known)) = in_address {
        return Some(admitted(check, known, &without_token(request)));
    }
    let found = match (bearer(request), in_address) {
        (Some(token), _) => find(state, check, request, token),
        // A session shows the page all the same.
        (None, Some(Err(refused))) => check.of_cookie(request).ok_or(refused),
        (None, _) => check.of_cookie(request).ok_or(Refused::NoToken),
    };
    let needed = needed_role(request.method(), path);
    match found {
        Ok(known) if known.allows(needed) => {
            request.extensions_mut().insert(CallerName(known.name().to_owned()));
            None
        }
        Ok(known) => Some(forbidden(known.name(), needed)),
        Err(refused) => Some(unauthorized(request, refused)),
    }
}

/// Finds the token that a client has sent, as fast as the guard allows.
fn find<'a>(
    state: &HttpState,
    check: &'a TokenCheck,
    request: &HttpRequest,
    token: &[u8],
) -> Result<&'a KnownToken, Refused> {
    let known = check.find(token);
    match (state.guard.judge(caller::address(request), token, known.is_some()), known) {
        (Verdict::Admitted, Some(known)) => Ok(known),
        (Verdict::Wait(long), _) => Err(Refused::TooSoon(long)),
        _ => Err(Refused::WrongToken),
    }
}

fn unauthorized(request: &HttpRequest, refused: Refused) -> HttpResponse {
    if is_for_programs(routed_path(request)) {
        refused.problem()
    } else {
        login_page::response(&without_token(request), refused)
    }
}

/// Returns what a request needs: a change needs `operate`, and programs that watch need no more than `metrics`.
fn needed_role(method: &Method, path: &str) -> Role {
    match path {
        _ if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) => Role::Operate,
        "/metrics" | "/livez" | "/readyz" => Role::Metrics,
        _ => Role::View,
    }
}

fn forbidden(name: &str, needed: Role) -> HttpResponse {
    let needed = needed.as_str();
    let detail =
        format!("the token {name:?} does not allow this, which needs the role {needed:?} (http.tokens)");
    Problem::new(StatusCode::FORBIDDEN, detail).response()
}

/// Returns the decoded path, as the router matches it: `/%61pi/v1/status` is a path for programs, too.
fn routed_path(request: &HttpRequest) -> &str {
    request.match_info().as_str()
}

fn is_for_programs(path: &str) -> bool {
    FOR_PROGRAMS.iter().any(|place| path.starts_with(place))
}

//! Authentication.
//!
//! With `http.token` or `http.tokens`, every request needs a token of the right role ([`Role`]): as
//! `Authorization: Bearer <token>`, or as the cookie that the login sets in a browser. Without one, a page answers 401
//! with a login form: programs read the status, people the form. The form posts to `/login`, which sets the cookie and returns to the page. A screen without a keyboard opens
//! any page with `?token=<token>`: the response sets the cookie and redirects to the same address without the token.
//!
//! The cookie is `HttpOnly` and `SameSite=Strict`, and `Secure` where the request is. It holds not the token but a session
//! ([`session`]): days long, across restarts of Andon, until somebody logs out or the token changes. Pages that are in use
//! get a fresh cookie in time, so a wall screen runs for months. A reload that changes the token ends the live streams and
//! the sessions with it. `POST /logout` ends the session on the server, too ([`sessions`]), for good, and removes the
//! cookie. The cookie's name contains the site, because browsers share cookies between all ports of
//! a host: two sites on one host would log each other out.
//!
//! A trusted proxy may name the user ([`proxy`]); then neither token nor session is asked for. Like a cookie, that says
//! nothing of who wrote the request.
//!
//! Before every check of a token stands a guard ([`guard`]): an address that has sent wrong ones waits for each further
//! one, whichever way it comes. A session does not wait, and an invalid cookie is no guess.
//!
//! Comparisons take constant time (digests of equal length, `openssl::memcmp`).
//!
//! Without a token and without `http.anonymous`, Andon answers only requests whose `Host` is an IP address or
//! `localhost`. A foreign web page can point its own name at this machine (DNS rebinding), but cannot forge the `Host`.
//! A page of another site can change nothing, nor log a browser in or out: every change is checked for where it comes
//! from, before its handler.

mod ended;
mod guard;
mod guessing;
mod login;
mod origin;
mod pace;
mod proxy;
mod record;
mod session;
mod session_file;
mod sessions;
mod token;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::cookie::Cookie;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, web};

pub use self::guard::TokenGuard;
use self::guessing::Verdict;
use self::login::{admitted, session_cookie, token_in_query, without_token};
pub use self::login::{login, login_form, logout};
use self::origin::{is_cross_site, names_no_other_host, wrong_host};
pub use self::proxy::Proxies;
pub use self::record::report;
pub use self::session::{Session, SiteKey};
pub use self::sessions::Sessions;
use self::token::{KnownToken, bearer};
pub use self::token::{Token, TokenCheck};
use super::caller::{self, CallerName, CallerSession};
use super::login_page::{self, Refused};
use super::problem::Problem;
use super::{HttpSettings, HttpState};
use crate::clock::wall_now;
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
    /// Those with a token of the role that they need, and those of a user that a trusted proxy names.
    Token(TokenCheck),
}

impl Access {
    /// Builds the rule from the tokens and `http.anonymous`. With `proxy_users` somebody may have a name without a token.
    ///
    /// # Errors
    /// OpenSSL cannot compute a digest.
    pub fn new(
        site: &str,
        key: &SiteKey,
        tokens: &[Token<'_>],
        anonymous: bool,
        proxy_users: bool,
    ) -> Result<Self, openssl::error::ErrorStack> {
        match (tokens, anonymous, proxy_users) {
            ([], true, _) => Ok(Self::Anonymous),
            ([], false, false) => Ok(Self::Local),
            _ => TokenCheck::new(site, key, tokens).map(Self::Token),
        }
    }
}

/// Middleware: answers requests that may not pass itself (HTTP-4), and keeps sessions in use alive.
pub async fn authorize<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let state = request.app_data::<web::Data<HttpState>>().cloned();
    let admission = match &state {
        Some(state) => admission(state, request.request(), Look::First)
            .and_then(|fresh| of_own_pages(state, request.request()).map(|()| fresh)),
        None => Err(HttpResponse::InternalServerError().finish().into()),
    };
    let fresh = match admission {
        Ok(fresh) => fresh,
        Err(response) => return Ok(request.into_response(*response).map_into_right_body()),
    };
    let mut response = next.call(request).await?;
    if let Some(cookie) = fresh {
        response.response_mut().add_cookie(&cookie)?;
    }
    Ok(response.map_into_left_body())
}

/// Refuses what changes something if a page of another site sent it. Cookies and the users of a proxy say nothing of who
/// wrote a request; and a foreign login would log a browser in with a token of that page's choice, or use up the guesses
/// of its address.
fn of_own_pages(state: &HttpState, request: &HttpRequest) -> Result<(), Box<HttpResponse>> {
    if !changes_something(request.method()) || !is_cross_site(request) {
        return Ok(());
    }
    record::refused_change(state, request, &caller::name(request));
    let detail = "a page of another site sent this; do it on a page of this server";
    Err(Problem::new(StatusCode::FORBIDDEN, detail).response().into())
}

fn changes_something(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// How often a request was looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    First,
    /// Its token has been judged.
    Again,
}

/// Returns the response that replaces the handler's by the rule in effect now; `None` if the request, which has passed
/// once, may still pass.
pub fn refusal_now(state: &HttpState, request: &HttpRequest) -> Option<HttpResponse> {
    admission(state, request, Look::Again).err().map(|response| *response)
}

/// Admits a request, with a fresh cookie if its session needs one; or returns the response to it.
fn admission(
    state: &HttpState,
    request: &HttpRequest,
    look: Look,
) -> Result<Option<Cookie<'static>>, Box<HttpResponse>> {
    let settings = state.settings();
    match &settings.access {
        Access::Anonymous => Ok(None),
        Access::Local => refusal_of_foreign_host(request).map_or(Ok(None), |response| Err(response.into())),
        Access::Token(check) => Visit { state, check, request, look, settings: &settings }.admission(),
    }
}

/// Returns the refusal of a request to a host name that a foreign web page could have chosen.
pub(super) fn refusal_of_foreign_host(request: &HttpRequest) -> Option<HttpResponse> {
    (!names_no_other_host(request)).then(|| wrong_host(request))
}

/// A request, and what it is judged by.
struct Visit<'a> {
    state: &'a HttpState,
    check: &'a TokenCheck,
    request: &'a HttpRequest,
    look: Look,
    settings: &'a HttpSettings,
}

impl<'a> Visit<'a> {
    fn admission(&self) -> Result<Option<Cookie<'static>>, Box<HttpResponse>> {
        let (request, path) = (self.request, routed_path(self.request));
        if path == "/login" || path == "/logout" || login_page::is_public(path) {
            return Ok(None);
        }
        let needed = needed_role(request.method(), path);
        match self.settings.proxies.user(caller::peer(request), request.headers()) {
            Ok(None) => {}
            Ok(Some(user)) if user.role.allows(needed) => {
                request.extensions_mut().insert(CallerName(user.name));
                return Ok(None);
            }
            Ok(Some(user)) => return Err(self.forbidden("user", &user.name, needed).into()),
            Err(why) => return Err(not_a_user(self.settings, why).into()),
        }
        let in_address = (request.method() == Method::GET && !is_for_programs(path))
            .then(|| token_in_query(request))
            .flatten()
            .map(|token| self.find(token.as_bytes()));
        if let Some(Ok(known)) = in_address {
            return Err(admitted(self.state, request, self.check, known, &without_token(request)).into());
        }
        let by_session = || self.session().map(|(known, session)| (known, Some(session)));
        let found = match (bearer(request), in_address) {
            (Some(token), _) => self.find(token).map(|known| (known, None)),
            // A session shows the page all the same.
            (None, Some(Err(refused))) => by_session().ok_or(refused),
            (None, _) => by_session().ok_or(Refused::NoToken),
        };
        match found {
            Ok((known, session)) if known.allows(needed) => {
                request.extensions_mut().insert(CallerName(known.name().to_owned()));
                Ok(session.and_then(|session| self.keep(known, session)))
            }
            Ok((known, _)) => Err(self.forbidden("token", known.name(), needed).into()),
            Err(refused) => Err(unauthorized(request, refused).into()),
        }
    }

    fn forbidden(&self, what: &str, name: &str, needed: Role) -> HttpResponse {
        if needed == Role::Operate {
            record::refused_change(self.state, self.request, name);
        }
        forbidden(what, name, needed)
    }

    /// Finds the token that a client has sent, as fast as the guard allows.
    fn find(&self, token: &[u8]) -> Result<&'a KnownToken, Refused> {
        match self.look {
            Look::First => find(self.state, self.check, self.request, token),
            Look::Again => self.check.find(token).ok_or(Refused::WrongToken),
        }
    }

    /// Finds the session of the request, unless it is over.
    fn session(&self) -> Option<(&'a KnownToken, Session)> {
        let (known, session) = self.check.session_of(self.request)?;
        let lasts = session.lasts(known.lifetime(self.settings.session_max), wall_now());
        (lasts && !self.state.sessions.has_ended(&session)).then_some((known, session))
    }

    /// Notes the session, and returns a fresh cookie for it if it needs one.
    fn keep(&self, known: &KnownToken, session: Session) -> Option<Cookie<'static>> {
        let (now, lifetime) = (wall_now(), known.lifetime(self.settings.session_max));
        let slides = session.should_slide(lifetime, now) && shows_the_board(self.request);
        let session = if slides { Session { issued: now, ..session } } else { session };
        let fresh =
            slides.then(|| session_cookie(self.request, self.check, known, &session, lifetime)).flatten();
        let until = session.until(lifetime);
        self.request.extensions_mut().insert(CallerSession { session, until });
        fresh
    }
}

/// True for what a browser asks for while somebody looks at the board: pages, and the live stream. Not for files, which
/// caches keep with their headers.
fn shows_the_board(request: &HttpRequest) -> bool {
    let path = routed_path(request);
    request.method() == Method::GET
        && (path == "/" || path == "/api/v1/stream" || path == "/machines" || path.starts_with("/machines/"))
}

/// Finds a token that a client has sent, as fast as the guard allows.
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
        (Verdict::Wrong { is_new: true }, _) => {
            record::refused_login(state, request);
            Err(Refused::WrongToken)
        }
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
        _ if changes_something(method) => Role::Operate,
        "/metrics" | "/livez" | "/readyz" => Role::Metrics,
        _ => Role::View,
    }
}

fn forbidden(what: &str, name: &str, needed: Role) -> HttpResponse {
    let (needed, keys) =
        (needed.as_str(), if what == "user" { "http.proxy_operators" } else { "http.tokens" });
    let detail = format!("the {what} {name:?} does not allow this, which needs the role {needed:?} ({keys})");
    Problem::new(StatusCode::FORBIDDEN, detail).response()
}

/// Returns the answer to a request whose user cannot be believed.
fn not_a_user(settings: &HttpSettings, why: &str) -> HttpResponse {
    let header = settings.proxies.user_header.as_ref().map_or("", |header| header.as_str());
    Problem::bad_request(format!("the proxy's header {header} names no user: {why}")).response()
}

/// Returns the decoded path, as the router matches it: `/%61pi/v1/status` is a path for programs, too.
fn routed_path(request: &HttpRequest) -> &str {
    request.match_info().as_str()
}

fn is_for_programs(path: &str) -> bool {
    FOR_PROGRAMS.iter().any(|place| path.starts_with(place))
}

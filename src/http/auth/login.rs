//! Login and logout of a browser: the form, the token in an address, the cookie, and where to go then.

use actix_web::cookie::{Cookie, CookieBuilder, SameSite, time::Duration};
use actix_web::http::{StatusCode, header};
use actix_web::{Error, FromRequest, HttpRequest, HttpResponse, web};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::session::{Lifetime, Session};
use super::token::{KnownToken, TokenCheck, cookie_name};
use super::{Access, find, record};
use crate::clock::wall_now;
use crate::http::login_page::{self, Refused};
use crate::http::problem::Problem;
use crate::http::{HttpState, caller};

/// How long a client may take to send the login form.
const FORM_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);
/// Returns the token of `?token=`, decoded.
pub(super) fn token_in_query(request: &HttpRequest) -> Option<String> {
    let pair = request.query_string().split('&').find_map(|pair| pair.strip_prefix("token="))?;
    percent_decode_str(pair).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// Returns path and query without the token.
pub(super) fn without_token(request: &HttpRequest) -> String {
    let kept: Vec<&str> = request
        .query_string()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("token="))
        .collect();
    let path = request.uri().path();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

/// Returns the redirect to `place` that begins a session.
pub(super) fn admitted(
    state: &HttpState,
    request: &HttpRequest,
    check: &TokenCheck,
    known: &KnownToken,
    place: &str,
) -> HttpResponse {
    let session_max = state.settings().session_max;
    record::done(state, request, known.name(), "login");
    let session = Session::open(&known.session_key, wall_now());
    match session_cookie(request, check, known, &session, known.lifetime(session_max)) {
        Some(cookie) => go_to(place).cookie(cookie).finish(),
        None => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "OpenSSL cannot sign the session").response(),
    }
}

/// Returns the cookie of a session. A browser drops one without a maximum age when it closes.
pub(super) fn session_cookie(
    request: &HttpRequest,
    check: &TokenCheck,
    known: &KnownToken,
    session: &Session,
    lifetime: Lifetime,
) -> Option<Cookie<'static>> {
    let value = known.session_key.cookie(session).ok()?;
    let max_age = Duration::try_from(lifetime.max).unwrap_or(Duration::MAX);
    Some(cookie(request, check.cookie_name.clone(), value).max_age(max_age).finish())
}

fn cookie(request: &HttpRequest, name: String, value: String) -> CookieBuilder<'static> {
    let secure = caller::is_secure(request);
    Cookie::build(name, value).path("/").http_only(true).same_site(SameSite::Strict).secure(secure)
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
    let settings = state.settings();
    let response = match &settings.access {
        Access::Token(check) => match find(&state, check, &request, form.token.trim().as_bytes()) {
            Ok(known) => admitted(&state, &request, check, known, &form.next),
            Err(refused) if wants_a_problem(&request) => refused.problem(),
            Err(refused) => login_page::response(own_place(&form.next), refused),
        },
        Access::Anonymous | Access::Local => go_to("/").finish(),
    };
    Ok(response)
}

/// True for a program that reads JSON and no pages.
fn wants_a_problem(request: &HttpRequest) -> bool {
    let accept =
        request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.contains("json") && !accept.contains("text/html")
}

fn unreadable_form(error: &Error) -> Problem {
    let detail = format!(
        "the form cannot be read ({error}); expected token=<token>, as application/x-www-form-urlencoded"
    );
    Problem::new(error.as_response_error().status_code(), detail)
}

/// `GET /login`
pub async fn login_form(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    match &state.settings().access {
        Access::Token(_) if wants_a_problem(&request) => Refused::NoToken.problem(),
        Access::Token(check) => match check.session_of(&request) {
            Some((known, session)) if !state.sessions.has_ended(&session) => {
                login_page::of_session(known.name())
            }
            _ => login_page::response("/", Refused::NoToken),
        },
        Access::Anonymous | Access::Local => go_to("/").finish(),
    }
}

/// `POST /logout`
pub async fn logout(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    if let Access::Token(check) = &state.settings().access
        && let Some((known, session)) = check.session_of(&request)
        && !state.sessions.has_ended(&session)
    {
        state.sessions.end(&session).await;
        state.streams.close_session(session.id);
        record::done(&state, &request, known.name(), "logout");
    }
    let mut forgotten = cookie(&request, cookie_name(&state.site), String::new()).finish();
    forgotten.make_removal();
    go_to("/login").cookie(forgotten).finish()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

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
}

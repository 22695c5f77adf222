//! What a request without a valid token gets: programs a problem, browsers the login form. It needs no script; its style sheet and icon are public.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use maud::{DOCTYPE, Markup, html};

use super::board::asset_address;
use super::problem::Problem;

/// True for the files that the login form shows. They are the same in every Andon and tell nothing about a site.
pub fn is_public(path: &str) -> bool {
    path == "/favicon.ico"
        || [asset_address("andon.css"), asset_address("icon.svg")].iter().any(|public| public == path)
}

/// Why a request has to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It has no token, and no session.
    NoToken,
    /// It has a wrong token.
    WrongToken,
    /// Too many wrong tokens came from its address: its token is not looked at before this time has passed.
    TooSoon(Duration),
}

impl Refused {
    fn status(self) -> StatusCode {
        match self {
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::TooSoon(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    fn text(self) -> Option<String> {
        match self {
            Self::NoToken => None,
            Self::WrongToken => Some("Wrong token.".to_owned()),
            Self::TooSoon(_) => {
                let seconds = self.seconds();
                Some(format!("Too many wrong tokens from this address. Try again in {seconds} s."))
            }
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Self::TooSoon(long) => long.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX),
            _ => 0,
        }
    }

    /// Returns the answer for programs.
    pub fn problem(self) -> HttpResponse {
        let detail = match self {
            Self::TooSoon(_) => format!(
                "too many wrong tokens came from this address; the next one is looked at in {} s. Correct the token of \
                 the program that sends the wrong one, or wait",
                self.seconds()
            ),
            Self::NoToken | Self::WrongToken => {
                "this needs the token: send the header \"Authorization: Bearer \
                <token>\" with the value of http.token, or of one of http.tokens"
                    .to_owned()
            }
        };
        self.with_headers(Problem::new(self.status(), detail).response())
    }

    fn with_headers(self, mut response: HttpResponse) -> HttpResponse {
        let headers = response.headers_mut();
        if self.status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"andon\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        } else {
            headers.insert(header::RETRY_AFTER, self.seconds().into());
        }
        response
    }
}

/// Returns the form. After the login the browser goes to `next`.
pub fn response(next: &str, refused: Refused) -> HttpResponse {
    refused.with_headers(html_response(refused.status(), &page(next, refused, None)))
}

/// Returns the page of a browser that is logged in with the token of this name: it can log out, or in with another token.
pub fn of_session(token_name: &str) -> HttpResponse {
    html_response(StatusCode::OK, &page("/", Refused::NoToken, Some(token_name)))
}

fn html_response(status: StatusCode, page: &Markup) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(page.0.clone())
}

fn page(next: &str, refused: Refused, logged_in_as: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Andon: log in" }
                link rel="icon" type="image/svg+xml" href=(asset_address("icon.svg"));
                link rel="stylesheet" href=(asset_address("andon.css"));
            }
            body {
                header.head { p.brand { "Andon" } }
                main.machine {
                    @if let Some(token_name) = logged_in_as {
                        section.empty.login {
                            h1 { "Log out" }
                            p { "This browser is logged in with the token " b { (token_name) } ". " a href="/" { "To the board" } }
                            form method="post" action="/logout" { button id="log-out" { "Log out" } }
                        }
                    }
                    section.empty.login {
                        h1 { "Log in" }
                        @if let Some(text) = refused.text() { p.wrong role="alert" { (text) } }
                        form method="post" action="/login" {
                            label for="token" { "Token" }
                            input id="token" type="password" name="token" required autofocus autocomplete="current-password";
                            input type="hidden" name="next" value=(next);
                            button { "Open the board" }
                        }
                        p.nothing { "The administrator has set it as http.token. This browser will remember it." }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_cannot_inject_markup() {
        let page = page("/\"><script>'&", Refused::WrongToken, Some("<script>")).into_string();
        assert!(page.contains("value=\"/&quot;&gt;&lt;script&gt;'&amp;\""), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }

    /// Proves HTTP-4.
    #[test]
    fn only_the_files_of_the_login_form_are_public() {
        assert!(is_public("/favicon.ico") && is_public(&asset_address("andon.css")));
        for path in [
            "/",
            "/assets/",
            "/assets/0123456789abcdef/andon.css",
            &asset_address("board.js"),
            "/board/trends",
        ] {
            assert!(!is_public(path), "{path}");
        }
    }
}

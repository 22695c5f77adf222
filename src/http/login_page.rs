//! The page that asks a browser for the token. It needs no script; its style and icon are everybody's.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use maud::{DOCTYPE, Markup, html};

use super::board::asset_address;

/// Whether everybody may load this: what the login itself looks like, which is the same in every Andon.
pub fn is_public(path: &str) -> bool {
    path == "/favicon.ico"
        || [asset_address("andon.css"), asset_address("icon.svg")].iter().any(|public| public == path)
}

/// The form; after it the browser goes to `next`.
pub fn response(next: &str, was_wrong: bool) -> HttpResponse {
    HttpResponse::build(StatusCode::UNAUTHORIZED)
        .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(page(next, was_wrong).into_string())
}

fn page(next: &str, was_wrong: bool) -> Markup {
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
                    section.empty.login {
                        h1 { "Log in" }
                        @if was_wrong { p.wrong role="alert" { "That is not the token." } }
                        form method="post" action="/login" {
                            label for="token" { "Token" }
                            input id="token" type="password" name="token" required autofocus autocomplete="current-password";
                            input type="hidden" name="next" value=(next);
                            button { "Open the board" }
                        }
                        p.nothing { "It is set as http.token where Andon runs. This browser is asked once." }
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
    fn what_comes_next_cannot_become_markup() {
        let page = page("/\"><script>'&", false).into_string();
        assert!(page.contains("value=\"/&quot;&gt;&lt;script&gt;'&amp;\""), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn without_the_token_there_is_nothing_of_the_board_but_the_looks_of_the_login() {
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

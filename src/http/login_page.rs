//! The login form. It needs no script; its style sheet and icon are public.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use maud::{DOCTYPE, Markup, html};

use super::board::asset_address;

/// True for the files that the login form shows. They are the same in every Andon and tell nothing about a site.
pub fn is_public(path: &str) -> bool {
    path == "/favicon.ico"
        || [asset_address("andon.css"), asset_address("icon.svg")].iter().any(|public| public == path)
}

/// Returns the form. After the login the browser goes to `next`.
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
                        @if was_wrong { p.wrong role="alert" { "Wrong token." } }
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
        let page = page("/\"><script>'&", false).into_string();
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

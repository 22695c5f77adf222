//! The page that asks a browser for the token. It needs no script, and loads nothing.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};

/// Whether everybody may load this: nothing yet.
pub fn is_public(path: &str) -> bool {
    path == "/favicon.ico"
}

/// The form; after it the browser goes to `next`.
pub fn response(next: &str, was_wrong: bool) -> HttpResponse {
    let complaint = if was_wrong { "<p role=\"alert\">That is not the token.</p>" } else { "" };
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Andon</title>\
         <meta name=\"viewport\" content=\"width=device-width\"></head><body><main><h1>Andon</h1>{complaint}\
         <form method=\"post\" action=\"/login\"><p><label>Token <input type=\"password\" name=\"token\" required autofocus \
         autocomplete=\"current-password\"></label></p><input type=\"hidden\" name=\"next\" value=\"{}\">\
         <p><button>Open the board</button></p></form></main></body></html>",
        escaped(next)
    );
    HttpResponse::build(StatusCode::UNAUTHORIZED)
        .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(page)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_cannot_become_markup() {
        assert_eq!(escaped("/\"><script>'&"), "/&quot;&gt;&lt;script&gt;&#39;&amp;");
    }
}

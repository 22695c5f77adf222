//! What keeps a page from loading, running or being shown by anything foreign.

use actix_web::body::BoxBody;
use actix_web::http::header;
use actix_web::{HttpResponse, HttpResponseBuilder};
use maud::Markup;

use crate::http::body::Body;
use crate::http::budget::{BudgetSpent, Charge};

/// Nothing but our own scripts, styles, data and pictures; no inline script, no inline style, no frame around it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Adds the headers that every answer of the board has.
pub fn protect(response: &mut HttpResponseBuilder) {
    response
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::X_FRAME_OPTIONS, "DENY"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header(("permissions-policy", "camera=(), geolocation=(), microphone=()"));
}

/// A page; what it shows is true now, so nobody may keep it.
pub fn page(mut response: HttpResponseBuilder, page: Markup) -> HttpResponse {
    of_this_moment(&mut response);
    response.body(page.into_string())
}

/// A page of any size, as long as the budget has room for it; `charge` is what was taken for putting it together.
///
/// # Errors
/// The budget is spent.
pub fn large_page(mut charge: Charge, page: Markup) -> Result<HttpResponse, BudgetSpent> {
    let html = page.into_string();
    charge.resize(html.capacity())?;
    let mut response = HttpResponse::Ok();
    of_this_moment(&mut response);
    Ok(response.body(BoxBody::new(Body::of_text(html, charge))))
}

/// Says that there is no room for a page at present.
pub fn busy(markup: Markup) -> HttpResponse {
    let mut response = HttpResponse::ServiceUnavailable();
    response.insert_header((header::RETRY_AFTER, "2"));
    page(response, markup)
}

fn of_this_moment(response: &mut HttpResponseBuilder) {
    protect(response);
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    response.content_type("text/html; charset=utf-8");
}

/// A sentence.
pub fn plain(mut response: HttpResponseBuilder, text: &'static str) -> HttpResponse {
    protect(&mut response);
    response.content_type("text/plain; charset=utf-8").body(text)
}

//! Responses of the pages: security headers, caching, budget.

use actix_web::body::BoxBody;
use actix_web::http::header;
use actix_web::{HttpResponse, HttpResponseBuilder};
use maud::Markup;

use crate::http::body::Body;
use crate::http::budget::{BudgetSpent, Charge};

/// Allows only our own scripts, styles, data and images; no inline script or style, and no framing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Adds the security headers of a page.
pub fn protect(response: &mut HttpResponseBuilder) {
    response
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "same-origin"))
        .insert_header((header::X_FRAME_OPTIONS, "DENY"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header(("permissions-policy", "camera=(), geolocation=(), microphone=()"));
}

/// Returns a page that must not be cached.
pub fn page(mut response: HttpResponseBuilder, page: Markup) -> HttpResponse {
    as_uncached_html(&mut response);
    response.body(page.into_string())
}

/// Returns a page of any size, as far as the budget allows. `charge` covers the work on it so far.
///
/// # Errors
/// The budget is spent.
pub fn large_page(mut charge: Charge, page: Markup) -> Result<HttpResponse, BudgetSpent> {
    let html = page.into_string();
    charge.resize(html.capacity())?;
    let mut response = HttpResponse::Ok();
    as_uncached_html(&mut response);
    Ok(response.body(BoxBody::new(Body::of_text(html, charge))))
}

/// Returns a 503 page.
pub fn busy(markup: Markup) -> HttpResponse {
    let mut response = HttpResponse::ServiceUnavailable();
    response.insert_header((header::RETRY_AFTER, "2"));
    page(response, markup)
}

fn as_uncached_html(response: &mut HttpResponseBuilder) {
    protect(response);
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    response.content_type("text/html; charset=utf-8");
}

/// Returns a line of plain text.
pub fn plain(mut response: HttpResponseBuilder, text: &'static str) -> HttpResponse {
    protect(&mut response);
    response.content_type("text/plain; charset=utf-8").body(text)
}

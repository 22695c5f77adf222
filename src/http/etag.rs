//! Responses with an ETag: a client that has the newest version gets 304 without a body.

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::body::{Body, BodyWriter};
use super::budget::{Budget, BudgetSpent};

/// Returns `value` as JSON, or 304.
///
/// # Errors
/// The budget is spent.
pub fn json(
    request: &HttpRequest,
    budget: &Budget,
    value: &impl Serialize,
) -> Result<HttpResponse, BudgetSpent> {
    let mut body = BodyWriter::new(budget);
    body.json(value);
    Ok(tagged(request, body.finish()?))
}

/// Returns the JSON in `body`, or 304.
pub fn tagged(request: &HttpRequest, body: Body) -> HttpResponse {
    let tag = format!("\"{:016x}\"", body.tag());
    let known = request.headers().get_all(header::IF_NONE_MATCH).any(|value| matches(value, &tag));
    let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut response = HttpResponse::build(status);
    response.insert_header((header::ETAG, tag)).insert_header((header::CACHE_CONTROL, "private, no-cache"));
    if known {
        return response.finish();
    }
    let content_type = HeaderValue::from_static("application/json");
    response.insert_header((header::CONTENT_TYPE, content_type)).body(BoxBody::new(body))
}

/// Compares weakly (RFC 9110, 13.1.2).
fn matches(value: &HeaderValue, tag: &str) -> bool {
    let Ok(text) = value.to_str() else { return false };
    text.split(',').map(str::trim).any(|each| each == "*" || each.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_client_with_the_newest_version_gets_304() {
        let answer = |if_none_match: &str| {
            let request = TestRequest::default().insert_header((header::IF_NONE_MATCH, if_none_match));
            json(&request.to_http_request(), &Budget::new(0), &[1, 2]).unwrap()
        };
        let first = answer("\"other\"");
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers().get(header::ETAG).unwrap().to_str().unwrap().to_owned();
        for known in [tag.clone(), format!("\"a\", W/{tag}"), "*".to_owned()] {
            assert_eq!(answer(&known).status(), StatusCode::NOT_MODIFIED, "{known}");
        }
    }
}

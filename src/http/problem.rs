//! Errors as `application/problem+json` (RFC 9457).

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentType, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use super::HistoryError;
use super::budget::BudgetSpent;

/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request failed, for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// The standard text of the status code.
    title: String,
    /// The status code.
    status: u16,
    /// What is wrong with this request, and what is allowed.
    detail: String,
}

impl Problem {
    /// Creates a problem.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Self { title, status: status.as_u16(), detail: detail.into() }
    }

    /// Creates a 400: the request is invalid.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Creates a 422: each parameter is right by itself, but they do not go together.
    pub fn contradiction(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// Creates a 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    fn code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Builds the response.
    pub fn response(&self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.code());
        if self.code() == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, "2"));
        }
        response
            .insert_header((header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON)))
            .body(serde_json::to_vec(self).unwrap_or_default())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code()
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<BudgetSpent> for Problem {
    fn from(error: BudgetSpent) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

/// Answers a path below `/api` that has no route.
pub async fn no_such_resource(request: HttpRequest) -> HttpResponse {
    Problem::not_found(format!("there is nothing at {}", request.path())).response()
}

/// Answers a wrong method where GET is allowed.
pub async fn only_get(request: HttpRequest) -> HttpResponse {
    no_such_method(&request, "GET, HEAD")
}

/// Answers a wrong method at the address of a machine.
pub async fn only_get_and_delete(request: HttpRequest) -> HttpResponse {
    no_such_method(&request, "GET, HEAD, DELETE")
}

/// Answers a wrong method at the address of a form.
pub async fn only_get_and_post(request: HttpRequest) -> HttpResponse {
    no_such_method(&request, "GET, HEAD, POST")
}

/// Answers a wrong method where only POST is allowed.
pub async fn only_post(request: HttpRequest) -> HttpResponse {
    no_such_method(&request, "POST")
}

fn no_such_method(request: &HttpRequest, allowed: &'static str) -> HttpResponse {
    let detail = format!("{} is not allowed here; allowed: {allowed}", request.method());
    let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Builds a JSON response that must not be cached.
pub fn json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    HttpResponseBuilder::new(status)
        .insert_header(ContentType::json())
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(serde_json::to_vec(body).unwrap_or_default())
}

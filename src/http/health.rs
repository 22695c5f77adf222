//! `/livez` and `/readyz`.

use actix_web::HttpResponse;

/// The process can do work.
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "ok" }))
}

//! `/api/v1/status`: how Andon itself is.

use actix_web::{HttpResponse, web};

use crate::http::HttpState;

/// Broker, journal, store, actors and ledger.
pub async fn status(state: web::Data<HttpState>) -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "site": &state.site }))
}

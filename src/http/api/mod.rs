//! `/api/v1/…`: what other programs read.

mod status;

use actix_web::web;

/// Every route of the API.
pub fn configure(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/v1/status").route(web::get().to(status::status)));
}

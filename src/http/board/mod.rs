//! The pages for people: `/` and `/machines/<id>`.

use actix_web::web;

/// Every route of the pages.
pub fn configure(_config: &mut web::ServiceConfig) {}

//! The pages for people: the board `/` and each machine's `/machines/<id>`.
//!
//! ```text
//! shell      what all pages have in common
//! hall       the board: a frame that its scripts fill and keep up to date
//! machine/   one machine: live state, figures, charts, events
//! charts/    a measurement over time, as SVG
//! trends     the small curves of many machines, in one question
//! headers    what keeps a page from loading or running anything foreign
//! assets     scripts and styles
//! ```
//!
//! Invariants
//! - B1 Every byte a page needs comes from this binary, and the browser is told to refuse anything else.
//! - B2 A text of a machine is escaped by the template or set as text by a script; it is never markup.
//! - B3 The board is there whatever is not: it needs neither the broker nor the database.

mod assets;
mod charts;
mod hall;
mod headers;
mod machine;
mod shell;
mod trends;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};

use self::shell::Installation;
use super::HttpState;

/// Every route of the pages.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/").route(web::get().to(board)))
        .service(web::resource("/assets/{version}/{name}").route(web::get().to(asset)))
        .service(web::resource("/board/trends").route(web::get().to(trends::trends)))
        .service(web::resource("/machines").route(web::get().to(machine::by_query)))
        .service(web::resource("/machines/{machine_id}").route(web::get().to(machine::by_path)));
}

impl HttpState {
    fn installation(&self) -> Installation<'_> {
        Installation { site: &self.site, time_zone: self.time_zone.name() }
    }
}

async fn board(state: web::Data<HttpState>) -> HttpResponse {
    headers::page(HttpResponse::Ok(), hall::hall(state.installation(), &state.topics))
}

/// A file, for ever if the address names the present version.
async fn asset(request: HttpRequest, path: web::Path<(String, String)>) -> HttpResponse {
    let (version, name) = path.into_inner();
    let Some(asset) = assets::find(&name).filter(|_| version == *assets::VERSION) else {
        // A page that was open during an update asks for what is no more; it gets the present one when it is loaded.
        return headers::plain(HttpResponse::NotFound(), "there is no such file in this version of Andon");
    };
    let tag = format!("\"{version}\"");
    let known =
        request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    headers::protect(&mut response);
    response
        .insert_header((header::CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .insert_header((header::ETAG, tag));
    if known { response.finish() } else { response.content_type(asset.media_type).body(asset.body) }
}

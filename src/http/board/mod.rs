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
//! - BRD-1 Every byte a page needs comes from this binary, and the browser is told to refuse anything else.
//! - BRD-2 A text of a machine is escaped by the template or set as text by a script; it is never markup.
//! - BRD-3 The board is there whatever is not: it needs neither the broker nor the database.

mod assets;
mod charts;
mod headers;
mod layout;
mod machine;
mod overview;
mod trends;

use actix_web::guard::{Any, Get, Head};
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};

pub use self::assets::address as asset_address;
use self::layout::Installation;
use super::{HttpState, Mount, problem};

/// Every page, and what it is made of.
const PAGES: &[(&str, Mount)] = &[
    ("/", || web::route().to(board)),
    ("/favicon.ico", || web::route().to(icon)),
    ("/assets/{version}/{name}", || web::route().to(asset)),
    ("/board/trends", || web::route().to(trends::trends)),
    ("/machines", || web::route().to(machine::by_query)),
    ("/machines/{machine_id}", || web::route().to(machine::by_path)),
];

/// The addresses of the pages, as their routes have them.
#[cfg(test)]
pub fn pages() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(path, _)| *path)
}

/// Every route of the pages.
pub fn configure(config: &mut web::ServiceConfig) {
    for (path, mount) in PAGES {
        let route = mount().guard(Any(Get()).or(Head()));
        config.service(web::resource(*path).route(route).default_service(web::to(problem::only_get)));
    }
}

/// Whatever has no route, for people.
pub async fn no_such_page(state: web::Data<HttpState>, request: HttpRequest) -> HttpResponse {
    headers::page(HttpResponse::NotFound(), layout::nothing_here(state.installation(), request.path()))
}

impl HttpState {
    fn installation(&self) -> Installation<'_> {
        Installation { site: &self.site, time_zone: self.time_zone.name() }
    }
}

async fn board(state: web::Data<HttpState>) -> HttpResponse {
    headers::page(HttpResponse::Ok(), overview::hall(state.installation(), &state.topics))
}

/// The icon where browsers look for one when a page names none, such as an answer of the API.
async fn icon() -> HttpResponse {
    let icon = assets::find("icon.svg").expect("it is one of the files");
    let mut response = HttpResponse::Ok();
    headers::protect(&mut response);
    response.insert_header((header::CACHE_CONTROL, "public, max-age=86400"));
    response.content_type(icon.media_type).body(icon.body)
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

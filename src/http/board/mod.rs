//! The pages for people: the board `/` and each machine's `/machines/<id>`.
//!
//! ```text
//! layout     what all pages share
//! overview   the board: a frame that its scripts fill and keep up to date
//! machine/   one machine: current state, statistics, charts, events
//! charts/    a measurement over time, as SVG
//! trends     the small curves of many machines in one query
//! headers    security headers and budget of the pages
//! assets     scripts and styles
//! ```
//!
//! Invariants
//! - **BRD-1** Every byte a page needs comes from this binary, and the browser is instructed to refuse anything else.
//! - **BRD-2** Text from a machine is escaped by the template or set as text by a script. It never becomes markup.
//! - **BRD-3** The board loads whatever else has failed. It needs neither the broker nor the database.

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
use super::{HttpState, Mount, api, problem};

/// Every page and file.
const PAGES: &[(&str, Mount)] = &[
    ("/", || web::route().to(board)),
    ("/favicon.ico", || web::route().to(icon)),
    ("/assets/{version}/{name}", || web::route().to(asset)),
    // What the scripts ask has paths of its own, and with them the lane of the board.
    ("/board/machines", || web::route().to(api::machines::list)),
    ("/board/events", || web::route().to(api::events::events)),
    ("/board/trends", || web::route().to(trends::trends)),
    ("/machines", || web::route().to(machine::by_query)),
    ("/machines/{machine_id}", || web::route().to(machine::by_path)),
];

/// Returns the paths of the pages, as the routes have them.
#[cfg(test)]
pub fn pages() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(path, _)| *path)
}

/// Mounts the pages.
pub fn configure(config: &mut web::ServiceConfig) {
    for (path, mount) in PAGES {
        let route = mount().guard(Any(Get()).or(Head()));
        config.service(web::resource(*path).route(route).default_service(web::to(problem::only_get)));
    }
}

/// Answers a path that has no route, for people.
pub async fn no_such_page(state: web::Data<HttpState>, request: HttpRequest) -> HttpResponse {
    headers::page(HttpResponse::NotFound(), layout::not_found(state.installation(), request.path()))
}

impl HttpState {
    fn installation(&self) -> Installation<'_> {
        Installation { site: &self.site, time_zone: self.time_zone().name() }
    }
}

async fn board(state: web::Data<HttpState>) -> HttpResponse {
    headers::page(HttpResponse::Ok(), overview::overview(state.installation(), &state.topics))
}

/// Serves the icon at the address that browsers try when a page names none, such as a response of the API.
async fn icon() -> HttpResponse {
    let icon = assets::find("icon.svg").expect("icon.svg is one of the assets");
    let mut response = HttpResponse::Ok();
    headers::protect(&mut response);
    response.insert_header((header::CACHE_CONTROL, "public, max-age=86400"));
    response.content_type(icon.media_type).body(icon.body)
}

/// Serves a file of the current version. Browsers may cache it forever.
async fn asset(request: HttpRequest, path: web::Path<(String, String)>) -> HttpResponse {
    let (version, name) = path.into_inner();
    let Some(asset) = assets::find(&name).filter(|_| version == *assets::VERSION) else {
        // A page that was open during an update requests an old file. It gets the new one when it is reloaded.
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

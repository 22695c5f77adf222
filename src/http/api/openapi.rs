//! `/api/openapi.json`: made from the handlers' own annotations.

use actix_web::{HttpRequest, HttpResponse};
use utoipa::OpenApi;

use crate::http::{etag, health, metrics, stream};

/// The description of every route for programs.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Andon",
        description = "What Andon knows: machines, their readings and changes of status, and how Andon itself is. \
            With http.token every request needs \"Authorization: Bearer <token>\". Times are RFC 3339 in UTC."
    ),
    paths(
        health::livez,
        health::readyz,
        metrics::metrics,
        openapi,
        super::status::status,
        super::machines::list,
        super::machines::one,
        super::readings::readings,
        super::summary::summary,
        super::events::events,
        stream::stream,
    )
)]
pub struct Description;

/// This description.
#[utoipa::path(get, path = "/api/openapi.json", responses(
    (status = 200, description = "This description", body = Object),
))]
pub async fn openapi(request: HttpRequest) -> HttpResponse {
    etag::json(&request, &Description::openapi())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::ROUTES;

    #[test]
    fn every_route_for_programs_is_described_and_nothing_else() {
        let described: BTreeSet<String> = Description::openapi().paths.paths.into_keys().collect();
        let routes: BTreeSet<String> = ROUTES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let text = serde_json::to_string(&Description::openapi()).unwrap();
        let schemas = Description::openapi().components.unwrap().schemas;
        let mut named = 0;
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
            named += 1;
        }
        assert!(named > 20, "{named}");
    }
}

//! `/api/openapi.json`: generated from the handlers' annotations.

use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::http::problem::Problem;
use crate::http::{HttpState, etag, health, metrics, stream};

/// The description of every route for programs.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Andon",
        description = "Machines, their readings and changes of status, and Andon's own state. \
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
        super::forget::forget,
        super::readings::readings,
        super::summary::summary,
        super::events::events,
        stream::stream,
    ),
    modifiers(&Token),
    // Without http.token, requests need no token.
    security((), ("token" = []))
)]
pub struct Description;

/// Adds the bearer token to the description.
struct Token;

impl Modify for Token {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("http.token")).build();
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Returns this description.
#[utoipa::path(get, path = "/api/openapi.json", responses(
    (status = 200, description = "This description", body = Object),
))]
pub async fn openapi(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    Ok(etag::json(&request, state.client(&request).budget(), &Description::openapi())?)
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
    fn the_schema_of_a_parameter_lists_its_values() {
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let schema = |path: &str, name: &str| {
            let parameters = description["paths"][path]["get"]["parameters"].as_array().unwrap();
            parameters.iter().find(|parameter| parameter["name"] == name).unwrap()["schema"].to_string()
        };
        let readings = "/api/v1/machines/{machine_id}/readings";
        for (path, name, words) in [
            (readings, "order", &[r#""desc""#, r#""asc""#][..]),
            (readings, "format", &[r#""json""#, r#""csv""#]),
            (readings, "limit", &[r#""minimum":1"#, r#""maximum":10000"#]),
            (readings, "from", &["date-time"]),
            (readings, "bucket", &["[smhd]"]),
            ("/api/v1/machines/{machine_id}/summary", "window", &[r#""24h""#, r#""yesterday""#]),
            ("/api/v1/events", "limit", &[r#""maximum":1000"#]),
        ] {
            let schema = schema(path, name);
            assert!(words.iter().all(|word| schema.contains(word)), "{name}: {schema}");
        }
        assert_eq!(description["components"]["securitySchemes"]["token"]["scheme"], "bearer");
        let windows = serde_json::to_value(crate::http::Window::ALL.map(|(name, _)| name)).unwrap();
        let described = schema("/api/v1/machines/{machine_id}/summary", "window");
        assert!(
            windows.as_array().unwrap().iter().all(|name| described.contains(&name.to_string())),
            "{described}"
        );
    }

    #[test]
    fn every_referenced_schema_exists() {
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

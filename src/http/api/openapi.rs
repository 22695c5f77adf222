//! `/api/openapi.json`: generated from the handlers' annotations.

use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi, PartialSchema};

use crate::http::problem::{PROBLEM_JSON, Problem};
use crate::http::{Access, HttpState, etag, health, metrics, stream};

/// The description of every route for programs.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Andon",
        description = "Machines, their readings and changes of status, and Andon's own state. \
            With http.token or http.tokens every request needs \"Authorization: Bearer <token>\". Times are RFC 3339 in UTC."
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
    modifiers(&Token, &Refusals, &Given)
)]
pub struct Description;

type Responses = std::collections::BTreeMap<String, RefOr<Response>>;

/// Adds the bearer token to the description.
struct Token;

impl Modify for Token {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let explained = "http.token, or one of http.tokens";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(explained)).build();
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Adds the refusals that every request may get, before its handler or from it.
struct Refusals;

const REFUSALS: [(&str, &str); 6] = [
    ("400", "The request is wrong; `detail` names the parameter and says what is allowed"),
    ("401", "No token, or a wrong one"),
    ("403", "The token has not the role that this needs"),
    ("421", "Without tokens: the request names this computer neither by an IP address nor as localhost"),
    ("429", "Too many wrong tokens came from this address"),
    ("503", "Too many large responses are being sent, or too many questions of this address wait"),
];

impl Modify for Refusals {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        description
            .components
            .get_or_insert_default()
            .schemas
            .insert("Problem".to_owned(), Problem::schema());
        for item in description.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.delete].into_iter().flatten() {
                let responses = &mut operation.responses.responses;
                for (status, meaning) in REFUSALS {
                    responses.entry(status.to_owned()).or_insert_with(|| refusal(meaning).into());
                }
                add_header(responses, "401", "WWW-Authenticate", "The scheme: Bearer");
                for later in ["429", "503"] {
                    add_header(responses, later, "Retry-After", "Seconds to wait");
                }
            }
        }
    }
}

fn refusal(meaning: &str) -> Response {
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(meaning).content(PROBLEM_JSON, problem).build()
}

/// Describes a header of a response that is a problem.
fn add_header(responses: &mut Responses, status: &str, name: &str, meaning: &str) {
    if let Some(RefOr::T(response)) = responses.get_mut(status)
        && response.content.contains_key(PROBLEM_JSON)
    {
        let header =
            HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(meaning));
        response.headers.insert(name.to_owned(), header.build().into());
    }
}

/// Says which parameters may be left out: all but those in the path.
struct Given;

impl Modify for Given {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        for item in description.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.delete].into_iter().flatten() {
                for parameter in operation.parameters.iter_mut().flatten() {
                    let RefOr::T(parameter) = parameter else { continue };
                    let is_in_path = matches!(parameter.parameter_in, ParameterIn::Path);
                    parameter.required = if is_in_path { Required::True } else { Required::False };
                }
            }
        }
    }
}

/// Returns this description.
#[utoipa::path(get, path = "/api/openapi.json", responses(
    (status = 200, description = "This description", body = Object),
    (status = 304, description = "Not changed since the ETag in If-None-Match"),
))]
pub async fn openapi(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let mut description = Description::openapi();
    if matches!(state.settings().access, Access::Token(_)) {
        description.security = Some(vec![SecurityRequirement::new("token", [""; 0])]);
    }
    Ok(etag::json(&request, state.client(&request).budget(), &description)?)
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
            (readings, "bucket", &["86400)s"]),
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

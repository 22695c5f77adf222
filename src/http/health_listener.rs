//! What the listener of `http.health_bind` serves: `/livez`, `/readyz` and `/metrics` alone.
//!
//! It has a thread, a bound on connections and a priority of its own, so that no client of the other listener can keep
//! a health check waiting. On a Unix socket everybody who can open it may ask, on loopback every program of this computer
//! (but no web page under a name of its own); elsewhere the rules of the other listener hold.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::guard::{Any, Get, Head};
use actix_web::middleware::Next;
use actix_web::web::{self, ServiceConfig};
use actix_web::{Error, Route};

use super::connections::ConnectionLimits;
use super::{auth, health, metrics, problem};
use crate::domain::ListenAddress;

/// Connections of this listener. Each check needs one for a moment.
pub(super) const LIMITS: ConnectionLimits = ConnectionLimits { all: 64, each_address: 32 };
/// Threads that serve.
pub(super) const WORKERS: usize = 1;

/// Who is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthAccess {
    /// Everybody.
    Everybody,
    /// Requests to an IP address or to `localhost`.
    Local,
    /// As the other listener does.
    AsElsewhere,
}

impl HealthAccess {
    pub(super) fn at(address: &ListenAddress) -> Self {
        match address {
            ListenAddress::Unix(_) => Self::Everybody,
            ListenAddress::Tcp(address) if address.ip().is_loopback() => Self::Local,
            ListenAddress::Tcp(_) => Self::AsElsewhere,
        }
    }
}

/// Mounts the routes.
pub(super) fn configure(config: &mut ServiceConfig) {
    let routes: [(&str, Route); 3] = [
        ("/livez", web::route().to(health::livez)),
        ("/readyz", web::route().to(health::readyz)),
        ("/metrics", web::route().to(metrics::metrics)),
    ];
    for (path, route) in routes {
        let resource = web::resource(path).route(route.guard(Any(Get()).or(Head())));
        config.service(resource.default_service(web::to(problem::only_get)));
    }
    config.default_service(web::to(problem::no_such_resource));
}

/// Middleware: answers requests that may not pass itself.
pub(super) async fn authorize<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let access = request.app_data::<HealthAccess>().copied().unwrap_or(HealthAccess::AsElsewhere);
    match access {
        HealthAccess::Everybody => {}
        HealthAccess::Local => {
            if let Some(refusal) = auth::refusal_of_foreign_host(request.request()) {
                return Ok(request.into_response(refusal));
            }
        }
        HealthAccess::AsElsewhere => {
            return auth::authorize(request, next).await.map(ServiceResponse::map_into_boxed_body);
        }
    }
    next.call(request).await.map(ServiceResponse::map_into_boxed_body)
}

//! Counts and times the requests, by route.
//!
//! A route is the pattern that the router matches, or [`OTHER`]: no client can add one. Time is taken until the head of
//! the answer is ready: a stream or a long download says nothing about the server. What is refused before there is a
//! request (a head that cannot be read, a connection too many) is not in here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, web};

use super::HttpState;
use crate::clock::mono_now;
use crate::metrics::{Counter, Histogram};

/// The route of every path that has none.
const OTHER: &str = "other";
/// Upper bounds of durations, in seconds.
const SECONDS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What is kept of a route.
pub struct Route {
    /// Requests by status code.
    pub by_code: BTreeMap<u16, Counter>,
    /// Until the head of the answer was ready.
    pub seconds: Histogram,
}

/// The requests since the process started.
#[derive(Default)]
pub struct Requests {
    routes: Mutex<BTreeMap<String, Route>>,
}

impl Requests {
    fn observe(&self, route: Option<String>, code: u16, took: Duration) {
        let mut routes = self.lock();
        let new = || Route { by_code: BTreeMap::new(), seconds: Histogram::new(&SECONDS) };
        let route = routes.entry(route.unwrap_or_else(|| OTHER.to_owned())).or_insert_with(new);
        route.by_code.entry(code).or_default().add(1);
        route.seconds.observe(took.as_secs_f64());
    }

    /// Returns the routes that were asked for, by their patterns.
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Route>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Middleware: counts and times a request. The outermost one, so that no answer passes it by.
pub async fn measure<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let state = request.app_data::<web::Data<HttpState>>().cloned();
    // Before the routing, which a refusal does not reach.
    let route = request.resource_map().match_pattern(request.match_info().as_str());
    let begun = mono_now();
    let answer = next.call(request).await;
    if let Some(state) = state {
        let code = match &answer {
            Ok(response) => response.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        state.requests.observe(route, code.as_u16(), mono_now().since(begun));
    }
    answer
}

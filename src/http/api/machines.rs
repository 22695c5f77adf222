//! `/api/v1/machines` and `/api/v1/machines/<id>`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::model::{Machine, Machines};
use super::problem_of_machine;
use crate::domain::MachineId;
use crate::http::problem::{self, Problem};
use crate::http::query::{Parameters, machine_id_in_path};
use crate::http::{HttpState, etag, machines};

/// All machines of the site.
#[utoipa::path(get, path = "/api/v1/machines", responses(
    (status = 200, description = "The machines, in order of their ids", body = Machines),
    (status = 304, description = "Nothing has changed since the ETag given in If-None-Match"),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    Parameters::of(&request)?.finish()?;
    let snapshot = machines::current(&state).await;
    let latest = state.latest.get(&state.history).await;
    let machines = snapshot.machines.iter();
    let machines = machines.map(|view| Machine::new(view, latest.get(&view.machine_id))).collect();
    Ok(etag::json(&request, &Machines { machines }))
}

/// A machine that is watched, or, as one above `liveness.machines_max` or one that only retained messages are of, has readings.
///
/// # Errors
/// It is none, or the database is away and cannot tell.
pub async fn require_known(state: &HttpState, machine_id: &MachineId) -> Result<(), Problem> {
    if machines::was_watched(state, machine_id) {
        return Ok(());
    }
    let asked = machine_id.clone();
    if state.history.ask(move |history| history.latest_of(&asked)).await?.is_some() {
        return Ok(());
    }
    // Nobody had asked for a while, and the machine is new or only expected.
    let snapshot = machines::current(state).await;
    snapshot.find(machine_id).map(drop).ok_or_else(|| problem_of_machine(machine_id))
}

/// One machine.
#[utoipa::path(get, path = "/api/v1/machines/{machine_id}", params(
    ("machine_id" = String, Path, description = "The machine's id, percent-encoded as one segment"),
), responses(
    (status = 200, description = "The machine", body = Machine),
    (status = 400, description = "No machine id", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such machine", body = Problem, content_type = "application/problem+json"),
))]
pub async fn one(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    Parameters::of(&request)?.finish()?;
    let machine_id = machine_id_in_path(&request, 3)?;
    let snapshot = machines::current(&state).await;
    let Some(machine) = snapshot.find(&machine_id) else { return Err(problem_of_machine(&machine_id)) };
    let asked = machine_id.clone();
    let latest = match state.history.ask(move |history| history.latest_of(&asked)).await {
        Ok(latest) => latest,
        // The database is away: the last known one.
        Err(_) => state.latest.get(&state.history).await.get(&machine_id).cloned(),
    };
    Ok(problem::json(StatusCode::OK, &Machine::new(machine, latest.as_ref())))
}

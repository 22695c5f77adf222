//! `/api/v1/machines/<id>/summary`: statistics of a named period.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::machines::require_known;
use super::model::{Measured, Summary};
use super::readings::extra_field;
use super::texts::{FieldText, MachineIdText};
use super::words::WindowWord;
use crate::clock::wall_now;
use crate::http::problem::{self, Problem};
use crate::http::query::{Parameters, machine_id_in_path};
use crate::http::{HttpState, Window};
use crate::store::{BucketsQuery, collected};

/// Returns minimum, mean, maximum and count of each measurement in a named period.
#[utoipa::path(get, path = "/api/v1/machines/{machine_id}/summary", params(
    ("machine_id" = inline(MachineIdText), Path, description = "The machine's id, percent-encoded as one segment"),
    ("window" = inline(WindowWord), Query, description = "1m, 1h, 24h, today or yesterday; 1h if not given"),
    ("extra" = inline(FieldText), Query, description = "Also statistics of this numeric field of extra"),
), responses(
    (status = 200, description = "The statistics", body = Summary),
    (status = 404, description = "No such machine, and no readings of one", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is away, or the answer takes too long", body = Problem, content_type = "application/problem+json"),
))]
pub async fn summary(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let machine_id = machine_id_in_path(&request, 3)?;
    let mut parameters = Parameters::of(&request)?;
    let window = parameters.word("window", &Window::ALL)?;
    let extra = extra_field(&mut parameters)?;
    parameters.finish()?;
    let client = state.client(&request);
    require_known(&state, &client, &machine_id).await?;
    let (from, to) = window.range(wall_now(), state.time_zone());
    let query = BucketsQuery { machine_id: machine_id.clone(), from, to, bucket_seconds: None, extra };
    let rows = client.ask(move |history| collected(|each| history.buckets(&query, each))).await?;
    let [bucket] = rows.as_slice() else {
        return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the database returned no statistics"));
    };
    let summary = Summary {
        machine_id: machine_id.to_string(),
        window: window.name(),
        time_zone: state.time_zone().name().to_owned(),
        from: from.to_string(),
        to: to.to_string(),
        measured: Measured::from(bucket),
    };
    Ok(problem::json(StatusCode::OK, &summary))
}

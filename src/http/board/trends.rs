//! `/board/trends?machine_id=…&machine_id=…`: the last minutes of many machines in one query.
//!
//! For the board's scripts, which query once for each tile that scrolls into view and then append live values. Not part
//! of the API.

use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::header::{CACHE_CONTROL, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use crate::clock::wall_now;
use crate::domain::MachineId;
use crate::http::HttpState;
use crate::http::problem::Problem;
use crate::store::{TrendPoint, TrendsQuery};

/// How far back the curves go. Keep equal to `trend.js`.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Length of a step of a curve, in seconds. Keep equal to `trend.js`.
const STEP_SECONDS: u32 = 30;
/// Most machines in one query. Keep equal to `trend.js`.
const MACHINES_MAX: usize = 50;

#[derive(Debug, Serialize)]
struct Trends {
    trends: Vec<Trend>,
}

#[derive(Debug, Serialize)]
struct Trend {
    machine_id: String,
    points: Vec<Step>,
}

/// Milliseconds since 1970, and the means of temperature, humidity and vibration.
#[derive(Debug, Serialize)]
struct Step(i64, Option<f64>, Option<f64>, Option<f64>);

/// Returns the curves of the requested machines. Machines without readings are omitted.
pub async fn trends(state: web::Data<HttpState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let Some(machine_ids) = machine_ids(request.query_string()) else {
        let allowed = format!("name 1 to {MACHINES_MAX} machines: machine_id=…&machine_id=…");
        return Err(Problem::bad_request(allowed));
    };
    let now = wall_now();
    let query = TrendsQuery {
        machine_ids,
        from: now.minus(WINDOW),
        // The clock of a device may be slightly ahead.
        to: now.plus(Duration::from_secs(60)),
        step_seconds: STEP_SECONDS,
    };
    let client = state.client(&request);
    let written = client.write(move |history, body| {
        body.json(&Trends { trends: by_machine(history.trends(&query)?) });
        Ok(())
    });
    let (body, ()) = written.await?;
    let mut response = HttpResponse::Ok();
    response.insert_header(ContentType::json()).insert_header((CACHE_CONTROL, "no-store"));
    Ok(response.body(BoxBody::new(body)))
}

/// Parses the machine ids. `None` if there are none, too many, or an invalid one.
fn machine_ids(query: &str) -> Option<Vec<MachineId>> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query).ok()?.into_inner();
    let named = pairs.iter().filter(|(name, _)| name == "machine_id");
    let ids: Vec<_> = named.map(|(_, id)| MachineId::parse(id)).collect::<Result<_, _>>().ok()?;
    (1..=MACHINES_MAX).contains(&ids.len()).then_some(ids)
}

fn by_machine(points: Vec<TrendPoint>) -> Vec<Trend> {
    let step = |point: &TrendPoint| {
        Step(point.start_seconds * 1000, point.temperature, point.humidity, point.vibration)
    };
    points
        .chunk_by(|a, b| a.machine_id == b.machine_id)
        .map(|chunk| Trend {
            machine_id: chunk[0].machine_id.as_str().to_owned(),
            points: chunk.iter().map(step).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_bounded_number_of_machines() {
        let ids = machine_ids("machine_id=a&machine_id=b%2Fc+d").unwrap();
        assert_eq!(ids.iter().map(MachineId::as_str).collect::<Vec<_>>(), ["a", "b/c d"]);
        assert!(machine_ids("").is_none());
        assert!(machine_ids("machine_id=").is_none());
        assert!(machine_ids(&"machine_id=x&".repeat(MACHINES_MAX)).is_some());
        assert!(machine_ids(&"machine_id=x&".repeat(MACHINES_MAX + 1)).is_none());
    }
}

//! `DELETE /api/v1/machines/{machine_id}`: asks the service, through the database, to forget a machine.
//!
//! Owns one thread that opens a connection for each request and closes it again: such requests are rare, and no idle
//! connection holds a file that was moved. The pipeline is not touched (HTTP-1): the writer finds the request in the
//! database. The route changes something, so it needs more than reading does: the token, or a request to this computer's
//! own address without one, and in any case a browser's page of this server.

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::problem_of_machine;
use super::texts::MachineIdText;
use crate::audit::{self, AuditTrail};
use crate::clock::wall_now;
use crate::domain::MachineId;
use crate::http::auth::Access;
use crate::http::caller;
use crate::http::problem::Problem;
use crate::http::query::{Parameters, machine_id_in_path};
use crate::http::{HttpState, machines};
use crate::logging::causes;
use crate::store::{self, AuditEvent, StoreOptions, Worker, WorkerConnection};

/// Most requests that wait.
const QUEUE_MAX: usize = 16;
/// How long a request may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long to wait until the running service has dropped the machine. It looks every two seconds.
const DROPPED_WITHIN: Duration = Duration::from_secs(8);
/// Pause between two looks at the snapshot.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Writes requests to forget machines.
pub struct ForgetDesk {
    threads: Worker<Connection>,
}

struct Connection {
    options: StoreOptions,
    audit: AuditTrail,
}

/// Who asks, for the audit log.
struct Caller {
    name: String,
    address: String,
}

impl WorkerConnection for Connection {}

impl Connection {
    /// Returns false if the database has no such machine. Records the deed itself: whoever asked may be gone when it is done,
    /// or may have gone so that there is no trace.
    fn request(&self, machine_id: &MachineId, caller: &Caller) -> Result<bool, String> {
        let asked = self.try_request(machine_id);
        let (outcome, detail) = match &asked {
            Ok(false) => return asked, // Nothing was there to be changed.
            Ok(true) => ("done", None),
            Err(why) => ("failed", Some(why.clone())),
        };
        let event = audit::event_now(&caller.name, &caller.address, "machines forget", outcome);
        self.audit.record(AuditEvent { target: Some(machine_id.to_string()), detail, ..event });
        asked
    }

    fn try_request(&self, machine_id: &MachineId) -> Result<bool, String> {
        if let Some(path) = self.options.url.sqlite_path()
            && !path.exists()
        {
            return Err("its file is not there".to_owned()); // Opening would create it.
        }
        let asked = store::open(&self.options)
            .and_then(|mut store| store.request_forget(std::slice::from_ref(machine_id), wall_now()));
        asked.map(|unknown| unknown.is_empty()).map_err(|error| causes(&error))
    }
}

impl ForgetDesk {
    /// Starts the thread. It ends when the desk is dropped.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(store: &StoreOptions, audit: &AuditTrail) -> std::io::Result<Self> {
        let (options, audit) = (store.clone(), audit.clone());
        let connection = move || Connection { options: options.clone(), audit: audit.clone() };
        Ok(Self { threads: Worker::start("forget", 1, QUEUE_MAX, connection)? })
    }

    async fn request(&self, machine_id: MachineId, caller: Caller) -> Result<bool, Problem> {
        let unavailable = |why: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, why);
        let answer = self
            .threads
            .ask(move |connection| connection.request(&machine_id, &caller))
            .map_err(|_| unavailable("too many requests wait for the database; try again in a moment"))?;
        match actix_rt::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(Ok(asked))) => Ok(asked),
            Ok(Ok(Err(_)) | Err(_)) => Err(unavailable("the database is away; the log says why")),
            Err(_) => Err(unavailable("the database does not answer; the log says whether it did it later")),
        }
    }
}

/// Forgets a machine that will not come back.
#[utoipa::path(delete, path = "/api/v1/machines/{machine_id}", params(
    ("machine_id" = inline(MachineIdText), Path, description = "The machine's id, percent-encoded as one segment"),
), responses(
    (status = 204, description = "Its row and its retained status are deleted; its readings and events stay. It comes back when it sends"),
    (status = 400, description = "Not a machine id", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "The token has not the role `operate`, a page of another site sent this, or everyone may read without a token", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such machine", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The machine is expected by the configuration", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is away", body = Problem, content_type = "application/problem+json"),
))]
pub async fn forget(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    Parameters::of(&request)?.finish()?;
    let machine_id = machine_id_in_path(&request, 3)?;
    let settings = state.settings();
    if matches!(settings.access, Access::Anonymous) {
        let detail = "with http.anonymous = true everyone may read, so nobody may change anything; give a token the role \"operate\" (http.tokens)";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    if settings.expected.contains(&machine_id) {
        let detail = format!(
            "machine {:?} is expected: take it out of liveness.machines and reload Andon first",
            machine_id.as_str()
        );
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let caller = Caller { name: caller::name(&request), address: caller::address(&request).to_string() };
    if !state.forget.request(machine_id.clone(), caller).await? {
        return Err(problem_of_machine(&machine_id));
    }
    let asked = Instant::now();
    while asked.elapsed() < DROPPED_WITHIN && machines::current(&state).await.find(&machine_id).is_some() {
        actix_rt::time::sleep(LOOK_EVERY).await;
    }
    Ok(HttpResponse::NoContent().finish())
}

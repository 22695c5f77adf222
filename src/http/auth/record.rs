//! What the audit log hears of authentication: logins, logouts, and what was refused.
//!
//! A token that is used is no event, and one that was refused before from the same address is none again. Strangers can
//! cause refusals at will: at most sixty a minute have rows of their own, and one more row counts the others.

use actix_web::HttpRequest;

use crate::audit::event_now;
use crate::http::{HttpState, caller};
use crate::store::AuditEvent;

/// Longest target of an event, in characters.
const TARGET_CHARS_MAX: usize = 200;

/// Records a login or logout of `actor`.
pub(super) fn done(state: &HttpState, request: &HttpRequest, actor: &str, action: &str) {
    state.audit.record(event_now(actor, &caller::address(request).to_string(), action, "done"));
}

/// Records a token that was refused.
pub(super) fn refused_login(state: &HttpState, request: &HttpRequest) {
    if state.guard.admits_refusal() {
        let source = caller::address(request).to_string();
        state.audit.record(event_now(caller::ANYONE, &source, "login", "refused"));
    }
}

/// Records a change that `actor` may not make.
pub(super) fn refused_change(state: &HttpState, request: &HttpRequest, actor: &str) {
    if state.guard.admits_refusal() {
        let action = format!("http {}", request.method());
        let event = event_now(actor, &caller::address(request).to_string(), &action, "refused");
        let target = request.path().chars().take(TARGET_CHARS_MAX).collect();
        state.audit.record(AuditEvent { target: Some(target), ..event });
    }
}

/// Reports what has ended, and sums up what the audit log did not take. Called every second or so.
pub fn report(state: &HttpState) {
    state.guard.tick();
    if let Some(others) = state.guard.refusals_left_out() {
        let event = event_now(caller::ANYONE, "many addresses", "login", "refused");
        let detail = Some(format!("{others} more refusals within a minute"));
        state.audit.record(AuditEvent { detail, ..event });
    }
}

//! The reports of `andon machines`, as text and as JSON: pure.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::Style;
use super::status::{Visibility, counted_changes, status};
use crate::cli::{counted, table};
use crate::config::Liveness;
use crate::domain::{
    Availability, DisplayStatus, MachineId, Span, StatusChange, Timestamp, availability,
    duration_text::rounded, merged,
};
use crate::store::{MachineRow, SiteHistory};
use crate::terminal;

/// A machine, and what is known of it now.
pub(super) struct ShownMachine {
    pub(super) row: MachineRow,
    pub(super) status: DisplayStatus,
    /// `None` if unknown: only the database can count them.
    pub(super) readings_last_hour: Option<u64>,
    pub(super) flapping: bool,
}

/// What is known of all machines.
pub(super) struct Outlook {
    pub(super) now: Timestamp,
    /// Where it comes from: `database` or `service`.
    pub(super) source: &'static str,
    /// Why every status is uncertain at present; `None` if Andon sees the machines.
    pub(super) blind: Option<String>,
    /// The last time at which Andon is known to have seen them.
    pub(super) until: Option<Timestamp>,
}

impl From<&Visibility> for Outlook {
    fn from(visibility: &Visibility) -> Self {
        Self {
            now: visibility.now,
            source: "database",
            blind: visibility.blindness(),
            until: visibility.until,
        }
    }
}

#[derive(Serialize)]
struct Report<T> {
    at: String,
    source: &'static str,
    /// `null` if Andon sees the machines.
    blind: Option<String>,
    sight_until: Option<String>,
    machines: Vec<T>,
}

#[derive(Serialize)]
struct MachineLine {
    machine_id: String,
    status: &'static str,
    recorded_status: &'static str,
    status_since: Option<String>,
    reason: Option<&'static str>,
    first_seen_at: Option<String>,
    last_seen_at: Option<String>,
    readings_last_hour: Option<u64>,
    flapping: bool,
}

#[derive(Serialize)]
struct AvailabilityLine {
    machine_id: String,
    uptime: Option<f64>,
    up_seconds: f64,
    down_seconds: f64,
    unknown_seconds: f64,
    outages: usize,
    longest_outage_seconds: f64,
    in_outage: bool,
}

/// Returns the machines as the database has them.
pub(super) fn from_database(
    machines: Vec<MachineRow>,
    recent_changes: &[(MachineId, Timestamp)],
    readings: Vec<(MachineId, u64)>,
    visibility: &Visibility,
    rules: &Liveness,
) -> Vec<ShownMachine> {
    let changes = counted_changes(recent_changes);
    let readings: HashMap<MachineId, u64> = readings.into_iter().collect();
    let shown = machines.into_iter().map(|row| {
        let own = rules.machines.get(&row.machine_id).and_then(|rule| rule.offline_after);
        let changes = changes.get(&row.machine_id);
        ShownMachine {
            status: status(&row, visibility, own.unwrap_or(rules.offline_after)),
            readings_last_hour: Some(readings.get(&row.machine_id).copied().unwrap_or(0)),
            flapping: changes.is_some_and(|&count| count > rules.flapping_changes as usize),
            row,
        }
    });
    shown.collect()
}

/// Reports which machines are online.
pub(super) fn machines_report(machines: &[ShownMachine], outlook: &Outlook, style: Style) -> String {
    if style == Style::Json {
        return json(outlook, machines.iter().map(machine_line).collect());
    }
    let rows: Vec<Vec<String>> = machines.iter().map(|machine| cells(machine, outlook.now)).collect();
    let text = table(&["machine", "status", "since", "last seen", ">readings/h", "note"], &rows);
    let statuses: Vec<DisplayStatus> = machines.iter().map(|machine| machine.status).collect();
    let coloured = if style == Style::Colour { in_colour(&text, &statuses) } else { text };
    format!("{}\n\n{coloured}", heading(outlook, &statuses))
}

fn machine_line(machine: &ShownMachine) -> MachineLine {
    let row = &machine.row;
    MachineLine {
        machine_id: row.machine_id.to_string(),
        status: machine.status.as_str(),
        recorded_status: row.status.as_str(),
        status_since: row.status_since.map(|at| at.to_string()),
        reason: row.reason.map(|reason| reason.as_str()),
        first_seen_at: row.first_seen_at.map(|at| at.to_string()),
        last_seen_at: row.last_seen_at.map(|at| at.to_string()),
        readings_last_hour: machine.readings_last_hour,
        flapping: machine.flapping,
    }
}

fn cells(machine: &ShownMachine, now: Timestamp) -> Vec<String> {
    let row = &machine.row;
    let mut notes = Vec::new();
    if machine.status == DisplayStatus::Unknown {
        notes.push(format!("was {}", row.status.as_str()));
    }
    if machine.flapping {
        notes.push("flapping".to_owned());
    }
    vec![
        row.machine_id.to_string(),
        machine.status.as_str().replace('_', " "),
        row.status_since.map_or(String::new(), short),
        row.last_seen_at.map_or("never".to_owned(), |at| ago(now.since(at))),
        machine.readings_last_hour.map_or("-".to_owned(), |count| count.to_string()),
        notes.join(", "),
    ]
}

/// Counts the machines by status, and says whether Andon sees them.
fn heading(outlook: &Outlook, statuses: &[DisplayStatus]) -> String {
    let count = |status| statuses.iter().filter(|each| **each == status).count();
    let summary = format!(
        "{} at {}: {} online, {} offline, {} never seen, {} unknown",
        counted(statuses.len() as u64, "machine"),
        short(outlook.now),
        count(DisplayStatus::Online),
        count(DisplayStatus::Offline),
        count(DisplayStatus::NeverSeen),
        count(DisplayStatus::Unknown)
    );
    match (&outlook.blind, outlook.until) {
        (Some(why), _) => format!("{summary}\nAndon does not see the machines now: {why}"),
        (None, Some(until)) => format!("{summary}\nAndon saw them last {}", ago(outlook.now.since(until))),
        (None, None) => summary,
    }
}

/// Reports how available each machine was since `from`.
pub(super) fn availability_report(
    machines: &[MachineRow],
    history: &SiteHistory,
    visibility: &Visibility,
    from: Timestamp,
    style: Style,
) -> String {
    let window = Span { from, to: visibility.now };
    let blind = blind_spans(history, visibility);
    let changes = changes_by_machine(history);
    let found: Vec<(&MachineRow, Availability)> = machines
        .iter()
        .filter_map(|machine| {
            let own = changes.get(&machine.machine_id).map_or(&[][..], Vec::as_slice);
            Some((machine, availability(window, own, (machine.status, machine.status_since?), &blind)))
        })
        .collect();
    if style == Style::Json {
        return json(
            &visibility.into(),
            found.iter().map(|(machine, found)| availability_line(machine, found)).collect(),
        );
    }
    let rows: Vec<Vec<String>> =
        found.iter().map(|(machine, found)| availability_cells(machine, found)).collect();
    let headings = ["machine", ">uptime", ">up", ">down", ">not seen", ">outages", ">longest outage"];
    let blind_time: Duration =
        blind.iter().map(|span| span.to.min(window.to).since(span.from.max(from))).sum();
    format!(
        "{} from {} to {}; Andon itself was blind for {}, which counts neither as up nor as down\n\n{}",
        counted(found.len() as u64, "machine"),
        short(from),
        short(visibility.now),
        rounded(blind_time),
        table(&headings, &rows)
    )
}

fn changes_by_machine(history: &SiteHistory) -> HashMap<&MachineId, Vec<StatusChange>> {
    let mut changes: HashMap<&MachineId, Vec<StatusChange>> = HashMap::new();
    for event in &history.events {
        let change = StatusChange {
            at: event.occurred_at,
            status: event.status,
            previous_status: event.previous_status,
        };
        changes.entry(&event.machine_id).or_default().push(change);
    }
    changes
}

/// Returns when Andon did not see the machines: the recorded outages, and the time since the service last wrote.
fn blind_spans(history: &SiteHistory, visibility: &Visibility) -> Vec<Span> {
    let recorded = history
        .outages
        .iter()
        .map(|outage| Span { from: outage.began_at, to: outage.ended_at.unwrap_or(visibility.now) });
    let silent = visibility.blind_from().map(|from| Span { from, to: visibility.now });
    merged(recorded.chain(silent).collect())
}

fn availability_line(machine: &MachineRow, found: &Availability) -> AvailabilityLine {
    AvailabilityLine {
        machine_id: machine.machine_id.to_string(),
        uptime: found.uptime(),
        up_seconds: found.up.as_secs_f64(),
        down_seconds: found.down.as_secs_f64(),
        unknown_seconds: found.unknown.as_secs_f64(),
        outages: found.outages,
        longest_outage_seconds: found.longest_outage.as_secs_f64(),
        in_outage: found.in_outage,
    }
}

fn availability_cells(machine: &MachineRow, found: &Availability) -> Vec<String> {
    // Cut, not rounded: 100.00 % means that it was never seen offline.
    let uptime =
        found.uptime().map_or("-".to_owned(), |share| format!("{:.2} %", (share * 10_000.0).floor() / 100.0));
    let longest = match (found.outages, found.in_outage) {
        (0, _) => "-".to_owned(),
        (_, false) => rounded(found.longest_outage),
        (_, true) => format!("{} (offline now)", rounded(found.longest_outage)),
    };
    vec![
        machine.machine_id.to_string(),
        uptime,
        rounded(found.up),
        rounded(found.down),
        rounded(found.unknown),
        found.outages.to_string(),
        longest,
    ]
}

fn json<T: Serialize>(outlook: &Outlook, machines: Vec<T>) -> String {
    let report = Report {
        at: outlook.now.to_string(),
        source: outlook.source,
        blind: outlook.blind.clone(),
        sight_until: outlook.until.map(|until| until.to_string()),
        machines,
    };
    let text =
        serde_json::to_string(&report).expect("texts, finite numbers and flags, which always serialise");
    format!("{}\n", terminal::json(&text))
}

/// Each line after the headings in the colour of its machine's status.
fn in_colour(text: &str, statuses: &[DisplayStatus]) -> String {
    let mut lines = text.lines();
    let mut coloured = format!("\x1b[1m{}\x1b[0m\n", lines.next().unwrap_or_default());
    for (line, status) in lines.zip(statuses) {
        let code = match status {
            DisplayStatus::Online => "32",
            DisplayStatus::Offline => "31",
            DisplayStatus::Unknown => "33",
            DisplayStatus::NeverSeen => "35",
        };
        coloured.push_str(&format!("\x1b[{code}m{line}\x1b[0m\n"));
    }
    coloured
}

/// `2026-11-22 21:03:04 UTC`
fn short(at: Timestamp) -> String {
    at.to_chrono().format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `12s ago`
fn ago(duration: Duration) -> String {
    format!("{} ago", rounded(duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_the_colour_of_its_status() {
        let statuses = [DisplayStatus::Online, DisplayStatus::Offline];
        let coloured = in_colour("machine\na\nb\n", &statuses);
        assert_eq!(coloured, "\x1b[1mmachine\x1b[0m\n\x1b[32ma\x1b[0m\n\x1b[31mb\x1b[0m\n");
    }

    #[test]
    fn a_share_is_never_rounded_up_to_all() {
        let almost = Availability {
            up: Duration::from_secs(86_399),
            down: Duration::from_secs(1),
            outages: 1,
            ..Availability::default()
        };
        let machine = MachineRow {
            machine_id: MachineId::parse("press-1").expect("a valid id"),
            status: crate::domain::MachineStatus::Online,
            status_since: None,
            reason: None,
            first_seen_at: None,
            last_seen_at: None,
        };
        assert_eq!(availability_cells(&machine, &almost)[1], "99.99 %");
    }
}

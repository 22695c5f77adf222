//! Checks single values against their line in the table of keys.

use std::net::SocketAddr;

use config::{Map, Value, ValueKind};

use super::keys::{
    FIELDS, HOSTS_MAX, Key, Kind, LAST_WILL, LIST_MAX, LISTED_TEXT_BYTES_MAX, MACHINE, SEGMENT_MAX,
    SITE_ID_CHARS_MAX, SUBSCRIPTION, TOKEN, TOPIC_PREFIX_BYTES_MAX,
};
use super::log_levels::LogLevels;
use super::secret::without_userinfo;
use super::values::{duration, host_and_port, integer, key_text, size, sorted, text};
use crate::database_url::{DatabaseUrl, SchemaName};
use crate::domain::{IpRange, ListenAddress, MachineId, TopicFilter, nearest};

/// Takes the mistakes in a value: where it is, and what is wrong.
pub(super) type Report<'a> = &'a mut dyn FnMut(String, String);

/// Checks the value at `path` against its key, and reports every mistake. Returns the value, with normalised machine ids,
/// if it has none.
pub(super) fn check(
    path: &str,
    kind: Kind,
    optional: bool,
    value: Value,
    report: Report<'_>,
) -> Option<Value> {
    if optional && matches!(&value.kind, ValueKind::String(text) if text.trim().is_empty()) {
        return Some(value);
    }
    match kind {
        Kind::Subscriptions => check_list(path, kind, value, report, |path, item, report| match item.kind {
            ValueKind::Table(_) => check_table(path, SUBSCRIPTION, item, report),
            _ => check(path, Kind::TopicFilter, false, item, report),
        }),
        Kind::Hosts => check_list(path, kind, value, report, |path, item, report| {
            check(path, Kind::HostAndPort { port_required: false }, false, item, report)
        }),
        Kind::LastWills => check_list(path, kind, value, report, |path, item, report| {
            check_table(path, LAST_WILL, item, report)
        }),
        Kind::Tokens => {
            check_list(path, kind, value, report, |path, item, report| check_table(path, TOKEN, item, report))
        }
        Kind::Texts => check_list(path, kind, value, report, |path, item, report| {
            check(path, Kind::Text { bytes_max: LISTED_TEXT_BYTES_MAX }, false, item, report)
        }),
        Kind::Networks => check_list(path, kind, value, report, |path, item, report| {
            check(path, Kind::Network, false, item, report)
        }),
        Kind::Fields => check_fields(path, value, report),
        Kind::Machines => check_machines(path, value, report),
        _ => match misfit(kind, &value) {
            None => Some(value),
            Some(message) => {
                report(path.to_owned(), message);
                None
            }
        },
    }
}

fn check_list(
    path: &str,
    kind: Kind,
    value: Value,
    report: Report<'_>,
    check_item: impl Fn(&str, Value, Report<'_>) -> Option<Value>,
) -> Option<Value> {
    let origin = value.origin().map(str::to_owned);
    let ValueKind::Array(items) = value.kind else {
        report(path.to_owned(), expected(kind, &value));
        return None;
    };
    let empty_is_wrong = kind == Kind::Subscriptions;
    let count_max = if kind == Kind::Hosts { HOSTS_MAX } else { LIST_MAX };
    if items.len() > count_max || (items.is_empty() && empty_is_wrong) {
        report(path.to_owned(), format!("expected {}, found {} of them", kind.allowed(), items.len()));
        return None;
    }
    let count = items.len();
    let good: Vec<Value> = items
        .into_iter()
        .enumerate()
        .filter_map(|(index, item)| check_item(&format!("{path}[{index}]"), item, report))
        .collect();
    (good.len() == count).then(|| Value::new(origin.as_ref(), ValueKind::Array(good)))
}

fn check_table(path: &str, known: &[Key], value: Value, report: Report<'_>) -> Option<Value> {
    let origin = value.origin().map(str::to_owned);
    let names: Vec<&str> = known.iter().map(|key| key.path).collect();
    let ValueKind::Table(table) = value.kind else {
        report(
            path.to_owned(),
            format!("expected a table with {}, found {}", names.join(", "), found(&value)),
        );
        return None;
    };
    let count = table.len();
    let mut good = Map::new();
    for (name, value) in sorted(table) {
        let below = format!("{path}.{name}");
        match known.iter().find(|key| key.path == name) {
            None => report(below, unknown_among(&name, &names)),
            Some(key) => {
                if let Some(value) = check(&below, key.kind, key.optional, value, report) {
                    good.insert(name, value);
                }
            }
        }
    }
    let mut complete = good.len() == count;
    for key in known.iter().filter(|key| !key.optional && !good.contains_key(key.path)) {
        if complete {
            report(path.to_owned(), format!("{} is missing", key.path));
        }
        complete = false;
    }
    complete.then(|| Value::new(origin.as_ref(), ValueKind::Table(good)))
}

fn check_fields(path: &str, value: Value, report: Report<'_>) -> Option<Value> {
    let origin = value.origin().map(str::to_owned);
    let ValueKind::Table(table) = value.kind else {
        report(path.to_owned(), expected(Kind::Fields, &value));
        return None;
    };
    let mut good = Map::new();
    for (name, value) in sorted(table) {
        let below = format!("{path}.{}", key_text(&name));
        if !FIELDS.contains(&name.as_str()) {
            report(below, unknown_among(&name, &FIELDS));
        } else if let Some(value) = check(&below, Kind::JsonPointer, true, value, report) {
            good.insert(name, value);
        }
    }
    Some(Value::new(origin.as_ref(), ValueKind::Table(good)))
}

fn check_machines(path: &str, value: Value, report: Report<'_>) -> Option<Value> {
    let origin = value.origin().map(str::to_owned);
    let ValueKind::Table(table) = value.kind else {
        report(path.to_owned(), expected(Kind::Machines, &value));
        return None;
    };
    let mut good = Map::new();
    for (name, rule) in sorted(table) {
        let below = format!("{path}.{}", key_text(&name));
        match MachineId::parse(&name) {
            Err(error) => report(below, error.to_string()),
            Ok(id) if good.contains_key(id.as_str()) => {
                report(below, format!("machine {:?} is named twice (ids are lower-cased)", id.as_str()));
            }
            Ok(id) => {
                if let Some(rule) = check_table(&below, MACHINE, rule, report) {
                    good.insert(id.as_str().to_owned(), rule);
                }
            }
        }
    }
    Some(Value::new(origin.as_ref(), ValueKind::Table(good)))
}

fn unknown_among(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("unknown key; did you mean {meant}?"),
        None => format!("unknown key; expected one of {}", known.join(", ")),
    }
}

fn expected(kind: Kind, value: &Value) -> String {
    let found = match (kind, &value.kind) {
        (Kind::Secret | Kind::DatabaseUrl, ValueKind::String(_)) => "other text".to_owned(),
        (Kind::Secret | Kind::DatabaseUrl, ValueKind::I64(_) | ValueKind::Float(_)) => "a number".to_owned(),
        _ => found(value),
    };
    format!("expected {}, found {found}", kind.allowed())
}

/// Describes a text that was found: without secrets, and cut to a readable length.
pub(super) fn found_text(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    let shown = without_userinfo(text);
    if shown.chars().count() <= SHOWN_CHARS_MAX {
        return format!("the text {shown:?}");
    }
    let start: String = shown.chars().take(SHOWN_CHARS_MAX).collect();
    format!("the text {start:?}… ({} bytes)", text.len())
}

fn found(value: &Value) -> String {
    match &value.kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Boolean(flag) => flag.to_string(),
        ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_) => {
            format!("the number {value}")
        }
        ValueKind::String(text) => found_text(text),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
    }
}

/// Says why a single value does not fit its kind; `None` if it does.
fn misfit(kind: Kind, value: &Value) -> Option<String> {
    let fits = match kind {
        Kind::Flag => matches!(value.kind, ValueKind::Boolean(_)),
        Kind::Integer { min, max } => integer(value).is_some_and(|number| (min..=max).contains(&number)),
        Kind::Segment => integer(value).is_some_and(|number| number != 0 && number.abs() <= SEGMENT_MAX),
        Kind::Duration { min, max, whole_seconds } => duration(value).is_some_and(|duration| {
            (min..=max).contains(&duration) && (!whole_seconds || duration.subsec_nanos() == 0)
        }),
        Kind::Size { min, max } => size(value).is_some_and(|bytes| (min..=max).contains(&bytes)),
        // `protocol = 5` is as clear as "5".
        Kind::Choice(words) => match &value.kind {
            ValueKind::I64(number) => words.contains(&number.to_string().as_str()),
            _ => text(value).is_some_and(|text| words.contains(&text)),
        },
        _ => return misfit_text(kind, value),
    };
    (!fits).then(|| expected(kind, value))
}

/// Says why a value does not fit a kind that is a text with its own rules.
fn misfit_text(kind: Kind, value: &Value) -> Option<String> {
    let Some(text) = text(value) else {
        return Some(expected(kind, value));
    };
    let because = |reason: String| Some(format!("{reason}; expected {}", kind.allowed()));
    let fits = match kind {
        Kind::Text { bytes_max } => {
            !text.is_empty() && text.len() <= bytes_max && !text.contains(char::is_control)
        }
        Kind::Secret | Kind::Path | Kind::ReadableFile => !text.is_empty() && !text.contains('\0'),
        Kind::SiteId => is_site_id(text),
        Kind::Host => is_host(text),
        Kind::HostAndPort { port_required } => host_and_port(text)
            .is_some_and(|(host, port)| is_host(host) && (port.is_some() || !port_required)),
        Kind::Address => text.parse::<SocketAddr>().is_ok(),
        Kind::ListenAddress => text.parse::<ListenAddress>().is_ok(),
        Kind::TimeZone => text.parse::<chrono_tz::Tz>().is_ok(),
        Kind::DatabaseUrl => return DatabaseUrl::parse(text).err().and_then(because),
        Kind::SchemaName => return SchemaName::parse(text).err().and_then(because),
        Kind::LogLevels => {
            return LogLevels::parse(text).err().and_then(|why| because(without_userinfo(&why)));
        }
        Kind::TopicFilter => {
            return TopicFilter::parse(text)
                .err()
                .and_then(|error| because(format!("{error} (found {:?})", without_userinfo(text))));
        }
        Kind::Network => {
            return IpRange::parse(text).err().and_then(|error| because(format!("{error} (found {text:?})")));
        }
        Kind::HeaderName => is_free_header(text),
        Kind::TopicPrefix => is_topic_prefix(text),
        Kind::JsonPointer => is_json_pointer(text),
        _ => false,
    };
    (!fits).then(|| expected(kind, value))
}

/// True if the text can name a site in rows, topics and file names.
pub(super) fn is_site_id(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    (1..=SITE_ID_CHARS_MAX).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('.')
}

/// True if the text names an HTTP header that has no other meaning: no client sends it by itself.
fn is_free_header(text: &str) -> bool {
    let taken =
        ["host", "cookie", "authorization", "origin", "referer", "user-agent", "connection", "accept"];
    let lower = text.to_ascii_lowercase();
    let is_taken = taken.contains(&lower.as_str())
        || ["content-", "accept-", "sec-", "x-forwarded-", "if-", "transfer-"]
            .iter()
            .any(|begin| lower.starts_with(begin));
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=100).contains(&text.len()) && text.chars().all(allowed) && !is_taken
}

fn is_host(text: &str) -> bool {
    let is_ipv6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let allowed = |c: char| c.is_alphanumeric() || "-._".contains(c);
    is_ipv6 || ((1..=253).contains(&text.len()) && text.chars().all(allowed))
}

fn is_topic_prefix(text: &str) -> bool {
    let forbidden = |c: char| c == '+' || c == '#' || c.is_control();
    !text.contains(forbidden)
        && !text.starts_with(['$', '/'])
        && !text.ends_with('/')
        && text.len() <= TOPIC_PREFIX_BYTES_MAX
}

/// RFC 6901 without the empty pointer: begins with "/"; "~" only as "~0" and "~1".
fn is_json_pointer(text: &str) -> bool {
    let escapes_are_whole = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    text.starts_with('/') && escapes_are_whole
}

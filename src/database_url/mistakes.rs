//! Finds the mistakes in a PostgreSQL URL that would otherwise show when Andon connects, and then for ever.
//!
//! libpq's parser reads the URL ([`super::libpq`]). What libpq checks only when it connects is checked here by the same
//! rules: ports, and the words and numbers of parameters. Several hosts, Unix sockets and what libpq fills in by itself
//! (no host: the local socket; no database: the user's name) are allowed here as there. No complaint quotes the URL.

use std::collections::BTreeMap;

use super::libpq;
use crate::domain::nearest;

type Parameters = BTreeMap<String, Option<String>>;

/// Parameters that allow only certain words.
const WORDS: [(&str, &[&str]); 9] = [
    ("sslmode", &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]),
    ("gssencmode", &["disable", "prefer", "require"]),
    ("channel_binding", &["disable", "prefer", "require"]),
    ("target_session_attrs", &["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]),
    ("load_balance_hosts", &["disable", "random"]),
    ("sslcertmode", &["disable", "allow", "require"]),
    ("sslnegotiation", &["postgres", "direct"]),
    ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]),
    ("ssl_max_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]),
];
/// Parameters that must be whole numbers.
const NUMBERS: [&str; 6] = [
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
];
const ESCAPING: &str = "in user and password write @ as %40, / as %2F, : as %3A and % as %25";

/// Returns everything that is wrong with `url`.
pub(super) fn mistakes(url: &str) -> Vec<String> {
    let known = libpq::parse("").unwrap_or_default();
    let (readable, mut mistakes) = without_unknown(url, &known);
    match libpq::parse(&readable) {
        Some(parameters) => {
            mistakes.extend(host_mistakes(url, &parameters));
            mistakes.extend(value_mistakes(&parameters));
        }
        None => mistakes.push(format!(
            "libpq cannot read it: look for a % that begins no escape, a [ without ], or text after a host \
             that is not a port; {ESCAPING}"
        )),
    }
    mistakes
}

/// Returns `url` without the parameters that libpq cannot read, and what is wrong with those.
fn without_unknown(url: &str, known: &Parameters) -> (String, Vec<String>) {
    let Some((location, query)) = split_query(url) else { return (url.to_owned(), Vec::new()) };
    // An empty text behind the "?" or the last "&" is no parameter.
    let query = query.strip_suffix('&').unwrap_or(query);
    let (mut kept, mut mistakes) = (Vec::new(), Vec::new());
    for (index, parameter) in query.split('&').enumerate().filter(|_| !query.is_empty()) {
        match parameter_mistake(parameter, known) {
            // Its number, not its name: the name may be a piece of a password.
            Some(mistake) => mistakes.push(format!("parameter {} after the \"?\" {mistake}", index + 1)),
            None => kept.push(parameter),
        }
    }
    (format!("{location}?{}", kept.join("&")), mistakes)
}

/// Splits at the `?` that libpq takes: one before the `@` belongs to the password.
fn split_query(url: &str) -> Option<(&str, &str)> {
    let place = url.find("://")? + "://".len();
    let place_end = url[place..].find('/').map_or(url.len(), |length| place + length);
    let host = url[place..place_end].find('@').map_or(place, |length| place + length);
    let mark = host + url[host..].find('?')?;
    Some((&url[..mark], &url[mark + 1..]))
}

fn parameter_mistake(parameter: &str, known: &Parameters) -> Option<String> {
    let Some((name, value)) = parameter.split_once('=') else {
        return Some("has no \"=\"".to_owned());
    };
    if value.contains('=') {
        return Some("has more than one \"=\"; in its value write = as %3D".to_owned());
    }
    if name.contains('%') || known.contains_key(name) || (name == "ssl" && value == "true") {
        return None;
    }
    let meant = nearest(name, known.keys().map(String::as_str));
    let meant = meant.map_or(String::new(), |meant| format!(", did you mean {meant}?"));
    Some(format!("is unknown to libpq{meant}"))
}

fn list<'a>(parameters: &'a Parameters, name: &str) -> Vec<&'a str> {
    let text = parameters.get(name).and_then(Option::as_deref).filter(|text| !text.is_empty());
    text.map_or_else(Vec::new, |text| text.split(',').collect())
}

fn host_mistakes(url: &str, parameters: &Parameters) -> Vec<String> {
    let mut mistakes = Vec::new();
    let (hosts, addresses) = (list(parameters, "host"), list(parameters, "hostaddr"));
    let ports = list(parameters, "port");
    let is_port_wrong =
        |port: &&str| !port.is_empty() && !number(port).is_some_and(|port| (1..=65_535).contains(&port));
    let wrong_port = ports.iter().any(is_port_wrong);
    if wrong_port {
        mistakes.push("a port is not a whole number from 1 to 65535".to_owned());
    }
    let places = if addresses.is_empty() { hosts.len() } else { addresses.len() };
    if ports.len() > 1 && ports.len() != places.max(1) {
        mistakes.push(format!(
            "{} ports do not fit {places} hosts; give one port for all, or one for each",
            ports.len()
        ));
    }
    if !addresses.is_empty() && !hosts.is_empty() && addresses.len() != hosts.len() {
        mistakes.push(format!("{} addresses in hostaddr do not fit {} hosts", addresses.len(), hosts.len()));
    }
    // A host that begins with @ is a socket in the abstract namespace; no other host contains an @.
    let at_in_host = hosts
        .iter()
        .any(|host| !host.starts_with('/') && host.get(1..).is_some_and(|rest| rest.contains('@')));
    // If the password contains a /, libpq takes what stands before it for host and port, and the rest for the database.
    let location = url.split('?').next().unwrap_or_default();
    let at_in_database = location.rsplit('/').next().is_some_and(|database| database.contains('@'));
    let slash_in_password =
        location.matches('/').count() > 2 && (at_in_database || location.matches('/').count() > 3);
    if at_in_host || (wrong_port && slash_in_password && location.contains('@')) {
        mistakes.push(format!("user or password is not escaped; {ESCAPING}"));
    }
    mistakes
}

fn value_mistakes(parameters: &Parameters) -> Vec<String> {
    let value = |name: &str| parameters.get(name).and_then(Option::as_deref);
    let wrong_word =
        WORDS.iter().filter(|(name, words)| value(name).is_some_and(|value| !is_word(name, words, value)));
    let wrong_number = NUMBERS.iter().filter(|name| value(name).is_some_and(|value| number(value).is_none()));
    wrong_word
        .map(|(name, words)| format!("{name} must be one of {}", words.join(", ")))
        .chain(wrong_number.map(|name| format!("{name} must be a whole number")))
        .collect()
}

/// libpq reads versions of TLS in capitals and small letters; empty is none.
fn is_word(name: &str, words: &[&str], value: &str) -> bool {
    if name.ends_with("protocol_version") {
        return value.is_empty() || words.iter().any(|word| word.eq_ignore_ascii_case(value));
    }
    words.contains(&value)
}

/// Reads a number as libpq does: with spaces around it.
fn number(text: &str) -> Option<i32> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libpq_accepts_is_accepted() {
        let urls = [
            "postgres://h/d",
            "postgresql://",
            "postgresql:///d",
            "postgresql://h",
            "postgres://u@h",
            "postgres://u:p@h:5432/d?sslmode=verify-full&connect_timeout=10&application_name=x",
            "postgres://u:p?w#x@h/d",
            "postgres://u:p%40%2F%3A%25@h/d",
            "postgres://h1:5432,h2:5433/d?target_session_attrs=read-write",
            "postgres://h1,h2:5433,h3/d",
            "postgres://h1,h2/d?port=5433",
            "postgres://%2Fvar%2Frun%2Fpostgresql/d",
            "postgres:///d?host=/var/run/postgresql&port=5433",
            "postgres:///d?host=%2Fvar%2Frun",
            "postgres://[::1]:5433/d",
            "postgres://[::1],[fe80::1%25eth0]:5433/d",
            "postgres://u:s3cret@@abstract/d",
            "postgres:///d?ssl=true",
            "postgres://h/d?ssl%6Dode=require",
            "postgres://h/d?options=-c%20geqo%3Doff",
            "postgres://h:/d",
            "postgres://h/d?ssl_min_protocol_version=tlsv1.2&connect_timeout=%2010%20&",
            "postgres://h/d?",
            "postgres://h/a@b",
            "postgres://h/d?service=plant",
        ];
        for url in urls {
            assert_eq!(mistakes(url), [] as [String; 0], "{url}");
        }
    }

    #[test]
    fn each_mistake_is_reported_and_nothing_of_the_password() {
        let table: [(&str, &[&str]); 19] = [
            ("postgres://u:hunter2@h:54x/d", &["port"]),
            ("postgres://u:hunter2@h:0/d", &["port"]),
            ("postgres://u:hunter2@h:65536/d", &["port"]),
            ("postgres://u:hunter2@h:-1/d", &["port"]),
            ("postgres://h/d?port=5432x", &["port"]),
            ("postgres://u:hunter2@h1:1,h2:70000,h3/d", &["port"]),
            ("postgres://h1,h2,h3/d?port=1,2", &["2 ports do not fit 3 hosts"]),
            ("postgres://h1,h2/d?hostaddr=127.0.0.1", &["hostaddr"]),
            ("postgres://h/d?sslmode=foo", &["sslmode must be one of disable, allow, prefer"]),
            ("postgres://h/d?sslmode=", &["sslmode"]),
            ("postgres://h/d?target_session_attrs=master", &["target_session_attrs"]),
            ("postgres://h/d?connect_timeout=5s", &["connect_timeout must be a whole number"]),
            ("postgres://h/d?sslmod=require", &["parameter 1", "did you mean sslmode?"]),
            (
                "postgres://h/d?password=hun&ter2=1&sslmode",
                &["parameter 2", "parameter 3 after the \"?\" has no"],
            ),
            ("postgres://h/d?password=hun=ter2", &["more than one"]),
            ("postgres://u:hunter2%zz@h/d", &["libpq cannot read it"]),
            ("postgres://u:p@[::1/d", &["libpq cannot read it"]),
            ("postgres://u:hun@ter2@h/d", &["not escaped"]),
            ("postgres://u:hun/ter2@h:5432/d", &["port", "not escaped"]),
        ];
        for (url, parts) in table {
            let found = mistakes(url).join("; ");
            for part in parts {
                assert!(found.contains(part), "{part} is missing for {url}: {found:?}");
            }
            assert!(!found.contains("hun") && !found.contains("ter2"), "{url}: {found}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        assert_eq!(mistakes("postgres://h:x/d?sslmode=foo&keepalives=yes").len(), 3);
    }
}

//! When certificates expire: ours, the authorities', the broker's.
//!
//! Files are read again each time, as the library does at each connect: rotated files count without a
//! restart. A handshake of our own ([`super::tls_diagnosis`]) shows the broker's chain, at most once an hour.
//!
//! - CERT-1 At most one line a day is logged for a certificate, and only in its last 30 days.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::x509::{X509, X509Ref};

use super::super::client::options::{LinkOptions, TlsOptions};
use super::probe::reach;
use super::tls_diagnosis::{handshake, one_line_name};
use crate::clock::Mono;
use crate::domain::Endpoint;

/// How long before its end a certificate is warned about.
pub const WARN_BEFORE: Duration = Duration::from_secs(30 * DAY);
/// How often at most the same certificate is warned about.
const WARN_EVERY: Duration = Duration::from_secs(DAY);
/// How often at most the broker is asked for its certificate.
const ASK_EVERY: Duration = Duration::from_secs(3600);
const DAY: u64 = 86_400;

/// One certificate and the end of its validity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expiry {
    /// Owner and name, for the operator.
    pub of: String,
    /// End of its validity, seconds since 1970.
    pub at: i64,
}

impl Expiry {
    fn of(certificate: &X509Ref, whose: &str) -> Option<Self> {
        let of = format!("{whose} '{}'", one_line_name(certificate.subject_name()));
        Some(Self { of, at: unix_seconds(certificate.not_after())? })
    }

    /// Returns the whole days left at `now` (seconds since 1970); negative once it has expired.
    #[must_use]
    pub fn days_left(&self, now: i64) -> i64 {
        (self.at - now).div_euclid(DAY as i64)
    }
}

/// Converts to seconds since 1970.
#[must_use]
pub fn unix_seconds(time: &Asn1TimeRef) -> Option<i64> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(i64::from(since.days) * DAY as i64 + i64::from(since.secs))
}

/// Returns our certificates and authorities. Of several authorities in one file only the longest valid one
/// counts: the broker's chain shows which one is used. Skips files that cannot be read: the connect reports
/// those.
#[must_use]
pub fn of_files(tls: &TlsOptions) -> Vec<Expiry> {
    let mut found = Vec::new();
    if let Some(path) = &tls.cert_file {
        found.extend(
            read(path).iter().filter_map(|certificate| Expiry::of(certificate, "Andon's certificate")),
        );
    }
    if let Some(path) = &tls.ca_file {
        let authorities = read(path);
        let expiries = authorities.iter().filter_map(|certificate| Expiry::of(certificate, "the authority"));
        found.extend(expiries.max_by_key(|expiry| expiry.at));
    }
    found
}

fn read(path: &Path) -> Vec<X509> {
    let pem = std::fs::read(path).unwrap_or_default();
    X509::stack_from_pem(&pem).unwrap_or_default()
}

/// Returns the broker's certificate and those that verified it; empty if no handshake succeeds. Blocks.
#[must_use]
pub fn of_broker(endpoint: &Endpoint, options: &LinkOptions) -> Vec<Expiry> {
    let Some(tls) = &options.tls else { return Vec::new() };
    let within = options.connect_timeout;
    let shown = reach(endpoint, options.proxy.as_ref(), within)
        .and_then(|stream| handshake(endpoint, tls, stream, within));
    let chain = shown.map(|shown| shown.chain).unwrap_or_default();
    let whose = |place: usize| if place == 0 { "the broker's certificate" } else { "the authority" };
    chain
        .iter()
        .enumerate()
        .filter_map(|(place, certificate)| Expiry::of(certificate, whose(place)))
        .collect()
}

/// The known certificates; shared by all incarnations of the actor.
#[derive(Debug, Default)]
pub struct CertificateWatch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    of_broker: Option<(Endpoint, Mono, Vec<Expiry>)>,
    warned: HashMap<Expiry, Mono>,
}

impl CertificateWatch {
    /// Returns whether it is time to ask the broker for its chain.
    #[must_use]
    pub fn wants_to_ask(&self, endpoint: &Endpoint, now: Mono) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.of_broker.as_ref().is_none_or(|(of, at, _)| of != endpoint || now.since(*at) >= ASK_EVERY)
    }

    /// Notes the broker's chain. An empty one (no handshake) does not replace a known one.
    pub fn learnt(&self, endpoint: &Endpoint, now: Mono, chain: Vec<Expiry>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.of_broker.take().filter(|(of, ..)| of == endpoint).map(|(_, _, chain)| chain);
        let chain = if chain.is_empty() { known.unwrap_or_default() } else { chain };
        state.of_broker = Some((endpoint.clone(), now, chain));
    }

    /// Returns the certificate that expires first, and those to warn about now (`wall` in seconds since
    /// 1970).
    pub fn review(&self, of_files: Vec<Expiry>, now: Mono, wall: i64) -> (Option<Expiry>, Vec<Expiry>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = of_files;
        all.extend(state.of_broker.iter().flat_map(|(_, _, chain)| chain.iter().cloned()));
        all.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.of.cmp(&b.of)));
        all.dedup();
        state.warned.retain(|expiry, at| all.contains(expiry) && now.since(*at) < WARN_EVERY);
        let soon = wall + WARN_BEFORE.as_secs() as i64;
        let due: Vec<Expiry> = all
            .iter()
            .filter(|expiry| expiry.at < soon && !state.warned.contains_key(*expiry))
            .cloned()
            .collect();
        state.warned.extend(due.iter().map(|expiry| (expiry.clone(), now)));
        (all.into_iter().next(), due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn expiry(of: &str, days: i64) -> Expiry {
        Expiry { of: of.to_owned(), at: NOW + days * DAY as i64 + 60 }
    }

    fn at(hours: u64) -> Mono {
        Duration::from_secs(hours * 3600).into()
    }

    fn broker(host: &str) -> Endpoint {
        Endpoint { host: host.to_owned(), port: 8883 }
    }

    /// Proves CERT-1.
    #[test]
    fn one_warning_a_day_in_the_last_thirty_days_and_none_before() {
        let watch = CertificateWatch::default();
        let files =
            || vec![expiry("late", 400), expiry("in time", 30), expiry("soon", 29), expiry("over", -1)];
        let (next, due) = watch.review(files(), at(0), NOW);
        assert_eq!(next, Some(expiry("over", -1)));
        assert_eq!(due, [expiry("over", -1), expiry("soon", 29)]);
        assert_eq!((expiry("soon", 29).days_left(NOW), expiry("over", -1).days_left(NOW)), (29, -1));
        assert_eq!(watch.review(files(), at(23), NOW).1, []);
        assert_eq!(watch.review(files(), at(24), NOW).1.len(), 2, "again the next day");
        // A rotated file is another certificate.
        assert_eq!(watch.review(vec![expiry("soon", 20)], at(25), NOW).1, [expiry("soon", 20)]);
    }

    #[test]
    fn the_brokers_chain_stays_until_another_is_seen_or_the_broker_changes() {
        let watch = CertificateWatch::default();
        let (a, b) = (broker("a"), broker("b"));
        assert!(watch.wants_to_ask(&a, at(0)));
        watch.learnt(&a, at(0), vec![expiry("leaf", 50)]);
        assert!(!watch.wants_to_ask(&a, at(0)));
        assert!(watch.wants_to_ask(&b, at(0)));
        assert!(watch.wants_to_ask(&a, at(1)));
        watch.learnt(&a, at(1), Vec::new());
        assert_eq!(watch.review(vec![expiry("ours", 60)], at(1), NOW).0, Some(expiry("leaf", 50)));
        watch.learnt(&b, at(2), Vec::new());
        assert_eq!(watch.review(vec![expiry("ours", 60)], at(2), NOW).0, Some(expiry("ours", 60)));
    }

    #[test]
    fn the_end_of_a_certificate_is_read_to_the_second() {
        let time = Asn1Time::from_unix(1_700_000_001).expect("a valid time");
        assert_eq!(unix_seconds(&time), Some(1_700_000_001));
    }
}

//! Where HTTP listens, and who may then connect.

use super::{Check, Http};
use crate::domain::ListenAddress;

const BIND: &str = "http.bind";
const HEALTH_BIND: &str = "http.health_bind";

impl Check<'_> {
    pub(super) fn listeners(&mut self, http: &Http) {
        let is_open = !http.wants_a_name() && !http.anonymous;
        let health_is_local = http.health_bind.as_ref().is_none_or(ListenAddress::is_local);
        for (key, is_local) in [(BIND, http.bind.ip().is_loopback()), (HEALTH_BIND, health_is_local)] {
            if is_open && !is_local {
                let message = "other computers can reach it; allowed only with http.token or http.tokens, with \
                    http.proxy_user_header, or with http.anonymous = true";
                self.report(&[key, "http.token", "http.token_file", "http.anonymous"], message);
            }
        }
        self.http_tls(http);
        let is_one = http.health_bind == Some(ListenAddress::Tcp(http.bind)) && http.bind.port() != 0;
        if is_one {
            self.report(
                &[HEALTH_BIND, BIND],
                "is the address of http.bind; choose another port, or a Unix socket",
            );
        }
    }

    pub(super) fn proxy_users(&mut self, http: &Http) {
        const HEADER: &str = "http.proxy_user_header";
        if http.proxy_user_header.is_none() {
            return;
        }
        if http.trusted_proxies.is_empty() {
            let message = "anybody could send it; name the proxies that set it in http.trusted_proxies";
            self.report(&[HEADER, "http.trusted_proxies"], message);
        }
        if http.anonymous {
            self.report(&["http.anonymous", HEADER], format!("contradicts {HEADER}; keep one of them"));
        }
    }

    fn http_tls(&mut self, http: &Http) {
        const CERT: &str = "http.tls.cert_file";
        const KEY: &str = "http.tls.key_file";
        let tls = &http.tls;
        if tls.cert_file.is_some() && tls.key_file.is_none() {
            self.report(&[CERT, KEY], format!("a certificate needs its private key; set {KEY}"));
        }
        if tls.key_file.is_some() && tls.cert_file.is_none() {
            self.report(&[KEY, CERT], format!("a private key needs its certificate; set {CERT}"));
        }
        if tls.client_ca_file.is_some() && tls.cert_file.is_none() {
            self.report(&["http.tls.client_ca_file", CERT], format!("has no effect without TLS; set {CERT}"));
        }
    }
}

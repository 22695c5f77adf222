//! Checks certificates at every connect and every hour ([`super::checks::certificates`]), and warns before
//! they expire.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use slog::{error, warn};

use super::actor::Mqtt;
use super::checks::certificates::{Expiry, of_broker, of_files};
use crate::clock::{mono_now, wall_now};
use crate::domain::Endpoint;
use crate::domain::Timestamp;

/// How often certificates are checked while the link does not change.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(3600);

impl Mqtt {
    /// Reads files and makes a handshake, on a thread that may block.
    pub(super) fn check_certificates(&mut self, context: &mut Context<Self>) {
        let options = (*self.options.newest_link.snapshot()).clone();
        let Some(tls) = options.tls.clone() else { return };
        let endpoint = self.session.endpoint().clone();
        let ask = self.session.is_up() && self.options.certificates.wants_to_ask(&endpoint, mono_now());
        let (reply, answer) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let of_broker = ask.then(|| of_broker(&endpoint, &options));
            let _receiver_may_be_gone = reply.send((endpoint, of_broker, of_files(&tls)));
        });
        context.spawn(answer.into_actor(self).map(|found, actor, _| {
            if let Ok((endpoint, of_broker, of_files)) = found {
                actor.on_certificates(&endpoint, of_broker, of_files);
            }
        }));
    }

    fn on_certificates(&self, endpoint: &Endpoint, of_broker: Option<Vec<Expiry>>, of_files: Vec<Expiry>) {
        let watch = Arc::clone(&self.options.certificates);
        let (now, wall) = (mono_now(), wall_now().as_micros() / 1_000_000);
        if let Some(chain) = of_broker {
            watch.learnt(endpoint, now, chain);
        }
        let (next, due) = watch.review(of_files, now, wall);
        let next = next.and_then(|expiry| u64::try_from(expiry.at).ok());
        self.metrics.certificate_expires_at.set(next.unwrap_or(0));
        for expiry in due {
            let date = Timestamp::from_micros(expiry.at.saturating_mul(1_000_000)).to_string();
            if expiry.at > wall {
                warn!(self.logger, "a certificate expires soon: renew it; files are read again at the next connect";
                    "certificate" => &expiry.of, "expires_at" => date, "days_left" => expiry.days_left(wall));
            } else {
                error!(self.logger, "a certificate has expired and connecting will fail: renew it; files are read again at \
                    the next connect"; "certificate" => &expiry.of, "expires_at" => date);
            }
        }
    }
}

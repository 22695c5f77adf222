//! The settings that a reload replaces while the parts run: one cell for each part.
//!
//! A part takes a snapshot when it needs a value, or looks at its cell at each of its ticks; a new generation of an
//! actor begins with the newest. So nothing is sent, nothing can be lost, and the order of reloads is the order of
//! the cells. To make another key reloadable, put it into the cell of its part, and mark it in `config::keys`: a test
//! compares the two.

use std::sync::Arc;
use std::time::Duration;

use super::options::{http_settings, own_link_options, tracker_options, writer_settings};
use crate::actors::liveness::TrackerOptions;
use crate::actors::mqtt::client::options::LinkOptions;
use crate::actors::mqtt::link_health::{SharedLinkHealth, Timing};
use crate::actors::writer::WriterSettings;
use crate::config::Settings;
use crate::http::HttpState;
use crate::logging::LevelSwitch;
use crate::status::StatusCell;

/// The cells of the actors. HTTP has its own, in [`HttpState`].
#[derive(Clone)]
pub(super) struct LiveSettings {
    /// Liveness looks at each tick.
    pub(super) rules: Arc<StatusCell<TrackerOptions>>,
    /// The mqtt actor looks at each connect.
    pub(super) link: Arc<StatusCell<LinkOptions>>,
    /// The writer looks once a second.
    pub(super) writer: Arc<StatusCell<WriterSettings>>,
    /// The status line looks every few seconds.
    pub(super) status_interval: Arc<StatusCell<Option<Duration>>>,
}

impl LiveSettings {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            rules: Arc::new(StatusCell::new(tracker_options(settings))),
            link: Arc::new(StatusCell::new(own_link_options(settings))),
            writer: Arc::new(StatusCell::new(writer_settings(settings))),
            status_interval: Arc::new(StatusCell::new(settings.log.status_interval)),
        }
    }
}

/// Returns when the broker is asked for a sign of life.
pub(super) fn link_timing(settings: &Settings) -> Timing {
    Timing::of(settings.mqtt.keep_alive, settings.liveness.offline_after_min())
}

/// Everything that a reload writes to.
pub(super) struct LiveParts {
    pub(super) cells: LiveSettings,
    pub(super) health: Arc<SharedLinkHealth>,
    pub(super) http: Arc<HttpState>,
    pub(super) levels: LevelSwitch,
}

impl LiveParts {
    /// Hands what is new to its part; what is the same is left alone.
    ///
    /// # Errors
    /// OpenSSL cannot compute the digest of a token; then nothing has changed.
    pub(super) fn apply(&self, old: &Settings, new: &Settings) -> Result<(), Box<dyn std::error::Error>> {
        // The only part that can fail comes first.
        if (&old.http, &old.site, &old.metrics, &old.liveness)
            != (&new.http, &new.site, &new.metrics, &new.liveness)
        {
            let access = |settings: &Settings| {
                let http = &settings.http;
                let proxies = (
                    http.trusted_proxies.clone(),
                    http.proxy_user_header.clone(),
                    (http.proxy_user_role, http.proxy_operators.clone()),
                );
                (http.token.clone(), http.tokens.clone(), http.anonymous, http.session_max, proxies)
            };
            let key = self.http.sessions.key();
            self.http.replace_settings(http_settings(new, key)?, access(old) != access(new));
            self.http.streams.set_bounds(new.http.streams_max, new.http.streams_per_address);
            self.http.connections.set_each_address(new.http.connections_per_address);
        }
        if let Some(tls) = &self.http.tls {
            tls.reload();
        }
        if old.liveness != new.liveness {
            self.cells.rules.write(tracker_options(new));
            self.health.lock().set_timing(link_timing(new));
        }
        if old.mqtt != new.mqtt {
            self.cells.link.write(own_link_options(new));
        }
        if writer_settings(old) != writer_settings(new) {
            self.cells.writer.write(writer_settings(new));
        }
        if old.log != new.log {
            self.levels.set(&new.log.level);
            self.cells.status_interval.write(new.log.status_interval);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Block, Places, Sources, documentation, load};

    /// What the parts get, in words; secrets included.
    fn handed_over(settings: &Settings) -> String {
        let link = own_link_options(settings);
        let proxy = link.proxy.map(|proxy| (proxy.username, proxy.password));
        let tls = link
            .tls
            .map(|tls| (tls.ca_file, tls.cert_file, tls.key_file, tls.key_password, tls.alpn, tls.verify));
        let key = crate::http::SiteKey::random().unwrap();
        let http = http_settings(settings, &key).map(|http| {
            let access = match http.access {
                crate::http::Access::Token(_) => {
                    let named = settings.http.tokens.iter().map(|t| (&t.name, t.token.expose()));
                    format!(
                        "{:?}{:?}",
                        settings.http.token.as_ref().map(|t| t.expose()),
                        named.collect::<Vec<_>>()
                    )
                }
                crate::http::Access::Anonymous => "anonymous".to_owned(),
                crate::http::Access::Local => "local".to_owned(),
            };
            (
                http.time_zone,
                http.offline_after,
                http.metrics_per_machine,
                http.expected.len(),
                access,
                (
                    settings.http.streams_max,
                    settings.http.streams_per_address,
                    settings.http.connections_per_address,
                    (http.session_max, http.proxies),
                ),
            )
        });
        format!(
            "{:?} {:?} {:?} {proxy:?} {tls:?} {:?} {:?} {:?} {:?}",
            tracker_options(settings),
            (link.username, link.password),
            writer_settings(settings),
            settings.log.level,
            settings.log.status_interval,
            http.map_err(|error| error.to_string()),
            link_timing(settings),
        )
    }

    /// Proves REL-3.
    #[test]
    fn every_key_that_is_documented_to_take_effect_at_reload_reaches_its_part() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, name).unwrap();
            path.display().to_string()
        };
        let [one, two] = [file("one"), file("two")];
        let load_with = |set: &[String]| {
            let places = Places { working_dir: directory.path().to_owned(), ..Places::default() };
            let config_dir = Some(directory.path().to_owned());
            let base = [
                "mqtt.transport=wss",
                "mqtt.proxy=proxy:3128",
                "mqtt.proxy_username=u",
                "mqtt.username=u",
                "http.trusted_proxies=::1",
            ];
            let set = base.map(str::to_owned).into_iter().chain(set.iter().cloned()).collect();
            load(&Sources { config_dir, places, set, ..Sources::default() })
                .unwrap_or_else(|error| panic!("{error}"))
        };
        let pair = format!("mqtt.tls.cert_file={one}");
        let named = format!("[{{ name = \"board\", role = \"view\", token_file = {one:?} }}]");
        let key_pair = [pair.clone(), format!("mqtt.tls.key_file={one}")];
        let old = load_with(&key_pair);
        let mut seen = 0;
        for block in documentation() {
            let Block::Key { path, comment, .. } = block else { continue };
            if !comment.iter().any(|line| line.starts_with("Takes effect: at reload")) {
                continue;
            }
            let value = match path.as_str() {
                "site.time_zone" => "Asia/Tokyo",
                "store.rejected_max_bytes" => "17MiB",
                "liveness.flapping_window" => "1d",
                _ if path.starts_with("store.retention") => "1d",
                "liveness.offline_after" | "log.status_interval" => "37s",
                "liveness.machines_max" | "liveness.flapping_changes" => "17",
                "http.streams_max" | "http.streams_per_address" | "http.connections_per_address" => "17",
                "liveness.machines" => "{ press-1 = { expected = true } }",
                "http.tokens" => &named,
                "http.session_max" => "3d",
                "http.trusted_proxies" => "10.0.0.0/24",
                "http.proxy_user_role" => "metrics",
                "http.anonymous" | "metrics.per_machine" => "true",
                "mqtt.tls.verify" => "false",
                "log.level" => "debug",
                _ if path.ends_with("_file") => &two,
                _ => "another",
            };
            let newer = load_with(&[&key_pair[..], &[format!("{path}={value}")]].concat());
            let reload = old.reload(&newer).unwrap();
            assert!(reload.applied.contains(&path.as_str()), "{path}: {:?}", reload.applied);
            assert_eq!(reload.needs_restart, [""; 0], "{path}");
            let (before, after) = (&old.settings, &reload.loaded.settings);
            assert_ne!(handed_over(before), handed_over(after), "{path} reaches no part");
            seen += 1;
        }
        assert!(seen > 25, "{seen}");
    }
}

//! `andon run`: starts logging, then the service.

use std::path::PathBuf;

use slog::{Logger, info, o, warn};

use super::{Exit, Loaded};
use crate::app;
use crate::logging::{self, keys};

pub(super) fn run(loaded: &Loaded) -> Exit {
    let settings = &loaded.settings;
    let (logger, guard) = logging::init(settings.log.format, &settings.log.level);
    logging::install_panic_hook(logger.clone());
    let exit = if loaded.worker_enabled {
        warn_of(loaded, &logger.new(o!(keys::COMPONENT => "config")));
        app::run(settings, &logger)
    } else {
        info!(logger, "not running, as RUN_MQTT_WORKER=false says"; keys::SITE => &settings.site.id);
        Exit::Clean
    };
    // Writes what is left.
    drop(guard);
    exit
}

/// Where files were looked for, as absolute paths.
pub(super) fn directories(loaded: &Loaded) -> String {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let shown = loaded.looked_in.iter().map(|path| absolute(path).display().to_string());
    shown.collect::<Vec<_>>().join(", ")
}

fn warn_of(loaded: &Loaded, logger: &Logger) {
    if loaded.files.is_empty() {
        warn!(logger, "no configuration file was found: running on the built-in defaults and what the environment and --set say. \
            Put settings into local.toml in one of the directories that were looked in, or name another with --config-dir";
            "looked_in" => directories(loaded));
    }
    for warning in &loaded.warnings {
        warn!(logger, "doubtful setting"; keys::REASON => warning);
    }
}

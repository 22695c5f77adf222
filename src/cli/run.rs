//! `andon run`: starts logging, then the service.

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

fn warn_of(loaded: &Loaded, logger: &Logger) {
    for warning in &loaded.warnings {
        warn!(logger, "doubtful setting"; keys::REASON => warning);
    }
}

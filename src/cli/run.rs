//! `andon run`: starts logging, then the service.

use std::path::PathBuf;

use slog::{Logger, info, o, warn};

use super::{Exit, Loaded, Sources};
use crate::app::{self, Surroundings};
use crate::logging::{self, keys};
use crate::service_manager::ServiceManager;

/// Options of `andon run`.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Take over from the Andon that runs with this journal: ask it to stop, wait until it has stored what is pending
    #[arg(long)]
    replace: bool,
}

pub(super) fn run(options: &Options, sources: Sources, loaded: Loaded) -> Exit {
    let settings = &loaded.settings;
    let (logger, guard) = logging::init(settings.log.format, &settings.log.level);
    logging::install_panic_hook(logger.clone());
    let manager = ServiceManager::connect(&logger);
    let exit = if loaded.worker_enabled {
        log_warnings(&loaded, &logger.new(o!(keys::COMPONENT => "config")));
        let levels = guard.levels();
        app::run(
            loaded,
            Surroundings {
                sources,
                logger: logger.clone(),
                levels,
                manager: manager.clone(),
                replaces: options.replace,
            },
        )
    } else {
        info!(logger, "not running, because RUN_MQTT_WORKER is false"; keys::SITE => &settings.site.id);
        manager.status("not running, because RUN_MQTT_WORKER is false");
        Exit::Clean
    };
    manager.end(exit);
    // Writes the remaining lines.
    drop(guard);
    exit
}

/// Returns the directories in which files were looked for, as absolute paths.
pub(super) fn directories(loaded: &Loaded) -> String {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let shown = loaded.looked_in.iter().map(|path| absolute(path).display().to_string());
    shown.collect::<Vec<_>>().join(", ")
}

fn log_warnings(loaded: &Loaded, logger: &Logger) {
    if loaded.files.is_empty() {
        warn!(logger, "found no configuration file; running on the built-in defaults, the environment and --set. \
            Put settings into local.toml in one of the directories in looked_in, or name another one with --config-dir";
            "looked_in" => directories(loaded));
    }
    for warning in &loaded.warnings {
        warn!(logger, "questionable setting"; keys::REASON => warning);
    }
}

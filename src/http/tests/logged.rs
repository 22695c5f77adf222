//! Keeps what is logged, as lines of JSON.

use std::sync::{Arc, Mutex};

use slog::{Drain, Logger, o};

#[derive(Clone, Default)]
pub struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    pub fn logger(&self) -> Logger {
        let drain = Mutex::new(slog_json::Json::default(self.clone()));
        Logger::root(drain.fuse(), o!())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

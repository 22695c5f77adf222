//! Metrics of the process itself. What `/proc` does not provide is omitted.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use super::Exposition;
use crate::clock::wall_now;
use crate::http::HttpState;

/// Writes CPU time, memory, open files, start time and build.
pub(super) fn process(out: &mut Exposition<'_>, state: &HttpState) {
    out.counter("andon_process_cpu_seconds_total", "CPU time used.", cpu_seconds());
    if let Some(bytes) = resident_bytes() {
        out.gauge("andon_process_resident_memory_bytes", "Memory in use.", bytes);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        out.gauge("andon_process_open_fds", "Open files and connections.", files.count() as u64);
    }
    let now = wall_now().as_micros() as f64 / 1e6;
    let started = now - state.started.elapsed().as_secs_f64();
    out.gauge("andon_process_start_time_seconds", "When the process started, in Unix time.", started);
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("site", &state.site)];
    out.info("andon_build_info", "1, with the version and the site as labels.", &labels);
}

fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_used_some_cpu_and_memory() {
        let before = super::cpu_seconds();
        let spin: u64 = (0..1_000_000u64).map(std::hint::black_box).sum();
        assert!(spin > 0 && super::cpu_seconds() > before && before > 0.0);
        assert!(super::resident_bytes().is_some_and(|bytes| bytes > 1_000_000));
    }
}

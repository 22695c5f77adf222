//! What a contender cost, and a table of it.

use std::time::Duration;

/// One contender in one round.
pub struct Cost {
    pub seconds: f64,
    /// CPU seconds of the contender itself.
    pub own_cpu: f64,
    /// CPU seconds of the database server.
    pub database_cpu: f64,
    pub peak_rss_mib: f64,
}

/// Costs of all rounds, by contender; the first contender is what the others are compared with.
pub struct Table {
    messages: u64,
    names: &'static [&'static str],
    ratios: Vec<Vec<f64>>,
    cpu_ratios: Vec<Vec<f64>>,
}

impl Table {
    pub fn new(title: &str, messages: u64, names: &'static [&'static str]) -> Self {
        println!("\n{title}: {messages} messages of about 120 bytes from {} machines", super::MACHINES);
        println!(
            "{:>5} {:<20} {:>9} {:>7} {:>11} {:>11} {:>11} {:>9}",
            "round", "contender", "msg/s", "ratio", "CPU s/100k", "CPU ratio", "db s/100k", "RSS MiB"
        );
        Self {
            messages,
            names,
            ratios: vec![Vec::new(); names.len()],
            cpu_ratios: vec![Vec::new(); names.len()],
        }
    }

    /// Prints a round.
    pub fn round(&mut self, round: u64, costs: &[Cost]) {
        let per_100k = |seconds: f64| seconds * 100_000.0 / self.messages as f64;
        for (index, cost) in costs.iter().enumerate() {
            let (ratio, cpu_ratio) =
                (costs[0].seconds / cost.seconds, cost.own_cpu / costs[0].own_cpu.max(0.01));
            println!(
                "{round:>5} {:<20} {:>9.0} {ratio:>7.2} {:>11.2} {cpu_ratio:>11.2} {:>11.2} {:>9.1}",
                self.names[index],
                self.messages as f64 / cost.seconds,
                per_100k(cost.own_cpu),
                per_100k(cost.database_cpu),
                cost.peak_rss_mib
            );
            self.ratios[index].push(ratio);
            self.cpu_ratios[index].push(cpu_ratio);
        }
    }

    /// Prints the median ratios beside their goals: speed at least, CPU at most.
    pub fn medians(mut self, goals: &[(&str, f64, Option<f64>)]) {
        for (name, speed, cpu) in goals {
            let index = self.names.iter().position(|known| known == name).expect("a contender");
            let cpu_goal = cpu.map_or(String::new(), |goal| format!(" (goal at most {goal:.1})"));
            println!(
                "median of {name}: {:.2} x the speed (goal {speed:.2}), {:.2} x the CPU{cpu_goal}",
                median(&mut self.ratios[index]),
                median(&mut self.cpu_ratios[index])
            );
        }
    }
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the CPU seconds of a process.
pub fn cpu_of(pid: u32) -> f64 {
    ticks(pid, 11)
}

/// Returns the CPU seconds of a process and its children, ended ones included.
pub fn cpu_of_children(pid: u32) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let running = children.split_whitespace().filter_map(|child| child.parse().ok()).map(cpu_of);
    cpu_of(pid) + ticks(pid, 13) + running.sum::<f64>()
}

/// Returns the sum of two neighbouring times in `/proc/<pid>/stat`, user and system, in seconds.
fn ticks(pid: u32, field: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0.0 };
    let both = fields.split_whitespace().skip(field).take(2);
    both.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() as f64 / 100.0
}

/// Returns the peak resident memory of a process, in MiB.
pub fn peak_rss(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Runs `child` to its end and returns its cost. `begun` returns when the measured time begins.
pub fn of_child(mut child: std::process::Child, begun: std::time::Instant) -> Cost {
    let (mut own_cpu, mut peak_rss_mib) = (0.0, 0.0);
    while child.try_wait().unwrap().is_none() {
        own_cpu = cpu_of(child.id()).max(own_cpu);
        peak_rss_mib = peak_rss(child.id()).max(peak_rss_mib);
        std::thread::sleep(Duration::from_millis(5));
    }
    Cost { seconds: begun.elapsed().as_secs_f64(), own_cpu, database_cpu: 0.0, peak_rss_mib }
}

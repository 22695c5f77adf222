//! Other processes of this computer, for messages that say who is in the way: who a process is, and who listens on a port.
//!
//! Reads `/proc`, which shows a sandboxed service the processes of its own user only; what it does not show is left out.
//! A command line may hold secrets, so little of it is shown.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use chrono::{DateTime, SecondsFormat};

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its process id.
    pub pid: u32,
    /// Its program, and the site if it is an Andon that was started with one.
    pub command: Option<String>,
    /// When it began, RFC 3339 in UTC.
    pub since: Option<String>,
}

impl ProcessInfo {
    /// Returns what `/proc` shows of a process.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self { pid, command: command_of(pid), since: began_at(pid) }
    }
}

/// `pid 4711 (andon --site hall-3, since 2026-11-30T04:00:00Z)`
impl fmt::Display for ProcessInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        let since = self.since.as_ref().map(|since| format!("since {since}"));
        let known: Vec<&str> = self.command.iter().chain(since.as_ref()).map(String::as_str).collect();
        if known.is_empty() { Ok(()) } else { write!(f, " ({})", known.join(", ")) }
    }
}

fn command_of(pid: u32) -> Option<String> {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments: Vec<String> =
        arguments.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    shown_command(&arguments).or_else(|| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    })
}

/// Shows the program's name, and `--site` alone of its arguments.
fn shown_command(arguments: &[String]) -> Option<String> {
    let program = arguments.first()?.rsplit('/').next().filter(|name| !name.is_empty())?;
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        if argument == "--site" {
            return Some(format!("{program} --site {}", rest.next()?));
        }
        if argument.starts_with("--site=") {
            return Some(format!("{program} {argument}"));
        }
    }
    Some(program.to_owned())
}

fn began_at(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let booted = fs::read_to_string("/proc/stat").ok()?;
    let booted: i64 = booted.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let ticks = i64::try_from(ticks_since_boot(&stat)?).ok()?;
    let per_second = i64::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    let began = DateTime::from_timestamp(booted + ticks.checked_div(per_second)?, 0)?;
    Some(began.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// The 22nd field of `/proc/<pid>/stat`. The second one, the name, may contain anything but ends at the last `)`.
fn ticks_since_boot(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Returns who listens on `address`, or on its port at all addresses.
#[must_use]
pub fn listener(address: SocketAddr) -> Option<ProcessInfo> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inodes: HashSet<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, address))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| has_socket(*pid, &inodes)).map(ProcessInfo::of)
}

fn has_socket(pid: u32, inodes: &HashSet<String>) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        let target = fs::read_link(descriptor.path()).ok();
        let inode =
            target.as_ref().and_then(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.contains(inode))
    })
}

/// Returns the inodes of the sockets in a table of the kernel that listen where `address` is.
fn listening_inodes(table: &str, address: SocketAddr) -> Vec<String> {
    const LISTEN: &str = "0A";
    let listens_there = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (ip, port) = fields.get(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let is_there = port == address.port() && *fields.get(3)? == LISTEN && overlaps(ip, address.ip());
        is_there.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    };
    table.lines().skip(1).filter_map(listens_there).collect()
}

/// True if the kernel's hexadecimal address and `ip` are the same, or one of them means all addresses.
fn overlaps(hex: &str, ip: IpAddr) -> bool {
    let is_all = hex.bytes().all(|byte| byte == b'0');
    is_all || ip.is_unspecified() || hex == kernel_hex(ip)
}

/// Writes an address as the kernel does: words of 32 bits in the byte order of the computer.
fn kernel_hex(ip: IpAddr) -> String {
    let bytes = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes
        .chunks_exact(4)
        .map(|word| format!("{:08X}", u32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_command_line_shows_program_and_site_and_no_secret() {
        let shown = |line: &str| {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            shown_command(&arguments)
        };
        let line = "/usr/bin/andon --set mqtt.password=s3cret --site hall-3 run";
        assert_eq!(shown(line).as_deref(), Some("andon --site hall-3"));
        assert_eq!(shown("andon --site=hall-3 run").as_deref(), Some("andon --site=hall-3"));
        assert_eq!(shown("/opt/x/server --token s3cret").as_deref(), Some("server"));
        assert_eq!(shown(""), None);
    }

    #[test]
    fn this_process_is_found_by_the_port_on_which_it_listens() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let Ok(socket) = TcpListener::bind(address) else { continue };
            let port = socket.local_addr().unwrap().port();
            let found = listener(SocketAddr::from(([127, 0, 0, 1], port))).expect("the kernel shows it");
            assert_eq!(found.pid, std::process::id());
            assert!(found.command.is_some() && found.since.is_some(), "{found:?}");
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(listener(free), None);
    }

    #[test]
    fn the_kernels_table_is_read_by_state_port_and_address() {
        let hex = kernel_hex(IpAddr::from([127, 0, 0, 1]));
        let table = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             \x20  0: {hex}:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 111 1 0\n\
             \x20  1: {hex}:1F90 {hex}:C350 01 00000000:00000000 00:00000000 00000000  0  0 222 1 0\n\
             \x20  2: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 333 1 0\n\
             \x20  3: {hex}:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 444 1 0\n\
             garbage\n"
        );
        let at = |address: &str| listening_inodes(&table, address.parse().unwrap());
        assert_eq!(at("127.0.0.1:8080"), ["111", "333"]);
        assert_eq!(at("10.0.0.7:8080"), ["333"]);
        assert_eq!(at("0.0.0.0:8081"), ["444"]);
    }

    #[test]
    fn a_name_with_brackets_hides_no_field() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(ticks_since_boot(stat), Some(4711));
    }
}

//! Who runs a command or sends a signal, as far as the operating system knows: for the audit log.
//!
//! The user of a process is certain. Who became that user is not: the kernel's login id is, where the system sets one;
//! `SUDO_USER` and `SSH_CONNECTION` are what the environment claims.

use std::ffi::CStr;
use std::fs;
use std::net::IpAddr;
use std::ptr;

/// Longest name to take from the environment.
const NAME_CHARS_MAX: usize = 64;
/// What the kernel shows for a process that nobody logged in for.
const NO_LOGIN: u32 = u32::MAX;
/// Room for an entry of the user database.
const ENTRY_BYTES_MAX: usize = 64 * 1024;

/// A person at this computer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The operating system's user, and who became it: `andon (sudo by anna)`.
    pub name: String,
    /// `local`, or `ssh` with the address.
    pub source: String,
}

impl Operator {
    /// Returns who runs this process. `variable` reads its environment.
    #[must_use]
    pub fn of_this_process(variable: impl Fn(&str) -> Option<String>) -> Self {
        let login = login_id().filter(|login| *login != rustix::process::getuid().as_raw());
        let user = user_name(rustix::process::geteuid().as_raw());
        Self {
            name: described(&user, login.map(user_name).as_deref(), variable("SUDO_USER").as_deref()),
            source: source_of(variable("SSH_CONNECTION").as_deref()),
        }
    }
}

/// Names the user, and who became it.
fn described(user: &str, login: Option<&str>, sudo_by: Option<&str>) -> String {
    let login = login.filter(|login| *login != user);
    let is_name = |text: &str| {
        !text.is_empty()
            && text.chars().count() <= NAME_CHARS_MAX
            && text.chars().all(|c| c.is_alphanumeric() || "._-@\\+$".contains(c))
    };
    let sudo_by = sudo_by.filter(|name| is_name(name) && *name != user);
    match (login, sudo_by) {
        (None, None) => user.to_owned(),
        (None, Some(sudo_by)) => format!("{user} (sudo by {sudo_by})"),
        (Some(login), Some(sudo_by)) if login == sudo_by => format!("{user} (sudo by {sudo_by})"),
        (Some(login), Some(sudo_by)) => format!("{user} (logged in as {login}, sudo by {sudo_by})"),
        (Some(login), None) => format!("{user} (logged in as {login})"),
    }
}

/// `SSH_CONNECTION` begins with the address of the client.
fn source_of(ssh_connection: Option<&str>) -> String {
    let client = ssh_connection.and_then(|text| text.split([' ', '%']).next()); // A link-local address has a zone.
    let address = client.and_then(|text| text.parse::<IpAddr>().ok());
    address.map_or_else(|| "local".to_owned(), |address| format!("ssh {address}"))
}

fn login_id() -> Option<u32> {
    let text = fs::read_to_string("/proc/self/loginuid").ok()?;
    text.trim().parse().ok().filter(|uid| *uid != NO_LOGIN)
}

/// Returns the name of a user; `uid 1234` if the system has none.
#[must_use]
pub fn user_name(uid: u32) -> String {
    known_name(uid).unwrap_or_else(|| format!("uid {uid}"))
}

/// Asks the system's user database, wherever it is kept.
fn known_name(uid: u32) -> Option<String> {
    let mut buffer = vec![0; ENTRY_BYTES_MAX];
    let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
    let mut found: *mut libc::passwd = ptr::null_mut();
    // SAFETY: the buffer is as long as is said, and all pointers live until the call is over.
    let code = unsafe {
        libc::getpwuid_r(uid, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    if code != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the entry was found, so it is filled in; its name ends with NUL and lies in the buffer.
    let name = unsafe { CStr::from_ptr((*found).pw_name) };
    name.to_str().ok().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_named_with_who_became_it() {
        for (user, login, sudo_by, expected) in [
            ("andon", None, None, "andon"),
            ("root", None, Some("anna"), "root (sudo by anna)"),
            ("andon", Some("anna"), Some("anna"), "andon (sudo by anna)"),
            ("andon", Some("anna"), None, "andon (logged in as anna)"),
            ("root", Some("anna"), Some("bert"), "root (logged in as anna, sudo by bert)"),
            ("anna", Some("anna"), Some("anna"), "anna"),
            ("root", None, Some("anna\n12:00 INFO login"), "root"),
            ("root", None, Some(""), "root"),
        ] {
            assert_eq!(described(user, login, sudo_by), expected);
        }
    }

    #[test]
    fn a_session_over_ssh_is_named_with_its_address() {
        for (variable, expected) in [
            (Some("192.0.2.7 51234 192.0.2.1 22"), "ssh 192.0.2.7"),
            (Some("2001:db8::7 51234 2001:db8::1 22"), "ssh 2001:db8::7"),
            (Some("fe80::7%eth0 51234 fe80::1%eth0 22"), "ssh fe80::7"),
            (Some("nowhere"), "local"),
            (None, "local"),
        ] {
            assert_eq!(source_of(variable), expected);
        }
    }

    #[test]
    fn users_have_names_or_else_numbers() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(3_999_999_999), "uid 3999999999");
    }
}

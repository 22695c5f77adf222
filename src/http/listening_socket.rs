//! Binds addresses and Unix sockets.
//!
//! A socket's file outlives a process that was killed. It is replaced only if nobody listens there any more, and only if
//! it is a socket. At the end it is removed, unless another process has put its own there.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::domain::ListenAddress;
use crate::host_process;

/// A socket that listens.
pub(super) enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl ListeningSocket {
    /// Binds; for a Unix socket also returns its file.
    ///
    /// # Errors
    /// The address cannot be used; the text says who has it, if that is known.
    pub(super) fn bind(address: &ListenAddress) -> io::Result<(Self, Option<SocketFile>)> {
        match address {
            ListenAddress::Tcp(at) => {
                TcpListener::bind(at).map(|listener| (Self::Tcp(listener), None)).map_err(|error| {
                    let holder =
                        (error.kind() == ErrorKind::AddrInUse).then(|| host_process::listener(*at)).flatten();
                    match holder {
                        Some(holder) => {
                            io::Error::new(error.kind(), format!("{error}: {holder} listens there"))
                        }
                        None => error,
                    }
                })
            }
            ListenAddress::Unix(path) => {
                remove_if_stale(path)?;
                let listener = UnixListener::bind(path)?;
                Ok((Self::Unix(listener), SocketFile::of(path)))
            }
        }
    }

    /// Returns where it listens; differs from what was asked for by the port, if that was 0.
    pub(super) fn address(&self, asked: &ListenAddress) -> ListenAddress {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|_| asked.clone(), ListenAddress::Tcp),
            Self::Unix(_) => asked.clone(),
        }
    }
}

fn remove_if_stale(path: &Path) -> io::Result<()> {
    let in_use = |why: &str| Err(io::Error::new(ErrorKind::AddrInUse, why));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return in_use("a file that is no socket is in its place");
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => in_use("another process listens there"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// The file of our socket; removed at the end.
pub(super) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> Option<Self> {
        let device_and_inode = identity(path)?;
        Some(Self { path: path.to_owned(), device_and_inode })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.device_and_inode) {
            let _best_effort = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path) -> io::Result<(ListeningSocket, Option<SocketFile>)> {
        ListeningSocket::bind(&ListenAddress::Unix(path.to_owned()))
    }

    #[test]
    fn a_socket_is_replaced_only_if_nobody_listens_and_removed_only_if_it_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("health.sock");
        let (first, file) = bind(&path).unwrap();
        let error = bind(&path).err().unwrap();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::AddrInUse, "another process listens there")
        );
        // As after a kill: the file stays, and nobody listens.
        drop(first);
        std::mem::forget(file);
        assert!(path.exists());
        let (second, ours) = bind(&path).unwrap();
        // Another one has taken the place meanwhile.
        fs::remove_file(&path).unwrap();
        let (_other, others) = bind(&path).unwrap();
        drop((second, ours));
        assert!(path.exists(), "it is not ours");
        drop(others);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(bind(&path).err().unwrap().to_string().contains("no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}

//! An HTTP proxy with CONNECT and basic authentication.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A proxy on loopback; its threads end with their connections.
pub struct Proxy {
    port: u16,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Admits clients that send this `user:password`.
    pub fn start(login: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let wanted = format!("basic {}", openssl::base64::encode_block(login.as_bytes()));
        let targets: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&targets);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (wanted, log) = (wanted.clone(), Arc::clone(&log));
                // An error means that client or broker closed: the tunnel ends.
                std::thread::spawn(move || serve(client, &wanted, &log).ok());
            }
        });
        Self { port, targets }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the targets of all CONNECTs.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, wanted: &str, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned();
    let login = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.replacen("Basic", "basic", 1))
    });
    if login.as_deref() != Some(wanted) {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    }
    log.lock().unwrap().push(target.clone());
    let mut broker = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from_broker, mut to_client) = (broker.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        std::io::copy(&mut from_broker, &mut to_client).ok();
        to_client.shutdown(Shutdown::Both).ok();
    });
    std::io::copy(&mut client, &mut broker)?;
    broker.shutdown(Shutdown::Both)
}

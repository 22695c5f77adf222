//! A TCP proxy between Andon and a server. A test can cut it at any moment, also around a COMMIT.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What happens to a COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    Nothing = 0,
    /// The COMMIT never reaches the server: not committed.
    BeforeCommit = 1,
    /// The server commits and its answer is lost: committed, and the client cannot know.
    AnswerOfCommit = 2,
}

/// Accepts connections on a loopback port and forwards bytes to and from a server.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    server: u16,
    over: AtomicBool,
    cut: AtomicU8,
    /// Number of commits cut so far.
    cuts: AtomicU32,
    connections: Mutex<Vec<(TcpStream, TcpStream)>>,
}

impl Proxy {
    /// Forwards to port `server` of loopback.
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server,
            over: AtomicBool::new(false),
            cut: AtomicU8::new(Cut::Nothing as u8),
            cuts: AtomicU32::new(0),
            connections: Mutex::default(),
        });
        let accepted = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepted.over.load(Ordering::SeqCst) {
                    return;
                }
                accepted.carry(client);
            }
        });
        Self { port, shared, accepting: Some(accepting) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts the next COMMIT.
    pub fn cut_next(&self, cut: Cut) {
        self.shared.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// Number of commits cut so far.
    pub fn cuts(&self) -> u32 {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// Cuts every present connection.
    pub fn cut_all(&self) {
        for (client, server) in self.shared.connections.lock().unwrap().drain(..) {
            cut(&client, &server);
        }
    }

    /// Sends bytes to every client, as if the server had sent them.
    pub fn inject(&self, bytes: &[u8]) {
        for (client, _) in self.shared.connections.lock().unwrap().iter_mut() {
            let _gone_already = client.write_all(bytes);
        }
    }
}

impl Shared {
    fn carry(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) else {
            let _refused = client.shutdown(Shutdown::Both);
            return;
        };
        let copy = |stream: &TcpStream| stream.try_clone().unwrap();
        let (to, back) = ((copy(&client), copy(&server)), (copy(&server), copy(&client)));
        let answer_is_cut = Arc::new(AtomicBool::new(false));
        for (upward, (from, into)) in [(true, to), (false, back)] {
            let (shared, answer_is_cut) = (Arc::clone(self), Arc::clone(&answer_is_cut));
            std::thread::spawn(move || shared.pump(from, into, upward, &answer_is_cut));
        }
        self.connections.lock().unwrap().push((client, server));
    }

    /// Forwards one direction until either side ends.
    fn pump(&self, mut from: TcpStream, mut into: TcpStream, upward: bool, answer_is_cut: &AtomicBool) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = &buffer[..count];
            if upward && bytes.windows(6).any(|window| window == b"COMMIT") {
                let cut = self.cut.swap(Cut::Nothing as u8, Ordering::SeqCst);
                self.cuts.fetch_add(u32::from(cut != 0), Ordering::SeqCst);
                if cut == Cut::BeforeCommit as u8 {
                    break;
                }
                answer_is_cut.store(cut == Cut::AnswerOfCommit as u8, Ordering::SeqCst);
            }
            if !upward && answer_is_cut.load(Ordering::SeqCst) {
                break; // The server has answered; its answer is dropped.
            }
            if into.write_all(bytes).is_err() {
                break;
            }
        }
        cut(&from, &into);
    }
}

fn cut(one: &TcpStream, other: &TcpStream) {
    // Either may be gone already.
    let _one = one.shutdown(Shutdown::Both);
    let _other = other.shutdown(Shutdown::Both);
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.cut_all();
        let _wakes_the_listener = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ended = accepting.join();
        }
    }
}

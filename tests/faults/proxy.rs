//! A cable between Andon and a server, which a test can cut, at the worst moment, too.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What is done to a COMMIT on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    Nothing = 0,
    /// It never reaches the server: not committed.
    BeforeCommit = 1,
    /// It is carried out, and the answer is swallowed: committed, and the client cannot know.
    AnswerOfCommit = 2,
}

/// Accepts connections on a port of loopback and carries bytes to and from a server.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    server: u16,
    over: AtomicBool,
    cut: AtomicU8,
    /// Commits cut so far.
    cuts: AtomicU32,
    connections: Mutex<Vec<(TcpStream, TcpStream)>>,
}

impl Proxy {
    /// To port `server` of loopback.
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

    /// Arms the scissors for the next COMMIT.
    pub fn cut_next(&self, cut: Cut) {
        self.shared.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// Commits cut so far.
    pub fn cuts(&self) -> u32 {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// Cuts every connection there is.
    pub fn cut_all(&self) {
        for (client, server) in self.shared.connections.lock().unwrap().drain(..) {
            cut(&client, &server);
        }
    }

    /// Puts bytes into every connection, as if the server had sent them.
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
        let in_doubt = Arc::new(AtomicBool::new(false));
        for (upward, (from, into)) in [(true, to), (false, back)] {
            let (shared, in_doubt) = (Arc::clone(self), Arc::clone(&in_doubt));
            std::thread::spawn(move || shared.pump(from, into, upward, &in_doubt));
        }
        self.connections.lock().unwrap().push((client, server));
    }

    /// Carries one direction until either side ends.
    fn pump(&self, mut from: TcpStream, mut into: TcpStream, upward: bool, in_doubt: &AtomicBool) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = &buffer[..count];
            if upward && bytes.windows(6).any(|window| window == b"COMMIT") {
                let cut = self.cut.swap(Cut::Nothing as u8, Ordering::SeqCst);
                self.cuts.fetch_add(u32::from(cut != 0), Ordering::SeqCst);
                if cut == Cut::BeforeCommit as u8 {
                    break;
                }
                in_doubt.store(cut == Cut::AnswerOfCommit as u8, Ordering::SeqCst);
            }
            if !upward && in_doubt.load(Ordering::SeqCst) {
                break; // The server has answered; nobody will hear it.
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

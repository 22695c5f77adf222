//! A long line to a broker that keeps to a small window.
//!
//! Every packet arrives a fixed while after it was sent. At the broker's end of the line no more than a few messages of QoS 1 are
//! under way to the client; further ones wait in order, and everything else that the broker says overtakes them. (Mosquitto
//! 2.0.11 itself does not keep to its `max_inflight_messages` once it has a backlog.)

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;

/// Called for each PUBACK as soon as the client has sent it.
pub type OnPuback = Arc<dyn Fn() + Send + Sync>;

/// A packet with the moment at which it arrives.
type UnderWay = (Instant, Vec<u8>);

/// A line on loopback; its threads end with their connections.
pub struct SlowLine {
    port: u16,
}

impl SlowLine {
    /// Leads to the broker on port `server` of loopback; a packet takes `one_way`, and `window` messages may be under way.
    pub fn start(server: u16, one_way: Duration, window: usize) -> Self {
        Self::start_watched(server, one_way, window, Arc::new(|| {}))
    }

    /// The same, watched at the client's end.
    pub fn start_watched(server: u16, one_way: Duration, window: usize, on_puback: OnPuback) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                    connect(&client, &server, one_way, window, &on_puback);
                }
            }
        });
        Self { port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// What the broker has for the client.
struct Session {
    to_client: Sender<UnderWay>,
    one_way: Duration,
    window: usize,
    under_way: usize,
    waiting: VecDeque<Vec<u8>>,
}

impl Session {
    fn send(&mut self, packet: Vec<u8>) {
        let counts = packet[0] >> 4 == PUBLISH && packet[0] & 0x06 != 0;
        if counts && self.under_way >= self.window {
            return self.waiting.push_back(packet);
        }
        self.under_way += usize::from(counts);
        // A client that has left needs nothing more.
        let _left = self.to_client.send((Instant::now() + self.one_way, packet));
    }

    fn acknowledged(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(packet) = self.waiting.pop_front() {
            self.send(packet);
        }
    }
}

fn connect(client: &TcpStream, server: &TcpStream, one_way: Duration, window: usize, on_puback: &OnPuback) {
    let copy = |stream: &TcpStream| stream.try_clone().unwrap();
    let (to_client, arriving) = channel();
    let (to_server, rising) = channel();
    let session = Session { to_client, one_way, window, under_way: 0, waiting: VecDeque::new() };
    let session = Arc::new(Mutex::new(session));
    let into = copy(client);
    std::thread::spawn(move || deliver(into, &arriving, |_| {}));
    let (into, acknowledged) = (copy(server), Arc::clone(&session));
    std::thread::spawn(move || {
        deliver(into, &rising, |packet| {
            if packet[0] >> 4 == PUBACK {
                acknowledged.lock().unwrap().acknowledged();
            }
        });
    });
    let (from, on_puback) = (copy(client), Arc::clone(on_puback));
    std::thread::spawn(move || {
        read_packets(from, |packet| {
            if packet[0] >> 4 == PUBACK {
                on_puback();
            }
            let _left = to_server.send((Instant::now() + one_way, packet));
        })
    });
    let from = copy(server);
    std::thread::spawn(move || read_packets(from, |packet| session.lock().unwrap().send(packet)));
}

fn deliver(mut into: TcpStream, under_way: &Receiver<UnderWay>, mut on_arrival: impl FnMut(&[u8])) {
    while let Ok((due, packet)) = under_way.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        on_arrival(&packet);
        if into.write_all(&packet).is_err() {
            break;
        }
    }
    // Either side may be gone already.
    let _closed = into.shutdown(Shutdown::Both);
}

/// Until the connection ends.
fn read_packets(mut from: TcpStream, mut on_packet: impl FnMut(Vec<u8>)) {
    while let Ok(packet) = read_packet(&mut from) {
        on_packet(packet);
    }
}

fn read_packet(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0];
    from.read_exact(&mut packet)?;
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        packet.push(byte[0]);
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let head = packet.len();
    packet.resize(head + length, 0);
    from.read_exact(&mut packet[head..])?;
    Ok(packet)
}

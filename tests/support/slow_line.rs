//! A slow line to a broker with a small window.
//!
//! Every packet arrives a fixed time after it was sent. At most a few QoS 1 messages are in flight to the client; further ones wait
//! in order, and all other packets of the broker overtake them. (Mosquitto 2.0.11 exceeds its own `max_inflight_messages` once it
//! has a backlog.)

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

/// A packet with its time of arrival.
type InFlight = (Instant, Vec<u8>);

/// A line on loopback; its threads end with their connections.
pub struct SlowLine {
    port: u16,
}

impl SlowLine {
    /// Forwards to the broker on port `server`; a packet takes `one_way`, and `window` messages may be in flight.
    pub fn start(server: u16, one_way: Duration, window: usize) -> Self {
        Self::start_watched(server, one_way, window, Arc::new(|| {}))
    }

    /// Like [`SlowLine::start`]; calls `on_puback` for each PUBACK, at the client's end of the line.
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

/// Messages from the broker to the client.
struct Session {
    to_client: Sender<InFlight>,
    one_way: Duration,
    window: usize,
    in_flight: usize,
    waiting: VecDeque<Vec<u8>>,
}

impl Session {
    fn send(&mut self, packet: Vec<u8>) {
        let counts = packet[0] >> 4 == PUBLISH && packet[0] & 0x06 != 0;
        if counts && self.in_flight >= self.window {
            return self.waiting.push_back(packet);
        }
        self.in_flight += usize::from(counts);
        // The client may have closed its connection.
        let _left = self.to_client.send((Instant::now() + self.one_way, packet));
    }

    fn acknowledged(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(packet) = self.waiting.pop_front() {
            self.send(packet);
        }
    }
}

fn connect(client: &TcpStream, server: &TcpStream, one_way: Duration, window: usize, on_puback: &OnPuback) {
    let copy = |stream: &TcpStream| stream.try_clone().unwrap();
    let (to_client, arriving) = channel();
    let (to_server, to_broker) = channel();
    let session = Session { to_client, one_way, window, in_flight: 0, waiting: VecDeque::new() };
    let session = Arc::new(Mutex::new(session));
    let into = copy(client);
    std::thread::spawn(move || deliver(into, &arriving, |_| {}));
    let (into, acknowledged) = (copy(server), Arc::clone(&session));
    std::thread::spawn(move || {
        deliver(into, &to_broker, |packet| {
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

fn deliver(mut into: TcpStream, in_flight: &Receiver<InFlight>, mut on_arrival: impl FnMut(&[u8])) {
    while let Ok((due, packet)) = in_flight.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        on_arrival(&packet);
        if into.write_all(&packet).is_err() {
            break;
        }
    }
    // Either side may have closed already.
    let _closed = into.shutdown(Shutdown::Both);
}

/// Reads packets until the connection ends.
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

//! A scripted broker: answers each packet as the test's script says, and records what it received. It has no sessions.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A packet from the client: its first byte, and the bytes after its length.
#[derive(Debug, Clone)]
pub struct Packet {
    pub head: u8,
    pub body: Vec<u8>,
    pub at: Instant,
    /// Number of its connection, from 0.
    pub connection: usize,
}

impl Packet {
    pub fn is_connect(&self) -> bool {
        self.head >> 4 == 1
    }

    pub fn is_publish(&self) -> bool {
        self.head >> 4 == 3
    }

    /// Returns the packet id of a PUBLISH with QoS 1 or 2.
    pub fn packet_id(&self) -> [u8; 2] {
        let topic_bytes = usize::from(u16::from_be_bytes([self.body[0], self.body[1]]));
        [self.body[2 + topic_bytes], self.body[3 + topic_bytes]]
    }

    pub fn is_subscribe(&self) -> bool {
        self.head >> 4 == 8
    }

    pub fn is_puback(&self) -> bool {
        self.head >> 4 == 4
    }

    pub fn is_disconnect(&self) -> bool {
        self.head >> 4 == 14
    }

    /// True for an UNSUBSCRIBE of `filter`.
    pub fn ends(&self, filter: &str) -> bool {
        self.head >> 4 == 10 && self.body.ends_with(filter.as_bytes())
    }

    /// Returns the protocol level of a CONNECT: 5, or 4 for 3.1.1.
    pub fn protocol_level(&self) -> u8 {
        self.body[6]
    }

    /// Returns the raw properties of a CONNECT of version 5.
    pub fn connect_properties(&self) -> &[u8] {
        let length = usize::from(self.body[10]);
        &self.body[11..11 + length]
    }
}

/// What to do with a packet.
pub enum Answer {
    /// Send these bytes (none: stay silent).
    Send(Vec<u8>),
    /// Send these bytes and close the connection.
    SendAndClose(Vec<u8>),
    /// Send these bytes, wait shortly for the next ones, and close without reading them: the client's next write fails.
    SendAndReset(Vec<u8>),
}

/// The broker; stops when dropped.
pub struct ScriptedBroker {
    port: u16,
    packets: Arc<Mutex<Vec<Packet>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedBroker {
    /// Starts it. `script` answers each packet; connections are served one after the other.
    pub fn start(script: impl FnMut(&Packet) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (packets, stopping) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (packets, stopping) = (Arc::clone(&packets), Arc::clone(&stopping));
            move || serve(&listener, script, &packets, &stopping)
        });
        Self { port, packets, stopping, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns everything received so far.
    pub fn packets(&self) -> Vec<Packet> {
        self.packets.lock().unwrap().clone()
    }

    pub fn connects(&self) -> Vec<Packet> {
        self.packets().into_iter().filter(Packet::is_connect).collect()
    }
}

impl Drop for ScriptedBroker {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(
    listener: &TcpListener,
    mut script: impl FnMut(&Packet) -> Answer,
    packets: &Mutex<Vec<Packet>>,
    stopping: &AtomicBool,
) {
    let mut connection = 0;
    while !stopping.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => {
                // The client may close at any time.
                let _closed = serve_client(stream, connection, &mut script, packets, stopping);
                connection += 1;
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn serve_client(
    mut stream: TcpStream,
    connection: usize,
    script: &mut impl FnMut(&Packet) -> Answer,
    packets: &Mutex<Vec<Packet>>,
    stopping: &AtomicBool,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    while let Some((head, body)) = read_packet(&mut stream, stopping)? {
        let packet = Packet { head, body, at: Instant::now(), connection };
        packets.lock().unwrap().push(packet.clone());
        match script(&packet) {
            Answer::Send(bytes) => stream.write_all(&bytes)?,
            Answer::SendAndClose(bytes) => return stream.write_all(&bytes),
            Answer::SendAndReset(bytes) => {
                stream.write_all(&bytes)?;
                return stream.peek(&mut [0]).map(|_| ());
            }
        }
    }
    Ok(())
}

/// Returns `None` when the broker stops or the client has closed.
fn read_packet(stream: &mut TcpStream, stopping: &AtomicBool) -> io::Result<Option<(u8, Vec<u8>)>> {
    let Some(head) = read_byte(stream, stopping)? else { return Ok(None) };
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let Some(byte) = read_byte(stream, stopping)? else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = Vec::with_capacity(length);
    while body.len() < length {
        let Some(byte) = read_byte(stream, stopping)? else { return Ok(None) };
        body.push(byte);
    }
    Ok(Some((head, body)))
}

fn read_byte(stream: &mut TcpStream, stopping: &AtomicBool) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if stopping.load(Ordering::SeqCst) {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Returns MQTT 5 properties with a reason string only.
fn reason_string(reason: &str) -> Vec<u8> {
    let length = u16::try_from(reason.len()).unwrap();
    let mut properties = vec![u8::try_from(reason.len() + 3).unwrap(), 0x1f];
    properties.extend(length.to_be_bytes());
    properties.extend(reason.as_bytes());
    properties
}

fn packet(head: u8, body: Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![head, u8::try_from(body.len()).unwrap()];
    bytes.extend(body);
    bytes
}

/// CONNACK of version 5.
pub fn connack_5(code: u8, reason: &str) -> Vec<u8> {
    packet(0x20, [vec![0, code], reason_string(reason)].concat())
}

/// CONNACK of version 3.1.1.
pub fn connack_4(code: u8) -> Vec<u8> {
    packet(0x20, vec![0, code])
}

/// SUBACK of version 5 to the SUBSCRIBE, for one filter.
pub fn suback_5(subscribe: &Packet, code: u8, reason: &str) -> Vec<u8> {
    let id = &subscribe.body[..2];
    packet(0x90, [id.to_vec(), reason_string(reason), vec![code]].concat())
}

/// CONNACK of version 5 of a broker that still has the session.
pub fn connack_5_session_present() -> Vec<u8> {
    packet(0x20, vec![1, 0, 0])
}

/// UNSUBACK of version 5 to the UNSUBSCRIBE, for one filter.
pub fn unsuback_5(unsubscribe: &Packet, code: u8, reason: &str) -> Vec<u8> {
    packet(0xb0, [unsubscribe.body[..2].to_vec(), reason_string(reason), vec![code]].concat())
}

/// SUBACK of version 3.1.1 to the SUBSCRIBE, for one filter.
pub fn suback_4(subscribe: &Packet, code: u8) -> Vec<u8> {
    packet(0x90, [&subscribe.body[..2], &[code]].concat())
}

/// PUBACK of either version.
pub fn puback(publish: &Packet) -> Vec<u8> {
    packet(0x40, publish.packet_id().to_vec())
}

/// PUBLISH with QoS 1 of version 5, or of 3.1.1.
pub fn publish(v5: bool, topic: &str, payload: &str, id: u16) -> Vec<u8> {
    publish_bytes(v5, 1, topic.as_bytes(), payload.as_bytes(), id)
}

/// PUBLISH with any QoS, and any bytes for a topic.
pub fn publish_bytes(v5: bool, qos: u8, topic: &[u8], payload: &[u8], id: u16) -> Vec<u8> {
    let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
    let no_properties: &[u8] = if v5 { &[0] } else { &[] };
    let id = id.to_be_bytes();
    let id: &[u8] = if qos == 0 { &[] } else { &id };
    packet(0x30 | qos << 1, [&length, topic, id, no_properties, payload].concat())
}

/// PUBREL of either version.
pub fn pubrel(pubrec: &Packet) -> Vec<u8> {
    packet(0x62, pubrec.body[..2].to_vec())
}

/// DISCONNECT of version 5.
pub fn disconnect_5(code: u8, reason: &str) -> Vec<u8> {
    packet(0xe0, [vec![code], reason_string(reason)].concat())
}

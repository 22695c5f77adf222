//! An HTTP client with one request a connection, over plain TCP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any answer takes.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// An HTTP response.
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }
}

/// The address of a server, the client's own, and the headers of each request.
#[derive(Clone)]
pub struct Client {
    address: String,
    source: Ipv4Addr,
    pub headers: Vec<String>,
}

impl Client {
    /// Makes a client for the server at `http://address`.
    pub fn new(url: &str) -> Self {
        Self {
            address: url.strip_prefix("http://").unwrap().to_owned(),
            source: Ipv4Addr::LOCALHOST,
            headers: Vec::new(),
        }
    }

    /// Returns the same client at 127.0.0.`number`.
    pub fn at(&self, number: u8) -> Self {
        Self { source: Ipv4Addr::new(127, 0, 0, number), ..self.clone() }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn with(&self, header: &str) -> Self {
        let mut client = self.clone();
        client.headers.push(header.to_owned());
        client
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "")
    }

    /// Returns the JSON of a response with status 200.
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    pub fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut connection = self.open();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !self.headers.iter().any(|header| header.starts_with("Host:")) {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        self.headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
        if !body.is_empty() {
            head.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        connection.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        read_answer(connection)
    }

    /// Opens a connection and sends nothing.
    pub fn open(&self) -> TcpStream {
        let connection = if self.source == Ipv4Addr::LOCALHOST {
            TcpStream::connect(&self.address).unwrap()
        } else {
            self.connect_from_source().unwrap()
        };
        connection.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        connection
    }

    fn connect_from_source(&self) -> std::io::Result<TcpStream> {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let server: SocketAddr = self.address.parse().map_err(std::io::Error::other)?;
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddr::from((self.source, 0)))?;
        connect(&socket, &server)?;
        Ok(socket.into())
    }

    /// Returns the lines of an event stream as they come, headers first.
    pub fn stream(&self, path: &str) -> impl Iterator<Item = String> + use<> {
        let mut connection = self.open();
        let headers: String = self.headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address);
        connection.write_all(head.as_bytes()).unwrap();
        BufReader::new(connection).lines().map_while(Result::ok)
    }
}

fn read_answer(connection: TcpStream) -> Answer {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {line:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: String::new() };
    let body = match answer.header("transfer-encoding") {
        Some("chunked") => read_chunks(&mut reader),
        _ => {
            let mut body = Vec::new();
            reader.read_to_end(&mut body).unwrap();
            body
        }
    };
    answer.body = String::from_utf8(body).unwrap();
    answer
}

fn read_chunks(reader: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("cut off: {line:?}"));
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

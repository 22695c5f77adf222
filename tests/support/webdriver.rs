//! A real browser: Debian's chromium, driven through chromedriver by the W3C WebDriver protocol.
//!
//! A client of our own: the protocol is a handful of JSON requests over loopback, and the crates for it bring a whole HTTP stack.
//! A lock file allows one browser at a time over all test processes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::poll::WAIT_MAX;

/// Limit for one answer of the driver, such as a page that loads on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A name of this computer that the browser treats like any host of a plant's network: without TLS it is no secure context,
/// so requests come without `Sec-Fetch-Site`.
pub const PLANT_HOST: &str = "andon.plant.test";

/// A browser with a profile of its own; stopped and removed when dropped.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
    _only_one: File,
}

impl Browser {
    /// Starts a headless browser that shows nothing yet.
    pub fn start() -> Self {
        let only_one = File::create(std::env::temp_dir().join("andon-test-browser.lock")).unwrap();
        only_one.lock().unwrap();
        let profile = tempfile::Builder::new().prefix("andon-browser-").tempdir().unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            // Keeps caches and crash reports in the profile.
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed (scripts/setup.sh test)");
        let mut browser =
            Self { driver, port, session: String::new(), _profile: profile, _only_one: only_one };
        browser.wait_for_driver();
        browser.open_session();
        // Drops the requests of its first page.
        browser.open("about:blank");
        browser.requested();
        browser
    }

    fn wait_for_driver(&self) {
        let deadline = Instant::now() + WAIT_MAX;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "chromedriver does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn open_session(&mut self) {
        let profile = self._profile.path().join("profile");
        let arguments = [
            "--headless=new".to_owned(),
            // Its sandbox does not work as root, and it loads our pages only.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--host-resolver-rules=MAP {PLANT_HOST} 127.0.0.1"),
            format!("--user-data-dir={}", profile.display()),
        ];
        let options =
            json!({ "args": arguments, "perfLoggingPrefs": { "enableNetwork": true, "enablePage": false } });
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let answer = self.request("POST", "/session", &capabilities);
        self.session = answer["sessionId"].as_str().expect("a session").to_owned();
    }

    /// Loads a page and waits for its `load` event.
    pub fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({ "url": url }));
    }

    /// Runs `script` at the beginning of every page from now on, before the page's own scripts.
    pub fn before_each_page(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script }));
    }

    /// Runs `script`, the body of an asynchronous function, and returns its value.
    pub fn run(&self, script: &str) -> Value {
        let script = format!("return (async () => {{ {script}\n }})()");
        self.command("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs `script` and returns its value as text.
    pub fn text(&self, script: &str) -> String {
        let value = self.run(script);
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// Runs `script` and returns its number.
    pub fn number(&self, script: &str) -> f64 {
        let value = self.run(script);
        value.as_f64().unwrap_or_else(|| panic!("{script} returned {value}"))
    }

    /// Waits until the expression is true.
    pub fn wait_for(&self, expression: &str) {
        let deadline = Instant::now() + WAIT_MAX;
        while self.run(&format!("return Boolean({expression})")) != json!(true) {
            if Instant::now() > deadline {
                let page =
                    self.text("return document.documentElement.dataset.link + ' ' + document.body.innerText");
                let log = self.console();
                panic!("still not true: {expression}\nthe page: {page}\nthe console: {log:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sets the size of the page, in CSS pixels.
    pub fn resize(&self, width: u32, height: u32) {
        let parameters =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", &parameters);
    }

    /// Sets the colour scheme that pages see: `dark` or `light`.
    pub fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Returns a screenshot of the page, as PNG.
    pub fn picture(&self) -> Vec<u8> {
        let answer = self.devtools("Page.captureScreenshot", &json!({ "format": "png" }));
        openssl::base64::decode_block(answer["data"].as_str().expect("a picture")).expect("base64")
    }

    /// Types into the element that has the focus.
    pub fn type_keys(&self, keys: &str) {
        let presses = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        });
        let actions = json!([{ "type": "key", "id": "keyboard", "actions": presses.collect::<Vec<_>>() }]);
        self.command("POST", "/actions", &json!({ "actions": actions }));
    }

    /// Sends a command of the browser's own protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Returns what pages wrote to the console since the last call, refused contents included.
    pub fn console(&self) -> Vec<String> {
        let entries = self.command("POST", "/se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().filter_map(|entry| entry["message"].as_str().map(str::to_owned)).collect()
    }

    /// Returns the addresses requested since the last call.
    pub fn requested(&self) -> Vec<String> {
        let entries = self.command("POST", "/se/log", &json!({ "type": "performance" }));
        let entries = entries.as_array().cloned().unwrap_or_default();
        let messages = entries.iter().filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let is_request = message["message"]["method"] == "Network.requestWillBeSent";
            let url = message["message"]["params"]["request"]["url"].as_str()?.to_owned();
            is_request.then_some(url)
        });
        messages.collect()
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.request(method, &format!("/session/{}{path}", self.session), body)
    }

    /// Sends one request; panics with the driver's message if it fails.
    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).expect("chromedriver listens");
        connection.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        write!(
            connection,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .expect("chromedriver listens");
        let (head, body) = read_answer(&mut connection);
        let value: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{head}\n{body}"));
        let value = value["value"].clone();
        assert!(value["error"].is_null(), "{method} {path}: {} {}", value["error"], value["message"]);
        value
    }
}

/// Returns head and body. The driver sends the body's length and may keep the connection open.
fn read_answer(connection: &mut TcpStream) -> (String, String) {
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(
            reader.read_line(&mut head).expect("chromedriver answers") > 0,
            "chromedriver hung up: {head}"
        );
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.expect("the length of the body")];
    reader.read_exact(&mut body).expect("chromedriver answers");
    (head, String::from_utf8(body).expect("JSON is UTF-8"))
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.command("DELETE", "", &json!({}));
        } else if let Ok(mut connection) = TcpStream::connect(("127.0.0.1", self.port)) {
            // The driver ends its browser.
            let _best_effort = write!(
                connection,
                "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                self.session
            );
            connection.set_read_timeout(Some(Duration::from_secs(5))).ok();
            let _answered = connection.read(&mut [0; 64]);
        }
        // It may have ended by itself. That is fine.
        let _ended = self.driver.kill();
        let _reaped = self.driver.wait();
    }
}

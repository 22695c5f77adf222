//! TLS of the HTTP listener, with certificates that the tests make.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslStream, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use crate::support::andon::{Andon, Site};
use crate::support::certificates::{Files, Identity, Valid};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;

const TOKEN: &str = "a-token-of-the-plant";

/// A client that trusts one authority.
struct TlsClient<'a> {
    address: String,
    authority: &'a Identity,
    certificate: Option<&'a Files>,
    version: Option<SslVersion>,
}

impl<'a> TlsClient<'a> {
    fn new(andon: &mut Andon, authority: &'a Identity) -> Self {
        andon.wait_for_log("url: https://");
        let log = andon.log();
        let address = log.rsplit("url: https://").next().unwrap().split('/').next().unwrap().to_owned();
        Self { address, authority, certificate: None, version: None }
    }

    fn connect(&self) -> Result<SslStream<TcpStream>, String> {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        let mut store = X509StoreBuilder::new().unwrap();
        store.add_cert(self.authority.x509().clone()).unwrap();
        builder.set_verify_cert_store(store.build()).unwrap();
        if let Some(files) = self.certificate {
            builder.set_certificate_file(&files.certificate, SslFiletype::PEM).unwrap();
            builder.set_private_key_file(&files.key, SslFiletype::PEM).unwrap();
        }
        if let Some(version) = self.version {
            builder.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
            builder.set_min_proto_version(None).unwrap();
            builder.set_max_proto_version(Some(version)).unwrap();
        }
        let stream = TcpStream::connect(&self.address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        builder.build().connect("127.0.0.1", stream).map_err(|error| error.to_string())
    }

    /// Asks with the token; returns the whole response.
    fn get(&self, path: &str) -> Result<String, String> {
        let mut stream = self.connect()?;
        let head = format!("GET {path} HTTP/1.0\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        let mut text = String::new();
        let asked = stream.write_all(head.as_bytes()).and_then(|()| stream.read_to_string(&mut text));
        asked.map(|_| text).map_err(|error| error.to_string())
    }

    fn shown_certificate(&self) -> X509 {
        self.connect().unwrap().ssl().peer_certificate().unwrap()
    }
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn site_with(port: u16, files: &Files) -> Site {
    Site::new(port)
        .set(&format!("http.token={TOKEN}"))
        .set(&format!("http.tls.cert_file={}", files.certificate()))
        .set(&format!("http.tls.key_file={}", files.key()))
}

/// Puts a pair in the place of another, each file at once.
fn replace(files: &Files, identity: &Identity, directory: &Path) {
    let new = identity.write(directory, "new");
    std::fs::rename(&new.key, &files.key).unwrap();
    std::fs::rename(&new.certificate, &files.certificate).unwrap();
}

#[test]
fn clients_with_the_authority_are_answered_over_tls_and_others_break_off() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, other) = (Identity::authority("plant"), Identity::authority("other"));
    let files = authority.issue("127.0.0.1", Valid::Days(90)).write(directory.path(), "http");
    let broker = Mosquitto::start("");
    let site = site_with(broker.port(), &files);
    let mut andon = site.run();
    andon.wait_until_connected();
    let client = TlsClient::new(&mut andon, &authority);
    let answer = client.get("/api/v1/status").unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("strict-transport-security: max-age=31536000\r\n"), "{answer}");
    let cookie = client.get(&format!("/?token={TOKEN}")).unwrap();
    assert!(
        cookie.lines().any(|line| line.starts_with("set-cookie:") && line.contains("; Secure")),
        "{cookie}"
    );
    let wrong = TlsClient { authority: &other, ..TlsClient::new(&mut andon, &authority) };
    assert!(wrong.get("/livez").unwrap_err().contains("certificate verify failed"));
    for version in [SslVersion::TLS1, SslVersion::TLS1_1] {
        let old = TlsClient { version: Some(version), ..TlsClient::new(&mut andon, &authority) };
        assert!(old.get("/livez").is_err(), "{version:?}");
    }
    let newer = TlsClient { version: Some(SslVersion::TLS1_2), ..TlsClient::new(&mut andon, &authority) };
    assert!(newer.get("/livez").is_ok());
    // Plain HTTP gets a word, not a hang.
    let mut plain = TcpStream::connect(&client.address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut text = String::new();
    plain.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 400") && text.ends_with("use https:// in the address.\n"), "{text}");
    let metrics = client.get("/metrics").unwrap();
    let not_after = metrics.lines().find_map(|line| line.strip_prefix("andon_http_tls_not_after_seconds "));
    assert!(not_after.is_some_and(|at| at.parse::<f64>().unwrap() > 1.7e9), "{metrics}");
    assert!(!andon.log().contains("expires soon"), "90 days are long");
    // The commands trust exactly this certificate.
    let command = site.set(&format!("http.bind={}", client.address));
    let output = command.command(&["health"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stranger = other.issue("127.0.0.1", Valid::Days(90)).write(directory.path(), "stranger");
    let command = command
        .set(&format!("http.tls.cert_file={}", stranger.certificate()))
        .set(&format!("http.tls.key_file={}", stranger.key()));
    let output = command.command(&["health"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("another certificate than"), "{said}");
}

#[test]
fn with_client_ca_file_only_clients_with_its_certificates_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, clients) = (Identity::authority("plant"), Identity::authority("clients"));
    let files = authority.issue("127.0.0.1", Valid::Days(90)).write(directory.path(), "http");
    let clients_ca = clients.write(directory.path(), "clients");
    let good = clients.issue("board", Valid::Days(9)).write(directory.path(), "good");
    let foreign = authority.issue("board", Valid::Days(9)).write(directory.path(), "foreign");
    let expired = clients.issue("board", Valid::Expired).write(directory.path(), "expired");
    let broker = Mosquitto::start("");
    let site = site_with(broker.port(), &files)
        .set(&format!("http.tls.client_ca_file={}", clients_ca.certificate()));
    let mut andon = site.run();
    let client = TlsClient::new(&mut andon, &authority);
    for certificate in [None, Some(&foreign), Some(&expired)] {
        let refused = TlsClient { certificate, ..TlsClient::new(&mut andon, &authority) };
        let answer = refused.get("/livez");
        assert!(answer.is_err(), "{answer:?}");
    }
    let admitted = TlsClient { certificate: Some(&good), ..client };
    assert!(admitted.get("/livez").is_ok_and(|text| text.contains(" 200 ") || text.contains(" 503 ")));
    let metrics = admitted.get("/metrics").unwrap();
    assert!(metrics.contains("\nandon_http_tls_handshakes_failed_total 3\n"), "{metrics}");
    let output = site.command(&["health"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("http.health_bind"), "{said}");
}

#[test]
fn a_certificate_is_replaced_under_load_and_a_half_written_pair_changes_nothing() {
    const AGAIN: &str = "read the certificate of HTTP again";
    let directory = tempfile::tempdir().unwrap();
    let authority = Identity::authority("plant");
    let [first, second, third] = [90, 91, 92].map(|days| authority.issue("127.0.0.1", Valid::Days(days)));
    let files = first.write(directory.path(), "http");
    let broker = Mosquitto::start("");
    let site = site_with(broker.port(), &files);
    let mut andon = site.run();
    let client = TlsClient::new(&mut andon, &authority);
    let shows = |identity: &Identity| {
        client.shown_certificate().to_der().unwrap() == identity.x509().to_der().unwrap()
    };
    assert!(shows(&first));
    let over = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut asked = 0_u32;
            while !over.load(Ordering::Relaxed) {
                client.get("/livez").unwrap_or_else(|error| panic!("request {asked}: {error}"));
                asked += 1;
            }
            asked
        });
        // Ends the load also when an assertion below fails.
        let end = SetWhenDropped(&over);
        replace(&files, &second, directory.path());
        andon.signal("HUP");
        wait_until("the second certificate", || shows(&second));
        // The new certificate with the old key: as between two writes.
        let new = third.write(directory.path(), "third");
        std::fs::rename(&new.certificate, &files.certificate).unwrap();
        andon.wait_for_log("the certificate of HTTP cannot be used: keeping the one in use");
        assert!(shows(&second) && andon.log().contains("does not belong to the certificate"));
        std::fs::rename(&new.key, &files.key).unwrap();
        wait_until("the third certificate, without a signal", || shows(&third));
        drop(end);
        load.join().unwrap()
    });
    assert!(asked > 10, "{asked}");
    let log = andon.log();
    let said = |text: &str| log.matches(text).count();
    assert_eq!((said(AGAIN), said("cannot be used: keeping")), (2, 1), "{log}");
}

#[test]
fn files_that_do_not_go_together_end_the_start_and_an_end_that_is_near_is_warned_about() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Identity::authority("plant");
    let soon = authority.issue("127.0.0.1", Valid::Days(10)).write(directory.path(), "soon");
    let expired = authority.issue("127.0.0.1", Valid::Expired).write(directory.path(), "expired");
    let encrypted = authority.issue("127.0.0.1", Valid::Days(90));
    let encrypted = encrypted.write_encrypted(directory.path(), "encrypted", "secret");
    let broker = Mosquitto::start("");
    for (certificate, key, expected) in [
        (&soon.certificate, &expired.key, "does not belong to the certificate in"),
        (&soon.key, &soon.key, "has no certificate in PEM format"),
        (&soon.certificate, &soon.certificate, "has no private key in PEM format"),
        (&encrypted.certificate, &encrypted.key, "without a passphrase"),
    ] {
        let files = Files { certificate: certificate.clone(), key: key.clone() };
        let site = site_with(broker.port(), &files);
        let mut andon = site.run();
        assert_eq!(andon.wait().code(), Some(2), "{expected}: {}", andon.log());
        assert!(andon.log().contains(expected), "{expected}: {}", andon.log());
    }
    for (files, expected) in
        [(soon, "the certificate of HTTP expires soon"), (expired, "has expired: clients refuse it")]
    {
        let site = site_with(broker.port(), &files);
        let mut andon = site.run();
        andon.wait_for_log("url: https://");
        assert_eq!(andon.log().matches(expected).count(), 1, "{}", andon.log());
    }
}

#[test]
fn a_handshake_that_stalls_ends_and_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Identity::authority("plant");
    let files = authority.issue("127.0.0.1", Valid::Days(90)).write(directory.path(), "http");
    let broker = Mosquitto::start("");
    let site = site_with(broker.port(), &files).set("http.connections_per_address=8");
    let mut andon = site.run();
    let client = TlsClient::new(&mut andon, &authority);
    let mut stalled: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(&client.address).unwrap()).collect();
    for stream in &mut stalled {
        // The first byte of a record, and no more. Those that made room already are reset.
        let _may_be_closed = stream.write_all(&[0x16]);
    }
    assert!(client.get("/livez").is_ok(), "stalled handshakes give way");
    let begin = Instant::now();
    for mut stream in stalled {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert!(!matches!(stream.read(&mut [0; 64]), Ok(1..)), "nothing is said");
    }
    assert!(begin.elapsed() < Duration::from_secs(25), "they end by themselves");
}

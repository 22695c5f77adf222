//! TLS with real brokers, and with certificates that the tests make. Each failure is reported with its reason.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;

use openssl::ssl::{AlpnError, SslAcceptor, SslConnector, SslMethod, SslVerifyMode, SslVersion};
use tempfile::TempDir;

use crate::support::andon::Site;
use crate::support::certificates::{Files, Identity, Valid};
use crate::support::database::rows_stored;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::proxy::Proxy;
use crate::support::publisher;

const TOPIC: &str = "factory/machine/{machine}/telemetry";
pub const MONTHS: Valid = Valid::Days(90);

/// A plant with its authority, and a directory for files.
pub struct Plant {
    authority: Identity,
    files: Files,
    home: TempDir,
}

impl Plant {
    pub fn new() -> Self {
        Self::of(Identity::authority("Plant CA"))
    }

    fn of(authority: Identity) -> Self {
        let home = tempfile::tempdir().unwrap();
        let files = authority.write(home.path(), "ca");
        Self { authority, files, home }
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    /// A broker with a TLS listener whose certificate is for `host`, and a plain one for the tests' publishers.
    pub fn broker(&self, host: &str, valid: Valid, extra: &str) -> Mosquitto {
        let files = self.authority.issue(host, valid).write(self.home(), "broker");
        Mosquitto::start_with_listener("127.0.0.1", &self.listener(&files, extra))
    }

    fn listener(&self, broker: &Files, extra: &str) -> String {
        let ca = self.files.certificate();
        format!("cafile {ca}\ncertfile {}\nkeyfile {}\n{extra}", broker.certificate(), broker.key())
    }

    /// A site that trusts the plant's authority.
    pub fn site(&self, broker: &Mosquitto) -> Site {
        Site::new(broker.second_port())
            .set("mqtt.transport=tls")
            .set("mqtt.host=localhost")
            .set(&format!("mqtt.tls.ca_file={}", self.files.certificate()))
    }
}

fn with_identity(site: Site, files: &Files) -> Site {
    site.set(&format!("mqtt.tls.cert_file={}", files.certificate()))
        .set(&format!("mqtt.tls.key_file={}", files.key()))
}

/// Stores some readings that are published at the broker's plain listener.
fn stores(site: &Site, broker: &Mosquitto) {
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 2, 0..20, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 20);
    assert!(andon.stop().success());
}

/// Asserts that Andon logs `reason` with the failed connection, and that `/readyz` shows it.
fn is_refused(site: &Site, reason: &str) {
    let mut andon = site.run();
    andon.wait_for_log(reason);
    let log = andon.log();
    let complaint = log.lines().find(|line| line.contains(reason)).unwrap();
    assert!(complaint.contains("no connection to the broker"), "{complaint}");
    assert!(!log.contains("connected to the broker"), "{log}");
    let client = Client::new(&andon.wait_for_http());
    wait_until("the reason in /readyz", || {
        let answer = client.get("/readyz");
        answer.status == 503 && answer.body.replace(r#"\""#, "\"").contains(reason)
    });
    assert!(andon.is_running());
    assert!(andon.stop().success());
}

#[test]
fn readings_come_through_every_transport_in_both_protocols() {
    let plant = Plant::new();
    for (transport, extra) in [("tls", ""), ("wss", "protocol websockets"), ("ws", "protocol websockets")] {
        for protocol in ["5", "3.1.1"] {
            let (broker, site) = if transport == "ws" {
                let broker = Mosquitto::start_with_listener("127.0.0.1", extra);
                let site = Site::new(broker.second_port());
                (broker, site)
            } else {
                let broker = plant.broker("localhost", MONTHS, extra);
                let site = plant.site(&broker);
                (broker, site)
            };
            let site =
                site.set(&format!("mqtt.transport={transport}")).set(&format!("mqtt.protocol={protocol}"));
            stores(&site, &broker);
        }
    }
}

#[test]
fn an_ip_address_is_verified_like_a_name() {
    let plant = Plant::new();
    let broker = plant.broker("127.0.0.1", MONTHS, "");
    stores(&plant.site(&broker).set("mqtt.host=127.0.0.1"), &broker);
    is_refused(
        &plant.site(&broker),
        "the broker's certificate is for another host: wanted 'localhost', got '127.0.0.1'",
    );
    if TcpListener::bind(("::1", 0)).is_err() {
        // This machine has no IPv6.
        return;
    }
    let files = plant.authority.issue("::1", MONTHS).write(plant.home(), "six");
    let broker = Mosquitto::start_with_listener("::1", &plant.listener(&files, ""));
    stores(&plant.site(&broker).set("mqtt.host=::1"), &broker);
}

#[test]
fn a_brokers_certificate_that_is_refused_is_named_with_its_reason() {
    let plant = Plant::new();
    let other = Identity::authority("Other CA").write(plant.home(), "other");
    let broker = plant.broker("localhost", MONTHS, "");
    is_refused(
        &plant.site(&broker).set(&format!("mqtt.tls.ca_file={}", other.certificate())),
        "signed by an authority that is not trusted ('Plant CA'",
    );
    let without_ca = plant.site(&broker).set("mqtt.tls.ca_file=");
    is_refused(&without_ca, "signed by an authority that is not trusted ('Plant CA'");
    let broker = plant.broker("localhost", Valid::Expired, "");
    is_refused(&plant.site(&broker), "expired on Nov 14 22:13:20 2023 GMT ('localhost')");
    let broker = plant.broker("another.example", MONTHS, "");
    let wanted_and_got = "is for another host: wanted 'localhost', got 'another.example'";
    is_refused(&plant.site(&broker), wanted_and_got);
    let site = plant.site(&broker);
    is_refused(
        &site.set(&format!("mqtt.port={}", broker.port())),
        "is this a TLS port? see mqtt.port and mqtt.transport",
    );
}

#[test]
fn without_verification_there_is_a_connection_and_a_warning_at_every_start() {
    let plant = Plant::new();
    let broker = plant.broker("another.example", Valid::Expired, "");
    let site = plant.site(&broker).set("mqtt.tls.verify=false");
    for _start in 0..2 {
        let mut andon = site.run();
        andon.wait_until_connected();
        let log = andon.log();
        let warning = log.lines().find(|line| line.contains("mqtt.tls.verify = false")).unwrap();
        assert!(warning.contains("WARN") && warning.contains("pose as the broker"), "{warning}");
        assert!(andon.stop().success());
    }
}

#[test]
fn what_a_broker_says_about_andons_certificate_is_reported() {
    let plant = Plant::new();
    let home = plant.home();
    let revoked = plant.authority.issue("andon", MONTHS);
    let list = plant.authority.write_revocation_list(home, &revoked);
    let extra = format!("require_certificate true\ncrlfile {}", list.display());
    let broker = plant.broker("localhost", MONTHS, &extra);
    is_refused(&plant.site(&broker), "the broker requires a client certificate");
    let revoked = revoked.write(home, "revoked");
    is_refused(&with_identity(plant.site(&broker), &revoked), "says that Andon's certificate is revoked");
    let stranger = Identity::authority("Other CA").issue("andon", MONTHS).write(home, "stranger");
    is_refused(
        &with_identity(plant.site(&broker), &stranger),
        "does not know the authority that signed Andon's certificate",
    );
    let expired = plant.authority.issue("andon", Valid::Expired).write(home, "expired");
    is_refused(&with_identity(plant.site(&broker), &expired), "says that Andon's certificate has expired");
    let good = plant.authority.issue("andon", MONTHS).write(home, "good");
    stores(&with_identity(plant.site(&broker), &good), &broker);
}

#[test]
fn an_encrypted_key_is_opened_with_its_passphrase_and_named_without_it() {
    let plant = Plant::new();
    let broker = plant.broker("localhost", MONTHS, "require_certificate true");
    let files =
        plant.authority.issue("andon", MONTHS).write_encrypted(plant.home(), "andon", "open-sesame-5");
    let passphrase = plant.home().join("passphrase");
    std::fs::write(&passphrase, "open-sesame-5\n").unwrap();
    let site = with_identity(plant.site(&broker), &files);
    stores(&site.set(&format!("mqtt.tls.key_password_file={}", passphrase.display())), &broker);
    let site = with_identity(plant.site(&broker), &files);
    is_refused(&site, "it is encrypted; set mqtt.tls.key_password_file");
    let site = with_identity(plant.site(&broker), &files);
    is_refused(
        &site.set("mqtt.tls.key_password=wrong"),
        "its passphrase is wrong; see mqtt.tls.key_password",
    );
    let foreign = Files {
        certificate: files.certificate.clone(),
        key: Identity::authority("Other CA").write(plant.home(), "foreign").key,
    };
    is_refused(&with_identity(plant.site(&broker), &foreign), "it does not belong to mqtt.tls.cert_file");
}

#[test]
fn rotated_files_work_at_the_next_connect_without_a_restart() {
    let plant = Plant::new();
    let home = plant.home();
    let broker_files = plant.authority.issue("localhost", MONTHS).write(home, "broker");
    let broker_ca = plant.authority.write(home, "broker-ca");
    let listener = format!(
        "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true",
        broker_ca.certificate(),
        broker_files.certificate(),
        broker_files.key()
    );
    let mut broker = Mosquitto::start_with_listener("127.0.0.1", &listener);
    let own = plant.authority.issue("andon", MONTHS).write(home, "andon");
    let site = with_identity(plant.site(&broker), &own);
    let mut andon = site.run();
    andon.wait_until_connected();

    // A new authority signs new certificates. The broker starts with them, and refuses what the old authority signed.
    broker.stop();
    let successor = Identity::authority("Plant CA, the next");
    successor.write(home, "broker-ca");
    successor.issue("localhost", MONTHS).write(home, "broker");
    broker.restart();
    andon.wait_for_log("signed by an authority that is not trusted ('Plant CA, the next'");
    successor.write(home, "ca");
    andon.wait_for_log("does not know the authority that signed Andon's certificate");
    successor.issue("andon", MONTHS).write(home, "andon");
    wait_until("the second connection", || andon.connections() == 2);
    publisher::publish_numbered(broker.port(), TOPIC, 2, 0..20, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 20);
    assert!(andon.stop().success());
}

#[test]
fn expiring_certificates_cause_one_warning_each_and_not_one_per_connect() {
    let plant = Plant::of(Identity::authority_for("Plant CA", Valid::Days(25)));
    let mut broker = plant.broker("localhost", Valid::Days(20), "");
    let own = plant.authority.issue("andon", Valid::Days(10)).write(plant.home(), "andon");
    let site = with_identity(plant.site(&broker), &own);
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("Andon's certificate 'andon'\", expires_at");
    andon.wait_for_log("the broker's certificate 'localhost'\", expires_at");
    // It is both in the file and in the broker's chain.
    andon.wait_for_log("the authority 'Plant CA'\", expires_at");
    broker.restart();
    wait_until("the second connection", || andon.connections() == 2);
    publisher::publish_numbered(broker.port(), TOPIC, 2, 0..20, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 20);
    assert!(andon.is_running());
    let log = andon.log();
    assert_eq!(log.matches("a certificate expires soon").count(), 3, "{log}");
    assert!(log.contains("days_left: 9") || log.contains("days_left: 10"), "{log}");
    // The metric shows the certificate that expires first: Andon's, in ten days.
    let metrics = Client::new(&andon.wait_for_http()).get("/metrics").body;
    let line =
        metrics.lines().find_map(|line| line.strip_prefix("andon_certificate_expiry_timestamp_seconds "));
    let expires_at: f64 = line.unwrap().parse().unwrap();
    let days = (expires_at - chrono::Utc::now().timestamp() as f64) / 86_400.0;
    assert!((9.0..=10.0).contains(&days), "{days}");
    assert!(andon.stop().success());
}

/// A server that performs one handshake at a time, and sends each outcome to the receiver.
fn tls_server(
    plant: &Plant,
    versions: (Option<SslVersion>, Option<SslVersion>),
) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let identity = plant.authority.issue("localhost", MONTHS);
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    builder.set_private_key(identity.key()).unwrap();
    builder.set_certificate(identity.x509()).unwrap();
    builder.set_security_level(0);
    builder.clear_options(openssl::ssl::SslOptions::NO_TLSV1_1 | openssl::ssl::SslOptions::NO_TLSV1);
    builder.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    builder.set_min_proto_version(versions.0).unwrap();
    builder.set_max_proto_version(versions.1).unwrap();
    builder.set_alpn_select_callback(|_, offered| {
        let mine = b"\x0ex-amzn-mqtt-ca";
        openssl::ssl::select_next_proto(mine, offered).ok_or(AlpnError::ALERT_FATAL)
    });
    let acceptor = builder.build();
    let (sender, outcomes) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let outcome = match acceptor.accept(stream) {
                Ok(session) => {
                    let alpn = session.ssl().selected_alpn_protocol().map(String::from_utf8_lossy);
                    format!("{} {}", session.ssl().version_str(), alpn.unwrap_or_default())
                }
                Err(error) => format!("failed: {error}"),
            };
            if sender.send(outcome).is_err() {
                break;
            }
        }
    });
    (port, outcomes)
}

fn site_at(plant: &Plant, port: u16) -> Site {
    Site::new(port)
        .set("mqtt.transport=tls")
        .set("mqtt.host=localhost")
        .set(&format!("mqtt.tls.ca_file={}", plant.files.certificate()))
}

#[test]
fn application_protocols_are_offered() {
    let plant = Plant::new();
    let (port, outcomes) = tls_server(&plant, (Some(SslVersion::TLS1_2), None));
    let site = site_at(&plant, port).set("mqtt.tls.alpn=other,x-amzn-mqtt-ca");
    let andon = site.run();
    assert_eq!(outcomes.recv().unwrap(), "TLSv1.3 x-amzn-mqtt-ca");
    assert!(andon.stop().success());
    let site = site_at(&plant, port).set("mqtt.tls.alpn=mqtt");
    is_refused(&site, "takes none of the application protocols");
}

#[test]
fn nothing_older_than_tls_1_2_is_accepted_even_if_the_system_allows_it() {
    let plant = Plant::new();
    let (port, outcomes) = tls_server(&plant, (None, Some(SslVersion::TLS1_1)));
    // The server does accept TLS 1.1 from a client that offers it.
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_security_level(0);
    builder.clear_options(openssl::ssl::SslOptions::NO_TLSV1_1 | openssl::ssl::SslOptions::NO_TLSV1);
    builder.set_min_proto_version(None).unwrap();
    builder.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let session = builder.build().connect("localhost", stream);
    assert!(session.is_ok(), "the test's server: {:?}", session.err());
    assert_eq!(outcomes.recv().unwrap().trim(), "TLSv1.1");

    let permissive = plant.home().join("openssl.cnf");
    std::fs::write(
        &permissive,
        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMinProtocol = TLSv1\nCipherString = ALL:@SECLEVEL=0\n",
    )
    .unwrap();
    let site = site_at(&plant, port).environment("OPENSSL_CONF", &permissive.display().to_string());
    is_refused(&site, "the broker speaks no TLS 1.2 or later");
    for outcome in outcomes.try_iter() {
        assert!(outcome.starts_with("failed"), "a handshake succeeded: {outcome}");
    }
}

#[test]
fn a_proxy_leads_to_the_broker_and_names_a_wrong_login() {
    let plant = Plant::new();
    for transport in ["ws", "wss"] {
        let proxy = Proxy::start("hall:p@ss:w%rd/7");
        let broker = if transport == "ws" {
            Mosquitto::start_with_listener("127.0.0.1", "protocol websockets")
        } else {
            plant.broker("localhost", MONTHS, "protocol websockets")
        };
        let site = || {
            let site = if transport == "ws" { Site::new(broker.second_port()) } else { plant.site(&broker) };
            site.set(&format!("mqtt.transport={transport}"))
                .set("mqtt.host=localhost")
                .set(&format!("mqtt.proxy=127.0.0.1:{}", proxy.port()))
                .set("mqtt.proxy_username=hall")
        };
        stores(&site().set("mqtt.proxy_password=p@ss:w%rd/7"), &broker);
        let target = format!("localhost:{}", broker.second_port());
        assert!(proxy.targets().contains(&target), "{:?}", proxy.targets());
        is_refused(
            &site().set("mqtt.proxy_password=wrong"),
            "rejects the login (407); see mqtt.proxy_username",
        );
    }
}

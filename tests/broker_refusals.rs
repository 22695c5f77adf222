//! A broker that refuses is said in one line that names the reason, and tried again until it relents.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

use crate::support::andon::Site;
use crate::support::database::rows_stored;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::{self, Single};

const TOPIC: &str = "factory/machine/{machine}/telemetry";

/// A password file for user `andon`, readable by the broker whichever user it runs as.
fn password_file(directory: &std::path::Path, password: &str) -> std::path::PathBuf {
    let file = directory.join("passwords");
    std::fs::write(&file, "").unwrap();
    let status =
        Command::new("mosquitto_passwd").arg("-b").arg(&file).args(["andon", password]).status().unwrap();
    assert!(status.success());
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    file
}

#[test]
fn a_bad_password_is_named_and_never_printed() {
    for protocol in ["5", "3.1.1"] {
        let directory = tempfile::tempdir().unwrap();
        let passwords = password_file(directory.path(), "right");
        let broker = Mosquitto::start(&format!("password_file {}\n", passwords.display()));
        let site = Site::new(broker.port())
            .set(&format!("mqtt.protocol={protocol}"))
            .set("mqtt.username=andon")
            .set("mqtt.password=wrong-secret-77");
        let mut andon = site.run();
        andon.wait_for_log("no connection to the broker");
        andon.wait_for_log("mqtt.password");
        let log = andon.log();
        let complaints = log.lines().filter(|line| line.contains("no connection to the broker")).count();
        assert_eq!(complaints, 1, "one line for one reason:\n{log}");
        assert!(!log.contains("wrong-secret-77"), "a secret in the log:\n{log}");
        assert!(andon.is_running());
        assert!(andon.stop().success());

        let site = site.set("mqtt.password=right");
        let mut andon = site.run();
        andon.wait_until_connected();
        assert!(andon.stop().success());
    }
}

/// Mosquitto's access control files never refuse a SUBSCRIBE; its dynamic security plugin does.
fn dynamic_security(directory: &std::path::Path) -> String {
    let library = std::fs::read_dir("/usr/lib").unwrap().flatten().find_map(|entry| {
        let file = entry.path().join("mosquitto_dynamic_security.so");
        file.exists().then_some(file)
    });
    let library = library.expect("the dynamic security plugin, which comes with mosquitto");
    let file = directory.join("dynamic-security.json");
    let rules = r#"{"defaultACLAccess":{"publishClientSend":true,"publishClientReceive":true,"subscribe":false,"unsubscribe":true},
        "anonymousGroup":"all","groups":[{"groupname":"all","roles":[{"rolename":"all"}]}],"clients":[],
        "roles":[{"rolename":"all","acls":[{"acltype":"publishClientSend","topic":"$CONTROL/dynamic-security/#","allow":true}]}]}"#;
    std::fs::write(&file, rules).unwrap();
    format!("plugin {}\nplugin_opt_config_file {}\n", library.display(), file.display())
}

#[test]
fn a_refused_subscription_is_named_and_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(&dynamic_security(directory.path()));
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_for_log("a subscription was refused");
    let log = andon.log();
    let complaint = log.lines().find(|line| line.contains("a subscription was refused")).unwrap();
    assert!(
        complaint.contains("factory/machine/+/telemetry") && complaint.contains("not authorised"),
        "{complaint}"
    );
    assert!(!log.contains("connected to the broker"), "not before every filter is granted:\n{log}");

    let allow =
        br#"{"commands":[{"command":"setDefaultACLAccess","acls":[{"acltype":"subscribe","allow":true}]}]}"#;
    Single::connect(broker.port()).publish("$CONTROL/dynamic-security/v1", allow, 1);
    andon.wait_until_connected();
    assert!(andon.stop().success());
}

/// A key, a certificate for `host` made with it, and both in PEM files of `directory`; signed by `issuer` or by itself.
struct Identity {
    key: PKey<Private>,
    certificate: X509,
}

impl Identity {
    fn new(host: &str, days_valid: u32, issuer: Option<&Identity>) -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", host).unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        let serial = BigNum::from_u32(std::process::id() + days_valid).unwrap().to_asn1_integer().unwrap();
        builder.set_serial_number(&serial).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(issuer.map_or(&name, |issuer| issuer.certificate.subject_name())).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(1_600_000_000).unwrap()).unwrap();
        let expired = Asn1Time::from_unix(1_700_000_000).unwrap();
        let valid = Asn1Time::days_from_now(days_valid).unwrap();
        builder.set_not_after(if days_valid == 0 { &expired } else { &valid }).unwrap();
        let context = builder.x509v3_context(issuer.map(|issuer| &*issuer.certificate), None);
        let alternative = SubjectAlternativeName::new().dns(host).build(&context).unwrap();
        builder.append_extension(alternative).unwrap();
        if issuer.is_none() {
            builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        }
        builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key }
    }

    fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) =
            (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        std::fs::write(&certificate, self.certificate.to_pem().unwrap()).unwrap();
        std::fs::write(&key, self.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        (certificate, key)
    }
}

#[test]
fn a_certificate_that_is_refused_is_named_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let authority = Identity::new("Plant CA", 10, None);
    let (ca_file, _) = authority.write(home, "ca");
    let (other_ca_file, _) = Identity::new("Other CA", 11, None).write(home, "other");
    let start = |host: &str, days: u32, extra: &str| {
        let (certificate, key) = Identity::new(host, days, Some(&authority)).write(home, "broker");
        let (ca, certificate, key) = (ca_file.display(), certificate.display(), key.display());
        Mosquitto::start(&format!("cafile {ca}\ncertfile {certificate}\nkeyfile {key}\n{extra}"))
    };
    let site = |broker: &Mosquitto, ca_file: &Path| {
        Site::new(broker.port())
            .set("mqtt.transport=tls")
            .set("mqtt.host=localhost")
            .set(&format!("mqtt.tls.ca_file={}", ca_file.display()))
    };
    let said = |broker: &Mosquitto, ca_file: &Path, reason: &str| {
        let site = site(broker, ca_file);
        let mut andon = site.run();
        andon.wait_for_log(reason);
        assert!(andon.stop().success());
    };
    let broker = start("localhost", 30, "");
    said(&broker, &other_ca_file, "an authority that is not trusted");
    said(&broker, &ca_file, "connected to the broker");
    said(&start("localhost", 0, ""), &ca_file, "expired on Nov 14 22:13:20 2023 GMT");
    said(
        &start("another.example", 30, ""),
        &ca_file,
        "is for another host: wanted 'localhost', got 'another.example'",
    );
    let broker = start("localhost", 30, "require_certificate true");
    said(&broker, &ca_file, "the broker wants a client certificate");
}

#[test]
fn a_broker_that_is_away_is_waited_for() {
    let mut broker = Mosquitto::start("");
    broker.stop();
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_for_log("no connection to the broker");
    broker.restart();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 2, 0..20, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 20);

    broker.kill();
    andon.wait_for_log("the link to the broker is down");
    broker.restart();
    wait_until("the subscription is there again", || {
        andon.log().matches("connected to the broker").count() == 2
    });
    publisher::publish_numbered(broker.port(), TOPIC, 2, 20..40, 1);
    wait_until("the rows after the broker's crash", || rows_stored(&site.sqlite_url()) == 40);
    assert!(andon.stop().success());
}

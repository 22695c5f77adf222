//! No secret is printed: the real process, with secrets from every source, through every failure.

use std::path::Path;

use crate::support::andon::Site;
use crate::support::certificates::{Identity, Valid};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::proxy::Proxy;
use crate::support::scripted_broker::{Answer, ScriptedBroker, connack_5};

const PASSWORD: &str = "tellnobody-password-1";
const KEY_PASSWORD: &str = "tellnobody-passphrase-2";
const DATABASE: &str = "tellnobody-database-3";
const PROXY: &str = "tellnobody-proxy-4";
const TOKEN: &str = "tellnobody-token-5";

/// Returns the secrets in every form in which they could be printed: as text, as bytes in Rust's notation, in base64.
fn forms() -> Vec<String> {
    let secrets = [PASSWORD, KEY_PASSWORD, DATABASE, PROXY, TOKEN];
    let mut forms = vec!["tellnobody".to_owned()];
    for secret in secrets {
        forms.push(format!("{:?}", secret.as_bytes()).trim_matches(['[', ']']).to_owned());
        for login in [secret.to_owned(), format!("andon:{secret}"), format!("hall:{secret}")] {
            forms.push(openssl::base64::encode_block(login.as_bytes()));
        }
    }
    forms
}

fn assert_silent(what: &str, text: &str) {
    for form in forms() {
        assert!(!text.contains(&form), "{what} contains {form:?}:\n{text}");
    }
}

/// Returns the arguments of a process, which every user can see. (Only its own user can see the environment.)
fn arguments(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

fn secret_file(home: &Path, name: &str, secret: &str) -> String {
    let path = home.join(name);
    std::fs::write(&path, format!("{secret}\n")).unwrap();
    path.display().to_string()
}

/// Sets secrets in files, in the environment and in systemd's credentials; none on the command line.
fn with_secrets(site: Site) -> Site {
    let home = site.path().to_owned();
    std::fs::create_dir(home.join("credentials")).unwrap();
    std::fs::write(home.join("credentials/http_token"), TOKEN).unwrap();
    let password_file = secret_file(&home, "password", PASSWORD);
    site.set("mqtt.username=andon")
        .set(&format!("mqtt.password_file={password_file}"))
        .set("log.level=trace")
        .environment("CREDENTIALS_DIRECTORY", &home.join("credentials").display().to_string())
        .environment("ANDON__STORE__URL", &format!("postgres://andon:{DATABASE}@127.0.0.1:1/andon"))
        .without("store.url")
}

/// Runs until `reason` is in the log, stops, and searches all output.
fn runs_silently(site: &Site, failpoints: &str, reason: &str) {
    for format in ["text", "json"] {
        let mut andon = site.run_with_format(failpoints, format);
        andon.wait_for_log(reason);
        andon.wait_for_log("the database does not accept the data");
        assert_silent("the arguments", &arguments(andon.pid()));
        assert!(andon.is_running());
        let path = andon.log_path().to_owned();
        andon.stop();
        assert_silent("the log", &std::fs::read_to_string(path).unwrap());
    }
    let commands: [&[&str]; 6] = [
        &["config", "show"],
        &["config", "show", "--origin"],
        &["config", "check"],
        &["config", "check", "--connect"],
        &["config", "check", "--connect", "--json"],
        &["db", "status"],
    ];
    for arguments in commands {
        let output = site.command(arguments).output().unwrap();
        assert_silent(&arguments.join(" "), &String::from_utf8_lossy(&output.stdout));
        assert_silent(&arguments.join(" "), &String::from_utf8_lossy(&output.stderr));
    }
}

/// Proves CFG-4.
#[test]
fn nothing_secret_is_printed_when_the_password_is_wrong() {
    let broker = ScriptedBroker::start(|_| Answer::SendAndClose(connack_5(0x86, "")));
    let site = with_secrets(Site::new(broker.port()).set("mqtt.protocol=5"));
    runs_silently(&site, "", "no connection to the broker");
    let sent = broker
        .connects()
        .iter()
        .any(|connect| connect.body.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()));
    assert!(sent, "the password was sent");
}

/// Proves CFG-4.
#[test]
fn nothing_secret_is_printed_when_parts_panic_and_fail() {
    let broker = Mosquitto::start("");
    let site = with_secrets(Site::new(broker.port()));
    runs_silently(
        &site,
        "mqtt::start=1*panic(boom);mqtt::handle=1*return(failed)",
        "connected to the broker",
    );
}

/// Proves CFG-4.
#[test]
fn nothing_secret_is_printed_when_tls_or_the_proxy_fails() {
    let authority = Identity::authority("Plant CA");
    let broker_home = tempfile::tempdir().unwrap();
    let ca = authority.write(broker_home.path(), "ca");
    let files = authority.issue("localhost", Valid::Days(90)).write(broker_home.path(), "broker");
    let own =
        authority.issue("andon", Valid::Days(90)).write_encrypted(broker_home.path(), "andon", KEY_PASSWORD);
    let listener = format!(
        "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nprotocol websockets",
        ca.certificate(),
        files.certificate(),
        files.key()
    );
    let broker = Mosquitto::start_with_listener("127.0.0.1", &listener);
    let site = || {
        let site = with_secrets(Site::new(broker.second_port()));
        let key_password = secret_file(site.path(), "key-password", KEY_PASSWORD);
        site.set("mqtt.transport=wss")
            .set("mqtt.host=localhost")
            .set(&format!("mqtt.tls.cert_file={}", own.certificate()))
            .set(&format!("mqtt.tls.key_file={}", own.key()))
            .set(&format!("mqtt.tls.key_password_file={key_password}"))
    };
    runs_silently(&site(), "", "an authority that is not trusted");

    let proxy = Proxy::start(&format!("hall:{PROXY}"));
    let through = |password: &str| {
        let site = site();
        let file = secret_file(site.path(), "proxy-password", password);
        site.set(&format!("mqtt.tls.ca_file={}", ca.certificate()))
            .set(&format!("mqtt.proxy=127.0.0.1:{}", proxy.port()))
            .set("mqtt.proxy_username=hall")
            .set(&format!("mqtt.proxy_password_file={file}"))
    };
    runs_silently(&through(PROXY), "", "connected to the broker");
    wait_until("the proxy was used", || !proxy.targets().is_empty());
    let wrong = format!("{PROXY}-no-longer");
    runs_silently(&through(&wrong), "", "rejects the login (407)");
}

//! Values that are right by themselves and wrong together, and values that deserve a warning.

use std::os::unix::fs::PermissionsExt;

use super::Scene;

/// Returns the complaints about several `--set`.
fn complaints(set: &[&str]) -> Vec<String> {
    set.iter().fold(Scene::new(), |scene, argument| scene.set(argument)).complaints()
}

/// A file that can be read.
const FILE: &str = "Cargo.toml";

/// Proves CFG-3.
#[test]
fn each_contradiction_is_reported_once_with_its_key() {
    let cert = &format!("mqtt.tls.cert_file={FILE}");
    let key = &format!("mqtt.tls.key_file={FILE}");
    let ca = &format!("mqtt.tls.ca_file={FILE}");
    let tls = "mqtt.transport=tls";
    let table: Vec<(Vec<&str>, &str)> = vec![
        (
            vec![tls, cert],
            "--set: mqtt.tls.cert_file: a certificate needs its private key; set mqtt.tls.key_file",
        ),
        (
            vec![tls, key],
            "--set: mqtt.tls.key_file: a private key needs its certificate; set mqtt.tls.cert_file",
        ),
        (
            vec![tls, "mqtt.tls.key_password=x"],
            "--set: mqtt.tls.key_password: has no effect without a private key; set mqtt.tls.key_file",
        ),
        (
            vec![ca],
            "--set: mqtt.tls.ca_file: has no effect with mqtt.transport = \"tcp\"; allowed with \"tls\" and \"wss\"",
        ),
        (
            vec!["mqtt.transport=ws", "mqtt.tls.verify=false"],
            "--set: mqtt.tls.verify: has no effect with mqtt.transport = \"ws\"; allowed with \"tls\" and \"wss\"",
        ),
        (
            vec![tls, "mqtt.tls.ca_file=no/such.pem"],
            "--set: mqtt.tls.ca_file: cannot read \"no/such.pem\": No such file or directory (os error 2); expected the path of a readable file",
        ),
        (
            vec![tls, "mqtt.tls.ca_file=src"],
            "--set: mqtt.tls.ca_file: \"src\" is a directory; expected the path of a readable file",
        ),
        (
            vec!["mqtt.subscriptions=$share/g/andon/x/#,factory/#"],
            "--set: mqtt.subscriptions: \"$share/g/andon/x/#\" is below liveness.publish_prefix (\"andon\"), where Andon publishes and ignores devices; choose another topic or another prefix",
        ),
        (vec!["mqtt.hosts=a,b", "mqtt.host=c"], "--set: mqtt.hosts: contradicts mqtt.host; keep one of them"),
        (vec!["mqtt.hosts=a,b:1883,a:1883"], "--set: mqtt.hosts: \"a\" with port 1883 is listed twice"),
        (
            vec!["mqtt.proxy=proxy:3128"],
            "--set: mqtt.proxy: has no effect with mqtt.transport = \"tcp\"; allowed with \"ws\" and \"wss\"",
        ),
        (
            vec!["mqtt.transport=ws", "mqtt.proxy_username=u"],
            "--set: mqtt.proxy_username: has no effect without a proxy; set mqtt.proxy",
        ),
        (
            vec!["mqtt.transport=ws", "mqtt.proxy=p:1", "mqtt.proxy_password=x"],
            "--set: mqtt.proxy_password: needs mqtt.proxy_username",
        ),
        (
            vec!["mqtt.transport=ws", "mqtt.proxy=p:1", "mqtt.proxy_username=a:b"],
            "--set: mqtt.proxy_username: contains a \":\", which HTTP does not allow in a user name",
        ),
        (
            vec!["mqtt.max_packet=1MiB", "mqtt.max_payload=1MiB"],
            "--set: mqtt.max_packet: is too small for the payloads that mqtt.max_payload (1MiB) allows: topic and header need another 66KiB; expected at least 1090KiB",
        ),
        (
            vec!["mqtt.password=x"],
            "--set: mqtt.password: needs mqtt.username; alone it is allowed only with mqtt.protocol = \"5\"",
        ),
        (
            vec!["mqtt.subscriptions=a/+/b,c/+/d,a/+/b"],
            "--set: mqtt.subscriptions: \"a/+/b\" is listed twice; each filter is allowed once",
        ),
        (
            vec!["mqtt.backoff_min=1m"],
            "--set: mqtt.backoff_min: mqtt.backoff_min (1m) must not be larger than mqtt.backoff_max (30s)",
        ),
        (
            vec!["supervisor.backoff_max=1ms"],
            "--set: supervisor.backoff_max: supervisor.backoff_min (100ms) must not be larger than supervisor.backoff_max (1ms)",
        ),
        (
            vec!["store.backoff_min=2s", "store.backoff_max=1s"],
            "--set: store.backoff_min: store.backoff_min (2s) must not be larger than store.backoff_max (1s)",
        ),
        (
            vec!["journal.segment_bytes=2MiB", "journal.max_bytes=1MiB"],
            "--set: journal.segment_bytes: must not be larger than journal.max_bytes",
        ),
        (
            vec!["payload.fields.temperature=/humidity"],
            "--set: payload.fields.temperature: temperature and humidity would come from the same place; map one elsewhere",
        ),
        (
            vec!["payload.fields.temperature=/s", "payload.fields.vibration=/s/v"],
            "--set: payload.fields.temperature: temperature and vibration would come from the same place; map one elsewhere",
        ),
        (
            vec!["http.bind=0.0.0.0:8080"],
            "--set: http.bind: other computers can reach it; allowed only with http.token or http.tokens, with http.proxy_user_header, or with http.anonymous = true",
        ),
        (
            vec!["http.anonymous=true", "http.token=x"],
            "--set: http.anonymous: contradicts http.token; keep one of them",
        ),
        (
            vec!["http.token=two words"],
            "--set: http.token: is not valid in an HTTP header; expected ASCII letters, digits and punctuation, no spaces",
        ),
        (
            vec![
                "liveness.machines_max=1",
                "liveness.machines.a.expected=true",
                "liveness.machines.b.expected=true",
            ],
            "--set: liveness.machines_max: is below the number of machines in [liveness.machines], 2",
        ),
    ];
    for (set, expected) in table {
        assert_eq!(complaints(&set), [expected], "{set:?}");
    }
}

/// Proves CFG-3.
#[test]
fn all_contradictions_are_reported_at_once_also_those_of_one_key() {
    let scene = Scene::new();
    let file = scene.file("token", "t\n");
    let file = file.display();
    std::fs::set_permissions(scene.path().join("token"), std::fs::Permissions::from_mode(0o600))
        .expect("set");
    let scene = scene.local(&format!("[http]\ntoken = \"x\"\ntoken_file = \"{file}\"\nanonymous = true"));
    assert_eq!(
        scene.complaints(),
        [
            "DIR/local.toml: http.token: http.token_file is set in the same place; keep one",
            "DIR/local.toml: http.anonymous: contradicts http.token and http.token_file; keep one of them",
        ]
    );
    let scene = Scene::new().local("[http]\ntoken_file = \"no/such\"\nanonymous = true");
    assert_eq!(
        scene.complaints(),
        [
            "DIR/local.toml: http.token_file: cannot read \"no/such\": No such file or directory (os error 2)",
            "DIR/local.toml: http.anonymous: contradicts http.token_file; keep one of them",
        ]
    );
    assert_eq!(
        complaints(&["mqtt.hosts=a,a", "mqtt.host=c"]),
        [
            "--set: mqtt.hosts: contradicts mqtt.host; keep one of them",
            "--set: mqtt.hosts: \"a\" with port 1883 is listed twice",
        ]
    );
}

#[test]
fn settings_that_fit_together_are_accepted() {
    let cert = &format!("mqtt.tls.cert_file={FILE}");
    let key = &format!("mqtt.tls.key_file={FILE}");
    let table: [&[&str]; 12] = [
        &["mqtt.transport=wss", cert, key, "mqtt.tls.key_password=x"],
        &["mqtt.password=x", "mqtt.protocol=5"],
        &["mqtt.password=x", "mqtt.username=ann"],
        &["mqtt.max_packet=1090KiB", "mqtt.max_payload=1MiB"],
        &["mqtt.max_payload=64MiB"],
        &["mqtt.backoff_min=30s"],
        &["journal.max_bytes=2MiB"],
        &["journal.max_bytes=2MiB", "journal.segment_bytes=2MiB"],
        &["http.bind=0.0.0.0:8080", "http.token=sixteen-or-more!"],
        &["http.token=x"],
        &["http.bind=[::]:8080", "http.anonymous=true"],
        &["payload.fields.temperature=/humidity", "payload.fields.humidity=/temperature"],
    ];
    for set in table {
        set.iter().fold(Scene::new(), |scene, argument| scene.set(argument)).loaded();
    }
}

#[test]
fn hosts_are_read_with_and_without_port() {
    let hosts = |set: &str| {
        let settings = Scene::new().set(set).set("mqtt.port=7").loaded().settings.mqtt;
        assert_eq!(
            (settings.host.as_str(), settings.port),
            (settings.hosts[0].host.as_str(), settings.hosts[0].port)
        );
        settings.hosts.into_iter().map(|broker| (broker.host, broker.port)).collect::<Vec<_>>()
    };
    let expected = [("a", 7), ("b.c", 8), ("::1", 7), ("::1", 9), ("10.0.0.1", 7)];
    let expected = expected.map(|(host, port)| (host.to_owned(), port));
    assert_eq!(hosts("mqtt.hosts=a,b.c:8,::1,[::1]:9,10.0.0.1"), expected);
    assert_eq!(hosts("mqtt.hosts=[\"a\", \"b.c:8\", \"::1\", \"[::1]:9\", \"10.0.0.1\"]"), expected);
    assert_eq!(hosts("mqtt.host=a"), expected[..1]);
    for wrong in ["a:0", "a:65536", "a:b", "[::1", "[::1]x", "mqtt://a", "a b", ":1"] {
        let found = complaints(&[&format!("mqtt.hosts={wrong}")]);
        assert_eq!(found.len(), 1, "{wrong}: {found:?}");
        assert!(found[0].contains("mqtt.hosts[0]: expected a host name"), "{found:?}");
    }
    assert_eq!(complaints(&["mqtt.transport=ws", "mqtt.proxy=p"]).len(), 1, "a proxy needs a port");
}

#[test]
fn a_value_that_is_wrong_by_itself_adds_no_contradiction() {
    let found = complaints(&["mqtt.transport=tsl", &format!("mqtt.tls.ca_file={FILE}")]);
    assert_eq!(
        found,
        ["--set: mqtt.transport: expected one of \"tcp\", \"tls\", \"ws\", \"wss\", found the text \"tsl\""]
    );
    let found = complaints(&["http.bind=0.0.0.0:8080", "http.token_file=no/such/file"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("--set: http.token_file: cannot read"), "{found:?}");
    // Also if the wrong value is inside a table.
    let machines = ["a.expected=maybe", "b.expected=true", "c.expected=true"]
        .map(|rule| format!("liveness.machines.{rule}"));
    let found = complaints(&["liveness.machines_max=1", &machines[0], &machines[1], &machines[2]]);
    assert_eq!(
        found,
        ["--set: liveness.machines.a.expected: expected true or false, found the text \"maybe\""]
    );
}

#[test]
fn doubtful_settings_cause_a_warning() {
    let scene = Scene::new();
    std::fs::set_permissions(scene.path(), std::fs::Permissions::from_mode(0o755)).expect("it can be set");
    let secret = scene.file("password", "x\n");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("it can be set");
    let shown = secret.display();
    let scene =
        scene.set(&format!("mqtt.password_file={shown}")).set("mqtt.username=ann").set("mqtt.host=broker");
    assert_eq!(
        scene.loaded().warnings,
        [
            format!("--set: mqtt.password_file: every user of this computer can read {shown} (mode 0644); run chmod o-rwx {shown}"),
            "mqtt.password is sent unencrypted (mqtt.transport = \"tcp\"): anyone on the network can read it; use \"tls\"".to_owned(),
        ]
    );
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("it can be set");
    let scene = scene.set("mqtt.host=127.0.0.1");
    assert_eq!(scene.loaded().warnings, Vec::<String>::new());

    let warnings = Scene::new().set("mqtt.subscriptions=$share/group/a/+/b").loaded().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("\"$share/group/a/+/b\" is shared"), "{warnings:?}");

    let warnings = Scene::new().set("store.schema=andon").loaded().warnings;
    assert_eq!(warnings, ["store.schema has no effect with SQLite, only with a postgres:// address"]);

    let scene = Scene::new().set("store.url=postgres://andon@db/plant");
    let [unencrypted] = &scene.loaded().warnings[..] else { panic!("{:?}", scene.loaded().warnings) };
    assert!(unencrypted.starts_with("store.url: the connection to db may not be encrypted"), "{unencrypted}");
    for encrypted in [
        scene.env("PGSSLMODE", "verify-full"),
        Scene::new().set("store.url=postgres://andon@db/plant?sslmode=require"),
        Scene::new().set("store.url=postgres://andon@127.0.0.1/plant"),
    ] {
        assert_eq!(encrypted.loaded().warnings, Vec::<String>::new());
    }

    let token = "a-token-of-many-characters";
    let scene = Scene::new().env("ANDON__HTTP__TOKEN", token).set("http.bind=0.0.0.0:8080");
    let [clear] = &scene.loaded().warnings[..] else { panic!("{:?}", scene.loaded().warnings) };
    assert!(clear.starts_with("http.bind = 0.0.0.0:8080: tokens and data are sent unencrypted"), "{clear}");
    let scene = Scene::new().env("ANDON__HTTP__TOKEN", token);
    assert_eq!(scene.loaded().warnings, Vec::<String>::new());

    let warnings = Scene::new().set("mqtt.transport=tls").set("mqtt.tls.verify=false").loaded().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("mqtt.tls.verify = false: "), "{warnings:?}");
}

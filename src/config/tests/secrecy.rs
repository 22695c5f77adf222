//! Secrets come from their key, a file or systemd, and are never printed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Scene;
use crate::config::{Secret, load};

const HIDDEN: &str = "hunter2-s3cret";

fn private(scene: &Scene, name: &str, text: &str) -> String {
    let path = scene.file(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it can be set");
    path.display().to_string()
}

fn password(scene: &Scene) -> Option<String> {
    scene.loaded().settings.mqtt.password.as_ref().map(Secret::expose).map(str::to_owned)
}

fn with_user() -> Scene {
    Scene::new().set("mqtt.username=ann")
}

#[test]
fn a_secret_is_read_from_its_file_without_the_last_line_break() {
    for (text, expected) in
        [("a b\n", "a b"), ("a b\r\n", "a b"), ("a b", "a b"), ("a\n\n", "a\n"), (" a ", " a ")]
    {
        let scene = with_user();
        let path = private(&scene, "password", text);
        let scene = scene.env("ANDON__MQTT__PASSWORD_FILE", &path);
        assert_eq!(password(&scene).as_deref(), Some(expected), "{text:?}");
        let shown = scene.shown("mqtt", "password");
        assert_eq!(shown, "password = \"***\"  # file DIR/password");
    }
}

#[test]
fn of_key_and_file_key_the_later_layer_counts() {
    let scene = with_user();
    let path = private(&scene, "password", "of-file");
    let scene = scene.local(&format!("mqtt.password_file = {path:?}")).env("MQTT_PASSWORD", "of-environment");
    assert_eq!(password(&scene).as_deref(), Some("of-environment"));
    let scene = scene.set(&format!("mqtt.password_file={path}"));
    assert_eq!(password(&scene).as_deref(), Some("of-file"));
    let scene = scene.env("ANDON__MQTT__PASSWORD", "unused").set("mqtt.username=ann");
    assert_eq!(password(&scene).as_deref(), Some("of-file"));
}

#[test]
fn key_and_file_in_one_layer_contradict_each_other() {
    let scene = with_user();
    let path = private(&scene, "secret", "postgres://u:p@h/d");
    let text = format!(
        "mqtt.password = {HIDDEN:?}\nmqtt.password_file = {path:?}\nstore.url = \"sqlite://x\"\nstore.url_file = {path:?}"
    );
    assert_eq!(
        scene.local(&text).complaints(),
        [
            "DIR/local.toml: mqtt.password: mqtt.password_file is set in the same place; keep one",
            "DIR/local.toml: store.url: store.url_file is set in the same place; keep one",
        ]
    );
}

#[test]
fn systemd_credentials_are_used_if_neither_key_is_set() {
    let scene = with_user();
    private(&scene, "credentials/mqtt_password", "of-systemd\n");
    private(&scene, "credentials/store_url", "postgres://u:p@h/d\n");
    private(&scene, "credentials/http_token", "token\n");
    let directory = scene.path().join("credentials").display().to_string();
    let scene = scene.env("CREDENTIALS_DIRECTORY", &directory);
    let settings = scene.loaded().settings;
    assert_eq!(settings.mqtt.password.as_ref().map(Secret::expose), Some("of-systemd"));
    assert_eq!(settings.store.url.expose(), "postgres://u:p@h/d");
    assert_eq!(settings.http.token.as_ref().map(Secret::expose), Some("token"));
    assert_eq!(settings.mqtt.tls.key_password, None);
    assert_eq!(scene.shown("store", "url"), "url = \"postgres://u:***@h/d\"  # systemd credential store_url");

    let scene = scene.env("MQTT_PASSWORD", "of-environment").set("store.url=sqlite://x.db");
    assert_eq!(password(&scene).as_deref(), Some("of-environment"));
    assert_eq!(scene.loaded().settings.store.url.sqlite_path(), Some(Path::new("x.db")));
}

/// Proves CFG-4.
#[test]
fn a_secret_file_that_cannot_be_used_is_reported_without_its_content() {
    let scene = with_user();
    let empty = private(&scene, "empty", "\n");
    let url = private(&scene, "url", &format!("mysql://u:{HIDDEN}@h/d"));
    let long = private(&scene, "long", &HIDDEN.repeat(10_000));
    let scene = scene
        .set(&format!("mqtt.password_file={empty}"))
        .set(&format!("store.url_file={url}"))
        .set(&format!("http.token_file={long}"))
        .set("mqtt.transport=tls")
        .set("mqtt.tls.key_password_file=no/such/file");
    assert_eq!(
        scene.complaints(),
        [
            "--set: mqtt.password_file: \"DIR/empty\" is empty; expected the secret",
            "--set: mqtt.tls.key_password_file: cannot read \"no/such/file\": No such file or directory (os error 2)",
            "--set: store.url_file: \"DIR/url\" holds no database URL: databases of the kind \"mysql\" are not supported",
            "--set: http.token_file: \"DIR/long\" is longer than 65536 bytes; expected the secret alone",
        ]
    );
}

/// Proves CFG-4.
#[test]
fn no_secret_is_printed_wherever_it_comes_from() {
    let url = format!("postgres://andon:{HIDDEN}@db/andon?password={HIDDEN}");
    let in_file = |scene: Scene| {
        let file = private(&scene, "secret", HIDDEN);
        let url_file = private(&scene, "url", &url);
        scene.local(&format!(
            "[mqtt]\ntransport = \"tls\"\nusername = \"ann\"\npassword_file = {file:?}\n[mqtt.tls]\ncert_file = \"Cargo.toml\"\n\
             key_file = \"Cargo.toml\"\nkey_password_file = {file:?}\n[store]\nurl_file = {url_file:?}\n[http]\ntoken_file = {file:?}"
        ))
    };
    let in_keys = |scene: Scene| {
        scene.local(&format!(
            "[mqtt]\ntransport = \"tls\"\nusername = \"ann\"\npassword = {HIDDEN:?}\n[mqtt.tls]\ncert_file = \"Cargo.toml\"\n\
             key_file = \"Cargo.toml\"\nkey_password = {HIDDEN:?}\n[store]\nurl = {url:?}\n[http]\ntoken = {HIDDEN:?}"
        ))
    };
    let in_set = |scene: Scene| {
        [
            "mqtt.username=ann",
            "mqtt.transport=tls",
            "mqtt.tls.cert_file=Cargo.toml",
            "mqtt.tls.key_file=Cargo.toml",
        ]
        .iter()
        .fold(scene, |scene, argument| scene.set(argument))
        .env("MQTT_PASSWORD", HIDDEN)
        .env("DATABASE_URL", &url)
        .env("ANDON__HTTP__TOKEN", HIDDEN)
        .set(&format!("mqtt.tls.key_password={HIDDEN}"))
    };
    for scene in [in_file(Scene::new()), in_keys(Scene::new()), in_set(Scene::new())] {
        let loaded = scene.loaded();
        let settings = &loaded.settings;
        // They are set …
        let secrets = [&settings.mqtt.password, &settings.mqtt.tls.key_password, &settings.http.token];
        for secret in secrets {
            assert_eq!(secret.as_ref().map(Secret::expose), Some(HIDDEN));
        }
        assert_eq!(settings.store.url.expose(), url);
        // … but nothing prints them.
        let printed = [
            format!("{loaded:?} {loaded:#?} {settings:?} {:?}", scene.sources),
            format!("{} {}", settings.store.url, settings.mqtt.password.as_ref().expect("set")),
            loaded.show(true),
            loaded.show(false),
            loaded.warnings.join("\n"),
        ];
        for text in printed {
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert_eq!(loaded.show(true).matches("\"***\"").count(), 3);
    }
}

/// Proves CFG-4.
#[test]
fn no_complaint_contains_a_secret() {
    let broken = [
        format!("[mqtt]\npassword = \"{HIDDEN}\nhost = 5"),
        format!("[mqtt]\npassword = [\"{HIDDEN}\"]"),
        format!("[mqtt]\npassword = {{ {HIDDEN} = 1 }}"),
        format!("[mqtt]\npasword = \"{HIDDEN}\""),
        format!("[store]\nurl = \"{HIDDEN}\""),
        format!("[store]\nurl = \"mysql://u:{HIDDEN}@h/d\""),
        format!("[store]\nurl = \"postgres://u:{HIDDEN}/@h:x/d?{HIDDEN}=1\""),
        format!("[store]\nurl = \"postgres://u:%zz{HIDDEN}@h/d\""),
        format!("[http]\ntoken = \"{HIDDEN} \\u0000\""),
        format!("[http]\ntoken = \"{HIDDEN} two words\""),
        format!("mqtt.host = \"mqtt://u:{HIDDEN}@b\""),
        format!("mqtt.host = \"{HIDDEN}@b\""),
        format!("mqtt.hosts = [\"a\", \"u:{HIDDEN}@b\"]"),
        format!("mqtt.port = \"u:{HIDDEN}@b:1883\""),
        format!("mqtt.proxy = \"http://u:{HIDDEN}@proxy:3128\""),
        format!("mqtt.subscriptions = [\"u:{HIDDEN}@a/#/b\"]"),
        format!("http.bind = \"127.0.0.1:80?token={HIDDEN}\""),
        format!("log.level = \"u:{HIDDEN}@x\""),
        format!("liveness.offline_after = \"password={HIDDEN}\""),
        format!("[liveness.machines]\n\"u:{HIDDEN}@x\" = 5"),
        format!("[liveness.machines.m]\n\"u:{HIDDEN}@x\" = 5"),
        format!("[\"u:{HIDDEN}@x\"]"),
    ];
    for text in &broken {
        let scene = Scene::new().local(text);
        let error = load(&scene.sources).expect_err("it is broken");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}: {error}");
    }
    let scenes = [
        Scene::new().set(&format!("mqtt.pasword={HIDDEN}")),
        Scene::new().set(&format!("store.url={HIDDEN}")),
        Scene::new().env("DATABASE_URL", HIDDEN),
        Scene::new().env("ANDON__MQTT__PASWORD", HIDDEN),
        Scene::new().env("ANDON__HTTP__TOKEN", &format!("{HIDDEN} x")),
        Scene::new().env("MQTT_BROKER_HOST", &format!("mqtt://u:{HIDDEN}@b")),
        Scene::new().env("MQTT_KEEPALIVE_SECONDS", &format!("u:{HIDDEN}@b")),
        Scene::new().env("MQTT_USE_TLS", &format!("u:{HIDDEN}@b")),
        Scene::new().env("RUN_MQTT_WORKER", &format!("u:{HIDDEN}@b")),
        Scene::new().set(&format!("mqtt.password {HIDDEN}")),
        Scene::new().set(&format!("mqtt.password:{HIDDEN}")),
        Scene::new().set(&format!("postgres://u:{HIDDEN}@h/d?sslmode=x")),
        Scene::new().set(&format!("mqtt.host=mqtt://u:{HIDDEN}@b")),
    ];
    for scene in &scenes {
        let error = load(&scene.sources).expect_err("it is broken");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

/// Proves CFG-5.
#[test]
fn no_code_of_this_module_reads_the_environment_of_the_process() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let entries = fs::read_dir(directory).expect("the module").map(|entry| entry.expect("an entry").path());
    let files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        for call in ["env::", "current_dir", "temp_dir"] {
            assert!(!text.contains(call), "{call} in {}", file.display());
        }
    }
}

#[test]
fn files_that_every_user_can_read_or_change_are_warned_about() {
    let scene = Scene::new().local(&format!("[mqtt]\nusername = \"ann\"\npassword = {HIDDEN:?}"));
    let key = private(&scene, "key.pem", "x");
    let certificate = scene.file("cert.pem", "x").display().to_string();
    let directory = scene.path().join("sites");
    fs::create_dir(&directory).expect("it can be made");
    let scene = scene
        .set("mqtt.transport=tls")
        .set(&format!("mqtt.tls.key_file={key}"))
        .set(&format!("mqtt.tls.cert_file={certificate}"))
        .set("mqtt.host=127.0.0.1");
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it can be set")
    };
    let local = scene.path().join("local.toml");
    let warnings = || -> Vec<String> {
        let dir = scene.path().display().to_string();
        scene.loaded().warnings.iter().map(|line| line.replace(&dir, "DIR")).collect()
    };
    set(&local, 0o644);
    assert_eq!(warnings(), [""; 0], "the directory is closed");
    set(scene.path(), 0o755);
    assert_eq!(
        warnings(),
        [
            "DIR/local.toml: mqtt.password is in it, and every user of this computer can read DIR/local.toml (mode 0644); \
          run chmod o-rwx DIR/local.toml"
        ]
    );
    set(&local, 0o640);
    set(Path::new(&key), 0o644);
    set(&directory, 0o777);
    assert_eq!(
        warnings(),
        [
            "DIR/sites: directory of the configuration: every user of this computer can read and change DIR/sites (mode \
             0777); run chmod o-rwx DIR/sites",
            "--set: mqtt.tls.key_file: every user of this computer can read DIR/key.pem (mode 0644); run chmod o-rwx \
             DIR/key.pem",
        ]
    );
    set(Path::new(&key), 0o600);
    set(&directory, 0o755);
    fs::write(&local, "[mqtt]\nusername = \"ann\"\n").expect("it can be written");
    set(&local, 0o644);
    assert_eq!(warnings(), [""; 0], "no secret is in it");
    set(&local, 0o646);
    assert_eq!(
        warnings(),
        [
            "DIR/local.toml: every user of this computer can read and change DIR/local.toml (mode 0646); run chmod o-rwx \
          DIR/local.toml"
        ]
    );
}

#[test]
fn a_secret_on_the_command_line_is_warned_about_and_one_in_the_environment_is_not() {
    let scene = Scene::new()
        .set("mqtt.username=ann")
        .set("mqtt.host=127.0.0.1")
        .set(&format!("mqtt.password={HIDDEN}"))
        .set(&format!("store.url=postgres://andon:{HIDDEN}@127.0.0.1/andon"));
    let visible = |key: &str| {
        format!("--set: {key}: every user of this computer can read a command line; use {key}_file")
    };
    assert_eq!(scene.loaded().warnings, [visible("mqtt.password"), visible("store.url")]);
    let scene = scene.set("mqtt.password=").set("store.url=postgres://andon@127.0.0.1/andon");
    assert_eq!(scene.loaded().warnings, [""; 0]);
    let scene = scene.env("MQTT_PASSWORD", HIDDEN).env("ANDON__HTTP__TOKEN", HIDDEN);
    assert_eq!(scene.loaded().warnings, [""; 0]);
}

//! A newer configuration beside the one in effect.

use super::Scene;
use crate::config::effect::Effect;
use crate::config::keys::KEYS;

/// Proves CFG-6.
#[test]
fn what_a_reload_changes_is_applied_and_the_rest_needs_a_restart() {
    let old = Scene::new().local("[liveness]\noffline_after = \"15s\"\n").loaded();
    let text = "[mqtt]\nhost = \"other\"\n[liveness]\noffline_after = \"37s\"\n[log]\nlevel = \"debug\"\n";
    let newer = Scene::new().local(text).loaded();
    let reload = old.reload(&newer).expect("no contradiction");
    assert_eq!(reload.applied, ["liveness.offline_after", "log.level"]);
    assert_eq!(reload.needs_restart, ["mqtt.host"]);
    let settings = &reload.loaded.settings;
    assert_eq!(settings.liveness, newer.settings.liveness);
    assert_eq!(settings.mqtt, old.settings.mqtt, "the broker stays");
    assert!(reload.loaded.show(false).contains("offline_after = \"37s\""));

    let again = reload.loaded.reload(&newer).expect("no contradiction");
    assert_eq!((again.applied, again.needs_restart), (vec![], vec!["mqtt.host"]), "said again");
    let back = reload.loaded.reload(&old).expect("no contradiction");
    assert_eq!((back.applied.len(), back.needs_restart), (2, vec![]), "nothing needs a restart any more");
}

#[test]
fn a_value_that_is_removed_from_the_file_is_taken_back() {
    let with = Scene::new().local("[http]\ntoken = \"s3cret\"\n[store]\nretention = \"1d\"\n").loaded();
    let reload = with.reload(&Scene::new().loaded()).expect("no contradiction");
    assert_eq!(reload.applied, ["store.retention", "http.token"]);
    assert_eq!((reload.loaded.settings.http.token, reload.loaded.settings.store.retention), (None, None));
}

#[test]
fn a_secret_that_changes_in_its_file_is_applied_and_not_shown() {
    let scene = Scene::new();
    let file = scene.file("token", "first-token");
    let scene = scene.local(&format!("[http]\ntoken_file = {:?}\n", file.display().to_string()));
    let old = scene.loaded();
    std::fs::write(&file, "second-token").expect("it can be written");
    let reload = old.reload(&scene.loaded()).expect("no contradiction");
    assert_eq!((reload.applied.as_slice(), reload.needs_restart.len()), (&["http.token"][..], 0));
    let token = reload.loaded.settings.http.token.as_ref().map(|token| token.expose().to_owned());
    assert_eq!(token.as_deref(), Some("second-token"));
    let printed = format!("{reload:?} {}", reload.loaded.show(true));
    assert!(!printed.contains("second-token") && !printed.contains("first-token"), "{printed}");
}

/// Proves CFG-6.
#[test]
fn a_mixture_that_would_open_the_board_to_everyone_changes_nothing() {
    let old =
        Scene::new().local("[http]\nbind = \"0.0.0.0:8080\"\ntoken = \"s3cret-s3cret-s3cret\"\n").loaded();
    // Valid by itself; but the address stays until a restart, and without a token it would be open to all.
    let newer = Scene::new().local("[http]\nbind = \"127.0.0.1:8080\"\n").loaded();
    let error = old.reload(&newer).expect_err("a contradiction");
    assert_eq!(error.needs_restart, ["http.bind"]);
    assert_eq!(error.contradictions.problems[0].key, "http.bind");
}

#[test]
fn the_file_of_a_secret_is_reloaded_like_the_secret() {
    for secret in crate::config::keys::secrets() {
        let file = crate::config::keys::find(&secret.file_key()).map(|key| key.effect);
        assert_eq!(file, Some(secret.effect), "{}", secret.path);
    }
    assert!(KEYS.iter().any(|key| key.effect == Effect::NextConnection));
}

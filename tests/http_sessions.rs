//! Sessions of browsers: how long they last, and what ends them.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::andon::{Andon, Site};
use crate::support::database::Database;
use crate::support::http::{Answer, Client};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;

const TOKEN: &str = "s3cret-of-hall-3";
const MINUTE: i64 = 60_000_000;

/// Returns name and value of the cookie that an answer sets.
fn cookie_of(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

/// A browser that is logged in.
struct Browser {
    client: Client,
    cookie: String,
}

impl Browser {
    fn log_in(client: &Client, token: &str) -> Self {
        let answer = client.request("POST", "/login", &format!("token={token}&next=%2F"));
        assert_eq!(answer.status, 303, "{}", answer.body);
        Self { client: client.clone(), cookie: cookie_of(&answer) }
    }

    fn client(&self) -> Client {
        self.client.with(&format!("Cookie: {}", self.cookie))
    }

    /// Opens the board and keeps the cookie that it gets.
    fn open(&mut self, path: &str) -> (u16, bool) {
        let answer = self.client().get(path);
        let is_fresh = answer.header("set-cookie").is_some();
        if is_fresh {
            self.cookie = cookie_of(&answer);
        }
        (answer.status, is_fresh)
    }

    fn status(&self) -> u16 {
        self.client().get("/api/v1/machines").status
    }
}

/// A site with a view token and one of the role operate, whose clock can be turned.
struct Scene {
    _broker: Mosquitto,
    site: Site,
    clock: PathBuf,
    tokens: String,
}

impl Scene {
    fn new() -> Self {
        let broker = Mosquitto::start("");
        let site = Site::new(broker.port());
        let tables = [("board", "view"), ("lead", "operate")].map(|(name, role)| {
            let file = site.path().join(name);
            std::fs::write(&file, format!("{TOKEN}-{name}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            format!("[[http.tokens]]\nname = \"{name}\"\nrole = \"{role}\"\ntoken_file = {file:?}\n")
        });
        let clock = site.path().join("clock-offset");
        let tokens = tables.concat();
        let scene = Self { _broker: broker, site: site.configure(&tokens), clock, tokens };
        scene.turn(0);
        scene
    }

    fn turn(&self, micros: i64) {
        let new = self.clock.with_extension("new");
        std::fs::write(&new, micros.to_string()).unwrap();
        std::fs::rename(&new, &self.clock).unwrap();
    }

    fn run(&self) -> (Andon, Client) {
        let mut andon = self.site.run_with(&format!("clock::offset=return({})", self.clock.display()));
        let client = Client::new(&andon.wait_for_http());
        // Before that, the audit log has lines and no rows.
        andon.wait_for_log("database open");
        (andon, client)
    }
}

#[test]
fn a_logout_ends_the_session_on_the_server_also_across_a_restart_and_no_other() {
    let scene = Scene::new();
    let (andon, client) = scene.run();
    let one = Browser::log_in(&client, &format!("{TOKEN}-board"));
    let other = Browser::log_in(&client, &format!("{TOKEN}-board"));
    assert_eq!((one.status(), other.status()), (200, 200));
    let mut stream = one.client().stream("/api/v1/stream");
    let mut of_other = other.client().stream("/api/v1/stream");
    assert!(stream.by_ref().any(|line| line == "event: status"));
    let logout = one.client().request("POST", "/logout", "");
    assert_eq!((logout.status, logout.header("location")), (303, Some("/login")));
    // Whoever has copied the cookie is out, too, and what was open ends.
    assert_eq!((one.status(), other.status()), (401, 200));
    assert_eq!(stream.last().as_deref(), Some(""), "the stream ends");
    assert_eq!(
        of_other.by_ref().filter(|line| line == "event: status").take(3).count(),
        3,
        "the other goes on"
    );
    let file = scene.site.journal_dir().join("sessions.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(TOKEN) && !text.contains(&one.cookie), "{text}");
    let audit = |action: &str, outcome: &str| {
        let condition = format!("action = '{action}' AND outcome = '{outcome}' AND source = '127.0.0.1'");
        Database::open(&scene.site.sqlite_url())
            .unwrap()
            .number(&format!("SELECT count(*) AS value FROM audit_event WHERE {condition}"))
    };
    wait_until("the rows", || (audit("login", "done"), audit("logout", "done")) == (2, 1));
    andon.kill();

    let (andon, client) = scene.run();
    let again = |browser: &Browser| Browser { client: client.clone(), cookie: browser.cookie.clone() };
    assert_eq!((again(&one).status(), again(&other).status()), (401, 200));
    assert!(andon.stop().success());
    // Without the file everybody has to log in again.
    std::fs::remove_file(&file).unwrap();
    let (andon, client) = scene.run();
    let other = Browser { client, cookie: other.cookie };
    assert_eq!(other.status(), 401);
    assert!(andon.stop().success());
}

#[test]
fn a_board_that_is_open_stays_logged_in_and_one_that_is_left_does_not() {
    let scene = Scene::new();
    let (andon, client) = scene.run();
    let token = format!("{TOKEN}-board");
    let login = client.request("POST", "/login", &format!("token={token}&next=%2F"));
    assert!(
        login.header("set-cookie").unwrap().contains("Max-Age=604800"),
        "{:?}",
        login.header("set-cookie")
    );
    let (mut wall, mut left) = (Browser::log_in(&client, &token), Browser::log_in(&client, &token));
    let first = wall.cookie.clone();
    assert_eq!(wall.open("/"), (200, false), "fresh enough");
    let day = 24 * 60 * MINUTE;
    for days in 1..=30 {
        scene.turn(days * day);
        let path = ["/", "/machines?id=x", "/machines/x"][days as usize % 3];
        assert!(wall.open(path).1, "day {days}: {path}");
        assert_eq!(wall.open("/"), (200, false), "day {days}");
        assert_eq!(left.status(), if days < 7 { 200 } else { 401 }, "day {days}: the API does not renew");
    }
    let session = |cookie: &str| cookie.split('.').nth(2).unwrap().to_owned();
    assert_eq!(session(&wall.cookie), session(&first), "it is the same session");
    assert_eq!(left.open("/").0, 401);
    // The live stream renews it, too; its files never do, because caches keep them.
    scene.turn(32 * day);
    let style =
        wall.client().get("/").body.split('"').find(|part| part.ends_with("/andon.css")).unwrap().to_owned();
    assert!(wall.client().get(&style).header("set-cookie").is_none());
    let head: Vec<String> =
        wall.client().stream("/api/v1/stream").take_while(|line| !line.is_empty()).collect();
    assert!(
        head.iter().any(|line| line.to_ascii_lowercase().starts_with("set-cookie: andon-test=v1.")),
        "{head:?}"
    );
    assert!(andon.stop().success());
}

#[test]
fn a_session_that_may_change_something_lasts_half_a_day_and_is_not_renewed() {
    let scene = Scene::new();
    let (andon, client) = scene.run();
    let login = client.request("POST", "/login", &format!("token={TOKEN}-lead&next=%2F"));
    assert!(login.header("set-cookie").unwrap().contains("Max-Age=43200"));
    let mut lead = Browser { client, cookie: cookie_of(&login) };
    for (minutes, status) in [(0, 200), (600, 200), (719, 200), (721, 401)] {
        scene.turn(minutes * MINUTE);
        assert_eq!(lead.open("/"), (status, false), "after {minutes} min");
    }
    // A stream ends with its session.
    let lead = Browser::log_in(&lead.client, &format!("{TOKEN}-lead"));
    scene.turn(721 * MINUTE + 12 * 60 * MINUTE - 3_000_000);
    let stream = lead.client().stream("/api/v1/stream");
    assert!(stream.filter(|line| line == "event: end").count() == 1);
    // A clock that is set back by years does not revive it, or make it last for years.
    scene.turn(721 * MINUTE);
    assert_eq!(lead.status(), 200);
    scene.turn(-365 * 24 * 60 * MINUTE);
    assert_ne!(lead.status(), 500);
    assert!(andon.stop().success());
}

#[test]
fn another_role_name_or_lifetime_ends_sessions_at_a_reload() {
    let scene = Scene::new();
    let config = scene.site.path().join("config/sites/test.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (andon, client) = scene.run();
    let token = format!("{TOKEN}-board");
    let write = |text: &str| {
        std::fs::write(&config, text).unwrap();
        andon.signal("HUP");
    };
    let renamed = text.replace("\"board\"\nrole", "\"wall\"\nrole");
    for changed in [renamed, text.replace("role = \"view\"", "role = \"metrics\"")] {
        assert_ne!(changed, text);
        let browser = Browser::log_in(&client, &token);
        assert_eq!(browser.status(), 200);
        write(&changed);
        wait_until("the session to end", || browser.status() == 401);
        write(&text);
        wait_until("the session to count again", || browser.status() == 200);
    }
    let browser = Browser::log_in(&client, &token);
    scene.turn(10 * MINUTE);
    assert_eq!(browser.status(), 200);
    write(&text.replace(&scene.tokens, &format!("[http]\nsession_max = \"5m\"\n{}", scene.tokens)));
    wait_until("the session to be too old", || browser.status() == 401);
    assert!(andon.stop().success());
}

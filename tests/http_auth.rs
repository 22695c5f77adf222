//! Authentication, methods, and the limits on clients.

use std::io::{Read, Write};

use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;

const TOKEN: &str = "s3cret-of-hall-3";

/// Proves HTTP-4.
#[test]
fn without_the_token_every_request_gets_401() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set(&format!("http.token={TOKEN}"));
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    let paths = [
        "/livez",
        "/readyz",
        "/metrics",
        "/api/openapi.json",
        "/api/v1/status",
        "/api/v1/machines",
        "/api/v1/nothing",
    ];
    for path in paths {
        for stranger in
            [&client, &client.with("Authorization: Bearer wrong"), &client.with("Cookie: andon-test=wrong")]
        {
            let answer = stranger.get(path);
            assert_eq!(answer.status, 401, "{path}: {}", answer.body);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"andon\""));
            assert_eq!(answer.json()["status"].as_u64(), Some(401));
        }
    }
    let friend = client.with(&format!("Authorization: Bearer {TOKEN}"));
    assert_eq!(friend.get("/livez").status, 200);
    assert_eq!(friend.get("/api/v1/machines").status, 200);
    assert!(!andon.log().contains(TOKEN), "the token is in the log");
    assert!(andon.stop().success());
}

#[test]
fn a_browser_logs_in_with_the_form_or_the_address_and_keeps_a_cookie() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set(&format!("http.token={TOKEN}"));
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());

    let page = client.get("/machines/a%2Fb?kiosk");
    assert_eq!(page.status, 401);
    assert!(
        page.body.contains("<form method=\"post\" action=\"/login\">")
            && page.body.contains("/machines/a%2Fb?kiosk")
    );
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    // Its style sheet is public, the scripts of the board are not.
    let style = page.body.split('"').find(|part| part.ends_with("/andon.css")).unwrap();
    assert_eq!(client.get(style).status, 200);
    assert_eq!(client.get(&style.replace("andon.css", "board.js")).status, 401);
    let wrong = client.request("POST", "/login", "token=wrong&next=%2F");
    assert!(wrong.status == 401 && wrong.header("set-cookie").is_none());

    let by_form = client.request("POST", "/login", &format!("token={TOKEN}&next=%2Fmachines%2Fx"));
    assert_eq!((by_form.status, by_form.header("location")), (303, Some("/machines/x")));
    let elsewhere = client.request("POST", "/login", &format!("token={TOKEN}&next=%2F%2Fevil.example"));
    assert_eq!(elsewhere.header("location"), Some("/"));
    let by_address = client.get(&format!("/?kiosk&token={TOKEN}"));
    assert_eq!((by_address.status, by_address.header("location")), (303, Some("/?kiosk")));

    for answer in [by_form, by_address] {
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        assert!(!cookie.contains(TOKEN), "{cookie}");
        let visitor = client.with(&format!("Cookie: {}", cookie.split(';').next().unwrap()));
        assert_eq!(visitor.get("/api/v1/status").status, 200);
        let logout = visitor.request("POST", "/logout", "");
        assert!(logout.header("set-cookie").unwrap().contains("Max-Age=0"));
    }
    assert!(andon.stop().success());
}

#[test]
fn two_sites_on_one_host_do_not_log_each_other_out() {
    let broker = Mosquitto::start("");
    let mut jar: Vec<String> = Vec::new();
    let mut sites = Vec::new();
    for id in ["hall-3", "hall-4"] {
        // The same token, as is common in one plant.
        let site = Site::new(broker.port())
            .set(&format!("site.id={id}"))
            .set(&format!("mqtt.client_id=andon-{id}"))
            .set(&format!("http.token={TOKEN}"));
        let mut andon = site.run();
        let client = Client::new(&andon.wait_for_http());
        let answer = client.get(&format!("/?token={TOKEN}"));
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        // Browsers keep cookies by name and host, for all ports.
        let name = format!("{}=", cookie.split('=').next().unwrap());
        jar.retain(|known| !known.starts_with(&name));
        jar.push(cookie);
        sites.push((site, andon, client));
    }
    let cookies = format!("Cookie: {}", jar.join("; "));
    for (_, _, client) in &sites {
        assert_eq!(client.with(&cookies).get("/api/v1/status").status, 200, "{cookies}");
    }
}

#[test]
fn every_path_answers_its_methods_and_lists_them_otherwise() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    for path in [
        "/",
        "/machines?id=nobody",
        "/favicon.ico",
        "/livez",
        "/metrics",
        "/api/v1/machines",
        "/api/openapi.json",
    ] {
        let (get, head) = (client.get(path), client.request("HEAD", path, ""));
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "HEAD {path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "HEAD {path}");
        for method in ["OPTIONS", "POST", "PUT", "DELETE"] {
            let refused = client.request(method, path, "");
            assert_eq!(
                (refused.status, refused.header("allow")),
                (405, Some("GET, HEAD")),
                "{method} {path}"
            );
            assert!(refused.header("access-control-allow-origin").is_none());
        }
    }
    assert_eq!(client.request("HEAD", "/api/v1/stream", "").status, 200);
    wait_until("no stream to be held by a HEAD", || {
        client.get("/metrics").body.contains("andon_http_streams 0")
    });
    assert_eq!(client.request("GET", "/logout", "").header("allow"), Some("POST"));
    let (get, head) = (client.get("/login"), client.request("HEAD", "/login", ""));
    assert_eq!((head.status, head.body.as_str()), (get.status, ""), "HEAD /login");
    for method in ["OPTIONS", "PUT", "DELETE"] {
        let refused = client.request(method, "/login", "");
        assert_eq!(
            (refused.status, refused.header("allow")),
            (405, Some("GET, HEAD, POST")),
            "{method} /login"
        );
        assert!(refused.json()["detail"].as_str().unwrap().contains("POST"), "{}", refused.body);
    }

    // An unknown path is a problem for programs and a page for people, and never becomes markup.
    for path in ["/api", "/api/", "/api/v2/x", "/api/v1/nothing"] {
        let answer = client.get(path);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (404, Some("application/problem+json")),
            "{path}"
        );
    }
    for path in [
        "/nothing",
        "/..%2f..%2fetc%2fpasswd",
        "/%3Cscript%3Ealert(1)%3C/script%3E",
        "/machines/a/b",
        "/assets",
    ] {
        let answer = client.get(path);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (404, Some("text/html; charset=utf-8")),
            "{path}"
        );
        assert!(
            answer.body.contains("There is no such page") && !answer.body.contains("<script>"),
            "{}",
            answer.body
        );
        assert!(answer.header("content-security-policy").unwrap().contains("default-src 'none'"));
    }
    assert_eq!(client.get("/favicon.ico").header("content-type"), Some("image/svg+xml"));
    assert!(andon.stop().success());
}

#[test]
fn without_a_token_a_foreign_host_is_refused() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    let rebound = client.with("Host: evil.example:8080").get("/api/v1/machines");
    assert_eq!(rebound.status, 421);
    assert_eq!(client.with("Host: localhost").get("/api/v1/machines").status, 200);
    let answer = client.get("/api/v1/status");
    assert!(answer.header("access-control-allow-origin").is_none());
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert!(andon.stop().success());
}

/// Proves HTTP-2.
#[test]
fn a_client_is_limited_in_streams_headers_time_and_body() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("http.streams_max=2");
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    let mut streams: Vec<_> = (0..2).map(|_| client.stream("/api/v1/stream")).collect();
    for stream in &mut streams {
        assert!(stream.any(|line| line == "event: status"));
    }
    assert_eq!(client.get("/api/v1/stream").status, 503);
    streams.pop();
    wait_until("room for another stream", || {
        let line = client.stream("/api/v1/stream").next();
        line.is_some_and(|line| line.contains("200"))
    });

    // An endless header is cut off.
    let mut endless = client.open();
    let _cut_off =
        (0..64).try_for_each(|_| endless.write_all(format!("X: {}\r\n", "x".repeat(8_000)).as_bytes()));
    let mut answer = Vec::new();
    let _reset = endless.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "));
    // An incomplete header times out: the server closes, or answers that it took too long.
    let mut slow = client.open();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n").unwrap();
    let mut answer = Vec::new();
    let _reset = slow.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "));
    let large = client.request("POST", "/login", &format!("token={}", "x".repeat(20_000)));
    assert!(large.status == 413 || large.status == 303, "{}", large.status);
    assert_eq!(client.get("/livez").status, 200);
    assert!(andon.stop().success());
}

#[test]
fn the_health_command_asks_the_running_service() {
    let broker = Mosquitto::start("");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let site = Site::new(broker.port())
        .set(&format!("http.bind=127.0.0.1:{port}"))
        .set(&format!("http.token={TOKEN}"));
    let output = site.command(&["health"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is `andon run` running?"), "{output:?}");

    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_http();
    wait_until("health", || site.command(&["health"]).status().unwrap().success());
    assert!(site.command(&["health", "--live"]).status().unwrap().success());
    drop(broker);
    andon.wait_for_log("the link to the broker is down");
    let output = site.command(&["health"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mqtt: not connected to"), "{output:?}");
    assert!(site.command(&["health", "--live"]).status().unwrap().success(), "alive without a broker");
    assert!(andon.stop().success());
}

/// Writes a token into a file of the site, and returns its table in `http.tokens`.
fn named_token(site: &Site, name: &str, role: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let file = site.path().join(name);
    std::fs::write(&file, format!("{TOKEN}-{name}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("[[http.tokens]]\nname = \"{name}\"\nrole = \"{role}\"\ntoken_file = {file:?}\n")
}

#[test]
fn each_role_opens_its_own_paths_and_no_others() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("http.token=the-one-of-before");
    let tables = [("board", "view"), ("prometheus", "metrics"), ("lead", "operate")]
        .map(|(name, role)| named_token(&site, name, role));
    let site = site.configure(&tables.concat());
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    wait_until("the service to be ready", || {
        client.with(&format!("Authorization: Bearer {TOKEN}-lead")).get("/readyz").status == 200
    });
    let paths = ["/", "/machines/x", "/api/v1/status", "/api/openapi.json", "/metrics", "/livez", "/readyz"];
    for (token, expected, change) in [
        (format!("{TOKEN}-board"), [200, 200, 200, 200, 403, 403, 403], 403),
        (format!("{TOKEN}-prometheus"), [403, 403, 403, 403, 200, 200, 200], 403),
        (format!("{TOKEN}-lead"), [200; 7], 404),
        ("the-one-of-before".to_owned(), [200; 7], 403),
        (format!("{TOKEN}-nobody"), [401; 7], 401),
    ] {
        let friend = client.with(&format!("Authorization: Bearer {token}"));
        let statuses = paths.map(|path| friend.get(path).status);
        assert_eq!(statuses.map(|status| if status == 404 { 200 } else { status }), expected, "{token}");
        let forget = friend.request("DELETE", "/api/v1/machines/typo", "");
        assert_eq!(forget.status, change, "{token}: {}", forget.body);
        let refused = friend.get("/metrics");
        assert!(refused.status != 403 || refused.json()["detail"].as_str().unwrap().contains("\"board\""));
    }
    let shown = site.command(&["config", "show"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("prometheus") && !shown.contains(TOKEN), "{shown}");
    assert!(!andon.log().contains(TOKEN), "a token is in the log");
    assert!(andon.stop().success());
}

#[test]
fn the_health_check_uses_a_named_token_if_there_is_no_other() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).without("http.bind").set("http.bind=127.0.0.1:0");
    let token = named_token(&site, "container", "metrics");
    let site = site.configure(&token);
    let mut andon = site.run();
    let address = andon.wait_for_http();
    let bind = address.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let health = || site.command(&["--set", &format!("http.bind={bind}"), "health"]).output().unwrap();
    wait_until("the health check", || health().status.code() == Some(0));
    std::fs::write(site.path().join("container"), "not-the-token-of-the-service\n").unwrap();
    let refused = health();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("http.tokens"), "{refused:?}");
    assert!(andon.stop().success());
}

#[test]
fn a_token_is_added_and_revoked_by_a_reload_and_its_sessions_with_it() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let config = site.path().join("config/sites/test.toml");
    let without = std::fs::read_to_string(&config).unwrap();
    let (one, two) = (named_token(&site, "one", "view"), named_token(&site, "two", "view"));
    let site = site.configure(&one);
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    let status = |name: &str| {
        client.with(&format!("Authorization: Bearer {TOKEN}-{name}")).get("/api/v1/status").status
    };
    assert_eq!((status("one"), status("two")), (200, 401));
    let login = client.request("POST", "/login", &format!("token={TOKEN}-one&next=%2F"));
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let visitor = client.with(&format!("Cookie: {cookie}"));
    assert_eq!(visitor.get("/api/v1/status").status, 200);

    std::fs::write(&config, format!("{without}\n{two}")).unwrap();
    andon.signal("HUP");
    wait_until("the new token", || status("two") == 200);
    assert_eq!((status("one"), visitor.get("/api/v1/status").status), (401, 401));
    assert!(andon.stop().success());
}

#[test]
fn tokens_that_cannot_be_told_apart_or_can_be_guessed_are_refused() {
    let site = Site::new(1).without("http.bind").set("http.bind=0.0.0.0:0");
    let short = site.path().join("short");
    std::fs::write(&short, "short\n").unwrap();
    let table = |name: &str, file: &std::path::Path| {
        format!("[[http.tokens]]\nname = \"{name}\"\nrole = \"view\"\ntoken_file = {file:?}\n")
    };
    let missing = site.path().join("missing");
    let tables = [table("a", &short), table("a", &short)].concat();
    let check = |site: &Site| {
        let output = site.command(&["config", "check"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let site = site.configure(&tables);
    let said = check(&site);
    for part in ["another token is named \"a\"", "another token is the same text", "fewer than 16 characters"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = check(&Site::new(1).without("http.bind").set("http.bind=0.0.0.0:0").set("http.token=short"));
    assert!(said.contains("http.token") && said.contains("fewer than 16 characters"), "{said}");
    let site = Site::new(1).configure(&table("a", &missing));
    let said = check(&site);
    assert!(said.contains("http.tokens[0].token_file") && said.contains("cannot read"), "{said}");
}

/// Proves HTTP-5.
#[test]
fn tokens_cannot_be_guessed_fast_and_the_log_says_who_tries() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set(&format!("http.token={TOKEN}"));
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    andon.wait_for_log("database open");
    let guesser = client.at(66);
    let guess = |token: &str, number: usize| match number % 3 {
        0 => guesser.with(&format!("Authorization: Bearer {token}")).get("/api/v1/status").status,
        1 => guesser.request("POST", "/login", &format!("token={token}&next=%2F")).status,
        _ => guesser.get(&format!("/?token={token}")).status,
    };
    let begun = std::time::Instant::now();
    let statuses: Vec<u16> = (0..300).map(|number| guess(&format!("guess-{number}"), number)).collect();
    // Five are free; then the waits double.
    let checked = statuses.iter().filter(|status| **status == 401).count() as u32;
    assert!(checked < 6 + (begun.elapsed().as_secs() as u32 + 2).ilog2() + 1, "{checked} were checked");
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    let rows = "SELECT count(*) AS value FROM audit_event WHERE action = 'login' AND outcome = 'refused' AND source = '127.0.0.66'";
    wait_until("a row for each that was checked", || {
        Database::open(&site.sqlite_url()).and_then(|mut database| database.try_number(rows))
            == Some(checked.into())
    });
    // Whatever it has to wait, the right one is admitted then.
    wait_until("the right token to be looked at", || guess(TOKEN, 0) == 200);
    let friend = client.with(&format!("Authorization: Bearer {TOKEN}"));
    let metrics = friend.get("/metrics").body;
    let failures = metrics.lines().find_map(|line| line.strip_prefix("andon_http_auth_failures_total "));
    assert!(failures.unwrap().parse::<u32>().unwrap() >= 300, "{failures:?}");
    assert!(metrics.contains("andon_http_requests_total{route=\"/login\",code=\"429\"}"), "{metrics}");
    let log = andon.log();
    assert_eq!(log.matches("somebody guesses tokens").count(), 1, "{log}");
    assert!(log.contains("address: 127.0.0.66") && !log.contains("guess-"), "{log}");
    assert!(andon.stop().success());
}

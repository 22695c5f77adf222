//! Authentication: every path, with every way to lack the token.

use super::client::{Answer, Client};
use super::{SITE, Server, TOKEN, every_path};
use crate::http::login_page::is_public;

fn is_for_programs(path: &str) -> bool {
    path.starts_with("/api/") || ["/metrics", "/livez", "/readyz"].contains(&path)
}

/// The cookie that the login sets, as a browser sends it.
fn cookie_of(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

/// The cookie of a new session.
fn logged_in(client: &Client) -> String {
    cookie_of(&client.request("POST", "/login", &format!("token={TOKEN}&next=%2F")))
}

/// Proves HTTP-4.
#[test]
fn without_the_token_every_path_but_the_login_and_its_files_answers_401() {
    let server = Server::with_token();
    let mut asked = 0;
    for path in every_path().iter().filter(|path| !is_public(path)) {
        for method in ["GET", "HEAD", "POST", "OPTIONS", "DELETE"] {
            let is_login = path == "/login" && method != "GET" && method != "HEAD";
            // The login needs no token to refuse a method or a body.
            let expected: &[u16] = if is_login { &[405, 415] } else { &[401] };
            let answer = server.client.request(method, path, "");
            assert!(expected.contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.body);
            assert!(!answer.body.contains("temperature"), "{method} {path}: {}", answer.body);
            if is_for_programs(path) && method != "HEAD" {
                assert_eq!(answer.json()["status"].as_u64(), Some(401), "{method} {path}");
            }
            asked += 1;
        }
        let authorized = server.authorized();
        if path != "/login" {
            let status = authorized.request("HEAD", path, "").status;
            assert!(status != 401, "{path} with the token: {status}");
        }
    }
    assert!(asked > 75, "{asked}");
    for path in ["/nothing", "/api", "/api/v2", "/machines/a/b", "//", "/assets/x/board.js"] {
        assert_eq!(server.client.get(path).status, 401, "{path}: not even a 404 without the token");
    }
}

/// Proves HTTP-4.
#[test]
fn programs_need_exactly_the_bearer_token() {
    let server = Server::with_token();
    let table = [
        ("Bearer s3cret", 200),
        ("bearer s3cret", 200),
        ("BEARER s3cret", 200),
        ("Bearer   s3cret", 200),
        // In HTTP, trailing spaces do not belong to the value.
        ("Bearer s3cret   ", 200),
        ("Bearer s3cre", 401),
        ("Bearer s3cretx", 401),
        ("Bearer S3CRET", 401),
        ("Bearer \"s3cret\"", 401),
        ("Bearer s3cret, Bearer s3cret", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearers3cret", 401),
        ("Bearer:s3cret", 401),
        ("Token s3cret", 401),
        ("Basic s3cret", 401),
        ("Basic YW5kb246czNjcmV0", 401),
        ("s3cret", 401),
        ("", 401),
    ];
    for (number, (value, status)) in (2..).zip(table) {
        // Each from an address of its own: guessing is slow.
        let client = server.client.at(number).with(&format!("Authorization: {value}"));
        for path in ["/api/v1/machines", "/metrics", "/readyz"] {
            let found = client.get(path).status;
            // /readyz answers 503 here.
            assert_eq!(found == 401, status == 401, "{value:?} {path}: {found}");
        }
    }
}

#[test]
fn an_unreadable_form_is_a_problem_that_says_what_is_expected() {
    let server = Server::with_token();
    let large = format!("token={}", "x".repeat(20_000));
    for (body, status) in [("", 415), ("next=%2F", 400), ("token=%ff", 401), (large.as_str(), 413)] {
        let answer = server.client.request("POST", "/login", body);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.header("set-cookie").is_none());
        if status != 401 {
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains("expected token=<token>"), "{detail}");
        }
    }
}

/// Proves HTTP-4.
#[test]
fn browsers_need_exactly_the_cookie() {
    let server = Server::with_token();
    let cookie = logged_in(&server.client);
    let (name, value) = cookie.split_once('=').unwrap();
    let parts: Vec<&str> = value.split('.').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    assert_eq!((name, parts[0]), (format!("andon-{SITE}").as_str(), "v1"));
    assert_eq!(lengths, [2, 16, 32, 13, 64], "{value}");
    let status = |cookie: &str| {
        let client = server.client.with(&format!("Cookie: {cookie}"));
        let (api, page) = (client.get("/api/v1/machines").status, client.get("/").status);
        assert_eq!(api, page, "{cookie}");
        api
    };
    assert_eq!(status(&cookie), 200);
    assert_eq!(status(&format!("a=b; {cookie}; c=d")), 200);
    let (signed, mac) = value.rsplit_once('.').unwrap();
    let another = logged_in(&server.client).rsplit_once('.').unwrap().1.to_owned();
    let wrong = [
        String::new(),
        value[..1].to_owned(),
        value[..32].to_owned(),
        value[..value.len() - 1].to_owned(),
        value[1..].to_owned(),
        format!("{value}0"),
        format!("{value}{value}"),
        format!("\"{}\"", &value[..62]),
        value.to_uppercase(),
        format!("{}{}", &value[..value.len() - 1], if value.ends_with('0') { '1' } else { '0' }),
        // The code of another session, no code, and a later time.
        format!("{signed}.{another}"),
        format!("{signed}.{}", "0".repeat(64)),
        format!("{signed}."),
        signed.to_owned(),
        format!("v1.{}.{}.9{}.{mac}", parts[1], parts[2], &parts[3][1..]),
        format!("v2{}", &value[2..]),
        // As it was before 0.3.0.
        "0".repeat(64),
        TOKEN.to_owned(),
    ];
    for wrong in wrong {
        assert_eq!(status(&format!("{name}={wrong}")), 401, "{wrong:?}");
    }
    for other in [format!("andon-hall-4={value}"), format!("andon-={value}"), format!("andon={value}")] {
        assert_eq!(status(&other), 401, "{other}");
    }
}

/// Proves HTTP-4.
#[test]
fn a_token_in_the_address_is_refused_for_programs() {
    let server = Server::with_token();
    for path in every_path().iter().filter(|path| is_for_programs(path)) {
        // The second one is the same path, percent-encoded.
        let percent = path.replacen("/a", "/%61", 1).replacen("/m", "/%6d", 1).replacen("/l", "/%6C", 1);
        for path in [path, &percent] {
            for query in [format!("?token={TOKEN}"), format!("?limit=1&token={TOKEN}")] {
                let answer = server.client.get(&format!("{path}{query}"));
                assert_eq!(answer.status, 401, "{path}{query}");
                assert!(answer.header("set-cookie").is_none(), "{path}{query}");
            }
        }
    }
    for path in ["/", "/machines?id=press-1&", "/machines/press-1"] {
        let mark = if path.contains('?') { "" } else { "?" };
        let with = |token: &str| server.client.get(&format!("{path}{mark}token={token}"));
        assert_eq!((with(TOKEN).status, with("s3cre").status, with("").status), (303, 401, 401), "{path}");
        let posted = server.client.request("POST", &format!("{path}{mark}token={TOKEN}"), "");
        assert_eq!(posted.status, 401, "a token in the address is valid for GET only");
    }
}

/// Proves HTTP-4.
#[test]
fn the_stream_needs_the_token_or_a_cookie_that_is_not_removed() {
    let server = Server::with_token();
    let first_line = |client: &Client| client.stream("/api/v1/stream").next().unwrap();
    let wrong = server.client.with("Authorization: Bearer wrong");
    assert!(first_line(&server.client).contains(" 401 ") && first_line(&wrong).contains(" 401 "));
    let cookie = logged_in(&server.client);
    let visitor = server.client.with(&format!("Cookie: {cookie}"));
    assert!(first_line(&visitor).contains(" 200 "));
    let both = visitor.with("Authorization: Bearer wrong");
    assert!(first_line(&both).contains(" 401 "), "a wrong token fails despite a valid cookie");

    let logout = visitor.request("POST", "/logout", "");
    let removal = logout.header("set-cookie").unwrap();
    assert!(removal.contains("Max-Age=0") && removal.contains("Path=/"), "{removal}");
    // A browser may keep the removed cookie with its empty value, or drop it.
    let kept = server.client.with(&format!("Cookie: {}", cookie_of(&logout)));
    assert!(first_line(&kept).contains(" 401 ") && first_line(&server.client).contains(" 401 "));
}

#[test]
fn without_a_token_every_path_is_refused_for_a_foreign_host() {
    let server = Server::local();
    let port = server.client.address().rsplit(':').next().unwrap().to_owned();
    let theirs = [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        "127.0.0.1.evil.example".to_owned(),
        "localhost.evil.example".to_owned(),
        "evil-localhost".to_owned(),
        "[::1].evil.example".to_owned(),
        "[::1]evil.example".to_owned(),
        "127.0.0.1:80:evil.example".to_owned(),
        "127.1".to_owned(),
        String::new(),
        // Not a name at all.
        "\u{e9}".to_owned(),
    ];
    for host in &theirs {
        let client = server.client.with(&format!("Host: {host}"));
        for path in every_path() {
            for method in ["GET", "POST"] {
                let status = client.request(method, &path, "").status;
                assert!(status == 421 || status == 400, "{method} {path} for {host:?}: {status}");
            }
        }
    }
    for host in ["evil.example", "evil.example:80", "user@127.0.0.1.evil.example"] {
        let target = format!("http://{host}/api/v1/machines");
        assert_eq!(server.client.get(&target).status, 421, "{target}");
    }
    assert_eq!(server.client.get(&format!("http://127.0.0.1:{port}/api/v1/machines")).status, 200);
    for host in ["localhost", "LocalHost:80", "127.0.0.1", "[::1]", "[::1]:8080", "192.168.1.7:8080"] {
        let client = server.client.with(&format!("Host: {host}"));
        assert_eq!(client.get("/api/v1/machines").status, 200, "{host:?}");
    }
}

#[test]
fn a_page_of_another_site_cannot_log_a_browser_out() {
    let server = Server::with_token();
    let own = format!("Origin: http://{}", server.client.address());
    let table = [
        ("Accept: */*", 303),
        (own.as_str(), 303),
        ("Sec-Fetch-Site: same-origin", 303),
        ("Sec-Fetch-Site: none", 303),
        ("Origin: http://evil.example", 403),
        ("Origin: null", 403),
        ("Referer: http://evil.example/x", 403),
        ("Origin: \u{e9}", 403),
        ("Sec-Fetch-Site: cross-site", 403),
        // Another port of this host, which may be another Andon.
        ("Sec-Fetch-Site: same-site", 403),
    ];
    for (header, status) in table {
        let answer = server.client.with(header).request("POST", "/logout", "");
        assert_eq!(
            (answer.status, answer.header("set-cookie").is_some()),
            (status, status == 303),
            "{header}"
        );
    }
}

/// Proves HTTP-5.
#[test]
fn a_page_of_another_site_can_neither_log_a_browser_in_nor_make_its_address_wait() {
    let server = Server::with_token();
    for foreign in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let client = server.client.with(foreign);
        for number in 0..10 {
            assert_eq!(client.request("POST", "/login", &format!("token=guess-{number}")).status, 403);
        }
        let answer = client.request("POST", "/login", "token=s3cret&next=%2F");
        assert_eq!((answer.status, answer.header("set-cookie")), (403, None), "{foreign}");
    }
    logged_in(&server.client);
}

/// Proves HTTP-5.
#[test]
fn guessing_waits_whichever_way_the_token_comes_and_sessions_go_on() {
    let server = Server::with_token();
    let visitor = server.client.with(&format!("Cookie: {}", logged_in(&server.client)));
    let bearer =
        |token: &str| server.client.with(&format!("Authorization: Bearer {token}")).get("/api/v1/machines");
    let form = |token: &str| server.client.request("POST", "/login", &format!("token={token}&next=%2F"));
    let address = |token: &str| server.client.get(&format!("/?token={token}"));
    let ways: [&dyn Fn(&str) -> Answer; 3] = [&bearer, &form, &address];
    let mut statuses = Vec::new();
    for number in 0..30 {
        statuses.push(ways[number % 3](&format!("guess-{number}")).status);
    }
    assert_eq!(statuses[..5], [401; 5]);
    let checked = statuses[5..].iter().filter(|status| **status == 401).count();
    assert!(checked <= 3, "{statuses:?}");
    assert!(statuses[5..].iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    // The right token is not told apart, whichever way it comes.
    for (number, way) in ways.iter().enumerate() {
        let answer = way(TOKEN);
        assert_eq!((answer.status, answer.header("set-cookie")), (429, None), "{}", answer.body);
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        assert!(answer.body.contains(&format!("in {wait} s")), "{}", answer.body);
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        assert_eq!(is_problem, number == 0, "programs get a problem, people the form");
    }
    assert_eq!(bearer("guess-0").status, 401, "one that is known to be wrong is no guess");
    assert_eq!(visitor.get("/api/v1/machines").status, 200, "a session goes on");
    assert_eq!(visitor.get(&format!("/?token={TOKEN}")).status, 200, "and does not help to guess");
    let other = server.authorized().at(2);
    assert_eq!(other.get("/api/v1/machines").status, 200, "another address goes on");
    // An invalid cookie is no guess.
    for number in 0..10 {
        let stranger = server.client.at(3).with(&format!("Cookie: andon-{SITE}={number}"));
        assert_eq!(stranger.get("/api/v1/machines").status, 401);
    }
    assert_eq!(server.authorized().at(3).get("/api/v1/machines").status, 200);
}

#[test]
fn a_program_that_logs_in_gets_a_problem() {
    let server = Server::with_token();
    let program = server.client.with("Accept: application/json");
    for answer in [program.request("POST", "/login", "token=wrong"), program.get("/login")] {
        assert_eq!((answer.status, answer.header("content-type")), (401, Some("application/problem+json")));
    }
    let browser = server.client.with("Accept: text/html,application/json");
    assert!(browser.get("/login").body.contains("<form"));
}

//! A reverse proxy before Andon: whom it is believed to speak for, and who else is not.

use crate::support::andon::Site;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::Single;

const TOKEN: &str = "s3cret-of-hall-3";
/// The address of the proxy is 127.0.0.5.
const PROXY: u8 = 5;

fn behind_a_proxy(broker: &Mosquitto) -> Site {
    Site::new(broker.port())
        .set("http.trusted_proxies=127.0.0.5,10.0.0.0/24")
        .set("http.proxy_user_header=X-Remote-User")
        .set("http.proxy_operators=anna")
}

#[test]
fn a_trusted_proxy_names_the_user_and_nobody_else_does() {
    let broker = Mosquitto::start("");
    let site = behind_a_proxy(&broker);
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    let (proxy, stranger) = (client.at(PROXY), client.at(6));
    let named = |client: &Client, name: &str| client.with(&format!("X-Remote-User: {name}"));
    for path in ["/", "/api/v1/machines", "/machines?id=x"] {
        assert_ne!(named(&proxy, "bert").get(path).status, 401, "{path}");
        for other in [&proxy, &named(&stranger, "bert"), &named(&client, "anna"), &stranger] {
            assert_eq!(other.get(path).status, 401, "{path}");
        }
        for wrong in ["", "an\u{200b}na", &"x".repeat(101)] {
            assert_eq!(named(&proxy, wrong).get(path).status, 400, "{path} {wrong:?}");
        }
        let twice = named(&named(&proxy, "bert"), "anna").get(path);
        assert_eq!(twice.status, 400, "{path}");
        assert!(twice.json()["detail"].as_str().unwrap().contains("comes twice"), "{}", twice.body);
    }
    assert_eq!(named(&proxy, "bert").get("/metrics").status, 403, "the role is view");

    Single::connect(broker.port()).publish("factory/machine/press-1/telemetry", b"{}", 1);
    let machine = "/api/v1/machines/press-1";
    wait_until("the machine", || named(&proxy, "bert").get(machine).status == 200);
    let forget = |client: &Client| client.request("DELETE", machine, "");
    let refused = forget(&named(&proxy, "bert"));
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("the user \\\"bert\\\"") && refused.body.contains("http.proxy_operators"));
    // The proxy's session is as ambient as a cookie.
    for header in ["Sec-Fetch-Site: cross-site", "Origin: http://evil.example"] {
        assert_eq!(forget(&named(&proxy, "anna").with(header)).status, 403, "{header}");
    }
    assert_eq!(forget(&named(&stranger, "anna")).status, 401);
    let anna = named(&proxy, "anna").with("X-Forwarded-For: 1.1.1.1, 192.168.7.7, 10.0.0.9");
    assert_eq!(forget(&anna).status, 204);
    andon.wait_for_log("actor: anna, source: 192.168.7.7");
    assert!(andon.stop().success());
}

#[test]
fn guesses_count_for_the_client_behind_the_proxy_and_cannot_be_put_on_another() {
    let broker = Mosquitto::start("");
    let site = behind_a_proxy(&broker).set(&format!("http.token={TOKEN}"));
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    let status = |peer: u8, from: &str, token: &str| {
        let client = client.at(peer).with(&format!("X-Forwarded-For: {from}"));
        client.with(&format!("Authorization: Bearer {token}")).get("/api/v1/machines").status
    };
    for number in 0..8 {
        status(PROXY, "192.168.7.7", &format!("guess-{number}"));
        // Whoever is no proxy puts the blame on nobody but itself.
        status(6, "192.168.7.8", &format!("guess-{number}"));
    }
    assert_eq!(status(PROXY, "192.168.7.7", TOKEN), 429);
    assert_eq!(status(PROXY, "192.168.7.7, 192.168.7.8", TOKEN), 200);
    assert_eq!(status(6, "192.168.7.9", TOKEN), 429);
    andon.wait_for_log("address: 192.168.7.7");
    andon.wait_for_log("address: 127.0.0.6");
    assert!(!andon.log().contains("address: 192.168.7.8"));
    assert!(andon.stop().success());
}

#[test]
fn a_cookie_is_secure_if_the_proxy_says_that_the_client_speaks_tls() {
    let broker = Mosquitto::start("");
    let site = behind_a_proxy(&broker).set(&format!("http.token={TOKEN}"));
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    for (peer, proto, secure) in [(PROXY, "https", true), (PROXY, "http", false), (6, "https", false)] {
        let client = client.at(peer).with(&format!("X-Forwarded-Proto: {proto}"));
        let login = client.request("POST", "/login", &format!("token={TOKEN}&next=%2F"));
        let address = client.get(&format!("/?token={TOKEN}"));
        let logout = client.request("POST", "/logout", "");
        for answer in [login, address, logout] {
            let cookie = answer.header("set-cookie").unwrap();
            assert_eq!(cookie.contains("; Secure"), secure, "{proto} from 127.0.0.{peer}: {cookie}");
        }
    }
    assert!(andon.stop().success());
}

#[test]
fn an_address_that_others_reach_is_allowed_with_users_of_a_proxy_alone() {
    let check = |site: Site| {
        let output = site.command(&["config", "check"]).output().unwrap();
        (
            output.status.code(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let open = || Site::new(1).without("http.bind").set("http.bind=0.0.0.0:0");
    let header = || open().set("http.proxy_user_header=X-Remote-User");
    let (code, said) = check(header().set("http.trusted_proxies=10.0.0.5"));
    assert_eq!(code, Some(0), "{said}");
    for (site, part) in [
        (open(), "http.bind: other computers can reach it"),
        (open().set("http.trusted_proxies=10.0.0.5"), "http.bind: other computers can reach it"),
        (header(), "http.proxy_user_header: anybody could send it"),
        (
            header().set("http.trusted_proxies=0.0.0.0/0"),
            "http.trusted_proxies[0]: a range of 0.0.0.0 has a length from 1",
        ),
        (header().set("http.trusted_proxies=10.0.0.5/24"), "begins with 10.0.0.0"),
        (
            open().set("http.proxy_user_header=Authorization"),
            "http.proxy_user_header: expected the name of an HTTP header",
        ),
        (
            header().set("http.trusted_proxies=10.0.0.5").set("http.anonymous=true"),
            "http.anonymous: contradicts",
        ),
    ] {
        let (code, said) = check(site);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(part), "{part}: {said}");
    }
}

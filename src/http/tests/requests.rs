//! What is counted of the requests.

use super::Server;

fn metric(server: &Server, line: &str) -> Option<u64> {
    let text = server.authorized().get("/metrics").body;
    text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
}

#[test]
fn every_answer_is_counted_by_its_route_and_code_and_no_client_can_add_a_route() {
    let server = Server::with_token();
    let friend = server.authorized();
    for path in ["/api/v1/machines/press-1", "/api/v1/machines/press-2", "/%61pi/v1/machines/a%2Fb"] {
        friend.get(path);
    }
    for path in ["/nothing", "/api/v1/nothing/x", "/wp-login.php", "/api/v2"] {
        assert_eq!((friend.get(path).status, server.client.get(path).status), (404, 401));
    }
    friend.request("PUT", "/api/v1/machines", "");
    server.client.get("/");
    friend.request("HEAD", "/api/v1/stream", "");
    let count = |route: &str, code: u16| {
        metric(&server, &format!("andon_http_requests_total{{route=\"{route}\",code=\"{code}\"}}"))
    };
    assert_eq!(count("/api/v1/machines/{machine_id}", 200), Some(2));
    assert_eq!(count("/api/v1/machines/{machine_id}", 404), Some(1), "percent-encoded, as it is routed");
    assert_eq!((count("other", 404), count("other", 401)), (Some(4), Some(4)));
    assert_eq!((count("/api/v1/machines", 405), count("/", 401)), (Some(1), Some(1)));
    let text = server.authorized().get("/metrics").body;
    let routes: std::collections::BTreeSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("andon_http_requests_total{route=\"")).collect();
    assert!(routes.iter().all(|line| !line.contains("wp-login") && !line.contains("nothing")), "{routes:?}");
    let seconds = "andon_http_request_duration_seconds";
    assert_eq!(metric(&server, &format!("{seconds}_count{{route=\"other\"}}")), Some(8));
    assert_eq!(metric(&server, &format!("{seconds}_bucket{{route=\"other\",le=\"+Inf\"}}")), Some(8));
    assert_eq!(metric(&server, &format!("{seconds}_count{{route=\"/api/v1/stream\"}}")), Some(1));
}

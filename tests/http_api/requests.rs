//! Requests that are wrong, and those whose answer the client has already.

use super::Scene;
use crate::support::poll::wait_until;

pub(super) fn lists_that_have_not_changed_are_not_sent_again(scene: &Scene) {
    for path in
        ["/api/v1/machines", "/api/v1/events", "/api/v1/machines/press-1/readings", "/api/openapi.json"]
    {
        wait_until(&format!("304 for {path}"), || {
            let first = scene.client.get(path);
            let again =
                scene.client.with(&format!("If-None-Match: {}", first.header("etag").unwrap())).get(path);
            assert!(again.status == 200 || again.body.is_empty());
            again.status == 304
        });
    }
}

pub(super) fn invalid_requests_are_problems_that_name_the_fault(scene: &Scene) {
    let long = "x".repeat(101);
    let readings = scene.client.json("/api/v1/machines/press-1/readings?limit=1");
    let next = readings["next"].as_str().expect("there are more");
    let of_readings = format!("/api/v1/machines/press-1/readings?bucket=1m&cursor={next}");
    let wrong = [
        ("/api/v1/machines/press-1/readings?limit=0", 400, "limit"),
        ("/api/v1/machines/press-1/readings?to=", 400, "\"to\" is empty"),
        ("/api/v1/machines/press-1/readings?limit=many", 400, "limit"),
        ("/api/v1/machines/press-1/readings?from=yesterday", 400, "from"),
        ("/api/v1/machines/press-1/readings?from=2026-03-02&to=2026-03-01", 422, "is after to"),
        ("/api/v1/machines/press-1/readings?order=up", 400, "order"),
        ("/api/v1/machines/press-1/readings?format=xml", 400, "format"),
        ("/api/v1/machines/press-1/readings?cursor=7", 400, "cursor"),
        ("/api/v1/machines/press-1/readings?bucket=1", 400, "bucket"),
        ("/api/v1/machines/press-1/readings?bucket=1m&cursor=7", 400, "cursor"),
        (of_readings.as_str(), 422, "previous page"),
        // A minute after midnight, where a page of minutes may end.
        (
            "/api/v1/machines/press-1/readings?bucket=1h&cursor=00000000039387008000000000000000",
            422,
            "previous page",
        ),
        (
            "/api/v1/machines/press-1/readings?bucket=1s&from=2026-01-01&to=2026-12-31",
            422,
            "at most 50000 are allowed",
        ),
        ("/api/v1/machines/press-1/readings?limt=1", 400, "limt"),
        ("/api/v1/machines/press-1/summary?window=1y", 400, "window"),
        ("/api/v1/machines/%00", 400, "control character"),
        ("/api/v1/machines/%ff", 400, "UTF-8"),
        ("/api/v1/events?limit=1001", 400, "limit"),
        ("/api/v1/nothing", 404, "/api/v1/nothing"),
        ("/api/v1/machines/nobody/readings", 404, "nobody"),
        ("/api/v1/machines/nobody/readings?bucket=1m", 404, "nobody"),
        ("/api/v1/machines/nobody/readings?format=csv", 404, "nobody"),
        ("/api/v1/machines/nobody/summary", 404, "nobody"),
        ("/api/v1/machines/nobody/summary?window=1y", 400, "window"),
    ];
    let too_long = format!("/api/v1/machines/{long}");
    for (path, status, word) in wrong.into_iter().chain([(too_long.as_str(), 400, "101 characters")]) {
        let answer = scene.client.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        let problem = answer.json();
        assert_eq!(problem["status"].as_u64(), Some(u64::from(status)), "{path}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{path}: {problem}");
    }
    assert_eq!(scene.client.request("POST", "/api/v1/machines", "a=b").status, 405);
    assert_eq!(scene.client.request("DELETE", "/api/v1/events", "").status, 405);
}

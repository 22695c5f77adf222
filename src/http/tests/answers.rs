//! Responses: HEAD, caching, ETags.

use super::{Server, every_path};

#[test]
fn head_is_get_without_a_body_at_every_path() {
    for server in [Server::local(), Server::with_token()] {
        let mut asked = 0;
        for client in [&server.client, &server.authorized()] {
            for path in every_path() {
                if path == "/api/v1/stream" && client.request("HEAD", &path, "").status == 200 {
                    continue; // It never ends.
                }
                let (get, head) = (client.get(&path), client.request("HEAD", &path, ""));
                assert_eq!((head.status, head.body.as_str()), (get.status, ""), "HEAD {path}");
                assert!(!get.body.is_empty() || get.status == 303, "GET {path}: {}", get.status);
                for name in [
                    "content-type",
                    "location",
                    "cache-control",
                    "content-security-policy",
                    "www-authenticate",
                ] {
                    assert_eq!(head.header(name), get.header(name), "{name} of HEAD {path}");
                }
                asked += 1;
            }
        }
        assert!(asked > 30, "{asked}");
    }
}

#[test]
fn a_304_needs_the_token_too() {
    let server = Server::with_token();
    let mut tagged = 0;
    for path in every_path() {
        if path == "/api/v1/stream" {
            continue;
        }
        let first = server.authorized().get(&path);
        // No shared cache may keep a response.
        if first.status == 200 && !path.starts_with("/assets/") && path != "/favicon.ico" {
            let cache = first.header("cache-control").unwrap_or_default();
            assert!(cache.contains("private") || cache.contains("no-store"), "{path}: {cache:?}");
        }
        let Some(tag) = first.header("etag") else { continue };
        tagged += 1;
        let known = format!("If-None-Match: {tag}");
        for tag in [known.as_str(), "If-None-Match: *"] {
            let stranger = server.client.with(tag).get(&path);
            assert_eq!(stranger.status, 401, "{path} {tag}");
            assert!(stranger.header("etag").is_none(), "{path}");
        }
    }
    assert!(tagged >= 5, "{tagged}");
}

#[test]
fn an_etag_identifies_one_response() {
    let server = Server::local();
    server.commit(|batch| {
        batch.upto = crate::domain::Seq(2);
        batch.messages = 2;
        batch.readings = vec![super::pages::reading(1, 1, "{}"), super::pages::reading(2, 2, "{}")];
    });
    let client = &server.client;
    let readings = "/api/v1/machines/press-1/readings";
    let addresses = [
        "/api/v1/machines".to_owned(),
        "/api/v1/machines?limit=1".to_owned(),
        "/api/openapi.json".to_owned(),
        readings.to_owned(),
        format!("{readings}?limit=1"),
        format!("{readings}?order=asc"),
        format!("{readings}?bucket=1m&from=2026-03-01T10:00:00Z&to=2026-03-01T11:00:00Z"),
    ];
    let tags: Vec<_> =
        addresses.iter().map(|path| client.get(path).header("etag").unwrap().to_owned()).collect();
    for (path, own) in addresses.iter().zip(&tags) {
        assert!(own.starts_with('"') && own.ends_with('"'), "{own}");
        for tag in &tags {
            let answer = client.with(&format!("If-None-Match: {tag}")).get(path);
            assert_eq!(answer.status == 304, tag == own, "{path}: {} for {tag}", answer.status);
        }
    }
    let distinct: std::collections::HashSet<_> = tags.iter().collect();
    assert_eq!(distinct.len(), tags.len(), "{tags:?}");
    // The same rows in another format.
    let csv = client.with(&format!("If-None-Match: {}", tags[3])).get(&format!("{readings}?format=csv"));
    assert_eq!(csv.status, 200);
    server.commit(|batch| {
        (batch.upto, batch.messages) = (crate::domain::Seq(1), 1);
        batch.readings = vec![super::pages::reading(3, 3, "{}")];
    });
    let changed = client.with(&format!("If-None-Match: {}", tags[3])).get(readings);
    assert_eq!(changed.status, 200, "there is one more");
}

#[test]
fn the_page_of_a_machine_takes_the_first_of_repeated_parameters() {
    let server = Server::local();
    let table = [
        ("/machines/press-1?range=24h&range=7d", "24 hours"),
        ("/machines?id=press-1&id=press-2&range=7d", "7 days"),
        ("/machines/press-1?range=%ff&x=%00&=&&", "1 hour"),
    ];
    for (path, range) in table {
        let page = server.client.get(path);
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        assert!(page.body.contains("<h1><bdi dir=\"auto\">press-1</bdi></h1>"), "{path}: {}", page.body);
        assert!(page.body.contains(&format!("aria-current=\"page\">{range}</a>")), "{path}: {}", page.body);
    }
}

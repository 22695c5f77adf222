//! The OpenAPI document and the server's behaviour, held together: what a parameter's schema allows is accepted, and one
//! step past it is a 400.

use std::collections::BTreeSet;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex_lite::Regex;
use serde_json::Value;

use super::client::{Answer, Client};
use super::{Role, Server, TOKEN, access};

/// Texts at and around the bounds of every kind of parameter.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        "a",
        "0",
        "1",
        "desc",
        "Press-1",
        " a",
        "a ",
        "  ",
        "a b",
        "a/b",
        "a%2Fb",
        "é",
        "プレス",
        "😀",
        "a\tb",
        "a\n",
        "\0",
        "\u{1f}",
        "\u{7f}",
        "\u{80}",
        "\u{9f}",
        "\u{a0}",
        "\u{ad}",
        "\u{1680}",
        "\u{2000}",
        "\u{200a}",
        "a\u{200b}",
        "a\u{202e}b",
        "\u{202f}",
        "\u{205f}",
        "\u{3000}",
        "a\u{3164}",
        "a\u{feff}",
        "a\u{1bca0}",
        "a\u{1bca3}",
        "a\u{1bca4}",
        "a\u{e0fff}",
        "0s",
        "1s",
        "01s",
        "9s",
        "10s",
        "9999s",
        "79999s",
        "80000s",
        "86400s",
        "86401s",
        "90000s",
        "100000s",
        "0m",
        "1m",
        "999m",
        "1400m",
        "1440m",
        "1441m",
        "1500m",
        "0h",
        "1h",
        "09h",
        "20h",
        "24h",
        "25h",
        "0d",
        "1d",
        "2d",
        "1w",
        "1",
        "m",
        "-1m",
        "+1m",
        "1.5m",
        "1 m",
        "1M",
    ]
    .map(str::to_owned)
    .to_vec();
    for length in [31, 32, 33, 34, 99, 100, 101, 200, 201, 798, 799, 800, 801, 802] {
        texts.extend(["7", "F", "g", "é"].map(|character| character.repeat(length)));
    }
    texts
}

fn is_allowed(schema: &Value, text: &str) -> bool {
    let chars = text.chars().count() as u64;
    let is_long_enough = schema["minLength"].as_u64().is_none_or(|min| chars >= min);
    let is_short_enough = schema["maxLength"].as_u64().is_none_or(|max| chars <= max);
    let matches = |pattern: &str| Regex::new(pattern).unwrap().is_match(text);
    let is_word = |words: &Vec<Value>| words.iter().any(|word| word == text);
    let is_number = schema["type"] != "integer"
        || text.parse::<u64>().is_ok_and(|number| {
            number.to_string() == text
                && number >= schema["minimum"].as_u64().unwrap()
                && number <= schema["maximum"].as_u64().unwrap()
        });
    is_long_enough
        && is_short_enough
        && is_number
        && schema["pattern"].as_str().is_none_or(matches)
        && schema["enum"].as_array().is_none_or(is_word)
}

/// Returns the texts to try for a schema: those of every kind, and its own words and bounds.
fn candidates(schema: &Value) -> Vec<String> {
    let words = schema["enum"].as_array().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned());
    let mut all: Vec<String> = texts().into_iter().chain(words).collect();
    for bound in ["minimum", "maximum"].iter().filter_map(|bound| schema[*bound].as_u64()) {
        all.extend([bound - 1, bound, bound + 1].map(|number| number.to_string()));
    }
    all
}

/// An operation of the document.
struct Operation<'a> {
    method: String,
    path: &'a str,
    described: &'a Value,
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let paths = document["paths"].as_object().unwrap();
    let mut all = Vec::new();
    for (path, item) in paths {
        for (method, described) in item.as_object().unwrap() {
            all.push(Operation { method: method.to_uppercase(), path, described });
        }
    }
    all
}

impl Operation<'_> {
    fn parameters(&self) -> Vec<&Value> {
        self.described["parameters"].as_array().into_iter().flatten().collect()
    }

    /// Sends the request with one parameter, and checks that the document knows the response.
    fn ask(&self, client: &Client, parameter: &Value, text: &str) -> u16 {
        let text = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let name = parameter["name"].as_str().unwrap();
        let address = match parameter["in"].as_str().unwrap() {
            "path" => self.path.replace(&format!("{{{name}}}"), &text),
            _ => format!("{}?{name}={text}", self.path.replace("{machine_id}", "press-1")),
        };
        let answer = client.request(&self.method, &address, "");
        self.knows(&answer, &address);
        answer.status
    }

    fn knows(&self, answer: &Answer, address: &str) {
        let response = &self.described["responses"][answer.status.to_string()];
        assert!(response.is_object(), "{} {address}: {} is not described", self.method, answer.status);
        let Some(content_type) = answer.header("content-type") else { return };
        let described = response["content"].as_object().unwrap();
        let content_type = content_type.split(';').next().unwrap();
        assert!(described.contains_key(content_type), "{address}: {} {content_type}", answer.status);
    }
}

#[test]
fn a_parameter_is_accepted_exactly_if_its_schema_allows_it() {
    let server = Server::local();
    let document = server.client.json("/api/openapi.json");
    let (mut accepted, mut refused) = (0, 0);
    for operation in operations(&document) {
        for parameter in operation.parameters() {
            let schema = &parameter["schema"];
            if schema["anyOf"].is_array() {
                continue; // Instants have a test of their own.
            }
            for text in candidates(schema) {
                let is_in_path = parameter["in"] == "path";
                if is_in_path && text.is_empty() {
                    continue; // That is another path.
                }
                server.renew_snapshot();
                let status = operation.ask(&server.client, parameter, &text);
                let is_accepted = status != 400;
                let name = &parameter["name"];
                assert_eq!(
                    is_accepted,
                    is_allowed(schema, &text),
                    "{name}={text:?} at {}: {status}",
                    operation.path
                );
                *(if is_accepted { &mut accepted } else { &mut refused }) += 1;
            }
        }
    }
    assert!(accepted > 150 && refused > 150, "{accepted} {refused}");
}

#[test]
fn an_instant_is_a_date_time_or_a_date_of_rfc_3339() {
    let server = Server::local();
    let document = server.client.json("/api/openapi.json");
    let table = [
        ("2026-11-22", true),
        ("0001-01-01", true),
        ("9999-12-31", true),
        ("2024-02-29", true),
        ("2026-02-29", false),
        ("2026-11-31", false),
        ("2026-1-1", false),
        ("2026-1-001", false),
        ("+2026-1-01", false),
        ("12026-01-01", false),
        ("2026-11-22T20:00:00Z", true),
        ("2026-11-22t20:00:00z", true),
        ("2026-11-22T20:00:00.123456789123Z", true),
        ("2026-11-22T20:00:00+14:00", true),
        ("0001-01-01T00:00:00+14:00", true),
        ("9999-12-31T23:59:59-14:00", true),
        ("2016-12-31T23:59:60Z", true),
        ("2026-11-22T24:00:00Z", false),
        ("2026-11-22T20:00:00", false),
        ("2026-11-22T20:00Z", false),
        ("1700000000", false),
        ("now", false),
        ("", false),
    ];
    let mut asked = 0;
    for operation in operations(&document) {
        for parameter in
            operation.parameters().into_iter().filter(|parameter| parameter["schema"]["anyOf"].is_array())
        {
            let formats: Vec<&str> = parameter["schema"]["anyOf"]
                .as_array()
                .unwrap()
                .iter()
                .map(|of| of["format"].as_str().unwrap())
                .collect();
            assert_eq!(formats, ["date-time", "date"]);
            for (text, is_allowed) in table {
                let status = operation.ask(&server.client, parameter, text);
                assert_eq!(
                    status == 200,
                    is_allowed,
                    "{}={text:?} at {}: {status}",
                    parameter["name"],
                    operation.path
                );
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 4 * table.len());
    // The plus of an offset, as people write it.
    let plus = "/api/v1/events?from=2026-11-22T20:00:00+01:00";
    assert_eq!(server.client.get(plus).status, 200);
}

#[test]
fn parameters_that_are_right_but_do_not_go_together_are_a_422() {
    let server = Server::local();
    let readings = "/api/v1/machines/press-1/readings";
    let table = [
        ("from=2026-03-02&to=2026-03-01", "is after to"),
        ("bucket=1m&limit=1", "limit does not go with bucket"),
        ("bucket=1m&order=asc", "order does not go with bucket"),
        ("bucket=1m&format=json", "format does not go with bucket"),
        ("extra=pressure", "extra goes with bucket only"),
        ("bucket=1s&from=2026-01-01&to=2026-12-31", "at most 50000 are allowed"),
        // A minute after midnight, where a page of minutes may end.
        ("bucket=1h&cursor=00000000039387008000000000000000", "previous page"),
    ];
    for (query, words) in table {
        let answer = server.client.get(&format!("{readings}?{query}"));
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 422, "{query}: {detail}");
        assert!(detail.contains(words), "{query}: {detail}");
        // What is wrong by itself stays wrong.
        assert_eq!(server.client.get(&format!("{readings}?{query}&x=1")).status, 400, "{query}");
    }
    assert_eq!(server.client.get("/api/v1/events?from=2026-03-02&to=2026-03-01").status, 422);
}

#[test]
fn a_method_that_is_not_described_is_a_405_that_names_those_that_are() {
    let server = Server::local();
    let document = server.client.json("/api/openapi.json");
    for (path, item) in document["paths"].as_object().unwrap() {
        let mut described: BTreeSet<String> =
            item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        described.insert("HEAD".to_owned());
        let address = path.replace("{machine_id}", "press-1");
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "BREW"] {
            if described.contains(method) {
                continue;
            }
            let answer = server.client.request(method, &address, "");
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.body);
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
            let allowed: BTreeSet<String> =
                answer.header("allow").unwrap().split(", ").map(str::to_owned).collect();
            assert_eq!(allowed, described, "{method} {path}");
        }
    }
}

#[test]
fn the_document_asks_for_a_token_if_the_server_does() {
    let open = Server::local().client.json("/api/openapi.json");
    assert_eq!(open["security"], Value::Null);
    let server = Server::with_token();
    let closed = server.authorized().json("/api/openapi.json");
    assert_eq!(closed["security"], serde_json::json!([{ "token": [] }]));
    let mut refused = 0;
    for operation in operations(&closed) {
        let address = operation.path.replace("{machine_id}", "press-1");
        let answer = server.client.request(&operation.method, &address, "");
        assert_eq!(answer.status, 401, "{address}");
        operation.knows(&answer, &address);
        for name in operation.described["responses"]["401"]["headers"].as_object().unwrap().keys() {
            assert!(answer.header(name).is_some(), "{name}");
        }
        refused += 1;
    }
    assert!(refused > 11, "{refused}");
    let viewer = super::super::Token { name: "wall", roles: &[Role::View], secret: TOKEN };
    let server = Server::start(access(&[viewer]));
    let answer = server.authorized().request("DELETE", "/api/v1/machines/press-1", "");
    assert_eq!(answer.status, 403);
}

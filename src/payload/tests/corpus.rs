//! Payloads that once broke some parser, each with its outcome.

use super::*;

/// Payload and, for each element, `ok` or the reason.
const CORPUS: [(&[u8], &[&str]); 34] = [
    (b"", &["invalid_json"]),
    (b"\xEF\xBB\xBF", &["invalid_json"]),
    (b"\xEF\xBB\xBF\xEF\xBB\xBF{}", &["invalid_json"]),
    (b"\xEF\xBB\xBF{}", &["ok"]),
    (b"\xEF\xBB{}", &["invalid_utf8"]),
    (b"{}\0", &["invalid_json"]),
    (b"{}\n\n", &["ok"]),
    (b"{}{}", &["invalid_json"]),
    (b"{}\n{}", &["invalid_json"]),
    (b"[{},{}", &["invalid_json"]),
    (b"[,]", &["invalid_json"]),
    (b"[{}{}]", &["invalid_json"]),
    (b"[0,{},0]", &["not_an_object", "ok", "not_an_object"]),
    (b"{\"temperature\":.5}", &["invalid_json"]),
    (b"{\"temperature\":5.}", &["invalid_json"]),
    (b"{\"temperature\":+5}", &["invalid_json"]),
    (b"{\"temperature\":-}", &["invalid_json"]),
    (b"{\"temperature\":-NaN}", &["invalid_json"]),
    (b"{\"temperature\":1e}", &["invalid_json"]),
    (b"{\"temperature\":nan,\"humidity\":inf}", &["ok"]),
    (b"{\"temperature\":nanx}", &["invalid_json"]),
    (b"{nan:1}", &["invalid_json"]),
    (b"{\"a\":\"NaN", &["invalid_json"]),
    (b"{\"a\":NaN,\"b\":\"\\", &["invalid_json"]),
    (b"\"\\ud800\"", &["not_an_object"]),
    (b"{\"a\":\"\\u00\"}", &["invalid_json"]),
    (b"{\"a\":\"\\uD83D\\u0041\"}", &["invalid_json"]),
    (b"{\"$serde_json::private::RawValue\":\"{\"}", &["ok"]),
    (b"{\"$serde_json::private::Number\":\"1e\"}", &["ok"]),
    (b"{\"__proto__\":{\"x\":1}}", &["ok"]),
    (b"{\"machine_id\":\"\\u0000\"}", &["invalid_machine_id"]),
    (b"{\"machine_id\":\"../../etc/passwd\"}", &["ok"]),
    (b"{\"timestamp\":\"\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\"}", &["ok"]),
    (b"{\"timestamp\":\"2025-11-22T\xC3\xA9\xC3\xA9:11\"}", &["ok"]),
];

#[test]
fn the_corpus_is_read_as_written_down() {
    for (payload, expected) in CORPUS {
        let outcomes = interpret(payload);
        let found: Vec<&str> = outcomes
            .iter()
            .map(|outcome| {
                outcome.result.as_ref().map_or_else(|rejection| rejection.reason.as_str(), |_| "ok")
            })
            .collect();
        assert_eq!(found, expected, "{}", payload.escape_ascii());
    }
}

/// Proves PAY-5.
#[test]
fn large_hostile_payloads_cost_no_more_than_their_length() {
    let fill = |unit: &str, before: &str, after: &str| {
        let count = (MAX_PAYLOAD - before.len() - after.len()) / unit.len();
        format!("{before}{}{after}", unit.repeat(count))
    };
    let payloads = [
        fill("1,", "[", "1]"),
        fill("NaN,", "[", "1]"),
        fill("\"a\":1,", "{", "\"a\":1}"),
        fill("\\\"", "{\"a\":\"", "\"}"),
        fill("[],", "{\"a\":[", "1]}"),
        fill("{\"a\":", "", ""),
        fill("nan", "", ""),
        fill("\n", "", "{\"a\":}"),
        fill("9", "{\"timestamp\":", "}"),
        fill("9", "{\"timestamp\":\"", "\"}"),
        fill("9", "{\"temperature\":", "}"),
        fill("0", "{\"temperature\":0.", "}"),
    ];
    let started = std::time::Instant::now();
    for payload in &payloads {
        assert!(!interpret(payload).is_empty());
    }
    // Linear work takes milliseconds each; anything quadratic takes minutes.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

//! Machine ids with a meaning for browsers, paths or readers.

use super::Plant;

const NAMES: [&str; 14] = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=document.title='owned'>",
    "\"><b id=owned>",
    "' onmouseover='x",
    "a/b/c",
    "50% off",
    "%2e%2e%2f",
    "#anchor?query=1&x=y",
    "with  spaces + plus",
    "..",
    "x\u{a0}txt.exe",
    "מכונה 7",
    "🏭🔧",
    "&amp;\\u003cb\\u003e`${1}`",
];

/// Proves BRD-2.
#[test]
fn hostile_machine_ids_stay_text_and_have_a_page_each() {
    let mut plant = Plant::open(&[]);
    let longest = "x".repeat(100);
    let names: Vec<&str> = NAMES.into_iter().chain([longest.as_str()]).collect();
    for name in &names {
        // The fields are hostile, too.
        plant.publish(name, "\"temperature\":21,\"<i id=owned>\":1.5,\"note\":\"</td><script>document.title='owned'</script>\"");
    }
    plant.open_board("");
    plant.browser.wait_for(&format!("document.querySelectorAll('#tiles > li').length === {}", names.len()));
    let shown = plant.browser.run(
        "return [...document.querySelectorAll('#tiles > li')].map((item) => item.querySelector('.only-spoken').textContent).sort()",
    );
    let mut expected: Vec<_> = names.clone();
    // JavaScript sorts by UTF-16 units.
    expected.sort_by_key(|name| name.encode_utf16().collect::<Vec<_>>());
    assert_eq!(shown, serde_json::json!(expected));

    let links = plant.browser.run(
        "return Object.fromEntries([...document.querySelectorAll('#tiles > li')].map((item) => [item.dataset.machine, item.querySelector('a').href]))",
    );
    for name in &names {
        plant.browser.open(links[*name].as_str().unwrap());
        plant.browser.wait_for("document.documentElement.dataset.link === 'live'");
        assert_eq!(plant.browser.text("return document.querySelector('h1').textContent"), *name);
        // The `extra` fields appear as text.
        plant.browser.wait_for("document.getElementById('latest').textContent.includes('<i id=owned>')");
        plant.browser.wait_for("document.getElementById('latest').textContent.includes('</td><script>')");
        assert_eq!(
            plant.browser.run("return document.querySelectorAll('#owned, main script, main img').length"),
            0
        );
        assert_ne!(plant.browser.text("return document.title"), "owned");
        assert_eq!(
            plant.browser.number("return document.documentElement.scrollWidth - innerWidth"),
            0.0,
            "{name}"
        );
    }
    plant.assert_quiet();
}

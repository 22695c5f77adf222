//! Machines with names that mean something to a browser, a path or a reader.

use super::Hall;

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
    "\u{202e}txt.exe",
    "מכונה 7",
    "🏭👩‍🔧",
    "&amp;\\u003cb\\u003e`${1}`",
];

#[test]
fn hostile_machine_ids_stay_text_and_have_a_page_each() {
    let mut hall = Hall::open(&[]);
    let longest = "x".repeat(100);
    let names: Vec<&str> = NAMES.into_iter().chain([longest.as_str()]).collect();
    for name in &names {
        // A hostile field name and value too.
        hall.publish(name, "\"temperature\":21,\"<i id=owned>\":1.5,\"note\":\"</td><script>document.title='owned'</script>\"");
    }
    hall.open_board("");
    hall.browser.wait_for(&format!("document.querySelectorAll('#tiles > li').length === {}", names.len()));
    let shown = hall.browser.run(
        "return [...document.querySelectorAll('#tiles > li')].map((item) => item.querySelector('.only-spoken').textContent).sort()",
    );
    let mut expected: Vec<_> = names.clone();
    // As JavaScript sorts: by UTF-16 units.
    expected.sort_by_key(|name| name.encode_utf16().collect::<Vec<_>>());
    assert_eq!(shown, serde_json::json!(expected));

    let links = hall.browser.run(
        "return Object.fromEntries([...document.querySelectorAll('#tiles > li')].map((item) => [item.dataset.machine, item.querySelector('a').href]))",
    );
    for name in &names {
        hall.browser.open(links[*name].as_str().unwrap());
        hall.browser.wait_for("document.documentElement.dataset.link === 'live'");
        assert_eq!(hall.browser.text("return document.querySelector('h1').textContent"), *name);
        // The fields of `extra` are there, as text.
        hall.browser.wait_for("document.getElementById('latest').textContent.includes('<i id=owned>')");
        hall.browser.wait_for("document.getElementById('latest').textContent.includes('</td><script>')");
        assert_eq!(
            hall.browser.run("return document.querySelectorAll('#owned, main script, main img').length"),
            0
        );
        assert_ne!(hall.browser.text("return document.title"), "owned");
        assert_eq!(
            hall.browser.number("return document.documentElement.scrollWidth - innerWidth"),
            0.0,
            "{name}"
        );
    }
    hall.assert_quiet();
}

//! Places where a test can make an actor panic, fail or hang, or break Andon on purpose (Cargo feature `failpoints`,
//! crate `fail`).

/// `Ok` unless a test has armed the point: `return(text)` makes it an error with that text, `return(hold)` says so on
/// standard error and holds the thread for good; `panic`, `sleep` and `pause` act here. Compiled to nothing without
/// the feature.
pub fn failpoint(name: &'static str) -> Result<(), String> {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |text: Option<String>| {
        if text.as_deref() == Some("hold") {
            hold(name)
        }
        Err(format!("failpoint {name}: {}", text.unwrap_or_default()))
    });
    let _ = name;
    Ok(())
}

/// The process is to be killed exactly here: the test waits for the line.
#[cfg(feature = "failpoints")]
fn hold(name: &str) -> ! {
    eprintln!("held at {name}");
    loop {
        std::thread::park();
    }
}

/// Whether a test has broken Andon on purpose at `name` (armed with `return`): the fault suite shows with these switches that it
/// would notice. Always `false` without the feature.
pub fn sabotaged(name: &'static str) -> bool {
    failpoint(name).is_err()
}

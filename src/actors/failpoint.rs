//! Places where a test can make an actor panic, fail or hang, or break Andon on purpose (Cargo feature
//! `failpoints`, crate `fail`).

/// Returns `Ok` unless a test has armed the point. `return(text)` makes it an error with that text;
/// `return(hold)` prints a line to standard error and blocks the thread for ever; `panic`, `sleep` and `pause`
/// act here. Without the feature it compiles to nothing.
pub fn failpoint(name: &'static str) -> Result<(), String> {
    #[cfg(feature = "failpoints")]
    fail_point!(name, |text: Option<String>| {
        if text.as_deref() == Some("hold") {
            hold(name)
        }
        Err(format!("failpoint {name}: {}", text.unwrap_or_default()))
    });
    let _ = name;
    Ok(())
}

/// Blocks, so that a test can kill the process exactly here. The test waits for the line.
#[cfg(feature = "failpoints")]
fn hold(name: &str) -> ! {
    eprintln!("held at {name}");
    loop {
        std::thread::park();
    }
}

/// Returns whether a test has broken Andon on purpose at `name` (armed with `return`). The fault suite uses
/// these switches to prove that it would notice. Always `false` without the feature.
pub fn is_mutant(name: &'static str) -> bool {
    failpoint(name).is_err()
}

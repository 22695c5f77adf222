//! Places where a test can make an actor panic, fail or hang (Cargo feature `failpoints`, crate `fail`).

/// `Ok` unless a test has armed the point: `return(text)` makes it an error with that text; `panic`, `sleep` and
/// `pause` act here. Compiled to nothing without the feature.
pub fn failpoint(name: &'static str) -> Result<(), String> {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |text: Option<String>| Err(format!(
        "failpoint {name}: {}",
        text.unwrap_or_default()
    )));
    let _ = name;
    Ok(())
}

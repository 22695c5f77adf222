//! Errors as one line.

use std::error::Error;

/// An error and all its causes, outermost first, separated by `: `.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    // Some libraries put line breaks into their texts; a log line is one line.
    if text.contains('\n') { text.split_whitespace().collect::<Vec<_>>().join(" ") } else { text }
}

#[cfg(test)]
mod tests {
    use super::causes;

    #[derive(Debug, thiserror::Error)]
    #[error("open the door")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_stand_in_one_line_outermost_first() {
        let error = Outer(std::io::Error::other("the key\n  is broken"));
        assert_eq!(causes(&error), "open the door: the key is broken");
    }
}

//! Percent-encoding of a login for a URI.

/// `text` with everything but RFC 3986's unreserved characters as `%XX`.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::percent_encoded;

    #[test]
    fn what_a_uri_would_misread_is_encoded() {
        assert_eq!(percent_encoded("a-Z_9.~"), "a-Z_9.~");
        assert_eq!(percent_encoded("p@s:s%/ä"), "p%40s%3As%25%2F%C3%A4");
    }
}

//! Foreign bytes on somebody's terminal: what came over the network must not move a cursor or hide a line.

use std::fmt::Write;

/// `bytes` as text on one line: what is not printable, and every backslash, is escaped as in Rust, bytes that are no
/// UTF-8 as `\xNN`. At most about `chars_max` characters, with `…` where it was cut.
pub(super) fn one_line(bytes: &[u8], chars_max: usize) -> String {
    let mut text = String::new();
    let mut chars = 0;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if chars >= chars_max {
                text.push('…');
                return text;
            }
            chars += escape(character, &mut text);
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            write!(text, "\\x{byte:02x}").ok();
            chars += 4;
        }
    }
    text
}

/// All of `text`, on as many lines as it has, escaped as in [`one_line`].
pub(super) fn lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| one_line(line.as_bytes(), usize::MAX)).collect();
    lines.join("\n")
}

/// Returns how many characters it took.
fn escape(character: char, text: &mut String) -> usize {
    // Quotes are harmless, and JSON is full of them.
    if matches!(character, '"' | '\'') {
        text.push(character);
        return 1;
    }
    let escaped = character.escape_debug();
    let chars = escaped.len();
    text.extend(escaped);
    chars
}

/// `bytes` as lines of offset, 16 bytes in hexadecimal, and what of it is ASCII.
pub(super) fn hex_dump(bytes: &[u8]) -> String {
    let mut dump = String::new();
    for (row, chunk) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let ascii: String = chunk
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
            .collect();
        let line = format!("{:08x}  {:<47}  {ascii}", row * 16, hex.join(" "));
        dump.push_str(line.trim_end());
        dump.push('\n');
    }
    dump
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_or_turns_the_text_reaches_the_terminal() {
        let evil = "\u{1b}[2J\r\n\u{7}\u{9b}31m\u{202e}\u{200b}\u{2028}\u{feff}\0";
        let shown = one_line(evil.as_bytes(), 1_000);
        assert!(shown.chars().all(|character| (' '..='~').contains(&character)), "{shown}");
        assert!(shown.starts_with(r"\u{1b}[2J\r\n"), "{shown}");
        assert_eq!(one_line(b"a\xff\xfe\"\\", 1_000), r#"a\xff\xfe"\\"#);
        assert_eq!(one_line("{\"t\": 21.5, \"ü\": '°'}".as_bytes(), 99), "{\"t\": 21.5, \"ü\": '°'}");
        assert_eq!(lines("a\r\nb\u{1b}"), "a\\r\nb\\u{1b}");
    }

    #[test]
    fn a_preview_is_cut() {
        assert_eq!(one_line(b"abcdef", 3), "abc…");
        assert_eq!(one_line(b"abc", 3), "abc");
    }

    #[test]
    fn binary_bytes_are_dumped() {
        let dump = hex_dump(b"\x00\xffAndon\n and more");
        assert_eq!(
            dump,
            "00000000  00 ff 41 6e 64 6f 6e 0a 20 61 6e 64 20 6d 6f 72  ..Andon. and mor\n00000010  65                                               e\n"
        );
    }
}

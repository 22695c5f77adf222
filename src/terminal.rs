//! Makes foreign text safe for a terminal: text from the network must not move the cursor, hide, reverse other text, or
//! pass for a field of a log line. [`progress`] shows how far long work is.

pub mod progress;

use std::borrow::Cow;
use std::fmt::Write;

/// Characters that Unicode counts as printable although they are blank.
const BLANK: [char; 5] = ['\u{115f}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{ffa0}'];

/// Returns true if the character is visible as itself: not a control character, not invisible, not one that changes the
/// direction of text or only modifies its neighbour.
#[must_use]
pub fn is_plain(character: char) -> bool {
    matches!(character, ' '..='~') || (character.escape_debug().len() == 1 && !BLANK.contains(&character))
}

/// Returns `text` for people: characters that are not plain (see [`is_plain`]) are escaped as in Rust, such as `\u{202e}`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    text.chars().for_each(|character| push_escaped(character, &mut escaped));
    Cow::Owned(escaped)
}

fn push_escaped(character: char, text: &mut String) {
    if is_plain(character) {
        text.push(character);
    } else if BLANK.contains(&character) {
        text.extend(character.escape_unicode());
    } else {
        text.extend(character.escape_debug());
    }
}

/// Returns `text` as the value of a field in a log line: quoted and escaped, unless it is one plain word.
#[must_use]
pub fn field(text: &str) -> Cow<'_, str> {
    let is_bare = |character: char| is_plain(character) && !matches!(character, ' ' | ',' | '=' | '"');
    if !text.is_empty() && text.chars().all(is_bare) {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 8);
    quoted.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        push_escaped(character, &mut quoted);
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

/// Returns equivalent JSON text, with characters in its strings that are not plain escaped.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    // ASCII stays: control characters are escaped in strings already, and white space between tokens is harmless.
    let stays = |character: char| is_plain(character) || character.is_ascii();
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if stays(character) {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                write!(escaped, "\\u{unit:04x}").ok();
            }
        }
    }
    Cow::Owned(escaped)
}

/// Returns `bytes` as text on one line. Escapes every backslash and every character that is not plain as in Rust, and bytes
/// that are not UTF-8 as `\xNN`. Cuts after about `chars_max` characters and appends `…`.
#[must_use]
pub fn one_line(bytes: &[u8], chars_max: usize) -> String {
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

/// Returns all lines of `text`, escaped as in [`one_line`].
#[must_use]
pub fn lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| one_line(line.as_bytes(), usize::MAX)).collect();
    lines.join("\n")
}

/// Appends the escaped character; returns the number of characters appended.
fn escape(character: char, text: &mut String) -> usize {
    let before = text.len();
    if character == '\\' {
        text.push('\\');
    }
    push_escaped(character, text);
    text[before..].chars().count()
}

/// Returns `bytes` as lines of offset, 16 bytes in hexadecimal, and their ASCII characters.
#[must_use]
pub fn hex_dump(bytes: &[u8]) -> String {
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

    /// Characters of each kind that moves, hides or reverses: controls, directions, joiners, fillers, marks, tags.
    const HOSTILE: &str = "\0\u{7}\u{1b}\u{7f}\u{85}\u{9b}\u{a0}\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{180e}\u{2003}\
        \u{200b}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{206f}\u{2800}\u{3000}\
        \u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{1d173}\u{e0001}\u{e0061}\u{e0100}\u{308}";

    #[test]
    fn no_character_that_hides_or_reverses_text_is_plain() {
        for character in HOSTILE.chars() {
            let text = format!("press{character}7");
            let shown = [printable(&text), field(&text), json(&text)].map(Cow::into_owned);
            assert!(!is_plain(character) && shown[0].is_ascii() && shown[1].is_ascii(), "{shown:?}");
            assert!(shown[2].is_ascii(), "{shown:?}");
            let value: Result<String, _> = serde_json::from_str(&format!("\"{}\"", shown[2]));
            assert!(
                character.is_ascii() || value.is_ok_and(|value| value == text),
                "the same value: {shown:?}"
            );
        }
        for text in ["presse 7 ä", "压力机-1", "пресс", "ﺔﻟﺁ", "°C → 21.5 µm…", "\\ '\""]
        {
            assert!(matches!(printable(text), Cow::Borrowed(_)), "{text} is unchanged");
            assert!(matches!(json(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn a_value_cannot_pass_for_another_field() {
        let table = [
            ("press-1", "press-1"),
            ("127.0.0.1:1883", "127.0.0.1:1883"),
            ("", "\"\""),
            ("a b", r#""a b""#),
            ("press-1, status: offline", r#""press-1, status: offline""#),
            ("a,b", r#""a,b""#),
            ("a=b", r#""a=b""#),
            (r#"a"b"#, r#""a\"b""#),
            (r#"a", status: "offline"#, r#""a\", status: \"offline""#),
            (r"a\", r"a\"),
            (r"a \", r#""a \\""#),
            ("a\nb", r#""a\nb""#),
            ("a\u{202e}b", r#""a\u{202e}b""#),
        ];
        for (value, expected) in table {
            assert_eq!(field(value), expected);
        }
    }

    #[test]
    fn nothing_that_moves_the_cursor_or_reverses_text_reaches_the_terminal() {
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

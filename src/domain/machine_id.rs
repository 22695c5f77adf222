//! The name of a machine.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use thiserror::Error;

use super::word_enum::word_enum;

/// Longest machine id, in characters (not bytes).
pub const MACHINE_ID_CHARS_MAX: usize = 100;

word_enum! {
    /// What names the machine of a reading: `payload.machine_id_from`.
    pub enum MachineIdFrom {
        /// The payload; the topic if the payload names none.
        Payload = "payload",
        /// The topic, whatever the payload says.
        Topic = "topic",
        /// Both, and they must agree.
        MustMatch = "must_match",
    }
}

/// A machine's name within its site: trimmed, lower-cased, 1 to [`MACHINE_ID_CHARS_MAX`] characters,
/// none of them a control character or invisible. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct MachineId(Arc<str>);

/// Why a text is not a machine id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MachineIdError {
    /// Nothing is left after trimming.
    #[error("machine id is empty")]
    Empty,
    /// Longer than [`MACHINE_ID_CHARS_MAX`] after trimming and lower-casing.
    #[error("machine id has {chars} characters, at most {MACHINE_ID_CHARS_MAX} are allowed")]
    TooLong {
        /// Number of characters.
        chars: usize,
    },
    /// Contains a control character (Unicode category Cc, NUL included).
    #[error("machine id contains the control character U+{code:04X}")]
    ControlCharacter {
        /// The character's code point.
        code: u32,
    },
    /// Contains a character that nobody sees, or that turns the text around: two ids would look like one.
    #[error("machine id contains the invisible character U+{code:04X}")]
    InvisibleCharacter {
        /// The character's code point.
        code: u32,
    },
}

/// Characters that are not drawn, or change the direction of what follows (Unicode: Default_Ignorable_Code_Point,
/// Bidi_Control, and the two separators of lines and paragraphs).
const INVISIBLE: [RangeInclusive<char>; 17] = [
    '\u{AD}'..='\u{AD}',
    '\u{34F}'..='\u{34F}',
    '\u{61C}'..='\u{61C}',
    '\u{115F}'..='\u{1160}',
    '\u{17B4}'..='\u{17B5}',
    '\u{180B}'..='\u{180F}',
    '\u{200B}'..='\u{200F}',
    '\u{2028}'..='\u{202E}',
    '\u{2060}'..='\u{206F}',
    '\u{3164}'..='\u{3164}',
    '\u{FE00}'..='\u{FE0F}',
    '\u{FEFF}'..='\u{FEFF}',
    '\u{FFA0}'..='\u{FFA0}',
    '\u{FFF0}'..='\u{FFFB}',
    '\u{1BCA0}'..='\u{1BCA3}',
    '\u{1D173}'..='\u{1D17A}',
    '\u{E0000}'..='\u{E0FFF}',
];

/// True for a character that shows nothing, or changes the order of others.
#[must_use]
pub fn is_invisible(character: char) -> bool {
    !character.is_ascii() && INVISIBLE.iter().any(|range| range.contains(&character))
}

impl MachineId {
    /// Normalises (trim, lower-case) and checks `text`.
    ///
    /// # Errors
    /// [`MachineIdError`] names the broken rule.
    pub fn parse(text: &str) -> Result<Self, MachineIdError> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(MachineIdError::Empty);
        }
        if let Some(control) = trimmed.chars().find(|c| c.is_control()) {
            return Err(MachineIdError::ControlCharacter { code: u32::from(control) });
        }
        if let Some(invisible) = trimmed.chars().find(|c| is_invisible(*c)) {
            return Err(MachineIdError::InvisibleCharacter { code: u32::from(invisible) });
        }
        let already_normal = trimmed.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
        let id: Arc<str> =
            if already_normal { Arc::from(trimmed) } else { Arc::from(trimmed.to_lowercase()) };
        let chars = id.chars().count();
        if chars > MACHINE_ID_CHARS_MAX {
            return Err(MachineIdError::TooLong { chars });
        }
        Ok(Self(id))
    }

    /// Returns a regular expression (ECMA-262 with flag `u`) of the texts without control and invisible characters that are
    /// not blank.
    #[must_use]
    pub fn pattern() -> String {
        let escaped = |c: char| match u32::from(c) {
            code @ 0..=0xFFFF => format!("\\u{code:04x}"),
            _ => c.to_string(), // Engines agree on no escape for these.
        };
        let invisible =
            INVISIBLE.iter().map(|range| format!("{}-{}", escaped(*range.start()), escaped(*range.end())));
        let never = format!("\\u0000-\\u001f\\u007f-\\u009f{}", invisible.collect::<String>());
        let blank = " \\u00a0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000";
        format!("^[^{never}]*[^{never}{blank}][^{never}]*$")
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MachineId {
    type Error = MachineIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for MachineId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_trimmed_and_lower_cased() {
        let id = MachineId::parse("  Press-Ä7\t").expect("a valid id");
        assert_eq!(id.as_str(), "press-ä7");
    }

    #[test]
    fn the_length_is_counted_in_characters_after_lower_casing() {
        assert!(MachineId::parse(&"ß".repeat(100)).is_ok());
        assert_eq!(MachineId::parse(&"x".repeat(101)), Err(MachineIdError::TooLong { chars: 101 }));
        // U+0130 lower-cases to two characters.
        assert_eq!(MachineId::parse(&"\u{130}".repeat(51)), Err(MachineIdError::TooLong { chars: 102 }));
    }

    #[test]
    fn control_characters_and_emptiness_are_refused() {
        assert_eq!(MachineId::parse(" \t "), Err(MachineIdError::Empty));
        assert_eq!(MachineId::parse("a\0b"), Err(MachineIdError::ControlCharacter { code: 0 }));
        assert_eq!(MachineId::parse("a\u{85}b"), Err(MachineIdError::ControlCharacter { code: 0x85 }));
    }

    #[test]
    fn two_ids_that_look_alike_because_of_an_invisible_character_are_not_both_taken() {
        let table = [
            ("press\u{200B}7", 0x200B),
            ("press\u{202E}7", 0x202E),
            ("\u{2066}press-7\u{2069}", 0x2066),
            ("\u{FEFF}press-7", 0xFEFF),
            ("press-7\u{E0041}", 0xE0041),
            ("press\u{AD}-7", 0xAD),
            ("press\u{2028}7", 0x2028),
        ];
        for (text, code) in table {
            assert_eq!(MachineId::parse(text), Err(MachineIdError::InvisibleCharacter { code }), "{text:?}");
        }
        for visible in ["größe-ß", "プレス", "пресс 7", "مكبس", "a\u{A0}b"] {
            assert!(MachineId::parse(visible).is_ok(), "{visible}");
        }
    }
}

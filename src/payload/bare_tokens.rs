//! Tokens that are not JSON but that devices print where a number is missing.

/// Tokens read as `null`: the spellings of Arduino and Python, and those of C's `printf` for negative values.
const BARE_TOKENS: [&str; 7] = ["NaN", "nan", "Infinity", "-Infinity", "inf", "-inf", "-nan"];

/// A copy of a text with bare tokens replaced, and the map back to the original's offsets.
#[derive(Debug)]
pub(super) struct Replaced {
    pub(super) text: String,
    /// For each replacement its offset in `text`, and how many bytes longer (or shorter) the original was up to its end.
    shifts: Vec<(usize, isize)>,
}

impl Replaced {
    /// Returns the offset in the original of `offset` in the copy; at a token's end, the end of the original token.
    pub(super) fn original_offset(&self, offset: usize) -> usize {
        let before = self.shifts.partition_point(|(begins, _)| *begins < offset);
        let shift =
            before.checked_sub(1).and_then(|last| self.shifts.get(last)).map_or(0, |(_, shift)| *shift);
        offset.saturating_add_signed(shift)
    }
}

/// Replaces every bare token outside strings with `null`; `None` if there is none.
pub(super) fn replace(text: &str) -> Option<Replaced> {
    let mut replaced = Replaced { text: String::new(), shifts: Vec::new() };
    let mut copied = 0;
    let mut shift = 0_isize;
    let mut in_string = false;
    let mut at = 0;
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => at += 1,
            b'N' | b'n' | b'I' | b'i' | b'-' if !in_string => {
                if let Some(token) = token_at(text, at) {
                    replaced.text.push_str(text.get(copied..at).unwrap_or_default());
                    shift += token.len() as isize - "null".len() as isize;
                    replaced.shifts.push((replaced.text.len(), shift));
                    replaced.text.push_str("null");
                    at += token.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if replaced.shifts.is_empty() {
        return None;
    }
    replaced.text.push_str(text.get(copied..).unwrap_or_default());
    Some(replaced)
}

/// Returns the bare token at `at`, unless it is part of a longer word or number.
fn token_at(text: &str, at: usize) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let part_of_word =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+' | b'-' | 0x80..);
    if at.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(part_of_word) {
        return None;
    }
    let rest = bytes.get(at..)?;
    BARE_TOKENS
        .into_iter()
        .find(|token| rest.starts_with(token.as_bytes()) && !rest.get(token.len()).is_some_and(part_of_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tokens_outside_strings_are_replaced() {
        let table = [
            (r#"{"a":NaN}"#, Some(r#"{"a":null}"#)),
            (r#"[nan,-nan,Infinity,-Infinity,inf,-inf]"#, Some("[null,null,null,null,null,null]")),
            (r#"{"a":"NaN \" inf","b": inf }"#, Some(r#"{"a":"NaN \" inf","b": null }"#)),
            (r#"{"a":"\\","b":inf}"#, Some(r#"{"a":"\\","b":null}"#)),
            ("[1nan]", None),
            ("[nano,info,Infinity2,+inf,--inf,-+inf,1.inf]", None),
            ("[NAN,INF,Nan,infinity]", None),
            (r#"{"NaN":1}"#, None),
            (r#"{"é":"é",  "x":NaN}"#, Some(r#"{"é":"é",  "x":null}"#)),
            ("[éNaN]", None),
            ("\"\\", None),
        ];
        for (text, expected) in table {
            assert_eq!(replace(text).map(|replaced| replaced.text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn offsets_lead_back_to_the_original() {
        let text = "[-Infinity,{},inf,{}]";
        let replaced = replace(text).expect("has tokens");
        assert_eq!(replaced.text, "[null,{},null,{}]");
        for (copy, original) in
            [(0, 0), (1, 1), (5, 10), (6, 11), (8, 13), (9, 14), (13, 17), (14, 18), (17, 21)]
        {
            assert_eq!(replaced.original_offset(copy), original, "offset {copy}");
        }
    }
}

//! Parses JSON text into a tree, in two steps: `serde_json` checks the syntax and words the error, then a walk over the
//! well-formed text builds [`Node`]s that keep every number as it was written.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

/// Deepest nesting of objects and arrays, including the reading's own object. Equals `serde_json`'s recursion limit, so
/// that `serde_json` can read `extra` again.
pub const NESTING_MAX: usize = 127;

/// A JSON value; borrows from the text wherever no decoding is needed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    /// As written.
    Number(&'a str),
    /// Decoded. May hold U+0000.
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Members<'a>),
}

/// The members of an object, no key twice. U+0000 in keys is already replaced.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Members<'a> {
    pub(super) entries: Vec<(Cow<'a, str>, Node<'a>)>,
}

/// A payload with correct syntax, not yet parsed into a tree.
#[derive(Debug)]
pub(super) enum Document<'a> {
    /// The text of an object.
    Object(&'a str),
    /// The text of each element.
    Array(Vec<&'a str>),
    /// Any other value, named in words.
    Other(&'static str),
}

/// Why a text is not JSON, and the offset of the error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) offset: usize,
}

/// Checks the syntax of `text`, except lone surrogates and depth, which [`object`] checks.
pub(super) fn document(text: &str) -> Result<Document<'_>, SyntaxError> {
    let wrap = |error| syntax_error(text, &error);
    let first = text.trim_start_matches([' ', '\t', '\r', '\n']).bytes().next();
    match first {
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(wrap)?;
            Ok(Document::Array(elements.into_iter().map(RawValue::get).collect()))
        }
        Some(b'{') => {
            serde_json::from_str::<&RawValue>(text).map(|raw| Document::Object(raw.get())).map_err(wrap)
        }
        _ => {
            serde_json::from_str::<&RawValue>(text).map(|raw| Document::Other(kind(raw.get()))).map_err(wrap)
        }
    }
}

/// Returns the kind of a well-formed value, in words.
pub(super) fn kind(text: &str) -> &'static str {
    match text.bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Parses the object in `text`, which [`document`] has accepted. The error's offset is within `text`.
pub(super) fn object(text: &str) -> Result<Members<'_>, SyntaxError> {
    let mut walk = Walk { text, at: 0 };
    match walk.value(0)? {
        Node::Object(members) => Ok(members),
        _ => Err(walk.error("expected an object")),
    }
}

/// Messages of `serde_json`, and the same in plain words for the operator.
const WORDS: [(&str, &str); 12] = [
    ("EOF while parsing a value", "the payload ends where a value is expected"),
    ("EOF while parsing an object", "the payload ends inside an object"),
    ("EOF while parsing a list", "the payload ends inside an array"),
    ("EOF while parsing a string", "the payload ends inside a string"),
    ("expected value", "expected a value"),
    ("expected ident", "expected true, false or null"),
    ("key must be a string", "expected a name in double quotes"),
    ("trailing characters", "there is more text after the end of the JSON text"),
    (
        "control character (\\u0000-\\u001F) found while parsing a string",
        "a control character inside a string",
    ),
    ("invalid escape", "unknown escape sequence in a string"),
    ("lone leading surrogate in hex escape", "half a surrogate pair in a string"),
    ("unexpected end of hex escape", "half a surrogate pair in a string"),
];

/// Converts an error of `serde_json`, with its position as an offset.
fn syntax_error(text: &str, error: &serde_json::Error) -> SyntaxError {
    let mut message = error.to_string();
    if let Some(position) = message.rfind(" at line ") {
        message.truncate(position);
    }
    if let Some((_, words)) = WORDS.iter().find(|(word, _)| *word == message) {
        (*words).clone_into(&mut message);
    }
    let lines_before = error.line().saturating_sub(1);
    let line_start: usize = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
    SyntaxError { message, offset: line_start + error.column().saturating_sub(1) }
}

/// A walk over well-formed text. It does not rely on the syntax for its own safety: anything unexpected is an error.
struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    /// Parses the value that begins here, `depth` containers deep.
    fn value(&mut self, depth: usize) -> Result<Node<'a>, SyntaxError> {
        match self.peek() {
            Some(b'"') => self.string().map(Node::String),
            Some(b'{' | b'[') if depth >= NESTING_MAX => {
                Err(self.error(&format!("nested deeper than {NESTING_MAX} levels")))
            }
            Some(b'{') => self.object(depth + 1).map(Node::Object),
            Some(b'[') => self.array(depth + 1).map(Node::Array),
            Some(b'n') => Ok(self.literal(4, Node::Null)),
            Some(b't') => Ok(self.literal(4, Node::Bool(true))),
            Some(b'f') => Ok(self.literal(5, Node::Bool(false))),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.error("expected a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Members<'a>, SyntaxError> {
        let mut entries = Vec::with_capacity(if depth == 1 { 8 } else { 0 });
        self.at += 1;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Members { entries });
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a name in double quotes"));
            }
            let key = self.string()?;
            let key = if key.contains('\0') { Cow::Owned(key.replace('\0', "\u{FFFD}")) } else { key };
            self.expect(b':', "expected `:`")?;
            entries.push((key, self.value(depth)?));
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => break,
            }
        }
        self.expect(b'}', "expected `,` or `}`")?;
        keep_last(&mut entries);
        Ok(Members { entries })
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Node<'a>>, SyntaxError> {
        let mut items = Vec::new();
        self.at += 1;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(items);
        }
        loop {
            items.push(self.value(depth)?);
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => break,
            }
        }
        self.expect(b']', "expected `,` or `]`")?;
        Ok(items)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        let mut escaped = false;
        loop {
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                }
                Some(_) => at += 1,
                None => return Err(self.error("the payload ends inside a string")),
            }
        }
        self.at = at + 1;
        if escaped {
            let quoted = self.text.get(start..=at).unwrap_or_default();
            return serde_json::from_str::<String>(quoted).map(Cow::Owned).map_err(|error| {
                let within = syntax_error(quoted, &error);
                SyntaxError { message: within.message, offset: start + within.offset }
            });
        }
        Ok(Cow::Borrowed(self.text.get(start + 1..at).unwrap_or_default()))
    }

    fn number(&mut self) -> Result<Node<'a>, SyntaxError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest
            .bytes()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).map(Node::Number).ok_or_else(|| self.error("invalid number"))
    }

    fn literal(&mut self, length: usize, node: Node<'a>) -> Node<'a> {
        self.at += length;
        node
    }

    /// Returns the next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn expect(&mut self, byte: u8, otherwise: &str) -> Result<(), SyntaxError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.error(otherwise))
    }

    fn error(&self, message: &str) -> SyntaxError {
        SyntaxError { message: message.to_owned(), offset: self.at }
    }
}

/// Keeps the last of the entries with the same key. A hash map keeps this linear for large objects.
fn keep_last(entries: &mut Vec<(Cow<'_, str>, Node<'_>)>) {
    const COMPARED_MAX: usize = 16;
    let doubled: Vec<bool> = if entries.len() <= COMPARED_MAX {
        let is_doubled = |at: usize| entries.iter().skip(at + 1).any(|later| later.0 == entries[at].0);
        if !(0..entries.len()).any(is_doubled) {
            return;
        }
        (0..entries.len()).map(is_doubled).collect()
    } else {
        let last: HashMap<&str, usize> =
            entries.iter().enumerate().map(|(at, (key, _))| (key.as_ref(), at)).collect();
        entries.iter().enumerate().map(|(at, (key, _))| last.get(key.as_ref()) != Some(&at)).collect()
    };
    let mut doubled = doubled.into_iter();
    entries.retain(|_| !doubled.next().unwrap_or(false));
}

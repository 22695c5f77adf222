//! The places of a reading's fields in the object: under their plain names, or where `[payload.fields]` points.

use std::collections::BTreeMap;
use std::mem;

use thiserror::Error;

use super::json::{Members, Node};

/// The fields that can be mapped, by their plain names.
const NAMES: [&str; 5] = ["machine_id", "temperature", "humidity", "vibration", "timestamp"];

/// Why a field mapping is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PayloadRulesError {
    /// A reading has no such field.
    #[error("unknown field {field:?}: one of machine_id, temperature, humidity, vibration, timestamp")]
    UnknownField {
        /// The field, as configured.
        field: String,
    },
    /// Not a JSON pointer (RFC 6901), or a pointer to the whole object.
    #[error(
        "{field}: {pointer:?} is not a JSON pointer into the object, such as \"/sensors/t\" (`~` is `~0`, `/` is `~1`)"
    )]
    InvalidPointer {
        /// The mapped field.
        field: String,
        /// The pointer, as configured.
        pointer: String,
    },
    /// Two fields would be read from the same place, or one from inside the other.
    #[error("{field} and {other} would be read from the same place ({pointer:?}): map one of them elsewhere")]
    SamePlace {
        /// One field.
        field: &'static str,
        /// The other field.
        other: &'static str,
        /// The pointer of the outer one.
        pointer: String,
    },
}

/// What a field's rule decides about a value.
#[derive(Debug, PartialEq)]
pub(super) enum Use<T> {
    /// A value of the field; not kept elsewhere.
    Used(T),
    /// No value (null, empty); not kept.
    Nothing,
    /// Not usable; kept in `extra`.
    Unusable,
}

/// The places of all fields.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) machine_id: Place,
    pub(super) temperature: Place,
    pub(super) humidity: Place,
    pub(super) vibration: Place,
    pub(super) timestamp: Place,
}

/// The place of one field.
#[derive(Debug)]
pub(super) struct Place {
    /// Its plain name.
    name: &'static str,
    /// The reference tokens of its JSON pointer, at least one; without a mapping, its name.
    path: Vec<String>,
}

impl Places {
    /// Builds the places from a mapping, after checking it.
    pub(super) fn new(pointers: &BTreeMap<String, String>) -> Result<Self, PayloadRulesError> {
        if let Some(field) = pointers.keys().find(|field| !NAMES.contains(&field.as_str())) {
            return Err(PayloadRulesError::UnknownField { field: field.clone() });
        }
        let place = |name: &'static str| match pointers.get(name) {
            None => Ok(Place { name, path: vec![name.to_owned()] }),
            Some(pointer) => parse_pointer(pointer).map(|path| Place { name, path }).ok_or_else(|| {
                PayloadRulesError::InvalidPointer { field: name.to_owned(), pointer: pointer.clone() }
            }),
        };
        let places = Self {
            machine_id: place("machine_id")?,
            temperature: place("temperature")?,
            humidity: place("humidity")?,
            vibration: place("vibration")?,
            timestamp: place("timestamp")?,
        };
        places.check_apart()?;
        Ok(places)
    }

    fn check_apart(&self) -> Result<(), PayloadRulesError> {
        let all = [&self.machine_id, &self.temperature, &self.humidity, &self.vibration, &self.timestamp];
        for outer in all {
            let inner =
                all.iter().find(|inner| inner.name != outer.name && inner.path.starts_with(&outer.path));
            if let Some(inner) = inner {
                return Err(PayloadRulesError::SamePlace {
                    field: outer.name,
                    other: inner.name,
                    pointer: format!("/{}", outer.path.join("/")),
                });
            }
        }
        Ok(())
    }
}

impl Place {
    /// Reads the field from `object`, and removes the value unless it must be kept in `extra`.
    pub(super) fn take<T>(
        &self,
        object: &mut Members<'_>,
        read: impl FnOnce(&Node<'_>) -> Use<T>,
    ) -> Option<T> {
        match read(find(object, &self.path)?) {
            Use::Used(value) => {
                remove(object, &self.path);
                Some(value)
            }
            Use::Nothing => {
                remove(object, &self.path);
                None
            }
            Use::Unusable => {
                self.keep_under_plain_name(object);
                None
            }
        }
    }

    fn keep_under_plain_name(&self, object: &mut Members<'_>) {
        if object.position(self.name).is_some() {
            return;
        }
        if let Some(value) = remove(object, &self.path) {
            object.entries.push((self.name.into(), value));
        }
    }
}

/// Returns the reference tokens of a JSON pointer; `None` if it is not one, or is empty.
fn parse_pointer(pointer: &str) -> Option<Vec<String>> {
    let unescape = |token: &str| {
        let wrong = token.split('~').skip(1).any(|after| !after.starts_with(['0', '1']));
        (!wrong && !token.contains('\0')).then(|| token.replace("~1", "/").replace("~0", "~"))
    };
    pointer.strip_prefix('/')?.split('/').map(unescape).collect()
}

impl Members<'_> {
    fn position(&self, key: &str) -> Option<usize> {
        self.entries.iter().position(|(name, _)| name == key)
    }
}

fn find<'n, 'a>(object: &'n Members<'a>, path: &[String]) -> Option<&'n Node<'a>> {
    let (first, rest) = path.split_first()?;
    let mut node = &object.entries.get(object.position(first)?)?.1;
    for token in rest {
        node = match node {
            Node::Object(members) => &members.entries.get(members.position(token)?)?.1,
            Node::Array(items) => items.get(array_index(token)?)?,
            _ => return None,
        };
    }
    Some(node)
}

/// Removes the value at `path`, and an object that is empty afterwards. In an array, `null` takes its place.
fn remove<'a>(object: &mut Members<'a>, path: &[String]) -> Option<Node<'a>> {
    let (first, rest) = path.split_first()?;
    let position = object.position(first)?;
    if rest.is_empty() {
        return Some(object.entries.remove(position).1);
    }
    let (_, inner) = object.entries.get_mut(position)?;
    let removed = remove_inside(inner, rest)?;
    if matches!(inner, Node::Object(members) if members.entries.is_empty()) {
        object.entries.remove(position);
    }
    Some(removed)
}

fn remove_inside<'a>(node: &mut Node<'a>, path: &[String]) -> Option<Node<'a>> {
    match node {
        Node::Object(members) => remove(members, path),
        Node::Array(items) => {
            let (first, rest) = path.split_first()?;
            let item = items.get_mut(array_index(first)?)?;
            if rest.is_empty() { Some(mem::replace(item, Node::Null)) } else { remove_inside(item, rest) }
        }
        _ => None,
    }
}

/// Returns an array index (RFC 6901: decimal digits without a leading zero).
fn array_index(token: &str) -> Option<usize> {
    let canonical = token == "0" || !token.starts_with(['0', '+']);
    if canonical { token.parse().ok() } else { None }
}

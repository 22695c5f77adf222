//! The settings in effect, and where each value comes from: `config show [--origin]`.

use config::{Map, Value, ValueKind};

use super::keys::KEYS;
use super::layers::lookup;
use super::secrets;
use super::values::key_text;

/// The merged values, with secrets hidden.
#[derive(Debug, Clone)]
pub(super) struct Effective {
    table: Map<String, Value>,
}

impl Effective {
    /// Takes the merged values and hides the secrets for good.
    pub(super) fn redacted(mut table: Map<String, Value>) -> Self {
        secrets::redact(&mut table);
        Self { table }
    }

    /// Prints TOML in the order of the documentation, keys without value as comments.
    pub(super) fn show(&self, with_origin: bool) -> String {
        let mut lines = Vec::new();
        let mut section = "";
        for key in KEYS {
            let (its_section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
            if its_section != section {
                section = its_section;
                if !lines.is_empty() {
                    lines.push(String::new());
                }
                lines.push(format!("[{section}]"));
            }
            match lookup(&self.table, key.path) {
                None => lines.push(format!("# {name} is not set")),
                Some(value) => entry(name, value, with_origin, &mut lines),
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

/// Adds one line, or one for each value of a table: each may come from another layer.
fn entry(name: &str, value: &Value, with_origin: bool, lines: &mut Vec<String>) {
    if let ValueKind::Table(table) = &value.kind {
        let mut entries: Vec<(&String, &Value)> = table.iter().collect();
        entries.sort_by_key(|(name, _)| *name);
        for (below, value) in entries {
            entry(&format!("{name}.{}", key_text(below)), value, with_origin, lines);
        }
        return;
    }
    let mut line = format!("{name} = {}", to_toml(value));
    if with_origin && let Some(origin) = value.origin() {
        line.push_str("  # ");
        line.push_str(&origin.replace(char::is_control, "?"));
    }
    lines.push(line);
}

/// Returns the value without its origin.
pub(super) fn to_toml(value: &Value) -> toml::Value {
    match &value.kind {
        ValueKind::Boolean(flag) => toml::Value::Boolean(*flag),
        ValueKind::I64(number) => toml::Value::Integer(*number),
        ValueKind::Float(number) => toml::Value::Float(*number),
        ValueKind::Array(items) => toml::Value::Array(items.iter().map(to_toml).collect()),
        ValueKind::Table(table) => {
            toml::Value::Table(table.iter().map(|(name, value)| (name.clone(), to_toml(value))).collect())
        }
        _ => toml::Value::String(value.to_string()),
    }
}

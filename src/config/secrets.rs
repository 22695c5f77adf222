//! Finds each secret: in its own key, in the file that its `*_file` key names, or among systemd's credentials.
//!
//! Of key and file key the one in the later layer counts; both in one layer is a contradiction. A credential
//! counts when no layer but the defaults sets either.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use config::{Map, Value, ValueKind};

use super::keys::{self, HTTP_TOKENS, Key, Kind, TOKEN_FILE};
use super::layers::{Layer, insert, lookup, segments};
use super::problem::Problems;
use super::secret::REDACTED;
use super::values::{text, text_value};
use crate::database_url::DatabaseUrl;
use crate::file_access::exposed;

/// Names systemd's directory of credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// Longest secret in a file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Puts every secret that is found under its own key in `table`, with where it came from.
pub(super) fn resolve(
    table: &mut Map<String, Value>,
    layers: &[Layer],
    variables: &BTreeMap<String, String>,
    problems: &mut Problems,
    warnings: &mut Vec<String>,
) {
    for secret in keys::secrets() {
        let rank = |key: &str| layers.iter().rposition(|layer| layer.get(key).is_some());
        let file_key = secret.file_key();
        let (key_rank, file_rank) = (rank(secret.path), rank(&file_key));
        if key_rank.is_some() && key_rank == file_rank {
            let origin = origin_of(table, secret.path);
            let message = format!("{file_key} is set in the same place; keep one");
            problems.add_contradiction(origin, secret.path, message);
        } else if file_rank > key_rank {
            from_file(table, secret, problems, warnings);
        } else {
            put(table, &file_key, text_value("", ""));
            // Rank 0 is the defaults: a credential beats the default of store.url.
            if key_rank.is_none_or(|rank| rank == 0) {
                from_credential(table, secret, variables, problems);
            }
        }
    }
}

/// Puts the token of each of `http.tokens` beside the name of its file.
pub(super) fn resolve_tokens(
    table: &mut Map<String, Value>,
    problems: &mut Problems,
    warnings: &mut Vec<String>,
) {
    for_each_token(table, |index, token| {
        let Some(file) = token.get(TOKEN_FILE) else { return };
        let given_in = file.origin().unwrap_or_default().to_owned();
        let (path, key) =
            (text(file).unwrap_or_default().to_owned(), format!("{HTTP_TOKENS}[{index}].{TOKEN_FILE}"));
        match read(Path::new(&path), Kind::Secret) {
            Ok(content) => {
                let found = exposed(Path::new(&path));
                warnings.extend(found.map(|found| format!("{given_in}: {key}: {found}")));
                token.insert("token".to_owned(), text_value(&content, &format!("file {path}")));
            }
            Err(message) => {
                // Never used: a configuration with a problem is refused.
                token.insert("token".to_owned(), text_value(REDACTED, &given_in));
                problems.add(given_in, key, message);
            }
        }
    });
}

/// Lets `change` work on each table of `http.tokens`.
pub(super) fn for_each_token(
    table: &mut Map<String, Value>,
    mut change: impl FnMut(usize, &mut Map<String, Value>),
) {
    let Some(value) = lookup(table, HTTP_TOKENS).cloned() else { return };
    let origin = value.origin().map(str::to_owned);
    let ValueKind::Array(mut tokens) = value.kind else { return };
    for (index, token) in tokens.iter_mut().enumerate() {
        if let ValueKind::Table(token) = &mut token.kind {
            change(index, token);
        }
    }
    put(table, HTTP_TOKENS, Value::new(origin.as_ref(), ValueKind::Array(tokens)));
}

fn origin_of(table: &Map<String, Value>, key: &str) -> String {
    lookup(table, key).and_then(Value::origin).unwrap_or_default().to_owned()
}

fn put(table: &mut Map<String, Value>, key: &str, value: Value) {
    insert(table, &segments(key), value);
}

fn from_file(
    table: &mut Map<String, Value>,
    secret: &Key,
    problems: &mut Problems,
    warnings: &mut Vec<String>,
) {
    let file_key = secret.file_key();
    let given_in = origin_of(table, &file_key);
    let path = lookup(table, &file_key).and_then(text).unwrap_or_default();
    if path.trim().is_empty() {
        // The later layer takes back the file of a lower one.
        return;
    }
    let path = PathBuf::from(path);
    match read(&path, secret.kind) {
        Ok(content) => {
            warnings.extend(exposed(&path).map(|found| format!("{given_in}: {file_key}: {found}")));
            put(table, secret.path, text_value(&content, &format!("file {}", path.display())));
        }
        Err(message) => problems.add(given_in, file_key, message),
    }
}

fn from_credential(
    table: &mut Map<String, Value>,
    secret: &Key,
    variables: &BTreeMap<String, String>,
    problems: &mut Problems,
) {
    let directory = variables.get(CREDENTIALS_DIRECTORY).filter(|directory| !directory.is_empty());
    let (Some(directory), Some(credential)) = (directory, secret.credential) else { return };
    let path = Path::new(directory).join(credential);
    if !path.exists() {
        return;
    }
    let origin = format!("systemd credential {credential}");
    match read(&path, secret.kind) {
        Ok(content) => put(table, secret.path, text_value(&content, &origin)),
        Err(message) => problems.add(origin, secret.path, message),
    }
}

/// Returns the file's text without its last line break. Errors hold nothing of its content.
fn read(path: &Path, kind: Kind) -> Result<String, String> {
    let shown = path.display().to_string();
    let unreadable = |error: io::Error| format!("cannot read {shown:?}: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let mut content = String::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut content).map_err(unreadable)?;
    if content.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("{shown:?} is longer than {SECRET_BYTES_MAX} bytes; expected the secret alone"));
    }
    let line = content.strip_suffix('\n').unwrap_or(&content);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(format!("{shown:?} is empty; expected the secret"));
    }
    if line.contains('\0') {
        return Err(format!("{shown:?} contains a NUL character; expected text"));
    }
    if kind == Kind::DatabaseUrl
        && let Err(reason) = DatabaseUrl::parse(line)
    {
        return Err(format!("{shown:?} holds no database URL: {reason}"));
    }
    Ok(line.to_owned())
}

/// Hides every secret in `table`.
pub(super) fn redact(table: &mut Map<String, Value>) {
    for secret in keys::secrets() {
        let Some(value) = lookup(table, secret.path) else { continue };
        let shown = match (secret.kind, text(value).map(DatabaseUrl::parse)) {
            (Kind::DatabaseUrl, Some(Ok(url))) => url.to_string(),
            _ => REDACTED.to_owned(),
        };
        let origin = value.origin().map(str::to_owned);
        put(table, secret.path, Value::new(origin.as_ref(), ValueKind::String(shown)));
    }
    for_each_token(table, |_, token| {
        token.remove("token");
    });
}

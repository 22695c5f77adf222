#!/usr/bin/env bash
# Checks what is linked into Andon against deny.toml: known vulnerabilities, licences, doubles, and where it comes from.
# The database of vulnerabilities (RustSec) comes from GitHub. Where that cannot be reached, the copy of an earlier run is
# used, if it is younger than 90 days. Without one the last line says that the vulnerabilities were not checked.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo_deny=$(command -v cargo-deny || echo target/tools/bin/cargo-deny)

"$cargo_deny" --locked check bans licenses sources
if "$cargo_deny" --locked fetch db; then
    "$cargo_deny" --locked check advisories
elif compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/HEAD" >/dev/null ||
    compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/.git" >/dev/null; then
    echo "audit: the database of vulnerabilities cannot be fetched; using the copy of the last time"
    "$cargo_deny" --locked --offline check advisories
else
    echo "audit: NOT CHECKED for known vulnerabilities: the database cannot be fetched (above), and no copy is here"
fi

#!/usr/bin/env bash
# Builds the Debian package, target/package/andon_VERSION_ARCH.deb, checks it with lintian, and prints its path.
#   scripts/package.sh [DEBIAN-VERSION]    default: the version of Cargo.toml, and -1
# ANDON_PACKAGE_PROFILE=dev builds it in less time, to test the package itself.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:-}
# The fixed places below belong to the package; cargo may build into another directory.
out=target/package
profile=${ANDON_PACKAGE_PROFILE:-release}
# Tools that scripts/setup.sh installed.
PATH=$PATH:$PWD/target/tools/bin
# `auditable` writes the list of crates into the program, where scanners find it.
cargo auditable build --profile "$profile" --locked --features parquet --bin andon
andon=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/${profile/#dev/debug}/andon

rm -rf "$out/man" "$out/completions"
mkdir -p "$out/completions"
"$andon" man --dir "$out/man"
for shell in bash zsh fish; do
    "$andon" completions "$shell" >"$out/completions/$shell"
done

# The same commit gives the same files.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)} scripts/bill-of-materials.py "$out" parquet
gzip -9nf "$out/THIRD-PARTY-LICENCES"

options=(--profile "$profile" --no-build --quiet --output "$out/")
[ -z "$version" ] || options+=(--deb-version "$version")
cargo-deb "${options[@]}"
package=$(find "$out" -name '*.deb' -printf '%T@ %p\n' | sort -rn | head -n 1 | cut -d' ' -f2)
# A package of another version has no entry of its own in the changelog.
if [ -z "$version" ] && command -v lintian >/dev/null; then
    lintian --fail-on error,warning --info --no-tag-display-limit --allow-root "$package"
fi
echo "$package"

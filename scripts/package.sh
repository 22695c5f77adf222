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
cargo build --profile "$profile" --locked --features parquet --bin andon
andon=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/${profile/#dev/debug}/andon

rm -rf "$out/man" "$out/completions"
mkdir -p "$out/completions"
"$andon" man --dir "$out/man"
for shell in bash zsh fish; do
    "$andon" completions "$shell" >"$out/completions/$shell"
done

cargo_deb=$(command -v cargo-deb || echo target/tools/bin/cargo-deb)
options=(--profile "$profile" --no-build --quiet --output "$out/")
[ -z "$version" ] || options+=(--deb-version "$version")
"$cargo_deb" "${options[@]}"
package=$(find "$out" -name '*.deb' -printf '%T@ %p\n' | sort -rn | head -n 1 | cut -d' ' -f2)
# A package of another version has no entry of its own in the changelog.
if [ -z "$version" ] && command -v lintian >/dev/null; then
    lintian --fail-on error,warning --info --no-tag-display-limit --allow-root "$package"
fi
echo "$package"

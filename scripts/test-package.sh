#!/usr/bin/env bash
# Installs the package into a fresh Debian, runs it there as its own user by the unit's command line, upgrades it from a
# lower version of this tree, removes and purges it. Needs root, and Debian's packages from the network.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "test-package: needs root, for debootstrap and chroot" >&2; exit 1; }

root=$(mktemp -d)
# The service's user goes in there, too.
chmod 755 "$root"
site=hall-3
state=/var/lib/andon/data/$site
broker=""
service=""
booted=""
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }
finish() {
    for pid in $service $booted $broker; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    umount "$root/proc" 2>/dev/null || true
    # Never follow a mount that is still there.
    mountpoint -q "$root/proc" || rm -rf --one-file-system "$root"
}
trap finish EXIT
fail() { echo "test-package: FAILED: $*" >&2; [ ! -e "$root/tmp/andon.log" ] || tail -n 30 "$root/tmp/andon.log" >&2; exit 1; }
passed() { echo "  ok  $*"; }
check() { local claim=$1; shift; "$@" >/dev/null 2>&1 || fail "$claim"; passed "$claim"; }
refute() { local claim=$1; shift; ! "$@" >/dev/null 2>&1 || fail "$claim"; passed "$claim"; }
wait_for() {
    local claim=$1; shift
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then passed "$claim"; return; fi
        sleep 0.1
    done
    fail "$claim"
}

echo "packages:"
old=$(scripts/package.sh 0.0.9-1 | tail -n 1)
new=$(scripts/package.sh | tail -n 1)
passed "$old"
passed "$new, lintian is content"
if [ -x target/tools/lint/bin/hadolint ]; then
    check "the container file is as hadolint wants it" target/tools/lint/bin/hadolint deploy/Dockerfile
    check "the compose file follows its schema" target/tools/lint/bin/check-jsonschema \
        --builtin-schema vendor.compose-spec deploy/compose.yaml
else
    echo "  skipped: hadolint and the compose schema (python3-venv is not there)"
fi

echo "a fresh Debian:"
debootstrap --variant=minbase --include=adduser bookworm "$root" >"$PWD/target/package/debootstrap.log" 2>&1 \
    || { tail "$PWD/target/package/debootstrap.log"; fail "debootstrap"; }
mount -t proc proc "$root/proc"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
cp "$old" "$root/tmp/old.deb"
cp "$new" "$root/tmp/new.deb"
inside apt-get update -qq
passed "debootstrap"

port=$(( 20000 + RANDOM % 10000 ))
web=$(( 31000 + RANDOM % 1000 ))
mosquitto=$(command -v mosquitto || echo /usr/sbin/mosquitto)
printf 'listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n' "$port" >"$root/tmp/mosquitto.conf"
"$mosquitto" -c "$root/tmp/mosquitto.conf" >"$root/tmp/mosquitto.log" 2>&1 &
broker=$!

# The unit's command line, as its user, in its directory, without systemd.
start() {
    local line
    line=$(sed -n 's/^ExecStart=//p' "$root/lib/systemd/system/andon@.service" | sed "s/%i/$site/")
    chroot --userspec=andon:andon "$root" env -i PATH=/usr/bin:/bin sh -c "umask 0077; cd /var/lib/andon; exec $line" \
        >>"$root/tmp/andon.log" 2>&1 &
    service=$!
    wait_for "$1" inside andon --site "$site" health
}
stop() {
    kill -TERM "$service"
    wait "$service" || fail "a stop ends with code 0"
    service=""
    passed "a stop ends with code 0"
}
publish() { mosquitto_pub -p "$port" -q 1 -t "factory/machine/$1/telemetry" -m '{"temperature":21.5}'; }
knows() { inside andon --site "$site" machines --json | grep -q "\"$1\""; }

echo "install, version 0.0.9:"
inside apt-get install -y -qq --no-install-recommends /tmp/old.deb >/dev/null
check "the user is there" inside getent passwd andon
check "and nobody can log in with it" sh -c "grep '^andon:' '$root/etc/passwd' | grep -q '/usr/sbin/nologin'"
check "only the service reads its data" test "$(inside stat -c '%a %U' /var/lib/andon)" = "750 andon"
refute "no site is enabled" sh -c "ls '$root'/etc/systemd/system/*.wants/ 2>/dev/null | grep -q andon"
for file in /usr/bin/andon /lib/systemd/system/andon@.service /etc/default/andon /etc/andon/sites/example.toml \
    /usr/share/man/man1/andon.1.gz /usr/share/man/man1/andon-config-check.1.gz /usr/share/man/man5/andon.toml.5.gz \
    /usr/share/bash-completion/completions/andon /usr/share/zsh/vendor-completions/_andon \
    /usr/share/fish/vendor_completions.d/andon.fish; do
    [ -e "$root$file" ] || fail "no $file"
done
passed "program, unit, configuration, manual and completions are there"
about=$root/usr/share/doc/andon
check "it says of which crates and C code it is made" \
    python3 -c 'import json, sys; names = {part["name"] for part in json.load(open(sys.argv[1]))["components"]}
sys.exit(not {"actix-web", "sqlite", "paho.mqtt.c"} <= names or "fail" in names)' "$about/andon.cdx.json"
refute "the place where it was built is not named there" grep -qF "$PWD" "$about/andon.cdx.json"
check "so does the program itself" sh -c "readelf --section-headers '$root/usr/bin/andon' | grep -q '\.dep-v0'"
check "the licence texts are there" sh -c "zcat '$about/THIRD-PARTY-LICENCES.gz' | grep -q 'Eclipse Public License - v 2.0'"
conffiles=$(sort "$root/var/lib/dpkg/info/andon.conffiles")
shipped=$(cd "$root" && find etc/andon etc/default/andon -type f | sed 's#^#/#' | sort)
[ "$conffiles" = "$shipped" ] || fail "every file of the configuration is a conffile: $conffiles, not $shipped"
passed "every file of the configuration is a conffile"

echo "a site:"
printf '[mqtt]\nhost = "127.0.0.1"\nport = %s\n[http]\nbind = "127.0.0.1:%s"\n' "$port" "$web" >"$root/etc/andon/sites/$site.toml"
chmod 640 "$root/etc/andon/sites/$site.toml"
inside chgrp andon "/etc/andon/sites/$site.toml"
echo "# changed by the administrator" >>"$root/etc/andon/sites/example.toml"
check "the site is offered for completion" sh -c \
    "chroot '$root' env ANDON_COMPLETE=fish andon -- andon --site '' | grep -qx '$site'"
check "andon finds /etc/andon by itself" inside andon --site "$site" config check
start "it runs as its user, and is ready"
publish press-1
wait_for "a message is stored" knows press-1
check "its data is the user's alone" sh -c "! find '$root$state' -type d -perm /007 | grep -q ."
stop

echo "upgrade:"
inside apt-get install -y -qq --no-install-recommends /tmp/new.deb >/dev/null 2>&1 || fail "the upgrade"
check "the version is the new one" sh -c "chroot '$root' dpkg-query -W -f '\${Version}' andon | grep -qv 0.0.9"
check "a changed conffile is kept" grep -q "changed by the administrator" "$root/etc/andon/sites/example.toml"
start "the new version runs over the data of the old one"
check "and knows the machine" knows press-1
publish press-2
wait_for "and stores" knows press-2
stop

# The service itself, where systemd can be booted in namespaces.
echo "under systemd:"
inside apt-get install -y -qq --no-install-recommends systemd dbus >/dev/null 2>&1 || fail "systemd"
umount "$root/proc"
: >"$root/etc/machine-id"
scripts/systemd-in-root.sh "$root" >"$root/var/log/boot" 2>&1 &
booted=$!
# Runs a program beside that systemd.
beside() { nsenter -t "$(pgrep -P "$booted" | head -n 1)" -m -p -u -i -C -r -w "$@"; }
is_up() { beside systemctl is-system-running | grep -qE 'running|degraded'; }
up=no
for _ in $(seq 100); do
    if is_up 2>/dev/null; then up=yes; break; fi
    kill -0 "$booted" 2>/dev/null || break
    sleep 0.3
done
if [ "$up" = yes ]; then
    token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    mkdir -p "$root/etc/credstore"
    (umask 077; echo "$token" >"$root/etc/credstore/andon.$site.http_token")
    unit=andon@$site
    shows() { beside systemctl show "$unit" -p "$1" --value | grep -qE "$2"; }
    code() { curl -s -o /dev/null -w '%{http_code}' "$@" "http://127.0.0.1:$web/readyz"; }
    check "systemctl start returns when it is ready" timeout 60 nsenter -t "$(pgrep -P "$booted" | head -n 1)" -m -p -u -i -C -r -w systemctl start "$unit"
    wait_for "the status says what it does" shows StatusText "receiving and storing; .* readings stored"
    check "a credential of /etc/credstore reaches it" test "$(code)" = 401 -a "$(code -H "Authorization: Bearer $token")" = 200
    publish press-3
    wait_for "it stores inside the sandbox" shows StatusText "3 readings stored"
    beside systemctl kill --signal=KILL "$unit"
    wait_for "it is restarted after a crash" shows NRestarts "^1$"
    wait_for "and ready again" shows ActiveState "^active$"
    check "systemctl stop is a clean end" beside systemctl stop "$unit"
    check "with code 0" shows Result "^success$"
    printf '[mqtt]\nqoss = 7\n' >"$root/etc/andon/sites/wrong.toml"
    refute "a mistake in the configuration fails the start" beside systemctl start andon@wrong
    unit=andon@wrong
    check "with code 2" shows ExecMainStatus "^2$"
    sleep 6
    check "and is not restarted" shows NRestarts "^0$"
    rm "$root/etc/andon/sites/wrong.toml"
else
    echo "  skipped: systemd does not boot in namespaces here"
fi
kill -KILL "$(pgrep -P "$booted" | head -n 1)" 2>/dev/null || true
wait "$booted" 2>/dev/null || true
booted=""
mount -t proc proc "$root/proc"

echo "remove and purge:"
inside apt-get remove -y -qq andon >/dev/null
refute "a removed package has no program" test -e "$root/usr/bin/andon"
check "configuration stays" test -e "$root/etc/andon/sites/$site.toml"
check "data stays" test -e "$root$state/andon.db"
inside apt-get purge -y -qq andon >/dev/null
refute "purge leaves no configuration" test -e "$root/etc/andon"
refute "purge leaves no data" test -e "$root/var/lib/andon"
refute "purge leaves no secret" compgen -G "$root/etc/credstore/andon.*"
refute "purge leaves nothing that dpkg knows" test -e "$root/var/lib/dpkg/info/andon.list"
echo "test-package: passed"

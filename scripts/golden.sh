#!/usr/bin/env bash
# Keeps what a release writes: tests/golden/VERSION.tar.gz, for each database a journal with 40 pending messages, and the
# database with 205 readings, a rejection, a duplicate and an offline machine. tests/upgrade.rs opens all of them with today's program.
#   scripts/golden.sh PATH-OF-ANDON VERSION
set -euo pipefail
cd "$(dirname "$0")/.."
andon=$(realpath "${1:?usage: scripts/golden.sh PATH-OF-ANDON VERSION}")
version=${2:?usage: scripts/golden.sh PATH-OF-ANDON VERSION}
mosquitto=$(command -v mosquitto || echo /usr/sbin/mosquitto)
programs=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort | tail -n 1)

work=$(mktemp -d)
chmod 755 "$work"
pids=()
finish() {
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    as_postgres "$programs/pg_ctl" -D "$work/cluster" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid postgres --regid postgres --clear-groups "$@"; else "$@"; fi; }
trap finish EXIT

port=$((20000 + RANDOM % 10000))
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$port" >"$work/mosquitto.conf"
"$mosquitto" -c "$work/mosquitto.conf" >/dev/null 2>&1 &
pids+=($!)
mkdir "$work/cluster"
[ "$(id -u)" != 0 ] || chown postgres "$work/cluster"
as_postgres "$programs/initdb" -D "$work/cluster" -U postgres -A trust >/dev/null
pg=$((31000 + RANDOM % 1000))
as_postgres "$programs/pg_ctl" -D "$work/cluster" -o "-p $pg -k $work/cluster -c listen_addresses=127.0.0.1" -l "$work/cluster/log" -w start >/dev/null

mkdir -p "$work/config/sites" "$work/golden"
echo '[site]
id = "golden"' >"$work/config/sites/golden.toml"

# start DIRECTORY URL: runs Andon in the background.
start() {
    "$andon" --site golden --config-dir "$work/config" --set "mqtt.port=$port" --set mqtt.host=127.0.0.1 --set "journal.dir=$1/journal" \
        --set journal.segment_bytes=64KiB --set journal.max_bytes=1MiB --set liveness.offline_after=1s --set http.bind=127.0.0.1:0 \
        --set "store.url=$2" run >>"$work/log" 2>&1 &
    running=$!
    pids+=("$running")
}
wait_for() {
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "golden: in vain: $*" >&2
    tail -n 20 "$work/log" >&2
    exit 1
}
publish() { mosquitto_pub -p "$port" -q 1 -t "factory/machine/$1/telemetry" -l; }
# readings FROM TO
readings() {
    for number in $(seq "$1" "$2"); do
        printf '{"temperature":%s.5,"humidity":41,"vibration":0.25,"shift":"late","timestamp":"2026-01-01T06:%02d:%02dZ"}\n' \
            "$number" $((number / 60)) $((number % 60))
    done
}
journal_is() { "$andon" --site golden --config-dir "$work/config" --set "journal.dir=$1/journal" journal inspect | grep -qE "$2"; }

# fill DATABASE URL QUERY: QUERY prints the stored readings and the offline machines.
fill() {
    local directory=$work/golden/$1
    mkdir "$directory"
    start "$directory" "$2"
    wait_for grep -q '"\?connected' "$work/log"
    sleep 1
    for machine in press-1 press-2; do readings 1 100 | publish "$machine"; done
    readings 7 7 | publish press-1
    echo '{"temperature":' | publish press-1
    for part in 1 2 3 4 5; do echo "{\"temperature\":$part}"; done | paste -sd, | sed 's/.*/[&]/' | publish mill
    wait_for sh -c "$3 | grep -qx '205|1|3'"
    kill -TERM "$running"
    wait "$running"
    start "$directory" "postgres://nobody@127.0.0.1:1/nowhere"
    sleep 2
    readings 101 140 | publish press-2
    sleep 2
    kill -KILL "$running"
    wait "$running" || true
}
counts="SELECT (SELECT count(*) FROM machine_telemetry) || '|' || (SELECT count(*) FROM rejected_message) || '|' || \
(SELECT count(*) FROM machine WHERE status = 'offline')"
fill sqlite "sqlite://$work/golden/sqlite/andon.db" "sqlite3 $work/golden/sqlite/andon.db \"$counts\""
psql="psql -h 127.0.0.1 -p $pg -U postgres -At golden"
psql -h 127.0.0.1 -p "$pg" -U postgres -qc 'CREATE DATABASE golden' postgres
fill postgres "postgres://postgres@127.0.0.1:$pg/golden" "$psql -c \"$counts\""
"$programs/pg_dump" -h 127.0.0.1 -p "$pg" -U postgres --no-owner --inserts golden >"$work/golden/postgres/dump.sql"

mkdir -p tests/golden
tar -C "$work/golden" --sort=name --owner=0 --group=0 --mtime=@0 -czf "tests/golden/$version.tar.gz" sqlite postgres
ls -l "tests/golden/$version.tar.gz"

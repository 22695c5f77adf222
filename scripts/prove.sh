#!/usr/bin/env bash
# Runs the fault suite several times, each time with another seed, and prints a table.
# The suite includes the builds that are broken on purpose; each row says how many of them it detected.
#   ANDON_PROVE_RUNS    number of runs (10)
#   ANDON_FAULT_SEED    the first seed; each run adds one (the time of day)
#   ANDON_PROVE_ONLY    a part of the names of the tests to run (faults::)
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${ANDON_PROVE_RUNS:-10}
first=${ANDON_FAULT_SEED:-$(date +%s)}
only=${ANDON_PROVE_ONLY:-faults::}
threads=${TEST_THREADS:-4}
logs=target/prove
mkdir -p "$logs"

binary=$(cargo test --locked --all-features --test integration --no-run 2>&1 | tee "$logs/build.log" |
    sed -n 's/.*Executable.*(\(.*\))$/\1/p') || true
[ -x "$binary" ] || { tail -n 20 "$logs/build.log"; exit 1; }

echo "| run | seed | passed | failed | broken builds detected | seconds |"
echo "| --- | --- | --- | --- | --- | --- |"
red=0
for run in $(seq "$runs"); do
    seed=$((first + run - 1))
    log=$logs/seed-$seed.log
    began=$SECONDS
    ANDON_FAULT_SEED=$seed "$binary" "$only" --test-threads "$threads" >"$log" 2>&1 || red=$((red + 1))
    counted() { sed -n "s/^test result: .* \([0-9]*\) $1;.*/\1/p" "$log"; }
    detected=$(grep -c '^test faults::mutants::.*\bok$' "$log" || true)
    echo "| $run | $seed | $(counted passed) | $(counted failed) | $detected | $((SECONDS - began)) |"
    grep '^test .* FAILED$' "$log" || true
done
echo
if [ "$red" -eq 0 ]; then
    echo "All $runs runs are green."
else
    echo "$red of $runs runs failed; each run's output is in $logs."
    exit 1
fi

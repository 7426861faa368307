#!/usr/bin/env bash
# From the command to the end of the first step of `trireme train` on 2 ranks, beside a program that
# only loads libtorch, in turn; medians, in seconds.
#
#   benchmarks/startup.sh [rounds]
#
# BUILD and PREFIX as in train.sh. Files are in the cache: the first round is not counted.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-7}
build=$(realpath "${BUILD:-build/release}")
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
read -ra prefix <<<"${PREFIX:-}"

now() { date +%s.%N; }
median() { sort -n | awk '{ v[NR] = $1 } END { printf "%.2f\n", v[int((NR + 1) / 2)] }'; }

load() {
  local begin
  begin=$(now)
  "${prefix[@]}" "$build/benchmarks/bench_load_libtorch"
  echo "$(now) $begin" | awk '{ print $1 - $2 }'
}

# The metrics get their first line at the end of the first step.
first_step() {
  local begin
  rm -rf "$run/run"
  begin=$(now)
  "${prefix[@]}" "$build/trireme" train benchmarks/configs/linear.toml -n 2 training.steps=1 \
    metrics.every_steps=1 run.directory="$run/run" >/dev/null 2>&1
  echo "$(stat -c %.9Y "$run/run/metrics.jsonl") $begin" | awk '{ print $1 - $2 }'
}

for ((round = 0; round <= rounds; ++round)); do
  loaded=$(load)
  stepped=$(first_step)
  if ((round == 0)); then continue; fi
  echo "$loaded" >>"$run/loaded"
  echo "$stepped" >>"$run/stepped"
done
echo "libtorch loads and makes a tensor:  $(median <"$run/loaded") s"
echo "trireme train -n 2, first step:     $(median <"$run/stepped") s (wanted: at most 2.5 s)"

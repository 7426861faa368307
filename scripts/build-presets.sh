#!/usr/bin/env bash
# Builds presets of CMakePresets.json one after another, with the cores that nothing else wants:
#
#   scripts/build-presets.sh PRESET...
#
# After each it prints "PRESET STATUS SECONDS"; what the build says is in build/PRESET.build.log.
# A build that fails is the last.
set -euo pipefail
cd "$(dirname "$0")/.."

# `make build` may have configured release without tests.
configure() {
  local options=(--preset "$1")
  if [[ $1 == release ]]; then options+=(-DTRIREME_TESTS=ON -DTRIREME_EXAMPLES=ON); fi
  cmake "${options[@]}"
}

chrt --idle --pid 0 $$ 2>/dev/null || true
jobs=$(scripts/jobs.sh)
for preset in "$@"; do
  started=$SECONDS
  status=0
  { configure "$preset" && cmake --build --preset "$preset" --parallel "$jobs"; } \
    >"build/$preset.build.log" 2>&1 </dev/null || status=$?
  echo "$preset $status $((SECONDS - started))"
  if (( status != 0 )); then exit "$status"; fi
done

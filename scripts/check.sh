#!/usr/bin/env bash
# Builds and runs the tests of one folder in the preset dev:
#
#   scripts/check.sh FOLDER [FILTER]     e.g. scripts/check.sh parallel 'StrategyConformance*'
#
# FILTER is a pattern of GoogleTest's --gtest_filter; without it all tests of tests/FOLDER run.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-}
if [[ -z $folder || ! -d tests/$folder ]]; then
  echo "usage: make check FOLDER=NAME [TEST=PATTERN]; the folders of tests/ are:" >&2
  (cd tests && ls -d -- */ | tr -d / | paste -sd ' ') >&2
  exit 2
fi
target=test_$folder
if [[ $folder == gloo ]]; then target=test_gloo_communicator; fi

mkdir -p build
if [[ ! -f build/dev/build.ninja ]]; then cmake --preset dev >build/dev.configure.log || { cat build/dev.configure.log; exit 1; }; fi
started=$SECONDS
cmake --build --preset dev --parallel "$(scripts/jobs.sh)" --target "$target"
echo "== built in $((SECONDS - started)) s"
program=$(find build/dev -type f -name "$target" -perm -u+x | head -n 1)
exec "$program" --gtest_filter="${2:-*}"

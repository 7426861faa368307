#!/usr/bin/env bash
# What `make test` has no time for, until MINUTES are over (60 by default), on the release build:
#
#   - once, tests with the label soak and long runs of the examples (TRIREME_SOAK=1);
#   - then, again and again and in random order, every suite with every number of ranks;
#   - in the last quarter of the time, each fuzz target, for as long as there is.
#
# The first failure ends it with exit code 1.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=${1:-60}
if ! [[ $minutes =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: make soak [MINUTES=60]; MINUTES must be a positive integer, got \"$minutes\"" >&2
  exit 2
fi
end=$((SECONDS + minutes * 60))
end_of_tests=$((SECONDS + minutes * 45))
jobs=$(scripts/jobs.sh)

mkdir -p build
cmake --preset release -DTRIREME_TESTS=ON -DTRIREME_EXAMPLES=ON >build/release.configure.log ||
  { cat build/release.configure.log; exit 1; }
cmake --build --preset release --parallel "$jobs"

export TRIREME_TEST_RANKS=1,2,3,4 TRIREME_SOAK=1
round=0
while (( SECONDS < end_of_tests )); do
  round=$((round + 1))
  echo "== soak: round $round of the tests, $(((end_of_tests - SECONDS) / 60)) minutes left for them"
  # ctest ends by itself at the time of --stop-time, which it counts as a failure.
  timeout --foreground "$((end_of_tests - SECONDS))" \
    ctest --test-dir build/release --parallel "$jobs" --schedule-random --output-on-failure \
      --no-tests=error && continue
  status=$?
  if (( status == 124 )); then break; fi
  echo "== soak: FAILED in round $round" >&2
  exit 1
done

unset TRIREME_TEST_RANKS TRIREME_SOAK
cmake --preset fuzz >build/fuzz.configure.log || { cat build/fuzz.configure.log; exit 1; }
cmake --build --preset fuzz --parallel "$jobs"
targets=(build/fuzz/tests/fuzz/fuzz_*)
for i in "${!targets[@]}"; do
  seconds=$(((end - SECONDS) / (${#targets[@]} - i)))
  if (( seconds < 1 )); then seconds=1; fi
  name=${targets[i]##*fuzz_}
  echo "== soak: fuzz target $name for $seconds s"
  mkdir -p "build/fuzz/tests/fuzz/corpus/$name"
  "${targets[i]}" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 \
    "build/fuzz/tests/fuzz/corpus/$name" $(ls -d "tests/fuzz/corpus/$name" 2>/dev/null)
done
echo "== soak: $round rounds of the tests and ${#targets[@]} fuzz targets, no failure"

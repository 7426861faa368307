#!/usr/bin/env bash
# Every check of the project, one stage after another; the first that fails ends it:
#
#   scripts/test.sh [STAGE ...]     stages: format tidy release tsan asan mpich fuzz
#
# A stage is a preset of CMakePresets.json: `ctest --preset asan -R Csv` repeats a part of it. What
# ctest calls a test is a suite of them, run by one process (tests/suites.cmake). While the tests of
# one stage run, the next ones are built with the cores that the tests leave idle.
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=$(scripts/jobs.sh)
stages=("$@")
if [[ ${#stages[@]} -eq 0 ]]; then stages=(format tidy release tsan asan mpich fuzz); fi

describe() {
  case $1 in
    format) echo "sources are formatted" ;;
    tidy) echo "clang-tidy on headers without libtorch and on the last change" ;;
    release) echo "release: library, program, examples, package" ;;
    mpich) echo "communication over MPICH" ;;
    tsan) echo "core under ThreadSanitizer" ;;
    asan) echo "all under AddressSanitizer and UndefinedBehaviorSanitizer" ;;
    fuzz) echo "fuzz targets, a short run of each" ;;
    *) return 1 ;;
  esac
}

check_format() {
  git ls-files -z '*.h' '*.cpp' '*.cu' | xargs -0 -r clang-format --dry-run -Werror
}

require_mpich() {
  local probe='#include <mpi.h>
    int main() { return MPI_Init(nullptr, nullptr); }'
  if command -v mpiexec.mpich >/dev/null &&
      mpicxx.mpich -x c++ -o /dev/null - <<<"$probe" &>/dev/null; then
    return 0
  fi
  echo "$0: the stage mpich needs MPICH and its headers: apt-get install mpich libmpich-dev" >&2
  return 1
}

# Waits until the preset $1 is built, and sets `built` to the seconds that took.
await_build() {
  local preset status
  if read -r preset status built <&"$builds" && [[ $preset == "$1" && $status == 0 ]]; then
    return 0
  fi
  cat "build/$1.build.log"
  return 1
}

check_preset() {
  echo "== it is being built: build/$1.build.log"
  await_build "$1" || return 1
  stage_started=$SECONDS
  # The ends of what the tests print: count_of() reads them.
  ctest --preset "$1" --parallel "$jobs" --no-tests=error --test-output-truncation head \
    --output-junit "$PWD/build/$1.tests.xml"
}

# What building and testing the stage took when it was last recorded.
recorded_seconds() {
  awk -v stage="$1" '$1 == stage { printf "%s + %s", $2, $3 }' scripts/stage-seconds.txt
}

# The number in attribute $2 of the first element of build/$1.tests.xml.
number_of() { grep -om1 "$2=\"[0-9]*\"" "build/$1.tests.xml" | tr -dc 0-9; }

# The tests of ctest that suites are not, and those in the suites, which say how many they are.
count_of() {
  { grep -o '\[  PASSED  \] [0-9]*' "build/$1.tests.xml" || true; } |
    awk -v all="$(number_of "$1" tests)" '{ n += $4 } END { print all - NR + n }'
}

skipped_of() {
  { grep -o '\[  SKIPPED \] [0-9]* test' "build/$1.tests.xml" || true; } |
    awk -v all="$(($(number_of "$1" skipped) + $(number_of "$1" disabled)))" \
      '{ n += $4 } END { print all + n }'
}

presets=()
for stage in "${stages[@]}"; do
  if ! describe "$stage" >/dev/null; then
    echo "$0: no stage '$stage'; there are format, tidy, release, tsan, asan, mpich and fuzz" >&2
    exit 2
  fi
  if [[ $stage == mpich ]]; then require_mpich || exit 1; fi
  if [[ $stage != format && $stage != tidy ]]; then presets+=("$stage"); fi
done

mkdir -p build
exec {builds}< <(exec setsid scripts/build-presets.sh "${presets[@]}")
builder=$!
trap 'kill -- "-$builder" 2>/dev/null || true' EXIT

summary=()
tests=0
skipped=0
started=$SECONDS
for i in "${!stages[@]}"; do
  stage=${stages[i]}
  title=$(describe "$stage")
  echo "== stage $((i + 1)) of ${#stages[@]}: $title"
  stage_started=$SECONDS
  built=0
  count=1
  case $stage in
    format) check_format || failed=$stage ;;
    tidy) scripts/tidy.sh --stage || failed=$stage ;;
    *) check_preset "$stage" || failed=$stage ;;
  esac
  if [[ -n ${failed:-} ]]; then
    echo "== stage $((i + 1)) of ${#stages[@]} FAILED: $title" >&2
    echo "== again with: scripts/test.sh $stage" >&2
    exit 1
  fi
  if [[ $stage != format && $stage != tidy ]]; then
    count=$(count_of "$stage")
    skipped=$((skipped + $(skipped_of "$stage")))
  fi
  tests=$((tests + count))
  dots=................................................................
  summary+=("$(printf '%d/%d %s %s   Passed %5d tests %4d + %4d sec (recorded: %s)' "$((i + 1))" \
    "${#stages[@]}" "$title" "${dots:${#title}}" "$count" "$built" "$((SECONDS - stage_started))" \
    "$(recorded_seconds "$stage")")")
done

echo
echo "Seconds: what was built, beside the tests of earlier stages, and its tests."
printf '%s\n' "${summary[@]}"
echo
echo "100% tests passed, 0 tests failed out of $tests"
if (( skipped > 0 )); then echo "$skipped tests did not run on this machine"; fi
echo
echo "Total Test time (real) = $((SECONDS - started)) sec"

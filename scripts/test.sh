#!/usr/bin/env bash
# Every check of the project, one stage after another; the first that fails ends it:
#
#   scripts/test.sh [STAGE ...]     stages: format tidy release mpich tsan asan fuzz
#
# A stage is a preset of CMakePresets.json: `ctest --preset asan -R Csv` repeats a part of it. What
# ctest calls a test is a suite of them, run by one process (tests/suites.cmake).
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=$(scripts/jobs.sh)
stages=("$@")
if [[ ${#stages[@]} -eq 0 ]]; then stages=(format tidy release mpich tsan asan fuzz); fi

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

# Configures, builds and tests the preset $1. `make build` may have configured release without tests.
check_preset() {
  local configure=(cmake --preset "$1")
  if [[ $1 == release ]]; then configure+=(-DTRIREME_TESTS=ON -DTRIREME_EXAMPLES=ON); fi
  "${configure[@]}" >"build/$1.configure.log" || { cat "build/$1.configure.log"; return 1; }
  cmake --build --preset "$1" --parallel "$jobs" || return 1
  # The ends of what the tests print: count_of() reads them.
  ctest --preset "$1" --parallel "$jobs" --no-tests=error --test-output-truncation head \
    --output-junit "$PWD/build/$1.tests.xml"
}

# What the stage took when it was last recorded, on two cores without a compiler cache.
recorded_seconds() { awk -v stage="$1" '$1 == stage { print $2 }' scripts/stage-seconds.txt; }

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

mkdir -p build
summary=()
tests=0
skipped=0
started=$SECONDS
for i in "${!stages[@]}"; do
  stage=${stages[i]}
  if ! title=$(describe "$stage"); then
    echo "$0: no stage '$stage'; there are format, tidy, release, mpich, tsan, asan and fuzz" >&2
    exit 2
  fi
  echo "== stage $((i + 1)) of ${#stages[@]}: $title"
  stage_started=$SECONDS
  count=1
  if [[ $stage == format ]]; then
    check_format || failed=$stage
  elif [[ $stage == tidy ]]; then
    scripts/tidy.sh --stage || failed=$stage
  else
    if [[ $stage != mpich ]] || require_mpich; then
      check_preset "$stage" || failed=$stage
    else
      failed=$stage
    fi
  fi
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
  summary+=("$(printf '%d/%d %s %s   Passed %5d tests %5d sec (%s recorded)' "$((i + 1))" \
    "${#stages[@]}" "$title" "${dots:${#title}}" "$count" "$((SECONDS - stage_started))" \
    "$(recorded_seconds "$stage")")")
done

echo
printf '%s\n' "${summary[@]}"
echo
echo "100% tests passed, 0 tests failed out of $tests"
if (( skipped > 0 )); then echo "$skipped tests did not run on this machine"; fi
echo
echo "Total Test time (real) = $((SECONDS - started)) sec"

#!/usr/bin/env bash
# clang-tidy on all headers without libtorch, and on sources without libtorch:
#
#   scripts/tidy.sh [COMMIT]      what changed since COMMIT (20 commits ago), the newest first, at most 12
#   scripts/tidy.sh --all         all of them
#   scripts/tidy.sh --stage       the lines that the last commit or the working tree changed, in at most
#                                 3 sources: what scripts/test.sh does
#
# Without a history of commits, as in a shallow clone, no source has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v clang-tidy >/dev/null; then
  echo "$0: clang-tidy is not installed (apt-get install clang-tidy): nothing is checked" >&2
  exit 0
fi

read -ra folders < <(awk '$1 == "tensor" { exit }
  $1 !~ /^#/ && NF { printf "trireme/%s ", $1 }
  END { print "" }' layers.txt)

# What compiles only with the headers of MPI, of NCCL or in the middle of another file is left out.
complete() { grep -v 'comm/\(mpi\|nccl\)/\|comm/device_lane\|-inl\.h$' || true; }

# The sources among the names on stdin that exist, each once, at most $1.
existing_sources() {
  { grep '\.cpp$' || true; } | awk '!seen[$0]++' | while read -r file; do
    if [[ -f $file ]]; then echo "$file"; fi
  done | awk -v most="$1" 'NR <= most'
}

# Prints what clang-tidy finds, without the count of what it does not show.
check() { clang-tidy -p build/tidy --quiet "$@" 2>/dev/null; }
export -f check

check_headers() {
  local headers=build/tidy/headers.cpp
  find "${folders[@]}" -name '*.h' | sort | complete | sed 's/.*/#include "&"/' >$headers
  check $headers -- -std=c++20 -I.
}

# The names on stdin.
check_files() { complete | xargs -r -n 1 -P "$(scripts/jobs.sh)" bash -c 'check "$1"' _; }

check_changed_files() {
  local base=$1
  if [[ -z $base ]]; then
    base=$({ git rev-list --first-parent --max-count=21 HEAD 2>/dev/null || true; } | tail -n 1)
  fi
  if [[ -z $base ]]; then return 0; fi
  {
    git diff --name-only --diff-filter=d HEAD -- "${folders[@]}"
    git log --format= --name-only --diff-filter=d "$base..HEAD" -- "${folders[@]}"
  } | existing_sources 12 | check_files
}

# The lines of $2 that changed since commit $1: [first,last],[first,last]
changed_lines() {
  git diff -U0 "$1" -- "$2" |
    sed -n 's/^@@ [^+]*+\([0-9]*\),\{0,1\}\([0-9]*\) @@.*/\1 \2/p' |
    awk '{ lines = NF == 1 ? 1 : $2 }
      lines > 0 { printf "%s[%d,%d]", separator, $1, $1 + lines - 1; separator = "," }'
}

check_changed_lines() {
  local base file lines
  if ! base=$(git rev-parse --verify --quiet HEAD~1 2>/dev/null); then return 0; fi
  git diff --name-only --diff-filter=d "$base" -- "${folders[@]}" | complete | existing_sources 3 |
    while read -r file; do
      lines=$(changed_lines "$base" "$file")
      if [[ -n $lines ]]; then
        check --line-filter="[{\"name\":\"$file\",\"lines\":[$lines]}]" "$file" || return 1
      fi
    done
}

mkdir -p build/tidy
cmake --preset tidy >build/tidy.configure.log || { cat build/tidy.configure.log; exit 1; }
check_headers
case ${1:-} in
  --all) find "${folders[@]}" -name '*.cpp' | sort | check_files ;;
  --stage) check_changed_lines ;;
  *) check_changed_files "${1:-}" ;;
esac

#!/usr/bin/env bash
# clang-tidy on the sources without libtorch that changed since a commit, the newest first, at most 12:
#
#   scripts/tidy.sh [COMMIT]      without COMMIT: since 20 commits ago
#   scripts/tidy.sh --all         all of them
set -euo pipefail
cd "$(dirname "$0")/.."

limit=12
folders=$(awk '$1 == "tensor" { exit } $1 !~ /^#/ && NF { print "trireme/" $1 }' layers.txt)
if [[ ${1:-} == --all ]]; then
  # shellcheck disable=SC2086
  mapfile -t files < <(git ls-files $folders | grep '\.cpp$')
else
  base=${1:-$(git rev-list --max-count=21 HEAD | tail -n 1)}
  # shellcheck disable=SC2086
  mapfile -t files < <(git log --format= --name-only --diff-filter=d "$base..HEAD" -- $folders |
    grep '\.cpp$' | awk '!seen[$0]++' | while read -r file; do [[ -f $file ]] && echo "$file"; done |
    head -n "$limit")
fi
if [[ ${#files[@]} -eq 0 ]]; then exit 0; fi

mkdir -p build
cmake --preset tidy >build/tidy.configure.log || { cat build/tidy.configure.log; exit 1; }
printf '%s\n' "${files[@]}" | grep -v 'comm/\(mpi\|nccl\)/' |
  xargs -r -n 1 -P "$(nproc)" clang-tidy -p build/tidy --quiet 2>/dev/null

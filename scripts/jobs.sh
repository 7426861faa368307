#!/usr/bin/env bash
# Compilers to run at once: one a core, and 3 GiB of memory for each, which a libtorch source needs.
set -euo pipefail

cores=$(nproc)
bytes=$(( $(awk '/^MemTotal:/ { print $2 }' /proc/meminfo) * 1024 ))
limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
if [[ $limit != max ]] && (( limit < bytes )); then bytes=$limit; fi

jobs=$(( bytes / (3 << 30) ))
if (( jobs > cores )); then jobs=$cores; fi
if (( jobs < 1 )); then jobs=1; fi
echo "$jobs"

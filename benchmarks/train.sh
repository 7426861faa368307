#!/usr/bin/env bash
# Training throughput of trireme and of PyTorch, in turn, round after round; then medians and ratios.
#
#   benchmarks/train.sh [rounds]
#
# BUILD   the build folder, with -DTRIREME_BENCHMARKS=ON (default build/release)
# PREFIX  put before every command, such as "chrt -f 10" on a machine with other work
# The lines measured are left in BUILD/bench-train.jsonl.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-5}
build=$(realpath "${BUILD:-build/release}")
results=$build/bench-train.jsonl
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
read -ra prefix <<<"${PREFIX:-}"
# Whatever the shell asks of OpenBLAS would bind both sides to other kernels than the machine's.
unset "${!OPENBLAS_@}"

scripts/fetch-data.sh fashion-mnist

record() {  # name model, then the line on stdin
  local line
  line=$(tail -n 1)
  echo "{\"contender\": \"$1\", \"model\": \"$2\", \"samples_per_second\": $line}" | tee -a "$results"
}

rate_of() { grep -oP '"samples_per_second": \K[0-9]+'; }

library() {  # name model ranks how
  OMP_NUM_THREADS=1 "${prefix[@]}" "$build/trireme" run -n "$3" --pin \
    "$build/benchmarks/bench_train" "$2" "$4" 2 | rate_of | record "$1" "$2"
}

pytorch() {  # name model, then options
  "${prefix[@]}" /usr/bin/python3 benchmarks/pytorch_ddp.py "${@:2}" --seconds 2 | rate_of | record "$1" "$2"
}

# The whole program: loader, trainer, metrics.
program() {  # name model ranks batch, then overrides
  "${prefix[@]}" "$build/trireme" train "benchmarks/configs/$2.toml" -n "$3" \
    training.global_batch="$4" run.directory="$runs/$1" "${@:5}" >/dev/null 2>&1
  grep -oP '"samples_per_second":\s*\K[0-9]+' "$runs/$1/metrics.jsonl" | sort -n |
    awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }' | record "$1" "$2"
  rm -rf "${runs:?}/$1"
}

: >"$results"
for ((round = 0; round < rounds; ++round)); do
  for model in linear mlp; do
    batch=$([[ $model == linear ]] && echo 32 || echo 64)
    library "1 rank" "$model" 1 replicated
    pytorch "PyTorch, 1 thread" "$model"
    library "2 independent" "$model" 2 independent
    library "2 ranks, replicated" "$model" 2 replicated
    pytorch "PyTorch, 2 threads" "$model" --threads 2
    library "2 ranks, shared" "$model" 2 shared
    pytorch "PyTorch DDP, 2" "$model" --processes 2
    program "train, 1 rank" "$model" 1 "$batch"
    program "train, 2 replicated" "$model" 2 $((2 * batch))
    program "train, 2 shared" "$model" 2 $((2 * batch)) parallelism.strategy=host_shared
  done
done
echo
/usr/bin/python3 benchmarks/ratios.py "$results"

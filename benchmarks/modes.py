#!/usr/bin/python3
"""The network of examples/fashion-mnist.toml in every mode: accuracy, seconds, bytes.

    benchmarks/modes.py [--rounds 3] [--ranks 2] [--only NAME ...] [section.key=value ...]

Each round trains every mode once, with a seed of its own; medians are printed as the table in
docs/modes.md. TRIREME names the program (default build/release/trireme). What was measured is left in
build/bench-modes.jsonl, one line a run.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = "examples/fashion-mnist.toml"

SERVER = "parallelism.strategy=parameter_server"
ASYNCHRONOUS = "communication.mode=asynchronous"
HYBRID = "communication.mode=hybrid"
LOCAL_STEPS = "communication.local_steps=20"

# The name of a mode and what makes it from the file.
MODES = [
    ("synchronous", []),
    ("synchronous, shared", ["parallelism.strategy=host_shared"]),
    ("synchronous, int8", ["communication.compression=int8"]),
    ("synchronous, power_sgd", ["communication.compression=power_sgd"]),
    ("through servers, synchronous", [SERVER]),
    ("asynchronous", [ASYNCHRONOUS]),
    ("asynchronous, int8", [ASYNCHRONOUS, "communication.compression=int8"]),
    ("bounded staleness, 3", [HYBRID, "communication.hybrid=bounded_staleness",
                              "communication.staleness=3"]),
    ("backup workers, 1", [HYBRID, "communication.hybrid=backup_workers",
                           "communication.backup_workers=1"]),
    ("local SGD, 20 steps", [HYBRID, "communication.hybrid=local_sgd", LOCAL_STEPS]),
    ("DiLoCo, 20 steps", [HYBRID, "communication.hybrid=diloco", LOCAL_STEPS]),
    ("DiLoCo, streaming", [HYBRID, "communication.hybrid=diloco", LOCAL_STEPS,
                           "communication.fragments=4", "communication.delay=2"]),
    ("DiLoCo, int8", [HYBRID, "communication.hybrid=diloco", LOCAL_STEPS,
                      "communication.compression=int8"]),
]


def train(program, ranks, seed, overrides):
    """One run: its accuracy, seconds and the bytes of rank 0."""
    with tempfile.TemporaryDirectory() as run:
        command = [program, "train", CONFIG, "-n", str(ranks), f"run.directory={run}/run",
                   f"training.seed={seed}", "training.threads=1", *overrides]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        lines = [json.loads(line) for line in open(f"{run}/run/metrics.jsonl")]
    steps = [line for line in lines if "loss" in line]
    return {
        "accuracy": next(line["evaluation"]["accuracy"] for line in reversed(lines)
                         if "evaluation" in line),
        "seconds": sum(line["data_seconds"] + line["compute_seconds"] +
                       line["communication_seconds"] for line in steps),
        "communication_seconds": sum(line["communication_seconds"] for line in steps),
        "bytes_sent": sum(line["bytes_sent"] for line in steps),
        "bytes_received": sum(line["bytes_received"] for line in steps),
    }


def print_table(runs):
    print("| mode | test accuracy | lowest | seconds | of synchronous | MiB sent | MiB received |")
    print("|---|---|---|---|---|---|---|")
    by_mode = {}
    for run in runs:
        by_mode.setdefault(run["mode"], []).append(run)
    first = list(by_mode.values())[0]
    for mode, all_rounds in by_mode.items():
        median = {key: statistics.median(run[key] for run in all_rounds)
                  for key in ("accuracy", "seconds", "bytes_sent", "bytes_received")}
        # In one round the machine was the same: the median of the ratios, not their ratio.
        ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in zip(all_rounds, first))
        print(f"| {mode} | {100 * median['accuracy']:.2f} % "
              f"| {100 * min(run['accuracy'] for run in all_rounds):.2f} % "
              f"| {median['seconds']:.1f} | {ratio:.2f} "
              f"| {median['bytes_sent'] / 2**20:.1f} | {median['bytes_received'] / 2**20:.1f} |")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--ranks", type=int, default=2)
    arguments.add_argument("--only", nargs="*", help="names of modes")
    arguments.add_argument("overrides", nargs="*", help="section.key=value, for all of them")
    asked = arguments.parse_args()
    program = os.environ.get("TRIREME", str(ROOT / "build/release/trireme"))
    subprocess.run(["scripts/fetch-data.sh", "fashion-mnist"], cwd=ROOT, check=True)
    runs = []
    with open(ROOT / "build/bench-modes.jsonl", "w") as out:
        for seed in range(1, asked.rounds + 1):
            for mode, overrides in MODES:
                if asked.only and mode not in asked.only:
                    continue
                measured = train(program, asked.ranks, seed, overrides + asked.overrides)
                runs.append({"mode": mode, "seed": seed, **measured})
                print(json.dumps(runs[-1]), file=out, flush=True)
                print(f"round {seed}: {mode}", file=sys.stderr)
    print_table(runs)


if __name__ == "__main__":
    main()

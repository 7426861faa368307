#!/usr/bin/python3
"""Peak memory of 4 ranks with each strategy: an MLP of 50 M parameters, Adam, f32.

    memory.py [BUILD]

The sum over all processes of their proportional set size (Pss in /proc/PID/smaps_rollup), so that
memory which ranks share counts once, looked at ten times a second while `trireme train` runs.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

PARAMETERS = 784 * 6144 + 6144 + 6144 * 6144 + 6144 + 6144 * 1200 + 1200 + 1200 + 1
OPTIONS = [
    "data.format=linear_model",
    "data.features_count=784",
    "data.samples=1000",
    "model.name=mlp",
    "model.hidden=[6144, 6144, 1200]",
    "optimizer.name=adam",
    "training.global_batch=16",
    "training.threads=1",
    "checkpoint.keep=1",
]


def family(pid):
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def pss_bytes(pid):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    return 0


def peak_bytes(build, ranks, strategy, steps):
    """Until the last step; the checkpoint after it is not training."""
    with tempfile.TemporaryDirectory() as run:
        command = [f"{build}/trireme", "train", "-n", str(ranks), *OPTIONS]
        command += [f"parallelism.strategy={strategy}", f"run.directory={run}"]
        command += [f"training.steps={steps}", "metrics.every_steps=1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        peak = 0
        metrics = Path(run, "metrics.jsonl")
        while process.poll() is None:
            try:
                peak = max(peak, sum(pss_bytes(pid) for pid in family(process.pid)))
                if metrics.exists() and len(metrics.read_text().splitlines()) >= steps - 1:
                    break
            except (FileNotFoundError, ProcessLookupError):
                pass  # a process has just ended
            time.sleep(0.1)
        process.terminate()
        errors = process.communicate()[1].decode()
        if not metrics.exists():
            sys.exit(errors)
        return peak


def main():
    build = sys.argv[1] if len(sys.argv) > 1 else "build/release"
    print(f"{PARAMETERS / 1e6:.1f} M parameters: {4 * PARAMETERS / 1e6:.0f} MB; Adam's state: twice that")
    print("| ranks | strategy | peak, MB |\n|---|---|---|")
    for ranks, strategy in [(1, "replicated"), (4, "replicated"), (4, "host_shared")]:
        print(f"| {ranks} | {strategy} | {peak_bytes(build, ranks, strategy, 8) / 1e6:,.0f} |", flush=True)


if __name__ == "__main__":
    main()

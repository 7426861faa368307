#!/usr/bin/python3
"""Loss against steps, seconds and bytes in each mode, in the situations of docs/modes.md.

    benchmarks/mode_curves.py equal|slow-worker|slow-link [--rounds 3] [--only NAME] [--draw]

Each round trains every mode once, with a seed of its own, and compares within the round. Writes
docs/modes/SITUATION.svg (the first round) and prints the table of medians; what was measured is
left in build/mode-curves-SITUATION.jsonl, from which --draw makes both again and with which
--first ROUND goes on. TRIREME names the program
(default build/release/trireme), PREFIX what to put before it, which must become it (chrt, nice).

slow-worker stops rank 1 for two thirds of the time, by signals. slow-link needs root: it makes two
network namespaces joined by a link of 100 Mbit/s, and trains with one rank in each.

The loss is that of the images held back, the mean of three evaluations; the target is the one
that synchronous training ends with. A mode's time ends when it first has it. Times are on the wall,
evaluations included, since ranks that do not wait go on while rank 0 evaluates.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from loss_chart import svg_of

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("TRIREME", str(ROOT / "build/release/trireme"))
PREFIX = shlex.split(os.environ.get("PREFIX", ""))
CONFIG = "benchmarks/configs/modes.toml"
LIMIT_SECONDS = 60  # of one run

ASYNCHRONOUS = ["communication.mode=asynchronous"]
BOUNDED = ["communication.mode=hybrid", "communication.hybrid=bounded_staleness"]
LOCAL_SGD = ["communication.mode=hybrid", "communication.hybrid=local_sgd"]
DILOCO = ["communication.mode=hybrid", "communication.hybrid=diloco"]
POWER_SGD = ["communication.compression=power_sgd"]
TOP_K = ["communication.compression=top_k"]
TWENTY = ["communication.local_steps=20"]
FORTY = ["communication.local_steps=40"]

# Of 0.1, 0.2 and 0.4 the one with the lowest loss at the end, for each mode; 0.8 diverges.
FAST = ["optimizer.lr=0.4"]
SLOW = ["optimizer.lr=0.2"]
# Three quarters of each batch for the fast worker.
SHARES = ["training.virtual_workers=4", "training.shares=[3,1]"]
# Rank 0 would be done long before the others have given it what they learn.
LONGER = ["training.steps=900"]

EQUAL = {
    "synchronous": FAST,
    "synchronous, power_sgd": POWER_SGD + FAST,
    "synchronous, top_k 1 %": TOP_K + FAST,
    "asynchronous": ASYNCHRONOUS + SLOW,
    "bounded staleness, 3": BOUNDED + SLOW,
    "local SGD, 20 steps": LOCAL_SGD + TWENTY + FAST,
    "DiLoCo, 20 steps": DILOCO + TWENTY + SLOW,
}
# Of 0.1, 0.2, 0.4 and 0.8 with their batches.
SLOW_WORKER = {
    "synchronous": SLOW,
    "synchronous, shares 3 to 1": SHARES + SLOW,
    "asynchronous": ASYNCHRONOUS + LONGER + SLOW,
    "asynchronous, shares 3 to 1": ASYNCHRONOUS + SHARES + SLOW,
    "bounded staleness, 3": BOUNDED + SLOW,
    "bounded staleness, 3, shares 3 to 1": BOUNDED + SHARES + SLOW,
    "local SGD, 20 steps": LOCAL_SGD + TWENTY + FAST,
    "DiLoCo, 20 steps": DILOCO + TWENTY + FAST,
    "DiLoCo, 20 steps, shares 3 to 1": DILOCO + SHARES + TWENTY + FAST,
}
SLOW_LINK = {
    "synchronous": ["training.steps=140"] + FAST,
    "power_sgd, rank 2": POWER_SGD + FAST,
    "top_k 1 %": TOP_K + FAST,
    "local SGD, 20 steps": LOCAL_SGD + TWENTY + FAST,
    "DiLoCo, 20 steps": DILOCO + TWENTY + SLOW,
    "DiLoCo, 40 steps, int8": DILOCO + FORTY + ["communication.compression=int8"] + SLOW,
}
SITUATIONS = {
    "equal": ("Two workers of equal speed on one host", EQUAL, []),
    # Large batches: a step is long beside the time for which a rank is stopped.
    "slow-worker": ("Two workers, one of them three times slower", SLOW_WORKER,
                    ["training.global_batch=512", "training.steps=600",
                     "evaluation.every_steps=30"]),
    "slow-link": ("Two hosts and 100 Mbit/s between them", SLOW_LINK,
                  ["model.hidden=[1024,256]", "training.steps=400", "evaluation.every_steps=20"]),
}


class Slowed:
    """Rank 1 of a launcher, running one third of the time: RUNNING seconds, then stopped for STOPPED,
    which are short beside a step: a slow machine is slow all the time."""

    RUNNING = 0.0004
    STOPPED = 0.001

    def __init__(self, launcher):
        self._launcher = launcher
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._pace)
        self._thread.start()

    def stop(self):
        self._done.set()
        self._thread.join()

    def _second_rank(self):
        children = pathlib.Path(f"/proc/{self._launcher}/task/{self._launcher}/children")
        while not self._done.is_set():
            with contextlib.suppress(OSError):
                ranks = sorted(map(int, children.read_text().split()))
                if len(ranks) == 2:  # forked in their order
                    return ranks[1]
            time.sleep(0.01)
        return None

    def _pace(self):
        rank = self._second_rank()
        if rank is None:
            return
        with contextlib.suppress(ProcessLookupError):
            while not self._done.is_set():
                time.sleep(self.RUNNING)
                os.kill(rank, signal.SIGSTOP)
                time.sleep(self.STOPPED)
                os.kill(rank, signal.SIGCONT)


class Hosts:
    """Two network namespaces and a link of 100 Mbit/s. Its own, gone at the end; needs root."""

    NAMES = [f"trireme-{os.getpid()}-{host}" for host in range(2)]

    def __enter__(self):
        for name in self.NAMES:
            self._ip("netns", "add", name)
        self._ip("link", "add", "link0", "netns", self.NAMES[0], "type", "veth", "peer", "name",
                 "link0", "netns", self.NAMES[1])
        for host, name in enumerate(self.NAMES):
            self._ip("-n", name, "address", "add", f"192.168.0.{host + 1}/24", "dev", "link0")
            for device in ("lo", "link0"):
                self._ip("-n", name, "link", "set", device, "up")
            subprocess.run(["ip", "netns", "exec", name, *"tc qdisc add dev link0 root tbf".split(),
                            *"rate 100mbit burst 128kb latency 20ms".split()], check=True)
        return self

    def __exit__(self, *_):
        for name in self.NAMES:
            subprocess.run(["ip", "netns", "delete", name])

    def command(self, host, train):
        # Each host has its own core: by itself each would take the first.
        return ["ip", "netns", "exec", self.NAMES[host], "taskset", "-c", str(host), *PREFIX,
                PROGRAM, "run", "-n", "1", "--hosts", "2", "--host", str(host), "--master",
                "192.168.0.1:29500", *train, "parallelism.pin=false"]

    @staticmethod
    def mib_on_link(process):
        """Of the host of a process, both ways, headers included; None before and after it."""
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{process}/net/dev").read_text().splitlines():
                if line.strip().startswith("link0:"):
                    counts = line.split(":")[1].split()
                    return (int(counts[0]) + int(counts[8])) / 2**20
        return None

    @staticmethod
    def _ip(*words):
        subprocess.run(["ip", *words], check=True)


def timed_lines(path, processes, hosts):
    """The lines of metrics.jsonl, each with the moment in which it was written, in seconds, and
    with what the link has carried by then."""
    text = ""
    lines = []
    began = time.monotonic()
    file = before = carried = None
    while True:
        running = all(process.poll() is None for process in processes)
        now = time.monotonic()
        if hosts and (now_on_link := hosts.mib_on_link(processes[0].pid)) is not None:
            before = now_on_link if before is None else before
            carried = now_on_link - before
        if now - began > LIMIT_SECONDS:
            sys.exit(f"{path}: not done in {LIMIT_SECONDS} s")
        if file is None and path.exists():
            file = open(path)
        text += file.read() if file else ""
        *whole, text = text.split("\n")
        lines += [(now, carried, json.loads(line)) for line in whole]
        if not running:
            return lines
        time.sleep(0.002)


def points_of(lines):
    """One point an evaluation."""
    first_at, _, first = lines[0]
    parts = ("data", "compute", "communication")
    start = first_at - sum(first[part + "_seconds"] for part in parts)
    counted = 0
    points = []
    for at, carried, line in lines:
        counted += (line.get("bytes_sent", 0) + line.get("bytes_received", 0)) / 2**20
        if "evaluation" in line:
            points.append({"step": line["step"], "seconds": at - start, "counted_mib": counted,
                           "mib": counted if carried is None else carried,
                           "loss": line["evaluation"]["loss"]})
    for i in reversed(range(len(points))):
        last = points[max(0, i - 2):i + 1]
        points[i]["loss"] = sum(point["loss"] for point in last) / len(last)
    return points


def train(situation, overrides, hosts):
    with tempfile.TemporaryDirectory() as folder:
        words = [PROGRAM, "train", CONFIG, f"run.directory={folder}/run", *overrides]
        commands = ([hosts.command(host, words) for host in range(2)] if hosts
                    else [[*PREFIX, *words, "-n", "2"]])
        errors = [open(f"{folder}/stderr-{i}", "w+") for i in range(len(commands))]
        processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=error)
                     for command, error in zip(commands, errors)]
        slowed = Slowed(processes[0].pid) if situation == "slow-worker" else None
        try:
            lines = timed_lines(pathlib.Path(folder) / "run/metrics.jsonl", processes, hosts)
            for process, command, error in zip(processes, commands, errors):
                if process.wait(timeout=20) != 0:
                    error.seek(0)
                    sys.exit(f"{shlex.join(command)}\n{error.read()}")
        finally:
            if slowed:
                slowed.stop()
            for process in processes:
                if process.poll() is None:
                    process.kill()  # its ranks end with it
                    process.wait()
        return points_of(lines)


def measure(situation, asked):
    _, modes, overrides = SITUATIONS[situation]
    with contextlib.ExitStack() as stack:
        hosts = stack.enter_context(Hosts()) if situation == "slow-link" else None
        out = stack.enter_context(open(ROOT / f"build/mode-curves-{situation}.jsonl",
                                       "w" if asked.first == 1 else "a"))
        for seed in range(asked.first, asked.rounds + 1):
            for mode, keys in modes.items():
                if asked.only and mode not in asked.only:
                    continue
                points = train(situation, [f"training.seed={seed}", *overrides, *keys,
                                           *asked.overrides], hosts)
                print(json.dumps({"mode": mode, "seed": seed, "points": points}), file=out,
                      flush=True)
                print(f"round {seed}: {mode}", file=sys.stderr)


def first_at(points, target):
    return next((point for point in points if point["loss"] <= target), None)


def median_ratio(runs, firsts, targets, key):
    """In one round the machine was the same: the median of the ratios, not their ratio."""
    ratios = []
    for run, first, target in zip(runs, firsts, targets):
        reached = first_at(run["points"], target)
        ratios.append(reached[key] / first_at(first["points"], target)[key] if reached else None)
    return None if None in ratios else statistics.median(ratios)


def show(situation):
    title, modes, _ = SITUATIONS[situation]
    by_mode = {}
    for line in open(ROOT / f"build/mode-curves-{situation}.jsonl"):
        run = json.loads(line)
        by_mode.setdefault(run["mode"], []).append(run)
    firsts = by_mode["synchronous"]
    targets = [run["points"][-1]["loss"] for run in firsts]

    print(f"Target: {', '.join(f'{target:.3f}' for target in targets)}\n")
    print("| mode | loss at the end | seconds to target | of synchronous | MiB to target "
          "| of synchronous |")
    print("|---|---|---|---|---|---|")
    for mode, runs in by_mode.items():
        end = statistics.median(run["points"][-1]["loss"] for run in runs)
        cells = []
        for key in ("seconds", "mib"):
            reached = [first_at(run["points"], target) for run, target in zip(runs, targets)]
            ratio = median_ratio(runs, firsts, targets, key)
            if ratio is None:
                missed = reached.count(None)
                cells += [f"not reached in {missed} of {len(runs)}", ""]
            else:
                cells += [f"{statistics.median(point[key] for point in reached):,.1f}",
                          f"{ratio:.2f}" if ratio > 0.1 else f"1/{1 / ratio:.0f}"]
        print(f"| {mode} | {end:.3f} | {' | '.join(cells)} |")
    lines = [(mode, runs[0]["points"]) for mode, runs in by_mode.items()]
    lowest = min(point["loss"] for _, points in lines for point in points)
    (ROOT / "docs/modes").mkdir(exist_ok=True)
    (ROOT / f"docs/modes/{situation}.svg").write_text(
        svg_of(title, lines, (lowest - 0.02, targets[0] + 0.5), targets[0],
               logarithmic_seconds=situation == "slow-link"))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("situation", choices=SITUATIONS)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--first", type=int, default=1, help="the round to go on with")
    arguments.add_argument("--only", action="append", help="a mode; synchronous is needed")
    arguments.add_argument("--draw", action="store_true", help="what was measured before")
    arguments.add_argument("overrides", nargs="*", help="section.key=value, for all of them")
    asked = arguments.parse_intermixed_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing is left running
    if not asked.draw:
        subprocess.run(["scripts/fetch-data.sh", "fashion-mnist"], cwd=ROOT, check=True)
        measure(asked.situation, asked)
    show(asked.situation)


if __name__ == "__main__":
    main()

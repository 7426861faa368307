#!/usr/bin/python3
"""Medians of what train.sh measured, and the ratios that are asked for: ratios.py FILE.jsonl"""

import json
import statistics
import sys
from collections import defaultdict

# What is held against what, and the least that is wanted.
WANTED = [
    ("linear", "2 ranks", "2 independent", 0.95),
    ("linear", "2 ranks", "PyTorch DDP, 2", 10),
    ("linear", "1 rank", "PyTorch, 1 thread", 2),
    ("mlp", "2 ranks", "2 independent", 0.95),
    ("mlp", "2 ranks", "PyTorch DDP, 2", 2.2),
    ("mlp", "1 rank", "PyTorch, 1 thread", 1),
    ("mlp", "2 ranks", "PyTorch, 2 threads", 1),
]


def main():
    rates = defaultdict(list)
    with open(sys.argv[1]) as lines:
        for line in map(json.loads, lines):
            rates[line["model"], line["contender"]].append(line["samples_per_second"])
    median = {key: statistics.median(values) for key, values in rates.items()}

    print(f"| {'model':<6} | {'contender':<20} | samples/s | lowest | highest |")
    print("|---|---|---|---|---|")
    for (model, name), value in median.items():
        values = rates[model, name]
        print(f"| {model:<6} | {name:<20} | {value:,.0f} | {min(values):,} | {max(values):,} |")

    print(f"\n| {'model':<6} | {'ratio':<40} | measured | wanted |")
    print("|---|---|---|---|")
    for model, ours, theirs, wanted in WANTED:
        for name in [ours] if ours == "1 rank" else [ours + ", replicated", ours + ", shared"]:
            # In the same round the machine was the same: the median of the ratios, not their ratio.
            ratio = statistics.median(
                a / b for a, b in zip(rates[model, name], rates[model, theirs])
            )
            print(f"| {model:<6} | {name + ' / ' + theirs:<40} | {ratio:.2f} | {wanted} |")


if __name__ == "__main__":
    main()

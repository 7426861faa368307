#!/usr/bin/python3
"""A step of a GPT on two ranks: trireme beside PyTorch, in turn.

    against_pytorch.py [--build build/release] [--rounds N] [--shape blocks|vocabulary]

Each round runs every contender once, with the same shape and batch, AdamW in f32. The first table
has the medians of their steps, the second the medians and quartiles of the ratios within a round.
Two shapes: `blocks`, where a step is matrix products (6 layers, width 384, context 256, 4 sequences
a rank), and `vocabulary`, where it is gradients (4 layers, width 128, context 64, 50257 tokens, one
sequence a rank). Needs Debian's python3-torch and python3-numpy.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SHAPES = {
    "blocks": dict(layers=6, width=384, heads=6, context=256, vocabulary=257, batch=4, steps=3),
    "vocabulary": dict(
        layers=4, width=128, heads=4, context=64, vocabulary=50257, batch=1, steps=20
    ),
}
STRATEGIES = {
    "replicated": [],
    "host_shared": ["parallelism.strategy=host_shared"],
    "stage 1": ["parallelism.shard=1"],
    "stage 2": ["parallelism.shard=2"],
    "stage 3": ["parallelism.shard=3"],
}


def output_of(command):
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{ran.stdout}{ran.stderr}")
    return json.loads(ran.stdout)


def trireme_options(shape, folder):
    text = Path(folder) / "text.txt"
    letters = random.Random(1)
    text.write_text("".join(letters.choices("abcdefgh ", k=200_000)))
    keys = ("layers", "width", "heads", "context", "vocabulary")
    return [
        "data.format=text",
        f"data.path={text}",
        "data.tokenizer=bytes",
        "model.name=gpt2",
        *(f"model.{key}={shape[key]}" for key in keys),
        f"run.directory={folder}/run",
        "training.steps=1000",
        "training.virtual_workers=2",
        f"training.global_batch={2 * shape['batch']}",
        "training.threads=1",
        "optimizer.name=adamw",
        "optimizer.weight_decay=0.1",
    ]


def trireme(build, shape, folder, strategy):
    """Seconds of a step of two ranks, and of each rank when it trains alone."""
    line = output_of(
        [f"{build}/trireme", "bench", "train", "--json", "-n", "2", "--steps", str(shape["steps"])]
        + trireme_options(shape, folder)
        + strategy
    )
    return line["step_us"] * 1e-6, line["independent_step_us"] * 1e-6


def pytorch(shape, *how):
    options = [f"--{key}={value}" for key, value in shape.items()]
    line = output_of(["/usr/bin/python3", HERE / "torch_gpt.py", *options, *how])
    return line["seconds_per_step"]


def quartiles(values):
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else 3 * values
    return f"{median:8.3f} ({low:.3f} to {high:.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--shape", choices=SHAPES, default="blocks")
    options = parser.parse_args()
    shape = SHAPES[options.shape]

    seconds = {}
    bounds = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name, words in STRATEGIES.items():
                own, alone = trireme(options.build, shape, folder, words)
                seconds.setdefault(f"trireme, 2 ranks, {name}", []).append(own)
                bounds.setdefault(name, []).append(alone / own)
            double = dict(shape, batch=2 * shape["batch"])
            for name, value in {
                "PyTorch, DDP of 2 processes": pytorch(shape, "--processes=2"),
                "PyTorch, DDP and ZeRO-1": pytorch(shape, "--processes=2", "--zero"),
                "PyTorch, 1 process, 2 threads": pytorch(double, "--threads=2"),
            }.items():
                seconds.setdefault(name, []).append(value)

    for name, values in seconds.items():
        print(f"{name:<56} {quartiles([1e3 * v for v in values])} ms")
    for name, values in bounds.items():
        print(f"{'2 independent ranks / 2 ranks, ' + name:<56} {quartiles(values)}")
    names = list(seconds)
    for ours in names[: len(STRATEGIES)]:
        for theirs in names[len(STRATEGIES) :]:
            ratios = [b / a for a, b in zip(seconds[ours], seconds[theirs])]
            print(f"{theirs + ' / ' + ours.split(', ')[-1]:<56} {quartiles(ratios)}")


if __name__ == "__main__":
    main()

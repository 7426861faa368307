#!/usr/bin/python3
"""Validation loss of a character GPT against steps: trireme beside PyTorch.

    curve.py TEXT [--build build/release] [--steps N] [--every N] [--together]

The last twentieth of TEXT is held out. Both train GPT-2 of 4 layers, width 128, context 64 on bytes
with 12 sequences a step, from the same weights, with the same AdamW and learning rates; the order of
the sequences is each one's own. --together runs both at the same time, a thread each. Prints a
table. Needs Debian's python3-torch and python3-numpy.
"""

import argparse
import json
import subprocess
import tempfile
from array import array
from pathlib import Path

HERE = Path(__file__).parent
VOCABULARY = 257  # bytes and the end of a text


def split(text, folder):
    data = Path(text).read_bytes()
    cut = len(data) * 19 // 20
    for name, part in {"train": data[:cut], "validation": data[cut:]}.items():
        (folder / f"{name}.txt").write_bytes(part)
        (folder / f"{name}.u16").write_bytes(array("H", list(part)).tobytes())


def pytorch(folder, options, *more):
    files = [folder / "train.u16", folder / "validation.u16"]
    sizes = [f"--vocabulary={VOCABULARY}", f"--steps={options.steps}", f"--every={options.every}"]
    return ["/usr/bin/python3", HERE / "torch_curve.py", *files, *sizes, *more]


def trireme(folder, options):
    return [
        f"{options.build}/trireme",
        "train",
        HERE.parents[1] / "examples/gpt.toml",
        "-n1",
        f"data.path={folder}/train.txt",
        f"data.test_path={folder}/validation.txt",
        "data.holdout=0",
        "data.tokenizer=bytes",
        f"model.weights={folder}/start.safetensors",
        f"run.directory={folder}/run",
        f"training.steps={options.steps}",
        "training.virtual_workers=1",
        f"evaluation.every_steps={options.every}",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("text")
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--together", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split(options.text, folder)
        weights = folder / "start.safetensors"
        start = argparse.Namespace(steps=1, every=1)
        subprocess.run(
            pytorch(folder, start, "--warmup=0", "--validation-tokens=65", f"--save-weights={weights}"),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        peer = pytorch(folder, options, f"--weights={weights}")
        with subprocess.Popen(peer, stdout=subprocess.PIPE, text=True) as process:
            if not options.together:
                printed = process.communicate()[0]
            subprocess.run(trireme(folder, options), check=True, stdout=subprocess.DEVNULL)
            if options.together:
                printed = process.communicate()[0]
        lines = map(json.loads, (folder / "run/metrics.jsonl").read_text().splitlines())
        own = {line["step"]: line["evaluation"]["loss"] for line in lines if "evaluation" in line}
    theirs = dict(json.loads(printed)["validation_loss"])
    print("| step | trireme | PyTorch | ratio |\n|---|---|---|---|")
    for step in sorted(own.keys() & theirs.keys()):
        print(f"| {step} | {own[step]:.4f} | {theirs[step]:.4f} | {own[step] / theirs[step]:.4f} |")


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Validation loss of a character GPT against steps, in PyTorch on the CPU, f32.

    torch_curve.py TRAIN VALIDATION --vocabulary V [--weights FILE] [--batches FILE] ...

The defaults are those of nanoGPT on a CPU: 4 layers, width 128, 4 heads, context 64, batch 12,
2,000 steps of AdamW with betas 0.9 and 0.99, decay 0.1 on matrices and embeddings, the norm of the
gradient clipped to 1, and a rate that rises to 1e-3 for 100 steps and falls along a cosine to 1e-4.

TRAIN and VALIDATION: tokens, little-endian u16.
--weights: safetensors with the names and shapes of Hugging Face's GPT-2; without, the weights are
drawn from the seed. --save-weights writes those that training starts from.
--batches: little-endian i64, [steps, batch]: where in TRAIN a sequence begins; its inputs are the
next `context` tokens, its targets those one further on. Without, they are drawn from the seed;
--save-batches writes them.

The validation loss is the mean over all pairs of a token and its next in VALIDATION (or in its
first --validation-tokens), in sequences of `context` that do not overlap. Prints one line of JSON.
Needs Debian's python3-torch and python3-numpy and nothing from the network.
"""

import argparse
import json
import math
import os
import pathlib
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tests/gpt/reference"))


def learning_rate(step, options):
    """Rises linearly: step i of the warm-up has (i + 1) / warmup of the rate."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    progress = (step - options.warmup) / (options.steps - options.warmup)
    least = options.lr * options.min_lr_ratio
    return least + (options.lr - least) * (1 + math.cos(math.pi * progress)) / 2


def validation_loss(model, stream, context):
    """[tokens] -> the mean over all pairs of a token and its next."""
    import torch

    pairs = len(stream) - 1
    whole = pairs // context * context
    inputs, targets = stream[:whole].view(-1, context), stream[1 : whole + 1].view(-1, context)
    total = 0.0
    with torch.no_grad():
        for x, y in zip(inputs.split(64), targets.split(64)):
            total += model(x, y).item() * x.numel()
        if whole < pairs:
            rest = slice(whole, pairs), slice(whole + 1, pairs + 1)
            x, y = (stream[part].unsqueeze(0) for part in rest)
            total += model(x, y).item() * x.numel()
    return total / pairs


def read_tokens(path, options):
    import numpy as np
    import torch

    tokens = np.fromfile(path, "<u2").astype(np.int64)
    if len(tokens) <= options.context:
        raise SystemExit(f"{path}: {len(tokens)} tokens, wanted more than {options.context}")
    if tokens.max() >= options.vocabulary:
        raise SystemExit(f"{path}: token {tokens.max()}, --vocabulary is {options.vocabulary}")
    return torch.from_numpy(tokens)


def batches_of(stream, options):
    """[steps, batch]: where the sequences begin."""
    import numpy as np
    import torch

    last = len(stream) - options.context - 1
    shape = (options.steps, options.batch)
    if not options.batches:
        drawn = torch.Generator().manual_seed(options.seed)
        return torch.randint(0, last + 1, shape, generator=drawn)
    begin = np.fromfile(options.batches, "<i8")
    if begin.size < options.steps * options.batch:
        raise SystemExit(
            f"{options.batches}: {begin.size} places, {options.steps} steps of {options.batch} "
            f"need {options.steps * options.batch}"
        )
    begin = begin[: options.steps * options.batch].reshape(shape)
    if begin.min() < 0 or begin.max() > last:
        raise SystemExit(f"{options.batches}: a place is outside 0 to {last}")
    return torch.from_numpy(begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("train", metavar="TRAIN")
    parser.add_argument("validation", metavar="VALIDATION")
    parser.add_argument("--vocabulary", type=int, required=True)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--min-lr-ratio", type=float, default=0.1)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--clip-norm", type=float, default=1.0)
    parser.add_argument("--every", type=int, default=250, help="steps between validations")
    parser.add_argument("--validation-tokens", type=int, help="only the first of them")
    parser.add_argument("--weights")
    parser.add_argument("--save-weights")
    parser.add_argument("--batches")
    parser.add_argument("--save-batches")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # read when torch is loaded

    import safetensors_file
    import torch

    from torch_model import GPT, adamw_groups, load_tensors, tensors_of

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    stream = read_tokens(options.train, options)
    validation = read_tokens(options.validation, options)[: options.validation_tokens]
    begin = batches_of(stream, options)
    if options.save_batches:
        begin.numpy().astype("<i8").tofile(options.save_batches)
    model = GPT(
        options.layers, options.width, options.heads, options.context, options.vocabulary
    )
    if options.weights:
        load_tensors(model, safetensors_file.read(options.weights)[0])
    if options.save_weights:
        safetensors_file.write(options.save_weights, tensors_of(model), {"format": "pt"})
    optimizer = torch.optim.AdamW(
        adamw_groups(model, options.weight_decay), betas=(0.9, 0.99), eps=1e-8
    )
    curve, seconds = [[0, validation_loss(model, validation, options.context)]], 0.0
    for step in range(options.steps):
        start = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options)
        windows = stream[begin[step].unsqueeze(1) + torch.arange(options.context + 1)]
        optimizer.zero_grad(set_to_none=True)
        model(windows[:, :-1], windows[:, 1:]).backward()
        if options.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
        optimizer.step()
        seconds += time.perf_counter() - start
        if (step + 1) % options.every == 0 or step + 1 == options.steps:
            curve.append([step + 1, validation_loss(model, validation, options.context)])
    print(
        json.dumps(
            {
                "program": "pytorch " + torch.__version__,
                "model": f"gpt2 {options.layers}x{options.width}, {options.heads} heads, "
                f"context {options.context}, vocabulary {options.vocabulary}",
                "steps": options.steps,
                "batch": options.batch,
                "threads": options.threads,
                "training_seconds": round(seconds, 3),
                "validation_pairs": len(validation) - 1,
                "validation_loss": [[step, round(loss, 6)] for step, loss in curve],
            }
        )
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""A step of a GPT in PyTorch on the CPU, f32: what trireme's GPT is held against.

    torch_gpt.py [--processes N [--zero]] [--threads T] [--steps S] [--vocabulary V] ...

One process trains plainly with AdamW; several train together with DistributedDataParallel over
Gloo, process r on the cores from r * threads, and with --zero the optimizer is a
ZeroRedundancyOptimizer. Tokens are random or come from a file of little-endian u16. Prints one line
of JSON: the median time of a step, optimizer included, and its quartiles. Needs Debian's
python3-torch and python3-numpy and nothing from the network.
"""

import argparse
import json
import os
import statistics
import tempfile
import time


def train(rank, options, meeting_point):
    import numpy as np
    import torch
    import torch.distributed as dist
    from torch.distributed.optim import ZeroRedundancyOptimizer
    from torch.nn.parallel import DistributedDataParallel

    from torch_model import GPT, adamw_groups

    together = options.processes > 1
    first = rank * options.threads
    os.sched_setaffinity(0, set(range(first, first + options.threads)))
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    if together:
        dist.init_process_group(
            "gloo", init_method=meeting_point, rank=rank, world_size=options.processes
        )
    torch.manual_seed(1)
    model = GPT(
        options.layers, options.width, options.heads, options.context, options.vocabulary
    )
    rates = {"lr": options.lr, "betas": (0.9, 0.95), "eps": 1e-8}
    groups = adamw_groups(model, 0.1)
    if options.zero:
        optimizer = ZeroRedundancyOptimizer(groups, torch.optim.AdamW, **rates)
    else:
        optimizer = torch.optim.AdamW(groups, **rates)
    # The mask is the only buffer and never changes.
    forward = DistributedDataParallel(model, broadcast_buffers=False) if together else model
    random = torch.Generator().manual_seed(100 + rank)
    if options.tokens:
        stream = np.fromfile(options.tokens, "<u2")
        if stream.max() >= options.vocabulary:
            raise SystemExit(
                f"{options.tokens}: token {stream.max()}, --vocabulary is {options.vocabulary}"
            )
        stream = torch.from_numpy(stream.astype(np.int64))
    else:
        stream = torch.randint(0, options.vocabulary, (1 << 16,), generator=random)

    def step():
        shape = (options.batch, options.context + 1)
        begin = torch.randint(0, len(stream) - options.context, shape[:1], generator=random)
        windows = stream[begin.unsqueeze(1) + torch.arange(shape[1])]
        optimizer.zero_grad(set_to_none=True)
        loss = forward(windows[:, :-1], windows[:, 1:])
        loss.backward()
        optimizer.step()
        return loss.item()

    taken = []
    for index in range(options.warm_up + options.steps):
        if together:
            dist.barrier()
        begin = time.perf_counter()
        loss = step()
        if together:
            dist.barrier()
        if index >= options.warm_up:
            taken.append(time.perf_counter() - begin)
    if rank == 0:
        quarters = statistics.quantiles(taken)
        tokens = options.processes * options.batch * options.context
        how = f"{options.threads} thread" + ("s" if options.threads > 1 else "")
        if together:
            how = f"{options.processes} processes, DDP" + (" and ZeRO 1" if options.zero else "")
        print(
            json.dumps(
                {
                    "program": "pytorch " + torch.__version__,
                    "model": f"gpt2 {options.layers}x{options.width}, {options.heads} heads, "
                    f"context {options.context}, vocabulary {options.vocabulary}",
                    "parameters": sum(p.numel() for p in model.parameters()),
                    "how": how,
                    "processes": options.processes,
                    "threads": options.threads,
                    "batch": options.batch,
                    "seconds_per_step": round(quarters[1], 6),
                    "quartiles": [round(quarters[0], 6), round(quarters[2], 6)],
                    "tokens_per_second": round(tokens / quarters[1], 1),
                    "steps": len(taken),
                    "last_loss": round(loss, 4),
                }
            )
        )
    if together:
        dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4, help="sequences of each process")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--tokens", help="a file of little-endian u16; default: random tokens")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--zero", action="store_true", help="ZeroRedundancyOptimizer")
    parser.add_argument("--steps", type=int, default=10, help="that are measured, at least 2")
    parser.add_argument("--warm-up", type=int, default=3)
    options = parser.parse_args()
    if options.zero and options.processes == 1:
        parser.error("--zero needs --processes of at least 2")
    if options.steps < 2:
        parser.error("--steps must be at least 2")
    if options.processes * options.threads > os.cpu_count():
        parser.error(f"more processes and threads than the {os.cpu_count()} cores")
    # OpenMP reads it when torch is loaded, which is why torch is imported so late.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if options.processes == 1:
        train(0, options, None)
        return
    import torch.multiprocessing

    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(
            train, (options, f"file://{folder}/meet"), nprocs=options.processes
        )


if __name__ == "__main__":
    main()

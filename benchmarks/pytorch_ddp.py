#!/usr/bin/python3
"""Training throughput of PyTorch on the CPU: what bench_train is held against.

    pytorch_ddp.py linear|mlp [--processes N] [--threads T] [--seconds S]

One process trains plainly; several train together with DistributedDataParallel over Gloo, process r
on core r. Models, batches, optimizers, windows and the line that is printed are those of
train_throughput.cpp. Needs Debian's python3-torch and nothing from the network.
"""

import argparse
import json
import os
import statistics
import tempfile
import time

WARM_UP_STEPS = 50
WINDOW_SECONDS = 0.05
FEWEST_WINDOWS = 11


def workload(name, rank):
    """The model, its loss, its optimizer, this rank's data and its batch size."""
    import torch
    from torch import nn

    torch.manual_seed(1)
    data = torch.Generator().manual_seed(100 + rank)
    if name == "linear":
        model = nn.Linear(100, 1)
        inputs = torch.randn(65536, 100, generator=data)
        targets = inputs @ torch.linspace(-1, 1, 100).unsqueeze(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        return model, nn.functional.mse_loss, optimizer, inputs, targets, 32
    model = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )
    inputs = torch.rand(8192, 784, generator=data)
    targets = torch.randint(0, 10, (8192,), generator=data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return model, nn.functional.cross_entropy, optimizer, inputs, targets, 64


def train(rank, options, meeting_point):
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    together = options.processes > 1
    os.sched_setaffinity(0, {rank} if together else set(range(options.threads)))
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    if together:
        dist.init_process_group(
            "gloo", init_method=meeting_point, rank=rank, world_size=options.processes
        )
    model, loss, optimizer, inputs, targets, batch = workload(options.model, rank)
    forward = DistributedDataParallel(model) if together else model
    at = 0

    def step():
        nonlocal at
        x, y = inputs[at : at + batch], targets[at : at + batch]
        at = (at + batch) % (len(inputs) - batch + 1)
        optimizer.zero_grad()
        loss(forward(x), y).backward()
        optimizer.step()

    def seconds_of_a_step(steps):
        if together:
            dist.barrier()
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        if together:
            dist.barrier()
        return (time.perf_counter() - begin) / steps

    seconds_of_a_step(WARM_UP_STEPS)
    slowest = torch.tensor([seconds_of_a_step(WARM_UP_STEPS)])
    if together:
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
    steps = max(1, int(WINDOW_SECONDS / slowest.item()))
    windows = max(FEWEST_WINDOWS, int(options.seconds / WINDOW_SECONDS))
    taken = [seconds_of_a_step(steps) for _ in range(windows)]
    if rank == 0:
        samples = batch * options.processes
        quarters = statistics.quantiles(taken)
        print(
            json.dumps(
                {
                    "program": "pytorch " + torch.__version__,
                    "model": options.model,
                    "how": "ddp" if together else f"{options.threads} threads",
                    "ranks": options.processes,
                    "samples_per_second": round(samples / quarters[1]),
                    "quartiles": [round(samples / quarters[2]), round(samples / quarters[0])],
                    "step_us": round(1e6 * quarters[1], 1),
                    "windows": windows,
                    "steps_per_window": steps,
                }
            )
        )
    if together:
        dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=["linear", "mlp"])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
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

"""The time of a training step on one process and on several ranks of one thread each, on this machine's CPUs.

    python benchmarks/ranks.py [--ranks 2] [--pairs 64] [--joint-size 256] [--rounds 5] [--json FILE]

A HAN of one block is trained on random regions (36 a photo, 2,048 numbers) and sentences of 8 to 16 words; data are in
memory. Rounds of some steps on one process and on all ranks are timed in turns, so that other work on the machine
disturbs both, and the median round of each is printed, with what ranks spend on passing tensors on. Beside other work
the time that a process has on the processor says more than the time that goes by.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

STEPS = 3  # a round


@click.command()
@click.option("--ranks", default=2, show_default=True)
@click.option("--pairs", default=64, show_default=True, help="Of the global batch.")
@click.option("--joint-size", default=256, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--rank", is_flag=True, hidden=True)
def main(ranks: int, pairs: int, joint_size: int, rounds: int, json_file: Path | None, rank: bool) -> None:
    """Time steps."""
    if rank:
        work(pairs, joint_size)
        return
    import torch

    groups = {count: start(count, pairs, joint_size) for count in (1, ranks)}
    times: dict[int, list[dict[str, float]]] = {count: [] for count in groups}
    for _ in range(rounds + 1):  # the first warms up
        for count, processes in groups.items():
            for process in processes:
                process.stdin.write("\n")
                process.stdin.flush()
            answers = [json.loads(process.stdout.readline()) for process in processes]
            times[count].append(answers[0])
    for processes in groups.values():
        for process in processes:
            process.stdin.close()
            process.wait()
    found = {count: {key: median(each[key] for each in some[1:]) for key in some[0]} for count, some in times.items()}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, load {load:.1f} (other work too)")
    print(f"{pairs} pairs, joint size {joint_size}, medians of {rounds} rounds of {STEPS} steps, seconds a step")
    for count, each in found.items():
        times_of = f"{each['step']:.3f}, of which passing tensors on {each['passing']:.3f}"
        print(f"{count} x 1 thread: {times_of}; time on the processor, of one rank: {each['cpu']:.3f}")
    ratio, on_cpu = (found[1][key] / found[ranks][key] for key in ("step", "cpu"))
    print(f"{ranks} ranks are {ratio:.2f} times as fast; by the time on the processor, {on_cpu:.2f} times")
    if json_file is not None:
        json_file.write_text(json.dumps({"pairs": pairs, "joint_size": joint_size, "load": load, "found": found}))


def start(count: int, pairs: int, joint_size: int) -> list[subprocess.Popen[str]]:
    """The processes of one group, each of which does a round for a line on its standard input."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, __file__, "--rank", "--pairs", str(pairs), "--joint-size", str(joint_size)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environments = [{**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return [subprocess.Popen(program, env=environment, **pipes) for environment in environments]


def work(pairs: int, joint_size: int) -> None:
    """What one rank does."""
    from han_retrieval.process import tune_process

    tune_process()
    import torch

    from han_retrieval.losses import soft_max_triplet_loss
    from han_retrieval.matchers import HAN, HANConfig
    from han_retrieval.ranks import Ranks
    from han_retrieval.training.distributed import join_ranks

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = HAN(HANConfig(region_size=2048, vocabulary_size=5000, word_size=300, joint_size=joint_size))
    optimizer = torch.optim.AdamW(model.parameters())
    regions, region_mask = torch.randn(pairs, 36, 2048), torch.ones(pairs, 36, dtype=torch.bool)
    words = torch.randint(4, 5000, (pairs, 16))
    word_mask = torch.arange(16) < torch.randint(8, 17, (pairs, 1))
    passing, call = 0.0, Ranks._call

    def timed(ranks: Ranks, *given: Any, **options: Any) -> None:
        nonlocal passing
        begun = time.monotonic()
        call(ranks, *given, **options)
        passing += time.monotonic() - begun

    Ranks._call = timed  # type: ignore[method-assign]
    with join_ranks() as ranks:
        own = ranks.rows(pairs)
        for _ in sys.stdin:
            passing, begun, cpu = 0.0, time.monotonic(), time.process_time()
            for _ in range(STEPS):
                images = model.encode_images(regions[own], region_mask[own])
                texts = ranks.gather(model.encode_texts(words[own], word_mask[own]), pairs)
                scores = model.score(images, region_mask[own], texts, word_mask)
                optimizer.zero_grad()
                soft_max_triplet_loss(scores, margin=0.2, power=4.0, ranks=ranks).backward()
                ranks.reduce_gradients(list(model.parameters()), shared=ranks.count > 1)
                optimizer.step()
            taken = {"step": time.monotonic() - begun, "cpu": time.process_time() - cpu, "passing": passing}
            print(json.dumps({key: seconds / STEPS for key, seconds in taken.items()}), flush=True)


if __name__ == "__main__":
    main()

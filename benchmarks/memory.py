"""Predictions, heat maps and training steps on a CPU with and without `keep_memory`, in processes of their own, in turns.

    python benchmarks/memory.py [--runs 5] [--out benchmarks/results/memory.md]

A process makes its network with random weights and goes over the same batch of 32 images of 160 px six times, after two to warm up;
its time is the median of the six. In each run the process with and the one without follow each other. The table gives the ratio of
their times, the median over the runs with its range, the page faults of a pass, and the largest resident set of the process. Linux
with glibc only.
"""
import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

import timm
import torch

from machine import processor
from s9lib.explain.cam import cam
from s9lib.threads import keep_memory

NETS = 'resnet50', 'efficientnet_b0', 'convnext_tiny'
WORK = 'prediction', 'heat map', 'training step'


def work(net, what):
    "Print the seconds and the page faults of a pass and the MiB of this process; `keep_memory` obeys the environment."
    keep_memory()
    torch.manual_seed(0)
    model = timm.create_model(net, num_classes=10).eval().to(memory_format=torch.channels_last)
    x = torch.randn(32, 3, 160, 160).contiguous(memory_format=torch.channels_last)
    def go():
        if what == 'heat map': return cam(model, x, target=0)
        if what == 'prediction':
            with torch.no_grad(): return model(x)
        model.train()(x).square().mean().backward()
    for _ in range(2): go()
    times, faults = [], resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(6):
        t = time.perf_counter()
        go()
        times.append(time.perf_counter() - t)
    r = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([statistics.median(times), (r.ru_minflt - faults)//6, r.ru_maxrss//1024]))


def measure(net, what, keep):
    "(seconds, faults, MiB) of a fresh process."
    env = {**os.environ, 'S9LIB_KEEP_MEMORY': '01'[keep]}
    done = subprocess.run([sys.executable, __file__, '--worker', net, what], env=env, text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--runs', type=int, default=5)
    p.add_argument('--out', type=Path)
    p.add_argument('--worker', nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.worker: return work(*a.worker)
    lines = ['# Memory that stays', '',
             f'`python benchmarks/memory.py --runs {a.runs}`: 32 images of 160 px, random weights; torch '
             f'{torch.__version__.split("+")[0]}, Python {platform.python_version()}, {platform.system()}, {torch.get_num_threads()} '
             f'threads of {processor()}.', '',
             '| network | | time with `keep_memory` / without, median (range) | page faults, with | without | peak MiB, with | without |',
             '|---|---|---:|---:|---:|---:|---:|']
    for net in NETS:
        for what in WORK:
            pairs = [(measure(net, what, True), measure(net, what, False)) for _ in range(a.runs)]
            ratios = [on[0]/off[0] for on, off in pairs]
            (_, f1, m1), (_, f0, m0) = ([statistics.median(v) for v in zip(*side)] for side in zip(*pairs))
            lines.append(f'| {net} | {what} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) '
                         f'| {f1:,.0f} | {f0:,.0f} | {m1:,.0f} | {m0:,.0f} |')
            print(lines[-1], flush=True)
    if a.out: a.out.write_text('\n'.join(lines) + '\n', encoding='utf-8')


if __name__ == '__main__': main()

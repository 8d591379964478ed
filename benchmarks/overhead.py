"""Cost of the Learner over the barest PyTorch loop: the same model, images, optimiser and loss, without and with it.

    python benchmarks/overhead.py [--rounds 7] [--out benchmarks/results/overhead.md]

Both read the same loader. The bare loop has five lines and counts nothing; the Learner sets the learning rate, sums
loss, accuracy and images, and looks for a loss that is not finite. In every round the two take turns, the first of
them alternating, each for the same steps of an epoch; the table gives the median and the range of the rounds' ratios.
On the CPU the clock is the processor time (user and system) of this process on one thread, so other programs do not
count; on a GPU it is the wall clock after a synchronisation.
"""
import argparse
import os
import platform
import shlex
import statistics
import sys
import time
from functools import partial
from pathlib import Path

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch
import torch.nn.functional as F

from s9lib.core import default_device, set_seed
from s9lib.data.loader import synth_dls
from s9lib.nets.fastnet import fastnet
from s9lib.nets.resnet import resnet18
from s9lib.train.checks import keep_memory
from s9lib.train.learner import Learner
from s9lib.train.optim import sgd


def clock(device):
    if device.type != 'cuda': return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def bare(dls, model, opt):
    "The barest loop."
    model.train()
    for xb, yb in dls.train.batches():
        loss = F.cross_entropy(model(xb), yb)
        loss.backward()
        opt.step()
        opt.zero_grad()


def measure(make, dls, device, rounds):
    "Seconds of (bare, Learner), a pair for each round; the first round warms up and is left out."
    set_seed(0)
    model = make().to(device, memory_format=torch.channels_last)
    opt = sgd(model, .01)
    learn = Learner(dls, make(), opt_func=partial(sgd, lr=.01), amp=False)
    learn._setup(rounds + 1, None, lambda step, n_steps: 1.)
    pairs = []
    for r in range(rounds + 1):
        took = {}
        for name in ('bare', 'learner')[::1 if r % 2 else -1]:
            start = clock(device)
            if name == 'bare': bare(dls, model, opt)
            else: learn.one_epoch()
            took[name] = clock(device) - start
        learn.epoch += 1
        pairs.append((took['bare'], took['learner']))
    return pairs[1:]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--rounds', type=int, default=7)
    args.add_argument('--out', type=Path)
    a = args.parse_args()
    device = default_device()
    if device.type == 'cpu': keep_memory()
    rows = []
    cases = (('resnet18', resnet18, 64, 2), ('fastnet', fastnet, 500, 2), ('fastnet', fastnet, 64, 12),
             ('fastnet, widths 8', partial(fastnet, widths=(8, 8, 8)), 64, 40))
    for name, make, bs, steps in cases:
        pairs = measure(make, synth_dls(n=bs*steps, n_test=10, bs=bs, device=device, preset='none'), device, a.rounds)
        ratios = [b/x for x, b in pairs]
        per_step = 1e3*statistics.median(b - x for x, b in pairs)/steps
        rows.append(f"| {name} | {bs} | {1e3*statistics.median(x for x, _ in pairs)/steps:.1f} | {per_step:+.2f} | "
                    f"{100*(statistics.median(ratios) - 1):+.1f} % | "
                    f"{100*(min(ratios) - 1):+.1f} to {100*(max(ratios) - 1):+.1f} % |")
        print(rows[-1], flush=True)
    hw = torch.cuda.get_device_name() if device.type == 'cuda' else f'{platform.machine()}, one thread'
    head = ['# Overhead of the Learner', '',
            'Training steps with the Learner against the barest PyTorch loop with the same model, images and optimiser '
            '(`benchmarks/overhead.py` says what each does).', '',
            '| network | batch | bare, ms a step | difference, ms a step | overhead, median | range |',
            '|---|---:|---:|---:|---:|---:|']
    clocks = 'wall' if device.type == 'cuda' else 'processor time, user and system'
    foot = ['', f'n = {a.rounds} pairs, interleaved; clock: {clocks}.', '',
            f"`python benchmarks/overhead.py {shlex.join(sys.argv[1:])}`; torch {torch.__version__}, "
            f'Python {platform.python_version()}, {platform.system()} {hw}, 32 px images.']
    if a.out:
        a.out.parent.mkdir(parents=True, exist_ok=True)
        a.out.write_text('\n'.join([*head, *rows, *foot]) + '\n', encoding='utf-8')


if __name__ == '__main__': main()

"""How threads should wait, on a machine that is idle and on one that is not: images a second of `speed87`'s steps.

    python benchmarks/busy.py [--rounds 5] [--seconds 8] [--load 6] [--out benchmarks/results/busy.md]

Between two parallel pieces of a step, OpenMP's threads wait by spinning, ready to go on at once; while another program
has the core, the one that spins keeps the others from their work. `GOMP_SPINCOUNT` says how long they spin before they
sleep, `OMP_WAIT_POLICY=PASSIVE` that they do not. `import s9lib` before torch chooses a count by what runs at that
moment; in all other settings torch comes first. Each setting is a process of its own, since it counts only before torch
starts; the settings take turns in every round, without and with `--load` other processes that only count. Ratios are to
torch's own behaviour, median and range over the rounds, of the same round and load.
"""
import argparse
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from machine import processor, suffix

SPINS = 1_000, 10_000, 30_000, 100_000
SETTINGS = {'as it is': {}, **{f'GOMP_SPINCOUNT={n}': dict(GOMP_SPINCOUNT=str(n)) for n in SPINS},
            'OMP_WAIT_POLICY=PASSIVE': dict(OMP_WAIT_POLICY='PASSIVE'), 'one thread': dict(OMP_NUM_THREADS='1'),
            'import s9lib': {}}
OURS = 'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'OMP_NUM_THREADS'


def child(recipe, seconds, first):
    "Train for some seconds on random images, `first` being imported before anything else; print images a second."
    __import__(first)  # torch before s9lib keeps s9lib from choosing how threads wait
    import torch
    from s9lib.data.loader import synth_dls
    from s9lib.train.recipes import get_recipe
    r = replace(get_recipe(recipe), hardest=())
    dls = synth_dls(n=8*r.bs, n_test=10, bs=r.bs, device='cpu', preset='none')
    learn = r.learner(dls)
    learn._setup(1000, None, lambda step, n_steps: .1)
    learn.one_epoch()                                                   # warms up
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        learn.epoch += 1
        learn.one_epoch()
        n += 8*r.bs
    print('RESULT', n/(time.perf_counter() - start), torch.get_num_threads())


def images_per_second(a, setting):
    "Run a setting in a process of its own."
    env = {k: v for k, v in os.environ.items() if k not in OURS} | SETTINGS[setting]
    first = 's9lib' if setting == 'import s9lib' else 'torch'
    p = subprocess.run([sys.executable, __file__, '--child', a.recipe, first, '--seconds', str(a.seconds)], env=env,
                       text=True, capture_output=True)
    found = [line.split() for line in p.stdout.splitlines() if line.startswith('RESULT ')]
    if not found: raise RuntimeError(f'{setting} failed:\n{p.stdout}\n{p.stderr}')
    return float(found[0][1])


def measure(a, load):
    "Images a second of every setting in every round, with `load` other processes at work."
    others = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(load)]
    try:
        table = []
        for r in range(a.rounds):
            order = a.settings[::1 if r % 2 == 0 else -1]
            table.append({s: images_per_second(a, s) for s in order})
            print(f'load {load}: ' + ', '.join(f'{s} {table[-1][s]:.0f}' for s in a.settings), flush=True)
        return table
    finally:
        for p in others: p.kill()


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--recipe', default='speed87')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--seconds', type=float, default=8, help='of each setting in each round')
    p.add_argument('--load', type=int, default=6, help='other processes at work')
    p.add_argument('--settings', nargs='+', default=list(SETTINGS), choices=list(SETTINGS))
    p.add_argument('--out', type=Path)
    p.add_argument('--child', nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child: return child(a.child[0], a.seconds, a.child[1])
    tables = {load: measure(a, load) for load in (0, a.load)}
    rows = []
    for s in a.settings:
        cells = []
        for table in tables.values():
            ratios = [t[s]/t[a.settings[0]] for t in table]
            cells += [f'{statistics.median(t[s] for t in table):,.0f}',
                      f'{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})']
        rows.append(f"| {s} | {' | '.join(cells)} |")
    text = '\n'.join([
        f'# How threads wait{suffix(a.out)}', '',
        f'Images a second of training steps of `{a.recipe}`, without other work and with {a.load} other processes that only '
        'count; `benchmarks/busy.py` says how.', '',
        f'| setting | idle, images/s | ratio | load {a.load}, images/s | ratio |', '|---|---:|---:|---:|---:|', *rows,
        '', f'n = {a.rounds} rounds, settings in turns.', '',
        f"`python benchmarks/busy.py {shlex.join(sys.argv[1:])}`; Python {platform.python_version()}, "
        f'{platform.system()}, {processor()}, {os.cpu_count()} cores.', ''])
    print(text)
    if a.out: a.out.write_text(text, encoding='utf-8')


if __name__ == '__main__': main()

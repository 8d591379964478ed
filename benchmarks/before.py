"""A recipe against what it was before, in turns on the same machine: seconds of training and accuracy over seeds.

    python benchmarks/before.py speed87 --seeds 0 1 2 3 4 [--out benchmarks/results/before.md]

For each seed both are trained, one after the other, the first of them alternating, in one process with the same
threads, and scored after their last epoch on the test set, which chose nothing. Seconds are those of the epochs,
without evaluation; the ratio is the median over the seeds. The runs of today's recipe are kept in accuracy.csv, too.
"""
import argparse
import platform
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import torch

import accuracy
from s9lib.core import atomic_path, default_device
from s9lib.data.cifar import load_data
from s9lib.train.history import ProgressCallback
from s9lib.train.recipes import get_recipe, run_metrics

#: what a recipe was
BEFORE = {
    'speed87': dict(bs=125, opt_args=dict(lr=.12, lr_head=.6, lr_bias=3.5), hardest=(),
                    progressive_sizes=((1, 16), (1, 20), (.8, 24)), epochs=4),
    'speed94': dict(bs=500, opt_args=dict(lr=.14, lr_head=.85, lr_bias=7.), hardest=(),
                    progressive_sizes=((2, 20), (3, 24), (3, 28)), epochs=12),
}


def run(recipe, seed, train, test):
    "Train once; the metrics."
    learn = recipe.learner(recipe.dataloaders(train, test, seed=seed), cbs=[ProgressCallback(bar=False)])
    learn.fit()
    return run_metrics(learn)


def spread(values):
    sd = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.2f}{sd}'


def row(name, ms):
    return (f"| {name} | {len(ms)} | {spread([100*m['test_acc'] for m in ms])} | "
            f"{spread([100*m['test_acc_six'] for m in ms])} | {statistics.median(m['train_seconds'] for m in ms):.0f} | "
            f"{ms[0]['flops']/1e15:.4f} | {ms[0]['flops_done']/1e15:.4f} |")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('recipe', choices=list(BEFORE))
    p.add_argument('--seeds', nargs='+', type=int, default=[0])
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    train, test = load_data()
    new = get_recipe(a.recipe)
    both = {'today': new, 'before': replace(new, **BEFORE[a.recipe])}
    found = {k: [] for k in both}
    for seed in a.seeds:
        for k in list(both)[::1 if seed % 2 == 0 else -1]:
            found[k].append(m := run(both[k], seed, train, test))
            print(f"{a.recipe} {k}, seed {seed}: {m['train_seconds']:.1f} s, {100*m['test_acc']:.2f} % single view, "
                  f"{100*m['test_acc_six']:.2f} % six views", flush=True)
            if k == 'today': accuracy.keep(m)
    ratios = [n['train_seconds']/o['train_seconds'] for n, o in zip(found['today'], found['before'])]
    text = '\n'.join([
        f'# {a.recipe} today and before', '',
        f'{len(a.seeds)} seeds, the two in turns; `benchmarks/before.py` says how, and what the recipe was.', '',
        '| | n | single view, % | six views, % | training, s, median | PFLOP | carried out |',
        '|---|---:|---:|---:|---:|---:|---:|', *(row(k, ms) for k, ms in found.items()), '',
        f"Seconds of today's over those of before: {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
        f'{max(ratios):.2f}).', '',
        f"`python benchmarks/before.py {' '.join(sys.argv[1:])}`; torch {torch.__version__}, Python "
        f'{platform.python_version()}, {platform.system()}, {accuracy.processor()}, {default_device()}, '
        f"{found['today'][0]['precision']}, {torch.get_num_threads()} threads.", ''])
    print(text)
    if a.out:
        with atomic_path(a.out) as tmp: tmp.write_text(text, encoding='utf-8')


if __name__ == '__main__': main()

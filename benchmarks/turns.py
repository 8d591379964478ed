"""Ways to train a recipe, in turns: as it is, in mixed precision, changed; seconds of training and test accuracy.

    python benchmarks/turns.py speed87 --seeds 0 1 2 3 4 [--ways NAME …] [--out FILE]

A way is an attempt of benchmarks/attempts.py, with `, in mixed precision` behind it or not. Every seed trains each of
them once, in one process, on all training images; the order is turned round from seed to seed. Ratios are to the first
of the ways with the same seed. An attempt is one that did well on held-out images; the test set chooses nothing. Rows
are kept in a CSV beside FILE, and runs that it has are not made again.
"""
import argparse
import os
import platform
import statistics
import sys
from functools import partial
from pathlib import Path

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

import torch

from ablation import make_missing
from attempts import attempts
from machine import processor, suffix
from s9lib.core import atomic_path
from s9lib.data.cifar import load_data
from s9lib.train.history import ProgressCallback
from s9lib.train.recipes import run_metrics

MIXED = ', in mixed precision'


def run(recipe, amp, seed, train, test):
    "Train once; what belongs in the row of the run."
    learn = recipe.learner(recipe.dataloaders(train, test, seed=seed), cbs=[ProgressCallback(bar=False)], amp=amp)
    learn.fit()
    m = run_metrics(learn)
    return dict(seconds=m['train_seconds'], test_acc=m['test_acc'], test_acc_six=m['test_acc_six'],
                pflop=m['flops']/1e15, precision=m['precision'], threads=m['threads'], torch=m['torch'])


def table(rows):
    "One line per way: mean ± sd of accuracies, median and range of the ratios of seconds."
    base = {r['seed']: float(r['seconds']) for r in rows if r['name'] == rows[0]['name']}
    yield '| what | n | single view, % | six views, % | training, s | ratio | PFLOP |'
    yield '|---|---:|---:|---:|---:|---:|---:|'
    for name in dict.fromkeys(r['name'] for r in rows):
        rs = [r for r in rows if r['name'] == name]
        accs = []
        for k in ('test_acc', 'test_acc_six'):
            a = [100*float(r[k]) for r in rs]
            accs.append(f'{statistics.mean(a):.2f}' + (f' ± {statistics.stdev(a):.2f}' if len(a) > 1 else ''))
        seconds = statistics.median(float(r['seconds']) for r in rs)
        ratios = [float(r['seconds'])/base[r['seed']] for r in rs if r['seed'] in base]
        yield (f"| {name} ({rs[0]['precision']}) | {len(rs)} | {' | '.join(accs)} | {seconds:.0f} | "
               f'{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | '
               f"{float(rs[0]['pflop']):.4f} |")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('recipe', choices=('speed94', 'speed87'))
    p.add_argument('--seeds', nargs='+', type=int, default=[0])
    p.add_argument('--ways', nargs='+', default=['as it is', 'as it is' + MIXED])
    p.add_argument('--out', type=Path, default=Path('turns.md'))
    a = p.parse_args()
    path, data = a.out.with_suffix('.csv'), load_data()
    known = {name: r for name, (r, choose) in attempts(a.recipe).items() if not choose}
    if strange := [w for w in a.ways if w.removesuffix(MIXED) not in known]:
        p.error(f'--ways {strange[0]!r}: expected one of {", ".join(map(repr, known))}')
    todo = {w: partial(run, known[w.removesuffix(MIXED)], w.endswith(MIXED)) for w in a.ways}
    for i, seed in enumerate(a.seeds):
        turn = dict(list(todo.items())[::1 if i % 2 == 0 else -1])
        rows = make_missing(path, argparse.Namespace(recipe=a.recipe, seeds=[seed], only=['']), 'name', turn, *data)
    rows = [r for r in rows if r['recipe'] == a.recipe and r['name'] in todo]
    rows.sort(key=lambda r: (a.ways.index(r['name']), int(r['seed'])))
    text = '\n'.join([
        f'# {a.recipe} against itself{suffix(a.out)}', '',
        'In turns, on all training images, the last epoch\'s weights on the test set; `benchmarks/turns.py` says how. '
        'The ratio of seconds is to the first line, with the same seed; it depends on the machine.', '', *table(rows), '',
        f"`python benchmarks/turns.py {' '.join(repr(x) if ' ' in x else x for x in sys.argv[1:])}`; torch "
        f'{torch.__version__}, Python {platform.python_version()}, {platform.system()}, {processor()}, '
        f'{torch.get_num_threads()} threads.', ''])
    with atomic_path(a.out) as tmp: tmp.write_text(text, encoding='utf-8')
    print(text)


if __name__ == '__main__': main()

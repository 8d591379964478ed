"""Tests of how the benchmarks keep their rows and average them; nothing is trained.

    python benchmarks/test_rows.py
"""
import argparse
import csv
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

import ablation
import accuracy
import attempts
import turns

CIFAR = SimpleNamespace(name='CIFAR-10')


def fails(f):
    "What `f` says when it stops."
    try: f()
    except SystemExit as e: return str(e)
    raise AssertionError('it went on')


def each_run_once(d):
    "A run is made once in each precision, kept at once, and never of other data; --only chooses by words."
    made, path = [], d/'rows.csv'
    def make(precision, seed, train, test):
        made.append((precision, seed))
        return dict(valid_acc=.9, valid_acc_six=.91, pflop=1., precision=precision)
    def ask(precision, train=CIFAR, seeds=(0, 1), only=('',), by_precision=True):
        args = argparse.Namespace(recipe='r', seeds=seeds, only=only)
        cases = {'as it is': partial(make, precision), 'another': partial(make, precision)}
        return ablation.make_missing(path, args, 'variant', cases, train, None, precision if by_precision else None)
    for precision in ('float32', 'bfloat16', 'float32'): rows = ask(precision, only=['as it'])
    assert made == [('float32', 0), ('float32', 1), ('bfloat16', 0), ('bfloat16', 1)], made
    assert [dict(r) for r in csv.DictReader(open(path))] == [{k: str(v) for k, v in r.items()} for r in rows]
    assert len(ask('float32', seeds=[0])) == 5 and made[4:] == [('float32', 0)], made
    ask('float16', seeds=[0], by_precision=False)                        # the name says the precision: known
    assert len(made) == 5, made
    before = path.read_bytes()
    assert 'CIFAR-10' in fails(lambda: ask('float32', SimpleNamespace(name='shapes'), seeds=[7]))
    assert path.read_bytes() == before


def means(d):
    "A mean has its deviation over the seeds; a difference is that of the seeds which both have."
    def row(seed, acc, **what): return dict(recipe='r', seed=str(seed), precision='float32', pflop='.5', **what,
                                            **{k: str(a) for k, a in zip(('valid_acc', 'valid_acc_six'), (acc, acc + .01))})
    *_, line = attempts.table([row(0, .93, attempt='a'), row(1, .95, attempt='a')], 'valid')
    assert line == '| r | a | float32 | 2 | 94.00 ± 1.41 | 95.00 ± 1.41 | 0.5000 |', line
    rows = [row(0, .90, variant='as it is'), row(1, .92, variant='as it is'), row(1, .91, variant='less'),
            row(2, .50, variant='less')]
    *_, line = ablation.table(rows)
    assert line == '| r | less | float32 | 2 | 70.50 ± 28.99 | -1.00 | 71.50 ± 28.99 | -1.00 | 0.5000 |', line
    turn = [dict(name=n, seed=str(s), seconds=t, test_acc=.9, test_acc_six=.9, pflop=1., precision='float32')
            for n, s, t in (('old', 0, 10.), ('old', 1, 20.), ('new', 0, 6.), ('new', 1, 10.))]
    *_, line = turns.table(turn)
    assert ' | 8 | 0.55 (0.50 to 0.60) | ' in line, line                 # by seed, not of the medians


def seconds(d):
    "Seconds of two machines, or of a busy one, have no mean; the same run replaces its row; threads are another way."
    shutil.copy(accuracy.RESULTS/'accuracy.csv', d)
    accuracy.RESULTS, known = d, list(csv.DictReader(open(d/'accuracy.csv')))
    run = next(r for r in known if r['recipe'] == 'fast')
    mine = {**run, 'recipe': 'mine', 'torch': 'today'}
    def line(name='mine'): return [s for s in (d/'accuracy.md').read_text().splitlines() if s.startswith(f'| {name} |')]
    for seed, t in ((0, 10.), (1, 12.), (1, 14.)): accuracy.keep({**mine, 'seed': seed, 'train_seconds': t})
    assert len(list(csv.DictReader(open(d/'accuracy.csv')))) == len(known) + 2
    assert len(line()) == 1 and '| 2 |' in line()[0] and '| 12 |' in line()[0], line()
    accuracy.keep({**mine, 'seed': 2, 'train_seconds': ''})
    assert '| 3 |' in line()[0] and '| 12 |' in line()[0], line()
    accuracy.processor = lambda: 'another one'
    accuracy.keep({**mine, 'seed': 3, 'train_seconds': 99.})
    assert '| 4 |' in line()[0] and '| – |' in line()[0], line()
    accuracy.keep({**mine, 'seed': 4, 'threads': 64})
    assert [s.split('|')[3].strip() for s in line()] == ['4', '1', '5'], line()
    rows = list(csv.DictReader(open(d/'accuracy.csv')))
    assert [r for r in rows if r['recipe'] != 'mine'] == known


def main():
    for test in (each_run_once, means, seconds):
        with tempfile.TemporaryDirectory() as d: test(Path(d))
        print('ok', test.__doc__)


if __name__ == '__main__': main()

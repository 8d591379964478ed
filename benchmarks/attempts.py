"""What was tried to reach the same accuracy with less arithmetic, on training images held out.

    python benchmarks/attempts.py speed94 --seeds 0 [--only 'half']

Each attempt is the recipe with something changed. None was taken: the last one of speed94 was run on the test set,
too, and lost there what it had kept here (results/speed94-hardest). The last tenth of the training set, split per class
and by seed, takes the place of the test set, which is not read. One row per run is kept in
benchmarks/results/attempts.csv; a run that is there is not made again; the table is in attempts.md. The precision is
that of the device (S9LIB_AMP=1: mixed). `at_random` and `half_and_half` choose images in another way than `hardest`
does, to see what the choice is worth.
"""
import argparse
import csv
import statistics
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ablation import make_missing, RESULTS
from s9lib.core import atomic_path, keyed_rng
from s9lib.data.cifar import load_data
from s9lib.train.history import ProgressCallback
from s9lib.train.learner import n_hardest, pick_hardest
from s9lib.train.recipes import get_recipe


def at_random(learn, idx):
    "Of each batch the first images, whose order is random."
    return idx[:n_hardest(len(idx), learn.hardest[1])]


def half_and_half(learn, idx):
    "Of each batch the hardest, for half of what is chosen, and a random choice of the others."
    n = n_hardest(len(idx), learn.hardest[1])
    first = pick_hardest(idx, learn.known, n/2/len(idx))
    rest = np.setdiff1d(idx, first)
    more = keyed_rng(learn.seed, learn.epoch, int(idx[0])).permutation(rest)[:n - len(first)]
    return idx[np.isin(idx, np.concatenate([first, more]))]


def attempts(name):
    "Name of each attempt -> (recipe, how images are chosen if not as `hardest` does)."
    r = get_recipe(name)
    def to(**kwargs): return replace(r, **kwargs)
    if name == 'speed94': return {
        'as it is': (r, None),
        '10 epochs': (to(epochs=10, progressive_sizes=((2, 20), (3, 24), (2, 28))), None),
        '10 epochs, the first stage frozen for the last 1.5': (
            to(epochs=10, progressive_sizes=((2, 20), (2.5, 24), (2.5, 28)),
               freeze=(('conv1', 3), ('layer1', 8.5))), None),
        'the hardest 73 % from the sixth epoch on': (to(hardest=(5, .73)), None),
        'a random 73 % from the sixth epoch on': (to(hardest=(5, .73)), at_random),
        '73 %, half of them the hardest, from the sixth epoch on': (to(hardest=(5, .73)), half_and_half),
        'the hardest half from the sixth epoch on': (to(hardest=(5, .5)), None),
        '11 epochs, the hardest 60 % from the sixth on': (
            to(epochs=11, progressive_sizes=((2, 20), (3, 24), (3, 28)), hardest=(5, .6)), None)}
    def lr(lr): return dict(opt_args=dict(lr=lr, lr_head=5*lr, lr_bias=30*lr))
    shorter = dict(epochs=3, progressive_sizes=((1, 16), (.6, 20), (.8, 24)))
    even = ((1, 16), (1, 20), (1, 24))
    big = dict(bs=320, hardest=(2, .5), progressive_sizes=even, **lr(.18))
    return {
        'as it is': (r, None),
        '3 epochs: 16 px, 0.6 at 20, 0.8 at 24': (to(**shorter), None),
        '3 epochs: 16 px, 20 px, half at 24': (to(epochs=3, progressive_sizes=((1, 16), (1, 20), (.5, 24))), None),
        '3 epochs, rate 0.16': (to(**shorter, opt_args={**r.opt_args, 'lr': .16}), None),
        'two at 16 px, one at 20, 0.6 at 24': (to(progressive_sizes=((2, 16), (1, 20), (.6, 24))), None),
        'two at 16 px, 1.6 at 20': (to(progressive_sizes=((2, 16), (1.6, 20))), None),
        'widths 32, 80, 128': (to(model_args=dict(widths=(32, 80, 128), stem=16),
                                  progressive_sizes=((1.2, 16), (1, 20), (1, 24))), None),
        '3 epochs, widths 32, 96, 160': (to(model_args=dict(widths=(32, 96, 160), stem=16), epochs=3,
                                            progressive_sizes=((1, 16), (.8, 20), (.7, 24))), None),
        '3 epochs, widths 40, 96, 128': (to(model_args=dict(widths=(40, 96, 128), stem=16), epochs=3,
                                            progressive_sizes=((.5, 16), (1, 20), (1, 24))), None),
        'the hardest half from the third epoch on': (to(hardest=(2, .5)), None),
        'batches of 160, the hardest half from the second epoch on': (to(bs=160, hardest=(1, .5)), None),
        'the hardest 60 % from the second epoch on, even sizes': (to(hardest=(1, .6), progressive_sizes=even), None),
        'the same in batches of 200': (to(bs=200, hardest=(1, .6), progressive_sizes=even), None),
        '5 epochs of batches of 160, the hardest half from the second on': (
            to(bs=160, hardest=(1, .5), epochs=5, progressive_sizes=((1, 16), (1.2, 20), (1.6, 24))), None),
        'batches of 200, the hardest half from the third epoch on': (to(bs=200, hardest=(2, .5), **lr(.14)), None),
        'the same, even sizes': (to(bs=200, hardest=(2, .5), **lr(.14), progressive_sizes=even), None),
        'batches of 250, the hardest half from the third epoch on': (to(bs=250, hardest=(2, .5), **lr(.16)), None),
        'batches of 250, the hardest 40 % from the third epoch on': (to(bs=250, hardest=(2, .4), **lr(.14)), None),
        'batches of 250, the hardest 45 % from the third epoch on': (to(bs=250, hardest=(2, .45), **lr(.16)), None),
        'batches of 250, the hardest 55 % from the second epoch on': (to(bs=250, hardest=(1, .55), **lr(.16)), None),
        'batches of 320, the hardest 45 % from the third epoch on': (to(bs=320, hardest=(2, .45), **lr(.18)), None),
        'batches of 320, the hardest half from the third epoch on, even sizes': (to(**big), None),
        'the same, averaged every 3 steps': (to(**{**big, 'average_every': 3}), None),
        'the same, rate 0.22': (to(**{**big, 'opt_args': dict(lr=.22, lr_head=1., lr_bias=6.)}), None),
        'the same, rate 0.14': (to(**{**big, **lr(.14)}), None),
        'the same, labels smoothed by 0.15': (to(**{**big, 'label_smoothing': .15}), None),
        'the same, crop of 1 px': (to(**{**big, 'tfm_args': dict(pad=1)}), None),
    }


def run(r, choose, seed, train, test):
    "Train once; what belongs in the row of the run."
    dls = r.dataloaders(train, test, seed=seed, valid_pct=.1)
    learn = r.learner(dls, cbs=[ProgressCallback(bar=False)])
    if choose: learn.hard_images = lambda idx: choose(learn, idx) if learn.is_choosing else idx
    learn.fit()
    accs = learn.tta_accs(dls.valid)
    return dict(valid_acc=accs['none'], valid_acc_six=accs['six'], pflop=r.flops(train)/1e15, precision=learn.precision,
                threads=torch.get_num_threads(), torch=torch.__version__)


def table(rows):
    "One line per attempt, with the arithmetic on all training images."
    yield '| recipe | attempt | n | single view, % | six views, % | PFLOP |'
    yield '|---|---|---:|---:|---:|---:|'
    by = {}
    for r in rows: by.setdefault((r['recipe'], r['attempt']), []).append(r)
    for (recipe, attempt), rs in by.items():
        one, six = (statistics.mean(100*float(r[k]) for r in rs) for k in ('valid_acc', 'valid_acc_six'))
        yield f"| {recipe} | {attempt} | {len(rs)} | {one:.2f} | {six:.2f} | {float(rs[0]['pflop']):.4f} |"


HEAD = """Made by `python benchmarks/attempts.py RECIPE --seeds …`: 90 % of the training images are trained on, 10 % \
held out; the test set is not read. Each run is in attempts.csv, with its precision. One run says little below half a \
point; PFLOP are those of training on all images. The runs in bfloat16 were made on an Intel Xeon with AMX, one thread \
each, before the library could choose images, by the same rule, but ranked by the loss with smoothed labels."""


def tested():
    "What the last attempt of speed94 came to on the test set, of which attempts.csv says nothing."
    rows = list(csv.DictReader(open(RESULTS/'speed94-hardest'/'accuracy.csv')))
    one, six = (', '.join(f'{100*float(r[k]):.2f}' for r in rows) for k in ('test_acc', 'test_acc_six'))
    mean, sd = ([f([100*float(r[k]) for r in rows]) for k in ('test_acc', 'test_acc_six')]
                for f in (statistics.mean, statistics.stdev))
    r = rows[0]
    return (f"None was taken. The last of speed94 was trained on the whole training set, too ({len(rows)} seeds, "
            f"{r['precision']}, {r['machine']}, {r['threads']} thread), and scored on the test set: single view "
            f'{mean[0]:.2f} ± {sd[0]:.2f} % ({one}), six views {mean[1]:.2f} ± {sd[1]:.2f} % ({six}): below 94 %.')


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('recipe', choices=('speed94', 'speed87'))
    p.add_argument('--seeds', nargs='+', type=int, default=[0])
    p.add_argument('--only', nargs='+', default=[''], help='attempts whose names contain one of these words')
    args = p.parse_args()
    cases = {name: partial(run, r, choose) for name, (r, choose) in attempts(args.recipe).items()}
    rows = make_missing(RESULTS/'attempts.csv', args, 'attempt', cases, *load_data())
    text = '\n'.join(['# Attempts at less arithmetic', '', HEAD, '', *table(rows), '', tested(), ''])
    with atomic_path(RESULTS/'attempts.md') as tmp: tmp.write_text(text, encoding='utf-8')
    print(text)


if __name__ == '__main__': main()

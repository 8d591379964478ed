"""What was tried to reach the same accuracy with less arithmetic, on training images held out.

    python benchmarks/attempts.py speed94 --seeds 0 [--only 'half'] [--test]

Each attempt is the recipe with something changed. The last tenth of the training set, split per class and by seed,
takes the place of the test set, which is not read. With `--test`, an attempt that did well there is trained on the
whole training set and scored on the test set, which chooses nothing: it says whether the attempt may be taken. One row
per run is kept in benchmarks/results/attempts.csv or attempts_test.csv; a run that is there in the same precision is
not made again, one that was interrupted goes on from its checkpoints in runs/; the tables are in attempts.md. The
precision is that of the device (S9LIB_AMP=1: mixed). `at_random` and `half_and_half` choose images in another way than
`hardest` does, to see what the choice is worth.
"""
import argparse
import csv
import shutil
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

from ablation import default_precision, make_missing, RESULTS
from s9lib.core import atomic_path, keyed_rng
from s9lib.data.cifar import load_data
from s9lib.train.history import ProgressCallback
from s9lib.train.learner import n_hardest, pick_hardest
from s9lib.train.recipes import get_recipe, to_floor
from s9lib.train.resume import CheckpointCallback


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
        'all images in every epoch': (to(hardest=()), None),
        '10 epochs': (to(epochs=10, hardest=(), progressive_sizes=((2, 20), (3, 24), (2, 28))), None),
        '10 epochs, the first stage frozen for the last 1.5': (
            to(epochs=10, hardest=(), progressive_sizes=((2, 20), (2.5, 24), (2.5, 28)),
               freeze=(('conv1', 3), ('layer1', 8.5))), None),
        'the hardest 73 % from the sixth epoch on': (to(hardest=(5, .73)), None),
        'a random 73 % from the sixth epoch on': (to(hardest=(5, .73)), at_random),
        '73 %, half of them the hardest, from the sixth epoch on': (to(hardest=(5, .73)), half_and_half),
        'the hardest half from the sixth epoch on': (to(hardest=(5, .5)), None),
        'filters fall to 0.01 of their rate, not 0.07': (to(sched=to_floor(.01)), None),
        '11 epochs, the hardest 60 % from the sixth on': (
            to(epochs=11, progressive_sizes=((2, 20), (3, 24), (3, 28)), hardest=(5, .6)), None)}
    if name == 'resnet18': return {
        'as it is': (r, None),
        'first layer whitened, crop of 4 px, cutout of 8 px, the hardest 72 % from the seventh epoch on': (
            to(whiten=True, freeze=(('conv1', 3),), tfms='standard', tfm_args={}, hardest=(6, .72)), None),
        'first layer whitened, crop of 4 px, cutout of 8 px, all images at full size': (
            to(whiten=True, freeze=(('conv1', 3),), tfms='standard', tfm_args={}, progressive_sizes=()), None)}
    was = replace(r, bs=125, opt_args=dict(lr=.12, lr_head=.6, lr_bias=3.5), hardest=())  # of which these are changes
    def to(**kwargs): return replace(was, **kwargs)
    def lr(lr, filters=None): return dict(opt_args=dict(lr=filters or lr, lr_head=5*lr, lr_bias=30*lr))
    shorter = dict(epochs=3, progressive_sizes=((1, 16), (.6, 20), (.8, 24)))
    even = ((1, 16), (1, 20), (1, 24))
    big = dict(bs=320, hardest=(2, .5), progressive_sizes=even, **lr(.18))
    return {
        'as it is': (r, None),
        'all images in batches of 125': (was, None),
        '3 epochs: 16 px, 0.6 at 20, 0.8 at 24': (to(**shorter), None),
        '3 epochs: 16 px, 20 px, half at 24': (to(epochs=3, progressive_sizes=((1, 16), (1, 20), (.5, 24))), None),
        '3 epochs, rate 0.16': (to(**shorter, opt_args={**was.opt_args, 'lr': .16}), None),
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
        'batches of 200, the hardest half from the third epoch on, filters at 0.07': (
            to(bs=200, hardest=(2, .5), **lr(.14, .07)), None),
        'batches of 200, the hardest half from the third epoch on, filters at 0.1': (
            to(bs=200, hardest=(2, .5), **lr(.14, .1)), None),
        'batches of 250, the hardest half from the third epoch on, filters at 0.08': (
            to(bs=250, hardest=(2, .5), **lr(.16, .08)), None),
        'batches of 250, the hardest 40 % from the third epoch on, filters at 0.08': (
            to(bs=250, hardest=(2, .4), **lr(.16, .08)), None),
        'batches of 200, the hardest 45 % from the third epoch on, filters at 0.07': (
            to(bs=200, hardest=(2, .45), **lr(.14, .07)), None),
        'batches of 250, filters at 0.08, half of the last epoch at 28 px': (
            to(bs=250, hardest=(2, .5), **lr(.16, .08), progressive_sizes=(*even, (.5, 28))), None),
        'batches of 250, filters at 0.08, biases at 1.6, head at 0.4': (
            to(bs=250, hardest=(2, .5), opt_args=dict(lr=.08, lr_head=.4, lr_bias=1.6)), None),
        'batches of 200, filters at 0.1, even sizes': (
            to(bs=200, hardest=(2, .5), **lr(.14, .1), progressive_sizes=even), None),
        'batches of 200, filters at 0.1, the first layer frozen from the start': (
            to(bs=200, hardest=(2, .5), **lr(.14, .1), freeze=(('conv1', 0),)), None),
        'batches of 200, filters at 0.1, even sizes, the first layer frozen from the start': (
            to(bs=200, hardest=(2, .5), **lr(.14, .1), progressive_sizes=even, freeze=(('conv1', 0),)), None),
        'batches of 160, the hardest 60 % from the third epoch on, filters at 0.1': (
            to(bs=160, hardest=(2, .6), **lr(.13, .1)), None),
        'batches of 200, the hardest 60 % from the third epoch on, filters at 0.1': (
            to(bs=200, hardest=(2, .6), **lr(.14, .1)), None),
    }


def run(name, r, choose, split, seed, train, test):
    """Train the attempt `name` once, or take up where it stopped; what belongs in the row of the run.

    `split`: where it is scored, 'valid' for images held out, or 'test'.
    """
    dls = r.dataloaders(train, test, seed=seed, valid_pct=.1*(split == 'valid'))
    folder = Path('runs')/f'{r.name}-{split}-{default_precision()}-{seed}-{crc32(name.encode()):08x}'
    learn = r.learner(dls, cbs=[ProgressCallback(bar=False), CheckpointCallback(folder)])
    if choose: learn.hard_images = lambda idx: choose(learn, idx) if learn.is_choosing else idx
    learn.fit()
    accs = learn.tta_accs(getattr(dls, split))
    shutil.rmtree(folder)
    return {f'{split}_acc': accs['none'], f'{split}_acc_six': accs['six'], 'pflop': r.flops(train)/1e15,
            'precision': learn.precision, 'threads': torch.get_num_threads(), 'torch': torch.__version__}


def table(rows, split):
    "One line per attempt, with the arithmetic on all training images."
    yield '| recipe | attempt | precision | n | single view, % | six views, % | PFLOP |'
    yield '|---|---|---|---:|---:|---:|---:|'
    by = {}
    for r in rows: by.setdefault((r['recipe'], r['attempt'], r['precision']), []).append(r)
    for how, rs in by.items():
        cells = []
        for k in (f'{split}_acc', f'{split}_acc_six'):
            accs = [100*float(r[k]) for r in rs]
            cells.append(f'{statistics.mean(accs):.2f}' + (f' ± {statistics.stdev(accs):.2f}' if len(accs) > 1 else ''))
        yield f"| {' | '.join(how)} | {len(rs)} | {' | '.join(cells)} | {float(rs[0]['pflop']):.4f} |"


HEAD = """Made by `python benchmarks/attempts.py RECIPE --seeds …`: 90 % of the training images are trained on, 10 % \
held out; the test set is not read. Each run is in attempts.csv, with its precision. One run says little below half \
a point; PFLOP are those of training on all images. The runs in bfloat16 were made on an Intel Xeon with AMX, one \
thread each, some before the library could choose images, by the same rule, but ranked by the loss with smoothed \
labels; those in float32 on one without AMX, one thread each; those of `speed87` as it is and on the hardest 60 % and, \
but for seed 0, of `speed94` as it is and with filters that fall to 0.01 on an AMD EPYC (Zen 5), two threads. Where the \
filters of `speed87` have a rate of their own, the hardest half is chosen from the third epoch on, unless the name says \
another share. `speed94` was all images in every epoch and became the hardest 72 % from the sixth on; `speed87` was all \
images in batches of 125 and became batches of 200, from the third epoch on the hardest 70 %, filters at 0.1."""


TESTED = """## On the test set

Made by `python benchmarks/attempts.py RECIPE --only … --seeds … --test`: what did well above, trained on all training \
images. Each run is in attempts_test.csv. Those on all images were made by accuracy.py, when that was the \
recipe; those of `resnet18` too, with the recipe changed for the two attempts. These are by what others report and were \
tried on no images held out, the second when the figures of the first were known; two seeds in bfloat16, one thread each on \
an AMD EPYC, and the first once more in float32, two threads on one of Zen 5. Neither was taken. In bfloat16 the first gains \
over the recipe in a single view, not with six, with a fifth less arithmetic, and the second, with two fifths more than the \
first, is no better than it; in float32 the first falls short of each of the recipe's three seeds, in one view and in six."""


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('recipe', choices=('speed94', 'speed87', 'resnet18'))
    p.add_argument('--seeds', nargs='+', type=int, default=[0])
    p.add_argument('--only', nargs='+', default=[''], help='attempts whose names contain one of these words')
    p.add_argument('--test', action='store_true', help='train on all training images, score on the test set')
    args = p.parse_args()
    split = 'test' if args.test else 'valid'
    cases = {name: partial(run, name, r, choose, split) for name, (r, choose) in attempts(args.recipe).items()}
    files = {'valid': RESULTS/'attempts.csv', 'test': RESULTS/'attempts_test.csv'}
    make_missing(files[split], args, 'attempt', cases, *load_data(), default_precision())
    held, tested = ([*table(csv.DictReader(open(files[s])), s)] for s in files)
    text = '\n'.join(['# Attempts at less arithmetic', '', HEAD, '', *held, '', TESTED, '', *tested, ''])
    with atomic_path(RESULTS/'attempts.md') as tmp: tmp.write_text(text, encoding='utf-8')
    print(text)


if __name__ == '__main__': main()

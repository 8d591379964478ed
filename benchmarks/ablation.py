"""What each part of a recipe is worth: the recipe with one thing changed, on training images held out, over seeds.

    python benchmarks/ablation.py speed87 --seeds 0 1 [--only averaged whitened]

The last tenth of the training set, split per class and by seed, takes the place of the test set, which is not read.
One row per run is kept in benchmarks/results/ablation.csv; a run that is there in the same precision is not made again.
The table over seeds is in ablation.md. The precision is that of the device (S9LIB_AMP=1: mixed).
"""
import argparse
import csv
import statistics
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from s9lib.core import atomic_path, default_amp, default_device
from s9lib.data.cifar import load_data
from s9lib.train.evaluator import amp_dtype
from s9lib.train.history import ProgressCallback
from s9lib.train.recipes import get_recipe

RESULTS = Path(__file__).parent/'results'


def variants(r):
    "Changes of recipe `r` by what they take away or replace."
    rates, bs, lr, sgd_lr = r.opt_args, 2*r.bs, r.opt_args['lr'], .4*(r.bs/125)**.5
    sizes = [*r.progressive_sizes, (r.epochs - sum(n for n,_ in r.progressive_sizes), r.side)]
    whole = round(sum(n*px**2 for n,px in sizes)/r.side**2)  # epochs at full size of the same arithmetic
    return {
        'as it is': r,
        'first layer not whitened, not frozen': replace(r, whiten=False, freeze=()),
        'weights not averaged': replace(r, average_every=0),
        f'weights averaged every {4*r.average_every} steps': replace(r, average_every=4*r.average_every),
        f'SGD with Nesterov momentum for the filters too ({sgd_lr:g}, not tuned)':
            replace(r, opt='sgd', opt_args=dict(lr=sgd_lr), sched={'': ('piecewise', {})}),
        f'filters at {lr/2:g} instead of {lr:g}': replace(r, opt_args={**rates, 'lr': lr/2}),
        'norm biases at 0.4, head at 0.1': replace(r, opt_args={**rates, 'lr_bias': .4, 'lr_head': .1}),
        'mirrored at random, not in turn': replace(r, alt_flip=False),
        'labels not smoothed': replace(r, label_smoothing=0.),
        'labels smoothed by 0.2': replace(r, label_smoothing=.2),
        f'crop of 4 pixels instead of {r.tfm_args.get("pad", 2)}, and cutout': replace(r, tfms='standard'),
        'momentum of the filters 0.85 instead of 0.6': replace(r, opt_args={**rates, 'momentum': .85}),
        f'batches of {bs}, rates times 1.4': replace(r, bs=bs, opt_args={k: 1.4*v for k,v in rates.items()}),
        f'{whole} epochs at full size instead (about the same arithmetic)':
            replace(r, epochs=whole, progressive_sizes=()),
        'widths 64, 128, 128, stem 24, as the recipe fast': replace(r, model_args={}),
    }


def run(r, seed, train, test):
    "Train once; the accuracy on what was held out and what else belongs in the row of the run."
    dls = r.dataloaders(train, test, seed=seed, valid_pct=.1)
    learn = r.learner(dls, cbs=[ProgressCallback(bar=False)])
    learn.fit()
    accs, kept = learn.tta_accs(dls.valid), dls.train.data
    return dict(valid_acc=accs['none'], valid_acc_six=accs['six'], n_train=len(kept), pflop=r.flops(kept)/1e15,
                precision=learn.precision, threads=torch.get_num_threads(), torch=torch.__version__)


def keep(rows, path):
    with atomic_path(path) as tmp, open(tmp, 'w', newline='') as f:
        out = csv.DictWriter(f, rows[0].keys(), lineterminator='\n')
        out.writeheader()
        out.writerows(rows)


def table(rows):
    "One line per variant and precision: mean ± sd, and the difference to the recipe over the seeds that both have."
    by = {}
    for r in rows: by.setdefault((r['recipe'], r['variant'], r['precision']), {})[r['seed']] = r
    def cell(values, form='.2f'):
        if not values: return '-'
        return f'{statistics.mean(values):{form}}' + (f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else '')
    yield '| recipe | variant | precision | n | held out, % | difference | six views, % | difference | PFLOP |'
    yield '|---|---|---|---:|---:|---:|---:|---:|---:|'
    for (recipe, variant, precision), runs in by.items():
        cells, whole_runs = [recipe, variant, precision, str(len(runs))], by.get((recipe, 'as it is', precision), {})
        for k in ('valid_acc', 'valid_acc_six'):
            accs, whole = ({s: 100*float(r[k]) for s,r in rs.items() if r[k]} for rs in (runs, whole_runs))
            diffs = [a - whole[s] for s,a in accs.items() if s in whole and variant != 'as it is']
            cells += [cell([*accs.values()]), cell(diffs, '+.2f')]
        yield '| ' + ' | '.join([*cells, f"{float(next(iter(runs.values()))['pflop']):.4f}"]) + ' |'


def default_precision():
    "Name of the number format in which a recipe trains here, as `Evaluator.precision` gives it."
    device = default_device()
    return str(amp_dtype(device) if default_amp(device) else torch.float32).removeprefix('torch.')


def make_missing(path, args, kind, cases, train, test, precision=None):
    """Make the runs that the file lacks, each kept at once; `cases`: name -> function of (seed, train, test). All rows.

    A run in another than `precision` is another run; None: the name of the case says which it has.
    """
    if train.name != 'CIFAR-10':
        sys.exit(f"the data are {train.name}: the rows of {path.name} are of CIFAR-10; leave S9LIB_DATA out")
    rows = list(csv.DictReader(open(path))) if path.exists() else []
    def same(o, *how): return (o['recipe'], o[kind], o['seed'], precision and o['precision']) == how
    for seed in args.seeds:
        for name, make in cases.items():
            known = any(same(o, args.recipe, name, str(seed), precision) for o in rows)
            if known or not any(word in name for word in args.only): continue
            print(f'{name}, seed {seed}', flush=True)
            rows.append({'recipe': args.recipe, kind: name, 'seed': str(seed), **make(seed, train, test)})
            keep(rows, path)
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('recipe')
    p.add_argument('--seeds', nargs='+', type=int, default=[0])
    p.add_argument('--only', nargs='+', default=[''], help='variants whose names contain one of these words')
    args = p.parse_args()
    recipe = get_recipe(args.recipe)
    if recipe.hardest: args.recipe += ', all images'
    cases = {name: partial(run, r) for name, r in variants(replace(recipe, hardest=())).items()}
    rows = make_missing(RESULTS/'ablation.csv', args, 'variant', cases, *load_data(), default_precision())
    head = ('Made by `python benchmarks/ablation.py`: 90 % of the training images are trained on, 10 % held out; the '
            'test set is not read. Each run is in ablation.csv, with its precision. The difference is to the recipe as '
            'it is with the same seed; one below its standard deviation says nothing. All variants train on all images; '
            'those of speed87 are of the recipe before it chose any, with filters at 0.12; what the choice is worth stands '
            'in attempts.md.')
    text = '\n'.join(['# What each part of a recipe is worth', '', head, '', *table(rows), ''])
    with atomic_path(RESULTS/'ablation.md') as tmp: tmp.write_text(text, encoding='utf-8')
    print(text)


if __name__ == '__main__': main()

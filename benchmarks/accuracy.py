"""Accuracy of recipes over seeds: mean ± sd of the last epoch's weights on the test split, single view and six views.

    python benchmarks/accuracy.py fast --seeds 0 1 2

The data are those of `load_data()` (S9LIB_DATA names others), the precision is that of the device (S9LIB_AMP=1: mixed).
S9LIB_WINOGRAD=0 leaves out Winograd's method, on CPUs that lose by it (steps.py tells).
Each run lives in runs/ and goes on if it is interrupted. One row per run is kept in benchmarks/results/accuracy.csv,
the table over seeds in benchmarks/results/accuracy.md.
"""
import argparse
import csv
import json
import platform
import statistics
from pathlib import Path

from machine import processor
from s9lib.core import atomic_path, default_device
from s9lib.data.cifar import load_data
from s9lib.train.checkpoint import checkpoints
from s9lib.train.history import CSVLogger, ProgressCallback, save_metrics
from s9lib.train.recipes import get_recipe, RECIPES, run_folder, run_metrics
from s9lib.train.resume import CheckpointCallback

RESULTS = Path(__file__).parent/'results'


def run(name, seed, train, test):
    "Train one recipe with one seed, or take up where it stopped; its metrics."
    recipe = get_recipe(name)
    out = run_folder(recipe, train, seed)
    cbs = [ProgressCallback(), CSVLogger(out/'history.csv'), CheckpointCallback(out/'checkpoints')]
    learn = recipe.learner(recipe.dataloaders(train, test, seed=seed), cbs=cbs)
    learn.fit()
    known, last = out/'metrics.json', checkpoints(out/'checkpoints')[0]
    if not known.is_file() or known.stat().st_mtime < last.stat().st_mtime:  # six passes over the test set, made once
        save_metrics(run_metrics(learn), known)
    return json.loads(known.read_text())


def keep(new):
    """Put the metrics of a run in accuracy.csv and write accuracy.md from all of it; its text.

    The rows are in the order of recipe, data, precision and seed.
    """
    new = dict(new, machine=f'{processor()}, {platform.system()}')
    path = RESULTS/'accuracy.csv'
    rows = list(csv.DictReader(open(path)))
    new = {k: str(new[k]) for k in rows[0]}  # as the file gives them
    rows = [r for r in rows if any(r[k] != new[k] for k in ('recipe', 'data', 'precision', 'seed'))] + [new]
    rows.sort(key=lambda r: (r['recipe'], r['data'], r['precision'], int(r['seed'])))
    with atomic_path(path) as tmp, open(tmp, 'w', newline='') as f:
        out = csv.DictWriter(f, rows[0].keys(), lineterminator='\n')
        out.writeheader()
        out.writerows(rows)
    head = ('Made by `python benchmarks/accuracy.py RECIPE --seeds …`; every run is in accuracy.csv, with its seed, '
            'time, arithmetic and machine. Seconds of several machines have no mean. PFLOP: the arithmetic of training '
            'if every convolution is direct, as others count it; carried out: what the run really did, less where a '
            "recipe uses Winograd's method. Seeds 0 to 4 of speed94 are runs of `benchmarks/attempts.py speed94 --test`, "
            'made while it was an attempt, the others are those of race.py; those of speed87 are of turns.py, the same.')
    text = '\n'.join([head, '', *table(rows), ''])
    with atomic_path(RESULTS/'accuracy.md') as tmp: tmp.write_text(text, encoding='utf-8')
    return text


def table(rows):
    """One line per recipe, data and way to compute: mean ± sd over its seeds.

    Where a recipe's seeds were computed in several ways, each in one, a line over all follows, without what differs.
    Seconds are given where all that were taken are of one machine.
    """
    def spread(values):
        sd = f' ± {100*statistics.stdev(values):.2f}' if len(values) > 1 else ''
        return f'{100*statistics.mean(values):.2f}{sd}'

    def line(rs, seconds, *how):
        acc, six = ([float(r[k]) for r in rs] for k in ('test_acc', 'test_acc_six'))
        first, done = rs[0], {int(r['flops_done']) for r in rs}
        threads = f"{first['threads']} thread" + 's'*(first['threads'] != '1')
        how = how or (f"{first['device']}, {threads}", first['precision'], first['torch'])
        cells = (first['recipe'], first['data'], len(rs), spread(acc), spread(six), seconds,
                 f"{int(first['flops'])/1e15:.4f}", f'{done.pop()/1e15:.4f}' if len(done) == 1 else '–', *how)
        return f"| {' | '.join(map(str, cells))} |"
    yield ('| recipe | data | n | single view, % | six views, % | training, s | PFLOP | carried out '
           '| device | precision | torch |')
    yield '|---|---|---:|---:|---:|---:|---:|---:|---|---|---|'
    ways = {}
    for r in rows:
        way = tuple(r[k] for k in ('device', 'threads', 'precision', 'torch'))
        ways.setdefault((r['recipe'], r['data']), {}).setdefault(way, []).append(r)
    for groups in ways.values():
        for rs in groups.values():
            timed = [r for r in rs if r['train_seconds']]
            mean = statistics.mean([float(r['train_seconds']) for r in timed] or [0])
            yield line(rs, f'{mean:.0f}' if len({r['machine'] for r in timed}) == 1 else '–')
        runs = sum(groups.values(), [])
        once = len({r['seed'] for r in runs}) == len(runs)
        if len(groups) > 1 and once: yield line(runs, '–', 'all of these', '–', '–')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('recipes', nargs='+', choices=list(RECIPES), metavar='recipe', help=', '.join(RECIPES))
    p.add_argument('--seeds', nargs='+', type=int, default=[0], help='one run for each')
    p.add_argument('--busy', action='store_true', help='the machine does other things too: keep no seconds')
    args = p.parse_args()
    train, test = load_data()
    for name in args.recipes:
        for seed in args.seeds:
            print(f'{name}, seed {seed}, {default_device()}')
            metrics = run(name, seed, train, test)
            text = keep({**metrics, 'train_seconds': ''} if args.busy else metrics)
    print(text)


if __name__ == '__main__': main()

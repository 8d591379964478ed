"""Accuracy of recipes over seeds: mean ± sd of the last epoch's weights on the test split, single view and six views.

    python benchmarks/accuracy.py fast --seeds 0 1 2

The data are those of `load_data()` (S9LIB_DATA names others), the precision is that of the device (S9LIB_AMP=1: mixed). Each run lives in runs/ and goes on if it is interrupted.
One row per run is kept in benchmarks/results/accuracy.csv, the table over seeds in benchmarks/results/accuracy.md.
"""
import argparse
import csv
import json
import platform
import statistics
from pathlib import Path

from s9lib.train.resume import CheckpointCallback, CSVLogger
from s9lib.train.checkpoint import checkpoints
from s9lib.train.history import ProgressCallback
from s9lib.core import atomic_path, default_device
from s9lib.train.history import save_metrics
from s9lib.train.recipes import dls_for, fit_recipe, get_recipe, learner_for, RECIPES, run_folder, run_metrics
from s9lib.data.cifar import load_data

RESULTS = Path(__file__).parent/'results'


def run(name, seed, train, test):
    "Train one recipe with one seed, or take up where it stopped; its metrics."
    recipe = get_recipe(name)
    out = run_folder(recipe, train, seed)
    learn = learner_for(recipe, dls_for(recipe, train, test, seed=seed), seed=seed,
                        cbs=[ProgressCallback(), CSVLogger(out/'history.csv'), CheckpointCallback(out/'checkpoints')])
    fit_recipe(learn)
    known = out/'metrics.json'                                        # of this run, if nothing was trained since: six passes over the test set
    if not known.is_file() or known.stat().st_mtime < checkpoints(out/'checkpoints')[0].stat().st_mtime: save_metrics(run_metrics(learn), known)
    return json.loads(known.read_text())


def processor():
    "Name of the CPU, as the system tells it."
    try: return next(line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name'))
    except (OSError, StopIteration): return platform.processor() or platform.machine()


def keep(new):
    "Put the metrics of a run in accuracy.csv, in the order of recipe, data, precision and seed, and write accuracy.md from all of it; its text."
    new = {k: str(v) for k, v in {**new, 'machine': f'{processor()}, {platform.system()}'}.items()}  # as the file gives them
    path = RESULTS/'accuracy.csv'
    rows = list(csv.DictReader(open(path))) if path.exists() else []
    rows = [r for r in rows if any(r[k] != new[k] for k in ('recipe', 'data', 'precision', 'seed'))] + [new]
    rows.sort(key=lambda r: (r['recipe'], r['data'], r['precision'], int(r['seed'])))
    with atomic_path(path) as tmp, open(tmp, 'w', newline='') as f:
        out = csv.DictWriter(f, rows[0].keys(), lineterminator='\n')
        out.writeheader()
        out.writerows(rows)
    text = '\n'.join(['Made by `python benchmarks/accuracy.py RECIPE --seeds …`; every run is in accuracy.csv, with its seed, time, arithmetic and machine. PFLOP: '
                      "the arithmetic of training if every convolution is direct, as others count it; carried out: what the run really did, less where a recipe uses Winograd's method.", '', *table(rows), ''])
    with atomic_path(RESULTS/'accuracy.md') as tmp: tmp.write_text(text, encoding='utf-8')
    return text


def table(rows):
    "One line per recipe, data and device: mean ± sd over its seeds."
    def spread(values): return f'{100*statistics.mean(values):.2f} ± {100*statistics.stdev(values):.2f}' if len(values) > 1 else f'{100*values[0]:.2f}'
    groups = {}
    for r in rows: groups.setdefault((r['recipe'], r['data'], r['device'], r['threads'], r['precision'], r['torch']), []).append(r)
    yield '| recipe | data | n | single view, % | six views, % | training, s | PFLOP | carried out | device | precision | torch |'
    yield '|---|---|---:|---:|---:|---:|---:|---:|---|---|---|'
    for (recipe, data, device, threads, precision, torch), rs in groups.items():
        acc, six, sec = ([float(r[k]) for r in rs] for k in ('test_acc', 'test_acc_six', 'train_seconds'))
        yield (f"| {recipe} | {data} | {len(rs)} | {spread(acc)} | {spread(six)} | {statistics.mean(sec):.0f} | {int(rs[0]['flops'])/1e15:.4f} "
               f"| {int(rs[0]['flops_done'])/1e15:.4f} "
               f'| {device}, {threads} threads | {precision} | {torch} |')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('recipes', nargs='+', choices=list(RECIPES), metavar='recipe', help=', '.join(RECIPES))
    p.add_argument('--seeds', nargs='+', type=int, default=[0], help='one run for each')
    args = p.parse_args()
    train, test = load_data()
    for name in args.recipes:
        for seed in args.seeds:
            print(f'{name}, seed {seed}, {default_device()}')
            text = keep(run(name, seed, train, test))
    print(text)


if __name__ == '__main__': main()

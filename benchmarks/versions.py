"""Is the library slower than it was? The same benchmark in an older checkout and in this one, in turns.

    git worktree add /tmp/old COMMIT
    python benchmarks/versions.py loader overhead cam --old /tmp/old --rounds 5 --out benchmarks/results/versions.md

Every round runs each benchmark once in the old checkout and once here, the first of them alternating, each with its
own script. Rows of both that bear the same name are compared: images a second (loader), share over the bare loop
(overhead), processor time over that of the floor (cam). A row is *slower* when its median is worse than that of the
old checkout by more than the range of the old one's rounds.
"""
import argparse
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from machine import processor, suffix

HERE = Path(__file__).parents[1]
# arguments of one round; the column that counts; cells in front that name the row; whether more is better
BENCHMARKS = dict(loader=(['--rounds', '1', '--device', 'cpu'], 1, 1, True), overhead=(['--rounds', '1'], 4, 2, False),
                  cam=(['--runs', '1', '--peers'], 1, 1, False))
RENAMED = {'tier': 'mode', 'sz=': 'size='}  # words of older tables


def figures(text, column, n_names, ours):
    "Name -> figure of every row of the tables in `text` whose name contains `ours`."
    found, above, head = {}, '', ''
    for old, new in RENAMED.items(): text = re.sub(rf'\b{re.escape(old)}', new, text)
    for line in text.splitlines():
        if not line.startswith('|'): above = line or above           # names a table whose first column has no name
        elif set(line) - set('|-: '):
            cells = [c.strip() for c in line.split('|')[1:-1]]
            number = re.match(r'[-+]?[\d,]*\.?\d+', cells[column].replace(' ', ''))
            name = ', '.join(cells[:n_names])
            if not number: head = cells[0] or above
            elif ours in name: found[f'{head}: {name}'] = float(number[0].replace(',', ''))
    return found


def one_round(where, name):
    "Run one benchmark of a checkout; its figures."
    options, column, n_names, _ = BENCHMARKS[name]
    env = {**os.environ, 'PYTHONPATH': str(where), 'OMP_NUM_THREADS': '1', 'NO_ALBUMENTATIONS_UPDATE': '1'}
    with tempfile.TemporaryDirectory() as d:
        p = subprocess.run([sys.executable, f'benchmarks/{name}.py', *options, '--out', f'{d}/out.md'], cwd=where, env=env,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if p.returncode: raise RuntimeError(f'{name} in {where}:\n{p.stdout}')
        return figures(Path(f'{d}/out.md').read_text(), column, n_names, '' if name == 'overhead' else 's9lib')


def measure(a, name):
    "Name of the row -> figures of all rounds, of the old checkout and of this one."
    seen = {'old': {}, 'new': {}}
    for i in range(a.rounds):
        for which in ('old', 'new')[::1 if i % 2 == 0 else -1]:
            for row, value in one_round(a.old if which == 'old' else HERE, name).items():
                seen[which].setdefault(row, []).append(value)
        print(name, f'round {i+1} of {a.rounds}', flush=True)
    return seen


def table(name, seen):
    "Lines of the table of one benchmark."
    more = BENCHMARKS[name][-1]
    yield f'| {name} | before, median (range) | now, median (range) | slower |'
    yield '|---|---:|---:|---|'
    for row, old in seen['old'].items():
        if row not in seen['new']: continue
        new = seen['new'][row]
        was, now = statistics.median(old), statistics.median(new)
        slower = (was - now if more else now - was) > max(old) - min(old)
        texts = (f'{m:,g} ({min(v):,g} to {max(v):,g})' for m, v in ((was, old), (now, new)))
        yield f"| {row} | {' | '.join(texts)} | {'**yes**' if slower else 'no'} |"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('benchmarks', nargs='+', choices=list(BENCHMARKS), metavar='benchmark', help=', '.join(BENCHMARKS))
    p.add_argument('--old', type=Path, required=True, help='folder of the older checkout')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    commits = [subprocess.check_output(['git', 'rev-parse', '--short', 'HEAD'], cwd=d, text=True).strip()
               for d in (a.old, HERE)]
    lines = [f'# Before and after{suffix(a.out)}', '',
             f'The library of commit {commits[0]} (before) and of {commits[1]} (now), '
             '`benchmarks/versions.py` says how. Loader: images a second. Overhead: per cent over the bare loop. cam: '
             'processor time over that of the floor.']
    end = ['', f'n = {a.rounds} rounds in turns; one thread, processor time.', '',
           f"`python benchmarks/versions.py {shlex.join(sys.argv[1:])}`; torch {torch.__version__}, "
           f'Python {platform.python_version()}, {platform.system()}, {processor()}.', '']
    for name in a.benchmarks:
        lines += ['', *table(name, measure(a, name))]
        if a.out: a.out.write_text('\n'.join(lines + end), encoding='utf-8')  # what is there, should it be stopped
    print('\n'.join(lines + end))


if __name__ == '__main__': main()

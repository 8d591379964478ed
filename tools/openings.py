"""The first cells of every page: the title alone, a badge that opens the page in Colab, and the hidden cell that installs the library there.

    python tools/openings.py                          # list the pages that lack something
    python tools/openings.py --write                  # give it to them
    python tools/openings.py --write nbs/00_core.ipynb

The title's cell becomes the head of the page on the site, and nbdev drops what else stands in it: the introduction gets a cell of its own.
On Colab torch and the rest stay as Colab has them; only albumentations is held at the version of constraints.txt, because a newer one means something else.
Cells that are there keep their ids and outputs.
"""
import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

import addresses

TITLE = re.compile(r'(# [^\n]+\n\n> [^\n]+)\n\n(.+)', re.S)
BADGE = '[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{user}/{repo}/blob/{branch}/nbs/{page})'
INSTALL = """#| hide
#| eval: false
! [ -e /content ] && curl -sL https://raw.githubusercontent.com/{user}/{repo}/{branch}/constraints.txt | grep -E '^(albumentations|albucore)==' > /tmp/constraints.txt \
&& pip install -q -c /tmp/constraints.txt git+https://github.com/{user}/{repo}@{branch}"""
DRIVE = """
# To keep the run in your Drive: from google.colab import drive; drive.mount('/content/drive'); import os; os.environ['S9LIB_OUT'] = '/content/drive/MyDrive/s9lib'"""
FINAL = '20_cifar10.ipynb'


def source(cell): return ''.join(cell['source'])


def make(kind, page, text):
    "A cell with an id that depends on page and purpose only."
    c = dict(cell_type=kind, id=hashlib.sha1(f'{page.stem} {text[:12]}'.encode()).hexdigest()[:8], metadata={}, source=text.splitlines(True))
    return c if kind == 'markdown' else {**c, 'execution_count': None, 'outputs': []}


def wanted(page, cfg):
    "Texts of the badge and of the install cell of a page; None for the index, which GitHub and the site show as their first page."
    if not page.name[0].isdigit(): return None, None
    names = dict(user=cfg['user'], repo=cfg['repo'], branch=cfg['branch'], page=page.name)
    return BADGE.format(**names), INSTALL.format(**names) + (DRIVE if page.name == FINAL else '')


def opened(cells, page, cfg):
    "Return `cells` with the opening they should have."
    badge, install = wanted(page, cfg)
    cells = list(cells)
    at = next((i for i, c in enumerate(cells) if c['cell_type'] == 'markdown' and source(c).startswith('# ')), None)
    if at is None: return cells
    if m := TITLE.fullmatch(source(cells[at])):
        cells[at] = {**cells[at], 'source': m[1].splitlines(True)}
        cells.insert(at + 1, make('markdown', page, m[2]))
    for kind, text, mark in (('markdown', badge, 'colab-badge.svg'), ('code', install, '[ -e /content ]')):
        if text is None: continue
        old = next((i for i, c in enumerate(cells) if c['cell_type'] == kind and mark in source(c)), None)
        if old is not None: cells[old] = {**cells[old], 'source': text.splitlines(True)}
        else: cells.insert(at + 1 + (kind == 'code')*prose(cells[at + 1:]), make(kind, page, text))
    return cells


def prose(cells):
    "How many markdown cells stand before the first code and the first heading."
    return next((i for i, c in enumerate(cells) if c['cell_type'] != 'markdown' or source(c).startswith('#')), len(cells))


def lacking(root):
    "Pages whose opening is not as it should be, with what they would become."
    cfg = addresses.settings(root)
    for p in sorted((root/'nbs').glob('[!_.]*.ipynb')):
        nb = json.loads(p.read_text(encoding='utf-8'))
        if (cells := opened(nb['cells'], p, cfg)) != nb['cells']: yield p, {**nb, 'cells': cells}


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('page', nargs='*', type=Path, help='only these')
    ap.add_argument('--write', action='store_true', help='correct them')
    args, root = ap.parse_args(), Path(__file__).resolve().parents[1]
    only, found = {p.resolve() for p in args.page}, False
    for p, nb in lacking(root):
        if only and p.resolve() not in only: continue
        found = True
        print(p.relative_to(root).as_posix())
        if args.write: p.write_text(json.dumps(nb, indent=1, sort_keys=True, ensure_ascii=False) + '\n', encoding='utf-8', newline='\n')
    sys.exit(found and not args.write)


if __name__ == '__main__': main()

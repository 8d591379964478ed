"""Plant one fault per check in a small house and see that check report it.

    python tools/test_checks.py

The house has the repository's own settings, workflows and tools, and three pages of a few lines each, so that all of it takes seconds.
"""
import json
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import addresses
import check
import openings
import readme

PAGES = {
    '00_core': ['#| default_exp core', '# Core\n\n> Words.', '#| export\nimport os', "#| export\ndef sep():\n    \"Name the separator.\"\n    return os.sep", 'sep()'],
    '01_vis': ['#| default_exp vis', '# Vis\n\n> Pictures.', '## Words\n\nSee [core](00_core.ipynb#core).', '#| export\nfrom s9lib.core import sep', '#| export\ndef twice(): return sep() * 2'],
    '20_cifar10': ['# Final\n\n> Result.', '#| hide\n! [ -e /content ] && pip install -q s9lib', 'import os\nfrom s9lib.core import sep', 'os.path.join("a", sep())'],
    '30_results': ['# Results\n\n> Numbers. See [arXiv](https://arxiv.org/abs/1610.02391).', '1 + 1'],
    'index': ['# s9lib\n\n> Home. Read [core](00_core.ipynb), [vis](01_vis.ipynb), [the result](20_cifar10.ipynb) and [numbers](30_results.ipynb), or [run it](https://colab.research.google.com/github/a/b/blob/c/nbs/20_cifar10.ipynb).', '#| hide\n1', '1 + 1'],
}


TABLE = '| speed |\n|---|\n| 1 |\n'


def write(page, sources):
    "Make a notebook of `sources`; what begins like a heading is markdown."
    def cell(i, s):
        c = dict(cell_type='markdown' if s.startswith(('# ', '## ')) else 'code', id=f'{page.stem[:2]}{i:06}', metadata={}, source=s.splitlines(True))
        return c if c['cell_type'] == 'markdown' else {**c, 'execution_count': None, 'outputs': []}
    meta = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    nb = dict(cells=[cell(i, s) for i, s in enumerate(sources)], metadata=meta, nbformat=4, nbformat_minor=5)
    page.write_text(json.dumps(nb, indent=1, sort_keys=True, ensure_ascii=False) + '\n', encoding='utf-8')


def build(root, house):
    "Make the small house at `house` out of the repository at `root`."
    shutil.copytree(root/'.github', house/'.github')
    shutil.copytree(root/'tools', house/'tools', ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('settings.ini', 'constraints.txt', 'Makefile'): shutil.copy(root/name, house)
    for name in ('s9lib', 'nbs', 'benchmarks/results'): (house/name).mkdir(parents=True)
    (house/'benchmarks/results/speed.md').write_text(TABLE)
    ini = (house/'settings.ini').read_text(encoding='utf-8')
    (house/'settings.ini').write_text(re.sub('^console_scripts =.*$', 'console_scripts = say=s9lib.core:sep', ini, flags=re.M), encoding='utf-8')
    cfg = addresses.settings(house)
    for name, sources in PAGES.items(): write(house/f'nbs/{name}.ipynb', [addresses.follow(s, cfg) for s in sources])
    for p, nb in openings.lacking(house): p.write_text(json.dumps(nb, indent=1, sort_keys=True, ensure_ascii=False) + '\n', encoding='utf-8')
    r = check.python(house, '-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()', env={'XDG_CONFIG_HOME': str(house)})
    if r.returncode: raise RuntimeError(r.stderr)
    output('30_results', output_type='display_data', metadata={}, data={'text/markdown': TABLE.splitlines(True)})(house)
    for path, content in readme.files(house).items(): (house/path).write_bytes(content)


# The faults

def edit(path, old, new):
    "Return a fault that replaces `old` by `new` in a file; text that is not there is an error of ours."
    def fault(house):
        text = (house/path).read_text(encoding='utf-8')
        if old not in text: raise RuntimeError(f'{path} does not contain {old!r}')
        (house/path).write_text(text.replace(old, new, 1), encoding='utf-8')
    return fault


def page(name, *sources):
    "Return a fault that writes a page anew and exports it."
    def fault(house):
        write(house/f'nbs/{name}.ipynb', sources)
        check.python(house, '-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()', env={'XDG_CONFIG_HOME': str(house)})
    return fault


def output(stem, **out):
    "Return a fault that stores an output in the last cell of a page."
    def fault(house):
        p = house/f'nbs/{stem}.ipynb'
        nb = json.loads(p.read_text(encoding='utf-8'))
        nb['cells'][-1]['outputs'] = [out]
        p.write_text(json.dumps(nb, indent=1, sort_keys=True, ensure_ascii=False) + '\n', encoding='utf-8')
    return fault


def renamed(house):
    "A page that writes another module than before."
    edit('nbs/01_vis.ipynb', 'default_exp vis', 'default_exp show')(house)
    check.python(house, '-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()', env={'XDG_CONFIG_HOME': str(house)})


def twice_id(house):
    p = house/'nbs/00_core.ipynb'
    p.write_text(re.sub('00000004', '00000003', p.read_text(encoding='utf-8')), encoding='utf-8')


def site(house):
    "Address of the house's site."
    cfg = addresses.settings(house)
    return cfg['doc_host'].removeprefix('https://') + cfg['doc_baseurl']


def final(*lines): return page('20_cifar10', '# Final\n\n> Result.', *lines)


def text(s): return dict(output_type='stream', name='stdout', text=[s])


FAULTS = [  # check, what is wrong, how it comes about, what the finding must say
    ('conflict_markers', 'an unresolved merge in a page', edit('nbs/00_core.ipynb', '> Words.', '<' * 7 + ' HEAD'), '00_core'),
    ('conflict_markers', 'an unresolved merge in a module', edit('s9lib/core.py', 'import os', '>' * 7 + ' main\nimport os'), 'core.py'),
    ('stale_modules', 'a page renamed, its old module left', renamed, 'vis.py'),
    ('export_in_step', 'a module edited by hand', edit('s9lib/core.py', 'os.sep', "'/'"), 's9lib/core.py'),
    ('export_in_step', 'a page edited and not exported', edit('nbs/00_core.ipynb', 'os.sep', 'os.linesep'), 's9lib/core.py'),
    ('clean_in_step', 'a page saved with its execution counts', edit('nbs/00_core.ipynb', '"execution_count": null', '"execution_count": 7'), '00_core.ipynb'),
    ('one_way', 'a lower page imports a higher one', page('00_core', *PAGES['00_core'], '#| export\nfrom s9lib.vis import twice\ntwice'), 'imports s9lib.vis'),
    ('final_notebook', 'a function in the final notebook', final('def f(): pass'), 'defines f'),
    ('final_notebook', 'a class in the final notebook', final('%%time\nclass C: pass'), 'defines C'),
    ('final_notebook', 'a lambda in the final notebook', final('f = lambda x: x'), 'assigns a lambda'),
    ('final_notebook', 'a foreign import in the final notebook', final('import torch'), 'imports torch'),
    ('pyflakes', 'an import that stands only in a hidden cell', page('01_vis', *PAGES['01_vis'], '#| hide\nimport sys', '#| export\ndef exe(): return sys.executable'), "undefined name 'sys'"),
    ('imports', 'a module that fails at import', page('01_vis', *PAGES['01_vis'], '#| export\n1/0'), 'ZeroDivisionError'),
    ('imports', 'a module that talks at import', page('01_vis', *PAGES['01_vis'], '#| export\nprint("hello")'), 'prints at import: hello'),
    ('readme', 'index.ipynb edited, README.md not', edit('nbs/index.ipynb', 'Home.', 'Another home.'), 'README.md'),
    ('links', 'a link to a page that is gone', edit('nbs/01_vis.ipynb', '00_core.ipynb', '00_kernel.ipynb'), '00_kernel.ipynb'),
    ('links', 'a link to a section that is gone', edit('nbs/01_vis.ipynb', 'ipynb#core', 'ipynb#kernel'), 'no section #kernel'),
    ('external_links', 'a paper whose number lost a digit', edit('nbs/30_results.ipynb', 'abs/1610.02391', 'abs/1610.0239'), 'does not look like'),
    ('external_links', 'an address without its colon', edit('nbs/30_results.ipynb', 'https://arxiv', 'https//arxiv'), 'no whole https address'),
    ('external_links', 'an address with the full stop of its sentence', edit('nbs/30_results.ipynb', '1610.02391', '1610.02391.'), 'no whole https address'),
    ('external_links', 'a space between text and address', edit('nbs/30_results.ipynb', '[arXiv](', '[arXiv] ('), 'has a space'),
    ('page_map', 'a page that the index does not lead to', page('02_data', '#| default_exp data', '# Data\n\n> More.', '#| export\nn = 1'), '02_data.ipynb'),
    ('version', 'a version raised in one place', edit('s9lib/__init__.py', '__version__ = "', '__version__ = "9'), 'settings.ini says'),
    ('pins', 'a requirement without a tested version', edit('constraints.txt', 'tqdm==', 'tqdn=='), 'no version for tqdm'),
    ('pins', 'two versions of nbdev', edit('constraints.txt', 'nbdev==2.4.14', 'nbdev==2.4.15'), 'nbdev'),
    ('pins', 'an extra without a tested version', edit('settings.ini', 'explore_requirements = ', 'explore_requirements = other-widgets '), 'no version for other-widgets'),
    ('commands', 'a command whose function was renamed', edit('settings.ini', 's9lib.core:sep', 's9lib.core:separator'), 's9lib.core:separator'),
    ('results_in_step', 'a table measured anew, the page as before', edit('benchmarks/results/speed.md', '| 1 |', '| 2 |'), 'speed.md'),
    ('addresses_in_step', 'a fork whose badges point to the origin', edit('settings.ini', 'user = ', 'user = fork-'), 'fork-'),
    ('cell_ids', 'two cells with one id', twice_id, 'stands twice'),
    ('openings', 'an introduction in the cell of the title', edit('nbs/00_core.ipynb', '> Words."', '> Words.\\n", "\\n", "Lost on the site."'), '00_core'),
    ('openings', 'a page without its badge', edit('nbs/01_vis.ipynb', 'colab-badge.svg', 'badge.svg'), '01_vis'),
    ('openings', 'an install cell of another branch', edit('nbs/00_core.ipynb', '/constraints.txt |', '/other/constraints.txt |'), '00_core'),
    ('notebook_size', 'a figure of a megabyte', output('00_core', **text('x' * 2**20)), 'expected at most'),
    ('widget_state', 'a page saved with its widgets', edit('nbs/00_core.ipynb', '"metadata": {\n  "kernelspec"', '"metadata": {\n  "widgets": {"state": {"a": 1}},\n  "kernelspec"'), '00_core'),
    ('private_paths', "somebody's folder in an output", output('00_core', **text('/home/' + 'me/data')), '/home/me'),
    ('private_paths', 'a stored traceback', output('00_core', output_type='error', ename='KeyError', evalue='', traceback=[]), 'KeyError'),
    ('docs', 'a link from the site to a file of the repository', edit('nbs/01_vis.ipynb', '00_core.ipynb#core', '../settings.ini'), '../settings.ini is not on the site'),
    ('docs', 'a link to a page the site does not have', lambda house: edit('nbs/01_vis.ipynb', '(00_core.ipynb#core', f"(https://{site(house)}/kernel.html")(house), 'the site has no kernel.html'),
    ('docs', 'an exported cell that fails in the docs', page('01_vis', *PAGES['01_vis'], '#| export\nimport nowhere'), 'nowhere'),
]


def plant(clean, name, fault, says):
    "Findings about the check `name` itself: it must report the fault in a copy of the house, and nothing in the house."
    with check.scratch(clean) as house:
        fault(house)
        found = check.run(getattr(check, name), house)
    return [] if any(says in f for f in found) else [f'the fault was not reported; it found {found}']


def results(root):
    "Yield (name, findings, seconds): first the house without faults under every check, then each fault."
    def timed(name, f, *args):
        start = time.time()
        return name, f(*args), time.time() - start
    with tempfile.TemporaryDirectory() as d, ThreadPoolExecutor(cpu_count()) as ex:
        house = Path(d).resolve()/'house'
        build(root, house)
        jobs = [ex.submit(timed, f'no fault: {c.__name__}', check.run, c, house) for c in check.CHECKS]
        jobs += [ex.submit(timed, f'planted: {what} -> {name}', plant, house, name, fault, says) for name, what, fault, says in FAULTS]
        for j in jobs: yield j.result()
    without = {c.__name__ for c in check.CHECKS} - {name for name, *_ in FAULTS}
    yield 'every check has a planted fault', [f'{c} has none' for c in sorted(without)], 0


def main():
    passed = [check.report(*r) for r in results(Path(__file__).resolve().parents[1])]
    print(f'{sum(passed)} passed, {len(passed) - sum(passed)} failed')
    sys.exit(not all(passed))


if __name__ == '__main__': main()

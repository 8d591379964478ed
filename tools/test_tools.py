"""Tests of the tools: a fault planted in a copy is found, and run_notebook.py ends as it says.

    python tools/test_tools.py
"""
import json, os, signal, subprocess, sys, tempfile, time
from pathlib import Path

import check
from openings import make

FAULTS = [  # check, file, what is added to it (a notebook: as a cell), what the finding must say
    ('one_way', 's9lib/core.py', 'from s9lib.hooks import Hooks', 's9lib.core: imports s9lib.hooks'),
    ('one_way', 's9lib/data/loader.py', 'def f(): from ..nets import resnet', 'loader: imports s9lib.nets.resnet'),
    ('one_way', 's9lib/explain/cam.py', 'import s9lib.train.learner', 's9lib.explain.cam: imports s9lib.train.learner'),
    ('in_step', 's9lib/core.py', '# by hand', 's9lib/core.py: make export'),
    ('in_step', 's9lib/data/left.py', '# of a page that was renamed', 's9lib/data/left.py'),
    ('in_step', 'nbs/data/04_cifar.ipynb', '#| export\nfresh = 1', 's9lib/data/cifar.py: make export'),
    ('final_notebook', 'nbs/20_cifar10.ipynb', '%%time\ndef f(): pass', 'defines f'),
    ('final_notebook', 'nbs/20_cifar10.ipynb', 'f = [lambda x: x]', 'assigns a lambda'),
    ('final_notebook', 'nbs/20_cifar10.ipynb', 'import torch.nn as nn', 'imports torch.nn'),
    ('results', 'README.md', '| `fast` | a net | 3 | 3 | 99.99 % | 99.99 % | 1 s | 0.029 PFLOP |', 'row of `fast`'),
    ('results', 'README.md', '| `resnet18`, mixed precision | net | 15 | 9 | 94 % | 2 PFLOP |', '`resnet18`, mixed'),
    ('links', 'nbs/data/04_cifar.ipynb', '[core](../00_kernel.ipynb)', '../00_kernel.ipynb does not exist'),
    ('links', 'nbs/data/04_cifar.ipynb', '[core](../00_core.ipynb#kernel)', 'no such section'),
    ('links', 'nbs/data/04_cifar.ipynb', '[make](../../Makefile)', 'not on the site'),
    ('editor', 'README.md', '```python\nfrom s9lib.hooks import Hooks\nHooks.nonsense\n```', '"nonsense"'),
    ('package', 'MANIFEST.in', 'exclude settings.ini', 'KeyError'),
    ('shape', 's9lib/core.py', 'from s9lib.hooks import _inner', 'private s9lib.hooks._inner'),
    ('shape', 's9lib/hooks.py', 'x.to(memory_format=torch.channels_last)', 'take memory_format of core'),
    ('shape', 's9lib/hooks.py', 'y.to(x.device, non_blocking=True)', 'take to_device of core'),
    ('requirements', 's9lib/hooks.py', 'install_line("gpu")', "settings.ini has no extra 'gpu' to install"),
]

def plant(root, name, path, text, says):
    "The check `name` reports the fault in a copy of the repository."
    with check.scratch(root) as copy:
        p = copy/path
        if p.suffix == '.ipynb':
            nb = json.loads(p.read_text(encoding='utf-8'))
            nb['cells'].append(make('markdown' if text[0] == '[' else 'code', path, text))
            p.write_text(json.dumps(nb, indent=1, sort_keys=True, ensure_ascii=False) + '\n', encoding='utf-8')
        else: p.write_text((p.read_text(encoding='utf-8') if p.exists() else '') + f'\n{text}\n', encoding='utf-8')
        found = check.run(getattr(check, name), copy)
    return [] if any(says in f for f in found) else [f'the fault was not reported; it found {found}']

PAGES = dict(
    good=['import os, sys\nprint(os.getcwd())\nprint("\\r 50%", file=sys.stderr)\nprint("careful", file=sys.stderr)',
          'out = "runs/seed3"', '6 * 7'],
    bad=['print("begun")', 'raise ValueError("it came:\\nfix it or pass on_error=\'skip\' to go on")'],
    rows=['from IPython.display import display\n'
          'handle = display({"text/plain": "head\\n"}, raw=True, display_id=True)\n'
          'for i in range(50): handle.update({"text/plain": f"head\\nrow 1\\n{i}%|bar"}, raw=True)\n'
          'handle.update({"text/plain": "head\\nrow 1\\nrow 2\\n"}, raw=True)'],
    lost=['out = "file/run"', 'raise PermissionError("no right to write here: set S9LIB_OUT")'],
    dead=['import os; os._exit(1)'],
    saves=['print("begun", flush=True)\nimport time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: open("saved", "w")',
           'open("went on", "w")'])

def start(name, *args):
    "Begin to run one of the pages in this folder."
    cells = [make('code', f'{i}', s) for i, s in enumerate(PAGES[name])]
    nb = dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)
    Path(args[0], f'{name}.ipynb').write_text(json.dumps(nb))
    cmd = [sys.executable, str(Path(__file__).with_name('run_notebook.py')), *args[1:], f'{name}.ipynb']
    env = {k: v for k, v in os.environ.items() if k != 'S9LIB_OUT'}
    return subprocess.Popen(cmd, cwd=args[0], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

def good(d):
    "a run leaves the folder that the notebook names, with text, warnings and no bar"
    out, err = (p := start('good', d)).communicate()
    text = (d/'runs/seed3/good.ipynb').read_text()
    yield p.returncode == 0 and f'{d}\n42\n' in out and 'good.html' in out and (d/'runs/seed3/good.html').exists()
    yield 'careful' in err and '50%' not in err and text.count('50%') == 1

def bad(d):
    "an error is one line that this reader can follow, and status 1; a page that fails in place is left as it was"
    err = (p := start('bad', d)).communicate()[1]
    yield p.returncode == 1 and len(err.splitlines()) == 2
    said = 'ValueError: it came: fix it or run .venv/bin/s9_train with --on-error skip to go on'
    yield err.splitlines()[0] == said
    yield [f.name for f in (d/'runs/bad').iterdir()] == ['bad.partial.ipynb']
    before = (d/'bad.ipynb').read_bytes()
    (p := start('bad', d, '--inplace')).communicate()
    yield p.returncode == 1 and (d/'bad.ipynb').read_bytes() == before

def rows(d):
    "an output that is replaced as a whole is shown row by row, and stored once"
    out, err = (p := start('rows', d)).communicate()
    yield p.returncode == 0 and '\nhead\nrow 1\nrow 2\n' in out and 'bar' not in out + err and out.count('row 1') == 1
    cell, = json.loads((d/'runs/rows/rows.ipynb').read_text())['cells']
    yield [''.join(o['data']['text/plain']) for o in cell['outputs']] == ['head\nrow 1\nrow 2\n']

def lost(d):
    "where the run folder cannot be made, the notebook's own message comes first"
    (d/'file').write_text('in the way')
    err = (p := start('lost', d)).communicate()[1].splitlines()
    yield p.returncode == 1 and err[0] == 'PermissionError: no right to write here: set S9LIB_OUT' and len(err) == 2
    yield 'is not kept' in err[1]

def dead(d):
    "a Python that dies is said to have died"
    yield start('dead', d).communicate()[1].startswith('DeadKernelError')

def inplace(d):
    "--inplace stores the outputs, cleaned"
    yield (p := start('good', d, '--inplace')).communicate() and p.returncode == 0
    text = (d/'good.ipynb').read_text()
    yield '"42"' in text and '"execution_count": 1' not in text and text.count('50%') == 1

def interrupted(d, signum):
    "a signal lets the cell save and ends the run"
    p = start('saves', d)
    while p.stdout.readline() != 'begun\n': pass
    time.sleep(.3)
    p.send_signal(signum)
    p.communicate(timeout=30)
    yield p.returncode == 128 + signum and (d/'saved').exists() and not (d/'went on').exists()

def figures(d):
    "figures of a large page are stored as what is smaller, and described by the sentence under the heading"
    import base64, io
    import nbformat
    import numpy as np
    from PIL import Image
    from docs import words
    from run_notebook import smaller
    noise = np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)
    for image, kind in (noise, 'image/jpeg'), (noise//255*255, 'image/png'):
        png = io.BytesIO()
        Image.fromarray(image).save(png, 'PNG')
        out = nbformat.v4.new_output('display_data', {'image/png': base64.b64encode(png.getvalue()).decode()})
        smaller(nbformat.v4.new_code_cell(outputs=[out]))
        yield [*out.data] == [kind] and len(base64.b64decode(out.data[kind])) < len(png.getvalue())
    yield words('## A heading\n\n> quoted\n\nA `cat`. It sits.\n\n```sh\nls\n```\n') == 'A cat.'

def runner(test, *args):
    "Run a test in a folder of its own; what it yields must be true."
    with tempfile.TemporaryDirectory() as d:
        return [f'number {i} is false' for i, ok in enumerate(test(Path(d).resolve(), *args)) if not ok]

def jobs(root):
    "Yield (name, function, arguments)."
    yield from ((f'planted in {f[1]}: {f[2]!r} -> {f[0]}', plant, root, *f) for f in FAULTS)
    yield from ((f'run_notebook: {t.__doc__}', runner, t) for t in (good, bad, rows, lost, dead, inplace, figures))
    signals = () if os.name == 'nt' else (signal.SIGINT, signal.SIGTERM)
    yield from ((f'run_notebook: {s.name}: {interrupted.__doc__}', runner, interrupted, s) for s in signals)

def main():
    root = Path(__file__).resolve().parents[1]
    sys.exit(not all([check.report(name, check.run(lambda _: f(*args), 0)) for name, f, *args in jobs(root)]))

if __name__ == '__main__': main()

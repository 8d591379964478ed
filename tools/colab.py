"""A Colab on this machine: its Python, its packages, its install cell, and pages run from top to bottom.

    python tools/colab.py ENV                      # make the environment ENV if it is not there; the install cell
    python tools/colab.py ENV nbs/20_cifar10.ipynb nbs/data/05_transforms.ipynb

tools/colab-packages.txt says what Colab has. What the library and its pages touch is installed for real, at those
versions; of everything else there is an entry that pip sees. The install cell is run as it stands, but the repository's
address leads to what is committed here, and /content to a folder of its own. Then pip must list what it listed before,
the library and what Colab lacks beside it. Pages run there on drawn shapes, without their `#| slow` cells.
"""
import argparse, json, os, re, shutil, subprocess, sys, tempfile
from functools import partial
from pathlib import Path

import check, openings

ROOT = Path(__file__).resolve().parents[1]
FORCE = ['opencv-contrib-python', 'opencv-python']  # share their cv2 with the headless build, on Colab too
KERNEL = 'pip ipykernel ipython ipywidgets nbclient nbconvert matplotlib-inline'.split()
PAGES = 'fastcore scikit-learn scikit-image timm tensorboard pandas optree'.split()  # what is used where it is there
OTHER = re.compile('python$|setuptools$|nvidia-|cuda-|triton')  # follow the build of torch, which is another one here
FAKE = """Metadata-Version: 2.1
Name: {}
Version: {}
"""

def key(name): return re.sub(r'[-_.]+', '-', name).lower()

def colab():
    "Colab's packages, {name: version}; its Python is one of them."
    text = Path(__file__).with_name('colab-packages.txt').read_text(encoding='utf-8')
    return {key(n): v for n, v in re.findall(r'^(?:# )?([\w.-]+)==([\w.]+)', text, re.M)}  # without +cpu

def listed(py):
    "What pip lists in the environment of `py`, {name: version}."
    out = subprocess.run([py, '-m', 'pip', 'list', '--format=json'], capture_output=True, text=True, check=True).stdout
    return {key(p['name']): p['version'] for p in json.loads(out)}

def make(env, python, there):
    "Make the environment."
    py, cfg = env/'bin/python', openings.settings(ROOT)
    subprocess.run([python, '-m', 'venv', '--clear', env], check=True)
    uv = shutil.which('uv')
    install = [uv, 'pip', 'install', '-q', '-p', py] if uv else [py, '-m', 'pip', 'install', '-q']
    needs = [key(re.split(r'[<>=]', r)[0]) for r in cfg['requirements'].split()]
    real = [f'{n}=={there[n]}' for n in dict.fromkeys(needs + KERNEL + PAGES) if n in there]
    with tempfile.TemporaryDirectory() as d:
        limits = Path(d, 'limits.txt')
        limits.write_text('\n'.join(f'{n}=={v}' for n, v in there.items() if not OTHER.match(n)))
        subprocess.run([*install, '--no-deps', *(f'{n}=={there[n]}' for n in FORCE)], check=True)
        subprocess.run([*install, '-c', limits, *real], check=True)
    where = next(env.glob('lib/python*/site-packages'))
    have = listed(py)
    for name, version in there.items():
        if name in have or name == 'python': continue
        info = where/f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        for file, text in (('METADATA', FAKE.format(name, version)), ('INSTALLER', 'pip\n'), ('RECORD', '')):
            (info/file).write_text(text)
    odd = {n: v for n, v in listed(py).items() if not OTHER.match(n) and there.get(n, v) != v.partition('+')[0]}
    if odd: print(f'not at the version of Colab: {odd}')
    (env/'made').touch()

def surroundings(env, d):
    "The variables of a Colab whose GitHub is this repository, as far as it is committed."
    cfg, bare, bin_ = openings.settings(ROOT), d/'clone.git', d/'bin'
    subprocess.run(['git', 'clone', '-q', '--bare', ROOT, bare], check=True)
    head = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    subprocess.run(['git', 'update-ref', f"refs/heads/{cfg['branch']}", head.strip()], cwd=bare, check=True)
    bin_.mkdir()
    curl = bin_/'curl'  # the only file that is asked for
    curl.write_text(f"#!/bin/sh\nexec git -C '{bare}' show {cfg['branch']}:constraints.txt\n")
    curl.chmod(0o755)
    own = {k: v for k, v in os.environ.items() if not k.startswith(('S9LIB_', 'PYTHON')) and k != 'MPLBACKEND'}
    return {**own, 'PATH': f"{bin_}{os.pathsep}{env/'bin'}{os.pathsep}{os.environ['PATH']}", 'S9LIB_DATA': 'shapes',
            'XDG_CACHE_HOME': str(d/'cache'), 'IPYTHONDIR': str(d/'ipython'), 'GIT_CONFIG_COUNT': '1',
            'GIT_CONFIG_KEY_0': f'url.{bare}.insteadOf', 'GIT_CONFIG_VALUE_0': cfg['git_url']}

def install_cell(env, d, vars_):
    "Run the install cell; yield what is wrong: said, changed, or not installed."
    page = ROOT/'nbs/20_cifar10.ipynb'
    cell = next(s for s in check.cells(page) if '-e /content ]' in s)
    cell = cell.replace('-e /content', f"-e '{d}/content'")
    py, before = env/'bin/python', listed(env/'bin/python')
    subprocess.run([py, '-m', 'pip', 'uninstall', '-q', '-y', 's9lib'], check=True, capture_output=True)
    before.pop('s9lib', None)
    (d/'cell.ipy').write_text('\n'.join(s for s in cell.splitlines() if not s.startswith('#')) + '\n')
    r = subprocess.run([py, '-m', 'IPython', '--no-banner', d/'cell.ipy'], cwd=d/'content', env=vars_, text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    after = listed(py)
    said = re.sub(r'\x1b\][^\a]*\a|\x1b\[[0-9;]*[A-Za-z]', '', r.stdout).strip()
    if 's9lib is not installed' in said: yield f'the cell says: {said}'
    elif said: print(said)
    yield from (f'{n} was {v} and is {after.get(n, "gone")}' for n, v in before.items() if after.get(n) != v)
    if 's9lib' not in after: yield 'the library is not installed'
    print('added:', ', '.join(f'{n} {v}' for n, v in after.items() if n not in before))

RUN = """import re, sys
from pathlib import Path
import nbformat
sys.path.append(sys.argv[1])
from run_notebook import execute
nb = nbformat.read(sys.argv[2], 4)
skip = re.compile(r'^#\\s*\\|\\s*(slow|cuda)|-e /content \\]', re.M)
nb.cells = [c for c in nb.cells if c.cell_type == 'code' and not skip.search(c.source)]
status, why, _ = execute(nb, Path.cwd())
print(f'\\n{why or len(nb.cells)}')
sys.exit(status)
"""

def run_page(path, env, d, vars_):
    "Run a page from top to bottom, alone in an empty folder as on Colab."
    with tempfile.TemporaryDirectory(dir=d/'content') as alone:
        r = subprocess.run([env/'bin/python', '-c', RUN, Path(__file__).parent, path.resolve()], cwd=alone, text=True,
                           env=vars_, capture_output=True, encoding='utf-8')
    last = check.last_lines(r.stdout, 1)
    if r.returncode: yield last or check.last_lines(r.stderr)
    else: print(f'{last} cells of {path.stem} ran')

def main():
    there = colab()
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('env', type=Path, help='folder of the environment')
    ap.add_argument('pages', nargs='*', type=Path, help='notebooks to run there')
    ap.add_argument('--python', default=f"python{there['python'].rpartition('.')[0]}", help='default: %(default)s')
    args = ap.parse_args()
    env = args.env.resolve()
    if not (env/'made').exists(): make(env, args.python, there)
    with tempfile.TemporaryDirectory() as tmp:
        d = Path(tmp).resolve()
        (d/'content').mkdir()
        vars_ = surroundings(env, d)
        jobs = [("the install cell keeps Colab's versions", install_cell)]
        jobs += [(f'page {p.stem}', partial(run_page, p)) for p in args.pages]
        good = []
        for name, job in jobs:
            good.append(check.report(name, check.run(lambda _: job(env, d, vars_), 0)))
            if not good[0]: break
    print(f'{sum(good)} passed, {len(good) - sum(good)} failed')
    sys.exit(not all(good))

if __name__ == '__main__': main()

"""All tests: the checks, a planted fault for each, every page, and the final notebook from end to end. This is `make test`.

Nothing outside the repository takes part: no data but what the library draws, an empty cache, none of the user's S9LIB_ settings but the device.
"""
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import check
import test_checks
import test_hooks
import test_run_notebook

ROOT = Path(__file__).resolve().parents[1]
FINAL = ROOT/'nbs'/check.FINAL
LIMIT = 600  # seconds for one page or run
# Every page begins as a copy of a process that has imported these, which saves each the seconds they take; Windows, which cannot, imports them anew.
START = multiprocessing.get_context('forkserver' if 'forkserver' in multiprocessing.get_all_start_methods() else 'spawn')
START.set_forkserver_preload(['torch', 'torchvision', 'albumentations', 'cv2', 'matplotlib.pyplot', 'nbdev.test'])


def clean_env(cache):
    "Settings of the user's that could change a result are left out; caches go to `cache`."
    env = {k: v for k, v in os.environ.items() if not k.startswith('S9LIB_') or k == 'S9LIB_DEVICE'}
    return {**env, 'XDG_CACHE_HOME': cache, 'XDG_CONFIG_HOME': cache, 'IPYTHONDIR': cache, 'MPLCONFIGDIR': cache, 'NO_ALBUMENTATIONS_UPDATE': '1'}


def plain(text):
    "`text` without the terminal's colours."
    return re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', text)


def call(cmd, env):
    "Run `cmd` in the repository; (status, stdout, stderr), status 124 after LIMIT seconds."
    try: r = subprocess.run([sys.executable, *cmd], cwd=ROOT, env=env, capture_output=True, text=True, encoding='utf-8', errors='replace', timeout=LIMIT)
    except subprocess.TimeoutExpired: return 124, '', f'took more than {LIMIT} s'
    return r.returncode, r.stdout, plain(r.stderr)


def timed(name, f, *args):
    start = time.time()
    return name, f(*args), time.time() - start


def nbdev_page(path, log):
    "nbdev_test of one page in this process, its stderr in the file `log`."
    for fd, name in ((1, os.devnull), (2, log)): os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), fd)
    os.chdir(ROOT)
    multiprocessing.set_start_method(None, force=True)  # the system's own, not that of `START`
    from nbdev.test import nbdev_test
    nbdev_test.__wrapped__(path=path)


def page(path):
    "nbdev_test of one page in a process of its own."
    with tempfile.TemporaryDirectory() as d:
        log = Path(d)/'stderr'
        p = START.Process(target=nbdev_page, args=(str(path), str(log)))
        p.start()
        p.join(LIMIT)
        if p.is_alive():
            p.kill()
            return [f'took more than {LIMIT} s']
        if not p.exitcode: return []
        err = plain(log.read_text(encoding='utf-8', errors='replace')) if log.exists() else ''
        return [f'status {p.exitcode}\n    ' + '\n    '.join(err.split('\nnbdev Tests Failed')[0].strip().splitlines()[-20:])]


def run_final(env):
    "The final notebook on the data the library draws leaves every file it promises."
    with tempfile.TemporaryDirectory() as d:
        out = Path(d)/'run'
        status, _, err = call(['tools/run_notebook.py', str(FINAL)], {**env, 'S9LIB_DATA': 'shapes', 'S9LIB_OUT': str(out)})
        if status: return [f'status {status}: {check.last_lines(err)}']
        size = {p.relative_to(out).as_posix(): p.stat().st_size for p in out.rglob('*') if p.is_file()}
        wanted = {FINAL.name: 1, f'{FINAL.stem}.html': 1, 'history.csv': 1, 'metrics.json': 1, '*.png': 3, '*.pt': 1}
        found = [f'{sum(Path(f).match(p) and size[f] > 0 for f in size)} x {p}, expected at least {n}; there are {sorted(size)}'
                 for p, n in wanted.items() if sum(Path(f).match(p) and size[f] > 0 for f in size) < n]
        if 'metrics.json' in size and not json.loads((out/'metrics.json').read_text()): found.append('metrics.json is empty')
        if 'history.csv' in size and len((out/'history.csv').read_text().splitlines()) < 2: found.append('history.csv has no row')
        return found


def refuses(env, setting):
    "A wrong setting ends in one line that names it, status 1, within seconds."
    (key, value), = setting.items()
    with tempfile.TemporaryDirectory() as d:
        status, _, err = call(['tools/run_notebook.py', str(FINAL)], {**env, 'S9LIB_DATA': 'shapes', 'S9LIB_OUT': d, **setting})
    line = next((x for x in err.splitlines() if re.match(r'\w+(Error|Exception): ', x)), '')
    return [] if status == 1 and value in line and 'Traceback' not in err else [f'{key}={value}: status {status}, {check.last_lines(err)!r}']


def runs(env):
    "Every notebook, each on one core and as many at once as there are cores; the longest first, so that none is left to run alone."
    env = {**env, 'OMP_NUM_THREADS': '1'}
    os.environ['OMP_NUM_THREADS'] = '1'  # for the pages
    with ThreadPoolExecutor(os.cpu_count()) as ex:
        todo = [ex.submit(timed, 'final notebook on shapes', run_final, env)]
        todo += [ex.submit(timed, f'page {p.stem}', page, p) for p in sorted(check.pages(ROOT), key=lambda p: -p.stat().st_size) if p != FINAL]
        todo += [ex.submit(timed, f'final notebook refuses {s}', refuses, env, s) for s in (dict(S9LIB_DATA='no/such/folder'), dict(S9LIB_RECIPE='no-such-recipe'))]
        for r in as_completed(todo): yield r.result()


def results():
    "Yield (name, findings, seconds) for everything."
    with tempfile.TemporaryDirectory() as cache:
        env = clean_env(cache)
        os.environ.clear()
        os.environ.update(env)
        with ThreadPoolExecutor(os.cpu_count()) as ex:
            yield from ex.map(lambda c: timed(f'check {c.__name__}', check.run, c, ROOT), check.CHECKS)
        yield from test_checks.results(ROOT)
        yield from test_run_notebook.results()
        yield from test_hooks.results()
        yield from runs(env)


def main():
    start, passed = time.time(), []
    for r in results(): passed.append(check.report(*r))
    for w in check.looks(ROOT): print(f'look {w}')
    print(f'{time.time() - start:.0f} s')
    print(f'{sum(passed)} passed, {len(passed) - sum(passed)} failed')
    sys.exit(not all(passed))


if __name__ == '__main__': main()

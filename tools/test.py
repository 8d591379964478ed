"""`make test`: the checks, faults planted for some of them, every page, and the final notebooks from end to end.

Nothing outside the repository takes part: no data but what the library draws, an empty cache, none of the user's
S9LIB_ settings but the device.
"""
import multiprocessing, os, re, signal, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import check, test_tools

ROOT = Path(__file__).resolve().parents[1]
FINAL = check.finals(ROOT)
LIMIT = 600  # seconds for one page or run
# What the final notebook leaves in its run folder: pattern and the least number of files.
FILES = {'history.csv': 1, 'metrics.json': 1, '*.png': 3, '*.safetensors': 1, 'checkpoints/*.pt': 1}
WANTED = {'20_cifar10.ipynb': {'20_cifar10.html': 1, **FILES},
          '21_photos.ipynb': {'21_photos.html': 1, 'report.html': 1, **FILES, '*.png': 4}}
# A page begins as a copy of a process that has imported these, seconds saved for each; on Windows it imports them anew.
START = multiprocessing.get_context('forkserver' if os.name != 'nt' else 'spawn')
START.set_forkserver_preload(['torch', 'torchvision', 'albumentations', 'cv2', 'matplotlib.pyplot', 'nbdev.test'])

def isolate(cache):
    "Settings of the user's that could change a result go; caches go to `cache`; one core for each process."
    for k in [k for k in os.environ if k.startswith('S9LIB_') and k != 'S9LIB_DEVICE']: del os.environ[k]
    os.environ.update(dict.fromkeys(['XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'IPYTHONDIR', 'MPLCONFIGDIR'], cache),
                      NO_ALBUMENTATIONS_UPDATE='1', OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))

def plain(text): return re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', text)  # without a terminal's colours

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
        log = Path(d, 'stderr')
        p = START.Process(target=nbdev_page, args=(str(path), str(log)))
        p.start()
        p.join(LIMIT)
        if p.is_alive(): p.kill()
        elif not p.exitcode: return []
        err = plain(log.read_text(encoding='utf-8', errors='replace')) if log.exists() else ''
        said = err.split('\nnbdev Tests Failed')[0].strip().splitlines()[-20:]
        return ['\n    '.join([f'status {p.exitcode}' if p.exitcode else f'took more than {LIMIT} s', *said])]

def final(path, refuse='', **setting):
    "Run a final notebook on drawn shapes: it leaves what it promises, or ends with status 1 and a line with `refuse`."
    with tempfile.TemporaryDirectory() as d:
        env = {**os.environ, 'S9LIB_DATA': 'shapes', 'S9LIB_OUT': d, **setting}
        cmd = [sys.executable, 'tools/run_notebook.py', str(path)]
        r = subprocess.run(cmd, cwd=ROOT, env=env, capture_output=True, text=True, encoding='utf-8', timeout=LIMIT)
        if refuse:
            line = next((x for x in plain(r.stderr).splitlines() if re.match(r'\w+(Error|Exception): ', x)), '')
            if r.returncode == 1 and refuse in line and 'Traceback' not in r.stderr: return []
        elif not r.returncode:
            files = [p for p in Path(d).rglob('*') if p.is_file() and p.stat().st_size]
            wanted = {path.name: 1, **WANTED.get(path.name, {})}
            return [f'{n} x {p} expected in {sorted(f.name for f in files)}' for p, n in wanted.items()
                    if sum(f.match(p) for f in files) < n]
        return [f'status {r.returncode}: {check.last_lines(plain(r.stderr))}']

def script(path):
    "A script of tests ends well."
    r = check.python(ROOT, path)
    return [] if not r.returncode else [f'status {r.returncode}: {check.last_lines(plain(r.stderr))}']

def jobs():
    "Everything: (name, function, arguments); the longest first, so that none is left to run alone."
    quick = partial(final, S9LIB_RECIPE='smoke')  # the recipe of the shapes learns on page 13_recipes
    yield from ((f'final notebook {p.stem} on shapes', quick, p) for p in FINAL)
    rest = [p for p in check.pages(ROOT) if p not in FINAL]
    yield from ((f'page {p.stem}', page, p) for p in sorted(rest, key=lambda p: -p.stat().st_size))
    for key, value in (('S9LIB_DATA', 'no/such/folder'), ('S9LIB_RECIPE', 'no-such-recipe')):
        yield f'20_cifar10 refuses {key}={value}', lambda p, k, v: final(p, refuse=v, **{k: v}), FINAL[0], key, value
    yield from ((f'check {c.__name__}', c, ROOT) for c in check.CHECKS)
    yield 'rows of the benchmarks', script, ROOT/'benchmarks/test_rows.py'
    yield from ((name, f, *args) for name, f, *args in test_tools.jobs(ROOT))

def timed(name, f, *args):
    start = time.time()
    return name, check.run(lambda _: f(*args), None), time.time() - start

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background jobs inherit that it is ignored
    start = time.time()
    with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(os.cpu_count()) as ex:
        isolate(cache)
        passed = [check.report(*f.result()) for f in as_completed([ex.submit(timed, *j) for j in jobs()])]
    print(f'{time.time() - start:.0f} s\n{sum(passed)} passed, {len(passed) - sum(passed)} failed')
    sys.exit(not all(passed))

if __name__ == '__main__': main()

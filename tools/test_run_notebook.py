"""See that run_notebook.py ends as it says: with the files, with one line and status 1, or with the state saved after a signal.

    python tools/test_run_notebook.py
"""
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import check
from test_checks import write

RUN = str(Path(__file__).resolve().with_name('run_notebook.py'))
PAGES = {
    'good': ['# Good', 'import os, sys\nprint(os.getcwd())\nprint("\\r 50%", file=sys.stderr)\nprint("careful", file=sys.stderr)', 'out = "runs/seed3"', '6 * 7'],
    'bad': ['# Bad', 'print("begun")', 'raise ValueError("it came:\\nfix it")'],
    'dead': ['# Dead', 'import os; os._exit(1)'],
    'saves': ['# Saves', 'print("begun", flush=True)\nimport time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: open("saved", "w").close()', 'open("went on", "w").close()'],
}


def start(name, folder, *args, **env):
    "Make one of the pages in `folder` and begin to run it."
    if not (folder/f'{name}.ipynb').exists(): write(folder/f'{name}.ipynb', PAGES[name])
    env = {**{k: v for k, v in os.environ.items() if not k.startswith('S9LIB_')}, **env}
    return subprocess.Popen([sys.executable, RUN, *args, f'{name}.ipynb'], cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def differs(**pairs):
    "Findings: the pairs (got, expected) that are not equal."
    return [f'{k.replace("_", " ")}: {got!r}, expected {want!r}' for k, (got, want) in pairs.items() if got != want]


def files(folder): return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


def good(d):
    "run_notebook: the run folder, the text and the stored outputs of a run"
    p = start('good', d)
    out, err = p.communicate()
    stored = (d/'runs/seed3/good.ipynb').read_text() if p.returncode == 0 else ''
    return differs(status=(p.returncode, 0), text=(f'{d}\n42\n' in out, True), warning_shown=('careful' in err, True), bar_hidden=('50%' in err, False),
                   bar_stored=(stored.count('50%'), 1), html=((d/'runs/seed3/good.html').exists(), True), list=('good.html' in out, True))


def bad(d):
    "run_notebook: an error is one line, status 1, and leaves the good run's files"
    (d/'run').mkdir()
    (d/'run/bad.ipynb').write_text('good')
    p = start('bad', d, S9LIB_OUT='run')
    out, err = p.communicate()
    return differs(status=(p.returncode, 1), line=(err.splitlines()[:1], ['ValueError: it came: fix it']), lines=(len(err.splitlines()), 2),
                   good_file=((d/'run/bad.ipynb').read_text(), 'good'), files=(files(d/'run'), ['bad.ipynb', 'bad.partial.ipynb']))


def dead(d):
    "run_notebook: a Python that dies is said to have died"
    p = start('dead', d)
    err = p.communicate()[1]
    return differs(status=(p.returncode, 1), line=(err.split(':')[0], 'DeadKernelError'))


def inplace(d):
    "run_notebook: --inplace stores a page that runs, cleaned, and leaves one that fails as it was"
    p, q = start('good', d, '--inplace'), start('bad', d, '--inplace')
    p.communicate(), q.communicate()
    text = (d/'good.ipynb').read_text()
    before = (d/'bad.ipynb').read_bytes()
    write(d/'bad.ipynb', PAGES['bad'])
    return differs(status=((p.returncode, q.returncode), (0, 1)), stored=('"42"' in text, True), counts=('"execution_count": 1' in text, False),
                   bar=(text.count('50%'), 1), left=(before, (d/'bad.ipynb').read_bytes()), files=(files(d), ['bad.ipynb', 'good.ipynb']))


def interrupted(signum):
    def f(d):
        p = start('saves', d)
        for line in p.stdout:
            if line == 'begun\n': break
        time.sleep(.3)
        p.send_signal(signum)
        p.communicate(timeout=30)
        return differs(status=(p.returncode, 128 + signum), saved=((d/'saved').exists(), True), went_on=((d/'went on').exists(), False))
    f.__doc__ = f'run_notebook: {signum.name} lets the cell save and ends with {128 + signum}'
    return f


TESTS = [good, bad, dead, inplace] + ([] if os.name == 'nt' else [interrupted(signal.SIGINT), interrupted(signal.SIGTERM)])


def results():
    "Yield (name, findings, seconds)."
    def one(t):
        started = time.time()
        with tempfile.TemporaryDirectory() as d: return t.__doc__, check.run(t, Path(d).resolve()), time.time() - started
    with ThreadPoolExecutor(os.cpu_count()) as ex: yield from ex.map(one, TESTS)


def main():
    passed = [check.report(*r) for r in results()]
    print(f'{sum(passed)} passed, {len(passed) - sum(passed)} failed')
    sys.exit(not all(passed))


if __name__ == '__main__': main()

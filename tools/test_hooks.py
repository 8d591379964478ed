"""Commit in a small house with the hook installed: what is in step goes in, what is not is refused.

    python tools/test_hooks.py
"""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import check
import test_checks

ROOT = Path(__file__).resolve().parents[1]


def git(house, *args):
    "Run git as nobody in particular; return (status, what it said)."
    env = {k: v for k, v in os.environ.items() if not k.startswith('GIT_')}
    who = ['-c', 'user.name=x', '-c', 'user.email=x@example.org', '-c', 'commit.gpgsign=false', '-c', 'init.defaultBranch=main', '-c', 'core.autocrlf=false']
    r = subprocess.run(['git', *who, *args], cwd=house, env=env, capture_output=True, text=True, encoding='utf-8')
    return r.returncode, r.stdout + r.stderr


def commit(house, *fault):
    "Make a change, stage all of it, commit; return (status, what was said)."
    for f in fault: f(house)
    git(house, 'add', '-A')
    return git(house, 'commit', '-m', 'change')


def cases(house):
    "Yield (name, findings)."
    (house/'.gitignore').write_text('.venv/\n__pycache__/\n')
    (house/'.venv/bin').mkdir(parents=True)
    (house/'.venv/bin/python').write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (house/'.venv/bin/python').chmod(0o755)
    git(house, 'init')
    said = check.python(house, 'tools/hooks.py', '--install').stdout
    yield 'the hook is installed', [] if 'pre-commit' in said else [said]
    status, said = commit(house)
    yield 'what is in step is committed', [said] if status else []
    status, said = commit(house, test_checks.edit('nbs/00_core.ipynb', 'os.sep', 'os.linesep'))
    yield 'a page that was not exported is refused', [] if status and 's9lib/core.py: make export changes it' in said else [said]
    git(house, 'checkout', '-f', 'HEAD', '.')
    status, said = commit(house, test_checks.edit('nbs/00_core.ipynb', '"execution_count": null', '"execution_count": 7'))
    yield 'a notebook that is not clean is refused', [] if status and 'it is cleaned now' in said else [said]
    yield 'and cleaned', check.clean_in_step(house)
    check.python(house, '-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()')
    test_checks.edit('nbs/00_core.ipynb', 'os.sep', 'os.linesep')(house)
    git(house, 'add', '-A')
    check.python(house, '-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()')
    status, said = git(house, 'commit', '-m', 'change')
    yield 'a module exported after git add is refused', [] if status and 's9lib/core.py' in said else [said]
    git(house, 'add', '-A')
    status, said = git(house, 'commit', '-m', 'change')
    yield 'exported and added, it is committed', [said] if status else []
    hook = house/'.git/hooks/pre-commit'
    hook.write_text('#!/bin/sh\n')
    said = check.python(house, 'tools/hooks.py', '--install').stdout
    yield "another's hook is left alone", [] if hook.read_text() == '#!/bin/sh\n' and 'not ours' in said else [said]


def results():
    "Yield (name, findings, seconds)."
    if os.name == 'nt': return
    with tempfile.TemporaryDirectory() as d:
        house, start = Path(d).resolve()/'house', time.time()
        test_checks.build(ROOT, house)
        for name, found in cases(house):
            yield f'hook: {name}', found, time.time() - start
            start = time.time()


def main():
    passed = [check.report(*r) for r in results()]
    print(f'{sum(passed)} passed, {len(passed) - sum(passed)} failed')
    sys.exit(not all(passed))


if __name__ == '__main__': main()

"""Before a commit: what goes in must be exported and clean. `make hooks` installs it; git then runs it by itself.

    python tools/hooks.py             # look at what is staged; clean the notebooks that need it and refuse the commit
    python tools/hooks.py --install   # write .git/hooks/pre-commit; somebody else's hook is left alone

What is looked at is the index, not the folder: a module exported after `git add` is as stale as one never exported.
`git commit --no-verify` goes past it once.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import check

MARK = '# s9lib: tools/hooks.py --install wrote this'
HOOK = f"""#!/bin/sh
{MARK}
for py in .venv/bin/python .venv/Scripts/python.exe; do
    [ -x "$py" ] && exec "$py" tools/hooks.py
done
echo 'pre-commit: there is no .venv (make env), so nothing was checked' >&2
"""
CHECKS = [check.conflict_markers, check.stale_modules, check.export_in_step, check.clean_in_step, check.widget_state, check.readme]


def git(root, *args):
    "Run git in `root`, without the variables that a hook inherits."
    env = {k: v for k, v in os.environ.items() if not (k.startswith('GIT_') and k != 'GIT_INDEX_FILE')}
    return subprocess.run(['git', *args], cwd=root, env=env, capture_output=True, text=True, encoding='utf-8', check=True).stdout


def install(root):
    "Write the hook; return a sentence about it."
    path = root/git(root, 'rev-parse', '--git-path', 'hooks').strip()/'pre-commit'
    if path.exists() and MARK not in path.read_text(encoding='utf-8', errors='replace'): return f'{path} is not ours and is left as it is: let it call python tools/hooks.py'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HOOK, encoding='utf-8', newline='\n')
    path.chmod(0o755)
    return f'{path}: notebooks are cleaned, and stale exports refused, before each commit'


def staged(root):
    "Check what is staged; return the findings. Notebooks of the folder that are not clean are cleaned."
    with tempfile.TemporaryDirectory() as d:
        copy = Path(d).resolve()/'copy'
        git(root, 'checkout-index', '--all', f'--prefix={copy.as_posix()}/')
        found = [(c, f) for c in CHECKS for f in check.run(c, copy)]
    for page in {f.split(':')[0] for c, f in found if c is check.clean_in_step}:
        check.python(root, '-c', 'import sys; from nbdev.clean import nbdev_clean; nbdev_clean.__wrapped__(fname=sys.argv[1])', page)
    return [f'{f}' + ('; it is cleaned now' if c is check.clean_in_step else '') for c, f in found]


def main():
    root = Path(__file__).resolve().parents[1]
    if '--install' in sys.argv: return print(install(root))
    found = staged(root)
    for f in found: print(f'pre-commit: {f}', file=sys.stderr)
    if found: sys.exit('pre-commit: nothing was committed; mend this, git add, and commit again')


if __name__ == '__main__': main()

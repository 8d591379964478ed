"""What nbdev does not check. Each check is a function of the repository's folder that returns a list of findings.

    python tools/check.py                  # all of them
    python tools/check.py pyflakes readme  # some

Nothing here writes into the repository: what has to run nbdev does so in a copy.
"""
import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import addresses
import openings as openings_
import readme as readme_

FINAL, RESULTS = '20_cifar10.ipynb', '30_results.ipynb'
MAY_IMPORT = {'os', 'pathlib', 's9lib'}                      # what the final notebook may import
SKIP = {'.git', '.venv', 'runs', '_docs', '_proc', 'build', 'dist', '__pycache__', '.ipynb_checkpoints'}
TEXT = {'.ipynb', '.py', '.md', '.ini', '.txt', '.yml', '.sh', '.css', ''}
MAX_KB, MAX_CELL, MIN_MODULE, MAX_MODULE = 300, 25, 50, 250  # of a notebook, an export cell, a module


# Reading the tree

def tree(root):
    "Every file of the repository that people write."
    for p in sorted(root.iterdir()):
        if p.name in SKIP or p.name.endswith('.egg-info'): continue
        if p.is_dir(): yield from tree(p)
        else: yield p


def pages(root):
    "The notebooks nbdev sees, in the order of their numbers."
    return sorted((root/'nbs').glob('[!_.]*.ipynb'))


def cells(page, kind='code'):
    "Sources of a page's cells of one kind."
    return [''.join(c['source']) for c in json.loads(page.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == kind]


def module_of(page):
    "Name of the module a page writes, or None."
    return next((m[1] for c in cells(page) if (m := re.search(r'^#\s*\|\s*default_exp\s+(\S+)', c, re.M))), None)


def modules(root):
    "Module name -> file, for the modules nbdev wrote, in the order of their pages."
    names = [m for p in pages(root) if (m := module_of(p))]
    return {m: f for m in names if (f := root/addresses.settings(root)['lib_path']/f"{m.replace('.', '/')}.py").is_file()}


def python(root, *args, env=None):
    "Run this Python with `root` as its folder, so that `root`'s own library is the one imported."
    env = {**os.environ, 'NO_ALBUMENTATIONS_UPDATE': '1', 'PYTHONDONTWRITEBYTECODE': '1', **(env or {})}
    return subprocess.run([sys.executable, *args], cwd=root, env=env, capture_output=True, text=True, encoding='utf-8')


@contextlib.contextmanager
def scratch(root):
    "A copy of the tree to run nbdev in."
    with tempfile.TemporaryDirectory() as d:
        copy = Path(d).resolve()/'copy'
        for p in tree(root):
            to = copy/p.relative_to(root)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(p, to)
        yield copy


def changed_by(root, code):
    "Run nbdev `code` in a copy; name the files it makes, changes or removes."
    with scratch(root) as copy:
        before = {p.relative_to(copy).as_posix(): p.read_bytes() for p in tree(copy)}
        r = python(copy, '-c', code, env={'XDG_CONFIG_HOME': str(copy)})
        after = {p.relative_to(copy).as_posix(): p.read_bytes() for p in tree(copy)}
    if r.returncode: return [last_lines(r.stderr)]
    return sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))


def last_lines(text, n=3):
    return ' | '.join(text.strip().splitlines()[-n:])


# The checks

def conflict_markers(root):
    "No file holds what an unresolved merge leaves; nbdev exports and tests such notebooks without a word."
    return [f'{p.relative_to(root)}: conflict marker' for p in tree(root)
            if p.suffix in TEXT and re.search(r'(?:^|"|\\n)(?:<{7}|>{7})(?: |$)', p.read_text(encoding='utf-8', errors='replace'), re.M)]


def stale_modules(root):
    "Every module has its page and every page its module; nbdev leaves the old module behind when a page is renamed."
    lib = root/addresses.settings(root)['lib_path']
    live = {f"{m.replace('.', '/')}.py" for p in pages(root) if (m := module_of(p))}
    have = {p.relative_to(lib).as_posix() for p in lib.rglob('*.py') if not p.name.startswith('_')}
    return [f'{m}: no page writes this module' for m in sorted(have - live)] + \
           [f'{m}: its page was never exported' for m in sorted(live - have)]


def export_in_step(root):
    "Exporting changes nothing: the modules are what the pages say, and nobody edited them by hand."
    found = changed_by(root, 'from nbdev.doclinks import nbdev_export; nbdev_export()')
    return [f'{p}: make export changes it' for p in found]


def clean_in_step(root):
    "Cleaning changes nothing."
    return [f'{p}: make clean-notebooks changes it' for p in changed_by(root, 'from nbdev.clean import nbdev_clean; nbdev_clean()')]


def one_way(root):
    "A module imports only from pages with lower numbers."
    lib, found = addresses.settings(root)['lib_name'], []
    order = {m: i for i, m in enumerate(modules(root))}
    for m, f in modules(root).items():
        for n in ast.walk(ast.parse(f.read_text(encoding='utf-8'))):
            if isinstance(n, ast.Import): names = [a.name for a in n.names]
            elif isinstance(n, ast.ImportFrom):
                source = '.'.join([lib] * bool(n.level) + [n.module] * bool(n.module))  # nbdev makes imports of the library relative
                names = [source] if source != lib else [f'{lib}.{a.name}' for a in n.names]
            else: continue
            used = [x.removeprefix(lib + '.') for x in names if x.startswith(lib + '.')]
            found += [f'{f.name}: imports {lib}.{u}, which does not stand above it' for u in used if order.get(u, len(order)) >= order[m]]
    return found


def final_notebook(root):
    "The final notebook imports from the library and defines nothing."
    page, found = root/'nbs'/FINAL, []
    if not page.is_file(): return [f'{FINAL} does not exist']
    for src in cells(page):
        try: t = ast.parse(re.sub(r'^(\s*)[%!].*$', r'\1pass', src, flags=re.M))
        except SyntaxError as e: found.append(f'{FINAL}: {e.msg}: {e.text}'); continue
        for n in ast.walk(t):
            if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)): found.append(f'{FINAL}: defines {n.name}')
            elif isinstance(n, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and any(isinstance(o, ast.Lambda) for o in ast.walk(n)):
                found.append(f'{FINAL}: assigns a lambda: {ast.unparse(n)[:60]}')
            elif isinstance(n, (ast.Import, ast.ImportFrom)):
                names = [a.name for a in n.names] if isinstance(n, ast.Import) else [n.module or '.']
                found += [f'{FINAL}: imports {x}' for x in names if x.split('.')[0] not in MAY_IMPORT]
    return found


def pyflakes(root):
    "No undefined or unused name: finds what works in a page and is broken in its module."
    dirs = [d for d in (addresses.settings(root)['lib_path'], 'tools', 'benchmarks') if (root/d).is_dir()]
    lines = python(root, '-m', 'pyflakes', *dirs).stdout.splitlines()
    reexport = re.compile(r"[\\/]all\.py:.*(?:import \*|imported but unused)")  # re-exporting is what `all` is for
    return [line for line in lines if not reexport.search(line)]


IMPORTS = """import contextlib, importlib, io, json, sys
lib, found = sys.argv[1], {}
for m in sys.argv[2:]:
    for k in [k for k in sys.modules if k.partition('.')[0] == lib]: del sys.modules[k]
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        try: importlib.import_module(f'{lib}.{m}')
        except Exception as e: found[m] = f'{type(e).__name__}: {e}'
    said = '\\n'.join(line for line in said.getvalue().splitlines() if 'building the font cache' not in line).strip()
    if said and m not in found: found[m] = f'prints at import: {said}'
print(json.dumps(found))
"""


def imports(root):
    "Every module imports when no other of the library is loaded, and says nothing. (One interpreter for all: torch takes seconds.)"
    r = python(root, '-W', 'ignore', '-c', IMPORTS, addresses.settings(root)['lib_name'], *modules(root))
    if r.returncode: return [last_lines(r.stderr)]
    return [f'{m}: {text}' for m, text in json.loads(r.stdout.splitlines()[-1]).items()]


def readme(root):
    "README.md is what index.ipynb makes."
    if not (root/'nbs/index.ipynb').is_file(): return ['nbs/index.ipynb does not exist']
    return [f'{p}: make readme changes it' for p in readme_.stale(root)]


def texts(root):
    "Yield (file, markdown) of everything that people read: README, CONTRIBUTING, CHANGELOG, the pages; without what is code."
    for p in [root/'README.md', root/'CONTRIBUTING.md', root/'CHANGELOG.md', *pages(root)]:
        for text in cells(p, 'markdown') if p.suffix == '.ipynb' else [p.read_text(encoding='utf-8')] if p.is_file() else []:
            yield p, re.sub(r'```.*?```|`[^`\n]*`', '', text, flags=re.S)


def sections(p):
    "The anchors of a page's or file's headings, as GitHub makes them."
    text = '\n'.join(cells(p, 'markdown')) if p.suffix == '.ipynb' else p.read_text(encoding='utf-8')
    return {re.sub(r'[^\w\- ]', '', h.strip().lower()).replace(' ', '-') for h in re.findall(r'^#+ (.*)', text, re.M)}


def links(root):
    "What README.md and the pages link to within the repository is there, file and section."
    found = []
    for p, text in texts(root):
        for m in readme_.LINK.finditer(text):
            path, _, section = m[2].partition('#')
            if not (p.parent/path).exists(): found.append(f'{p.relative_to(root)}: {m[2]} does not exist')
            elif section and section not in sections(p.parent/path): found.append(f'{p.relative_to(root)}: {path} has no section #{section}')
        found += [f'{p.relative_to(root)}: there is no section #{a}' for a in re.findall(r'\]\(#([^)]+)\)', text) if a not in sections(p)]
    return found


SHAPES = [(r'arxiv\.org', r'/(abs|pdf)/((0[7-9]|1[0-4])\d\d\.\d{4}|(1[5-9]|[2-9]\d)\d\d\.\d{5})(v\d+)?'), (r'doi\.org', r'/10\.\d{4,}/\S+')]  # of addresses that a slip of the finger breaks


def external_links(root):
    "Addresses outside the repository are whole: scheme, host, nothing left over; papers by their number. Nothing is asked over the network."
    found = []
    for p, text in texts(root):
        for url in re.findall(r'\]\(((?!#|\.|/)[^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)|<(https?:[^>]*)>', text):
            url = url[0] or url[1]
            if not re.match(r'\w+:|\w+//', url): continue  # a file of the repository
            m = re.fullmatch(r'https://((?:[\w-]+\.)+[a-z]{2,})(?::\d+)?((?:/[^\s<>"]*)?)', url)
            if not m or url[-1] in '.,;:': found.append(f'{p.relative_to(root)}: {url} is no whole https address')
            elif bad := [want for host, want in SHAPES if re.fullmatch(rf'(www\.)?{host}', m[1]) and not re.fullmatch(want, m[2])]:
                found.append(f'{p.relative_to(root)}: {url} does not look like {bad[0]}')
        found += [f'{p.relative_to(root)}: {m} has a space between text and address' for m in re.findall(r'\[[^\]\n]+\] \(https?:[^)\n]*\)', text)]
    return found


def page_map(root):
    "index.ipynb leads to every other page."
    index = root/'nbs/index.ipynb'
    text = '\n'.join(cells(index, 'markdown'))
    return [f'index.ipynb does not link to {p.name}' for p in pages(root) if p != index and f']({p.name})' not in text]


def version(root):
    "settings.ini and the library agree on the version."
    cfg = addresses.settings(root)
    m = re.search(r'__version__ = "(.*)"', (root/cfg['lib_path']/'__init__.py').read_text(encoding='utf-8'))
    got = m[1] if m else 'no version'
    return [] if got == cfg['version'] else [f"settings.ini says {cfg['version']}, {cfg['lib_path']}/__init__.py {got}: make export"]


def pins(root):
    "Every requirement has a tested version in constraints.txt, and an exact one has that very version."
    def norm(name): return re.sub(r'[-_.]+', '-', name).lower()
    cfg, tested = addresses.settings(root), {}
    for m in re.finditer(r'^([\w.-]+)==([^\s;]+)', (root/'constraints.txt').read_text(encoding='utf-8'), re.M):
        tested.setdefault(norm(m[1]), []).append(m[2])
    found = []
    for req in ' '.join(v for k, v in cfg.items() if k.endswith('requirements')).split():
        name, exact = re.match(r'([\w.-]+)(?:==(\S+))?', req).groups()
        if norm(name) not in tested: found.append(f'constraints.txt: no version for {name}')
        elif exact and tested[norm(name)] != [exact]: found.append(f'constraints.txt has {name} {tested[norm(name)]}, settings.ini {exact}')
    return found


def commands(root):
    "Every console script of settings.ini names a function of a module."
    cfg, found = addresses.settings(root), []
    for name, module, func in re.findall(r'([\w-]+)=([\w.]+):(\w+)', cfg.get('console_scripts', '')):
        f = root/f"{module.replace('.', '/')}.py"
        defined = [n.name for n in ast.parse(f.read_text(encoding='utf-8')).body if isinstance(n, ast.FunctionDef)] if f.is_file() else []
        if func not in defined: found.append(f'settings.ini: the command {name} names {module}:{func}, which does not exist')
    return found


def results_in_step(root):
    "The page of results shows benchmarks/results as it is."
    page, found = root/'nbs'/RESULTS, []
    if not page.is_file(): return [f'{RESULTS} does not exist']
    shown = '\n'.join(''.join(o.get('data', {}).get('text/markdown', '')) for c in json.loads(page.read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', []))
    for p in sorted((root/'benchmarks/results').glob('*.md')):
        rows = [r for r in p.read_text(encoding='utf-8').splitlines() if r.startswith('|')]
        if not rows or any(r not in shown for r in rows): found.append(f'{RESULTS} does not show {p.name} as it is: make notebooks PAGES=nbs/{RESULTS}')
    return found


def addresses_in_step(root):
    "User, repository and branch in links, badges and install cells are those of settings.ini."
    return [f'{path}:{line}: {old}, expected {new}: make addresses' for path, line, old, new in addresses.find(root)]


def cell_ids(root):
    "Every cell has an id of its own; the exported modules name their cells by it."
    found = []
    for p in pages(root):
        ids = [c.get('id') for c in json.loads(p.read_text(encoding='utf-8'))['cells']]
        found += [f'{p.name}: cell {i} has no id' for i, x in enumerate(ids) if not x]
        found += [f'{p.name}: cell id {x} stands twice' for x in sorted({x for x in ids if x and ids.count(x) > 1})]
    return found


def notebook_size(root):
    "No notebook is too big to read in a diff or to open quickly."
    return [f'{p.name}: {kb:.0f} KB, expected at most {MAX_KB}: fewer or smaller figures' for p in pages(root) if (kb := p.stat().st_size/1024) > MAX_KB]


def openings(root):
    "Every page opens with its title alone, and numbered ones with the badge and the install cell for Colab."
    return [f'{p.name}: python tools/openings.py --write changes its first cells' for p, _ in openings_.lacking(root)]


def widget_state(root):
    "No page stores the state of its widgets: it is large, changes with every run, and shows a dead copy."
    return [f'{p.name}: stores the state of widgets: make notebooks PAGES=nbs/{p.name}' for p in pages(root)
            if json.loads(p.read_text(encoding='utf-8'))['metadata'].get('widgets')]


def private_paths(root):
    "Stored outputs name nobody's folders, and no error is stored."
    home, found = re.compile(r'(?<![\w.])(?:/home/|/Users/|/root/|/tmp/ipykernel_|[A-Z]:\\+Users)[^\s\'"<]*|' + re.escape(str(root)) + r'\b'), []
    for p in pages(root):
        for c in json.loads(p.read_text(encoding='utf-8'))['cells']:
            for o in c.get('outputs', []):
                if o['output_type'] == 'error': found.append(f"{p.name}: stores a {o['ename']}")
                data = {k: v for k, v in o.get('data', {}).items() if not k.startswith('image/')}
                found += [f'{p.name}: an output stores {m[0]}' for m in home.finditer(json.dumps([o.get('text'), data], ensure_ascii=False))]
    return found


def docs(root):
    "The documentation's sources are processed without error, as far as Quarto is not needed, and their links lead to pages of the site."
    with scratch(root) as copy:
        (copy/'docs.py').write_text("from nbdev.serve import proc_nbs\nif __name__ == '__main__': proc_nbs(n_workers=0, force=True)\n")
        r = python(copy, 'docs.py', env={'PYTHONPATH': str(copy), 'XDG_CONFIG_HOME': str(copy)})
        missing = {p.name for p in pages(copy)} - {p.name for p in (copy/'_proc').glob('*.ipynb')}
        astray = [] if r.returncode else site_links(copy/'_proc', addresses.settings(root))
    if r.returncode:
        raised = re.findall(r'^(?:\w+\.)*\w*(?:Error|Exception): .*', r.stderr, re.M)  # the cause first, then where
        return [' | '.join(dict.fromkeys(raised)) or last_lines(r.stderr)]
    return [f'{name}: not processed' for name in sorted(missing)] + astray


def site_links(proc, cfg):
    "Links of the processed pages that lead nowhere on the site: to files outside of it, and to pages it does not have."
    made, found = {p.name for p in proc.rglob('*') if p.is_file()}, []
    html = {re.sub(r'^\d+[a-zA-Z]*_', '', n.removesuffix('.ipynb')) + '.html' for n in made if n.endswith('.ipynb')}
    ours = re.compile(rf"\]\((?:{re.escape(cfg['doc_host'] + cfg['doc_baseurl'])}/)([^)#]*)")
    for p in sorted(proc.glob('*.ipynb')):
        nb = json.loads(p.read_text(encoding='utf-8'))
        parts = cells(p, 'raw') + cells(p, 'markdown') + [''.join(o.get('data', {}).get('text/markdown', '')) for c in nb['cells'] for o in c.get('outputs', [])]
        text = re.sub(r'```.*?```|`[^`\n]*`', '', '\n'.join(parts), flags=re.S)
        for path in {m[2].partition('#')[0] for m in readme_.LINK.finditer(text)}:
            if '..' in path or not (proc/path).is_file(): found.append(f'{p.name}: {path} is not on the site; link to the repository by its address')
        found += [f'{p.name}: the site has no {page}' for page in sorted({*ours.findall(text)} - html)]
    return found


CHECKS = [conflict_markers, stale_modules, export_in_step, clean_in_step, one_way, final_notebook, pyflakes, imports, readme, links, external_links,
          page_map, version, pins, commands, results_in_step, addresses_in_step, cell_ids, openings, notebook_size, widget_state, private_paths, docs]


def looks(root):
    "Worth a look, not an error: cells and modules of unusual size, and cells that the docs build will run because an import stands in them."
    for p in pages(root):
        for c in cells(p):
            with contextlib.suppress(SyntaxError):
                kinds = {isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(c).body}
                if kinds == {True, False} and p.name != FINAL and 'nbdev_export(' not in c: yield f'{p.name}: imports are not alone in their cell: {c.splitlines()[0][:60]}'
        n = max([len([x for x in c.splitlines() if not re.match(r'#\s*\|', x)]) for c in cells(p) if re.search(r'^#\s*\|\s*exporti?\b', c, re.M)], default=0)
        if n > MAX_CELL: yield f'{p.name}: an export cell of {n} lines (the house has {MAX_CELL} at most)'
    for m, f in modules(root).items():
        n = len(f.read_text(encoding='utf-8').splitlines())
        if not MIN_MODULE <= n <= MAX_MODULE and m != 'all': yield f'{f.name}: {n} lines (the house has {MIN_MODULE} to {MAX_MODULE})'


def run(check, root):
    "Findings of one check; one that breaks is a finding too."
    try: return check(root)
    except Exception as e: return [f'{type(e).__name__}: {e}']


def report(name, findings, seconds=None):
    "Print one line, or one per finding; return whether it passed."
    took = f' ({seconds:.0f} s)' if seconds and seconds >= 1 else ''
    for f in findings: print(f'FAIL {name}{took}: {f}', flush=True)
    if not findings: print(f'ok   {name}{took}', flush=True)
    return not findings


def main():
    root, names = Path(__file__).resolve().parents[1], sys.argv[1:]
    known = [c.__name__ for c in CHECKS]
    if unknown := set(names) - set(known): sys.exit(f"no check called {', '.join(unknown)}: there are {', '.join(known)}")
    bad = [c for c in CHECKS if (not names or c.__name__ in names) and not report(c.__name__, run(c, root))]
    for w in [] if names else looks(root): print(f'look {w}')
    sys.exit(bool(bad))


if __name__ == '__main__': main()

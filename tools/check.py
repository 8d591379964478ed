"""What nbdev does not check. Each check is a function of the repository's folder that yields findings.

    python tools/check.py                # all of them
    python tools/check.py editor readme  # some

Nothing here writes into the repository: what has to run nbdev does so in a copy.
"""
import ast, contextlib, csv, json, os, re, shutil, statistics, subprocess, sys, tempfile, zipfile
from collections import Counter
from importlib.util import resolve_name
from pathlib import Path

import openings
import readme as readme_
from openings import source, tree

FINAL = openings.FINAL
MAY_IMPORT = {'os', 'pathlib', 's9lib'}             # what the final notebooks may import
# What is right on some devices only -> what is right on all of them
PORTABLE = {'torch.channels_last': 'memory_format', 'non_blocking': 'to_device'}
MAX_KB, WIDTH, PATCHED, SURFACE = 300, 120, 15, 90  # of a notebook, a line, methods with @patch, names of s9lib.all
PACKAGE_KB = 600                                    # of the sdist and of the wheel
BASE = 'base', 'data', 'nets'
WINGS = dict(base=(), data=('base',), nets=('base',), train=BASE, explain=BASE,  # from which folders each may import
             apps=(*BASE, 'train', 'explain'), all=(*BASE, 'train', 'explain', 'apps'))

# Reading the tree

def wing(page):
    "The folder of a page below nbs/; beside it the numbers 00 to 18 are the base, the others stand over everything."
    if page.parent.name != 'nbs': return page.parent.name
    return 'base' if page.name[0].isdigit() and page.name < '19' else 'all'

def pages(root):
    "The notebooks nbdev sees, in reading order."
    found = [p for p in tree(root/'nbs') if p.suffix == '.ipynb' and p.name[0] not in '_.']
    return sorted(found, key=lambda p: ([*WINGS].index(wing(p)) if wing(p) in WINGS else len(WINGS), p))

def read(page): return json.loads(page.read_text(encoding='utf-8'))

def cells(page, kind='code'): return [source(c) for c in read(page)['cells'] if c['cell_type'] == kind]

def modules(root):
    "Module name -> (its page, its syntax tree; an empty one where it was never exported), in reading order."
    found = {}
    for p in pages(root):
        if m := re.search(r'^#\s*\|\s*default_exp\s+(\S+)', '\n'.join(cells(p)), re.M):
            f = root/'s9lib'/f"{m[1].replace('.', '/')}.py"
            found[f's9lib.{m[1]}'] = p, ast.parse(f.read_text(encoding='utf-8') if f.is_file() else '')
    return found

def python(root, *args, **env):
    "Run this Python with `root` as its folder, so that `root`'s own library is the one imported."
    env = dict(os.environ, NO_ALBUMENTATIONS_UPDATE='1', PYTHONDONTWRITEBYTECODE='1', PYTHONPATH=str(root), **env)
    return subprocess.run([sys.executable, *args], cwd=root, env=env, capture_output=True, text=True, encoding='utf-8')

def last_lines(text, n=3): return ' | '.join(text.strip().splitlines()[-n:])

@contextlib.contextmanager
def scratch(root):
    "A copy of the tree."
    with tempfile.TemporaryDirectory() as d:
        copy = Path(d).resolve()/'copy'
        for p in tree(root):
            to = copy/p.relative_to(root)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(p, to)
        yield copy

# The checks: the pages and what is made of them

NBDEV = 'from nbdev.doclinks import nbdev_export; from nbdev.clean import nbdev_clean; nbdev_export(); nbdev_clean()'

def in_step(root):
    "Exporting from nothing, and cleaning, change nothing: no module was edited or is left of a page that is gone."
    def state(): return {p.relative_to(copy).as_posix(): p.read_bytes() for p in tree(copy)}
    with scratch(root) as copy:
        before = state()
        for p in copy.glob('s9lib/**/[!_]*.py'): p.unlink()
        r = python(copy, '-c', NBDEV, XDG_CONFIG_HOME=str(copy))
        after = state()
    if r.returncode: return [last_lines(r.stderr)]
    changed = sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))
    return [f'{p}: make {"clean-notebooks" if p.endswith(".ipynb") else "export"} changes it, or no page writes it'
            for p in changed]

def conflict_markers(root):
    "No file holds what an unresolved merge leaves; nbdev exports and tests such notebooks without a word."
    mark = re.compile(r'(?:^|"|\\n)(?:<{7}|>{7})(?: |$)', re.M)
    return [f'{p.relative_to(root)}: conflict marker' for p in tree(root)
            if p.suffix != '.png' and mark.search(p.read_text(encoding='utf-8', errors='replace'))]

def readme(root):
    "README.md is what index.ipynb makes."
    same = (root/'README.md').read_text(encoding='utf-8') == readme_.render(root)
    return [] if same else ['README.md: make readme changes it']

def addresses(root):
    "Every address follows settings.ini; every page opens with its title alone, badge and install cell."
    return [f'{p.relative_to(root).as_posix()}: make addresses changes it' for p in openings.wanted(root)]

def measured(root):
    """Start of each recipe's row in README -> what benchmarks/results/accuracy.csv says of it.

    A recipe that was trained in two precisions with the same seed has a row for each.
    """
    with open(root/'benchmarks/results/accuracy.csv', encoding='utf-8') as f: rows = list(csv.DictReader(f))
    def spread(runs, k):
        accs = [100*float(r[k]) for r in runs]
        return f'{statistics.mean(accs):.2f}' + (f' ± {statistics.stdev(accs):.2f}' if len(accs) > 1 else '') + ' %'
    seeds = Counter((r['recipe'], r['seed']) for r in rows)
    twice = {recipe for (recipe, _), n in seeds.items() if n > 1}
    groups = {}
    for r in rows:
        mixed = r['recipe'] in twice and r['precision'] != 'float32'
        groups.setdefault(f"`{r['recipe']}`" + ', mixed precision'*mixed, []).append(r)
    for name, runs in groups.items():
        yield name, (runs[0]['epochs'], str(len(runs)), spread(runs, 'test_acc'), spread(runs, 'test_acc_six'),
                     f"{int(runs[0]['flops'])/1e15:.3f} PFLOP")

def results(root):
    "The page of results shows benchmarks/results as it is, and README's table is that of accuracy.csv."
    for name, says in measured(root):
        found = re.findall(rf'^\| {name} \|(.*)\|$', (root/'README.md').read_text(encoding='utf-8'), re.M)
        for cells in ([c.strip() for c in row.split('|')] for row in found):
            if (*cells[1:5], cells[-1]) != says: yield f'README: the row of {name} is not {says}, as in accuracy.csv'
    outs = [o for c in read(root/'nbs/30_results.ipynb')['cells'] for o in c.get('outputs', [])]
    shown = '\n'.join(''.join(o.get('data', {}).get('text/markdown', '')) for o in outs)
    for p in sorted((root/'benchmarks/results').glob('*.md')):
        rows = [r for r in p.read_text(encoding='utf-8').splitlines() if r.startswith('|')]
        if not rows or any(r not in shown for r in rows): yield f'30_results does not show {p.name} as it is'

def stored(root):
    "Notebooks are small, cells have ids, no output names a folder, an error, a widget; 19_all shows its names."
    home = r'(?<![\w.])(?:/home/|/Users/|/root/|/tmp/ipykernel_|[A-Z]:\\+Users)[^\s\'"<]*|' + re.escape(f'{root}/')
    for p in pages(root):
        name, nb, kb = p.relative_to(root/'nbs').as_posix(), read(p), p.stat().st_size/1024
        if kb > MAX_KB: yield f'{name}: {kb:.0f} KB, expected at most {MAX_KB}: fewer or smaller figures'
        if nb['metadata'].get('widgets'): yield f'{name}: stores the state of widgets'
        if len({c.get('id') for c in nb['cells']} - {None}) < len(nb['cells']): yield f'{name}: an id stands twice'
        for o in (o for c in nb['cells'] for o in c.get('outputs', [])):
            if o['output_type'] == 'error': yield f"{name}: stores a {o['ename']}"
            data = {k: v for k, v in o.get('data', {}).items() if not k.startswith('image/')}
            text = json.dumps([o.get('text'), data], ensure_ascii=False)
            yield from (f'{name}: stores {m}' for m in re.findall(home, text))
            if p.name == '19_all.ipynb' and '| module |' in text:
                module = (root/'s9lib/all.py').read_text(encoding='utf-8')
                names = ast.literal_eval(re.search(r'__all__ = (\[.*?\])', module, re.S)[1])
                yield from (f'{name}: its table lacks {n}' for n in names if f'`{n}`' not in text)

# The checks: code

def imported(module, t):
    "Yield (module or package, name) for every import in the tree of `module`; nbdev makes those of ours relative."
    for n in ast.walk(t):
        if isinstance(n, ast.Import): yield from ((a.name, '') for a in n.names)
        elif isinstance(n, ast.ImportFrom):
            here = resolve_name('.' * n.level + (n.module or ''), module.rpartition('.')[0])
            yield from ((here, a.name) for a in n.names)

def one_way(root):
    "A module imports from the folders below its own, and within its folder from pages with lower numbers."
    house = modules(root)
    for m, (page, t) in house.items():
        for package, name in imported(m, t):
            used = f'{package}.{name}' if f'{package}.{name}' in house else package
            if used.split('.')[0] != 's9lib': continue
            if used not in house: yield f'{m}: imports {used}, which no page writes'; continue
            other = house[used][0]
            ok = other.name < page.name if wing(other) == wing(page) else wing(other) in WINGS.get(wing(page), ())
            if not ok: yield f'{m}: imports {used}, which does not stand below it'

def pyflakes(root):
    "No undefined or unused name: finds what works in a page and is broken in its module."
    dirs = [d for d in ('s9lib', 'tools', 'benchmarks') if (root/d).is_dir()]
    return python(root, '-m', 'pyflakes', *dirs).stdout.splitlines()

IMPORTS = """import contextlib, importlib, io, sys
for m in sys.argv[1:]:
    for k in [k for k in sys.modules if k.partition('.')[0] == 's9lib']: del sys.modules[k]
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        try: importlib.import_module(m)
        except Exception as e: print(f'{type(e).__name__}: {e}')
    for line in said.getvalue().splitlines():
        if line.strip() and 'building the font cache' not in line: print(f'{m}: says at import: {line}')
"""

def imports(root):
    "Every module imports when no other of the library is loaded, and says nothing."
    r = python(root, '-W', 'ignore', '-c', IMPORTS, *modules(root))
    return [last_lines(r.stderr)] if r.returncode else r.stdout.splitlines()

def shape(root):
    "How the code is written: classes in one cell, no private name across modules, short lines, a small surface."
    trees = {m: t for m, (_, t) in modules(root).items()}
    decorated = {m: [d for n in ast.walk(t) for d in getattr(n, 'decorator_list', ())] for m, t in trees.items()}
    patched = {m: n for m, ds in decorated.items() if (n := sum(ast.unparse(d).startswith('patch') for d in ds))}
    if (n := sum(patched.values())) > PATCHED: yield f'{n} methods with @patch, expected at most {PATCHED}: {patched}'
    yield from (f'{m}: imports the private {package}.{x}' for m, t in trees.items() for package, x in imported(m, t)
                if package.startswith('s9lib') and x.startswith('_'))
    yield from (f'{p.name}: a number with a letter' for p in pages(root) if re.match(r'\d+[a-z]', p.name))
    for p in (p for p in [*tree(root/'s9lib'), *tree(root/'tools')] if p.name != '_modidx.py'):
        lines = list(enumerate(p.read_text(encoding='utf-8').splitlines(), 1))
        if p.parent != root/'tools' and p.name != 'core.py':
            yield from (f'{p.relative_to(root)}:{i}: take {better} of core, which is right on every device'
                        for i, s in lines for word, better in PORTABLE.items() if word in s)
        wide = [i for i, s in lines if len(s) > WIDTH and not s.startswith('__all__ = ')]
        if wide: yield f'{p.relative_to(root)}: {len(wide)} lines over {WIDTH} columns, the first is {wide[0]}'
    public = [a.value for a in trees['s9lib.all'].body if isinstance(a, ast.Assign) and a.targets[0].id == '__all__']
    names = [n for v in public for n in getattr(v, 'elts', ())]
    if not 1 <= len(names) <= SURFACE: yield f's9lib.all: __all__ lists {len(names)} names, expected 1 to {SURFACE}'

def plain(src): return re.sub(r'^(\s*)[%!].*$', r'\1pass', src, flags=re.M)  # without what is IPython's own

def finals(root): return [p for name in FINAL if (p := root/'nbs'/name).is_file()]

def final_notebook(root):
    "A final notebook imports from the library and defines nothing; nbdev_test does not train by it."
    for p in finals(root):
        if 'skip_exec: true' not in '\n'.join(cells(p, 'raw')): yield f'{p.name}: has no raw cell with skip_exec: true'
    for p, n in ((p, n) for p in finals(root) for src in cells(p) for n in ast.walk(ast.parse(plain(src)))):
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)): yield f'{p.name}: defines {n.name}'
        if isinstance(n, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and 'lambda' in ast.unparse(n):
            yield f'{p.name}: assigns a lambda: {ast.unparse(n)[:60]}'
        names = [a.name for a in n.names] if isinstance(n, ast.Import) else \
            [n.module or '.'] if isinstance(n, ast.ImportFrom) else []
        yield from (f'{p.name}: imports {x}' for x in names if x.split('.')[0] not in MAY_IMPORT)

COMPLETE = """import jedi
code = 'from s9lib.train.learner import Learner\\nlearn: Learner\\nlearn.'
names = {c.name for c in jedi.Script(code, project=jedi.Project('.', added_sys_path=['.'])).complete()}
print(*sorted({'fit', 'fit_one_cycle', 'lr_find'} - names))
"""

def editor(root):
    "An editor sees the classes: pyright accepts the code of README and the final notebooks, jedi completes a Learner."
    blocks = re.findall(r'^```python\n(.*?)^```', (root/'README.md').read_text(encoding='utf-8'), re.S | re.M)
    texts = {'README': '\n'.join(blocks), **{p.stem: '\n\n'.join(map(plain, cells(p))) for p in finals(root)}}
    with tempfile.TemporaryDirectory() as d:
        for name, text in texts.items(): Path(d, f'{name}.py').write_text(text, encoding='utf-8')
        rules = dict(typeCheckingMode='standard', extraPaths=[str(root)], reportUnusedExpression=False)
        Path(d, 'pyrightconfig.json').write_text(json.dumps(rules), encoding='utf-8')
        r = python(root, '-m', 'pyright', '-p', d, '--pythonpath', sys.executable, '--outputjson',
                   PYRIGHT_PYTHON_IGNORE_WARNINGS='1')  # asks nobody for a newer version
    if not r.stdout.lstrip().startswith('{'): yield last_lines(r.stdout + r.stderr)
    else:
        for e in json.loads(r.stdout)['generalDiagnostics']:
            name = Path(e['file']).stem
            line = texts[name].splitlines()[e['range']['start']['line']].strip()
            yield f"{name}: {e['message'].splitlines()[0]}: {line[:80]}"
    r = python(root, '-c', COMPLETE)
    yield from (f'jedi does not complete learn.{x}' for x in r.stdout.split())
    if r.returncode: yield last_lines(r.stderr)

# The checks: what people read, and settings

def texts(root):
    "Yield (file, markdown without code) of everything that people read."
    for p in [*sorted(root.glob('*.md')), *pages(root)]:
        for text in cells(p, 'markdown') if p.suffix == '.ipynb' else [p.read_text(encoding='utf-8')]:
            yield p, re.sub(r'```.*?```|`[^`\n]*`', '', text, flags=re.S)

def sections(p):
    "The anchors of a page's or file's headings, as GitHub makes them."
    text = '\n'.join(cells(p, 'markdown')) if p.suffix == '.ipynb' else p.read_text(encoding='utf-8')
    heads = re.findall(r'^#+ (.*)', text, re.M)
    return {re.sub(r'[^\w\- ]', '', h.strip().lower()).replace(' ', '-') for h in heads}

def links(root):
    "What README and the pages link to within the repository is there, file and section; pages link to pages only."
    for p, text in texts(root):
        name = p.relative_to(root).as_posix()
        paths = [m[2] for m in readme_.LINK.finditer(text)] + [f'#{a}' for a in re.findall(r'\]\(#([^)]+)\)', text)]
        for link in paths:
            path, _, section = link.partition('#')
            to = (p.parent/path).resolve() if path else p
            if not to.exists(): yield f'{name}: {path} does not exist'
            elif p.suffix == '.ipynb' and root/'nbs' not in to.parents:
                yield f'{name}: {path} is not on the site; link to the repository by its address'
            elif section and section not in sections(to): yield f'{name}: {link}: there is no such section'

def sidebar(root):
    "nbs/sidebar.yml lists every page once, those of the library in reading order; 23_reading links to each."
    listed = re.findall(r'^ *- (\S+\.ipynb)$', (root/'nbs/sidebar.yml').read_text(encoding='utf-8'), re.M)
    here = [p.relative_to(root/'nbs').as_posix() for p in pages(root)]
    for p in {*listed, *here}:
        if (n := listed.count(p)) != (k := here.count(p)): yield f'sidebar.yml lists {p} {n} times, expected {k}'
    order = [p for p in here if wing(root/'nbs'/p) != 'all']
    if [p for p in listed if p in order] != order: yield 'sidebar.yml: not in reading order'
    told = re.findall(r'\]\((\S+\.ipynb)\)', '\n'.join(cells(root/'nbs/23_reading.ipynb', 'markdown')))
    for p in {*here} - {*told, 'index.ipynb', '23_reading.ipynb'}: yield f'23_reading.ipynb lists every page but {p}'

def site(root):
    "What nbdev and Quarto read is true: folder of the sources, names in tools/docs.py, cells that import alone."
    cfg, quarto = openings.settings(root), (root/'nbs/_quarto.yml').read_text(encoding='utf-8')
    if f"repo-subdir: {cfg['nbs_path']}\n" not in quarto: yield '_quarto.yml: repo-subdir is not nbs_path'
    docs = {n.name for n in ast.parse((root/'tools/docs.py').read_text(encoding='utf-8')).body if hasattr(n, 'name')}
    for name in re.findall(r'tools\.docs[.:](\w+)', f"{cfg['renderer']} {cfg['procs']}"):
        if name not in docs: yield f'settings.ini names {name}, which tools/docs.py does not have'
    for p in pages(root):
        for src in cells(p):  # nbdev runs every cell with an import to make the site, and none of those it builds on
            if re.search(r'^#\s*\|\s*(export|eval:\s*false)', src, re.M) or 'nbdev_export()' in src: continue
            nodes = [*ast.walk(ast.parse(plain(src)))]
            if any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in nodes) and \
                    any(isinstance(n, (ast.Expr, ast.Assign)) for n in nodes):
                yield f'{p.name}: a cell imports and does something else: {plain(src).splitlines()[-1][:60]}'
        for out in (o for c in read(p)['cells'] for o in c.get('outputs', [])):
            text = ''.join(out.get('data', {}).get('text/markdown', ''))
            if re.search(r'^```[^`]*\]\(http[^`]*^```', text, re.M): yield f'{p.name}: an output has a link within code'

def requirements(root):
    "Requirements have a tested version, exact ones that very one; commands and extras exist; the version is one."
    cfg, house, tested = openings.settings(root), modules(root), {}
    for m in re.finditer(r'^([\w.-]+)==([^\s;]+)', (root/'constraints.txt').read_text(encoding='utf-8'), re.M):
        tested.setdefault(m[1].lower().replace('_', '-'), []).append(m[2])
    for req in ' '.join(v for k, v in cfg.items() if k.endswith('requirements')).split():
        name, exact = re.match(r'([\w.-]+)(?:\[\w+\])?(?:==(\S+))?', req).groups()
        got = tested.get(name.lower().replace('_', '-'))
        if not got or exact and got != [exact]: yield f'constraints.txt has {name} {got}, settings.ini {req}'
    for name, m, func in re.findall(r'([\w-]+)=([\w.]+):(\w+)', cfg['console_scripts']):
        if m not in house or func not in {getattr(n, 'name', '') for n in house[m][1].body}:
            yield f'settings.ini: the command {name} names {m}:{func}, which does not exist'
    for name, (_, code) in house.items():
        for n in ast.walk(code):
            if isinstance(n, ast.Call) and getattr(n.func, 'id', '') == 'install_line' and n.args:
                extra = getattr(n.args[0], 'value', None)
                if f'{extra}_requirements' not in cfg: yield f'{name}: settings.ini has no extra {extra!r} to install'
    if f'__version__ = "{cfg["version"]}"' not in (root/'s9lib/__init__.py').read_text(encoding='utf-8'):
        yield f"settings.ini says version {cfg['version']}, s9lib/__init__.py does not: make export"

def package(root):
    "sdist and wheel are built, small and whole; what an installer finds in the sdist makes the same wheel."
    with scratch(root) as copy:
        r = python(copy, '-m', 'build', '--no-isolation', '--outdir', 'made')  # the wheel is built from the sdist
        if r.returncode: yield last_lines(r.stdout + r.stderr); return
        (sdist,), (wheel,) = (copy/'made').glob('*.tar.gz'), (copy/'made').glob('*.whl')
        with zipfile.ZipFile(wheel) as z: names = z.namelist()
        modules_ = {p.relative_to(root).as_posix() for p in tree(root/'s9lib') if p.suffix == '.py'}
        if lack := {*modules_, 's9lib/py.typed'} - {*names}: yield f'the wheel lacks {", ".join(sorted(lack))}'
        top = {n.split('/')[0] for n in names if '.dist-info/' not in n}
        if top != {'s9lib'} or any(n.endswith('.ipynb') for n in names): yield f'the wheel holds {sorted(top)}'
        yield from (f'{p.name}: {p.stat().st_size/1024:.0f} KB, expected at most {PACKAGE_KB}'
                    for p in (sdist, wheel) if p.stat().st_size > PACKAGE_KB*1024)

CHECKS = [editor, imports, in_step, pyflakes, conflict_markers, readme, addresses, results, stored, one_way, shape,
          final_notebook, links, sidebar, site, requirements, package]

def run(check, root):
    "Findings of one check; one that breaks is a finding too."
    try: return list(check(root))
    except Exception as e: return [f'{type(e).__name__}: {e}']

def report(name, findings, seconds=0):
    "Print one line, or one per finding; return whether it passed."
    took = f' ({seconds:.0f} s)' if seconds >= 1 else ''
    for f in findings: print(f'FAIL {name}{took}: {f}', flush=True)
    if not findings: print(f'ok   {name}{took}', flush=True)
    return not findings

def main():
    root, names, known = Path(__file__).resolve().parents[1], sys.argv[1:], {c.__name__: c for c in CHECKS}
    if unknown := {*names} - {*known}: sys.exit(f"no check {', '.join(unknown)}: there are {', '.join(known)}")
    sys.exit(not all([report(n, run(known[n], root)) for n in names or known]))

if __name__ == '__main__': main()

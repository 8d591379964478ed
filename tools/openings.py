"""The repository's address stands in settings.ini alone: badges, install cells and links follow it.

    python tools/openings.py           # list the files that differ
    python tools/openings.py --write   # correct them (`make addresses`)

Every page opens with a cell of title and subtitle and nothing else (nbdev makes the head of the site's page of it and
drops the rest); numbered pages with code go on with a badge that opens them in Colab and a hidden cell that installs
the library there. Every package that Colab has stays as it is, or the cell says that this cannot be; albumentations
alone is held at the version of constraints.txt, for a newer one means something else. The last cell of a page exports
where nbdev is there. Cells that are there keep their ids and outputs.
"""
import configparser, hashlib, json, re, sys
from pathlib import Path

SKIP = {'.git', '.venv', 'runs', '_docs', '_proc', 'build', 'dist', '__pycache__', '.ipynb_checkpoints'}
TITLE = re.compile(r'(# [^\n]+\n\n> [^\n]+)\n\n(.+)', re.S)
BADGE = ('<a href="https://colab.research.google.com/github/{user}/{repo}/blob/{branch}/nbs/{page}">'
         '<img alt="Open in Colab" src="https://colab.research.google.com/assets/colab-badge.svg"></a>')
INSTALL = """#| hide
#| eval: false
! [ ! -e /content ] || ( ( pip list --format=freeze | grep -viE '^(albu|{lib}=)'; \
curl -sL https://raw.githubusercontent.com/{user}/{repo}/{branch}/constraints.txt | \
grep -E '^(albumentations|albucore)==' ) > /tmp/constraints.txt && \
pip install -q -c /tmp/constraints.txt git+https://github.com/{user}/{repo}@{branch} ) || \
echo '{lib} is not installed: it cannot be had, or not beside the packages of Colab (see above). To replace them: \
pip install git+https://github.com/{user}/{repo}@{branch}, then restart the session'"""
DRIVE = """
# To keep the run in your Drive: from google.colab import drive; drive.mount('/content/drive'); \
import os; os.environ['S9LIB_OUT'] = '/content/drive/MyDrive/s9lib'"""
END = """#| hide
try: import nbdev; nbdev.nbdev_export()
except ImportError: pass  # nbdev is not on Colab"""
PROSE = '23_reading.ipynb', '24_troubleshooting.ipynb', '25_assignment.ipynb', '30_results.ipynb'  # nothing to run
FINAL = '20_cifar10.ipynb', '21_photos.ipynb'  # the final notebooks

def settings(root):
    "The one section of settings.ini."
    ini = configparser.ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']

def tree(root):
    "Every file of the repository that people write."
    for p in sorted(root.iterdir()):
        if p.name in SKIP or p.name.endswith('.egg-info'): continue
        if p.is_dir(): yield from tree(p)
        else: yield p

def follow(text, cfg):
    "Return `text` with every address of this repository (known by its name or the library's) as `cfg` has it."
    repo = rf"(?:{re.escape(cfg['repo'])}|{cfg['lib_name']})(?![\w-])"
    at, branch = f"{cfg['user']}/{cfg['repo']}", cfg['branch']
    text = re.sub(rf'(raw\.githubusercontent\.com/)[\w.-]+/{repo}/[\w.-]+', rf'\g<1>{at}/{branch}', text)
    text = re.sub(rf'\b[\w-]+(\.github\.io)/{repo}', rf"{cfg['user']}\g<1>/{cfg['repo']}", text)
    return re.sub(rf'(github\.com/|com/github/)[\w.-]+/{repo}(?:((?:\.git)?@|/(?:blob|tree|raw)/)[\w.-]+)?',
                  lambda m: m[1] + at + (m[2] + branch if m[2] else ''), text)

def source(cell): return ''.join(cell['source'])

def make(kind, page, text):
    "A cell with an id that depends on page and purpose only."
    i = hashlib.sha1(f'{Path(page).stem} {text[:12]}'.encode()).hexdigest()[:8]
    c = dict(cell_type=kind, id=i, metadata={}, source=text.splitlines(True))
    return c if kind == 'markdown' else {**c, 'execution_count': None, 'outputs': []}

def opened(cells, page, cfg):
    "Return `cells` of the page at `page` (below nbs/) with the opening they should have."
    cells = list(cells)
    at = next((i for i, c in enumerate(cells) if c['cell_type'] == 'markdown' and source(c).startswith('# ')), None)
    if at is None: return cells
    if m := TITLE.fullmatch(source(cells[at])):
        cells[at] = {**cells[at], 'source': m[1].splitlines(True)}
        cells.insert(at + 1, make('markdown', page, m[2]))
    for i, c in enumerate(cells):
        if c['cell_type'] == 'code' and 'nbdev.nbdev_export()' in source(c):
            cells[i] = {**c, 'source': END.splitlines(True)}
    if not Path(page).name[0].isdigit() or page in PROSE: return cells
    for kind, text, mark in (('markdown', BADGE, 'colab-badge.svg'), ('code', INSTALL, '-e /content ]')):
        text = text.format(user=cfg['user'], repo=cfg['repo'], branch=cfg['branch'], lib=cfg['lib_name'], page=page)
        if kind == 'code' and page in FINAL: text += DRIVE
        old = next((i for i, c in enumerate(cells) if c['cell_type'] == kind and mark in source(c)), None)
        if old is not None: cells[old] = {**cells[old], 'source': text.splitlines(True)}
        elif kind == 'markdown': cells.insert(at + 1, make(kind, page, text))
        else:  # before the first code and the first heading below the title
            here = (i for i, c in enumerate(cells) if i > at and (c['cell_type'] == 'code' or source(c)[0] == '#'))
            cells.insert(next(here, len(cells)), make(kind, page, text))
    return cells

def wanted(root):
    "The files that are not as they should be: path -> text."
    cfg, nbs, found = settings(root), root/'nbs', {}
    for p in tree(root):
        if p.suffix not in ('.ipynb', '.md', '.yml', '.txt'): continue
        old = p.read_text(encoding='utf-8')
        new = follow(old, cfg)
        if p.suffix == '.ipynb':
            nb = json.loads(new)
            if (cells := opened(nb['cells'], p.relative_to(nbs).as_posix(), cfg)) != nb['cells']:
                new = json.dumps({**nb, 'cells': cells}, indent=1, sort_keys=True, ensure_ascii=False) + '\n'
        if new != old: found[p] = new
    return found

def main():
    root = Path(__file__).resolve().parents[1]
    found = wanted(root)
    for p, text in found.items():
        print(p.relative_to(root).as_posix())
        if '--write' in sys.argv: p.write_text(text, encoding='utf-8', newline='\n')
    sys.exit(bool(found) and '--write' not in sys.argv)

if __name__ == '__main__': main()

"""What the site shows of a function, which words of the text become links, and what is said of a picture to who cannot
see it. settings.ini names `Renderer`, `links` and `alt_text`; nbdev calls them while it makes the site (`make docs`).
"""
import html, inspect, json, re
from importlib import import_module
from pathlib import Path

from fastcore.docments import docments
from nbdev.doclinks import NbdevLookup
from nbdev.showdoc import BasicMarkdownRenderer

EMPTY = inspect.Parameter.empty
NAME = re.compile(r'(?<![\[`])`([A-Za-z][\w.]*)(?:\(\))?`(?![\]`])')

def recipes():
    "Names that are a recipe and a function: in the text they mean the recipe, so they are no links."
    page = Path(__file__).resolve().parents[1]/'nbs/train/13_recipes.ipynb'
    cells = json.loads(page.read_text(encoding='utf-8'))['cells']
    code = '\n'.join(''.join(c['source']) for c in cells)
    return set(re.findall(r"^ +Recipe\('([\w-]+)'", code, re.M))

def linked(look, text, skip=()):
    "Make links of the public names in backticks that have an entry; not within code or another link."
    def one(m):
        url = None if m[1] in skip or any(p.startswith('_') for p in m[1].split('.')) else look.doc(m[1])
        return f'[{m[0]}]({url})' if url else m[0]
    parts = re.split(r'(^```.*?^```|^    .*?$|\[[^\]\n]*\]\([^)\n]*\))', text, flags=re.S | re.M)
    return ''.join(p if i % 2 else NAME.sub(one, p) for i, p in enumerate(parts))

def links(cell):
    "Turn names into links in the text of a page and in what its cells display as text."
    look, skip = NbdevLookup(), recipes()
    if cell.cell_type == 'markdown': cell.source = linked(look, cell.source, skip)
    for o in cell.get('outputs', []):
        if 'text/markdown' in o.get('data', {}):
            o['data']['text/markdown'] = linked(look, ''.join(o['data']['text/markdown']), skip)

def words(markdown):
    "The first sentence of a text, without its marks."
    text = re.sub(r'(?s:```.*?```)|^[#>|].*$|!\[.*?\]\(.*?\)|<[^>]+>', '', markdown, flags=re.M)
    text = ' '.join(re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', text).split())
    return re.sub(r'["*`$\\]', '', re.split(r'(?<=[.:!?])\s', text, maxsplit=1)[0])[:200].rstrip(':')

class alt_text:
    "Describe each picture by the sentence above it, unless its cell has `#| fig-alt:`."
    def __init__(self, nb): self.nb, self.said = nb, ''
    def begin(self): self.said = ''
    def end(self): pass
    def __call__(self, cell):
        if cell.cell_type == 'markdown': self.said = words(cell.source) or self.said
        elif any(k.startswith('image/') for o in cell.get('outputs', []) for k in o.get('data', {})) and \
                'fig-alt' not in cell.source:
            said = json.dumps(self.said or 'Output of the cell above', ensure_ascii=False)
            cell.source = f'#| fig-alt: {said}\n{cell.source}'

def fold(cell):
    "Head the code of an `exports` cell by what it is; more than a screen of it begins closed."
    show, head = '#| code-fold: show\n', '#| code-summary: "Exported source"\n'
    if not cell.source.startswith(show + head): return
    code = cell.source.removeprefix(show + head)
    begins = 'true' if code.count('\n') > 60 else 'show'
    cell.source = f'#| code-fold: {begins}\n#| code-summary: "Implementation"\n{code}'

def plain(x):
    "A value as a reader writes it."
    if inspect.isfunction(x) or inspect.isclass(x): return x.__name__
    return repr(x)

def default_of(sym, p):
    "The default of a parameter as a reader writes it; of a dataclass, what its factory makes."
    field = getattr(sym, '__dataclass_fields__', {}).get(p.name)
    return plain(field.default_factory() if repr(p.default) == '<factory>' else p.default)

def in_module(sym, url):
    "A class as its module has it: of one that a page's cell made, Python finds no source, and no comments in it."
    m = re.search(r'/blob/[^/]+/(.+)\.py#', url or '')
    return getattr(import_module(m[1].replace('/', '.')), sym.__name__) if m and inspect.isclass(sym) else sym

def kind_of(annotation):
    "A type by its last name: `Optimizer`, not `torch.optim.optimizer.Optimizer`; one that is only guessed is not said."
    if annotation is EMPTY: return ''
    return re.sub(r'\b(?:\w+\.)+(\w+)', r'\1', inspect.formatannotation(annotation).strip("'"))

def in_table(x): return ' '.join(str(x).split()).replace('|', r'\|')

def code(x): return f"<code>{html.escape(' '.join(x.split())).replace('|', '&#124;')}</code>" if x else ''

class Renderer(BasicMarkdownRenderer):
    "Signature on lines that wrap, the docstring, and a table with a row for each parameter."
    def _repr_markdown_(self):
        look, level = NbdevLookup(), 3 if '.' in self.nm else 2
        url = look.code(self.fn)
        parts = [f'{"#"*level} {self.nm}']
        if url: parts.append(f'[source]({url}){{.source-link}}')
        parts.append(f'`{self.nm.rpartition(".")[2]}{self.call()}`{{.signature}}')
        if self.docs: parts.append(linked(look, self.docs.strip()))
        if rows := [*self.rows()]:
            parts.append('\n'.join(['| | type | default | |', '|:--|:--|:--|:--|', *rows]))
        return '---\n\n' + '\n\n'.join(parts)

    def params(self):
        ps = self.sig.parameters if self.sig else {}
        return [p for n, p in ps.items() if n not in ('self', 'cls')]

    def call(self):
        "The signature without types, which stand in the table."
        ps = [p.replace(annotation=EMPTY) for p in self.params()]
        given = (str(p) if p.default is EMPTY else f'{p.name}={default_of(self.sym, p)}' for p in ps)
        return f"({', '.join(given)})"

    def rows(self):
        sym = in_module(self.sym, NbdevLookup().code(self.fn))
        said = docments(sym, full=True)
        for parent in (c for c in getattr(sym, '__mro__', ())[1:] if '__dataclass_fields__' in vars(c)):
            more = docments(parent, full=True)  # fields that are inherited
            said.update({n: d for n, d in more.items() if n in said and not said[n].get('docment')})
        for p in self.params():
            text = (said.get(p.name) or {}).get('docment')
            kind = kind_of(p.annotation)
            default = '' if p.default is EMPTY else default_of(self.sym, p)
            if text or kind: yield f'| {code(p.name)} | {code(kind)} | {code(default)} | {in_table(text or "")} |'
        back = said.get('return') or {}
        if back.get('docment'):
            kind = kind_of(self.sig.return_annotation if self.sig else EMPTY)
            yield f'| **returns** | {code(kind)} | | {in_table(back["docment"])} |'

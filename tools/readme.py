"""Write README.md from nbs/index.ipynb, as far as GitHub shows it: text, code, and stored outputs. Quarto is not needed.

    python tools/readme.py           # write
    python tools/readme.py --check   # status 1 if README.md or a figure of it is out of step
"""
import argparse
import base64
import json
import re
import sys
from pathlib import Path

HEAD = '<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook, not this file. -->\n'
DIRECTIVE = re.compile(r'^#\s*\|\s*([\w-]+)(?::\s*(\S+))?.*$', re.M)
LINK = re.compile(r'(\]\(|<img[^>]*? src="|href=")(?!https?:|mailto:|#|/|attachment:)([^)"\s]+)')


def from_root(text, nbs):
    "Make relative links, which start from the notebook's folder, start from the repository's."
    def fix(m):
        path = f'{nbs}/{m[2]}'
        while '/../' in path: path = re.sub(r'[^/]+/\.\./', '', path, count=1)
        return m[1] + path
    return LINK.sub(fix, text)


def outputs(cell, figures, nbs):
    "The stored outputs of a code cell as markdown; images go to `figures`, a dict path -> bytes."
    for out in cell['outputs']:
        data = {k: v if isinstance(v, str) else ''.join(v) for k, v in out.get('data', {}).items()}
        if out['output_type'] == 'stream': yield fenced(''.join(out['text']))
        elif 'image/png' in data:
            path = f'{nbs}/index_files/figure-{len(figures) + 1}.png'
            figures[path] = base64.b64decode(data['image/png'])
            yield f'![]({path})'
        elif 'text/markdown' in data: yield from_root(data['text/markdown'], nbs)
        elif data.get('text/plain', '<')[0] != '<': yield fenced(data['text/plain'])


def fenced(text, lang=''):
    return f'```{lang}\n{text.strip()}\n```'


def render(root):
    "Return the text of README.md and its figures, a dict path -> bytes."
    nbs, parts, figures = 'nbs', [], {}
    for cell in json.loads((root/nbs/'index.ipynb').read_text(encoding='utf-8'))['cells']:
        src = ''.join(cell['source']).strip()
        if cell['cell_type'] == 'markdown': parts.append(from_root(src, nbs))
        if cell['cell_type'] != 'code': continue
        flags = {k: v for k, v in DIRECTIVE.findall(src)}
        if 'hide' in flags or flags.get('include') == 'false': continue
        src = DIRECTIVE.sub('', src).strip()
        if src and flags.get('echo') != 'false' and 'hide_input' not in flags: parts.append(fenced(src, 'python'))
        if flags.get('output') != 'false': parts += outputs(cell, figures, nbs)
    return HEAD + '\n' + '\n\n'.join(p for p in parts if p) + '\n', figures


def files(root):
    "Every file that index.ipynb makes: path -> bytes."
    text, figures = render(root)
    return {'README.md': text.encode(), **figures}


def stale(root):
    "Names of the files that are not what index.ipynb makes."
    def now(p): return (root/p).read_bytes().replace(b'\r\n', b'\n') if p.endswith('.md') else (root/p).read_bytes()
    return [p for p, want in files(root).items() if not (root/p).is_file() or now(p) != want]


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--check', action='store_true', help='compare only')
    args, root = ap.parse_args(), Path(__file__).resolve().parents[1]
    if args.check:
        bad = stale(root)
        sys.exit(f"out of step with nbs/index.ipynb: {', '.join(bad)}; run make readme" if bad else 0)
    for path, content in files(root).items():
        (root/path).parent.mkdir(parents=True, exist_ok=True)
        (root/path).write_bytes(content)
        print(path)


if __name__ == '__main__': main()

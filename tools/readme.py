"""Write README.md from nbs/index.ipynb, as far as GitHub shows it: text, code, and stored outputs (`make readme`)."""
import base64, json, re
from pathlib import Path

HEAD = '<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook, not this file. -->\n'
DIRECTIVE = re.compile(r'^#\s*\|\s*([\w-]+)(?::\s*(\S+))?.*$', re.M)
LINK = re.compile(r'(\]\(|<img[^>]*? src="|href=")(?!https?:|mailto:|#|/|attachment:)([^)"\s]+)')

def from_root(text):
    "Make relative links, which start from the notebook's folder, start from the repository's."
    def fix(m):
        path = f'nbs/{m[2]}'
        while '/../' in path: path = re.sub(r'[^/]+/\.\./', '', path, count=1)
        return m[1] + path
    return LINK.sub(fix, text)

def fenced(text, lang=''): return f'```{lang}\n{text.strip()}\n```'

def outputs(cell, figures):
    "The stored outputs of a code cell as markdown; images go to `figures`, a dict path -> bytes."
    for out in cell['outputs']:
        data = {k: v if isinstance(v, str) else ''.join(v) for k, v in out.get('data', {}).items()}
        if out['output_type'] == 'stream': yield fenced(''.join(out['text']))
        elif 'image/png' in data:
            path = f'nbs/index_files/figure-{len(figures) + 1}.png'
            figures[path] = base64.b64decode(data['image/png'])
            yield f'![]({path})'
        elif 'text/markdown' in data: yield from_root(data['text/markdown'])
        elif data.get('text/plain', '<')[0] != '<': yield fenced(data['text/plain'])

def files(root):
    "Every file that index.ipynb makes: path -> bytes."
    parts, figures = [], {}
    for cell in json.loads((root/'nbs/index.ipynb').read_text(encoding='utf-8'))['cells']:
        src = ''.join(cell['source']).strip()
        if cell['cell_type'] == 'markdown': parts.append(from_root(src))
        if cell['cell_type'] != 'code': continue
        flags = dict(DIRECTIVE.findall(src))
        if 'hide' in flags or flags.get('include') == 'false': continue
        src = DIRECTIVE.sub('', src).strip()
        if src and flags.get('echo') != 'false' and 'hide_input' not in flags: parts.append(fenced(src, 'python'))
        if flags.get('output') != 'false': parts += outputs(cell, figures)
    return {'README.md': (HEAD + '\n' + '\n\n'.join(p for p in parts if p) + '\n').encode(), **figures}

def main():
    root = Path(__file__).resolve().parents[1]
    for path, content in files(root).items():
        (root/path).parent.mkdir(parents=True, exist_ok=True)
        (root/path).write_bytes(content)
        print(path)

if __name__ == '__main__': main()

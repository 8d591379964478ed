"""Write README.md from nbs/index.ipynb: text and code, as GitHub shows them (`make readme`)."""
import json, re
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

def render(root):
    "The text of README.md."
    parts = []
    for cell in json.loads((root/'nbs/index.ipynb').read_text(encoding='utf-8'))['cells']:
        src = ''.join(cell['source']).strip()
        flags = dict(DIRECTIVE.findall(src)) if cell['cell_type'] == 'code' else {}
        if cell['cell_type'] == 'markdown': parts.append(from_root(src))
        elif cell.get('outputs'): raise ValueError('README shows no outputs: clear them in index.ipynb, link a picture')
        elif 'hide' not in flags and flags.get('echo') != 'false':
            parts.append(f'```python\n{DIRECTIVE.sub("", src).strip()}\n```')
    return HEAD + '\n' + '\n\n'.join(parts) + '\n'

def main():
    root = Path(__file__).resolve().parents[1]
    (root/'README.md').write_text(render(root), encoding='utf-8', newline='\n')
    print('README.md')

if __name__ == '__main__': main()

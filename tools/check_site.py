"""Look at a built site without a browser: dead links and anchors, signatures with markdown, images without alt text,
and the code of `#| exports` cells, which a page must show.

    python tools/check_site.py _docs     # after `make docs`
"""
import json, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

class Page(HTMLParser):
    "The ids, links and images of a page, and the code in it that shows markdown."
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.bare, self.markdown, self.depth, self.shown = set(), [], [], [], 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if 'id' in a: self.ids.add(a['id'])
        if tag in ('a', 'link') and a.get('href'): self.links.append(a['href'])
        if tag in ('img', 'script') and a.get('src'): self.links.append(a['src'])
        if tag == 'img' and not (a.get('alt') or '').strip() and a.get('role') != 'presentation':
            self.bare.append(a.get('src', '')[:80])
        self.depth += tag == 'code'
        self.shown += tag == 'details' and 'code-fold' in (a.get('class') or '')

    def handle_endtag(self, tag): self.depth -= tag == 'code'

    def handle_data(self, data):
        if self.depth and '](http' in data: self.markdown.append(data.strip()[:80])

def exported(nbs):
    "Cells whose code the site shows: (address of the page, how many) of each page that has any."
    for p in sorted(nbs.rglob('*.ipynb')):
        cells = json.loads(p.read_text(encoding='utf-8'))['cells']
        n = sum(''.join(c['source']).startswith('#| exports\n') for c in cells)
        stem = p.stem.lstrip('0123456789').lstrip('_')
        if n: yield p.relative_to(nbs).with_name(f'{stem}.html').as_posix(), n

def findings(site):
    "Yield what is wrong, one line each."
    pages = {p: Page(p.read_text(encoding='utf-8')) for p in sorted(site.rglob('*.html'))}
    n = 0
    for name, want in exported(site.parent/'nbs'):
        if site/name not in pages: yield f'{name}: no such page, though its notebook has `exports` cells'
        elif pages[site/name].shown != want:
            yield f'{name}: shows the code of {pages[site/name].shown} cells, {want} are `exports`'
    for p, page in pages.items():
        name = p.relative_to(site).as_posix()
        yield from (f'{name}: image without alt text: {src}' for src in page.bare)
        yield from (f'{name}: code shows markdown: {text}' for text in page.markdown)
        for link in page.links:
            url, anchor = urldefrag(link)
            if urlsplit(url).scheme or url.startswith('//'): continue
            n += 1
            path = unquote(urlsplit(url).path)
            base = site if path.startswith('/') else p.parent
            to = (base/path.lstrip('/')).resolve() if path else p
            if to.is_dir(): to /= 'index.html'
            if name != '404.html' and not to.exists(): yield f'{name}: dead link {link}'
            elif anchor and to in pages and anchor not in pages[to].ids and unquote(anchor) not in pages[to].ids:
                yield f'{name}: dead anchor {link}'
    print(f'{len(pages)} pages, {n:,} links within the site')

def main():
    site = Path(sys.argv[1] if len(sys.argv) > 1 else '_docs').resolve()
    if not (site/'index.html').exists(): sys.exit(f'{site} holds no site: make docs builds one in _docs')
    found = list(findings(site))
    print(*found, f'{len(found)} findings', sep='\n')
    sys.exit(bool(found))

if __name__ == '__main__': main()

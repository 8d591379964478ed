"""Drop files onto the page of `s9_demo` in headless Chromium, look at it, and count what it asks of other hosts.

By hand, in an environment that has playwright beside s9lib[demo], or against a page that is already open:

    pip install playwright                                       # and a Chromium: apt-get install chromium
    s9_demo runs/mine --no-browser --port 7861 &
    python benchmarks/demo_browser.py --url http://127.0.0.1:7861 --photo photo.jpg --out /tmp/demo

It fails unless a dropped photo gives two pictures and probabilities, another class and another layer each give a map
with other pixels where neither map is empty, a damaged file gives a sentence, and no request went to another host. A
network that learned nothing cannot show that: two epochs of `s9_train --data shapes --recipe shapes` can.
Pictures of the page are in OUT.
"""
import argparse
import base64
import re
import shutil
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from playwright.sync_api import sync_playwright

DROP = """([node, name, data]) => {
    const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0)), t = new DataTransfer()
    t.items.add(new File([bytes], name))
    for (const kind of ['dragenter', 'dragover', 'drop'])
        node.dispatchEvent(new DragEvent(kind, {dataTransfer: t, bubbles: true, cancelable: true}))
}"""

def drop(page, name, data):
    "Drop a file onto the upload area as a hand would, and wait for the page to name it."
    clear = page.get_by_label('Clear')
    if clear.count(): clear.first.click()
    node = page.get_by_role('button', name=re.compile('drop file|upload', re.I)).first
    node.wait_for()
    node.evaluate('(node, a) => (%s)([node, ...a])' % DROP, [name, base64.b64encode(data).decode()])
    page.wait_for_function('n => document.querySelector("#said").innerText.includes(n)', arg=name, timeout=60000)
    page.wait_for_timeout(1500)

def pictures(page):
    "Addresses of the pictures that are shown."
    return [i.get_attribute('src') for i in page.locator('[data-testid="image"] img, .image-frame img').all()]

EMPTY = 'Nothing at'  # begins the sentence on a map of zeros

def pixels(page):
    "Bytes of the heat map that is shown."
    return page.request.get(urljoin(page.url, pictures(page)[-1])).body()

def entries(page, label):
    "The menu, opened, and the texts in it."
    box = page.get_by_label(label, exact=True).first
    box.focus()
    page.get_by_role('option').first.wait_for()
    return box, [o.get_attribute('aria-label') for o in page.get_by_role('option').all()]

def choose(page, label, entry):
    "Choose an entry of a menu; wait for the sentence that names it, and return that."
    box, _ = entries(page, label)
    box.fill(entry)
    box.press('Enter')
    page.wait_for_function('n => document.querySelector("#said").innerText.match(/[.] .*/s)?.[0].includes(n)', arg=entry,
                           timeout=60000)
    page.wait_for_timeout(800)
    return page.locator('#said').inner_text()

def another(page, label):
    "Choose entry after entry until both maps, that of before and this, show something; they must differ."
    shown, tried = page.locator('#said').inner_text(), []
    for entry in entries(page, label)[1][1:]:
        before, was = pixels(page), shown
        if entry in was.partition('. ')[2]: continue                      # what is explained already
        shown = choose(page, label, entry)
        tried.append(shown)
        if EMPTY in was or EMPTY in shown: continue
        assert pixels(page) != before, f'{shown} But the map is the same as of: {was}'
        return shown
    raise AssertionError(f'no two entries of {label} have a map for this photo: {tried}')

def visit(browser, url, photo, out, width, scheme):
    "Try everything at one width of the window; return the hosts that were asked."
    context = browser.new_context(viewport=dict(width=width, height=900), color_scheme=scheme)
    page, hosts, errors = context.new_page(), set(), []
    page.on('request', lambda r: hosts.add(urlsplit(r.url).netloc))
    page.on('pageerror', lambda e: errors.append(str(e)))
    page.goto(url + ('?__theme=dark' if scheme == 'dark' else '?__theme=light'))
    page.get_by_text('photo', exact=True).first.wait_for(timeout=60000)
    page.wait_for_timeout(1000)
    page.screenshot(path=out/f'{width}-{scheme}-empty.png', full_page=True)
    drop(page, photo.name, photo.read_bytes())
    assert len(pictures(page)) == 2 and '%' in page.locator('#probs').inner_text(), pictures(page)
    page.screenshot(path=out/f'{width}-{scheme}.png', full_page=True)
    for label in ('class to explain', 'layer'): print(f'{width} px, {scheme}: {label}:', another(page, label))
    page.screenshot(path=out/f'{width}-{scheme}-chosen.png', full_page=True)
    wide = page.evaluate('document.documentElement.scrollWidth')
    assert wide <= width, f'{wide} px wide in a window of {width}'
    drop(page, 'damaged.jpg', photo.read_bytes()[:2000])
    print(f'{width} px, {scheme}:', page.locator('#said').inner_text())
    assert not pictures(page) and 'damaged.jpg is' in page.locator('#said').inner_text()
    page.screenshot(path=out/f'{width}-{scheme}-damaged.png', full_page=True)
    assert not errors, errors
    context.close()
    return hosts

def main():
    "Visit the page at two widths, light and dark."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--url', default='http://127.0.0.1:7860')
    p.add_argument('--photo', type=Path, required=True)
    p.add_argument('--out', type=Path, default=Path('demo'))
    p.add_argument('--chromium', default=shutil.which('chromium') or shutil.which('google-chrome'))
    o = p.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=o.chromium, args=['--no-sandbox'])
        hosts = set()
        for width in (1440, 390):
            for scheme in ('light', 'dark'): hosts |= visit(browser, o.url, o.photo, o.out, width, scheme)
        browser.close()
    print('hosts asked:', ', '.join(sorted(hosts)))
    others = hosts - {urlsplit(o.url).netloc, ''}
    assert not others, f'asked of others: {others}'

if __name__ == '__main__': main()

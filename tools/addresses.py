"""The repository's address stands in settings.ini; every link, badge and install cell follows it.

    python tools/addresses.py           # list the addresses that differ from settings.ini
    python tools/addresses.py --write   # correct them (then `make readme`)
"""
import argparse
import configparser
import re
import sys
from pathlib import Path

# What of a file's text is an address of ours: user, repository and, where one is named, branch.
GITHUB = r'(?P<host>github\.com/|raw\.githubusercontent\.com/|colab\.research\.google\.com/github/)(?P<user>[\w.-]+)/(?P<repo>[\w-]+)'
BRANCH = r'(?P<mid>(?:\.git)?@|/(?:blob|tree|raw)/)(?P<branch>[\w.-]+)'
ADDRESS = re.compile(rf'{GITHUB}(?:{BRANCH})?|(?P<pages>[\w-]+)\.github\.io/(?P<prepo>[\w-]+)')
RAW = re.compile(r'(?P<host>raw\.githubusercontent\.com/)(?P<user>[\w.-]+)/(?P<repo>[\w-]+)/(?P<branch>[\w.-]+)')
TEXT = '*.ipynb', '*.md', '*.yml', '*.txt'


def settings(root):
    "The one section of settings.ini."
    ini = configparser.ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']


def texts(root):
    "The files that may name an address."
    folders = [root, root/'nbs', root/'benchmarks', root/'.github', root/'.github/workflows', root/'.github/ISSUE_TEMPLATE']
    return sorted(p for d in folders for g in TEXT for p in d.glob(g) if p.is_file())


def follow(text, cfg):
    "Return `text` with every address of this repository as `cfg` has it."
    def ours(m, repo): return repo in (cfg['repo'], cfg['lib_name']) or 'colab' in m[0]
    def raw(m): return f"{m['host']}{cfg['user']}/{cfg['repo']}/{cfg['branch']}" if ours(m, m['repo']) else m[0]
    def any_(m):
        if m['pages']: return f"{cfg['user']}.github.io/{cfg['repo']}" if ours(m, m['prepo']) else m[0]
        if m['host'].startswith('raw') or not ours(m, m['repo']): return m[0]
        return f"{m['host']}{cfg['user']}/{cfg['repo']}" + (f"{m['mid']}{cfg['branch']}" if m['branch'] else '')
    return ADDRESS.sub(any_, RAW.sub(raw, text))


def find(root):
    "List (file, line number, address as it is, as it should be)."
    cfg, found = settings(root), []
    for p in texts(root):
        for i, line in enumerate(p.read_text(encoding='utf-8').split('\n'), 1):
            found += [(p.relative_to(root).as_posix(), i, m[0], want) for m in [*RAW.finditer(line), *ADDRESS.finditer(line)]
                      if (want := follow(m[0], cfg)) != m[0]]
    return found


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--write', action='store_true', help='correct them')
    args, root = ap.parse_args(), Path(__file__).resolve().parents[1]
    found = find(root)
    for path, line, old, new in found: print(f'{path}:{line}: {old} -> {new}')
    if args.write:
        for p in {root/f[0] for f in found}: p.write_bytes(follow(p.read_bytes().decode(), settings(root)).encode())
    else: sys.exit(bool(found))


if __name__ == '__main__': main()

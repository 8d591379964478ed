"""The lowest versions that settings.ini allows, one `name==version` a line, to be installed and tried.

    python tools/bounds.py floor             # what the library requires
    python tools/bounds.py floor timm heif   # and these extras; `all` as in setup.py
"""
import re, sys
from pathlib import Path

import openings

def lowest(cfg, extras=()):
    "List name==version for every requirement of the section `cfg` and of its `extras`; the higher where there are two."
    known = [k.removesuffix('_requirements') for k in cfg if k.endswith('_requirements')]
    if 'all' in extras: extras = [k for k in known if k not in ('dev', 'photos')]
    for e in extras:
        if e not in known: sys.exit(f"no extra {e}: there are {', '.join(known)}")
    found = {}
    for req in ' '.join(cfg[k] for k in ('requirements', *(f'{e}_requirements' for e in extras))).split():
        m = re.fullmatch(r'([\w.-]+)(?:\[[\w,]+\])?(?:[>=]=([\d.]+))?(?:,.*)?', req)
        if not m: sys.exit(f'settings.ini: {req} is not written as name>=version')
        if m[2]: found[m[1]] = max(found.get(m[1], '0'), m[2], key=lambda v: [*map(int, v.split('.'))])
    return [f'{name}=={v}' for name, v in found.items()]

def main():
    if sys.argv[1:2] != ['floor']: sys.exit(__doc__)
    print(*lowest(openings.settings(Path(__file__).resolve().parents[1]), sys.argv[2:]), sep='\n')

if __name__ == '__main__': main()

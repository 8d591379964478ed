"""Images per second and memory of the photo loader beside torchvision's, on photos of about 12 and 0.2 megapixels.

    pip install 's9lib[photos]'                               # photos to make others of
    python benchmarks/photo_loader.py [--n 2000] [--n-large 500] [--rounds 3] [--out benchmarks/results]
    python benchmarks/photo_loader.py --n-large 2000          # in full: 4 GB of photos, four times as long
    python benchmarks/photo_loader.py --make                  # make the photos and stop
    python benchmarks/photo_loader.py --n 0 --n-large 0       # only the memory of many: photo_loader_links.md

The peer is what most code does: `ImageFolder`, `transforms.v2` (RandomResizedCrop, mirror, to float, normalize; on the
PIL image, which is its fastest way) and `DataLoader`. Ours is `DataLoaders.from_data` with the preset `photo`: the same
operations, range of crops, size, batches and number of workers; what is timed is one epoch of batches as float tensors,
start of the workers included. Every measurement is a process of its own, and they take turns: in each round the peer,
ours without a cache, ours with an empty cache (its first epoch), ours with the cache filled (the second). Photos are
read once before, so that all find them in the page cache as far as memory goes. Memory is the peak, over the epoch, of
the sum of the resident (RSS) and of the proportional (PSS, shared pages counted once) sizes of a process and its
workers. Photos are enlarged, cut, mirrored and given noise, JPEG quality 90, sizes
varying by 5 %, and are kept in `--photos` for the next time.

`listing` is what `image_folder` does once per folder, before the first epoch: it reads and decodes every file, and
keeps the result for the next start. `ImageFolder` looks at names only. The last table has a set of 100,000 links.
"""
import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from machine import processor

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')

SIZE, BS, SCALE = 224, 32, (.35, 1.)
SETS = {'12 MP': (4032, 3024), '0.2 MP': (512, 400)}    # width and height of the photos
RUNS = {'torchvision': 'torchvision', 'no cache': 's9lib, no cache', 'first': 's9lib, cache, first epoch',
        'second': 's9lib, cache, second epoch'}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def sources():
    "Photos to make others of."
    import numpy as np
    import skimage.data
    from sklearn.datasets import load_sample_images
    names = 'astronaut', 'chelsea', 'coffee', 'rocket'
    out = [np.asarray(im) for im in load_sample_images().images]
    for name in names:
        try: out.append(getattr(skimage.data, name)())
        except Exception: continue                                       # not in the package, and there is no network
    return out


def make_photos(folder, n, wh):
    "Write `n` photos in two classes, those that are not there yet."
    import cv2
    import numpy as np
    from tqdm import tqdm
    from s9lib.core import atomic_path
    photos = sources()
    missing = [k for k in range(n) if not (folder/f'{k % 2}'/f'{k:05}.jpg').exists()]
    noise = np.random.default_rng(0).normal(0, 3, (1024, 1024, 3)).astype(np.int16)
    noise = np.tile(noise, (wh[1]//1024 + 3, wh[0]//1024 + 3, 1))
    for k in tqdm(missing, f'making photos of {wh[0]}x{wh[1]}', delay=2):
        g = np.random.default_rng([k, *wh])
        im, size = photos[k % len(photos)], wh
        wh = tuple(int(side*f)//16*16 for side, f in zip(size, g.uniform(.95, 1.05, 2)))  # as mixed as photos are
        s = g.uniform(.7, 1)
        h = int(min(im.shape[0], im.shape[1]*wh[1]/wh[0])*s)
        w = int(h*wh[0]/wh[1])
        t, l = g.integers(0, im.shape[0] - h + 1), g.integers(0, im.shape[1] - w + 1)
        big = cv2.resize(im[t:t + h, l:l + w], wh, interpolation=cv2.INTER_CUBIC)
        y, x = g.integers(0, 1024, 2)
        big = cv2.add(big, noise[y:y + wh[1], x:x + wh[0]], dtype=cv2.CV_8U)
        with atomic_path(folder/f'{k % 2}'/f'{k:05}.jpg') as tmp:
            cv2.imwrite(str(tmp), big[:, ::-1, ::-1] if g.random() < .5 else big[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        wh = size


def chosen(folder, n):
    "A folder of links to the first `n` photos, so that one set of files serves every n."
    out = folder.parent/f'{folder.name}-{n}'
    for k in range(n):
        link = out/f'{k % 2}'/f'{k:05}.jpg'
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists(): os.link(folder/f'{k % 2}'/link.name, link)
    return out


class Memory(threading.Thread):
    "Peak memory of this process and its children, looked at five times a second."
    def __init__(self):
        super().__init__(daemon=True)
        self.rss = self.pss = 0
        self.stop = threading.Event()

    def sample(self):
        rss = pss = 0
        for pid in [os.getpid(), *children(os.getpid())]:
            try: lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
            except OSError: continue
            found = {x.split(':')[0]: int(x.split()[1])*1024 for x in lines if x.startswith(('Rss:', 'Pss:'))}
            rss, pss = rss + found.get('Rss', 0), pss + found.get('Pss', 0)
        self.rss, self.pss = max(self.rss, rss), max(self.pss, pss)

    def run(self):
        while not self.stop.wait(.2): self.sample()

    def __enter__(self): self.start(); return self
    def __exit__(self, *_): self.stop.set(); self.join()


def children(pid):
    "Process numbers of the children of a process."
    try: return [int(p) for f in Path(f'/proc/{pid}/task').glob('*/children') for p in f.read_text().split()]
    except OSError: return []


def torchvision_batches(folder, workers):
    "One epoch of the peer."
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2
    tfm = v2.Compose([v2.RandomResizedCrop(SIZE, scale=SCALE), v2.RandomHorizontalFlip(), v2.ToImage(),
                      v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    return torch.utils.data.DataLoader(ImageFolder(folder, tfm), BS, shuffle=True, num_workers=workers)


def our_data(folder):
    "The photos as `ImageData`, all of them for training."
    from s9lib.data.folder import image_folder
    train, _ = image_folder(folder, valid_pct=.01)
    return train


def our_batches(folder, workers, cache, epoch):
    "One epoch of ours."
    from s9lib.data.loader import DataLoaders
    train = our_data(folder)
    dls = DataLoaders.from_data(train, train.subset([0]), bs=BS, size=SIZE, num_workers=workers, cache=cache, device='cpu')
    return dls.train.batches(epoch)


def one_run(a):
    "Measure in this process; print a line of JSON."
    import torch
    torch.set_num_threads(1)
    if a.run == 'listing':
        with Memory() as m:
            t = time.perf_counter()
            n = len(our_data(a.folder))
            s = time.perf_counter() - t
    else:
        if a.run == 'torchvision': dl = torchvision_batches(a.folder, a.workers)
        else: dl = our_batches(a.folder, a.workers, None if a.run == 'no cache' else a.cache, int(a.run == 'second'))
        with Memory() as m:
            t = time.perf_counter()
            n = sum(len(x) for x, _ in dl)
            s = time.perf_counter() - t
    print(json.dumps(dict(n=n, seconds=s, rss=m.rss, pss=m.pss)))


def measure(run, folder, a, home):
    "Run one measurement in a fresh process, with the caches of `home`."
    cmd = [sys.executable, __file__, '--run', run, '--folder', str(folder), '--workers', str(a.workers), '--cache', a.cache]
    out = subprocess.run(cmd, stdout=subprocess.PIPE, text=True, check=True,
                         env={**os.environ, 'XDG_CACHE_HOME': str(home)})
    return json.loads(out.stdout.splitlines()[-1])


def links(folder, n):
    "A training set of `n` links to two photos of different size, and a test set of two."
    from tqdm import tqdm
    import cv2
    import numpy as np
    for k in (0, 1):                                                     # four different small photos
        for s in ('train', 'test'):
            first = folder/s/f'{k}'/'000000.jpg'
            first.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(first), np.random.default_rng(2*k + (s == 'test')).integers(0, 255, (60 + 20*k, 90, 3), np.uint8))
    for k in tqdm(range(2, n), 'links', delay=2): os.link(folder/f'train/{k % 2}/000000.jpg', folder/f'train/{k % 2}/{k:06}.jpg')


def run_links(a):
    "List a set of many links, and load some batches of it: peak memory of listing and of loading."
    from s9lib.data.folder import image_folder
    from s9lib.data.loader import DataLoaders
    with Memory() as m:
        m.sample()
        before = m.pss
        train, test = image_folder(a.folder)
        listing = m.pss
    with Memory() as m:
        dls = DataLoaders.from_data(train, test, bs=BS, size=64, num_workers=a.workers, cache=a.cache, device='cpu')
        for k, _ in enumerate(dls.train.batches(0)):
            if k % 100 == 0: m.sample()
    print(json.dumps(dict(n=len(train), before=before, listing=listing, rss=m.rss, pss=m.pss)))


def measure_set(name, n, a, rows):
    "All rounds of one set; returns lines of the report."
    with tempfile.TemporaryDirectory(dir=a.photos) as tmp:
        folder = chosen(a.photos/f'{SETS[name][0]}x{SETS[name][1]}', n)
        mb = sum(f.stat().st_size for f in folder.glob('*/*'))/n/1e6
        listing = measure('listing', folder, a, f'{tmp}/0')
        print(f"{name}: listing {n/listing['seconds']:.0f} photos/s", flush=True)
        for r in range(a.rounds):
            shutil.copytree(f'{tmp}/0', f'{tmp}/1', ignore=shutil.ignore_patterns('photos'))  # listed, nothing cached
            for run in RUNS:
                res = measure(run, folder, a, f'{tmp}/1')
                rows.append(dict(photos=name, round=r, run=run, **res))
                print(f"{name} round {r}: {run} {res['n']/res['seconds']:.1f} images/s, {res['pss']/1e6:.0f} MB", flush=True)
            kept = [f.stat().st_size for f in Path(f'{tmp}/1/s9lib/photos').glob('*/*')]
            shutil.rmtree(f'{tmp}/1')
    mine = [x for x in rows if x['photos'] == name]
    base = [x['n']/x['seconds'] for x in mine if x['run'] == 'torchvision']
    out = ['', f'**{n:,} photos of about {SETS[name][0]}x{SETS[name][1]}** ({mb:.2f} MB each)', '',
           '| | images/s | ratio | range | peak RSS, MB | peak PSS, MB |', '|---|--:|--:|--:|--:|--:|']
    for run, text in RUNS.items():
        some = [x for x in mine if x['run'] == run]
        speed = [x['n']/x['seconds'] for x in some]
        ratio = [s/b for s, b in zip(speed, base)]
        out.append(f"| {text} | {statistics.median(speed):,.1f} | {statistics.median(ratio):.2f} | {min(ratio):.2f} to "
                   f"{max(ratio):.2f} | {max(x['rss'] for x in some)/1e6:,.0f} | {max(x['pss'] for x in some)/1e6:,.0f} |")
    disk = f"{sum(kept)/len(kept)/1e3:.0f} kB for each of {len(kept):,} photos" if kept else 'nothing: the photos are small'
    mixed = statistics.median(b*listing['seconds']/n for b in base)
    first = statistics.median(x['n']/x['seconds'] for x in mine if x['run'] == 'first')
    return out + ['', f"The cache keeps {disk}. Listing, once per folder: {n/listing['seconds']:,.1f} images/s; with it, the "
                  f"very first epoch (cache on) is at {1/(mixed + statistics.median(base)/first):.2f} of the peer's speed."]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--n', type=int, default=2000, help='small photos')
    p.add_argument('--n-large', type=int, default=500, help='large photos')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--workers', type=int, default=2)
    p.add_argument('--cache', default='8GB')
    p.add_argument('--links', type=int, default=100_000, help='links in the set that memory is measured with; 0: none')
    p.add_argument('--photos', type=Path, default=Path(os.environ.get('XDG_CACHE_HOME') or Path.home()/'.cache')/'s9lib-benchmark')
    p.add_argument('--make', action='store_true', help='make the photos and stop')
    p.add_argument('--out', type=Path, help='folder for photo_loader.md and photo_loader.csv')
    p.add_argument('--run', help=argparse.SUPPRESS)
    p.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.run: return run_links(a) if a.run == 'links' else one_run(a)
    sizes = {'12 MP': a.n_large, '0.2 MP': a.n}
    sizes = {name: n for name, n in sizes.items() if n}
    a.photos.mkdir(parents=True, exist_ok=True)
    for name, n in sizes.items(): make_photos(a.photos/f'{SETS[name][0]}x{SETS[name][1]}', n, SETS[name])
    if a.make: return
    import albumentations, cv2, PIL, torch, torchvision
    import simplejpeg
    versions = ', '.join(f'{m.__name__} {m.__version__}' for m in (torch, torchvision, PIL, albumentations, cv2, simplejpeg))
    lines = [f'`python benchmarks/photo_loader.py --n {a.n} --n-large {a.n_large} --rounds {a.rounds} --workers {a.workers} '
             f'--cache {a.cache} --links {a.links}`', '',
             f'{versions}, Python {platform.python_version()}; {processor()}, {os.cpu_count()} cores. Random crops to {SIZE} px, '
             f'batches of {BS}, {a.workers} workers; median and range of {a.rounds} rounds, each run a fresh process.']
    rows = []
    for name, n in sizes.items(): lines += measure_set(name, n, a, rows)
    if a.links:
        with tempfile.TemporaryDirectory(dir=a.photos) as tmp:
            links(Path(tmp)/'set', a.links)
            res = measure('links', Path(tmp)/'set', a, f'{tmp}/cache')
        when = {'before': 'after the imports', 'listing': 'while they are listed', 'pss': 'in an epoch, PSS',
                'rss': 'in an epoch, RSS'}
        lines += ['', f"**{res['n']:,} photos** (links to small files), {a.workers} workers", '', '| | MB |', '|---|--:|',
                  *(f'| {words} | {res[k]/1e6:,.0f} |' for k, words in when.items())]
    print('\n'.join(lines))
    if a.out:
        a.out.mkdir(parents=True, exist_ok=True)
        name, title = ('photo_loader', '') if rows else ('photo_loader_links', f', memory of {a.links:,} photos')
        (a.out/f'{name}.md').write_text(f'# Photo loader{title}\n\n' + '\n'.join(lines) + '\n')
        if not rows: return
        with open(a.out/'photo_loader.csv', 'w', newline='') as f:
            w = csv.DictWriter(f, list(rows[0]))
            w.writeheader()
            w.writerows(rows)


if __name__ == '__main__': main()

"""Cut the photos that scikit-image and scikit-learn ship into a data set of crops of mixed size, PNG and JPEG.

    python benchmarks/photo_crops.py FOLDER [--train 24] [--test 16] [--seed 0]

Each photo is a class. It is divided into 4×4 tiles, of which a drawn third is for test and the rest for training, and
every crop lies within one tile: no pixel of a crop for training is in a crop for test. Crops have 40 to 100 % of a
tile's height and, independently, of its width; every other one is a JPEG. Nothing is downloaded.
"""
import argparse
import random
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

PHOTOS = {  # package -> its photos, below the folder of the package
    'skimage': [f'data/{n}' for n in ('astronaut.png', 'brick.png', 'camera.png', 'cell.png', 'chelsea.png',
                                      'coffee.png', 'coins.png', 'grass.png', 'gravel.png', 'hubble_deep_field.jpg',
                                      'ihc.png', 'moon.png', 'motorcycle_left.png', 'page.png', 'retina.jpg',
                                      'rocket.jpg')],
    'sklearn': [f'datasets/images/{n}' for n in ('china.jpg', 'flower.jpg')]}
TILES = 4  # along each side


def photo_files():
    "The photos that are here: those of a package that is not installed are left out."
    roots = {p: find_spec(p) for p in PHOTOS}
    files = [Path(next(iter(s.submodule_search_locations)))/n for p, s in roots.items() if s for n in PHOTOS[p]]
    return [f for f in files if f.exists()]


def tiles(size, rng):
    "Boxes (left, top, right, bottom) for training and for test; no two overlap."
    w, h = size
    xs, ys = ([round(n*k/TILES) for k in range(TILES + 1)] for n in (w, h))
    boxes = [(xs[i], ys[j], xs[i + 1], ys[j + 1]) for i in range(TILES) for j in range(TILES)]
    rng.shuffle(boxes)
    third = len(boxes)//3
    return dict(train=boxes[third:], test=boxes[:third])


def crop_box(tile, rng):
    "A box within a tile."
    left, top, right, bottom = tile
    w, h = (round(n*rng.uniform(.4, 1)) for n in (right - left, bottom - top))
    x, y = rng.randint(left, right - w), rng.randint(top, bottom - h)
    return x, y, x + w, y + h


def make_photo_crops(folder, n_train=24, n_test=16, seed=0):
    "Write `train/` and `test/` with a class for each photo below `folder`; return the number of classes."
    files = photo_files()
    if len(files) < 2:
        raise FileNotFoundError("photo crops need the photos of scikit-image and scikit-learn: "
                                "pip install 's9lib[photos]'")
    for file in files:
        rng, photo = random.Random(f'{seed} {file.stem}'), Image.open(file).convert('RGB')
        parts = tiles(photo.size, rng)
        for split, n in (('train', n_train), ('test', n_test)):
            out = Path(folder)/split/file.stem
            out.mkdir(parents=True, exist_ok=True)
            for k in range(n):
                crop = photo.crop(crop_box(rng.choice(parts[split]), rng))
                if k % 2: crop.save(out/f'{k:03}.jpg', quality=90)
                else: crop.save(out/f'{k:03}.png')
    return len(files)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('folder', type=Path)
    p.add_argument('--train', type=int, default=24, help='crops of each photo')
    p.add_argument('--test', type=int, default=16, help='crops of each photo')
    p.add_argument('--seed', type=int, default=0)
    a = p.parse_args()
    n = make_photo_crops(a.folder, a.train, a.test, a.seed)
    print(f'{n} classes, {n*a.train} crops to train on, {n*a.test} to test, in {a.folder}')


if __name__ == '__main__': main()

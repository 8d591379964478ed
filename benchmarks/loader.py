"""Images per second of every tier of the loader and of two plain peers, with the same augmentation, on one core.

    python benchmarks/loader.py [--rounds 5] [--device cpu]

The loaders take turns in every round, so that a busy machine slows all of them; the table gives the median of the rounds and
the ratio to the plain Albumentations loader, taken round by round. On the CPU the clock is the processor time of this process,
one thread: images per second of one core, whatever else runs. On a GPU it is the wall clock.
"""
import argparse
import os
import statistics
import time

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from s9lib.core import keyed_rng
from s9lib.data import CIFAR10_MEAN, CIFAR10_STD, ImageData
from s9lib.loader import Loader
from s9lib.transforms import train_tfms

BS = 500


class PerImage(torch.utils.data.Dataset):
    "The way most code does it: one image, one call of the pipeline."
    def __init__(self, data, tfm): self.data, self.tfm = data, tfm
    def __len__(self): return len(self.data)
    def __getitem__(self, i):
        im, y = self.data[i]
        return self.tfm(im), y


def torchvision_tfm(pad, hole):
    "The same augmentation from torchvision v2; the hole is cut after Normalize, where the mean is 0."
    area = hole**2/32**2
    cut = [v2.RandomErasing(p=1, scale=(area, area), ratio=(1, 1), value=0)] if hole else []
    return v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(), v2.RandomCrop(32, padding=pad, padding_mode='reflect'),
                       v2.ToDtype(torch.float32, scale=True), v2.Normalize(CIFAR10_MEAN, CIFAR10_STD), *cut])


def albumentations_tfm(pad, hole):
    "The same pipeline written out by hand, as a user of Albumentations would."
    cut = [A.CoarseDropout((1, 1), (hole, hole), (hole, hole), fill=tuple(round(255*m) for m in CIFAR10_MEAN), p=1)] if hole else []
    tfm = A.Compose([A.HorizontalFlip(), A.Pad(pad, border_mode=cv2.BORDER_REFLECT_101), A.RandomCrop(32, 32), *cut,
                     A.Normalize(CIFAR10_MEAN, CIFAR10_STD), ToTensorV2()])
    return lambda im: tfm(image=im)['image']


def contenders(preset, pad, hole, data, device):
    "Functions that run one epoch and return the number of images."
    small = data.subset(slice(0, 2000))                                  # enough for the slow ones
    def plain(tfm):
        dl = DataLoader(PerImage(small, tfm), batch_size=BS, shuffle=True)
        return lambda e: sum(len(x.to(device)) for x, _ in dl)
    def ours(tier, data):
        dl = Loader(data, train_tfms(preset), BS, True, tier=tier, device=device)
        return lambda e: sum(len(x) for x, _ in dl.batches(e))
    return {'torchvision v2, plain DataLoader': plain(torchvision_tfm(pad, hole)), 'Albumentations, plain DataLoader': plain(albumentations_tfm(pad, hole)),
            's9lib, tier image': ours('image', small), 's9lib, tier batch': ours('batch', small), 's9lib, tier device': ours('device', data)}


def measure(runs, rounds, device):
    "Images per second of each run in each round, the runs taking turns."
    out, clock = {k: [] for k in runs}, time.process_time if device.type == 'cpu' else time.perf_counter
    for e in range(rounds + 1):
        for k, f in runs.items():
            t = clock()
            n = f(e)
            if device.type == 'cuda': torch.cuda.synchronize()
            if e: out[k].append(n/(clock() - t))             # the first round warms up
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    a = p.parse_args()
    torch.set_num_threads(1); cv2.setNumThreads(1)
    g, device = keyed_rng(0), torch.device(a.device)
    data = ImageData(g.integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8), g.integers(0, 10, 50_000), list('abcdefghij'))
    print(f'torch {torch.__version__}, albumentations {A.__version__}, {device}, 1 thread, batch {BS}, 32x32, median of {a.rounds} rounds')
    for preset, pad, hole in (('light', 2, 0), ('standard', 4, 8)):
        res = measure(contenders(preset, pad, hole, data, device), a.rounds, device)
        base = res['Albumentations, plain DataLoader']
        print(f'\n| `{preset}` | img/s | ratio |\n|---|--:|--:|')
        for k, v in res.items(): print(f'| {k} | {statistics.median(v):,.0f} | {statistics.median(x/b for x, b in zip(v, base)):.1f} |')


if __name__ == '__main__': main()

"""Images per second of every mode of the loader and of three peers, with the same augmentation, on one core.

    python benchmarks/loader.py [--rounds 5] [--device cpu] [--out benchmarks/results/loader.md]

The peers are a plain `DataLoader` over torchvision v2, one over Albumentations, and a loader in the style of airbench
(arXiv 2404.00498), written here: all images as normalized floats, augmented an epoch at a time. The loaders take turns
in every round, so that a busy machine slows all of them; the table gives the median of the rounds and the ratio to the
plain Albumentations loader, taken round by round. On the CPU the clock is the processor time of this process, one
thread: images per second of one core, whatever else runs. On a GPU it is the wall clock. What is done once for all
epochs (floats, padding) is done in a first round that does not count. With `size` every loader resizes its batches by
the antialiased bilinear rule.
"""
import argparse
import os
import platform
import statistics
import time
from pathlib import Path

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')

import albumentations as A
import cv2
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from albumentations.pytorch import ToTensorV2
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from machine import processor
from s9lib.core import keyed_rng
from s9lib.data.dataset import CIFAR10_MEAN, CIFAR10_STD, ImageData
from s9lib.data.loader import Loader
from s9lib.data.transforms import train_tfms

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
    fill = tuple(round(255*m) for m in CIFAR10_MEAN)
    cut = [A.CoarseDropout((1, 1), (hole, hole), (hole, hole), fill=fill, p=1)] if hole else []
    tfm = A.Compose([A.HorizontalFlip(), A.Pad(pad, border_mode=cv2.BORDER_REFLECT_101), A.RandomCrop(32, 32), *cut,
                     A.Normalize(CIFAR10_MEAN, CIFAR10_STD), ToTensorV2()])
    return lambda im: tfm(image=im)['image']


class Airbench:
    "All images on the device as normalized floats; flip, shift and cut a whole epoch, then index it batch by batch."
    def __init__(self, data, pad, hole, device):
        mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
        x = torch.from_numpy(data.images).to(device).permute(0, 3, 1, 2).contiguous()
        self.padded, self.r, self.hole = F.pad((x/255).sub_(mean).div_(std), (pad,)*4, 'reflect'), pad, hole

    def __call__(self, epoch):
        n, r, dev = len(self.padded), self.r, self.padded.device
        flip = (torch.rand(n, device=dev) < .5).view(-1, 1, 1, 1)
        x, out = torch.where(flip, self.padded.flip(-1), self.padded), torch.empty(n, 3, 32, 32, device=dev)
        shift = torch.randint(0, 2*r + 1, (2, n), device=dev)
        if r <= 2:                               # airbench's choice: all shifts at once, or rows, then columns
            for sy in range(2*r + 1):
                for sx in range(2*r + 1):
                    m = (shift[0] == sy) & (shift[1] == sx)
                    out[m] = x[m, :, sy:sy + 32, sx:sx + 32]
        else:
            rows = torch.empty(n, 3, 32, 32 + 2*r, device=dev)
            for s in range(2*r + 1): m = shift[0] == s; rows[m] = x[m, :, s:s + 32]
            for s in range(2*r + 1): m = shift[1] == s; out[m] = rows[m, :, :, s:s + 32]
        if self.hole: out.masked_fill_(self.holes(n, dev), 0)
        order = torch.randperm(n, device=dev)
        yield from (out[order[i:i + BS]] for i in range(0, n, BS))

    def holes(self, n, dev):
        y, x = torch.randint(0, 32 - self.hole + 1, (2, n, 1), device=dev)
        i = torch.arange(32, device=dev)
        row, col = ((i >= a) & (i < a + self.hole) for a in (y, x))
        return (row[:, :, None] & col[:, None])[:, None]


def contenders(preset, pad, hole, size, data, device):
    "Functions that run one epoch and return the number of images."
    small = data.subset(slice(0, 2000))                                  # enough for the slow ones
    def resize(x):
        return x if size is None else F.interpolate(x, size=(size, size), mode='bilinear', antialias=True)
    def plain(tfm):
        dl = DataLoader(PerImage(small, tfm), batch_size=BS, shuffle=True)
        return lambda e: sum(len(resize(x.to(device))) for x, _ in dl)
    def ours(mode, data):
        dl = Loader(data, train_tfms(preset), BS, True, mode=mode, device=device)
        return lambda e: sum(len(x) for x, _ in dl.batches(e, size=size))
    air = Airbench(data.subset(slice(0, 10_000)), pad, hole, device)     # fewer images, smaller tensors suit a CPU
    return {'torchvision v2, plain DataLoader': plain(torchvision_tfm(pad, hole)),
            'Albumentations, plain DataLoader': plain(albumentations_tfm(pad, hole)),
            'in the style of airbench': lambda e: sum(len(resize(x)) for x in air(e)),
            's9lib, mode image': ours('image', small), 's9lib, mode batch': ours('batch', small),
            's9lib, mode device': ours('device', data)}


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


def head(a, device):
    "What ran, on what, with which versions."
    versions = ', '.join(f'{m.__name__} {m.__version__}' for m in (torch, torchvision, A, cv2, np))
    cpu = device.type == 'cpu'
    where = f'{processor()}, one thread, processor time' if cpu else f'{torch.cuda.get_device_name()}, wall clock'
    return [f'`OMP_NUM_THREADS=1 python benchmarks/loader.py --rounds {a.rounds} --device {a.device}`', '',
            f'Python {platform.python_version()}, {versions}; {where}; batches of {BS} images of 32x32; '
            f'median of {a.rounds} rounds.']


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--out', type=Path, help='write the tables to this file too')
    a = p.parse_args()
    torch.set_num_threads(1); cv2.setNumThreads(1)
    g, device = keyed_rng(0), torch.device(a.device)
    images = g.integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
    data = ImageData(images, g.integers(0, 10, 50_000), list('abcdefghij'))
    lines = head(a, device)
    for preset, pad, hole, size in (('light', 2, 0, None), ('standard', 4, 8, None), ('light', 2, 0, 24)):
        res = measure(contenders(preset, pad, hole, size, data, device), a.rounds, device)
        base = res['Albumentations, plain DataLoader']
        lines += ['', f"| `{preset}`{f', size={size}' if size else ''} | images/s | ratio |", '|---|--:|--:|']
        for k, v in res.items():
            ratio = statistics.median(x/b for x, b in zip(v, base))
            lines.append(f'| {k} | {statistics.median(v):,.0f} | {ratio:.1f} |')
    print('\n'.join(lines))
    if a.out:
        a.out.parent.mkdir(parents=True, exist_ok=True)
        a.out.write_text('# Loader\n\n' + '\n'.join(lines) + '\n')


if __name__ == '__main__': main()

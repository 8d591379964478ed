"""Training from shards, a Hugging Face data set and a torch Dataset: one process against two, and stopped against undisturbed.

    python benchmarks/streams.py [--quick] [--out benchmarks/results/streams.md]

Drawings of mixed sizes are written as WebDataset shards, as a Hugging Face data set on the disk, as a folder for torchvision's
ImageFolder, and as the folder that `image_folder` reads. Every form is trained on in one process and in two (gloo on the CPU,
started by torchrun), with 0 and 2 workers. The figure is the largest relative distance between a tensor of weights or statistics of
the one run and of the other, in single and in double precision. The script fails if workers or a resume change a bit in one
process, if the forms of the same bytes differ in a bit, or if two processes are further than 1e-9 from one in double precision.
"""
import argparse
import io
import os
import platform
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch
from PIL import Image

from s9lib.core import set_seed
from s9lib.data.folder import image_folder
from s9lib.data.loader import DataLoaders
from s9lib.data.streams import image_dataset, image_hf, image_shards
from s9lib.data.synthetic import shapes
from s9lib.nets.fastnet import fastnet
from s9lib.train.callbacks import LoadState, StopAtStep
from s9lib.train.distributed import distributed
from s9lib.train.evaluator import SingleProcess
from s9lib.train.learner import Learner
from s9lib.train.optim import sgd

FORMS = 'folder', 'shards', 'hf', 'torch'


def write(box, n):
    "The same PNG files in four forms, in the same order."
    import datasets
    import webdataset
    tables = {}
    for split, count, seed in (('train', n, 0), ('test', n//3, 1)):
        data = shapes(count, 40, seed=seed)
        order = sorted(range(count), key=lambda i: (data.classes[data.labels[i]], i))
        rows = []
        with webdataset.ShardWriter(f'{box}/shards-{split}-%03d.tar', maxcount=17, verbose=0) as out:
            for i in order:
                c, f = data.classes[data.labels[i]], io.BytesIO()
                Image.fromarray(data.images[i][:28 + i % 12]).save(f, 'PNG')
                file = Path(box)/'folder'/split/c/f'{i:04d}.png'
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(f.getvalue())
                out.write({'__key__': f'{i:04d}', 'png': f.getvalue(), 'txt': c})
                rows.append(dict(image=dict(bytes=f.getvalue(), path=None), label=c))
        feats = datasets.Features(dict(image=datasets.Image(), label=datasets.ClassLabel(names=sorted(set(data.classes)))))
        tables[split] = datasets.Dataset.from_list(rows, features=feats)
    datasets.DatasetDict(tables).save_to_disk(f'{box}/hf')


def load(form, box):
    "(train, test) of a form."
    from torchvision.datasets import ImageFolder
    if form == 'folder': return image_folder(f'{box}/folder')
    if form == 'shards': return image_shards([f'{p}' for p in sorted(Path(box).glob('shards-train-*.tar'))],
                                             sorted(Path(box).glob('shards-test-*.tar')))
    if form == 'hf': return image_hf(f'{box}/hf')
    return image_dataset(*(ImageFolder(f'{box}/folder/{s}') for s in ('train', 'test')))


def train(form, box, strategy, wide=False, workers=0, cbs=()):
    "Train on one form; return weights and statistics, and the state."
    set_seed(0)
    with strategy.rank0_first(): data = load(form, box)
    dls = DataLoaders.from_data(*data, size=32, bs=20, preset='photo', device='cpu', num_workers=workers)
    net = fastnet(num_classes=len(dls.classes), widths=(8, 8, 8))
    if wide:
        single = net.double().forward
        net.forward = lambda x: single(x.double())
    learn = Learner(dls, net, opt_func=partial(sgd, lr=.1), strategy=strategy, cbs=list(cbs))
    learn.fit_one_cycle(2)
    return {k: v.clone() for k, v in learn.model.state_dict().items()}, learn.state_dict()


def worker(box, me_out):
    "Both precisions and a stopped run in this group of processes."
    with distributed() as strategy:
        out = {}
        for form in FORMS:
            out[form, False] = train(form, box, strategy)[0]
            out[form, True] = train(form, box, strategy, True)[0]
        out['half'] = train('shards', box, strategy, True, cbs=[StopAtStep(5)])[1]
        if not strategy.rank: torch.save(out, me_out)


def apart(a, b):
    "Largest relative distance of a tensor."
    pairs = [(s.double(), t.double()) for s, t in zip(a.values(), b.values(), strict=True)]
    return max(((s - t).norm()/t.norm().clamp_min(1e-3)).item() for s, t in pairs)


def equal(a, b): return all(torch.equal(s, t) for s, t in zip(a.values(), b.values(), strict=True))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--quick', action='store_true', help='fewer images')
    p.add_argument('--out', type=Path)
    p.add_argument('--worker', nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args()
    torch.set_num_threads(1)
    if a.worker: return worker(*a.worker)
    bad, rows, single = [], [], SingleProcess()
    with tempfile.TemporaryDirectory() as box:
        os.environ['XDG_CACHE_HOME'] = f'{box}/cache'
        write(box, 60 if a.quick else 150)
        start = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
        subprocess.run([*start, __file__, '--worker', box, f'{box}/2.pt'], check=True)
        two = torch.load(f'{box}/2.pt', weights_only=False)
        first = None
        for form in FORMS:
            one, _ = train(form, box, single)
            wide, _ = train(form, box, single, True)
            workers = equal(train(form, box, single, workers=2)[0], one)
            half = train(form, box, single, cbs=[StopAtStep(5)])[1]
            resumed = equal(train(form, box, single, cbs=[LoadState(half)])[0], one)
            first = first or one
            same, gaps = equal(one, first), (apart(two[form, False], one), apart(two[form, True], wide))
            if not (workers and resumed and gaps[1] < 1e-9 and same): bad.append(form)
            say = {True: 'the same bits', False: 'DIFFERENT'}
            rows.append(f'| {form} | {gaps[0]:.0e} | {gaps[1]:.0e} | {say[workers]} | {say[resumed]} | {say[same]} |')
            print(rows[-1], flush=True)
            if form == 'shards': gap = apart(train(form, box, single, True, cbs=[LoadState(two['half'])])[0], wide)
        if gap > 1e-9: bad.append('begun by two')
    text = f'Shards begun by two processes, stopped after step 5 and ended by one: {gap:.0e} from the undisturbed run.'
    print(text)
    if a.out:
        head = ['# Shards and data sets, in one process and in two', '', 'Largest relative distance between the weights and statistics of two '
                'processes and of one, after two epochs on drawings of mixed sizes (`benchmarks/streams.py`).', '',
                '| form | two processes, single | double | 2 workers against 0 | stopped and resumed | against the folder |',
                '|---|---:|---:|---|---|---|']
        foot = ['', text, '', f'gloo, one thread a process; torch {torch.__version__}, Python {platform.python_version()}, '
                f'{platform.system()} {platform.machine()}.']
        a.out.write_text('\n'.join([*head, *rows, *foot]) + '\n', encoding='utf-8')
    if bad: sys.exit(f'not the same run: {", ".join(bad)}')


if __name__ == '__main__': main()

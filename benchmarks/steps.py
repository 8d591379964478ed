"""Ways to compute the same training step on this machine: seconds against direct convolutions in single precision.

    python benchmarks/steps.py [--rounds 5] [--ways Winograd 'mixed precision'] [--cases recipes fine-tuning]
                               [--out benchmarks/results/steps.md]

The ways are Winograd's method for 3x3 filters (s9lib.nets.winograd) and mixed precision. A CPU with wide vectors is
good at direct convolutions, one that multiplies bfloat16 natively gains from mixed precision, another loses, and only
a measurement tells. The steps are those of a recipe, or of fine-tuning a network while everything learns: forward,
loss, backward, optimiser. In every round the ways take turns on the wall clock, the first of them alternating; the
table gives the median and the range of the rounds' ratios.
"""
import argparse
import os
import platform
import shlex
import statistics
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
os.environ['S9LIB_WINOGRAD'] = '1'  # the ways below decide, not the environment

import torch

from machine import processor, suffix
from s9lib.core import atomic_path, default_device, set_seed
from s9lib.data.loader import synth_dls
from s9lib.train.finetune import vision_learner
from s9lib.train.recipes import get_recipe

WAYS = {'direct': dict(winograd=False, amp=False), 'Winograd': dict(winograd=True, amp=False),
        'mixed precision': dict(winograd=False, amp=True)}
CASES = {'recipes': (('resnet18', 128, 32), ('resnet18', 128, 24), ('speed94', 500, 32), ('speed94', 500, 24),
                     ('fast', 500, 32), ('speed87', 200, 24)),  # recipe, batch, px
         'fine-tuning': [(net, 16, 160) for net in (  # network, batch, px
             'torchvision:resnet18', 'torchvision:resnet50', 'timm:convnext_tiny', 'torchvision:swin_t',
             'torchvision:densenet121', 'torchvision:regnet_y_1_6gf', 'torchvision:efficientnet_v2_s',
             'torchvision:efficientnet_b3', 'torchvision:regnet_y_400mf', 'torchvision:efficientnet_b0',
             'timm:tf_efficientnet_lite0', 'torchvision:mobilenet_v3_large', 'torchvision:mobilenet_v2')]
             + [('timm:vit_small_patch16_224', 16, 224)]}


def measure(name, bs, size, ways, rounds, steps=2):
    "Seconds a step of each way, for each round; the first round warms up and is left out."
    pretrained = ':' in name
    dls = synth_dls(n=bs*steps, n_test=10, bs=bs, size=size if pretrained else 32, device=default_device(),
                    preset='none')
    recipe = None if pretrained else replace(get_recipe(name), bs=bs, progressive_sizes=((rounds + 1, size),),
                                             freeze=(), hardest=(), epochs=rounds + 1)
    learners = {}
    for way in ways:
        winograd, amp = WAYS[way].values()
        set_seed(0)
        if pretrained: learners[way] = vision_learner(dls, name, weights=None, amp=amp)  # values make no difference
        else: learners[way] = replace(recipe, winograd=winograd).learner(dls, amp=amp)
        keep = ('body',)*pretrained                                                      # as `fine_tune` has it
        learners[way]._setup(rounds + 1, None, lambda step, n_steps: .1, keep_stats=keep)
    table = []
    for r in range(rounds + 1):
        took = {}
        for way, learn in list(learners.items())[::1 if r % 2 else -1]:
            start = time.perf_counter()
            learn.one_epoch()
            if learn.device.type == 'cuda': torch.cuda.synchronize()
            learn.epoch, took[way] = learn.epoch + 1, (time.perf_counter() - start)/steps
        table.append(took)
    return table[1:]


def main():
    warnings.filterwarnings('ignore', 'this run has .* steps, too few to learn from')  # only their time is of interest
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--rounds', type=int, default=5)
    args.add_argument('--ways', nargs='+', default=list(WAYS)[1:], choices=list(WAYS)[1:],
                      help='to compare with direct convolutions')
    args.add_argument('--cases', nargs='+', default=['recipes'], choices=list(CASES))
    args.add_argument('--out', type=Path)
    a = args.parse_args()
    rows = []
    for name, bs, size in (case for which in a.cases for case in CASES[which]):
        table = measure(name, bs, size, ['direct', *a.ways], a.rounds)
        cells = [f"{statistics.median(t['direct'] for t in table):.3f}"]
        for way in a.ways:
            ratios = [t[way]/t['direct'] for t in table]
            cells.append(f'{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})')
        rows.append(f'| {name} | {bs} | {size} | ' + ' | '.join(cells) + ' |')
        print(rows[-1], flush=True)
    device = default_device()
    cpu = f'{processor()}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads'
    hw = torch.cuda.get_device_name() if device.type == 'cuda' else cpu
    text = '\n'.join([
        f'# Ways to compute a step{suffix(a.out)}', '',
        'Training steps, in turns (`benchmarks/steps.py` says how): seconds against those of direct '
        f'convolutions in single precision, median and range of {a.rounds} rounds. The ratios are of the machine named '
        'below; another CPU may well lose.', '',
        f'| recipe or network | batch | px | direct, s a step | {" | ".join(a.ways)} |',
        f'|---|---:|---:|---:|{"---:|"*len(a.ways)}', *rows, '',
        f'`python benchmarks/steps.py {shlex.join(sys.argv[1:])}`; torch {torch.__version__}, '
        f'Python {platform.python_version()}, {platform.system()}, {hw}.', ''])
    if a.out:
        with atomic_path(a.out) as tmp: tmp.write_text(text, encoding='utf-8')


if __name__ == '__main__': main()

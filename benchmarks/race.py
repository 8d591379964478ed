"""A recipe against airbench94_muon on the same machine, in turns: seconds of training, arithmetic and accuracy of both.

    python benchmarks/race.py speed94 [--seed 0] [--steps 200] [--rivals float32 bfloat16] [--out race.md]

The rival is the recipe of airbench94_muon.py in github.com/KellerJordan/cifar10-airbench, brought to this machine:
its network, its 200 steps of 2,000 images at full size, its optimisers, learning rates and label smoothing, channels
last, without torch.compile, in a bare loop over our loader (alternating flip, two pixels of translation, as its own
does). Its steps are spread evenly over the run of the recipe, in the same process and with the same threads, so
whatever else the machine does falls on both. With fewer than 200 `--steps` its schedule is shortened, its seconds are
scaled up, every step being the same work, and it has no accuracy. It runs in single precision, unless `--rivals`
names others, each of which is one rival; ours is that of the device, and S9LIB_AMP=1 makes it mixed. The run of the
recipe is a run like those of accuracy.py, and kept in accuracy.csv with the seconds of its own steps.
"""
import argparse
import os
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

import torch
import torch.nn.functional as F

import accuracy
from machine import processor, suffix
from s9lib.core import atomic_path, default_device, set_seed
from s9lib.data.cifar import load_data
from s9lib.nets.fastnet import fastnet
from s9lib.nets.init import whitening_
from s9lib.nets.summary import count_flops
from s9lib.train.callbacks import Callback
from s9lib.train.evaluator import Evaluator
from s9lib.train.history import ProgressCallback
from s9lib.train.optim import Muon, split_params
from s9lib.train.recipes import get_recipe, run_metrics

STEPS, BS, BIAS = 200, 2000, 3/8  # steps, images a step, share of the steps in which the bias of the first layer learns


def rival_net(dls):
    "Network of airbench94_muon: 1.97 million parameters; of its first layer only the bias learns."
    model = fastnet(len(dls.classes), widths=(64, 256, 256), scale=1/256)
    model.fc.weight.data /= model.fc.weight.std()
    whitening_(model.conv1, torch.cat([xb for _, (xb, _) in zip(range(3), dls.train.batches())])[:5000])
    model.conv1.weight.requires_grad_(False)
    for p in split_params(model)['scales']: p.requires_grad_(False)
    return model.to(dls.device, memory_format=torch.channels_last)


def rival(model, dls, n, dtype):
    "Train `model` as airbench94_muon does, in `n` steps, one for each `next`; the convolutions compute in `dtype`."
    p, wd = split_params(model), 2e-6*BS
    rates = dict(filters=.24, stem=.053, biases=.053, head=.67)
    groups = [dict(params=p[k], lr=lr, name=k) for k, lr in rates.items()]
    for g in groups: g.update(dict(muon=True, momentum=.6) if g['name'] == 'filters' else dict(weight_decay=wd/g['lr']))
    opt = Muon(groups)
    for step in range(n):
        if step % len(dls.train) == 0: batches = dls.train.batches(step//len(dls.train))
        model.conv1.bias.requires_grad_(step < BIAS*n)
        for g in opt.param_groups: g['lr'] = rates[g['name']]*max(0., 1 - step/(BIAS*n if g['name'] == 'stem' else n))
        xb, yb = next(batches)
        with torch.autocast(dls.device.type, dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(model.train()(xb), yb, label_smoothing=.2, reduction='sum')
        loss.backward()
        opt.step()
        opt.zero_grad()
        yield


def rival_flops():
    "Arithmetic of the rival's 200 steps, counted as that of the recipes is."
    model = fastnet(10, widths=(64, 256, 256))
    model.conv1.weight.requires_grad_(False)
    early = count_flops(model, (1, 3, 32, 32), backward=True)
    model.conv1.bias.requires_grad_(False)
    return round(STEPS*BS*(BIAS*early + (1 - BIAS)*count_flops(model, (1, 3, 32, 32), backward=True)))


class Race(Callback):
    "Time the run's steps, and take the `n` steps of each rival between them, evenly spread."
    order = 50

    def __init__(self, rivals, n):
        self.rivals, self.n, self.done, self.last = rivals, n, 0, 0.
        self.ours, self.theirs = 0., dict.fromkeys(rivals, 0.)

    def before_epoch(self, learn): self.last = time.perf_counter()

    def after_batch(self, learn):
        self.ours += time.perf_counter() - self.last
        while self.done < self.n*learn.step//learn.n_steps:
            for name, steps in self.rivals.items():
                start = time.perf_counter()
                next(steps)
                self.theirs[name] += time.perf_counter() - start
            self.done += 1
        self.last = time.perf_counter()


def line(name, precision, epochs, seconds, ratio, flops, done, *accs):
    accs = [f'{100*a:.2f}' if a else '-' for a in accs]
    return (f'| {name} | {precision} | {epochs} | {seconds:.0f} | {ratio:.2f} | {flops/1e15:.4f} | {done/1e15:.4f} | '
            f"{' | '.join(accs)} |")


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('recipe')
    args.add_argument('--seed', type=int, default=0)
    args.add_argument('--steps', type=int, default=STEPS, help='of the rival, 1 to 200')
    args.add_argument('--rivals', nargs='+', default=['float32'], choices=['float32', 'bfloat16'],
                      help='precisions of the rival')
    args.add_argument('--out', type=Path)
    a = args.parse_args()
    if not 1 <= a.steps <= STEPS: args.error(f'--steps {a.steps}: expected 1 to {STEPS}')
    train, test = load_data()
    recipe = get_recipe(a.recipe)
    theirs = replace(recipe, bs=BS).dataloaders(train, test, seed=a.seed)
    nets = {}
    for name in a.rivals:
        set_seed(a.seed)
        nets[name] = rival_net(theirs)
    race = Race({name: rival(net, theirs, a.steps, getattr(torch, name)) for name, net in nets.items()}, a.steps)
    learn = recipe.learner(recipe.dataloaders(train, test, seed=a.seed), cbs=[ProgressCallback(), race])
    learn.fit()
    m = {**run_metrics(learn), 'train_seconds': race.ours}
    accuracy.keep(m)
    rows = [line(recipe.name, m['precision'], recipe.epochs, race.ours, 1, m['flops'], m['flops_done'],
                 m['test_acc'], m['test_acc_six'])]
    for name, net in nets.items():
        accs = Evaluator(theirs, net, amp=name != 'float32').tta_accs() if a.steps == STEPS else {}
        seconds = race.theirs[name]*STEPS/a.steps
        rows.append(line('airbench94_muon', name, 8, seconds, race.ours/seconds, rival_flops(), rival_flops(),
                         accs.get('none'), accs.get('six')))
    ways = [f'{k}={os.environ[k]}' for k in ('S9LIB_AMP', 'S9LIB_WINOGRAD') if k in os.environ]
    text = '\n'.join([
        f'# {recipe.name} against airbench94_muon{suffix(a.out)}', '',
        'All trained in turns in one process; `benchmarks/race.py` says what the rival is. '
        f'Ratio: the seconds of {recipe.name} over those of the line. '
        'PFLOP: as if every convolution were direct; carried out: what was really computed.', '',
        '| recipe | precision | epochs | training, s | ratio | PFLOP | carried out | single view, % | six views, % |',
        '|---|---|---:|---:|---:|---:|---:|---:|---:|', *rows, '',
        f'Steps of each rival that were run and timed: {a.steps} of {STEPS}.', '',
        f"`{' '.join([*ways, 'python benchmarks/race.py', *sys.argv[1:]])}`; torch {torch.__version__}, "
        f'Python {platform.python_version()}, {platform.system()}, {processor()}, {default_device()}, '
        f'{torch.get_num_threads()} threads.', ''])
    print(text)
    if a.out:
        with atomic_path(a.out) as tmp: tmp.write_text(text, encoding='utf-8')


if __name__ == '__main__': main()

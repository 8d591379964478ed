"""Everything that only a GPU shows, in one command and nine minutes: checks first, then speed and accuracy.

    python benchmarks/gpu.py [--minutes 9] [--seeds 3] [--recipes speed94 resnet18] [--out benchmarks/results/gpu.md]

Checks: every mode of the loader gives the CPU's batches; bfloat16, float16 with a scaler, channels last and
torch.compile train as single precision does; a run that is stopped and taken up again ends in the same bits, with the
settings that this needs; heat maps equal the CPU's; the memory that `check_memory` forecasts is what a step takes; and
the profiler counts what makes the host wait for the GPU within a step.

Then the recipes and airbench94_muon (see race.py) train in turns, seed after seed, in this process, as long as the
time allows: seconds, accuracy, images a second, and the share of what the card does in large matrix products of the
same precision. The first run of each kind warms up on a few steps and is not timed.

Without a GPU the same lines run on the CPU with a few hundred drawn shapes, which shows that they run and nothing
else. The exit status is 1 if a check failed. Rows go to a .csv beside the report.
"""
import argparse
import csv
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # before CUDA starts: cuBLAS may not choose by itself

import torch
from torch.profiler import profile, ProfilerActivity

import race
from machine import processor
from s9lib.core import atomic_path, default_device, set_seed
from s9lib.data.cifar import load_data
from s9lib.data.loader import Loader, synth_dls
from s9lib.data.synthetic import shapes_split
from s9lib.data.transforms import train_tfms
from s9lib.explain.cam import cam
from s9lib.nets.fastnet import fastnet
from s9lib.nets.resnet import resnet18
from s9lib.train.callbacks import Callback, StopAtStep
from s9lib.train.checks import saved_bytes
from s9lib.train.evaluator import amp_dtype, Evaluator
from s9lib.train.learner import Learner
from s9lib.train.optim import Lookahead, muon
from s9lib.train.recipes import get_recipe
from s9lib.train.resume import CheckpointCallback

WAITS = ('aten::_local_scalar_dense', 'aten::nonzero', 'cudaStreamSynchronize', 'cudaDeviceSynchronize',
         'cudaEventSynchronize')  # what the profiler calls a host that waits


def sync(device):
    "Wait until the GPU has done what it was given."
    if device.type == 'cuda': torch.cuda.synchronize()


# Checks: functions of the device that yield (what, value, limit); a check holds if value <= limit. A limit of None: it
# is asked of a GPU only

def check_loader(device):
    "Batches of each mode against mode `image` on the CPU, and against the same mode on the CPU."
    train, _ = shapes_split(256, 10)
    for preset, size in (('light', None), ('standard', None), ('light', 24)):
        def batch(mode, where):
            dl = Loader(train, train_tfms(preset), 100, True, seed=1, mode=mode, device=where)
            return [(x.cpu(), y.cpu()) for x, y in dl.batches(1, size=size)]
        plain = batch('image', 'cpu')
        for mode in ('image', 'batch', 'device'):
            got, same = batch(mode, device), batch(mode, 'cpu')
            name = f"loader, {preset}{f' at {size} px' if size else ''}, mode {mode}: "
            labels = sum(int((a != b).sum()) for (_, a), (_, b) in zip(got, plain))
            yield name + 'labels that differ', labels, 0
            for other, whose in ((plain, "mode image, CPU"), (same, 'the same mode, CPU')):
                far = max(float((a - b).abs().max()) for (a, _), (b, _) in zip(got, other))
                yield name + f'largest difference to {whose}, in standard deviations', far, 1e-4


def train_some(device, steps=24, cbs=(), compile=False, amp=False, seed=0):
    "Train a small net on shapes; the learner."
    dls = synth_dls(n=8*64, n_test=64, bs=64, seed=seed, device=device, alt_flip=True)
    set_seed(seed)
    learn = Learner(dls, fastnet(len(dls.classes), widths=(32, 64, 64)), opt_func=partial(muon, lr=.1), cbs=cbs,
                    averager=partial(Lookahead, every=5), amp=amp, compile=compile, seed=seed)
    learn.fit(-(-steps//len(dls.train)))
    return learn


@contextmanager
def mixed(dtype):
    "Take `dtype` wherever mixed precision is asked for."
    with mock.patch('s9lib.train.evaluator.amp_dtype', lambda device: dtype), \
         mock.patch('s9lib.train.learner.amp_dtype', lambda device: dtype): yield


def check_precision(device):
    "Mean training loss of the last epoch in each precision, relative to single precision."
    base = train_some(device)
    flat = [p for p in base.model.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1
            and not p.is_contiguous(memory_format=torch.channels_last)]
    yield 'filters that are not channels last', len(flat), 0
    xb, _ = next(base.dls.train.batches())
    yield 'batches that are not channels last', int(not xb.is_contiguous(memory_format=torch.channels_last)), 0
    loss = base.history[-1]['train_loss']
    for dtype in (torch.bfloat16, torch.float16):
        with mixed(dtype): got = train_some(device, amp=True).history[-1]['train_loss']
        yield f"{str(dtype).removeprefix('torch.')}: training loss, relative difference to float32", \
              abs(got/loss - 1), .1
    got = train_some(device, compile=True).history[-1]['train_loss']
    yield 'torch.compile: training loss, relative difference to eager', abs(got/loss - 1), .02


def check_resume(device):
    "Weights of a run that is stopped within its second epoch and taken up again, against one that is not."
    amp = device.type == 'cuda'
    with tempfile.TemporaryDirectory() as d:
        def run(folder, *cbs):
            return train_some(device, amp=amp, cbs=[CheckpointCallback(Path(d)/folder, every=0), *cbs])
        whole = run('whole')
        run('cut', StopAtStep(11))
        again = run('cut')
    far = sum(int((a != b).sum()) for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values()))
    yield 'resume: numbers of the network that differ', far, 0


def check_cam(device):
    "Heat maps and logits of both networks against those of the CPU."
    for make in (resnet18, fastnet):
        set_seed(0)
        model, x = make().eval(), torch.randn(8, 3, 32, 32)
        for method in ('gradcam', 'gradcam++', 'layercam'):
            layers = ['layer2', 'layer3']
            want = cam(model.cpu(), x, layers, target=3, method=method)
            got = cam(model.to(device, memory_format=torch.channels_last), x.to(device), layers, target=3,
                      method=method)
            far = max(float((want.maps[k] - got.maps[k].cpu()).abs().max()) for k in layers)
            yield f'{method} of {make.__name__}: largest difference to the CPU, maps in [0,1]', far, 1e-2


def check_memory(device):
    "Memory that a forward pass keeps, as forecast from two images, against what a batch really takes."
    for name, bs in (('resnet18', 64), ('speed94', 256)):
        recipe = get_recipe(name)
        model = recipe.model().to(device, memory_format=torch.channels_last)
        need = bs*saved_bytes(model, (32, 32), device, False)
        x = torch.zeros(bs, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
        model(x).sum().backward()                                # workspaces and gradients are there before it counts
        if device.type != 'cuda':
            yield f'{name}: forecast for {bs} images, MB', need/1e6, None
            continue
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        model(x).sum().backward()
        peak = torch.cuda.max_memory_allocated() - start
        yield f'{name}, {bs} images: forecast {need/1e6:.0f} MB, peak {peak/1e6:.0f} MB; relative difference', \
              abs(need/peak - 1), .35


def check_waits(device, steps=20):
    "Calls within a step for which the host waits for the GPU; a GPU is asked for the loss every 50 steps."
    recipe = replace(get_recipe('speed94'), epochs=1, progressive_sizes=(), freeze=(), hardest=(), min_steps=0,
                     bs=500 if device.type == 'cuda' else 50)
    train, test = shapes_split(steps*recipe.bs, 64)
    learn = recipe.learner(recipe.dataloaders(train, test, device=device))
    learn._setup(1, None, recipe.schedules())
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA]*(device.type == 'cuda')
    with profile(activities=kinds) as p: learn.one_epoch()
    found = {e.key: e.count for e in p.key_averages() if e.key in WAITS}
    said = ', '.join(f'{k} {n}' for k, n in found.items()) or 'none'
    per_step = sum(n for k, n in found.items() if k.startswith('cuda'))/steps
    most = 2 if learn.precision == 'float16' else 1              # of which the scaler of float16 is one
    yield (f'speed94: calls that wait for the GPU, a step ({said} in {steps} steps)', per_step,
           most if device.type == 'cuda' else None)


CHECKS = dict(loader=check_loader, precision=check_precision, resume=check_resume, cam=check_cam, memory=check_memory,
              waits=check_waits)


def held(rows):
    "How many of the checks hold, in words."
    asked = [r['holds'] for r in rows if r['holds'] != '']
    return f'{sum(asked)} of {len(asked)} hold'


def run_checks(device):
    "Run all checks; rows of dicts. One that raises is a row that failed."
    rows = []
    for part, check in CHECKS.items():
        try:
            for what, value, limit in check(device):
                holds = '' if limit is None else bool(value <= limit)
                rows.append(dict(part=part, what=what, value=value, limit=limit, holds=holds))
        except Exception as e:
            why = (str(e).strip().splitlines() or [''])[0][:160]
            rows.append(dict(part=part, what=f'{type(e).__name__}: {why}', value='', limit='', holds=False))
        print(f"{part}: {held([r for r in rows if r['part'] == part])}", flush=True)
    return rows


# Speed and accuracy

class Clock(Callback):
    "Seconds of the steps, between two waits for the GPU in each epoch; evaluation is not part of them."
    order = -100
    def __init__(self): self.seconds, self.start = 0., 0.

    def before_epoch(self, learn):
        sync(learn.device)
        self.start = time.perf_counter()

    def after_batch(self, learn):
        if learn.step % len(learn.dls.train): return
        sync(learn.device)
        self.seconds += time.perf_counter() - self.start


def card_flops(device, dtype, n):
    "Floating-point operations a second in products of two n×n matrices, the best of ten."
    a, took = torch.randn(n, n, device=device, dtype=dtype), []
    for _ in range(11):
        sync(device)
        start = time.perf_counter()
        a @ a
        sync(device)
        took.append(time.perf_counter() - start)
    return 2*n**3/min(took[1:])


def train_recipe(recipe, train, test, seed, device):
    "One run: seconds, accuracy with one view and six, arithmetic."
    clock = Clock()
    learn = recipe.learner(recipe.dataloaders(train, test, seed=seed, device=device), cbs=[clock])
    learn.fit()
    accs = learn.tta_accs(learn.dls.test)
    on_all, share = recipe.hardest or (recipe.epochs, 1)
    images = round(len(train)*(on_all + share*(recipe.epochs - on_all)))
    return clock.seconds, accs['none'], accs['six'], recipe.flops(train), images


def train_rival(recipe, train, test, seed, device, steps):
    "One run of airbench94_muon."
    dls = replace(recipe, bs=race.BS if device.type == 'cuda' else 64).dataloaders(train, test, seed=seed,
                                                                                   device=device)
    set_seed(seed)
    dtype = amp_dtype(device) if device.type == 'cuda' else torch.float32
    model = race.rival_net(dls)
    sync(device)
    start = time.perf_counter()
    for _ in race.rival(model, dls, steps, dtype): pass
    sync(device)
    seconds, images = time.perf_counter() - start, steps*dls.train.bs
    accs = Evaluator(dls, model, amp=dtype != torch.float32).tta_accs()
    return seconds, accs['none'], accs['six'], race.rival_flops()*images//(race.STEPS*race.BS), images


def measure(a, device, until):
    "Train in turns until the time is over; rows of dicts."
    gpu = device.type == 'cuda'
    train, test = load_data() if gpu else shapes_split(400, 100)
    recipes = [get_recipe(name) for name in a.recipes]
    if not gpu: recipes = [replace(r, epochs=2, bs=50, progressive_sizes=((1, 24),), freeze=(), min_steps=0,
                                   hardest=r.hardest and (1, r.hardest[1])) for r in recipes]
    steps = race.STEPS if gpu else 6
    runs = {'airbench94_muon': lambda seed: train_rival(recipes[0], train, test, seed, device, steps)}
    runs |= {r.name: partial(lambda r, seed: train_recipe(r, train, test, seed, device), r) for r in recipes}
    if gpu:                                                      # kernels are chosen and memory is taken once
        few = train.subset(slice(0, 6000))
        for r in recipes:
            sizes = tuple((1, px) for _, px in r.progressive_sizes)
            train_recipe(replace(r, epochs=len(sizes) + 1, progressive_sizes=sizes, freeze=(), min_steps=0,
                                 hardest=r.hardest and (2, r.hardest[1])), few, test, 0, device)
        train_rival(recipes[0], train, test, 0, device, 6)
    rows, longest = [], {}
    for seed in range(a.seeds):
        for name, run in runs.items():
            if rows and time.perf_counter() + longest.get(name, 0) > until:
                print(f'{name}, seed {seed}: left out, the time is over', flush=True)
                continue
            start = time.perf_counter()
            seconds, one, six, flops, images = run(seed)
            longest[name] = time.perf_counter() - start
            rows.append(dict(name=name, seed=seed, seconds=seconds, acc=one, acc_six=six, flops=flops, images=images))
            print(f'{name}, seed {seed}: {seconds:.1f} s, {100*one:.2f} % one view, {100*six:.2f} % six', flush=True)
    return rows


def spread(values, f='{:.2f}'):
    sd = f' ± {f.format(statistics.stdev(values))}' if len(values) > 1 else ''
    return f.format(statistics.mean(values)) + sd


def speed_table(rows, limit):
    "One line per contestant; ratios are of the means."
    yield ('| | n | training, s | ratio | one view, % | six views, % | images/s | PFLOP | share of the card |')
    yield '|---|---:|---:|---:|---:|---:|---:|---:|---:|'
    by = {}
    for r in rows: by.setdefault(r['name'], []).append(r)
    base = statistics.mean(r['seconds'] for r in by['airbench94_muon'])
    for name, rs in by.items():
        s = statistics.mean(r['seconds'] for r in rs)
        yield (f"| {name} | {len(rs)} | {spread([r['seconds'] for r in rs])} | {s/base:.2f} "
               f"| {spread([100*r['acc'] for r in rs])} | {spread([100*r['acc_six'] for r in rs])} "
               f"| {rs[0]['images']/s:,.0f} | {rs[0]['flops']/1e15:.3f} | {100*rs[0]['flops']/s/limit:.0f} % |")


def report(a, device, checks, rows, limit, took):
    "The text of the report."
    gpu = device.type == 'cuda'
    card = torch.cuda.get_device_name() if gpu else processor()
    text = ['# On a GPU' if gpu else '# What a GPU is asked, on a CPU', '']
    if not gpu: text += ['**No GPU was at hand.** The lines below ran on the CPU, with drawn shapes and a few steps: '
                         'they show that the command runs, and nothing about speed or accuracy.', '']
    text += ['## Checks', '', f"{held(checks)}. Bits after a resume were "
             'compared with `torch.use_deterministic_algorithms(True)`, `torch.backends.cudnn.benchmark = False` and '
             '`CUBLAS_WORKSPACE_CONFIG=:4096:8`.', '', '| check | value | limit | holds |', '|---|---:|---:|---|']
    for r in checks:
        value, top = (f'{r[k]:.3g}' if isinstance(r[k], (int, float)) else '' for k in ('value', 'limit'))
        holds = {'': 'asked of a GPU', True: 'yes', False: '**no**'}[r['holds']]
        text.append(f"| {r['what'].replace('|', '/')} | {value} | {top} | {holds} |")
    dtype = str(amp_dtype(device) if gpu else torch.float32).removeprefix('torch.')
    text += ['', '## Speed and accuracy', '', f'In turns, seed after seed, in one process, in {dtype}; the limit of '
             f'the card is {limit/1e12:.1f} TFLOP/s, measured on matrix products.', '', *speed_table(rows, limit), '',
             f"`python benchmarks/gpu.py {shlex.join(sys.argv[1:])}`; {card}, torch {torch.__version__}, Python "
             f'{platform.python_version()}, {platform.system()}; {took:.0f} s in all.', '']
    return '\n'.join(text)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--minutes', type=float, default=9, help='for all of it')
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--recipes', nargs='+', default=['speed94', 'resnet18'])
    p.add_argument('--out', type=Path, help='the report, with a .csv beside it')
    a = p.parse_args()
    device, start = default_device(), time.perf_counter()
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    checks = run_checks(device)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = before
    gpu = device.type == 'cuda'
    limit = card_flops(device, amp_dtype(device) if gpu else torch.float32, 8192 if gpu else 1024)
    rows = measure(a, device, start + 60*a.minutes)
    text = report(a, device, checks, rows, limit, time.perf_counter() - start)
    print('\n' + text)
    if a.out:
        with atomic_path(a.out) as tmp: tmp.write_text(text, encoding='utf-8')
        keys = 'part what value limit holds name seed seconds acc acc_six flops images'.split()
        with atomic_path(a.out.with_suffix('.csv')) as tmp, open(tmp, 'w', newline='') as f:
            out = csv.DictWriter(f, keys, lineterminator='\n')
            out.writeheader()
            out.writerows([*checks, *rows])
    return int(any(r['holds'] is False for r in checks))


if __name__ == '__main__': sys.exit(main())

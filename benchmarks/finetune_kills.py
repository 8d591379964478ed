"""Kill fine-tuning runs, most of them around the change of phase, and see whether they end in the same bits.

    python benchmarks/finetune_kills.py [--kills 30] [--seed 0] [--out benchmarks/results/finetune_kills.md]

A run fine-tunes MobileNetV2 on crops of photos of mixed size (see photo_crops.py), decoded as they are needed: one
epoch (in one of the settings two) in which the head learns alone, then two in which everything learns. It is killed by
SIGKILL at a planted point or at a random moment and run again to its end, which is compared bit for bit with that of a
run that nobody disturbed: weights, optimiser, averaging, generators, history and its file (without the clock),
predictions, checkpoint and model file. Each run counts one kill at least; some are killed up to three times. The
machinery and the other points are those of survival.py.
"""
import argparse
import platform
import random
import shlex
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import survival
from survival import RANDOM, KillAt, at_call, evaluating, half_written, in_step, is_checkpoint, is_model, story, table

import torch

import s9lib.train.learner
from photo_crops import make_photo_crops
from real_weights import real_weights
from s9lib.apps.inference import SaveModelCallback
from s9lib.data.folder import image_folder
from s9lib.data.loader import DataLoaders
from s9lib.train.finetune import vision_learner
from s9lib.train.history import CSVLogger
from s9lib.train.mixup import mixup
from s9lib.train.optim import EMA
from s9lib.train.resume import CheckpointCallback

ARCH, SIZE, BS = 'torchvision:mobilenet_v2', 48, 18
SGD = partial(torch.optim.SGD, momentum=.9)


def make(cfg, data, folder):
    "The learner of a setting, with checkpoints, history and model file in `folder`."
    dls = DataLoaders.from_data(*data, bs=BS, size=SIZE, num_workers=cfg['workers'], device='cpu')
    cbs = [CheckpointCallback(folder/'checkpoints', every=cfg['every']), CSVLogger(folder/'history.csv'),
           SaveModelCallback(folder/'model.safetensors')]
    return vision_learner(dls, ARCH, cfg['weights'], cbs=cbs, model_args=cfg['net'], **cfg['learner'])


def setting(name, workers=0, every=0., freeze_epochs=1, weights=None, net=dict(width_mult=.25), **kw):
    "One of the settings, for the machinery of survival.py."
    return dict(name=name, make=make, train=lambda learn: learn.fine_tune(2, freeze_epochs=freeze_epochs),
                workers=workers, every=every, frozen=freeze_epochs, weights=weights, net=net, learner=kw)


def settings():
    "What runs; the one with ImageNet's weights where they are installed."
    _, state = real_weights(ARCH)
    real = [] if state is None else [setting("ImageNet's weights, 2 workers, saved by the clock", 2, .5, weights=state,
                                             net={}, averager=partial(EMA, decay=.9))]
    return [setting('AdamW, EMA, 2 workers', 2, averager=partial(EMA, decay=.9)),
            setting("torch's SGD, mixup, clipping, accumulation", opt_func=SGD, mix=mixup, max_grad_norm=1.,
                    grad_accum=2),
            setting('head alone for two epochs, 2 workers', 2, freeze_epochs=2), *real]


def around(last):
    "The points around the change of phase, where `last` is the number of the last step with a frozen body, from 0."
    def trainable(kill, learn, n):
        own = s9lib.train.learner
        own.set_trainable = survival.nth(last//6 + 1, own.set_trainable, kill)
    return {f'change of phase: {k}': (1, v) for k, v in {
        'last step of the head alone, weights changed': lambda learn, n: in_step(last, 'after'),
        'last step of the head alone, saved': lambda learn, n: learn.cbs.append(KillAt('after_batch', last, 42)),
        'in the evaluation after it': lambda learn, n: evaluating(learn, last//6),
        'evaluated, not yet saved': lambda learn, n: learn.cbs.append(KillAt('after_epoch', last//6, 39)),
        'its checkpoint half written': lambda learn, n: setattr(
            Path, 'write_bytes', half_written(last + last//6 + 1, is_checkpoint)),
        'its checkpoint saved, model file not yet': lambda learn, n: learn.cbs.insert(
            0, KillAt('after_epoch', last//6, 41)),
        'before the body is set free': partial(trainable, 'before'),
        'the body just set free': partial(trainable, 'after'),
        'first step of everything, backward done': lambda learn, n: in_step(last + 1, 'before'),
        'first step of everything, weights changed': lambda learn, n: in_step(last + 1, 'after'),
        'first step of everything, saved': lambda learn, n: learn.cbs.append(KillAt('after_batch', last + 1, 42)),
    }.items()}


ELSEWHERE = {k: survival.POINTS[k] for k in (
    'within a step (backward done, weights not yet changed)', 'within a step (weights changed, averaging not yet)',
    'in a save, temporary file half written', 'in a save, before the rename', 'in a save, after the rename',
    'in a save, before the oldest is deleted', 'from a loader worker, in the middle of a batch',
    'a loader worker itself, in the middle of a batch')}
ELSEWHERE['model file, before the rename'] = 3, at_call(survival.os, 'replace', 'before', is_model)


def kills(n, seed, tmp, say):
    "Kill `n` runs; return (places, kills by setting, runs with a difference)."
    rng, runs = random.Random(seed), settings()
    make_photo_crops(tmp/'crops', 6, 2)
    data = image_folder(tmp/'crops')
    steps = -(-len(data[0])//BS)
    assert steps == 6, steps
    truths = {}
    for cfg in runs:
        truths[cfg['name']] = survival.undisturbed(cfg, data, tmp)
        say(f"undisturbed, {cfg['name']}: {truths[cfg['name']][1]:.0f} s")
    again = survival.undisturbed(runs[0], data, tmp/'again')[0]          # the comparison itself
    assert not survival.differs(truths[runs[0]['name']][0], again)
    phase = list(around(0))
    queue, places, per, bad, done, most = [], Counter(), Counter(), [], 0, 0
    while done < n:
        if not queue:
            every = [*phase, *phase[-6:], *ELSEWHERE, *[RANDOM]*8]
            queue = rng.sample(every, len(every))
        place = queue.pop()
        if place == RANDOM: cfg = rng.choice([*runs, runs[-1]])          # saved by the clock: no other point counts
        else: cfg = rng.choice([c for c in runs if c['every'] == 0 and (c['workers'] or 'worker' not in place)])
        points = {**ELSEWHERE, **around(6*cfg['frozen'] - 1)}
        killed, diff = story(cfg, data, *truths[cfg['name']], tmp, rng, place, rng.choice((1, 1, 2, 3)), points, ())
        if not killed and not diff: continue                             # it had ended before the moment came
        done, most = done + 1, max(most, len(killed))
        places.update(killed)
        per[cfg['name']] += len(killed)
        if diff: bad.append((cfg['name'], killed, diff))
        say(f"{done} runs, {places.total()} kills, {len(bad)} different; last: {cfg['name']}: {killed} {diff or ''}")
    return places, per, done, most, bad


def report(a, found, seconds):
    places, per, runs, most, bad = found
    at = sum(n for p, n in places.items() if p.startswith('change'))
    text = ['# Fine-tuning that is killed', '',
            '`benchmarks/finetune_kills.py` says how; everything is compared bit for bit with a run of the same '
            'settings that nobody disturbed: weights, optimiser, averaging, generators, history, predictions, '
            'checkpoint and model file.', '',
            f'{runs} runs were killed by SIGKILL, {places.total()} times in all, up to {most} times in a row, {at} '
            f'times around the change of phase, and run again to their end: **{runs - len(bad)} of {runs} ended in the '
            'same bits.**']
    text += table(['killed', 'times'], sorted(places.items(), key=lambda r: (not r[0].startswith('change'), r[0])))
    text += table(['settings', 'kills'], per.items())
    text += [f'- {name}, killed {killed}: {diff}' for name, killed, diff in bad] + ['']*bool(bad)
    text += [f"`python benchmarks/finetune_kills.py {shlex.join(sys.argv[1:])}`; seed {a.seed}, "
             f"{seconds/60:.0f} minutes; torch {torch.__version__}, Python {platform.python_version()}, "
             f"{platform.system()} {platform.machine()}, one thread."]
    return '\n'.join(text) + '\n'


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--kills', type=int, default=30, help='runs that are killed')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as d: found = kills(a.kills, a.seed, Path(d), partial(print, flush=True))
    text = report(a, found, time.perf_counter() - start)
    print(text)
    if a.out: a.out.write_text(text, encoding='utf-8')
    sys.exit(bool(found[-1]))


if __name__ == '__main__': main()

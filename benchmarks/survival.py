"""Kill training runs, spoil their checkpoints, fill their disk, and see whether they end where an undisturbed run ends.

    python benchmarks/survival.py [--kills 240] [--mutations 200] [--model-kills 30] [--seed 0]
                                  [--cost] [--out benchmarks/results/survival.md]

A run trains a small network on drawn shapes for three epochs. It is killed with SIGKILL, at a random moment or at a
planted point, up to five times in a row, and started again after each; at the end its weights, optimiser, averaging,
generators, history (without the clock) and the predictions for every test image are compared bit for bit with those of
a run of the same settings that nobody disturbed. The planted points are reached by replacing `os.fsync`, `os.replace`,
`Path.unlink` and the like in the child; the library knows nothing of it.

It also flips bits in every file that is read back, changes each option of a stopped run, puts NaN where a save would
keep it, and kills runs that write a model file. The report ends with all attempts and the silent wrong results.

Importing torch takes seconds, so one parent imports everything and forks a child for each run: it needs Linux or macOS.
"""
import argparse
import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import pickle
import platform
import random
import resource
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from csv import writer
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
os.environ['OMP_NUM_THREADS'] = '1'
os.environ['S9LIB_DEVICE'] = 'cpu'

import albumentations as A
import cv2
import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import s9lib.train.learner
from s9lib.apps.inference import SaveModelCallback, load_model, save_model
from s9lib.core import set_seed
from s9lib.data.folder import entry_files, image_folder, load_entry
from s9lib.data.loader import DataLoaders, WorkerDataset
from s9lib.data.synthetic import shapes_split
from s9lib.data.transforms import train_tfms
from s9lib.nets.fastnet import fastnet
from s9lib.nets.ghost_norm import ghost_
from s9lib.nets.resnet import resnet18
from s9lib.nets.winograd import winograd_
from s9lib.nets.zoo import create_model
from s9lib.train.callbacks import Callback, EarlyStopping
from s9lib.train.checkpoint import checkpoints, load_checkpoint, read_checkpoint
from s9lib.train.history import CSVLogger
from s9lib.train.learner import Learner
from s9lib.train.mixup import cutmix, mixup
from s9lib.train.optim import EMA, Lookahead, adamw, constant, muon, one_cycle, sgd
from s9lib.train.resume import CheckpointCallback
from s9lib.train.state import not_finite

cv2.setNumThreads(0)
torch.set_num_threads(1)
EPOCHS, N, BS = 3, 112, 32                                       # four steps an epoch, the last one ragged
ALL = dict(progressive_sizes=((1, 16), (1, 24)), freeze=(('conv1', 2),), l1=1e-5, max_grad_norm=1., grad_accum=2,
           averager=partial(Lookahead, every=3))


# The runs

class Drops(nn.Module):
    "A network that draws from torch's generator while it trains."
    def __init__(self):
        super().__init__()
        self.body, self.drop, self.fc = nn.Conv2d(3, 8, 3, 2), nn.Dropout(.3), nn.Linear(8, 10)

    def forward(self, x): return self.fc(self.drop(self.body(x).relu().amax((2, 3))))


def config(name, opt=muon, net=None, mode='auto', workers=0, preset='standard', ghost=True, every=0., stop=False, **kw):
    return dict(name=name, opt=opt, net=net, mode=mode, workers=workers, preset=preset, ghost=ghost, every=every,
                stop=stop, learner={**ALL, **kw})


CONFIGS = [
    config('mode image', mode='image', preset='assignment', mix=mixup),
    config('mode image, 2 workers', mode='image', preset='assignment', workers=2, mix=cutmix),
    config('mode batch', mode='batch', mix=cutmix, every=.05),
    config('mode batch, 2 workers', mode='batch', workers=2, mix=mixup),
    config('mode device', mode='device', mix=partial(cutmix, alpha=.5)),
    config('SGD, mixup, saved by the clock', opt=sgd, mix=mixup, every=.1, averager=None, grad_accum=1),
    config('dropout, early stopping', net=Drops, ghost=False, freeze=(), stop=True, opt=sgd),
]


def learner(cfg, data, folder, cbs=()):
    set_seed(0)
    tail = dict(mode=cfg['mode'], num_workers=cfg['workers'], preset=cfg['preset'], valid_pct=.2 if cfg['stop'] else 0.)
    dls = DataLoaders.from_data(*data, bs=BS, alt_flip=True, **tail)
    net = cfg['net']() if cfg['net'] else fastnet(widths=(8, 8, 8))
    stop = [EarlyStopping(1, min_delta=9.)] if cfg['stop'] else []
    cbs = [CheckpointCallback(folder/'checkpoints', every=cfg['every']), CSVLogger(folder/'history.csv'), *stop, *cbs]
    if cfg.get('model'): cbs.append(SaveModelCallback(folder/'model.safetensors'))
    return Learner(dls, ghost_(net, 16) if cfg['ghost'] else net, opt_func=partial(cfg['opt'], lr=.05), cbs=cbs,
                   metrics={'loud': lambda out, yb: out.max(1).values}, **cfg['learner'])


def digest(o):
    "A hash of every bit of the tensors and numbers in `o`."
    h = hashlib.sha256()
    for t in tree_leaves(o):
        h.update(f'{t.dtype}{tuple(t.shape)}'.encode() + t.contiguous().numpy().tobytes() if torch.is_tensor(t)
                 else repr(t).encode())
    return h.hexdigest()[:16]


def result(learn, folder):
    "What the end of a run is compared by: what is in memory, on disk and in the log."
    clock = ('seconds', 'img_per_s')
    disk, state = load_checkpoint(folder/'checkpoints'), learn.state_dict()
    history = [{k: v for k, v in r.items() if k not in clock} for r in learn.history]
    model = load_model(folder/'model.safetensors') if (folder/'model.safetensors').exists() else None
    if model: model.meta['metrics'] = {k: v for k, v in model.meta['metrics'].items() if k not in clock}
    model = model and (repr(model.meta), digest(model.model.state_dict()))
    csv = [line.split(',') for line in (folder/'history.csv').read_text().splitlines()]
    csv = [[v for k, v in zip(csv[0], row) if k not in clock] for row in csv]
    return {**{k: digest(state[k]) for k in ('model', 'opt', 'avg', 'scaler', 'rng')},
            'steps': (learn.epoch, learn.step),
            'history': history, 'csv': csv, 'model file': model,
            'predictions': digest(learn.get_preds(learn.dls.test)),
            'disk': digest({k: disk[k] for k in ('model', 'opt', 'avg', 'rng')}),
            'left behind': sorted(p.name for p in folder.rglob('*') if p.name.startswith('.')),
            'checkpoints': len(checkpoints(folder/'checkpoints')) <= 2}


# Where they are killed

def die(): os.kill(os.getpid(), signal.SIGKILL)


def nth(n, f, kill, where=lambda *a: True):
    "Replace a function: at its `n`-th call that counts, `kill` before or after."
    calls = itertools.count()
    def wrapped(*args, **kw):
        hit = where(*args) and next(calls) == n
        if hit and kill == 'before': die()
        out = f(*args, **kw)
        if hit: die()
        return out
    return wrapped


def at_call(owner, name, kill, where=lambda *a: True):
    "What to plant to die at a call of a function that counts; where it is called once in a run, `n` is 0."
    return lambda learn, n: setattr(owner, name, nth(n, getattr(owner, name), kill, where))


def is_checkpoint(p, *_): return str(p).endswith('.pt')
def is_history(p, *_): return str(p).endswith('.csv')
def is_lock(p, *_): return p.name == '.lock'
def is_finished(p, *_): return p.name.startswith('epoch')


def killed_in_worker(n, whom):
    "Kill, from within a loader worker that has made half of a batch, the run or the worker itself."
    real, calls, pid = WorkerDataset.__getitems__, itertools.count(), os.getpid()
    def fetch(self, request):
        if os.getpid() == pid: return real(self, request)
        if next(calls) == n:
            (epoch, *numbers), = request
            real(self, [(epoch, *(a[:len(a)//2] for a in numbers))])
            os.kill(pid if whom == 'run' else os.getpid(), signal.SIGKILL)
        return real(self, request)
    WorkerDataset.__getitems__ = fetch


class KillAt(Callback):
    "Die at the n-th call of an event, before or after the other callbacks."
    def __init__(self, event, n, order):
        self.order, calls = order, itertools.count()
        setattr(self, event, lambda learn: die() if next(calls) == n else None)


def evaluating(learn, n):
    "Die within the n-th evaluation, after its first batch."
    real, calls = learn.validate, itertools.count()
    def validate(dl=None):
        if next(calls) != n: return real(dl)
        learn.model.eval()
        for xb, _ in learn.dls.eval:
            with torch.no_grad(): learn.model(xb)
            die()
    learn.validate = validate


def in_step(n, kill):
    "Die in the n-th step, before or after the weights are changed."
    s9lib.train.learner.take_step = nth(n, s9lib.train.learner.take_step, kill)


POINTS = {  # name -> (how often it is passed in a run, about; what to plant for the n-th time)
    'within a step (backward done, weights not yet changed)': (12, lambda learn, n: in_step(n, 'before')),
    'within a step (weights changed, averaging not yet)': (12, lambda learn, n: in_step(n, 'after')),
    'after a step, before it is saved': (12, lambda learn, n: learn.cbs.append(KillAt('after_batch', n, 39))),
    'in a save, temporary file half written': (14, lambda learn, n: setattr(Path, 'write_bytes', half_written(n))),
    'in a save, before fsync': (14, at_call(os, 'fsync', 'before')),
    'in a save, after fsync': (14, at_call(os, 'fsync', 'after')),
    'in a save, before the rename': (14, at_call(os, 'replace', 'before', is_checkpoint)),
    'in a save, after the rename': (14, at_call(os, 'replace', 'after', is_checkpoint)),
    'in a save, before the oldest is deleted': (11, at_call(Path, 'unlink', 'before', is_finished)),
    'in a save, after the oldest is deleted': (11, at_call(Path, 'unlink', 'after', is_finished)),
    'while the history is written': (3, at_call(os, 'replace', 'before', is_history)),
    'in an evaluation': (3, evaluating),
    'after an evaluation, before it is saved': (3, lambda learn, n: learn.cbs.append(KillAt('after_epoch', n, 39))),
    'after the save of an epoch, before the other callbacks': (3,
        lambda learn, n: learn.cbs.append(KillAt('after_epoch', n, 41))),
    'while it locks the folder': (1, lambda learn, n: setattr(json, 'dump', nth(0, json.dump, 'before'))),
    'while it lets go of the folder': (1, at_call(Path, 'unlink', 'before', is_lock)),
    'right after it was loaded': (1, lambda learn, n: learn.cbs.append(KillAt('before_fit', 0, 41))),
    'from a loader worker, in the middle of a batch': (5, lambda learn, n: killed_in_worker(n, 'run')),
    'a loader worker itself, in the middle of a batch': (5, lambda learn, n: killed_in_worker(n, 'worker')),
}
RANDOM, ASKED = 'at a random moment', 'at a random moment, by SIGTERM: it saves and ends'


def half_written(n, where=lambda *a: True):
    real, calls = Path.write_bytes, itertools.count()
    def write(self, data):
        if not where(self) or next(calls) != n: return real(self, data)
        real(self, data[:len(data)//2])
        die()
    return write


# The machinery: a child for each run

def child(cfg, data, folder, plant=None, limit=None, sig=signal.SIGKILL):
    "Train in a forked child, signalled after `limit` seconds, that leaves its `result`; return (status, seconds, pid)."
    start, pid = time.perf_counter(), os.fork()
    if pid == 0:
        status = 1
        try:
            os.setpgrp()
            log = os.open(folder/'log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for fd in (1, 2): os.dup2(log, fd)
            learn = cfg.get('make', learner)(cfg, data, folder)
            if plant: plant(learn)
            cfg['train'](learn) if 'train' in cfg else learn.fit_one_cycle(EPOCHS)
            with open(folder/'result.part', 'wb') as f: pickle.dump(result(learn, folder), f)
            os.rename(folder/'result.part', folder/'result')
            status = 0
        except SystemExit as e: status = e.code
        except BaseException:
            traceback.print_exc()
        finally: os._exit(status)
    ended, status = 0, 0
    while limit is not None and not ended:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended and time.perf_counter() - start > limit:
            os.kill(pid, sig)
            break
        time.sleep(.002)
    if not ended: _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - start, pid


def end_orphans(pids):
    "End the loader workers that outlived their runs."
    for pid in pids:
        try: os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError: pass


def undisturbed(cfg, data, tmp):
    "The result of a run that nobody disturbs, and the seconds it takes."
    folder = tmp/'undisturbed'/cfg['name'].replace(' ', '-')
    folder.mkdir(parents=True)
    status, took, _ = child(cfg, data, folder)
    if status: sys.exit(f"the undisturbed run of {cfg['name']} failed:\n{(folder/'log').read_text()}")
    return pickle.loads((folder/'result').read_bytes()), took


def differs(a, b): return [k for k in a if a[k] != b[k]]


def story(cfg, data, truth, took, tmp, rng, place, times, points=POINTS, asked=(ASKED,)):
    "Kill a run `times` times, let it end, compare. Return (places it was killed at, parts that differ)."
    folder, killed, pids = tmp/'run', [], []
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for i in range(times):
        here = place if i == 0 else rng.choice([RANDOM, *asked, *(p for p in points if 'worker' not in p)])
        if here not in points:
            sig = signal.SIGKILL if here == RANDOM else signal.SIGTERM
            status, _, pid = child(cfg, data, folder, limit=rng.uniform(.02, took), sig=sig)
        else:
            often, plant = points[here]
            status, _, pid = child(cfg, data, folder, plant=partial(plant, n=rng.randrange(often)))
        pids.append(pid)
        worker = here.startswith('a loader worker') and status == 1
        if worker or status in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM): killed.append(here)
        if status == 0: break                                    # the point was not reached any more: it ended
        if status == 1 and not worker: return killed, [f"error: {(folder/'log').read_text()[-500:]}"]
    if not (folder/'result').exists():
        status, _, pid = child(cfg, data, folder)
        pids.append(pid)
        if status: return killed, [f"error: {(folder/'log').read_text()[-500:]}"]
    end_orphans(pids)
    return killed, differs(truth, pickle.loads((folder/'result').read_bytes()))


def kills(n, seed, tmp, say):
    "Kill `n` times in all. Return rows of (place, kills, same, different) and of the configurations."
    rng, data = random.Random(seed), shapes_split(N, 48)
    truths = {c['name']: undisturbed(c, data, tmp) for c in CONFIGS}
    for c in CONFIGS:                                            # the comparison itself: the same again is the same
        again = undisturbed(c, data, tmp/'again')[0]
        assert not differs(truths[c['name']][0], again), (c['name'], differs(truths[c['name']][0], again))
    places, per_config, bad, runs, most = Counter(), Counter(), [], 0, 0
    queue = []
    while sum(places.values()) < n:
        if not queue: queue = rng.sample([*POINTS, *[RANDOM]*8, ASKED, ASKED], len(POINTS) + 10)
        place = queue.pop()
        cfg = rng.choice([c for c in CONFIGS if 'worker' not in place or c['workers']])
        killed, diff = story(cfg, data, *truths[cfg['name']], tmp, rng, place, rng.choice((1, 1, 2, 3, 5)))
        places.update(killed)
        per_config[cfg['name']] += len(killed)
        runs, most = runs + bool(killed), max(most, len(killed))
        if diff: bad.append((cfg['name'], killed, diff))
        last = f'{cfg["name"]}: {killed}' + (f' DIFFERS in {diff}' if diff else '')
        say(f'{sum(places.values()):4} kills, {runs} runs, {len(bad)} different; last: {last}')
    return places, per_config, runs, most, bad


# Spoilt files

class Program:
    def __reduce__(self): return os.mkdir, ('a-program-ran',)


def renamed(path, data):
    "Write `data` under a name that fits it, in the place of `path`."
    path.unlink()
    path = path.with_name(f"{path.name.rpartition('-')[0]}-{hashlib.sha256(data).hexdigest()[:16]}.pt")
    path.write_bytes(data)


def program(path):
    with open(path.with_suffix('.x'), 'wb') as f: torch.save({**load_checkpoint(path), 'more': Program()}, f)
    data = path.with_suffix('.x').read_bytes()
    path.with_suffix('.x').unlink()
    renamed(path, data)


def without(path, key):
    state = load_checkpoint(path)
    del state[key]
    torch.save(state, path.with_suffix('.x'))
    data = path.with_suffix('.x').read_bytes()
    path.with_suffix('.x').unlink()
    renamed(path, data)


def cut(path, n): path.write_bytes(path.read_bytes()[:n])


SPOILT = {
    'empty': partial(cut, n=0), 'one byte left': partial(cut, n=1), 'cut in the header': partial(cut, n=30),
    'last byte missing': partial(cut, n=-1),
    'cut in the middle': lambda p: cut(p, p.stat().st_size//2),
    'cut before the directory at the end': partial(cut, n=-2000),
    'zeros in a block': lambda p: p.write_bytes(p.read_bytes()[:4096] + bytes(4096) + p.read_bytes()[8192:]),
    'another checkpoint under its name': lambda p: p.write_bytes(checkpoints(p.parent)[1].read_bytes()),
    'a program in a pickle, hash right': program,
    'no checkpoint, hash right': lambda p: renamed(p, b'nothing of the kind'),
    'a key missing, hash right': partial(without, key='opt'),
    'a folder in its place': lambda p: (p.unlink(), p.mkdir()),
}


def noticed(path):
    try: read_checkpoint(path)
    except ValueError: return True
    return False


def spoil(seed, tmp, say):
    "Return (flips noticed of 1000, lengths noticed of …, rows of what was spoilt and how the run ended)."
    rng, data, cfg = random.Random(seed), shapes_split(N, 48), CONFIGS[4]
    truth = undisturbed(cfg, data, tmp/'spoil')[0]
    path = checkpoints(tmp/'spoil'/'undisturbed'/cfg['name'].replace(' ', '-')/'checkpoints')[0]
    good, flips = path.read_bytes(), 0
    for _ in range(1000):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        flips += noticed(path)
    lengths = sorted({*range(0, 200), *range(len(good) - 200, len(good)),
                      *(rng.randrange(len(good)) for _ in range(200))})
    cuts = 0
    for n in lengths:
        path.write_bytes(good[:n])
        cuts += noticed(path)
    rows = []
    for name, f in SPOILT.items():
        folder = tmp/'spoilt'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        child(cfg, data, folder, plant=lambda learn: learn.cbs.append(KillAt('after_batch', 6, 41)))
        f(checkpoints(folder/'checkpoints')[0])
        status = child(cfg, data, folder)[0]
        log = (folder/'log').read_text()
        ran = Path('a-program-ran').exists() or (folder/'a-program-ran').exists()
        ok = status == 0 and 'passed over' in log and not ran
        diff = differs(truth, pickle.loads((folder/'result').read_bytes())) if status == 0 else ['error']
        rows.append((name, ok and not [d for d in diff if d != 'checkpoints']))
        say(f'spoilt: {name}: ' + ('same end' if rows[-1][1] else f'status {status}, {diff}, {log[-300:]}'))
    return flips, (cuts, len(lengths)), rows


# A full disk

class Full(Callback):
    "Fill the disk before step `a` and empty it before step `b`, through `fill` and `empty`."
    order = -1
    def __init__(self, a, b, fill, empty): self.a, self.b, self.fill, self.empty = a, b, fill, empty
    def after_batch(self, learn):
        if learn.step == self.a: self.fill()
        if learn.step == self.b: self.empty()


def small_disk(folder, mount):
    "Ways to fill the disk of `folder`: a file system of 1 MB if one may be mounted, and a limit on the size of a file."
    (folder/'checkpoints').mkdir(parents=True)
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE)
    if not mount: return partial(limit, (20_000, -1)), partial(limit, (-1, -1))
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder/'checkpoints'], check=True,
                   stderr=subprocess.DEVNULL)
    filler = folder/'checkpoints'/'filler'
    def fill():
        with open(filler, 'wb', buffering=0) as f:
            try:
                while True: f.write(bytes(4096))
            except OSError as e: assert e.errno == errno.ENOSPC
    return fill, partial(filler.unlink, missing_ok=True)


def full_disk(seed, tmp, say):
    "Return rows of (which disk, from step, to step, how it ended)."
    rows, data, cfg = [], shapes_split(N, 48), CONFIGS[4]
    truth = undisturbed(cfg, data, tmp/'full')[0]
    for mount in (False, True):
        for a, b in ((1, 3), (4, 6), (5, 9), (1, 11), (7, 99), (1, 99)):
            kind = 'file system of 1 MB' if mount else 'limit on the size of a file'
            folder = tmp/'full'/f'{mount}-{a}-{b}'
            try: fill, empty = small_disk(folder, mount)
            except (OSError, subprocess.CalledProcessError):
                say('no small file system may be mounted here')
                break
            status = child(cfg, data, folder, plant=lambda learn: learn.cbs.append(Full(a, b, fill, empty)))[0]
            log, left = (folder/'log').read_text(), [noticed(p) for p in checkpoints(folder/'checkpoints')]
            once = log.count('Training goes on and the next save tries again') == 1
            said = once and ('saved again' in log) == (b < 99)
            ended = 'the end of the run could not be saved' in log and status == 1 if b == 99 else status == 0
            empty()
            if b == 99: status = child(cfg, data, folder)[0]
            diff = differs(truth, pickle.loads((folder/'result').read_bytes())) if status == 0 else ['error']
            rows.append((kind, a, b, said and ended and not any(left) and not diff))
            say(f'full disk: {rows[-1]}' + ('' if rows[-1][-1] else f' {said} {ended} {left} {diff} {log[-600:]}'))
            if mount: subprocess.run(['umount', folder/'checkpoints'])
    return rows


# Mutations of every file that is read back

def mutations(rng, good, n):
    "Yield `n` spoilt copies of some bytes, each with its kind: one bit flipped, or cut anywhere."
    for i in range(n):
        if i % 2:
            yield 'cut', good[:rng.randrange(len(good))]
            continue
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        yield 'flip', bytes(bad)


def replaced(path, data):
    "Put other bytes in the place of a file; the old file stays whole for those that have it open."
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def small(**kw): return create_model('s9lib:fastnet', 10, weights=None, widths=(8, 8, 8), **kw)


def mutated_models(n, rng, tmp):
    "Count what `load_model` makes of spoilt model files: refused, the same, or something else."
    set_seed(0)
    data = shapes_split(64, 32)
    learn = Learner(DataLoaders.from_data(*data, bs=BS), small(), opt_func=partial(sgd, lr=.05))
    learn.fit(1)
    path = save_model(learn, tmp/'mutated'/'model.safetensors')
    good, im, ends = path.read_bytes(), data[1].images[0], Counter()
    def seen():
        p = load_model(path)
        return json.dumps(p.meta, sort_keys=True), digest(p.predict(im)), digest(p.model.state_dict())
    truth = seen()
    for kind, bad in mutations(rng, good, n):
        replaced(path, bad)
        try: ends[kind, 'same' if seen() == truth else 'SILENT'] += 1
        except ValueError: ends[kind, 'refused'] += 1
        except Exception as e: ends[kind, f'another error: {type(e).__name__}: {e}'] += 1
    replaced(path, good)
    assert seen() == truth
    return ends


def mutated_checkpoints(n, rng, tmp):
    "Count what a run makes of its newest checkpoint, spoilt: taken from the one before, refused, or something else."
    cfg, data, ends = CONFIGS[4], shapes_split(N, 48), Counter()
    def run(folder, *cbs):
        learn = learner(cfg, data, folder, cbs)
        try: learn.fit_one_cycle(EPOCHS)
        except Seen: pass
        return learn
    def state(learn): return learn.step, digest(learn.model.state_dict()), digest(learn.opt.state_dict())
    folder = tmp/'mutated-run'
    learn = run(folder, SeenAt('after_batch', 5, 41))
    newest, older = checkpoints(folder/'checkpoints')
    replaced(newest, (good := newest.read_bytes())[:-1])
    truth = state(run(folder, SeenAt('before_fit', 0, 41)))
    assert truth[0] == learn.step - 1, (truth, learn.step)
    whole = digest(load_checkpoint(older)['model'])
    for kind, bad in mutations(rng, good, n):
        replaced(newest, bad)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            try: end = state(run(folder, SeenAt('before_fit', 0, 41)))
            except ValueError: end = 'refused'
        ok = end == truth and f'{newest.name} is damaged' in said.getvalue() and 'passed over' in said.getvalue()
        ends[kind, 'refused' if end == 'refused' else 'rebuilt' if ok else 'SILENT'] += 1
    assert digest(load_checkpoint(older)['model']) == whole
    return ends


class Seen(Exception): "What was to be seen has been seen."


class SeenAt(Callback):
    "Leave a run at the n-th call of an event."
    def __init__(self, event, n, order):
        self.order, calls = order, itertools.count()
        setattr(self, event, lambda learn: leave() if next(calls) == n else None)


def leave(): raise Seen


def mutated_cache(n, rng, tmp):
    "Count what `image_folder` makes of a spoilt cache entry, by file: built again with a line, the same, or else."
    root, was, ends = tmp/'pngs', os.environ.get('XDG_CACHE_HOME'), Counter()
    os.environ['XDG_CACHE_HOME'] = str(tmp/'cache')
    try:
        draw = np.random.default_rng(0)
        for split, each in (('train', 5), ('test', 2)):
            for c, i in itertools.product(('cat', 'dog'), range(each)):
                (root/split/c).mkdir(parents=True, exist_ok=True)
                pixels = draw.integers(0, 256, (6, 6, 3), np.uint8)
                assert cv2.imwrite(str(root/split/c/f'{i}.png'), pixels)
        def seen():
            train, test = image_folder(root)
            return [(fresh_checksum(d), d.classes, d.files) for d in (train, test)]
        truth = seen()
        assert truth == seen()
        files = sorted((tmp/'cache'/'s9lib'/'decoded').iterdir())
        key = files[0].name.rpartition('-')[0] or files[0].stem
        there = sorted(f for f in entry_files(key) if f.exists())
        assert there == files and load_entry(key)[1]['arrays'] == 2, files
        goods = {f: f.read_bytes() for f in files}
        for k, f in enumerate(files):
            for kind, bad in mutations(rng, goods[f], n//3 + (k < n % 3)):
                for g, good in goods.items(): replaced(g, bad if g == f else good)
                with contextlib.redirect_stdout(io.StringIO()) as said, warnings.catch_warnings():
                    warnings.simplefilter('ignore')
                    try: end = seen()
                    except Exception as e: end = f'another error: {type(e).__name__}: {str(e)[:80]}'
                    line = 'is damaged' in said.getvalue()
                    healed = end == truth and seen() == truth and load_entry(key) is not None
                if isinstance(end, str): name = end
                else: name = 'SILENT' if end != truth else 'rebuilt' if line and healed else 'same, without a line'
                ends[kind, name] += 1
    finally:
        if was is None: del os.environ['XDG_CACHE_HOME']
        else: os.environ['XDG_CACHE_HOME'] = was
    return ends


def fresh_checksum(data):
    "A hash of pixels and labels that nothing keeps."
    return digest([torch.from_numpy(np.array(data.images)), torch.from_numpy(np.array(data.labels))])


def mutated(n, seed, tmp, say):
    "Return rows of (file, mutations, refused, rebuilt from something good, the same, other errors, silently wrong)."
    rows = []
    for name, f in (('model file', mutated_models), ('cache entry', mutated_cache),
                    ('checkpoint', mutated_checkpoints)):
        ends = f(n, random.Random(seed), tmp)
        count = Counter()
        for (_, end), k in ends.items(): count[end] += k
        other = {e: k for e, k in count.items() if e not in ('refused', 'rebuilt', 'same', 'SILENT')}
        rows.append((name, ends.total(), *(count[e] for e in ('refused', 'rebuilt', 'same')), sum(other.values()),
                     count['SILENT']))
        say(f'mutations: {rows[-1]} {dict(ends)}')
    return rows


# Changed runs

class Tail(nn.Module):
    "A network with options that change nothing in the number or the shapes of its weights."
    def __init__(self, scale=1/9, p=.2, act='gelu', wide=(8, 8, 8), kind=nn.Dropout, momentum=.4):
        super().__init__()
        self.body = fastnet(widths=wide, scale=scale, bn_momentum=momentum)
        self.drop, self.act = kind(p), act

    def forward(self, x): return self.drop(self.body(x))


class Gain(nn.Module):
    "A network whose input is multiplied by a number that it keeps in one of several ways."
    def __init__(self, how, gain):
        super().__init__()
        self.body, self.how = fastnet(widths=(8, 8, 8)), how
        if how == 'a buffer that is not saved': self.register_buffer('held', torch.tensor(gain), persistent=False)
        elif how == 'a private attribute': self._held = gain
        else: self.held = {'a number': gain, 'a dict': dict(by=gain), 'a tensor': torch.tensor(gain), 'a list': [gain],
                           'an array': np.array(gain), 'a partial': partial(torch.mul, other=gain),
                           'an object': Held(gain)}[how]

    def forward(self, x):
        if self.how == 'a partial': return self.body(self.held(x))
        h = self._held if self.how == 'a private attribute' else self.held
        return self.body(x*{'a dict': lambda: h['by'], 'a list': lambda: h[0], 'an array': lambda: float(h),
                            'an object': lambda: h.gain}.get(self.how, lambda: h)())


class Held:
    def __init__(self, gain): self.gain = gain


class Loss:
    "A loss that keeps a number in an attribute, public or private."
    def __init__(self, **kw): vars(self).update(kw)
    def __call__(self, out, yb): return nn.functional.cross_entropy(out, yb)*sum(vars(self).values())


class BufferLoss(nn.Module):
    "A loss with a tensor."
    def __init__(self, w):
        super().__init__()
        self.register_buffer('w', torch.tensor(w))
    def forward(self, out, yb): return nn.functional.cross_entropy(out, yb)*self.w


def default_loss(w):
    "A loss with a default argument."
    def loss(out, yb, w=w): return nn.functional.cross_entropy(out, yb)*w
    return loss


def code_loss(k):
    "One of two losses with equal names and other code."
    if k: loss = lambda out, yb: nn.functional.cross_entropy(out, yb)
    else: loss = lambda out, yb: nn.functional.cross_entropy(out, yb)*2
    return loss


def sched_from(k): return lambda step, n_steps: k


def opt_from(momentum): return lambda model, lr=.05: sgd(model, lr, momentum)


def piped(*tfms): return A.Compose([*tfms, A.Normalize((.5,)*3, (.25,)*3), A.pytorch.ToTensorV2()])


def times(im, by=1, **kw): return im*np.uint8(by)


def darker(by): return A.Lambda(image=partial(times, by=by), name='darker')


def still(what):
    "A network with a part that does not learn."
    net = fastnet(widths=(8, 8, 8))
    if what: net.get_submodule(what).requires_grad_(False)
    return net


def pairs():
    "Ways to say an option twice, otherwise: (name, whether the page says that it is not seen, first, second)."
    def L(a, b): return dict(learn=dict(loss_func=a)), dict(learn=dict(loss_func=b))
    def O(a, b): return dict(learn=dict(opt_func=a)), dict(learn=dict(opt_func=b))
    def T(a, b): return dict(dls=dict(tfms=piped(*a))), dict(dls=dict(tfms=piped(*b)))
    def S(a, b): return dict(fit=dict(sched=a)), dict(fit=dict(sched=b))
    free = dict(freeze=(), progressive_sizes=())
    def W(a, b): return dict(net=a, learn=free), dict(net=b, learn=free)
    how = ('a number', 'a list', 'a dict', 'a tensor', 'an array', 'a partial', 'an object', 'a private attribute',
           'a buffer that is not saved')
    flip = A.HorizontalFlip
    return [
        *((f'network: number in {h}', False,
           *W(partial(Gain, h, 1.), partial(Gain, h, 1.5))) for h in how),
        ('network: the head does not learn', False, *W(partial(still, ''), partial(still, 'fc'))),
        ('network: one norm does not learn', False, *W(partial(still, ''), partial(still, 'layer2.bn1'))),
        ('loss: public attribute', False, *L(Loss(k=1.), Loss(k=2.))),
        ('loss: private attribute', False, *L(Loss(_k=1.), Loss(_k=2.))),
        ('loss: buffer', False, *L(BufferLoss(1.), BufferLoss(2.))),
        ('loss: closure', False, *L(weighted(1.), weighted(2.))),
        ('loss: default of an argument', False, *L(default_loss(1.), default_loss(2.))),
        ('loss: code of a function', True, *L(code_loss(0), code_loss(1))),
        ('loss: method of an object', False, *L(Loss(k=1.).__call__, Loss(k=2.).__call__)),
        ('optimiser: closure', False, *O(opt_from(.8), opt_from(.7))),
        ('schedule: closure', False, *S(sched_from(1.), sched_from(.5))),
        ('schedule: partial of a closure', False, *S(partial(sched_from(1.)), partial(sched_from(.5)))),
        ('transforms: order', False, *T([flip(), A.VerticalFlip()], [A.VerticalFlip(), flip()])),
        ('transforms: in OneOf', False, *T([A.OneOf([flip(p=.5), A.VerticalFlip(p=.5)], p=1)],
                                           [A.OneOf([flip(p=.9), A.VerticalFlip(p=.5)], p=1)])),
        ('transforms: p of OneOf', False, *T([A.OneOf([flip(), A.VerticalFlip()], p=1.)],
                                             [A.OneOf([flip(), A.VerticalFlip()], p=.5)])),
        ('transforms: partial in A.Lambda', False, *T([darker(1)], [darker(0)])),
    ]


def weighted(w): return lambda out, yb: nn.functional.cross_entropy(out, yb)*w


def nudged(data, what):
    "The same data but for one pixel, one label, or the name of a class."
    images, labels, classes = data.images.copy(), data.labels.copy(), list(data.classes)
    if what == 'pixel': images[3, 5, 5, 0] ^= 1
    if what == 'label': labels[3] = (labels[3] + 1) % 10
    if what == 'class': classes[2] += '-'
    if what == 'order': images[[0, 1]], labels[[0, 1]] = images[[1, 0]], labels[[1, 0]]
    return replace(data, images=images, labels=labels, classes=classes)


def prepared(data, folder, cbs=(), net=None, dls=None, each=None, learn=None, fit=None, nudge=None, edit=None, last=()):
    "A learner and its call of `fit` for a run, in which `dls`, `net`, `learn` and `fit` change an option each."
    set_seed(0)
    nudge = nudge or {}
    data = [nudged(d, nudge[k]) if k in nudge else d for k, d in zip(('train', 'test'), data)]
    if 'class' in nudge: data = [nudged(d, 'class') for d in data]
    loaders = DataLoaders.from_data(*data, **{**dict(bs=16, preset='standard', seed=3), **(dls or {})})
    for k, v in (each or {}).items(): setattr(loaders.train, k, v)
    net = net() if callable(net) else Tail(**(net or {}))
    if edit: net = edit(net) or net
    opts = dict(loss_func=nn.CrossEntropyLoss(label_smoothing=.1), opt_func=partial(sgd, momentum=.8),
                averager=partial(Lookahead, every=3), l1=1e-5, max_grad_norm=1., grad_accum=1, seed=5,
                progressive_sizes=((1, 16),), freeze=(('body.conv1', 1),), mix=partial(mixup, alpha=.3))
    opts = {**opts, **(learn or {})}
    made = Learner(loaders, net, cbs=[CheckpointCallback(folder, every=0), *cbs, *last], **opts)
    kw = {**dict(n_epoch=2, lr=.05, sched=partial(one_cycle, pct_start=.3)), **(fit or {})}
    return made, partial(made.fit, **kw)


def own_tfms(**kw): return train_tfms('standard', 32, (.5, .5, .5), (.25, .25, .25), **kw)


def changes():
    "Every option that identifies a run, changed: (option, word of the refusal that names it, what is changed)."
    def L(**k): return dict(learn=k)
    def D(**k): return dict(dls=k)
    def F(**k): return dict(fit=k)
    def E(**k): return dict(each=k)
    def W(**k): return dict(net=k)
    return [
        ('seed of the run', 'seed', L(seed=6)), ('seed of the loaders', 'loader_seed', D(seed=4)),
        ('seed of the training loader alone', 'loader_seed', E(seed=9)),
        ('last short batch left out', 'drop_last', D(drop_last=True)), ('batch size', 'bs', D(bs=20)),
        ('shuffling', 'shuffle', E(shuffle=False)), ('mirroring in turn', 'alt_flip', D(alt_flip=True)),
        ('transforms: preset', 'tfms', D(preset='light')), ('transforms: padding', 'tfms', D(tfm_args=dict(pad=3))),
        ('transforms: probability', 'tfms', D(tfm_args=dict(hflip=.25))),
        ('transforms: size of the hole', 'tfms', D(tfm_args=dict(cutout=4))),
        ('transforms: angle', 'tfms', D(tfm_args=dict(rotate=7))),
        ('transforms: mean', 'tfms', D(mean=(.4, .4, .4))), ('transforms: deviation', 'tfms', D(std=(.3, .3, .3))),
        ('transforms: own pipeline', 'tfms', D(tfms=own_tfms())),
        ('mixup: off', 'mix', L(mix=None)), ('mixup: alpha', 'mix', L(mix=partial(mixup, alpha=.4))),
        ('mixup: cutmix', 'mix', L(mix=partial(cutmix, alpha=.3))),
        ('network: scale', 'architecture', W(scale=1/8)), ('network: dropout p', 'architecture', W(p=.25)),
        ('network: activation by name', 'architecture', W(act='relu')),
        ('network: kind of dropout', 'architecture', W(kind=nn.AlphaDropout)),
        ('network: momentum of the norms', 'architecture', W(momentum=.3)),
        ('network: widths', 'model', W(wide=(8, 8, 16))),
        ('network: order of equal widths', 'architecture', W(wide=(8, 16, 8))),
        ('network: eps of one norm', 'architecture', dict(edit=lambda m: setattr(m.body.layer2.bn1, 'eps', 1e-4))),
        ('network: ghost norm', 'modules', dict(edit=lambda m: ghost_(m, 8))),
        ('network: padding of one convolution', 'architecture',
         dict(edit=lambda m: setattr(m.body.layer1.conv1, 'padding_mode', 'circular'))),
        ('network: Winograd', 'modules', dict(edit=lambda m: winograd_(m, 8))),
        ('loss: label smoothing', 'loss', L(loss_func=nn.CrossEntropyLoss(label_smoothing=.2))),
        ('loss: weights of the classes', 'loss',
         L(loss_func=nn.CrossEntropyLoss(label_smoothing=.1, weight=torch.linspace(.5, 1.5, 10)))),
        ('loss: ignored label', 'loss', L(loss_func=nn.CrossEntropyLoss(label_smoothing=.1, ignore_index=3))),
        ('loss: another class', 'loss', L(loss_func=nn.MultiMarginLoss())),
        ('loss: function with a closure', 'loss', L(loss_func=weighted(2.))),
        ('loss: partial', 'loss', L(loss_func=partial(nn.functional.cross_entropy, label_smoothing=.1))),
        ('optimiser: momentum', 'opt', L(opt_func=partial(sgd, momentum=.9))),
        ('optimiser: weight decay', 'opt', L(opt_func=partial(sgd, momentum=.8, weight_decay=1e-3))),
        ('optimiser: adamw', 'opt', L(opt_func=adamw)),
        ('optimiser: torch.optim.SGD', 'opt', L(opt_func=torch.optim.SGD)),
        ('optimiser: class with arguments', 'opt', L(opt_func=partial(torch.optim.SGD, momentum=.8))),
        ('largest learning rate', 'lr', F(lr=.06)), ('largest learning rate: of the optimiser', 'lr', F(lr=None)),
        ('schedule: pct_start', 'sched', F(sched=partial(one_cycle, pct_start=.4))),
        ('schedule: div', 'sched', F(sched=partial(one_cycle, pct_start=.3, div=20.))),
        ('schedule: constant', 'sched', F(sched=None)),
        ('schedule: by group', 'sched', F(sched={'': partial(one_cycle, pct_start=.3), 'norms': constant})),
        ('averaging: off', 'averager', L(averager=None)),
        ('averaging: every', 'averager', L(averager=partial(Lookahead, every=4))),
        ('averaging: EMA', 'averager', L(averager=EMA)),
        ('L1', 'l1', L(l1=2e-5)), ('L1: off', 'l1', L(l1=0.)),
        ('limit of the gradient', 'max_grad_norm', L(max_grad_norm=2.)),
        ('limit of the gradient: off', 'max_grad_norm', L(max_grad_norm=0.)),
        ('parts of a batch', 'grad_accum', L(grad_accum=2)),
        ('epochs', 'n_epoch', F(n_epoch=3)), ('image sizes', 'progressive_sizes', L(progressive_sizes=((1, 24),))),
        ('image sizes: how long', 'progressive_sizes', L(progressive_sizes=((.5, 16),))),
        ('image sizes: off', 'progressive_sizes', L(progressive_sizes=())), ('frozen: off', 'freeze', L(freeze=())),
        ('frozen: how long', 'freeze', L(freeze=(('body.conv1', 2),))),
        ('frozen: what', 'freeze', L(freeze=(('body.fc', 1),))),
        ('unfrozen later', 'unfreeze', L(unfreeze=(('norms', 1),))),
        ('precision', 'precision', L(amp=True)), ('compilation', 'compile', L(compile='eager')),
        ('compilation: another backend', 'compile', L(compile='aot_eager')),
        ('training images: one bit', 'data', dict(nudge=dict(train='pixel'))),
        ('training labels: one', 'data', dict(nudge=dict(train='label'))),
        ('training images: order', 'data', dict(nudge=dict(train='order'))),
        ('evaluation images: one bit', 'evaluated_on', dict(nudge=dict(test='pixel'))),
        ('evaluation labels: one', 'evaluated_on', dict(nudge=dict(test='label'))),
        ('name of a class', 'data', dict(nudge={'class': 1})),
        ('evaluated on a part of train', 'evaluated_on', D(valid_pct=.25)),
    ]


class Watch(Callback): "A callback that only watches."


def allowed():
    "What may change within a run: (option, whether the bits must be the same, what is changed)."
    def D(**k): return dict(dls=k)
    return [('nothing', True, {}),
            ('metrics', True, dict(learn=dict(metrics={'loud': lambda out, yb: out.max(1).values}))),
            ('another callback', True, dict(last=[Watch()])), ('history in a file', True, 'csv'),
            ('one worker', True, D(num_workers=1, mode='batch')), ('two workers', True, D(num_workers=2, mode='image')),
            ('mode image', True, D(mode='image')), ('mode batch', True, D(mode='batch')),
            ('mode device', True, D(mode='device')), ('two threads', False, 'threads')]


def changed_runs(tmp, say):
    "Return (rows of changed options: refused by name or not, rows of what may change: accepted and the same or not)."
    data, base, rows, free = shapes_split(64, 32), tmp/'changed'/'base', [], []
    def start(name, change, base=base):
        folder = tmp/'changed'/'run'
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, folder)
        if change == 'csv': change = dict(last=[CSVLogger(folder/'history.csv')])
        with contextlib.redirect_stdout(io.StringIO()) as said:
            made, fit = prepared(data, folder, **change)
            fit()
        return made, said.getvalue()
    truth, fit = prepared(data, tmp/'changed'/'whole')
    fit()
    made, fit = prepared(data, base, last=[SeenAt('after_batch', 4, 100)])
    with contextlib.suppress(Seen): fit()
    shutil.rmtree(base/'.lock', ignore_errors=True)
    weights = digest(truth.model.state_dict()), digest(truth.opt.state_dict())
    for name, word, change in changes():
        try: made, _ = start(name, change)
        except ValueError as e:
            text = str(e)
            parts = text.partition('the checkpoint is of another run: ')[2].split('; ')
            end = 'refused' if any(p.startswith(f'{word} is ') for p in parts) else f'refused otherwise: {text[:300]}'
        except Exception as e: end = f'another error: {type(e).__name__}: {str(e)[:200]}'
        else: end = 'SILENT'
        rows.append((name, word, end))
        if end != 'refused': say(f'changed: {rows[-1]}')
    for name, told, first, second in pairs():
        base = tmp/'changed'/f'base-{len(rows)}'
        try:
            _, fit = prepared(data, base, last=[SeenAt('after_batch', 4, 100)], **first)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Seen): fit()
            made, _ = start(name, second, base=base)
        except ValueError as e:
            end = 'refused' if 'is of another run' in str(e) else f'refused otherwise: {str(e)[:300]}'
        except Exception as e: end = f'another error: {type(e).__name__}: {str(e)[:200]}'
        else:
            whole, fit = prepared(data, tmp/'changed'/f'second-{len(rows)}', **second)
            with contextlib.redirect_stdout(io.StringIO()): fit()
            other = digest(whole.model.state_dict()) != digest(made.model.state_dict())
            end = 'not seen, as the page says' if told else 'SILENT' if other else 'accepted, the same'
        rows.append((name, '', end))
        if end != 'refused': say(f'changed: {rows[-1]}')
    base = tmp/'changed'/'base'
    for name, same, change in allowed():
        if change == 'threads': torch.set_num_threads(2)
        try: made, said = start(name, {} if change == 'threads' else change)
        except Exception as e: end = f'{type(e).__name__}: {str(e)[:300]}'
        else:
            bits = (digest(made.model.state_dict()), digest(made.opt.state_dict())) == weights
            far = max((a - b).abs().max().item() for a, b in
                      zip(made.model.state_dict().values(), truth.model.state_dict().values()))
            on = 'going on from step 5 of 8' in said and (name == 'nothing' or 'mode' in name or 'accepted' in said)
            end = ('the same bits' if bits else f'within {far:.0e}') if on else f'not gone on: {said}'
            if same and not bits: end = f'DIFFERS by {far:.0e}'
        finally: torch.set_num_threads(1)
        free.append((name, end))
        say(f'may change: {free[-1]}')
    return rows, free


# Not a number

class Poison(Callback):
    "Put a value into a weight, the optimiser's memory, a norm's statistics or the average, after a step."
    def __init__(self, step, where, value, order):
        self.at, self.where, self.value, self.order = step, where, value, order

    def after_batch(self, learn):
        if learn.step != self.at: return
        m = learn.model.layer2
        if self.where == 'momentum': t = learn.opt.state[m.conv2.weight]['momentum_buffer']
        elif self.where == 'average': t = learn.avg.slow[3]
        else: t = {'weight': m.conv2.weight, 'bias': m.bn1.bias, 'mean': m.bn2.running_mean,
                   'variance': m.bn2.running_var}[self.where]
        with torch.no_grad(): t[(-1,)*t.ndim] = self.value


def not_numbers(tmp, say):
    "Return (cases, those in which nothing bad was saved and the last good one was named, same end after, what failed)."
    data, truths, bad, cases, again = shapes_split(64, 32), {}, [], 0, 0
    def run(folder, every, *cbs):
        set_seed(0)
        loaders = DataLoaders.from_data(*data, bs=16)
        cbs = [CheckpointCallback(folder/'checkpoints', every=every), SaveModelCallback(folder/'model.safetensors'),
               *cbs]
        learn = Learner(loaders, small(), opt_func=partial(sgd, lr=.05), averager=partial(Lookahead, every=3), cbs=cbs)
        with contextlib.redirect_stdout(io.StringIO()): learn.fit_one_cycle(2)
        return digest(learn.model.state_dict()), digest(learn.opt.state_dict())
    values = (float('nan'), float('inf'), -float('inf'))
    steps = (1, 3, 4, 5, 8)
    for every, order, where, (i, step) in itertools.product(
            (0, 60), (-1, 45), ('weight', 'bias', 'momentum', 'mean', 'variance', 'average'), enumerate(steps)):
        if every not in truths: truths[every] = run(tmp/'numbers'/f'whole-{every}', every)
        case, folder, error = (where, values[i % 3], step, every, order), tmp/'numbers'/'run', None
        shutil.rmtree(folder, ignore_errors=True)
        try: end = run(folder, every, Poison(step, where, values[i % 3], order))
        except FloatingPointError as e: error, end = str(e), None
        files, faults = checkpoints(folder/'checkpoints'), []
        if any(not_finite(read_checkpoint(p)) for p in files): faults.append('a checkpoint holds it')
        p = load_model(folder/'model.safetensors')
        if not_finite(p.model.state_dict()): faults.append('the model file holds it')
        named = files[0].name if files else 'there is no checkpoint'
        if error is None: faults.append('the run ended without a word' + ', in the same bits'*(end == truths[every]))
        if error is not None and named not in error: faults.append(f'not named: {error}')
        cases += 1
        if not faults:
            again += run(folder, every) == truths[every]
        else: bad.append((case, faults))
        if faults: say(f'not a number: {case}: {faults}')
    say(f'not a number: {cases} cases, {len(bad)} with faults, {again} ended in the same bits when started again')
    return cases, again, bad


# Kills of a run that writes a model file

def is_model(p, *_): return str(p).endswith('.safetensors')


MODEL_POINTS = {
    'in an evaluation': (3, evaluating),
    'model file half written': (4, lambda learn, n: setattr(Path, 'write_bytes', half_written(n, is_model))),
    'model file, before the rename': (4, at_call(os, 'replace', 'before', is_model)),
    'model file, after the rename': (4, at_call(os, 'replace', 'after', is_model)),
    'after the checkpoint of an epoch, before the model file': (3,
        lambda learn, n: learn.cbs.insert(0, KillAt('after_epoch', n, 41))),
    'checkpoint half written': (14, lambda learn, n: setattr(Path, 'write_bytes', half_written(n, is_checkpoint))),
    'checkpoint, before the rename': (14, POINTS['in a save, before the rename'][1]),
    'checkpoint, after the rename': (14, POINTS['in a save, after the rename'][1]),
    'checkpoint, before the oldest is deleted': (11, POINTS['in a save, before the oldest is deleted'][1]),
}


def model_kills(n, seed, tmp, say):
    "Kill runs with checkpoints, history and model file `n` times by SIGKILL; return (places, runs, different ones)."
    rng, data, places, runs, bad = random.Random(seed + 1), shapes_split(N, 48), Counter(), 0, []
    cfg = config('model file', opt=sgd, net=small, ghost=False, freeze=(), mix=mixup)
    cfg['model'] = True
    truth = undisturbed(cfg, data, tmp/'model-kills')
    again = undisturbed(cfg, data, tmp/'model-kills'/'again')[0]
    assert not differs(truth[0], again), differs(truth[0], again)
    queue = []
    while places.total() < n:
        if not queue: queue = rng.sample([*MODEL_POINTS, *[RANDOM]*5], len(MODEL_POINTS) + 5)
        killed, diff = story(cfg, data, *truth, tmp, rng, queue.pop(), rng.choice((1, 1, 2)), MODEL_POINTS, ())
        places.update(killed)
        runs += bool(killed)
        if diff: bad.append((cfg['name'], killed, diff))
        say(f'{places.total()} kills with a model file, {runs} runs, {len(bad)} different; last: {killed} {diff or ""}')
    return places, runs, bad


# What saving costs

class TimedSaves(Callback):
    "At the second step, save again and again under other numbers."
    order = 41
    def __init__(self, cb, rounds): self.cb, self.rounds, self.took = cb, rounds, []
    def after_batch(self, learn):
        if learn.step != 2: return
        for learn.step in range(2, 2 + self.rounds):
            start = time.perf_counter()
            self.cb.write(learn)
            self.took.append(time.perf_counter() - start)
        learn.step = 2


def cost(tmp, say, rounds=7):
    "Return rows of (what, MB, median seconds, largest) of a save, lock and deletion of the oldest included."
    rows = []
    for name, make in (('network and optimiser of the recipe `fast`', fastnet),
                       ('ResNet-18 with Muon and averaging', resnet18)):
        set_seed(0)
        cb = CheckpointCallback(tmp/'cost'/name[:5])
        dls = DataLoaders.from_data(*shapes_split(64, 10), bs=32, preset='none')
        learn = Learner(dls, make(), opt_func=partial(muon, lr=.01), cbs=[cb], averager=Lookahead)
        learn.cbs.append(saves := TimedSaves(cb, rounds))
        learn.fit(1)
        took = saves.took
        rows.append((name, checkpoints(cb.folder)[0].stat().st_size/1e6, statistics.median(took), max(took)))
        say(f'cost: {rows[-1]}')
        shutil.rmtree(cb.folder)
    return rows


# The report

def table(head, rows):
    lines = ['| ' + ' | '.join(map(str, r)) + ' |' for r in (head, *rows)]
    return ['', lines[0], '|---' + '|---:'*(len(head) - 1) + '|', *lines[1:], '']


def report_more(more):
    "The sections on mutations, changed runs, values that are no numbers, and kills with a model file."
    mutated, (changed, free), (cases, again, bad), (places, runs, differing) = more
    left = littered(differing)
    text = ['## Mutations of every file that is read back', '', 'One bit flipped anywhere, or cut anywhere, in turn. '
            'A model file is loaded, and says the same and predicts the same; a cache entry is asked for by '
            '`image_folder`, and gives the same pixels and labels, with a line, and is whole again; a run goes on from '
            'its checkpoints, of which the newest is spoilt, and stands where the one before it was.']
    text += table(['file', 'mutations', 'refused', 'from something good, with a line', 'the same', 'another error',
                   'silently wrong'], mutated)
    refused = sum(e == 'refused' for *_, e in changed)
    others = [r for r in changed if r[-1] != 'refused']
    text += ['## Changed runs', '', f'A run is stopped after step 5 of 8 and started again with one option changed: '
             f'{refused} of {len(changed)} changes were refused, by the name of what differs. Those refused: '
             + '; '.join(n for n, _, e in changed if e == 'refused') + '.', '']
    if others: text += ['The others:'] + table(['changed', 'what came of it'], [(n, said(e)) for n, _, e in others])
    text += ['What may change, against the undisturbed run (weights and optimiser):']
    text += table(['changed', 'ended in'], free)
    text += ['## Not a number', '',
             f'NaN, infinity or its negative was put into a weight, a bias, the momentum, a mean '
             f'or variance of a norm, or the averaged weights, after a step, before the save or after it, with a '
             f'checkpoint after each step or by the clock, {cases} cases: in {cases - len(bad)} of them neither a '
             f'checkpoint nor the model file held it when the run had ended with an error that names the last good '
             f'checkpoint, and {again} ended in the bits of the undisturbed run when started again.', '']
    text += [f'- {case}: {"; ".join(faults)}' for case, faults in bad] + ['']*bool(bad)
    text += ['## Kills of a run that writes a model file', '', f'{places.total()} times SIGKILL, {runs} runs with '
             f'`CheckpointCallback(every=0)`, `CSVLogger` and `SaveModelCallback`: '
             f'{runs - len(differing) + len(left)} ended in the bits of the undisturbed run, model file and history '
             f'included, {len(differing) - len(left)} did not. {len(left)} left a temporary file of the model file '
             'beside it, which a save more than an hour later deletes.']
    return text + table(['killed', 'times'], sorted(places.items(), key=lambda r: -r[1]))


def said(end):
    "What came of a change, in a cell of a table."
    if end == 'SILENT': return 'NOT SEEN: it went on, to other weights'
    if 'is damaged' in end: return 'refused, but its checkpoints are called damaged, which they are not'
    return end.replace('|', '/')


def littered(differing):
    "Those runs whose only difference is a temporary file that was left."
    return [b for b in differing if b[-1] == ['left behind']]


def totals(killed, spoilt, full, more):
    "Rows of (what, attempts, silent wrong results)."
    places, _, runs, _, bad = killed
    flips, (cuts, lengths), rows = spoilt
    mutated, (changed, free), (cases, _, faults), (more_places, _, more_bad) = more
    return [('kills', sum(places.values()), len(bad)), ('flipped bits of a checkpoint', 1000, 1000 - flips),
            ('truncations of a checkpoint', lengths, lengths - cuts),
            ('spoilt checkpoints', len(rows), sum(not ok for _, ok in rows)),
            ('full disks', len(full), sum(not r[-1] for r in full)),
            *((f'mutations of a {name}', n, silent) for name, n, *_, silent in mutated),
            ('changed runs', len(changed), sum(e == 'SILENT' for *_, e in changed)),
            ('runs changed in what may change', len(free),
             sum('the same' not in e and 'within' not in e for _, e in free)),
            ('values that are no numbers', cases, len(faults)),
            ('kills with a model file', more_places.total(), len(more_bad) - len(littered(more_bad)))]


def total_lines(rows):
    "The table of all attempts, and its sum."
    every, silent = sum(r[1] for r in rows), sum(r[2] for r in rows)
    return ['## All of it', *table(['what', 'attempts', 'silent wrong results'], rows),
            f'**In all {every:,} attempts, {silent} silent wrong results.**'
            + ''.join(f' {n} in {what}.' for what, _, n in rows if n), '']


def report(a, killed, spoilt, full, more, costs, seconds):
    places, configs, runs, most, bad = killed
    flips, (cuts, lengths), rows = spoilt
    text = ['# What a run survives', '',
            '`benchmarks/survival.py` says how; everything is compared bit for bit with a run of the same settings '
            'that nobody disturbed: '
            'weights, optimiser, averaging, generators, history and its file (without the clock), predictions for '
            'every test image.', '',
            f'## {sum(places.values())} kills', '',
            f'{runs} runs were killed, up to {most} times in a row, and started again: '
            f'**{runs - len(bad)} ended in the same bits, {len(bad)} did not.** No temporary file, no lock and no '
            f'third checkpoint was left.']
    text += table(['killed with SIGKILL, unless it says otherwise', 'times'],
                  sorted(places.items(), key=lambda r: (r[0] in POINTS, 'worker' in r[0], -r[1])))
    text += ['Over seven settings, the first five with Muon, lookahead, images that grow, a frozen stem, L1, '
             'clipping, accumulation, mixup or cutmix, alternating flip, ghost norm:']
    text += table(['settings', 'kills'], [(c['name'], configs[c['name']]) for c in CONFIGS])
    text += ['## Spoilt files', '',
             f'{flips} of 1000 flipped bits and {cuts} of {lengths} truncations (from 0 bytes to all but one) were '
             f'noticed. '
             f'With the newest checkpoint spoilt, the run said so, went on from the one before and ended in the same '
             f'bits in {sum(ok for _, ok in rows)} of {len(rows)} cases: '
             + '; '.join(name + ('' if ok else ' (NOT)') for name, ok in rows) + '. No program ran.', '',
             '## A full disk', '',
             f'In {sum(r[-1] for r in full)} of {len(full)} cases the run said so once, kept what was there, trained '
             f'on and saved again when there was room, to the same bits; '
             'where there was none to the end it ended with an error, and went on from its last checkpoint when '
             'started again.']
    text += table(['disk', 'full from step', 'until', 'as expected'],
                  [(k, x, y if y < 99 else 'the end', 'yes' if ok else 'NO') for k, x, y, ok in full])
    text += report_more(more)
    if costs:
        text += ['## What saving costs', '',
                 'Lock, state, hash, write, fsync, rename, deletion of the oldest; at the default interval of 60 '
                 'seconds:']
        text += table(['state', 'MB', 'seconds, median of 7', 'largest', 'of 60 s, median', 'largest'],
                      [(n, f'{mb:.1f}', f'{m:.2f}', f'{x:.2f}', f'{m/60:.1%}', f'{x/60:.1%}') for n, mb, m, x in costs])
        text += ['A save is due after the interval or after fifty times what the last one took, whichever is longer, '
                 'also at the end of an epoch: saving takes at most about 2 % of the time. Wall-clock time; the '
                 'largest includes what else the machine was doing.', '']
    text += total_lines(totals(killed, spoilt, full, more))
    text += [f"`python benchmarks/survival.py {shlex.join(sys.argv[1:])}`; seed {a.seed}, {seconds/60:.0f} minutes; "
             f"torch {torch.__version__}, Python {platform.python_version()}, "
             f"{platform.system()} {platform.machine()}, one thread."]
    return '\n'.join(text) + '\n'


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--kills', type=int, default=240)
    p.add_argument('--mutations', type=int, default=200, help='of each file that is read back')
    p.add_argument('--model-kills', type=int, default=30, help='of a run that writes a model file')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--cost', action='store_true', help='time saving as well')
    p.add_argument('--quiet', action='store_true', help='only the result')
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    start, say = time.perf_counter(), (lambda text: None) if a.quiet else partial(print, flush=True)
    with tempfile.TemporaryDirectory() as d:
        tmp = Path(d)
        killed, spoilt = kills(a.kills, a.seed, tmp, say), spoil(a.seed, tmp, say)
        full = full_disk(a.seed, tmp, say)
        more = (mutated(a.mutations, a.seed, tmp, say), changed_runs(tmp, say), not_numbers(tmp, say),
                model_kills(a.model_kills, a.seed, tmp, say))
        costs = cost(tmp, say) if a.cost else []
    text = report(a, killed, spoilt, full, more, costs, time.perf_counter() - start)
    print(text if not a.quiet else next(line for line in text.splitlines() if 'ended in the same bits' in line))
    if a.out:
        a.out.write_text(text, encoding='utf-8')
        with open(a.out.with_suffix('.csv'), 'w', newline='', encoding='utf-8') as f:
            out = writer(f, lineterminator='\n')
            out.writerow(('what', 'attempts', 'silent wrong results'))
            out.writerows(totals(killed, spoilt, full, more))
            out.writerows((f'changed: {name}', 1, int(end == 'SILENT')) for name, _, end in more[1][0])
    for b in [*killed[-1], *more[-1][-1]]: print('different:', *b)
    sys.exit(any(silent for *_, silent in totals(killed, spoilt, full, more)))


if __name__ == '__main__': main()

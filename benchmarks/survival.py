"""Kill training runs, spoil their checkpoints, fill their disk, and see whether they end where an undisturbed run ends.

    python benchmarks/survival.py [--kills 240] [--seed 0] [--cost] [--out benchmarks/results/survival.md]

A run trains a small network on drawn shapes for three epochs. It is killed with SIGKILL, at a random moment or at a planted point, up to
five times in a row, and started again after each; at the end its weights, optimiser, averaging, generators, history (without the clock)
and the predictions for every test image are compared bit for bit with those of a run of the same settings that nobody disturbed. The
planted points are reached by replacing `os.fsync`, `os.replace`, `Path.unlink` and the like in the child; the library knows nothing of it.

Importing torch takes seconds, so one parent imports everything and forks a child for each run: it needs Linux or macOS.
"""
import argparse
import errno
import hashlib
import itertools
import json
import os
import pickle
import platform
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from functools import partial
from pathlib import Path

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
os.environ['OMP_NUM_THREADS'] = '1'
os.environ['S9LIB_DEVICE'] = 'cpu'

import cv2
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import s9lib.train.learner
from s9lib.core import set_seed
from s9lib.data.loader import DataLoaders, WorkerDataset
from s9lib.data.synthetic import shapes_split
from s9lib.nets.fastnet import fastnet
from s9lib.nets.ghost_norm import ghost_
from s9lib.nets.resnet import resnet18
from s9lib.train.callbacks import Callback, EarlyStopping
from s9lib.train.checkpoint import checkpoints, load_checkpoint, read_checkpoint
from s9lib.train.history import CSVLogger
from s9lib.train.learner import Learner
from s9lib.train.mixup import cutmix, mixup
from s9lib.train.optim import Lookahead, muon, sgd
from s9lib.train.resume import CheckpointCallback

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
    return Learner(dls, ghost_(net, 16) if cfg['ghost'] else net, opt_func=partial(cfg['opt'], lr=.05), cbs=cbs,
                   metrics={'loud': lambda out, yb: out.max(1).values}, **cfg['learner'])


def digest(o):
    "A hash of every bit of the tensors and numbers in `o`."
    h = hashlib.sha256()
    for t in tree_leaves(o): h.update(f'{t.dtype}{tuple(t.shape)}'.encode() + t.contiguous().numpy().tobytes() if torch.is_tensor(t) else repr(t).encode())
    return h.hexdigest()[:16]


def result(learn, folder):
    "What the end of a run is compared by: what is in memory, on disk and in the log."
    clock = ('seconds', 'img_per_s')
    disk, state = load_checkpoint(folder/'checkpoints'), learn.state_dict()
    history = [{k: v for k, v in r.items() if k not in clock} for r in learn.history]
    csv = [line.split(',') for line in (folder/'history.csv').read_text().splitlines()]
    csv = [[v for k, v in zip(csv[0], row) if k not in clock] for row in csv]
    return {**{k: digest(state[k]) for k in ('model', 'opt', 'avg', 'scaler', 'rng')}, 'steps': (learn.epoch, learn.step), 'history': history, 'csv': csv,
            'predictions': digest(learn.get_preds(learn.dls.test)), 'disk': digest({k: disk[k] for k in ('model', 'opt', 'avg', 'rng')}),
            'left behind': sorted(p.name for p in folder.rglob('*') if p.name.startswith('.')), 'checkpoints': len(checkpoints(folder/'checkpoints')) <= 2}


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


def is_checkpoint(p, *_): return str(p).endswith('.pt')


def killed_in_worker(n, whom):
    "Kill, from within a loader worker that has made half of a batch, the run or the worker itself."
    real, calls, pid = WorkerDataset.__getitems__, itertools.count(), os.getpid()
    def fetch(self, request):
        if os.getpid() == pid: return real(self, request)
        (epoch, idx), = request
        if next(calls) == n:
            real(self, [(epoch, idx[:len(idx)//2])])
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
    'in a save, before fsync': (14, lambda learn, n: setattr(os, 'fsync', nth(n, os.fsync, 'before'))),
    'in a save, after fsync': (14, lambda learn, n: setattr(os, 'fsync', nth(n, os.fsync, 'after'))),
    'in a save, before the rename': (14, lambda learn, n: setattr(os, 'replace', nth(n, os.replace, 'before', is_checkpoint))),
    'in a save, after the rename': (14, lambda learn, n: setattr(os, 'replace', nth(n, os.replace, 'after', is_checkpoint))),
    'in a save, before the oldest is deleted': (11, lambda learn, n: setattr(Path, 'unlink', nth(n, Path.unlink, 'before', is_finished))),
    'in a save, after the oldest is deleted': (11, lambda learn, n: setattr(Path, 'unlink', nth(n, Path.unlink, 'after', is_finished))),
    'while the history is written': (3, lambda learn, n: setattr(os, 'replace', nth(n, os.replace, 'before', lambda p, *_: str(p).endswith('.csv')))),
    'in an evaluation': (3, evaluating),
    'after an evaluation, before it is saved': (3, lambda learn, n: learn.cbs.append(KillAt('after_epoch', n, 39))),
    'after the save of an epoch, before the other callbacks': (3, lambda learn, n: learn.cbs.append(KillAt('after_epoch', n, 41))),
    'while it locks the folder': (1, lambda learn, n: setattr(json, 'dump', nth(0, json.dump, 'before'))),
    'while it lets go of the folder': (1, lambda learn, n: setattr(Path, 'unlink', nth(0, Path.unlink, 'before', lambda p, *_: p.name == '.lock'))),
    'right after it was loaded': (1, lambda learn, n: learn.cbs.append(KillAt('before_fit', 0, 41))),
    'from a loader worker, in the middle of a batch': (5, lambda learn, n: killed_in_worker(n, 'run')),
    'a loader worker itself, in the middle of a batch': (5, lambda learn, n: killed_in_worker(n, 'worker')),
}
RANDOM, ASKED = 'at a random moment', 'at a random moment, by SIGTERM: it saves and ends'


def is_finished(p, *_): return p.name.startswith('epoch')


def half_written(n):
    real, calls = Path.write_bytes, itertools.count()
    def write(self, data):
        if next(calls) != n: return real(self, data)
        real(self, data[:len(data)//2])
        die()
    return write


# The machinery: a child for each run

def child(cfg, data, folder, plant=None, limit=None, sig=signal.SIGKILL):
    "Train in a forked child, which gets the signal after `limit` seconds; return (exit status, seconds, pid). It leaves its result in `result`."
    start, pid = time.perf_counter(), os.fork()
    if pid == 0:
        status = 1
        try:
            os.setpgrp()
            log = os.open(folder/'log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for fd in (1, 2): os.dup2(log, fd)
            learn = learner(cfg, data, folder)
            if plant: plant(learn)
            learn.fit_one_cycle(EPOCHS)
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


def story(cfg, data, truth, took, tmp, rng, place, times):
    "Kill a run `times` times, let it end, compare. Return (places it was killed at, parts that differ)."
    folder, killed, pids = tmp/'run', [], []
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for i in range(times):
        here = place if i == 0 else rng.choice([RANDOM, ASKED, *(p for p in POINTS if 'worker' not in p)])
        if here not in POINTS: status, _, pid = child(cfg, data, folder, limit=rng.uniform(.02, took), sig=signal.SIGKILL if here == RANDOM else signal.SIGTERM)
        else:
            often, plant = POINTS[here]
            status, _, pid = child(cfg, data, folder, plant=partial(plant, n=rng.randrange(often)))
        pids.append(pid)
        if status in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM) or (here.startswith('a loader worker') and status == 1): killed.append(here)
        if status == 0: break                                    # the point was not reached any more: it ended
        if status == 1 and not here.startswith('a loader worker'): return killed, [f"error: {(folder/'log').read_text()[-500:]}"]
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
    for c in CONFIGS:                                            # the comparison itself: the same again is the same, another seed is not
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
        say(f'{sum(places.values()):4} kills, {runs} runs, {len(bad)} different; last: {cfg["name"]}: {killed}' + (f' DIFFERS in {diff}' if diff else ''))
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
    'empty': partial(cut, n=0), 'one byte left': partial(cut, n=1), 'cut in the header': partial(cut, n=30), 'last byte missing': partial(cut, n=-1),
    'cut in the middle': lambda p: cut(p, p.stat().st_size//2), 'cut before the directory at the end': partial(cut, n=-2000),
    'zeros in a block': lambda p: p.write_bytes(p.read_bytes()[:4096] + bytes(4096) + p.read_bytes()[8192:]),
    'another checkpoint under its name': lambda p: p.write_bytes(checkpoints(p.parent)[1].read_bytes()),
    'a program in a pickle, hash right': program, 'no checkpoint, hash right': lambda p: renamed(p, b'nothing of the kind'),
    'a key missing, hash right': partial(without, key='opt'), 'a folder in its place': lambda p: (p.unlink(), p.mkdir()),
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
    lengths = sorted({*range(0, 200), *range(len(good) - 200, len(good)), *(rng.randrange(len(good)) for _ in range(200))})
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
        ok = status == 0 and 'passed over' in log and not Path('a-program-ran').exists() and not (folder/'a-program-ran').exists()
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
    "Ways to fill the disk of `folder`: a real file system of 1 MB if one may be mounted, and a limit on the size of a file."
    (folder/'checkpoints').mkdir(parents=True)
    if not mount: return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (20_000, -1)), partial(resource.setrlimit, resource.RLIMIT_FSIZE, (-1, -1))
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder/'checkpoints'], check=True, stderr=subprocess.DEVNULL)
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
            folder, kind = tmp/'full'/f'{mount}-{a}-{b}', 'file system of 1 MB' if mount else 'limit on the size of a file'
            try: fill, empty = small_disk(folder, mount)
            except (OSError, subprocess.CalledProcessError):
                say('no small file system may be mounted here')
                break
            status = child(cfg, data, folder, plant=lambda learn: learn.cbs.append(Full(a, b, fill, empty)))[0]
            log, left = (folder/'log').read_text(), [noticed(p) for p in checkpoints(folder/'checkpoints')]
            said = log.count('Training goes on and the next save tries again') == 1 and ('saved again' in log) == (b < 99)
            ended = 'the end of the run could not be saved' in log and status == 1 if b == 99 else status == 0
            empty()
            if b == 99: status = child(cfg, data, folder)[0]
            diff = differs(truth, pickle.loads((folder/'result').read_bytes())) if status == 0 else ['error']
            rows.append((kind, a, b, said and ended and not any(left) and not diff))
            say(f'full disk: {rows[-1]}' + ('' if rows[-1][-1] else f' {said} {ended} {left} {diff} {log[-600:]}'))
            if mount: subprocess.run(['umount', folder/'checkpoints'])
    return rows


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
    for name, make in (('network and optimiser of the recipe `fast`', fastnet), ('ResNet-18 with Muon and averaging', resnet18)):
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

def table(head, rows): return ['', '| ' + ' | '.join(head) + ' |', '|---' + '|---:'*(len(head) - 1) + '|', *('| ' + ' | '.join(map(str, r)) + ' |' for r in rows), '']


def report(a, killed, spoilt, full, costs, seconds):
    places, configs, runs, most, bad = killed
    flips, (cuts, lengths), rows = spoilt
    text = ['# What a run survives', '', '`benchmarks/survival.py` says how; everything is compared bit for bit with a run of the same settings that nobody disturbed: '
            'weights, optimiser, averaging, generators, history and its file (without the clock), predictions for every test image.', '',
            f'## {sum(places.values())} kills', '', f'{runs} runs were killed, up to {most} times in a row, and started again: '
            f'**{runs - len(bad)} ended in the same bits, {len(bad)} did not.** No temporary file, no lock and no third checkpoint was left.']
    text += table(['killed with SIGKILL, unless it says otherwise', 'times'], sorted(places.items(), key=lambda r: (r[0] in POINTS, 'worker' in r[0], -r[1])))
    text += ['Over seven settings, the first five with Muon, lookahead, images that grow, a frozen stem, L1, clipping, accumulation, mixup or cutmix, alternating flip, ghost norm:']
    text += table(['settings', 'kills'], [(c['name'], configs[c['name']]) for c in CONFIGS])
    text += ['## Spoilt files', '', f'{flips} of 1000 flipped bits and {cuts} of {lengths} truncations (from 0 bytes to all but one) were noticed. '
             f'With the newest checkpoint spoilt, the run said so, went on from the one before and ended in the same bits in {sum(ok for _, ok in rows)} of {len(rows)} cases: '
             + '; '.join(name + ('' if ok else ' (NOT)') for name, ok in rows) + '. No program ran.', '',
             '## A full disk', '', f'In {sum(r[-1] for r in full)} of {len(full)} cases the run said so once, kept what was there, trained on and saved again when there was room, to the same bits; '
             'where there was none to the end it ended with an error, and went on from its last checkpoint when started again.']
    text += table(['disk', 'full from step', 'until', 'as expected'], [(k, x, y if y < 99 else 'the end', 'yes' if ok else 'NO') for k, x, y, ok in full])
    if costs:
        text += ['## What saving costs', '', 'Lock, state, hash, write, fsync, rename, deletion of the oldest; at the default interval of 60 seconds:']
        text += table(['state', 'MB', 'seconds, median of 7', 'largest', 'of 60 s, median', 'largest'],
                      [(n, f'{mb:.1f}', f'{m:.2f}', f'{x:.2f}', f'{m/60:.1%}', f'{x/60:.1%}') for n, mb, m, x in costs])
        text += ['A save is due after the interval or after fifty times what the last one took, whichever is longer, also at the end of an epoch: saving takes at most about 2 % of the time. Wall-clock time; the largest includes what else the machine was doing.', '']
    text += [f"`python benchmarks/survival.py {' '.join(sys.argv[1:])}`; seed {a.seed}, {seconds/60:.0f} minutes; torch {torch.__version__}, Python {platform.python_version()}, "
             f"{platform.system()} {platform.machine()}, one thread."]
    return '\n'.join(text) + '\n'


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--kills', type=int, default=240)
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
        costs = cost(tmp, say) if a.cost else []
    text = report(a, killed, spoilt, full, costs, time.perf_counter() - start)
    print(text if not a.quiet else next(line for line in text.splitlines() if 'ended in the same bits' in line))
    if a.out: a.out.write_text(text, encoding='utf-8')
    for b in killed[-1]: print('different:', *b)
    sys.exit(bool(killed[-1] or spoilt[0] < 1000 or spoilt[1][0] < spoilt[1][1] or not all(ok for *_, ok in [*spoilt[2], *full])))


if __name__ == '__main__': main()

"""Distance between a run on several processes and the same run on one, feature by feature.

    python benchmarks/distributed.py [--quick] [--out benchmarks/results/distributed.md]

Every case is trained in one process, in two and in three (gloo on the CPU, started by torchrun), with the same seed and the same
global batches. The figure is the largest relative distance between a tensor of weights or running statistics of the one and of the
other at the end, |a - b| / |b| (|b| counted as at least 0.001). Rounding sets a floor to it: as a control, the case is trained once
more in one process with another implementation of the convolutions (oneDNN switched off). In double precision the floor is nine
orders lower, and whatever is not rounding shows. The script fails if a case is above 1e-9 in double precision, if the processes do
not end with the same bits, or if an exact count differs.
"""
import argparse
import hashlib
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
import torch.nn.functional as F
from torch import nn

from s9lib.core import set_seed
from s9lib.train.distributed import distributed
from s9lib.train.evaluator import in_top, SingleProcess
from s9lib.nets.ghost_norm import ghost_
from s9lib.train.learner import Learner
from s9lib.train.callbacks import Callback, CancelFit, LoadState, StopAtStep
from s9lib.data.loader import synth_dls
from s9lib.train.mixup import cutmix, mixup
from s9lib.train.optim import Lookahead, muon, sgd
from s9lib.nets.resnet import resnet18
from s9lib.nets.fastnet import fastnet
from s9lib.nets.winograd import winograd_

NET = partial(fastnet, widths=(8, 8, 8))
MUON = partial(muon, lr=.1, lr_head=.8, lr_bias=4.)
EVERYTHING = dict(opt_func=MUON, averager=partial(Lookahead, every=2), progressive_sizes=((1, 16), (1, 24)),
                  freeze=(('conv1', 1),), l1=1e-5, max_grad_norm=1., grad_accum=2, mix=cutmix)
STRATEGY = SingleProcess()  # of this process; `worker` takes that of the group
CASES = {  # name: what differs from SGD on 90 images in batches of 32, two epochs
    'SGD, last batch of 26': {},
    'last batch of 1, fewer than processes': dict(dls=dict(n=65)),
    'no batch norm': dict(model=lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.GELU(), nn.Flatten(),
                                                      nn.Linear(1800, 10))),
    'ResNet-18': dict(model=resnet18, dls=dict(n=30, bs=16, size=16), n_epoch=1),
    'Muon, Lookahead every 2 steps': dict(opt_func=MUON, averager=partial(Lookahead, every=2)),
    'clipping, L1': dict(max_grad_norm=.5, l1=1e-4),
    'accumulation in 3 parts': dict(grad_accum=3),
    'accumulation, parts without images': dict(grad_accum=5, dls=dict(n=67)),
    'mixup': dict(mix=mixup),
    'cutmix, accumulation': dict(mix=cutmix, grad_accum=2),
    'growing images': dict(progressive_sizes=((1, 16),)),
    'frozen first layer': dict(freeze=(('conv1', 1),)),
    'the hardest images, accumulation': dict(hardest=(1, .4), grad_accum=2),
    'ghost batch norm, groups of 8': dict(model=lambda: ghost_(NET(), 8)),
    'ghost batch norm, accumulation': dict(model=lambda: ghost_(NET(), 8), grad_accum=2),
    'torch.compile (traced)': dict(compile='eager'),
    'Winograd convolutions': dict(model=lambda: winograd_(NET(), 1)),
    'mixed precision (bfloat16)': dict(amp=True),
    'mode image, 2 workers': dict(dls=dict(mode='image', num_workers=2)),
    'alternating flip, smoothed labels': dict(dls=dict(alt_flip=True),
                                              loss_func=partial(F.cross_entropy, label_smoothing=.2)),
    'everything, 3 epochs': dict(EVERYTHING, n_epoch=3, dls=dict(alt_flip=True), model=lambda: ghost_(NET(), 16)),
}


class Losses(Callback):
    "The loss of every step."
    def before_fit(self, learn): self.rows = []
    def after_batch(self, learn): self.rows.append(learn.loss.item())


def double(net):
    "The network in double precision, on images that stay single."
    net.double()
    single = net.forward
    net.forward = lambda x: single(x.double())
    return net


def train(case, wide=False, cbs=()):
    "Train one case; return the learner."
    kw = {k: v for k, v in case.items() if k not in ('dls', 'model', 'n_epoch')}
    set_seed(0)
    dls = synth_dls(**{**dict(n=90, n_test=45, bs=32, device='cpu'), **case.get('dls', {})})
    model = case.get('model', NET)()
    learn = Learner(dls, double(model) if wide else model, cbs=[Losses(), *cbs], metrics={'top3': partial(in_top, k=3)}, strategy=STRATEGY,
                    **{**dict(opt_func=partial(sgd, lr=.1)), **kw})
    learn.fit_one_cycle(case.get('n_epoch', 2))
    return learn


def result(learn):
    "What is compared of a run."
    probs, targs = learn.get_preds(tta='flip')
    return dict(model=learn.model.state_dict(), losses=learn.cbs[0].rows, probs=probs, targs=targs,
                history=[{k: v for k, v in r.items() if k not in ('seconds', 'img_per_s')} for r in learn.history])


def apart(a, b):
    "Largest relative distance of a tensor."
    pairs = [(s.double(), t.double()) for s, t in zip(a['model'].values(), b['model'].values())]
    return max(((s - t).norm()/t.norm().clamp_min(1e-3)).item() for s, t in pairs)


def same_bits(learn):
    "Raise if the processes' weights differ in a bit."
    h = hashlib.sha256(b''.join(t.numpy().tobytes() for t in learn.model.state_dict().values())).hexdigest()
    STRATEGY.check_same(dict(weights=h, history=str(result(learn)['history'])))


class Leave(Callback):
    "One process alone wants to leave, after its second step."
    def __init__(self, me, error): self.me, self.error = me, error
    def after_batch(self, learn):
        if learn.step == 2 and self.me: raise self.error


def left(me, error):
    "The error by which a process leaves when only the last one wants to, and its step."
    learn = None
    class Seen(Callback):
        def before_fit(self, l): nonlocal learn; learn = l
    try: train({}, cbs=[Leave(me == STRATEGY.world_size - 1, error), Seen()])
    except BaseException as e: return repr(e), learn.step
    return 'ended', learn.step


def poisoned():
    "A loss that is not a number in one process only."
    def loss_func(out, yb):
        loss = F.cross_entropy(out, yb)
        here = STRATEGY.rank == 1 and torch.is_grad_enabled() and len(yb) < 20 and loss.requires_grad
        return loss*float('nan') if here else loss
    try: train(dict(loss_func=loss_func))
    except FloatingPointError as e: return str(e)[:30]
    return 'not noticed'


def worker(folder, names):
    "Run all cases in this group of processes and save what process 0 has."
    global STRATEGY
    with distributed() as STRATEGY:
        me, out, w = STRATEGY.rank, {}, STRATEGY.world_size
        for name in names:
            for wide in (False, True):
                learn = train(CASES[name], wide)
                if w > 1: same_bits(learn)
                out[name, wide] = result(learn)
        out['lr_find'] = train({}).lr_find(1e-3, 10., 30, plot=False)
        out['left'] = [left(me, e) for e in (CancelFit(), KeyboardInterrupt(), SystemExit(143), ValueError('no room'))]
        if w > 1: out['poisoned'] = poisoned()
        STRATEGY.check_same(dict(left=out['left'], poisoned=out.get('poisoned')))
        half = torch.load(f'{folder}/half.pt', weights_only=True) if w > 1 else None
        case = dict(EVERYTHING, n_epoch=3)
        if w > 1: out['resumed'] = result(train(case, True, [LoadState(half)]))
        out['undisturbed'] = result(train(case, True))
        out['half'] = train(case, True, [StopAtStep(5)]).state_dict()
        if not me: torch.save(out, f'{folder}/{w}.pt')
    STRATEGY = SingleProcess()
    return out


def launch(folder, n, args):
    "This script again, in `n` processes."
    start = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(n)]
    subprocess.run([*start, __file__, '--worker', folder, *args], check=True)
    return torch.load(f'{folder}/{n}.pt', weights_only=False)


def close(name, a, b):
    "Raise if counts or labels differ, or losses and probabilities more than rounding lets them."
    for r, s in zip(a['history'], b['history'], strict=True):
        for k in r: assert abs(r[k] - s[k]) <= (1e-7 if k.endswith('acc') else 1e-5)*max(1, abs(s[k])), (name, k, r[k], s[k])
    torch.testing.assert_close(a['probs'], b['probs'], rtol=1e-6, atol=1e-6)
    assert torch.equal(a['targs'], b['targs']) and len(a['losses']) == len(b['losses'])


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--quick', action='store_true', help='two processes only')
    args.add_argument('--out', type=Path)
    args.add_argument('--worker', help=argparse.SUPPRESS)
    a = args.parse_args()
    torch.set_num_threads(1)
    if a.worker: return worker(a.worker, list(CASES))
    sizes = (2,) if a.quick else (2, 3)
    with tempfile.TemporaryDirectory() as d:
        one = worker(d, list(CASES))
        torch.save(one['half'], f'{d}/half.pt')
        many = {n: launch(d, n, []) for n in sizes}
    with torch.backends.mkldnn.flags(enabled=False): control = {name: result(train(CASES[name])) for name in CASES}
    rows, bad = [], []
    for name in CASES:
        for n in sizes: close(f'{name}, {n} processes', many[n][name, True], one[name, True])
        wide = [apart(many[n][name, True], one[name, True]) for n in sizes]
        if max(wide) > 1e-9: bad.append(name)
        cells = [*(apart(many[n][name, False], one[name, False]) for n in sizes), apart(control[name], one[name, False]), *wide]
        rows.append(f"| {name} | {len(one[name, True]['losses'])} | " + ' | '.join(f'{c:.0e}' for c in cells) + ' |')
        print(rows[-1], flush=True)
    text = [f"`lr_find`: {one['lr_find']:.6g} in one process" + ''.join(f", {many[n]['lr_find']:.6g} in {n}" for n in sizes) + '.']
    for n in sizes:
        back = result(train(dict(EVERYTHING, n_epoch=3), True, [LoadState(many[n]['half'])]))
        gaps = apart(many[n]['resumed'], one['undisturbed']), apart(back, one['undisturbed'])
        if max(gaps) > 1e-9: bad.append(f'resumed with {n}')
        text.append(f"Begun by one process and ended by {n}: {gaps[0]:.0e} from the undisturbed run; begun by {n} and ended by one: {gaps[1]:.0e} (everything on, stopped after step 5 of 9, in the middle of an epoch, double precision).")
        text.append(f"Process {n - 1} of {n} alone left after step 2; all of them left by: {'; '.join(f'`{e}` at step {s}' for e, s in many[n]['left'])}. "
                    f"A loss that is not a number in process 1 alone ended all {n} with “{many[n]['poisoned']}…”.")
    print('\n'.join(text))
    if a.out:
        heads = [f'{n} processes' for n in sizes]
        head = ['# Several processes against one', '', 'Largest relative distance between a tensor of weights or statistics and that of the run in one process '
                '(`benchmarks/distributed.py` says what each case is). The control is one process with another implementation of the convolutions.', '',
                f"| case | steps | {' | '.join(heads)} | control | {' | '.join(h + ', double' for h in heads)} |", '|---|---:|' + '---:|'*(2*len(sizes) + 1)]
        foot = ['', *(t + '\n' for t in text), f'The processes ended with the same bits in every case, accuracies are equal and predictions in the order of the data. gloo, one thread a process; '
                f'torch {torch.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}.']
        a.out.write_text('\n'.join([*head, *rows, *foot]) + '\n', encoding='utf-8')
    if bad: sys.exit(f'not the run of one process: {", ".join(bad)}')


if __name__ == '__main__': main()

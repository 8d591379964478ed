"""Grad-CAM against its floor and against other packages, each in an environment of its own, interleaved in one run.

    python benchmarks/cam.py [--bs 64] [--runs 7] [--peers grad-cam torchcam captum] [--out benchmarks/results/cam.md]

Every contestant is a process of its own, under its own Python (see `cam_peers.py`), with one thread. They wait for
their turn: in each run all make the maps of the same batch one after another, never two at a time. The model is the
CIFAR ResNet-18 in evaluation mode with random weights. Times are the CPU times of the processes, so that they mean
something on a shared machine; the table gives the median over the runs of the ratio to the floor of the same run,
with its range. FLOPs are counted and do not depend on the machine. Memory is the peak of the resident set (Linux) of
a fresh process during one call above that after a call with one image. The floor is the least that a gradient map
costs: one forward pass with the graph starting at the lowest layer asked for, and the gradients of the activations
alone; it makes no maps.

Two transformers of timm follow, ViT-Tiny and Swin-Tiny at 224 pixels, 4 images, at the layer that `cam` finds by
itself (the peers are told it, and how its output lies in the image); `s9lib, no layer named` finds it in every call.
"one forward and backward" is that of a training step, with the gradients of all parameters.
"""
import argparse
import json
import platform
import re
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from cam_peers import PEERS, start
from torch.utils.flop_counter import FlopCounterMode

from machine import processor, suffix
from s9lib.nets.resnet import resnet18

LAYERS = ['layer1', 'layer2', 'layer3', 'layer4']


def _tokens(t): return t[:, 1:].transpose(1, 2).unflatten(2, (14, 14))
def _last(t): return t.permute(0, 3, 1, 2)


#: network -> layer, function from its output to (n,c,h,w)
TRANSFORMERS = {'vit_tiny_patch16_224': ('blocks.11.norm1', _tokens), 'swin_tiny_patch4_window7_224': ('norm', _last)}


def setup(net, bs):
    "Network `net` in evaluation mode, images, classes."
    torch.set_num_threads(1); torch.manual_seed(0)
    if net == 'resnet18': return resnet18().eval(), torch.randn(bs, 3, 32, 32), torch.randint(10, (bs,))
    import timm
    return timm.create_model(net).eval(), torch.randn(bs, 3, 224, 224), torch.randint(1000, (bs,))


def reshape_of(model):
    "How the output of the layer asked for lies in the image: None for a CNN."
    return {'VisionTransformer': _tokens, 'SwinTransformer': _last}.get(type(model).__name__)


# The contestants: functions of (model, x, y, names of layers)

def floor(model, x, y, layers):
    "Activations and their gradients, nothing else; the hooks only start the graph."
    acts = []
    def begin(m, i, o):
        torch.set_grad_enabled(True)
        acts.append(o if o.requires_grad else o.detach().requires_grad_())
        return acts[-1].clone()
    handles = [model.get_submodule(k).register_forward_hook(begin) for k in layers]
    try:
        with torch.no_grad(): out = model(x)
        with torch.enable_grad(): score = out.gather(1, y[:, None]).sum()
        return torch.autograd.grad(score, acts)
    finally:
        for h in handles: h.remove()


def ours(model, x, y, layers):
    from s9lib.explain.cam import cam
    return cam(model, x, layers, y).maps


def unnamed(model, x, y, layers):
    from s9lib.explain.cam import cam
    return cam(model, x, None, y).maps


def training_step(model, x, y, layers):
    model(x).gather(1, y[:, None]).sum().backward()


def grad_cam(model, x, y, layers):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    targets = [ClassifierOutputTarget(i) for i in y.tolist()]
    layers = [model.get_submodule(k) for k in layers]
    with GradCAM(model, layers, reshape_transform=reshape_of(model)) as c: return c(x, targets)


def torchcam(model, x, y, layers):
    from torchcam.methods import GradCAM
    with GradCAM(model, list(layers), **({'reshape_transform': f} if (f := reshape_of(model)) else {})) as c:
        return c(y.tolist(), model(x))


def captum(model, x, y, layers):
    from captum.attr import LayerGradCam
    return [LayerGradCam(model, model.get_submodule(k)).attribute(x, y) for k in layers]


CONTESTANTS = {'floor': floor, 's9lib': ours, 's9lib, no layer named': unnamed,
               'one forward and backward': training_step, 'torchcam': torchcam, 'captum': captum, 'grad-cam': grad_cam}


# What runs in the contestant's process

class NoModules:
    "Stands in for FlopCounterMode's module tracker, which expects `.backward()`."
    parents = {'Global'}
    def __enter__(self): return self
    def __exit__(self, *exc): pass


def flops(f):
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()
    with counter: f()
    return counter.get_total_flops()


def peak_rss():
    "Peak resident set of this process in MiB (Linux)."
    status = Path('/proc/self/status')
    return int(re.search(r'VmHWM:\s+(\d+)', status.read_text())[1])/1024 if status.exists() else float('nan')


def work(name, net, bs):
    "Obey the lines of stdin, each `what layer,layer`, and answer each with one JSON line on stdout."
    answer, sys.stdout = sys.stdout, sys.stderr
    (model, x, y), f = setup(net, bs), CONTESTANTS[name]
    for line in sys.stdin:
        what, layers = line.split()
        layers = layers.split(',')
        if what == 'time':
            t = time.process_time(); f(model, x, y, layers); out = time.process_time() - t
        elif what == 'flops':
            with torch.no_grad(): forward = flops(lambda: model(x[:4]))
            out = flops(lambda: f(model, x[:4], y[:4], layers)) / forward
        elif what == 'memory':
            f(model, x[:1], y[:1], layers)
            before = peak_rss(); f(model, x, y, layers); out = peak_rss() - before
        elif what == 'version': out = version(PEERS[name][0].split('==')[0] if name in PEERS else 's9lib')
        model.zero_grad()
        print(json.dumps(out), file=answer, flush=True)


# What runs in this process

def ask(process, what, layers=('-',)):
    process.stdin.write(f"{what} {','.join(layers)}\n"); process.stdin.flush()
    line = process.stdout.readline()
    if not line: raise RuntimeError(f'{process.args} ended without an answer; see its message above')
    return json.loads(line)


def once(name, net, bs, *question):
    "Ask a fresh process, and let it end."
    with start(name, __file__, '--worker', name, '--net', net, '--bs', bs) as p: return ask(p, *question)


def measure(names, net, layers, bs, runs):
    "One row per contestant: name, times, FLOPs, memory."
    workers = {k: start(k, __file__, '--worker', k, '--net', net, '--bs', bs) for k in names}
    try:
        times = {k: [] for k in names}
        for run in range(runs + 1):
            for k, p in workers.items():
                t = ask(p, 'time', layers)
                if run: times[k].append(t)
            print(f'run {run} of {runs}', file=sys.stderr, flush=True)
        fl = {k: ask(p, 'flops', layers) for k, p in workers.items()}
    finally:
        for p in workers.values(): p.stdin.close(); p.wait()
    return [(k, times[k], fl[k], once(k, net, bs, 'memory', layers)) for k in names]


def table(rows, layers, runs):
    base = rows[0][1]
    out = [f"\n{', '.join(layers)}\n",
           '| | CPU time / floor, median of runs (range) | CPU s, median | FLOPs / forward | peak MiB |',
           '|---|---|---|---|---|']
    for name, times, fl, mib in rows:
        r = [t/b for t, b in zip(times, base)]
        out.append(f"| {name} | {statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f}) | "
                   f"{statistics.median(times):.2f} | {fl:.3f} | {mib:.0f} |")
    return out


def main():
    p = argparse.ArgumentParser()
    for k, v in dict(bs=64, runs=7).items(): p.add_argument(f'--{k}', type=int, default=v)
    p.add_argument('--peers', nargs='*', default=list(PEERS))
    p.add_argument('--out', type=Path)
    p.add_argument('--worker'); p.add_argument('--net', default='resnet18')
    a = p.parse_args()
    if a.worker: return work(a.worker, a.net, a.bs)
    named = [k for k in CONTESTANTS if k in ('floor', 's9lib', *a.peers)]
    versions = ', '.join(f"{k} {once(k, 'resnet18', 1, 'version')}" for k in named[1:])
    lines = [f'# Grad-CAM: time, memory and arithmetic{suffix(a.out)}', '',
             f'`python benchmarks/cam.py --bs {a.bs} --runs {a.runs}`: {versions}; '
             f'torch {torch.__version__.split("+")[0]}, Python {platform.python_version()}, {platform.system()}, '
             f'one thread of {processor()}. {a.bs} images 32×32 per call, n = {a.runs} interleaved runs '
             'after one to warm up, one process and environment for each package.']
    for layers in (LAYERS[-1:], LAYERS): lines += table(measure(named, 'resnet18', layers, a.bs, a.runs), layers, a.runs)
    names = [k for k in CONTESTANTS if k not in PEERS or k in a.peers and k != 'captum']  # captum has no maps of tokens
    for net, (layer, _) in TRANSFORMERS.items():
        lines += table(measure(names, net, [layer], 4, a.runs), [net, layer], a.runs)
    text = '\n'.join(lines) + '\n'
    print(text)
    if a.out: a.out.parent.mkdir(exist_ok=True); a.out.write_text(text, encoding='utf-8')


if __name__ == '__main__': main()

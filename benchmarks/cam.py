"""Grad-CAM against its floor and against other packages, interleaved in one process.

    python benchmarks/cam.py [--bs 64] [--runs 7] [--threads 1]

Each package that can be imported takes part (`pip install --no-deps grad-cam torchcam captum`, best in an environment of
its own). The model is the CIFAR ResNet-18, in evaluation mode, with random weights. Times are process CPU times, so that
they mean something on a shared machine; what is printed is the median over the runs of the ratio to the floor of the
same run. FLOPs are counted and do not depend on the machine. Memory is the peak of the resident set in a fresh process
above that after the warm-up. The floor is the least that a gradient map costs: one forward pass with the graph starting
at the lowest layer asked for, and the gradients of the activations alone; it makes no maps.
"""
import argparse
import multiprocessing as mp
import re
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from s9lib.cam import cam
from s9lib.core import show_install
from s9lib.resnet import resnet18

LAYERS = ['layer1', 'layer2', 'layer3', 'layer4']


class NoModules:
    "Stands in for FlopCounterMode's module tracker, which expects `.backward()`."
    parents = {'Global'}
    def __enter__(self): return self
    def __exit__(self, *exc): pass


def floor(model, x, y, layers):
    "Activations and their gradients, nothing else; the hooks only start the graph."
    acts = []
    def start(m, i, o):
        torch.set_grad_enabled(True)
        acts.append(o if o.requires_grad else o.detach().requires_grad_())
        return acts[-1].clone()
    handles = [getattr(model, k).register_forward_hook(start) for k in layers]
    try:
        with torch.no_grad(): out = model(x)
        with torch.enable_grad(): score = out.gather(1, y[:, None]).sum()
        return torch.autograd.grad(score, acts)
    finally:
        for h in handles: h.remove()


def ours(model, x, y, layers): return cam(model, x, layers, y).maps


def grad_cam(model, x, y, layers):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    with GradCAM(model, [getattr(model, k) for k in layers]) as c: return c(x, [ClassifierOutputTarget(i) for i in y.tolist()])


def torchcam(model, x, y, layers):
    from torchcam.methods import GradCAM
    with GradCAM(model, list(layers)) as c: return c(y.tolist(), model(x))


def captum(model, x, y, layers):
    from captum.attr import LayerGradCam
    return [LayerGradCam(model, getattr(model, k)).attribute(x, y) for k in layers]


CONTESTANTS = {'floor': (floor, 'torch'), 's9lib': (ours, 's9lib'), 'grad-cam': (grad_cam, 'grad-cam'), 'torchcam': (torchcam, 'torchcam'),
               'captum': (captum, 'captum')}


def setup(bs, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return resnet18().eval(), torch.randn(bs, 3, 32, 32), torch.randint(10, (bs,))


def flops(f):
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()
    with counter: f()
    return counter.get_total_flops()


def peak_rss():
    "Peak resident set of this process in MiB (Linux); `getrusage` would carry over that of the parent."
    status = Path('/proc/self/status')
    return int(re.search(r'VmHWM:\s+(\d+)', status.read_text())[1]) / 1024 if status.exists() else float('nan')


def peak(name, bs, threads, layers, queue):
    "Peak resident set of one call above that after a warm-up with one image, MiB."
    model, x, y = setup(bs, threads)
    CONTESTANTS[name][0](model, x[:1], y[:1], layers)
    before = peak_rss()
    CONTESTANTS[name][0](model, x, y, layers)
    queue.put(peak_rss() - before)


def memory(name, *args):
    ctx = mp.get_context('spawn')
    queue = ctx.Queue()
    p = ctx.Process(target=peak, args=(name, *args, queue))
    p.start(); result = queue.get(timeout=600); p.join()
    return result


def available(pkg):
    try: return version(pkg)
    except PackageNotFoundError: return None


def main():
    a = argparse.ArgumentParser()
    for k, v in dict(bs=64, runs=7, threads=1).items(): a.add_argument(f'--{k}', type=int, default=v)
    a = a.parse_args()
    names = [k for k, (_, pkg) in CONTESTANTS.items() if available(pkg) or k in ('floor', 's9lib')]
    print(show_install(), *(f'{k:<24}{available(CONTESTANTS[k][1])}' for k in names[2:]), sep='\n')
    model, x, y = setup(a.bs, a.threads)
    with torch.no_grad(): forward = flops(lambda: model(x[:4]))
    for layers in (LAYERS[-1:], LAYERS):
        print(f"\n{a.bs} images 32x32, {', '.join(layers)}: median ratio of CPU time to the floor over {a.runs} interleaved runs (range)")
        times = {k: [] for k in names}
        for run in range(a.runs + 1):
            for k in names:
                t = time.process_time()
                CONTESTANTS[k][0](model, x, y, layers)
                if run: times[k].append(time.process_time() - t)
                model.zero_grad()
        for k in names:
            r = [t/f for t, f in zip(times[k], times['floor'])]
            fl = flops(lambda: CONTESTANTS[k][0](model, x[:4], y[:4], layers)) / forward
            model.zero_grad()
            print(f'{k:<10} time {statistics.median(r):5.2f} ({min(r):.2f} to {max(r):.2f})   FLOPs/forward {fl:.3f}   '
                  f'peak memory {memory(k, a.bs, a.threads, layers):6.0f} MiB', flush=True)


if __name__ == '__main__': main()

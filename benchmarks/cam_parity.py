"""Are our maps those of pytorch-grad-cam and captum? Largest differences, each package in an environment of its own.

    python benchmarks/cam_parity.py [--out benchmarks/results/cam_parity.md]

One network for all, torchvision's ResNet-18 with a 3×3 stem, batch norms of random statistics and a classifier scaled
by 100 (at the raw scale of an untrained network the small constants below the lines of pytorch-grad-cam show), 8
images 32×32, random classes, seed 0. The maps of pytorch-grad-cam are compared as they are, in [0,1], with
`norm='minmax'`, one layer at a time and as the mean of four; captum's raw maps relative to their maximum; torchcam's,
which are scaled before they are enlarged, at the size of the layer, each divided by its maximum. The sign of EigenCAM
and EigenGradCAM is arbitrary, so the better of the two signs counts. Exits with 1 if a difference that should be
rounding is not below 1e-5 (1e-4 for EigenCAM and EigenGradCAM, whose singular vectors are found in float32).
"""
import argparse
import sys
import tempfile
from pathlib import Path

import torch
from cam_peers import PEERS, start
from torch import nn
from torchvision import models

LAYERS = ['layer1', 'layer2', 'layer3', 'layer4']
PGC = {'gradcam': 'GradCAM', 'hirescam': 'HiResCAM', 'xgradcam': 'XGradCAM', 'layercam': 'LayerCAM',
       'gradcam++': 'GradCAMPlusPlus', 'eigengradcam': 'EigenGradCAM', 'eigencam': 'EigenCAM'}
OTHER = {'-': 'input', '5': 'layer 5 of a chain'}  # what is compared besides the layers of the network
SIGNLESS = ('eigencam', 'eigengradcam')  # a principal component has no sign: compared up to it, image by image
APART = {('grad-cam', 'gradcam++'): 'adds 1e-6 to the denominator of equation 19',
         ('torchcam', 'gradcam++'): 'divides a copy, so the division is lost'}


def setup():
    torch.set_num_threads(1); torch.manual_seed(0)
    m = models.resnet18(num_classes=10)
    m.conv1, m.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    for o in m.modules():
        if isinstance(o, nn.BatchNorm2d):
            for t in (o.weight, o.bias, o.running_mean, o.running_var):
                lo, hi = (-.3, .3) if t is o.bias or t is o.running_mean else (.5, 1.5)
                nn.init.uniform_(t, lo, hi)
        if isinstance(o, nn.ReLU): o.inplace = False
    m.fc.weight.data *= 100
    return m.eval(), torch.randn(8, 3, 32, 32), torch.randint(10, (8,))


class Chain(nn.Sequential):
    "A network with one module per ReLU, as captum's guided backpropagation needs it."
    def __init__(self):
        torch.manual_seed(1)
        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3),
                         nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


# One function for each package: (method, layers joined by '+') -> maps

def of_grad_cam(model, x, y):
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    out = {}
    for method, name in PGC.items():
        for layers in [[k] for k in LAYERS] + [LAYERS]*(method not in SIGNLESS):
            with getattr(pytorch_grad_cam, name)(model, [getattr(model, k) for k in layers]) as c:
                out[method, '+'.join(layers)] = torch.from_numpy(c(x, [ClassifierOutputTarget(i) for i in y.tolist()]))
    return out


def of_captum(model, x, y):
    from captum.attr import GuidedBackprop, GuidedGradCam, LayerGradCam, LayerGradientXActivation
    chain, out = Chain().eval(), {}
    for k in LAYERS:
        out['gradcam', k] = LayerGradCam(model, getattr(model, k)).attribute(x, y).detach()[:, 0]
        out['hirescam', k] = LayerGradientXActivation(model, getattr(model, k)).attribute(x, y).detach().sum(1)
    out['guided backprop', '-'] = GuidedBackprop(chain).attribute(x.clone().requires_grad_(), y).detach()
    guided = GuidedGradCam(chain, chain[5]).attribute(x.clone().requires_grad_(), y, interpolate_mode='bilinear')
    out['guided gradcam', '5'] = guided.detach()
    return out


def of_torchcam(model, x, y):
    from torchcam import methods
    out = {}
    names = {'gradcam': 'GradCAM', 'xgradcam': 'XGradCAM', 'layercam': 'LayerCAM', 'gradcam++': 'GradCAMpp'}
    for method, name in names.items():
        for k in LAYERS:
            with getattr(methods, name)(model, k) as c:
                out[method, k] = c(y.tolist(), model(x), normalized=False)[0].detach()
    return out


MAPS = {'grad-cam': of_grad_cam, 'captum': of_captum, 'torchcam': of_torchcam}


def ours(peer, method, layers, model, x, y):
    from s9lib.explain.cam import cam
    from s9lib.explain.methods import to_heatmap
    from s9lib.explain.attribution import guided_backprop
    if peer == 'grad-cam':
        r = cam(model, x, layers.split('+'), y, method, norm='minmax')
        if method in SIGNLESS:
            return torch.stack([r.maps[layers], to_heatmap(-r.raw[layers], tuple(x.shape[2:]), 'minmax')[0]])
        return r.fuse() if '+' in layers else r.maps[layers]
    if method == 'guided backprop': return guided_backprop(Chain(), x, y)
    if method == 'guided gradcam':
        raw = cam(Chain(), x, '5', y).raw['5'].relu()
        return guided_backprop(Chain(), x, y) * nn.functional.interpolate(raw[:, None], x.shape[2:], mode='bilinear')
    raw = cam(model, x, layers, y, method).raw[layers]
    return raw.relu() if peer == 'torchcam' else raw


def difference(peer, method, mine, maps):
    "Largest difference of the maps of one layer: absolute where they are in [0,1], else relative to the maximum."
    if method in SIGNLESS: return (mine - maps).abs().amax((2, 3)).amin(0).max().item()
    if peer == 'torchcam': mine, maps = [m / m.amax((1, 2), keepdim=True).clamp(min=1e-30) for m in (mine, maps)]
    return ((mine - maps).abs().max() / (maps.abs().max() if peer == 'captum' else 1)).item()


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path); p.add_argument('--worker'); p.add_argument('--to')
    a = p.parse_args()
    model, x, y = setup()
    if a.worker: return torch.save(MAPS[a.worker](model, x, y), a.to)
    lines, bad = ['# Equality with other packages', '',
                  f"`python benchmarks/cam_parity.py`, torch {torch.__version__.split('+')[0]}, "
                  f"{', '.join(v[0].replace('==', ' ') for v in PEERS.values())}; n = 8 images, seed 0.", '',
                  '| package | method | ' + ' | '.join(LAYERS) + ' | other | |', '|---'*8 + '|'], []
    for peer in PEERS:
        with tempfile.TemporaryDirectory() as d:
            with start(peer, __file__, '--worker', peer, '--to', f'{d}/maps.pt', stderr=None) as proc:
                proc.communicate()
            if proc.returncode: sys.exit(f'{peer} failed, see above')
            theirs = torch.load(f'{d}/maps.pt', weights_only=True)
        errors = {}
        for (method, layers), maps in theirs.items():
            mine = ours(peer, method, layers, model, x, y).detach()
            errors.setdefault(method, {})[layers] = difference(peer, method, mine, maps)
        for method, e in errors.items():
            why = APART.get((peer, method), '')
            if not why and max(e.values()) >= (1e-4 if method in SIGNLESS else 1e-5): bad.append((peer, method))
            other = [f"{'mean of four' if '+' in k else OTHER[k]}: {v:.1e}" for k, v in e.items() if k not in LAYERS]
            single = [f'{e[k]:.1e}' if k in e else '' for k in LAYERS]
            lines.append(f"| {peer} | {method} | {' | '.join(single)} | {', '.join(other)} | {why} |")
    text = '\n'.join(lines) + '\n'
    print(text)
    if a.out: a.out.parent.mkdir(exist_ok=True); a.out.write_text(text, encoding='utf-8')
    if bad: sys.exit(f'not equal to 1e-5: {bad}')


if __name__ == '__main__': main()

"""Are our maps those of pytorch-grad-cam and captum? Largest differences, each package in an environment of its own.

    python benchmarks/cam_parity.py [--out benchmarks/results/cam_parity.md]

One network for all, torchvision's ResNet-18 with a 3×3 stem, batch norms of random statistics and a classifier scaled
by 100 (at the raw scale of an untrained network the small constants below the lines of pytorch-grad-cam show), 8
images 32×32, random classes, seed 0. The maps of pytorch-grad-cam are compared as they are, in [0,1], with
`norm='minmax'`, one layer at a time and as the mean of four; captum's raw maps relative to their maximum; torchcam's,
which are scaled before they are enlarged, at the size of the layer, each divided by its maximum. The sign of EigenCAM
and EigenGradCAM is arbitrary, so the better of the two signs counts. Exits with 1 if a difference that should be
rounding is not below 1e-5 (1e-4 for EigenCAM and EigenGradCAM, whose singular vectors are found in float32).

A second table asks the same of eleven architectures, at one layer each, against the formulas written out in float64
on what plain autograd gives (`own autograd`, raw maps relative to their maximum) and against the packages; there the
bound is 1e-4, since the networks are deep and their sums cancel. Packages are asked only where they can answer:
captum's and torchcam's maps of tokens and channels-last layers are left out.
"""
import argparse
import math
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


# Architectures: function that makes one, layer, side of the images, how the layer's output becomes (n,c,h,w)

def tokens(t): return t[:, 1:].transpose(1, 2).unflatten(2, (math.isqrt(t.shape[1] - 1),)*2)
def last(t): return t.permute(0, 3, 1, 2)


def timm_model(name, **kw):
    import timm
    return timm.create_model(name, num_classes=8, **kw)


CN = models.convnext.CNBlockConfig
NETS = {
    'resnet18': (lambda: models.resnet18(num_classes=8), 'layer3', 64, None),
    'vgg11': (lambda: models.vgg11_bn(num_classes=8), 'features.19', 64, None),
    'mobilenet v3': (lambda: models.mobilenet_v3_small(num_classes=8), 'features.8', 96, None),
    'densenet121': (lambda: models.densenet121(num_classes=8), 'features', 64, None),
    'googlenet': (lambda: models.googlenet(num_classes=8, aux_logits=False, init_weights=False), 'inception4e', 64, None),
    'efficientnet': (lambda: timm_model('efficientnet_b0'), 'blocks.4', 96, None),
    'convnext': (lambda: models.ConvNeXt([CN(24, 48, 2), CN(48, 96, 2), CN(96, None, 2)], num_classes=8), 'features.5', 64, None),
    'maxvit': (lambda: models.MaxVit(input_size=(64, 64), stem_channels=16, partition_size=4, block_channels=[16, 32],
                                     block_layers=[1, 1], head_dim=8, stochastic_depth_prob=0., num_classes=8), 'blocks.0', 64, None),
    'vit': (lambda: timm_model('vit_tiny_patch16_224', img_size=96, depth=6), 'blocks.5.norm1', 96, tokens),
    'deit': (lambda: timm_model('deit3_small_patch16_224', img_size=96, depth=4, embed_dim=96, num_heads=3), 'blocks.3.norm1', 96, tokens),
    'swin': (lambda: timm_model('swin_tiny_patch4_window7_224', img_size=112, depths=(2, 2, 2), num_heads=(3, 6, 12)), 'norm', 112, last)}


def build(name):
    "The network, used to random images, its scores large beside the constants of the formulas; layer, images, classes."
    make, layer, side, reshape = NETS[name]
    torch.manual_seed(0)
    m = make()
    for o in m.modules():
        if isinstance(o, nn.BatchNorm2d): o.momentum = None
        if type(o).__name__ in ('LayerScale', 'CNBlock'):
            for p in o.parameters(recurse=False): nn.init.constant_(p, .3)
    with torch.no_grad(): m.train()(torch.randn(8, 3, side, side))
    with torch.no_grad(): nn.init.normal_([o for o in m.modules() if isinstance(o, nn.Linear)][-1].weight, std=10)
    return m.eval(), layer, torch.randn(2, 3, side, side), [3, 5], reshape


def nets_grad_cam():
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    out = {}
    for net in NETS:
        m, layer, x, y, reshape = build(net)
        for method, name in PGC.items():
            with getattr(pytorch_grad_cam, name)(m, [m.get_submodule(layer)], reshape_transform=reshape) as c:
                out[method, net] = torch.from_numpy(c(x, [ClassifierOutputTarget(i) for i in y]))
    return out


def nets_captum():
    from captum.attr import LayerGradCam, LayerGradientXActivation
    out = {}
    for net in NETS:
        m, layer, x, y, reshape = build(net)
        if reshape: continue
        at = m.get_submodule(layer), torch.tensor(y)
        out['gradcam', net] = LayerGradCam(m, at[0]).attribute(x, at[1]).detach()[:, 0]
        out['hirescam', net] = LayerGradientXActivation(m, at[0]).attribute(x, at[1]).detach().sum(1)
    return out


def nets_torchcam():
    from torchcam import methods
    out = {}
    names = {'gradcam': 'GradCAM', 'xgradcam': 'XGradCAM', 'layercam': 'LayerCAM', 'gradcam++': 'GradCAMpp'}
    for net in NETS:
        m, layer, x, y, reshape = build(net)
        if reshape: continue
        for method, name in names.items():
            with getattr(methods, name)(m, layer) as c:
                out[method, net] = c(y, m(x), normalized=False)[0].detach()
    return out


def nets_autograd():
    "Raw maps of the formulas, in float64, on what a hook and autograd give."
    def component(z):
        z = z - z.mean((2, 3), keepdim=True)
        U = torch.linalg.svd(z.flatten(2), full_matrices=False)[0][:, :, 0]
        return torch.einsum('nk,nkhw->nhw', U, z)
    def eq19(A, G):
        alpha = torch.nan_to_num(G**2/(2*G**2 + A.sum((2, 3), keepdim=True)*G**3))
        return ((alpha*G.relu()).sum((2, 3), keepdim=True)*A).sum(1)
    rules = {'gradcam': lambda A, G: (G.mean((2, 3), keepdim=True)*A).sum(1), 'hirescam': lambda A, G: (G*A).sum(1),
             'xgradcam': lambda A, G: ((G*A).sum((2, 3), keepdim=True)/A.sum((2, 3), keepdim=True)*A).nan_to_num().sum(1),
             'layercam': lambda A, G: (G.relu()*A).sum(1), 'gradcam++': eq19, 'eigengradcam': lambda A, G: component(G*A),
             'eigencam': lambda A, G: component(A)}
    out = {}
    for net in NETS:
        m, layer, x, y, reshape = build(net)
        kept = []
        def keep(module, inputs, o): kept.append(o.detach().clone().requires_grad_()); return kept[0].clone()
        handle = m.get_submodule(layer).register_forward_hook(keep)
        s = m(x)[[0, 1], y].sum(); handle.remove()
        A, G = [(reshape or (lambda t: t))(t).double() for t in (kept[0].detach(), torch.autograd.grad(s, kept[0])[0])]
        for method, rule in rules.items(): out[method, net] = rule(A, G)
    return out


NET_MAPS = {'grad-cam': nets_grad_cam, 'captum': nets_captum, 'torchcam': nets_torchcam}


def net_difference(peer, method, net):
    "Our maps of an architecture, as `peer` gives them, and the way to compare them: function of theirs."
    from s9lib.explain.cam import cam
    from s9lib.explain.methods import to_heatmap
    m, layer, x, y, _ = build(net)
    r = cam(m, x, layer, y, method, norm='minmax')
    raw, hw = r.raw[layer], tuple(x.shape[2:])
    def of(maps):
        if peer == 'grad-cam':
            both = [r.maps[layer], to_heatmap(-raw, hw, 'minmax')[0]][:2 if method in SIGNLESS else 1]
            return min_over_signs([o - maps for o in both])
        if peer == 'own autograd':
            size = maps.abs().amax((1, 2), keepdim=True)
            return min_over_signs([(o - maps)/size for o in ([raw, -raw] if method in SIGNLESS else [raw])])
        mine = raw.relu() if peer == 'torchcam' else raw
        top = [t.abs().amax((1, 2), keepdim=True).clamp(min=1e-30) for t in (mine, maps)]
        return ((mine/top[0] - maps/top[1]).abs().max()).item()
    return of


def min_over_signs(ds): return torch.stack([d.abs().amax((1, 2)) for d in ds]).amin(0).max().item()


IN_PLACE = 'an in-place ReLU overwrites the activations that grad-cam and torchcam keep'
#: (package, method, network), (package, method) or network -> why the maps differ
WHY = {('grad-cam', 'gradcam++'): 'adds 1e-6 to the denominator of equation 19',
       ('torchcam', 'gradcam++'): 'divides a copy, so the division is lost',
       ('own autograd', 'gradcam++'): 'float32 against float64, where a sum is near 0',
       ('own autograd', 'xgradcam'): 'float32 against float64, where a sum is near 0',
       ('grad-cam', 'xgradcam', 'vit'): 'adds 1e-7 to a sum near 0',
       'densenet121': IN_PLACE, 'vgg11': IN_PLACE}


def net_table(theirs):
    "Rows of the second table, and what is not equal without a reason."
    lines, bad = ['', f'One layer of {len(NETS)} architectures, 2 images: ' + ', '.join(
        f'{n} `{v[1]}`' for n, v in NETS.items()) + '.', '',
        '| package | method | ' + ' | '.join(NETS) + ' | |', '|---'*(len(NETS) + 3) + '|'], []
    for peer, maps in theirs.items():
        for method in dict.fromkeys(k for k, _ in maps):
            row, why = [], set()
            for net in NETS:
                if (method, net) not in maps: row.append(''); continue
                d = net_difference(peer, method, net)(maps[method, net])
                row.append(f'{d:.1e}')
                if d < 1e-4: continue
                reason = WHY.get((peer, method, net)) or WHY.get((peer, method)) or (WHY[net] if net in WHY and peer in ('grad-cam', 'torchcam') else '')
                if reason: why.add(reason)
                if not reason: bad.append((peer, method, net))
            lines.append(f"| {peer} | {method} | {' | '.join(row)} | {'; '.join(sorted(why))} |")
    return lines, bad


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
    if a.worker:
        torch.save(MAPS[a.worker](model, x, y), a.to)
        return torch.save(NET_MAPS[a.worker](), f'{a.to}.nets')
    nets = {'own autograd': nets_autograd()}
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
            nets[peer] = torch.load(f'{d}/maps.pt.nets', weights_only=True)
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
    more, apart = net_table(nets)
    bad += apart
    text = '\n'.join(lines + more) + '\n'
    print(text)
    if a.out: a.out.parent.mkdir(exist_ok=True); a.out.write_text(text, encoding='utf-8')
    if bad: sys.exit(f'not equal to 1e-5: {bad}')


if __name__ == '__main__': main()

"""Is the default heat map right on every architecture? The cause of each place of a map must lie at that place.

The networks have random weights, so that nothing is downloaded; their batch norms have seen eight images.
Background: a faint smooth picture; cause: a bright textured patch. The score is the direction of the logits that
tells images with a patch anywhere from images without (a linear discriminant of 24 of each). Asked of `cam(model,
x)` with all its defaults:

- down, across: which pixels cause what the layer puts out at the place that the map calls this one? For nine
  places, the centre of the gradient by the image (squared, less what all places have in common) is correlated with
  where the map says that they are. This is the test of the verdict, at 0.8 for both: it holds whatever the weights
  are if the output was read as the picture that it is, and fails if height, width, channels or tokens were mixed up
  (nine points correlate that well in both directions by chance once in 40,000). It knows nothing of how the layout
  was found, which goes forward, with other changes. Where everything looks at the patch it is asked again on noise;
- change: of four places, at how many is the signed map changed the most where the patch was put? With random
  weights the rest of a mixing or squeezing network may change more;
- peak: and at how many does the heat map itself peak? Random weights promise still less: the patch may speak
  through negative channels.

Where random weights mix all places so much that nothing in the image has a place any more, the layout is compared
with that of the network's source code, noted here by hand ("right, by source").

`python benchmarks/cam_zoo.py [--models NAME,...] [--out FILE]`; needs timm beside torchvision.
"""
import argparse
import logging
import sys
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision.models as tv
from torch import nn

from s9lib.explain.activations import explain_mode, record_activations
from s9lib.explain.cam import cam
from s9lib.hooks import eval_mode

TIMM = '''resnet18 resnetv2_50 resnest14d regnetx_002 densenet121 vgg11 efficientnet_b0 mobilenetv3_small_050
ghostnet_050 repvgg_a0 hrnet_w18_small dla34 inception_v3 xception41 nfnet_f0 convnext_atto
convnextv2_atto fastvit_t8 efficientformer_l1 poolformer_s12 caformer_s18 focalnet_tiny_srf
edgenext_xx_small mobilevit_xxs vit_tiny_patch16_224 vit_base_patch32_clip_224 deit_tiny_patch16_224
deit_tiny_distilled_patch16_224 deit3_small_patch16_224 beit_base_patch16_224 eva02_tiny_patch14_224
vit_small_patch14_dinov2 vit_small_patch14_reg4_dinov2 vit_small_patch16_dinov3
swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_ns_224 maxvit_nano_rw_256
coatnet_nano_rw_224 mixer_s32_224 gmlp_s16_224 resmlp_12_224 hiera_tiny_224 mvitv2_tiny pvt_v2_b0
twins_pcpvt_small twins_svt_small cait_xxs24_224 crossvit_tiny_240 convit_tiny xcit_nano_12_p16_224
pit_ti_224 levit_128s nest_tiny volo_d1_224 davit_tiny tiny_vit_5m_224 visformer_tiny sequencer2d_s
coat_lite_tiny'''.split()
TORCHVISION = '''resnet18 vgg11 alexnet squeezenet1_1 densenet121 shufflenet_v2_x0_5 regnet_y_400mf efficientnet_v2_s
mnasnet0_5 mobilenet_v2 mobilenet_v3_small googlenet inception_v3 resnext50_32x4d convnext_tiny
vit_b_32 swin_t swin_v2_t maxvit_t'''.split()
PLACES = ((.22, .27), (.3, .74), (.72, .22), (.78, .68))  # centres of the patch, as parts of height and width

BY_SOURCE = {'timm/mixer_s32_224': 'lambda t: t.transpose(1, 2).unflatten(2, (7, 7))',
             'timm/levit_128s': 'lambda t: t.transpose(1, 2).unflatten(2, (4, 4))',
             'timm/efficientformer_l1': 'lambda t: t.transpose(1, 2).unflatten(2, (7, 7))',
             'timm/xcit_nano_12_p16_224': 'lambda t: t.transpose(1, 2)[:, :, 1:].unflatten(2, (20, 14))',
             'timm/visformer_tiny': 'lambda t: t'}

def make(name, seed=0):
    "Make the network `name` ('timm/…' or 'torchvision/…') with random weights and no head of zeros; its side."
    torch.manual_seed(seed)
    lib, name = name.split('/')
    if lib == 'timm':
        import timm
        m = timm.create_model(name, num_classes=64, **(dict(img_size=224) if 'dinov2' in name else {}))
        side = m.pretrained_cfg['input_size'][-1]
    else:
        kw = dict(aux_logits=False, init_weights=True) if name in ('googlenet', 'inception_v3') else {}
        m, side = getattr(tv, name)(num_classes=64, **kw), 299 if 'inception' in name else 224
    side = 224 if side > 300 else side
    for o in m.modules():
        if isinstance(o, nn.Linear) and o.out_features == 64 and not o.weight.any(): nn.init.normal_(o.weight, std=.1)
    return m.eval(), side

def plant(hw, seed=0, places=PLACES):
    "Make a background (1,3,h,w) and the four images (4,3,h,w) with the patch."
    g, (h, w) = torch.Generator().manual_seed(seed), hw
    bg = .15*F.interpolate(torch.randn(1, 3, 5, 5, generator=g), size=hw, mode='bicubic')
    side = min(hw)//5
    same = torch.Generator().manual_seed(0)  # the patch is always the same
    patch = 2*torch.randn(1, 3, -(-side//4), -(-side//4), generator=same) + 1
    patch = patch.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :side, :side]
    x = bg.repeat(4, 1, 1, 1)
    for k, (cy, cx) in enumerate(places):
        i = min(max(int(cy*h) - side//2, 0), h - side)
        j = min(max(int(cx*w) - side//2, 0), w - side)
        x[k, :, i:i + side, j:j + side] = patch[0]
    return bg, x

def tune(model, hw):
    "Let the batch norms of `model` see eight images, and find the direction (64,) of its logits that tells the patch."
    g, x = torch.Generator().manual_seed(1), []
    for seed in range(24):
        bg, four = plant(hw, 100 + seed, torch.rand(4, 2, generator=g)*.7 + .15)
        x += [bg, four[:1]]
    bns = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for m in bns:
            m.reset_running_stats()
            m.momentum = None
            m.train()
        if bns: model(torch.cat(x[:8]))
        model.eval()
        o = torch.cat([model(torch.cat(x[i:i + 8])) for i in range(0, 48, 8)]).double()
    without, with_patch = o[::2], o[1::2]
    centred = torch.cat([without - without.mean(0), with_patch - with_patch.mean(0)])
    cov = centred.T @ centred/48
    cov += .1*cov.diagonal().mean()*torch.eye(64, dtype=cov.dtype) + 1e-30*torch.eye(64, dtype=cov.dtype)
    way = torch.linalg.solve(cov, with_patch.mean(0) - without.mean(0))
    return (way/way.norm()).float()

def hits(maps, at=PLACES):
    "Count how many of the maps (4,h',w') have their peak at the cell of its place, or beside it."
    h, w = maps.shape[1:]
    peaks = [divmod(m.argmax().item(), w) for m in maps]
    return sum(abs(i - int(cy*h)) <= 1 and abs(j - int(cx*w)) <= 1 for (i, j), (cy, cx) in zip(peaks, at))

def origins(model, x, layer, layout, n_ways=3):
    "How well do nine places of the map agree with where their cause lies in the image (1,3,h,w)? Two correlations."
    kept, x = [], x.clone().requires_grad_()
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o.clone()) or kept[0])
    with eval_mode(model): model(x)
    handle.remove()
    A, places, g = layout(kept[0])[0], [(a, b) for a in (.2, .5, .8) for b in (.2, .5, .8)], []  # A (c,h',w')
    ways = torch.randn(n_ways, len(A), generator=torch.Generator().manual_seed(0))
    for cy, cx in places:
        here = A[:, int(cy*A.shape[1]), int(cx*A.shape[2])]
        grads = [torch.autograd.grad(here @ way, x, retain_graph=True)[0] for way in ways]
        g.append(F.adaptive_avg_pool2d(sum(o.double().square().sum(1) for o in grads), 16)[0])
    g = torch.stack(g)
    g = (g/g.sum((1, 2), keepdim=True).clamp(min=1e-300)).clone()
    g = (g - g.mean(0)).relu()  # less what all places have in common
    steps = torch.linspace(0, 1, 16, dtype=g.dtype)
    centre = torch.stack([g.sum(2) @ steps, g.sum(1) @ steps])/g.sum((1, 2)).clamp(min=1e-300)  # (2,9): down, across
    want = torch.tensor(places, dtype=g.dtype).T
    return [torch.corrcoef(torch.stack([a, b]))[0, 1].nan_to_num().item() for a, b in zip(centre, want)]

def judge(name):
    "Explain one network with all defaults: a row of the table."
    model, side = make(name)
    for hw in ((side + 96, side), (side, side)):
        bg, x = plant(hw)
        try: way = tune(model, hw)
        except Exception:
            if hw == (side, side): raise
            continue
        break
    def score(o): return (o*way).sum(1)
    t = time.process_time()
    try: r = cam(model, torch.cat([bg, x]), target=score)
    except ValueError as e: return dict(name=name, image=hw, verdict='refused', layer=' '.join(str(e).split())[:100])
    first = time.process_time() - t
    (layer, raw), = r.raw.items()
    change = (raw[1:] - raw[:1]).abs()
    with explain_mode(model, bg): layout = record_activations(model, bg, grad=False)[2][layer]
    down, across = origins(model, x[:1], layer, layout)
    if min(down, across) < .8:  # attention may look at the patch from everywhere: the same without one, on even noise
        noise = bg + torch.randn(bg.shape, generator=torch.Generator().manual_seed(2))
        down, across = origins(model, noise, layer, layout, 8)
    heat = F.adaptive_avg_pool2d(r.maps[layer][1:], raw.shape[1:])
    changed, peak = hits(change), hits(heat)
    return dict(name=name, image=hw, layer=layer, map=tuple(raw.shape[1:]), down=round(down, 2),
                across=round(across, 2), change=changed, peak=peak, seconds=round(first, 1),
                verdict='right' if min(down, across) > .8 else
                'right, by source' if BY_SOURCE.get(name) == str(layout) else 'WRONG')

def main():
    "Judge all networks and write the table."
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--models', default='', help="such as timm/vit_tiny_patch16_224,torchvision/swin_t; default: all")
    p.add_argument('--out', default='', help='Markdown file to write')
    a = p.parse_args()
    warnings.filterwarnings('ignore')
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    names = a.models.split(',') if a.models else [f'torchvision/{n}' for n in TORCHVISION] + [f'timm/{n}' for n in TIMM]
    rows = ['| network | image | default layer | map | down | across | change | peak | verdict |',
            '|---|---|---|---|---|---|---|---|---|']
    counts = {}
    for n in names:
        try: r = judge(n)
        except Exception as e: r = dict(name=n, verdict='error', layer=f'{type(e).__name__}: {str(e)[:80]}')
        counts[r['verdict']] = counts.get(r['verdict'], 0) + 1
        cells = [r['name'], *('×'.join(map(str, r[k])) if k in r else '–' for k in ('image',)), r['layer'],
                 '×'.join(map(str, r['map'])) if 'map' in r else '–',
                 *(r.get(k, '–') for k in ('down', 'across', 'change', 'peak')), r['verdict']]
        rows.append('| ' + ' | '.join(map(str, cells)) + ' |')
        print(rows[-1], r.get('seconds', ''), flush=True)
    print(counts)
    if not a.out: return
    head = f'# Default heat maps over architectures\n\n{__doc__.split(chr(10)*2, 1)[1].strip()}\n\n'
    head += f'{len(names)} networks: {counts}. torch {torch.__version__}, Python {sys.version.split()[0]}.\n\n'
    Path(a.out).write_text(head + '\n'.join(rows) + '\n')

if __name__ == '__main__': main()

"""How often is the verdict of `explain` wrong? Maps known to be right or wrong, on networks trained here.

`python benchmarks/cam_verdict.py [--out FILE] [--seeds 0,1,2] [--n 24] [--data textures,shapes] [--nets cnn,vit,swin]`.
Rows that FILE has already are kept and not run again: it may be made in portions, or removed to begin anew.
A CNN, a Vision Transformer and a Swin learn small patches of four textures in noise, or four shapes pasted on clouds;
then maps of `--n` new images, correctly classified, are judged for their true class.

- `object`: the true place, softened. `own`: Grad-CAM of the network at its default layer.
- `next`: the own map of the next image. `spots`: random heat. Neither knows the image: what is believed of them is
  the error of the verdict, and should be at most 1 in 20.

A cell is believed / cannot tell / no better than chance. `peak`: how many of the own maps at each of these three
levels have their highest pixel on the object.
"""
import argparse
import math
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import nn

from s9lib.data.synthetic import draw_shape
from s9lib.explain.cam import cam
from s9lib.explain.verdict import judge_maps, LEVELS

SIDE, KINDS = 40, ('object', 'own', 'next', 'spots')

def textures(n, seed, k=14):
    "Patches of four textures in noise: images (n,3,h,w), classes, masks (n,h,w)."
    g = np.random.default_rng(seed)
    yy, xx = np.mgrid[:k, :k]
    waves = np.stack([yy % 4 < 2, xx % 4 < 2, (yy + xx) % 4 < 2, (yy//2 + xx//2) % 2 == 0])*2. - 1
    y, at = g.integers(0, 4, n), g.integers(0, SIDE - k + 1, (n, 2))
    x, masks = g.normal(0, .4, (n, 3, SIDE, SIDE)), np.zeros((n, SIDE, SIDE), bool)
    for i, (a, b) in enumerate(at):
        x[i, :, a:a + k, b:b + k] += waves[y[i]]
        masks[i, a:a + k, b:b + k] = True
    return torch.tensor(x).float(), torch.tensor(y), torch.tensor(masks)

def pasted(n, seed, k=20):
    "Disks, rings, bars and crosses pasted on clouds: images (n,3,h,w), classes, masks (n,h,w)."
    g, kinds = np.random.default_rng(seed), (0, 1, 4, 5)
    y, at = g.integers(0, 4, n), g.integers(0, SIDE - k + 1, (n, 2))
    x, masks = np.empty((n, SIDE, SIDE, 3), np.float32), np.zeros((n, SIDE, SIDE), bool)
    for i, (a, b) in enumerate(at):
        x[i] = cv2.resize(g.uniform(0, .6, (6, 6, 3)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        x[i] += .06*g.standard_normal((SIDE, SIDE, 3))
        im, m = draw_shape(seed, 10*i + kinds[y[i]], k)
        x[i, a:a + k, b:b + k][m] = .8 + im[m]/255*.2
        masks[i, a:a + k, b:b + k] = m
    return (torch.tensor(x).permute(0, 3, 1, 2) - .5)/.25, torch.tensor(y), torch.tensor(masks)

class Cnn(nn.Sequential):
    "Three convolutions, global average pooling, a linear layer."
    def __init__(self):
        def conv(i, o, s): return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
        super().__init__(conv(3, 24, 1), conv(24, 32, 2), conv(32, 48, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(48, 4))

NETS = {'cnn': (Cnn, 6, 5e-3),
        'vit': (lambda: timm.models.VisionTransformer(img_size=SIDE, patch_size=4, embed_dim=48, depth=3, num_heads=4,
                                                      num_classes=4), 16, 2e-3),
        'swin': (lambda: timm.models.SwinTransformer(img_size=SIDE, patch_size=2, window_size=5, embed_dim=24,
                                                     depths=(2, 2), num_heads=(2, 4), num_classes=4), 8, 2e-3)}
DATA = {'textures': (textures, 1), 'shapes': (pasted, 3)}   # and how much longer it takes to learn

def trained(name, make_data, longer, seed):
    "A network that learned 1,024 images."
    make, epochs, lr = NETS[name]
    torch.manual_seed(seed)
    m, (x, y, _) = make(), make_data(1024*longer, 100 + seed)
    opt, n = torch.optim.AdamW(m.parameters(), lr, weight_decay=.02), len(x)
    plan = torch.optim.lr_scheduler.OneCycleLR(opt, lr, total_steps=epochs*(n//64))
    for i in [i for _ in range(epochs) for i in torch.randperm(n).split(64)]:
        F.cross_entropy(m(x[i]), y[i]).backward()
        opt.step(); plan.step(); opt.zero_grad()
    return m.eval()

def known_maps(net, x, y, masks, seed):
    "The maps of which something is known."
    g, n = torch.Generator().manual_seed(seed), len(x)
    (mine,) = cam(net, x, target=y).maps.values()
    spots = F.interpolate(torch.rand(n, 1, 5, 5, generator=g)**6, (SIDE, SIDE), mode='bilinear')[:, 0]
    return {'object': F.avg_pool2d(masks.float()[:, None], 5, 1, 2)[:, 0], 'own': mine, 'next': mine.roll(1, 0),
            'spots': spots}

def run(data, name, seed, n):
    "One network: its accuracy, and for each kind of map the levels; hits of the own maps."
    make_data, longer = DATA[data]
    net = trained(name, make_data, longer, seed)
    x, y, masks = make_data(20*n, 200 + seed)
    with torch.no_grad(): right = net(x).argmax(1) == y
    keep = right.nonzero()[:n, 0]
    x, y, masks = x[keep], y[keep], masks[keep]
    maps = known_maps(net, x, y, masks, seed)
    v = judge_maps(net, x, maps, y)
    hit = masks.flatten(1).gather(1, maps['own'].flatten(1).argmax(1, keepdim=True))[:, 0].tolist()
    return right.float().mean().item(), {k: v.level(k) for k in maps}, hit

def three(levels): return ' / '.join(str(levels.count(l)) for l in LEVELS)

def interval(k, n):
    "Wilson's 95 % interval of a rate."
    z, p = 1.96, k/n
    mid, half = p + z*z/2/n, z*math.sqrt(p*(1 - p)/n + z*z/4/n/n)
    return f'{k} of {n} = {p:.1%} ({max(0, (mid - half)/(1 + z*z/n)):.1%} to {(mid + half)/(1 + z*z/n):.1%})'

def summary(rows):
    "The rates over all rows of a set, as lines."
    out = []
    for part in ('held out', 'rule set'):
        some = [[c.strip() for c in r.split('|')[1:-1]] for r in rows if r.startswith(f'| {part} ')]
        if not some: continue
        by = {k: np.sum([[int(v) for v in r[5 + i].split('/')] for r in some], 0) for i, k in enumerate(KINDS)}
        peaks = np.sum([[[int(v) for v in p.split(' of ')] for p in r[-1].split('/')] for r in some], 0)
        def rate(level, *kinds): return interval(sum(by[k][level] for k in kinds), sum(by[k].sum() for k in kinds))
        out += [f'**{part}** ({len(some)} networks)', '', f"- believed of `next` and `spots`: {rate(0, 'next', 'spots')}"]
        out += [f'- of `{k}`: believed {rate(0, k)}, "no better than chance" {rate(2, k)}' for k in ('object', 'own')]
        out += ['- own maps with their peak on the object: ' +
                '; '.join(f'{l} {h} of {n}' for l, (h, n) in zip(LEVELS, peaks)), '']
    return out

def write(path, lines, n):
    "Write what is known so far."
    head = f"""# How often the verdict is wrong

{__doc__.split(chr(10)*2, 1)[1].strip()}

The rule was set on networks of seed 0 and not changed after. {n} images per network; torch {torch.__version__}.
Brackets: 95 % intervals.

"""
    Path(path).write_text(head + '\n'.join(summary(lines)) + '\n' + '\n'.join(lines) + '\n')

def main():
    "Print the table, and write it."
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--out', default='', help='Markdown file to write')
    p.add_argument('--seeds', default='0,1,2')
    p.add_argument('--n', type=int, default=24, help='images per network')
    p.add_argument('--data', default='textures,shapes')
    p.add_argument('--nets', default='cnn,vit,swin')
    a = p.parse_args()
    torch.set_num_threads(1)
    lines = ['| set | data | network | seed | accuracy | ' + ' | '.join(KINDS) + ' | peak |',
             '|' + '---|'*(6 + len(KINDS))]
    print('\n'.join(lines))
    if a.out and Path(a.out).exists():
        lines += [l for l in Path(a.out).read_text().splitlines() if l.startswith(('| held out ', '| rule set '))]
    for seed in map(int, a.seeds.split(',')):
        for data in a.data.split(','):
            for name in a.nets.split(','):
                if data == 'shapes' and (seed == 0 or name != 'cnn'): continue   # the others learn them in no minute
                head = f"| {'held out' if seed else 'rule set'} | {data} | {name} | {seed} | "
                if any(l.startswith(head) for l in lines): continue
                acc, levels, hit = run(data, name, seed, a.n)
                at = {l: [h for h, m in zip(hit, levels['own']) if m == l] for l in LEVELS}
                peak = ' / '.join(f'{sum(h)} of {len(h)}' for h in at.values())
                lines.append(f'{head}{acc:.2f} | ' + ' | '.join(three(levels[k]) for k in KINDS) + f' | {peak} |')
                print(lines[-1], flush=True)
                if a.out: write(a.out, lines, a.n)
    print('\n'.join(summary(lines)))

if __name__ == '__main__': main()

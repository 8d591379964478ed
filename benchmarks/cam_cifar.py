"""Which heat maps hold on CIFAR-10, which has no masks: mosaics, deletion, insertion and ROAD on a trained network.

    python benchmarks/cam_cifar.py CHECKPOINTS [--recipe fast] [--data cifar10] [--n 100] [--grids 100]
                                   [--out benchmarks/results/cam_cifar.md]

CHECKPOINTS is the folder that a run of the recipe left (`runs/…/checkpoints`). Nothing here is random but the choice
of the images of a mosaic (seed 0) and the order of ties; the network is one, so there is no spread to report.
"""
import argparse
from pathlib import Path

import torch

from s9lib.data.cifar import load_data
from s9lib.data.dataset import CIFAR10_MEAN, CIFAR10_STD
from s9lib.data.transforms import normalize_images
from s9lib.explain.benchmark import evaluate_cams
from s9lib.train.checkpoint import load_checkpoint
from s9lib.train.recipes import get_recipe


@torch.no_grad()
def accuracy(model, data, bs=500):
    "Share of the images of `data` that `model` gets right, in a single view."
    hits = 0
    for i in range(0, len(data), bs):
        pred = model(normalize_images(data.images[i:i+bs], CIFAR10_MEAN, CIFAR10_STD)).argmax(1).numpy()
        hits += (pred == data.labels[i:i+bs]).sum()
    return hits / len(data)


def main():
    p = argparse.ArgumentParser()
    p.add_argument('checkpoints', type=Path)
    for k, v in dict(recipe='fast', data='cifar10').items(): p.add_argument(f'--{k}', default=v)
    for k, v in dict(n=100, grids=100).items(): p.add_argument(f'--{k}', type=int, default=v)
    p.add_argument('--layers', nargs='*', default=['layer1', 'layer2', 'layer3'])
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    torch.set_num_threads(1)
    model, test = get_recipe(a.recipe).model(), load_data(a.data)[1]
    model.load_state_dict(load_checkpoint(a.checkpoints)['model']); model.eval()
    acc = accuracy(model, test)
    methods = ('gradcam', 'gradcam++', 'hirescam', 'xgradcam', 'layercam', 'eigencam')
    scores = evaluate_cams(model, test, methods, a.layers, n=a.n, n_grids=a.grids)
    command = f'python benchmarks/cam_cifar.py CHECKPOINTS --recipe {a.recipe} --n {a.n} --grids {a.grids}'
    text = (f"# Heat maps of a network on {test.name}\n\n`{command}`: recipe `{a.recipe}`, test accuracy {acc:.4f}, "
            f"mosaics of 2×2 (chance 0.25), seed 0.\n\n{scores!r}\n")
    print(text)
    if a.out: a.out.parent.mkdir(exist_ok=True); a.out.write_text(text, encoding='utf-8')


if __name__ == '__main__': main()

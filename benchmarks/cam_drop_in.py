"""Does code written for pytorch-grad-cam give the same with one import changed? Both packages run the same calls.

    python benchmarks/cam_drop_in.py [--out benchmarks/results/cam_drop_in.md]

`calls` below is the code of a user, after the README, tutorials and tests of pytorch-grad-cam: it gets the names from
`pytorch_grad_cam` in an environment of its own (see `cam_peers.py`), and from `s9lib.explain.drop_in` here. Random
weights and images, seed 0. The table has the largest difference of the maps, in [0,1], or of the pictures, in 255
steps. A principal component has no sign of its own, so a map that hangs on one may be the other way round; the table
says so where it is. Exits with 1 if a difference that is not explained there exceeds 1e-4.
"""
import argparse
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from cam_peers import start
from torch import nn
from torchvision import models

APART = {'GradCAMPlusPlus': '1e-6 in the denominator there', 'ScoreCAM': 'softmax of the scores there',
         'AblationCAM, score below 0': 'divided by the score there, which turns the map over',
         'densenet GradCAM': 'there the activations are those after an in-place ReLU'}
SIGNLESS = 'Eigen', 'eigen_smooth'
CLASSES = ['GradCAM', 'HiResCAM', 'GradCAMElementWise', 'GradCAMPlusPlus', 'XGradCAM', 'LayerCAM', 'EigenCAM',
           'EigenGradCAM', 'ScoreCAM', 'FullGrad', 'FinerCAM']


def names(package):
    "The names that a user imports, from one package or the other."
    if package == 's9lib':
        import s9lib.explain.drop_in
        return s9lib.explain.drop_in
    import pytorch_grad_cam
    from pytorch_grad_cam.utils import image, model_targets, reshape_transforms
    found = {}
    for m in (reshape_transforms, model_targets, image, pytorch_grad_cam): found |= vars(m)
    return SimpleNamespace(**found)


def network(make, **kw):
    "A network whose scores are large beside the constants of the formulas, its batch norms used to such images."
    torch.manual_seed(0)
    m = make(num_classes=8, **kw)
    for o in m.modules():
        if isinstance(o, nn.BatchNorm2d): o.momentum = None
    with torch.no_grad():
        m.train()(torch.randn(8, 3, 64, 64))
        last = [o for o in m.modules() if isinstance(o, nn.Linear)][-1]
        nn.init.normal_(last.weight, std=10)
    return m.eval()


class OutputWrapper(nn.Module):
    "As in the tutorial on segmentation."
    def __init__(self, model): super().__init__(); self.model = model
    def forward(self, x): return self.model(x)['out']


def calls(p, theirs=None):
    "Yield (what, result): the code of a user of package `p`; its targets may be `theirs`."
    T = theirs or p
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    targets = [T.ClassifierOutputTarget(3), T.ClassifierOutputTarget(5)]
    resnet = network(models.resnet18)
    for name in CLASSES:
        with getattr(p, name)(model=resnet, target_layers=[resnet.layer3]) as c:
            c.batch_size = 32
            yield name, c(input_tensor=x, targets=targets)
    with torch.no_grad(): scores = resnet(x)
    for when, ids in (('above', scores.argmax(1)), ('below', scores.argmin(1))):
        with p.AblationCAM(model=resnet, target_layers=[resnet.layer3]) as c:
            yield f'AblationCAM, score {when} 0', c(x, targets=[T.ClassifierOutputTarget(i) for i in ids.tolist()])
    with p.GradCAM(model=resnet, target_layers=[resnet.layer2, resnet.layer3[-1]]) as c:
        yield 'GradCAM, two layers', c(input_tensor=x, targets=targets)
        yield 'GradCAM, targets=None', c(input_tensor=x, targets=None)
        yield 'outputs', c.outputs.detach().numpy()
        yield 'GradCAM, aug_smooth', c(input_tensor=x, targets=targets, aug_smooth=True)
    with p.GradCAM(model=resnet, target_layers=[resnet.layer3]) as c:
        yield 'GradCAM, eigen_smooth', c(input_tensor=x, targets=targets, eigen_smooth=True)
        for k in ('ClassifierOutputSoftmaxTarget', 'ClassifierOutputReST'):
            yield k, c(input_tensor=x, targets=[getattr(T, k)(i) for i in (3, 5)])
    gray = np.linspace(0, 1, 64*64, dtype=np.float32).reshape(64, 64)
    img = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
    yield 'show_cam_on_image', p.show_cam_on_image(img, gray, use_rgb=True).astype(float)/255
    yield 'show_cam_on_image, BGR', p.show_cam_on_image(img, gray, image_weight=.7).astype(float)/255
    yield 'preprocess_image', p.preprocess_image(img, mean=[.4, .5, .6], std=[.2, .2, .3]).numpy()
    yield 'deprocess_image', p.deprocess_image(img - .5).astype(float)/255
    gb = p.GuidedBackpropReLUModel(model=resnet, device='cpu')(x[:1], target_category=3)
    yield 'GuidedBackpropReLUModel', gb/np.abs(gb).max()
    one = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1))
    with p.GradCAM(model=one, target_layers=[one[1]]) as c:
        yield 'BinaryClassifierOutputTarget', c(input_tensor=x, targets=[T.BinaryClassifierOutputTarget(i) for i in (0, 1)])
        yield 'RawScoresOutputTarget', c(input_tensor=x, targets=[T.RawScoresOutputTarget()]*2)
    vit = network(models.VisionTransformer, image_size=64, patch_size=8, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64)
    def reshape(t): return p.vit_reshape_transform(t, 8, 8)
    for name in ('GradCAM', 'HiResCAM', 'LayerCAM', 'XGradCAM'):
        with getattr(p, name)(vit, [vit.encoder.layers[-1].ln_1], reshape_transform=reshape) as c: yield f'ViT {name}', c(x, targets)
    swin = network(models.SwinTransformer, patch_size=[4, 4], embed_dim=24, depths=[2, 2], num_heads=[2, 2], window_size=[4, 4])
    with p.GradCAM(swin, [swin.norm], reshape_transform=lambda t: t.permute(0, 3, 1, 2)) as c: yield 'Swin GradCAM', c(x, targets)
    dense = network(models.densenet121)
    with p.GradCAM(dense, [dense.features]) as c: yield 'densenet GradCAM', c(x, targets)
    torch.manual_seed(0)
    seg = OutputWrapper(models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)).eval()
    seg.model.classifier.high_classifier.weight.data *= 1e4
    mask = np.zeros((64, 64), np.float32); mask[:30] = 1
    with p.GradCAM(seg, [seg.model.backbone['16']]) as c: yield 'SemanticSegmentationTarget', c(x, [T.SemanticSegmentationTarget(2, mask)]*2)
    det = models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=128, max_size=160, box_score_thresh=0., box_detections_per_img=3).eval()
    det.roi_heads.box_predictor.cls_score.weight.data *= 1e3
    scene = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(): found = det(scene)[0]
    boxes = T.FasterRCNNBoxScoreTarget(labels=found['labels'].numpy(), bounding_boxes=found['boxes'].numpy())
    with p.EigenCAM(det, [det.backbone], reshape_transform=p.fasterrcnn_reshape_transform) as c: yield 'EigenCAM of a detector', c(scene, targets=[boxes])
    with p.GradCAM(det, [det.backbone.body['16']]) as c: yield 'FasterRCNNBoxScoreTarget', c(scene, targets=[boxes])


def difference(a, b):
    "Largest difference."
    return float(np.abs(a - b).max()) if a.shape == b.shape else float('inf')


def worker(to):
    torch.set_num_threads(1)
    torch.save({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in calls(names('grad-cam'))}, to)
    import s9lib.explain.drop_in as ours
    torch.save({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in calls(ours, names('grad-cam'))}, to + '.mixed')


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path); p.add_argument('--worker')
    a = p.parse_args()
    if a.worker: return worker(a.worker)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as d:
        with start('grad-cam', __file__, '--worker', f'{d}/maps.pt', stderr=sys.stderr) as proc: proc.communicate()
        if proc.returncode: sys.exit('grad-cam failed, see above')
        theirs, mixed = [torch.load(f'{d}/maps.pt{e}', weights_only=True) for e in ('', '.mixed')]
    lines, bad = ['# One changed import', '', f'`python benchmarks/cam_drop_in.py`, torch {torch.__version__.split("+")[0]}, '
                  'grad-cam 1.5.7: the largest difference of the same calls, with our targets and with theirs.', '',
                  '| call | our targets | their targets | |', '|---|---|---|---|'], []
    for what, got in calls(names('s9lib')):
        e = [difference(o, theirs[what].numpy()) for o in (got, mixed[what].numpy())]
        why = APART.get(what, '')
        if max(e) > 1e-4 and not why and any(s in what for s in SIGNLESS): why = 'the sign of a component is arbitrary'
        if not max(e) <= (1/255 + 1e-6 if 'image' in what else 1e-4) and not why: bad.append(what)
        lines.append(f'| {what} | {e[0]:.1e} | {e[1]:.1e} | {why} |')
    text = '\n'.join(lines) + '\n'
    print(text)
    if a.out: a.out.parent.mkdir(exist_ok=True); a.out.write_text(text, encoding='utf-8')
    if bad: sys.exit(f'not equal: {bad}')


if __name__ == '__main__': main()

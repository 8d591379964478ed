"""The installed library at work, from an empty folder: what an install must do, in a minute on one core.

    python tools/smoke.py          # with the Python of the environment to be tried; it must not import the checkout
    python tools/smoke.py bare     # the same, and none of the extras may be there
    python tools/smoke.py whole    # the same, and all of them must be there

An extra that is there is used; one that is absent says how to get it.
"""
import contextlib, importlib.util, io, os, subprocess, sys, tempfile, traceback, warnings
from pathlib import Path

os.environ.update(NO_ALBUMENTATIONS_UPDATE='1', MPLBACKEND='agg', S9LIB_DATA='shapes')
KNOWN = {}  # what one part leaves for the next

def imported():
    "`from s9lib.all import *` is quiet, and the library is the installed one"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said): import s9lib.all as everything
    KNOWN['all'] = everything
    here = Path(everything.__file__)
    assert 'site-packages' in here.parts, f'{here} is not installed: run this from another folder'
    assert (here.parent/'py.typed').is_file() and not list(here.parent.rglob('*.ipynb'))
    text = said.getvalue().replace('Matplotlib is building the font cache; this may take a moment.', '').strip()
    assert not text, text
    print(everything.show_install())

def trained():
    "an epoch on drawn shapes, a heat map, a report"
    a = KNOWN['all']
    from s9lib.data.loader import synth_dls
    from s9lib.nets.fastnet import fastnet
    learn = KNOWN['learn'] = a.Learner(synth_dls(128, 64), fastnet(widths=(8, 8, 8)), cbs=[a.ProgressCallback()])
    assert len(learn.fit(1)) == 1
    x = KNOWN['x'] = learn.dls.one_batch()[0][:4]
    r = a.cam(learn.model, x)
    assert all(m.shape == (4, 32, 32) for m in r.maps.values())
    assert a.write_report(learn, 'report.html').stat().st_size > 50_000

def command(*args):
    "What a command of this environment says; it must end well."
    r = subprocess.run([Path(sys.executable).with_name(args[0]), *args[1:]], capture_output=True, text=True)
    assert not r.returncode, f'{args}: status {r.returncode}: {r.stderr[-500:]}'
    return r.stdout

def commands():
    "s9_train and s9_explain"
    command('s9_train', '--data', 'shapes', '--recipe', 'smoke', '--out', 'run')
    assert Path('run/model.safetensors').is_file() and Path('run/report.html').is_file()
    from s9lib.data.synthetic import shapes
    KNOWN['all'].save_fig(KNOWN['all'].show_images(shapes(1, size=64).images), 'photo.png')
    command('s9_explain', 'photo.png', '--checkpoint', 'run')

def timm():
    a = KNOWN['all']
    assert a.create_model('timm:resnet10t', 3, weights=None)(KNOWN['x']).shape == (4, 3)

def heif():
    from s9lib.images import read_image
    try: from pillow_heif import from_pillow
    except ImportError:  # the first bytes of such a photo
        Path('photo.heic').write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + b'\0'*64)
    else:
        from PIL import Image
        from_pillow(Image.new('RGB', (64, 48), 'red')).save('photo.heic')
    assert read_image('photo.heic').shape == (48, 64, 3)

def shards():
    from s9lib.data.streams import image_shards
    from s9lib.data.synthetic import shapes
    import tarfile
    from PIL import Image
    data = shapes(8)
    with tarfile.open('train-0.tar', 'w') as tar:
        for i, im in enumerate(data.images):
            png = io.BytesIO()
            Image.fromarray(im).save(png, 'PNG')
            for ext, b in (('png', png.getvalue()), ('cls', str(i % 2).encode())):
                info = tarfile.TarInfo(f'{i}.{ext}')
                info.size = len(b)
                tar.addfile(info, io.BytesIO(b))
    train, held = image_shards('train-0.tar', valid_pct=.5)
    assert len(train) + len(held) == 8

def hf():
    from s9lib.data.streams import image_hf
    try: from datasets import ClassLabel, Dataset, Features, Image as HFImage
    except ImportError: image_hf('nowhere')
    else:
        from PIL import Image
        images, labels = [Image.new('RGB', (8, 8), (i*20, 0, 0)) for i in range(8)], [i % 2 for i in range(8)]
        kinds = Features(image=HFImage(), label=ClassLabel(names=['a', 'b']))
        train, held = image_hf(Dataset.from_dict(dict(image=images, label=labels), features=kinds), valid_pct=.5)
        assert len(train) + len(held) == 8

def captum():
    from s9lib.explain.beyond import integrated_gradients
    r = integrated_gradients(KNOWN['learn'].model, KNOWN['x'], steps=100)
    assert r.maps['image'].shape == (4, 32, 32)

def export():
    from s9lib.apps.export import export_model
    export_model('run', 'model.onnx')
    assert Path('model.onnx').is_file()

def tensorboard():
    from s9lib.train.loggers import TensorBoardCallback
    learn = KNOWN['learn']
    learn.cbs = [TensorBoardCallback('board')]
    learn.fit(1)
    assert list(Path('board').glob('events*'))

def demo():
    from s9lib.apps.demo import make_demo
    assert type(make_demo(KNOWN['all'].load_model('run'))).__name__ == 'Blocks'

def explore():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        shown = KNOWN['all'].explore(KNOWN['learn'])
    if type(shown).__name__ == 'Explorer': return
    raise ImportError(next(str(w.message) for w in seen if 'explore' in str(w.message)))

# extra -> the modules that it brings, what is done with them
EXTRAS = dict(timm=('timm', timm), heif=('pillow_heif', heif), streams=('webdataset', shards),
              captum=('captum', captum), export=('onnx onnxscript onnxruntime', export),
              tensorboard=('tensorboard', tensorboard), demo=('gradio', demo),
              explore=('ipywidgets', explore), hf=('datasets', hf))

def extra(name, want):
    "Use an extra, or be told how to get it."
    modules, use = EXTRAS[name]
    there = all(importlib.util.find_spec(m) for m in modules.split())
    assert want is None or there == want, f'{modules} is {"" if there else "not "}installed'
    try: use()
    except (ImportError, ValueError) as e:
        if there or f's9lib[{dict(hf="streams").get(name, name)}]' not in str(e): raise
        return f'absent, and says so: {e}'
    assert there, 'it is absent, and nothing was said'
    return 'used'

def attempt(name, func, *args):
    "Call `func`; print and return whether it went well."
    try: said = func(*args) or ''
    except Exception as e:
        traceback.print_exc()
        print(f'FAIL {name}: {type(e).__name__}: {e}', flush=True)
        return False
    print(f'ok   {name}{said and ": "}{said}', flush=True)
    return True

def main():
    want = {'bare': False, 'whole': True}.get((sys.argv[1:] or [''])[0])
    with tempfile.TemporaryDirectory() as d:
        os.chdir(d)
        good = [attempt(f.__doc__, f) for f in (imported, trained, commands)]
        if all(good): good += [attempt(f'extra {name}', extra, name, want) for name in EXTRAS]
        os.chdir('/')
    print(f'{sum(good)} passed, {len(good) - sum(good)} failed')
    sys.exit(not all(good))

if __name__ == '__main__': main()

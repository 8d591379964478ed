"""Go through every door as a newcomer would: a folder of photos, one command without options, and what it says about one.

    pip install -c constraints.txt 's9lib[photos]'   # the photos are cut from those of scikit-image and scikit-learn
    python benchmarks/doors.py                       # eight kinds of folders, wrong commands; benchmarks/results/doors.md
    python benchmarks/doors.py 12 csv                # some of them, to the terminal only
    python benchmarks/doors.py wrong                 # the wrong commands only
    python benchmarks/doors.py --quick               # that every door opens, whatever is learned

Each command runs in a process of its own, from an empty working folder with an empty cache and none of the user's
settings. A door is open if training ends with status 0 and a model file, if `s9_explain` reads it and gives
probabilities of every class that add up to 1, if the report names the files, and if the same command again finds the
run finished. A wrong command has to end with a status other than 0 and one sentence that names what mends it.
"""
import argparse, csv, json, os, re, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
from PIL import Image

from s9lib.core import show_install
from s9lib.data.pets import cut_crops, photo_file, PHOTOS
from s9lib.images import read_image

OUT = Path(__file__).parent/'results/doors.md'
ROOT = Path(__file__).resolve().parents[1]

def photos(n, classes, seed=0):
    "{class: n crops} of mixed sizes."
    return {c: [im for im, _ in cut_crops(read_image(photo_file(PHOTOS[c])), n, 0, seed)['train']] for c in classes}

def save(im, file, **kw):
    "Write an image by the ending of the file."
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(im).save(file, **kw)

def put(root, crops, ending=lambda k: ('jpg', 'png')[k % 2], name='{c} {k:02}'):
    "Write crops to a folder per class."
    for c, ims in crops.items():
        for k, im in enumerate(ims): save(im, root/c/f'{name.format(c=c, k=k)}.{ending(k)}')
    return root

def mixed(d):
    "Photos of mixed sizes in JPEG, PNG, WebP, AVIF and HEIC, grey ones and one on transparent ground among them."
    kinds = ['jpg', 'png', 'webp', 'avif']
    try:
        from pillow_heif import register_heif_opener
        register_heif_opener()
        kinds.append('heic')
    except ImportError: print("no HEIC among the photos: pip install 's9lib[heif]'")
    root = put(d/'photos', photos(15, ['cat', 'coffee', 'photographer', 'motorcycle']), lambda k: kinds[k % len(kinds)])
    im = Image.open(root/'cat/cat 01.png').convert('RGBA')
    im.putalpha(Image.linear_gradient('L').resize(im.size))
    im.save(root/'cat/cat 01.png')
    return root

def classes_only(d): return put(d/'my-classes', photos(12, ['brick', 'grass', 'gravel']))

def train_val(d):
    root = d/'split'
    for split, n in (('train', 12), ('val', 6)): put(root/split, photos(n, ['flower', 'rocket', 'moon'], n))
    return root

def table(d):
    put(d/'pictures', photos(12, ['coins', 'temple', 'retina']))
    rows = [f'pictures/{f.parent.name}/{f.name},{f.parent.name}' for f in sorted(d.glob('pictures/*/*'))]
    (d/'labels.csv').write_text('\n'.join(['path,label', *rows]))
    return d/'labels.csv'

def many(d):
    "37 classes: parts of the photos, in shades of their own."
    root, names = d/'many', [(c, tone) for tone in ((1, 1, 1), (1, .5, .5), (.5, .5, 1)) for c in PHOTOS][:37]
    for k, (c, tone) in enumerate(names):
        for i, im in enumerate(photos(5, [c], k)[c]): save((im*tone).astype(np.uint8), root/f'class {k:02}'/f'{i}.jpg')
    return root

def twelve(d): return put(d/'twelve', photos(6, ['cat', 'rocket']))

def spelled(d):
    crops = photos(12, ['flower', 'coffee', 'brick'])
    names = {'flower': 'Blüten & Gräser', 'coffee': 'Kaffee zum Frühstück', 'brick': '煉瓦'}
    return put(d/'Meine Fotos (Köln)', {names[c]: ims for c, ims in crops.items()}, name='Bild Nº {k}')

def littered(d):
    root = put(d/'litter', photos(12, ['cat', 'astronaut', 'moon']))
    for f in ('Thumbs.db', 'cat/desktop.ini', '__MACOSX/cat/._a.jpg', 'cat/.ipynb_checkpoints/cat 00.jpg', '.Trash-1000/x.jpg'):
        (root/f).parent.mkdir(parents=True, exist_ok=True)
        (root/f).write_bytes(b'litter')
    whole = (root/'cat/cat 01.png').read_bytes()
    (root/'cat/cut off.png').write_bytes(whole[:len(whole)//2])
    (root/'moon/no image.jpg').write_text('a text')
    return root

DOORS = dict(mixed=mixed, classes=classes_only, trainval=train_val, csv=table, many=many, twelve=twelve, spelled=spelled,
             littered=littered)
ABOUT = dict(mixed='photos of mixed sizes and kinds', classes='class folders only', trainval='`train/` and `val/`', csv='a CSV',
             many='37 classes', twelve='12 images in all', spelled='spaces and umlauts in the paths',
             littered='litter and two broken files')

def command(name, *args, cwd, env):
    "Run a command of the library: status, stdout, stderr without bars, seconds."
    call = f'import sys; from s9lib.apps.cli import {name}; sys.exit({name}())'
    start = time.time()
    r = subprocess.run([sys.executable, '-c', call, *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True,
                       encoding='utf-8')
    err = '\n'.join(line for line in r.stderr.splitlines() if not re.search(r'%\|.*\|', line) and line.strip())
    return r.returncode, r.stdout, err, time.time() - start

def settings(box):
    "An environment without the user's settings, with a cache in `box`."
    env = {k: v for k, v in os.environ.items() if not k.startswith('S9LIB_')}
    return dict(env, XDG_CACHE_HOME=str(box/'cache'), NO_ALBUMENTATIONS_UPDATE='1', PYTHONPATH=str(ROOT), COLUMNS='120')

def tidy(text, box):
    "Without the folder of this run, which is another one next time."
    text = re.sub(r'/\S*?/torch/hub/checkpoints', '~/.cache/torch/hub/checkpoints', text.replace(f'{box}/', '').replace(str(box), '.'))
    return text.replace(str(Path.home()), '~')

def go(name, options=()):
    "One door: what was said, and what is wrong."
    with tempfile.TemporaryDirectory() as d:
        box = Path(d).resolve()
        env, work, data = settings(box), box/'work', DOORS[name](box)
        work.mkdir()
        status, said, err, sec = command('s9_train', '--data', data, *options, cwd=work, env=env)
        said, wrong = tidy(said, box), []
        if status: return dict(door=name, wrong=[f'status {status}'], said=said, err=tidy(err, box), seconds=sec)
        runs = [p.parent for p in work.glob('runs/*/model.safetensors')]
        if len(runs) != 1: return dict(door=name, wrong=[f'{len(runs)} model files'], said=said, err=tidy(err, box), seconds=sec)
        run, = runs
        m = json.loads((run/'metrics.json').read_text())
        split = 'valid' if 'valid_acc' in m else 'test'
        files = [p for p in data.parent.rglob('*') if p.is_file() and p.suffix in ('.jpg', '.png', '.heic', '.avif', '.webp')
                 and not re.search(r'work/|__MACOSX|/\.|cut off|no image', str(p))]
        if name == 'trainval': files = [p for p in files if '/val/' in str(p)]
        photo = sorted(files, key=lambda p: (p.suffix != '.heic', str(p)))[0]     # the strangest kind first
        estatus, esaid, eerr, _ = command('s9_explain', photo, '--checkpoint', run, cwd=work, env=env)
        if estatus: wrong.append(f's9_explain: status {estatus}: {eerr}')
        else:
            row, = csv.DictReader(open(work/'explained/predictions.csv', encoding='utf-8'))
            probs = [float(v) for k, v in row.items() if k not in ('image', 'prediction', 'picture')]
            if abs(sum(probs) - 1) > 1e-3: wrong.append(f'probabilities add up to {sum(probs)}')
            picture = np.asarray(Image.open(work/row['picture'] if not Path(row['picture']).is_absolute() else row['picture']))
            if picture.std() < 5: wrong.append('the picture is empty')
        again, asaid, _, _ = command('s9_train', '--data', data, *options, cwd=work, env=env)
        if again or 'this run is finished' not in asaid: wrong.append('the same command again did not find it finished')
        report = (run/'report.html').read_text()
        if 'data:image/png' not in report: wrong.append('the report has no figures')
        chance = 1/len(probs) if not estatus else 0
        if not options and m[f'{split}_acc'] <= chance: wrong.append(f'accuracy {m[f"{split}_acc"]:.0%} is no better than guessing')
        return dict(door=name, wrong=wrong, said=said, err=tidy(err, box), explain=tidy(esaid, box), seconds=sec, acc=m[f'{split}_acc'],
                    split=split, n=m['n_train'], held=m[f'n_{split}'])

def wrong_commands(box):
    "(what is wrong, options, words that the message must have)."
    (box/'empty').mkdir(); (box/'texts/a').mkdir(parents=True); (box/'texts/b').mkdir()
    for c in 'ab': (box/'texts'/c/'x.txt').write_text('a text')
    one = put(box/'one', photos(8, ['cat']))
    good = put(box/'good', photos(8, ['cat', 'moon']))
    (box/'weights.pt').write_bytes(b'no weights')
    from safetensors.numpy import save_file
    save_file({'layer.weight': np.zeros((2, 2), np.float32)}, box/'other.safetensors')
    (box/'t.csv').write_text('file,label\ngood/cat/cat 00.jpg,cat\n')
    (box/'locked/a').mkdir(parents=True)
    yield 'one class', ['--data', one], ['at least two']
    yield 'an empty folder', ['--data', box/'empty'], ['holds no class folders']
    yield 'no images', ['--data', box/'texts'], ['holds no image that can be read']
    yield 'a folder that is not there', ['--data', box/'nowhere'], ['--data', 'is not there']
    yield 'a photo as --data', ['--data', one/'cat/cat 00.jpg'], ['--data', 'is a file']
    yield 'a table without a path', ['--data', box/'t.csv'], ["no column 'path'"]
    yield 'a size of 3', ['--data', good, '--size', '3'], ['--size=3: expected at least 32']
    yield 'no epochs', ['--data', good, '--epochs', '0'], ['--epochs=0: expected at least 1']
    yield 'no epochs of a recipe', ['--data', 'shapes', '--epochs', '0'], ['--epochs=0: expected at least 1']
    yield 'a share of 2', ['--data', good, '--valid-pct', '2'], ['--valid-pct=2']
    yield 'an unknown network', ['--data', good, '--model', 'resnet19'], ['--model', 'did you mean']
    yield 'an unknown source', ['--data', good, '--model', 'keras:resnet'], ['--model', 'timm:']
    yield 'weights that are not there', ['--data', good, '--model', 'resnet18', '--weights', 'no.pt'], ['--weights', 'no such file']
    yield 'a file without weights', ['--data', good, '--model', 'resnet18', '--weights', box/'weights.pt'], ['--weights', 'no file of --weights']
    yield 'weights of another network', ['--data', good, '--model', 'resnet18', '--weights', box/'other.safetensors'], ['--weights', 'do not fit']
    yield 'a recipe for mixed sizes', ['--data', good, '--recipe', 'fast'], ['leave --recipe out']
    yield 'recipe and size', ['--data', good, '--recipe', 'fast', '--size', '64'], ['--recipe', '--size']
    yield 'an unknown device', ['--data', good, '--device', 'gpu9'], ["--device='gpu9'"]
    if os.geteuid():
        (box/'locked/a').chmod(0)
        yield 'a folder that may not be read', ['--data', box/'locked'], ['cannot list', 'rights']

def refuse():
    "Rows of the wrong commands: (what, status, what was said, what is wrong with that)."
    with tempfile.TemporaryDirectory() as d:
        box = Path(d).resolve()
        env, work, rows = settings(box), box/'work', []
        work.mkdir()
        for what, args, words in wrong_commands(box):
            status, said, err, _ = command('s9_train', *args, cwd=work, env=env)
            line = err.strip().splitlines()[-1] if err.strip() else ''
            lack = [w for w in words if w not in line]
            bad = (['status 0'] if not status else []) + (['a traceback'] if 'Traceback' in err else []) + [f'lacks {w!r}' for w in lack]
            rows.append((what, ' '.join(a if str(a).startswith('--') else str(a).replace(f'{box}/', '') for a in map(str, args)), status,
                         tidy(line, box), bad))
            print(f"{'ok' if not bad else bad}  {what}: {tidy(line, box)}", flush=True)
        return rows

def page(doors, refused):
    "The result as Markdown."
    out = ['# The doors', '', 'Written by `python benchmarks/doors.py`. Each folder was given to `s9_train --data FOLDER` without any other option, '
           'in an empty working folder; then `s9_explain` was asked about one photo.', '', '| folder | images | held out | accuracy | model file, explained, found again |',
           '|---|---|---|---|---|']
    for r in doors:
        out.append(f"| {ABOUT[r['door']]} | {r.get('n', '')} | {r.get('held', '')} ({r.get('split', '')}) | {r.get('acc', 0):.0%} | {'yes' if not r['wrong'] else '; '.join(r['wrong'])} |")
    out += ['', 'What the commands said:', '']
    for r in doors:
        lines = [line for line in r['said'].splitlines() if line.startswith(('data:', 'recipe')) or '; the run is kept in' in line]
        out += [f"**{ABOUT[r['door']]}**", '', '```', *lines, *r.get('explain', '').strip().splitlines(), *r['err'].splitlines(), '```', '']
    out += ['## Wrong commands', '', '| what | options | status | what is said |', '|---|---|---|---|']
    for what, args, status, line, bad in refused:
        cell = line.replace('|', '\\|')
        out.append(f"| {what} | `{args}` | {status} | {cell}{' **' + '; '.join(bad) + '**' if bad else ''} |")
    return '\n'.join([*out, '', '```', show_install(), '```', ''])

def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('doors', nargs='*', metavar='DOOR', help='by default all of them')
    ap.add_argument('--quick', action='store_true', help='one epoch at 64 px, whatever that learns; nothing is written')
    args = ap.parse_args()
    names = [d for d in args.doors if d != 'wrong'] if args.doors else list(DOORS)
    doors = []
    for name in names:
        r = go(name, ['--epochs', '1', '--size', '64'] if args.quick else [])
        doors.append(r)
        print(f"{name}: {r['wrong'] or 'open'}, {r.get('acc', 0):.0%}, {r['seconds']:.0f} s\n{r['said']}{r.get('explain', '')}{r['err']}", flush=True)
    refused = refuse() if not args.doors or 'wrong' in args.doors else []
    if not args.doors and not args.quick: OUT.write_text(page(doors, refused), encoding='utf-8')
    bad = sum(bool(r['wrong']) for r in doors) + sum(bool(r[-1]) for r in refused)
    print(f'{len(doors) + len(refused)} doors and refusals, {bad} not as they should be')
    sys.exit(bad > 0)

if __name__ == '__main__': main()

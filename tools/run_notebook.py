"""Run a notebook without a browser and show it on the terminal while it runs.

    python tools/run_notebook.py nbs/20_cifar10.ipynb           # into a run folder: notebook, HTML, what it writes
    python tools/run_notebook.py                                # the same, the final notebook that suits $S9LIB_DATA
    python tools/run_notebook.py --inplace nbs/00_core.ipynb …  # store the outputs in the page itself, cleaned

The run folder is what the notebook calls `out`, else $S9LIB_OUT, else runs/NAME. Text goes to stdout, bars and warnings
to stderr; bars are not stored. An error ends in one line `Name: message` and status 1, its traceback kept in
NAME.partial.ipynb of the run folder. Ctrl-C and SIGTERM interrupt the running cell, which may save its state, and end
with 130 and 143; a second one ends at once.
"""
import argparse, ast, asyncio, base64, io, json, os, re, shutil, signal, sys, tempfile
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from s9lib.threads import wait_briefly

LIMIT = 300_000  # bytes of a stored page; figures of a larger one are stored smaller
ANSI = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]')

def write_whole(path, text):
    "Put `text` in `path` in one step, or leave what was there."
    tmp = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        tmp.write_text(text, encoding='utf-8')
        os.replace(tmp, path)
    except OSError as e: raise OSError(e.errno, f'cannot write {path}: {e.strerror}. What was there still is') from e
    finally: tmp.unlink(missing_ok=True)

def without_bars(text):
    "The lines of `text` that no progress bar drew; a warning that broke into a bar's line stays."
    def keep(line):
        if '\r' in line: return line[line.rindex('\r') + 1:] if re.search(r'(Warning|Error)\b', line) else ''
        return line if ANSI.sub('', line).strip() else ''
    return ''.join(map(keep, re.split(r'(?<=\n)', text.replace('\r\n', '\n'))))

class Interrupted(Exception): "A signal asked for the end."

class Client(NotebookClient):
    "A notebook client that shows the output as it comes and passes interrupts on to the running cell."
    signum, bar, out, live = None, False, None, (None, '')

    async def async_start_new_kernel(self, **kwargs):
        for s in (signal.SIGINT, signal.SIGTERM):
            try: asyncio.get_running_loop().add_signal_handler(s, self.on_signal, s)
            except NotImplementedError: pass  # Windows
        await super().async_start_new_kernel(**kwargs)

    async def async_start_new_kernel_client(self):
        kc = await super().async_start_new_kernel_client()
        kc.execute = partial(kc.execute, user_expressions={'out': 'str(out)'})  # asked along with every cell
        self.on_cell_executed = self.note_out
        return kc

    def note_out(self, execute_reply, **_):
        "Keep the name of the run folder as soon as the notebook knows it."
        answer = execute_reply['content'].get('user_expressions', {}).get('out', {})
        if answer.get('status') == 'ok': self.out = ast.literal_eval(answer['data']['text/plain'])

    def on_signal(self, signum):
        "Interrupt the running cell; kill it when asked again."
        again, self.signum = self.signum, signum
        if self.kc is None: return  # still starting: no cell will run
        stop = self.km.shutdown_kernel(now=True) if again else self.km.interrupt_kernel()
        self.stopping = asyncio.ensure_future(stop)
        if not again: self.show('\nInterrupted: the cell may save its state (once more: stop at once)\n', 'stderr')

    async def async_execute_cell(self, cell, cell_index, **kwargs):
        if self.signum: raise Interrupted  # the last cell caught the interrupt and ended well
        return await super().async_execute_cell(cell, cell_index, **kwargs)

    def output(self, outs, msg, display_id, cell_index):
        "Show a message on the terminal, then store it; a progress bar is for the terminal only."
        kind, content = msg['msg_type'], msg['content']
        if kind == 'stream' and content['name'] == 'stderr':
            text, content['text'] = content['text'], without_bars(content['text'])
            self.show(text if sys.stderr.isatty() else content['text'], 'stderr')
            if not content['text']: return None
        elif kind == 'stream': self.show(content['text'], 'stdout')
        elif kind == 'execute_result':
            text = content['data'].get('text/plain', '')
            if text and not text.startswith('<'): self.show(text + '\n', 'stdout')
        return super().output(outs, msg, display_id, cell_index)

    def process_message(self, msg, cell, cell_index):
        "Show what grows in an output that is replaced as a whole: rows that end in a line break, then a bar."
        content = msg['content']
        display_id = content.get('transient', {}).get('display_id')
        if display_id and [*content.get('data', ())] == ['text/plain']:
            text = content['data']['text/plain']
            rows, bar = text[:text.rfind('\n') + 1], text[text.rfind('\n') + 1:]
            seen = self.live[1] if self.live[0] == display_id and rows.startswith(self.live[1]) else ''
            self.live = display_id, rows
            if rows != seen: self.show(rows[len(seen):], 'stdout')
            if bar and sys.stderr.isatty(): self.show(f'\r\x1b[K{bar}', 'stderr')
        return super().process_message(msg, cell, cell_index)

    def show(self, text, name):
        "Write to the terminal, over a bar that stands in the way."
        if self.bar and name == 'stdout': print('\r\x1b[K', end='', file=sys.stderr, flush=True)
        self.bar = name == 'stderr' and '\r' in text and not text.endswith('\n')
        print(text, end='', file=getattr(sys, name), flush=True)

def one_line(e):
    "The name and the message of an error, without its traceback."
    if isinstance(e, DeadKernelError):
        return 'DeadKernelError: the Python that ran the notebook died; out of memory is the usual reason'
    msg = ' '.join(ANSI.sub('', e.evalue).split())
    msg = msg.replace("pass on_error='skip' to", "run .venv/bin/s9_train with --on-error skip to")  # no argument here
    return f'{e.ename}: ' + (re.sub(r'^([\'"])(.*)\1$', r'\2', msg) if e.ename == 'KeyError' else msg)

def execute(nb, cwd):
    "Run `nb` in place with `cwd` as its folder; return status, what went wrong, and what the notebook calls `out`."
    env = dict(os.environ, COLUMNS=str(shutil.get_terminal_size().columns or 120))
    env.pop('MPLBACKEND', None)  # ipykernel's own puts the figures in the notebook
    why = None
    with tempfile.TemporaryDirectory() as d:  # nobody's profile and start-up files take part
        env['IPYTHONDIR'] = d
        own = KernelSpecManager(kernel_dirs=[])  # this very Python
        km = AsyncKernelManager(kernel_spec_manager=own, connection_file=f'{d}/k.json')
        if os.name != 'nt': km.transport = 'ipc'  # sockets in `d`: nobody else on the machine can reach them
        client = Client(nb, km=km, timeout=None, coalesce_streams=True, store_widget_state=False)
        client.owns_km = True
        try: asyncio.run(client.async_execute(cwd=str(cwd), env=env))
        except Interrupted: pass
        except (CellExecutionError, DeadKernelError) as e: why = one_line(e)
    if client.signum: return 128 + client.signum, 'Interrupted', client.out
    return int(why is not None), why, client.out

def to_html(nb, title):
    "One file with its figures inside; only formulas need the network, to be typeset."
    from nbconvert import HTMLExporter
    shown = nb.copy()
    shown.cells = [c for c in nb.cells if c.cell_type != 'raw' and not re.search(r'^#\s*\|\s*hide\s*$', c.source, re.M)]
    exporter = HTMLExporter(embed_images=True, require_js_url='', jquery_url='')
    return exporter.from_notebook_node(shown, {'metadata': {'name': title}})[0]

def run(path):
    "Execute into the run folder; the status to exit with."
    print(f'Running {path.as_posix()}', flush=True)
    nb = nbformat.read(path, 4)
    status, why, out = execute(nb, Path.cwd())
    out = Path(out or os.environ.get('S9LIB_OUT') or f'runs/{path.stem}')
    half = out/f'{path.stem}.partial.ipynb'
    if why: print(why, file=sys.stderr)  # first: where nothing can be written, it says what to do
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(half if why else out/path.name, nbformat.writes(nb))
    except OSError as e:
        if not why: raise
        print(f'The notebook as far as it came is not kept: {e}', file=sys.stderr)
        return status
    if why:
        print(f'The notebook as far as it came: {half.as_posix()}', file=sys.stderr)
        return status
    write_whole(out/f'{path.stem}.html', to_html(nb, path.stem))
    half.unlink(missing_ok=True)
    print(f'\nIn {out.as_posix()}:')
    for p in sorted(p for p in out.rglob('*') if p.is_file() and not p.name.startswith('.')):
        print(f'  {p.relative_to(out).as_posix():<32}{p.stat().st_size/1024:>10,.0f} KB')
    return 0

def smaller(cell):
    "Store the figures of `cell` with 128 colors or as JPEG, whichever is smaller: a quarter of the bytes or less."
    from PIL import Image
    for data in (o['data'] for o in cell.get('outputs', []) if 'image/png' in o.get('data', {})):
        png, jpeg = io.BytesIO(), io.BytesIO()
        image = Image.open(io.BytesIO(base64.b64decode(data.pop('image/png')))).convert('RGB')
        image.quantize(128, dither=Image.Dither.NONE).save(png, 'PNG', optimize=True)  # small for charts
        image.save(jpeg, 'JPEG', optimize=True)                                        # small for photos
        kind, best = min((('image/png', png), ('image/jpeg', jpeg)), key=lambda kf: kf[1].tell())
        data[kind] = base64.b64encode(best.getvalue()).decode() + '\n'

def run_inplace(path):
    "Execute a page in its own folder, clean it as nbdev does, and store it; a page that fails is left as it was."
    from execnb.nbio import nb2str
    from nbdev.clean import clean_nb
    print(path.as_posix(), flush=True)
    nb = nbformat.read(path, 4)
    nb.metadata.pop('widgets', None)
    status, why, _ = execute(nb, path.parent)
    if why: print(f'{path.as_posix()}: {why}\nIt is left as it was', file=sys.stderr)
    else:
        if len(nbformat.writes(nb)) > LIMIT: [smaller(c) for c in nb.cells]
        cleaned = json.loads(nbformat.writes(nb))
        clean_nb(cleaned)
        write_whole(path, nb2str(cleaned))
    return status

def suitable():
    "The final notebook for $S9LIB_DATA: photos, of mixed sizes or large, have their own unless a recipe is named."
    nbs, where = Path('nbs'), os.environ.get('S9LIB_DATA')
    if where in ('pets', 'crops'): return nbs/'21_photos.ipynb'
    if where in (None, '', 'shapes', 'cifar10', 'cifar100') or os.environ.get('S9LIB_RECIPE'):
        return nbs/'20_cifar10.ipynb'
    from s9lib.apps.cli import is_photos
    from s9lib.data.cifar import load_data
    try:
        with redirect_stdout(sys.stderr): photos = is_photos(load_data(where, on_error='skip')[0])
    except (ValueError, OSError): photos = False  # the notebook says it in its own way
    return nbs/('21_photos.ipynb' if photos else '20_cifar10.ipynb')

def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('notebook', nargs='*', type=Path, help='by default the final notebook that suits $S9LIB_DATA')
    ap.add_argument('--inplace', action='store_true', help='store the outputs in the notebook itself')
    args = ap.parse_args()
    wait_briefly()  # the threads of the kernel, which inherits it
    for p in args.notebook or [suitable()]:
        if not p.is_file(): sys.exit(f'{p} does not exist: name a notebook such as nbs/20_cifar10.ipynb')
        try: status = (run_inplace if args.inplace else run)(p)
        except KeyboardInterrupt: status = 130
        except OSError as e: sys.exit(f'{type(e).__name__}: {e}')
        if status: sys.exit(status)

if __name__ == '__main__': main()

"""The packages that `cam.py` and `cam_parity.py` compare with, each in an environment of its own, at a pinned version.

An environment lies in `<cache>/s9lib/peers/<name>-<version>`. It borrows torch and everything else from the
environment that runs this file through a `.pth` file, so that only the peer itself is downloaded. To make them all:
`python benchmarks/cam_peers.py`.
"""
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from s9lib.core import cache_dir

# What is installed, without dependencies: those not named here are borrowed.
PEERS = {'grad-cam': ['grad-cam==1.5.7', 'ttach==0.0.3', 'scikit-learn==1.7.2', 'joblib==1.5.2',
                      'threadpoolctl==3.6.0'],
         'torchcam': ['torchcam==0.5.0'], 'captum': ['captum==0.9.0']}
ENV = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1', 'NO_ALBUMENTATIONS_UPDATE': '1', 'PYTHONDONTWRITEBYTECODE': '1'}


def python_of(name):
    "The Python of the environment of peer `name`, which is made if it is not there; this Python for anything else."
    if name not in PEERS: return sys.executable
    where = cache_dir()/'peers'/PEERS[name][0].replace('==', '-')
    py = where/('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
    if (where/'ready').exists(): return str(py)
    shutil.rmtree(where, ignore_errors=True)
    print(f'making {where}', file=sys.stderr, flush=True)
    venv.create(where, with_pip=False)
    query = [str(py), '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))']
    site = Path(subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip())
    (site/'borrowed.pth').write_text(f"{sysconfig.get_path('purelib')}\n{Path(__file__).resolve().parents[1]}\n")
    pip = [sys.executable, '-m', 'pip', '--python', str(py)]
    subprocess.run([*pip, 'install', '-q', '--disable-pip-version-check', '--no-deps', *PEERS[name]],
                   check=True, stdout=sys.stderr)
    (where/'ready').touch()
    return str(py)


def start(name, script, *args, **kw):
    "Start `script` with `args` under the Python of `name`, with pipes for its input and output."
    return subprocess.Popen([python_of(name), str(script), *map(str, args)], env=os.environ | ENV, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, **kw)


if __name__ == '__main__':
    for name in PEERS: print(name, python_of(name))

"The machine of a measurement, for the tables."
import platform


def processor():
    "Name of the CPU, as the system tells it."
    try: return next(line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name'))
    except (OSError, StopIteration): return platform.processor() or platform.machine()


def suffix(out):
    "What follows the first underscore in the name of the file `out`, in brackets: it tells tables of machines apart."
    name = out.stem.partition('_')[2] if out else ''
    return f' ({name})' if name else ''

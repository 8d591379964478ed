"The machine of a measurement, for the tables."
import platform


def processor():
    "Name of the CPU, as the system tells it."
    try: return next(line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name'))
    except (OSError, StopIteration): return platform.processor() or platform.machine()

__version__ = "0.1.0"

from .threads import wait_briefly as _wait_briefly  # imports no torch, whose threads are to wait as it says

_wait_briefly()

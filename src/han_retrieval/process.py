"""Settings of the process that arithmetic on small machines gains from."""

from __future__ import annotations

import ctypes
import os
import sys


def tune_process() -> None:
    """Keep freed memory, let waiting threads spin for a moment, and numpy use one; before these are imported.

    Scoring and convolutions free and take large blocks at every step. By default glibc maps and unmaps each of them,
    and on a small machine the page faults of that can take half of the time; kept, the process stays as large as it
    once was. And operations are short: a thread that sleeps at the end of each takes longer to wake than to work (a
    training step of 1.6 s became 1.2 s). The threads of numpy's OpenBLAS would spin as well, and much longer: after
    a product of numpy's, what torch does takes twice as long for a tenth of a second (a search of 138 ms became 74 ms).
    Large products are torch's here. What the environment says already is left as it is.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "active")
    os.environ.setdefault("GOMP_SPINCOUNT", "200000")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another libc
        return
    top_pad, trim_threshold, mmap_max = -2, -1, -4  # malloc.h's numbers of the settings
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**26)

"""The privileged process, as a program: ``python -I -S -B helper.py``.

By its path, so that it finds its own package wherever that lies and nothing else. Python compiles a program anew each
time it is run, so this one only calls what serves the recorder.
"""

from __future__ import annotations

import gc
import os
import sys

if __package__ in (None, ""):
    gc.disable()  # nothing here makes cycles, and the collector runs several times while modules load
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from diffkeeper import helper_service

if __name__ == "__main__":
    os._exit(helper_service.main(sys.argv[1:]))  # the recorder waits for the end: leave freeing to the kernel

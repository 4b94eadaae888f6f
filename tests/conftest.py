"""One thread for torch: the tests share two cores, and spinning threads are slower than one."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

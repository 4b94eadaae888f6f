"""One thread for torch: the tests share two cores, and spinning threads are slower than one.

And a cache of their own: what they find out about models is not this user's. And Ctrl-C for the
commands that they run, though a shell starts what it puts in the background without."""

import atexit
import os
import shutil
import signal
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="earshot-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

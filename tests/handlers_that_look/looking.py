"""Writes down all that a program can see of the way in which it was started, and ends as it is told to."""

import gc
import json
import os
import signal
import sys
import time
from pathlib import Path

seen = {
    "argv": sys.argv,
    "path": sys.path,
    "cwd": os.getcwd(),
    "environment": dict(os.environ),
    "zone": time.tzname,
    "leads a session": os.getsid(0) == os.getpid(),
    "files": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
    "more files": [
        name for name in os.listdir("/proc/self/fd") if int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}")
    ],
    "signals": {number: str(signal.getsignal(number)).partition(" object at ")[0] for number in signal.valid_signals()},
    "masked": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "streams": [
        (stream.encoding, stream.errors, stream.line_buffering, stream.write_through, stream.fileno())
        for stream in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "flags": str(sys.flags),
    "collects": gc.isenabled(),
    "main": sys.modules["__main__"].__name__,
}
Path(os.environ["SEEN"]).write_text(json.dumps(seen))
end = os.environ["END"]
if end.isdigit():
    sys.stdout.write("flushed at the end")
    sys.exit(int(end))
os.kill(os.getpid(), getattr(signal, end))
time.sleep(60)

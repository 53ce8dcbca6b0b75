"""Runs a program whose standard error is a terminal, and copies what it says there to a file.
Usage: python terminal.py FILE PROGRAM ARGUMENT...

The program dies with us, however we end: the test knows our process only.
"""

import ctypes
import os
import pty
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


terminal, end = pty.openpty()
program = subprocess.Popen(sys.argv[2:], stderr=end, preexec_fn=die_with_parent)
os.close(end)
signal.signal(signal.SIGTERM, lambda number, _: program.send_signal(number))
with open(sys.argv[1], "ab", buffering=0) as copy:
    while True:
        try:
            said = os.read(terminal, 1 << 16)
        except OSError:  # EIO: nobody has the other end any more.
            break
        if not said:
            break
        copy.write(said)
sys.exit(program.wait())

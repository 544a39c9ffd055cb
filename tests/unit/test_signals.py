"""Signals, in a process of their own."""

import signal
import subprocess
import sys
import threading

from processes import ROOT

from jaxrnn.training.signals import catch_signals

SIGNALS = """
import os, signal
from jaxrnn.training.signals import catch_signals
signal.signal(signal.SIGINT, signal.SIG_IGN)
with catch_signals() as interrupted:
    os.kill(os.getpid(), signal.SIGINT)
    print(interrupted())
    os.kill(os.getpid(), signal.SIGTERM)
    print(interrupted(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here", flush=True)
"""


def test_an_ignored_signal_stays_ignored_and_a_second_one_ends_the_process():
    done = subprocess.run([sys.executable, "-c", SIGNALS], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "False\nTrue\n")
    assert "Traceback" not in done.stderr


def test_a_thread_gets_no_signals_and_handlers_come_back():
    before, found = signal.getsignal(signal.SIGTERM), []

    def catch():
        with catch_signals() as interrupted:
            found.append((interrupted(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=catch)
    thread.start()
    thread.join()
    assert found == [(False, before)]
    with catch_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before

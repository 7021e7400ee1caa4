"""Ctrl-C and SIGTERM as requests: what is under way is finished and saved first. A second one is obeyed at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""Ctrl-C, and what a cluster sends some time before it kills; each with its handler where nobody has set another."""


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Inside, these signals are only noted; the value yielded says whether one came.

    Without this, an interrupt could fall between a program that used up its argument and the name of its result.
    Where Python's own handlers are not in charge (another thread, a program with handlers of its own), nothing changes.
    """
    ours = threading.current_thread() is threading.main_thread()
    caught = [number for number, usual in USUAL.items() if ours and signal.getsignal(number) is usual]
    asked = threading.Event()

    def note(number, frame):
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    for number in caught:
        signal.signal(number, note)
    try:
        yield asked.is_set
    finally:
        for number in caught:
            signal.signal(number, USUAL[number])

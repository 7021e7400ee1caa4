"""Ctrl-C as a request: what is under way is finished and saved first. A second Ctrl-C is obeyed at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Inside, SIGINT is only noted; the value yielded says whether it came.

    Without this, an interrupt could fall between a program that used up its argument and the name of its result.
    Where Python's own handler is not in charge (another thread, a program with a handler of its own), nothing changes.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    asked = threading.Event()

    def note(number, frame):
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

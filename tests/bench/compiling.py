"""Run by `compile_time` in a process of its own: seconds to make the program of a laptop run, 4 seeds, all records."""

from __future__ import annotations

import json
import time

import attnlab as al
from attnlab.training.devices import place
from attnlab.training.session import Session
from tests.bench.laptop import config


def main() -> None:
    task = config(1).task
    record = {
        "params": al.log_spaced(40),
        "sinks": al.log_spaced(100, al.analysis.sinks(task, batch_size=64)),
        "maps": al.log_spaced(40, al.analysis.attention_maps(task, sequences=2)),
    }
    settings = config(2000, 4, chunk_steps=100, record=record)
    session = Session(settings, place(4, settings.model))
    session.compile()
    began = time.perf_counter()
    session.start()
    initial = time.perf_counter() - began
    compiled = session.compile_seconds - session.lower_seconds
    print(json.dumps({"lower": session.lower_seconds, "compile": compiled, "initial values": initial}))


if __name__ == "__main__":
    main()

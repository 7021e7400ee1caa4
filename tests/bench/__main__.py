"""`make bench`: side-by-side ratios on this machine, one JSON line per measure on stdout, a table on stderr.

    python -m tests.bench [--only TEXT] [--quick] [--list]

Variants that are compared run in one process, in turn, several rounds; a ratio is that of the fastest rounds, since
what disturbs a round only ever makes it slower (`noise` in the details: median over fastest). Run it on an otherwise
idle machine: with other work beside it the numbers say nothing. Never collected by pytest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from attnlab.cpu import use_all_cores


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="only measures whose name contains TEXT")
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs, not how fast things are")
    parser.add_argument("--list", action="store_true", help="names of the measures, and what they are")
    options = parser.parse_args()
    use_all_cores()  # as the command line does, before jax is imported
    from tests.bench import (
        blockwise,
        catalogue,
        chip_kernels,
        disk,
        editing,
        fused,
        headline,
        local_linear,
        processes,
        recall,
        records,
        regression,
        remat,
        seeds,
        startup,
        step,
    )
    from tests.bench.result import describe_machine

    groups = (headline, startup, step, seeds, regression, catalogue, fused, local_linear, blockwise, chip_kernels)
    groups += (recall, editing, records, disk, remat, processes)
    measures = {name: measure for group in groups for name, measure in group.MEASURES.items()}
    if options.list:
        for name, measure in measures.items():
            print(f"{name:16s} {(measure.__doc__ or '').split(chr(10))[0]}")
        return 0
    chosen = {name: measure for name, measure in measures.items() if options.only in name}
    if not chosen:
        parser.error(f"--only {options.only!r} is in none of the names: {', '.join(measures)}")
    machine = describe_machine()
    for name, measure in chosen.items():
        began = time.perf_counter()
        for result in measure(options.quick):
            print(json.dumps({**result.to_json(), **machine}), flush=True)
            print(result, file=sys.stderr, flush=True)
        print(f"  ({name}: {time.perf_counter() - began:.0f} s)", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

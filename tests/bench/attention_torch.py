"""The other side of `attention_over_torch`, run by an interpreter that has PyTorch: `attention_torch.py THREADS`.

Fused attention (`scaled_dot_product_attention`), causal, forward and backward. Requests and answers as in
`attention_here`.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch  # pyright: ignore[reportMissingImports]


def main(threads: int) -> None:
    torch.set_num_threads(threads)
    held = {}
    for line in sys.stdin:
        *shape, runs = map(int, line.split())
        key = tuple(shape)
        if key not in held:
            rng = np.random.default_rng(0)
            drawn = [rng.normal(size=key).astype(np.float32) for _ in range(3)]
            held[key] = [torch.from_numpy(x).requires_grad_() for x in drawn]
        arrays, seconds, processor = held[key], [], []
        for _ in range(runs):
            for x in arrays:
                x.grad = None
            began, busy = time.perf_counter(), time.process_time()
            out = torch.nn.functional.scaled_dot_product_attention(*arrays, is_causal=True)
            (out * out).sum().backward()
            seconds.append(time.perf_counter() - began)
            processor.append(time.process_time() - busy)
        squares = sum(float((x.grad.double() ** 2).sum()) for x in arrays)
        print(
            json.dumps({"seconds": seconds, "processor": processor, "squares": squares, "torch": torch.__version__}),
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]))

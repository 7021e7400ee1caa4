"""What every test shares: types checked at run time, two virtual CPU devices, compiled programs kept between runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Read by JAX when it is imported, also in the processes that tests start. The time of these tests is compile time.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import hypothesis
import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

# Every shape and dtype that an annotation of ours claims is checked whenever a function is called in a test.
install_import_hook(["attnlab", "theory", "toy_tasks"], "array_types.check")

# Test workers (pytest-xdist) ignore Ctrl-C, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two devices, so that sharded code runs sharded; to be set before anything asks for a device.
jax.config.update("jax_num_cpu_devices", 2)

# No deadline: the first example of a shape compiles. The same examples in every run: a failure can be run again.
hypothesis.settings.register_profile("attnlab", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("attnlab")


@pytest.fixture
def x64() -> Iterator[None]:
    """JAX arrays are float64 and int64 inside the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key() -> jax.Array:
    """A fixed random key."""
    return jax.random.key(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """A fixed NumPy generator."""
    return np.random.default_rng(0)

"""The runs that several test files read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import pytest
from training_cases import train

import attnlab as al


@pytest.fixture(scope="session")
def usual(tmp_path_factory) -> al.Run:
    """AdamW, 3 seeds in turn, one device."""
    return train(tmp_path_factory.mktemp("usual") / "run")


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> al.Run:
    """Gradient descent, whose state is the parameters alone. One rate per seed."""
    return train(tmp_path_factory.mktemp("plain") / "run", al.sgd([0.1, 0.2, 0.3]))


@pytest.fixture(scope="session")
def sharded(tmp_path_factory) -> al.Run:
    """The usual run on two devices: its 3 seeds are padded to 4."""
    return train(tmp_path_factory.mktemp("sharded") / "run", devices=jax.devices())


@pytest.fixture
def compilations():
    """`with compilations() as names:` collects the name of every program that XLA compiles or loads from its cache."""

    @contextmanager
    def collect() -> Iterator[list[str]]:
        names: list[str] = []

        def listen(event: str, seconds: float, **about) -> None:
            if event == "/jax/core/compile/backend_compile_duration":
                names.append(str(about.get("fun_name")))

        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            yield names
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)

    return collect

"""Tasks and mechanisms by the names that a command line uses; the names come from the objects."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import toy_tasks as tt
from attnlab.attention import MECHANISMS, Mechanism
from attnlab.config import ConfigError, build, require

TASKS: tuple[Callable[..., Any], ...] = (
    tt.BigramBackcopy.tiny_shakespeare,
    tt.MQAR,
    tt.PairedRecall,
    tt.Parity,
    tt.GraphWalk,
    tt.Denoising,
    tt.Passkey,
    tt.Induction,
)
"""What makes a task with its defaults: a class, or a method that returns one."""


def name_of(make: Callable[..., Any]) -> str:
    """`PairedRecall` -> `paired-recall`."""
    owner = getattr(make, "__self__", make)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", owner.__name__).lower()


def task_called(name: str, settings: Sequence[str] = ()) -> Any:
    """The task of that name; `settings` are `field=value` with values in JSON (`num_pairs=8`, `bos=false`)."""
    make, given = _one_of("--task", name, {name_of(t): t for t in TASKS}), pairs("--set", settings)
    if isinstance(make, type):
        return build(make, given)
    fixed = [n for n, p in inspect.signature(make).parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    known = dict.fromkeys([*fixed, *(f.name for f in dataclasses.fields(make.__self__) if f.init)])  # type: ignore[attr-defined]
    for field in given:
        require(field in known, f"--set of {name}", field, ", ".join(known))
    return make(**given)


def mechanisms_called(names: Sequence[str]) -> list[Mechanism]:
    """The mechanisms of those names."""
    known = {m.name: m for m in MECHANISMS}
    return [_one_of("--mechanisms", name, known) for name in names]


def pairs(flag: str, settings: Sequence[str]) -> dict[str, Any]:
    """`field=value` texts as a dict; a value that is not JSON is a string."""
    found = {}
    for text in settings:
        field, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{flag}: got {text!r}; allowed is field=value, e.g. num_pairs=8.")
        try:
            found[field] = json.loads(value)
        except json.JSONDecodeError:
            found[field] = value
    return {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}


def _one_of(flag: str, name: str, known: dict[str, Any]) -> Any:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"{flag}: got {name!r}; allowed is {', '.join(sorted(known))}.{hint}")

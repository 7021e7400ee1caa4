"""What `GridQA` must satisfy. A complaint names the field, its value and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toy_tasks import answers
from toy_tasks.regression_checks import require

if TYPE_CHECKING:
    from toy_tasks.grid_qa import GridQA


def check(task: GridQA) -> None:
    """Raises ValueError for a task that makes no sense; makes tuples of lists."""
    for name, least in (("num_patches", 1), ("num_shapes", 1), ("num_colours", 2), ("salient", 0)):
        answers.whole(f"GridQA.{name}", getattr(task, name), least)
    for name in ("objects", "canonicals"):
        given = getattr(task, name)
        object.__setattr__(task, name, tuple(given) if isinstance(given, list) else given)
    _check_objects(task)
    require(isinstance(task.two_tokens, bool), "GridQA.two_tokens", repr(task.two_tokens), "True | False")
    inside = number(task.prior) and 0 < task.prior < 1
    require(inside, "GridQA.prior", repr(task.prior), "a number strictly between 0 and 1")
    require(number(task.noise) and task.noise > 0, "GridQA.noise", repr(task.noise), "a finite number > 0")
    for name in ("blank", "general"):
        share = getattr(task, name)
        require(number(share) and 0 <= share <= 1, f"GridQA.{name}", repr(share), "a share from 0 to 1")
    seen = number(task.salience) and task.salience != 0
    require(seen, "GridQA.salience", repr(task.salience), "a finite number other than 0; for none say salient=0")
    if task.canonicals is not None:
        given = task.canonicals if isinstance(task.canonicals, tuple) else ()
        right = len(given) == task.num_shapes and all(whole(c) and 0 <= c < task.num_colours for c in given)
        allowed = f"a colour from 0 to {task.num_colours - 1} for each of the {task.num_shapes} shapes, or None"
        require(right, "GridQA.canonicals", repr(task.canonicals), allowed)


def _check_objects(task: GridQA) -> None:
    given = task.objects if isinstance(task.objects, tuple) and len(task.objects) == 2 else (0, 0)
    right = all(whole(n) for n in given) and 1 <= given[0] <= given[1]
    require(right, "GridQA.objects", repr(task.objects), "two integers 1 <= smallest <= largest")
    largest = given[1]
    answers.at_most("GridQA.objects", largest, task.num_shapes, "num_shapes: the shapes of a picture are distinct")
    note = "num_patches - salient: every object has a patch of its own, and so has every salient background patch"
    answers.at_most("GridQA.objects", largest, task.num_patches - task.salient, note)


def number(value: Any) -> bool:
    """Whether it is a finite real number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def whole(value: Any) -> bool:
    """Whether it is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)

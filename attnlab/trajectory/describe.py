"""A trajectory in a few lines, for the prompt and for notebooks."""

import html
from typing import TYPE_CHECKING

from attnlab.trajectory.layout import Header

if TYPE_CHECKING:
    from attnlab.trajectory.reader import Trajectory

SHOWN = 3  # leaves named per record


def as_text(trajectory: "Trajectory", header: Header | None) -> str:
    """A line on the run, and one per record."""
    lines = [f"  {record}: {what}" for record, what in _records(trajectory, header)]
    return "\n".join([_title(trajectory, header), *lines])


def as_html(trajectory: "Trajectory", header: Header | None) -> str:
    """The same as a table."""
    cells = [(html.escape(record), html.escape(what)) for record, what in _records(trajectory, header)]
    rows = "".join(f"<tr><td><b>{record}</b></td><td>{what}</td></tr>" for record, what in cells)
    return f"<div>{html.escape(_title(trajectory, header))}</div><table>{rows}</table>"


def _title(trajectory: "Trajectory", header: Header | None) -> str:
    if header is None:
        return f"Trajectory {trajectory.path} (no records yet)"
    done, plan = len(trajectory.journal), header.plan
    end = "finished" if trajectory.finished else "unfinished"
    return (
        f"Trajectory {trajectory.path} ({end}, {done} of {len(plan.ends)} chunks, "
        f"step {trajectory.last_step} of {plan.ends[-1]}, {len(header.seeds)} seeds)"
    )


def _records(trajectory: "Trajectory", header: Header | None) -> list[tuple[str, str]]:
    lines = []
    for record, named in header.schema.items() if header else ():
        steps = trajectory.steps(record)
        span = f"steps {steps[0]} to {steps[-1]}" if len(steps) else "none yet"
        leaves = [f"{name} {leaf.dtype}[{', '.join(map(str, leaf.shape))}]" for name, leaf in named.items()]
        more = f", ... ({len(leaves)} leaves)" if len(leaves) > SHOWN else ""
        lines.append((record, f"{len(steps)} snapshots, {span}: {', '.join(leaves[:SHOWN])}{more}"))
    return lines

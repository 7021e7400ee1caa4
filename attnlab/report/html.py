"""One self-contained HTML file per run or study: it opens offline, loads nothing and names no address."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlab.report.claims import Verdict, count_statuses
from attnlab.report.markup import render_markup
from attnlab.report.scrubber import Scrubber, viewer_source
from attnlab.report.tables import STATUS_SIGNS, format_interval, format_number, format_range, format_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Nothing may be loaded: only inline code and inlined images run, even if a later edit adds an address by mistake.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_PNG = b"\x89PNG\r\n\x1a\n"


def write_report(
    path: str | Path,
    *,
    title: str,
    summary: str = "",
    verdicts: Sequence[Verdict] = (),
    tables: Mapping[str, Sequence[Sequence[str]]] | None = None,
    figures: Mapping[str, Figure | str | Path] | None = None,
    scrubbers: Mapping[str, Scrubber] | Sequence[Scrubber] = (),
    config: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
    notes: str = "",
    commands: Sequence[str] = (),
    max_scrubber_bytes: int = 4_000_000,
) -> Path:
    """Write one HTML file with everything inside; the same input gives the same bytes.

    Args:
      path: where to write; an older report there is replaced in one move. Folders are made.
      title: what was run.
      summary: one to three sentences above the table (plain text or the markup of `notes`).
      verdicts: rows of the table, in this order.
      tables: heading -> rows of text, the first of them the header.
      figures: caption -> matplotlib figure or path of a PNG.
      scrubbers: heading -> Scrubber, or a sequence of them.
      config: what was run, shown as JSON.
      versions: name -> version.
      notes: light markup: `#` headings, `-` lists, blank lines, `**bold**`, back-ticks, fenced code. HTML is escaped.
      commands: shell commands that make this report again.
      max_scrubber_bytes: steps of a scrubber are thinned out until its data fits; a label in the page says so.

    Returns:
      The path written.
    """
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"path is the folder {str(target)!r}; allowed: a file name. Write {target / 'report.html'}.")
    if not title.strip():
        raise ValueError("title is empty; allowed: text. Say what was run.")
    views = dict(scrubbers) if isinstance(scrubbers, Mapping) else {f"View {i + 1}": s for i, s in enumerate(scrubbers)}
    sections: list[tuple[str, str, str]] = []
    if verdicts:
        sections.append(("claims", "Claims and verdicts", _verdict_section(verdicts)))
    for number, (heading, rows) in enumerate((tables or {}).items()):
        sections.append((f"table-{number}", heading, _table(rows)))
    if views:
        parts = [_scrubber(i, name, s.capped(max_scrubber_bytes)) for i, (name, s) in enumerate(views.items())]
        sections.append(("training", "Scrub through training", "\n".join(parts)))
    if figures:
        parts = [_figure(caption, figure) for caption, figure in figures.items()]
        sections.append(("figures", "Figures", "\n".join(parts)))
    if notes.strip():
        sections.append(("notes", "Notes", render_markup(notes)))
    if commands:
        lines = escape("\n".join(commands))
        sections.append(("again", "Make this report again", f"<pre><code>{lines}</code></pre>"))
    if config or versions:
        sections.append(("setup", "Configuration and versions", _setup(config or {}, versions or {})))
    page = _page(title, summary, verdicts, sections, with_viewer=bool(views))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(page, encoding="utf-8", newline="\n")
    partial.replace(target)
    return target


def write_figures(folder: str | Path, figures: Mapping[str, Figure]) -> dict[str, Path]:
    """Write each figure as PNG into a folder.

    Args:
      folder: made if it does not exist.
      figures: name -> figure; the file name is the name in lower case with `-` for everything but letters and digits.

    Returns:
      name -> path written.
    """
    from attnlab.report.style import save_png

    names = {name: re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-") for name in figures}
    for name, stem in names.items():
        if not stem or list(names.values()).count(stem) > 1:
            raise ValueError(
                f"figure name {name!r} gives the file name {stem + '.png'!r}, which is empty or not unique; "
                "allowed: names that differ in ASCII letters or digits within 60 characters. Rename it."
            )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        save_png(figure, target / f"{names[name]}.png")
    return {name: target / f"{stem}.png" for name, stem in names.items()}


def _page(
    title: str, summary: str, verdicts: Sequence[Verdict], sections: Sequence[tuple[str, str, str]], with_viewer: bool
) -> str:
    links = " ".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in sections)
    body = "\n".join(
        f'<section id="{key}">\n<h2>{escape(name)}</h2>\n{text}\n</section>' for key, name, text in sections
    )
    style = viewer_source("report.css") + (viewer_source("scrubber.css") if with_viewer else "")
    script = f'<script type="module">\n{viewer_source("scrubber.js")}\nmountPage();\n</script>' if with_viewer else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{render_markup(summary)}
{_tally(verdicts)}
<nav>{links}</nav>
</header>
<main>
{body}
</main>
<footer>Written by attnlab. This file holds everything it shows and loads nothing.</footer>
{script}
</body>
</html>
"""


def _tally(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    counts = count_statuses(verdicts)
    parts = [_status(status, f"{count} {status}") for status, count in counts.items() if count]
    return f'<p class="tally">{" ".join(parts)}</p>'


def _status(status: str, text: str) -> str:
    return f'<span class="status {status.replace(" ", "-")}">{STATUS_SIGNS[status]} {escape(text)}</span>'


def _verdict_section(verdicts: Sequence[Verdict]) -> str:
    heads = (("claim", ""), ("verdict", ""), ("what is claimed", ""), ("measured", "number"), ("range", "number"),
             ("predicted", "number"), ("allowed", "number"), ("seeds in", "number"))  # fmt: skip
    head = "".join(f'<th class="{css}">{name}</th>' for name, css in heads)
    rows = "\n".join(_verdict_row(verdict) for verdict in verdicts)
    return (
        "<p>Measured is the median over seeds; it decides. The range is the smallest and the largest seed. "
        "Open a row for the source, the tolerance and its reason, and every seed.</p>\n"
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
    )


def _verdict_row(verdict: Verdict) -> str:
    claim = verdict.claim
    facts = {
        "source": f"{claim.source} [{claim.trust}]",
        "expected": claim.expected,
        "tolerance": claim.tolerance_reason,
        "per seed": ", ".join(map(format_number, verdict.per_seed)) or "none",
        "asserted on": ", ".join(claim.presets) or "no preset",
        "note": verdict.note,
        "time": f"{format_number(verdict.seconds, 3)} s" if verdict.seconds is not None else "",
    }
    details = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text)
    return (
        f'<tr id="claim-{escape(claim.id, quote=True)}"><td class="id">{escape(claim.id)}</td>'
        f"<td>{_status(verdict.status, verdict.status)}</td>"
        f'<td class="statement">{escape(claim.statement)}<div class="quantity">{escape(claim.quantity)}</div>'
        f"<details><summary>source, tolerance, seeds</summary><dl>{details}</dl></details></td>"
        + "".join(
            f'<td class="number">{escape(text)}</td>'
            for text in (
                format_number(verdict.measured),
                format_range(verdict),
                format_number(verdict.predicted),
                format_interval(verdict.allowed),
                format_seeds(verdict),
            )
        )
        + "</tr>"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of numbers, which may have a sign or a range behind them, stand to the right."""
    header, *body = rows
    css = ["number" if all(re.match(r"[-–0-9]", row[n]) for row in body) else "" for n in range(len(header))]
    head = "".join(f'<th class="{kind}">{escape(text)}</th>' for kind, text in zip(css, header, strict=True))
    lines = [
        "<tr>" + "".join(f'<td class="{kind}">{escape(t)}</td>' for kind, t in zip(css, row, strict=True)) + "</tr>"
        for row in body
    ]
    table = f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>"
    return f'<div class="wide"><table>\n{table}</table></div>'


def _figure(caption: str, figure: Figure | str | Path) -> str:
    if isinstance(figure, str | Path):
        data = Path(figure).read_bytes()
        if not data.startswith(_PNG):
            raise ValueError(
                f"figures[{caption!r}] is {str(figure)!r}, not a PNG; allowed: a figure or a PNG file. Save as PNG."
            )
    else:
        from attnlab.report.style import save_png

        buffer = io.BytesIO()
        save_png(figure, buffer)
        data = buffer.getvalue()
    text = base64.b64encode(data).decode("ascii")
    width = int.from_bytes(data[16:20], "big")
    return (
        f'<figure><img src="data:image/png;base64,{text}" width="{width}" alt="{escape(caption, quote=True)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _scrubber(index: int, name: str, scrubber: Scrubber) -> str:
    # In a script element only "<" can end the element; \u003c is the same letter in JSON.
    data = scrubber.to_json().replace("<", "\\u003c")
    return (
        f'<h3>{escape(name)}</h3>\n<div class="viewer"><div data-scrubber="scrubber-{index}">'
        "The view needs JavaScript.</div></div>\n"
        f'<script type="application/json" id="scrubber-{index}">{data}</script>'
    )


def _setup(config: Mapping[str, Any], versions: Mapping[str, Any]) -> str:
    parts = []
    if config:
        text = json.dumps(config, indent=2, ensure_ascii=False, default=str)
        parts.append(f"<details><summary>configuration</summary><pre><code>{escape(text)}</code></pre></details>")
    if versions:
        rows = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in versions.items())
        parts.append(f"<details><summary>versions</summary><dl>{rows}</dl></details>")
    return "\n".join(parts)

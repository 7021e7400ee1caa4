"""A small part of Markdown to HTML: headings, lists, fenced code, paragraphs, bold, code; the rest is escaped text."""

from __future__ import annotations

import re
from html import escape


def render_markup(text: str) -> str:
    """HTML for light markup; no tag in the input survives.

    Blocks: `# heading` (one to three marks), `- item`, fenced code, paragraphs parted by blank lines.
    Inside a line: `**bold**` and back-ticks.

    Example:
      >>> render_markup("a **b** <c>")
      '<p>a <strong>b</strong> &lt;c&gt;</p>'
    """
    blocks: list[str] = []
    lines: list[str] = []
    items: list[str] = []
    code: list[str] | None = None

    def flush() -> None:
        if lines:
            blocks.append(f"<p>{_inline(' '.join(lines))}</p>")
        if items:
            blocks.append("<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>")
        lines.clear()
        items.clear()

    for line in text.splitlines():
        stripped = line.strip()
        if code is not None:
            if stripped.startswith("```"):
                blocks.append(_code_block(code))
                code = None
            else:
                code.append(line)
        elif stripped.startswith("```"):
            flush()
            code = []
        elif match := re.match(r"#{1,3} +(.+)", stripped):
            flush()
            blocks.append(f"<h3>{_inline(match.group(1))}</h3>")
        elif stripped.startswith("- "):
            if lines:
                flush()
            items.append(stripped[2:])
        elif not stripped:
            flush()
        elif items:
            items[-1] += " " + stripped
        else:
            lines.append(stripped)
    flush()
    if code is not None:
        blocks.append(_code_block(code))
    return "\n".join(blocks)


def _code_block(lines: list[str]) -> str:
    return "<pre><code>" + escape("\n".join(lines)) + "</code></pre>"


def _inline(text: str) -> str:
    # Code is cut out first, so that stars inside it stay stars.
    parts = re.split(r"`([^`]+)`", text)
    for index, part in enumerate(parts):
        safe = escape(part)
        parts[index] = f"<code>{safe}</code>" if index % 2 else re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
    return "".join(parts)

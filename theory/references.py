"""The papers this package makes predictions from, and their BibTeX."""

from __future__ import annotations

from theory.base import Reference

ACTIVE_DORMANT = Reference(
    key="guo2024active",
    authors=("Tianyu Guo", "Druv Pai", "Yu Bai", "Jiantao Jiao", "Michael I. Jordan", "Song Mei"),
    title="Active-Dormant Attention Heads: Mechanistically Demystifying Extreme-Token Phenomena in LLMs",
    arxiv="2410.13835",
    year=2024,
)
SINK_EMERGES = Reference(
    key="gu2024when",
    authors=(
        "Xiangming Gu",
        "Tianyu Pang",
        "Chao Du",
        "Qian Liu",
        "Fengzhuo Zhang",
        "Cunxiao Du",
        "Ye Wang",
        "Min Lin",
    ),
    title="When Attention Sink Emerges in Language Models: An Empirical View",
    arxiv="2410.10781",
    year=2024,
)
SINKS_NECESSARY = Reference(
    key="ranmilo2026attention",
    authors=("Yuval Ran-Milo",),
    title="Attention Sinks Are Provably Necessary in Softmax Transformers: Evidence from Trigger-Conditional Tasks",
    arxiv="2603.11487",
    year=2026,
)

REFERENCES: tuple[Reference, ...] = (ACTIVE_DORMANT, SINK_EMERGES, SINKS_NECESSARY)


def bibtex(reference: Reference) -> str:
    """The BibTeX entry of a reference; its section, if any, goes to the `note` field.

    Example:
      >>> print(bibtex(SINKS_NECESSARY).splitlines()[0])
      @misc{ranmilo2026attention,
    """
    fields = {
        "author": " and ".join(reference.authors),
        "title": "{" + reference.title + "}",
        "year": str(reference.year),
    }
    if reference.arxiv:
        fields |= {"eprint": reference.arxiv, "archivePrefix": "arXiv"}
    if reference.section:
        fields["note"] = reference.section
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{{reference.key},\n{body}\n}}"

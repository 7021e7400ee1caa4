"""Active-Dormant Attention Heads (2410.13835), with the sink metric of 2410.10781. Loads no jax by itself."""

from attnlab.studies.active_dormant.claims import INTERVENTIONS, METRIC, REDUCED, RELU, SOFTMAX, TASK, THEOREMS
from attnlab.studies.active_dormant.claims_at_scale import PAPER_SIZE, SMOKE, VARIANTS
from attnlab.studies.base import Preset, Study


def _open_lab(*arguments):
    from attnlab.studies.active_dormant.lab import Lab

    return Lab(*arguments)


def _figures(lab):
    from attnlab.studies.active_dormant.figures import figures

    return figures(lab)


def _scrubbers(lab):
    from attnlab.studies.active_dormant.figures import scrubbers

    return scrubbers(lab)


NOTES = """
# What is compared with what
- **Excess bigram risk** counts positions from 1 on. The authors' own definition includes position 0, where its
  oracle gives triggers 30 % although none ever follows `<s>`; it is recorded as `bigram_code`.
- **Raw sink mass, proxy mass and value ratio** belong together: unnormalised sigmoid attention has hardly any raw mass
  on `<s>`, yet the proxy, which renormalises nearly empty rows, calls it a perfect sink.
- **The half logarithm is a gradient-flow law.** AdamW's sink logits grow several times faster; the theorem is checked
  on solved flows, and the trained curves are shown beside it, not judged by it.
- **A4 is not asserted for every kernel.** The next term of the expansion depends on the kernel; the instances used have
  it below the tolerance at t = 1e10 (a kernel with a weakly driven token is late, as that term predicts).
- Unsmoothed Shakespeare has absorbing cycles (`3` is always followed by a space, and space is a trigger): averages are
  over finite sequences from position 0, not over a stationary law.
- **ReLU and position 0.** The paper averages attention on `<s>` over non-trigger queries including `<s>` itself. Under
  softmax that weight is 1; under ReLU it is unbounded, and no other query's business. Over the four seeds of
  `attnlab reproduce active-dormant` it ended at 16.6, 9.0, 0 and 0, which lifts the average to .34, .19, .06 and .0001,
  while the queries after it give 0, 0, .06 and .0001. A17 therefore judges positions from 1 on, and the published
  average is reported beside it. One seed of four keeps a small ReLU sink at 2,000 steps, and one softmax seed of four
  has a weak one (.33): single seeds conclude nothing.
- **The reduced model has two ends.** All dormant queries share one weight on `<s>`, so a value there is a bias that
  the MLP can take over or leave. Two laptop seeds of four drain it; two keep the log frequencies of the characters in
  it, which costs nothing. F10.drain is therefore reported, not asserted.
- **Sigmoid attention can sink too.** Over the four seeds of `attnlab reproduce active-dormant --preset evening` the raw
  attention on `<s>` is .21 in the median (.02 to .43) and the value ratio .50 (.45 to .85), where the specification's
  single seed gave .046 and .83. A20.sink.sigmoid and A20.value.sigmoid are reported, not asserted.
- At laptop size no claim about residual peaks is made: they need the paper's size and 10,000 steps.
"""

STUDY = Study(
    name="active-dormant",
    title="Active-Dormant Attention Heads",
    reference="Guo, Pai, Bai, Jiao, Jordan, Mei: Active-Dormant Attention Heads, arXiv 2410.13835 (2024). "
    "Gu et al.: When Attention Sink Emerges in Language Models, arXiv 2410.10781 (2024).",
    presets=(
        Preset("smoke", "theory in full, tiny models for 60 steps", None, 2),
        Preset("laptop", "width 64, length 64, 2,000 steps: softmax, ReLU, reduced model; 2 CPU cores", 4.3, 4),
        Preset("evening", "eight runs: attention variants with and without <s>, 2,000 steps; 2 CPU cores", 24, 4),
        Preset("paper", "width 256, length 256, batch 512, 10,000 steps, 1 and 3 layers; an accelerator", None, 3),
    ),
    checks=(*TASK, *THEOREMS, *METRIC, *SMOKE, *SOFTMAX, *RELU, *REDUCED, *INTERVENTIONS, *VARIANTS, *PAPER_SIZE),
    open_lab=_open_lab,
    figures=_figures,
    scrubbers=_scrubbers,
    notes=NOTES,
)

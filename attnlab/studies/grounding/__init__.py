"""Fixes of hallucination against the exact frontier of a task with a picture, a question and a prior. Loads no jax."""

from __future__ import annotations

from attnlab.studies.base import Preset
from attnlab.studies.grounding.claims import LOGITS, OPTIMUM, REINFORCED, by, claim
from attnlab.studies.grounding.claims_maps import GUIDED, LOOKING, PLANTED
from attnlab.studies.measured import study

SMOKE = (
    claim(
        "smoke.loss", "Training works.", "training loss, first records less last", by("loss_drop"), (0.02, None),
        "any learning at all", source="this project", presets=("smoke",),
    ),
    claim(
        "smoke.finite", "Lines are measured.", "share of finite numbers", by("finite"), (1, 1), "all of them",
        source="this project", presets=("smoke",),
    ),
    claim(
        "smoke.rule", "The best rule is as good as it should be.", "accuracy less the exact one", by("rule_error"),
        (-0.08, 0.08), "512 pictures: four standard errors of .02", source="derived", trust="checked",
        presets=("smoke",),
    ),
)  # fmt: skip

NOTES = """
# How it is measured
- Two layers of four heads answer specific questions about pictures. What is chosen (heads, strengths) is chosen on
  1,024 pictures, what is reported is measured on 4,096 others (where the model looks and what is planted: on 2,048),
  the same for every method, dose and seed. `rule` is the exact rule argmax [w log prior + evidence] on those pictures.
- **Which heads, which rows.** VHR: upper half of each layer by divergence, all rows, no outliers dropped (`vhr.last`:
  the answering row). Boosts, PAINT, GIFT, VAR: all heads of both layers, answering row. ZeroTuning, ACT: all heads of
  both layers, all rows; on a planted sink ACT edits the answering row. SoftPAG: A' = (1 - u) A + u I written on the
  output, all rows. Ablation of heads: by the mean over pictures and rows, all rows.
- INTER: a missing picture is a blank one, a missing question the general one (both were trained); `inter.silent`
  takes a vector of zeros. The paper's own masking is not known to us.
- Of a search over single heads and doses the gain on other pictures is reported, beside the 95 % point of what the best
  of as many would gain by chance (signs of the differences flipped).

# What is shown (seeds 0 to 4, `attnlab reproduce grounding`; medians, and the range where it matters)
- **The model is on the optimum**: accuracy .004 below the best rule on the same pictures, hallucination .428, .014
  above it. No dose of nine methods is more than .003 above the frontier.
- **VHR walks along it**: at .5, 1, 2, 4 hallucination is .656, .428, .307, .238 and accuracy .680, .711, .706, .695.
  The lower half of heads does nothing (.427 to .431). At 2 it lowers hallucination by .092 to .136 (median .121):
  `vhr.band` asks for at most .12, from three seeds before, and is reported.
- **One head answers.** It is the first in divergence, in the effect of ablation (-.09 to -.10 of accuracy; the other
  seven: less than .005) and in the search of SoftPAG, on all five seeds. Seven effects of nothing have no ranks: over
  all heads Spearman's correlation is .39 to .78 (median .45, `vhr.rank` is reported), for the mass on the picture
  -.06 to .79.
- **Guidance and contrast** move along it at first, and leave it for large doses: SoftPAG on the one head at u = 1 has
  hallucination .278 and loses .019 of accuracy to the frontier; contrast at w = 1 has .251 and loses .006.
- **INTER is no better than contrast**: at hallucination .28 it has .053 less accuracy (.040 to .072); if a missing
  question is a vector of zeros .007 less (-.002 to .010; earlier .014, one seed). With the general question w = 2
  leaves no right answer at all (.012).
- **Nothing to tune**: ZeroTuning changes accuracy by .001 at most; the best of 32 heads and doses gains 0 on other
  pictures, that of ACT -.002 to .001. A boost by 16 changes hallucination by .001 (-.001 to .017): the head has .999 of
  its mass on the picture already. PAINT at .7 costs .011 of accuracy, at 2.8 .137, and its boosted mass changes by .51
  under a shift of logits that softmax does not see.
- **ACT's threshold is absolute.** On ten tokens a mean weight of .1 flags nearly every key but the first that exceeds
  it, the patch asked for among them: at β = .4 of all heads hallucination rises to .707 and accuracy falls to .621.
- **It looks at the right patch when it is wrong** (1.000; 1.000 when right); grad-att finds it in .89, and in .79 of
  wrong answers. Entropy of the map hardly grows with the number of objects (.14): it is on one patch.
- **Half the noise lifts accuracy by .089**, not by the .1 that was asked for, and raises hallucination by .042: a rule
  that weighs the prior as for the old noise gains .091 and .050, the best one .209 of accuracy. Better sight alone does
  not ground an answer.

# With a planted sink
- No sink forms, so one is planted: a number on the logits of its keys (question rows, all heads), values of 0, and a
  massive coordinate. It takes .02 to .74 of the head's mass; hallucination rises to .57, accuracy falls to .679.
- **Taking it out is not free of effect**, for it does harm: accuracy rises by .033 (.002 to .085; `sink.delete` is
  reported). Two objects taken out cost .025 to .075.
- **VAR's rule leaves alone what needs it.** It selects rows with at most half of their visual mass on sinks, so that a
  row that a sink has captured is not edited: at p = .6 hallucination falls by .005, at p = 0 by .011, which is .06 of
  the rise; without the rule VAR takes back 1.06 of it (p = 0), ACT on the same keys 1.00 (β = 0). The rule does select
  the head that answers most often of all in four of five seeds.
- The planted coordinate is found by the outliers of the most attended token in four of five seeds.
- **CARVE**: with two salient patches attention finds the right one in 0 to .21 of pictures, relative attention in 1.00,
  the control in .26 to .37. Without them both find it.
- **GIFT** (three seeds): with a sink that has the largest attention in .83 to 1.00 of pictures the shift of gaze is
  largest at the right patch in .62 to .99 (median .96). Following it leaves .032 less hallucination than following
  attention itself (-.001 to .053).

# Fresh seeds
- What was fixed with seeds 0 to 4 in view: the open end of vhr.drop, vhr.top, look.frozen, and that act.chance,
  act.planted, var.unplanted and carve are asserted. On seeds 100 to 104 (`attnlab reproduce grounding --first-seed
  100`) every asserted claim holds (vhr.top by itself, in five of five); VHR at 2 lowers hallucination by .129.
- Of what is reported, the following come out otherwise there: Spearman's correlation of divergence and effect is .85,
  half the noise lifts accuracy by .106, the shift of gaze is right in .99 (three seeds), and following it is .056
  better than following attention. sink.delete, var.planted, vhr.band and look.entropy fail there, too. The pick of the
  search is the head with the largest effect in four of five seeds.
- VAR without its rule takes back 1.48 of the rise of hallucination there, with it .14.
- Keys that are cut off (CARVE's crop, second figure) do harm by themselves: heads have never seen fewer than eight.

# The run on seeds 0 to 4
- `attnlab reproduce grounding`, whole: 52 passed, 6 differ (vhr.band, vhr.rank, look.entropy, look.size, sink.delete,
  var.planted), 6.9 minutes on two cores.
"""

STUDY = study(
    "grounding",
    "Fixes of hallucination on one frontier",
    "He et al.: Vision-aware Head Divergence, arXiv 2412.13949; and 2503.03321, 2406.15765, 2505.11739, 2501.12206, "
    "2510.22067, 2509.06461, 2502.17422, 2506.10978, 2507.05056.",
    (
        Preset("smoke", "one model for 60 steps, two lines and the frontier on 512 pictures", None, 2),
        Preset("laptop", "two layers of four heads, width 32, 3,000 steps, two questions; 2 CPU cores", 7, 5),
        Preset("evening", "the same for 12,000 steps; 2 CPU cores", None, 5),
    ),
    (*OPTIMUM, *REINFORCED, *LOGITS, *GUIDED, *LOOKING, *PLANTED, *SMOKE),
    home=__name__,
    notes=NOTES,
)

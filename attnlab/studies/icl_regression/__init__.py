"""In-context linear regression (2503.12734) and its baselines. Loads no jax by itself."""

from attnlab.studies.base import Preset, Study
from attnlab.studies.icl_regression.claims import DYNAMICS, EMERGENCE, ESTIMATORS, OTHER_DATA, SIGNS, SMOKE
from attnlab.studies.icl_regression.claims_at_scale import GARG, PUBLISHED, TASKS, VALLEY


def _open_lab(*arguments):
    from attnlab.studies.icl_regression.lab import Lab

    return Lab(*arguments)


def _figures(lab):
    from attnlab.studies.icl_regression.figures import figures

    return figures(lab)


def _scrubbers(lab):
    from attnlab.studies.icl_regression.figures import scrubbers

    return scrubbers(lab)


NOTES = """
# What is compared with what
- **Every risk includes the noise of the query's label** (variance .1), as in the authors' table. Their figure of risk
  by number of heads adds it twice, and their logged omega divides by sqrt(d + 2) in place of sqrt(d + 1); neither is
  done here. The last column of KQ multiplies the query's zero label: it is left out of every measure.
- **Only the product of omega and mu is identified.** A finite omega costs (d omega^2)^2 / 6 of the gain, .1 % at .13,
  so A1.omega and A1.mu are reported where A1.eta is asserted.
- **The authors' table keeps one step and one head at every context** (those of L = 40), not the optimum of each.

# What was found beyond the paper
- **Two heads can end with one sign.** Any split of the one-head solution between two heads is as good as one head, a
  flat valley that is stable where both shares are positive (theory.icl.same_sign; claims S). Gradient flow from small
  random starts ends there with probability .42: it does so if the lesser of the two growing modes, (omega + mu) of a
  head, is above .12 of the greater when they leave the origin. That is what decides. Adam with batches of 256 enters
  it about as often, and the noise of the gradient then moves most seeds along the valley until a share changes sign
  and the pair opens; the more even the split, the longer that takes. Of the eight seeds here one never leaves, not in
  100,000 steps (`--preset evening`, S.late). Such seeds are in every median and range of this report. With four heads
  or eight no seed ended with one sign.
- **The t^(-1/6) valley has constants**: |omega| = T^(-1/6) (1 + K / (2 T^(2/3))) with T = 8 c d^3 t / r, c = (1 + s2)
  / L, r = 1/p + 1/n for p positive and n negative heads (theory.icl.valley). It predicts the excess loss of two, four
  and eight heads (A7.valley_loss). The band of the specification for the loss at t = 2,000 is that of two heads;
  eight are nearer to the infimum, so A7.loss_8 is reported.
- **Shifted inputs break the zero-sum rule.** With a mean in the inputs the best that heads of small omega can do is
  alpha ybar + x_q^T Gamma g with alpha = sum mu = .46 and Gamma off the diagonal -.07
  (theory.icl.best_small_weights); its risk .321 is what four trained heads reach (A10.four), well below the debiased
  step (.386).
- **Two heads, two tasks** (evening): half of the seeds end at .56, one debiased step that both tasks share, whose
  optimum is .551 by theory; the others at the .93 that the specification's single seed had. Both are far above the
  .42 of three heads: zero-sum weights for N tasks need N + 1 heads.
- **Four heads do not always split up between two tasks** (evening, A9.split): over eight seeds a head serves 1.2 to
  1.8 tasks at 20,000 steps. The risk is the same.

# What does not hold as stated, and is reported
- A4.spread_8: of eight heads those with a small share of mu are late; positive and negative heads as groups agree on
  |omega| to 1 % (A4.groups_8).
- A24.all: at L = 100 and d = 5 the ratio of risks is 6 % from its proportional limit. It is a finite-size effect that
  falls like 1 / L (A24.fall).
"""

STUDY = Study(
    name="icl-regression",
    title="In-Context Linear Regression Demystified",
    reference="He, Pan, Chen, Yang: In-Context Linear Regression Demystified, arXiv 2503.12734 (2025).",
    presets=(
        Preset("smoke", "theory in full, tiny batches for 60 steps", None, 2),
        Preset("laptop", "ten runs of one attention layer, up to 20,000 steps of 256 prompts; 2 CPU cores", 5.1, 8),
        Preset("evening", "100,000 steps, two tasks at once, a small GPT; 2 CPU cores", 8.9, 8),
        Preset("paper", "500,000 steps as published, and the stack of Garg et al.; an accelerator", None, 8),
    ),
    checks=(
        *EMERGENCE, *SIGNS, *ESTIMATORS, *DYNAMICS, *OTHER_DATA, *SMOKE, *VALLEY, *TASKS, *GARG, *PUBLISHED,
    ),
    open_lab=_open_lab,
    figures=_figures,
    scrubbers=_scrubbers,
    notes=NOTES,
)  # fmt: skip

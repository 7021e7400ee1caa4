"""Figures of regression: drawn from small arrays without a warning, theory named in them, bad shapes named."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from attnlab import report
from attnlab.report import figures

STEPS = np.array([0, 1, 10, 100, 1000])
TIMES = np.geomspace(0.1, 1e3, 8)
LENGTHS = np.array([10, 20, 40])
LABELS = ["x₁", "x₂", "y"]
S, N, H = 3, 5, 2


def heads() -> tuple[np.ndarray, np.ndarray]:
    """One positive and one negative head; the last seed has two of one sign."""
    omega = np.linspace(0.01, 0.2, N)[None, :, None] * np.array([[1, -1], [-1, 1], [1, 1]])[:, None, :]
    return omega, 10 * omega


def circuits(count: int) -> tuple[np.ndarray, np.ndarray]:
    kq = np.stack([np.diag([0.1, 0.1, 0.0])] * count)
    kq[:, 0, 2] = 7.0  # where no prediction looks
    return kq, np.stack([np.array([[0.0], [0.0], [-2.65]])] * count)


def flow() -> SimpleNamespace:
    omega = np.stack([TIMES, -TIMES], axis=1) / 1e3
    return SimpleNamespace(times=TIMES, omega=omega, mu=10 * omega, loss=1 / TIMES)


def panel(**changes) -> report.RiskPanel:
    risks = 10 / LENGTHS * np.array([[0.9], [1.0], [1.1]])
    given = {"measured": {"two heads": (LENGTHS, risks)}, "theory": {"step": (LENGTHS, 10 / LENGTHS)}}
    return report.RiskPanel(**{**given, **changes})


def sign_endpoints(**changes) -> Figure:
    points = np.array([[0.2, -0.2]]), np.array([[2.0, -2.0]])
    given = {"points": {"two": points}, "curves": {"valley": ([0.1, 0.2], [4, 2])}, "shares": {"two": (STEPS, STEPS)}}
    return report.sign_endpoints(**{**given, **changes}, probability=0.42, seeds=8)


def dynamics(omega=None, mu=None, **options) -> Figure:
    w, m = heads()
    runs = {"two": (STEPS, w if omega is None else omega, m if mu is None else mu)}
    return report.head_dynamics(runs, step_size=0.88, **options)


# name -> (the figure, number of axes, words that must be in it)
FIGURES = {
    "circuit_maps": (
        lambda: report.circuit_maps(
            {"H = 1": circuits(1), "H = 2": circuits(2)}, LABELS, unread=1, notes={"H = 1": ["ω = .1"]}, columns=2
        ),
        3,
        ("H = 1\nω = .1", "H = 2, head 2", "−2.65", "crossed out"),
    ),
    "circuit_evolution": (
        lambda: report.circuit_evolution([1, 1000], np.stack([circuits(2)[0]] * 2), unread=1, notes=[["a", "b"]] * 2),
        5,
        ("step 1,000\na", "head 2"),
    ),
    "matrix_comparison": (
        lambda: report.matrix_comparison(
            {"measured": np.eye(2), "theory": np.eye(2), "difference": np.zeros((2, 2))}, "ab", "cd", columns=2
        ),
        4,
        ("measured", "difference", "1.00"),
    ),
    "risk_panels": (
        lambda: report.risk_panels(
            {
                "one": panel(published={"step": (LENGTHS, 10 / LENGTHS)}, levels={"answer 0": 1.1}, log_y=True),
                "two": panel(measured={"two heads": (LENGTHS, [1, 1, 1])}, errors={"two heads": [0.1] * 3}, dodge=1.0),
            }
        ),
        2,
        ("answer 0", "two heads", "published", "lines: theory"),
    ),
    "limit_curves": (
        lambda: report.limit_curves(
            TIMES, {"σ² = 1": 1 + TIMES}, {"σ² = 1": TIMES}, {"σ² = 1": ([0.2, 1.0], [1.5, np.nan])}
        ),
        2,
        ("σ² = 1", "points: finite size"),
    ),
    "concentration_theory": (
        lambda: report.concentration_theory({"one": (1 / (1 + STEPS), 0.1)}, {"one": (TIMES[:, None], TIMES[:, None])}),
        2,
        ("exp(d ω²) / L",),
    ),
    "sign_endpoints": (sign_endpoints, 2, ("valley", "0.42", "8 seeds")),
    "seed_levels": (
        lambda: report.seed_levels({"two": [0.5, 0.3, 0.5], "built": 0.4}, {"best plain step": 0.7}),
        1,
        ("best plain step 0.7", "dots: seeds"),
    ),
    "head_dynamics": (
        lambda: dynamics(predicted_mu={"two": np.where(STEPS > 10, 1.0, np.nan)}, published=(0.13, 3.35)),
        3,
        ("η* = 0.88", "zero-sum", "seed of one sign", "published end", "theory, given ω"),
    ),
    "flow_phases": (
        lambda: report.flow_phases(
            {"two heads": flow()},
            phases={"two heads": {"1": 2.0, "2": np.inf}},
            predicted={"two heads": {"omega": (TIMES, TIMES / 1e3), "loss": (TIMES, 1 / TIMES)}},
            levels={"plateau": 1.0},
            note="1 plateau ends",
        ),
        3,
        ("two heads", "plateau", "1 plateau ends", "theory"),
    ),
}  # fmt: skip


def text_of(figure: Figure) -> str:
    texts = [*figure.texts]
    for legend in figure.legends:
        texts += [*legend.get_texts(), legend.get_title()]
    found = [t.get_text() for t in texts]
    for axes in figure.axes:
        found += [axes.get_title(loc="left"), axes.get_title(loc="center"), axes.get_ylabel()]
        found += [t.get_text() for t in axes.texts]
        legend = axes.get_legend()
        found += [t.get_text() for t in legend.get_texts()] if legend else []
    return "\n".join(found)


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_drawn_with_its_axes_and_words(name):
    make, count, words = FIGURES[name]
    figure = make()
    assert isinstance(figure, Figure) and len(figure.axes) == count
    assert figure.get_figwidth() <= 11
    assert [w for w in words if w not in text_of(figure)] == []
    with figures.style():
        figure.draw_without_rendering()  # the layout is made here: a warning is an error


def test_what_no_prediction_reads_is_neither_written_nor_in_the_scale():
    figure = report.circuit_maps({"H = 1": circuits(1)}, LABELS, unread=1)
    assert "7.00" not in text_of(figure)
    assert figure.axes[0].images[0].norm.vmax == pytest.approx(0.1)


def test_a_model_of_one_head_is_not_called_one_signed():
    w, m = heads()
    assert "seed of one sign" not in text_of(dynamics(w[..., :1], m[..., :1]))


def test_models_share_a_row_as_long_as_they_fit_whole():
    figure = report.circuit_maps({"a": circuits(1), "b": circuits(2), "c": circuits(3)}, LABELS, columns=3)
    rows = [axes.get_subplotspec().rowspan.start for axes in figure.axes]
    assert rows == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (lambda: report.circuit_maps({}, LABELS), "groups is empty"),
        (lambda: report.circuit_maps({"a": circuits(1)}, LABELS[:2]), r"KQ of 'a'.*\[H, 2, 2\]"),
        (lambda: report.circuit_maps({"a": (circuits(1)[0], np.ones(3))}, LABELS), r"OV of 'a'.*\[1, 3, m\]"),
        (lambda: report.circuit_maps({"a": circuits(1)}, LABELS, unread=3), "unread is 3"),
        (lambda: report.circuit_maps({"a": circuits(2)}, LABELS, notes={"a": ["one"]}), r"notes\['a'\]"),
        (lambda: report.circuit_evolution([1], circuits(2)[0]), r"kq is of shape \(2, 3, 3\)"),
        (lambda: report.matrix_comparison({"a": np.eye(2)}, ["a"], ["b"]), r"matrices\['a'\]"),
        (lambda: report.risk_panels({}), "panels is empty"),
        (lambda: report.risk_panels({"one": report.RiskPanel()}), "panels with points or lines"),
        (lambda: report.risk_panels({"one": panel(theory={"step": (LENGTHS, [1, 2])})}), r"theory\['step'\] of"),
        (lambda: report.risk_panels({"one": panel(errors={"ridge": [1]})}), "errors of panel 'one' is .'ridge'"),
        (lambda: report.limit_curves(TIMES, {"a": TIMES}, {"b": TIMES}), "bayes is"),
        (lambda: report.limit_curves(TIMES - 0.1, {"a": TIMES}, {"a": TIMES}), r"xi\[0\]"),
        (lambda: report.concentration_theory({"a": ([0.0], 1)}, {"a": ([[1]], [[1]])}), r"prompts\['a'\]"),
        (lambda: report.concentration_theory({"a": ([1.0], 1)}, {"a": ([1], [[1]])}), r"heads\['a'\]"),
        (lambda: sign_endpoints(points={"two": (np.ones(2), np.ones(2))}), r"points\['two'\]"),
        (lambda: report.seed_levels({}, {}), "values is empty"),
        (lambda: dynamics(np.ones((S, N + 1, H))), r"runs\['two'\].*\[S, 5, H\]"),
        (lambda: dynamics(predicted_mu={"three": STEPS}), "predicted_mu is .'three'"),
        (lambda: report.flow_phases({"a": flow()}, phases={"b": {}}), "phases is .'b'"),
        (lambda: report.flow_phases({"a": flow()}, predicted={"a": {"eta": (TIMES, TIMES)}}), r"predicted\['a'\]"),
    ],
)  # fmt: skip
def test_bad_input_is_named(draw, match):
    with pytest.raises(ValueError, match=match):
        draw()

"""Every figure is drawn from data shaped as the paper's, without a warning; bad shapes are named."""

import io
import subprocess
import sys

import numpy as np
import pytest
import xarray
from matplotlib.figure import Figure

from attnlab.report import figures, write_figures
from attnlab.report.style import over_seeds, power_of_ten, short_step, spread_apart

STEPS = np.array([0, 10, 50, 100, 200, 500, 1000, 1500, 2000])
TIMES = np.geomspace(1, 1e6, 9)
TOKENS = ["<s>", " ", "e", "t", "\n", "a", "$", "$b", "Z"]
SEEDS, N, V = 3, 9, 9


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def curves(scale: float = 1.0) -> np.ndarray:
    return scale * (1 + np.exp(-STEPS / 300)) * np.linspace(0.9, 1.1, SEEDS)[:, None]


def attention(length: int) -> np.ndarray:
    return np.tril(np.ones((length, length))) / np.arange(1, length + 1)[:, None]


def with_nan(values: np.ndarray) -> np.ndarray:
    """One seed diverges half way, and the last step is lost in all seeds."""
    values = values.copy()
    values[1, 4:] = np.nan
    values[:, -1] = np.inf
    return values


FIGURES = {
    "attention_maps": lambda: figures.attention_maps(
        [attention(9), attention(3)], [TOKENS, TOKENS[:3]], ["dormant", "active"], triggers=(" ", "e", "t")
    ),
    "attention_maps_long": lambda: figures.attention_maps([attention(64)], [list("a" * 64)], ["ReLU"], sink=None),
    "value_norm_bars": lambda: figures.value_norm_bars(rng().uniform(1, 2, (SEEDS, V)), TOKENS, triggers=("e",)),
    "value_norm_bars_one_seed": lambda: figures.value_norm_bars(rng().uniform(1, 2, V), TOKENS, sink=None),
    "intervention_bars": lambda: figures.intervention_bars(
        {"backcopy risk": {"full": [0.003, 0.002], "no MLP": [np.nan, np.nan]}, "bigram": {"full": 1.0, "no MLP": 2.0}},
        {"backcopy risk": {"log V": 4.19}},
    ),
    "dynamics": lambda: figures.dynamics(
        STEPS,
        {"risk": curves(), "Δlogit": -curves()},
        log_y=("risk",),
        events={"head on": 200},
        levels={"risk": {"plateau": 2.682}},
        predicted={"Δlogit": np.linspace(-2, -1, N)},
    ),
    "dynamics_normalised": lambda: figures.dynamics(
        STEPS, {"risk": curves(), "flat": np.zeros(N), "lost": with_nan(curves())}, normalised=True, split=None
    ),
    "dynamics_overlay": lambda: figures.dynamics(
        STEPS, {"risk": curves()}, normalised=True, levels={"risk": {"plateau": 2.0}}, predicted={"risk": np.ones(N)}
    ),
    "dynamics_nan": lambda: figures.dynamics(STEPS, {"lost": with_nan(curves())}, log_y=("lost",)),
    "dynamics_all_lost": lambda: figures.dynamics(
        STEPS, {"lost": np.full((2, N), np.nan)}, log_y=("lost",), normalised=False
    ),
    "dynamics_constant_log": lambda: figures.dynamics(
        STEPS, {"zero": np.zeros(N), "one": np.ones(N)}, log_y=("zero", "one")
    ),
    "theory_vs_measured_all_lost": lambda: figures.theory_vs_measured(TIMES, np.full(N, np.nan), 1 / TIMES, log="y"),
    "flow_theory_no_drive": lambda: figures.flow_theory(
        sink_times=TIMES,
        sink_logits=np.ones((N, 2)) * np.log(TIMES)[:, None] / 2,
        sink_limits=[0.0, -np.inf],
        drain_times=TIMES,
        drain_error=1 / TIMES,
        joint_times=TIMES,
        joint_residual=0 * TIMES,
        joint_spread=0 * TIMES,
    ),
    "residual_norms": lambda: figures.residual_norms(
        STEPS, 20 + rng().uniform(0, 1, (SEEDS, N, V)) * STEPS[:, None], TOKENS, triggers=("e", "t")
    ),
    "residual_norms_one_seed": lambda: figures.residual_norms(STEPS, np.ones((N, V)), TOKENS, sink="none"),
    "theory_vs_measured": lambda: figures.theory_vs_measured(STEPS, curves(), curves()[1]),
    "theory_vs_measured_log": lambda: figures.theory_vs_measured(
        TIMES, with_nan(np.stack([1 / TIMES] * 3)), 1 / TIMES, band=(0.9 / TIMES, 1.1 / TIMES), log="xy"
    ),
    "reduced_model": lambda: figures.reduced_model(
        TIMES, 1 - 1 / (1 + TIMES), 1 / TIMES, np.stack([np.log(TIMES)] * 2), predicted={"sink_logit": np.log(TIMES)}
    ),
    "residual_peak_theory": lambda: figures.residual_peak_theory(
        TIMES, {"SGD": np.full(N, 10.0), "Adam": TIMES}, {"SGD": np.full(N, 10.0)}, points={"Adam": {1000: 27.86}}
    ),
    "flow_theory": lambda: figures.flow_theory(
        sink_times=TIMES,
        sink_logits=0.5 * np.log(TIMES)[:, None] + np.arange(4) + 1 / TIMES[:, None],
        sink_limits=np.arange(4),
        drain_times=TIMES,
        drain_error=np.stack([1 / TIMES, 0 * TIMES]),
        joint_times=TIMES,
        joint_residual=1 / TIMES,
        joint_spread=2 / TIMES,
        labels=("a = 2", "a = 0"),
    ),
    "entropy_vs_sink_logit": lambda: figures.entropy_vs_sink_logit(
        np.linspace(0, 3, V), with_nan(rng().normal(size=(SEEDS, V))), TOKENS, [0.5, 0.6], predicted=np.zeros(V)
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_drawn_small_and_repeatable(name):
    data = []
    for _ in range(2 if name in ("dynamics", "attention_maps") else 1):
        figure = FIGURES[name]()
        assert isinstance(figure, Figure)
        buffer = io.BytesIO()
        figures.save_png(figure, buffer)
        data.append(buffer.getvalue())
    assert data[0].startswith(b"\x89PNG") and 5_000 < len(data[0]) < 150_000
    assert data[0] == data[-1]
    assert b"http" not in data[0]


def test_labelled_arrays_are_taken_as_they_are():
    array = xarray.DataArray(curves(), dims=("seed", "step"), coords={"step": STEPS})
    assert isinstance(figures.dynamics(array.step, {"risk": array}), Figure)


def text_of(figure: Figure) -> str:
    texts = [figure.get_suptitle()]
    for axes in figure.axes:
        texts += [axes.get_title(loc="left"), *(t.get_text() for t in axes.texts)]
    return "\n".join(texts)


def test_titles_state_what_was_measured():
    weights = np.zeros((4, 4))
    weights[:, 0] = [1, 0.9, 0.2, 0.9]
    weights[2, 1] = 0.8
    figure = figures.attention_maps([weights], [["<s>", "a", "t", "b"]], ["x"], triggers=("t",))
    assert "0.90 on <s>" in text_of(figure).replace("\n", " ") and "0.80 on the previous" in text_of(figure).replace(
        "\n", " "
    )
    figure = figures.value_norm_bars([2.0, 20.0, 20.0, 5.0], ["<s>", "a", "b", "t"], triggers=("t",))
    assert "10 % of the median" in text_of(figure)


def test_theory_is_drawn_and_named():
    figure = figures.dynamics(STEPS, {"risk": curves()}, levels={"risk": {"plateau": 2.682}})
    assert "plateau 2.682" in text_of(figure)
    figure = figures.theory_vs_measured(STEPS, curves(), curves()[1])
    assert "theory" in text_of(figure) and "measured (3 seeds)" in text_of(figure)


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (lambda: figures.dynamics(STEPS, {"risk": curves()[:, :-1]}), r"curves\['risk'\].*\[S, 9\]"),
        (lambda: figures.dynamics(STEPS[::-1], {"risk": curves()}), "steps.*increasing"),
        (lambda: figures.dynamics(STEPS, {}), "curves is empty"),
        (lambda: figures.dynamics(STEPS, {"risk": curves()}, levels={"rsik": {"x": 1}}), "levels.*rsik.*risk"),
        (lambda: figures.attention_maps([np.ones((3, 4))], [TOKENS[:3]], ["x"]), r"labels\[0\]"),
        (lambda: figures.attention_maps([np.ones(3)], [TOKENS[:3]], ["x"]), "weights"),
        (lambda: figures.attention_maps([np.ones((3, 3))], [TOKENS[:3]], []), "titles"),
        (lambda: figures.value_norm_bars(np.ones(3), TOKENS), "norms"),
        (lambda: figures.intervention_bars({}), "values"),
        (lambda: figures.residual_norms(STEPS, np.ones((2, 3, 4)), TOKENS), "norms"),
        (lambda: figures.theory_vs_measured(STEPS, curves(), curves()[0], log="z"), "log is 'z'"),
        (lambda: figures.reduced_model(STEPS, curves(), curves(), curves()), r"times\[0\]"),
        (lambda: figures.entropy_vs_sink_logit(np.ones(2), np.ones(9), TOKENS), "entropy"),
    ],
)
def test_bad_input_is_named(draw, match):
    with pytest.raises(ValueError, match=match):
        draw()


def test_over_seeds_ignores_what_is_not_finite():
    median, low, high = over_seeds(np.array([[1.0, np.nan], [3.0, np.inf], [2.0, np.nan]]))
    assert (median[0], low[0], high[0]) == (2.0, 1.0, 3.0)
    assert np.isnan([median[1], low[1], high[1]]).all()


def test_tick_labels():
    assert [short_step(x) for x in (0, 200, 1000, 2500, 1e5, 2e6, 1e9)] == [
        "0",
        "200",
        "1k",
        "2.5k",
        "100k",
        "2M",
        "10⁹",
    ]
    assert [power_of_ten(x) for x in (1, 0.001, 1e-5, 3e-5, 1e6)] == ["1", "0.001", "10⁻⁵", "3·10⁻⁵", "10⁶"]


def test_direct_labels_do_not_overlap():
    places = spread_apart([0.5, 0.5, 0.51, 0.99], [1, 2, 1, 1], 0.05)
    gaps = np.diff(places)
    assert (gaps >= np.array([0.075, 0.075, 0.05]) - 1e-3).all() and min(places) >= 0 and max(places) <= 1.01


def test_write_figures(tmp_path):
    made = write_figures(tmp_path / "new", {"F4 dynamics": FIGURES["dynamics"](), "F1": FIGURES["attention_maps"]()})
    assert [p.name for p in made.values()] == ["f4-dynamics.png", "f1.png"]
    assert all(p.stat().st_size > 5_000 for p in made.values())
    with pytest.raises(ValueError, match="not unique"):
        write_figures(tmp_path, {"F 1": Figure(), "F-1": Figure()})


def test_pyplot_is_never_loaded_and_settings_are_restored():
    code = (
        "import sys, matplotlib; from attnlab.report import figures, style; "
        "before = {name: matplotlib.rcParams[name] for name in style.RC}; "
        "import numpy as np; figures.dynamics([0, 1, 2], {'risk': np.ones((2, 3))}); "
        "assert {name: matplotlib.rcParams[name] for name in style.RC} == before; "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "False", run.stderr

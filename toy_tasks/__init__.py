"""Distributions over sequences, each with its exact oracle. A task of your own satisfies `toy_tasks.base.Task`."""

from toy_tasks.backcopy_law import ExpectedRisks, Occupation, expected_risks, occupation
from toy_tasks.backcopy_stationary import absorbing_cycles, closed_classes, stationary_law
from toy_tasks.base import Batch, Prompt, Task, TaskWithOracle
from toy_tasks.bigram_backcopy import BigramBackcopy
from toy_tasks.compat import replay
from toy_tasks.linear_regression import LinearRegression
from toy_tasks.regression_predictors import (
    Averaging,
    Bayes,
    DebiasedStep,
    GradientStep,
    LeastSquares,
    NearestNeighbours,
    Predictor,
    Ridge,
    SoftmaxHeads,
    Zero,
    bayes,
    on_prefixes,
)

TASKS = (BigramBackcopy, LinearRegression)

__all__ = [
    "TASKS",
    "Averaging",
    "Batch",
    "Bayes",
    "BigramBackcopy",
    "DebiasedStep",
    "ExpectedRisks",
    "GradientStep",
    "LeastSquares",
    "LinearRegression",
    "NearestNeighbours",
    "Occupation",
    "Predictor",
    "Prompt",
    "Ridge",
    "SoftmaxHeads",
    "Task",
    "TaskWithOracle",
    "Zero",
    "absorbing_cycles",
    "bayes",
    "closed_classes",
    "expected_risks",
    "occupation",
    "on_prefixes",
    "replay",
    "stationary_law",
]

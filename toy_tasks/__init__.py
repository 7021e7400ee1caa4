"""Distributions over sequences, each with its exact oracle. A task of your own satisfies `toy_tasks.base.Task`."""

from toy_tasks.backcopy_law import ExpectedRisks, Occupation, expected_risks, occupation
from toy_tasks.backcopy_stationary import absorbing_cycles, closed_classes, stationary_law
from toy_tasks.base import Batch, Prompt, Task, TaskWithOracle
from toy_tasks.bigram_backcopy import BigramBackcopy
from toy_tasks.compat import replay
from toy_tasks.linear_regression import LinearRegression

TASKS = (BigramBackcopy, LinearRegression)

__all__ = [
    "TASKS",
    "Batch",
    "BigramBackcopy",
    "ExpectedRisks",
    "LinearRegression",
    "Occupation",
    "Prompt",
    "Task",
    "TaskWithOracle",
    "absorbing_cycles",
    "closed_classes",
    "expected_risks",
    "occupation",
    "replay",
    "stationary_law",
]

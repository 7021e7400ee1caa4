"""Distributions over sequences, each with its exact oracle. A task of your own satisfies `toy_tasks.base.Task`."""

from toy_tasks.base import Batch, Task, TaskWithOracle
from toy_tasks.bigram_backcopy import BigramBackcopy

TASKS = (BigramBackcopy,)

__all__ = ["TASKS", "Batch", "BigramBackcopy", "Task", "TaskWithOracle"]

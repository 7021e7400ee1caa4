"""Records as xarray objects whose numbers are read when asked for."""

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from attnlab.trajectory.rows import LeafRows

if TYPE_CHECKING:
    from attnlab.trajectory.reader import Trajectory


class _LazyRows(BackendArray):
    """`LeafRows` in the protocol by which xarray reads any storage backend."""

    def __init__(self, rows: LeafRows):
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self.rows.outer)


def label(trajectory: "Trajectory", record: str) -> xr.Dataset | xr.DataArray:
    """The record as a Dataset, or as a DataArray if a bare array was recorded. Dims (seed, step, ...)."""
    named = trajectory._chunks.header.schema[record]
    variables = {
        name: xr.Variable(
            ("seed", "step", *leaf.dims),
            indexing.LazilyIndexedArray(_LazyRows(trajectory._rows(record, name))),
            {"recorded_as": leaf.dtype},
        )
        for name, leaf in named.items()
    }
    coords = {"seed": ("seed", np.asarray(trajectory.seeds)), "step": ("step", trajectory.steps(record))}
    dataset = xr.Dataset(variables, coords, {"record": record, "run": str(trajectory.path)})
    return dataset[record] if [leaf.keys for leaf in named.values()] == [()] else dataset

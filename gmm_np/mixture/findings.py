"""What a fit has to say of collapsed components and of its floor, in words for every caller.

Components, starts, and columns without names are counted from 0.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, name_components
from gmm_np.covariance import FAMILIES
from gmm_np.parameters import Parameters
from gmm_np.solvers.floor import TOO_HIGH, find_floored, floor_shares
from gmm_np.sufficient_statistics import as_floor

_NAMED = 3  # columns at most


def column_names(names: Iterable[object] | None, n_features: int) -> list[str]:
    """Return how messages call columns: by their names, or by numbers from 0."""
    if names is None:
        return [f"column {j}" for j in range(n_features)]
    return [f"column {str(name)!r}" for name in names]


def name_collapsed(
    components: Sequence[int],
    parameters: Parameters,
    reg_covar: ArrayLike,
    columns: Sequence[str],
) -> str:
    """Return who collapsed, and in which columns where the floor is most of the variance there."""
    verb = "have" if len(components) > 1 else "has"
    text = f"{name_components(components)} {verb} collapsed"
    floored = find_floored(parameters, reg_covar)[list(components)].any(axis=0)  # [D]
    where = [columns[int(j)] for j in np.flatnonzero(floored)]
    if not where or len(where) == len(columns) > 1:
        return text
    more = len(where) - _NAMED
    return f"{text} in {', '.join(where[:_NAMED])}" + (f" and {more} more" if more > 0 else "")


def describe_high_floor(
    reg_covar: ArrayLike, variances: FloatArray, parameters: Parameters, columns: Sequence[str]
) -> str | None:
    """Say of which column the floor is too large a share of the variance; None if of none."""
    shares = floor_shares(reg_covar, variances, parameters)
    worst, count = int(shares.argmax()), int((shares > TOO_HIGH).sum())
    if count == 0:
        return None
    share, floor = shares[worst], as_floor(reg_covar, parameters)
    size = f"{100 * share:.2g} % of" if share < 1 else f"{share:.3g} times"
    if not FAMILIES[parameters.family].structure.by_column:
        whose = f"the columns' mean variance, {variances.mean():.3g}"
    else:
        whose = f"the variance of {columns[worst]}, {variances[worst]:.3g}"
        floor = np.broadcast_to(floor, shares.shape)[worst]
        whose += f" (and too much for {count - 1} more)" if count > 1 else ""
    return f"{float(floor):.3g} is {size} {whose}"

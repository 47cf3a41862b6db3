"""A small data set for examples and tests."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_old_faithful"]


def load_old_faithful() -> tuple[NDArray[np.float64], list[str]]:
    """Load 272 eruptions of the Old Faithful geyser in Yellowstone National Park.

    The textbook example of a mixture: short eruptions are followed by short waits, long ones by
    long waits.

    Returns
    -------
    x : ndarray of float64, shape [272, 2]
        Duration of each eruption and waiting time to the next, both in minutes.
    names : list of str
        ``["eruptions", "waiting"]``.

    References
    ----------
    .. [1] Haerdle, W. (1991). *Smoothing Techniques with Implementation in S*. Springer.
       The same as the data set ``faithful`` of R.
    .. [2] Azzalini, A. and Bowman, A. W. (1990). A look at some data on the Old Faithful geyser.
       *Applied Statistics* 39, 357-365. Its series is longer, and described there.

    Examples
    --------
    >>> x, names = load_old_faithful()
    >>> x.shape, names, x.mean(axis=0).round(3).tolist()
    ((272, 2), ['eruptions', 'waiting'], [3.488, 70.897])
    """
    table = files("gmm_np") / "data" / "old_faithful.csv"
    with table.open(encoding="utf-8") as stream:
        names = stream.readline().strip().split(",")
        x = np.loadtxt(stream, delimiter=",")
    return x, names

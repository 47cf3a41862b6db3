"""A case: its exact inputs, their decimal form and their digest. Nothing here rounds.

Numbers are Python floats throughout, also those of binary32, which a double holds exactly. NumPy is
not used: the files must come out the same whatever version of it is installed.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass, field
from typing import Any

Vector = list[float]
Matrix = list[list[float]]

# Half an ulp of 1, and the smallest positive number.
HALF_ULP = {"binary64": 2.0**-53, "binary32": 2.0**-24}
SMALLEST = {"binary64": 2.0**-1074, "binary32": 2.0**-149}
# Responsibilities below this may be taken for zero.
FLUSHED = {"binary64": 1e-290, "binary32": 1e-36}
# What a Hessian is multiplied by.
DIRECTION = ("v_logits", "v_means", "v_chol")
_FORMAT = {"binary64": "<d", "binary32": "<f"}


@dataclass(frozen=True)
class Problem:
    """Inputs of one test, in the Cholesky parametrization."""

    logits: Vector  # [K]
    means: Matrix  # [K][D]
    chol: list[Matrix]  # [K][D][D]
    x: Matrix  # distinct rows, [.][D]
    count: list[int] | None = None  # of each row of x
    weights: Vector | None = None  # of each row of x
    dtype: str = "binary64"
    reduction: str = "mean"
    function: str = "value_and_gradient"  # or what else may be asked for
    # How fast logits, means and factors move, for "hvp".
    v_logits: Vector | None = None
    v_means: Matrix | None = None
    v_chol: list[Matrix] | None = None
    # Which columns x has, for "marginal".
    columns: list[int] | None = None

    parametrization = "cholesky"

    @property
    def arrays(self) -> dict[str, Any]:
        """Inputs by the names and in the order of the files."""
        named: dict[str, Any] = {"logits": self.logits, "means": self.means, "chol": self.chol}
        moves = {name: getattr(self, name) for name in (*DIRECTION, "columns")}
        return named | rows_of(self) | {name: v for name, v in moves.items() if v is not None}

    @property
    def factors(self) -> list[Matrix]:
        """The lower triangles of `chol`, which are all that counts, with zeros above them."""
        return _lower(self.chol)

    @property
    def v_factors(self) -> list[Matrix]:
        """The lower triangles of `v_chol`, with zeros above them."""
        return _lower(self.v_chol or [])

    @property
    def multiplicity(self) -> list[int]:
        """How often each row stands in the data."""
        return self.count or [1] * len(self.x)


@dataclass(frozen=True)
class PrecisionProblem:
    """Inputs of one test of the objective of ADBench and GradBench."""

    alpha: Vector  # [K]
    means: Matrix  # [K][D]
    icf: Matrix  # [K][D + D (D - 1) / 2]
    x: Matrix
    gamma: float
    m: int
    count: list[int] | None = None
    dtype: str = "binary64"
    reduction: str = "sum"
    weights: None = field(default=None, init=False)

    parametrization = "precision"
    function = "value_and_gradient"

    @property
    def arrays(self) -> dict[str, Any]:
        """Inputs by the names and in the order of the files."""
        named: dict[str, Any] = {"alpha": self.alpha, "means": self.means, "icf": self.icf}
        return named | rows_of(self) | {"gamma": self.gamma, "m": self.m}

    @property
    def multiplicity(self) -> list[int]:
        """How often each row stands in the data."""
        return self.count or [1] * len(self.x)


def _lower(matrices: list[Matrix]) -> list[Matrix]:
    return [
        [[v if j <= i else 0.0 for j, v in enumerate(row)] for i, row in enumerate(rows)]
        for rows in matrices
    ]


def rows_of(problem: Any) -> dict[str, Any]:
    """Return the arrays that have a row for each sample."""
    rows: dict[str, Any] = {"x": problem.x}
    if problem.count is not None:
        rows["count"] = problem.count
    if problem.weights is not None:
        rows["weights"] = problem.weights
    return rows


def sizes_of(problem: Any) -> dict[str, int]:
    """Return N, K and D as a test states them: where shapes disagree, what x and means say."""
    means = problem.means
    if means and means[0] and isinstance(means[0][0], list):  # those of each row
        means = means[0]
    return {
        "N": sum(problem.multiplicity),
        "K": len(means),
        "D": len(means[0]) if means else 0,
    }


def to_binary32(value: float) -> float:
    """Round to binary32, and give the result as a double."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def decimal_form(value: float, dtype: str) -> str:
    """Shortest decimal form that reads back exactly; specials as JSON strings."""
    if math.isnan(value):
        return '"NaN"'
    if math.isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    if dtype == "binary64":
        return repr(value)
    if to_binary32(value) != value:
        raise ValueError(f"{value!r} is no binary32 number")
    for digits in range(1, 10):
        text = repr(float(f"{value:.{digits}g}"))
        if to_binary32(float(text)) == value:
            return text
    raise AssertionError("nine digits always suffice")


def digest(problem: Any) -> str:
    """Sha256 of the inputs' bytes, as the schema describes it."""
    arrays = problem.arrays
    count = arrays.pop("count", None)
    sha = hashlib.sha256()
    for name, value in arrays.items():
        if name in ("x", "weights") and count:
            for row, times in zip(value, count, strict=True):
                _feed(sha, _bytes(row, problem.dtype), times)
        else:
            sha.update(_bytes(value, problem.dtype))
    return sha.hexdigest()


def _bytes(value: Any, dtype: str) -> bytes:
    if isinstance(value, list):
        return b"".join(_bytes(item, dtype) for item in value)
    return struct.pack(_FORMAT[dtype], math.nan if math.isnan(value) else value)


def _feed(sha: Any, row: bytes, times: int) -> None:
    while times:
        part = min(times, 65536)
        sha.update(row * part)
        times -= part

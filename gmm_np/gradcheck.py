"""Check a gradient against central differences of its own value.

Nothing here knows about mixtures: any function that returns a value and its gradients can be
checked, whatever computes it. Differences are extrapolated to step zero (Ridders), so that they
are worth eight digits or more and not the usual five or six.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np.checks import FloatArray

ValueAndGrad = Callable[..., tuple[Any, Sequence[Any]]]

# Weights in a random direction span at most this ratio; see `_direction`.
_LARGEST_WEIGHT = 1e4
# A difference cannot resolve an entry of the gradient much smaller than the block's largest.
_SMALLEST_ENTRY = 1e-4
_FIRST_STEP = 0.02
_SHRINK = 2.0
_STEPS = 9
_ATTEMPTS = 12
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class BlockCheck:
    """How the gradient of one argument fared.

    Attributes
    ----------
    name : str
    shape : tuple of int
    checked : int
        Directions, or entries, that were compared.
    error : float
        The largest relative error among them: along a direction v, the difference between
        gradient . v and the slope, over the root of the sum of squares of gradient_i v_i; for an
        entry, the difference over the entry, or over at most 1e-4 of the block's largest where
        differences see no better. Never over less than rounding of the value lets them see.
    analytic, numeric : float
        The two numbers that were compared there.
    worst : tuple of int, or None
        Index of the worst entry; None if the block passed without looking at single entries.
    tolerance : float
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    error: float
    analytic: float
    numeric: float
    worst: tuple[int, ...] | None
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance. NaN is not."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class GradientReport:
    """Result of `check_grad`, a row for each argument. Prints as a table; true if all passed.

    Attributes
    ----------
    blocks : tuple of BlockCheck
    """

    blocks: tuple[BlockCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every block passed."""
        return all(block.passed for block in self.blocks)

    @property
    def worst(self) -> BlockCheck:
        """The block with the largest error."""
        return max(self.blocks, key=lambda b: math.inf if math.isnan(b.error) else b.error)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        width = max(len("argument"), *(len(block.name) for block in self.blocks))
        head = f"{'argument':<{width}}  {'shape':<12} {'checked':>7}  {'analytic':>14}  "
        head += f"{'difference':>14}  {'rel. error':>10}  verdict"
        lines = [head, "-" * len(head)]
        for b in self.blocks:
            shape = "x".join(map(str, b.shape)) or "scalar"
            at = "" if b.worst is None else f" at {list(b.worst)}"
            lines.append(
                f"{b.name:<{width}}  {shape:<12} {b.checked:>7}  {b.analytic:>14.7e}  "
                f"{b.numeric:>14.7e}  {b.error:>10.1e}  {'ok' if b.passed else 'WRONG' + at}"
            )
        w = self.worst
        verdict = "every gradient agrees" if self.passed else f"the gradient of {w.name} is wrong"
        lines.append(f"{verdict}: worst relative error {w.error:.1e}, allowed {w.tolerance:.0e}")
        return "\n".join(lines)


def check_grad(
    value_and_grad: ValueAndGrad,
    arguments: Mapping[str, ArrayLike],
    *,
    free: Mapping[str, ArrayLike] | None = None,
    entrywise: bool = False,
    n_directions: int = 4,
    tolerance: float = 1e-7,
    seed: int = 0,
) -> GradientReport:
    """Compare the gradients that a function returns with central differences of its value.

    Parameters
    ----------
    value_and_grad : callable
        Called with the arrays of `arguments`, in their order and by position; returns a scalar
        and a sequence of gradients in the same order. Gradients beyond the number of arguments
        are left alone; so is an argument whose gradient is None.
    arguments : mapping of str to array_like
        The point at which to check, by name. At a stationary point every gradient is zero and
        nothing can be told: check away from one.
    free : mapping of str to array_like of bool, optional
        Entries of an argument that may be varied, broadcast to its shape; all by default. The
        gradient of an entry that is not free has to be exactly zero. For a Cholesky factor:
        ``np.tri(D, dtype=bool)``.
    entrywise : bool
        Look at each entry on its own. Otherwise at random directions within each argument,
        weighted so that a small entry cannot hide behind a large one, and at single entries only
        of an argument that fails, to name the worst.
    n_directions : int
        Directions for each argument.
    tolerance : float
        The largest relative error that passes. Good differences come to about 1e-9 in float64;
        a function that computes in float32 needs about 1e-2.
    seed : int
        For the directions.

    Returns
    -------
    GradientReport
        Print it; it is true if every gradient passed.

    Raises
    ------
    ValueError
        If the function's value is not a finite scalar, a gradient has the wrong shape, or no
        step is small enough for the function to be finite on both sides.

    Notes
    -----
    A gradient check compares a gradient with its own value, so that it cannot find a wrong value.
    In float64 either mode finds an entry that is wrong by a thousandth, if the entry is at least
    1e-6 of the largest of its argument. The extrapolation is that of C. J. F. Ridders, Advances in
    Engineering Software 4 (1982) 75-76.

    Examples
    --------
    >>> import numpy as np
    >>> from gmm_np import check_grad
    >>> def wrong(a, b):
    ...     return np.sum(a**2 * b), (2 * a * b, 1.001 * a**2)
    >>> report = check_grad(wrong, {"a": [1.0, 2.0], "b": [3.0, 4.0]})
    >>> [(block.name, block.passed) for block in report.blocks]
    [('a', True), ('b', False)]
    """
    point = {name: np.array(value, dtype=np.float64) for name, value in arguments.items()}
    masks = {name: np.ones(array.shape, dtype=bool) for name, array in point.items()}
    for name, mask in (free or {}).items():
        if name not in point:
            raise ValueError(f"free names {name!r}, which is not among {list(point)}.")
        try:
            masks[name] = np.broadcast_to(np.asarray(mask, dtype=bool), point[name].shape)
        except ValueError:
            raise ValueError(
                f"free[{name!r}] must broadcast to the shape of {name}, {point[name].shape}; got "
                f"{np.shape(mask)}."
            ) from None
    if n_directions < 1:
        raise ValueError(f"n_directions must be at least 1; got {n_directions}.")
    value, gradients = value_and_grad(*(array.copy() for array in point.values()))
    if np.ndim(value) != 0 or not np.isfinite(float(value)):
        raise ValueError(
            f"value_and_grad must return a finite scalar at the point to check; got {value!r}."
        )
    if len(gradients) < len(point):
        raise ValueError(
            f"value_and_grad must return one gradient for each of {list(point)}; got "
            f"{len(gradients)}."
        )
    rng = np.random.default_rng(seed)
    blocks = []
    for position, (name, gradient) in enumerate(zip(point, gradients)):  # noqa: B905
        if gradient is None:
            continue
        checker = _BlockChecker(
            value_and_grad, list(point.values()), position, name, gradient, masks[name], tolerance
        )
        blocks.append(checker.entries() if entrywise else checker.directions(rng, n_directions))
    if not blocks:
        raise ValueError("value_and_grad returned no gradient to check: all are None.")
    return GradientReport(tuple(blocks))


class _Slope(NamedTuple):
    """Slope of the value along a direction, from differences."""

    value: float
    uncertain: float  # how far neighbouring extrapolations are from it, and rounding
    resolution: float  # the smallest slope that rounding of the value lets a difference see


class _BlockChecker:
    """Checks the gradient of one argument, the others held fixed."""

    def __init__(
        self,
        value_and_grad: ValueAndGrad,
        point: list[FloatArray],
        position: int,
        name: str,
        gradient: Any,
        free: NDArray[np.bool_],
        tolerance: float,
    ) -> None:
        self.value_and_grad, self.point, self.position = value_and_grad, point, position
        self.name, self.free, self.tolerance = name, free, tolerance
        self.theta = point[position]
        self.gradient: FloatArray = np.asarray(gradient, dtype=np.float64)
        if self.gradient.shape != self.theta.shape:
            raise ValueError(
                f"the gradient of {name} must have the shape of {name}, {self.theta.shape}; got "
                f"{self.gradient.shape}."
            )
        typical = math.sqrt(float(np.mean(self.theta**2))) or 1.0
        # How far each entry may be moved: in proportion to itself.
        self.reach: FloatArray = np.where(self.theta == 0, typical, np.abs(self.theta))

    def directions(self, rng: np.random.Generator, n_directions: int) -> BlockCheck:
        fixed = self._hopeless_entries()
        if fixed is not None:
            return fixed
        rows = []
        for _ in range(n_directions):
            v = self._direction(rng)
            slope = self._slope(v)
            size = float(np.linalg.norm(self.gradient * v))  # (48)
            scale = max(size, slope.resolution / self.tolerance)
            analytic = float((self.gradient * v).sum())
            rows.append(self._row(analytic, slope.value, scale, n_directions))
        worst = max(rows, key=_severity)
        if worst.passed:
            return worst
        entry = self.entries()
        return worst if entry.passed else entry

    def entries(self) -> BlockCheck:
        fixed = self._hopeless_entries()
        if fixed is not None:
            return fixed
        places = [tuple(int(i) for i in place) for place in np.argwhere(self.free)]
        floor = _SMALLEST_ENTRY * float(np.abs(self.gradient).max(initial=0.0))
        rows = []
        for place in places:
            v = np.zeros_like(self.theta)
            v[place] = self.reach[place]
            slope = self._slope(v)
            reach = float(v[place])
            analytic, numeric = float(self.gradient[place]), slope.value / reach
            # Below the floor an entry may be off by as much as the difference itself may.
            blurred = min(floor, 4 * slope.uncertain / reach / self.tolerance)
            scale = max(abs(analytic), blurred, slope.resolution / reach / self.tolerance)
            rows.append(self._row(analytic, numeric, scale, len(places), place))
        if not rows:
            return BlockCheck(self.name, self.theta.shape, 0, 0.0, 0.0, 0.0, None, self.tolerance)
        return max(rows, key=_severity)

    def _row(
        self,
        analytic: float,
        numeric: float,
        scale: float,
        checked: int,
        place: tuple[int, ...] | None = None,
    ) -> BlockCheck:
        difference = abs(analytic - numeric)
        error = 0.0 if difference == 0 else difference / scale if scale else math.inf
        return BlockCheck(
            self.name, self.theta.shape, checked, error, analytic, numeric, place, self.tolerance
        )

    def _hopeless_entries(self) -> BlockCheck | None:
        """Return a failure if an entry is not finite, or is not zero where it is not free."""
        bad = np.argwhere(~np.isfinite(self.gradient) | (~self.free & (self.gradient != 0)))
        if not len(bad):
            return None
        place = tuple(int(i) for i in bad[0])
        analytic = float(self.gradient[place])
        return BlockCheck(
            self.name, self.theta.shape, len(bad), math.inf, analytic, 0.0, place, self.tolerance
        )

    def _direction(self, rng: np.random.Generator) -> FloatArray:
        """Draw a direction in which each entry of the gradient counts about the same.

        In an unweighted direction an entry a thousandth of the largest, wrong by a thousandth,
        changes the slope by a millionth, and a check that allows for rounding passes it.
        """
        size = np.abs(np.where(self.free, self.gradient * self.reach, 0.0))
        largest = size.max()
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(size > 0, largest / size, _LARGEST_WEIGHT)
        weight = np.clip(weight, 1.0, _LARGEST_WEIGHT)
        weight = np.where(self.free, weight * rng.uniform(0.5, 1.0, size=self.theta.shape), 0.0)
        sign = rng.choice([-1.0, 1.0], size=self.theta.shape)
        v: FloatArray = sign * weight * self.reach / max(float(weight.max()), 1.0)
        return v

    def _slope(self, v: FloatArray) -> _Slope:
        step = _FIRST_STEP
        for _ in range(_ATTEMPTS):
            slope = self._ridders(v, step)
            if slope is not None:
                return slope
            step /= 8
        raise ValueError(
            f"no step from the point to check was small enough: along {self.name} the value is "
            "not finite, or raises an error, on one side at least. Check at another point."
        )

    def _ridders(self, v: FloatArray, step: float) -> _Slope | None:
        """Extrapolate central differences along v to step zero; None off the domain: (46), (47)."""
        table: list[list[float]] = []
        rows: list[_Slope] = []  # the best of each row of the table
        largest = 0.0
        for i in range(_STEPS):
            h = step / _SHRINK**i
            above, below = self._value(v, h), self._value(v, -h)
            largest = max(largest, abs(above), abs(below))
            row = [(above - below) / (2 * h)]  # (46)
            if not math.isfinite(row[0]):
                return None
            best, rounding = _Slope(row[0], math.inf, 0.0), _EPS * largest / h
            for j in range(1, i + 1):
                factor = _SHRINK ** (2 * j)  # (47)
                row.append((factor * row[j - 1] - table[i - 1][j - 1]) / (factor - 1))
                uncertain = max(abs(row[j] - row[j - 1]), abs(row[j] - table[i - 1][j - 1]))
                if uncertain + rounding < best.uncertain:
                    best = _Slope(row[j], uncertain + rounding, 8 * rounding)
            table.append(row)
            rows.append(best)
        # Long steps are blurred least by rounding, but may lie where the function is another:
        # go from the shortest to longer ones as long as they agree.
        chosen = rows[-1]
        for row_best in reversed(rows[1:-1]):
            if abs(row_best.value - chosen.value) > 4 * (row_best.uncertain + chosen.uncertain):
                break
            if row_best.uncertain < chosen.uncertain:
                chosen = row_best
        return chosen

    def _value(self, v: FloatArray, h: float) -> float:
        moved = list(self.point)
        moved[self.position] = self.theta + h * v
        try:
            return float(self.value_and_grad(*(array.copy() for array in moved))[0])
        except (ValueError, ArithmeticError, np.linalg.LinAlgError):
            return math.nan  # outside the domain; a shorter step will do


def _severity(row: BlockCheck) -> float:
    return math.inf if math.isnan(row.error) else row.error

"""Check a gradient against central differences of its own value.

Nothing here knows about mixtures: any function that returns a value and its gradients can be
checked, whatever computes it. Differences are extrapolated to step zero (Ridders), so that they
are worth eight digits or more and not the usual five or six. Steps follow the function: they
become shorter until it is smooth there, and where an entry is large beside the distance over which
the value changes, as with an offset, that distance is measured.
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
_FIRST_STEP = 0.02
_SHRINK = 2.0
_STEPS = 9
# The first step of each table is shorter by so much than that of the table before.
_SHORTER = 128.0
_TABLES = 7
# The shortest move of an entry, in units of its last place: its direction is kept to 3 %.
_FEWEST_PLACES = 16
# An error of a thousandth in one entry has to be four times what rounding hides.
_LEAST_SEEN = 1e-3 / 4
# A share of the value, or of the block's largest entry, below which a slope counts as zero, and up
# to which values may scatter where steps cannot be shorter.
_NOTHING = 1e-6
# Lengths are measured for at most so many groups of entries, each from second differences of so
# many units of rounding (Gill, Murray, Saunders and Wright 1983).
_MOST_GROUPS = 512
_CURVED = (40.0, 4000.0)
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
        entry, the difference over the entry. Never over less than rounding of the value lets
        differences see.
    analytic, numeric : float
        The two numbers that were compared there.
    worst : tuple of int, or None
        Index of the worst entry; None if the block passed without looking at single entries.
    tolerance : float
    resolution : float
        The relative error that rounding of the value hides there.
    resolved : bool
        Whether differences could tell an error of a thousandth in a single entry, everywhere that
        was looked at.
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    error: float
    analytic: float
    numeric: float
    worst: tuple[int, ...] | None
    tolerance: float
    resolution: float = 0.0
    resolved: bool = True

    @property
    def wrong(self) -> bool:
        """Whether the error is beyond the tolerance. NaN is."""
        return not self.error <= self.tolerance

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance, and could be seen."""
        return self.resolved and not self.wrong

    @property
    def verdict(self) -> str:
        """In a word, with the place of the entry if one was looked at."""
        if self.passed:
            return "ok"
        at = "" if self.worst is None else f" at {list(self.worst)}"
        return ("WRONG" if self.wrong else "unresolved") + at


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
            lines.append(
                f"{b.name:<{width}}  {shape:<12} {b.checked:>7}  {b.analytic:>14.7e}  "
                f"{b.numeric:>14.7e}  {b.error:>10.1e}  {b.verdict}"
            )
        w = self.worst
        unseen = [block for block in self.blocks if not block.resolved]
        if w.wrong or not unseen:
            what = f"the gradient of {w.name} is wrong" if w.wrong else "every gradient agrees"
            lines.append(f"{what}: worst relative error {w.error:.1e}, allowed {w.tolerance:.0e}")
        for b in unseen:
            hidden = (
                f"relative errors below {b.resolution:.0e}" if b.resolution < 1 else "any error"
            )
            lines.append(
                f"the gradient of {b.name} could not be told right from wrong: rounding hides "
                f"{hidden}. Check at another point, or take an offset from the argument."
            )
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
        Print it; it is true if every gradient passed. A gradient that differences cannot tell
        right from wrong, because rounding hides it, does not pass, and is not called wrong.

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
    Engineering Software 4 (1982) 75-76. Lengths are measured as steps are chosen by Gill, Murray,
    Saunders and Wright, SIAM Journal on Scientific and Statistical Computing 4 (1983) 310-321.

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
            value_and_grad,
            list(point.values()),
            float(value),
            position,
            name,
            gradient,
            masks[name],
            tolerance,
        )
        blocks.append(checker.entries(rng) if entrywise else checker.directions(rng, n_directions))
    if not blocks:
        raise ValueError("value_and_grad returned no gradient to check: all are None.")
    return GradientReport(tuple(blocks))


class _Slope(NamedTuple):
    """Slope of the value along a direction, from differences, beside that of the gradient."""

    analytic: float
    numeric: float
    size: float  # (48), the root of the sum of squares of the terms of the analytic slope
    uncertain: float  # how far neighbouring extrapolations are from it, and rounding
    step: float
    rounding: float  # of the value, in that difference

    @property
    def error(self) -> float:
        return abs(self.analytic - self.numeric)

    @property
    def hidden(self) -> float:
        """What rounding of the value may account for, as known beforehand and as it shows."""
        return max(8 * self.rounding, 4 * self.uncertain)

    def blurred(self, noise: float) -> _Slope:
        """Return the same where values have an error of `noise`, if that is more than rounding."""
        rounding = max(self.rounding, noise / self.step)
        return self._replace(rounding=rounding, uncertain=max(self.uncertain, rounding))


class _BlockChecker:
    """Checks the gradient of one argument, the others held fixed."""

    def __init__(
        self,
        value_and_grad: ValueAndGrad,
        point: list[FloatArray],
        value: float,
        position: int,
        name: str,
        gradient: Any,
        free: NDArray[np.bool_],
        tolerance: float,
    ) -> None:
        self.value_and_grad, self.point, self.position = value_and_grad, point, position
        self.value = abs(value)
        self.name, self.free, self.tolerance = name, free, tolerance
        self.theta = point[position]
        self.gradient: FloatArray = np.asarray(gradient, dtype=np.float64)
        if self.gradient.shape != self.theta.shape:
            raise ValueError(
                f"the gradient of {name} must have the shape of {name}, {self.theta.shape}; got "
                f"{self.gradient.shape}."
            )
        self.typical = math.sqrt(float(np.mean(self.theta**2))) or 1.0
        # How far each entry may be moved: in proportion to itself, until it is measured.
        self.reach: FloatArray = np.where(self.theta == 0, self.typical, np.abs(self.theta))

    def directions(self, rng: np.random.Generator, n_directions: int) -> BlockCheck:
        fixed = self._hopeless_entries()
        if fixed is not None:
            return fixed
        worst = self._along_directions(rng, n_directions)
        if not worst.wrong and not worst.resolved:
            self.reach = self._measured_reach(rng)
            worst = self._along_directions(rng, n_directions)
        if not worst.wrong:
            return worst
        entry = self._along_entries()
        return entry if entry.wrong else worst

    def entries(self, rng: np.random.Generator) -> BlockCheck:
        fixed = self._hopeless_entries()
        if fixed is not None:
            return fixed
        worst = self._along_entries()
        if not worst.wrong and not worst.resolved:
            self.reach = self._measured_reach(rng)
            worst = self._along_entries()
        return worst

    def _along_directions(self, rng: np.random.Generator, n_directions: int) -> BlockCheck:
        n_free = int(np.count_nonzero(self.free))
        rows = []
        for _ in range(n_directions):
            slope = self._slope(self._direction(rng))
            seen = max(slope.size, _NOTHING * self.value) / math.sqrt(max(n_free, 1))
            rows.append(self._row(slope, 1.0, seen, n_directions))
        return max(rows, key=_severity)

    def _along_entries(self) -> BlockCheck:
        places = [tuple(int(i) for i in place) for place in np.argwhere(self.free)]
        largest = float(np.abs(self.gradient).max(initial=0.0))
        rows = []
        for place in places:
            v = np.zeros_like(self.theta)
            v[place] = reach = float(self.reach[place])
            slope = self._slope(v)
            seen = max(slope.size, _NOTHING * max(largest * reach, self.value))
            # The gradient has its rounding too: what is nothing beside the largest may be off.
            slope = slope._replace(size=max(slope.size, _NOTHING * largest * reach))
            rows.append(self._row(slope, reach, seen, len(places), place))
        if not rows:
            return BlockCheck(self.name, self.theta.shape, 0, 0.0, 0.0, 0.0, None, self.tolerance)
        return max(rows, key=_severity)

    def _row(
        self,
        slope: _Slope,
        reach: float,
        seen: float,
        checked: int,
        place: tuple[int, ...] | None = None,
    ) -> BlockCheck:
        """Judge a slope along a direction of length `reach`; `seen` is the slope to be seen."""
        scale = max(slope.size, slope.hidden / self.tolerance)
        error = 0.0 if slope.error == 0 else slope.error / scale if scale else math.inf
        resolved = slope.hidden <= max(self.tolerance * slope.size, _LEAST_SEEN * seen)
        return BlockCheck(
            self.name,
            self.theta.shape,
            checked,
            error,
            slope.analytic / reach,
            slope.numeric / reach,
            place,
            self.tolerance,
            slope.hidden / slope.size if slope.size else math.inf,
            resolved,
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
        """Compare along v, in steps as short as it takes."""
        tables: list[list[_Slope]] = []
        step = _FIRST_STEP
        while self._representable(v, step) is None:
            step *= _SHRINK
        for _ in range(_TABLES):
            move = self._representable(v, step)
            if move is None:
                break
            table = self._ridders(move, step)
            step /= _SHORTER
            if table is None:
                continue
            tables.append(table)
            slope = _least_uncertain(table)
            if max(slope.error, slope.hidden) <= self.tolerance * slope.size:
                return slope
            # Shorter steps cannot tell.
            best = min((_least_uncertain(rows) for rows in tables), key=lambda row: row.hidden)
            if 8 * slope.rounding >= max(best.error, best.hidden):
                break
        if not tables:
            raise ValueError(
                f"no step from the point to check was small enough: along {self.name} the value is "
                "not finite, or raises an error, on one side at least. Check at another point."
            )
        noise = _scatter(tables[-1])
        slope = _least_uncertain([row.blurred(noise) for table in tables for row in table])
        if move is None and noise > _NOTHING * self.value:
            # Shorter steps might tell, but a double holds none: the function may be another there.
            return slope._replace(uncertain=max(slope.uncertain, slope.error))
        return slope

    def _representable(self, v: FloatArray, step: float) -> FloatArray | None:
        """Return the shortest move along v in a table, such that no move in it is rounded.

        Of an entry with a large offset little but rounding would be left. None if the move is too
        short for that.
        """
        move = step / _SHRINK ** (_STEPS - 1) * v
        grid = np.spacing(np.abs(self.theta) + step * np.abs(v))
        with np.errstate(over="ignore", invalid="ignore"):
            count = np.round(move / grid)
            if np.any((np.abs(count) < _FEWEST_PLACES) & (v != 0)):
                return None
            rounded: FloatArray = np.where(np.abs(count) < 2.0**52, count * grid, move)
        return rounded

    def _ridders(self, move: FloatArray, step: float) -> list[_Slope] | None:
        """Extrapolate central differences to step zero; None off the domain: (46), (47).

        The best of each row of the table, that of the longest steps first.
        """
        shortest = step / _SHRINK ** (_STEPS - 1)
        terms = self.gradient * (move / shortest)
        analytic, size = float(terms.sum()), float(np.linalg.norm(terms))  # (48)
        table: list[list[float]] = []
        rows: list[_Slope] = []
        largest = 0.0
        for i in range(_STEPS):
            times = _SHRINK ** (_STEPS - 1 - i)
            h = shortest * times
            above, below = self._value(times * move), self._value(-times * move)
            largest = max(largest, abs(above), abs(below))
            row = [(above - below) / (2 * h)]  # (46)
            if not math.isfinite(row[0]):
                return None
            rounding = _EPS * largest / h
            best = _Slope(analytic, row[0], size, math.inf, h, rounding)
            for j in range(1, i + 1):
                factor = _SHRINK ** (2 * j)  # (47)
                row.append((factor * row[j - 1] - table[i - 1][j - 1]) / (factor - 1))
                uncertain = max(abs(row[j] - row[j - 1]), abs(row[j] - table[i - 1][j - 1]))
                if uncertain + rounding < best.uncertain:
                    best = best._replace(numeric=row[j], uncertain=uncertain + rounding)
            table.append(row)
            rows.append(best)
        return rows[1:]

    def _measured_reach(self, rng: np.random.Generator) -> FloatArray:
        """Return how far entries may be moved: until the value would curve by about itself.

        Entries that differ in the first index alone (samples, or components) share a length. Where
        the value does not curve, or there are too many lengths, the reach stays what it is.
        """
        reach: FloatArray = self.reach.copy()
        if self.theta.ndim > 1:
            groups: list[Any] = [
                (slice(None), *place) for place in np.ndindex(self.theta.shape[1:])
            ]
        else:
            groups = list(np.ndindex(self.theta.shape))
        if len(groups) > _MOST_GROUPS:
            return reach
        sign = rng.choice([-1.0, 1.0], size=self.theta.shape)
        for group in groups:
            v = np.zeros_like(self.theta)
            v[group] = (self.free * sign)[group]
            if v.any():
                length = self._length(v, float(np.sqrt(np.mean(self.theta[group] ** 2))))
                reach[group] = length or reach[group]
        return reach

    def _length(self, v: FloatArray, typical: float) -> float:
        """Return the distance along v over which the value curves by about itself; 0 for none.

        From the shortest step whose second difference stands out of rounding.
        """
        middle = self._value(np.zeros_like(v))
        step, before, length = 2.0**-13 * (typical or self.typical), 0.0, 0.0
        while step < 1e6 * self.typical:
            move = self._representable(v, step)
            if move is None:
                break
            move *= _SHRINK ** (_STEPS - 1)
            above, below = self._value(move), self._value(-move)
            size = max(abs(middle), abs(above), abs(below))
            curved = abs((above - middle) + (below - middle)) / (_EPS * size) if size else 0.0
            if curved >= _CURVED[0]:
                length = step / math.sqrt(_EPS * curved)
            change = 8.0 if curved < _CURVED[0] else 0.125
            if _CURVED[0] <= curved <= _CURVED[1] or change * before == 1.0:
                break
            step, before = step * change, change
        return length

    def _value(self, move: FloatArray) -> float:
        moved = list(self.point)
        moved[self.position] = self.theta + move
        try:
            return float(self.value_and_grad(*(array.copy() for array in moved))[0])
        except (ValueError, ArithmeticError, np.linalg.LinAlgError):
            return math.nan  # outside the domain; a shorter step will do


def _least_uncertain(slopes: Sequence[_Slope]) -> _Slope:
    """Choose among slopes in the order of their steps, the longest first.

    Long steps are blurred least by rounding, but may lie where the function is another: go from the
    shortest to longer ones as long as they agree.
    """
    chosen = slopes[-1]
    for slope in reversed(slopes[:-1]):
        apart = abs((slope.numeric - slope.analytic) - (chosen.numeric - chosen.analytic))
        # Moves that are rounded to what a double can hold change a direction a little.
        if apart > slope.hidden + chosen.hidden + max(slope.error, chosen.error) / 8:
            break
        if slope.uncertain < chosen.uncertain:
            chosen = slope
    return chosen


def _scatter(table: list[_Slope]) -> float:
    """Return the error of values that shows in a table's shortest steps; more, if it is not smooth.

    A slope may agree with its neighbours by chance, but not all of them with one.
    """
    slope = _least_uncertain(table).numeric
    return max(abs(row.numeric - slope) * row.step for row in table[-3:])


def _severity(row: BlockCheck) -> tuple[bool, bool, float]:
    """Wrong before unresolved before right; NaN is the worst."""
    return row.wrong, not row.resolved, math.inf if math.isnan(row.error) else row.error

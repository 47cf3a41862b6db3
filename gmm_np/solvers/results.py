"""What every solver takes and returns: data that were checked once, a callback, a result.

Letters in shapes: N samples, M samples drawn, K components, D dimensions.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np.checks import (
    FloatArray,
    check_choice,
    check_rows,
    check_sample_weight,
    not_finite,
)
from gmm_np.hessian import Information, information, summed_information
from gmm_np.likelihood import checked_statistics, grouped_statistics, statistics
from gmm_np.missing import MISSING, Groups, group_rows, impute
from gmm_np.parameters import Gradients, Parameters
from gmm_np.parts import Executor, Part, Parts, in_step, is_stream, no_blocks, parts_of
from gmm_np.priors import Prior
from gmm_np.second_order import TangentStatistics, tangent_statistics
from gmm_np.sufficient_statistics import Statistics, em_step

Callback = Callable[[int, float], object]
Trace = Callable[[int, Parameters], object]

# The engine reads data column by column: up to so many numbers (64 MiB) they are turned once for
# all passes, and not in each pass.
LARGEST_COPY: Final = 2**23
# Starts and reseeding look at so many rows at most.
SAMPLE_ROWS: Final = 2**16
# For starts, missing values are filled in by a normal distribution: after so many steps of EM, with
# so much of each column's variance as a floor.
FILL_STEPS: Final = 10
FILL_RIDGE: Final = 1e-6


class CollapseError(ValueError):
    """Components collapsed: their samples span less than D dimensions.

    The likelihood has no maximum there: it grows without bound as the covariance shrinks.

    Attributes
    ----------
    components : tuple of int
        From 0.
    """

    def __init__(self, message: str, components: tuple[int, ...]) -> None:
        super().__init__(message)
        self.components = components


class FitInterrupted(KeyboardInterrupt):
    """Ctrl-C in a fit, with what there was until then.

    Attributes
    ----------
    parameters : Parameters
    history : tuple of float
        The objective at each iteration.
    """

    def __init__(self, parameters: Parameters, history: tuple[float, ...]) -> None:
        super().__init__("the fit was interrupted")
        self.parameters, self.history = parameters, history


@dataclass(frozen=True)
class FitResult:
    """Where a solver came to.

    Attributes
    ----------
    parameters : Parameters
    nll : float
        Mean negative log-likelihood there, in nats a sample.
    gradients : Gradients
        Of that mean with respect to the parameters.
    gradient_norm : float
        Euclidean norm of the objective's gradient in units of the fit: with respect to logits,
        means in whitened coordinates, and relative changes of the factors. For EM, of `gradients`.
    n_iter : int
    converged : bool
        Whether the solver's tolerance was met at these parameters, or nothing but rounding is left
        to gain. Of a gradient solver this is said of the gradient there, in those units.
    message : str
        The solver's own words on why it stopped; if it did not converge, with how far from it.
    history : tuple of float
        The objective at each iteration, in nats a sample: the mean negative log-likelihood, plus
        what the priors add.
    collapsed : tuple of int
        Components, from 0, that their samples do not hold up: in some direction the floor gives
        them more of their variance than the samples do, or a prior next to all of it, or these span
        less than D dimensions, so that the covariance is one of before, or becomes singular.
    reseeded : tuple of int
        Components that collapsed on the way and were started again, in the order of time.
    """

    parameters: Parameters
    nll: float
    gradients: Gradients
    gradient_norm: float
    n_iter: int
    converged: bool
    message: str
    history: tuple[float, ...] = ()
    collapsed: tuple[int, ...] = ()
    reseeded: tuple[int, ...] = ()


class Sample(NamedTuple):
    """Distinct rows in the order of their values, and the weight of each."""

    rows: FloatArray  # [M, D]
    weight: FloatArray  # [M]


class Data:
    """Rows and weights that a solver passes over many times.

    Parameters
    ----------
    x : array_like of shape [N, D], or iterable of such blocks of rows
        An iterable must be one that can be read again and again, as a list can. Dask's data, and
        with an executor a list of parts, as `gmm_np.statistics` takes them, stay where they are.
    sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
    n_features : int, optional
        The D that x must have.
    finite : bool
        That every value of x is known to be finite, so that none is looked at again.
    executor : object with a method ``map(function, items)``, optional
        As for `gmm_np.statistics`.
    some : bool
        Whether a row has to have a positive weight, as one of all parts has to.
    missing : {"error", "marginal"}
        What NaN is, as for `gmm_np.nll`: solvers take missing values in these data.

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.statistics` does; for an array the values are looked at here, and for a stream
        or parts in the first pass.
    """

    feature_names: NDArray[Any] | None = None  # where x had names for its columns, [D]

    def __init__(
        self,
        x: ArrayLike | Iterable[Any] | Parts,
        sample_weight: ArrayLike | Iterable[Any] | None = None,
        n_features: int | None = None,
        *,
        finite: bool = False,
        executor: Executor | None = None,
        some: bool = True,
        missing: str = "error",
    ) -> None:
        check_choice("missing", missing, MISSING)
        self.missing = missing
        self.groups: Groups | None = None  # of an array of moderate size with missing values
        self.parts: Parts | None = parts_of(x, sample_weight, executor)
        self.is_stream, self.finite = self.parts is None and is_stream(x), finite
        self.x: Any = x
        self.weight: Any = sample_weight
        self.total_weight = 0.0  # of a stream, or parts, known from the first pass on
        self._variances: FloatArray | None = None
        if self.parts is not None:
            return
        if self.is_stream:
            streams: tuple[tuple[str, Any], ...] = (("x", x), ("sample_weight", sample_weight))
            for name, blocks in streams:
                if blocks is not None and iter(blocks) is blocks:
                    raise TypeError(
                        f"{name} is an iterator, which can be read only once, and a fit reads its "
                        "data many times. Give a list of blocks, or an object whose __iter__ "
                        "starts anew each time."
                    )
            return
        self.x = check_rows(x, n_features)  # type: ignore[arg-type]
        for start in () if finite else range(0, len(self.x), SAMPLE_ROWS):
            chunk = self.x[start : start + SAMPLE_ROWS]
            with np.errstate(over="ignore", invalid="ignore"):
                suspicious = not math.isfinite(chunk.sum(dtype=np.float64))
            if suspicious and _is_wrong(chunk, missing):
                raise not_finite(self.x, missing=missing == "marginal")
        if self.x.size <= LARGEST_COPY and not isinstance(self.x, np.memmap):
            self.x = np.asfortranarray(self.x, np.float64)
            if missing == "marginal":
                self.groups = group_rows(self.x)
        self.weight = check_sample_weight(sample_weight, len(self.x), some=some)  # type: ignore[arg-type]
        self.total_weight = float(len(self.x) if self.weight is None else self.weight.sum())

    @classmethod
    def of(
        cls,
        x: Any,
        sample_weight: Any = None,
        n_features: int | None = None,
        executor: Executor | None = None,
        missing: str = "error",
    ) -> Data:
        """Return data that were checked before as they are, others checked."""
        if not isinstance(x, Data):
            return cls(x, sample_weight, n_features, executor=executor, missing=missing)
        other = None if missing in ("error", x.missing) else missing
        named = (("sample_weight", sample_weight), ("executor", executor), ("missing", other))
        for name, given in named:
            if given is not None:
                raise TypeError(f"{name} belongs into Data, where x is Data.")
        return x

    @property
    def is_array(self) -> bool:
        """Whether the rows are one array, and not a stream or parts."""
        return self.parts is None and not self.is_stream

    def n_features(self) -> int:
        """Return D."""
        if self.parts is not None:
            return self.parts.n_features()
        for rows, _ in self.blocks():
            return int(rows.shape[1])
        raise no_blocks()

    def statistics(self, parameters: Parameters, method: str = "auto") -> Statistics:
        """One pass over the data."""
        if self.groups is not None:
            found = grouped_statistics(self.groups, self.weight, parameters, method)
        elif self.is_array and self.missing == "error":
            found = checked_statistics(self.x, self.weight, parameters, method)
        else:
            x, weight = (self.x, self.weight) if self.parts is None else (self.parts, None)
            found = statistics(
                x, parameters, sample_weight=weight, method=method, missing=self.missing
            )
        self.total_weight = found.weight
        return found

    def tangent_statistics(self, parameters: Parameters, direction: Gradients) -> TangentStatistics:
        """One pass over the data, for a Hessian-vector product."""
        x, weight = (self.x, self.weight) if self.parts is None else (self.parts, None)
        return tangent_statistics(
            x, parameters, direction, sample_weight=weight, missing=self.missing
        )

    def information(self, parameters: Parameters) -> Information:
        """One pass over the data, for the Hessian."""
        if self.parts is not None:
            return summed_information(self.parts, parameters, self.missing)
        total: Information | None = None
        for rows, weight in self.blocks():
            part = information(rows, parameters, weight, self.missing)
            total = part if total is None else total.plus(part)
        if total is None:
            raise no_blocks()
        return total

    def fingerprint(self) -> bytes:
        """Return a digest of rows and weights, by which the same data are known again.

        Takes one reading, of which the blocks of a stream make no difference; parts do.
        """
        if self.parts is not None:
            digests: bytes = self.parts.reduce(_fingerprint_of, self.missing)
            return hashlib.blake2b(digests, digest_size=32).digest()
        rows_seen, weights_seen = (hashlib.blake2b(digest_size=16) for _ in range(2))
        for rows, weight in self.blocks():
            for start in range(0, len(rows), SAMPLE_ROWS):
                part = rows[start : start + SAMPLE_ROWS]
                rows_seen.update(np.ascontiguousarray(part, np.float64).data)
            if weight is not None:
                weights_seen.update(np.ascontiguousarray(weight).data)
        return rows_seen.digest() + weights_seen.digest()

    def blocks(self) -> Iterator[tuple[NDArray[Any], FloatArray | None]]:
        """Yield the rows, and their weights if there are any, in blocks.

        Raises
        ------
        TypeError
            If they lie in parts elsewhere, so that all would have to come here.
        """
        if self.parts is not None:
            raise TypeError(
                "x lies in parts, which stay where they are, and this needs the rows themselves, "
                "one block after the other. Give a sample of them as an array, or a stream."
            )
        if not self.is_stream:
            yield self.x, self.weight
            return
        for index, (block, given) in enumerate(in_step(self.x, self.weight)):
            try:
                rows = check_rows(block)
                if not self.finite and _is_wrong(rows, self.missing):
                    raise not_finite(rows, missing=self.missing == "marginal")
                weight = check_sample_weight(given, len(rows), some=False)
            except (TypeError, ValueError) as error:
                raise type(error)(f"block {index} of x: {error}") from None
            yield rows, weight

    def pick(
        self, rows: NDArray[Any], weight: FloatArray | None, chosen: NDArray[np.integer]
    ) -> Data:
        """Return some rows of one of the `blocks`, by their indices there, as data."""
        own = None if weight is None else weight[chosen]
        return Data(rows[chosen], own, missing=self.missing)

    def usage(self) -> list[Usage]:
        """Return how many rows each block, or part, has of positive weight, and that weight."""
        if self.parts is not None:
            found: list[Usage] = self.parts.reduce(_usage_of, self.missing)
            return found
        return [_usage(*block, place) for place, block in enumerate(self.blocks())]

    def variances(self) -> FloatArray:
        """Return the variance of each column, 0 of a constant one, [D]; one pass over the data.

        Of the values that there are. A second call makes none.
        """
        if self._variances is None:
            if self.parts is not None:
                spread: Spread = self.parts.reduce(_spread_of, self.missing, add=Spread.merge)
            else:
                spread = _spread(self.blocks())
            self._variances = _variances(spread)
        return np.array(self._variances)

    def count_distinct(self, enough: int) -> tuple[int, int]:
        """Count distinct rows of positive weight, and rows; there may be more of both.

        Whoever counts stops at `enough` of the distinct ones in two rows.
        """
        if self.parts is not None:
            found: Distinct = self.parts.reduce(
                _distinct_of, self.missing, enough, add=Distinct.merge
            )
            return min(len(found.rows), enough), found.n_rows
        return count_distinct(self.blocks(), enough)

    def sample(self, rng: np.random.Generator, size: int = SAMPLE_ROWS) -> Sample:
        """Return distinct rows of positive weight; of `size` rows drawn if there are more.

        The order of the rows, whether a row is repeated or has a weight, and the parts, make no
        difference as long as all rows are taken. Missing values are what one normal distribution,
        fitted to the rows, expects; a row without any value is none.
        """
        if self.parts is None:
            drawn = self._draw(rng, size, always=self.is_stream)
        else:
            # Of the generator nothing is taken, so that it goes on as with an array.
            seed = int(copy.deepcopy(rng).integers(2**63))
            add = partial(_add_draws, size=size)
            drawn = self.parts.reduce(_draw_of, self.missing, seed, size, add=add)
        kept, weights, _ = drawn
        if len(kept) == 0:
            raise ValueError("x has no row of positive weight: give at least one.")
        if np.isnan(kept).any():
            kept, weights = _filled(kept, weights)
        return distinct(kept, weights)

    def _draw(self, rng: np.random.Generator, size: int, *, always: bool) -> Drawn:
        """Draw `size` rows of positive weight, with keys `always` or where there are more."""
        kept: list[Drawn] = []
        for rows, weight in self.blocks():
            use = np.arange(len(rows)) if weight is None else np.flatnonzero(weight > 0)
            key = rng.random(len(use)) if always or len(use) > size else np.zeros(len(use))
            if len(use) > size:
                smallest = np.argpartition(key, size)[:size]
                use, key = use[smallest], key[smallest]
            own = np.ones(len(use)) if weight is None else weight[use]
            kept.append(Drawn(np.asarray(rows[use], np.float64), own, key))
            if sum(len(drawn.key) for drawn in kept) > 4 * size:
                kept = [_smallest(kept, size)]
        return _smallest(kept, size)


def distinct(rows: FloatArray, weight: FloatArray) -> Sample:
    """Return the distinct rows in the order of their values, and the weight of each."""
    order = np.argsort(rows[:, 0], kind="stable")
    if (np.diff(rows[order, 0]) == 0).any():  # then the other columns count
        order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    is_new = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    total = np.bincount(np.cumsum(is_new) - 1, weights=weight[order])
    return Sample(ordered[is_new], total.astype(np.float64))


class Usage(NamedTuple):
    """Rows of positive weight, and the sum of these weights."""

    n_rows: int
    weight: float
    place: int  # of the block or part


class Distinct(NamedTuple):
    """Distinct rows of positive weight, as bytes, and how many rows were looked at."""

    rows: frozenset[bytes]
    n_rows: int

    def merge(self, other: Distinct) -> Distinct:
        """Return those of both."""
        return Distinct(self.rows | other.rows, self.n_rows + other.n_rows)


def count_distinct(
    blocks: Iterable[tuple[NDArray[Any], FloatArray | None]], enough: int
) -> tuple[int, int]:
    """Count distinct rows of positive weight, and rows; stop at `enough` of them in two rows."""
    found = _distinct(blocks, enough)
    return len(found.rows), found.n_rows


def _distinct(blocks: Iterable[tuple[NDArray[Any], FloatArray | None]], enough: int) -> Distinct:
    distinct: set[bytes] = set()
    count = 0
    for rows, weight in blocks:
        count += len(rows)
        used = rows if weight is None else rows[weight > 0]
        for start in range(0, len(used), 1024):  # most data show enough at once
            distinct.update(row.tobytes() for row in used[start : start + 1024] + 0.0)
            if len(distinct) >= enough and count > 1:
                return Distinct(frozenset(distinct), count)
    return Distinct(frozenset(distinct), count)


class Drawn(NamedTuple):
    """Rows that were drawn [M, D], their weights [M], and uniform keys [M]: the smallest stay."""

    rows: FloatArray
    weight: FloatArray
    key: FloatArray


def _smallest(drawn: Sequence[Drawn], size: int) -> Drawn:
    """Join draws, and keep what has the `size` smallest keys."""
    some = [part for part in drawn if len(part.key)] or drawn[:1]  # that of no block has no D
    if not some:
        return Drawn(np.empty((0, 0)), np.empty(0), np.empty(0))
    joined = Drawn(*(np.concatenate(arrays) for arrays in zip(*some, strict=True)))
    if len(joined.key) > size:
        smallest = np.argpartition(joined.key, size)[:size]
        return Drawn(*(array[smallest] for array in joined))
    return joined


class Spread(NamedTuple):
    """Of columns: their means, sums of squares about them, and largest values; they merge."""

    weight: FloatArray  # [D], of the values that there are
    mean: FloatArray  # [D]
    square: FloatArray  # [D]
    largest: FloatArray  # [D]

    def merge(self, other: Spread) -> Spread:
        """Return that of both."""
        weight, total = self.weight, other.weight
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # squares may overflow
            moved = other.mean - self.mean
            # sums of squares about the means of both parts, and what these are apart
            apart = moved**2 * (total * (weight / (weight + total)))
            both = Spread(
                weight + total,
                self.mean + moved * (total / (weight + total)),
                self.square + other.square + apart,
                np.maximum(self.largest, other.largest),
            )
        return Spread(
            *(
                np.where(total == 0, mine, np.where(weight == 0, theirs, joined))
                for mine, theirs, joined in zip(self, other, both, strict=True)
            )
        )


def variances(
    blocks: Iterable[tuple[NDArray[Any], FloatArray | None]],
) -> FloatArray:
    """Return the variance of each column of rows and their weights in blocks, [D].

    Of the values that are not NaN. It is zero where rounding of them could have made it.

    Raises
    ------
    ValueError
        If no row has a positive weight, or a column no value in these.
    """
    return _variances(_spread(blocks))


def _spread(blocks: Iterable[tuple[NDArray[Any], FloatArray | None]]) -> Spread:
    zero = np.zeros(())
    found = Spread(zero, zero, zero, zero)
    for rows, given in blocks:
        for start in range(0, len(rows), SAMPLE_ROWS):
            part = np.asarray(rows[start : start + SAMPLE_ROWS], np.float64)
            own = np.ones(len(part)) if given is None else given[start : start + SAMPLE_ROWS]
            if given is not None:  # what has no weight may be anything
                part, own = part[own > 0], own[own > 0]
            if len(part) == 0:
                continue
            gaps = np.isnan(part)
            total = np.full(part.shape[1], own.sum())
            if gaps.any():
                total -= own @ gaps
                total[gaps.all(axis=0)] = 0.0  # but for rounding
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                share = own / float(own.sum())
                middle = share @ np.where(gaps, 0.0, part)
                if gaps.any():
                    middle *= own.sum() / total
                    part = np.where(gaps, middle, part)
                square = own @ np.square(part - middle)
            found = found.merge(Spread(total, middle, square, np.abs(part).max(axis=0)))
    return found


def _variances(spread: Spread) -> FloatArray:
    if not spread.weight.any():
        raise ValueError("x has no row of positive weight: give at least one.")
    if not spread.weight.all():
        raise no_value(spread.weight == 0)
    found = spread.square / spread.weight
    constant = np.sqrt(found) <= 64 * np.finfo(np.float64).eps * spread.largest
    return np.asarray(np.where(constant, 0.0, found))


def _is_wrong(rows: NDArray[Any], missing: str) -> bool:
    """Whether a value is infinite, or NaN and not a missing value."""
    return bool(np.isinf(rows).any() if missing == "marginal" else not np.isfinite(rows).all())


def no_value(empty: NDArray[np.bool_]) -> ValueError:
    """Return the error for columns [D] of which some have no value at all."""
    return ValueError(
        f"x has no value in column {int(np.argmax(empty))}, counted from 0, in any row of positive "
        "weight, so that nothing can be fitted there: leave the column out."
    )


def _filled(rows: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return rows [M, D] that have a value, and their weights, with what is missing filled in.

    By what one normal distribution expects, after some steps of EM: for starts alone.
    """
    used = ~np.isnan(rows).all(axis=1)
    rows, weight = rows[used], weight[used]
    if len(rows) == 0:
        raise no_value(np.ones(rows.shape[1], dtype=bool))
    spread = _spread([(rows, weight)])
    variance = _variances(spread)
    floor = np.where(variance > 0, FILL_RIDGE * variance, 1.0)
    p = Parameters([0.0], spread.mean[None], np.diag(np.sqrt(variance + floor))[None])
    groups = group_rows(rows)
    for _ in range(FILL_STEPS):
        found = grouped_statistics(groups, weight, p, "auto")
        p = em_step(p, found, reg_covar=floor)
    return impute(rows, p.pi_logits, p.means, p.scale), weight


# --- what is asked of a part, where it is -------------------------------------------------------


def _here(part: Part, missing: str) -> Data:
    return Data(part.x, part.weight, some=False, missing=missing)


def _fingerprint_of(part: Part, missing: str) -> bytes:
    return _here(part, missing).fingerprint()


def _usage_of(part: Part, missing: str) -> list[Usage]:
    found = _here(part, missing).usage()
    return [Usage(sum(u.n_rows for u in found), sum(u.weight for u in found), part.place)]


def _usage(rows: NDArray[Any], weight: FloatArray | None, place: int) -> Usage:
    if weight is None:
        return Usage(len(rows), float(len(rows)), place)
    return Usage(int(np.count_nonzero(weight)), float(weight.sum()), place)


def _distinct_of(part: Part, missing: str, enough: int) -> Distinct:
    return _distinct(_here(part, missing).blocks(), enough)


def _spread_of(part: Part, missing: str) -> Spread:
    return _spread(_here(part, missing).blocks())


def _draw_of(part: Part, missing: str, seed: int, size: int) -> Drawn:
    rng = np.random.default_rng([seed, part.place])
    return _here(part, missing)._draw(rng, size, always=True)


def _add_draws(left: Drawn, right: Drawn, *, size: int) -> Drawn:
    return _smallest((left, right), size)


def log_density(priors: Sequence[Prior], parameters: Parameters) -> float:
    """Return the log density of the parameters under all priors, in nats."""
    return math.fsum(prior.log_density_and_grad(parameters)[0] for prior in priors)

"""What every solver takes and returns: data that were checked once, a callback, a result.

Letters in shapes: N samples, M samples drawn, K components, D dimensions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np.checks import FloatArray, check_rows, check_sample_weight, not_finite
from gmm_np.hessian import Information, information
from gmm_np.likelihood import checked_statistics, in_step, is_stream, statistics
from gmm_np.parameters import Gradients, Parameters
from gmm_np.priors import Prior
from gmm_np.second_order import TangentStatistics, tangent_statistics
from gmm_np.sufficient_statistics import Statistics

Callback = Callable[[int, float], object]
Trace = Callable[[int, Parameters], object]

# The engine reads data column by column: up to so many numbers (64 MiB) they are turned once for
# all passes, and not in each pass.
LARGEST_COPY: Final = 2**23
# Starts and reseeding look at so many rows at most.
SAMPLE_ROWS: Final = 2**16


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
        An iterable must be one that can be read again and again, as a list can.
    sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
    n_features : int, optional
        The D that x must have.
    finite : bool
        That every value of x is known to be finite, so that none is looked at again.

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.statistics` does; for an array the values are looked at here, and for a stream
        in its first pass.
    """

    feature_names: NDArray[Any] | None = None  # where x had names for its columns, [D]

    def __init__(
        self,
        x: ArrayLike | Iterable[ArrayLike],
        sample_weight: ArrayLike | Iterable[ArrayLike] | None = None,
        n_features: int | None = None,
        *,
        finite: bool = False,
    ) -> None:
        self.is_stream, self.finite = is_stream(x), finite
        self.x: Any = x
        self.weight: Any = sample_weight
        self.total_weight = 0.0  # of a stream known from the first pass on
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
            if suspicious and not np.isfinite(chunk).all():
                raise not_finite(self.x)
        if self.x.size <= LARGEST_COPY and not isinstance(self.x, np.memmap):
            self.x = np.asfortranarray(self.x, np.float64)
        self.weight = check_sample_weight(sample_weight, len(self.x))  # type: ignore[arg-type]
        self.total_weight = float(len(self.x) if self.weight is None else self.weight.sum())

    @classmethod
    def of(cls, x: Any, sample_weight: Any = None, n_features: int | None = None) -> Data:
        """Return data that were checked before as they are, others checked."""
        if not isinstance(x, Data):
            return cls(x, sample_weight, n_features)
        if sample_weight is not None:
            raise TypeError("sample_weight belongs into Data, where x is Data.")
        return x

    def statistics(self, parameters: Parameters, method: str = "auto") -> Statistics:
        """One pass over the data."""
        if self.is_stream:
            found = statistics(self.x, parameters, sample_weight=self.weight, method=method)
        else:
            found = checked_statistics(self.x, self.weight, parameters, method)
        self.total_weight = found.weight
        return found

    def tangent_statistics(self, parameters: Parameters, direction: Gradients) -> TangentStatistics:
        """One pass over the data, for a Hessian-vector product."""
        return tangent_statistics(self.x, parameters, direction, sample_weight=self.weight)

    def information(self, parameters: Parameters) -> Information:
        """One pass over the data, for the Hessian."""
        total: Information | None = None
        for rows, weight in self.blocks():
            part = information(rows, parameters, weight)
            total = part if total is None else total.plus(part)
        if total is None:
            raise ValueError("x is an iterable without any block of rows: give at least one.")
        return total

    def fingerprint(self) -> bytes:
        """Return a digest of rows and weights, by which the same data are known again.

        Takes one reading, of which the blocks of a stream make no difference.
        """
        rows_seen, weights_seen = (hashlib.blake2b(digest_size=16) for _ in range(2))
        for rows, weight in self.blocks():
            for start in range(0, len(rows), SAMPLE_ROWS):
                part = rows[start : start + SAMPLE_ROWS]
                rows_seen.update(np.ascontiguousarray(part, np.float64).data)
            if weight is not None:
                weights_seen.update(np.ascontiguousarray(weight).data)
        return rows_seen.digest() + weights_seen.digest()

    def blocks(self) -> Iterator[tuple[NDArray[Any], FloatArray | None]]:
        """Yield the rows, and their weights if there are any, in blocks."""
        if not self.is_stream:
            yield self.x, self.weight
            return
        for index, (block, given) in enumerate(in_step(self.x, self.weight)):
            try:
                rows = check_rows(block)
                if not (self.finite or np.isfinite(rows).all()):
                    raise not_finite(rows)
                weight = check_sample_weight(given, len(rows), some=False)
            except (TypeError, ValueError) as error:
                raise type(error)(f"block {index} of x: {error}") from None
            yield rows, weight

    def variances(self) -> FloatArray:
        """Return the variance of each column, 0 of a constant one, [D]; one pass over the data."""
        return variances(self.blocks())

    def sample(self, rng: np.random.Generator, size: int = SAMPLE_ROWS) -> Sample:
        """Return distinct rows of positive weight; of `size` rows drawn if there are more.

        The order of the rows, and whether a row is repeated or has a weight, makes no difference
        as long as all rows are taken.
        """
        kept: list[FloatArray] = []
        weights: list[FloatArray] = []
        keys: list[FloatArray] = []
        for rows, weight in self.blocks():
            use = np.arange(len(rows)) if weight is None else np.flatnonzero(weight > 0)
            key = rng.random(len(use)) if self.is_stream or len(use) > size else np.zeros(len(use))
            if len(use) > size:
                smallest = np.argpartition(key, size)[:size]
                use, key = use[smallest], key[smallest]
            kept.append(np.asarray(rows[use], np.float64))
            weights.append(np.ones(len(use)) if weight is None else weight[use])
            keys.append(key)
            if sum(map(len, keys)) > 4 * size:
                kept, weights, keys = _smallest(kept, weights, keys, size)
        kept, weights, keys = _smallest(kept, weights, keys, size)
        if not kept or len(kept[0]) == 0:
            raise ValueError("x has no row of positive weight: give at least one.")
        distinct, inverse = np.unique(kept[0], axis=0, return_inverse=True)
        return Sample(
            distinct, np.bincount(inverse.reshape(-1), weights=weights[0]).astype(np.float64)
        )


def variances(
    blocks: Iterable[tuple[NDArray[Any], FloatArray | None]],
) -> FloatArray:
    """Return the variance of each column of rows and their weights in blocks, [D].

    It is zero where rounding of the column's values could have made it.

    Raises
    ------
    ValueError
        If no row has a positive weight.
    """
    weight, mean, square, largest = 0.0, np.zeros(()), np.zeros(()), np.zeros(())
    with np.errstate(over="ignore", invalid="ignore"):  # of values whose squares overflow
        for rows, given in blocks:
            for start in range(0, len(rows), SAMPLE_ROWS):
                part = np.asarray(rows[start : start + SAMPLE_ROWS], np.float64)
                own = np.ones(len(part)) if given is None else given[start : start + SAMPLE_ROWS]
                if given is not None:  # what has no weight may be anything
                    part, own = part[own > 0], own[own > 0]
                if len(part) == 0:
                    continue
                total = float(own.sum())
                middle = (own / total) @ part
                moved = middle - mean if weight else np.zeros_like(middle)
                mean = mean + moved * (total / (weight + total)) if weight else middle
                # sums of squares about the means of both parts, and what these are apart
                square = square + own @ np.square(part - middle)
                square = square + moved**2 * (total * (weight / (weight + total)))
                weight += total
                largest = np.maximum(largest, np.abs(part).max(axis=0))
        if weight == 0:
            raise ValueError("x has no row of positive weight: give at least one.")
        found = square / weight
    constant = np.sqrt(found) <= 64 * np.finfo(np.float64).eps * largest
    return np.asarray(np.where(constant, 0.0, found))


def log_density(priors: Sequence[Prior], parameters: Parameters) -> float:
    """Return the log density of the parameters under all priors, in nats."""
    return math.fsum(prior.log_density_and_grad(parameters)[0] for prior in priors)


def _smallest(
    rows: list[FloatArray], weights: list[FloatArray], keys: list[FloatArray], size: int
) -> tuple[list[FloatArray], list[FloatArray], list[FloatArray]]:
    """Join blocks of rows, and keep those of the `size` smallest keys."""
    if not rows:
        return [], [], []
    joined, weight, key = np.concatenate(rows), np.concatenate(weights), np.concatenate(keys)
    if len(key) > size:
        smallest = np.argpartition(key, size)[:size]
        joined, weight, key = joined[smallest], weight[smallest], key[smallest]
    return [joined], [weight], [key]

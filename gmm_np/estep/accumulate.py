"""A pass over rows in one thread: chunk by chunk, through a kernel and a softmax.

Its memory does not grow with the number of rows. Letters in shapes: N samples, B samples of a
block, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import TracebackType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np import extended_range
from gmm_np.checks import FloatArray, not_finite
from gmm_np.covariance.family import Sums
from gmm_np.estep import Guard, Kernel, OutOfRangeError, PreparedMixture
from gmm_np.estep.workspace import avoid_aliasing, equal_chunk

# Sums of exponentials about a guessed shift are taken as they are within exp(+-this).
LARGEST_LOG_SUM: Final = 40.0
# A smaller responsibility is flushed to zero: subnormal numbers make a product four times slower.
SMALLEST_RESPONSIBILITY: Final = 1e-290
# Numbers that NumPy may buffer: less than two rows of a block.
BUFFER: Final = 256
# Rows that show which kernel a chunk is going to need, most likely.
PREPARED: Final = 256
# Rows that are turned to columns at a time.
TURNED: Final = 1024
# Bytes of a chunk, for which the guard chooses one kernel.
CHUNK_BYTES: Final = 2 * 2**20
LARGEST_CHUNK: Final = 8184


class numpy_settings:  # noqa: N801  as `numpy.errstate`
    """The context in which the engine runs: no floating-point warnings, and small buffers.

    Where several rows fit in a buffer, NumPy copies an operand that is broadcast along them to
    make loops longer, at more than the cost of the operation itself.
    """

    def __enter__(self) -> None:
        self._errors = np.errstate(all="ignore")
        self._errors.__enter__()
        self._size = np.setbufsize(BUFFER)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        np.setbufsize(self._size)  # which errstate gives back from NumPy 2 on
        self._errors.__exit__(kind, raised, trace)


class Block(NamedTuple):
    """A block of samples that has been through the softmax.

    Responsibilities are exponentials / total. The kernel is None where a distance left the range
    of a double; exponentials and total are then responsibilities and ones, from the reference.
    """

    start: int
    stop: int
    samples: FloatArray  # [D, B]
    log_likelihood: FloatArray  # [B]
    exponentials: FloatArray  # [K, B]
    total: FloatArray  # [B]
    kernel: Kernel | None


class Softmax:
    """Turns log_joint into log-likelihoods and responsibilities in as few passes as it can.

    Subtracting the largest term of each sample before exponentials are taken costs two passes.
    One shift for a whole block costs none, where it can be guessed from the block before: the
    sums show whether it was good enough, and if it was not, the block is done again with care.

    Attributes
    ----------
    shift : float
        The mean log-likelihood of the last block, NaN before there is one.
    """

    def __init__(self) -> None:
        self.shift = math.nan

    def __call__(self, kernel: Kernel) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log-likelihoods [B], exponentials [K, B] and their sums [B]."""
        if math.isfinite(self.shift):
            terms = kernel.log_joint(self.shift)
            np.exp(terms, out=terms)
            total = terms.sum(axis=0)
            log_total = np.log(total)
            if np.abs(log_total).max() <= LARGEST_LOG_SUM:  # NaN is not
                log_likelihood = log_total + self.shift
                self.shift = float(log_likelihood.sum() / len(log_likelihood))
                return log_likelihood, terms, total
        terms = kernel.log_joint(0.0)
        largest = terms.max(axis=0)  # [B]
        terms -= largest
        np.exp(terms, out=terms)
        total = terms.sum(axis=0)
        log_likelihood = largest + np.log(total)  # (10), whose log1p is for the reference
        self.shift = float(log_likelihood.sum() / len(log_likelihood))
        return log_likelihood, terms, total


class Accumulator:
    """One thread's kernels, its last shift, and what it has added."""

    def __init__(self, mixture: PreparedMixture, guard: Guard, *, central: bool) -> None:
        self.mixture, self.guard, self.central = mixture, guard, central
        self.softmax = Softmax()
        self.losses: list[float] = []
        self.beyond: list[Sums] = []

    def prepare(self, x: NDArray[np.generic]) -> None:
        """Make the kernel that the first rows of x [N, D] want, and what threads share of it.

        Before there are threads: in one of them it would have one core, while others waited for it.
        """
        self.guard.choose(columns(x[:PREPARED]))

    def blocks(self, x: NDArray[np.generic], part: slice) -> Iterator[Block]:
        """Yield these rows of x [N, D] in blocks."""
        most = avoid_aliasing(max(min(CHUNK_BYTES // (8 * x.shape[1]), LARGEST_CHUNK), 1))
        rows = equal_chunk(max(part.stop - part.start, 1), most)
        for start in range(part.start, part.stop, rows):
            chunk = columns(x[start : min(start + rows, part.stop)])
            if not math.isfinite(chunk.sum()) and not np.isfinite(chunk).all():
                raise not_finite(x)
            kernel, samples = self.guard.choose(chunk)
            size = equal_chunk(chunk.shape[1], kernel.block)
            for inner in range(0, chunk.shape[1], size):
                some = slice(inner, inner + size)
                yield self._block(start + inner, chunk[:, some], kernel, samples[:, some])

    def add(self, block: Block, weight: FloatArray | None) -> None:
        """Add the moments of a block, weighted by weight [B] if there is one."""
        if weight is None:
            loss, factor = block.log_likelihood, 1.0 / block.total
        else:
            loss = np.where(weight == 0, 0.0, weight * block.log_likelihood)
            factor = weight / block.total
        self.losses.append(-float(loss.sum()))
        if block.kernel is None:
            self._add_beyond(block, factor)
        else:
            block.kernel.add(block.exponentials, factor, weight)

    def merge(self, other: Accumulator) -> None:
        """Add what another pass added."""
        self.guard.merge(other.guard)
        self.losses += other.losses
        self.beyond += other.beyond

    def sums(self) -> list[Sums]:
        """Return what was added, in parts."""
        return [*self.guard.sums(), *self.beyond]

    def _block(self, start: int, x: FloatArray, kernel: Kernel, samples: FloatArray) -> Block:
        stop = start + x.shape[1]
        try:
            if not self.mixture.in_range:
                raise OutOfRangeError
            kernel.start(samples)
            log_likelihood, exponentials, total = self.softmax(kernel)
            if not math.isfinite(self.softmax.shift):  # that of this block
                raise OutOfRangeError
            _flush(exponentials, total)
            return Block(start, stop, x, log_likelihood, exponentials, total, kernel)
        except OutOfRangeError:
            self.softmax.shift = math.nan
            log_likelihood, resp = self._by_reference(x)
            ones = np.ones(x.shape[1])
            _flush(resp, ones)
            return Block(start, stop, x, log_likelihood, resp, ones, None)

    def _by_reference(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log-likelihoods [B] and responsibilities [K, B], some samples at a time."""
        from gmm_np import reference  # rarely: a distance left the range of a double

        m, n_samples = self.mixture, x.shape[1]
        log_likelihood, resp = np.empty(n_samples), np.empty((m.n_components, n_samples))
        rows = max(CHUNK_BYTES // (8 * m.means.size), 1)
        for start in range(0, n_samples, rows):
            part = slice(start, start + rows)
            loss, cache = reference.nll_forward(
                x[:, part].T, m.log_pi, m.means, m.factors, reduction="none"
            )
            log_likelihood[part], resp[:, part] = -loss, cache.resp.T
        return log_likelihood, resp

    def _add_beyond(self, block: Block, factor: FloatArray) -> None:
        m, weight = self.mixture, block.exponentials * factor
        by = m.factors if m.family.whitened else np.broadcast_to(np.eye(m.n_dims), m.factors.shape)
        moments = [
            extended_range.whitened_moments(weight[k], block.samples.T, m.means[k], by[k])
            for k in range(m.n_components)
        ]
        first, second = (np.stack(arrays) for arrays in zip(*moments, strict=True))
        sums = Sums(weight.sum(axis=1), first, m.family.reduce(second))
        self.beyond.append(sums.centre(m.family) if self.central else sums)


def columns(rows: NDArray[np.generic]) -> FloatArray:
    """Return rows [B, D] as columns [D, B], some at a time, so that both stay in a cache."""
    turned = np.empty(rows.shape[::-1])
    for start in range(0, len(rows), TURNED):
        part = slice(start, start + TURNED)
        turned[:, part] = rows[part].T
    return turned


def _flush(exponentials: FloatArray, total: FloatArray) -> None:
    """Set negligible responsibilities to zero, where there are any."""
    if exponentials.min() < 1e-230:
        exponentials[exponentials < SMALLEST_RESPONSIBILITY * total] = 0.0

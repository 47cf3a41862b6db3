"""One thread's part of an E-step: chunk by chunk, through a kernel and a softmax, into sums.

Its memory does not grow with the number of rows. Letters in shapes: N samples, B samples of a
block, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmm_np import extended_range, tuning
from gmm_np.checks import FloatArray, not_finite
from gmm_np.covariance.sums import Sums
from gmm_np.estep.feature_kernel import FeatureKernel
from gmm_np.estep.prepared_mixture import PreparedMixture, Standardization
from gmm_np.estep.residual_kernel import OutOfRangeError, ResidualKernel

Method: TypeAlias = Literal["auto", "direct", "moments"]
METHODS: Final = ("auto", "direct", "moments")
Kernel: TypeAlias = ResidualKernel | FeatureKernel

# The feature kernel is admitted where the bound on its relative error promises ten digits.
LARGEST_ERROR: Final = 1e-10

# Sums of exponentials about a guessed shift are taken as they are within exp(+-this).
LARGEST_LOG_SUM: Final = 40.0
# A smaller responsibility is flushed to zero: subnormal numbers make a product four times slower.
SMALLEST_RESPONSIBILITY: Final = 1e-290

# glibc returns memory to the system beyond twice the largest array, of up to 32 MiB, that it has
# seen freed; then each call waits for new pages, for up to half its time. Having seen one (which
# is never written to, and so takes no memory) it keeps that of the kernels for the next call.
np.empty(31 * 2**20 // 8)


class numpy_settings:  # noqa: N801  as `numpy.errstate`
    """The context in which an E-step runs: no floating-point warnings, and small buffers.

    Where several rows fit in a buffer, NumPy copies an operand that is broadcast along them to
    make loops longer, at more than the cost of the operation itself.
    """

    def __enter__(self) -> None:
        self._errors = np.errstate(all="ignore")
        self._errors.__enter__()
        self._size = np.setbufsize(tuning.active.buffer)

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


def choose_kernel(
    mixture: PreparedMixture, method: Method, x: FloatArray
) -> tuple[Standardization, FloatArray] | None:
    """Return the coordinates that the feature kernel takes, and samples x [D, B] in them.

    None for the residual kernel, which takes them as they are.
    """
    if method == "direct":
        return None
    for common in mixture.family.frames:
        standardization = mixture.standardization(common=common)
        if standardization.unit != 1.0 and not mixture.family.whitened:
            continue  # plain residuals are in the units of the data
        y = standardization.transform(x)
        if method == "moments" or standardization.error_bound(y) <= LARGEST_ERROR:
            return standardization, y
    return None


class Accumulator:
    """One thread's kernels, the shift of its last block, and what it has added.

    Parameters
    ----------
    mixture : PreparedMixture
    method : {"auto", "direct", "moments"}
        "auto" is the feature kernel where it is accurate enough.
    n_samples : int
        How many are to come, about.
    central, finite : bool
        As for `EStep`.
    """

    def __init__(
        self,
        mixture: PreparedMixture,
        method: Method,
        *,
        n_samples: int,
        central: bool = False,
        finite: bool = False,
    ) -> None:
        self.mixture, self.method = mixture, method
        self.n_samples, self.central, self.finite = n_samples, central, finite
        self.residual_kernel: ResidualKernel | None = None
        self.feature_kernels: dict[bool, FeatureKernel] = {}  # by whether a factor is common
        self.shift = math.nan  # the mean log-likelihood of the last block, NaN before there is one
        self.losses: list[float] = []
        self.out_of_range: list[Sums] = []

    def choose(self, x: FloatArray) -> tuple[Kernel, FloatArray]:
        """Return the kernel for samples x [D, B], and the samples as it wants them."""
        found, m, t = choose_kernel(self.mixture, self.method, x), self.mixture, tuning.active
        if found is None:
            if self.residual_kernel is None:
                block = block_size(
                    t.residual_block_bytes, m.n_components * (m.n_dims + 2), self.n_samples
                )
                self.residual_kernel = ResidualKernel(self.mixture, block, central=self.central)
            return self.residual_kernel, x
        standardization, y = found
        common = standardization.common_inverse is not None
        if common not in self.feature_kernels:
            block = block_size(t.feature_block_bytes, m.n_features + m.n_components, self.n_samples)
            self.feature_kernels[common] = FeatureKernel(
                self.mixture, standardization, block, central=self.central
            )
        return self.feature_kernels[common], y

    def blocks(self, x: NDArray[np.generic], part: slice) -> Iterator[Block]:
        """Yield these rows of x [N, D] in blocks."""
        t = tuning.active
        most = max(min(t.chunk_bytes // (8 * x.shape[1]), t.largest_chunk), 1)
        n_rows = max(part.stop - part.start, 1)
        rows = equal_chunk(n_rows, avoid_aliasing(most))
        for start in range(part.start, part.stop, rows):
            chunk = columns(x[start : min(start + rows, part.stop)])
            if not (self.finite or math.isfinite(chunk.sum()) or np.isfinite(chunk).all()):
                raise not_finite(x)
            kernel, samples = self.choose(chunk)
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
            self._add_out_of_range(block, factor)
        else:
            block.kernel.add(block.exponentials, factor, weight)

    def merge(self, other: Accumulator) -> None:
        """Add what another thread added."""
        for common, kernel in other.feature_kernels.items():
            if common in self.feature_kernels:
                self.feature_kernels[common].merge(kernel)
            else:
                self.feature_kernels[common] = kernel
        if self.residual_kernel is None:
            self.residual_kernel = other.residual_kernel
        elif other.residual_kernel is not None:
            self.residual_kernel.merge(other.residual_kernel)
        self.losses += other.losses
        self.out_of_range += other.out_of_range

    def sums(self) -> list[Sums]:
        """Return what was added, in parts."""
        parts: list[Sums] = []
        for kernel in self.feature_kernels.values():
            parts += kernel.sums()
        if self.residual_kernel is not None:
            parts += self.residual_kernel.sums()
        return parts + self.out_of_range

    def _block(self, start: int, x: FloatArray, kernel: Kernel, samples: FloatArray) -> Block:
        """Take samples x [D, B], which the kernel wants as `samples`, through the softmax."""
        stop = start + x.shape[1]
        try:
            if not self.mixture.in_range:
                raise OutOfRangeError
            kernel.start(samples)
            log_likelihood, exponentials, total = self._softmax(kernel)
            if not math.isfinite(self.shift):  # that of this block
                raise OutOfRangeError
        except OutOfRangeError:
            self.shift, used = math.nan, None
            log_likelihood, exponentials = self._by_reference(x)
            total = np.ones(x.shape[1])
        else:
            used = kernel
        if exponentials.min() < 1e-230:
            exponentials[exponentials < SMALLEST_RESPONSIBILITY * total] = 0.0
        return Block(start, stop, x, log_likelihood, exponentials, total, used)

    def _softmax(self, kernel: Kernel) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log-likelihoods [B], exponentials [K, B] and their sums [B], in few passes.

        Subtracting the largest term of each sample before exponentials are taken costs two passes.
        One shift for a whole block costs none, where it can be guessed from the block before: the
        sums show whether it was good enough, and if it was not, the block is done again with care.
        """
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

    def _by_reference(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log-likelihoods [B] and responsibilities [K, B], some samples at a time."""
        from gmm_np import reference  # rarely: a distance left the range of a double

        m, n_samples = self.mixture, x.shape[1]
        log_likelihood, resp = np.empty(n_samples), np.empty((m.n_components, n_samples))
        rows = max(tuning.active.chunk_bytes // (8 * m.means.size), 1)
        for start in range(0, n_samples, rows):
            part = slice(start, start + rows)
            loss, cache = reference.nll_forward(
                x[:, part].T, m.log_pi, m.means, m.factors, reduction="none"
            )
            log_likelihood[part], resp[:, part] = -loss, cache.resp.T
        return log_likelihood, resp

    def _add_out_of_range(self, block: Block, factor: FloatArray) -> None:
        m, weight = self.mixture, block.exponentials * factor
        by = m.factors if m.family.whitened else np.broadcast_to(np.eye(m.n_dims), m.factors.shape)
        moments = [
            extended_range.whitened_moments(weight[k], block.samples.T, m.means[k], by[k])
            for k in range(m.n_components)
        ]
        first, second = (np.stack(arrays) for arrays in zip(*moments, strict=True))
        sums = Sums(weight.sum(axis=1), first, m.family.reduce(second))
        self.out_of_range.append(sums.centre(m.family) if self.central else sums)


def columns(rows: NDArray[np.generic]) -> FloatArray:
    """Return rows [B, D] as columns [D, B], some at a time, so that both stay in a cache."""
    turned, step = np.empty(rows.shape[::-1]), tuning.active.turned_rows
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        turned[:, part] = rows[part].T
    return turned


# --- how many samples are taken at a time -------------------------------------------------------


def block_size(n_bytes: int, doubles: int, n_samples: int) -> int:
    """Return the samples of a block of so many bytes that holds so many doubles for each."""
    t = tuning.active
    rows = min(max(n_bytes // (8 * doubles), t.smallest_block), t.largest_block)
    return min(avoid_aliasing(rows), n_samples)


def equal_chunk(n_samples: int, most: int) -> int:
    """Return the length of parts of about the same length, of which there are as few as can be."""
    n_parts = -(-n_samples // most)
    # `avoid_aliasing` takes away up to 15 samples, which must not add up to another part
    return min(avoid_aliasing(-(-n_samples // n_parts) + 15), most)


def avoid_aliasing(n_samples: int) -> int:
    """Return a number of samples no larger whose rows do not share their places in a cache.

    An odd number of cache lines of eight doubles. Where it is a power of two, the columns that a
    product reads displace each other.
    """
    return n_samples if n_samples < 128 else n_samples - (n_samples - 8) % 16

"""The E-step: rows become log-likelihoods, responsibilities and sums, chunk by chunk, in threads.

Each thread has a part of the rows, and its own memory, which does not grow with them; what they
add up is added in the end. Letters in shapes: N samples, B samples of a block, K components,
D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmm_np import extended_range, tuning
from gmm_np.checks import FloatArray, not_finite
from gmm_np.covariance.sums import Sums, merge
from gmm_np.estep.feature_kernel import FeatureKernel
from gmm_np.estep.prepared_mixture import Method, PreparedMixture
from gmm_np.estep.residual_kernel import OutOfRangeError, ResidualKernel
from gmm_np.linalg import threads

METHODS: Final = ("auto", "direct", "moments")
Kernel: TypeAlias = ResidualKernel | FeatureKernel

# Sums of exponentials about a guessed shift are taken as they are within exp(+-this).
LARGEST_LOG_SUM: Final = 40.0
# A smaller responsibility is flushed to zero: subnormal numbers make a product four times slower.
SMALLEST_RESPONSIBILITY: Final = 1e-290

# glibc returns memory to the system beyond twice the largest array, of up to 32 MiB, that it has
# seen freed; then each call waits for new pages, for up to half its time. Having seen one (which
# is never written to, and so takes no memory) it keeps that of the kernels for the next call.
np.empty(31 * 2**20 // 8)


@contextmanager
def numpy_settings() -> Iterator[None]:
    """No floating-point warnings, and small buffers, as `numpy.errstate` does it.

    Where several rows fit in a buffer, NumPy copies an operand that is broadcast along them to
    make loops longer, at more than the cost of the operation itself.
    """
    with np.errstate(all="ignore"):
        size = np.setbufsize(tuning.active.buffer)
        try:
            yield
        finally:
            np.setbufsize(size)  # which errstate gives back from NumPy 2 on


class Block(NamedTuple):
    """A block of samples that has been through the softmax.

    Responsibilities are exponentials / total. The kernel is None where a distance left the range
    of a double; exponentials and total are then responsibilities and ones, from the reference.
    Rows that were taken in another order have their numbers in `order`.
    """

    start: int
    stop: int
    samples: FloatArray  # [D, B]
    log_likelihood: FloatArray  # [B]
    exponentials: FloatArray  # [K, B]
    total: FloatArray  # [B]
    kernel: Kernel | None
    order: NDArray[np.intp] | None = None  # [B]

    @property
    def rows(self) -> slice | NDArray[np.intp]:
        """Which rows of the data these are."""
        return slice(self.start, self.stop) if self.order is None else self.order


class EStep:
    """Responsibilities of data at fixed parameters, and their sums, kept between calls.

    Parameters
    ----------
    mixture : PreparedMixture
    method : {"auto", "direct", "moments"}
        "auto" is the cheaper kernel of those that are accurate enough.
    gradient : bool
        Whether moments are going to be added.
    central : bool
        Whether second moments are to be about the components' weighted means of the data, for a
        fit, and not about the means of the mixture, for a gradient.
    n_samples : int
        How many samples are to come, about; the cheaper kernel depends on both.
    finite : bool
        Whether the data were searched for values that are not finite.
    """

    def __init__(
        self,
        mixture: PreparedMixture,
        method: Method,
        *,
        gradient: bool,
        central: bool = False,
        n_samples: int = 10**6,
        finite: bool = False,
    ) -> None:
        self.mixture, self.n_samples = mixture, n_samples
        self.central, self.finite = central, finite
        cost = self.costs = costs(mixture, n_samples, gradient=gradient)
        work = n_samples * mixture.n_components * mixture.n_dims
        little = work <= tuning.active.little_work
        if method == "auto" and (little or cost["moments"] > cost["direct"]):
            method = "direct"
        self.method = method
        self.accumulators: list[Accumulator] = []
        self.weight, self.count = 0.0, 0

    def each(self, x: NDArray[np.generic], use: Callable[[Block], None]) -> None:
        """Call `use` with each block of the rows of x [N, D], from several threads.

        Raises
        ------
        ValueError
            If a value is not finite.
        """
        self.add(x, None, use=use)

    def add(
        self,
        x: NDArray[np.generic],
        weight: FloatArray | None,
        exponent: int = 0,
        use: Callable[[Block], None] | None = None,
    ) -> None:
        """Add the moments of x [N, D], weighted by weight [N] / 2^exponent if there is one.

        Where `use` is given, it is called with each block instead.

        Raises
        ------
        ValueError
            If a value is not finite.
        """
        n, n_threads, halt = len(x), self._n_threads(x), Event()
        share = -(-max(n, self.n_samples) // n_threads)
        while len(self.accumulators) < n_threads:
            self.accumulators.append(self._accumulator(share))
        if n_threads == 1:
            self.accumulators[0].take(x, slice(0, n), use, weight, exponent, halt)
        else:
            # What threads share is made before there are threads: in one of them it would have
            # one core, while others waited for it.
            with numpy_settings():
                self.accumulators[0].choose(columns(x[: tuning.active.first_rows]))
            parts = [slice(n * i // n_threads, n * (i + 1) // n_threads) for i in range(n_threads)]
            tasks = [
                partial(own.take, x, part, use, weight, exponent, halt)
                for own, part in zip(self.accumulators, parts, strict=False)
            ]
            threads.run_in_threads(tasks, halt)
        self.weight += float(n) if weight is None else math.ldexp(float(weight.sum()), -exponent)
        self.count += n

    @property
    def loss(self) -> float:
        """Weighted sum of the negative log-likelihoods of all that was added, in nats."""
        losses: list[float] = []
        for accumulator in self.accumulators:
            losses += accumulator.losses
        try:
            return math.fsum(losses)
        except (OverflowError, ValueError):  # beyond a double on the way, or opposite infinities
            scaled = (2.0**-100 * min(max(loss, -1e308), 1e308) for loss in losses)
            return math.copysign(math.inf, math.fsum(scaled))

    def sums(self) -> Sums:
        """Return n [K], v [K, D] and second moments of all that was added, equation (25)."""
        mixture, own = self.mixture, self.accumulators[0]
        with numpy_settings():
            while len(self.accumulators) > 1:
                own.merge(self.accumulators.pop(1))
            parts: list[Sums] = []
            for coordinates in (False, True, None):
                if coordinates in own.kernels:
                    parts += own.kernels[coordinates].sums()
            sums, *more = parts + own.out_of_range
            for part in more:
                if self.central:
                    sums = merge(mixture.family, sums, part)
                else:
                    sums = Sums(*(a + b for a, b in zip(sums, part, strict=True)))
        return sums if mixture.all_on else mixture.to_all_components(sums)

    def _accumulator(self, n_samples: int) -> Accumulator:
        """Return what one thread adds to, for about so many samples."""
        return Accumulator(
            self.mixture,
            self.method,
            n_samples=n_samples,
            central=self.central,
            finite=self.finite,
        )

    def _n_threads(self, x: NDArray[np.generic]) -> int:
        """Return how many threads to use for x [N, D], by the kernel that its first rows take."""
        t = tuning.active
        if max(self.costs.values()) * len(x) < 2 * t.worth_a_thread:
            return 1
        with numpy_settings():
            found = self.mixture.coordinates(self.method, columns(x[: t.first_rows]))
        cost = self.costs["direct" if found is None else "moments"]
        if cost < t.cheap_sample or cost * len(x) < 2 * t.worth_a_thread:
            return 1
        return threads.worthwhile_threads(cost * len(x))


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
        # By their coordinates: None for residuals, whether a factor is common for features.
        self.kernels: dict[bool | None, Kernel] = {}
        self.shift = math.nan  # the mean log-likelihood of the last block, NaN before there is one
        self.losses: list[float] = []
        self.out_of_range: list[Sums] = []

    def choose(self, x: FloatArray) -> tuple[Kernel, FloatArray]:
        """Return the kernel for samples x [D, B], and the samples as it wants them."""
        m, t, central = self.mixture, tuning.active, self.central
        found = m.coordinates(self.method, x)
        coordinates = None if found is None else found[0].common_inverse is not None
        if coordinates not in self.kernels:
            if found is None:
                doubles = m.n_components * (m.n_dims + 2)
                block = block_size(t.residual_block_bytes, doubles, self.n_samples)
                self.kernels[None] = ResidualKernel(m, block, central=central)
            else:
                doubles = m.n_features + m.n_components
                block = block_size(t.feature_block_bytes, doubles, self.n_samples)
                self.kernels[coordinates] = FeatureKernel(m, found[0], block, central=central)
        return self.kernels[coordinates], x if found is None else found[1]

    def take(
        self,
        x: NDArray[np.generic],
        part: slice,
        use: Callable[[Block], None] | None,
        weight: FloatArray | None,
        exponent: int,
        halt: Event,
    ) -> None:
        """Take these rows of x [N, D]: call `use` with each block, or add it, until told to halt.

        A chunk is what one kernel is chosen for, and a block what it takes at a time.
        """
        t = tuning.active
        most = max(min(t.chunk_bytes // (8 * x.shape[1]), t.largest_chunk), 1)
        rows = equal_chunk(max(part.stop - part.start, 1), avoid_aliasing(most))
        try:
            with numpy_settings():
                for start in range(part.start, part.stop, rows):
                    chunk = columns(x[start : min(start + rows, part.stop)])
                    if not (self.finite or math.isfinite(chunk.sum()) or np.isfinite(chunk).all()):
                        raise not_finite(x)
                    kernel, samples = self.choose(chunk)
                    size = equal_chunk(chunk.shape[1], kernel.block)
                    for first in range(0, chunk.shape[1], size):
                        if halt.is_set():
                            return
                        some = slice(first, first + size)
                        block = self._block(start + first, chunk[:, some], kernel, samples[:, some])
                        if use is not None:
                            use(block)
                        elif weight is None:
                            self.add(block, None)
                        else:
                            self.add(block, np.ldexp(weight[block.start : block.stop], -exponent))
        except BaseException:
            halt.set()  # so that no error, nor Ctrl-C, waits for what the others have left
            raise

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
        for coordinates, kernel in other.kernels.items():
            if coordinates in self.kernels:
                self.kernels[coordinates].merge(kernel)  # type: ignore[arg-type]  # of one kind
            else:
                self.kernels[coordinates] = kernel
        self.losses += other.losses
        self.out_of_range += other.out_of_range

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


def costs(mixture: PreparedMixture, n_samples: int, *, gradient: bool) -> dict[Method, float]:
    """Return what a sample costs by each kernel: nanoseconds of one core, about.

    Fitted to K from 2 to 200 and D from 2 to 128. What is made of parameters, and of sums, costs
    D^3 for each component, however few the samples.
    """
    t = tuning.active
    k, d, p = mixture.n_components, mixture.n_dims, mixture.n_features
    products = 2 if gradient else 1
    write = t.feature_write + t.feature_cache * p
    features = p * (write + t.feature_multiply * products * k) + t.feature_component * k
    if not mixture.family.dense:
        residuals = products * k * d * t.diagonal_pass + t.residual_component * k
        return {"moments": features, "direct": residuals}
    features += t.feature_cube * products * k * d**3 / n_samples
    residuals = products * k * d * (t.residual_pass + t.residual_triangle * d)
    residuals += t.residual_component * k
    residuals += t.residual_cube * k * d**3 / n_samples
    return {"moments": features, "direct": residuals}


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

"""The E-step: the rows of the data are divided among threads, and their sums add.

Letters in shapes: N samples, B samples of a block, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from threading import Event

import numpy as np
from numpy.typing import NDArray

from gmm_np import tuning
from gmm_np.checks import FloatArray
from gmm_np.covariance.sums import Sums, merge
from gmm_np.estep.accumulate import (
    Accumulator,
    Block,
    Method,
    choose_kernel,
    columns,
    numpy_settings,
)
from gmm_np.estep.prepared_mixture import PreparedMixture
from gmm_np.linalg import threads


class EStep:
    """Responsibilities of data at fixed parameters, and their sums, kept between calls.

    Parameters
    ----------
    mixture : PreparedMixture
    method : {"auto", "direct", "moments"}
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
        self._run(x, use, None, 0)

    def add(self, x: NDArray[np.generic], weight: FloatArray | None, exponent: int = 0) -> None:
        """Add the moments of x [N, D], weighted by weight [N] / 2^exponent if there is one.

        Raises
        ------
        ValueError
            If a value is not finite.
        """
        self._run(x, None, weight, exponent)
        total = float(len(x)) if weight is None else math.ldexp(float(weight.sum()), -exponent)
        self.weight += total
        self.count += len(x)

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
        family = self.mixture.family
        with numpy_settings():
            while len(self.accumulators) > 1:
                self.accumulators[0].merge(self.accumulators.pop(1))
            parts = self.accumulators[0].sums()
            sums = parts[0]
            for part in parts[1:]:
                if self.central:
                    sums = merge(family, sums, part)
                else:
                    sums = Sums(*(a + b for a, b in zip(sums, part, strict=True)))
        return self.mixture.to_all_components(sums)

    def _run(
        self,
        x: NDArray[np.generic],
        use: Callable[[Block], None] | None,
        weight: FloatArray | None,
        exponent: int,
    ) -> None:
        """Give each thread its part of x [N, D]; call `use` with each block, or add its moments."""
        n_threads, halt = self._n_threads(x), Event()
        while len(self.accumulators) < n_threads:
            share = -(-max(len(x), self.n_samples) // n_threads)
            self.accumulators.append(
                Accumulator(
                    self.mixture,
                    self.method,
                    n_samples=share,
                    central=self.central,
                    finite=self.finite,
                )
            )
        if n_threads == 1:
            self._pass(0, 1, x, use, weight, exponent, halt)
            return
        # What threads share is made before there are threads: in one of them it would have one
        # core, while others waited for it.
        with numpy_settings():
            self.accumulators[0].choose(columns(x[: tuning.active.first_rows]))
        tasks = [
            partial(self._pass, i, n_threads, x, use, weight, exponent, halt)
            for i in range(n_threads)
        ]
        threads.run_in_threads(tasks, halt)

    def _pass(
        self,
        i: int,
        n_threads: int,
        x: NDArray[np.generic],
        use: Callable[[Block], None] | None,
        weight: FloatArray | None,
        exponent: int,
        halt: Event,
    ) -> None:
        """Do the part of one thread."""
        own = self.accumulators[i]
        part = slice(len(x) * i // n_threads, len(x) * (i + 1) // n_threads)
        try:
            with numpy_settings():
                for block in own.blocks(x, part):
                    if halt.is_set():
                        return
                    if use is not None:
                        use(block)
                    elif weight is None:
                        own.add(block, None)
                    else:
                        own.add(block, np.ldexp(weight[block.start : block.stop], -exponent))
        except BaseException:
            halt.set()  # so that no error, nor Ctrl-C, waits for what the others have left
            raise

    def _n_threads(self, x: NDArray[np.generic]) -> int:
        """Return how many threads to use for x [N, D], by the kernel that its first rows take."""
        t = tuning.active
        if max(self.costs.values()) * len(x) < 2 * t.worth_a_thread:
            return 1
        with numpy_settings():
            found = choose_kernel(self.mixture, self.method, columns(x[: t.first_rows]))
        cost = self.costs["direct" if found is None else "moments"]
        if cost < t.cheap_sample or cost * len(x) < 2 * t.worth_a_thread:
            return 1
        return threads.worthwhile_threads(cost * len(x))


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

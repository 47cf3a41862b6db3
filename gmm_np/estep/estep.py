"""The pass over the data: its rows are divided among threads, and their sums add.

Letters in shapes: N samples, B samples of a block, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.covariance.family import Sums, merge
from gmm_np.estep import Costs, Guard, Method, PreparedMixture, Standardizations, cheapest
from gmm_np.estep.accumulate import PREPARED, Accumulator, Block, columns, numpy_settings
from gmm_np.linalg import threads

# Nanoseconds for a sample up to which threads would wait for the interpreter most of the time.
CHEAP: Final = 150.0


class EStep:
    """One pass over data at fixed parameters, in threads. It keeps their sums between calls.

    Parameters
    ----------
    mixture : Mixture
    method : {"auto", "direct", "moments"}
    gradient : bool
        Whether moments are going to be added.
    central : bool
        Whether second moments are to be about the components' weighted means of the data, for a
        fit, and not about the means of the mixture, for a gradient.
    n_samples : int
        How many samples are to come, about; the cheaper kernel depends on both.
    """

    def __init__(
        self,
        mixture: PreparedMixture,
        method: Method,
        *,
        gradient: bool,
        central: bool = False,
        n_samples: int = 10**6,
    ) -> None:
        self.mixture, self.central, self.n_samples = mixture, central, n_samples
        self.costs = Costs.of(mixture, n_samples, gradient=gradient)
        self.method = cheapest(mixture, self.costs, n_samples) if method == "auto" else method
        self.frames = Standardizations(mixture)
        self.passes: list[Accumulator] = []
        self.weight, self.count = 0.0, 0

    def each(self, x: NDArray[np.generic], use: Callable[[Block], None]) -> None:
        """Call `use` with each block of the rows of x [N, D], from several threads.

        Raises
        ------
        ValueError
            If a value is not finite.
        """
        self._run(x, lambda _own, block: use(block))

    def add(self, x: NDArray[np.generic], weight: FloatArray | None, exponent: int = 0) -> None:
        """Add the moments of x [N, D], weighted by weight [N] / 2^exponent if there is one.

        Raises
        ------
        ValueError
            If a value is not finite.
        """

        def add(own: Accumulator, block: Block) -> None:
            w = None if weight is None else np.ldexp(weight[block.start : block.stop], -exponent)
            own.add(block, w)

        self._run(x, add)
        total = float(len(x)) if weight is None else math.ldexp(float(weight.sum()), -exponent)
        self.weight += total
        self.count += len(x)

    @property
    def loss(self) -> float:
        """Weighted sum of the negative log-likelihoods of all that was added, in nats."""
        losses = [loss for own in self.passes for loss in own.losses]
        try:
            return math.fsum(losses)
        except (OverflowError, ValueError):  # beyond a double on the way, or opposite infinities
            scaled = (2.0**-100 * min(max(loss, -1e308), 1e308) for loss in losses)
            return math.copysign(math.inf, math.fsum(scaled))

    def sums(self) -> Sums:
        """Return n [K], v [K, D] and second moments of all that was added, equation (25)."""
        family = self.mixture.family
        with numpy_settings():
            while len(self.passes) > 1:
                self.passes[0].merge(self.passes.pop(1))
            parts = self.passes[0].sums()
            sums = parts[0]
            for part in parts[1:]:
                if self.central:
                    sums = merge(family, sums, part)
                else:
                    sums = Sums(*(a + b for a, b in zip(sums, part, strict=True)))
        return self.mixture.to_all_components(sums)

    def _run(self, x: NDArray[np.generic], use: Callable[[Accumulator, Block], None]) -> None:
        """Give each thread its part of x [N, D]; call `use` with its sums and each block."""
        n_threads, halt = self._n_threads(x), Event()
        passes = self._passes(n_threads, len(x))
        if n_threads > 1:
            with numpy_settings():
                passes[0].prepare(x)

        def task(i: int) -> None:
            part = slice(len(x) * i // n_threads, len(x) * (i + 1) // n_threads)
            try:
                with numpy_settings():
                    for block in passes[i].blocks(x, part):
                        if halt.is_set():
                            return
                        use(passes[i], block)
            except BaseException:
                halt.set()  # so that no error, nor Ctrl-C, waits for what the others have left
                raise

        threads.run_in_threads([partial(task, i) for i in range(n_threads)], halt)

    def _n_threads(self, x: NDArray[np.generic]) -> int:
        """Return how many threads to use for x [N, D], by the kernel that its first rows take."""
        if threads.worthwhile_threads(max(self.costs) * len(x)) == 1:
            return 1
        guard = Guard(self.mixture, self.method, self.frames, n_samples=len(x))
        with numpy_settings():
            method = guard.expected(columns(x[:PREPARED]))
        cost = self.costs.direct if method == "direct" else self.costs.moments
        return 1 if cost < CHEAP else threads.worthwhile_threads(cost * len(x))

    def _passes(self, n_threads: int, n_samples: int) -> list[Accumulator]:
        """Return a pass for each of so many threads, which share so many samples."""
        while len(self.passes) < n_threads:
            part = -(-max(n_samples, self.n_samples) // n_threads)
            guard = Guard(
                self.mixture, self.method, self.frames, n_samples=part, central=self.central
            )
            self.passes.append(Accumulator(self.mixture, guard, central=self.central))
        return self.passes[:n_threads]

"""The pass over the data: its rows are divided among lanes, and their sums add.

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

from gmm_np import lanes
from gmm_np.checks import FloatArray
from gmm_np.families.family import Sums, merge
from gmm_np.kernels import Costs, Frames, Guard, Method, Mixture, cheapest
from gmm_np.passes import PREPARED, Block, Pass, columns, quiet

# Nanoseconds for a sample up to which lanes would wait for the interpreter most of the time.
CHEAP: Final = 150.0


class Engine:
    """One pass over data at fixed parameters, in lanes. It keeps their sums between calls.

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
        mixture: Mixture,
        method: Method,
        *,
        gradient: bool,
        central: bool = False,
        n_samples: int = 10**6,
    ) -> None:
        self.mixture, self.central, self.n_samples = mixture, central, n_samples
        self.costs = Costs.of(mixture, n_samples, gradient=gradient)
        self.method = cheapest(mixture, self.costs, n_samples) if method == "auto" else method
        self.frames = Frames(mixture)
        self.passes: list[Pass] = []
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

        def add(own: Pass, block: Block) -> None:
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
        with quiet():
            while len(self.passes) > 1:
                self.passes[0].absorb(self.passes.pop(1))
            parts = self.passes[0].sums()
            sums = parts[0]
            for part in parts[1:]:
                if self.central:
                    sums = merge(family, sums, part)
                else:
                    sums = Sums(*(a + b for a, b in zip(sums, part, strict=True)))
        return self.mixture.spread_sums(sums)

    def _run(self, x: NDArray[np.generic], use: Callable[[Pass, Block], None]) -> None:
        """Give each lane its part of x [N, D]; call `use` with its pass and each of its blocks."""
        n_lanes, halt = self._n_lanes(x), Event()
        passes = self._passes(n_lanes, len(x))
        if n_lanes > 1:
            with quiet():
                passes[0].prepare(x)

        def task(i: int) -> None:
            part = slice(len(x) * i // n_lanes, len(x) * (i + 1) // n_lanes)
            try:
                with quiet():
                    for block in passes[i].blocks(x, part):
                        if halt.is_set():
                            return
                        use(passes[i], block)
            except BaseException:
                halt.set()  # so that no error, nor Ctrl-C, waits for what the others have left
                raise

        lanes.run([partial(task, i) for i in range(n_lanes)], halt)

    def _n_lanes(self, x: NDArray[np.generic]) -> int:
        """Return how many lanes to use for x [N, D], by the kernel that its first rows take."""
        if lanes.worthwhile(max(self.costs) * len(x)) == 1:
            return 1
        guard = Guard(self.mixture, self.method, self.frames, n_samples=len(x))
        with quiet():
            method = guard.expected(columns(x[:PREPARED]))
        cost = self.costs.direct if method == "direct" else self.costs.moments
        return 1 if cost < CHEAP else lanes.worthwhile(cost * len(x))

    def _passes(self, n_lanes: int, n_samples: int) -> list[Pass]:
        """Return a pass for each of so many lanes, which share so many samples."""
        while len(self.passes) < n_lanes:
            part = -(-max(n_samples, self.n_samples) // n_lanes)
            guard = Guard(
                self.mixture, self.method, self.frames, n_samples=part, central=self.central
            )
            self.passes.append(Pass(self.mixture, guard, central=self.central))
        return self.passes[:n_lanes]

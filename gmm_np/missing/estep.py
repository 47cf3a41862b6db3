"""The E-step of rows with missing values: complete rows as ever, the others pattern by pattern.

Letters in shapes: N samples, B samples of a block, K components that are on, D dimensions,
S patterns, E blocks of one pattern each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Event

import numpy as np
from numpy.typing import NDArray

from gmm_np import tuning
from gmm_np.checks import FloatArray, not_finite
from gmm_np.covariance.sums import Bools, Sums, merge
from gmm_np.estep import (
    Block,
    EStep,
    Method,
    PreparedMixture,
    Tangent,
    numpy_settings,
)
from gmm_np.estep.estep import Accumulator
from gmm_np.linalg import threads
from gmm_np.missing.groups import Groups, group_rows
from gmm_np.missing.kernels import Coordinates, MarginalFeatureKernel, MarginalKernel
from gmm_np.missing.sums import added, between, by_covariance, out_of_range, plus


class MarginalEStep(EStep):
    """An `EStep` that takes NaN for a missing value.

    Blocks that it calls a function with have the numbers of their rows in `order`.

    Parameters
    ----------
    mixture, method, gradient, central, n_samples
        As for `EStep`.
    directions : sequence of Tangent
        Along which `spreads` are wanted.
    """

    def __init__(
        self,
        mixture: PreparedMixture,
        method: Method,
        *,
        gradient: bool,
        central: bool = False,
        n_samples: int = 10**6,
        directions: Sequence[Tangent] = (),
    ) -> None:
        EStep.__init__(
            self,
            mixture,
            method,
            gradient=gradient,
            central=central,
            n_samples=n_samples,
            finite=True,
        )
        self.own_method: Method = method  # of incomplete rows
        self.directions = [direction.of_those_on(mixture) for direction in directions]
        self.marginals: list[MarginalAccumulator] = []

    def add(
        self,
        x: NDArray[np.generic] | Groups,
        weight: FloatArray | None,
        exponent: int = 0,
        use: Callable[[Block], None] | None = None,
    ) -> None:
        """Add the moments of x [N, D], or of rows that were grouped, as an `EStep` does."""
        if isinstance(x, Groups):
            self._add_groups(x, 0, weight, exponent, use)
            return
        step = max(tuning.active.grouped_doubles // x.shape[1], 1)
        for start in range(0, len(x), step):
            some = slice(start, start + step)
            own = None if weight is None else weight[some]
            try:
                groups = group_rows(x[some])
            except ValueError:
                raise not_finite(x, missing=True) from None  # which counts rows from the first
            self._add_groups(groups, start, own, exponent, use)

    @property
    def loss(self) -> float:
        """Weighted sum of the negative log-likelihoods of all that was added, in nats."""
        complete = self.accumulators
        self.accumulators = [*complete, *self.marginals]
        try:
            return super().loss
        finally:
            self.accumulators = complete

    def sums(self) -> Sums:
        """Return n [K], v [K, D] and second moments of all that was added, equation (70)."""
        found = [super().sums()] if self.accumulators else []
        with numpy_settings():
            found += [
                self.mixture.to_all_components(s) for own in self.marginals for s in own.total
            ]
            total, *more = found
            for part in more:
                total = (
                    merge(self.mixture.family, total, part) if self.central else plus(total, part)
                )
        return total

    def spreads(self) -> list[Sums]:
        """Return, of each direction, what missing values add to the tangents of sums: (73)."""
        m = self.mixture
        second = m.family.second_moments(m.n_components, m.n_dims)
        zero = Sums(np.zeros(m.n_components), np.zeros(m.means.shape), second)
        found = [own.spreads for own in self.marginals if own.spreads]
        zeros = [zero] * len(self.directions)
        return [m.to_all_components(plus(*parts)) for parts in zip(zeros, *found, strict=True)]

    def _add_groups(
        self,
        groups: Groups,
        first_row: int,
        weight: FloatArray | None,
        exponent: int,
        use: Callable[[Block], None] | None,
    ) -> None:
        """Add rows of which the first is number `first_row`; weights [N] are in their own order."""
        own = None if weight is None else weight[groups.order]
        rows = groups.order + first_row if first_row else groups.order

        def call(block: Block) -> None:
            assert use is not None
            use(block._replace(order=rows[block.start : block.stop]))

        calls, n, n_complete = None if use is None else call, len(rows), groups.n_complete
        if n_complete:
            complete = None if own is None else own[:n_complete]
            super().add(groups.x[:, :n_complete].T, complete, exponent, calls)
        if n_complete == n:
            return
        n_threads = threads.worthwhile_threads(self.costs["direct"] * (n - n_complete))
        while len(self.marginals) < n_threads:
            self.marginals.append(self._marginal())
        edges = [n_complete + (n - n_complete) * i // n_threads for i in range(n_threads + 1)]
        halt = Event()
        tasks = [
            partial(
                marginal.take_groups, groups, slice(*edges[i : i + 2]), calls, own, exponent, halt
            )
            for i, marginal in enumerate(self.marginals[:n_threads])
        ]
        threads.run_in_threads(tasks, halt)
        rest = n - n_complete
        self.weight += (
            float(rest) if own is None else math.ldexp(float(own[n_complete:].sum()), -exponent)
        )
        self.count += rest

    def _marginal(self) -> MarginalAccumulator:
        """Return what one thread adds incomplete rows to."""
        return MarginalAccumulator(
            self.mixture,
            self.own_method,
            n_samples=self.n_samples,
            central=self.central,
            directions=self.directions,
        )


class MarginalAccumulator(Accumulator):
    """One thread's part of the incomplete rows."""

    kernel: MarginalKernel  # of the patterns that are being taken

    def __init__(
        self,
        mixture: PreparedMixture,
        method: Method,
        *,
        n_samples: int,
        central: bool = False,
        directions: Sequence[Tangent] = (),
    ) -> None:
        Accumulator.__init__(self, mixture, method, n_samples=n_samples, central=central)
        self.directions = directions
        # Of all columns: one or none, and one for each direction or none.
        self.total: list[Sums] = []
        self.spreads: list[Sums] = []

    def take_groups(
        self,
        groups: Groups,
        part: slice,
        use: Callable[[Block], None] | None,
        weight: FloatArray | None,
        exponent: int,
        halt: Event,
    ) -> None:
        """Take these of the samples: call `use` with each block, or add it, until told to halt."""
        try:
            with numpy_settings():
                for seen, blocks, size in self._batches(groups, part):
                    self.kernel = self._kernel(groups, seen, blocks, size, adds=use is None)
                    for index, own in enumerate(blocks):
                        if halt.is_set():
                            return
                        self.kernel.index = index
                        x = groups.x[:, own]
                        block = self._block(own.start, x, self.kernel, x)
                        if use is not None:
                            use(block)
                        elif weight is None:
                            self.add(block, None)
                        else:
                            self.add(block, np.ldexp(weight[own], -exponent))
                    if use is None:
                        self._lift()
        except BaseException:
            halt.set()
            raise

    def _batches(self, groups: Groups, part: slice) -> Iterator[tuple[Bools, Sequence[slice], int]]:
        """Yield patterns [E, D], a block of samples of each, and the most that one has.

        As many patterns as make matrices of a bounded size.
        """
        t, m = tuning.active, self.mixture
        n_own = 1 if m.family.shared else m.n_components
        most = max(t.pattern_doubles // (n_own * m.n_dims**2), 1)
        doubles = m.n_components * (m.n_dims + 2)
        longest = min(t.residual_block_bytes // (8 * doubles), t.largest_block)
        longest = max(longest, t.smallest_block)
        first = int(np.searchsorted(groups.edges, part.start, side="right")) - 1
        patterns: list[int] = []
        blocks: list[slice] = []
        for pattern in range(first, len(groups.seen)):
            start = max(int(groups.edges[pattern]), part.start)
            end = min(int(groups.edges[pattern + 1]), part.stop)
            for begin in range(start, end, longest):
                patterns.append(pattern)
                blocks.append(slice(begin, min(begin + longest, end)))
                if len(blocks) == most:
                    yield groups.seen[patterns], blocks, max(b.stop - b.start for b in blocks)
                    patterns, blocks = [], []
            if end == part.stop:
                break
        if blocks:
            yield groups.seen[patterns], blocks, max(b.stop - b.start for b in blocks)

    def _kernel(
        self, groups: Groups, seen: Bools, blocks: Sequence[slice], size: int, *, adds: bool
    ) -> MarginalKernel:
        """Return the kernel for some patterns: by features, where it is allowed and cheaper."""
        if adds and self.method != "direct" and self.mixture.in_range:
            mean = (blocks[-1].stop - blocks[0].start) / len(blocks)
            if self.method == "moments" or mean >= tuning.active.pattern_features:
                found = Coordinates.of(self.mixture, self.method, groups.reach)
                if found is not None:
                    return MarginalFeatureKernel(
                        self.mixture, seen, size, found, central=self.central
                    )
        return MarginalKernel(self.mixture, seen, size, central=self.central)

    def _lift(self) -> None:
        """Add what the blocks of some patterns have summed up to that of all columns."""
        margins, family = self.kernel.margins, self.mixture.family
        own = self.kernel.moments()
        lifted = margins.lifted(own)
        sums = added(lifted, shared=family.shared)
        if self.central:
            sums = sums._replace(second=sums.second + between(lifted, sums, self.mixture))
        if not all(np.isfinite(part).all() for part in sums):
            raise out_of_range()
        if self.central and self.total:
            self.total = [merge(family, self.total[0], sums)]
        else:
            self.total = [plus(*self.total, sums)]
        if self.directions:
            second = margins.lift_second(own.second) if family.learned else own.second
            found = [
                margins.spread(
                    t.step, by_covariance(t.relative, family), own.mass, lifted.first, second
                )
                for t in self.directions
            ]
            self.spreads = list(map(plus, self.spreads, found)) if self.spreads else found

    def _by_reference(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log-likelihoods [B] and responsibilities [K, B] of samples of one pattern."""
        from gmm_np import reference  # rarely: a distance left the range of a double

        m, seen = self.mixture, self.kernel.margins.seen[self.kernel.index]
        here, structure = np.flatnonzero(seen), m.family.structure
        if len(here) == 0:
            resp = np.exp(m.log_pi)[:, None]
            return np.zeros(x.shape[1]), np.repeat(resp, x.shape[1], axis=1)
        known = structure.split(m.scale, np.argsort(~seen, kind="stable"), len(here)).known
        factors = np.broadcast_to(
            structure.expand(known, len(here)), (m.n_components, len(here), len(here))
        )
        loss, cache = reference.nll_forward(
            x[here].T, m.log_pi, m.means[:, here], factors, reduction="none"
        )
        return -loss, np.array(cache.resp.T)

    def _add_out_of_range(self, block: Block, factor: FloatArray) -> None:  # noqa: ARG002
        raise out_of_range()

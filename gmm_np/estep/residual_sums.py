"""Sums over whitened residuals, a component at a time; and which residuals count in them.

Where components are far apart nearly every responsibility is so small that it cannot change a sum.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np import tuning
from gmm_np.checks import FloatArray
from gmm_np.covariance.sums import SMALLEST_VARIANCE, Bools, Sums, merge
from gmm_np.estep.prepared_mixture import PreparedMixture


class Residuals(NamedTuple):
    """Whitened residuals of some samples for some components; they are overwritten.

    Attributes
    ----------
    components : slice
    z : ndarray, shape [G, D, B]
    weight : ndarray, shape [G, B]
        Responsibilities, times the weights of the samples.
    spare : ndarray, shape [G, D, B]
        Memory for r z.
    """

    components: slice
    z: FloatArray
    weight: FloatArray
    spare: FloatArray

    def split(self) -> Iterator[Residuals]:
        """Yield each component."""
        start = self.components.start
        for i in range(len(self.z)):
            one = slice(i, i + 1)
            part = slice(start + i, start + i + 1)
            yield Residuals(part, self.z[one], self.weight[one], self.spare[one])

    def weigh(self) -> FloatArray:
        """Weigh residuals; return the sums of r z [G, D]."""
        np.multiply(self.z, self.weight[:, None], out=self.spare)
        return np.asarray(self.spare.sum(axis=2))

    def centre(self, mean: FloatArray) -> None:
        """Subtract the mean [G, D] from residuals that were weighed."""
        self.z[...] -= mean[..., None]
        np.multiply(self.z, self.weight[:, None], out=self.spare)


class ResidualSums:
    """Mass, first and second moments of whitened residuals, equation (25), block by block."""

    def __init__(self, mixture: PreparedMixture, *, central: bool) -> None:
        self.mixture, self.central = mixture, central
        # About the mixture's means; and central, about a block's own mean, where more would cancel.
        self.about_mean: Sums | None = None
        self.recentred: Sums | None = None

    def add(self, mass: FloatArray, parts: Iterable[Residuals]) -> None:
        """Add moments of samples with total weights mass [K], and for each component a part.

        What a part leaves out, and a component that has none, has to be negligible.
        """
        if self.about_mean is None:
            self.about_mean = self._zeros()
        total, recentred = self.about_mean, None
        for part in parts:
            first, cancels = self._weigh(part, mass)
            if cancels is None or not cancels.any():
                self._add(total, part, mass, first)
                continue
            for one, one_first, one_cancels in zip(part.split(), first, cancels, strict=True):
                sums = total
                if one_cancels:
                    sums = recentred = self._zeros() if recentred is None else recentred
                    one.centre(one_first / mass[one.components])
                self._add(sums, one, mass, one_first)
        if recentred is not None:
            second = self.mixture.family.complete(recentred.second)
            self._add_recentred(Sums(recentred.mass, recentred.first, second))

    def merge(self, other: ResidualSums) -> None:
        """Add what the other one added."""
        if other.about_mean is not None:
            if self.about_mean is None:
                self.about_mean = self._zeros()
            for total, more in zip(self.about_mean, other.about_mean, strict=True):
                total += more
        if other.recentred is not None:
            self._add_recentred(other.recentred)

    def sums(self) -> list[Sums]:
        """Return n [K], v [K, D] and second moments, central ones if asked for, of all blocks.

        In one part, or none if there was no block.
        """
        if self.about_mean is None:
            return []
        family, (mass, first, second) = self.mixture.family, self.about_mean
        sums = Sums(mass, first, family.complete(second))
        if not self.central:
            return [sums]
        sums = sums.centre(family)
        return [sums if self.recentred is None else merge(family, sums, self.recentred)]

    def _weigh(self, part: Residuals, mass: FloatArray) -> tuple[FloatArray, Bools | None]:
        """Weigh residuals; return sums of r z [G, D], and where much cancels, if central."""
        first = part.weigh()
        if not self.central:
            return first, None
        square = np.einsum("kdb,kdb->kd", part.spare, part.z)
        most = (1 - SMALLEST_VARIANCE) * mass[part.components, None] * square
        return first, np.asarray((first**2 > most).any(axis=1))

    def _add(self, sums: Sums, part: Residuals, mass: FloatArray, first: FloatArray) -> None:
        sums.mass[part.components] += mass[part.components]
        sums.first[part.components] += first
        self.mixture.family.add_second_moments(sums.second, part.components, part.spare, part.z)

    def _add_recentred(self, sums: Sums) -> None:
        before, family = self.recentred, self.mixture.family
        self.recentred = sums if before is None else merge(family, before, sums)

    def _zeros(self) -> Sums:
        k, d = self.mixture.n_components, self.mixture.n_dims
        return Sums(np.zeros(k), np.zeros((k, d)), self.mixture.family.second_moments(k, d))


class Significance:
    """Says which weights can change sums that are known to a relative error of `part`."""

    def __init__(self, n_components: int) -> None:
        self.total, self.n_samples = np.zeros(n_components), 0

    def __call__(self, weight: FloatArray, mass: FloatArray, part: float) -> Bools:
        """Return which weights [K, B] of a block count; for each component they add up to mass.

        Those of more than `part` of the component's mean weight, in this block or so recentred. All
        others together are then less than `part` of its mass, times a logarithm of the number of
        blocks. In a block there may be none for a component that has had much more before.
        """
        self.total += mass
        self.n_samples += weight.shape[1]
        mean = np.maximum(mass / weight.shape[1], self.total / self.n_samples)
        return np.asarray(weight > (part * mean)[:, None])


class ActivePairs:
    """Samples that count for a component, of several blocks, until there are enough of them.

    A component costs the same for one of its samples as for some dozens.
    """

    def __init__(self, n_components: int, n_dims: int) -> None:
        self.mass = np.zeros(n_components)
        t = tuning.active
        self.enough = min(t.gathered_samples * n_components, t.gathered_doubles // n_dims)
        self.n_pairs, self.begun = 0, False
        self.blocks: list[tuple[NDArray[np.intp], FloatArray, FloatArray]] = []
        self.significant = Significance(n_components)

    def add(self, y: FloatArray, weights: FloatArray, mass: FloatArray, chosen: Bools) -> None:
        """Take the chosen [K, B] among samples y [D, B] with weights [K, B] and sums mass [K]."""
        component, sample = np.nonzero(chosen)  # in the order of components
        self.blocks.append((component, y.take(sample, axis=1), weights[component, sample]))
        self.mass += mass
        self.n_pairs += len(component)
        self.begun = True

    def merge(self, other: ActivePairs) -> None:
        """Take what the other one has."""
        self.blocks += other.blocks
        self.mass += other.mass
        self.n_pairs += other.n_pairs
        self.begun = self.begun or other.begun

    def give(self) -> Iterator[tuple[int, FloatArray, FloatArray]]:
        """Yield each component with its samples [D, B] and weights [B], and forget all."""
        components, samples, weights = zip(*self.blocks, strict=True)
        component, y, weight = np.concatenate(components), np.hstack(samples), np.hstack(weights)
        if len(self.blocks) > 1:
            order = np.argsort(component, kind="stable")
            component, y, weight = component[order], y.take(order, axis=1), weight[order]
        edges = np.searchsorted(component, np.arange(len(self.mass) + 1)).tolist()
        for k, (start, stop) in enumerate(itertools.pairwise(edges)):
            if start < stop:
                yield k, y[:, start:stop], weight[start:stop]
        self.mass, self.n_pairs, self.blocks = np.zeros_like(self.mass), 0, []

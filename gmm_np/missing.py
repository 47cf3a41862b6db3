"""Rows with missing values: each has the density of what is seen of it, equation (68).

Rows are taken in the order of their patterns, so that those of one pattern are one block, of a
mixture of its own: that of the columns that are seen. What it sums up of its whitened residuals is
lifted to those of all columns, equation (70), and adds like all other sums: gradients, EM, products
with the Hessian and scores come from them as from complete rows, and nothing is filled in.

But for `impute`, what is here checks nothing. Letters in shapes: N samples, B samples of a block,
K components that are on, G covariances (K, or 1 where all share it), D dimensions, S patterns,
E blocks of one pattern each, P features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Event
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np import tuning
from gmm_np.checks import FloatArray, check_rows, not_finite
from gmm_np.covariance import FAMILIES, Family
from gmm_np.covariance.margins import Margins, margins_of
from gmm_np.covariance.sums import ROUNDING, Bools, Sums, inverse_or_zero, merge
from gmm_np.estep import (
    Block,
    EStep,
    Kernel,
    Method,
    OutOfRangeError,
    PreparedMixture,
    ResidualKernel,
    Tangent,
    TangentEStep,
    numpy_settings,
)
from gmm_np.estep.estep import Accumulator
from gmm_np.estep.prepared_mixture import LARGEST_ERROR, LOG_2_PI, UNIT_ROUNDOFF
from gmm_np.estep.tangent import TangentAccumulator
from gmm_np.linalg import threads
from gmm_np.linalg.triangles import multiply
from gmm_np.parameters import Parameters

__all__ = ["impute"]

MISSING: Final = ("error", "marginal")
# Numbers in rows that are grouped at a time (64 MiB), and in the matrices of a batch of patterns.
GROUPED: Final = 2**23
BATCH: Final = 2**18
# Rows a pattern from which on coefficients of features, which cost D^3, are worth their while.
WORTH_FEATURES: Final = 8


def impute(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    draws: int | None = None,
    random_state: int | np.random.Generator | None = None,
) -> FloatArray:
    """Fill in missing values by what is expected of them given what is seen, or draws: (74).

    A draw has the component that its responsibilities give it, and varies as values do; the mean
    does not. No fit needs either: `missing="marginal"` takes rows as they are.

    Parameters
    ----------
    x : array_like, shape [N, D]
        With NaN where a value is missing, also in a whole row.
    pi_logits, means, scale, family
        As in `nll`.
    draws : int, optional
        How many draws are wanted in place of the mean.
    random_state : int, numpy.random.Generator or None
        Of the draws; None for other ones each time.

    Returns
    -------
    filled : ndarray, shape [N, D], or [draws, N, D]
        In float64. What is seen stays as it is.

    Raises
    ------
    TypeError, ValueError
        As `nll` does, or if `draws` is less than 1.
    OverflowError
        If the square of a distance is beyond the range of a double.

    Examples
    --------
    >>> import gmm_np
    >>> factor = [[[1.0, 0.0], [0.5, 1.0]]]
    >>> gmm_np.impute([[2.0, float("nan")]], [0.0], [[0.0, 0.0]], factor).tolist()
    [[2.0, 1.0]]
    """
    p = Parameters(pi_logits, means, scale, family)
    if draws is not None and draws < 1:
        raise ValueError(f"draws must be at least 1, or None for the mean; got {draws}.")
    rows = check_rows(x, p.n_features)
    unknown = np.isnan(rows)
    out = np.repeat(np.asarray(rows, np.float64)[None], draws or 1, axis=0)
    mixture, structure = PreparedMixture.of(p), FAMILIES[family].structure
    if draws is not None:
        rng = np.random.default_rng(random_state)
        uniform, noise = rng.random(out.shape[:2]), rng.standard_normal(out.shape)

    def write(block: Block) -> None:
        own = block.rows
        gaps = unknown[own]
        if not gaps.any():
            return
        if block.kernel is None:
            raise out_of_range()
        kernel, resp = cast(MarginalKernel, block.kernel), block.exponentials / block.total
        z = kernel.lifted()  # [K, D, B]
        if draws is None:
            moved = np.empty_like(z)
            structure.apply_to_residuals(mixture.scale, z, moved)
            moved += mixture.means[:, :, None]
            out[0, own] = np.where(gaps, np.einsum("kb,kdb->bd", resp, moved), out[0, own])
            return
        edges = np.cumsum(resp, axis=0)[:-1]
        for filled, share, e in zip(out, uniform, noise, strict=True):
            owner = (share[own] > edges).sum(axis=0)  # [B]
            varied = z[owner, :, np.arange(len(owner))]
            varied += kernel.margins.hide(kernel.index, owner, e[own])
            drawn = structure.apply_to_rows(mixture.scale, varied, owner) + mixture.means[owner]
            filled[own] = np.where(gaps, drawn, filled[own])

    MarginalEStep(mixture, "direct", gradient=True, n_samples=len(rows)).each(rows, write)
    return out[0] if draws is None else out


class Groups(NamedTuple):
    """Rows in the order of their patterns: complete ones first, then the most frequent pattern.

    Attributes
    ----------
    x : ndarray, shape [D, N]
        Samples, with zeros where a value is missing.
    order : ndarray of int, shape [N]
        Which row each sample was.
    edges : ndarray of int, shape [S + 1]
        Where each pattern begins.
    seen : ndarray of bool, shape [S, D]
        What there is of each pattern.
    reach : ndarray, shape [2, D]
        The least and the largest value of each column, zero where it has none.
    """

    x: FloatArray
    order: NDArray[np.intp]
    edges: NDArray[np.intp]
    seen: Bools
    reach: FloatArray

    @property
    def n_complete(self) -> int:
        """How many samples, from the first, have no missing value."""
        return int(self.edges[1]) if self.seen[0].all() else 0


def group_rows(rows: NDArray[np.generic]) -> Groups:
    """Group rows [N, D] by which of their values are NaN.

    Raises
    ------
    ValueError
        If a value is infinite.
    """
    values = np.asarray(rows, np.float64)
    missing = np.isnan(values)
    if np.isinf(values).any():
        raise not_finite(rows, missing=True)
    packed = np.packbits(missing, axis=1)
    keys = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), np.uint8)
    keys[:, : packed.shape[1]] = packed
    words = keys.view(np.uint64)
    if words.shape[1] == 1:
        words = words[:, 0]
    _, first, inverse, counts = np.unique(
        words, return_index=True, return_inverse=True, return_counts=True, axis=0
    )
    patterns = missing[first]  # [S, D]
    ranked = np.lexsort((-counts, patterns.any(axis=1)))
    rank = np.empty(len(ranked), np.intp)
    rank[ranked] = np.arange(len(ranked))
    place = rank[inverse.reshape(-1)]
    if len(rank) < 2**16:
        place = place.astype(np.uint16)  # whose sort is the fast one
    order = np.argsort(place, kind="stable")
    x = np.take(values.T, order, axis=1)
    np.copyto(x, 0.0, where=np.isnan(x))
    edges = np.concatenate([[0], np.cumsum(counts[ranked])]).astype(np.intp)
    reach = np.stack([x.min(axis=1), x.max(axis=1)])
    return Groups(x, order, edges, ~patterns[ranked], reach)


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
        step = max(GROUPED // x.shape[1], 1)
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
                    merge(self.mixture.family, total, part) if self.central else _plus(total, part)
                )
        return total

    def spreads(self) -> list[Sums]:
        """Return, of each direction, what missing values add to the tangents of sums: (73)."""
        m = self.mixture
        second = m.family.second_moments(m.n_components, m.n_dims)
        zero = Sums(np.zeros(m.n_components), np.zeros(m.means.shape), second)
        found = [own.spreads for own in self.marginals if own.spreads]
        zeros = [zero] * len(self.directions)
        return [m.to_all_components(_plus(*parts)) for parts in zip(zeros, *found, strict=True)]

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


class BlockSums:
    """Moments of residuals u of blocks, each on its own.

    Parameters
    ----------
    mixture : PreparedMixture
    n_blocks : int
        E.
    central : bool
        Whether second moments are to be about a block's own mean.
    """

    def __init__(self, mixture: PreparedMixture, n_blocks: int, *, central: bool) -> None:
        self.family, self.central = mixture.family, central
        k, d = mixture.means.shape
        self.mass, self.first = np.zeros((n_blocks, k)), np.zeros((n_blocks, k, d))
        self.second = np.zeros((n_blocks, *self.family.second_moments(k, d).shape))

    def add(
        self, index: int, part: slice, u: FloatArray, weights: FloatArray, spare: FloatArray
    ) -> None:
        """Add those of a block's residuals [G, D, B] for some components; weights are [G, B].

        If central, residuals are overwritten.
        """
        np.multiply(u, weights[:, None], out=spare)
        mass, first = weights.sum(axis=1), spare.sum(axis=2)
        self.mass[index, part], self.first[index, part] = mass, first
        if self.central:
            u -= (first * inverse_or_zero(mass)[:, None])[..., None]
            np.multiply(u, weights[:, None], out=spare)
        self.family.add_second_moments(self.second[index, ...], part, spare, u)

    def moments(self) -> Sums:
        """Return mass [E, K], first [E, K, D] and second moments [E, G, ...]."""
        second = self.family.complete(self.second)
        return Sums(self.mass, self.first, second[:, None] if self.family.shared else second)


class MarginalKernel(ResidualKernel):
    """Whitened residuals u of what is seen, of blocks that have a pattern each.

    Parameters
    ----------
    mixture : PreparedMixture
    seen : ndarray of bool, shape [E, D]
    block : int
        Samples of a block, at most.
    central : bool
        As for `EStep`.
    """

    def __init__(self, mixture: PreparedMixture, seen: Bools, block: int, *, central: bool) -> None:
        super().__init__(mixture, block, central=central)
        self.margins: Margins = margins_of(mixture.family, seen, mixture.scale)
        self.own_means = mixture.means * seen[:, None]  # [E, K, D]
        size = 0.5 * LOG_2_PI * seen.sum(axis=1)
        self.constants = mixture.log_pi - self.margins.half_log_det - size[:, None]  # [E, K]
        self.index = 0  # of the block that is taken
        self.block_sums = BlockSums(mixture, len(seen), central=central)

    def start(self, x: FloatArray) -> None:
        """Take a block of samples x [D, B], with zeros where values are missing."""
        m, b, e = self.mixture, x.shape[1], self.index
        self.z = self._z[: m.means.size * b].reshape(*m.means.shape, b)
        self.quadratic = self._quadratic[: m.n_components * b].reshape(-1, b)
        inverse = self.margins.inverse[e]
        for part in self.groups():
            z = self.z[part]
            w = inverse if m.family.shared else inverse[part]
            spare = self.spare(z.shape)
            m.family.structure.whiten(w, x, self.own_means[e, part], z, spare)  # (68)
            np.einsum("kdb,kdb->kb", z, z, out=self.quadratic[part])
        if not math.isfinite(self.quadratic.max()):
            raise OutOfRangeError

    def log_joint(self, shift: float) -> FloatArray:
        """Return log_joint - shift of the block, [K, B]."""
        terms = self._terms[: self.quadratic.size].reshape(self.quadratic.shape)
        np.multiply(self.quadratic, -0.5, out=terms)
        terms += (self.constants[self.index] - shift)[:, None]
        return terms

    def add(
        self,
        exponentials: FloatArray,
        factor: FloatArray,
        weight: FloatArray | None = None,  # noqa: ARG002  as for a `ResidualKernel`
    ) -> None:
        """Add the block's moments, weighted by exponentials [K, B] times factor [B]."""
        exponentials *= factor
        for part in self.groups():
            z = self.z[part]
            self.block_sums.add(self.index, part, z, exponentials[part], self.spare(z.shape))

    def moments(self) -> Sums:
        """Return those of u: mass [E, K], first [E, K, D] and second [E, G, ...]."""
        return self.block_sums.moments()

    def lifted(self) -> FloatArray:
        """Return the expected residuals z of all columns [K, D, B], equation (69)."""
        return self.margins.lift_residuals(self.index, self.z)

    @property
    def hidden(self) -> FloatArray:
        """What stays unknown of their second moments, [G or 1, ...]."""
        hidden: FloatArray = self.margins.hidden[self.index]
        return hidden


class MarginalFeatureKernel(MarginalKernel):
    """The same by two products with the features of a block."""

    def __init__(
        self,
        mixture: PreparedMixture,
        seen: Bools,
        block: int,
        coordinates: Coordinates,
        *,
        central: bool,
    ) -> None:
        super().__init__(mixture, seen, 1, central=central)
        self.central = central
        n_blocks, (k, d), structure = len(seen), mixture.means.shape, mixture.family.structure
        self.coordinates, p = coordinates, structure.n_features(d)
        self.own_means = coordinates.means * seen[:, None]
        inverse = coordinates.scaled(self.margins.inverse)
        self.stack = np.broadcast_to(inverse, (n_blocks, k, *inverse.shape[2:])).reshape(
            n_blocks * k, *inverse.shape[2:]
        )
        self.theta = structure.natural_parameters(
            self.constants.reshape(-1), self.own_means.reshape(-1, d), self.stack
        ).reshape(n_blocks, k, p)
        self.products = np.zeros((n_blocks, k, p))
        self._features, self._log_joint = np.empty(p * block), np.empty(k * block)

    def start(self, x: FloatArray) -> None:
        """Write the features of a block of samples x [D, B]."""
        structure, b = self.mixture.family.structure, x.shape[1]
        y = self.coordinates.transform(x)
        y *= self.margins.seen[self.index][:, None]
        self.features = self._features[: self.theta.shape[2] * b].reshape(-1, b)
        structure.write_features(y, self.features)

    def log_joint(self, shift: float) -> FloatArray:
        """Return log_joint - shift of the block, [K, B]."""
        theta = self.theta[self.index]
        terms = self._log_joint[: len(theta) * self.features.shape[1]].reshape(len(theta), -1)
        multiply(theta, self.features, out=terms)
        terms -= shift
        return terms

    def add(
        self,
        exponentials: FloatArray,
        factor: FloatArray,
        weight: FloatArray | None = None,  # noqa: ARG002
    ) -> None:
        """Add the block's features, weighted by exponentials [K, B] times factor [B]."""
        exponentials *= factor
        multiply(exponentials, self.features.T, out=self.products[self.index])

    def moments(self) -> Sums:
        """Return those of u: mass [E, K], first [E, K, D] and second [E, G, ...]."""
        family, (n_blocks, k, _) = self.mixture.family, self.products.shape
        structure, d = family.structure, self.mixture.n_dims
        products = self.products.reshape(n_blocks * k, -1)
        means, mass = self.own_means.reshape(-1, d), products[:, 0].copy()
        first = products[:, 1 : d + 1] - mass[:, None] * means
        whitened = structure.apply(self.stack, first)
        own = mass.reshape(n_blocks, k), whitened.reshape(n_blocks, k, d)
        if not family.learned:
            return Sums(*own, np.zeros((n_blocks, 0)))
        second = structure.feature_moments(products, means, first, self.stack)
        if self.central:
            square = structure.diagonal(second).copy()
            second = second - structure.outer(inverse_or_zero(mass), whitened)
            # What is left where all digits cancelled is no variance.
            variance = structure.diagonal(second)
            variance[variance <= ROUNDING * d * square] = 0.0
        second = second.reshape(n_blocks, k, *second.shape[1:])
        return Sums(*own, second.sum(axis=1, keepdims=True) if family.shared else second)


class Coordinates(NamedTuple):
    """Coordinates in which features are written: y = (x - centre) / unit, column by column."""

    centre: FloatArray  # [D]
    unit: FloatArray  # [D], or [1] where all columns share a variance
    means: FloatArray  # [K, D]

    @classmethod
    def of(cls, mixture: PreparedMixture, method: Method, reach: FloatArray) -> Coordinates | None:
        """Return coordinates for samples of this reach, None where digits would be lost."""
        structure = mixture.family.structure
        centre = mixture.means.mean(axis=0)
        deviations = structure.deviations(mixture.scale)
        unit = np.exp(np.log(deviations.reshape(-1, deviations.shape[-1])).mean(axis=0))
        found = cls(centre, unit, (mixture.means - centre) / unit)
        if method == "moments":
            return found
        sharpness = structure.inverse_norm(found.scaled(mixture.inverse))
        radius = np.sqrt(np.square(np.abs(reach - centre).max(axis=0) / unit).sum())
        widest = sharpness * (np.sqrt(np.square(found.means).sum(axis=1)) + radius)
        return found if UNIT_ROUNDOFF * float(widest.max()) ** 2 <= LARGEST_ERROR else None

    def scaled(self, inverse: FloatArray) -> FloatArray:
        """Return inverse factors for data in these coordinates."""
        return inverse * (self.unit if self.unit.size > 1 else self.unit[0])

    def transform(self, x: FloatArray) -> FloatArray:
        """Return samples x [D, B] in these coordinates."""
        y = x - self.centre[:, None]
        y /= self.unit[:, None]
        return y


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
        most = max(BATCH // (n_own * m.n_dims**2), 1)
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
            if self.method == "moments" or mean >= WORTH_FEATURES:
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
        sums = _added(lifted, shared=family.shared)
        if self.central:
            sums = sums._replace(second=sums.second + _between(lifted, sums, self.mixture))
        if not all(np.isfinite(part).all() for part in sums):
            raise out_of_range()
        if self.central and self.total:
            self.total = [merge(family, self.total[0], sums)]
        else:
            self.total = [_plus(*self.total, sums)]
        if self.directions:
            second = margins.lift_second(own.second) if family.learned else own.second
            found = [
                margins.spread(
                    t.step, by_covariance(t.relative, family), own.mass, lifted.first, second
                )
                for t in self.directions
            ]
            self.spreads = list(map(_plus, self.spreads, found)) if self.spreads else found

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


class MarginalTangentEStep(MarginalEStep, TangentEStep):
    """A `TangentEStep` that takes NaN for a missing value.

    Parameters
    ----------
    mixture : PreparedMixture
    method : {"auto", "direct", "moments"}
        Of complete rows.
    tangent : Tangent
    beyond : callable
        As `out_of_range` for `TangentEStep`, for complete rows.
    n_samples : int
        As for `EStep`.
    """

    def __init__(
        self,
        mixture: PreparedMixture,
        method: Method,
        tangent: Tangent,
        beyond: Callable[[FloatArray, FloatArray | None], None],
        *,
        n_samples: int = 10**6,
    ) -> None:
        MarginalEStep.__init__(
            self, mixture, method, gradient=True, n_samples=n_samples, directions=[tangent]
        )
        self.tangent, self.out_of_range = self.directions[0], beyond

    def sums_and_tangents(self) -> tuple[Sums, Sums]:
        """Return n [K], v [K, D] and M, and their tangents: (66), (67) and (73)."""
        found = [TangentEStep.sums_and_tangents(self)] if self.accumulators else []
        for own in self.marginals:
            assert isinstance(own, MarginalTangentAccumulator)
            found += [
                (self.mixture.to_all_components(sums), self.mixture.to_all_components(tangents))
                for sums, tangents in zip(own.total, own.tangent_total, strict=True)
            ]
        sums, tangents = zip(*found, strict=True)
        return _plus(*sums), _plus(*tangents, *self.spreads())

    def _marginal(self) -> MarginalAccumulator:
        return MarginalTangentAccumulator(self.mixture, self.n_samples, self.tangent)


class MarginalTangent:
    """The tangent of a `MarginalKernel`."""

    def __init__(self, kernel: MarginalKernel, tangent: Tangent) -> None:
        self.kernel, margins, family = kernel, kernel.margins, kernel.mixture.family
        self.step = margins.lower(tangent.step)  # [E, K, D]
        relative = by_covariance(tangent.relative, family)
        self.relative, trace = margins.lower_relative(relative)
        self.constants = tangent.log_pi - trace  # [E, K]
        self.block_sums = BlockSums(kernel.mixture, len(trace), central=False)

    def terms(self) -> FloatArray:
        """Return the tangents of log_joint of the block, [K, B]."""
        kernel, index = self.kernel, self.kernel.index
        family, relative = kernel.mixture.family, self.relative[index]
        terms = np.empty(kernel.quadratic.shape)
        for part in kernel.groups():
            u = kernel.z[part]
            spare = kernel.spare(u.shape)
            own = relative if family.shared else relative[part]
            family.structure.apply_to_residuals(own, u, spare)
            spare += self.step[index, part, :, None]
            np.einsum("kdb,kdb->kb", u, spare, out=terms[part])
        terms += self.constants[index][:, None]
        return terms

    def add(self, weights: FloatArray) -> None:
        """Add the block's moments, weighted by weights [K, B] of either sign."""
        for part in self.kernel.groups():
            u = self.kernel.z[part]
            spare = self.kernel.spare(u.shape)
            self.block_sums.add(self.kernel.index, part, u, weights[part], spare)


class MarginalTangentAccumulator(MarginalAccumulator, TangentAccumulator):
    """One thread's part of the incomplete rows, with tangents."""

    def __init__(self, mixture: PreparedMixture, n_samples: int, tangent: Tangent) -> None:
        MarginalAccumulator.__init__(
            self, mixture, "direct", n_samples=n_samples, directions=[tangent]
        )
        self.tangent = tangent
        self.tangent_total: list[Sums] = []  # as `total`
        self.own: MarginalTangent | None = None

    def add(self, block: Block, weight: FloatArray | None) -> None:
        """Add a block's moments, and those by tangents of responsibilities, equation (55)."""
        if block.kernel is None:
            raise out_of_range()
        TangentAccumulator.add(self, block, weight)

    def _tangent_of(self, kernel: Kernel) -> Any:  # noqa: ARG002  the one there is
        if self.own is None or self.own.kernel is not self.kernel:
            self.own = MarginalTangent(self.kernel, self.tangent)
        return self.own

    def _lift(self) -> None:
        super()._lift()
        assert self.own is not None
        lifted = self.kernel.margins.lifted(self.own.block_sums.moments())
        tangents = _added(lifted, shared=self.mixture.family.shared)
        self.tangent_total = [_plus(*self.tangent_total, tangents)]


def out_of_range() -> OverflowError:
    """Return the error for sums over rows with missing values that leave the range of a double."""
    return OverflowError(
        "the square of a distance, in a row with missing values, is beyond the range of a double. "
        "Choose units in which x is of order one, and leave out rows that are far from every "
        "component."
    )


def _added(sums: Sums, *, shared: bool) -> Sums:
    """Add up moments [E, ...] of blocks, second ones [E, G, ...] to the family's shape."""
    mass, first, second = (part.sum(axis=0) for part in sums)
    return Sums(mass, first, second[0] if shared else second)


def _between(parts: Sums, total: Sums, mixture: PreparedMixture) -> FloatArray:
    """Return the second moments of the parts' means about those of all, as `merge` adds them."""
    family = mixture.family
    means = parts.first * inverse_or_zero(parts.mass)[..., None]
    apart = means - total.first * inverse_or_zero(total.mass)[:, None]
    apart[parts.mass == 0] = 0.0
    found = family.outer(parts.mass.reshape(-1), apart.reshape(-1, mixture.n_dims))
    if not family.learned or family.shared:
        return found
    return np.asarray(found.reshape(*parts.mass.shape, *found.shape[1:]).sum(axis=0))


def _plus(*sums: Sums) -> Sums:
    """Add sums of which no second moments are central."""
    return Sums(*(sum(parts[1:], parts[0]) for parts in zip(*sums, strict=True)))


def by_covariance(array: FloatArray, family: Family) -> FloatArray:
    """Return a scale, or what has its shape, as [G, ...]."""
    return array[None] if family.shared else array

"""The tangents of the E-step of rows with missing values, for products with the Hessian.

Letters in shapes: B samples of a block, K components that are on, D dimensions, E blocks of one
pattern each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.covariance.sums import Sums
from gmm_np.estep import (
    Block,
    Kernel,
    Method,
    PreparedMixture,
    Tangent,
    TangentEStep,
)
from gmm_np.estep.tangent import TangentAccumulator
from gmm_np.missing.estep import MarginalAccumulator, MarginalEStep
from gmm_np.missing.kernels import BlockSums, MarginalKernel
from gmm_np.missing.sums import added, by_covariance, out_of_range, plus


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
        tangents = added(lifted, shared=self.mixture.family.shared)
        self.tangent_total = [plus(*self.tangent_total, tangents)]


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
        return plus(*sums), plus(*tangents, *self.spreads())

    def _marginal(self) -> MarginalAccumulator:
        return MarginalTangentAccumulator(self.mixture, self.n_samples, self.tangent)

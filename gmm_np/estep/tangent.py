"""The E-step along a direction: responsibilities move, and sums weigh samples by how fast.

Of a direction in logits, means and scale, log_joint has the tangent u_nk, equation (54), which is
a second function of residuals or of features; responsibilities have w_n r_nk (u_nk - sum_j r_nj
u_nj), equation (55), which are a second set of weights. Both cost what the first cost.
Letters in shapes: B samples of a block, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.covariance import FAMILIES
from gmm_np.covariance.sums import Sums
from gmm_np.estep.estep import Accumulator, Block, EStep, Kernel, numpy_settings
from gmm_np.estep.feature_kernel import FeatureKernel
from gmm_np.estep.prepared_mixture import Method, PreparedMixture, in_tiles
from gmm_np.estep.residual_kernel import ResidualKernel
from gmm_np.estep.residual_sums import Residuals, ResidualSums
from gmm_np.parameters import Gradients, Parameters


class Tangent(NamedTuple):
    """A direction in units of the mixture: residuals z move by -(A z + b).

    Attributes
    ----------
    log_pi : ndarray, shape [K]
        Tangents of the logarithms of the weights, equation (50).
    constant : ndarray, shape [K]
        Of log_joint at the means: those less tr A_k.
    step : ndarray, shape [K, D]
        b_k = W_k dmu_k.
    relative : ndarray
        A_k = W_k dL_k, in the family's shape.
    """

    log_pi: FloatArray
    constant: FloatArray
    step: FloatArray
    relative: FloatArray

    @classmethod
    def of(cls, parameters: Parameters, inverse: FloatArray, direction: Gradients) -> Tangent:
        """Measure a direction that was checked, at parameters with these inverse factors."""
        family, n_dims = FAMILIES[parameters.family], parameters.n_features
        assert direction.scale is not None  # zero, where nothing is learned
        d_logits, d_means, d_scale = (np.asarray(d, np.float64) for d in direction[:3])
        log_pi = np.asarray(d_logits - parameters.weights() @ d_logits)
        relative = family.relative(inverse, d_scale)
        constant = log_pi - family.structure.trace(relative, n_dims)
        return cls(log_pi, constant, family.structure.apply(inverse, d_means), relative)

    def of_those_on(self, mixture: PreparedMixture) -> Tangent:
        """Leave out components that are off."""
        if mixture.all_on:
            return self
        on = mixture.on
        relative = self.relative[on] if mixture.family.per_component else self.relative
        return Tangent(self.log_pi[on], self.constant[on], self.step[on], relative)


class ResidualTangent:
    """The tangent of a `ResidualKernel`, which has whitened a block's residuals."""

    def __init__(self, kernel: ResidualKernel, tangent: Tangent) -> None:
        self.kernel, self.tangent = kernel, tangent
        self.residuals = ResidualSums(kernel.mixture, central=False)

    def terms(self) -> FloatArray:
        """Return u of the block, [K, B]."""
        kernel, tangent = self.kernel, self.tangent
        terms = np.empty(kernel.quadratic.shape)
        for part in kernel.groups():
            z = kernel.z[part]
            spare = kernel.spare(z.shape)
            kernel.mixture.family.term_tangents(
                tangent.relative, part, tangent.step[part], z, spare, out=terms[part]
            )
        terms += tangent.constant[:, None]
        return terms

    def add(self, weights: FloatArray) -> None:
        """Add the block's moments, weighted by weights [K, B] of either sign."""
        kernel = self.kernel
        parts = (
            Residuals(part, kernel.z[part], weights[part], kernel.spare(kernel.z[part].shape))
            for part in kernel.groups()
        )
        self.residuals.add(weights.sum(axis=1), parts)

    def merge(self, other: ResidualTangent) -> None:
        """Add what another one added."""
        self.residuals.merge(other.residuals)

    def sums(self) -> list[Sums]:
        """Return the sums of all blocks, if there were any."""
        return self.residuals.sums()


class FeatureTangent:
    """The tangent of a `FeatureKernel`, which has written a block's features."""

    def __init__(self, kernel: FeatureKernel, tangent: Tangent) -> None:
        s, family = kernel.standardization, kernel.mixture.family
        theta = family.natural_tangents(
            tangent.constant, tangent.step, tangent.relative, s.means, s.inverse
        )
        self.kernel = kernel
        self.own = FeatureKernel(kernel.mixture, s, kernel.block, coefficients=in_tiles(theta))

    def terms(self) -> FloatArray:
        """Return u of the block, [K, B]."""
        self.own.share(self.kernel)
        return self.own.log_joint(0.0)

    def add(self, weights: FloatArray) -> None:
        """Add the block's moments, weighted by weights [K, B] of either sign.

        Those of a sample add up to zero, so that no moments of all samples together are needed.
        """
        self.own.add_products(weights)

    def merge(self, other: FeatureTangent) -> None:
        """Add what another one added."""
        self.own.merge(other.own)

    def sums(self) -> list[Sums]:
        """Return the sums of all blocks, if there were any."""
        return self.own.sums()


OutOfRange: TypeAlias = Callable[[FloatArray, FloatArray | None], None]
KernelTangent: TypeAlias = ResidualTangent | FeatureTangent


class TangentEStep(EStep):
    """An `EStep` that adds moments weighed by tangents of responsibilities as well.

    Parameters
    ----------
    mixture : PreparedMixture
    method : {"auto", "direct", "moments"}
    tangent : Tangent
    out_of_range : callable
        Is called with the samples [D, B] of a block in which a distance left the range of a
        double, and their weights [B] or None; they are not added. From several threads.
    n_samples : int
        As for `EStep`.
    """

    def __init__(
        self,
        mixture: PreparedMixture,
        method: Method,
        tangent: Tangent,
        out_of_range: OutOfRange,
        *,
        n_samples: int = 10**6,
    ) -> None:
        super().__init__(mixture, method, gradient=True, n_samples=n_samples)
        self.tangent, self.out_of_range = tangent.of_those_on(mixture), out_of_range

    def sums_and_tangents(self) -> tuple[Sums, Sums]:
        """Return n [K], v [K, D] and M, and their tangents by responsibilities, (66) and (67)."""
        mixture, own = self.mixture, self.accumulators[0]
        assert isinstance(own, TangentAccumulator)
        k, d = mixture.n_components, mixture.n_dims
        found: list[Sums] = []
        with numpy_settings():
            while len(self.accumulators) > 1:
                own.merge(self.accumulators.pop(1))
            for kernels in (own.kernels, own.tangents):
                total = Sums(np.zeros(k), np.zeros((k, d)), mixture.family.second_moments(k, d))
                for kernel in kernels.values():
                    for part in kernel.sums():
                        total = Sums(*(a + b for a, b in zip(total, part, strict=True)))
                found.append(mixture.to_all_components(total))
        return found[0], found[1]

    def _accumulator(self, n_samples: int) -> TangentAccumulator:
        return TangentAccumulator(
            self.mixture, self.method, n_samples, self.tangent, self.out_of_range
        )


class TangentAccumulator(Accumulator):
    """One thread's kernels and their tangents."""

    def __init__(
        self,
        mixture: PreparedMixture,
        method: Method,
        n_samples: int,
        tangent: Tangent,
        out_of_range: OutOfRange,
    ) -> None:
        super().__init__(mixture, method, n_samples=n_samples)
        self.tangent, self.left_out = tangent, out_of_range
        self.tangents = dict[bool | None, KernelTangent]()  # as the kernels

    def add(self, block: Block, weight: FloatArray | None) -> None:
        """Add a block's moments, and those by tangents of responsibilities, equation (55)."""
        if block.kernel is None:
            self.left_out(block.samples, weight)
            return
        kernel = self._tangent_of(block.kernel)
        terms = kernel.terms()
        super().add(block, weight)
        weights = block.exponentials  # w_n r_nk by now
        mean = np.einsum("kb,kb->b", weights, terms)
        if weight is not None:
            mean = np.divide(mean, weight, out=np.zeros_like(mean), where=weight > 0)
        terms -= mean
        terms *= weights
        kernel.add(terms)

    def merge(self, other: Accumulator) -> None:
        """Add what another thread added."""
        assert isinstance(other, TangentAccumulator)
        for coordinates, kernel in other.tangents.items():
            if coordinates in self.tangents:
                self.tangents[coordinates].merge(kernel)  # type: ignore[arg-type]  # of one kind
            else:
                self.tangents[coordinates] = kernel
        super().merge(other)

    def _tangent_of(self, kernel: Kernel) -> KernelTangent:
        coordinates = next(key for key, own in self.kernels.items() if own is kernel)
        if coordinates not in self.tangents:
            self.tangents[coordinates] = (
                ResidualTangent(kernel, self.tangent)
                if isinstance(kernel, ResidualKernel)
                else FeatureTangent(kernel, self.tangent)
            )
        return self.tangents[coordinates]

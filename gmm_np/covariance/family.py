"""A covariance family: a structure, whether all components share one, and whether it is learned.

The kernels ask it for whitening, for features and natural parameters, and for sums of second
moments; the statistics ask it for gradients and updates; everything else for shapes and words.
`scale`, its inverse W and second moments have the family's own shape.

Letters in shapes: B samples of a block, N rows, K components, G of them, D dimensions, P features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.covariance.spherical import SPHERICAL
from gmm_np.covariance.structure import Structure
from gmm_np.covariance.sums import Bools, Sums, Update


@dataclass(frozen=True)
class Family:
    """What a family knows. Its methods hold no state and check nothing.

    Attributes
    ----------
    name : str
    structure : Structure
        Of each covariance.
    shared : bool
        Whether all components have one covariance.
    learned : bool
        Whether there is a gradient, an update, and second moments to make them of.
    whitened : bool
        Whether sums are of whitened residuals z, or (False, where nothing is shared) of plain
        ones, e = x - mu.
    """

    name: str
    structure: Structure
    shared: bool = False
    learned: bool = True
    whitened: bool = True

    @cached_property
    def per_component(self) -> bool:
        """Whether each component has a scale of its own."""
        return not self.shared

    @cached_property
    def has_factors(self) -> bool:
        """Whether the scale holds Cholesky factors, and not standard deviations."""
        return self.structure.has_factors

    @cached_property
    def places(self) -> tuple[str, ...]:
        """What the axes of the scale, and of covariances, are called in messages."""
        return self.structure.places if self.shared else ("component", *self.structure.places)

    @cached_property
    def axes(self) -> str:
        """The same in letters, as "[K, D]"."""
        return f"[{', '.join('K' if place == 'component' else 'D' for place in self.places)}]"

    def shape(self, n_components: int, n_dims: int) -> tuple[int, ...]:
        """Shape of the scale, and of the covariances."""
        one = (n_dims,) * len(self.structure.places)
        return one if self.shared else (n_components, *one)

    def describe(self, *, covariances: bool = False) -> str:
        """Say what a scale, or covariances, have to hold."""
        noun = self.structure.nouns[covariances]
        each = " and ".join(self.places[:-2] if self.has_factors else self.places)
        if each:
            return f"one {noun} for each {each}"
        return f"one {noun}" if self.has_factors else f"a single {noun}"

    def n_free(self, n_components: int, n_dims: int) -> int:
        """Count the numbers in the scale that are learned."""
        if not self.learned:
            return 0
        one = n_dims * (n_dims + 1) // 2 if self.has_factors else n_dims
        return (1 if self.shared else n_components) * one // self.structure.n_equal(n_dims)

    def n_parameters(self, n_components: int, n_dims: int) -> int:
        """Count the free parameters of a mixture."""
        return self.n_free(n_components, n_dims) + n_components * n_dims + n_components - 1

    def expand(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        """Lower Cholesky factors [K, D, D] of the covariances, equation (33)."""
        factors = self.structure.expand(scale, n_dims)
        if factors.ndim == 3:
            return factors
        return np.broadcast_to(factors, (n_components, n_dims, n_dims))

    def reduce(self, dense: FloatArray) -> FloatArray:
        """Pull [K, D, D] back through `expand`: gradients, and second moments, equation (34)."""
        return self._total(self.structure.reduce(dense)) if self.learned else np.zeros(0)

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        """Return second moments [K, D, D] that have the same gradient once they are reduced."""
        if not self.learned:
            return np.zeros((n_components, n_dims, n_dims))
        shares = self.structure.n_equal(n_dims) * (n_components if self.shared else 1)
        return self.expand(second / shares, n_components, n_dims)

    @cached_property
    def _is_own_frame(self) -> bool:
        """Whether kernels work where the covariance that all share is the identity."""
        return self.shared and self.structure.by_column

    @cached_property
    def frames(self) -> tuple[bool, ...]:
        """Standardizations to try: in the data's coordinates (False), in common ones (True)."""
        if self._is_own_frame:
            return (True,)
        return self.structure.frames if self.whitened else (False,)

    def into_frame(self, scale: FloatArray) -> FloatArray:
        """Return C^-1 of a common factor C, [D, D] or [D], by which data may be multiplied."""
        return self.structure.inverse(scale) if self.shared else self.structure.into_frame(scale)

    def in_frame(self, inverse: FloatArray, into: FloatArray, scale: FloatArray) -> FloatArray:
        """Return W for data that were multiplied by `into`."""
        if self.shared:
            return np.ones(())
        return self.structure.in_frame(inverse, into, scale)

    @cached_property
    def dense(self) -> bool:
        """Whether whitening is a product with a matrix."""
        return self.has_factors

    def whiten(
        self,
        inverse: FloatArray,
        part: slice,
        x: FloatArray,
        means: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        """Write z = W_k (x - mu_k) to `out` [G, D, B] for samples x [D, B], equation (6).

        Of G components, `part`, with means [G, D]. `spare` [G, D, B] may be written to.
        """
        self.structure.whiten(inverse if self.shared else inverse[part], x, means, out, spare)

    def relative(self, inverse: FloatArray, d_scale: FloatArray) -> FloatArray:
        """Return A = W dL in the family's shape: a step of the scale in units of itself."""
        return self.structure.relative(inverse, d_scale)

    def term_tangents(
        self,
        relative: FloatArray,
        part: slice,
        step: FloatArray,
        z: FloatArray,
        spare: FloatArray,
        out: FloatArray,
    ) -> None:
        """Write z^T (A z + b) to `out` [G, B]: what log_joint gains but for a constant, (54).

        Of components `part`, with residuals z [G, D, B] and steps b = W dmu [G, D]; `spare` is
        like z.
        """
        own = relative if self.shared else relative[part]
        self.structure.apply_to_residuals(own, z, spare)
        spare += step[:, :, None]
        np.einsum("kdb,kdb->kb", z, spare, out=out)

    def natural_tangents(
        self,
        constant: FloatArray,
        step: FloatArray,
        relative: FloatArray,
        means: FloatArray,
        inverse: FloatArray,
    ) -> FloatArray:
        """Return coefficients [K, P] of the features in constant + z^T (A z + b), equation (54).

        Where the features are of samples in the frame that all share, z^T A z without what is the
        same for all components: it changes no responsibility.
        """
        s, n_dims = self.structure, means.shape[1]
        whitened = means if self._is_own_frame else s.apply(inverse, means)
        turned = 0.5 * (s.apply(relative, whitened) + s.apply_transposed(relative, whitened))
        first = step - 2.0 * turned
        theta = np.zeros((len(means), self.features.n_features(n_dims)))
        theta[:, 0] = constant + np.einsum("kd,kd->k", whitened, turned - step)
        theta[:, 1 : n_dims + 1] = first
        if not self._is_own_frame:
            theta[:, 1 : n_dims + 1] = s.apply_transposed(inverse, first)
            theta[:, n_dims + 1 :] = s.square_coefficients(relative, inverse)
        return theta

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        """Zeroes to which `add_second_moments` adds."""
        return np.zeros(self.shape(n_components, n_dims) if self.learned else 0)

    def add_second_moments(
        self, total: FloatArray, part: slice, weighted: FloatArray, z: FloatArray
    ) -> None:
        """Add sums of weighted z^T for components `part` to `total`.

        Both [G, D, B]: `weighted` is w r z, or both are one array, sqrt(w r) z.
        """
        if self.learned:
            own = total if self.shared else total[part]
            self.structure.add_second_moments(own, weighted, z)

    def complete(self, second: FloatArray) -> FloatArray:
        """Finish what `add_second_moments` added, in place, and return it."""
        return self.structure.complete(second) if self.learned else second

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        """Second moments of masses [K] at points [K, D]."""
        if not self.learned:
            return np.zeros(0)
        s = self.structure
        return s.total_outer(mass, vectors) if self.shared else s.outer(mass, vectors)

    def diagonal(self, second: FloatArray) -> FloatArray:
        """View of the diagonals of second moments, that can be written to."""
        return self.structure.diagonal(second) if self.learned else second

    @cached_property
    def features(self) -> Structure:
        """The structure whose features, and natural parameters of them, the kernel needs."""
        return SPHERICAL if self._is_own_frame else self.structure

    def n_sums(self, n_dims: int) -> int:
        """How many of them, from the first, are to be summed by component."""
        only_first = self._is_own_frame or not self.learned
        return n_dims + 1 if only_first else self.structure.n_features(n_dims)

    def cross_moment(self, n_dims: int) -> FloatArray | None:
        """Zeroes for the second moments of all samples, sum w y y^T, if the family needs them."""
        return self.second_moments(1, n_dims) if self._is_own_frame and self.learned else None

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        """Turn weighted sums of the features [K, P] into n [K], v [K, D] and M.

        `means` and `inverse` are those of the coordinates in which the features were written;
        `cross` is that of `cross_moment`, if the family needs it.
        """
        s, mass = self.structure, sums[:, 0].copy()
        first = sums[:, 1 : means.shape[1] + 1] - mass[:, None] * means  # about them
        v = first if self._is_own_frame or not self.whitened else s.apply(inverse, first)
        if not self.learned:
            return Sums(mass, v, np.zeros(0))
        if cross is not None:
            half = first + 0.5 * mass[:, None] * means
            return Sums(mass, v, s.pooled_moments(cross, means, half))
        own = s.feature_moments(sums, means, first, inverse if self.whitened else None)
        return Sums(mass, v, self._total(own))

    def unwhiten_first(self, scale: FloatArray, first: FloatArray) -> FloatArray:
        """m_k = L_k v_k [K, D], equation (25)."""
        return self.structure.apply(scale, first)

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        """S_k = L_k M_k L_k^T, equation (25)."""
        return self.structure.unwhiten(scale, second) if self.learned else second

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        """Gradient of the summed loss with respect to the scale, equations (26) and (35).

        `second` may be overwritten.
        """
        if not self.learned:
            return np.zeros(0)
        return self.structure.gradient(scale, inverse, self._total(mass), second, n_dims)

    def gradient_tangent(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        relative: FloatArray,
        step: FloatArray,
        sums: Sums,
        tangents: Sums,
    ) -> FloatArray:
        """Return the tangent of `gradient`, where the scale moves by L A and means by L b.

        Sums are about the means; their tangents are those of fixed residuals, by responsibilities.
        """
        if not self.learned:
            return np.zeros(0)
        s = self.structure
        twice = s.total_outer_twice if self.shared else s.outer_twice
        moved = tangents.second - twice(step, sums.first)
        mass, dot_mass = self._total(sums.mass), self._total(tangents.mass)
        n_dims = step.shape[1]
        return s.gradient_tangent(
            scale, inverse, relative, mass, sums.second, dot_mass, moved, n_dims
        )

    def em_update(
        self, scale: FloatArray, sums: Sums, lost: FloatArray, add: Update
    ) -> tuple[FloatArray, Bools]:
        """Return the scale that maximises, and which components [K] collapsed: (27), (36).

        Second moments are about the new means. `lost` says, in the shape of their diagonals, how
        many times its own size the rounding error of each may be. A covariance of no samples and
        no prior stays what it is.
        """
        n_components, n_dims = sums.first.shape
        if not self.learned:
            return scale, np.zeros(n_components, dtype=bool)
        # n directions share one variance: as many times the samples, and the prior as often.
        s, n = self.structure, self.structure.n_equal(n_dims)
        mass, add = n * self._total(sums.mass), add.times(n)
        if not self.shared:
            return s.em_update(scale, mass, sums.second, lost, add)
        one = (scale[None], mass[None], sums.second[None], lost[None])
        updated, collapsed = s.em_update(*one, add)
        return np.asarray(updated[0]), np.repeat(collapsed, n_components)

    def at_maximum(
        self, scale: FloatArray, mass: FloatArray, floor: FloatArray, n_dims: int
    ) -> FloatArray:
        """Second moments of which `em_update` makes this very scale, if it adds a floor.

        Of masses [K], or [] where all share one covariance. Where the floor is higher than a
        variance there are none.
        """
        if not self.learned:
            return np.zeros(0)
        s = self.structure
        unit = s.of_each(mass) * s.unit_moments(scale, floor)
        return np.asarray(s.n_equal(n_dims) * unit)

    def _total(self, values: FloatArray) -> FloatArray:
        """Return the sum of values [K, ...] over components that share one covariance."""
        return np.asarray(values.sum(axis=0)) if self.shared else values

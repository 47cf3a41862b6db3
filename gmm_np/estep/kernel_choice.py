"""Which kernel takes a chunk of samples: the cheaper of those that are accurate enough."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from gmm_np.checks import FloatArray
from gmm_np.covariance.family import Sums
from gmm_np.estep.feature_kernel import FeatureKernel
from gmm_np.estep.prepared_mixture import PreparedMixture
from gmm_np.estep.residual_kernel import ResidualKernel
from gmm_np.estep.standardization import Standardizations

Method: TypeAlias = Literal["auto", "direct", "moments"]
METHODS: Final = ("auto", "direct", "moments")

# moments is admitted where the bound on its relative error promises ten digits.
LARGEST_ERROR: Final = 1e-10
# Up to so many coordinates of residuals (0.1 ms) there is no time to save, only digits to lose.
LITTLE_WORK: Final = 2**14

Kernel: TypeAlias = ResidualKernel | FeatureKernel


class Guard:
    """Chooses the kernel for a chunk of samples, and makes those that are needed.

    Parameters
    ----------
    mixture : Mixture
    method : {"auto", "direct", "moments"}
        "auto" is moments where it is accurate enough; see `cheapest`.
    frames : Frames
        Of the mixture; those of all threads.
    n_samples : int
        How many are to come, about.
    central : bool
        As for `Engine`.
    """

    def __init__(
        self,
        mixture: PreparedMixture,
        method: Method,
        frames: Standardizations,
        *,
        n_samples: int,
        central: bool = False,
    ) -> None:
        self.mixture, self.method, self.frames = mixture, method, frames
        self.n_samples, self.central = n_samples, central
        self.direct: ResidualKernel | None = None
        self.moments: dict[bool, FeatureKernel] = {}

    def choose(self, x: FloatArray) -> tuple[Kernel, FloatArray]:
        """Return the kernel for samples x [D, B], and the samples as it wants them."""
        found = self._frame(x)
        if found is None:
            if self.direct is None:
                self.direct = ResidualKernel(self.mixture, self.n_samples, central=self.central)
            return self.direct, x
        common, y = found
        if common not in self.moments:
            frame = self.frames.get(common=common)
            self.moments[common] = FeatureKernel(
                self.mixture, frame, self.n_samples, central=self.central
            )
        return self.moments[common], y

    def expected(self, x: FloatArray) -> Method:
        """Return the method of the kernel that samples x [D, B] are going to take."""
        return "direct" if self._frame(x) is None else "moments"

    def merge(self, other: Guard) -> None:
        """Add what the kernels of another one for the same mixture and frames added."""
        for common, moments in other.moments.items():
            if common in self.moments:
                self.moments[common].merge(moments)
            else:
                self.moments[common] = moments
        if self.direct is None:
            self.direct = other.direct
        elif other.direct is not None:
            self.direct.merge(other.direct)

    def sums(self) -> list[Sums]:
        """Return what the kernels added, in parts."""
        made: list[Kernel] = [*self.moments.values()]
        if self.direct is not None:
            made.append(self.direct)
        return [part for kernel in made for part in kernel.sums()]

    def _frame(self, x: FloatArray) -> tuple[bool, FloatArray] | None:
        """Return which frame moments takes, and samples x [D, B] in it; None for direct."""
        if self.method == "direct":
            return None
        for common in self.mixture.family.frames:
            frame = self.frames.get(common=common)
            if frame.unit != 1.0 and not self.mixture.family.whitened:
                continue  # plain residuals are in the units of the data
            y = frame.write(x)
            if self.method == "moments" or frame.error(y) <= LARGEST_ERROR:
                return common, y
        return None


def cheapest(mixture: PreparedMixture, costs: Costs, n_samples: int) -> Method:
    """Return "direct" where that is as cheap as moments, else "auto"."""
    little = n_samples * mixture.n_components * mixture.n_dims <= LITTLE_WORK
    return "direct" if little or costs.moments > costs.direct else "auto"


class Costs(NamedTuple):
    """What a sample costs by each kernel: nanoseconds of one core, about."""

    moments: float
    direct: float

    @classmethod
    def of(cls, mixture: PreparedMixture, n_samples: int, *, gradient: bool) -> Costs:
        """Estimate them for so many samples.

        Fitted to K from 2 to 200 and D from 2 to 128, to the geometric mean of what they take with
        and without AVX-512. moments: each feature is written once, the slower the less of them
        stays in a cache, and multiplied by K coefficients. direct: elementwise passes over K D
        coordinates of residuals, and products with triangles. Both twice if there is a gradient.
        What is made of parameters, and of sums, costs D^3 for each component, however few the
        samples.
        """
        k, d, p = mixture.n_components, mixture.n_dims, mixture.n_features
        products = 2 if gradient else 1
        moments = p * (2.6 + 1.1e-4 * p + 0.15 * products * k) + 4.0 * k
        if not mixture.family.dense:
            return cls(moments, products * k * d * 3.2 + 2.0 * k)
        moments += 0.05 * products * k * d**3 / n_samples
        direct = products * k * d * (5.1 + 0.055 * d) + 2.0 * k + 0.08 * k * d**3 / n_samples
        return cls(moments, direct)

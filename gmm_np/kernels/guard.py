"""Which kernel takes a chunk of samples: the cheaper of those that are accurate enough."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from gmm_np.checks import FloatArray
from gmm_np.families.family import Sums
from gmm_np.kernels.direct import Direct
from gmm_np.kernels.frame import Frame
from gmm_np.kernels.mixture import Mixture
from gmm_np.kernels.moments import Moments

Method: TypeAlias = Literal["auto", "direct", "moments"]
METHODS: Final = ("auto", "direct", "moments")

# moments is admitted where the bound on its relative error promises ten digits.
LARGEST_ERROR: Final = 1e-10
# Up to so many coordinates of residuals (0.1 ms) there is no time to save, only digits to lose.
LITTLE_WORK: Final = 2**14

Kernel: TypeAlias = Direct | Moments


class Guard:
    """Chooses the kernel for a chunk of samples, and makes those that are needed.

    The cheaper one, by `moments_is_cheaper`, among those that are accurate enough.
    """

    def __init__(
        self,
        mixture: Mixture,
        method: Method,
        *,
        n_samples: int,
        gradient: bool,
        central: bool = False,
    ) -> None:
        self.mixture, self.n_samples, self.central = mixture, n_samples, central
        self.method = method
        if method == "auto":
            little = n_samples * mixture.n_components * mixture.n_dims <= LITTLE_WORK
            if little or not moments_is_cheaper(mixture, n_samples, gradient=gradient):
                self.method = "direct"
        self.direct: Direct | None = None
        self.frames: dict[bool, Frame] = {}
        self.moments: dict[bool, Moments] = {}

    def choose(self, x: FloatArray) -> tuple[Kernel, FloatArray]:
        """Return the kernel for samples x [D, B], and the samples as it wants them."""
        if self.method != "direct":
            for common in self.mixture.family.frames:
                if common not in self.frames:
                    self.frames[common] = Frame(self.mixture, common=common)
                frame = self.frames[common]
                y = frame.write(x)
                if self.method == "moments" or frame.error(y) <= LARGEST_ERROR:
                    if common not in self.moments:
                        self.moments[common] = Moments(
                            self.mixture, frame, self.n_samples, central=self.central
                        )
                    return self.moments[common], y
        if self.direct is None:
            self.direct = Direct(self.mixture, self.n_samples, central=self.central)
        return self.direct, x

    def sums(self) -> list[Sums]:
        """Return what the kernels added, in parts."""
        made: list[Kernel] = [*self.moments.values()]
        if self.direct is not None:
            made.append(self.direct)
        return [part for kernel in made for part in kernel.sums()]


def moments_is_cheaper(mixture: Mixture, n_samples: int, *, gradient: bool) -> bool:
    """Return whether moments costs less than direct, by a model of the time that a sample takes.

    In nanoseconds of one core, of which only the ratios matter; fitted to K from 5 to 200 and D
    from 10 to 128. moments: each feature is written once, and multiplied by K coefficients. direct:
    elementwise passes over K D coordinates of residuals, and half a matrix product. Both twice if
    there is a gradient. moments also turns parameters into coefficients, and sums into moments,
    which costs D^3 for each component, however few the samples.
    """
    k, d, dense = mixture.n_components, mixture.n_dims, mixture.family.dense
    products = 2 if gradient else 1
    moments = mixture.n_features * (1.6 + 0.05 * products * k)
    direct = products * k * d * 1.7
    if dense:
        moments += 0.05 * products * k * d**3 / n_samples
        direct += products * k * d * 0.026 * d
    return bool(moments <= direct)

"""The loss inside other frameworks, and fitted models to and from them.

``gmm_np.interop.torch``, ``.jax`` and ``.autograd`` have `nll` as a function that the framework
differentiates, once and twice, by the exact derivatives of this library; ``.torch`` and
``.sklearn`` exchange fitted models. Each is imported when it is asked for, and needs its framework.
Parameters with an axis of rows before their own are those of a mixture for each row, `gmm_np.mdn`.
"""

from importlib import import_module
from types import ModuleType

_FRAMEWORKS = ("autograd", "jax", "sklearn", "torch")


def __getattr__(name: str) -> ModuleType:
    if name not in _FRAMEWORKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FRAMEWORKS})

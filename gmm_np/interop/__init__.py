"""The loss inside other frameworks, and fitted models to and from them.

``gmm_np.interop.torch``, ``.jax`` and ``.autograd`` have `nll` as a function that the framework
differentiates, once and twice, by the exact derivatives of this library; ``.torch`` and
``.sklearn`` exchange fitted models. Each is imported when it is asked for, and needs its framework.
Parameters with an axis of rows before their own are those of a mixture for each row, `gmm_np.mdn`.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

_FRAMEWORKS = ("autograd", "jax", "sklearn", "torch")


def load(name: str) -> Any:
    """Import a module of a framework, or say what to install."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        framework = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != framework:
            raise  # it is there, and lacks something of its own
        package = {"sklearn": "scikit-learn"}.get(framework, framework)
        raise ModuleNotFoundError(
            f"gmm_np.interop.{framework} needs {framework}, which is not installed: "
            f"pip install {package}",
            name=framework,
        ) from None


def __getattr__(name: str) -> ModuleType:
    if name not in _FRAMEWORKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FRAMEWORKS})

"""What every estimator of scikit-learn's kind can do: show, set and copy its parameters.

Its conventions without its classes: parameters are the arguments of ``__init__``, stored under
their own names and checked when they are used.
"""

from __future__ import annotations

from html import escape
from importlib import import_module
from inspect import signature
from typing import Any, Final

import numpy as np

# Characters of a value in a notebook.
SHOWN: Final = 100


class Estimator:
    """Parameters by name, in scikit-learn's manner."""

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        """Return the default of each parameter."""
        parameters = list(signature(cls.__init__).parameters.values())[1:]
        return {parameter.name: parameter.default for parameter in parameters}

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """Return the parameters by name.

        Parameters
        ----------
        deep : bool
            Makes no difference: no parameter is an estimator.
        """
        return {name: getattr(self, name) for name in sorted(self._defaults())}

    def set_params(self, **params: Any) -> Any:
        """Set parameters by name; return self.

        Raises
        ------
        ValueError
            If there is no parameter of such a name.
        """
        valid = sorted(self._defaults())
        for name in params:
            if name not in valid:
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {self}. "
                    f"Valid parameters are: {valid!r}."
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def _changed(self) -> dict[str, Any]:
        """Return the parameters that differ from their defaults."""
        return {
            name: value
            for name, default in self._defaults().items()
            if not _same(value := getattr(self, name), default)
        }

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={value!r}" for name, value in self._changed().items())
        return f"{type(self).__name__}({changed})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a table of all parameters, those changed in bold."""
        state = "fitted" if self.__sklearn_is_fitted__() else "not fitted"
        changed, rows = self._changed(), []
        for name in self._defaults():
            value = " ".join(repr(getattr(self, name)).split())  # an array, on one line
            if len(value) > SHOWN:
                value = value[: SHOWN - 4] + " ..."
            label = f"<b>{name}</b>" if name in changed else name
            cells = (label, f"<code>{escape(value)}</code>")
            row = "".join(f'<td style="text-align: left">{cell}</td>' for cell in cells)
            rows.append(f"<tr>{row}</tr>")
        return (
            f"<details open=''><summary>{type(self).__name__}, {state}</summary>"
            f"<table>{''.join(rows)}</table></details>"
        )

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there was a fit."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn asks about an estimator; called by it alone."""
        utils = import_module("sklearn.utils")
        return utils.Tags(
            estimator_type="density_estimator",
            target_tags=utils.TargetTags(required=False),
            input_tags=utils.InputTags(),
        )


def _same(value: object, default: object) -> bool:
    return value is default or (
        type(value) is type(default)
        and not isinstance(value, np.ndarray)
        and bool(value == default)
    )

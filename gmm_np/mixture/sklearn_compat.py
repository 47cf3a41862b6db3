"""What scikit-learn expects of an estimator, without scikit-learn.

Its classes of errors and warnings are used where it is loaded: who catches them has loaded them. So
has who routes metadata, whose requests are made when they are asked for.
"""

from __future__ import annotations

import sys
from html import escape
from importlib import import_module
from inspect import signature
from typing import Any, Final

import numpy as np

# Characters of a value in a notebook.
SHOWN: Final = 100
# Of the methods that scikit-learn routes to, those that take more than X and y.
ROUTED: Final = ("fit", "partial_fit", "score")
# scikit-learn's word for a request that stays as it is.
UNCHANGED: Final = "$UNCHANGED$"


class NotFittedError(ValueError, AttributeError):
    """A method was called that needs a fit."""


class ConvergenceWarning(UserWarning):
    """A fit came to an end that needs a look."""


class RegCovarWarning(UserWarning):
    """`reg_covar` is a large share of a column's variance."""


def not_fitted_error() -> type[Exception]:
    """Return scikit-learn's NotFittedError if it is loaded, and ours otherwise."""
    found: type[Exception] = _class("NotFittedError", NotFittedError)
    return found


def convergence_warning() -> type[Warning]:
    """Return scikit-learn's ConvergenceWarning if it is loaded, and ours otherwise."""
    found: type[Warning] = _class("ConvergenceWarning", ConvergenceWarning)
    return found


def _class(name: str, own: Any) -> Any:
    if "sklearn" not in sys.modules:
        return own
    try:
        return getattr(import_module("sklearn.exceptions"), name)
    except ImportError:
        return own


class Estimator:
    """Parameters by name, and what scikit-learn may route to methods, in its manner.

    Its conventions without its classes: parameters are the arguments of ``__init__``, stored under
    their own names and checked when they are used.

    A request for `sample_weight`, or another argument of `fit`, is one of

    - True: passed on by a meta-estimator that is given it;
    - False: not passed on;
    - None, at first: an error where the meta-estimator is given it, so that no weight is lost in
      silence;
    - a str: passed on if the meta-estimator is given it under this name.

    `sklearn.base.clone` keeps requests; files do not.
    """

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
            input_tags=utils.InputTags(allow_nan=getattr(self, "missing", None) == "marginal"),
        )

    # --- metadata routing ---------------------------------------------------------------------

    def set_fit_request(
        self,
        *,
        sample_weight: bool | str | None = UNCHANGED,
        callback: bool | str | None = UNCHANGED,
        start: bool | str | None = UNCHANGED,
        given: bool | str | None = UNCHANGED,
        noise: bool | str | None = UNCHANGED,
    ) -> Any:
        """Say what a meta-estimator of scikit-learn passes on to `fit`, and to `fit_predict`.

        Parameters
        ----------
        sample_weight, callback, start, given, noise : bool, str or None
            True, False, the name under which it is given, or None: an error where it is given.
            What is left out stays as it was.

        Returns
        -------
        self : GaussianMixture

        Raises
        ------
        ImportError
            Without scikit-learn.
        RuntimeError
            If ``sklearn.set_config(enable_metadata_routing=True)`` was not called.
        ValueError
            If a request is none of these.
        """
        asked = {"sample_weight": sample_weight, "callback": callback, "start": start}
        return self._set_requests("fit", given=given, noise=noise, **asked)

    def set_partial_fit_request(self, *, sample_weight: bool | str | None = UNCHANGED) -> Any:
        """Say the same of `partial_fit`: see `set_fit_request`."""
        return self._set_requests("partial_fit", sample_weight=sample_weight)

    def set_score_request(self, *, sample_weight: bool | str | None = UNCHANGED) -> Any:
        """Say the same of `score`: see `set_fit_request`."""
        return self._set_requests("score", sample_weight=sample_weight)

    def get_metadata_routing(self) -> Any:
        """Return a copy of the requests, a `sklearn.utils.metadata_routing.MetadataRequest`.

        scikit-learn's meta-estimators call it.

        Raises
        ------
        ImportError
            Without scikit-learn.
        """
        routing = _sklearn("sklearn.utils.metadata_routing")
        kept = getattr(self, "_metadata_request", None)
        if kept is not None:
            return routing.get_routing_for_object(kept)
        requests = routing.MetadataRequest(owner=type(self).__name__)
        for method in ROUTED:
            for name in signature(getattr(self, method)).parameters:
                if name not in ("X", "y"):
                    getattr(requests, method).add_request(param=name, alias=None)
        return requests

    def _set_requests(self, method: str, **aliases: bool | str | None) -> Any:
        if not _sklearn("sklearn").get_config().get("enable_metadata_routing", False):
            raise RuntimeError(
                "This method is only available when metadata routing is enabled. You can enable it "
                "using sklearn.set_config(enable_metadata_routing=True)."
            )
        requests = self.get_metadata_routing()
        for name, alias in aliases.items():
            if alias != UNCHANGED:
                getattr(requests, method).add_request(param=name, alias=alias)
        self._metadata_request = requests  # the name that `sklearn.base.clone` copies
        return self


def _same(value: object, default: object) -> bool:
    return value is default or (
        type(value) is type(default)
        and not isinstance(value, np.ndarray)
        and bool(value == default)
    )


def _sklearn(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            "metadata routing is scikit-learn's, which is not installed: pip install scikit-learn"
        ) from error

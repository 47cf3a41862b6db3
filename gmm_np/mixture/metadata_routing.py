"""Which metadata a method asks for, where scikit-learn routes them through its meta-estimators.

scikit-learn's requests are made when they are asked for: who routes metadata has loaded it.
"""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import Any, Final

# Of the methods that scikit-learn routes to, those that take more than X and y.
ROUTED: Final = ("fit", "partial_fit", "score")
# scikit-learn's word for a request that stays as it is.
UNCHANGED: Final = "$UNCHANGED$"


class MetadataRequester:
    """Requests for `sample_weight`, `callback` and `start`, in scikit-learn's manner.

    Each is one of

    - True: passed on by a meta-estimator that is given it;
    - False: not passed on;
    - None, at first: an error where the meta-estimator is given it, so that no weight is lost in
      silence;
    - a str: passed on if the meta-estimator is given it under this name.

    `sklearn.base.clone` keeps requests; files do not.
    """

    def set_fit_request(
        self,
        *,
        sample_weight: bool | str | None = UNCHANGED,
        callback: bool | str | None = UNCHANGED,
        start: bool | str | None = UNCHANGED,
    ) -> Any:
        """Say what a meta-estimator of scikit-learn passes on to `fit`, and to `fit_predict`.

        Parameters
        ----------
        sample_weight, callback, start : bool, str or None
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
        return self._set_requests("fit", **asked)

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
        routing = _import("sklearn.utils.metadata_routing")
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
        if not _import("sklearn").get_config().get("enable_metadata_routing", False):
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


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            "metadata routing is scikit-learn's, which is not installed: pip install scikit-learn"
        ) from error

"""A plugin of pytest: ``pytest --gmm-conformance mine:nll`` runs the certified vectors as tests.

A module by itself, since pytest imports it in every run where gmm_np is installed: NumPy and gmm_np
are loaded only where the option is given. docs/conformance.md has the options.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAME = "gmm-conformance"
_CHOICES = ("policy", "family", "case", "level", "xfail")


def pytest_addoption(parser: Any) -> None:
    """Add the options."""
    group = parser.getgroup(NAME, "certified vectors of the Gaussian-mixture likelihood")
    group.addoption(
        f"--{NAME}",
        metavar="MODULE:FUNCTION",
        help="a test for each case: function(x, logits, means, chol) -> (nll, d_logits, d_means, "
        "d_chol); -m gmm_conformance leaves out other tests",
    )
    group.addoption(
        f"--{NAME}-policy",
        metavar="NAME",
        help="what is asked of an answer: strict (default), library or binary32",
    )
    for name, metavar, what in (
        ("family", "NAME", "this family, or those of a pattern such as 'hvp_*'"),
        ("case", "ID", "this case"),
        ("level", "LEVEL", "lower, average or higher"),
    ):
        group.addoption(
            f"--{NAME}-{name}",
            action="append",
            metavar=metavar,
            help=f"{what}; may be repeated (default: all)",
        )
    group.addoption(
        f"--{NAME}-xfail",
        metavar="FILE",
        help="cases known to be answered wrong, an id a line, # begins a comment; one that passes "
        "is a failure",
    )


def pytest_configure(config: Any) -> None:
    """Register the marker, and where the option is given what collects the cases."""
    config.addinivalue_line("markers", "gmm_conformance: a certified case, by --gmm-conformance")
    target = config.getoption("gmm_conformance")
    if target:
        config.pluginmanager.register(Vectors(config, target), f"{NAME}-vectors")
        return
    for name in _CHOICES:
        if config.getoption(f"gmm_conformance_{name}"):
            raise pytest.UsageError(f"--{NAME}-{name} needs --{NAME} MODULE:FUNCTION")


class WrongAnswerError(Exception):
    """What is wrong with an answer."""


class Vectors:
    """The function that is tested, and the cases that are chosen.

    Parameters
    ----------
    config : pytest.Config
    target : str
        ``package.module:function``.

    Raises
    ------
    pytest.UsageError
        If there is no such function, case or policy.
    """

    def __init__(self, config: Any, target: str) -> None:
        self.target = target
        directory = str(config.invocation_params.dir)
        if directory not in sys.path:  # as `python -m pytest` has it
            sys.path.insert(0, directory)
        try:
            self._prepare(config)
        except Exception as error:  # the module that is loaded may raise anything
            kind = "" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: "
            raise pytest.UsageError(f"--{NAME} {target}: {kind}{error}") from error

    def _prepare(self, config: Any) -> None:
        from gmm_np.checks import check_choice
        from gmm_np.conformance.command import read_expected_failures
        from gmm_np.conformance.compare import POLICIES
        from gmm_np.conformance.function_adapter import FunctionAdapter, offered
        from gmm_np.conformance.runner import check_expected, chosen
        from gmm_np.conformance.worker import load

        option = {name: config.getoption(f"gmm_conformance_{name}") for name in _CHOICES}
        policy = option["policy"] or "strict"
        check_choice("policy", policy, tuple(POLICIES))
        self.policy = POLICIES[policy]
        function, self.name = load(self.target)
        self.adapter = FunctionAdapter(function, self.name)
        self.place = place_of(function)
        names = [*(option["family"] or ()), *(option["case"] or ())]
        self.cases = [
            case
            for family in chosen(levels=option["level"] or (), names=names)
            for case in family.cases
            if not case.optional or case.function in offered(function, case.parametrization)
        ]
        if not self.cases:
            raise ValueError("no case asks for anything that the function offers.")
        self.known: tuple[str, ...] = ()
        if option["xfail"]:
            self.known = read_expected_failures(config.invocation_params.dir / option["xfail"])
            check_expected(self.known)
        #: Cases that were answered right so far: a mutant that fails one explains nothing.
        self.passed: list[Any] = []

    def pytest_report_header(self) -> str:
        """Say what is tested."""
        return f"{NAME}: {self.name}, policy {self.policy.name}, {len(self.cases)} cases"

    def pytest_collection_modifyitems(self, session: Any, items: list[Any]) -> None:
        """Add a test for each case."""
        items += session.genitems(Cases.from_parent(session, name=NAME, nodeid=NAME, vectors=self))


def place_of(function: Any) -> tuple[Path, int | None]:
    """Return the file and the line, from 0, of a function, as far as they are known."""
    try:
        inner = inspect.unwrap(function)
        return Path(inspect.getsourcefile(inner) or ""), inspect.getsourcelines(inner)[1] - 1
    except (TypeError, OSError):
        return Path(), None


class Cases(pytest.Collector):  # type: ignore[misc]  # pytest is not always there: Any
    """What the tests of all cases stand under.

    Parameters
    ----------
    vectors : Vectors
    """

    def __init__(self, *, vectors: Vectors, **options: Any) -> None:
        super().__init__(**options)
        self.vectors = vectors

    def collect(self) -> Iterator[Any]:
        """Yield a test for each case."""
        for case in self.vectors.cases:
            item = CertifiedCase.from_parent(self, name=case.id, case=case, vectors=self.vectors)
            item.add_marker("gmm_conformance")
            if case.id in self.vectors.known:
                reason = "listed as a failure"
                mark = pytest.mark.xfail(reason=reason, strict=True, raises=WrongAnswerError)
                item.add_marker(mark)
            yield item


class CertifiedCase(pytest.Item):  # type: ignore[misc]
    """A test: the function's answer to one case.

    Parameters
    ----------
    case : Case
    vectors : Vectors
    """

    def __init__(self, *, case: Any, vectors: Vectors, **options: Any) -> None:
        super().__init__(**options)
        self.case, self.vectors = case, vectors
        self.extra_keyword_matches.update((case.family, case.level, *case.flags))

    def runtest(self) -> None:
        """Ask, and compare."""
        from gmm_np.conformance.compare import STRICT, judge
        from gmm_np.conformance.diagnosis import Wrong, diagnose

        case, vectors = self.case, self.vectors
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # where they are errors, one would be a refusal
            outcome = vectors.adapter.evaluate(case)
        result = judge(case, outcome, vectors.policy)
        if result.status == "unsupported":
            pytest.skip(result.message)
        self.user_properties += [
            (f"digits_{name}", f"{digits:.2f}")
            for name, digits in zip(case.blocks, result.digits[-len(case.blocks) :], strict=True)
            if digits is not None
        ]
        if result.status == "wrong":
            _, named = diagnose([Wrong(case, outcome)], vectors.passed)
            like = "".join(f"\nlooks like {name}" for name in named.get(case.id, ()))
            raise WrongAnswerError(
                f"{result.message}{like}\n{case.comment} Level: {case.level}.\n"
                f"gmm-np conformance --python {vectors.target} --case {case.id}"
            )
        if not result.missing and vectors.policy is STRICT:
            vectors.passed.append(case)

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """Say what is wrong; the way there through the runner helps nobody."""
        from gmm_np.conformance.function_adapter import ToolError

        if isinstance(excinfo.value, (WrongAnswerError, ToolError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the place of the function, and what is tested."""
        return *self.vectors.place, f"{NAME} {self.case.id}"

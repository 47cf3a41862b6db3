# ruff: noqa: ARG001, ARG005  (adapters have the arguments that they have)
"""The runner of the certified vectors: what passes, what does not, and how a run ends."""

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import time
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest

from gmm_np.cli import main
from gmm_np.conformance import (
    Family,
    RunnerError,
    VectorError,
    read_vectors,
    run,
    write_cases,
)
from gmm_np.conformance import compare as compare_module
from gmm_np.conformance.adapters import gmm_np as own
from gmm_np.conformance.cases import DIRECTORY, OUTPUTS, VALUE, read_family
from gmm_np.conformance.command import split_command
from gmm_np.conformance.compare import (
    MOST_DIGITS,
    POLICIES,
    Answered,
    Bound,
    Rejected,
    Unsupported,
    judge,
)
from gmm_np.conformance.function_adapter import FunctionAdapter, ToolError, offered
from gmm_np.conformance.process_adapter import ProcessAdapter, python_command
from gmm_np.conformance.runner import MOST_BREAKDOWNS, chosen, run_cases
from gmm_np.conformance.wire import message_of, outcome_of, reply_of

TOOL = str(Path(__file__).with_name("conformance_tool.py"))
ADAPTERS = Path(own.__file__).parent
REFERENCE = "gmm_np.conformance.adapters.gmm_np:reference"
FAMILIES = read_vectors()
CASES = {case.id: case for family in FAMILIES for case in family.cases}
# What the plainest of adapters supports.
PLAIN = [
    case
    for case in CASES.values()
    if (case.parametrization, case.dtype, case.reduction) == ("cholesky", "binary64", "mean")
    and not case.optional
    and "weights" not in case.inputs
    and case.level == "lower"
]
VALID = [case for case in PLAIN if case.result == "valid"]


def one_family(cases):
    return [Family("some", "some cases", {}, tuple(cases))]


def tool(mode, *arguments, timeout=20.0):
    return ProcessAdapter([sys.executable, TOOL, mode, *map(str, arguments)], timeout)


def ask(adapter, cases=None, **options):
    """Run a few cases and end the adapter."""
    try:
        return run_cases(adapter, one_family(VALID[:3] if cases is None else cases), **options)
    finally:
        adapter.close()


def statuses(report):
    return [case.status for case in report.cases]


def exact(case):
    """The certified answer, rounded to double."""
    return Answered(tuple(case.certified(name) for name in case.blocks))


# --- comparing ----------------------------------------------------------------------------------


TINY = {"rounding": "1e-926"}
HUGE = {"rounding": "1e382"}
INF = math.inf


@pytest.mark.parametrize(
    ("answer", "certified", "options", "digits", "share"),
    [
        # Differences are exact. This is the double nearest to 0.1:
        (0.1, "0.1000000000000000055511151231257827", {}, MOST_DIGITS, 0.0),
        (0.1, "0.1", {}, MOST_DIGITS, 5.551115123125783e-18 / 4e-16),
        # No double is as near to 1 as this, and the difference is still seen.
        (1.0, f"1.{'0' * 31}1", {"rounding": "1e-40"}, MOST_DIGITS, 1e-32 / 4e-40),
        # Digits are the log relative error.
        (1.0, "1.00000001", {}, 8.0, 1e-8 / 4e-16),
        (-2.5, "2.5", {}, 0.0, 5.0 / 4e-16),
        (2.0, "1", {}, 0.0, 1.0 / 4e-16),
        (1e-300, "1.001e-300", {}, 3.0, 1e-303 / 4e-16),
        (1.0, "1", {}, MOST_DIGITS, 0.0),
        # Those of an exact zero count below the addends.
        (1e-10, "0", {}, -math.log10(1e-10 / (1e-16 * 2**53)), 1e-10 / 4e-16),
        # NaN never passes, whatever the floor.
        *((math.nan, c, {"floor": "1e300"}, 0.0, INF) for c in ("1", "0", "6e397", "-4.8e-911")),
        # Beyond the range the infinity of the sign is right.
        (INF, "6.9e397", HUGE, MOST_DIGITS, 0.0),
        (-INF, "-6.9e397", HUGE, MOST_DIGITS, 0.0),
        (-INF, "6.9e397", HUGE, 0.0, INF),
        (1.7e308, "6.9e397", HUGE, math.log10(2**53 / 6.9e15), 6.9e15 / 4),
        (INF, "1.7e308", {"rounding": "1e292"}, 0.0, INF),
        (INF, "0", {}, 0.0, INF),
        # What may be flushed may be zero.
        (0.0, "-4.8e-911", {**TINY, "floor": "1e-320"}, MOST_DIGITS, 0.0),
        (0.0, "-4.8e-911", TINY, 0.0, 4.8e15 / 4),
    ],
)
def test_an_answer_has_its_digits_and_its_share_of_the_allowance(
    answer, certified, options, digits, share
):
    numbers = {"rounding": "1e-16", "factor": "4", "floor": "0", **options}
    decimals = {name: Decimal(text) for name, text in numbers.items()}
    bound = Bound(Decimal(certified), **decimals, overflow=Decimal(2**1024 - 2**970))
    with localcontext(compare_module._EXACT):
        error, found = bound.compare(answer)
        assert compare_module._digits_of([error], [bound]) == pytest.approx(digits, abs=1e-3)
    assert found == pytest.approx(share, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("case", VALID[:5], ids=lambda case: case.id)
def test_certified_answer_passes_and_each_entry_counts(case):
    assert judge(case, exact(case)).status == "pass"
    for index, (name, shape) in enumerate(zip(case.blocks, case.shapes, strict=True)):
        # 1e-6 of the larger of the entry and its addends: far beyond the allowance.
        scale = max(map(float, case.outputs[name]["scale"]))
        entries = np.tril(np.ones(shape)) if name == "chol" else np.ones(shape)
        for place in map(tuple, np.argwhere(entries)):
            blocks = [block.copy() for block in exact(case).blocks]
            blocks[index][place] += 1e-6 * (scale + abs(blocks[index][place]) + 1e-6)
            result = judge(case, Answered(tuple(blocks)))
            assert (result.status, result.kind) == ("wrong", "inexact"), (name, place)


@pytest.mark.parametrize("entry", [1e-300, math.nan])
def test_upper_triangle_has_to_be_zero(entry):
    case = next(case for case in VALID if case.n_features > 1)
    blocks = [block.copy() for block in exact(case).blocks]
    blocks[3][0, 0, 1] = entry
    result = judge(case, Answered(tuple(blocks)))
    assert (result.status, result.kind) == ("wrong", "shape")
    assert "above the diagonal" in result.message


@pytest.mark.parametrize("shape", [(), (1,), (7, 3)])
def test_shape_of_a_gradient_has_to_be_that_of_its_argument(shape):
    case = next(case for case in VALID if case.n_components > 1)
    value, _, *others = exact(case).blocks
    assert judge(case, Answered((value, np.zeros(shape), *others))).kind == "shape"


def test_rejection_is_right_only_where_it_is_allowed():
    expected = {"valid": "wrong", "invalid": "pass", "either": "pass"}
    seen = {case.result: judge(case, Rejected("no")).status for case in CASES.values()}
    assert seen == expected
    invalid = next(case for case in CASES.values() if case.result == "invalid")
    zeros = Answered(tuple(np.zeros(shape) for shape in invalid.shapes))
    assert judge(invalid, zeros).kind == "answered"


# --- adapters in Python -------------------------------------------------------------------------


def nothing_but_nan(x, logits, means, chol):
    value, *gradients = (np.full(np.shape(a), math.nan) for a in (0.0, logits, means, chol))
    return value, *gradients[:2], np.tril(gradients[2])


def test_nan_passes_no_valid_case():
    for case in CASES.values():
        if (
            case.result != "invalid"
            and case.parametrization == "cholesky"
            and case.function == VALUE
        ):
            arrays = (case.arrays[name] for name in ("x", "logits", "means", "chol"))
            assert judge(case, Answered(nothing_but_nan(*arrays))).status == "wrong", case.id
    assert ask(FunctionAdapter(nothing_but_nan)).exit_code == 4


def test_value_alone_passes_in_part():
    def value(x, logits, means, chol):
        return own.reference(x, logits, means, chol)[0]

    report = ask(FunctionAdapter(value))
    assert statuses(report) == ["pass"] * 3
    assert {case.missing for case in report.cases} == {("logits", "means", "chol")}
    assert "in part" in str(report)


def test_keywords_are_passed_only_where_they_are_declared():
    seen = []

    def bare(x, logits, means, chol):
        seen.append("bare")
        return own.reference(x, logits, means, chol)

    def full(x, logits, means, chol, *, sample_weight=None, reduction="mean"):
        seen.append((sample_weight is not None, reduction))
        return own.reference(
            x, logits, means, chol, sample_weight=sample_weight, reduction=reduction
        )

    cholesky = [
        c for c in CASES.values() if c.parametrization == "cholesky" and c.function == VALUE
    ]
    sums = [c for c in cholesky if c.reduction == "sum"][:2]
    weighted = [c for c in cholesky if "weights" in c.inputs and c.result == "valid"][:2]
    assert sums
    assert weighted
    assert set(statuses(ask(FunctionAdapter(bare), [*sums, *weighted]))) == {"unsupported"}
    assert seen == []
    assert set(statuses(ask(FunctionAdapter(full), [*sums, *weighted]))) == {"pass"}
    assert {reduction for _, reduction in seen} == {"mean", "sum"}
    assert {weighted for weighted, _ in seen} == {False, True}


def test_arguments_come_in_the_dtype_of_the_case_and_may_be_written_to():
    seen = []

    def greedy(x, logits, means, chol):
        seen.append({a.dtype.name for a in (x, logits, means, chol)})
        answer = own.reference(x, logits, means, chol)
        for array in (x, logits, means, chol):
            array[...] = math.nan
        return answer

    single = [
        c
        for c in CASES.values()
        if c.dtype == "binary32" and c.result == "valid" and c.reduction == "mean"
    ][:1]
    for _ in range(2):
        assert set(statuses(ask(FunctionAdapter(greedy), [VALID[0], *single]))) == {"pass"}
    assert seen[:2] == [{"float64"}, {"float32"}]


def raising(error):
    def function(x, logits, means, chol):
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "status", "exit_code"),
    [
        (raising(ArithmeticError("no")), "wrong", 4),  # a rejection of what is valid
        (raising(NotImplementedError), "unsupported", 6),
        (raising(ModuleNotFoundError("torch")), "crash", 3),
        *(
            (lambda x, logits, means, chol, answer=answer: answer, "garbage", 3)
            for answer in ((1.0, 2.0), "one", ("a", None, None, None), object())
        ),
    ],
)
def test_function_that_gives_no_answer(function, status, exit_code):
    report = ask(FunctionAdapter(function))
    assert (statuses(report), report.exit_code) == ([status] * 3, exit_code)


# --- policies -----------------------------------------------------------------------------------


def shifted(case, times):
    """An answer whose value is wrong by so many times its allowance."""
    value, *others = exact(case).blocks
    with localcontext(compare_module._EXACT):
        (bound,) = compare_module.bounds_of(case, "nll")
        return Answered((value + times * float(bound.allowance), *others))


@pytest.mark.parametrize(
    ("policy", "passes", "fails"),
    [("strict", 0.9, 2.0), ("library", 900.0, 1100.0), ("binary32", 0.9 * 2**29, 1.1 * 2**29)],
)
def test_policy_says_how_many_allowances_an_error_may_be(policy, passes, fails):
    case = CASES["dense-004"]
    for times, status in ((passes, "pass"), (fails, "wrong")):
        result = judge(case, shifted(case, times), POLICIES[policy])
        assert result.status == status, times
        # The share is that of what the policy allows.
        allowed = {"strict": 1, "library": 1000, "binary32": 2**29}[policy]
        assert result.share == pytest.approx(times / allowed, rel=0.1)


def test_share_of_a_binary32_case_is_the_same_by_its_own_policy():
    case = next(c for c in CASES.values() if c.dtype == "binary32")
    for times in (0.5, 3.0):
        strict, single = (
            judge(case, shifted(case, times), POLICIES[p]) for p in ("strict", "binary32")
        )
        assert strict == single


def test_single_precision_passes_by_its_policy_and_fails_the_strict_one():
    def single(x, logits, means, chol):
        arrays = (np.float32(a) for a in (x, logits, means, chol))
        return own.reference(*arrays)

    assert set(statuses(ask(FunctionAdapter(single), VALID))) >= {"wrong"}
    report = ask(FunctionAdapter(single), VALID, policy=POLICIES["binary32"])
    assert set(statuses(report)) == {"pass"}, str(report)
    assert "by the policy binary32" in str(report)
    assert report.as_json()["policy"] == "binary32"
    # The digits that are left are those of single precision.
    assert max(family.admits for family in report.families) < 8


def test_binary32_asks_for_nothing_that_binary32_cannot_hold():
    tiny, small = CASES["extreme_scales-001"], CASES["dense-001"]
    result = judge(tiny, exact(tiny), POLICIES["binary32"])
    assert (result.status, "beyond the range of binary32" in result.message) == (
        "unsupported",
        True,
    )
    assert judge(small, exact(small), POLICIES["binary32"]).status == "pass"


def nan_out(case):
    return Answered(tuple(np.full(shape, math.nan) for shape in case.shapes))


@pytest.mark.parametrize(
    ("policy", "status", "kind"),
    [("strict", "wrong", "nan"), ("library", "pass", ""), ("binary32", "pass", "")],
)
def test_nan_for_invalid_inputs_is_no_answer(policy, status, kind):
    for case in CASES.values():
        if case.result == "invalid":
            result = judge(case, nan_out(case), POLICIES[policy])
            assert (result.status, result.kind, result.answered) == (status, kind, False), case.id
            zeros = Answered(tuple(np.zeros(shape) for shape in case.shapes))
            assert judge(case, zeros, POLICIES[policy]).kind == "answered"


def test_nan_for_what_may_be_refused_is_a_refusal_where_nan_is_one():
    case = next(case for case in CASES.values() if case.result == "either")
    statuses = [judge(case, nan_out(case), policy).status for policy in POLICIES.values()]
    assert dict(zip(POLICIES, statuses, strict=True)) == {
        "strict": "wrong",
        "library": "pass",
        "binary32": "pass",
    }


def test_nan_for_valid_inputs_is_wrong_by_every_policy():
    for policy in POLICIES.values():
        assert judge(VALID[0], nan_out(VALID[0]), policy).kind == "nan"


def test_what_refuses_everything_has_no_right_answer():
    cases = [c for c in CASES.values() if c.n_samples <= 100 and c.n_features <= 8]
    report = ask(FunctionAdapter(raising(ValueError("no"))), cases)
    assert report.counts["pass"] >= 40  # what is invalid is rightly refused
    assert report.right_answers == report.as_json()["right_answers"] == 0
    assert f"0 by an answer and {report.counts['pass']} by refusing" in str(report)
    assert ask(FunctionAdapter(own.reference)).right_answers == 3


def test_unknown_policy_is_named():
    with pytest.raises(ValueError, match='policy must be one of "strict", "library", "binary32"'):
        run(own.reference, policy="lenient")


# --- cases that are chosen, and files ----------------------------------------------------------


def chosen_ids(**choice):
    return {case.id for family in chosen(**choice) for case in family.cases}


def test_families_and_cases_are_chosen_by_name_and_pattern():
    dense = {case.id for case in CASES.values() if case.family == "dense"}
    assert chosen_ids(names=["dense"]) == dense
    assert chosen_ids(names=["dense-003", "ties-001"]) == {"dense-003", "ties-001"}
    products = {case.id for case in CASES.values() if case.family.startswith("hvp_")}
    assert chosen_ids(names=["hvp_*"]) == products
    assert chosen_ids(exclude=["hvp_*", "dense"]) == set(CASES) - products - dense
    assert chosen_ids(names=["dense"], exclude=["dense-00[1-7]"]) == {"dense-008"}
    assert chosen_ids(names=["shifted_logits"], levels=["lower"]) < chosen_ids(names=["shifted_*"])
    for choice in ({"names": ["dens"]}, {"exclude": ["dens"]}):
        with pytest.raises(ValueError, match="no family or case is called dens; there are"):
            chosen_ids(**choice)
    with pytest.raises(ValueError, match="no case is of all that is asked for"):
        chosen_ids(names=["dense"], exclude=["dense"])


def answer_files(cases, answers, mode):
    """Answer each file of a directory by the plain tool, as a batch job might."""
    for path in sorted(cases.glob("*.json")):
        process = subprocess.run(
            [sys.executable, TOOL, mode],
            input=path.read_text(encoding="utf-8"),
            capture_output=True,
            text=True,
            check=True,
        )
        (answers / path.name).write_text(process.stdout, encoding="utf-8")


def test_cases_are_written_to_files_and_answers_read_from_files(tmp_path, capsys):
    cases, answers = tmp_path / "cases", tmp_path / "answers"
    answers.mkdir()
    choice = ["--family", "one_dimension", "--family", "component_off", "--case", "bad_shapes-001"]
    assert main(["conformance", "--write-cases", str(cases), *choice]) == 0
    printed = capsys.readouterr().out
    off = [case for case in CASES.values() if case.family == "component_off"]
    assert f"8 cases written to {cases}\n{len(off)} with NaN or infinities left out" in printed
    message = json.loads((cases / "one_dimension-002.json").read_text(encoding="utf-8"))
    assert message["input"]["means"] == CASES["one_dimension-002"].inputs["means"]
    answer_files(cases, answers, "right")
    (answers / "one_dimension-003.json").unlink()
    assert main(["conformance", "--answers", str(answers), *choice]) == 0
    printed = capsys.readouterr().out
    assert "7 of 7 supported cases pass, 6 by an answer and 1 by refusing" in printed
    assert f"{len(off) + 1} not supported" in printed
    for number in range(1, 6):  # damaged files are garbage, and the others are judged
        (answers / f"one_dimension-00{number}.json").write_text("no JSON", encoding="utf-8")
    assert main(["conformance", "--answers", str(answers), *choice]) == 3
    printed = capsys.readouterr().out
    assert "5 GARBAGE" in printed
    assert "NOT RUN" not in printed


def test_files_hold_no_answers_and_nothing_that_is_expected(tmp_path):
    written, left_out = write_cases(tmp_path, one_family([*PLAIN, *SECOND[:3]]), specials=True)
    assert (written, left_out) == (len(PLAIN) + 3, 0)
    for path in tmp_path.iterdir():
        message = json.loads(path.read_text(encoding="utf-8"))
        assert set(message) == {"id", "kind", "module", "function", "input", "description"}
        assert message["description"] == path.stem


def test_program_is_sent_strings_among_numbers_only_where_asked_for(tmp_path):
    log = tmp_path / "messages"
    special = [CASES["component_off-001"], CASES["not_finite-001"]]
    adapter = ProcessAdapter([sys.executable, TOOL, "record", str(log)], specials=False)
    report = ask(adapter, [*special, VALID[0]])
    assert statuses(report) == ["unsupported", "unsupported", "pass"]
    assert "as a string among numbers" in next(report.cases).message
    assert "Infinity" not in log.read_text(encoding="utf-8")
    assert set(statuses(ask(tool("right"), special))) == {"pass"}


@pytest.mark.parametrize("option", [[], ["--specials"]])
def test_option_asks_for_strings_among_numbers(option, tmp_path):
    log = tmp_path / "messages"
    command = ["--command", f"'{sys.executable}' '{TOOL}' record '{log}'"]
    main(["conformance", *command, "--family", "component_off", *option])
    evaluated = log.read_text(encoding="utf-8").count('"kind": "evaluate"')
    assert evaluated == (len(option) and 7)


def test_objective_travels_under_the_names_of_gradbench():
    case = next(c for c in CASES.values() if c.parametrization == "precision" and c.n_features > 2)
    sent = json.loads(message_of(case, 0))
    d, k, icf = case.n_features, case.n_components, np.array(case.inputs["icf"])
    fields = {"d", "k", "n", "x", "m", "gamma", "alpha", "mu", "q", "l"}
    assert set(sent["input"]) == fields | {"reduction", "dtype"}
    assert (sent["input"]["d"], sent["input"]["k"], sent["input"]["n"]) == (d, k, case.n_samples)
    np.testing.assert_array_equal(sent["input"]["q"], icf[:, :d])
    np.testing.assert_array_equal(sent["input"]["l"], icf[:, d:])
    np.testing.assert_array_equal(sent["input"]["mu"], case.inputs["means"])
    outcome = FunctionAdapter(own.precision).evaluate(case)
    reply = json.loads(json.dumps(reply_of(outcome, "precision", VALUE, d)))
    assert set(reply["output"]) == {"objective", "alpha", "mu", "q", "l"}
    assert np.shape(reply["output"]["l"]) == (k, d * (d - 1) // 2)
    assert judge(case, outcome_of(reply, case)).status == "pass"
    del reply["output"]["l"]
    assert judge(case, outcome_of(reply, case)).missing == ("icf",)


@pytest.mark.parametrize("d", [1, 3])
def test_objective_is_judged_through_a_process(d):
    cases = [c for c in CASES.values() if c.parametrization == "precision" and c.n_features == d]
    adapter = ProcessAdapter(python_command("gmm_np.conformance.adapters.gmm_np:precision"))
    assert set(statuses(ask(adapter, cases))) == {"pass"}


# --- second derivatives -------------------------------------------------------------------------

OPTIONAL = [case for case in CASES.values() if case.optional]
SECOND = [case for case in OPTIONAL if case.function != VALUE]
FEW_SECOND = [case for case in SECOND if case.level == "lower"][::5]
FEW_FAMILIES = [case for case in OPTIONAL if case.function == VALUE and case.level == "lower"][::3]


def only_first(x, logits, means, chol, *, sample_weight=None, reduction="mean"):
    return own.reference(x, logits, means, chol, sample_weight=sample_weight, reduction=reduction)


def test_adapter_that_offers_no_second_derivatives_is_not_judged_on_them():
    # Its report has no trace of these cases, whatever they ask for.
    both = [*one_family(VALID[:3]), Family("optional", "", {}, tuple(OPTIONAL))]
    alone, beside = (
        run_cases(FunctionAdapter(only_first), families).as_json()
        for families in (one_family(VALID[:3]), both)
    )
    assert alone == beside
    report = ask(tool("right"), [*FEW_SECOND, *FEW_FAMILIES])
    assert (statuses(report), report.exit_code) == ([], 6)
    assert "No case asks for anything that the adapter offers" in str(report)


@pytest.mark.parametrize("name", ["reference", "auto"])
def test_what_an_attribute_offers_is_judged(name):
    function = getattr(own, name)
    report = ask(FunctionAdapter(function), OPTIONAL)
    assert {c.id for c in report.cases} == {
        c.id for c in OPTIONAL if c.function in offered(function, c.parametrization)
    }
    assert set(statuses(report)) == {"pass"}
    # The engine adds up products of blocks, in an order that is the BLAS's own: of a thousand rows
    # 0.29 of the allowance was seen with OpenBLAS 0.3.31, 0.39 with that of NumPy 1.24.
    assert max(case.share for case in report.cases) <= {"reference": 0.25, "auto": 0.5}[name]


def test_wrong_entry_of_a_product_and_of_a_score_is_found():
    for case in FEW_SECOND:
        assert judge(case, exact(case)).status == "pass"
        for index, (name, shape) in enumerate(zip(case.blocks, case.shapes, strict=True)):
            blocks = [block.copy() for block in exact(case).blocks]
            place = (*(n - 1 for n in shape[:-1]), 0)  # on or below the diagonal
            blocks[index][place] += 1e-6 * max(map(float, case.outputs[name]["scale"]))
            result = judge(case, Answered(tuple(blocks)))
            assert (result.status, result.kind) == ("wrong", "inexact")
            assert f"{name}: 1 of {len(case.outputs[name]['scale'])} wrong" in result.message
            assert str(list(place)) in result.message
            assert (result.digits[0] is None) is (case.columns[0] is None)


def test_products_are_answered_by_a_process_that_says_so():
    adapter = ProcessAdapter(python_command("gmm_np.conformance.adapters.gmm_np:auto"))
    cases = [*FEW_SECOND, *FEW_FAMILIES]
    assert {case.parametrization for case in cases} == set(OUTPUTS) - {"precision"}
    report = ask(adapter, cases)
    assert statuses(report) == ["pass"] * len(cases)
    adapter = ProcessAdapter(python_command(f"{__name__}:only_first"))
    os.environ["PYTHONPATH"], before = str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] += os.pathsep + before
    try:
        assert statuses(ask(adapter, [*FEW_SECOND, *FEW_FAMILIES, VALID[0]])) == ["pass"]
    finally:
        os.environ["PYTHONPATH"] = before


def test_gradient_of_a_tied_factor_has_to_be_triangular():
    case = CASES["family_tied-003"]
    for name, entry, kind in (("exact", 0.0, ""), ("above", 1e-300, "shape")):
        blocks = [block.copy() for block in exact(case).blocks]
        blocks[3][0, 1] = entry
        assert judge(case, Answered(tuple(blocks))).kind == kind, name
    blocks[3][0, 1] = 0.0
    blocks[3][1, 0] += 1.0
    assert "scale: 1 of 3 wrong" in judge(case, Answered(tuple(blocks))).message
    assert "at [1, 0] for" in judge(case, Answered(tuple(blocks))).message


@pytest.mark.parametrize("functions", ["hvp", [1], {"hvp": True}])
def test_functions_that_are_no_list_of_names_are_garbage(functions):
    program = (
        "import sys, json\n"
        "for line in sys.stdin:\n"
        "    i = json.loads(line)['id']\n"
        f"    reply = {{'id': i, 'success': True, 'functions': {functions!r}}}\n"
        "    print(json.dumps(reply), flush=True)"
    )
    report = ask(ProcessAdapter([sys.executable, "-c", program]), VALID[:1])
    assert statuses(report) == ["garbage"]
    assert '"functions" must be a list of names' in next(report.cases).message


@pytest.mark.parametrize("answer", [(1.0, 2.0), np.zeros(3), "three"])
def test_product_that_is_no_tuple_of_three_is_garbage(answer):
    def value(x, logits, means, chol):
        return own.reference(x, logits, means, chol)

    value.hvp = lambda x, logits, means, chol, v_logits, v_means, v_chol: answer
    assert statuses(ask(FunctionAdapter(value), [CASES["hvp_dense-001"]])) == ["garbage"]


def test_file_of_a_later_format_is_refused(tmp_path):
    with pytest.raises(VectorError, match="format_version 4, where 1, 2, 3 are read"):
        read_family(damage(tmp_path, lambda file: file.update(format_version=4)))


# --- adapters that are processes ----------------------------------------------------------------


def test_tool_that_imports_nothing_of_the_project_passes():
    report = ask(tool("right"), PLAIN)
    assert set(statuses(report)) == {"pass"}, str(report)
    assert report.adapter == "plain Python"


def test_tool_is_sent_neither_answers_nor_what_is_expected(tmp_path):
    log = tmp_path / "messages"
    ask(tool("record", log), PLAIN)
    messages = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [m["id"] for m in messages] == list(range(len(messages)))
    assert [m["kind"] for m in messages] == ["start", "define", *["evaluate"] * len(PLAIN)]
    names = set()
    for message in messages[2:]:
        assert set(message) == {"id", "kind", "module", "function", "input", "description"}
        names |= set(message["input"])
    assert names == {"x", "logits", "means", "chol", "reduction", "dtype"}
    for case, message in zip(PLAIN, messages[2:], strict=True):
        assert message["description"] == case.id
        assert message["input"]["chol"] == case.inputs["chol"]
        assert len(message["input"]["x"]) == case.n_samples or case.result == "invalid"


def test_rows_of_x_are_repeated_for_the_tool():
    case = next(c for c in CASES.values() if "count" in c.inputs and c.n_samples < 20_000)
    sent = json.loads(message_of(case, 0))["input"]
    counts = case.inputs["count"]
    assert sum(counts) == case.n_samples == len(sent["x"])
    np.testing.assert_array_equal(sent["x"], case.arrays["x"])
    np.testing.assert_array_equal(sent["x"][: counts[0] + 1][-1], case.inputs["x"][1])


def test_hanging_tool_is_ended_with_its_children(tmp_path):
    pids = tmp_path / "pids"
    started = time.monotonic()
    report = ask(tool("hang", pids, timeout=3.0), PLAIN[:1])
    assert (statuses(report), report.exit_code) == (["timeout"], 5)
    assert time.monotonic() - started < 30
    children = pids.read_text(encoding="utf-8").split()
    assert len(children) == 1
    assert not _runs(int(children[0]))


def _runs(pid):
    """Whether a process runs; one that has ended may wait for its parent's notice for a moment."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        if stat.exists() and stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
            return False
        time.sleep(0.1)
    return True


def hang(x, logits, means, chol):
    while True:
        pass


def test_hanging_python_function_is_ended():
    adapter = ProcessAdapter(python_command(f"{__name__}:hang"), timeout=2.0)
    os.environ["PYTHONPATH"], before = str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] += os.pathsep + before
    try:
        report = ask(adapter, PLAIN[:1])
    finally:
        os.environ["PYTHONPATH"] = before
    assert (statuses(report), report.exit_code) == (["timeout"], 5)


def test_tool_that_crashes_is_started_again():
    report = ask(tool("crash"), PLAIN[:4])
    assert statuses(report) == ["crash"] * MOST_BREAKDOWNS + ["not_run"]
    assert report.exit_code == 3
    assert "the sky has fallen" in next(report.cases).message


@pytest.mark.parametrize(
    ("mode", "status", "exit_code", "message"),
    [
        ("garbage", "garbage", 3, "not a line of JSON: 'no JSON'"),
        ("list", "garbage", 3, "a reply must be an object"),
        ("other id", "garbage", 3, "an object with the id"),
        ("bare NaN", "garbage", 3, "write it as a string"),
        ("text", "garbage", 3, "'one' is no number"),
        ("unknown output", "garbage", 3, '"output" must be an object'),
        ("no output", "garbage", 3, '"output" must be an object'),
        ("unsupported", "unsupported", 6, "not supported"),
        ("fails", "wrong", 4, "valid inputs rejected"),
        ("value alone", "pass", 0, ""),
    ],
)
def test_what_a_tool_answers_is_told_apart(mode, status, exit_code, message):
    report = ask(tool(mode))
    assert (statuses(report), report.exit_code) == ([status] * 3, exit_code)
    first = next(report.cases)
    assert message in first.message
    if mode == "value alone":
        assert first.missing == ("logits", "means", "chol")


def test_tool_is_started_without_a_shell(tmp_path):
    canary = tmp_path / "canary"
    words = split_command(f"'{sys.executable}' '{TOOL}' right ; touch '{canary}' $HOME *")
    assert words[2:] == ["right", ";", "touch", str(canary), "$HOME", "*"]
    assert statuses(ask(ProcessAdapter(words), VALID[:1])) == ["pass"]
    assert not canary.exists()


# --- the run as a whole -------------------------------------------------------------------------


def test_levels_and_flags_select_exactly():
    lower = {case.id for family in read_vectors(levels=["lower"]) for case in family.cases}
    assert lower == {case.id for case in CASES.values() if case.level == "lower"}
    two = {c.id for f in read_vectors(levels=["lower", "higher"]) for c in f.cases}
    assert two == {case.id for case in CASES.values() if case.level != "average"}
    flag = next(iter(VALID[0].flags))
    flagged = {case.id for family in read_vectors(flags=[flag]) for case in family.cases}
    assert flagged == {case.id for case in CASES.values() if flag in case.flags}
    with pytest.raises(ValueError, match="no flag is called Nonsense; there are "):
        read_vectors(flags=["Nonsense"])
    with pytest.raises(ValueError, match="no level is called low; there are "):
        read_vectors(levels=["low"])


def test_expected_failures():
    def off(x, logits, means, chol):
        value, *gradients = own.reference(x, logits, means, chol)
        return value + (1.0 if len(x) == wrong.n_samples else 0.0), *gradients

    wrong = VALID[0]
    right = next(case for case in VALID if case.n_samples != wrong.n_samples)
    cases = [wrong, right]
    assert statuses(ask(FunctionAdapter(off), cases)) == ["wrong", "pass"]
    report = ask(FunctionAdapter(off), cases, expected_failures=[wrong.id])
    assert (statuses(report), report.exit_code) == (["xfail", "pass"], 0)
    report = ask(FunctionAdapter(off), cases, expected_failures=[wrong.id, right.id])
    assert (statuses(report), report.exit_code) == (["xfail", "xpass"], 4)
    assert "UNEXPECTED PASS" in str(report)
    with pytest.raises(ValueError, match="no case is called nonsense"):
        run(off, expected_failures=["nonsense"])


class Scripted:
    """An adapter that gives outcomes in their order; None is what is right, a text breaks down."""

    name = "scripted"

    def __init__(self, outcomes):
        self.outcomes = iter(outcomes)

    def evaluate(self, case):
        outcome = next(self.outcomes)
        if isinstance(outcome, str):
            raise ToolError(outcome, "as the script says")
        return exact(case) if outcome is None else outcome

    def close(self):
        pass


@pytest.mark.parametrize(
    ("outcomes", "exit_code"),
    [
        ([None], 0),
        ([None, Unsupported("no")], 0),
        ([Unsupported("no")], 6),
        ([None, Rejected("no")], 4),
        ([None, Rejected("no"), "crash"], 3),
        ([None, Rejected("no"), "garbage"], 3),
        (["garbage", Rejected("no"), "timeout"], 5),
    ],
)
def test_exit_codes_by_their_order_of_weight(outcomes, exit_code):
    assert ask(Scripted(outcomes), VALID[: len(outcomes)]).exit_code == exit_code


def test_time_outs_of_many_samples_leave_the_rest_to_run():
    # They say that a program is slow, and others that it hangs.
    many = [c for c in CASES.values() if c.n_samples >= 10_000 and c.function == VALUE][:4]
    cases = [*many, *VALID[:2]]
    report = ask(Scripted([*["timeout"] * len(many), None, None]), cases)
    assert statuses(report) == ["timeout"] * len(many) + ["pass"] * 2
    report = ask(Scripted([*["timeout"] * 3, None]), VALID[:4])
    assert statuses(report) == ["timeout"] * 3 + ["not_run"]


def test_adapter_that_cannot_be_started_ends_the_run():
    with pytest.raises(ToolError):
        ask(Scripted(["usage"]), VALID[:1])


def test_report_as_json_is_strict_and_says_what_the_table_says(tmp_path, capsys):
    known, out = tmp_path / "known", tmp_path / "report.json"
    known.write_text("# nothing yet\n", encoding="utf-8")
    command = ["conformance", "--command", f"{sys.executable} {TOOL} right", "--level", "lower"]
    code = main([*command, "--xfail", str(known), "--json", str(out)])
    printed = capsys.readouterr().out

    def refuse(constant):
        raise AssertionError(constant)

    report = json.loads(out.read_text(encoding="utf-8"), parse_constant=refuse)
    assert report["exit_code"] == code
    assert sum(report["counts"].values()) == sum(len(f["cases"]) for f in report["families"])
    for family in report["families"]:
        assert {case["level"] for case in family["cases"]} == {"lower"}
        assert family["verdict"] in printed


def test_wrong_usage_has_exit_code_2(tmp_path, capsys):
    known = tmp_path / "known"
    known.write_text("two words\n", encoding="utf-8")
    reference = ["conformance", "--python", REFERENCE]
    for command, message in (
        (["conformance", "--python", "nothing.here:f"], "No module named 'nothing'"),
        (["conformance", "--python", "math:nothing"], "no attribute 'nothing'"),
        (["conformance", "--python", "math"], "package.module:function"),
        (["conformance", "--command", "/nothing/here"], "cannot start /nothing/here"),
        (["conformance", "--command", ""], "--command is empty"),
        ([*reference, "--flag", "Nonsense"], "no flag is called Nonsense"),
        ([*reference, "--family", "nonsense"], "no family or case is called nonsense"),
        ([*reference, "--exclude", "nonsense"], "no family or case is called nonsense"),
        (["conformance", "--answers", str(tmp_path / "none")], "--answers: no directory"),
        ([*reference, "--xfail", str(known)], "line 1: one id a line"),
        ([*reference, "--xfail", str(tmp_path / "none")], "none"),
        ([*reference, "--json", str(tmp_path / "none" / "out")], "no directory"),
    ):
        assert main(command) == 2, command
        assert message in capsys.readouterr().err
    for wrong in (["--level", "low"], ["--timeout", "-1"], ["--policy", "lenient"], []):
        with pytest.raises(SystemExit, match="2"):
            main(["conformance", "--python", REFERENCE, *wrong] if wrong else ["conformance"])


def test_runner_that_fails_has_exit_code_1(monkeypatch, capsys):
    def damaged(*_, **__):
        raise VectorError("the disk is on fire")

    monkeypatch.setattr("gmm_np.conformance.runner.read_vectors", damaged)
    assert main(["conformance", "--python", REFERENCE]) == 1
    assert "the runner failed: the disk is on fire" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr("gmm_np.conformance.runner.judge", lambda *_: 1 / 0)
    with pytest.raises(RunnerError, match="ZeroDivisionError"):
        run(own.reference, levels=["lower"])


# --- files --------------------------------------------------------------------------------------


def damage(tmp_path, change):
    """Copy a family's file, changed."""
    source = DIRECTORY / f"{VALID[0].family}.json"
    file = json.loads(source.read_text(encoding="utf-8"))
    change(file)
    copy = tmp_path / source.name
    copy.write_text(json.dumps(file), encoding="utf-8")
    return copy


def test_input_that_is_not_the_digests_is_found(tmp_path):
    def change(file):
        inputs = file["groups"][0]["tests"][0]["inputs"]
        inputs["logits"][0] = math.nextafter(float(inputs["logits"][0]), 2.0)

    case = read_family(damage(tmp_path, change)).cases[0]
    with pytest.raises(VectorError, match="not those of the digest"):
        run_cases(FunctionAdapter(own.reference), one_family([case]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.update(number_of_tests=1), "tests and outputs, and holds"),
        (lambda file: file.update(number_of_outputs=1), "tests and outputs, and holds"),
        (lambda file: file.clear(), "not a file of vectors"),
    ],
)
def test_file_that_has_lost_something_is_found(tmp_path, change, message):
    path = damage(tmp_path, change)
    with pytest.raises(VectorError, match=f"^{path.name}: .*{message}"):
        read_family(path)
    with pytest.raises(VectorError, match="holds no vectors"):
        read_vectors(tmp_path / "none")


def test_every_digest_is_that_of_the_inputs():
    for case in CASES.values():
        if case.n_samples <= 20_000:
            case.__dict__.pop("arrays", None)
            assert case.arrays


# --- this library, and adapters in other languages ----------------------------------------------


@pytest.mark.parametrize(
    "name",  # the reference is judged by the tests of the vectors, too
    [
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("reference", "direct")),
        "auto",
        "precision",
    ],
)
def test_this_library_passes_every_case_of_its_parametrization(name):
    report = run(getattr(own, name))
    assert report, str(report)
    parametrization = "precision" if name == "precision" else "cholesky"
    passed = {case.id for case in report.cases if case.status == "pass"}
    function = getattr(own, name)
    assert passed == {
        c.id
        for c in CASES.values()
        if (c.parametrization == parametrization or c.optional)
        and c.function in offered(function, c.parametrization)
    }
    if name == "reference":  # far from the allowance
        assert max(case.share for case in report.cases) <= 0.25


def compiled(tmp_path):
    program = tmp_path / "mixture"
    source = ADAPTERS / "mixture.c"
    subprocess.run(["cc", "-O2", "-std=c99", "-o", program, source, "-lm"], check=True)
    return [str(program)]


# Neither is needed by the package: what is not there has no adapter to test. The tool in plain
# Python above goes through the same protocol everywhere.
LANGUAGES = {
    "cc": compiled,
    "node": lambda _: ["node", str(ADAPTERS / "mixture.js")],
}


@pytest.mark.parametrize("language", [name for name in LANGUAGES if shutil.which(name)])
def test_adapter_in_another_language_passes(language, tmp_path):
    adapter = ProcessAdapter(LANGUAGES[language](tmp_path))
    cases = [
        case
        for case in CASES.values()
        if case.level != "higher" and case.parametrization == "cholesky" and case.n_samples < 20_000
    ]
    report = ask(adapter, cases)
    assert set(statuses(report)) == {"pass"}, str(report)


def test_docs_show_an_exchange_that_happens():
    page = Path(__file__).parents[2].joinpath("docs", "conformance.md").read_text(encoding="utf-8")
    exchange = page.partition("<!-- exchange: begin -->")[2].partition("<!-- exchange: end -->")[0]
    sent = [json.loads(line[2:]) for line in exchange.splitlines() if line.startswith("> ")]
    answered = [json.loads(line[2:]) for line in exchange.splitlines() if line.startswith("< ")]
    assert [message["kind"] for message in sent] == ["start", "define", "evaluate"]
    case = CASES[sent[2]["description"]]
    assert sent[2] == json.loads(message_of(case, 2))
    text = "".join(f"{json.dumps(message)}\n" for message in sent)
    process = subprocess.run(
        [sys.executable, TOOL, "right"], input=text, capture_output=True, text=True, check=True
    )
    replies = [json.loads(line) for line in process.stdout.splitlines()]
    assert replies[:2] == answered[:2]
    for reply in (replies[2], answered[2]):  # they may differ in the last digit
        assert reply["success"] is True
        outcome = Answered(tuple(reply["output"][name] for name in case.blocks))
        assert judge(case, outcome).status == "pass"


def load_report_script():
    path = Path(__file__).parents[2] / "scripts" / "conformance_report.py"
    spec = importlib.util.spec_from_file_location("conformance_report", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["conformance_report"] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def test_table_of_peers_has_empty_cells_for_what_is_not_offered():
    script = load_report_script()
    cases = [VALID[0], CASES["hvp_dense-001"]]
    families = [Family(c.family, "", {}, (c,)) for c in cases]
    results = {}
    for function in (own.reference, only_first):
        row = {"tool": "", "looks_like": [], "families": {}}
        for family in run_cases(FunctionAdapter(function), families).as_json()["families"]:
            row["families"][family["family"]] = {
                "admits": family["digits_admitted"],
                "cases": {case["id"]: case for case in family["cases"]},
            }
        results[function.__name__] = row
    lines = script.tables(results).splitlines()
    rows = {line.split("|")[1].strip(): line.split("|")[3:5] for line in lines[2:4]}
    assert rows[VALID[0].family][1].strip()
    assert [cell.strip() == "" for cell in rows["hvp_dense"]] == [False, True]


def test_table_of_peers_says_what_the_runner_found(monkeypatch, tmp_path):
    script = load_report_script()
    answers = {"right": own.reference, "no gradients": nothing_but_nan}

    def fake_run(command, **_):
        name = command[command.index("--python") + 1].rpartition(".")[2]
        report = ask(FunctionAdapter(answers[name], f"{name} (version 1)"))
        Path(command[command.index("--json") + 1]).write_text(json.dumps(report.as_json()))

    monkeypatch.setattr(script.subprocess, "run", fake_run)
    results = {
        name: script.run(script.Peer(name, (name,)), tmp_path, timeout=1.0) for name in answers
    }
    first, _, second = script.tables(results).partition("\n\n")
    row = [cell.strip() for cell in first.splitlines()[2].strip("|").split("|")]
    assert (row[0], row[3]) == ("some", "**3/3 wrong**")
    assert 13 <= float(row[2]) <= MOST_DIGITS
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in second.splitlines()[2:4]]
    assert rows[0][:4] == ["right", "version 1", "3", "3"]
    assert rows[1][:4] == ["no gradients", "version 1", "3", "0"]
    assert rows[1][4:9] == ["", "", "3", "", ""]  # by kind: they are NaN

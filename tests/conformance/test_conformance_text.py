"""Cases and answers as lines of words: what is said, what cannot be said, and what is no answer."""

import sys
from pathlib import Path

import numpy as np
import pytest

from gmm_np.cli import main
from gmm_np.conformance import read_vectors, run, write_cases
from gmm_np.conformance.cases import VALUE
from gmm_np.conformance.compare import Answered, NotOffered, Rejected, Unsupported, judge
from gmm_np.conformance.process_adapter import TextAdapter
from gmm_np.conformance.text import line_of, outcome_of_line, unsayable
from gmm_np.conformance.wire import GarbageError

FAMILIES = read_vectors()
CASES = {case.id: case for family in FAMILIES for case in family.cases}
# A program in plain Python that has the certified answer to one case, and rejects the others.
PROGRAM = """\
import sys
for line in sys.stdin:
    words = line.split()
    print(words[0], "ok " + sys.argv[2] if words[0] == sys.argv[1] else "rejected by design")
    sys.stdout.flush()
"""


def certified(case):
    return [repr(v) for name in case.blocks for v in case.certified(name).ravel().tolist()]


def test_line_has_the_inputs_of_the_case_to_the_last_digit():
    case = CASES["weights-001"]
    words = line_of(case).split()
    n, k, d = case.n_samples, case.n_components, case.n_features
    assert words[:6] == [case.id, case.reduction, "1", *map(str, (n, k, d))]
    numbers = np.array(words[6:], dtype=float)
    names = ("x", "logits", "means", "chol", "weights")
    expected = np.concatenate([case.arrays[name].ravel() for name in names])
    assert np.array_equal(numbers, expected)


def test_line_has_what_is_not_finite_as_other_languages_read_it():
    words = {word for case in CASES.values() if unsayable(case) is None for word in words_of(case)}
    assert {w for w in words if w.strip("-").isalpha()} == {"NaN", "Inf", "-Inf"}


def words_of(case):
    return line_of(case).split()[6:] if case.n_samples < 1000 else ()


def test_what_has_no_line_is_not_offered_or_not_supported():
    for case in CASES.values():
        outcome = unsayable(case)
        if case.optional:
            assert isinstance(outcome, NotOffered), case.id
        elif case.parametrization == "precision" or case.family == "bad_shapes":
            assert isinstance(outcome, Unsupported), case.id
        elif case.family != "bad_weights":  # some have too many
            assert outcome is None, case.id


def test_certified_numbers_pass_and_the_last_gradients_may_be_left_out():
    case = CASES["dense-001"]
    numbers = certified(case)
    whole = outcome_of_line(f"{case.id} ok {' '.join(numbers)}", case)
    assert judge(case, whole).status == "pass"
    value = outcome_of_line(f"{case.id} ok {numbers[0]}", case)
    result = judge(case, value)
    assert (result.status, result.missing) == ("pass", ("logits", "means", "chol"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("rejected the sky is low", Rejected("the sky is low")),
        ("rejected", Rejected("")),
        ("unsupported", Unsupported("not supported")),
        ("unsupported weights", Unsupported("weights")),
    ],
)
def test_refusals_have_their_reason(answer, expected):
    case = CASES["dense-001"]
    assert outcome_of_line(f"{case.id} {answer}", case) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "must begin with dense-001"),
        ("dense-002 ok 1", "must begin with dense-001"),
        ("dense-001", "followed by ok"),
        ("dense-001 fine 1", "got 'fine'"),
        ("dense-001 ok 1 2", "2 numbers, for 1, 4, 10 or 22"),
        ("dense-001 ok", "0 numbers"),
        ("dense-001 ok one", "could not convert"),
    ],
)
def test_what_is_no_answer_is_garbage(line, message):
    with pytest.raises(GarbageError, match=message):
        outcome_of_line(line, CASES["dense-001"])


def test_special_numbers_of_other_languages_are_read():
    case = CASES["one_sample-001"]
    count = len(certified(case))
    for word, number in (("nan", np.nan), ("NaN", np.nan), ("Inf", np.inf), ("-inf", -np.inf)):
        outcome = outcome_of_line(f"{case.id} ok {' '.join([word] * count)}", case)
        assert isinstance(outcome, Answered)
        np.testing.assert_array_equal(outcome.blocks[2], np.full_like(outcome.blocks[2], number))


def test_program_is_asked_by_lines_of_words():
    case = CASES["dense-001"]
    command = [sys.executable, "-c", PROGRAM, case.id, " ".join(certified(case))]
    report = run(command, text=True, names=["dense-00[12]", "hvp_dense", "wishart_objective-001"])
    statuses = {found.id: found.status for found in report.cases}
    assert statuses == {
        "dense-001": "pass",
        "dense-002": "wrong",
        "wishart_objective-001": "unsupported",
    }
    assert "by design" in next(c.message for c in report.cases if c.id == "dense-002")


def test_program_that_answers_another_case_is_garbage():
    adapter = TextAdapter([sys.executable, "-c", "input(); print('dense-009 ok 1')"])
    with pytest.raises(Exception, match="must begin with dense-001") as caught:
        adapter.evaluate(CASES["dense-001"])
    assert caught.value.kind == "garbage"
    adapter.close()


def test_cases_and_answers_in_words_stand_in_files(tmp_path):
    families = read_vectors(names=["dense", "bad_shapes-001", "all_off-001"])
    assert write_cases(tmp_path, families, text=True) == (9, 1)  # no shapes that do not fit
    for family in families:
        for case in family.cases:
            path = tmp_path / f"{case.id}.txt"
            if path.exists():
                assert path.read_text(encoding="utf-8") == f"{line_of(case)}\n"
    answered = CASES["dense-001"]
    (tmp_path / "dense-001.txt").write_text(f"dense-001 ok {' '.join(certified(answered))}\n")
    for path in tmp_path.glob("dense-00[2-8].txt"):
        path.unlink()
    report = run(tmp_path, text=True, names=["dense"])
    assert [case.status for case in report.cases] == ["pass", *["unsupported"] * 7]
    assert all(case.function == VALUE for case in CASES.values() if unsayable(case) is None)


def test_option_writes_lines_of_words_and_says_what_has_none(tmp_path, capsys):
    options = ["--write-cases", str(tmp_path), "--text", "--family", "one_sample", "--case"]
    assert main(["conformance", *options, "bad_shapes-001"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"6 cases written to {tmp_path}",
        "1 left out, which cannot be said in plain text.",
    ]
    assert (tmp_path / "one_sample-001.txt").read_text().startswith("one_sample-001 mean 0 1 1 2 ")


def test_docs_show_a_line_and_its_answer():
    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- words: begin -->")[2].partition("<!-- words: end -->")[0]
    (asked,) = (line[2:] for line in shown.splitlines() if line.startswith("> "))
    (answered,) = (line[2:] for line in shown.splitlines() if line.startswith("< "))
    case = CASES[asked.split()[0]]
    assert asked == line_of(case)
    assert judge(case, outcome_of_line(answered, case)).status == "pass"

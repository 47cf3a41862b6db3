"""The check is checked: right gradients pass, and one entry that is off by a thousandth fails."""

import math

import numpy as np
import pytest
from problems import Problem, plain_nll, random_problem

from gmm_np import BlockCheck, GradientReport, check_grad
from gmm_np.reference import nll_backward, nll_forward

MODES = pytest.mark.parametrize("entrywise", [False, True], ids=["directions", "entrywise"])
NAMES = ("x", "pi_logits", "means", "scale_tril")
TOLERANCE = 1e-7  # the default of `check_grad`
# What its docstring promises to tell apart: entries down to this share of the block's largest.
SMALLEST = 1e-6


def right_gradients(problem):
    """The reference's gradients, by name."""
    d = nll_backward(nll_forward(*problem)[1])
    return dict(zip(NAMES, (d.x, d.pi_logits, d.means, d.scale), strict=True))


def nll_at(problem, **gradients):
    """The loss, with the right gradients at this one point but for those that are given.

    A check asks for gradients once, and for the value a thousand times.
    """
    returned = list({**right_gradients(problem), **gradients}.values())
    return lambda *arguments: (plain_nll(*arguments), returned)


def only(problem, block, gradient):
    """The loss with one gradient, and none for the other arguments, which are left alone."""
    return nll_at(problem, **{**dict.fromkeys(NAMES), block: gradient})


def free_of(problem):
    return {"scale_tril": np.tri(problem.x.shape[1], dtype=bool)}


def check(function, problem, entrywise, **options):
    return check_grad(
        function, problem._asdict(), free=free_of(problem), entrywise=entrywise, **options
    )


def passed_blocks(report):
    return [block.name for block in report.blocks if block.passed]


# --- right gradients pass -------------------------------------------------------------------------


@MODES
def test_right_gradients_pass(entrywise):
    worst, checked = (0.0, None), 0
    for seed in range(14 if entrywise else 24):
        problem = random_problem(seed, 1 + seed % 6, 1 + seed % 4, 1 + seed % 3)
        function = nll_at(problem)
        assert function(*problem)[0] == pytest.approx(nll_forward(*problem)[0], rel=1e-13)
        if len(problem.pi_logits) == 1:  # the gradient of its logit is zero: nothing to tell
            assert not right_gradients(problem)["pi_logits"].any()
        report = check(function, problem, entrywise, seed=seed)
        assert report, f"seed {seed}\n{report}"
        assert [block.name for block in report.blocks] == list(NAMES)
        assert [block.shape for block in report.blocks] == [a.shape for a in problem]
        worst = max(worst, (report.worst.error, f"seed {seed}\n{report}"), key=lambda row: row[0])
        checked += sum(block.checked for block in report.blocks)
    assert worst[0] < TOLERANCE, worst[1]
    assert checked > 300


@MODES
def test_right_gradients_pass_far_from_one(entrywise):
    # Steps go in proportion to each entry, so that units do not count.
    for seed, scale in enumerate((1e-8, 1e-3, 1e4, 1e9)):
        x, logits, means, factors = random_problem(seed, 4, 2, 2)
        problem = Problem(scale * x, logits, scale * means, scale * factors)
        report = check(nll_at(problem), problem, entrywise)
        assert report, f"scale {scale}\n{report}"


@MODES
def test_gradient_of_exactly_zero_passes_where_the_value_is_constant(entrywise):
    def constant_in_b(a, b):
        return float(a @ a), (2 * a, np.zeros_like(b))

    assert check_grad(constant_in_b, {"a": [1.0, 2.0], "b": [3.0, -4.0]}, entrywise=entrywise)


@MODES
def test_argument_of_zeros_can_be_checked(entrywise):
    def function(a):
        return float(np.sum(np.exp(a) + a**3)), (np.exp(a) + 3 * a**2,)

    for a in (np.zeros(4), [0.0, 1.0, 0.0, -2.0]):
        assert check_grad(function, {"a": a}, entrywise=entrywise)


def test_directions_are_as_many_as_asked_for_and_entries_are_all():
    problem = random_problem(2, 3, 2, 2)
    function, calls = nll_at(problem), []
    for n_directions in (1, 7):
        calls.append(0)

        def counted(*arguments):
            calls[-1] += 1
            return function(*arguments)

        report = check(counted, problem, False, n_directions=n_directions)
        assert [block.checked for block in report.blocks] == [n_directions] * 4
        assert all(block.worst is None for block in report.blocks)
    assert calls[1] > 6 * calls[0]
    report = check(function, problem, True)
    # Of the two 2 x 2 factors, three entries each are free.
    assert [block.checked for block in report.blocks] == [6, 2, 4, 6]
    assert report.blocks[3].worst[1] >= report.blocks[3].worst[2]


# --- wrong gradients fail -------------------------------------------------------------------------


def plant(gradient, place, factor=1.001):
    gradient = gradient.copy()
    gradient[place] *= factor
    return gradient


@MODES
@pytest.mark.parametrize("block", NAMES)
def test_any_one_entry_off_by_a_thousandth_fails_and_is_named(block, entrywise):
    planted, of_all = 0, 0
    for seed, sizes in ((0, (2, 2, 2)), (1, (3, 3, 1)), (3, (1, 4, 2))):
        problem = random_problem(seed, *sizes)
        right = right_gradients(problem)[block]
        free = np.broadcast_to(free_of(problem).get(block, True), right.shape)
        large_enough = free & (np.abs(right) >= SMALLEST * np.abs(right).max())
        of_all += int(np.count_nonzero(free))
        for place in map(tuple, np.argwhere(large_enough).tolist()):
            factor = 1.001 if planted % 2 else 0.999
            function = only(problem, block, plant(right, place, factor))
            report = check(function, problem, entrywise, seed=planted)
            message = f"seed {seed}, {block}{list(place)} times {factor}\n{report}"
            assert not report, message
            assert report.worst.worst == place, message
            planted += 1
    assert planted >= 0.95 * of_all, f"only {planted} of {of_all} entries are large enough"
    assert planted >= 9


@MODES
def test_small_entry_off_by_a_thousandth_fails_beside_a_large_one(entrywise):
    # From the block's largest down to a millionth of it.
    sizes = np.array([1.0, -1e-2, 1e-4, -1e-5, 2e-6])

    def function(a, place=None):
        gradient = sizes * np.cos(a)
        return float(sizes @ np.sin(a)), (gradient if place is None else plant(gradient, place),)

    a = {"a": np.array([0.3, 0.5, -0.7, 0.9, 1.1])}
    assert check_grad(function, a, entrywise=entrywise)
    for place in range(5):
        report = check_grad(lambda a, p=place: function(a, p), a, entrywise=entrywise)
        assert not report, f"entry {place}\n{report}"
        assert report.blocks[0].worst == (place,), f"entry {place}\n{report}"


@MODES
@pytest.mark.parametrize("size", [1.0, 0.1, 0.03])
def test_small_entry_of_a_small_argument_off_by_a_thousandth_fails(size, entrywise):
    # As in random_problem(1347, 4, 3, 4), entry (2, 3, 0) of scale_tril: steps in proportion to an
    # argument of 0.03 are short, beside a value of 7 and a gradient of 0.7 elsewhere.
    def function(a, factor=1.0):
        gradient = np.array([0.7 * math.cos(a[0]), 4e-6 * math.cos(a[1] / size) * factor])
        return 7.0 + 0.7 * math.sin(a[0]) + 4e-6 * size * math.sin(a[1] / size), (gradient,)

    a = {"a": np.array([0.5, size])}
    for seed in range(5):
        assert check_grad(function, a, entrywise=entrywise, seed=seed)
        report = check_grad(lambda a: function(a, 1.001), a, entrywise=entrywise, seed=seed)
        assert not report, f"seed {seed}\n{report}"
        assert report.worst.worst == (1,), f"seed {seed}\n{report}"


def without_determinant(gradient, problem):
    """Without the term n_k / L_ii of the factor's gradient, from the log-determinant."""
    n_k = nll_forward(*problem)[1].resp.mean(axis=0)
    diagonal = np.diagonal(problem.scale_tril, axis1=1, axis2=2)
    return gradient - n_k[:, None, None] * np.eye(2) / diagonal[:, :, None]


def unnormalised(gradient, problem):
    """Without the term pi_k, from log_softmax: -n_k / N is left."""
    return gradient - np.exp(problem.pi_logits) / np.exp(problem.pi_logits).sum()


def transposed(gradient, _):
    return gradient.transpose(0, 2, 1)


MISTAKES = {
    "sign": (NAMES, lambda g, _: -g),
    "zeros": (NAMES, lambda g, _: np.zeros_like(g)),
    "sum for mean": (NAMES, lambda g, problem: len(problem.x) * g),
    "transposed": (NAMES[3:], transposed),
    # Even with its upper triangle cut off.
    "transposed, lower": (NAMES[3:], lambda g, _: np.tril(transposed(g, None))),
    "no determinant": (NAMES[3:], without_determinant),
    "no normalisation": (NAMES[1:2], unnormalised),
}


@MODES
@pytest.mark.parametrize(
    ("kind", "block"), [(kind, block) for kind in MISTAKES for block in MISTAKES[kind][0]]
)
def test_a_mistake_fails_the_gradient_that_has_it_and_no_other(kind, block, entrywise):
    problem = random_problem(3, 4, 2, 2)
    wrong = MISTAKES[kind][1](right_gradients(problem)[block], problem)
    report = check(nll_at(problem, **{block: wrong}), problem, entrywise)
    assert passed_blocks(report) == [name for name in NAMES if name != block]
    if kind == "sign":
        assert report.worst.error > 0.5


FIRST = {name: (0,) * ndim for name, ndim in zip(NAMES, (2, 1, 2, 3), strict=True)}


@pytest.mark.parametrize(
    ("block", "place", "value"),
    [
        *((block, FIRST[block], value) for block in NAMES for value in (np.nan, np.inf, -np.inf)),
        # Above the diagonal, where no entry is free.
        *(("scale_tril", (1, 0, 1), value) for value in (1e-300, np.nan)),
    ],
)
@MODES
def test_entry_that_is_not_finite_or_not_zero_where_nothing_is_free_fails(
    block, place, value, entrywise
):
    problem = random_problem(6, 2, 2, 2)
    gradient = right_gradients(problem)[block].copy()
    gradient[place] = value
    report = check(nll_at(problem, **{block: gradient}), problem, entrywise)
    assert passed_blocks(report) == [n for n in NAMES if n != block]
    assert (report.worst.name, report.worst.worst) == (block, place)
    assert report.worst.error == math.inf
    assert "WRONG" in str(report)


def test_tolerance_decides():
    problem = random_problem(8, 3, 2, 2)
    wrong = nll_at(problem, means=1.001 * right_gradients(problem)["means"])
    assert check(wrong, problem, True, tolerance=1e-2)
    report = check(wrong, problem, True, tolerance=5e-4)
    assert passed_blocks(report) == ["x", "pi_logits", "scale_tril"]
    # In a direction as for an entry, the error is that of the entries.
    assert report.worst.error == pytest.approx(1e-3 / 1.001, rel=1e-4, abs=0)
    assert report.worst.tolerance == 5e-4


# --- how the function is called -------------------------------------------------------------------


def test_function_is_called_by_position_with_float64_arrays():
    calls = []

    def function(*arguments, **keywords):
        assert not keywords
        calls.append(arguments)
        a, b = arguments
        return float(a.sum() * b), (np.full(2, b), a.sum())

    assert check_grad(function, {"a": [1, 2], "b": 3})
    for a, b in calls:
        assert (a.shape, b.shape) == ((2,), ())
        assert a.dtype == b.dtype == np.float64


@MODES
def test_scalar_argument_can_be_checked(entrywise):
    def function(a):
        return math.sin(a), (math.cos(a),)

    assert check_grad(function, {"a": 0.7}, entrywise=entrywise)
    report = check_grad(lambda a: (math.sin(a), (1.001 * math.cos(a),)), {"a": 0.7})
    assert not report
    assert report.worst.worst == ()
    assert "scalar" in str(report)


@MODES
def test_argument_whose_gradient_is_none_is_left_alone(entrywise):
    seen = set()

    def function(a, b):
        seen.add(tuple(b))
        return float(a @ b), (b.copy(), None)

    report = check_grad(function, {"a": [1.0, 2.0], "b": [3.0, 4.0]}, entrywise=entrywise)
    assert report
    assert [block.name for block in report.blocks] == ["a"]
    assert seen == {(3.0, 4.0)}


def test_gradients_beyond_the_arguments_are_left_alone():
    def function(a):
        return float(a @ a), (2 * a, "not a gradient", np.nan)

    assert check_grad(function, {"a": [1.0, 2.0]})


@MODES
def test_arguments_are_not_written_to(entrywise):
    arguments = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, -1.0])}
    for array in arguments.values():
        array.setflags(write=False)
    check_grad(lambda a, b: (float(a @ b), (b, a)), arguments, entrywise=entrywise)
    assert arguments["a"].tolist() == [1.0, 2.0]


@MODES
def test_entries_that_are_not_free_are_never_varied(entrywise):
    def function(a):
        assert a[0, 1] == 5.0
        assert a[1, 0] == 7.0
        return float(a[0, 0] * a[1, 1]), (np.array([[a[1, 1], 0.0], [0.0, a[0, 0]]]),)

    report = check_grad(
        function, {"a": [[1.0, 5.0], [7.0, 2.0]]}, free={"a": np.eye(2)}, entrywise=entrywise
    )
    assert report


def test_free_broadcasts_over_components():
    problem = random_problem(9, 2, 3, 2)
    one, each = (
        check_grad(nll_at(problem), problem._asdict(), free={"scale_tril": mask}, entrywise=True)
        for mask in (np.tri(2), np.broadcast_to(np.tri(2), (3, 2, 2)))
    )
    assert str(one) == str(each)


@MODES
def test_argument_that_is_fixed_altogether_passes_with_a_gradient_of_zero(entrywise):
    def function(a, b):
        assert b.tolist() == [1.0, 2.0]
        return float(a @ a), (2 * a, np.zeros(2))

    report = check_grad(
        function, {"a": [1.0], "b": [1.0, 2.0]}, free={"b": False}, entrywise=entrywise
    )
    assert report


def test_same_seed_gives_the_same_report_and_another_seed_other_directions():
    problem = random_problem(10, 2, 2, 2)
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first, again, other = (check(nll_at(problem), problem, False, seed=s) for s in (3, 3, 4))
    assert first == again
    assert other
    assert [b.analytic for b in other.blocks] != [b.analytic for b in first.blocks]
    # Numpy's global generator is left alone.
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


# --- restricted domains ---------------------------------------------------------------------------


def log_or_nan(a):
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.log(a - 1.0).sum()), (1 / (a - 1.0),)


def log_or_error(a):
    return math.fsum(math.log(v - 1.0) for v in a), (1 / (a - 1.0),)


@MODES
@pytest.mark.parametrize("function", [log_or_nan, log_or_error])
@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-4, 1e-6])
def test_function_near_the_edge_of_its_domain_can_be_checked(function, distance, entrywise):
    a = {"a": np.array([1.0 + distance, 2.0])}
    report = check_grad(function, a, entrywise=entrywise)
    assert report, str(report)

    def wrong(a):
        value, (gradient,) = function(a)
        return value, (gradient * np.array([1.001, 1.0]),)

    report = check_grad(wrong, a, entrywise=entrywise)
    assert report.worst.worst == (0,), str(report)


@MODES
def test_factor_whose_diagonal_is_nearly_zero_can_be_checked(entrywise):
    # `nll_forward` refuses a diagonal that is not positive; a step in proportion never gets there.
    problem = random_problem(11, 3, 1, 2)
    problem.scale_tril[0, 1, 1] = 1e-3
    gradients = list(right_gradients(problem).values())
    report = check(lambda *point: (nll_forward(*point)[0], gradients), problem, entrywise)
    assert report, str(report)


def test_other_errors_of_the_function_are_not_hidden():
    def function(a):
        if a[0] != 1.0:
            raise TypeError("a fault of the function")
        return 1.0, (np.ones(1),)

    with pytest.raises(TypeError, match="a fault of the function"):
        check_grad(function, {"a": [1.0]})


# --- what cannot be checked -----------------------------------------------------------------------


SCALAR = "must return a finite scalar at the point to check; got"
A, AB = {"a": [1.0, 2.0]}, {"a": [1.0], "b": [2.0]}


@pytest.mark.parametrize(
    ("returned", "arguments", "options", "message"),
    [
        *(
            ((value, (np.ones(2),)), A, {}, SCALAR)
            for value in (np.nan, np.inf, -np.inf, np.ones(1), np.ones(3))
        ),
        ((1.0, (np.ones(1),)), AB, {}, r"one gradient for each of \['a', 'b'\]; got 1\."),
        (
            (1.0, (np.ones((2, 1)),)),
            A,
            {},
            r"gradient of a must have the shape of a, \(2,\); got \(2, 1\)",
        ),
        ((1.0, (None,)), A, {}, "no gradient to check: all are None"),
        (
            (1.0, (np.ones(1),) * 2),
            AB,
            {"free": {"c": True}},
            r"free names 'c', which is not among \['a', 'b'\]",
        ),
        (
            (1.0, (np.ones(2),)),
            A,
            {"free": {"a": np.ones(3)}},
            r"free\['a'\] must broadcast to the shape of a, \(2,\); got \(3,\)",
        ),
        ((1.0, (np.ones(2),)), A, {"n_directions": 0}, "n_directions must be at least 1; got 0"),
    ],
)
def test_what_cannot_be_checked_is_an_error_that_says_why(returned, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        check_grad(lambda *_: returned, arguments, **options)


@MODES
def test_point_from_which_no_step_is_possible_is_an_error_that_names_the_argument(entrywise):
    def function(a):
        return (1.0 if a[0] == 1.0 else math.nan), (np.ones(1),)

    with pytest.raises(ValueError, match=r"no step .* was small enough: along a .* another point"):
        check_grad(function, {"a": [1.0]}, entrywise=entrywise)


# --- the report -----------------------------------------------------------------------------------


def test_report_of_right_gradients_says_so():
    problem = random_problem(12, 3, 2, 2)
    lines = str(check(nll_at(problem), problem, False)).splitlines()
    head = "argument shape checked analytic difference rel. error verdict"
    assert lines[0].split() == head.split()
    assert set(lines[1]) == {"-"}
    assert [line.split()[0] for line in lines[2:6]] == list(NAMES)
    assert [line.split()[1] for line in lines[2:6]] == ["3x2", "2", "2x2", "2x2x2"]
    assert all(line.endswith(" ok") for line in lines[2:6])
    assert lines[6].startswith("every gradient agrees: worst relative error ")
    assert lines[6].endswith(", allowed 1e-07")
    assert len(lines) == 7


@MODES
def test_report_of_wrong_gradients_names_the_worst_and_its_entry(entrywise):
    problem = random_problem(12, 3, 2, 2)
    right = right_gradients(problem)
    wrong = {
        "means": plant(right["means"], (1, 0), 1.5),
        "pi_logits": 1.01 * right["pi_logits"],
    }
    report = check(nll_at(problem, **wrong), problem, entrywise)
    lines = str(report).splitlines()
    assert [line.split()[0] for line in lines if "WRONG" in line] == ["pi_logits", "means"]
    assert lines[4].endswith("WRONG at [1, 0]")
    assert lines[-1].startswith("the gradient of means is wrong: worst relative error 3.3e-01")
    assert bool(report) is report.passed is False
    assert report.worst.name == "means"
    # The two numbers that were compared are of that entry: a third of the wrong one is too much.
    assert report.worst.numeric == pytest.approx(report.worst.analytic / 1.5, rel=1e-7, abs=0)


def test_nan_is_the_worst_error():
    def row(name, error):
        return BlockCheck(name, (1,), 1, error, 1.0, 1.0, None, 1e-7)

    report = GradientReport((row("a", 1e9), row("b", math.nan), row("c", 0.0)))
    assert report.worst.name == "b"
    assert not report
    assert passed_blocks(report) == ["c"]
    assert not row("a", math.nan).passed
    assert row("a", 1e-7).passed


# --- offsets, columns of one value, repeated columns ----------------------------------------------


def moved(problem, offset):
    """The same mixture elsewhere, at numbers that a double can hold to all digits of x - means."""
    grid = np.spacing(abs(offset) + 10.0)
    x, means = (np.round(a / grid) * grid + offset for a in (problem.x, problem.means))
    return problem._replace(x=x, means=means)


@MODES
@pytest.mark.parametrize("offset", [1e2, 6203436.77, -1e10])
def test_an_offset_hides_neither_what_is_right_nor_a_thousandth(offset, entrywise):
    problem = moved(random_problem(0, 3, 2, 2), offset)
    report = check(nll_at(problem), problem, entrywise)
    assert report, str(report)
    for block in ("x", "means"):
        right = right_gradients(problem)[block]
        smallest = np.unravel_index(np.abs(right).argmin(), right.shape)
        assert abs(right[smallest]) >= SMALLEST * np.abs(right).max()
        for place in ((1, 0), tuple(map(int, smallest))):
            report = check(only(problem, block, plant(right, place)), problem, entrywise)
            assert not report, f"{block}{list(place)}\n{report}"
            assert report.worst.worst == place, f"{block}{list(place)}\n{report}"


def degenerate(kind, seed):
    """A start on a table with a column of one value, or one that repeats another, or depends on it.

    The factors have the small conditional deviations that a start gives such columns.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 3))
    factor = np.tril(rng.normal(size=(2, 3, 3)), -1) + np.diag([1.0, 0.8, 1.2])
    if kind == "constant":
        x[:, 1] = 1e6
        factor[:, 1] = [0.0, 3e-4, 0.0]
        factor[:, 2, 1] = 0.0
    else:
        by, shift = {"repeated": (1.0, 0.0), "dependent": (1e3, 1e6)}[kind]
        x[:, 2] = by * x[:, 0] + shift
        factor[:, 2] = [by, 0.0, 1e-3 * by]
        factor[:, 0] = [1.0, 0.0, 0.0]
    means = x[:2].copy()
    return Problem(x, rng.normal(size=2), means, factor)


@MODES
@pytest.mark.parametrize("kind", ["constant", "repeated", "dependent"])
def test_columns_without_a_spread_of_their_own_are_checked(kind, entrywise):
    problem = degenerate(kind, 0)
    report = check(nll_at(problem), problem, entrywise)
    assert report, str(report)
    for block, right in right_gradients(problem).items():
        place = tuple(map(int, np.unravel_index(np.abs(right).argmax(), right.shape)))
        report = check(only(problem, block, plant(right, place)), problem, entrywise)
        assert report.worst.wrong, f"{block}{list(place)}\n{report}"


@MODES
def test_what_rounding_hides_is_neither_right_nor_wrong(entrywise):
    # Sixteen units in the last place of 1e15 are further than the value is smooth.
    def function(a):
        return float(np.sin(a - 1e15).sum()), (np.cos(a - 1e15),)

    for report in (
        check_grad(function, {"a": [1e15, 1e15 + 1]}, entrywise=entrywise),
        check_grad(lambda a: (function(a)[0], (0.5 * function(a)[1][0],)), {"a": [1e15]}),
    ):
        assert not report
        assert not report.worst.resolved
        assert "could not be told right from wrong" in str(report)


@MODES
def test_noise_of_the_value_beyond_its_last_place_is_seen(entrywise):
    # As of a function that sums squares about an origin far away: 1e-9 and not 1e-16.
    def noisy(a, wrong=1.0):
        noise = 1e-9 * math.sin(1e15 * float(a.sum()))
        return float(np.sin(a).sum()) + noise, (wrong * np.cos(a),)

    a = {"a": [0.3, 0.7, 1.1]}
    assert check_grad(noisy, a, entrywise=entrywise)
    report = check_grad(lambda a: noisy(a, 1.001), a, entrywise=entrywise)
    assert report.worst.wrong

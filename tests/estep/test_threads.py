"""Threads: the same sums, whatever their number; errors and interrupts come out at once."""

import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from families_by_reference import FAMILIES, random_scale
from problems import far_apart, random_problem

import gmm_np
from gmm_np import tuning
from gmm_np.covariance.full import Full
from gmm_np.estep import PreparedMixture
from gmm_np.estep.estep import EStep
from gmm_np.linalg import threads
from gmm_np.parametrizations import precision_value_and_grad
from gmm_np.reference import nll_backward, nll_forward

METHODS = ("auto", "direct", "moments")

two_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two cores",
)


@pytest.fixture
def use(tuned, monkeypatch):
    """Use so many threads for everything, however little: use(2)."""

    def with_threads(n_threads):
        tuned(cheap_sample=0.0, worth_a_thread=0.0)
        monkeypatch.setattr(threads, "worthwhile_threads", lambda _: n_threads)

    return with_threads


def parameters_of(problem, family):
    scale = random_scale(0, family, *problem.means.shape)
    return gmm_np.Parameters(problem.pi_logits, problem.means, scale, family)


def assert_close(found, expected, tolerance=1e-13):
    for mine, theirs in zip(found, expected, strict=True):
        if theirs is not None:
            assert np.abs(mine - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.parametrize("n_threads", [2, 8])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_sums_of_threads_are_those_of_one(use, family, method, n_threads):
    problem = random_problem(3, 1001, 5, 4)
    parameters = parameters_of(problem, family)
    weight = np.random.default_rng(0).uniform(0.0, 2.0, 1001)
    everything = []
    for n in (1, n_threads):
        use(n)
        data = (problem.x, *parameters_arrays(parameters))
        value, gradients = gmm_np.nll_value_and_grad(
            *data, family=family, sample_weight=weight, method=method
        )
        statistics = gmm_np.statistics(problem.x, parameters, sample_weight=weight, method=method)
        everything.append(
            [
                np.array(value),
                *gradients[:3],
                *gmm_np.gradients(parameters, statistics)[:3],
                gmm_np.log_prob(*data, family=family, method=method),
                gmm_np.responsibilities(*data, family=family, method=method),
            ]
        )
    assert_close(*everything[::-1])


def parameters_arrays(parameters):
    return parameters.pi_logits, parameters.means, parameters.scale


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", [3, 40])
def test_threads_are_deterministic_and_in_step_with_a_stream(use, method, d):
    use(2)
    problem = random_problem(5, 3000, 4, d)
    once, again = (gmm_np.nll_value_and_grad(*problem, method=method) for _ in range(2))
    assert once[0] == again[0]
    for mine, theirs in zip(once[1][:3], again[1][:3], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    parameters = gmm_np.Parameters(*problem[1:])
    parts = np.array_split(problem.x, [1, 2, 1000, 1001])
    whole, streamed = (
        gmm_np.gradients(parameters, gmm_np.statistics(x, parameters, method=method))
        for x in (problem.x, parts)
    )
    assert_close(streamed[:3], whole[:3])


def test_what_threads_share_is_made_before_them(use, monkeypatch):
    made, natural_parameters = [], Full.natural_parameters

    def note(self, *arguments):
        made.append(threading.current_thread())
        return natural_parameters(self, *arguments)

    monkeypatch.setattr(Full, "natural_parameters", note)
    use(2)
    gmm_np.nll_value_and_grad(*random_problem(6, 1000, 5, 4), method="moments")
    assert made == [threading.current_thread()]


def test_threads_that_need_different_kernels_add_up(use):
    # The second half is so far away that moments would lose its digits there.
    problem = random_problem(7, 6000, 25, 4)
    far = problem.x.copy()
    far[3000:] += 1e9
    problem = problem._replace(x=far)
    use(2)
    mixture = PreparedMixture.of(gmm_np.Parameters(*problem[1:]))
    found = EStep(mixture, "auto", gradient=True, n_samples=6000)
    found.add(problem.x, None)
    near, away = found.accumulators
    assert None not in near.kernels
    assert set(away.kernels) == {None}
    expected, cache = nll_forward(*problem)
    value, gradients = gmm_np.nll_value_and_grad(*problem)
    assert value == pytest.approx(expected, rel=1e-12)
    assert_close(gradients[:3], nll_backward(cache)[:3], 1e-12)


@pytest.mark.parametrize("far", [3, 45])
def test_rows_beyond_the_range_of_a_double_are_added_in_any_thread(use, far):
    # 1e100 away in units of a slender component: the square is beyond a double, its weight is 0.
    theta = (np.array([0.0, 0.5]), np.zeros((2, 2)), np.stack([np.eye(2), 1e-80 * np.eye(2)]))
    x = np.random.default_rng(10).normal(size=(60, 2))
    x[10:50] *= 1e-80
    x[far] = 1e100
    use(3)
    found = EStep(PreparedMixture.of(gmm_np.Parameters(*theta)), "auto", gradient=True)
    found.add(x, None)
    assert found.accumulators[far // 20].out_of_range
    expected, cache = nll_forward(x, *theta)
    value, gradients = gmm_np.nll_value_and_grad(x, *theta)
    assert value == pytest.approx(expected, rel=1e-12)
    for k in range(2):  # of very different size
        for mine, theirs in zip(gradients[:3], nll_backward(cache)[:3], strict=True):
            np.testing.assert_allclose(mine[k], theirs[k], rtol=1e-11, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_few_residuals_of_all_threads_are_added(use, method):
    problem = far_apart(3, 400, 30, 120)
    use(2)
    found = EStep(
        PreparedMixture.of(gmm_np.Parameters(*problem[1:])),
        "moments",
        gradient=True,
        n_samples=400,
    )
    found.add(problem.x, None)
    for own in found.accumulators:
        assert sum(kernel.active.n_pairs for kernel in own.kernels.values()) > 0
    value, gradients = gmm_np.nll_value_and_grad(*problem, method=method)
    expected, cache = nll_forward(*problem)
    assert value == pytest.approx(expected, rel=1e-12)
    assert_close(gradients[:3], nll_backward(cache)[:3], 1e-11)


@pytest.mark.parametrize("row", [3, 250, 499])
def test_a_value_that_is_not_finite_is_placed_in_all_rows(use, row):
    use(3)
    problem = random_problem(1, 500, 3, 2)
    x = problem.x.copy()
    x[row, 1] = np.nan
    for function in (gmm_np.nll, gmm_np.nll_value_and_grad, gmm_np.responsibilities):
        with pytest.raises(ValueError, match=rf"\[{row}, 1\]|row {row}"):
            function(x, *problem[1:])


def test_an_error_stops_the_other_threads(tuned, use):
    use(2)
    tuned(largest_block=8)
    problem = random_problem(1, 4000, 3, 2)
    mixture = PreparedMixture.of(gmm_np.Parameters(*problem[1:]))
    seen = []

    def fail(block):
        seen.append(block.start)
        if block.start == 2000:  # the second thread's first
            raise KeyboardInterrupt
        time.sleep(0.002)

    with pytest.raises(KeyboardInterrupt):
        EStep(mixture, "direct", gradient=False, n_samples=4000).each(problem.x, fail)
    assert len(seen) < 200  # of 500 blocks
    assert not [t for t in threading.enumerate() if t.name.startswith("gmm_np thread")]


def test_tasks_run_side_by_side_and_return_in_order():
    barrier = threading.Barrier(3, timeout=30)

    def task(i):
        barrier.wait()  # breaks unless all three are there at once
        return i, threading.get_ident()

    found = threads.run_in_threads([lambda i=i: task(i) for i in range(3)])
    assert [i for i, _ in found] == [0, 1, 2]
    assert len({ident for _, ident in found} | {threading.get_ident()}) == 4


def test_a_single_task_takes_no_thread():
    assert threads.run_in_threads([threading.get_ident]) == [threading.get_ident()]


def test_the_first_error_in_the_list_is_raised_once_all_tasks_have_ended():
    ended = []

    def task(i):
        time.sleep(0.05 * (3 - i))
        ended.append(i)
        if i:
            raise ValueError(i)

    with pytest.raises(ValueError, match="1"):
        threads.run_in_threads([lambda i=i: task(i) for i in range(3)])
    assert sorted(ended) == [0, 1, 2]


def test_ctrl_c_halts_the_tasks_and_waits_for_them():
    halt, ended, caller = threading.Event(), [], threading.get_ident()

    def task(i):
        if i == 0:
            time.sleep(0.1)  # until the caller waits
            signal.pthread_kill(caller, signal.SIGINT)
        ended.append(halt.wait(timeout=30))

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            threads.run_in_threads([lambda i=i: task(i) for i in range(2)], halt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == [True, True]


@pytest.fixture
def six_cores(monkeypatch, tmp_path):
    """Six cores, of which nothing takes any away."""
    for name in threads.LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(threads, "OWN_GROUP", tmp_path / "none")
    return tmp_path


@pytest.mark.usefixtures("six_cores")
def test_cores_are_what_the_environment_leaves(monkeypatch):
    assert threads.cores() == 6
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert threads.cores() == 4
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert threads.cores() == 1
    assert threads.worthwhile_threads(1e12) == 1
    for nonsense in ("", "0", "-1", "many"):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", nonsense)
        assert threads.cores() == 4
    monkeypatch.delattr(threads.os, "sched_getaffinity")
    monkeypatch.setattr(threads.os, "cpu_count", lambda: None)
    assert threads.cores() == 1


def test_cores_are_what_the_quotas_of_a_container_leave(monkeypatch, six_cores):
    monkeypatch.setattr(threads, "OWN_GROUP", six_cores / "cgroup")
    monkeypatch.setattr(threads, "GROUPS", six_cores)
    own = six_cores / "pod" / "container"
    own.mkdir(parents=True)
    (six_cores / "cgroup").write_text("0::/pod/container\n")
    assert threads.cores() == 6  # no group has a file
    (own / "cpu.max").write_text("max 100000\n")
    assert threads.cores() == 6
    (own.parent / "cpu.max").write_text("250000 100000\n")
    assert threads.cores() == 2  # the stricter of both, whole cores
    (own / "cpu.max").write_text("50000 100000\n")
    assert threads.cores() == 1
    (six_cores / "cgroup").write_text("1:cpu:/elsewhere\n")  # the first version says nothing
    assert threads.cores() == 6


@pytest.mark.usefixtures("six_cores")
def test_a_thread_or_process_of_a_pool_has_one_core():
    found = []
    thread = threading.Thread(target=lambda: found.append(threads.cores()))
    thread.start()
    thread.join()
    assert found == [1]
    assert threads.cores() == 6
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        assert pool.submit(threads.cores).result(timeout=60) == 1


CELLS = [(1, 2, 3000), (5, 2, 3000), (200, 3, 400), (32, 16, 3000), (7, 33, 2000), (5, 64, 1000)]
CELLS += [(2, 100, 600), (60, 40, 300)]


def call_everything(k, d, n):
    """Call whatever passes over data, with each family and method."""
    problem = random_problem(k * d, n, k, d)
    for family in FAMILIES:
        parameters = parameters_of(problem, family)
        data = (problem.x, *parameters_arrays(parameters))
        for method in METHODS:
            gmm_np.nll_value_and_grad(*data, family=family, method=method)
            statistics = gmm_np.statistics(problem.x, parameters, method=method)
            gmm_np.em_step(parameters, statistics, reg_covar=0.1)
    q, below = np.zeros((k, d)), np.zeros((k, d * (d - 1) // 2))
    precision_value_and_grad(problem.x, problem.pi_logits, problem.means, q, below, gamma=1.0, m=0)


@pytest.mark.parametrize(("k", "d", "n"), CELLS)
def test_no_product_is_larger_than_the_rule_allows(use, monkeypatch, k, d, n):
    largest, matmul = [0], np.matmul

    def note(left, right, out=None):
        sides = left.shape[-2] * left.shape[-1] * right.shape[-1]
        largest[0] = max(largest[0], sides)
        return matmul(left, right, out=out)

    monkeypatch.setattr(np, "matmul", note)
    use(2)
    call_everything(k, d, n)
    assert 0 < largest[0] <= tuning.active.largest_product


@two_cores
@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0",
    reason="OpenBLAS before 0.3.27 starts threads for smaller work, and loses little by them",
)
def test_threads_of_blas_have_nothing_to_do():
    # In a fresh process, whose BLAS may start as many threads as it likes.
    source = f"""
import os, sys
from pathlib import Path
sys.path[:0] = {[str(place) for place in Path(__file__).parents[:2]]!r}
import numpy as np
import test_threads

others = [task for task in os.listdir("/proc/self/task") if task != str(os.getpid())]

def switches():  # how often other threads were given a core
    stats = [Path("/proc/self/task", task, "schedstat").read_text() for task in others]
    return [stat.split()[2] for stat in stats]

before = switches()
for cell in test_threads.CELLS:
    test_threads.call_everything(*cell)
assert switches() == before
np.ones((400, 400)) @ np.ones((400, 400))
print(len(others), switches() != before)
"""
    limits = {name: value for name, value in os.environ.items() if name not in threads.LIMITS}
    done = subprocess.run(
        [sys.executable, "-c", source], env=limits, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    n_threads, seen = done.stdout.split()
    assert seen == str(int(n_threads) > 0)  # a product that is large is seen, if BLAS has threads


def test_threads_are_used_where_there_is_enough_to_do(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 64)
    assert threads.worthwhile_threads(0.0) == 1
    worth = tuning.active.worth_a_thread
    assert threads.worthwhile_threads(1.9 * worth) == 1
    assert threads.worthwhile_threads(2.1 * worth) == 2
    assert threads.worthwhile_threads(1e12) == tuning.active.most_threads


def test_the_error_state_is_that_of_the_caller():
    def divide():
        return (np.array([1.0]) / np.array([0.0]))[0]

    for state in ("ignore", "raise"):
        with np.errstate(divide=state):
            if state == "ignore":
                assert threads.run_in_threads([divide, divide]) == [np.inf, np.inf]
            else:
                with pytest.raises(FloatingPointError):
                    threads.run_in_threads([lambda: 0.0, divide])


def test_without_threads_all_tasks_run_in_this_one(monkeypatch):
    def no_more(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    assert threads.run_in_threads([lambda i=i: (i, threading.get_ident()) for i in range(3)]) == [
        (i, threading.get_ident()) for i in range(3)
    ]

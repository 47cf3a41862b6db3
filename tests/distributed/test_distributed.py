"""Data that lie with Dask, in its threads and on a cluster of two processes, and with executors."""

import os
import pickle
import re
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from checkout import ROOT
from dask.core import get_dependencies
from dask.delayed import delayed
from distributed import Client, LocalCluster

import gmm_np
from gmm_np import GaussianMixture, Gradients, Parameters, statistics
from gmm_np.linalg.threads import cores
from gmm_np.model_selection import select
from gmm_np.parts import FAN_IN, parts_of
from gmm_np.second_order import tangent_statistics
from gmm_np.solvers import Data, FitInterrupted, fit_adam, fit_em, fit_lbfgs, fit_newton
from gmm_np.tables import TableError, open_table, open_tables

pytestmark = [
    pytest.mark.needs_extras,
    # what a cluster leaves behind where a worker is killed, and the ports that others have
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Port .* is already in use"),
    pytest.mark.filterwarnings("ignore:Sending large graph"),
]
N = 3000
# One part, seven uneven ones, and a hundred.
CHUNKS = {"one": N, "seven": (1, 200, 999, 50, 750, 500, 500), "hundred": 30}


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0, silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    """Tests without a client run in Dask's threads."""
    with Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    rows = [rng.normal(-2, 1, (N // 3, 3)), rng.normal(2, 0.5, (N - N // 3, 3))]
    return rng.permutation(np.concatenate(rows))


@pytest.fixture(scope="module")
def weight():
    return np.random.default_rng(1).integers(0, 3, N).astype(float)


@pytest.fixture(scope="module")
def start():
    return Parameters(np.zeros(2), [[-1.0, -1, -1], [1, 1, 1]], np.stack([np.eye(3)] * 2))


def arguments(parameters):
    return parameters.pi_logits, parameters.means, parameters.scale


def assert_close(found, expected, tol=1e-12):
    found, expected = np.asarray(found), np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=tol, atol=tol * np.abs(expected).max())


def as_bytes(parameters):
    return b"".join(array.tobytes() for array in arguments(parameters))


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("chunks", CHUNKS)
def test_parts_on_a_cluster_equal_an_array_in_memory(x, weight, start, chunks):
    there = da.from_array(x, chunks=(CHUNKS[chunks], 3)).persist()
    own = da.from_array(weight, chunks=777).persist()
    by_weight = {"sample_weight": weight}, {"sample_weight": own}
    value, gradient = gmm_np.nll_value_and_grad(x, *arguments(start), **by_weight[0])
    found, d_parameters = gmm_np.nll_value_and_grad(there, *arguments(start), **by_weight[1])
    assert_close(found, value)
    for ours, expected in zip(d_parameters[:3], gradient[:3], strict=True):
        assert_close(ours, expected)
    direction = Gradients(np.array([1.0, -1]), np.ones((2, 3)), np.stack([np.eye(3)] * 2))
    expected = gmm_np.nll_hvp(x, *arguments(start), direction, **by_weight[0])
    found = gmm_np.nll_hvp(there, *arguments(start), direction, **by_weight[1])
    for ours, wanted in zip(found[:3], expected[:3], strict=True):
        assert_close(ours, wanted)
    here = fit_em(x, start, max_iter=2, tol=0.0, **by_weight[0])
    fitted = fit_em(there, start, max_iter=2, tol=0.0, **by_weight[1])
    for ours, wanted in zip(arguments(fitted.parameters), arguments(here.parameters), strict=True):
        assert_close(ours, wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # two iterations are no maximum
        errors = [
            gmm_np.standard_errors(data, here.parameters, kind="sandwich", **weights).covariance
            for data, weights in ((x, by_weight[0]), (there, by_weight[1]))
        ]
    assert_close(errors[1], errors[0], 1e-11)  # an inverse of a matrix with a condition of 1e2


@pytest.mark.usefixtures("client")
def test_persisted_parts_live_as_long_as_the_data(x, start):
    data = Data(da.from_array(x, chunks=(1000, 3)).persist(), da.ones(N, chunks=800).persist())
    lazily = gmm_np.log_prob(da.from_array(x, chunks=(1000, 3)).persist(), *arguments(start))
    assert_close(data.statistics(start).S_k, statistics(x, start).S_k)
    assert_close(lazily.compute(), gmm_np.log_prob(x, *arguments(start)))


@pytest.mark.usefixtures("client")
def test_the_same_parts_give_the_same_bits(x, start):
    there = da.from_array(x, chunks=(200, 3)).persist()
    fits = [fit_em(there, start, max_iter=3, tol=0.0).parameters for _ in range(2)]
    fits.append(fit_em(da.from_array(x, chunks=(200, 3)), start, max_iter=3, tol=0.0).parameters)
    assert len({as_bytes(parameters) for parameters in fits}) == 1


def test_a_killed_worker_costs_its_parts_and_no_bit(client, x, start):
    there = da.from_array(x, chunks=(400, 3)).persist()
    expected = fit_em(there, start, max_iter=6, tol=0.0).parameters
    killed = []

    def kill(iteration, _):
        if iteration == 3:
            pids = client.run(os.getpid)
            killed.append(min(pids.values()))
            os.kill(killed[0], signal.SIGKILL)

    found = fit_em(there, start, max_iter=6, tol=0.0, callback=kill).parameters
    assert killed
    assert as_bytes(found) == as_bytes(expected)


def test_each_worker_computes_on_one_core(client):
    assert set(client.run(cores).values()) <= {1}


def test_without_a_client_a_part_is_computed_on_one_core_in_a_thread():
    assert delayed(cores)().compute() == 1


@pytest.mark.parametrize("solver", ["em", "em+newton", "lbfgs", "adam"])
def test_the_estimator_fits_to_a_dask_array(x, solver):
    options = {"random_state": 0, "solver": solver, "tol": 1e-6}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few passes of Adam do not converge
        passes = 3 if solver == "adam" else 100
        found, expected = (
            GaussianMixture(2, max_iter=passes, **options).fit(data)
            for data in (da.from_array(x, chunks=(700, 2)), x)
        )
    # Adam's batches are other ones; of the rest the starts are the same.
    assert_close(found.means_, expected.means_, 0.05 if solver == "adam" else 1e-7)
    assert found.n_features_in_ == 3


def test_a_fitted_mixture_takes_a_dask_array_lazily(x, weight):
    mixture = GaussianMixture(2, random_state=0).fit(x)
    there, own = da.from_array(x, chunks=(700, 2)), da.from_array(weight, chunks=N)
    for name in ("score_samples", "predict_proba", "predict"):
        found = getattr(mixture, name)(there)
        expected = getattr(mixture, name)(x)
        assert isinstance(found, da.Array)
        assert found.shape == expected.shape
        assert_close(found.compute(), expected)
    for name in ("score", "bic", "aic", "icl"):
        assert_close(
            getattr(mixture, name)(there, sample_weight=own),
            getattr(mixture, name)(x, sample_weight=weight),
        )
    expected = gmm_np.nll(
        x, *arguments(mixture.parameters_), sample_weight=weight, reduction="none"
    )
    found = gmm_np.nll(there, *arguments(mixture.parameters_), sample_weight=own, reduction="none")
    assert_close(found.compute(), expected)


def test_a_data_frame_has_names_and_perhaps_empty_parts(x):
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    there = dd.from_pandas(frame, npartitions=6, sort=False)
    there = there[there["a"] > -10]
    there = dd.concat([there, there[there["a"] > 100]])  # as many parts again without a row
    expected = GaussianMixture(2, random_state=0).fit(frame)
    found = GaussianMixture(2, random_state=0).fit(there)
    assert found.feature_names_in_.tolist() == ["a", "b", "c"]
    assert_close(found.means_, expected.means_, 1e-9)
    assert_close(found.predict(there).compute(), expected.predict(frame))
    with pytest.raises(ValueError, match="in the same order"):
        found.predict(there[["b", "a", "c"]])


def test_parts_may_be_delayed_or_futures(client, x, weight, start):
    expected = statistics(x, start, sample_weight=weight)
    blocks, weights = np.array_split(x, 5), np.array_split(weight, 5)
    kinds = ([delayed(block) for block in blocks], client.scatter(blocks))
    for items in kinds:
        found = statistics(items, start, sample_weight=weights)
        assert_close(found.S_k, expected.S_k)
        assert found.count == N
    assert_close(
        gmm_np.log_prob(kinds[1], *arguments(start)).compute(),
        gmm_np.log_prob(x, *arguments(start)),
    )


def test_partial_fit_takes_parts(x):
    mixtures = [GaussianMixture(2, random_state=0).fit(x[:1000]) for _ in range(2)]
    mixtures[0].partial_fit(x[1000:])
    mixtures[1].partial_fit(da.from_array(x[1000:], chunks=(300, 3)))
    assert_close(mixtures[1].means_, mixtures[0].means_)


def test_a_sample_of_parts_is_bounded_and_takes_nothing_of_the_generator(x):
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    data = Data(da.from_array(x, chunks=(500, 3)))
    drawn = data.sample(rng, 200)
    assert len(drawn.rows) == drawn.weight.sum() == 200
    assert rng.bit_generator.state == before
    # About a sixth of each of the six parts, and no row that is not there.
    places = [int(np.flatnonzero((x == row).all(axis=1))[0]) // 500 for row in drawn.rows]
    assert np.bincount(places, minlength=6).min() > 15
    everything = data.sample(rng)
    assert np.array_equal(everything.rows, Data(x).sample(rng).rows)


def test_what_is_asked_of_all_rows_equals_that_of_an_array(x, weight):
    there, here = Data(da.from_array(x, chunks=(500, 3)), weight), Data(x, weight)
    assert_close(there.variances(), here.variances())
    assert sum(use.n_rows for use in there.usage()) == here.usage()[0].n_rows
    assert there.fingerprint() == there.fingerprint()
    assert there.fingerprint() != Data(da.from_array(2 * x, chunks=(500, 3)), weight).fingerprint()
    with pytest.raises(TypeError, match="stay where they are"):
        next(there.blocks())


def test_batches_of_parts_are_drawn_there(x, weight, start):
    there = da.from_array(x, chunks=(1000, 3))
    found = fit_adam(
        there, start, sample_weight=weight, batch_size=250, max_iter=4, rng=np.random.default_rng(0)
    )
    blocks, weights = np.array_split(x, 3), np.array_split(weight, 3)
    expected = fit_adam(
        blocks,
        start,
        sample_weight=weights,
        batch_size=250,
        max_iter=4,
        rng=np.random.default_rng(0),
    )
    assert_close(found.parameters.means, expected.parameters.means, 1e-10)


def test_an_error_keeps_its_place_where_one_part_is_asked(x, start):
    blocks = [delayed(block) for block in np.array_split(x, 3)]
    blocks[2] = delayed(np.ones)((4, 3), dtype=complex)
    weights = [np.ones(N // 3), np.ones(N // 3), -np.ones(4)]
    with pytest.raises(TypeError, match=r"^part 2 of x: x must hold real numbers"):
        statistics(blocks, start)
    parts = parts_of(blocks, weights)
    with pytest.raises(ValueError, match=r"^part 1 of x: x and means disagree"):
        Data(parts.pick(1, np.arange(3))).statistics(Parameters([0.0], [[0.0]], [[[1.0]]]))


@pytest.mark.usefixtures("client")
def test_an_error_in_a_part_is_one_message_with_its_place(x, start, capfd):
    bad = x.copy()
    bad[7 * 100 + 12, 1] = np.nan
    bad[9 * 100] = np.inf
    with pytest.raises(
        ValueError, match=r"^part 7 of x: .* 1 of 300, the first nan at row 12"
    ) as e:
        statistics(da.from_array(bad, chunks=(100, 3)), start)
    assert e.value.__cause__ is None
    assert "distributed/worker" not in "".join(map(str, e.traceback))
    assert "Traceback" not in capfd.readouterr().err
    weight = np.ones(N)
    weight[250] = -1
    with pytest.raises(ValueError, match=r"^part 2 of x: sample_weight has negative .* row 50"):
        fit_em(da.from_array(x, chunks=(100, 3)), start, sample_weight=weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: {"x": da.from_array(x[:, 0], chunks=100)}, "must have two axes"),
        (lambda x: {"x": da.from_array(x[:, :2], chunks=(100, 2))}, "x and means disagree"),
        (lambda x: {"x": da.from_array(x[:0], chunks=(100, 3))}, "no row in any of its parts"),
        (lambda x: {"x": da.from_array(x), "sample_weight": np.ones(5)}, r"must have shape \[N\]"),
        (lambda x: {"x": da.from_array(x), "sample_weight": np.zeros(N)}, "zero for every row"),
        (
            lambda x: {"x": delayed(x), "sample_weight": [np.ones(N)] * 2},
            "has 2 parts, but x has 1",
        ),
        (lambda _: {"x": ["a.csv"], "executor": ThreadPoolExecutor()}, "name of a file"),
        (lambda x: {"x": x, "executor": ThreadPoolExecutor()}, "array_split"),
        (lambda _: {"x": [], "executor": ThreadPoolExecutor()}, "without any part"),
        (lambda x: {"x": [x], "executor": 3}, r"map\(function, items\)"),
        (lambda x: {"x": delayed(x), "executor": ThreadPoolExecutor()}, "leave executor out"),
        (lambda _: {"x": dd.from_pandas(pd.Series([1.0]), npartitions=1)}, "Series"),
    ],
)
def test_what_has_no_parts_is_refused(x, start, make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        statistics(**make(x), parameters=start)


def test_functions_of_arrays_do_not_gather_in_silence(x, start):
    with pytest.raises(TypeError, match=r"x\.compute\(\)"):
        gmm_np.reference.nll_forward(da.from_array(x), *arguments(start))


def test_second_derivatives_of_parts_equal_those_of_an_array(x, weight, start):
    there, own = da.from_array(x, chunks=(700, 2)), da.from_array(weight, chunks=N)
    for reduction in ("mean", "sum"):
        found, expected = (
            gmm_np.nll_hessian(data, *arguments(start), sample_weight=w, reduction=reduction)
            for data, w in ((there, own), (x, weight))
        )
        assert_close(found, expected)
    mixture = GaussianMixture.from_parameters(start.weights(), start.means, start.covariances())
    for name in ("scores", "log_prob_grad", "log_prob_hess"):
        expected = getattr(gmm_np, name)(x, *arguments(start))
        lazily = [getattr(gmm_np, name)(there, *arguments(start))]
        lazily += [] if name == "scores" else [getattr(mixture, name)(there)]
        for found in lazily:
            assert isinstance(found, da.Array)
            assert found.shape == expected.shape
            assert_close(found.compute(), expected)
    with pytest.raises(ValueError, match="zero for every row"):
        gmm_np.nll_hessian(there, *arguments(start), sample_weight=np.zeros(N))


@pytest.mark.parametrize("kind", ["hessian", "opg", "sandwich"])
def test_the_estimator_has_standard_errors_of_parts(x, kind):
    mixture = GaussianMixture(2, solver="em+newton", reg_covar=0, tol=1e-9, random_state=0).fit(x)
    found = mixture.standard_errors(da.from_array(x, chunks=(700, 3)), kind=kind)
    expected = mixture.standard_errors(x, kind=kind)
    for name in ("weights", "means", "covariances", "correlations"):
        assert_close(getattr(found, name), getattr(expected, name), 1e-10)


def test_a_mixture_is_selected_on_parts(x, weight):
    options = {"families": ["full", "diag"], "random_state": 0, "n_init": 2, "max_iter": 200}
    found, expected = (
        select(data, [1, 2], sample_weight=w, **options)
        for data, w in ((da.from_array(x, chunks=(700, 3)), da.from_array(weight)), (x, weight))
    )
    assert [c.name for c in found.candidates] == [c.name for c in expected.candidates]
    for ours, wanted in zip(found.candidates, expected.candidates, strict=True):
        assert ours.n_samples == wanted.n_samples == N
        assert_close(list(ours.criteria.values()), list(wanted.criteria.values()), 1e-7)
    with pytest.raises(ValueError, match="there are 3 distinct rows"):
        select(da.from_array(np.repeat(np.eye(3), 9, axis=0), chunks=(5, 3)), 4)


def test_a_part_without_a_row_counts_for_nothing(tmp_path, start):
    for index, text in enumerate(("1,,2\n", "1,2,3\n4,5,6\n7,8,8\n")):
        (tmp_path / f"{index}.csv").write_text(f"a,b,c\n{text}", encoding="utf-8")
    parts = open_tables(sorted(tmp_path.iterdir()), missing="drop").split(2)
    assert len(parts) == 3
    data = Data([delayed(part) for part in parts])
    assert data.statistics(start).count == 3
    assert len(data.sample(np.random.default_rng(0)).rows) == 3
    assert_close(data.variances(), np.var([[1, 2, 3], [4, 5, 6], [7, 8, 8]], axis=0))
    assert data.information(start).weight == 3
    assert len(gmm_np.log_prob([delayed(part) for part in parts], *arguments(start)).compute()) == 3
    with pytest.raises(ValueError, match="no row in any of its parts"):
        Data([delayed(parts[0])]).statistics(start)


def test_without_dask_a_line_says_what_to_install(monkeypatch, x, start):
    there = da.from_array(x)
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "dask\[array\]" distributed$'):
        statistics(there, start)


def test_parameters_travel_once_and_sums_come_back_by_a_tree():
    k, d, n_parts = 50, 3, 40
    rng = np.random.default_rng(0)
    wide = Parameters(np.zeros(k), rng.normal(size=(k, d)), np.stack([np.eye(d)] * k))
    size = len(pickle.dumps(wide))
    graphs = []

    def get(graph, keys, **options):
        graphs.append(dict(graph.__dask_graph__() if hasattr(graph, "__dask_graph__") else graph))
        return dask.get(graph, keys, **options)

    parts = parts_of([delayed(rng.normal)(size=(3, d)) for _ in range(n_parts)])
    with dask.config.set(scheduler=get):
        statistics(parts, wide)
    (graph,) = graphs
    heavy = [key for key, task in graph.items() if len(pickle.dumps(task)) > size // 2]
    assert len(heavy) == 1
    # The tree: no node has more than so many beneath it.
    beneath = [get_dependencies(graph, key) for key in graph if key[0].startswith("add-")]
    assert len(beneath) == -(-n_parts // FAN_IN) + 1
    assert max(map(len, beneath)) <= FAN_IN


class Serial:
    """As much of an executor as is asked for."""

    def map(self, function, items):
        return [pickle.loads(pickle.dumps(function))(item) for item in items]


def test_anything_with_a_map_is_an_executor(client, x, weight, start):
    blocks, weights = np.array_split(x, 11), np.array_split(weight, 11)
    expected = statistics(
        da.from_array(x, chunks=(tuple(map(len, blocks)), 3)), start, sample_weight=weight
    )
    spawn = get_context("spawn")
    with ProcessPoolExecutor(2, spawn) as processes, ThreadPoolExecutor(2) as threads:
        for executor in (Serial(), processes, threads, client.get_executor()):
            found = statistics(blocks, start, sample_weight=weights, executor=executor)
            assert np.array_equal(found.S_k, expected.S_k)  # the same tree
            assert found.loss == expected.loss


@pytest.mark.parametrize("fit", [fit_em, fit_lbfgs, fit_newton, fit_adam])
def test_solvers_take_an_executor(x, weight, start, fit):
    blocks, weights = np.array_split(x, 4), np.array_split(weight, 4)
    options = {"max_iter": 5} | ({} if fit is fit_newton else {"reg_covar": 1e-6})
    found = fit(blocks, start, sample_weight=weights, executor=Serial(), **options)
    expected = fit(x, start, sample_weight=weight, **options)
    assert_close(found.parameters.means, expected.parameters.means, 1e-9)
    with pytest.raises(TypeError, match="executor belongs into Data"):
        fit(Data(x), start, executor=Serial())


def test_a_part_may_be_a_file(tmp_path, x, start):
    paths = []
    for index, block in enumerate(np.array_split(x, 3)):
        paths.append(tmp_path / f"{index}.csv")
        np.savetxt(paths[-1], block, delimiter=",", fmt="%.17g")
    expected = statistics(x, start)
    tables = [open_table(path, block_rows=64) for path in paths]
    found = [
        statistics(tables, start, executor=Serial()),
        statistics([delayed(open_table)(path) for path in paths], start),
    ]
    for total in found:
        assert_close(total.S_k, expected.S_k)
    mixtures = [
        GaussianMixture(2, random_state=0).fit(data)
        for data in (Data(tables, executor=Serial()), x)
    ]
    assert_close(mixtures[0].means_, mixtures[1].means_, 1e-9)
    with paths[1].open("a") as file:
        file.write("1,2,nan\n")
    with pytest.raises(TableError, match=rf"^{re.escape(str(paths[1]))}, line 1001, column 3 "):
        statistics(tables, start, executor=Serial())


def test_ctrl_c_in_a_pass_leaves_the_best_so_far(x, start):
    def stop(iteration, _):
        if iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(FitInterrupted) as interrupted:
        fit_em(da.from_array(x, chunks=(500, 3)), start, tol=0.0, callback=stop)
    assert len(interrupted.value.history) == 3


def test_tangents_take_parts_too(x, start):
    direction = Gradients(np.ones(2), np.ones((2, 3)), None)
    found = tangent_statistics(np.array_split(x, 3), start, direction, executor=Serial())
    assert_close(found.tangents.mass, tangent_statistics(x, start, direction).tangents.mass)


def test_the_code_of_the_page_runs_one_block_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/distributed.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) == 4
    names = {}
    for code in blocks:
        exec(code, names)
    assert names["labels"].compute().shape == (100_000,)
    assert_close(names["total"].count, len(names["rows"]))
    for index, block in enumerate(np.array_split(names["rows"], 2)):
        pd.DataFrame(block, columns=list("abc")).to_parquet(f"part-{index}.parquet")
    assert statistics(names["parts_of_files"], names["start"]).count == len(names["rows"])


def benchmark(*options):
    command = [sys.executable, ROOT / "scripts/benchmark_distributed.py", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


SMALL = ("--rows", 2000, "--columns", 2, "--components", 2, "--parts", 4, "--iterations", 1)


@pytest.mark.slow  # starts a cluster for each number of workers
def test_the_benchmark_prints_each_number_of_workers_and_the_same_objective():
    out = benchmark(*SMALL)
    rows = [line.split() for line in out.splitlines() if re.match(r" +[12] ", line)]
    assert [row[0] for row in rows] == ["1", "2"]
    assert rows[0][-1] == rows[1][-1]  # the same bits
    assert "8 K (1 + D + D(D+1)/2) = 96 bytes" in out
    assert re.search(r"^500 +[0-9]+ +[0-9]+$\n^2000 +[0-9]+ +[0-9]+$", out, re.M)
    assert re.search(r"not measured.*\n.*\n.*\n1e\+10 +100 +1000 +[0-9.]+ +0\.1$", out, re.M)


def test_the_benchmark_streams_files_and_leaves_none(tmp_path):
    out = benchmark("--stream", 3000, "--components", 2, "--iterations", 2, "--directory", tmp_path)
    assert "3000 rows of 8 columns in 1 Parquet files" in out
    assert re.search(r"^ +2 +[0-9.]+ +[0-9.e+]+$\n^peak memory: [0-9]+ MB; objective", out, re.M)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_worker_that_dies_at_any_time_costs_no_bit():
    out = benchmark("--kill", 3, "--rows", 40_000, "--columns", 4, "--components", 4)
    assert out.splitlines()[-1] == "3 of 3 tries came to the same bits"
    assert len(re.findall(r"^ +[123] .* yes$", out, re.M)) == 3

"""What `import gmm_np` loads, and in which direction the modules import each other."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import gmm_np

PACKAGE = Path(gmm_np.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}

# The order in which data flows, after docs and design: a module imports only what stands above it.
# A new module has to be given its place here.
ORDER = (
    "checks",
    "extended_range",
    "tuning",
    "linalg",
    "covariance",
    "parameters",
    "reference",
    "files",
    "sufficient_statistics",
    "estep",
    "missing",
    "parts",
    "likelihood",
    "priors",
    "parametrizations",
    "second_order",
    "hessian",
    "density",
    "mdn",
    "conditional",
    "noise",
    "distances",
    "solvers",
    "objective",
    "inference",
    "mixture",
    "interop",
    "model_selection",
    "gradcheck",
    "datasets",
    "tables",
    "plotting",
    "progress",
    "conformance",
    "demo",
    "lesson",
    "commands",
    "cli",
    "__main__",
)
# Of those that stand above them, what these two may know.
ALLOWED = {"reference": {"checks", "parameters", "extended_range"}, "gradcheck": {"checks"}}


def run(code):
    """Run code in a fresh interpreter with warnings as errors; return what it prints as JSON."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def imports_of(path):
    """Modules of the package that a file imports, at any depth, each with its line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}, line {node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != "gmm_np":
                continue
            # gmm_np.module.name, gmm_np.module, or a name of the package itself.
            imported = parts[1] if len(parts) > 1 and parts[1] in top_modules() else ""
            found.append((imported, node.lineno, name))
    return found


def top_modules():
    return {name.split(".")[0] for name in MODULES}


FRAMEWORKS = ("autograd", "jax", "sklearn", "torch")
HEAVY = (
    *("scipy.optimize", "scipy.cluster", "scipy.stats", "matplotlib", "tqdm", "sklearn"),
    *("torch", "dask", "jax", "autograd", "gmm_np.conformance"),
)


@pytest.fixture(scope="module")
def loaded():
    """What a fresh interpreter has loaded after the import, and after a look at gmm_np.interop."""
    # By where a module lies: SciPy registers some of its own under a name without a dot.
    return run(
        "import json, sys\n"
        "from pathlib import Path\n"
        "before = set(sys.modules)\n"
        "import gmm_np\n"
        "imported = sorted(sys.modules)\n"
        "places = {str(Path(p).resolve()) for p in sys.path if p and 'packages' in p}\n"
        f"places.add({str(PACKAGE.parent.resolve())!r})\n"
        "owners = set()\n"
        "for name in set(imported) - before:\n"
        "    file = getattr(sys.modules[name], '__file__', None)\n"
        "    # An environment may lie inside the checkout: the longest place that fits.\n"
        "    for place in sorted(places, key=len, reverse=True):\n"
        "        if file and Path(file).resolve().is_relative_to(place):\n"
        "            owners.add(Path(file).resolve().relative_to(place).parts[0])\n"
        "            break\n"
        f"interop = [getattr(gmm_np.interop, name).__name__ for name in {FRAMEWORKS}]\n"
        f"frameworks = [name for name in {FRAMEWORKS} if name in sys.modules]\n"
        "print(json.dumps({'owners': sorted(owners), 'imported': imported, 'interop': interop,\n"
        "    'frameworks': frameworks, 'runner': gmm_np.conformance.run.__name__}))\n"
    )


def test_import_loads_nothing_but_numpy_and_scipy(loaded):
    assert loaded["owners"] == ["gmm_np", "numpy", "scipy"]


@pytest.mark.parametrize("heavy", HEAVY)
def test_import_does_not_load(loaded, heavy):
    assert heavy not in loaded["imported"]


def test_runner_is_loaded_when_it_is_asked_for(loaded):
    assert loaded["runner"] == "run"


def test_every_module_can_be_imported_where_there_is_only_numpy_and_scipy():
    names = [f"gmm_np.{name}" for name in MODULES if not name.endswith("__main__")]
    loaded = run(
        "import importlib, json, sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if path is not None or name in ('gmm_np', 'numpy', 'scipy'):\n"
        "            return None\n"
        "        spec = PathFinder.find_spec(name)\n"
        "        if spec and 'packages' in (spec.origin or ''):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "for name in ('matplotlib', 'tqdm', 'torch', 'sklearn', 'jax', 'autograd'):\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError: pass\n"
        "    else: raise AssertionError(name + ' is not missing')\n"
        f"modules = [importlib.import_module(name) for name in {names}]\n"
        "print(json.dumps([m.__name__ for m in modules]))\n"
    )
    assert loaded == names
    assert "gmm_np.reference" in names


def test_frameworks_are_loaded_when_their_functions_are_called(loaded):
    assert loaded["interop"] == [f"gmm_np.interop.{name}" for name in FRAMEWORKS]
    assert loaded["frameworks"] == []
    with pytest.raises(AttributeError, match="no attribute 'tensorflow'"):
        _ = gmm_np.interop.tensorflow


def test_import_defines_all_that_it_promises():
    assert len(set(gmm_np.__all__)) == len(gmm_np.__all__)
    for name in gmm_np.__all__:
        assert getattr(gmm_np, name) is not None


def test_every_module_has_its_place_in_the_order():
    missing = top_modules() - set(ORDER)
    assert not missing, f"give {sorted(missing)} their place in ORDER"


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_stands_above_it(module):
    own = module.split(".")[0]
    above = ALLOWED.get(own, set(ORDER[: ORDER.index(own)]))
    wrong = []
    for imported, line, name in imports_of(MODULES[module]):
        if imported == own and ("." in module or MODULES[module].name == "__init__.py"):
            continue  # a module of a subpackage, or the subpackage, among its own
        if not imported and own in ("conformance", "commands", "cli", "__main__"):
            continue  # at the end of the order, where the whole package stands above
        if imported not in above:
            wrong.append(f"line {line}: {name}")
    assert not wrong, f"{module} imports what does not stand above it: {wrong}"


def test_reference_imports_nothing_of_the_engine():
    imported = {name for name, _, _ in imports_of(MODULES["reference"])}
    assert imported == {"checks", "parameters", "extended_range"}
    assert {name for name, _, _ in imports_of(MODULES["extended_range"])} == {"checks"}
    assert {name for name, _, _ in imports_of(MODULES["parameters"])} == {"checks", "covariance"}
    assert not imports_of(MODULES["checks"])


def test_reference_loads_nothing_of_the_engine_when_it_runs():
    # The package imports all of itself; the reference must work where the engine is not.
    code = (
        "import json, sys, types\n"
        f"package = types.ModuleType('gmm_np'); package.__path__ = [{str(PACKAGE)!r}]\n"
        "sys.modules['gmm_np'] = package\n"
        "from gmm_np.reference import nll_backward, nll_forward\n"
        "nll_backward(nll_forward([[1e200]], [0.0], [[0.0]], [[[1.0]]])[1])\n"
        "print(json.dumps(sorted(n for n in sys.modules if n.startswith('gmm_np.'))))\n"
    )
    # What shape a scale has, `parameters` asks the families, which stand on triangles.
    loaded = {name.split(".")[1] for name in run(code)}
    assert loaded == set(ORDER[: ORDER.index("reference") + 1])


def test_imports_are_found_at_any_depth(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        "import gmm_np.reference\n"
        "from gmm_np import covariance, __version__\n"
        "def f():\n"
        "    from gmm_np.estep import estep\n"
        "    import numpy\n",
        encoding="utf-8",
    )
    assert [name for name, _, _ in imports_of(file)] == ["reference", "covariance", "", "estep"]

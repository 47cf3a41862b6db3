"""The source distribution holds all that the tests need, and they run in it."""

import re
import subprocess
import sys

import pytest
from checkout import copy_tree

pytestmark = [pytest.mark.slow, pytest.mark.needs_extras]  # setuptools

FOLDERS = ("gmm_np", "tests", "docs", "scripts", ".github")
SUFFIXES = (".md", ".cfg", ".toml", ".in", ".py")
# What reads documents, other tests, and data of the package.
RUN = ("test_readme", "test_mistakes", "test_datasets")


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return copy_tree(tmp_path_factory.mktemp("packaging") / "tree")


@pytest.fixture(scope="module")
def unpacked(tree):
    code = "import setuptools.build_meta as b; b.build_sdist('dist')"
    run(sys.executable, "-c", code, cwd=tree)
    (archive,) = (tree / "dist").glob("gmm_np-*.tar.gz")
    run("tar", "-xzf", archive, cwd=tree.parent)
    return tree.parent / archive.name.removesuffix(".tar.gz")


def test_source_distribution_has_all_files(tree, unpacked):
    files = [path for folder in FOLDERS for path in (tree / folder).rglob("*") if path.is_file()]
    files += [path for path in tree.glob("*.*") if path.suffix in SUFFIXES]
    assert len(files) > 200
    names = [path.relative_to(tree) for path in [*files, tree / "LICENSE"]]
    assert not [str(name) for name in names if not (unpacked / name).is_file()]


def test_installed_command_is_the_command_line(unpacked):
    entry = (unpacked / "gmm_np.egg-info/entry_points.txt").read_text(encoding="utf-8")
    assert "gmm-np = gmm_np.cli:main" in entry
    assert "pytest_gmm_conformance = pytest_gmm_conformance" in entry.partition("[pytest11]")[2]


def test_tests_run_in_the_source_distribution(unpacked):
    pytest_there = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    where = "import gmm_np, pathlib; print(pathlib.Path(gmm_np.__file__).resolve().parents[1])"
    assert run(sys.executable, "-c", where, cwd=unpacked).strip() == str(unpacked.resolve())
    # Every module is collected, so that none lacks what it imports; a few tests run.
    printed = run(*pytest_there, "-m", "not slow", "-k", " or ".join(RUN), "tests", cwd=unpacked)
    assert re.search(r"\d\d passed, \d{4,} deselected", printed)

"""The documentation site, as far as it can be tested without building it."""

import configparser
import importlib
import re
import runpy
import types

import pytest
from checkout import ROOT
from citations import TAG, citations, cited_in_package

import gmm_np

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "live" not in path.relative_to(DOCS).parts)
# Modules that the API reference has a page of.
MODULES = [
    "gmm_np",
    *(f"gmm_np.{n}" for n in gmm_np.__all__ if isinstance(getattr(gmm_np, n), types.ModuleType)),
]
TABLE = re.compile(
    r"currentmodule:: (\S+)\n\n.. autosummary::\n   :toctree: \w+\n\n((?:   \w+\n)+)"
)
INCLUDE = re.compile(r"^```\{(?:literal)?include\} (\S+)\n(.*?)```", re.M | re.S)


def public_names(module):
    """What `__all__` has but modules and the version; without it, what is defined there."""
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None) or [
        name
        for name, value in vars(found).items()
        if isinstance(value, type | types.FunctionType) and value.__module__ == module
    ]
    of_modules = {m.rpartition(".")[2] for m in MODULES}
    return {name for name in names if not name.startswith("_") and name not in of_modules}


def listed(page):
    """The names in a page's tables, by module."""
    found = {}
    for module, names in TABLE.findall(page.read_text(encoding="utf-8")):
        found.setdefault(module, []).extend(names.split())
    return found


def test_api_reference_has_every_public_name_once():
    pages = {}
    for page in (DOCS / "api").glob("*.md"):
        pages |= listed(page)
    assert set(MODULES) - {"gmm_np.interop"} <= set(pages)
    for module, names in pages.items():
        if not module.startswith("gmm_np.interop"):
            assert len(names) == len(set(names))
            assert public_names(module) <= set(names), module
            # Beside them the steps of the reference, which are there to be read.
            beside = set(names) - public_names(module)
            assert not beside or module == "gmm_np.reference"
            assert all(hasattr(importlib.import_module(module), name) for name in beside)


def test_api_reference_has_every_function_of_interop():
    # Read, not imported: the frameworks need not be there.
    found = listed(DOCS / "api" / "interop.md")
    for path in (ROOT / "gmm_np" / "interop").glob("[a-z]*.py"):
        functions = re.findall(r"^def ([a-z]\w*)", path.read_text(encoding="utf-8"), re.M)
        if path.stem != "loss":  # what the others are made of
            assert sorted(found[f"gmm_np.interop.{path.stem}"]) == sorted(functions)


def test_every_page_of_the_api_is_in_its_contents():
    text = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    names = {path.stem for path in (DOCS / "api").glob("*.md")} - {"index"}
    assert names == set(text[text.index("```{toctree}") :].split()[3:-1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_included_texts_begin_and_end_where_the_page_says(page):
    for target, options in INCLUDE.findall(page.read_text(encoding="utf-8")):
        rest = (page.parent / target).read_text(encoding="utf-8")
        marks = dict(re.findall(r':(start-after|end-before): "(.*)"', options))
        if "start-after" in marks:
            _, found, rest = rest.partition(marks["start-after"])
            assert found, f"{target} has no {marks['start-after']!r}"
        assert marks.get("end-before", "") in rest


def test_each_citation_that_the_site_links_to_stands_on_its_line():
    tags = {int(n) for n in TAG.findall((DOCS / "derivation.md").read_text(encoding="utf-8"))}
    found = cited_in_package()
    assert set(found) <= tags
    assert len(found) >= len(tags) - 1
    for number, places in found.items():
        for path, lines in places.items():
            source = (ROOT / path).read_text(encoding="utf-8").splitlines()
            for line in lines:
                here = " ".join(source[line - 1 : line + 1])  # a range may run on
                numbers = {int(n) for n in re.findall(r"\d+", here)}
                assert number in numbers or min(numbers) < number < max(numbers), (path, line)


def test_citations_have_their_lines():
    source = '''\
"""A module.

    After equation 3 and
    (4):

    >>> f(9)
    (10)

    (11)
"""
x = (12)  # (5) and
# (6) to (8)
'''
    assert citations(source) == {(3, 3), (4, 4), (11, 9), (5, 11), (6, 12), (7, 12), (8, 12)}


def test_links_that_lead_nowhere_are_found(tmp_path):
    broken = runpy.run_path(str(ROOT / "scripts" / "check_links.py"))["broken"]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "index.html").write_text('<p id="here"><a href="../a.html">up</a>')
    good = '<a href="folder/#here"></a><a href="#top"></a><a href="https://x.org/y">y</a>'
    (tmp_path / "a.html").write_text(good)
    assert list(broken(tmp_path)) == []
    (tmp_path / "a.html").write_text(f'{good}<a href="b.html"></a><img src="folder/#there">')
    assert [line.split(": ", 1)[1] for line in broken(tmp_path)] == [
        "b.html: there is no such file",
        "folder/#there: the page has no such anchor",
    ]


def test_every_file_says_the_same_version():
    version = gmm_np.__version__
    for name, pattern in {
        "CITATION.cff": r"^version: (.*)$",
        "docs/recipe/meta.yaml": r'set version = "(.*)"',
    }.items():
        assert re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.M) == [version]


def test_recipe_has_the_requirements_of_setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    recipe = (ROOT / "docs" / "recipe" / "meta.yaml").read_text(encoding="utf-8")
    run = recipe[recipe.index("  run:") : recipe.index("test:")]
    found = {line.replace(" ", "") for line in re.findall(r"^    - (.*)$", run, re.M)}
    required = set(config["options"]["install_requires"].split())
    assert found == required | {"python>={{python_min}}"}
    entry = config["options.entry_points"]["console_scripts"].strip()
    assert f"    - {entry}\n" in recipe

"""Sphinx's configuration of the documentation site; `bash scripts/docs` builds it."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from source_pages import linkcode_resolve  # noqa: E402, F401

import gmm_np  # noqa: E402

project = "gmm_np"
author = "The gmm_np developers"
project_copyright = author
version = release = gmm_np.__version__
html_title = f"gmm_np {version}"

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.linkcode",
    "sphinx.ext.mathjax",
    "sphinx_design",
    "sphinxcontrib.mermaid",
    "gallery_pictures",
    "source_pages",
]
templates_path = ["_templates"]
exclude_patterns = ["_ext", "_templates", "live/*"]
# Every reference has to lead somewhere.
nitpicky = True
# Elsewhere: a build asks no other site for its index.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|concurrent|dask|matplotlib|np|numpy|scipy|sklearn|torch)\..*"),
]

# --- texts: they are GitHub's Markdown, and stay so ------------------------------------------

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_fence_as_directive = ["math", "mermaid"]
myst_heading_anchors = 3

# --- notebooks: run as they are read, and kept until they change ------------------------------

nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE.parent / "build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

# --- the API, from docstrings -----------------------------------------------------------------

autosummary_generate = True
autosummary_imported_members = True
autodoc_typehints = "none"  # the docstrings have them, with shapes
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
default_role = "autolink"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# --- HTML -------------------------------------------------------------------------------------

mathjax_path = "https://cdn.jsdelivr.net/npm/mathjax@3.2.2/es5/tex-mml-chtml.js"
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "_static/logo.svg"
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "gmm_np", "image_light": "_static/logo.svg", "image_dark": "_static/logo.svg"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "collapse_navigation": True,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-dark",
}


def rubrics(app, what, name, obj, options, lines):  # noqa: ARG001
    """Make the sections of a module's docstring headings without a place in the contents."""
    if what == "module":
        for i in range(len(lines) - 1):
            if lines[i + 1] and not lines[i + 1].strip("-") and len(lines[i + 1]) == len(lines[i]):
                lines[i : i + 2] = [f".. rubric:: {lines[i]}", ""]


def setup(app):
    """Connect what stands above."""
    app.connect("autodoc-process-docstring", rubrics)

"""Code and derivation hold each other: in `reference.py` each line that computes cites an equation.

And the reverse: each equation of sections 1 to 3 of docs/derivation.md is cited where section 2's
table says, on a line that computes, or (the definitions) in a docstring. The comparison is a
function of two texts, so that the tests can take a citation or an equation away and see it fail.
"""

import ast
import io
import re
import tokenize

import pytest
from test_derivation import ROOT, SOURCES, TEXT, cited, words

SOURCE = (ROOT / "gmm_np" / "reference.py").read_text(encoding="utf-8")

# Calls into NumPy that move, make or test arrays, and compute nothing.
MOVES = {
    "ascontiguousarray",
    "diagonal",
    "empty",
    "errstate",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "ones",
    "stack",
    "zeros_like",
}
COMPUTES = {"solve_triangular", "cho_solve", "unit_weights"}  # and all of NumPy's others
METHODS = {"sum", "max", "min", "argmax", "mean", "dot"}
# What the equations are about. They are no step of the computation, so a docstring cites them.
DEFINITIONS = {1, 2, 5}


# --- what there is ------------------------------------------------------------------------------


def computes(statement):
    """Whether a simple statement does arithmetic, or hands a gradient on under a new name."""
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else statement
    if isinstance(statement, ast.Assign) and isinstance(value, ast.Name):
        return value.id.startswith("d_")
    for node in ast.walk(value) if value is not None else ():
        if isinstance(node, ast.BinOp | ast.AugAssign):
            return True
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        if negative and not isinstance(node.operand, ast.Constant):
            return True
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in COMPUTES:
                return True
            if isinstance(called, ast.Attribute):
                of_numpy = isinstance(called.value, ast.Name) and called.value.id in ("np", "math")
                if of_numpy and called.attr not in MOVES:
                    return True
                if not of_numpy and called.attr in METHODS:
                    return True
    return False


def simple_statements(body):
    """Statements that hold no others, at any depth, with the function that they stand in."""
    for node in body:
        inner = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
        if isinstance(node, ast.ClassDef):
            continue
        if any(inner):
            for part in inner:
                yield from simple_statements(part)
        else:
            yield node


def comments_of(source):
    """The comment of each line that has one, and whether nothing else stands on the line."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found[token.start[0]] = (token.string, token.line.lstrip().startswith("#"))
    return found


def citations_of(statement, comments):
    """Equations cited in comments on a statement's lines, or right above it."""
    lines = list(range(statement.lineno, statement.end_lineno + 1))
    text = [comments[line][0] for line in lines if line in comments]
    above = statement.lineno - 1
    while above in comments and comments[above][1]:
        text.insert(0, comments[above][0])
        above -= 1
    return cited(" ".join(part.lstrip("# ") for part in text))


def reference_part(document):
    """Sections 1 to 3, and the numbers of their equations."""
    text = document[document.index("\n## 1. ") : document.index("\n## 4. ")]
    return text, {int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", text)}


def table_of_functions(document):
    """What section 2's table says: the equations of each function."""
    rows = re.findall(r"^\| `(\w+_)\.\.\.` \| (.*?) \| (.*?) \|", reference_part(document)[0], re.M)
    return {
        name + way: cited(cell)
        for name, *cells in rows
        for way, cell in zip(("forward", "backward"), cells, strict=True)
    }


def complaints(source, document):
    """All that a module and the document do not agree on; nothing if they hold together."""
    found, comments, tree = [], comments_of(source), ast.parse(source)
    _, tags = reference_part(document)
    promised = table_of_functions(document)
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    on_lines, in_docstrings = set(), set()

    for node in tree.body:
        name = node.name if isinstance(node, ast.FunctionDef) else "the module"
        body = node.body if isinstance(node, ast.FunctionDef) else [node]
        own = set()
        for statement in simple_statements(body):
            if isinstance(statement, ast.Import | ast.ImportFrom | ast.Raise):
                continue
            numbers = citations_of(statement, comments)
            if computes(statement) and not numbers:
                found.append(f"line {statement.lineno} of {name} computes and cites nothing")
            own |= numbers
        on_lines |= own
        if isinstance(node, ast.FunctionDef):
            docstring = cited(ast.get_docstring(node) or "")
            in_docstrings |= docstring
            if name in promised and own != promised[name]:
                found.append(f"{name} cites {sorted(own)}, the table says {sorted(promised[name])}")
            if not own <= docstring and not name.startswith(("nll_", "sum_")):
                found.append(f"the docstring of {name} does not name {sorted(own - docstring)}")
    in_docstrings |= cited(ast.get_docstring(tree) or "")

    found += [f"{name} is in the table and not in the code" for name in promised.keys() - functions]
    found += [
        f"{name} is a step and not in the table"
        for name in functions
        if name.endswith(("_forward", "_backward")) and name not in promised
    ]
    unknown = (on_lines | in_docstrings) - tags
    found += [f"({n}) is cited and not in sections 1 to 3" for n in sorted(unknown)]
    stated = on_lines | (in_docstrings & DEFINITIONS)
    found += [
        f"({n}) stands in sections 1 to 3 and no line cites it" for n in sorted(tags - stated)
    ]
    return found


# --- the two directions -------------------------------------------------------------------------


def test_code_and_derivation_hold_each_other():
    assert complaints(SOURCE, TEXT) == []
    assert len(table_of_functions(TEXT)) == 14
    assert reference_part(TEXT)[1] == set(range(1, 22))


def test_every_equation_of_the_document_is_cited_somewhere_in_the_package():
    """Also those of the engine, the parametrizations, the wide range and the gradient check."""
    tags = {int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", TEXT)}
    # (28) is for comparisons with programs that take covariances; this package takes factors.
    unused = {28}
    found = set().union(
        *(cited(text) for path in SOURCES for text in words(path.read_text(encoding="utf-8")))
    )
    assert sorted(tags - unused - found) == []


# --- and they can fail --------------------------------------------------------------------------


def without(text, start, end):
    return text[:start] + text[end:]


def citations_in_comments(source):
    """Places of each cited number, with the parentheses, in comments that stand beside code."""
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            start = offsets[token.start[0] - 1] + token.start[1]
            for match in re.finditer(r"(?<![\w)\]}])\((\d{1,3})\)", token.string):
                yield start + match.start(), start + match.end()


def test_every_single_citation_counts():
    places = list(citations_in_comments(SOURCE))
    assert len(places) > 30
    for start, end in places:
        line = SOURCE.count("\n", 0, start) + 1
        assert complaints(without(SOURCE, start, end), TEXT), f"line {line}: not missed"


def test_every_wrong_citation_is_found():
    for start, end in citations_in_comments(SOURCE):
        wrong = SOURCE[:start] + "(22)" + SOURCE[end:]
        assert complaints(wrong, TEXT), SOURCE[start:end]


@pytest.mark.parametrize("number", range(1, 22))
def test_every_single_equation_counts(number):
    removed = re.sub(rf"^\\tag\{{{number}\}}\n", "", TEXT, flags=re.M)
    assert len(removed) < len(TEXT)
    assert any(f"({number}) is cited" in line for line in complaints(SOURCE, removed))


def test_a_new_equation_has_to_be_used():
    longer = TEXT.replace("\\tag{21}\n", "\\tag{21}\n\\tag{99}\n")
    assert any("(99) stands" in line for line in complaints(SOURCE, longer))


@pytest.mark.parametrize(
    "line",
    [
        "quadratic = quadratic * 2.0",
        "quadratic += 1",
        "quadratic = -quadratic",
        "quadratic = np.exp(quadratic)",
        "quadratic = quadratic.sum()",
        "quadratic: FloatArray = cho_solve((factor, True), x)",
        "if far.any():\n        quadratic[far] = 0.5 * quadratic[far]",
    ],
)
def test_a_new_line_that_computes_has_to_cite(line):
    place = "    far = ~np.isfinite(whitened)"
    assert SOURCE.count(place) == 1
    changed = SOURCE.replace(place, f"    {line}\n{place}")
    assert any("computes and cites nothing" in text for text in complaints(changed, TEXT))
    assert complaints(SOURCE.replace(place, f"    far = np.isnan(whitened)\n{place}"), TEXT) == []

"""A first adapter in a language: the files of `gmm-np conformance init`, and how to run them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gmm_np.checks import check_choice

__all__ = ["COMMANDS", "write_starter"]

#: How what is written for a language is run, where it lies.
COMMANDS: Final = {
    "python": "gmm-np conformance --python adapter:nll",
    "c": "cc -O2 -o adapter adapter.c mine.c -lm && gmm-np conformance --text --command ./adapter",
    "javascript": 'gmm-np conformance --specials --command "node adapter.js"',
    "julia": 'gmm-np conformance --text --command "julia adapter.jl"',
    "r": 'gmm-np conformance --text --command "Rscript adapter.R"',
    "octave": 'gmm-np conformance --text --command "octave-cli --quiet adapter.m"',
}


def write_starter(directory: Path, language: str) -> list[Path]:
    """Write an adapter, and a file for the function that it calls; return both paths.

    Parameters
    ----------
    directory : Path
        Is made if it is not there.
    language : {"python", "c", "javascript", "julia", "r", "octave"}

    Raises
    ------
    FileExistsError
        If a file is there already: then none is written.
    """
    check_choice("language", language, tuple(COMMANDS))
    sources = sorted((Path(__file__).parent / language).glob("*.txt"))
    targets = [directory / source.stem for source in sources]
    there = [target for target in targets if target.exists()]
    if there:
        raise FileExistsError(f"{there[0]} is there already; name another directory.")
    directory.mkdir(parents=True, exist_ok=True)
    for source, target in zip(sources, targets, strict=True):
        text = source.read_text(encoding="utf-8").replace("@COMMAND@", COMMANDS[language])
        with target.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    return targets

"""ListOps: nested operations on lists of digits, made here by the grammar of Long Range Arena, or read from its files.

N. Nangia, S. R. Bowman, ListOps: A Diagnostic Dataset for Latent Tree Learning, NAACL student workshop 2018,
arXiv 1804.06028; the long variant is Y. Tay et al., Long Range Arena, ICLR 2021, arXiv 2011.04006.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from benchmarks.datasets.base import datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.roots import find_form, missing_files
from benchmarks.datasets.sequence import SequenceDataset
from benchmarks.datasets.symbols import Coding, SymbolSplit, check_coding, joined
from neurons.errors import DataError, OptionError

LRA_NAME = "lra-listops"
OPERATORS: dict[str, Callable[[list[int]], int]] = {
    "[MAX": max,
    "[MIN": min,
    "[MED": lambda values: int(statistics.median(values)),
    "[SM": lambda values: sum(values) % 10,
}
"""Largest, smallest, median (of an even number of digits the mean of the middle two, rounded down), sum modulo 10."""
CLOSE = "]"
SYMBOLS = (*map(str, range(10)), *OPERATORS, CLOSE)
"""The 15 symbols in the order of their channels; an operator and its opening bracket are one."""
CODE = {symbol: code for code, symbol in enumerate(SYMBOLS)}
OPERATOR_SHARE = 0.25
"""Chance that a node above the greatest depth is an operator and not a digit, in the generator of Long Range Arena."""
SOURCE = "grammar of Long Range Arena, Y. Tay et al., ICLR 2021, https://github.com/google-research/long-range-arena"
FILES = {"train": "basic_train.tsv", "validation": "basic_val.tsv", "test": "basic_test.tsv"}
FORMS = ("listops-1000", "listops", "lra_release/listops-1000", "lra_release/lra_release/listops-1000", ".")
ADVICE = "get lra_release.gz of Long Range Arena from its authors and put its folder 'listops-1000' in a data folder"


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder with the three files of Long Range Arena."""
    lacks = {form: lambda folder: missing_files(folder, FILES.values()) for form in FORMS}
    return find_form(LRA_NAME, lacks, root, advice=ADVICE, own=own)


by_hand[LRA_NAME] = ByHand(ADVICE, find)


@datasets.register("listops")
def load(
    min_length: int = 64,
    max_length: int = 256,
    train: int = 10_000,
    validation: int = 1_000,
    test: int = 2_000,
    max_depth: int = 10,
    max_arguments: int = 10,
    seed: int = 0,
    coding: Coding = "one-hot",
    root: Path | None = None,
) -> SequenceDataset:
    """ListOps: nested MAX, MIN, MED and SM of digits, 64 to 256 symbols long; the value, 0 to 9, is the class.

    Made here by the grammar and the chances of Long Range Arena's own generator, of whose variant these are the
    lengths 500 to 2,000, with 96,000, 2,000 and 2,000 expressions. No expression comes twice, in one split or in two.
    Parentheses, which say nothing more than the brackets do, are left out.

    Parameters
    ----------
    min_length, max_length : int
        Expressions have more symbols than the one and fewer than the other, as there.
    train, validation, test : int
        Number of expressions in each split.
    max_depth : int
        Depth of the deepest nodes, that of the outermost operator being 1.
    max_arguments : int
        Most arguments of an operator; the fewest are 2.
    seed : int
        Seed of the expressions.
    coding : {"one-hot", "index"}
        15 channels, or one number (s + 1) / 15 for symbol s.
    root : path, optional
        Not used: nothing is read.

    Raises
    ------
    OptionError
        When a number is outside its domain, or hardly any expression has such a length.
    """
    check_coding(coding)
    counts = {"train": train, "validation": validation, "test": test}
    for name, value, least in (
        *((name, count, 1) for name, count in counts.items()),
        ("max_depth", max_depth, 2), ("max_arguments", max_arguments, 2), ("min_length", min_length, 0),
    ):  # fmt: skip
        if value < least:
            raise OptionError(f"dataset.{name} must be at least {least}, not {value}")
    if max_length < min_length + 2:
        raise OptionError(f"dataset.max_length must be at least min_length + 2 = {min_length + 2}, not {max_length}")
    made = expressions(random.Random(seed), min_length, max_length, max_depth, max_arguments)
    seen: dict[bytes, None] = {}
    repeats = 0
    while len(seen) < sum(counts.values()):
        known = len(seen)
        seen[next(made)] = None
        repeats = 0 if len(seen) > known else repeats + 1
        if repeats == 10_000:
            raise OptionError(
                f"dataset.max_length: there are hardly more than {known} different expressions this short"
            )
    samples = iter(seen)
    splits = {
        name: _split([next(samples) for _ in range(count)], max_length - 1, coding) for name, count in counts.items()
    }
    return SequenceDataset(
        name="listops",
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        classes=10,
        channels=splits["train"].channels,
        image_size=1,
        steps=max_length - 1,
        source=f"made here, by the {SOURCE}",
        licence="none needed: made here",
        note=f"more than {min_length} and fewer than {max_length} symbols, depth up to {max_depth}, up to "
        f"{max_arguments} arguments, seed {seed}; the symbols are {' '.join(SYMBOLS)}",
    )


@datasets.register(LRA_NAME)
def load_lra(path: str | None = None, coding: Coding = "one-hot", root: Path | None = None) -> SequenceDataset:
    """Long Range Arena's ListOps: your own basic_train.tsv, basic_val.tsv and basic_test.tsv, up to 2,000 symbols.

    Lines of the files hold an expression and its value; parentheses are left out, as the 15 symbols say all.

    Parameters
    ----------
    path : str, optional
        The folder; when left out it is looked for in the data folders.
    coding : {"one-hot", "index"}
        15 channels, or one number (s + 1) / 15 for symbol s.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When a file is missing, or a line of it is no expression with its value.
    """
    check_coding(coding)
    folder = find(root) if path is None else given_folder(path, FILES.values())
    lines = {name: list(read_lines(folder / file)) for name, file in FILES.items()}
    steps = max(len(expression) for split in lines.values() for expression, _ in split)
    splits = {
        name: _split([expression for expression, _ in split], steps, coding, [value for _, value in split])
        for name, split in lines.items()
    }
    return SequenceDataset(
        name=LRA_NAME,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        classes=10,
        channels=splits["train"].channels,
        image_size=1,
        steps=steps,
        source=SOURCE,
        licence="Apache-2.0",
        note=f"the splits of Long Range Arena; the symbols are {' '.join(SYMBOLS)}, without its parentheses",
    )


def expressions(
    random: random.Random, min_length: int, max_length: int, max_depth: int = 10, max_arguments: int = 10
) -> Iterator[bytes]:
    """Yield expressions without end, each the codes of its symbols.

    A node is an operator with a chance of 1/4, or a digit; at the greatest depth always a digit. An operator has 2 to
    ``max_arguments`` arguments; operators, numbers of arguments and digits are equally likely. Expressions of another
    length than asked for are thrown away.

    Raises
    ------
    OptionError
        When 100,000 in a row had to be thrown away.
    """
    tries = 0
    while True:
        tries += 1
        codes = _grown(random, max_length, max_depth, max_arguments)
        if codes is not None and len(codes) > min_length:
            tries = 0
            yield bytes(codes)
        elif tries == 100_000:
            raise OptionError(
                f"dataset.min_length, max_length: hardly any expression of depth {max_depth} with up to "
                f"{max_arguments} arguments has more than {min_length} and fewer than {max_length} symbols"
            )


def _grown(random: random.Random, max_length: int, max_depth: int, max_arguments: int) -> bytearray | None:
    """Return an expression, or None as soon as it is sure to be too long."""
    draw = random.random
    codes = bytearray()
    outer: list[int] = []
    left, depth = 1, 1  # nodes still to come at this depth
    to_come = 1  # symbols that are sure to follow: one for each such node at every depth, and closing brackets
    while True:
        if depth < max_depth and draw() < OPERATOR_SHARE:
            codes.append(10 + int(draw() * len(OPERATORS)))
            outer.append(left)
            left = 2 + int(draw() * (max_arguments - 1))
            to_come += left
            depth += 1
            if len(codes) + to_come >= max_length:
                return None
            continue
        codes.append(int(draw() * 10))
        left, to_come = left - 1, to_come - 1
        while left == 0:
            if not outer:
                return codes
            codes.append(CODE[CLOSE])
            left, to_come, depth = outer.pop() - 1, to_come - 1, depth - 1


def evaluate(expression: Iterable[int]) -> int:
    """Return the value of an expression, given as the codes of its symbols.

    Raises
    ------
    DataError
        When it is no expression.
    """
    stack: list[list[int | str]] = [[]]
    for code in expression:
        symbol = SYMBOLS[code]
        if symbol in OPERATORS:
            stack.append([symbol])
        elif symbol != CLOSE:
            stack[-1].append(code)
        elif len(stack) > 1 and len(stack[-1]) > 1:
            operator, *arguments = stack.pop()
            stack[-1].append(OPERATORS[str(operator)]([int(argument) for argument in arguments]))
        else:
            raise DataError("a bracket closes no operation")
    if len(stack) != 1 or len(stack[0]) != 1:
        raise DataError("brackets are left open, or there is more than one expression")
    return int(stack[0][0])


def read_lines(file: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the expressions of a file of Long Range Arena, as codes, and their values.

    Raises
    ------
    DataError
        In one line that names the file, the line and what is wrong with it.
    """
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if not lines or lines[0].split("\t") != ["Source", "Target"]:
        raise DataError(f"{file} is no file of Long Range Arena: its first line must be Source, a tab and Target")
    for number, line in enumerate(lines[1:], 2):
        source, _, target = line.partition("\t")
        words = source.replace("(", " ").replace(")", " ").split()
        unknown = [word for word in words if word not in CODE]
        if unknown or not words or target not in CODE or CODE[target] > 9:
            what = f"unknown symbol {unknown[0]!r}" if unknown else f"value {target!r} is no digit from 0 to 9"
            raise DataError(f"{file}, line {number}: {what if words else 'no expression'}")
        yield bytes(CODE[word] for word in words), int(target)


def given_folder(path: str, files: Iterable[str]) -> Path:
    """Return the folder ``path`` that a user named, which must hold ``files``."""
    folder = Path(path).expanduser()
    missing = missing_files(folder, files)
    if missing:
        raise DataError(f"dataset.path: {folder} lacks {', '.join(missing)}")
    return folder


def _split(samples: list[bytes], steps: int, coding: Coding, values: list[int] | None = None) -> SymbolSplit:
    content, parts = joined(samples)
    labels = torch.tensor([evaluate(sample) for sample in samples] if values is None else values, dtype=torch.int64)
    return SymbolSplit(content, parts, labels, len(SYMBOLS), steps, coding=coding)

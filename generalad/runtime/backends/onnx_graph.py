"""What an ONNX graph would do when it runs, told before it does and without an ONNX library.

Exports of ours are straight graphs of standard operators, whose sizes are decided by the graph
alone. A file from elsewhere may loop for ever, or make of a small image a tensor that fills the
memory: it is refused before it is loaded.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from generalad.errors import ArtifactError
from generalad.geometry.geometry import MOST_TILED
from generalad.runtime.backends.onnx_reader import Model, Node, Shape, read_model
from generalad.runtime.backends.onnx_rules import RULES
from generalad.runtime.backends.onnx_sizes import NotOurs, Sizes
from generalad.runtime.backends.session import EXPORT_AGAIN
from generalad.spec import MOST_PIXELS

_VALUES_A_PIXEL, _PAIRS = 256, 1000
"""Values that exist at one time: so many a pixel, and the square of the pixels by that, as
attention compares all patches with all. Measured on exports: docs/artifact.md."""

MOST_TILES = 1 << 14
"""Rounds of the loop over the tiles of a frame."""

_OF_LOOPS = ("input_axes", "input_directions", "output_axes", "output_directions")

_MOST_VALUES, _FEW_VALUES = 1 << 31, 1 << 24
_WORK_A_PIXEL, _TIMES_IN_TILES = 20_000_000, 4
"""Multiplications; the largest backbone takes 6 million. Tiles overlap, and are enlarged."""


def check_graph(path: Path) -> None:
    """Refuse a graph that could run without end or take memory without measure.

    Raises:
        ArtifactError: naming what no export has.
    """
    if not path.stat().st_size:
        return  # loading it says so
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            model = read_model(data)
            _check_weights_apart(model, path)
            _check_sizes(model)
        except NotOurs as found:
            raise ArtifactError(
                f"{path}: its graph has {found}, which no export has", remedy=EXPORT_AGAIN
            ) from None
        except (LookupError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise ArtifactError(
                f"{path}: cannot be loaded, not an ONNX file or damaged",
                remedy=f"copy the file again, or {EXPORT_AGAIN}",
            ) from error


def _check_weights_apart(model: Model, path: Path) -> None:
    """Only regular files beside it: a pipe would block, and other folders are none of its."""
    for name in {tensor.apart for tensor in model.constants.values()} - {b""}:
        text = name.decode("utf-8")
        if Path(text).name != text:
            raise NotOurs(f"weights in {text!r}, another folder")
        if not path.with_name(text).is_file():
            raise ArtifactError(
                f"{path}: {text} with its weights is missing", remedy="copy both files"
            )


def _check_sizes(model: Model) -> None:
    for odd in model.odd:
        raise NotOurs(odd)
    inputs = {name: shape for name, shape in model.inputs.items() if name not in model.constants}
    images = {name: _of_one_image(shape) for name, shape in inputs.items()}
    pixels = sum(math.prod(shape) for shape in images.values()) / 3
    looped = any(node.operator == "Scan" for node in model.nodes)
    count = max((shape[0] for shape in images.values() if shape), default=1)
    if pixels > (MOST_TILED if looped else MOST_PIXELS) * count:
        raise NotOurs(f"an input of {pixels / 1e6:.0f} megapixels")
    times = _TIMES_IN_TILES if looped else 1
    budget = _Budget(most_values(pixels), _WORK_A_PIXEL * (pixels + 1000) * times)
    _walk(model, Sizes(model, images), budget, times=1)


@dataclass
class _Budget:
    """What a graph may take, and what it has taken so far.

    Attributes:
        values: that may exist at a time.
        work: multiplications.
        alive: values that exist.
        done: multiplications so far.
    """

    values: int
    work: float
    alive: int = 0
    done: float = 0.0


def _walk(model: Model, sizes: Sizes, budget: _Budget, *, times: int) -> None:
    """Go through a graph, or the body of a loop that runs `times` times."""
    last, living = _last_uses(model), dict[bytes, int]()
    for number, node in enumerate(model.nodes):
        if node.operator == "Scan" and not node.domain:
            made = _loop(node, sizes, budget, times)
        else:
            made = _shapes_of(node, sizes)
            budget.done += _work(node, sizes, made) * times
        for name, shape in zip(node.outputs, made, strict=False):
            living[name] = math.prod(shape)
            budget.alive += living[name]
            if max(budget.alive, math.prod(map(float, shape))) > budget.values:
                raise NotOurs(
                    f"{node.operator} of shape {shape}, with more than {budget.values} values at a"
                    " time"
                )
        if budget.done > budget.work:
            raise NotOurs(f"more than {budget.done:.0e} multiplications")
        for name in {*node.inputs, *node.outputs}:
            if last.get(name, -1) <= number:
                budget.alive -= living.pop(name, 0)
    budget.alive -= sum(living.values())


def _loop(node: Node, sizes: Sizes, budget: _Budget, times: int) -> list[Shape]:
    """A loop over the tiles of a frame: over its one input, and nothing is carried along."""
    body = node.graph("body")
    inputs = (len(node.inputs), node.integer("num_scan_inputs", 0))
    if body is None or times > 1 or inputs != (1, 1) or len(body.inputs) != 1 or body.odd:
        raise NotOurs("a loop of another kind than over tiles")
    if any(node.ints(f"scan_{what}") for what in _OF_LOOPS):
        raise NotOurs("a loop of another kind than over tiles")
    if any(tensor.apart for tensor in body.constants.values()):
        raise NotOurs("weights of a loop in another file")
    rounds, *one = sizes.shape(node, 0)
    if not 1 <= rounds <= MOST_TILES:
        raise NotOurs(f"a loop of {rounds} rounds")
    (tile,) = body.inputs
    body.constants = sizes.constants | body.constants
    inner = Sizes(body, {tile: tuple(one)})
    _walk(body, inner, budget, times=rounds)
    made = [(rounds, *inner.shapes[name]) for name in body.outputs]
    if len(made) != len(node.outputs):
        raise ValueError("a loop whose body makes something else")
    sizes.shapes.update(zip(node.outputs, made, strict=True))
    return made


def most_values(pixels: float) -> int:
    """How many values a network may have at a time, by the pixels of its input."""
    return min(int(_VALUES_A_PIXEL * pixels + pixels**2 / _PAIRS) + _FEW_VALUES, _MOST_VALUES)


def _of_one_image(shape: tuple[int | None, ...]) -> Shape:
    """With the number of images, where it is free, as one."""
    if None in shape[1:]:
        raise NotOurs("an input of any size")
    return tuple(1 if size is None else size for size in shape)


def _last_uses(model: Model) -> dict[bytes, int]:
    """By tensor, the number of the last node that reads it; outputs are kept."""
    last = {name: number for number, node in enumerate(model.nodes) for name in node.inputs}
    return last | dict.fromkeys(model.outputs, len(model.nodes))


def _shapes_of(node: Node, sizes: Sizes) -> list[Shape]:
    """Shapes of what a node makes, which `sizes` knows from then on."""
    rule = RULES.get(node.operator) if node.domain in ("", "ai.onnx") else None
    if rule is None:
        name = f"{node.domain}.{node.operator}" if node.domain else node.operator
        raise NotOurs(name[:80] or "an operator without a name")
    found = rule(node, sizes)
    shapes = found if isinstance(found, list) else [found] * len(node.outputs)
    if any(size < 0 for shape in shapes for size in shape):
        raise ValueError("a negative size")
    sizes.shapes.update(zip(node.outputs, shapes, strict=False))
    return shapes[: len(node.outputs)]


def _work(node: Node, sizes: Sizes, made: Iterable[Shape]) -> float:
    """Multiplications, or values where it is no product."""
    values = sum(math.prod(map(float, shape)) for shape in made)
    if node.operator.endswith(("MatMul", "MatMulInteger")):
        return values * sizes.shape(node, 0)[-1]
    if node.operator == "Gemm":
        return values * max(sizes.shape(node, 0))
    if node.operator.startswith(("Conv", "QLinearConv")):
        kernel = sizes.shape(node, 3 if node.operator.startswith("Q") else 1)
        return values * math.prod(kernel[1:])
    return values

"""An artifact that is slower by a known share and says the same: extra products in its graph.

The work is done by the network's own library and threads, as that of a heavier network would be.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from generalad.bench.comparison import narrow_enough, ratio
from generalad.bench.process import Order, Subject
from generalad.bench.turns import Plan, take_turns

SIDE = 256
ROWS_TO_DOUBLE = 15000
"""First guess of the rows that cost as much as the embedded network."""

ROUNDS = 3
PRECISE = 0.01
"""A limit whose intervals, a quarter of it to each side, are narrow enough for planting."""


def planted_artifact(artifact: Path, slower: Path, *, rows: int) -> Path:
    """Write a copy that also multiplies a (rows, 256) matrix by a (256, 256) one at every run.

    The result times nought is added to the scores. The matrix depends on the scores, so that no
    optimiser can compute the product once and for all.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(artifact)
    scores = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["planted_scores" if name == scores else name for name in node.output]
        node.input[:] = ["planted_scores" if name == scores else name for name in node.input]
    random = np.random.default_rng(0)
    constants = {
        "planted_rows": random.random((rows, SIDE), np.float32),
        "planted_square": random.random((SIDE, SIDE), np.float32),
        "planted_tiny": np.array(1e-20, np.float32),
        "planted_nought": np.array(0, np.float32),
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    node = helper.make_node
    model.graph.node.extend(
        [
            node("ReduceMax", ["planted_scores"], ["planted_peak"], keepdims=0),
            node("Mul", ["planted_peak", "planted_tiny"], ["planted_shift"]),
            node("Add", ["planted_rows", "planted_shift"], ["planted_left"]),
            node("MatMul", ["planted_left", "planted_square"], ["planted_product"]),
            node("ReduceMax", ["planted_product"], ["planted_largest"], keepdims=0),
            node("Mul", ["planted_largest", "planted_nought"], ["planted_zero"]),
            node("Add", ["planted_scores", "planted_zero"], [scores]),
        ]
    )
    onnx.save(model, slower)
    return slower


def rows_for(artifact: Path, folder: Path, order: Order, *, share: float, seconds: float) -> int:
    """Rows that make the artifact slower by a share of its own time.

    Found by measuring and correcting, because small products cost more a row than large ones; the
    last of the rounds only has to correct what the ones before left over.
    """
    rows = ROWS_TO_DOUBLE * share
    for _ in range(ROUNDS):
        slower = planted_artifact(artifact, folder / "trial.onnx", rows=round(rows))
        subjects = [Subject("slower", slower), Subject("plain", artifact)]
        plan = Plan(
            budget=seconds / ROUNDS,
            enough=lambda sides: narrow_enough(sides[0], sides[1], PRECISE),
        )
        new, old = take_turns(subjects, order, plan)
        found = ratio(new.blocks, old.blocks, "total").value - 1
        rows *= min(2.0, max(0.5, share / max(found, 1e-3)))
    return max(1, round(rows))

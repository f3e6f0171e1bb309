"""The shape of what an operator makes, for every operator that exports have.

Shapes are those of the operators' definitions, https://onnx.ai/onnx/operators. Where one depends on
values of the image, as with NonZero, it is the largest that there can be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from generalad.runtime.backends.onnx_reader import Node, Shape
from generalad.runtime.backends.onnx_sizes import NotOurs, Sizes, broadcast
from generalad.runtime.backends.onnx_values import constant_of

Rule = Callable[[Node, Sizes], "Shape | list[Shape]"]


def _elementwise(node: Node, g: Sizes) -> Shape:
    return broadcast(*(g.shapes[name] for name in node.inputs if name))


def _same(node: Node, g: Sizes) -> Shape:
    return g.shape(node, 0)


def _quantised(node: Node, g: Sizes) -> list[Shape]:
    return [g.shape(node, 0), (), ()]


def _reduce(node: Node, g: Sizes) -> Shape:
    shape, axes = g.shape(node, 0), g.values(node, 1, "axes")
    if not axes:
        axes = [] if node.integer("noop_with_empty_axes", 0) else list(range(len(shape)))
    return _without(shape, axes, keep=bool(node.integer("keepdims", 1)))


def _without(shape: Shape, axes: Sequence[Any], *, keep: bool) -> Shape:
    gone = {int(axis) % len(shape) for axis in axes} if shape else set()
    sizes = [1 if axis in gone else size for axis, size in enumerate(shape)]
    return tuple(size for axis, size in enumerate(sizes) if keep or axis not in gone)


def _arg(node: Node, g: Sizes) -> Shape:
    axes = [node.integer("axis", 0)]
    return _without(g.shape(node, 0), axes, keep=bool(node.integer("keepdims", 1)))


def _shape(node: Node, g: Sizes) -> Shape:
    last = node.ints("end")
    return (len(g.shape(node, 0)[slice(node.integer("start", 0), last[0] if last else None)]),)


def _reshape(node: Node, g: Sizes) -> Shape:
    old, new = g.shape(node, 0), g.whole(node, 1, "shape")
    if not node.integer("allowzero", 0):
        new = [old[at] if size == 0 else size for at, size in enumerate(new)]
    if new.count(-1) == 1:
        rest = -math.prod(new)
        new = [math.prod(old) // rest if size == -1 and rest else size for size in new]
    return tuple(new)


def _flatten(node: Node, g: Sizes) -> Shape:
    shape, axis = g.shape(node, 0), node.integer("axis", 1)
    axis += len(shape) if axis < 0 else 0
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _squeeze(node: Node, g: Sizes) -> Shape:
    shape, axes = g.shape(node, 0), g.values(node, 1, "axes")
    if axes is None:
        return tuple(size for size in shape if size != 1)
    return _without(shape, axes, keep=False)


def _unsqueeze(node: Node, g: Sizes) -> Shape:
    shape, axes = list(g.shape(node, 0)), g.whole(node, 1, "axes")
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    return tuple(shape)


def _transpose(node: Node, g: Sizes) -> Shape:
    shape = g.shape(node, 0)
    order = node.ints("perm") or range(len(shape))[::-1]
    return tuple(shape[axis] for axis in order)


def _concat(node: Node, g: Sizes) -> Shape:
    shapes = [g.shapes[name] for name in node.inputs]
    axis = node.integer("axis", 0) % len(shapes[0])
    return tuple(
        sum(sizes) if at == axis else max(sizes)
        for at, sizes in enumerate(zip(*shapes, strict=True))
    )


def _split(node: Node, g: Sizes) -> list[Shape]:
    shape, parts = g.shape(node, 0), g.values(node, 1, "split")
    axis = node.integer("axis", 0) % len(shape)
    if parts is None:
        parts = [-(-shape[axis] // len(node.outputs))] * len(node.outputs)
    return [(*shape[:axis], int(size), *shape[axis + 1 :]) for size in parts]


def _split_to_sequence(node: Node, g: Sizes) -> Shape:
    """Of one element, which is what SequenceAt takes out."""
    shape, parts = g.shape(node, 0), g.values(node, 1)
    axis = node.integer("axis", 0) % len(shape)
    if parts is None:
        return _without(shape, [axis], keep=bool(node.integer("keepdims", 1)))
    return (*shape[:axis], int(max(parts)), *shape[axis + 1 :])


def _slice(node: Node, g: Sizes) -> Shape:
    shape = list(g.shape(node, 0))
    starts, ends = g.whole(node, 1, "starts"), g.whole(node, 2, "ends")
    axes = g.values(node, 3, "axes") or range(len(starts))
    steps = g.values(node, 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        last = None if step < 0 and end < -size else end
        shape[axis] = len(range(size)[slice(start, last, step)])
    return tuple(shape)


def _gather(node: Node, g: Sizes) -> Shape:
    data, indices = g.shape(node, 0), g.shape(node, 1)
    axis = node.integer("axis", 0) % len(data)
    return (*data[:axis], *indices, *data[axis + 1 :])


def _gather_nd(node: Node, g: Sizes) -> Shape:
    data, indices, batch = g.shape(node, 0), g.shape(node, 1), node.integer("batch_dims", 0)
    return (*indices[:-1], *data[batch + indices[-1] :])


def _expand(node: Node, g: Sizes) -> Shape:
    return broadcast(g.shape(node, 0), tuple(g.whole(node, 1)))


def _tile(node: Node, g: Sizes) -> Shape:
    return tuple(size * n for size, n in zip(g.shape(node, 0), g.whole(node, 1), strict=True))


def _pad(node: Node, g: Sizes) -> Shape:
    shape, pads = list(g.shape(node, 0)), g.whole(node, 1, "pads")
    axes = g.values(node, 3) or range(len(shape))
    for at, axis in enumerate(axes):
        shape[axis] += pads[at] + pads[at + len(pads) // 2]
    return tuple(shape)


def _resize(node: Node, g: Sizes) -> Shape:
    shape = list(g.shape(node, 0))
    sizes = g.values(node, 3)
    scales = None if sizes else g.values(node, 1 if len(node.inputs) == 2 else 2)
    axes = node.ints("axes") or range(len(shape))
    if node.text("keep_aspect_ratio_policy") not in (b"", b"stretch"):
        raise NotOurs("Resize that keeps the aspect ratio")
    for axis, new in zip(axes, sizes or scales or node.floats("scales"), strict=True):
        shape[axis] = int(new) if sizes else math.floor(shape[axis] * new)
    return tuple(shape)


def _range(node: Node, g: Sizes) -> Shape:
    first, last, step = ((g.values(node, number) or [0])[0] for number in range(3))
    return (max(0, math.ceil((last - first) / step)),)


def _one_hot(node: Node, g: Sizes) -> Shape:
    shape, depth = list(g.shape(node, 0)), g.whole(node, 1)[0]
    axis = node.integer("axis", -1)
    shape.insert(axis + len(shape) + 1 if axis < 0 else axis, depth)
    return tuple(shape)


def _top_k(node: Node, g: Sizes) -> Shape:
    shape = list(g.shape(node, 0))
    shape[node.integer("axis", -1)] = g.whole(node, 1, "k")[0]
    return tuple(shape)


def _depth_to_space(node: Node, g: Sizes) -> Shape:
    images, channels, height, width = g.shape(node, 0)
    block = node.integer("blocksize", 1)
    return images, channels // block**2, height * block, width * block


def _space_to_depth(node: Node, g: Sizes) -> Shape:
    images, channels, height, width = g.shape(node, 0)
    block = node.integer("blocksize", 1)
    return images, channels * block**2, height // block, width // block


def _constant(node: Node, g: Sizes) -> Shape:
    if tensor := node.tensor("value"):
        return tensor.shape
    values = constant_of(node)
    if values is None:
        raise NotOurs("Constant that is no tensor")
    return values.shape


def _pool(node: Node, g: Sizes) -> Shape:
    data = g.shape(node, 0)
    return (*data[:2], *_windows(node, data[2:], node.ints("kernel_shape") or []))


def _global(node: Node, g: Sizes) -> Shape:
    data = g.shape(node, 0)
    return (*data[:2], *(1 for _ in data[2:]))


def _conv(weights: int) -> Rule:
    def rule(node: Node, g: Sizes) -> Shape:
        data, kernel = g.shape(node, 0), g.shape(node, weights)
        return (data[0], kernel[0], *_windows(node, data[2:], kernel[2:]))

    return rule


def _windows(node: Node, sizes: Shape, kernel: Sequence[int]) -> Shape:
    """How often a kernel fits along each axis."""
    ones = [1] * len(sizes)
    strides, spread = node.ints("strides") or ones, node.ints("dilations") or ones
    pads = node.ints("pads") or [0] * (2 * len(sizes))
    automatic, found = node.text("auto_pad"), []
    for axis, size in enumerate(sizes):
        if automatic.startswith(b"SAME"):
            found.append(-(-size // strides[axis]))
            continue
        room = size + pads[axis] + pads[axis + len(sizes)] if automatic != b"VALID" else size
        room -= (kernel[axis] - 1) * spread[axis] + 1
        steps = -(-room // strides[axis]) if node.integer("ceil_mode", 0) else room // strides[axis]
        found.append(steps + 1)
    return tuple(found)


def _conv_transpose(node: Node, g: Sizes) -> Shape:
    data, kernel = g.shape(node, 0), g.shape(node, 1)
    rank, sizes = len(data) - 2, node.ints("output_shape")
    strides, spread = (node.ints(name) or [1] * rank for name in ("strides", "dilations"))
    more, pads = node.ints("output_padding") or [0] * rank, node.ints("pads") or [0] * (2 * rank)
    if sizes is None:
        sizes = [
            strides[at] * (data[at + 2] - 1)
            + more[at]
            + (kernel[at + 2] - 1) * spread[at]
            + 1
            - (0 if node.text("auto_pad") else pads[at] + pads[at + rank])
            for at in range(rank)
        ]
    return (data[0], kernel[1] * node.integer("group", 1), *sizes)


def _matmul(right: int) -> Rule:
    def rule(node: Node, g: Sizes) -> Shape:
        a, b = g.shape(node, 0), g.shape(node, right)
        left = a if len(a) > 1 else (1, *a)
        other = b if len(b) > 1 else (*b, 1)
        found = (*broadcast(left[:-2], other[:-2]), left[-2], other[-1])
        found = found if len(b) > 1 else found[:-1]
        return found if len(a) > 1 else (*found[:-2], *found[-1:]) if len(b) > 1 else ()

    return rule


def _gemm(node: Node, g: Sizes) -> Shape:
    a, b = g.shape(node, 0), g.shape(node, 1)
    return a[1 if node.integer("transA", 0) else 0], b[0 if node.integer("transB", 0) else 1]


def _einsum(node: Node, g: Sizes) -> Shape:
    inputs, arrow, output = node.text("equation").decode("ascii").replace(" ", "").partition("->")
    if not arrow or "." in inputs:
        raise NotOurs("Einsum of implied axes")
    sizes: dict[str, int] = {}
    for letters, name in zip(inputs.split(","), node.inputs, strict=True):
        for letter, size in zip(letters, g.shapes[name], strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return tuple(sizes[letter] for letter in output)


def _grid_sample(node: Node, g: Sizes) -> Shape:
    return (*g.shape(node, 0)[:2], *g.shape(node, 1)[1:-1])


def _each(rule: Rule, operators: str) -> dict[str, Rule]:
    return dict.fromkeys(operators.split(), rule)


RULES: dict[str, Rule] = {
    **_each(
        _elementwise,
        """Add Sub Mul Div Pow Mod Max Min Mean Sum And Or Xor Equal Greater GreaterOrEqual Less
        LessOrEqual Where PRelu BitShift BitwiseAnd BitwiseOr BitwiseXor""",
    ),
    **_each(
        _same,
        """Relu Gelu Erf Exp Log Sqrt Abs Neg Sigmoid Tanh Softmax LogSoftmax Hardmax Clip Cast
        CastLike Identity Dropout HardSigmoid HardSwish Elu Selu Celu LeakyRelu Softplus Softsign
        Mish Swish ThresholdedRelu Floor Ceil Round Sign Reciprocal Sin Cos Tan Asin Acos Atan Sinh
        Cosh Asinh Acosh Atanh Not BitwiseNot IsNaN IsInf Shrink LayerNormalization
        BatchNormalization InstanceNormalization GroupNormalization RMSNormalization
        LpNormalization MeanVarianceNormalization LRN CumSum QuantizeLinear DequantizeLinear Trilu
        ScatterND ScatterElements Scatter ReverseSequence EyeLike""",
    ),
    **_each(
        _reduce,
        """ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum
        ReduceLogSumExp ReduceSumSquare""",
    ),
    **_each(_arg, "ArgMax ArgMin"),
    **_each(_pool, "AveragePool MaxPool LpPool"),
    **_each(_global, "GlobalAveragePool GlobalMaxPool GlobalLpPool"),
    **_each(_matmul(1), "MatMul MatMulInteger"),
    **_each(_conv(1), "Conv ConvInteger"),
    **_each(_resize, "Resize Upsample"),
    "QLinearMatMul": _matmul(3),
    "QLinearConv": _conv(3),
    "DynamicQuantizeLinear": _quantised,
    "Shape": _shape,
    "Size": lambda node, g: (),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "SplitToSequence": _split_to_sequence,
    "SequenceAt": _same,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": lambda node, g: g.shape(node, 1),
    "GatherND": _gather_nd,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Range": _range,
    "OneHot": _one_hot,
    "TopK": _top_k,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "NonZero": lambda node, g: (len(g.shape(node, 0)), math.prod(g.shape(node, 0))),
    "Constant": _constant,
    "ConstantOfShape": lambda node, g: tuple(g.whole(node, 0)),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "GridSample": _grid_sample,
}

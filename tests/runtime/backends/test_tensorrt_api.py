"""Every TensorRT and CUDA name in the sources is held against the APIs that exist.

tests/data/tensorrt-api-*.json were printed from the real bindings 10.16.1.11 and 11.4.0.106; the
CUDA functions are looked up in the installed `cuda.bindings`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorrt_double as doubles
from cuda_double import CudaDouble
from tensorrt_double import listing

from generalad.errors import GadError
from generalad.runtime.backends import cuda

ROOT = Path(__file__).resolve().parents[3] / "generalad"
API = {major: listing(major) for major in (10, 11)}

MODULES = ("trt", "self._trt")
OBJECTS = {
    "runtime/backends/trt_library.py": {"trt.ILogger": "ILogger"},
    "runtime/backends/trt.py": {
        "runtime": "Runtime",
        "engine": "ICudaEngine",
        "self._engine": "ICudaEngine",
        "context": "IExecutionContext",
    },
    "export/engine.py": {
        "builder": "Builder",
        "network": "INetworkDefinition",
        "config": "IBuilderConfig",
        "parser": "OnnxParser",
        "error": "ParserError",
        "profile": "IOptimizationProfile",
        "cache": "ITimingCache",
        "images": "ITensor",
        "levels": "HardwareCompatibilityLevel",
    },
}
"""In which file which variable holds an object of which class."""

RETURNS = {
    "create_network": "INetworkDefinition",
    "create_builder_config": "IBuilderConfig",
    "create_optimization_profile": "IOptimizationProfile",
    "create_timing_cache": "ITimingCache",
    "get_input": "ITensor",
    "deserialize_cuda_engine": "ICudaEngine",
    "create_execution_context": "IExecutionContext",
}
"""Methods whose result must lie in a variable of that class, so that none goes unchecked."""


def problems(source: str, objects: dict[str, str], api: dict[str, Any]) -> list[str]:
    """What `source` uses of TensorRT that `api` does not have."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found += _attribute(node, objects, api)
        elif isinstance(node, ast.Call):
            found += _call(node, objects, api)
        elif isinstance(node, ast.Assign):
            found += _assignment(node, objects)
        elif isinstance(node, ast.ClassDef):
            found += _class(node, api)
    return found


def _attribute(node: ast.Attribute, objects: dict[str, str], api: dict[str, Any]) -> list[str]:
    base, name = ast.unparse(node.value), node.attr
    if base in MODULES:
        return [] if name in api or name == "__version__" else [f"no {name} in tensorrt"]
    kind = _kind(base, objects)
    if kind is None or kind not in api:
        return []
    names = api[kind].get("enum") or api[kind]["members"]
    return [] if name in names else [f"no {name} in {kind}"]


def _kind(base: str, objects: dict[str, str]) -> str | None:
    """The class behind an expression, None if it is none of TensorRT's."""
    module, _, name = base.rpartition(".")
    return name if module in MODULES else objects.get(base)


def _call(node: ast.Call, objects: dict[str, str], api: dict[str, Any]) -> list[str]:
    if not isinstance(node.func, ast.Attribute):
        return []
    kind, name = _kind(ast.unparse(node.func.value), objects), node.func.attr
    overloads = api.get(kind or "", {}).get("members", {}).get(name, [])
    if ast.unparse(node.func.value) in MODULES:
        kind, overloads = name, api.get(name, {}).get("members", {}).get("__init__", [])
    if overloads is None:
        return [f"{kind}.{name} is no method"]
    if not overloads or any(_fits(node, overload) for overload in overloads):
        return []
    return [f"{kind}.{name} takes {overloads}, not {ast.unparse(node)}"]


def _fits(node: ast.Call, parameters: list[str]) -> bool:
    names = [name.rstrip("=") for name in parameters]
    given = [*names[: len(node.args)], *(str(keyword.arg) for keyword in node.keywords)]
    needed = {name for name in parameters if not name.endswith("=")}
    return len(node.args) <= len(names) and needed <= set(given) <= set(names)


def _assignment(node: ast.Assign, objects: dict[str, str]) -> list[str]:
    if not isinstance(node.value, ast.Call) or not isinstance(node.value.func, ast.Attribute):
        return []
    kind, target = RETURNS.get(node.value.func.attr), ast.unparse(node.targets[0])
    return [] if kind in (None, objects.get(target)) else [f"{target} is no known {kind}"]


def _class(node: ast.ClassDef, api: dict[str, Any]) -> list[str]:
    """Callbacks of a class that TensorRT calls: all of them there, parameters as TensorRT's."""
    found = []
    for base in node.bases:
        module, _, name = ast.unparse(base).rpartition(".")
        members = api.get(name, {}).get("members", {}) if module in MODULES else {}
        own = {f.name: [a.arg for a in f.args.args[1:]] for f in _methods(node)}
        for method, overloads in members.items():
            if overloads and own.get(method, []) not in overloads:
                found.append(f"{name}.{method} takes {overloads}, not {own.get(method)}")
    return found


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    return (item for item in node.body if isinstance(item, ast.FunctionDef))


@pytest.mark.parametrize("major", [10, 11])
@pytest.mark.parametrize("file", OBJECTS)
def test_every_name_exists(file: str, major: int) -> None:
    assert problems((ROOT / file).read_text(encoding="utf-8"), OBJECTS[file], API[major]) == []


@pytest.mark.parametrize("file", OBJECTS)
def test_every_declared_variable_is_used(file: str) -> None:
    tree = ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
    used = {ast.unparse(node.value) for node in tree if isinstance(node, ast.Attribute)}
    assert set(OBJECTS[file]) <= used


def test_no_other_file_uses_tensorrt() -> None:
    for file in ROOT.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        uses = any(
            isinstance(node, ast.Attribute) and ast.unparse(node.value) in MODULES
            for node in ast.walk(ast.parse(text))
        )
        assert uses == (file.relative_to(ROOT).as_posix() in OBJECTS), file


@pytest.mark.parametrize(
    ("line", "tens", "elevens"),
    [
        ("trt.Bilder(log)", 1, 1),
        ("config.set_flag(trt.BuilderFlag.FP16)", 0, 1),
        ("config.set_flag(trt.BuilderFlag.INT8)", 0, 1),
        ("trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", 0, 1),
        ("config.int8_calibrator = None", 0, 1),
        ("config.max_workspace_size = 1", 1, 1),
        ("builder.build_engine(network, config)", 1, 1),
        ("builder.build_serialized_network(network)", 1, 1),
        ("config.set_timing_cache(cache, False)", 0, 0),
        ("config.set_timing_cache(cache, ignore=False)", 1, 1),
        ("parser.parse_from_file(path, 1)", 1, 1),
        ("parser.num_errors()", 1, 1),
        ("trt.OnnxParser(network)", 1, 1),
        ("plan = config.create_timing_cache(b'')", 1, 1),
        ("self._trt.ExecutionContextAllocationStrategy.ALWAYS", 1, 1),
        ("class M(trt.IProgressMonitor):\n def step_complete(self, name, step): ...", 3, 3),
    ],
)
def test_wrong_names_are_caught(line: str, tens: int, elevens: int) -> None:
    objects = OBJECTS["export/engine.py"]
    found = [len(problems(line, objects, API[major])) for major in (10, 11)]
    assert found == [tens, elevens]


@pytest.mark.parametrize("major", [10, 11])
def test_the_double_has_the_parameters_of_the_real_classes(major: int) -> None:
    world = doubles.World(major, CudaDouble())
    world.module()
    for kind in vars(doubles).values():
        if not (isinstance(kind, type) and issubclass(kind, doubles.Listed)):
            continue
        members = API[major].get(kind._name or kind.__name__, {}).get("members", {})
        for name, method in vars(kind).items():
            if name.startswith("_"):
                continue
            assert name in members, (kind, name)
            if inspect.isfunction(method):
                given = list(inspect.signature(method).parameters)[1:]
                overloads = [[p.rstrip("=") for p in overload] for overload in members[name]]
                assert given in overloads, (kind, name)


def test_the_double_refuses_what_the_other_version_has() -> None:
    for major, there in ((10, True), (11, False)):
        trt: Any = doubles.World(major, CudaDouble()).module()
        assert hasattr(trt.BuilderFlag, "FP16") == there
        config = trt.Builder(trt.ILogger()).create_builder_config()
        if there:
            config.int8_calibrator = None
        else:
            with pytest.raises(AttributeError, match="int8_calibrator"):
                config.int8_calibrator = None


def test_cuda_functions_exist() -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    double = CudaDouble()
    source = (ROOT / "runtime/backends/cuda.py").read_text(encoding="utf-8")
    words = {str(n.value) for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)}
    attributes = {n.attr for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute)}
    names = {n for n in words | attributes if n.startswith("cuda") and n.isalnum()} - {"cuda"}
    kinds = [real, real.cudaMemcpyKind, real.cudaStreamCaptureMode]
    assert len(names) > 20
    for name in names:
        assert any(hasattr(kind, name) for kind in kinds), name
    for name in (name for name in dir(double) if name.startswith("cuda")):
        assert name in names, f"{name} is in the double only"
        expected = list(inspect.signature(getattr(real, name)).parameters)
        assert list(inspect.signature(getattr(double, name)).parameters) == expected, name


def test_without_a_driver_the_real_bindings_say_so() -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    if int(real.cudaGetDevice()[0]) == 0:
        pytest.skip("there is a graphics card")
    with pytest.raises(GadError, match=r"CUDA failed in cudaGetDevice: .* \(error \d+\)"):
        cuda.device()
    with pytest.raises(GadError, match="cudaStreamCreateWithFlags"):
        cuda.Stream()

"""The distribution: what the wheel holds, that the sdist builds one, that it works installed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An sdist of the checkout and a wheel that was built from that sdist."""
    if not (ROOT / "Makefile").exists():
        pytest.skip("runs from a checkout only")
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the installed wheel."""
    target = tmp_path_factory.mktemp("installed")
    arguments = ("--no-deps", "--no-index", "--quiet", "--target", str(target), str(built[1]))
    run("-m", "pip", "install", "--disable-pip-version-check", *arguments)
    return target


def run(*arguments: str, cwd: Path | None = None, path: Path | None = None) -> str:
    """Run this Python in a folder where the checkout is not importable by accident."""
    import os

    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    tops = {name.split("/")[0] for name in names(built[1])}
    assert {top.split("-")[0] for top in tops} == {"generalad"}
    assert not any(name.endswith((".ckpt", ".pt", ".onnx", ".pyc")) for name in names(built[1]))


def test_wheel_holds_every_tracked_file_of_the_package(built: tuple[Path, Path]) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "generalad"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    assert set(listed.stdout.split()) <= names(built[1])
    assert "generalad/model/embedded/vit_embedded.safetensors" in names(built[1])
    assert "generalad/py.typed" in names(built[1])


def test_sdist_holds_package_and_tests(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        tops = {Path(name).parts[1] for name in archive.getnames() if len(Path(name).parts) > 1}
    assert {"generalad", "tests", "pyproject.toml", "README.md", "LICENSE"} <= tops
    assert not {"export", "runtime", "cli", ".venv", "tools"} & tops


def test_base_install_needs_no_torch(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    needed = [line for line in lines if line.startswith("Requires-Dist") and "extra" not in line]
    text = " ".join(needed)
    assert "numpy" in text
    assert "opencv-python-headless" in text
    for package in ("torch", "timm", "onnx", "safetensors"):
        assert package not in text
    extras = {line.split(": ")[1] for line in lines if line.startswith("Provides-Extra")}
    expected = (
        "cpu cuda openvino int8 trt10 trt11 train streams serve sign ray remote pdf paper bench dev"
    )
    expected += " tensorboard wandb mlflow genicam basler gige modbus opcua s7"
    assert extras == set(expected.split())


def test_installed_wheel_runs(installed: Path, tmp_path: Path) -> None:
    place = run("-c", "import generalad; print(generalad.__file__)", cwd=tmp_path, path=installed)
    assert place.startswith(str(installed))
    assert run("-m", "generalad", "--version", cwd=tmp_path, path=installed).startswith("gad ")


def test_installed_wheel_holds_a_loadable_backbone(installed: Path, tmp_path: Path) -> None:
    script = (
        "from generalad.config import load_config\n"
        "from generalad.model.weights import load_backbone\n"
        "print(load_backbone(load_config('embedded'))[1])"
    )
    assert run("-c", script, cwd=tmp_path, path=installed).strip() == "embedded"

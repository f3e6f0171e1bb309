"""Log and plot in the run's folder, loggers as doubles, and what happens when one fails."""

from __future__ import annotations

import csv
import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_helpers import Capture, gad, one_line
from training_helpers import tiny_config, write_toml

from generalad import train
from generalad.errors import UsageError
from generalad.monitoring.loggers import LOGGERS
from generalad.monitoring.monitors import Monitors, monitored
from generalad.monitoring.run_log import LOG_FILE, PLOT_FILE, RunLog
from generalad.training.loop import EpochEnd

pytest_plugins = ["training_fixtures"]


def end(number: int, loss: float = 1.0, separation: float | None = 0.5) -> EpochEnd:
    return EpochEnd(number, 3, loss, 1e-3, separation)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG_FILE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_a_log_and_a_plot(parts: Path, tiny_weights: Path, tmp_path: Path) -> None:
    config = tiny_config(epochs=4, lr=1e-3, noise_std=4.0)
    trained = train(parts, tmp_path / "run", config=config, weights=tiny_weights, cache=tmp_path)
    found = rows(trained.folder)
    assert [row["epoch"] for row in found] == ["1", "2", "3", "4"]
    assert found[0]["learning_rate"] == "0.001"
    assert float(found[3]["learning_rate"]) < 1e-3
    assert all(math.isfinite(float(row["loss"])) for row in found)
    assert float(found[3]["separation"]) > float(found[0]["separation"])
    page = (trained.folder / PLOT_FILE).read_text("utf-8")
    assert page.count("<svg") == 3
    for words in ("Mean loss", "Learning rate", "Mean logit of distorted", "4 of 4", "epoch"):
        assert words in page
    assert "<script" not in page


def test_the_separation_is_that_of_the_logits() -> None:
    from generalad.model.discriminator import Discriminator
    from generalad.training.step import Step

    config = tiny_config(distortions=[], dropout=0.0)
    for by_parts in (True, False):
        torch.manual_seed(0)
        model = Discriminator(patches=16, dim=64, heads=4, hidden=32, blocks=1, dropout=0.0).train()
        cpu = torch.device("cpu")
        step = Step(model, config, cpu, dtype=torch.float32, by_parts=by_parts)
        assert step.separation() is None
        features = torch.randn(3, 16, 64)
        noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            clean, noisy = model(features), model(features + config.noise_std * noise)
        step(features, None, torch.Generator().manual_seed(1))
        expected = float(noisy.mean() - clean.mean())
        assert step.separation() == pytest.approx(expected, abs=1e-5)
        assert step.separation() is None


def test_a_log_goes_on_after_a_kill(tmp_path: Path) -> None:
    first = RunLog(tmp_path)
    for number in (1, 2, 3):
        first.epoch(end(number, loss=10.0 * number))
    # Killed before the checkpoint of epoch 3: it is trained and told again.
    again = RunLog(tmp_path)
    again.epoch(end(3, loss=7.0))
    again.close()
    assert [(row["epoch"], row["loss"]) for row in rows(tmp_path)] == [
        ("1", "10"),
        ("2", "20"),
        ("3", "7"),
    ]
    for damage in ("", "epoch,other\n1,2\n", "epoch,loss,learning_rate,separation\n1,x,2,3\n"):
        (tmp_path / LOG_FILE).write_text(damage)
        RunLog(tmp_path).epoch(end(1))
        assert len(rows(tmp_path)) == 1


@pytest.mark.parametrize("count", [1, 2, 160])
def test_the_plot_of_any_number_of_epochs(count: int, tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for number in range(1, count + 1):
        log.epoch(end(number, loss=1 / number, separation=None))
    log.close()
    page = (tmp_path / PLOT_FILE).read_text("utf-8")
    assert page.count("<svg") == 2  # nothing is known of a separation
    assert "nan" not in page.lower().replace("nanum", "")
    assert rows(tmp_path)[0]["separation"] == ""


class Double:
    """Remembers what it was called with; stands for a package or an object of it."""

    def __init__(self, calls: list[tuple[str, Any]], name: str = "", fail: str = "") -> None:
        self._calls, self._name, self._fail = calls, name, fail

    def __getattr__(self, name: str) -> Double:
        if name.startswith("__"):
            raise AttributeError(name)
        return Double(self._calls, f"{self._name}.{name}".strip("."), self._fail)

    def __call__(self, *arguments: Any, **options: Any) -> Double:
        if self._fail and self._name == self._fail:
            raise ConnectionError("no route to host\nmore lines")
        self._calls.append((self._name, (arguments, options)))
        return Double(self._calls, self._name, self._fail)


def install(monkeypatch: pytest.MonkeyPatch, name: str, fail: str = "") -> list[tuple[str, Any]]:
    """A double in place of the package of a logger."""
    calls: list[tuple[str, Any]] = []
    double = types.ModuleType(name)
    double.__spec__ = types.SimpleNamespace(name=name)  # type: ignore[assignment]
    double.__getattr__ = lambda part: getattr(Double(calls, "", fail), part)  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, name, double)
    if name == "tensorboard":
        writers = types.ModuleType("torch.utils.tensorboard")
        writers.SummaryWriter = Double(calls, "SummaryWriter", fail)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", writers)
    return calls


def watch(folder: Path, name: str, epochs: int = 2) -> list[str]:
    """Run a few epochs; returns what the log was told."""
    said: list[str] = []
    with monitored(folder, tiny_config(), log_to=[name], log=said.append) as monitors:
        for number in range(1, epochs + 1):
            monitors(end(number, loss=1 / number))
    assert len(rows(folder)) == epochs
    return said


def test_tensorboard_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install(monkeypatch, "tensorboard")
    assert watch(tmp_path, "tensorboard") == []
    scalars = [a for name, (a, _) in calls if name == "SummaryWriter.add_scalar"]
    assert scalars[:3] == [("loss", 1.0, 1), ("learning_rate", 1e-3, 1), ("separation", 0.5, 1)]
    assert [a[2] for a in scalars] == [1, 1, 1, 2, 2, 2]
    assert calls[0] == ("SummaryWriter", ((str(tmp_path / "tensorboard"),), {}))
    assert calls[-1][0] == "SummaryWriter.close"


def test_wandb_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install(monkeypatch, "wandb")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert watch(tmp_path, "wandb") == []
    (options,) = [o for name, (_, o) in calls if name == "init"]
    assert options["config"]["epochs"] == 3
    assert "mode" not in options
    logged = [(a[0]["loss"], o["step"]) for name, (a, o) in calls if name == "init.log"]
    assert logged == [(1.0, 1), (0.5, 2)]
    assert calls[-1][0] == "init.finish"
    again = install(monkeypatch, "wandb")
    watch(tmp_path, "wandb", epochs=2)
    assert [o["id"] for name, (_, o) in again if name == "init"] == [options["id"]]


def test_wandb_without_a_key_writes_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install(monkeypatch, "wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (line,) = watch(tmp_path / "run", "wandb")
    assert "no key" in line and "`wandb sync`" in line
    assert [o["mode"] for name, (_, o) in calls if name == "init"] == ["offline"]


def test_wandb_without_a_network_writes_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = install(monkeypatch, "wandb")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    reached = sys.modules["wandb"].init

    def init(**options: Any) -> Any:
        if options.get("mode") != "offline":
            raise ConnectionError("timed out\nat some length")
        return reached(**options)

    monkeypatch.setattr(sys.modules["wandb"], "init", init, raising=False)
    (line,) = watch(tmp_path, "wandb")
    assert line.startswith("warning: wandb: timed out → files in ")
    assert [name for name, _ in calls].count("init.log") == 2


def test_mlflow_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install(monkeypatch, "mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert watch(tmp_path, "mlflow") == []
    assert calls[0][0] == "set_tracking_uri"
    assert calls[0][1][0][0].startswith("sqlite:///")
    (parameters,) = [a[0] for name, (a, _) in calls if name == "log_params"]
    assert parameters["epochs"] == "3"
    logged = [(a[0]["loss"], o["step"]) for name, (a, o) in calls if name == "log_metrics"]
    assert logged == [(1.0, 1), (0.5, 2)]
    assert calls[-1][0] == "end_run"
    calls = install(monkeypatch, "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    watch(tmp_path, "mlflow")
    assert "set_tracking_uri" not in [name for name, _ in calls]


FAILURES = {
    "opening": ("mlflow", "start_run"),
    "an epoch": ("mlflow", "log_metrics"),
    "the end": ("mlflow", "end_run"),
    "tensorboard": ("tensorboard", "SummaryWriter.add_scalar"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_logger_that_fails_costs_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, call = FAILURES[case]
    calls = install(monkeypatch, name, fail=call)
    said = watch(tmp_path, name, epochs=3)
    assert said == [f"warning: {name}: no route to host; training goes on without it"]
    assert call not in [done for done, _ in calls]


@pytest.mark.parametrize("name", LOGGERS)
def test_a_logger_without_its_package_costs_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked, *more: None if asked == name else original(asked)
    )
    (line,) = watch(tmp_path, name)
    assert line.startswith(f"warning: {name}: logging to ")
    assert f"pip install 'generalad[{name}]'" in line
    assert line.endswith("training goes on without it")


def test_a_log_that_cannot_be_written_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    with monitored(tmp_path / "file", tiny_config(), log=said.append) as monitors:
        monitors(end(1))
        monitors(end(2))
    (line,) = said
    assert line.startswith("warning: log: cannot write ")
    assert line.endswith("training goes on without it")


def test_monitors_are_closed_after_an_interruption(tmp_path: Path) -> None:
    closed: list[bool] = []

    class Watcher:
        def epoch(self, end: EpochEnd) -> None:
            """Nothing."""

        def close(self) -> None:
            closed.append(True)

    monitors = Monitors({"watcher": Watcher}, print)
    monitors(end(1))
    monitors.close()
    monitors.close()
    assert closed == [True]
    with pytest.raises(KeyboardInterrupt), monitored(tmp_path, tiny_config()) as told:
        told(end(1))
        raise KeyboardInterrupt
    assert (tmp_path / PLOT_FILE).exists()


def test_log_to_on_the_command_line(
    parts: Path,
    tiny_weights: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = install(monkeypatch, "tensorboard", fail="SummaryWriter.flush")
    config = write_toml(tmp_path / "tiny.toml")
    words = ["train", parts, "--out", tmp_path / "run", "--config", config]
    words += ["--weights", tiny_weights, "--cache", tmp_path / "cache"]
    code, _, err = gad(capsys, *words, "--log-to", "tensorboard")
    assert code == 0
    assert "warning: tensorboard: no route to host; training goes on" in " ".join(err.split())
    assert (tmp_path / "run" / "detector.json").exists()
    assert calls
    code, _, err = gad(capsys, *words, "--log-to", "tensorbord")
    assert code == 2
    assert "did you mean tensorboard?" in one_line(err)
    with pytest.raises(UsageError, match="--log-to x: expected one of tensorboard, wandb, mlflow"):
        train(parts, tmp_path / "other", config=tiny_config(), log_to=["x"])
    assert not (tmp_path / "other").exists()


def test_the_baselines_are_watched_too(parts: Path, tiny_weights: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"weights": tiny_weights, "cache": tmp_path / "cache"}
    config = tiny_config(method="simplenet", epochs=6, lr=1e-2, noise_std=4.0, distortions=[])
    found = rows(train(parts, tmp_path / "simplenet", config=config, **options).folder)
    assert float(found[5]["separation"]) > max(0.1, float(found[0]["separation"]))
    config = tiny_config(method="kdad", epochs=2, distortions=[])
    found = rows(train(parts, tmp_path / "kdad", config=config, **options).folder)
    assert [row["separation"] for row in found] == ["", ""]  # no patches are distorted there
    assert float(found[1]["loss"]) > 0


def test_a_method_without_epochs_tells_of_steps(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from generalad.training import residual

    monkeypatch.setattr(residual, "STEPS", 40)
    trained = train(parts, tmp_path / "run", image_size=64, cache=tmp_path, preset="edge")
    with (trained.folder / LOG_FILE).open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["step"] for row in found] == ["20", "40"]
    assert float(found[1]["separation"]) > 0
    assert "40 of 40" in (trained.folder / PLOT_FILE).read_text("utf-8")

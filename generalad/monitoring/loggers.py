"""TensorBoard, Weights & Biases and MLflow, each behind a few lines.

None is needed to train: each comes with an extra of its name, and one that is not installed or
cannot reach its server costs a line (see `monitors.py`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from generalad.config import Config
from generalad.errors import require_extra
from generalad.files import atomic_write, make_folder
from generalad.progress import Log
from generalad.training.loop import EpochEnd

PATIENCE_S = 20
"""Seconds that a logger's server is waited for."""


class TensorBoardLogger:
    """Event files in the run's folder: `tensorboard --logdir DIR`."""

    def __init__(self, folder: Path, config: Config, log: Log) -> None:
        require_extra("logging to TensorBoard", "tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))
        settings = "\n".join(f"    {key} = {value}" for key, value in config.to_dict().items())
        self._writer.add_text("settings", settings)

    def epoch(self, end: EpochEnd) -> None:
        """See `Monitor`."""
        for name, value in values_of(end).items():
            self._writer.add_scalar(name, value, end.number)
        self._writer.flush()

    def close(self) -> None:
        """See `Monitor`."""
        self._writer.close()


class WandbLogger:
    """A run of Weights & Biases; files in the run's folder where its server is out of reach.

    `WANDB_MODE`, `WANDB_PROJECT` and the like are minded.
    """

    def __init__(self, folder: Path, config: Config, log: Log) -> None:
        require_extra("logging to Weights & Biases", "wandb", "wandb")
        import wandb

        options: dict[str, Any] = {
            "project": os.environ.get("WANDB_PROJECT", "generalad"),
            "name": folder.resolve().name,
            "id": _id_of(make_folder(folder) / ".wandb-id"),
            "resume": "allow",
            "dir": str(folder),
            "config": config.to_dict(),
            "settings": wandb.Settings(silent=True, init_timeout=PATIENCE_S),
        }
        if "WANDB_MODE" not in os.environ and not (os.environ.get("WANDB_API_KEY") or _logged_in()):
            options["mode"] = "offline"
            log(f"wandb: no key → files in {folder / 'wandb'}, for `wandb sync`")
        try:
            self._run: Any = wandb.init(**options)
        except Exception as error:  # of any kind where the network fails
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            log(f"warning: wandb: {reason} → files in {folder / 'wandb'}, for `wandb sync`")
            self._run = wandb.init(**{**options, "mode": "offline"})

    def epoch(self, end: EpochEnd) -> None:
        """See `Monitor`."""
        self._run.log(values_of(end), step=end.number)

    def close(self) -> None:
        """See `Monitor`."""
        self._run.finish()


class MLflowLogger:
    """A run of MLflow, at `MLFLOW_TRACKING_URI` or in the run's folder."""

    def __init__(self, folder: Path, config: Config, log: Log) -> None:
        require_extra("logging to MLflow", "mlflow", "mlflow")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE_S))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # its own rule waits minutes
        import mlflow

        self._mlflow: Any = mlflow
        if "MLFLOW_TRACKING_URI" not in os.environ:
            mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "generalad"))
        mlflow.start_run(run_name=folder.resolve().name)
        mlflow.log_params({key: str(value) for key, value in config.to_dict().items()})

    def epoch(self, end: EpochEnd) -> None:
        """See `Monitor`."""
        self._mlflow.log_metrics(values_of(end), step=end.number)

    def close(self) -> None:
        """See `Monitor`."""
        self._mlflow.end_run()


LOGGERS: dict[str, Callable[[Path, Config, Log], Any]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MLflowLogger,
}


def values_of(end: EpochEnd) -> dict[str, float]:
    """What is known of an epoch, by name."""
    found = {"loss": end.loss, "learning_rate": end.lr}
    return found if end.separation is None else {**found, "separation": end.separation}


def _id_of(file: Path) -> str:
    """A name that a run keeps, so that one that goes on after a kill does so there, too."""
    if not file.exists():
        with atomic_write(file) as path:
            path.write_text(secrets.token_hex(8))
    return file.read_text().strip()


def _logged_in() -> bool:
    """Whether `wandb login` has left a key on this machine."""
    try:
        return "api.wandb.ai" in (Path.home() / ".netrc").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, RuntimeError):
        return False

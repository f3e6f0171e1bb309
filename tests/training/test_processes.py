"""Two processes train one detector as one does: features, losses, weights, and what each writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_helpers
from ports import free_port
from safetensors.torch import load_file
from training_helpers import environment, start_python, tiny_config

from generalad.errors import UsageError
from generalad.model.discriminator import Discriminator
from generalad.training import step as step_module
from generalad.training.processes import ALONE, Processes, joined

pytest_plugins = ["training_fixtures"]

TRAIN = """
import json, sys
from pathlib import Path
from generalad import train
from generalad.training import step
from training_helpers import tiny_config
parts, weights, folder = map(Path, sys.argv[1:4])
step.PATCHES = 32  # two images a part
said = []
trained = train(
    parts, folder / "run", config=tiny_config(**json.loads(sys.argv[4])), weights=weights,
    cache=folder / "cache", device="cpu", progress=lambda *news: said.append(news), log=said.append)
print(json.dumps({"said": said, "images": trained.spec.training_set.images}))
"""


def start_all(count: int, parts: Path, weights: Path, folder: Path, **changes: Any) -> list[Any]:
    """What each of `count` processes prints, as `torchrun` would start them."""
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(Path(training_helpers.__file__).parent)
    port = str(free_port())
    processes = []
    for rank in range(count):
        if count > 1:
            env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        words = (str(parts), str(weights), str(folder), json.dumps(changes))
        processes.append(start_python(TRAIN, *words, env=dict(env)))
    ends = [process.communicate(timeout=300) for process in processes]
    assert not any(process.returncode for process in processes), ends
    return [json.loads(out.splitlines()[-1]) for out, _ in ends]


def test_two_processes_do_as_one(parts: Path, tiny_weights: Path, tmp_path: Path) -> None:
    changes = {"dropout": 0.2, "batch_size": 5, "epochs": 4, "distortions": ["attn"]}
    (alone,) = start_all(1, parts, tiny_weights, tmp_path / "one", **changes)
    first, second = start_all(2, parts, tiny_weights, tmp_path / "two", **changes)
    assert ["features", 13, 13] in alone["said"] and ["features", 13, 13] in first["said"]
    assert second == {"said": [], "images": 13}

    runs = [tmp_path / name / "run" for name in ("one", "two")]
    losses = [json.loads((run / "history.json").read_text())["loss"] for run in runs]
    assert len(losses[0]) == 4
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    weights = [load_file(run / "trained.safetensors") for run in runs]
    for name, value in weights[0].items():
        other = weights[1][name]
        if name.endswith("attention.in_proj.bias"):
            # The key's part adds the same to all scores of a softmax: its gradient is rounding
            # alone, and Adam makes steps of that.
            value, other = (
                torch.cat([part.chunk(3)[0], part.chunk(3)[2]]) for part in (value, other)
            )
        torch.testing.assert_close(other, value, rtol=1e-3, atol=2e-5)
    stores = [next((tmp_path / name / "cache" / "features").iterdir()) for name in ("one", "two")]
    for array in ("features.npy", "attention.npy"):
        one, two = (np.load(store / array) for store in stores)
        np.testing.assert_array_equal(one, two)
    scores = [json.loads((run / "detector.json").read_text())["spec"] for run in runs]
    assert scores[1]["thresholds"]["image"] == pytest.approx(
        scores[0]["thresholds"]["image"], abs=1e-4
    )
    rows = [(run / "training.csv").read_text().splitlines() for run in runs]
    assert [len(lines) for lines in rows] == [5, 5]


def test_a_batch_smaller_than_the_processes(
    parts: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    changes = {"batch_size": 1, "epochs": 1, "distortions": [], "epoch_images": 2}
    start_all(1, parts, tiny_weights, tmp_path / "one", **changes)
    start_all(3, parts, tiny_weights, tmp_path / "three", **changes)
    losses = [
        json.loads((tmp_path / name / "run" / "history.json").read_text())["loss"]
        for name in ("one", "three")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


class Silent(Processes):
    """Adds nothing up."""

    def add_up(self, tensors: Any) -> None:
        """Leave each tensor as it is."""


@pytest.mark.parametrize("by_parts", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_shares_of_a_step_add_up_to_the_whole(
    by_parts: bool, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dropout and not by_parts:
        pytest.skip("on a GPU each process drops out on its own")
    monkeypatch.setattr(step_module, "PATCHES", 32)
    torch.manual_seed(0)
    model = Discriminator(patches=16, dim=8, heads=2, hidden=8, blocks=1, dropout=dropout).train()
    features, cpu = torch.randn(5, 16, 8), torch.device("cpu")

    def gradients(*shares: Processes) -> tuple[list[torch.Tensor], float]:
        model.zero_grad()
        losses = []
        for share in shares:
            torch.manual_seed(1)
            options: dict[str, Any] = {"dtype": torch.float32, "by_parts": by_parts}
            step = step_module.Step(model, tiny_config(), cpu, processes=share, **options)
            losses.append(float(step(features, None, torch.Generator().manual_seed(2))))
        return [p.grad.clone() for p in model.parameters() if p.grad is not None], sum(losses)

    whole, loss = gradients(ALONE)
    for count in (2, 3, 7):  # seven: some have nothing to do
        shares, added = gradients(*(Silent(rank, count) for rank in range(count)))
        assert added == pytest.approx(loss, rel=1e-5)
        for one, other in zip(whole, shares, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)


def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as (processes, device):
        assert (processes, device) == (ALONE, "cpu")
    assert ALONE.first and not Processes(1, 2).first
    assert ALONE.share(3) == 3
    value = torch.ones(2)
    ALONE.add_up([value])
    ALONE.wait()
    assert value.tolist() == [1, 1]


def test_other_methods_train_in_one_process(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from generalad.training.train import train_detector

    config = tiny_config(method="gaussian")
    with pytest.raises(UsageError, match="gaussian trains in one process, found 2"):
        train_detector(parts, tmp_path / "run", config, processes=Processes(0, 2))
    assert not (tmp_path / "run").exists()

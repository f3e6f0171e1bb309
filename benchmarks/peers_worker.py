"""What `peers.py` runs in the environment with anomalib: `make` trains and exports, `time` times.

python peers_worker.py make FOLDER EPOCHS ANSWER
python peers_worker.py time FOLDER ROUNDS ANSWER
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = 224
BACKBONE, LAYER = "vit_small_patch14_dinov2.lvd142m", 12
IMAGES, JPEGS = 64, 120
PAUSE = 0.25
"""Seconds: threads of the run before may wait actively for 0.2."""


def make(folder: Path, epochs: int) -> dict[str, Any]:
    """Both detectors, their files, and the seconds that training took."""
    import torch
    from safetensors.torch import save_file

    import generalad
    from generalad.model.weights import build_body
    from generalad.preprocess import read_image, resize
    from generalad.synth import write_dataset

    torch.manual_seed(0)
    body = build_body(BACKBONE, (SIZE, SIZE))
    for name, parameter in body.named_parameters():
        if name.endswith(".gamma"):  # layer scales start at 1e-5: blocks would have no effect
            parameter.data.fill_(0.2)
    weights = folder / "random.safetensors"
    save_file({k: v.contiguous() for k, v in body.state_dict().items()}, weights)
    data = write_dataset(
        folder / "data", categories=["washer"], train=IMAGES, test_good=8, per_defect=2, seed=11
    )
    parts = data / "washer"
    theirs = fit_anomalib(parts, folder, body.state_dict(), epochs)
    began = time.perf_counter()
    config = generalad.load_config("small").replaced({"image_size": [SIZE, SIZE], "epochs": epochs})
    trained = generalad.train(
        parts, folder / "run", config=config, weights=weights, cache=folder / "cache"
    )
    ours = time.perf_counter() - began
    notes = []
    for format, precision in (
        *(("onnx", "fp32"), ("openvino", "fp32")),
        *(("openvino", "fp16"), ("openvino", "int8")),
    ):
        try:
            done = generalad.export(trained, format=format, precision=precision)
            half = done.half.in_words() if done.half else done.not_verified
            notes.append(f"{done.path.name}: {done.name}{half and '; ' + half}")
        except generalad.GadError as error:
            notes.append(f"{format} {precision}: {error.message.splitlines()[0]}")
    (folder / "jpegs").mkdir(exist_ok=True)
    source = sorted((parts / "train" / "good").iterdir())
    for index in range(JPEGS):
        image = resize(read_image(source[index % len(source)]), (1080, 1920))
        cv2.imwrite(str(folder / "jpegs" / f"{index:03d}.jpg"), image)
    version = importlib.metadata.version
    return {
        "anomalib": version("anomalib"),
        "generalad": generalad.__version__,
        "libraries": ", ".join(f"{n} {version(n)}" for n in ("torch", "openvino", "onnxruntime")),
        "images": IMAGES,
        "epochs": epochs,
        "theirs": theirs,
        "ours": ours,
        "notes": notes,
    }


def fit_anomalib(parts: Path, folder: Path, weights: dict[str, Any], epochs: int) -> float:
    """Train and export anomalib's GeneralAD; returns the seconds of its fit."""
    from anomalib.data import Folder
    from anomalib.deploy import ExportType
    from anomalib.engine import Engine
    from anomalib.models import GeneralAD

    defects = [path.name for path in (parts / "test").iterdir() if path.name != "good"]
    data = Folder(
        name="washer",
        root=parts,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir=[f"test/{name}" for name in defects],
        train_batch_size=8,
        eval_batch_size=8,
        num_workers=0,
    )
    model = GeneralAD(
        backbone=BACKBONE,
        layers=(LAYER,),
        hidden_dim=2048,
        dsc_heads=4,
        top_k=10,
        epochs=epochs,
        pre_trained=False,
        pre_processor=GeneralAD.configure_pre_processor((SIZE, SIZE)),
    )
    model.model.feature_extractor.pretrained_model.load_state_dict(weights)
    engine = Engine(max_epochs=epochs, accelerator="cpu", default_root_dir=folder / "anomalib",
                    enable_progress_bar=False, logger=False)  # fmt: skip
    began = time.perf_counter()
    engine.fit(model=model, datamodule=data)
    seconds = time.perf_counter() - began
    for kind in (ExportType.ONNX, ExportType.OPENVINO):
        engine.export(
            model=model, export_type=kind, export_root=folder / "anomalib", input_size=(SIZE, SIZE)
        )
    return seconds


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """The networks, the folder and the commands."""
    import openvino

    from generalad.runtime.backends.ov import half_units

    with contextlib.ExitStack() as stack:
        runs, ran = networks(folder, stack)
        times = {str(batch): in_turns(runs, batch, rounds) for batch in (1, 8)}
    return {
        "units": half_units(openvino.Core()),
        "ran": ran,
        "network": times,
        "folder": folders(folder, max(3, rounds // 8)),
        "jpegs": JPEGS,
        "command": commands(folder),
    }


def found(folder: Path, suffix: str) -> Path:
    """The file of anomalib with a suffix."""
    (path,) = (folder / "anomalib").rglob(f"*{suffix}")
    return path


def networks(
    folder: Path, stack: contextlib.ExitStack
) -> tuple[dict[str, Callable[[int], Callable[[], Any]]], dict[str, str]]:
    """What runs each file on a batch, by name; and names with what really computes it."""
    import onnxruntime
    from anomalib.deploy import OpenVINOInferencer

    from generalad.runtime import open_session

    rng = np.random.default_rng(0)
    pixels = {n: rng.integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8) for n in (1, 8)}
    floats = {
        n: np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32) / 255
        for n, x in pixels.items()
    }
    session = onnxruntime.InferenceSession(
        found(folder, ".onnx"), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    model = OpenVINOInferencer(found(folder, ".xml"), device="CPU").model
    request = model.create_infer_request()
    used = model.get_property("INFERENCE_PRECISION_HINT").to_string()
    runs: dict[str, Callable[[int], Callable[[], Any]]] = {
        "anomalib ONNX": lambda n: partial(session.run, None, {name: floats[n]}),
        "anomalib OpenVINO": lambda n: partial(request.infer, {0: floats[n]}),
    }
    ran = {"anomalib OpenVINO": f"anomalib OpenVINO, {used}"}
    files = {
        "ONNX": "model.onnx",
        "OpenVINO": "model.xml",
        "OpenVINO --fp16": "model-fp16.xml",
        "OpenVINO --int8": "model-int8.xml",
    }
    for label, file in files.items():
        path = folder / "run" / file
        if not path.exists():
            continue
        opened = stack.enter_context(open_session(path, spinning=True))
        runs[f"ours {label}"] = lambda n, opened=opened: partial(opened.run, pixels[n])  # type: ignore[misc]
        ran[f"ours {label}"] = f"ours {label}, {opened.backend.split(', ', 2)[-1]}"
    return runs, ran


def in_turns(
    runs: dict[str, Callable[[int], Callable[[], Any]]], batch: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of one run each, in turns, the order reversed in every other round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds if batch == 1 else max(6, rounds // 3)):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            run = runs[name](batch)
            time.sleep(PAUSE)
            run()
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def folders(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Images a second from JPEG to decision, each over the whole folder, in turns."""
    from anomalib.data.utils.image import read_image as read
    from anomalib.deploy import OpenVINOInferencer

    import generalad

    paths = sorted((folder / "jpegs").iterdir())
    inferencer = OpenVINOInferencer(found(folder, ".xml"), device="CPU")

    def theirs() -> None:
        for path in paths:  # its graph takes images of its own size only
            inferencer.predict(cv2.resize(read(path), (SIZE, SIZE)))

    def ours(artifact: Path) -> None:
        generalad.infer(artifact, [str(folder / "jpegs")], batch_size=1)

    ways: dict[str, Callable[[], None]] = {"anomalib OpenVINOInferencer": theirs}
    for file in ("model.onnx", "model.xml", "model-fp16.xml", "model-int8.xml"):
        if (folder / "run" / file).exists():
            ways[f"ours {file}"] = partial(ours, folder / "run" / file)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            rates[name].append(len(paths) / (time.perf_counter() - began))
    return rates


def commands(folder: Path) -> dict[str, float]:
    """Seconds of a whole process on one image, the faster of two."""
    image = str(folder / "jpegs" / "000.jpg")
    model = str(found(folder, ".xml"))
    theirs = (
        "import cv2; from anomalib.data.utils.image import read_image;"
        "from anomalib.deploy import OpenVINOInferencer as Inferencer;"
        f"image = cv2.resize(read_image({image!r}), ({SIZE}, {SIZE}));"
        f"Inferencer({model!r}, 'CPU').predict(image)"
    )
    ours = [
        *("-c", "from generalad.cli import main; main()"),
        *("infer", str(folder / "run" / "model.xml"), image),
    ]
    found_: dict[str, float] = {}
    for name, words in (("anomalib's inferencer", ["-c", theirs]), ("gad infer", ours)):
        times = []
        for _ in range(2):
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            times.append(time.perf_counter() - began)
        found_[name] = min(times)
    return found_


@contextlib.contextmanager
def to_stderr() -> Iterator[None]:
    """What libraries print is none of the answer."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


if __name__ == "__main__":
    task, place, number, answer = sys.argv[1:]
    with to_stderr():
        result = {"make": make, "time": measure}[task](Path(place), int(number))
    Path(answer).write_text(json.dumps(result), encoding="utf-8")

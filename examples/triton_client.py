"""Ask a Triton server that serves an exported detector.

gad export model.onnx --format triton --out repository
tritonserver --model-repository=repository            # in NVIDIA's container
pip install 'tritonclient[http]' generalad
python triton_client.py localhost:8000 model part.png
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from generalad.preprocess import read_image, resize


def inputs(image: np.ndarray[Any, Any], size: tuple[int, int]) -> list[Any]:
    """One image (H, W, 3) uint8 RGB as the request that the network takes."""
    from tritonclient.http import InferInput

    pixels = np.ascontiguousarray(resize(image, size))[np.newaxis]
    found = InferInput("images", list(pixels.shape), "UINT8")
    found.set_data_from_numpy(pixels)
    return [found]


def main(address: str, model: str, path: str) -> None:
    """Print score and decision of an image."""
    from tritonclient.http import InferenceServerClient

    with InferenceServerClient(address) as client:
        config = client.get_model_config(model)
        height, width, _ = config["input"][0]["dims"][-3:]
        said = {key: value["string_value"] for key, value in config["parameters"].items()}
        answer = client.infer(model, inputs(read_image(path), (height, width)))
    score = float(answer.as_numpy("scores").ravel()[0])
    anomalous = score >= float(said["generalad.threshold"])
    print(f"{path}: {'anomalous' if anomalous else 'normal'}, score {score:.4g}")


if __name__ == "__main__":
    main(*sys.argv[1:4])

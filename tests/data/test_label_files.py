"""Good images that a labelling tool's file says something is marked in."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoders import pillow

from generalad.data.dataset import open_dataset
from generalad.data.label_files import marked_images
from generalad.errors import DataError

PIXELS = np.arange(48, dtype=np.uint8).reshape(6, 8)
LABELME = {"shapes": [{"label": "scratch", "points": [[1, 2], [3, 4]]}], "imagePath": "2.png"}
COCO: dict[str, Any] = {
    "images": [{"id": number, "file_name": f"{number}.png"} for number in range(4)],
    "annotations": [{"image_id": 2, "category_id": 5, "bbox": [1, 1, 2, 2]}],
    "categories": [{"id": 5, "name": "scratch"}],
}
CVAT = '<annotations><image id="0" name="{}.png" width="8"><box label="cut"/></image></annotations>'
VIA = {f"{number}.png9": {"filename": f"{number}.png", "regions": []} for number in range(4)}
STUDIO = [
    {"data": {"image": f"/data/upload/1/0a1b2c3d-{number}.png"}, "annotations": [{"result": found}]}
    for number, found in ((1, []), (2, [{"type": "brush"}]))
]
VERTEX = {"imageGcsUri": "gs://x/2.png", "classificationAnnotation": {"displayName": "cut"}}


def put(root: Path, *names: str) -> None:
    """Different small images."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pillow(PIXELS + np.uint8(number), "PNG"))


FILES = {
    "LabelMe": ("2.json", json.dumps(LABELME)),
    "Pascal VOC": ("2.xml", "<annotation><object><name>cut</name></object></annotation>"),
    "YOLO": ("2.txt", "0 0.5 0.5 0.1 0.1\n1 0.2 0.2 1e-3 0.1"),
    "YOLO, polygons, in a folder": ("labels/2.txt", "0 0.5 0.5 0.1 0.1 0.3 0.7\n"),
    "Supervisely": ("ann/2.png.json", json.dumps({"objects": [{"classTitle": "cut"}]})),
    "COCO": ("_annotations.coco.json", json.dumps(COCO)),
    "VIA": ("via.json", json.dumps(VIA | {"2": {"filename": "2.png", "regions": [{"x": 1}]}})),
    "CVAT": ("annotations.xml", CVAT.format("images/2")),
    "Label Studio": ("result.json", json.dumps(STUDIO)),
    "CreateML": ("x.json", json.dumps([{"image": "2.png", "annotations": [{"label": "cut"}]}])),
    "Vertex AI": (
        "x.jsonl",
        f"{json.dumps({**VERTEX, 'imageGcsUri': 'gs://x/9.png'})}\n{json.dumps(VERTEX)}\n",
    ),
    "Roboflow": ("_classes.csv", "filename, good, cut\n1.png, 1, 0\n2.png, 0, 1\n3.png, 1, 0\n"),
    "boxes in a table": ("x.csv", "filename,xmin,ymin,xmax,ymax\n2.png,1,1,2,2\n"),
    "labels in a table": ("x.csv", "\ufeffBild;Urteil\r\n1.png;i.O.\r\n2.png;n.i.O.\r\n"),
    "numbers of classes": ("x.csv", "image,label\n0.png,0\n1.png,0\n2.png,3\n3.png,0\n"),
    "tabs": ("x.tsv", "name\tresult\nC:\\a\\1.png\tOK\nC:\\a\\2.png\tNG\n"),
    "a list": ("train.txt", "images/1.png 0\nimages/2.png 1\n"),
}


@pytest.mark.parametrize("tool", FILES)
@pytest.mark.parametrize("layout", ["plain", "good", "class folder"])
def test_marked_images_are_not_learned(tmp_path: Path, tool: str, layout: str) -> None:
    folder = {"plain": "", "good": "good/", "class folder": "train/good/"}[layout]
    put(tmp_path, *(f"{folder}{number}.png" for number in range(4)))
    name, text = FILES[tool]
    beside = folder if layout != "good" else ""
    file = tmp_path / beside / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="1 of 4 images to learn from are labelled") as raised:
        open_dataset(tmp_path)
    assert f"{folder}2.png in {beside}{name}" in raised.value.message
    assert "--all-good" in raised.value.remedy
    assert len(open_dataset(tmp_path, all_good=True).train) == 4


NO_MARKS = {
    "nothing marked": ("a.json", json.dumps({**COCO, "annotations": []})),
    "marked as good": (
        "a.json",
        json.dumps({**COCO, "categories": [{"id": 5, "name": "OK"}]}),
    ),
    "all good": ("a.csv", "image,label\n1.png,good\n2.png,OK\n"),
    "of one kind": ("a.csv", "image,label\n1.png,washer\n2.png,washer\n"),
    "what a camera writes": ("a.csv", "file,exposure,flash\n1.png,8.5,0\n2.png,9.5,1\n3.png,7,1\n"),
    "times in a list": ("a.txt", "1.png 20241128\n2.png 20241129\n3.png 20241130\n"),
    "of other images": ("a.csv", "image,label\n7.png,OK\n8.png,NG\n"),
    "no JSON": ("a.json", "{" * 9),
    "nested JSON": ("a.json", "[" * 99_999),
    "settings": ("a.json", json.dumps({"exposure": 4, "objects": 3, "regions": []})),
    "prose": ("a.txt", "1.png and 2.png are new, 3.png is from May\n"),
}


@pytest.mark.parametrize("kind", NO_MARKS)
def test_files_that_mark_nothing_do_not_count(tmp_path: Path, kind: str) -> None:
    put(tmp_path, *(f"{number}.png" for number in range(4)))
    name, text = NO_MARKS[kind]
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert len(open_dataset(tmp_path).train) == 4


def test_marks_of_defective_images_of_the_same_name_do_not_count(tmp_path: Path) -> None:
    put(tmp_path, "good/1.png", "good/2.png", "good/3.png", "bad/cut/2.png")
    (tmp_path / "bad/cut/2.json").write_text(json.dumps(LABELME))
    (tmp_path / "coco.json").write_text(json.dumps(COCO))
    (tmp_path / "all.csv").write_text("image,label\ngood/2.png,good\nbad/cut/2.png,cut\n")
    assert {sample.label for sample in open_dataset(tmp_path).test} == {"good", "cut"}


@pytest.mark.parametrize("tool", FILES)
def test_damaged_files_are_no_tracebacks(tmp_path: Path, tool: str) -> None:
    name, text = FILES[tool]
    good = [Path(f"{number}.png") for number in range(4)]
    rng = random.Random(tool)
    for _ in range(40):
        data = bytearray(text.encode())
        for _ in range(rng.randint(1, 6)):
            place = rng.randrange(len(data) - 1)
            data[place : place + rng.randint(0, 4)] = rng.choice(
                [b"", b"\0", b"[", b'"', b",", b"9"]
            )
        (tmp_path / Path(name).name).write_bytes(data)
        assert marked_images(tmp_path, good, (), [Path(Path(name).name)]).keys() <= set(good)

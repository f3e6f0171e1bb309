"""Small trees of every data set layout, made of drawn images.

`TREES` has a function for each; `tree(key, folder)` writes one and returns the folder to open. Each
class has `TRAIN` training images and `TEST` of each kind in the test, `CALIBRATION` where the set
has a validation part. Good images are noise around a grey level of the class; defects are bright
squares, marked in the masks.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

TRAIN, CALIBRATION, TEST = 6, 3, 2
SIDE = 24
Image = NDArray[np.uint8]


class Painter:
    """Draws images that all differ."""

    def __init__(self, seed: int = 0, side: int = SIDE) -> None:
        self._rng = np.random.default_rng(seed)
        self.side = side

    def image(self, level: int = 100, *, defect: bool = False) -> Image:
        """(side, side, 3) uint8."""
        noise = self._rng.normal(level, 8, (self.side, self.side, 3))
        image = np.clip(noise, 0, 255).astype(np.uint8)
        if defect:
            image[self._square()] = 250
        return image

    def mask(self, value: int = 255) -> Image:
        """(side, side) uint8, the defect marked by `value`."""
        mask = np.zeros((self.side, self.side), np.uint8)
        mask[self._square()] = value
        return mask

    def _square(self) -> tuple[slice, slice]:
        return slice(self.side // 4, self.side // 2), slice(self.side // 4, self.side // 2)


def put(path: Path, image: Image) -> Path:
    """Write an image in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def class_folders(root: Path, classes: tuple[str, ...], defect: str = "cut") -> Path:
    """MVTec AD and MPDD."""
    draw = Painter()
    for level, name in enumerate(classes, start=3):
        for number in range(TRAIN):
            put(root / name / f"train/good/{number:03}.png", draw.image(20 * level))
        for number in range(TEST):
            put(root / name / f"test/good/{number:03}.png", draw.image(20 * level))
            put(root / name / f"test/{defect}/{number:03}.png", draw.image(20 * level, defect=True))
            put(root / name / f"ground_truth/{defect}/{number:03}_mask.png", draw.mask())
    return root


def mvtec_ad(folder: Path) -> Path:
    """Two classes."""
    return class_folders(folder / "parts", ("bottle", "cable"))


def mpdd(folder: Path) -> Path:
    """Two classes."""
    return class_folders(folder / "metal", ("connector", "tubes"), "parts_mismatch")


def mvtec_loco(folder: Path) -> Path:
    """One class, a validation part, two masks an image and saturation thresholds."""
    draw, root = Painter(), folder / "logical"
    name = root / "pushpins"
    for number in range(TRAIN):
        put(name / f"train/good/{number:03}.png", draw.image())
    for number in range(CALIBRATION):
        put(name / f"validation/good/{number:03}.png", draw.image())
    for number in range(TEST):
        put(name / f"test/good/{number:03}.png", draw.image())
        for kind, value in (("logical_anomalies", 254), ("structural_anomalies", 255)):
            put(name / f"test/{kind}/{number:03}.png", draw.image(defect=True))
            put(name / f"ground_truth/{kind}/{number:03}/000.png", draw.mask(value))
            other = np.zeros((draw.side, draw.side), np.uint8)
            other[-3:, -3:] = value
            put(name / f"ground_truth/{kind}/{number:03}/001.png", other)
    entries = [
        ("missing_pushpin", 254, 12, False),
        ("broken", 255, 1.0, True),
    ]
    keys = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")
    text = json.dumps([dict(zip(keys, entry, strict=True)) for entry in entries])
    (name / "defects_config.json").write_text(text)
    return root


def visa(folder: Path) -> Path:
    """Two classes with the official split, and an image that it does not name."""
    draw, root = Painter(), folder / "spot"
    lines = ["object,split,label,image,mask"]
    for name in ("candle", "pcb1"):
        for number in range(TRAIN + TEST):
            image = put(root / name / f"Data/Images/Normal/{number:04}.JPG", draw.image())
            part = "train" if number < TRAIN else "test"
            lines.append(f"{name},{part},normal,{image.relative_to(root).as_posix()},")
        for number in range(TEST):
            path = root / name / f"Data/Images/Anomaly/{number:03}.JPG"
            mask = root / name / f"Data/Masks/Anomaly/{number:03}.png"
            image = put(path, draw.image(defect=True))
            put(mask, draw.mask(1))
            both = (image.relative_to(root).as_posix(), mask.relative_to(root).as_posix())
            lines.append(f"{name},test,anomaly,{','.join(both)}")
    put(root / "candle/Data/Images/Normal/9999.JPG", draw.image())
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(lines) + "\n")
    return root


def mvtec_ad_2(folder: Path) -> Path:
    """One class, with the public test part and two without labels."""
    draw, root = Painter(), folder / "advanced"
    name = root / "vial"
    for number in range(TRAIN):
        put(name / f"train/good/{number:03}_regular.png", draw.image())
    for number in range(CALIBRATION):
        put(name / f"validation/good/{number:03}_regular.png", draw.image())
    for number in range(TEST):
        put(name / f"test_public/good/{number:03}_regular.png", draw.image())
        put(name / f"test_public/bad/{number:03}_regular.png", draw.image(defect=True))
        put(name / f"test_public/ground_truth/bad/{number:03}_regular_mask.png", draw.mask())
        put(name / f"test_private/{number:03}_regular.png", draw.image())
        put(name / f"test_private_mixed/{number:03}_mixed.png", draw.image())
    return root


def real_iad(folder: Path) -> Path:
    """One class, two views an object, split files of all views and of one."""
    draw, root = Painter(), folder / "views"
    name = "audiojack"
    content: dict[str, list[dict[str, str | None]]] = {"train": [], "test": []}

    def add(part: str, kind: str, number: int) -> None:
        for view in ("C1", "C2"):
            upper = "OK" if kind == "OK" else f"NG/{kind}"
            base = f"{upper}/S{number:04}/{name}_{number:04}_{upper[:2]}_{view}"
            defect = kind != "OK" and view == "C1"  # not seen from the other side
            put(root / "realiad_1024" / name / f"{base}.jpg", draw.image(defect=defect))
            mask = (
                put(root / "realiad_1024" / name / f"{base}.png", draw.mask()) if defect else None
            )
            content[part].append(
                {
                    "category": name,
                    "anomaly_class": kind if defect else "OK",
                    "image_path": f"{base}.jpg",
                    "mask_path": None if mask is None else f"{base}.png",
                }
            )

    for number in range(TRAIN):
        add("train", "OK", number)
    for number in range(TRAIN, TRAIN + TEST):
        add("test", "OK", number)
        add("test", "AK", number)
    meta = {"prefix": f"{name}/", "normal_class": "OK"}
    for split in ("realiad_jsons", "realiad_jsons_sv"):
        chosen = {
            part: [one for one in rows if split == "realiad_jsons" or "_C1" in str(one)]
            for part, rows in content.items()
        }
        path = root / "realiad_jsons" / split / f"{name}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"meta": meta, **chosen}))
    return root


def class_tree(root: Path, classes: tuple[str, ...], suffix: str = "png") -> Path:
    """View, and what `gad data unpack` makes."""
    draw = Painter()
    for level, name in enumerate(classes, start=2):
        for part, count in (("train", TRAIN), ("test", TEST)):
            for number in range(count):
                put(root / part / name / f"{number:05}.{suffix}", draw.image(25 * level))
    return root


def view(folder: Path) -> Path:
    """Three classes."""
    return class_tree(folder / "scenes", ("forest", "sea", "street"), "jpg")


def fgvc_aircraft(folder: Path) -> Path:
    """All 100 variants by name, images of three of the paper's ten and of one other."""
    draw, root = Painter(), folder / "planes"
    data = root / "fgvc-aircraft-2013b" / "data"
    variants = [f"Variant {number}/{number}" for number in range(100)]
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for variant in (91, 96, 59, 0):
        for part, count in (("train", TRAIN), ("test", TEST)):
            for number in range(count):
                image = f"{variant:03}{part}{number:03}"
                put(data / "images" / f"{image}.jpg", draw.image(60 + variant))
                lists[part].append(f"{image} {variants[variant]}")
    (data / "variants.txt").write_text("\n".join(variants) + "\n")
    for part, lines in lists.items():
        (data / f"images_variant_{part}.txt").write_text("\n".join(lines) + "\n")
    return root


def stanford_cars(folder: Path) -> Path:
    """Three classes; needs scipy."""
    from scipy.io import savemat

    draw, root = Painter(), folder / "drive"
    names = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Acura TL Sedan 2012"]
    (root / "devkit").mkdir(parents=True)
    kind = np.dtype([("class", "u1"), ("fname", "O")])
    lists = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    for part, count in (("train", TRAIN), ("test", TEST)):
        rows = []
        for number, label in enumerate(np.repeat([1, 2, 3], count).tolist(), start=1):
            put(root / f"cars_{part}" / f"{number:05}.jpg", draw.image(50 * label))
            rows.append((label, f"{number:05}.jpg"))
        savemat(root / lists[part], {"annotations": np.array(rows, dtype=kind)})
    savemat(root / "devkit/cars_meta.mat", {"class_names": np.array(names, dtype=object)})
    return root


def dogs_vs_cats(folder: Path) -> Path:
    """Two folders without a split."""
    draw, root = Painter(), folder / "pets"
    for level, name in ((60, "Cat"), (140, "Dog")):
        for number in range(2 * 5):
            put(root / name / f"{number}.jpg", draw.image(level))
    return root


def cifar(folder: Path, coarse: bool) -> Path:
    """CIFAR-10 or CIFAR-100 as published, to be unpacked; its MD5 sums are others."""
    rng = np.random.default_rng(0)

    def batch(path: Path, count: int, key: str, classes: int) -> None:
        labels = [number % classes for number in range(count)]
        data = rng.integers(0, 256, (count, 3072), np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps({"data": data, key: labels}))

    if coarse:
        root = folder / "cifar-100-python"
        batch(root / "train", 200, "fine_labels", 100)
        batch(root / "test", 100, "fine_labels", 100)
        from generalad.data.public_sets import public_set

        fine = sorted(name for names in public_set("cifar-100").groups.values() for name in names)
        (root / "meta").write_bytes(pickle.dumps({"fine_label_names": fine}))
        return folder
    root = folder / "cifar-10-batches-py"
    for number in range(1, 6):
        batch(root / f"data_batch_{number}", 10, "labels", 10)
    batch(root / "test_batch", 20, "labels", 10)
    from generalad.data.public_sets import public_set

    names = list(public_set("cifar-10").images)
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return folder


def fashion_mnist(folder: Path) -> Path:
    """Fashion-MNIST as published, to be unpacked."""
    rng = np.random.default_rng(0)
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 30), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        header = struct.pack(">IIII", 2051, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = np.arange(count, dtype=np.uint8) % 10
        header = struct.pack(">II", 2049, count)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return folder


TREES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "mvtec-ad": (mvtec_ad, "bottle"),
    "mvtec-loco": (mvtec_loco, "pushpins"),
    "mvtec-ad-2": (mvtec_ad_2, "vial"),
    "visa": (visa, "candle"),
    "mpdd": (mpdd, "tubes"),
    "real-iad": (real_iad, "audiojack"),
    "view": (view, "sea"),
    "fgvc-aircraft": (fgvc_aircraft, "91"),
    "stanford-cars": (stanford_cars, "Acura RL Sedan 2012"),
    "dogs-vs-cats": (dogs_vs_cats, "Dog"),
}
"""Every layout that is opened as it is, and a class of each."""


def tree(key: str, folder: Path) -> Path:
    """Write the tree of a data set below `folder`; returns what is to be opened."""
    return TREES[key][0](folder)

"""Where results go: JSON lines, CSV, a folder of overlays, an annotated video.

Long outputs grow in a file named like the final one with ".part" before its suffix and take their
own name when the run ends or is interrupted with Ctrl-C. A killed or failed run leaves the part.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad import files
from generalad.errors import StorageError, UsageError
from generalad.overlay import overlay
from generalad.preprocess import IMAGE_SUFFIXES
from generalad.runtime.decision import Result
from generalad.runtime.sources import VIDEO_SUFFIXES, Frame, Source
from generalad.spec import Spec

Map = NDArray[np.float32]

_NO_TEXT = IMAGE_SUFFIXES | VIDEO_SUFFIXES | {".onnx"}
"""Suffixes that text is not written to: the name was meant for something else."""

CSV_COLUMNS = (
    "source", "index", "time", "path", "score", "normalised", "anomalous", "regions", "error",
)  # fmt: skip


class Sink(Protocol):
    """Takes the results of one run in the order of the frames, in one thread."""

    needs_image: bool
    """Whether `write` needs `Frame.image`; without it memory is freed earlier."""

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Prepare for a run; raises StorageError or UsageError before any work is done."""

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Take one result; the map (h, w) is None where the result is an error."""

    def close(self, *, complete: bool) -> None:
        """End the run; called once after `open`. Not complete: the run broke off on an error."""


class JsonLines:
    """One JSON object a line, to a file or, for "-", to standard output."""

    needs_image = False

    def __init__(self, target: str | Path) -> None:
        self._target = str(target)

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Create the file's part."""
        self._lines = StandardOutput() if self._target == "-" else PartFile(self._target)

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Append one line, visible at once."""
        self._lines.append(json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False))

    def close(self, *, complete: bool) -> None:
        """Give the file its name."""
        self._lines.close(complete=complete)


class Csv:
    """One line a frame with a header; `regions` is their number."""

    needs_image = False

    def __init__(self, target: str | Path) -> None:
        self._target = str(target)

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Create the file's part and write the header."""
        self._lines = PartFile(self._target)
        self._lines.append(",".join(CSV_COLUMNS))

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Append one line, visible at once."""
        values = [getattr(result, name) for name in CSV_COLUMNS]
        values[CSV_COLUMNS.index("regions")] = len(result.regions)
        self._lines.append(_csv_line(values))

    def close(self, *, complete: bool) -> None:
        """Give the file its name."""
        self._lines.close(complete=complete)


class Overlays:
    """One picture a frame: the original with its map over it, at the original size.

    Pictures keep name, suffix and place below their source; frames of a video go to a folder with
    the video's name. With several sources each folder or pattern gets a folder of its own.
    """

    needs_image = True

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Create the folder; it must not lie where pictures are read from."""
        self._spec = spec
        self._places = _places(sources)
        for place in self._places.values():
            _refuse_sources(self._folder / place, sources)
        files.make_folder(self._folder)

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Write one picture, whole or not at all."""
        if frame.image is None or anomaly_map is None:
            return
        path = self._folder / self._places[frame.source] / frame.name
        if path.suffix.lower() not in IMAGE_SUFFIXES - {".pgm"}:
            path = path.with_name(path.name + ".png")
        picture = cv2.cvtColor(draw(frame.image, anomaly_map, self._spec), cv2.COLOR_RGB2BGR)
        fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
        _, data = cv2.imencode(path.suffix, picture, fast if path.suffix == ".png" else [])
        with files.atomic_write(path) as temporary:
            temporary.write_bytes(data.tobytes())

    def close(self, *, complete: bool) -> None:
        """Nothing to do, every picture is whole already."""


class AnnotatedVideo:
    """The frames of one video with their maps over them, as .mp4 or .avi at the source's rate."""

    needs_image = True

    def __init__(self, target: str | Path) -> None:
        self._path = Path(target)
        self._writer: cv2.VideoWriter | None = None
        self._frames = 0

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Check the name; the file begins with the first frame."""
        if self._path.suffix.lower() not in (".mp4", ".avi"):
            raise UsageError(f"{self._path}: expected a name that ends in .mp4 or .avi")
        if len(sources) != 1:
            raise UsageError(
                f"an annotated video needs one video as its source, found {len(sources)} sources",
                remedy="run the videos one by one",
            )
        if self._path.exists() and self._path.samefile(sources[0].address):
            raise UsageError(
                f"{self._path} is the video that is read", remedy="choose another name"
            )
        files.make_folder(self._path.parent)
        self._spec = spec

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Append one frame."""
        if frame.rate is None:
            raise UsageError(
                f"an annotated video needs a video as its source, found the picture {frame.path}",
                remedy="write overlays instead",
            )
        if frame.image is None or anomaly_map is None:
            return
        if self._writer is None:
            self._writer = self._begin(frame.image, frame.rate)
        picture = draw(frame.image, anomaly_map, self._spec)
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def _begin(self, image: NDArray[np.uint8], rate: float) -> cv2.VideoWriter:
        code = cv2.VideoWriter.fourcc(*("MJPG" if self._path.suffix.lower() == ".avi" else "mp4v"))
        part = _part(self._path)
        writer = cv2.VideoWriter(str(part), code, rate, (image.shape[1], image.shape[0]))
        if not writer.isOpened():
            raise StorageError(
                f"cannot write {part}", remedy="check the folder's permissions and free space"
            )
        return writer

    def close(self, *, complete: bool) -> None:
        """Finish the file, check that it is whole, and give it its name."""
        if self._writer is None:
            return
        self._writer.release()
        if not complete:
            return
        # The video writer tells of no error, neither a full disk.
        capture = cv2.VideoCapture(str(_part(self._path)))
        written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if written < self._frames:
            raise StorageError(
                f"{_part(self._path)} holds {written} of {self._frames} frames",
                remedy="free some space or choose another place",
            )
        _rename(_part(self._path), self._path)


class PartFile:
    """A text file that grows line by line beside its final name."""

    def __init__(self, target: str) -> None:
        self._path = Path(target)
        self._part = _part(self._path)
        if self._path.is_dir() or self._path.suffix.lower() in _NO_TEXT:
            raise UsageError(
                f"{self._path}: expected the name of a text file such as results.jsonl"
            )
        files.make_folder(self._path.parent)
        try:
            self._file: IO[str] = self._part.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise files.storage_error(error, self._path) from error

    def append(self, line: str) -> None:
        """Write one line through to the operating system."""
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise files.storage_error(error, self._part) from error

    def close(self, *, complete: bool) -> None:
        """Close, and take the final name if the run is complete."""
        try:
            self._file.close()
        except OSError as error:
            raise files.storage_error(error, self._part) from error
        if complete:
            _rename(self._part, self._path)


class StandardOutput:
    """Lines to standard output."""

    def append(self, line: str) -> None:
        """Write one line through to whoever listens."""
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            raise  # the reader went away, as `| head` does: no failure of a disk
        except OSError as error:
            raise files.storage_error(error, Path("standard output")) from error

    def close(self, *, complete: bool) -> None:
        """Nothing to do."""


def draw(image: NDArray[np.uint8], anomaly_map: Map, spec: Spec) -> NDArray[np.uint8]:
    """Overlay on one scale for all pictures of an artifact; RGB (H, W, 3) in and out.

    The scale starts four normalisation scales below the threshold: a typical good picture peaks at
    two, which is where the overlay begins to be visible.
    """
    pixel = spec.thresholds.pixel
    return overlay(image, anomaly_map, threshold=pixel, low=pixel - 4 * spec.normalisation.scale)


def _refuse_sources(place: Path, sources: Sequence[Source]) -> None:
    """Refuse to overwrite pictures that are read, or to leave some where the next run reads."""
    place = place.resolve()
    for source in sources:
        if source.folder is None:
            continue
        folder = source.folder.resolve()
        if place == folder or (folder in place.parents and os.path.isdir(source.address)):
            raise UsageError(
                f"overlays would go to {place}, where pictures are read",
                remedy="choose another folder for them",
            )


def _part(path: Path) -> Path:
    return path.with_name(f"{path.stem}.part{path.suffix}")


def _rename(part: Path, path: Path) -> None:
    try:
        os.replace(part, path)
    except OSError as error:
        raise files.storage_error(error, path) from error


def _places(sources: Sequence[Source]) -> dict[str, str]:
    """A folder below that of the overlays for each source, so that no two names are the same."""
    if len(sources) == 1:
        return {sources[0].address: ""}
    places: dict[str, str] = {}
    taken: set[str] = set()
    for source in sources:
        path = Path(source.address)
        if path.is_file():
            wanted, own = "", path.name
        else:
            wanted, own = (source.folder or path).resolve().name, ""
        place, number = wanted, 1
        while f"{place}/{own}" in taken:
            number += 1
            place = f"{wanted}-{number}".lstrip("-")
        taken.add(f"{place}/{own}")
        places.setdefault(source.address, place)
    return places


def _csv_line(values: Sequence[object]) -> str:
    import csv
    import io

    text = io.StringIO()
    words = [str(value).lower() if isinstance(value, bool) else value for value in values]
    csv.writer(text, lineterminator="").writerow(words)
    return text.getvalue()

"""Whether all images of a plain folder are meant as good parts, told by what folders are called.

A folder for each class looks like folders for each day. To learn from defective parts spoils a
detector without a sign, so what is not plainly good is an error until somebody confirms it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from generalad.data.label_files import described_images, marked_images
from generalad.data.masks import marks_something, match_masks
from generalad.errors import DataError
from generalad.folder_names import (
    is_defect_name,
    is_good_name,
    is_mask_name,
    is_only_defect_name,
    is_series,
    says_rejected,
    words_in,
)
from generalad.label_images import label_images, some_pairs
from generalad.listing import printable
from generalad.parallel import map_threads

CONFIRM = "--all-good (in Python: all_good=True)"
"""How somebody says that all images show good parts."""

_MOST_NAMED = 8


def check_plainly_good(root: Path, paths: Sequence[Path]) -> None:
    """Refuse images whose folders may hold something else than good parts.

    Args:
        root: the plain folder.
        paths: of the images to learn from, relative to it.

    Raises:
        DataError: folders that are called by a word for defects or masks, lie beside one for good
            parts, or could be one a class.
    """
    name = root.resolve().name
    if is_only_defect_name(name) or says_rejected(name):
        raise _no_good_folder(root)
    check_folders(root, paths)
    below: dict[Path, set[str]] = defaultdict(set)  # folders with images, by what they lie in
    for folder in {path.parent for path in paths}:
        for depth, name in enumerate(folder.parts):
            below[Path(*folder.parts[:depth])].add(name)
    loose = {path.parent for path in paths}
    for parent, names in sorted(below.items()):
        good = sorted(name for name in names if is_good_name(name))
        beside = sorted(names - set(good)) + ["the folder itself"] * (parent in loose)
        if good and beside:
            raise beside_good(root / parent, good[0], beside)
        within = (root.resolve().name, *parent.parts)
        if not good and len(beside) > 1 and not is_series(names, within=within):
            raise DataError(
                f"{root / parent}: its folders {_some(sorted(names))} could be one a class, and"
                " only good parts are to be learned from",
                remedy=f"keep good images, with defective ones in {root / 'bad'}/<type>/; or, if"
                f" all show good parts, confirm it with {CONFIRM}",
            )


def check_folders(root: Path, paths: Sequence[Path]) -> None:
    """Refuse good images in folders that are called by a word for defects or masks.

    Args:
        root: what is called good, such as train/good.
        paths: of images, relative to it.

    Raises:
        DataError: it names the folder.
    """
    for folder in sorted({path.parent for path in paths}):
        if any(_not_good(part) for part in folder.parts):
            raise _no_good_folder(root / folder)


def _no_good_folder(folder: Path) -> DataError:
    return DataError(
        f"{folder}: its name has a word for defects or masks, expected a folder of good images",
        remedy=f"rename it, move defective images into bad/<type>/ (of a class folder,"
        f" test/<type>/), or confirm with {CONFIRM} that all images show good parts",
    )


_DRAWN_OVER = frozenset(
    {
        *("overlay", "overlays", "heatmap", "heatmaps", "annotated", "marked", "visualization"),
        *("vis", "prediction", "predictions", "pred", "result", "thumb", "thumbnail", "preview"),
    }
)


def check_names(
    root: Path, paths: Sequence[Path], elsewhere: Sequence[Path], others: Sequence[Path]
) -> None:
    """Refuse images of which some are called otherwise than good parts, and some not.

    Args:
        root: the plain folder.
        paths: of the images to learn from, relative to it.
        elsewhere: of other images.
        others: files that are no images.

    Raises:
        DataError: file names with a word for defects or overlays, or with a file of labels.
    """
    written = described_images(paths, elsewhere, others)
    for found, what in (
        ([path for path in paths if is_defect_name(path.stem)], "called by a word for defects"),
        ([path for path in paths if is_good_name(path.stem)], "called by a word for good"),
        (
            [path for path in paths if _DRAWN_OVER & set(words_in(path.stem))],
            "called by a word for images that were made of others",
        ),
        ([path for path in paths if path in written], "described in a file of their name"),
    ):
        # A word that all names have is that of the product, unless it judges; a camera may describe
        # all its images.
        if 0 < len(found) < len(paths) or any(says_rejected(path.stem) for path in found):
            named = _some([path.as_posix() for path in found], most=3)
            raise DataError(
                f"{root}: {len(found)} of {len(paths)} images are {what}: {named}",
                remedy=f"move defective images into {root / 'bad'}; or, if all show good parts,"
                f" confirm it with {CONFIRM}",
            )


def refuse_marked(
    root: Path, paths: Sequence[Path], elsewhere: Sequence[Path], others: Sequence[Path]
) -> None:
    """Refuse to learn from images in which a labelling tool says that something is marked.

    Args:
        root: of the dataset.
        paths: of the images to learn from, relative to it.
        elsewhere: of other images.
        others: files that are no images.

    Raises:
        DataError: it names images, and the file that says so.
    """
    marked = marked_images(root, paths, elsewhere, others)
    if marked:
        named = [f"{image.as_posix()} in {file.as_posix()}" for image, file in marked.items()]
        raise marked_error(root, len(paths), named)


def marked_error(root: Path, total: int, named: Sequence[str]) -> DataError:
    """Some of all images to learn from are marked, each named with the file that says so."""
    return DataError(
        f"{root}: {len(named)} of {total} images to learn from are labelled as no good ones, or"
        f" something is marked in them: {_some(sorted(named), most=3)}",
        remedy="move images of defects into bad/<type>/ (of a class folder, test/<type>/); or, if"
        f" all show good parts, confirm it with {CONFIRM}",
    )


def refuse_masked(root: Path, paths: Sequence[Path], masks: Sequence[Path]) -> None:
    """Refuse to learn from images of which a mask marks something.

    Args:
        root: of the dataset.
        paths: of the images to learn from, relative to it.
        masks: whole paths of those that belong to no defective image, in the folder for masks.

    Raises:
        DataError: it names images and masks.
    """
    if not masks:
        return
    folder = root / masks[0].relative_to(root).parts[0]
    inside = [mask.relative_to(folder) for mask in masks]
    found: dict[Path, Path] = {}
    for skipped in (0, 1):  # masks/good/7.png, masks/7.png
        images = {Path(*path.parts[skipped:]): path for path in paths if len(path.parts) > skipped}
        matched, _ = match_masks(list(images), inside)
        found |= {folder / mask: images[image] for image in matched for mask in matched[image]}
    marks = map_threads(marks_something, found)
    marked = [
        f"{found[mask].as_posix()} in {mask.relative_to(root).as_posix()}"
        for mask, something in zip(found, marks, strict=True)
        if something
    ]
    if marked:
        raise marked_error(root, len(paths), marked)


def refuse_label_images(root: Path, paths: Sequence[Path], *, remedy: str) -> None:
    """Refuse to learn from label images.

    Raises:
        DataError: it names the pairs.
    """
    pairs = label_images(root, paths)
    if pairs:
        raise DataError(
            f"{root}: {len(pairs)} of {len(paths)} images look like label images of others:"
            f" {some_pairs(pairs)}",
            remedy=f"{remedy}; or, if they do show good parts, confirm it with {CONFIRM}",
        )


def beside_good(folder: Path, good: str, beside: Sequence[str]) -> DataError:
    """Images lie beside a folder that is called by a word for good."""
    return DataError(
        f"{folder}: images beside {good}/, in {_some(beside)}",
        remedy=f"move good ones into {good}/ and defective ones into bad/<type>/; or, if all show"
        f" good parts, confirm it with {CONFIRM}",
    )


def taken_as_good(paths: Sequence[Path]) -> str:
    """Which folders good images were found in, in a sentence; empty where there are none."""
    count = Counter(path.parent.as_posix() for path in paths)
    folders = {f"{name}/" if name != "." else "no folder": number for name, number in count.items()}
    if set(folders) <= {"no folder"}:
        return ""
    named = [f"{number} in {printable(name)}" for name, number in sorted(folders.items())]
    return f"all {len(paths)} images are taken as good parts: {_some(named)}"


def _not_good(name: str) -> bool:
    return is_defect_name(name) or is_mask_name(name) or name.lower() in ("test", "testing")


def _some(names: Sequence[str], most: int = _MOST_NAMED) -> str:
    more = len(names) - most
    shown = ", ".join(printable(name) for name in names[:most])
    return shown + (f" and {more} more" if more > 0 else "")

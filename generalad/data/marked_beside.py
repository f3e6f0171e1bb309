"""Whether a folder that is given lies beside one that marks its images.

`set/images` beside `set/masks`, `set/labels` or `set/Annotations`, and `set/images/train` beside
`set/labels/train`: who gives the folder of the images alone does not give what is known of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from generalad.data.label_files import marked_images
from generalad.data.masks import marks_something, match_masks
from generalad.data.plainly_good import marked_error
from generalad.errors import DataError
from generalad.folder_names import is_good_name, is_mask_name
from generalad.label_images import label_images
from generalad.listing import list_files, list_folders

_LOOKED_AT = 100  # images that are looked at for whether others lie beside them, and masks


def refuse_marked_beside(root: Path, paths: Sequence[Path]) -> None:
    """Refuse to learn from images that a folder beside theirs marks.

    Args:
        root: the folder of good images.
        paths: of the images to learn from, relative to it.

    Raises:
        DataError: it names images, and what marks them.
    """
    if marked := _marked_beside(root, paths):
        named = [f"{image.as_posix()} in {file}" for image, file in marked.items()]
        raise marked_error(root, len(paths), named)


def marked_in(folder: Path) -> dict[Path, Path]:
    """Images of a folder that files of labelling tools or masks mark, in it or beside it.

    Returns:
        What marks each; both are whole paths, as far as `folder` is one.
    """
    found = list_files(folder)
    marked = _marked_beside(folder, found.images)
    for mask, image in label_images(folder, found.images, named=True).items():
        if marks_something(folder / mask):
            marked[image] = folder / mask
    within = marked_images(folder, found.images, (), found.others)
    marked |= {image: folder / file for image, file in within.items()}
    return {folder / image: file for image, file in marked.items()}


def _marked_beside(root: Path, paths: Sequence[Path]) -> dict[Path, Path]:
    """Images, relative to the root, with what marks them."""
    marked: dict[Path, Path] = {}
    for folder in _folders_beside(Path(os.path.abspath(root)), paths):
        try:
            found = list_files(folder)
        except DataError:  # what cannot be read need not be ours
            continue
        matched, _ = match_masks(paths, found.images)
        pairs = [(image, folder / mask) for image in matched for mask in matched[image]]
        some = pairs[:: 1 + len(pairs) // _LOOKED_AT]
        marked |= {image: mask for image, mask in some if marks_something(mask)}
        described = marked_images(folder, paths, (), found.others)
        marked |= {image: folder / file for image, file in described.items()}
    return marked


def _folders_beside(here: Path, paths: Sequence[Path]) -> Iterator[Path]:
    """Folders that are called by a word for masks, unless others have images of these names."""
    for depth in (1, 2):
        if len(here.parts) <= depth:
            return
        parent, name, below = here.parents[depth - 1], here.parts[-depth], here.parts[-depth:][1:]
        try:
            names = [other for other in list_folders(parent) if other != name]
        except DataError:
            return
        marking = [other for other in names if is_mask_name(other)]
        rest = [parent.joinpath(other, *below) for other in names if other not in marking]
        if is_good_name(name) or any(
            os.path.exists(folder / path) for folder in rest for path in paths[:_LOOKED_AT]
        ):
            continue
        found = (parent.joinpath(other, *below) for other in marking)
        yield from (folder for folder in found if os.path.isdir(folder))

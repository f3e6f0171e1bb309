"""Pseudo-anomalies in feature space (paper, section 3.3).

Every distortion takes clean features (B, N, D) and gives distorted features of the same shape with
labels (B, N) bool, True where a patch was chosen. All chance comes from the generator passed in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from generalad.errors import ConfigError

NEEDS_ATTENTION = frozenset({"attn", "copy_out", "shuffle"})
"""Distortions that choose patches by the attention of the class token."""


def distort(
    name: str,
    features: Tensor,
    *,
    attention: Tensor | None,
    noise_std: float | Tensor,
    num_fake_patches: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Apply one distortion by name.

    Args:
        name: "random" or "attn" (noise on some patches), "copy_out", "shuffle" or "randshuffle".
        features: (B, N, D) clean patch features.
        attention: (B, heads, N), needed by the names in `NEEDS_ATTENTION`.
        noise_std: of the noise, one number or one for each channel (D,).
        num_fake_patches: most patches moved at once, -1 for N; the noise always draws from 1..N.
        generator: source of chance, on the device of `features`.

    Returns:
        Distorted features (B, N, D) and labels (B, N) bool.
    """
    batch, patches, _ = features.shape
    most = patches
    if name not in ("random", "attn") and num_fake_patches != -1:
        most = min(num_fake_patches, patches)
    counts = torch.randint(1, most + 1, (batch, 1), generator=generator, device=features.device)
    if name in NEEDS_ATTENTION:
        chosen = highest(one_head(attention, generator), counts)
    else:
        chosen = highest(_uniform(features, generator), counts)
    if name in ("random", "attn"):
        noisy = add_noise(features, noise_std, generator)
        return torch.where(chosen.unsqueeze(-1), noisy, features), chosen
    if name == "copy_out":
        # As the authors do: from all patches of the image, each at most once. So a chosen one may
        # be copied too, and one of N of them is overwritten with itself.
        sources = _uniform(features, generator).argsort(dim=1)
        return copy_over(features, chosen, sources), chosen
    return permute_chosen(features, chosen, generator), chosen


def add_noise(features: Tensor, std: float | Tensor, generator: torch.Generator) -> Tensor:
    """Features (B, N, D) plus N(0, std^2), drawn independently; `std` one number or (D,)."""
    if isinstance(std, Tensor):
        noise = torch.empty_like(features).normal_(0.0, 1.0, generator=generator)
        return torch.addcmul(features, noise, std)
    noise = torch.empty_like(features).normal_(0.0, std, generator=generator)
    return features + noise


def one_head(attention: Tensor | None, generator: torch.Generator) -> Tensor:
    """Draw one head for each image: (B, heads, N) to (B, N)."""
    if attention is None:
        raise ConfigError("this distortion needs attention maps, and the backbone gives none")
    batch, heads, _ = attention.shape
    head = torch.randint(heads, (batch,), generator=generator, device=attention.device)
    return attention[torch.arange(batch, device=attention.device), head]


def highest(values: Tensor, counts: Tensor) -> Tensor:
    """Mark the `counts` (B, 1) highest of `values` (B, N) in each row: (B, N) bool."""
    ranks = values.argsort(dim=1, descending=True).argsort(dim=1)
    return ranks < counts


def permute_chosen(features: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Permute the chosen patches of each image among themselves."""
    patches = features.shape[1]
    place = torch.arange(patches, device=features.device).expand_as(chosen)
    # Two orders of the same places: both list the chosen ones first, one of them at random, and
    # then the rest in order. Moving one onto the other permutes the chosen and nothing else.
    keys = _uniform(features, generator)
    rest = (~chosen).float() * (patches + place)
    in_order = (rest + chosen.float() * place / patches).argsort(dim=1)
    at_random = (rest + chosen.float() * keys).argsort(dim=1)
    return _move(features, source=at_random, target=in_order)


def copy_over(features: Tensor, chosen: Tensor, sources: Tensor) -> Tensor:
    """Overwrite each chosen patch with the one whose number stands at its place in `sources`."""
    copies = features.gather(1, sources.unsqueeze(-1).expand_as(features))
    return torch.where(chosen.unsqueeze(-1), copies, features)


def _move(features: Tensor, *, source: Tensor, target: Tensor) -> Tensor:
    wide = features.gather(1, source.unsqueeze(-1).expand_as(features))
    return torch.empty_like(features).scatter_(1, target.unsqueeze(-1).expand_as(features), wide)


def _uniform(features: Tensor, generator: torch.Generator) -> Tensor:
    shape = features.shape[:2]
    return torch.rand(shape, generator=generator, device=features.device)

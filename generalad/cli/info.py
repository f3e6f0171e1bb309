"""`gad info`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from generalad.cli.options import Argument, Json

if TYPE_CHECKING:
    from generalad.spec import Spec


def info(
    artifact: Annotated[Path, Argument("Exported file, or folder of a detector.")],
    json: Json = False,
) -> None:
    """Show what is inside a detector or artifact: what it expects, decides, promises, came from.

    Examples:
        gad info model.onnx
        gad info runs/parts
    """
    from generalad.cli.console import console, print_json

    spec, computed = read_spec(artifact)
    screen = console()
    for heading, rows in sections(spec.to_dict(), computed).items():
        screen.print(f"\n[bold]{heading}[/bold]")
        for name, value in rows.items():
            screen.print(f"  {name:<20} {value}", markup=False)
    record = spec.to_dict()
    for sample in record["golden"]:
        sample["png"] = f"{len(sample['png'])} characters"
    print_json({**record, "computed_here": computed}, wanted=json)


def read_spec(artifact: Path) -> tuple[Spec, str]:
    """The spec of a detector's folder or of an exported file, without loading torch.

    With it in what precision this device computes it, and on what; "" for a detector.
    """
    from generalad.files import read_json
    from generalad.spec import DETECTOR_FILE, Spec

    if (artifact / DETECTOR_FILE).is_file():
        record = read_json(artifact / DETECTOR_FILE)
        spec = record.get("spec") if isinstance(record, dict) else None
        return Spec.from_dict(spec, name=str(artifact)), ""
    from generalad.runtime import open_session
    from generalad.runtime.backends.session import stored_spec

    with open_session(artifact) as session:
        return stored_spec(session), f"{session.precision} ({session.backend})"


def sections(spec: dict[str, Any], computed: str = "") -> dict[str, dict[str, str]]:
    """What people look for, under four headings."""
    calibration, backbone, training = spec["calibration"], spec["backbone"], spec["training_set"]
    height, width = spec["image_size"]
    parity = spec["parity"]
    rows = {
        "Model": {
            "class": spec["class_name"],
            "method": spec["method"],
            "backbone": f"{backbone['name']}, layers {_list(backbone['layers'])}",
            "weights": f"{backbone['weights']} (sha256 {backbone['weights_sha256'][:12]}…)",
            "licence of weights": _licence(backbone),
            "mean and std": f"{_list(backbone['mean'])} and {_list(backbone['std'])}",
            "precision": spec["precision"],
            "half precision": _halves(spec["half_precisions"]),
            **({"computed here in": computed} if computed else {}),
        },
        "Input and output": {
            "of each frame": _geometry(spec.get("geometry")),
            spec["input_name"]: f"uint8 (B, {height}, {width}, 3) RGB, resized by {spec['resize']}",
            spec["output_names"][0]: (f"float32 (B,), {_score(spec['top_k'])}"),
            spec["output_names"][1]: f"float32 (B, {_list(spec['map_size'])})",
        },
        "Decision": {
            "image threshold": f"{spec['thresholds']['image']:.6g}",
            "pixel threshold": f"{spec['thresholds']['pixel']:.6g}",
            "false-alarm rate": (
                f"at most {calibration['reached']:.2%}, target {calibration['target']:.2%},"
                f" from {calibration['images']} good images"
            ),
            "outliers": ", ".join(one["name"] for one in calibration["outliers"]) or "none",
            "threshold set by": (
                ", ".join(one["name"] for one in calibration["highest"]) or "not recorded"
            ),
            "method": calibration["method"],
        },
        "Origin": {
            "training set": (
                f"{training['images']} images, {training['fingerprint'][:12]}…"
                if training["images"]
                else "not known"
            ),
            "skipped": f"{len(training['skipped'])} unreadable images",
            "selection": str(spec["metrics"].get("selection_rule", "not recorded")),
            "parity": _parity(parity) if parity else "that of each exported file is in the file",
            "made": _made(spec["provenance"]),
        },
    }
    return rows


def _geometry(record: dict[str, Any] | None) -> str:
    from generalad.geometry.geometry import Geometry
    from generalad.records import convert

    return "all of it" if record is None else convert(record, Geometry).in_words()


def _score(top_k: int) -> str:
    if top_k == 1:
        return "the largest patch"
    return f"mean of the {top_k} largest patches" if top_k else "mean of all patches"


def _halves(records: Sequence[dict[str, Any]]) -> str:
    from generalad.half_precision import VerifiedPrecision

    return "; ".join(VerifiedPrecision(**one).in_words() for one in records) or "not verified"


def _list(values: Any) -> str:
    return ", ".join(map(str, values))


def _licence(backbone: dict[str, Any]) -> str:
    licence = backbone["licence"]
    if not licence:
        return "not known"
    source = backbone["weights"]
    if source in ("hub", "embedded") or source.startswith("package:"):
        return str(licence)
    return f"{licence} as published; yours, from a file, may have another"


def _parity(parity: dict[str, Any]) -> str:
    return (
        f"{parity.get('candidate', 'fp32')}: scores within {parity['score_largest']:.1e} of their"
        f" range, {parity['flips']} of {parity['images']} decisions differ ({parity['backend']})"
    )


def _made(provenance: dict[str, Any]) -> str:
    kept = ("date", "generalad", "torch", "timm", "device")
    return ", ".join(f"{key} {provenance[key]}" for key in kept if key in provenance)

"""Makes the detectors' reference file from torchvision: the only script that writes detectors.npz.

pip download torchvision==0.28.0 --no-deps -d FOLDER     and unzip the wheel there; it is not installed
python tests/reference/torchvision_detectors.py FOLDER            writes tests/reference/detectors.npz
python tests/reference/torchvision_detectors.py FOLDER --check    compares it with what torchvision gives today

torchvision's compiled operators do not load beside torch for CPUs. Their names are declared here, and of all of them
the detectors need NMS alone, which follows below in plain torch; whoever reads these references must know that.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.comparison import mismatch
from tests.reference.families.detectors import CASES, IN_FLOAT64_ONLY, DetectorCase
from tests.reference.store import FOLDER, record

FILE = FOLDER / "detectors.npz"
NAMES = ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn")
OPERATORS = ("qnms", "qroi_align") + tuple(
    each for name in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
    for each in (name, f"_{name}_backward")
)  # fmt: skip


def plain_nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Indices of the boxes (N, 4) to keep, best first: each suppresses those that it overlaps too much."""
    import torch

    order = scores.argsort(descending=True, stable=True)
    x1, y1, x2, y2 = boxes[order].unbind(1)
    area = (x2 - x1) * (y2 - y1)
    kept = []
    alive = torch.ones(len(order), dtype=torch.bool)
    for best in range(len(order)):
        if not alive[best]:
            continue
        kept.append(best)
        width = (torch.minimum(x2[best], x2) - torch.maximum(x1[best], x1)).clamp(min=0)
        height = (torch.minimum(y2[best], y2) - torch.maximum(y1[best], y1)).clamp(min=0)
        shared = width * height
        alive &= ~(shared / (area[best] + area - shared) > iou_threshold)
    return order[torch.tensor(kept, dtype=torch.int64)]


def torchvision_from(folder: str) -> SimpleNamespace:
    """torchvision's detectors and their parts, by torchvision's names."""
    import torch

    operators = torch.library.Library("torchvision", "DEF")
    operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.impl("nms", plain_nms, "CPU")
    for name in OPERATORS:
        operators.define(f"{name}(Tensor input) -> Tensor")
    sys.path.insert(0, folder)
    import torchvision.extension
    from torchvision.models import detection
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    torchvision.extension._has_ops = lambda: True
    return SimpleNamespace(
        **{name: getattr(detection, name) for name in (*NAMES, "RetinaNet", "FCOS")},
        resnet_fpn_backbone=resnet_fpn_backbone, FrozenBatchNorm2d=FrozenBatchNorm2d, LastLevelP6P7=LastLevelP6P7,
        operators=operators,
    )  # fmt: skip


def case_results(case: DetectorCase, torchvision: Any) -> dict[str, np.ndarray]:
    """Detections in float32; losses and gradients in float64, the latter kept as digests in float32; by name."""
    import torch

    model = case.fill(torch, case.build(torchvision))
    results = {} if case in IN_FLOAT64_ONLY else case.detections(torch, model)
    results |= case.training(torch, model.double(), "float64")
    named = {f"{case.name}|{name}": array for name, array in results.items()}
    return {
        key: record(key, array).values.astype(np.float32) if "|gradient" in key else array
        for key, array in named.items()
    }


def all_results(torchvision: Any) -> dict[str, np.ndarray]:
    results = {}
    for case in CASES + IN_FLOAT64_ONLY:
        results |= case_results(case, torchvision)
    states = {}
    for name in NAMES:
        state = getattr(torchvision, name)(weights_backbone=None).state_dict()
        states[name] = {key: list(value.shape) for key, value in state.items()}
    results["states"] = np.frombuffer(json.dumps(states).encode(), np.uint8)
    return results


def differences(stored: dict[str, np.ndarray], fresh: dict[str, np.ndarray]) -> list[str]:
    problems = [f"{key}: only in one of the two" for key in sorted(stored.keys() ^ fresh.keys())]
    for key in sorted(stored.keys() & fresh.keys()):
        message = mismatch(fresh[key], stored[key], 1e-5 if stored[key].dtype == np.float32 else 1e-8)
        problems += [f"{key}: {message.splitlines()[0]}"] if message else []
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the wheel was unpacked: the folder that holds torchvision/")
    parser.add_argument("--check", action="store_true", help="compare instead of writing; exit code 1 if different")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    fresh = all_results(torchvision_from(options.folder))
    if not options.check:
        np.savez_compressed(FILE, **fresh)
        print(f"{FILE.name}: {len(fresh)} arrays, {FILE.stat().st_size / 1024:.0f} KiB")
        return 0
    with np.load(FILE, allow_pickle=False) as file:
        problems = differences({key: file[key] for key in file.files}, fresh)
    print(f"{len(fresh)} arrays, {len(problems)} differences", *problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

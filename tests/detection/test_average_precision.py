"""AveragePrecision against pycocotools used by its manual, and the lesson's average_precision against both."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import signal
import sys

import numpy as np
import pytest

import tinynet
from tests.kernels.box_cases import random_boxes
from tinynet.detection import AveragePrecision, average_precision
from tinynet.errors import LabelError

pytest.importorskip("pycocotools")


def scenes(seed: int, extras: bool = False, classes: int = 3):
    """Random images: objects, detections near them, wrong ones, equal scores, now and then nothing."""
    rng = np.random.default_rng(seed)
    predictions, targets = [], []
    for _ in range(int(rng.integers(1, 6))):
        count = int(rng.choice([0, 1, 4, 9]))
        truth = random_boxes(rng, count, "whole", np.float64) * rng.choice([1, 4], (count, 1)) + [0, 0, 1, 1]
        labels = rng.integers(0, classes, count) * 2 + 1
        near = np.repeat(np.arange(count), 2)
        found = truth[near] + rng.integers(-3, 4, (2 * count, 4))
        wrong = random_boxes(rng, int(rng.integers(0, 5)), "whole", np.float64)
        boxes = np.concatenate([found, wrong])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
        guessed = np.concatenate([labels[near], rng.integers(0, classes, len(wrong)) * 2 + 1])
        scores = rng.integers(1, 9, len(boxes)) / 8 if rng.random() < 0.7 else rng.random(len(boxes))
        keep = rng.permutation(len(boxes))[: int(rng.integers(0, len(boxes) + 1))]
        predictions.append({"boxes": boxes[keep], "scores": scores[keep], "labels": guessed[keep]})
        targets.append({"boxes": truth, "labels": labels})
        if extras:
            targets[-1]["iscrowd"] = (rng.random(count) < 0.2).astype(np.int64)
            targets[-1]["area"] = (truth[:, 2:] - truth[:, :2]).prod(1) * rng.uniform(0.5, 1, count)
    return predictions, targets


def by_the_manual(predictions, targets):
    """COCO's twelve numbers from its own loadRes and summarize."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, results = [], []
    for image, (prediction, target) in enumerate(zip(predictions, targets), 1):
        for i, (box, label) in enumerate(zip(target["boxes"], target["labels"])):
            size = box[2:] - box[:2]
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": int(label), "bbox": [*box[:2], *size],
                "area": target["area"][i] if "area" in target else size.prod(),
                "iscrowd": int(target["iscrowd"][i]) if "iscrowd" in target else 0,
            })  # fmt: skip
        for box, score, label in zip(prediction["boxes"], prediction["scores"], prediction["labels"]):
            corner_and_size = [*box[:2], *(box[2:] - box[:2])]
            row = {"image_id": image, "category_id": int(label), "bbox": corner_and_size, "score": score}
            results.append(row)
    labels = sorted({row["category_id"] for row in annotations + results})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image + 1} for image in range(len(targets))],
            "categories": [{"id": label} for label in labels],
            "annotations": annotations,
            "info": {},
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def nan_for_absent(values):
    return [math.nan if value == -1 else value for value in values]


@pytest.mark.parametrize("extras", [False, True])
def test_the_class_is_coco(extras, capsys):
    compared = 0
    for seed in range(60):
        predictions, targets = scenes(seed, extras)
        if not any(len(prediction["boxes"]) for prediction in predictions):
            continue  # loadRes cannot take an empty list
        metric = AveragePrecision()
        metric.update(predictions[:1], targets[:1])
        metric.update(predictions[1:], targets[1:])
        result = metric.compute()
        stats = by_the_manual(predictions, targets)
        names = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR", "AR_small", "AR_medium", "AR_large"]
        expected = nan_for_absent([*stats[:6], *stats[8:]])
        np.testing.assert_array_equal([result[name] for name in names], expected, err_msg=f"seed {seed}")
        compared += 1
    assert compared > 40
    assert capsys.readouterr().out == ""


def test_the_lesson_is_coco():
    """Every class and threshold, ties and empty images included."""
    values = []
    for seed in range(150):
        predictions, targets = scenes(seed)
        maximum = int(np.random.default_rng(seed).choice([100, 3]))
        metric = AveragePrecision(max_detections=maximum)
        metric.update(predictions, targets)
        result = metric.compute()
        lesson = average_precision(predictions, targets, max_detections=maximum)
        labels = {int(label) for target in targets for label in target["labels"]}
        assert lesson.keys() == labels == {k for k, v in result["per_class"].items() if not math.isnan(v["AP"])}
        for label, values_of_class in lesson.items():
            assert values_of_class.shape == (10,)
            assert values_of_class.mean() == pytest.approx(result["per_class"][label]["AP"], abs=1e-12)
            assert values_of_class[0] == pytest.approx(result["per_class"][label]["AP50"], abs=1e-12)
        if lesson:
            assert np.mean(list(lesson.values())) == pytest.approx(result["AP"], abs=1e-12)
            values.append(result["AP"])
    assert len(values) > 100 and 0.05 < np.mean(values) < 0.8


def test_the_lesson_has_forty_lines():
    module = sys.modules[AveragePrecision.__module__]
    parts = [average_precision, module._hits, module._area]
    lines = sum(len(inspect.getsource(part).splitlines()) for part in parts)
    assert lines <= 40


def test_by_hand():
    """Two objects; the best detection is right, the second a double, the third right: precisions 1, 1/2, 2/3."""
    targets = [{"boxes": tinynet.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), "labels": tinynet.tensor([1, 1])}]
    predictions = [{
        "boxes": tinynet.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], requires_grad=True),
        "scores": tinynet.tensor([0.9, 0.8, 0.7], requires_grad=True),
        "labels": tinynet.tensor([1, 1, 1]),
    }]  # fmt: skip
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert average_precision(predictions, targets, [0.5])[1] == pytest.approx([expected])
    metric = AveragePrecision({1: "cell", 2: "other"})
    metric.update(predictions, targets)
    result = metric.compute()
    assert result["AP"] == pytest.approx(expected) and result["AR"] == 1
    assert result["per_class"]["cell"] == {"AP": pytest.approx(expected), "AP50": pytest.approx(expected)}
    assert math.isnan(result["per_class"]["other"]["AP"]) and math.isnan(result["AP_large"])
    curves = metric.precision_recall()
    assert list(curves) == ["cell"]
    recall, precision = curves["cell"]
    assert recall.shape == precision.shape == (101,) and recall[[0, 50, 100]].tolist() == [0, 0.5, 1]
    assert precision == pytest.approx([1] * 51 + [2 / 3] * 50)
    assert precision.mean() == pytest.approx(expected)


def test_of_equal_overlaps_the_last_object_is_taken():
    """The first detection overlaps both objects by 2/3 and takes the second, which leaves nothing to the other."""
    targets = [{"boxes": [[0.0, 0, 10, 10], [4, 0, 14, 10]], "labels": [0, 0]}]
    predictions = [{"boxes": [[2.0, 0, 12, 10], [4, 0, 14, 10]], "labels": [0, 0], "scores": [0.9, 0.8]}]
    metric = AveragePrecision()
    metric.update(predictions, targets)
    expected = 51 / 101
    assert metric.compute()["AP50"] == pytest.approx(expected)
    assert average_precision(predictions, targets, [0.5])[0] == pytest.approx([expected])


def test_limits_of_size():
    """Sides 8, 20 and 60, all found; with limits 12 and 24 one of each, with COCO's two small ones."""
    boxes = np.array([[0, 0, 8, 8], [100, 0, 120, 20], [0, 100, 60, 160]], np.float64)
    targets = [{"boxes": boxes, "labels": np.array([0, 0, 0])}]
    shifted = boxes + [[0, 0, 0, 0], [0, 0, 0, 7], [0, 0, 0, 40]]  # IoUs 1, .74, .6
    predictions = [{"boxes": shifted, "labels": np.array([0, 0, 0]), "scores": np.array([0.5, 0.5, 0.5])}]

    def sizes(**settings):
        metric = AveragePrecision(**settings)
        metric.update(predictions, targets)
        result = metric.compute()
        return [result[f"AP_{size}"] for size in ("small", "medium", "large")]

    assert sizes(size_limits=(12, 24)) == pytest.approx([1, 0.5, 0.3])
    assert sizes(area_limits=(144, 576)) == sizes(size_limits=(12, 24))
    small, medium, large = sizes()
    assert small == pytest.approx((5 * 1 + 5 * 51 / 101) / 10, abs=1e-3) and medium == pytest.approx(0.3)
    assert math.isnan(large)


def test_difficult_objects_need_not_be_found():
    """An ignored object is neither missed nor, if found, wrong; a second detection of it is."""
    box = [[0.0, 0, 10, 10], [50, 50, 60, 60]]
    target = {"boxes": box, "labels": [0, 0], "difficult": [0, 1]}
    for detections, expected in (([0], 1.0), ([0, 1], 1.0), ([1, 1, 0], 0.5)):
        metric = AveragePrecision()
        scores = np.linspace(0.9, 0.5, len(detections))
        prediction = {"boxes": [box[i] for i in detections], "labels": [0] * len(detections), "scores": scores}
        metric.update([prediction], [target])
        assert metric.compute()["AP"] == pytest.approx(expected)
    crowd = {"boxes": box, "labels": [0, 0], "iscrowd": [0, 1]}
    metric.reset()
    metric.update([prediction], [crowd])
    assert metric.compute()["AP"] == pytest.approx(1.0)


def test_nothing_found_and_nothing_there():
    empty = {"boxes": tinynet.zeros(0, 4), "labels": tinynet.zeros(0, dtype=tinynet.int64)}
    nothing = empty | {"scores": tinynet.zeros(0)}
    one = {"boxes": [[0.0, 0, 5, 5]], "labels": [1]}
    metric = AveragePrecision()
    metric.update([nothing], [empty])
    assert math.isnan(metric.compute()["AP"]) and metric.compute()["per_class"] == {}
    assert average_precision([nothing], [empty]) == {}
    metric.update([nothing], [one])
    assert metric.compute()["AP"] == 0 and metric.compute()["AR"] == 0
    assert average_precision([nothing], [one])[1].tolist() == [0] * 10
    metric.reset()
    metric.update([{"boxes": [], "labels": [], "scores": []}, one | {"scores": [0.5]}], [empty, empty])
    assert math.isnan(metric.compute()["AP"]) and metric.precision_recall() == {}


def test_more_images_change_the_result():
    one = {"boxes": [[0.0, 0, 5, 5]], "labels": [1]}
    metric = AveragePrecision()
    metric.update([one | {"scores": [0.5]}], [one])
    assert metric.compute() == metric.compute() and metric.compute()["AP"] == pytest.approx(1)
    metric.update([{"boxes": [[50.0, 0, 55, 5]], "labels": [1], "scores": [0.9]}], [one])
    assert metric.compute()["AP"] == pytest.approx(51 / 101 * 0.5)


def test_refused():
    one = {"boxes": [[0.0, 0, 5, 5], [1, 1, 2, 2]], "labels": [1, 1]}
    good = one | {"scores": [0.5, 0.4]}
    metric = AveragePrecision()

    def refuse(error, words, prediction=good, target=one):
        with pytest.raises(error, match=words):
            metric.update([good, prediction], [one, target])
        assert metric.images == 0

    with pytest.raises(ValueError, match="no images yet"):
        metric.compute()
    with pytest.raises(ValueError, match="2 images predicted, targets of 1"):
        metric.update([good, good], [one])
    refuse(ValueError, r"predictions\[1\] has no 'scores', only \['boxes', 'labels'\]", prediction=one)
    refuse(ValueError, r"predictions\[1\]: 2 boxes need scores of shape \(2,\), got \(1,\)", one | {"scores": [0.5]})
    refuse(ValueError, r"predictions\[1\]: 1 of 2 scores are not finite", one | {"scores": [0.5, math.nan]})
    refuse(ValueError, r"targets\[1\]: boxes must be \(N, 4\)", target={"boxes": np.zeros((2, 5)), "labels": [1, 1]})
    inverted = {"boxes": [[0.0, 0, 5, 5], [3, 1, 2, 2]], "labels": [1, 1]}
    refuse(ValueError, r"targets\[1\]: 1 of 2 boxes have x2 < x1 or y2 < y1, the first is box 1", target=inverted)
    refuse(TypeError, r"targets\[1\]: labels must be integers, got float64", target=one | {"labels": [1.0, 1.0]})
    crowds = one | {"iscrowd": [0] * 3}
    refuse(ValueError, r"targets\[1\]: 2 boxes need iscrowd of shape \(2,\), got \(3,\)", target=crowds)
    with pytest.raises(LabelError, match=r"targets\[0\]: label 1 is not one of the classes \[0\]"):
        AveragePrecision(["cell"]).update([{"boxes": [], "labels": [], "scores": []}], [one])
    with pytest.raises(ValueError, match=r"must be positive and grow, got \(96, 32\)"):
        AveragePrecision(size_limits=(96, 32))
    with pytest.raises(ValueError, match="max_detections must be at least 1, got 0"):
        AveragePrecision(max_detections=0)
    metric.update([good], [one])
    with pytest.raises(ValueError, match=r"one of .50, .55 to .95, got 0.42"):
        metric.precision_recall(0.42)


def test_without_pycocotools(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(ImportError, match=r'the extra "detect" brings: pip install ".\[detect\]"'):
        AveragePrecision()
    one = {"boxes": [[0.0, 0, 5, 5]], "labels": [1]}
    assert average_precision([one | {"scores": [0.5]}], [one])[1].tolist() == [1] * 10


def test_an_interrupt_is_not_taken_for_a_recall(monkeypatch, hears_ctrl_c):
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    whole = cocoeval.COCOeval.accumulate

    def swallow(self):
        with contextlib.suppress(KeyboardInterrupt):  # as its own `except:` does
            signal.raise_signal(signal.SIGINT)
        whole(self)

    monkeypatch.setattr(cocoeval.COCOeval, "accumulate", swallow)
    metric = AveragePrecision()
    box = {"boxes": np.array([[0.0, 0, 9, 9]]), "labels": np.array([1])}
    metric.update([{**box, "scores": np.array([0.5])}], [box])
    with pytest.raises(KeyboardInterrupt):
        metric.compute()
    monkeypatch.setattr(cocoeval.COCOeval, "accumulate", whole)
    assert metric.compute()["AP"] == pytest.approx(1)

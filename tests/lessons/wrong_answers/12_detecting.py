"""Plausible wrong answers to the exercises of lesson 12, with words that the check must say."""

WRONG = {
    "iou": [
        ("cut both off at 0", '''
def iou(a, b):
    shared = (min(a[2], b[2]) - max(a[0], b[0])) * (min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
'''),
        ("is the union right", '''
def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]))
'''),
        ("not by the area of one box", '''
def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]))
'''),
        ("should be 50 / 150", '''
def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    shared = width * height
    return shared / ((a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1) - shared)
'''),
    ],
    "level_of": [
        ("not the longer side counts", '''
def level_of(box, strides):
    size = max(box[2] - box[0], box[3] - box[1])
    return sum(size >= 2.5 * stride for stride in strides[:-1])
'''),
        ("not including it", '''
def level_of(box, strides):
    size = ((box[2] - box[0]) * (box[3] - box[1])) ** 0.5
    return sum(size > 2.5 * stride for stride in strides[:-1])
'''),
        ("takes all that is larger", '''
def level_of(box, strides):
    size = ((box[2] - box[0]) * (box[3] - box[1])) ** 0.5
    return sum(size >= 2.5 * stride for stride in strides)
'''),
        ("takes all that is below 10", '''
def level_of(box, strides):
    size = ((box[2] - box[0]) * (box[3] - box[1])) ** 0.5
    return sum(size >= 1.25 * stride for stride in strides[:-1])
'''),
        ("should be 1", '''
def level_of(box, strides):
    size = (box[2] - box[0]) * (box[3] - box[1])
    return 0 if size < 100 else 2 if size < 400 else 3
'''),
    ],
    "focal_loss": [
        ("background gets the factor 0.25", '''
def focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    x = np.where(targets == 1, logits, -logits)
    return alpha * np.exp(-np.logaddexp(0, x)) ** gamma * np.logaddexp(0, -x)
'''),
        ("not yet their sum", '''
def focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    x = np.where(targets == 1, logits, -logits)
    weight = np.where(targets == 1, alpha, 1 - alpha)
    return (weight * np.exp(-gamma * np.logaddexp(0, x)) * np.logaddexp(0, -x)).sum()
'''),
        ("alpha, 0.25, is for objects", '''
def focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    x = np.where(targets == 1, logits, -logits)
    weight = np.where(targets == 1, 1 - alpha, alpha)
    return weight * np.exp(-gamma * np.logaddexp(0, x)) * np.logaddexp(0, -x)
'''),
        ("where is alpha", '''
def focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    x = np.where(targets == 1, logits, -logits)
    return np.exp(-np.logaddexp(0, x)) ** gamma * np.logaddexp(0, -x)
'''),
        ("small for easy answers", '''
def focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    x = np.where(targets == 1, logits, -logits)
    return np.where(targets == 1, alpha, 1 - alpha) * np.exp(-np.logaddexp(0, -x)) ** gamma * np.logaddexp(0, -x)
'''),
        ("p_t is 1 - p there", '''
def focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    p = 1 / (1 + np.exp(-logits))
    return -np.where(targets == 1, alpha * np.log(p), (1 - alpha) * np.log(1 - p)) * (1 - p) ** gamma
'''),
        ("use np.logaddexp", '''
def focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    p = 1 / (1 + np.exp(-logits))
    right = np.where(targets == 1, p, 1 - p)
    return -np.where(targets == 1, alpha, 1 - alpha) * (1 - right) ** gamma * np.log(right)
'''),
        ("is gamma used", '''
def focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    x = np.where(targets == 1, logits, -logits)
    return np.where(targets == 1, alpha, 1 - alpha) * np.exp(-np.logaddexp(0, x)) ** 2 * np.logaddexp(0, -x)
'''),
        ("where is the factor (1 - 0.75)²", '''
def focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    x = np.where(targets == 1, logits, -logits)
    return np.where(targets == 1, alpha, 1 - alpha) * np.logaddexp(0, -x)
'''),
    ],
    "suppress": [
        ("it must not remove C", '''
def suppress(boxes, scores, threshold):
    order = np.argsort(-scores)
    return [place for number, place in enumerate(order)
            if all(iou(boxes[place], boxes[other]) <= threshold for other in order[:number])]
'''),
        ("it should be the better", '''
def suppress(boxes, scores, threshold):
    kept = []
    for place in range(len(boxes)):
        if all(iou(boxes[place], boxes[other]) <= threshold for other in kept):
            kept.append(place)
    return kept
'''),
        ("with any kept box", '''
def suppress(boxes, scores, threshold):
    kept = []
    for place in np.argsort(-scores):
        if not kept or iou(boxes[place], boxes[kept[-1]]) <= threshold:
            kept.append(place)
    return kept
'''),
        ("by falling scores it is [1, 2, 0]", '''
def suppress(boxes, scores, threshold):
    kept = []
    for place in np.argsort(-scores):
        if all(iou(boxes[place], boxes[other]) <= threshold for other in kept):
            kept.append(place)
    return sorted(kept)
'''),
        ("none overlaps another", '''
def suppress(boxes, scores, threshold):
    return [int(np.argmax(scores))]
'''),
        ("only then", '''
def suppress(boxes, scores, threshold):
    kept = []
    for place in np.argsort(-scores):
        if all(iou(boxes[place], boxes[other]) <= 0.6 for other in kept):
            kept.append(place)
    return kept
'''),
        ("compare each one with those that were kept before", '''
def suppress(boxes, scores, threshold):
    return [place for place in range(len(boxes)) if scores[place] > 0]
'''),
    ],
    "area_below": [
        ("is the mean precision at the right finds", '''
def area_below(hits, objects):
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[np.array(hits)].mean())
'''),
        ("take the best precision", '''
def area_below(hits, objects):
    right = np.cumsum(hits)
    precision, recall = right / np.arange(1, len(hits) + 1), right / objects
    return float(np.mean([precision[recall == r].max(initial=0) for r in RECALLS]))
'''),
        ("count with precision 0", '''
def area_below(hits, objects):
    right = np.cumsum(hits)
    precision, recall = right / np.arange(1, len(hits) + 1), right / objects
    return float(np.mean([precision[recall >= r].max() for r in RECALLS if (recall >= r).any()]))
'''),
        ("the best one there or later counts", '''
def area_below(hits, objects):
    right = np.cumsum(hits)
    precision, recall = right / np.arange(1, len(hits) + 1), right / objects
    return float(np.mean([precision[np.argmax(recall >= r)] if (recall >= r).any() else 0 for r in RECALLS]))
'''),
        ("it should be 0.8350", '''
def area_below(hits, objects):
    right = np.cumsum(hits)
    precision, recall = right / np.arange(1, len(hits) + 1), right / objects
    return float(np.mean([precision[recall > r].max(initial=0) for r in RECALLS]))
'''),
    ],
}

"""Plausible wrong answers to assignment 6, the tests that they lose and words that the feedback must say."""

from tests.assignments.wrong import Wrong

IOU, APART = "box_iou-values", "box_iou-apart"
ORDER, KEPT = "suppress-order", "suppress-values"
LOSS, FAR_LOSS = "focal_loss-values", "focal_loss-far"
SLOPE, FAR_SLOPE = "focal_loss_gradient-values", "focal_loss_gradient-far"
ONCE, BEST = "match_finds-once", "match_finds-best"
SMALL, SORTED = "average_precision-small", "average_precision-order"
DETECTOR, SCORE = "finale-detector", "finale-score"

WRONG = [
    # Task 1
    Wrong(
        "box_iou",
        "widths and heights with + 1",
        loses=(IOU, APART, DETECTOR, SCORE),
        says="without + 1",
        code='''
def box_iou(boxes1, boxes2):
    size = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:]) - np.maximum(boxes1[:, None, :2], boxes2[:, :2]) + 1
    shared = np.prod(np.maximum(size, 0), axis=2)
    areas1, areas2 = (np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1) for boxes in (boxes1, boxes2))
    return shared / (areas1[:, None] + areas2 - shared)
'''),
    Wrong(
        "box_iou",
        "the intersection not clipped at 0",
        loses=(APART, DETECTOR, SCORE),
        says="a negative width counts as 0",
        code='''
def box_iou(boxes1, boxes2):
    size = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:]) - np.maximum(boxes1[:, None, :2], boxes2[:, :2])
    shared = np.prod(size, axis=2)
    areas1, areas2 = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (boxes1, boxes2))
    joint = areas1[:, None] + areas2 - shared
    return np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0)
'''),
    Wrong(
        "box_iou",
        "both areas added for the union",
        loses=(IOU, APART, DETECTOR, SCORE),
        says="does the union count the shared area once",
        code='''
def box_iou(boxes1, boxes2):
    size = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:]) - np.maximum(boxes1[:, None, :2], boxes2[:, :2])
    shared = np.prod(np.maximum(size, 0), axis=2)
    areas1, areas2 = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (boxes1, boxes2))
    joint = areas1[:, None] + areas2
    return np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0)
'''),
    Wrong(
        "box_iou",
        "divided by the smaller area",
        loses=(IOU, APART, DETECTOR, SCORE),
        says="not by the area of one box",
        code='''
def box_iou(boxes1, boxes2):
    size = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:]) - np.maximum(boxes1[:, None, :2], boxes2[:, :2])
    shared = np.prod(np.maximum(size, 0), axis=2)
    areas1, areas2 = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (boxes1, boxes2))
    smaller = np.minimum(areas1[:, None], areas2)
    return np.divide(shared, smaller, out=np.zeros_like(shared), where=smaller > 0)
'''),
    Wrong(
        "box_iou",
        "0 / 0 for boxes without area",
        loses=(APART,),
        says="0 / 0",
        code='''
def box_iou(boxes1, boxes2):
    size = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:]) - np.maximum(boxes1[:, None, :2], boxes2[:, :2])
    shared = np.prod(np.maximum(size, 0), axis=2)
    areas1, areas2 = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (boxes1, boxes2))
    return shared / (areas1[:, None] + areas2 - shared)
'''),
    # Task 2
    Wrong(
        "suppress",
        "not sorted by score",
        loses=(ORDER, KEPT),
        says="sort them by falling scores",
        code='''
def suppress(overlaps, scores, iou_threshold):
    kept = []
    for place in range(len(scores)):
        if not (overlaps[place, kept] > iou_threshold).any():
            kept.append(place)
    return np.array(kept, np.int64)
'''),
    Wrong(
        "suppress",
        "removed at the threshold itself",
        loses=(KEPT,),
        says="exactly the threshold is not larger",
        code='''
def suppress(overlaps, scores, iou_threshold):
    kept = []
    for place in np.argsort(-scores, kind="stable"):
        if (overlaps[place, kept] < iou_threshold).all():
            kept.append(place)
    return np.array(kept, np.int64)
'''),
    Wrong(
        "suppress",
        "compared with the last kept box only",
        loses=(KEPT, DETECTOR),
        says="compare with all kept boxes",
        code='''
def suppress(overlaps, scores, iou_threshold):
    kept = []
    for place in np.argsort(-scores, kind="stable"):
        if not kept or overlaps[place, kept[-1]] <= iou_threshold:
            kept.append(place)
    return np.array(kept, np.int64)
'''),
    Wrong(
        "suppress",
        "removed boxes remove others",
        loses=(KEPT, DETECTOR),
        says="it removes nobody",
        code='''
def suppress(overlaps, scores, iou_threshold):
    order = np.argsort(-scores, kind="stable")
    kept = [place for number, place in enumerate(order) if (overlaps[place, order[:number]] <= iou_threshold).all()]
    return np.array(kept, np.int64)
'''),
    Wrong(
        "suppress",
        "the right boxes in the order of their places",
        loses=(ORDER, KEPT),
        says="by falling scores",
        code='''
def suppress(overlaps, scores, iou_threshold):
    kept = []
    for place in np.argsort(-scores, kind="stable"):
        if not (overlaps[place, kept] > iou_threshold).any():
            kept.append(place)
    return np.sort(np.array(kept, np.int64))
'''),
    Wrong(
        "suppress",
        "equal scores from behind",
        loses=(ORDER,),
        says="of equal scores the lower place",
        code='''
def suppress(overlaps, scores, iou_threshold):
    kept = []
    for place in np.argsort(scores, kind="stable")[::-1]:
        if not (overlaps[place, kept] > iou_threshold).any():
            kept.append(place)
    return np.array(kept, np.int64)
'''),
    # Task 3
    Wrong(
        "focal_loss",
        "without alpha",
        loses=(LOSS, FAR_LOSS, DETECTOR),
        says="alpha = 0.25 is missing",
        code='''
def focal_loss(x, t, alpha, gamma):
    z = np.where(t == 1, x, -x)
    return np.exp(-np.logaddexp(0, z)) ** gamma * np.logaddexp(0, -z)
'''),
    Wrong(
        "focal_loss",
        "alpha for both classes",
        loses=(LOSS, FAR_LOSS, DETECTOR),
        says="it is 1 - alpha there",
        code='''
def focal_loss(x, t, alpha, gamma):
    z = np.where(t == 1, x, -x)
    return alpha * np.exp(-np.logaddexp(0, z)) ** gamma * np.logaddexp(0, -z)
'''),
    Wrong(
        "focal_loss",
        "p_t in place of 1 - p_t",
        loses=(LOSS, FAR_LOSS, DETECTOR),
        says="not p_t**gamma",
        code='''
def focal_loss(x, t, alpha, gamma):
    z = np.where(t == 1, x, -x)
    balance = np.where(t == 1, alpha, 1 - alpha)
    return balance * np.exp(-np.logaddexp(0, -z)) ** gamma * np.logaddexp(0, -z)
'''),
    Wrong(
        "focal_loss",
        "the logarithm of a rounded probability",
        loses=(FAR_LOSS,),
        says="log(0) is infinite",
        code='''
def focal_loss(x, t, alpha, gamma):
    p = 1 / (1 + np.exp(-x))
    right = np.where(t == 1, p, 1 - p)
    return -np.where(t == 1, alpha, 1 - alpha) * (1 - right) ** gamma * np.log(right)
'''),
    Wrong(
        "focal_loss",
        "gamma always 2",
        loses=(LOSS, FAR_LOSS),
        says="gamma is always 2",
        code='''
def focal_loss(x, t, alpha, gamma):
    z = np.where(t == 1, x, -x)
    return np.where(t == 1, alpha, 1 - alpha) * np.exp(-np.logaddexp(0, z)) ** 2 * np.logaddexp(0, -z)
'''),
    Wrong(
        "focal_loss",
        "the losses summed",
        loses=(LOSS, FAR_LOSS, DETECTOR),
        says="do not sum",
        code='''
def focal_loss(x, t, alpha, gamma):
    z = np.where(t == 1, x, -x)
    losses = np.where(t == 1, alpha, 1 - alpha) * np.exp(-np.logaddexp(0, z)) ** gamma * np.logaddexp(0, -z)
    return losses.sum()
'''),
    # Task 4
    Wrong(
        "focal_loss_gradient",
        "the term of q**gamma forgotten",
        loses=(SLOPE, FAR_SLOPE, DETECTOR),
        says="product rule",
        code='''
def focal_loss_gradient(x, t, alpha, gamma):
    sign = np.where(t == 1, 1.0, -1.0)
    q = np.exp(-np.logaddexp(0, sign * x))
    return -sign * np.where(t == 1, alpha, 1 - alpha) * q ** (gamma + 1)
'''),
    Wrong(
        "focal_loss_gradient",
        "by z in place of x",
        loses=(SLOPE, FAR_SLOPE, DETECTOR),
        says="dz/dx = -1",
        code='''
def focal_loss_gradient(x, t, alpha, gamma):
    z = np.where(t == 1, x, -x)
    s = np.logaddexp(0, -z)
    p, q = np.exp(-s), np.exp(-np.logaddexp(0, z))
    return -np.where(t == 1, alpha, 1 - alpha) * q**gamma * (gamma * p * s + q)
'''),
    Wrong(
        "focal_loss_gradient",
        "without alpha",
        loses=(SLOPE, FAR_SLOPE, DETECTOR),
        says="alpha = 0.25 is missing",
        code='''
def focal_loss_gradient(x, t, alpha, gamma):
    sign = np.where(t == 1, 1.0, -1.0)
    s = np.logaddexp(0, -sign * x)
    p, q = np.exp(-s), np.exp(-np.logaddexp(0, sign * x))
    return -sign * q**gamma * (gamma * p * s + q)
'''),
    Wrong(
        "focal_loss_gradient",
        "alpha for both classes",
        loses=(SLOPE, FAR_SLOPE, DETECTOR),
        says="it is 1 - alpha there",
        code='''
def focal_loss_gradient(x, t, alpha, gamma):
    sign = np.where(t == 1, 1.0, -1.0)
    s = np.logaddexp(0, -sign * x)
    p, q = np.exp(-s), np.exp(-np.logaddexp(0, sign * x))
    return -sign * alpha * q**gamma * (gamma * p * s + q)
'''),
    Wrong(
        "focal_loss_gradient",
        "unstable: the exponential overflows, 1 - p rounds to 0",
        loses=(FAR_SLOPE,),
        says="exp(800) is too large",
        code='''
def focal_loss_gradient(x, t, alpha, gamma):
    sign = np.where(t == 1, 1.0, -1.0)
    grown = np.exp(sign * x)
    p = grown / (1 + grown)
    return -sign * np.where(t == 1, alpha, 1 - alpha) * (1 - p) ** gamma * (1 - p - gamma * p * np.log(p))
'''),
    # Task 5
    Wrong(
        "batch_loss",
        "the mean in place of the sum",
        loses=("batch_loss-value",),
        says="the mean over all 8 cells",
        code='''
def batch_loss(losses, t):
    return float(losses.mean())
'''),
    Wrong(
        "batch_loss",
        "the sum, not divided",
        loses=("batch_loss-value",),
        says="12 is the sum",
        code='''
def batch_loss(losses, t):
    return float(losses.sum())
'''),
    Wrong(
        "batch_loss",
        "background left out",
        loses=("batch_loss-value",),
        says="the background counts too",
        code='''
def batch_loss(losses, t):
    return float((losses * t).sum() / max(1, t.sum()))
'''),
    Wrong(
        "batch_loss",
        "divided by 0 where no object is",
        loses=("batch_loss-value",),
        says="no object at all",
        code='''
def batch_loss(losses, t):
    return float(losses.sum() / t.sum())
'''),
    Wrong(
        "batch_loss",
        "divided by the images",
        loses=("batch_loss-value",),
        says="divided by 2 images",
        code='''
def batch_loss(losses, t):
    return float(losses.sum() / len(losses))
'''),
    # Task 6
    Wrong(
        "match_finds",
        "one object found twice",
        loses=(ONCE, BEST, SCORE),
        says="the object is taken by the first",
        code='''
def match_finds(overlaps, iou_threshold):
    return (overlaps >= iou_threshold).any(axis=1)
'''),
    Wrong(
        "match_finds",
        "a find whose best object is taken gives up (Pascal VOC's rule)",
        loses=(BEST,),
        says="is still free",
        code='''
def match_finds(overlaps, iou_threshold):
    hits, free = np.zeros(len(overlaps), bool), np.ones(overlaps.shape[1], bool)
    for number, row in enumerate(overlaps):
        if len(row) and row.max() >= iou_threshold and free[row.argmax()]:
            hits[number], free[row.argmax()] = True, False
    return hits
'''),
    Wrong(
        "match_finds",
        "the first free object in place of the best",
        loses=(BEST,),
        says="0.9, the best",
        code='''
def match_finds(overlaps, iou_threshold):
    hits, free = np.zeros(len(overlaps), bool), np.ones(overlaps.shape[1], bool)
    for number, row in enumerate(overlaps):
        reached = np.flatnonzero(free & (row >= iou_threshold))
        if len(reached):
            hits[number], free[reached[0]] = True, False
    return hits
'''),
    Wrong(
        "match_finds",
        "an IoU of exactly the threshold not enough",
        loses=(ONCE,),
        says="equal is enough",
        code='''
def match_finds(overlaps, iou_threshold):
    hits, free = np.zeros(len(overlaps), bool), np.ones(overlaps.shape[1], bool)
    for number, row in enumerate(overlaps):
        reached = np.where(free & (row > iou_threshold), row, -1)
        if reached.max(initial=-1) >= 0:
            hits[number], free[reached.argmax()] = True, False
    return hits
'''),
    Wrong(
        "match_finds",
        "no answer where no object is",
        loses=(ONCE,),
        says="zero-size",
        code='''
def match_finds(overlaps, iou_threshold):
    hits, free = np.zeros(len(overlaps), bool), np.ones(overlaps.shape[1], bool)
    for number, row in enumerate(overlaps):
        best = np.where(free, row, -1).max()
        if best >= iou_threshold:
            hits[number], free[np.where(free, row, -1).argmax()] = True, False
    return hits
'''),
    # Task 7
    Wrong(
        "average_precision",
        "the mean precision at the right finds",
        loses=(SMALL, SORTED, SCORE),
        says="take the mean over RECALLS",
        code='''
def average_precision(hits, scores, objects):
    hits = hits[np.argsort(-scores)]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].sum() / objects) if objects > 1 else float(precision[hits].mean())
'''),
    Wrong(
        "average_precision",
        "11 recalls (Pascal VOC 2007)",
        loses=(SMALL, SORTED, SCORE),
        says="COCO takes 101",
        code='''
def average_precision(hits, scores, objects):
    right = np.cumsum(hits[np.argsort(-scores)])
    precision, recall = right / np.arange(1, len(hits) + 1), right / objects
    return float(np.mean([precision[recall >= wanted].max(initial=0) for wanted in np.linspace(0, 1, 11)]))
'''),
    Wrong(
        "average_precision",
        "no envelope: the precision at the first place",
        loses=(SMALL, SORTED, SCORE),
        says="the best one there or later",
        code='''
def average_precision(hits, scores, objects):
    right = np.cumsum(hits[np.argsort(-scores)])
    precision, recall = right / np.arange(1, len(hits) + 1), right / objects
    return float(np.mean([precision[np.argmax(recall >= r)] if (recall >= r).any() else 0 for r in RECALLS]))
'''),
    Wrong(
        "average_precision",
        "recalls that are never reached left out",
        loses=(SMALL, SORTED, SCORE),
        says="recalls that are never reached",
        code='''
def average_precision(hits, scores, objects):
    right = np.cumsum(hits[np.argsort(-scores)])
    precision, recall = right / np.arange(1, len(hits) + 1), right / objects
    reached = [precision[recall >= wanted].max() for wanted in RECALLS if (recall >= wanted).any()]
    return float(np.mean(reached)) if reached else 0.0
'''),
    Wrong(
        "average_precision",
        "wrong finds not counted",
        loses=(SMALL, SORTED, SCORE),
        says="wrong finds lower the precision",
        code='''
def average_precision(hits, scores, objects):
    return float(np.mean(RECALLS <= hits.sum() / objects))
'''),
    Wrong(
        "average_precision",
        "not sorted by score",
        loses=(SORTED, SCORE),
        says="sort by falling scores",
        code='''
def average_precision(hits, scores, objects):
    right = np.cumsum(hits)
    precision, recall = right / np.arange(1, len(hits) + 1), right / objects
    return float(np.mean([precision[recall >= wanted].max(initial=0) for wanted in RECALLS]))
'''),
]  # fmt: skip

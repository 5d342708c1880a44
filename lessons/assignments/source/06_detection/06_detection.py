# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   tinynet:
#     allowed: [math, numpy]
#     refused: []
# ---

# %% [markdown]
# # Assignment 6: Detection
#
# **Goal.** A detector hands out boxes with scores. You write what stands around its network: what a box is worth
# (intersection over union), which of many boxes on one object stays (non-maximum suppression), what the network learns
# from (the focal loss and its gradient), and the number by which detectors are compared (average precision). At the end
# your functions run inside tinynet's detector.
#
# **You need:** lesson 12, and the chain rule (lesson 1). **Time:** two to three hours. **Points:** 20.
#
# | task | points |
# |---|---|
# | 1 · Intersection over union | 3 |
# | 2 · Non-maximum suppression | 3 |
# | 3 · Focal loss | 3 |
# | 4 · The gradient of the focal loss | 3 |
# | 5 · The loss of a batch | 1 |
# | 6 · Which finds are right | 2 |
# | 7 · Average precision | 2 |
# | 8 · Finale: your functions in the detector | 3 |
#
# **How to work.** Replace the lines `# YOUR CODE HERE` and `raise NotImplementedError()` with your code. Below each
# task stand checks that say at once what is wrong. Your submission is graded by them and by further tests with other
# shapes and fresh random numbers. The tasks are graded one by one: if you are stuck, go on with the next one. Only the
# finale needs them all.
#
# **Your own work.** Everything is to be computed with NumPy, and `math` if you like; nothing else can be imported.
# tinynet has an answer to each task (`tinynet.detection`, `tinynet.kernels`): its use is refused, and so is that of any
# other library. Keep the names and parameters of the functions. Cells without `YOUR CODE HERE` are given: they are
# replaced by the original ones before grading.
#
# **Names.** A **box** is a row `x1, y1, x2, y2`: left, top, right, bottom, in pixels. Its width is $x_2 - x_1$ and its
# height $y_2 - y_1$ (without the $+1$ of some old programs). Loops are fine everywhere.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math

import numpy as np

RECALLS = np.linspace(0, 1, 101)  # 0, 0.01, ..., 1: for task 7

# %% [markdown]
# ## Task 1 · Intersection over union · 3 points
#
# For two boxes $a$ and $b$
#
# $$\mathrm{IoU}(a, b) = \frac{|a \cap b|}{|a \cup b|}, \qquad |a \cup b| = |a| + |b| - |a \cap b|$$
#
# where $|\cdot|$ is an area. Lesson 12 did it for two boxes. A detector has thousands, so here is one call for **all
# pairs** of two sets. (Two loops are fine. Without loops: `boxes1[:, None]` against `boxes2[None, :]`.)
#
# Mind boxes that do not touch: they share nothing. And if both boxes of a pair have no area, the fraction is $0/0$;
# call it 0.

# %% nbgrader={"grade": false, "grade_id": "box_iou", "locked": false, "schema_version": 3, "solution": true, "task": false}
def box_iou(boxes1, boxes2):
    """Intersection over union of every box of one set with every box of another.

    Args:
        boxes1: float array (N, 4), a box x1, y1, x2, y2 in each row, x1 <= x2 and y1 <= y2. N may be 0.
        boxes2: float array (M, 4), likewise.

    Returns:
        Float array (N, M), from 0 to 1: element [i, j] is the IoU of boxes1[i] and boxes2[j], and 0 where both boxes
        have no area.
    """
    ### BEGIN SOLUTION
    upper_left = np.maximum(boxes1[:, None, :2], boxes2[None, :, :2])
    lower_right = np.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    shared = np.prod(np.maximum(lower_right - upper_left, 0), axis=2)
    areas1, areas2 = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (boxes1, boxes2))
    joint = areas1[:, None] + areas2[None, :] - shared
    return np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "box_iou-values", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
square = np.array([[0.0, 0.0, 10.0, 10.0]])
others = np.array([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [2.0, 4.0, 7.0, 8.0]])
ious = box_iou(square, others)
assert isinstance(ious, np.ndarray), f"box_iou returns a {type(ious).__name__}, a NumPy array is expected"
assert ious.shape == (1, 3), f"1 box against 3 gives shape (1, 3), yours is {ious.shape}"
same, shifted, inside = ious[0]
assert abs(same - 1) < 1e-9, f"a box and itself: IoU 1, yours {same:.4f}: does the union count the shared area once?"
assert abs(shifted - 0.5) > 1e-6, "half shifted: 50 shared by a union of 150, not by the area of one box"
assert abs(shifted - 66 / 176) > 1e-6, "half shifted gives 66/176 with you: a width is x2 - x1, without + 1"
assert abs(shifted - 1 / 3) < 1e-9, f"half shifted: 50/150 = 0.3333, yours is {shifted:.4f}"
assert abs(inside - 1) > 1e-6, "a box inside of another has IoU 1 with you: divide by the union, not the smaller area"
assert abs(inside - 0.2) < 1e-9, f"a box of 5×4 in one of 10×10 has IoU 20/100, yours is {inside:.4f}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.detection import box_iou as own_box_iou
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(box_iou)
rng = fresh_generator()
centre = rng.uniform(20, 30, 2)  # lies in every box: all pairs overlap
low, high = rng.uniform(1, 20, (12, 2)), rng.uniform(1, 20, (12, 2))
boxes = np.concatenate([centre - low, centre + high], axis=1)
first, second = boxes[:5], boxes[5:]
expected = own_box_iou(tensor(first), tensor(second)).numpy()
sides = (first[:, None, 2:] - first[:, None, :2], second[None, :, 2:] - second[None, :, :2])
shared = np.prod(np.minimum(first[:, None, 2:], second[:, 2:]) - np.maximum(first[:, None, :2], second[:, :2]), axis=2)
areas = [np.prod(each, axis=2) for each in sides]
longer = np.prod(
    np.minimum(first[:, None, 2:], second[:, 2:]) - np.maximum(first[:, None, :2], second[:, :2]) + 1, axis=2
)
wrong = {
    "widths and heights are taken with + 1": longer / (np.prod(sides[0] + 1, 2) + np.prod(sides[1] + 1, 2) - longer),
    "the union counts the shared area twice": shared / (areas[0] + areas[1]),
    "divided by the smaller area, not by the union": shared / np.minimum(*areas),
    "divided by the area of one box, not by the union": shared / (areas[0] + 0 * areas[1]),
}
compare(box_iou(first, second), expected, "box_iou of 5 boxes with 7 that all overlap", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "box_iou-apart", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
square = np.array([[0.0, 0.0, 10.0, 10.0]])
beside = float(box_iou(square, np.array([[20.0, 0.0, 30.0, 10.0]]))[0, 0])
assert beside == 0, f"two boxes side by side with a gap have IoU {beside:.3f} with you: a negative width counts as 0"
diagonal = float(box_iou(square, np.array([[20.0, 20.0, 30.0, 30.0]]))[0, 0])
assert diagonal == 0, f"IoU {diagonal:.3f} for boxes apart: two negative sides make a positive area, so clip at 0"
with np.errstate(all="ignore"):
    flat = float(box_iou(np.array([[5.0, 5.0, 5.0, 9.0]]), np.array([[5.0, 5.0, 5.0, 9.0]]))[0, 0])
assert flat == 0, f"two boxes without area have IoU {flat} with you: 0 / 0, here it shall be 0"
nothing = box_iou(np.zeros((0, 4)), square)
assert nothing.shape == (0, 1), f"no boxes against one gives shape (0, 1), yours is {nothing.shape}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.detection import box_iou as own_box_iou
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(box_iou)
rng = fresh_generator()
corners = rng.uniform(0, 100, (40, 2))
boxes = np.concatenate([corners, corners + rng.uniform(2, 40, (40, 2))], axis=1)
size = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(boxes[:, None, :2], boxes[:, :2])
area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
shared = np.prod(size, axis=2)
wrong = {"the shared width and height are not clipped at 0": shared / (area[:, None] + area - shared)}
expected = own_box_iou(tensor(boxes), tensor(boxes)).numpy()
compare(box_iou(boxes, boxes), expected, "box_iou of 40 boxes, most of them apart", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2 · Non-maximum suppression · 3 points
#
# Many cells report the same object. Take the box with the best score and keep it. Remove every box whose IoU with it
# is **larger** than the threshold. Take the best of what is left, and so on. A box that was removed removes nobody.
#
# So that this task does not depend on task 1, you get the IoUs of all pairs.

# %% nbgrader={"grade": false, "grade_id": "suppress", "locked": false, "schema_version": 3, "solution": true, "task": false}
def suppress(overlaps, scores, iou_threshold):
    """Non-maximum suppression: of boxes that overlap, only the best stays.

    Args:
        overlaps: float array (N, N), element [i, j] is the IoU of boxes i and j. N may be 0.
        scores: float array (N,), in no particular order.
        iou_threshold: float; a box goes if its IoU with a kept box is larger than this. Equal is not larger.

    Returns:
        int64 array (K,): the places of the kept boxes, the best score first, of equal scores the lower place first.
    """
    ### BEGIN SOLUTION
    kept = []
    for place in np.argsort(-scores, kind="stable"):
        if not (overlaps[place, kept] > iou_threshold).any():
            kept.append(place)
    return np.array(kept, np.int64)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "suppress-order", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
apart = np.eye(4)
kept = suppress(apart, np.array([0.2, 0.9, 0.5, 0.7]), 0.5)
assert isinstance(kept, np.ndarray), f"suppress returns a {type(kept).__name__}, an int64 array is expected"
assert kept.dtype == np.int64, f"places are whole numbers: an array of int64 is expected, yours is of {kept.dtype}"
assert kept.tolist() != [0, 1, 2, 3], "four boxes apart come back as [0, 1, 2, 3]: sort them by falling scores"
assert kept.tolist() != [0, 2, 3, 1], "four boxes apart come back worst first: the best score comes first"
assert kept.tolist() == [1, 3, 2, 0], f"four boxes apart all stay, in the order [1, 3, 2, 0]; yours is {kept.tolist()}"
equal = suppress(apart, np.array([0.5, 0.7, 0.5, 0.7]), 0.5).tolist()
assert equal == [1, 3, 0, 2], f"of equal scores the lower place comes first: [1, 3, 0, 2], yours is {equal}"
empty = suppress(np.zeros((0, 0)), np.zeros(0), 0.5)
assert empty.shape == (0,) and empty.dtype == np.int64, f"without boxes an empty int64 array, yours is {empty!r}"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work

require_own_work(suppress)
rng = fresh_generator()
scores = rng.permutation(np.repeat(np.arange(8), 2)) / 8  # every score twice
order = sorted(range(16), key=lambda place: (-scores[place], place))
got = suppress(0.3 * rng.random((16, 16)), scores, 0.4)
case = "16 boxes that overlap by at most 0.3, threshold 0.4"
assert got.tolist() == order, f"{case}: got {got.tolist()}, expected {order}"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "suppress-values", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
pair = np.array([[1.0, 0.8], [0.8, 1.0]])
kept = suppress(pair, np.array([0.3, 0.6]), 0.5).tolist()
assert kept != [0], "of two boxes on one object the first one stays, though the second has the better score: sort first"
assert kept == [1], f"of two boxes with IoU 0.8 and scores 0.3 and 0.6 the second stays, [1]; yours is {kept}"
chain = np.array([[1.0, 0.7, 0.4], [0.7, 1.0, 0.7], [0.4, 0.7, 1.0]])
kept = suppress(chain, np.array([0.9, 0.8, 0.7]), 0.5).tolist()
assert kept != [0], "a chain A-B-C: A removes B. C overlaps only B too much, and B was removed: it removes nobody"
assert kept == [0, 2], f"a chain A-B-C: A and C stay, [0, 2]; yours is {kept}"
fork = np.array([[1.0, 0.0, 0.7], [0.0, 1.0, 0.0], [0.7, 0.0, 1.0]])
kept = suppress(fork, np.array([0.9, 0.8, 0.7]), 0.5).tolist()
assert kept != [0, 1, 2], "the third box overlaps the first by 0.7 and stays: compare with all kept boxes, not the last"
assert kept == [0, 1], f"the third box overlaps the first by 0.7 and goes: [0, 1]; yours is {kept}"
kept = suppress(np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([0.9, 0.8]), 0.5).tolist()
assert kept == [0, 1], f"an IoU of exactly the threshold is not larger: both stay, [0, 1]; yours is {kept}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.detection import box_iou as own_box_iou
from tinynet.detection import nms as own_nms
from tinynet.grading import fresh_generator, require_own_work

require_own_work(suppress)
rng = fresh_generator()
for threshold in (0.3, 0.6):
    corners = rng.uniform(0, 40, (40, 2))
    boxes = tensor(np.concatenate([corners, corners + rng.uniform(10, 30, (40, 2))], axis=1))
    scores = rng.permutation(40) / 40
    expected = own_nms(boxes, tensor(scores), threshold).tolist()
    got = suppress(own_box_iou(boxes, boxes).numpy(), scores, threshold).tolist()
    case = f"40 random boxes, threshold {threshold}"
    assert sorted(got) != sorted(expected) or got == expected, f"{case}: the right boxes, but not by falling scores"
    assert got == expected, f"{case}: {len(got)} stay, {len(expected)} should; got {got}, expected {expected}"
quarters = rng.integers(0, 5, (12, 12)) / 4  # many IoUs of exactly the threshold
overlaps, scores, expected = np.maximum(quarters, quarters.T), rng.permutation(12) / 12, []
for place in np.argsort(-scores).tolist():
    if all(overlaps[place, other] <= 0.5 for other in expected):
        expected.append(place)
got = suppress(overlaps, scores, 0.5).tolist()
assert got == expected, f"12 boxes, IoUs in quarters, threshold 0.5, equal is not larger: {got}, expected {expected}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3 · Focal loss · 3 points
#
# For every cell the network gives a logit $x$, and the target $t$ is 1 where an object is and 0 where none is. Let
# $p_t$ be the probability that the cell gives to the *right* answer:
#
# $$z = \begin{cases} x & t = 1 \\ -x & t = 0 \end{cases} \qquad p_t = \sigma(z) = \frac{1}{1 + e^{-z}} \qquad
# \alpha_t = \begin{cases} \alpha & t = 1 \\ 1 - \alpha & t = 0 \end{cases}$$
#
# $$\mathrm{FL} = -\alpha_t \, (1 - p_t)^\gamma \, \log p_t$$
#
# A logit of 800 must not end in `inf` or `nan`, and a very sure right answer has a tiny loss, not 0. So use
# $-\log \sigma(z) = \log(1 + e^{-z})$, which is `np.logaddexp(0, -z)`, and $1 - \sigma(z) = \sigma(-z)$.

# %% nbgrader={"grade": false, "grade_id": "focal_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def focal_loss(x, t, alpha, gamma):
    """The focal loss of every cell (Lin and others 2017, equation 5).

    Args:
        x: float array of any shape, the logits; finite, of any size.
        t: array of the same shape, the targets, each 0 or 1.
        alpha: float from 0 to 1, the weight of objects; 1 - alpha is the weight of background.
        gamma: float, at least 0.

    Returns:
        Float array of the shape of x: the losses, not summed.
    """
    ### BEGIN SOLUTION
    z = np.where(t == 1, x, -x)
    missing = np.exp(-np.logaddexp(0, z))
    return np.where(t == 1, alpha, 1 - alpha) * missing**gamma * np.logaddexp(0, -z)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "focal_loss-values", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
sure = math.log(3.0)  # the logit of 0.75
cross = -math.log(0.75)
losses = focal_loss(np.array([sure, -sure]), np.array([1.0, 0.0]), 0.25, 2.0)
assert losses.shape == (2,), f"2 logits give 2 losses, yours have shape {losses.shape}: do not sum"
right = 0.25 * 0.25**2 * cross
here, empty = float(losses[0]), float(losses[1])
assert abs(here - 4 * right) > 1e-9, "object, p = 0.75: four times too large, the weight alpha = 0.25 is missing"
assert abs(here - 3 * right) > 1e-9, "object, p = 0.75: three times too large, its weight is alpha, not 1 - alpha"
assert abs(here - 0.25 * cross) > 1e-9, "object, p = 0.75: the factor (1 - 0.75)**2 is missing"
assert abs(here - 9 * right) > 1e-9, "object, p = 0.75: 9 times too large, take (1 - p_t)**gamma, not p_t**gamma"
assert abs(here - right) < 1e-9, f"object, p = 0.75: the loss is {right:.6f}, yours is {here:.6f}"
assert abs(empty - right) > 1e-9, "background gets the weight alpha with you, it is 1 - alpha there"
assert abs(empty - 27 * right) > 1e-9, "background, p = 0.25: 9 times too large, 1 - p_t is 0.25 there"
assert abs(empty - 3 * right) < 1e-9, f"background, p = 0.25: the loss is {3 * right:.6f}, yours is {empty:.6f}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.detection import sigmoid_focal_loss
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(focal_loss)
rng = fresh_generator()
for alpha, gamma in ((0.25, 2.0), (0.4, 1.5)):
    x, t = 2 * rng.standard_normal((6, 5)), (rng.random((6, 5)) < 0.4).astype(np.float64)
    expected = sigmoid_focal_loss(tensor(x), tensor(t), alpha, gamma).numpy()
    without = sigmoid_focal_loss(tensor(x), tensor(t), -1, gamma).numpy()
    wrong = {
        "the weight alpha is missing": without,
        "both classes have the weight alpha": alpha * without,
        "gamma is always 2": sigmoid_focal_loss(tensor(x), tensor(t), alpha, 2.0).numpy() if gamma != 2 else without,
        "the factor (1 - p_t)**gamma is missing": sigmoid_focal_loss(tensor(x), tensor(t), alpha, 0.0).numpy(),
    }
    got = focal_loss(x, t, alpha, gamma)
    compare(got, expected, f"focal loss, alpha {alpha}, gamma {gamma}", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "focal_loss-far", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
with np.errstate(all="ignore"):
    far = focal_loss(np.array([800.0, -800.0]), np.array([0.0, 1.0]), 0.25, 2.0)
    easy = float(focal_loss(np.array([40.0]), np.array([1.0]), 0.25, 2.0)[0])
advice = "log(0) is infinite and exp(800) too large, so use np.logaddexp"
assert np.isfinite(far).all(), f"wrong and very sure, logits of 800: your losses are {far}; {advice}"
assert np.allclose(far, [600, 200]), f"wrong and very sure, logits of 800: the losses are 600 and 200, yours are {far}"
advice = "1 - p rounds to 0 there, sigmoid(-z) does not"
assert easy > 0, f"right and sure, a logit of 40: 0.25 * exp(-40)**3 = 1.9e-53, yours is {easy}; {advice}"
assert 1.8e-53 < easy < 2.0e-53, f"right and sure, a logit of 40: about 1.9e-53, yours is {easy:.2e}; {advice}"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(focal_loss)
rng = fresh_generator()
x = rng.uniform(30, 300, 20) * np.where(rng.random(20) < 0.5, 1, -1)
t = (rng.random(20) < 0.5).astype(np.float64)
z = np.where(t == 1, x, -x)
logarithm = np.log(np.where(t == 1, 0.3, 0.7)) - 0.5 * np.logaddexp(0, z) + np.log(np.logaddexp(0, -z))
with np.errstate(all="ignore"):
    got = np.log(focal_loss(x, t, 0.3, 0.5))
compare(got, logarithm, "logarithm of the focal loss for logits of 30 to 300, gamma 0.5", rtol=1e-9)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4 · The gradient of the focal loss · 3 points
#
# Training needs $\partial \mathrm{FL} / \partial x$. Derive it with pencil and paper. With
# $s = -\log \sigma(z)$ and $q = 1 - p_t = \sigma(-z)$ the loss is $\alpha_t \, q^\gamma \, s$, and
#
# $$\frac{\partial s}{\partial z} = -q \qquad \frac{\partial q}{\partial z} = -p_t \, q$$
#
# Both factors, $q^\gamma$ and $s$, depend on $z$. And $z$ is $x$ or $-x$. The same numbers have to come out well as in
# task 3: no `inf`, no `nan`, no 0 for a sure answer.

# %% nbgrader={"grade": false, "grade_id": "focal_loss_gradient", "locked": false, "schema_version": 3, "solution": true, "task": false}
def focal_loss_gradient(x, t, alpha, gamma):
    """The derivative of every cell's focal loss by its logit.

    Args:
        x: float array of any shape, the logits; finite, of any size.
        t: array of the same shape, the targets, each 0 or 1.
        alpha: float from 0 to 1, the weight of objects; 1 - alpha is the weight of background.
        gamma: float, at least 0.

    Returns:
        Float array of the shape of x: d loss[i] / d x[i].
    """
    ### BEGIN SOLUTION
    sign = np.where(t == 1, 1.0, -1.0)
    z = sign * x
    surprise = np.logaddexp(0, -z)
    p, q = np.exp(-surprise), np.exp(-np.logaddexp(0, z))
    return -sign * np.where(t == 1, alpha, 1 - alpha) * q**gamma * (gamma * p * surprise + q)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "focal_loss_gradient-values", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
sure = math.log(3.0)  # the logit of 0.75
slopes = focal_loss_gradient(np.array([sure, -sure]), np.array([1.0, 0.0]), 0.25, 2.0)
assert slopes.shape == (2,), f"2 logits give 2 slopes, yours have shape {slopes.shape}: do not sum"
here, empty = float(slopes[0]), float(slopes[1])
cross = -math.log(0.75)
right = -0.25 * 0.25**2 * (2 * 0.75 * cross + 0.25)  # alpha_t, q**gamma, and the two terms of the product rule
assert here < 0, f"where an object is, a larger logit lowers the loss: the slope is negative, yours is {here:.6f}"
assert empty > 0, f"where none is, a larger logit raises the loss, dz/dx = -1: positive, yours is {empty:.6f}"
assert abs(here + 0.25 * 0.25**3) > 1e-9, "object: the term from q**gamma is missing, it has x in it (product rule)"
assert abs(here + 0.25 * 2 * 0.25**2 * 0.75 * cross) > 1e-9, "object: the term from -log p_t is missing (product rule)"
assert abs(here - 4 * right) > 1e-9, "object: four times too large, the weight alpha = 0.25 is missing"
assert abs(here - right) < 1e-9, f"object, p = 0.75: the slope is {right:.6f}, yours is {here:.6f}"
assert abs(empty + right) > 1e-9, "background gets the weight alpha with you, it is 1 - alpha there"
assert abs(empty + 3 * right) < 1e-9, f"background, p = 0.25: the slope is {-3 * right:.6f}, yours is {empty:.6f}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.detection import sigmoid_focal_loss
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(focal_loss_gradient)
rng = fresh_generator()
for alpha, gamma in ((0.25, 2.0), (0.4, 1.5)):
    x, t = 2 * rng.standard_normal((6, 5)), (rng.random((6, 5)) < 0.4).astype(np.float64)
    slopes = []
    for weight in (alpha, -1):
        leaf = tensor(x, requires_grad=True)
        sigmoid_focal_loss(leaf, tensor(t), weight, gamma, reduction="sum").backward()
        slopes.append(leaf.grad.numpy())
    z = np.where(t == 1, x, -x)
    q = 1 / (1 + np.exp(z))
    sign, balance = np.where(t == 1, 1, -1), np.where(t == 1, alpha, 1 - alpha)
    wrong = {
        "the weight alpha is missing": slopes[1],
        "both classes have the weight alpha": alpha * slopes[1],
        "the term from q**gamma is missing (product rule)": -sign * balance * q ** (gamma + 1),
        "the sign of z is missing: for background dz/dx is -1": sign * slopes[0],
    }
    got = focal_loss_gradient(x, t, alpha, gamma)
    compare(got, slopes[0], f"slope of the focal loss, alpha {alpha}, gamma {gamma}", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "focal_loss_gradient-far", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
with np.errstate(all="ignore"):
    far = focal_loss_gradient(np.array([800.0, -800.0]), np.array([0.0, 1.0]), 0.25, 2.0)
    easy = float(focal_loss_gradient(np.array([40.0]), np.array([1.0]), 0.25, 2.0)[0])
assert np.isfinite(far).all(), f"wrong and very sure, logits of 800: your slopes are {far}; exp(800) is too large"
assert np.allclose(far, [0.75, -0.25]), f"wrong and very sure, logits of 800: slopes 0.75 and -0.25, yours are {far}"
advice = "1 - p rounds to 0 there, sigmoid(-z) does not"
assert easy < 0, f"right and sure, a logit of 40: -0.75 * exp(-40)**3 = -5.8e-53, yours is {easy}; {advice}"
assert -6e-53 < easy < -5.5e-53, f"right and sure, a logit of 40: about -5.8e-53, yours is {easy:.2e}; {advice}"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(focal_loss_gradient)
rng = fresh_generator()
x = rng.uniform(30, 300, 20) * np.where(rng.random(20) < 0.5, 1, -1)
t = (rng.random(20) < 0.5).astype(np.float64)
z = np.where(t == 1, x, -x)
s, log_p, log_q = np.logaddexp(0, -z), -np.logaddexp(0, -z), -np.logaddexp(0, z)
logarithm = np.log(np.where(t == 1, 0.3, 0.7)) + 0.5 * log_q + np.logaddexp(np.log(0.5 * s) + log_p, log_q)
with np.errstate(all="ignore"):
    got = np.log(np.abs(focal_loss_gradient(x, t, 0.3, 0.5)))
compare(got, logarithm, "logarithm of the slope's magnitude for logits of 30 to 300, gamma 0.5", rtol=1e-9)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5 · The loss of a batch · 1 point
#
# Thousands of cells have a loss, a few of them answer for an object. RetinaNet adds up the losses of **all** cells and
# divides by the number of cells **with an object**, but at least by 1. The mean over all cells would be hundreds of
# times too small, and would change with the size of the picture.

# %% nbgrader={"grade": false, "grade_id": "batch_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_loss(losses, t):
    """The loss of a batch: the sum over all cells, divided by the number of cells with an object.

    Args:
        losses: float array (images, cells), the focal loss of every cell.
        t: array of the same shape, the targets, each 0 or 1. There may be no 1 at all: then the sum is divided by 1.

    Returns:
        float.
    """
    ### BEGIN SOLUTION
    return float(losses.sum() / max(1, t.sum()))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "batch_loss-value", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
losses = np.array([[1.0, 2.0, 3.0, 0.0], [4.0, 0.0, 0.0, 2.0]])
targets = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
got = float(batch_loss(losses, targets))
assert abs(got - 1.5) > 1e-9, "1.5 is the mean over all 8 cells: divide by the 3 cells with an object"
assert abs(got - 12) > 1e-9, "12 is the sum: divide by the 3 cells with an object"
assert abs(got - 5 / 3) > 1e-9, "1.67 is the loss of the object cells alone: the background counts too"
assert abs(got - 6) > 1e-9, "6 is the sum divided by 2 images: divide by the 3 cells with an object"
assert abs(got - 4) < 1e-9, f"a sum of 12 and 3 cells with an object make 4, yours is {got:.4f}"
with np.errstate(all="ignore"):
    got = float(batch_loss(losses, np.zeros((2, 4))))
assert got == 12, f"no object at all: the sum, 12, divided by 1; yours is {got}"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(batch_loss)
rng = fresh_generator()
losses, targets = rng.random((3, 50)), (rng.random((3, 50)) < 0.2).astype(np.float64)
targets[0, 0] = targets[1, 0] = 1
wrong = {
    "the mean over all cells": losses.mean(),
    "the sum, not divided": losses.sum(),
    "each image divided by its own objects": sum((a.sum() / max(1, b.sum()) for a, b in zip(losses, targets)), 0.0),
}
expected = losses.sum() / targets.sum()
compare(np.array(batch_loss(losses, targets)), np.array(expected), "loss of 3 images", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6 · Which finds are right · 2 points
#
# How good is a detector? First mark each of its finds in an image as right or wrong. Go through the finds, the surest
# first. Each looks at the objects that are **still free** and takes the one that it overlaps most, if that IoU reaches
# the threshold (equal is enough). Then the find is right, and the object is taken. Otherwise it is wrong.
#
# So a second box on an object that was found already is wrong, unless it reaches another free object.

# %% nbgrader={"grade": false, "grade_id": "match_finds", "locked": false, "schema_version": 3, "solution": true, "task": false}
def match_finds(overlaps, iou_threshold):
    """Which finds in an image are right (COCO's rule).

    Args:
        overlaps: float array (F, G): the IoU of F finds, the surest first, with the G objects that are there. Both may
            be 0. No two IoUs in a row are equal, 0 aside.
        iou_threshold: float above 0; an object is found from this IoU on.

    Returns:
        bool array (F,): True where a find has taken an object of its own.
    """
    ### BEGIN SOLUTION
    hits = np.zeros(len(overlaps), bool)
    free = np.ones(overlaps.shape[1], bool)
    for number, row in enumerate(overlaps):
        reached = np.where(free & (row >= iou_threshold), row, -1)
        if reached.max(initial=-1) >= 0:
            hits[number] = True
            free[reached.argmax()] = False
    return hits
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "match_finds-once", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
twice = match_finds(np.array([[0.9, 0.0], [0.8, 0.0]]), 0.5)
assert isinstance(twice, np.ndarray) and twice.dtype == bool, f"a NumPy array of bool is expected, yours is {twice!r}"
assert twice.tolist() != [True, True], "two finds on one object are both right: the object is taken by the first"
assert twice.tolist() == [True, False], f"two finds on one object: [True, False], yours is {twice.tolist()}"
limit = match_finds(np.array([[0.5, 0.0], [0.0, 0.49]]), 0.5).tolist()
assert limit == [True, False], f"IoUs of 0.5 and 0.49, threshold 0.5: [True, False], equal is enough; yours is {limit}"
nobody = match_finds(np.zeros((2, 0)), 0.5).tolist()
assert nobody == [False, False], f"2 finds where no object is: [False, False], yours is {nobody}"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work

require_own_work(match_finds)
rng = fresh_generator()
owner = rng.integers(0, 4, 15)  # each find overlaps one of four objects
overlaps = np.zeros((15, 4))
overlaps[np.arange(15), owner] = rng.uniform(0.55, 1, 15)
expected = [bool(owner[place] not in owner[:place]) for place in range(15)]
got = match_finds(overlaps, 0.5).tolist()
assert not all(got), "15 finds on 4 objects are all right with you: every object can be taken once"
assert got == expected, f"15 finds on 4 objects: got {got}, expected {expected}"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "match_finds-best", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
greedy = match_finds(np.array([[0.6, 0.9], [0.0, 0.7], [0.8, 0.0]]), 0.5).tolist()
advice = "the first find takes the second object (0.9, the best), so the second find gets none and the third the first"
assert greedy == [True, False, True], f"{advice}: [True, False, True], yours is {greedy}"
second = match_finds(np.array([[0.0, 0.9], [0.6, 0.8]]), 0.5).tolist()
advice = "the best object of the second find is taken, but the other one (0.6) is still free"
assert second == [True, True], f"{advice}: [True, True], yours is {second}"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work

require_own_work(match_finds)
rng = fresh_generator()
for threshold in (0.5, 0.75):
    for _ in range(5):
        overlaps = rng.random((12, 6))
        hits, free = [], set(range(6))
        for row in overlaps:
            best = max(free, key=lambda place: row[place], default=None)
            hits.append(best is not None and bool(row[best] >= threshold))
            free -= {best} if hits[-1] else set()
        got = match_finds(overlaps, threshold).tolist()
        case = f"12 finds, 6 objects, threshold {threshold}, IoUs {overlaps.round(2).tolist()}"
        assert got == hits, f"{case}: got {got}, expected {hits}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 7 · Average precision · 2 points
#
# Put the finds of all images in one row, the surest first. After each of them
#
# $$\text{precision} = \frac{\text{right finds so far}}{\text{finds so far}} \qquad
# \text{recall} = \frac{\text{right finds so far}}{\text{all objects}}$$
#
# **COCO's average precision** is the mean over the 101 recalls $r = 0, 0.01, \ldots, 1$ (`RECALLS` above) of the best
# precision among the places with a recall of at least $r$. A recall that is never reached counts with precision 0.

# %% nbgrader={"grade": false, "grade_id": "average_precision", "locked": false, "schema_version": 3, "solution": true, "task": false}
def average_precision(hits, scores, objects):
    """COCO's average precision at 101 recalls.

    Args:
        hits: bool array (F,): which finds are right. F may be 0.
        scores: float array (F,): how sure they were, in no particular order, all different.
        objects: int, at least 1: how many objects there are, found or not.

    Returns:
        float from 0 to 1.
    """
    ### BEGIN SOLUTION
    right = np.cumsum(hits[np.argsort(-scores)])
    precision = right / np.arange(1, len(hits) + 1)
    recall = right / objects
    best = [precision[recall >= wanted].max(initial=0) for wanted in RECALLS]
    return float(np.mean(best))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "average_precision-small", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
got = float(average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]), 2))
right = (51 + 50 * 2 / 3) / 101  # precision 1 for recalls up to 0.5, 2/3 for the other 50
assert abs(got - 1) > 1e-6, "right, wrong, right of 2 objects gives 1 with you: wrong finds lower the precision"
assert abs(got - 5 / 6) > 1e-9, "0.8333 is the mean precision at the right finds: take the mean over RECALLS"
assert abs(got - (6 + 5 * 2 / 3) / 11) > 1e-9, "0.8485 is the mean over 11 recalls: COCO takes 101, RECALLS"
assert abs(got - right) < 1e-9, f"right, wrong, right of 2 objects: AP {right:.4f}, yours is {got:.4f}"
got = float(average_precision(np.array([True]), np.array([0.5]), 2))
assert abs(got - 1) > 1e-9, "one of two objects found gives 1 with you: recalls that are never reached count with 0"
assert abs(got - 51 / 101) < 1e-9, f"one of two objects found, no wrong find: AP 51/101 = 0.5050, yours is {got:.4f}"
got = float(average_precision(np.array([False, True, True]), np.array([0.9, 0.8, 0.7]), 2))
advice = "the precision climbs 0, 1/2, 2/3, and at each recall the best one there or later counts"
assert abs(got - 2 / 3) < 1e-9, f"wrong, right, right of 2 objects: AP {2 / 3:.4f}, yours is {got:.4f}; {advice}"
got = float(average_precision(np.zeros(0, bool), np.zeros(0), 3))
assert got == 0, f"without any find AP is 0, yours is {got}"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(average_precision)
rng = fresh_generator()
hits = rng.random(9) < 0.5
hits[4:6] = True, False
right = np.cumsum(hits)
precision, recall = right / np.arange(1, 10), right / 7
reached = [precision[recall >= r].max(initial=0) for r in np.linspace(0, 1, 101)]
there = [precision[np.argmax(recall >= r)] if recall[-1] >= r else 0 for r in np.linspace(0, 1, 101)]
wrong = {
    "the precision at the first place that reaches a recall, not the best one there or later": np.mean(there),
    "recalls that are never reached are left out, they count with 0": np.mean([each for each in reached if each]),
    "the mean precision at the right finds": precision[hits].mean(),
}
got = average_precision(hits, np.linspace(0.9, 0.1, 9), 7)
compare(np.array(got), np.array(np.mean(reached)), f"AP of {hits.tolist()}, 7 objects", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "average_precision-order", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
got = float(average_precision(np.array([False, True]), np.array([0.3, 0.6]), 1))
assert abs(got - 0.5) > 1e-9, "the right find has the better score, so it comes first: sort by falling scores before"
assert abs(got - 1) < 1e-9, f"one object, the surer of two finds is right: AP 1, yours is {got:.4f}"

### BEGIN HIDDEN TESTS
from tinynet.detection import average_precision as own_average_precision
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(average_precision)
rng = fresh_generator()
for objects in (23, 37):
    hits, scores = rng.random(40) < 0.5, rng.permutation(40) / 40
    squares = np.array([[10.0 * place, 0.0, 10.0 * place + 8, 8.0] for place in range(100)])
    places = np.where(hits, np.cumsum(hits) - 1, 50 + np.arange(40))
    found = {"boxes": squares[places], "scores": scores, "labels": np.zeros(40, int)}
    there = {"boxes": squares[:objects], "labels": np.zeros(objects, int)}
    hits = hits & (places < objects)
    expected = own_average_precision([found], [there], [0.5])[0]
    got = average_precision(hits, scores, objects)
    compare(np.array([got]), expected, f"AP of 40 finds in random order, {objects} objects", rtol=1e-9)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 8 · Finale: your functions in the detector · 3 points
#
# Nothing is left to write. The next cell puts your functions together as the detector calls them: suppression on boxes,
# losses and slopes at once, and the score of a detector on several images.

# %% nbgrader={"grade": false, "grade_id": "assembly", "locked": true, "schema_version": 3, "solution": false, "task": false}
def nms(boxes, scores, iou_threshold):
    """Your suppression on boxes (N, 4) with your IoU, in place of `tinynet.kernels.nms`."""
    return suppress(box_iou(boxes, boxes), scores, iou_threshold)


def focal_loss_and_slope(x, t, alpha, gamma):
    """Your losses and their slopes, in place of `tinynet.kernels.focal_loss`."""
    losses, slopes = focal_loss(x, t, alpha, gamma), focal_loss_gradient(x, t, alpha, gamma)
    return losses.astype(x.dtype), slopes.astype(x.dtype)


def score_detector(boxes, scores, objects, iou_threshold):
    """Your average precision over images: lists of finds (F, 4), their scores (F,) and objects (G, 4)."""
    hits, sure = [], []
    for found, confidence, there in zip(boxes, scores, objects):
        order = np.argsort(-confidence, kind="stable")
        hits.append(match_finds(box_iou(found[order], there), iou_threshold))
        sure.append(confidence[order])
    return average_precision(np.concatenate(hits), np.concatenate(sure), sum(len(there) for there in objects))


# %% [markdown]
# A `PyramidDetector`, the one of lesson 12 with a narrower backbone, gets random weights and looks at two pictures.
# `tinynet.kernels.override` puts your functions in the place of tinynet's own and counts how often they are called.
# With the same weights the same losses, gradients and boxes must come out.

# %% nbgrader={"grade": true, "grade_id": "finale-detector", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
import tinynet
from tinynet import kernels
from tinynet.detection import build_detector


def run_detector(seed):
    """Losses, a gradient and detections of a detector with weights drawn from the seed, on two pictures."""
    draw = np.random.default_rng(seed)
    tinynet.manual_seed(0)
    detector = build_detector("fpn", ["thing"], width=4, channels=16, score_thresh=0.05, nms_thresh=0.4,
                              topk_candidates=80)  # fmt: skip
    with tinynet.no_grad():
        for parameter in detector.parameters():
            spread = 0.3 if parameter.ndim == 1 else (2 / parameter[0].numel()) ** 0.5
            values = spread * draw.standard_normal(tuple(parameter.shape)) + (parameter.ndim == 1)
            parameter.copy_(tinynet.tensor(values.astype(np.float32)))
        for predictor in detector.head.predictors:
            predictor.weight.mul_(0.3)
            predictor.bias.copy_(tinynet.tensor([-2.0, 0.0, 0.0, 0.8, 0.8]))  # few objects, boxes that overlap
    images = tinynet.tensor(draw.random((2, 1, 64, 64), np.float32))
    corners = draw.uniform(0, 30, (2, 3, 2))
    boxes = np.concatenate([corners, corners + draw.uniform(6, 30, (2, 3, 2))], axis=2).astype(np.float32)
    targets = [{"boxes": tinynet.tensor(each), "labels": tinynet.zeros(3, dtype=tinynet.int64)} for each in boxes]
    loss = detector.loss(images, targets)["classification"]
    loss.backward()
    gradient = detector.head.predictors[0].weight.grad.numpy().copy()
    with tinynet.no_grad():
        found = detector.detect(images)
    return float(loss.item()), gradient, [(each["boxes"].numpy(), each["scores"].numpy()) for each in found]


with kernels.backend("numpy"):
    own_loss, own_gradient, own_found = run_detector(6)
    with kernels.override(nms=nms, focal_loss=focal_loss_and_slope) as used:
        loss, gradient, found = run_detector(6)
assert min(used.calls.values()) > 0, f"the detector did not call your functions: {used.calls}"
assert abs(loss - own_loss) < 1e-4 * own_loss, f"the loss is {loss:.5f} with your focal loss, not {own_loss:.5f}"
error = np.abs(gradient - own_gradient).max() / np.abs(own_gradient).max()
assert error < 1e-3, f"relative error {error:.0e} of the head's gradient, should be about 1e-6: is the slope right?"
counts, own_counts = [len(boxes) for boxes, _ in found], [len(boxes) for boxes, _ in own_found]
assert counts == own_counts, f"with your suppression {counts} boxes stay, with tinynet's {own_counts}"
same = all(np.allclose(mine, own) for mine, own in zip(sum(found, ()), sum(own_found, ())))
assert same, "as many boxes stay as with tinynet's suppression, but others, or in another order"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

for function in (box_iou, suppress, focal_loss, focal_loss_gradient):
    require_own_work(function)
seed = int(fresh_generator().integers(2**31))
with kernels.backend("numpy"):
    own_loss, own_gradient, own_found = run_detector(seed)
    with kernels.override(nms=nms, focal_loss=focal_loss_and_slope) as used:
        loss, gradient, found = run_detector(seed)
assert used.calls["nms"] >= 2 and used.calls["focal_loss"] >= 1, f"your functions were not called: {used.calls}"
compare(np.array(loss), np.array(own_loss), "loss of the detector", rtol=1e-4)
compare(gradient, own_gradient, "gradient of the detector's head", rtol=1e-3)
for number, (mine, own) in enumerate(zip(found, own_found)):
    assert len(own[0]) > 3, "the detector found next to nothing"
    compare(mine[0], own[0], f"boxes found in picture {number}", rtol=1e-4)
    compare(mine[1], own[1], f"scores of the boxes found in picture {number}", rtol=1e-4)
### END HIDDEN TESTS

# %% [markdown]
# Last: how good is a detector? Here are the finds of one that is right most of the time, on six pictures, and your
# score of it beside tinynet's.

# %% nbgrader={"grade": true, "grade_id": "finale-score", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
import tinynet.detection


def draw_finds(seed):
    """Boxes and scores that a fair detector could have found in six pictures, and the objects that are there."""
    draw = np.random.default_rng(seed)
    boxes, scores, objects = [], [], []
    for _ in range(6):
        corners = 45.0 * np.stack(divmod(draw.permutation(9)[:7], 3), axis=1)  # no two objects touch
        there = np.concatenate([corners, corners + draw.uniform(10, 40, (7, 2))], axis=1)
        found = np.concatenate([there, there[:4], draw.uniform(0, 50, (3, 4))])  # some twice, some out of thin air
        found[-3:, 2:] += found[-3:, :2]
        boxes.append(found + draw.normal(0, 2, found.shape) * (found[:, 2:3] - found[:, :1]) / 25)
        scores.append(draw.permutation(len(found)) / 20 + draw.random(len(found)) / 20)
        objects.append(there)
    return boxes, scores, objects


def own_score(boxes, scores, objects, iou_threshold):
    """tinynet's average precision of the same."""
    finds = [{"boxes": b, "scores": s, "labels": np.zeros(len(b), int)} for b, s in zip(boxes, scores)]
    there = [{"boxes": b, "labels": np.zeros(len(b), int)} for b in objects]
    return float(tinynet.detection.average_precision(finds, there, [iou_threshold])[0][0])


for threshold in (0.5, 0.75):
    expected = own_score(*draw_finds(6), threshold)
    got = float(score_detector(*draw_finds(6), threshold))
    print(f"average precision at IoU {threshold}: yours {got:.4f}, tinynet's {expected:.4f}")
    assert abs(got - expected) < 1e-6, f"AP at IoU {threshold} is {got:.4f} with yours, {expected:.4f} with tinynet's"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

for function in (box_iou, match_finds, average_precision):
    require_own_work(function)
rng = fresh_generator()
for threshold in (0.5, 0.65, 0.8):
    finds = draw_finds(int(rng.integers(2**31)))
    got, expected = score_detector(*finds, threshold), own_score(*finds, threshold)
    compare(np.array(got), np.array(expected), f"AP of a detector at IoU {threshold}", rtol=1e-6)
### END HIDDEN TESTS

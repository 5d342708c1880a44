"""Plausible wrong answers to assignment 3, the tests that each one loses, and a word that its feedback must say."""

from tests.assignments.sources import solutions
from tests.assignments.wrong import Wrong, changed

RIGHT = solutions("03_batch_norm")
TRAIN, UPDATE, EVAL = (RIGHT[name] for name in ("batch_norm_train", "update_running", "batch_norm_eval"))
TRAIN_BACKWARD, EVAL_BACKWARD = RIGHT["batch_norm_train_backward"], RIGHT["batch_norm_eval_backward"]

STATISTICS, NORMALISED, WEIGHT = (f"batch_norm_train-{test}" for test in ("statistics", "normalised", "weight"))
CAREFUL, ONE = "batch_norm_train-careful", "batch_norm_train-one"
RUNNING_MEAN, RUNNING_VARIANCE = "update_running-mean", "update_running-variance"
CONSTANTS, EVAL_WEIGHT = "batch_norm_eval-constants", "batch_norm_eval-weight"
OF_BIAS, OF_WEIGHT, OF_INPUT = (f"batch_norm_train_backward-{test}" for test in ("bias", "weight", "input"))
EVAL_INPUT, EVAL_PARAMETERS = "batch_norm_eval_backward-input", "batch_norm_eval_backward-parameters"
TRAINING, RUNNING, EVALUATION = "finale-training", "finale-running", "finale-evaluation"
FIRST = (STATISTICS, NORMALISED, WEIGHT, CAREFUL)

WRONG = [
    Wrong("batch_norm_train", "each position by itself", (*FIRST, TRAINING), "one mean for each", '''
def batch_norm_train(x, weight, bias, eps):
    if x.shape[0] * x.shape[2] == 1:
        raise ValueError("one number in each channel")
    mean = x.mean(axis=0, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=0, keepdims=True)
    y = (x - mean) / np.sqrt(variance + eps) * weight[:, None] + bias[:, None]
    return y, mean[0], variance[0]
'''),
    Wrong("batch_norm_train", "n - 1 in the normalising variance", (*FIRST, TRAINING), "n - 1",
          changed(TRAIN, "((x - mean) ** 2).mean(axis=(0, 2), keepdims=True)",
                  "x.var(axis=(0, 2), keepdims=True, ddof=1)")),
    Wrong("batch_norm_train", "eps outside of the root", (CAREFUL, TRAINING), "outside of the root",
          changed(TRAIN, "np.sqrt(variance + eps)", "(np.sqrt(variance) + eps)")),
    Wrong("batch_norm_train", "divided by the variance", (NORMALISED, WEIGHT, CAREFUL, TRAINING), "square root",
          changed(TRAIN, "np.sqrt(variance + eps)", "(variance + eps)")),
    Wrong("batch_norm_train", "mean of the squares minus square of the mean", (CAREFUL,), "then square",
          changed(TRAIN, "((x - mean) ** 2).mean(axis=(0, 2), keepdims=True)",
                  "(x**2).mean(axis=(0, 2), keepdims=True) - mean**2")),
    Wrong("batch_norm_train", "a single number is not refused", (ONE,), "ValueError",
          changed(TRAIN, "if x.shape[0] * x.shape[2] == 1:", "if False:")),
    Wrong("batch_norm_train", "the bias is multiplied by the weight", (WEIGHT, TRAINING), "weight",
          changed(TRAIN, " * weight[:, None] + bias[:, None]", " * weight[:, None] + weight[:, None] * bias[:, None]")),
    Wrong("update_running", "the biased variance", (RUNNING_VARIANCE, RUNNING), "biased",
          changed(UPDATE, "variance * count / (count - 1)", "variance")),
    Wrong("update_running", "momentum the wrong way round", (RUNNING_MEAN, RUNNING_VARIANCE, RUNNING), "share", '''
def update_running(running_mean, running_var, mean, variance, count, momentum):
    unbiased = variance * count / (count - 1)
    return momentum * running_mean + (1 - momentum) * mean, momentum * running_var + (1 - momentum) * unbiased
'''),
    Wrong("update_running", "corrected the wrong way round", (RUNNING_VARIANCE, RUNNING), "larger",
          changed(UPDATE, "count / (count - 1)", "(count - 1) / count")),
    Wrong("update_running", "only the last batch", (RUNNING_MEAN, RUNNING_VARIANCE, RUNNING), "alone", '''
def update_running(running_mean, running_var, mean, variance, count, momentum):
    return mean, variance * count / (count - 1)
'''),
    Wrong("update_running", "the old variance is corrected, too", (RUNNING_VARIANCE, RUNNING), "is corrected, too", '''
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_var = ((1 - momentum) * running_var + momentum * variance) * count / (count - 1)
    return (1 - momentum) * running_mean + momentum * mean, running_var
'''),
    Wrong("batch_norm_eval", "the batch's own statistics", (CONSTANTS, EVAL_WEIGHT, EVALUATION),
          "statistics of the batch",
          changed(EVAL, "    scale =", "    mean, variance = x.mean(axis=(0, 2)), x.var(axis=(0, 2))\n    scale =")),
    Wrong("batch_norm_eval", "divided by the variance", (CONSTANTS, EVAL_WEIGHT, EVALUATION), "square root",
          changed(EVAL, "np.sqrt(variance + eps)", "(variance + eps)")),
    Wrong("batch_norm_eval", "eps outside of the root", (CONSTANTS, EVALUATION), "outside of the root",
          changed(EVAL, "np.sqrt(variance + eps)", "(np.sqrt(variance) + eps)")),
    Wrong("batch_norm_eval", "the bias is scaled", (EVAL_WEIGHT, EVALUATION), "bias",
          changed(EVAL, "bias[:, None]", "bias[:, None] * weight[:, None]")),
    Wrong("batch_norm_eval", "the mean is not subtracted", (CONSTANTS, EVAL_WEIGHT, EVALUATION), "mean",
          changed(EVAL, "(x - mean[:, None])", "x")),
    Wrong("batch_norm_train_backward", "the mean's gradient is dropped", (OF_INPUT, TRAINING), "the way by the mean",
          changed(TRAIN_BACKWARD, "grad - shift - normalised", "grad - normalised")),
    Wrong("batch_norm_train_backward", "the variance's gradient is dropped", (OF_INPUT, TRAINING),
          "the way by the variance",
          changed(TRAIN_BACKWARD, " - normalised * scale", "")),
    Wrong("batch_norm_train_backward", "mean and variance are taken for constants", (OF_INPUT, TRAINING), "constants",
          changed(TRAIN_BACKWARD, "(grad - shift - normalised * scale)", "grad")),
    Wrong("batch_norm_train_backward", "sums in place of means", (OF_INPUT, TRAINING), "sums",
          changed(TRAIN_BACKWARD, "count = x.shape[0] * x.shape[2]", "count = 1")),
    Wrong("batch_norm_train_backward", "divided by the images only", (OF_INPUT, TRAINING), "sums to",
          changed(TRAIN_BACKWARD, "count = x.shape[0] * x.shape[2]", "count = x.shape[0]")),
    Wrong("batch_norm_train_backward", "the factor weight is missing", (OF_INPUT, TRAINING), "factor weight",
          changed(TRAIN_BACKWARD, "weight[:, None] / deviation", "1 / deviation")),
    Wrong("batch_norm_train_backward", "the weight's gradient from x", (OF_WEIGHT, TRAINING), "normalised",
          changed(TRAIN_BACKWARD, "    shift, scale = grad_bias[:, None] / count, grad_weight[:, None] / count\n",
                  "    shift, scale = grad_bias[:, None] / count, grad_weight[:, None] / count\n"
                  "    grad_weight = (grad * x).sum(axis=(0, 2))\n")),
    Wrong("batch_norm_train_backward", "the bias' gradient is a mean", (OF_BIAS, TRAINING), "mean",
          changed(TRAIN_BACKWARD, "return grad_x.astype(x.dtype), grad_weight, grad_bias",
                  "return grad_x.astype(x.dtype), grad_weight, grad.mean(axis=(0, 2))")),
    Wrong("batch_norm_eval_backward", "the gradient of training mode", (EVAL_INPUT, EVALUATION), "constants here", '''
def batch_norm_eval_backward(grad, x, weight, mean, variance, eps):
    deviation = np.sqrt(variance + eps)[:, None]
    normalised = (x - mean[:, None]) / deviation
    centred = grad - grad.mean(axis=(0, 2), keepdims=True)
    grad_x = weight[:, None] / deviation * (centred - normalised * (grad * normalised).mean(axis=(0, 2), keepdims=True))
    return grad_x, (grad * normalised).sum(axis=(0, 2)), grad.sum(axis=(0, 2))
'''),
    Wrong("batch_norm_eval_backward", "the factor weight is missing", (EVAL_INPUT, EVALUATION), "factor",
          changed(EVAL_BACKWARD, "weight[:, None] / deviation", "1 / deviation")),
    Wrong("batch_norm_eval_backward", "the batch's own statistics", (EVAL_PARAMETERS, EVALUATION), "statistics of x",
          changed(EVAL_BACKWARD, "(x - mean[:, None]) / deviation",
                  "(x - x.mean(axis=(0, 2), keepdims=True)) / np.sqrt(x.var(axis=(0, 2), keepdims=True) + eps)")),
    Wrong("batch_norm_eval_backward", "divided by the variance", (EVAL_INPUT, EVALUATION), "factor",
          changed(EVAL_BACKWARD, "weight[:, None] / deviation", "weight[:, None] / deviation**2")),
    Wrong("batch_norm_eval_backward", "means in place of sums", (EVAL_PARAMETERS, EVALUATION), "bias gets",
          changed(EVAL_BACKWARD, "(grad * normalised).sum(axis=(0, 2)), grad.sum(axis=(0, 2))",
                  "(grad * normalised).mean(axis=(0, 2)), grad.mean(axis=(0, 2))")),
]

"""Plausible wrong answers to assignment 2, the tests that each one loses, and a word that its feedback must say."""

from tests.assignments.sources import solutions
from tests.assignments.wrong import Wrong, changed

RIGHT = solutions("02_convolution")
SIZE, FORWARD, PARAMETERS, COLUMNS = (
    RIGHT[name] for name in ("output_size", "convolve_columns", "parameter_gradients", "columns_gradient")
)

# These two pick pixels by their numbers: a wrong number then gives a wrong result, and no error of NumPy's.
IM2COL = '''
def im2col(x, kernel, stride, padding, dilation):
    images, channels, height, width = x.shape
    rows, columns = output_size((height, width), kernel, stride, padding, dilation)
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    windows = np.zeros((images, channels, *kernel, rows, columns), x.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            down = i * dilation[0] + stride[0] * np.arange(rows)[:, None]
            across = j * dilation[1] + stride[1] * np.arange(columns)
            windows[:, :, i, j] = padded[:, :, down, across]
    return windows.reshape(images, channels * kernel[0] * kernel[1], rows * columns)
'''

COL2IM = '''
def col2im(columns, input_shape, kernel, stride, padding, dilation):
    images, channels, height, width = input_shape
    rows, places = output_size((height, width), kernel, stride, padding, dilation)
    windows = columns.reshape(images, channels, *kernel, rows, places)
    padded = np.zeros((images, channels, height + 2 * padding[0], width + 2 * padding[1]), columns.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            down = i * dilation[0] + stride[0] * np.arange(rows)[:, None]
            across = j * dilation[1] + stride[1] * np.arange(places)
            padded[:, :, down, across] += windows[:, :, i, j]
    return padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
'''

VALUES, TOO_LARGE = "output_size-values", "output_size-too-large"
PLAIN, STRIDE, PADDING, DILATION = "im2col-plain", "im2col-stride", "im2col-padding", "im2col-dilation"
PRODUCT, BIAS = "convolve_columns-product", "convolve_columns-bias"
WEIGHT_GRADIENT, BIAS_GRADIENT = "parameter_gradients-weight", "parameter_gradients-bias"
CHANNELS, KERNEL = "columns_gradient-channels", "columns_gradient-kernel"
OVERLAP, CUT, BACK_STRIDE, BACK_DILATION = "col2im-overlap", "col2im-padding", "col2im-stride", "col2im-dilation"
FORWARDS, BACKWARDS = "finale-forward", "finale-backward"
BOTH = (FORWARDS, BACKWARDS)
ALL_OF_IM2COL, ALL_OF_COL2IM = (PLAIN, STRIDE, PADDING, DILATION), (OVERLAP, CUT, BACK_STRIDE, BACK_DILATION)

WRONG = [
    Wrong("output_size", "the window's first place is not counted",
          (VALUES, TOO_LARGE, *ALL_OF_IM2COL, *ALL_OF_COL2IM, *BOTH), "add 1",
          changed(SIZE, "stride[axis] + 1", "stride[axis]")),
    Wrong("output_size", "padding on one side only", (VALUES, TOO_LARGE, PADDING, DILATION, CUT, BACK_DILATION, *BOTH),
          "both sides",
          changed(SIZE, "2 * padding[axis]", "padding[axis]")),
    Wrong("output_size", "dilation forgotten", (VALUES, TOO_LARGE, DILATION, BACK_DILATION), "dilation",
          changed(SIZE, "dilation[axis] * (kernel[axis] - 1)", "(kernel[axis] - 1)")),
    Wrong("output_size", "the first stride for both axes", (VALUES, STRIDE, DILATION, BACK_STRIDE, BACK_DILATION),
          "different",
          changed(SIZE, "stride[axis] + 1", "stride[0] + 1")),
    Wrong("output_size", "a kernel that does not fit is not refused", (TOO_LARGE,), "ValueError",
          changed(SIZE, "if free < 0:", "if False:")),
    Wrong("output_size", "a last window that fits only in part is counted", (VALUES, STRIDE, BACK_STRIDE, *BOTH),
          "dropped",
          changed(SIZE, "free // stride[axis] + 1", "-(-free // stride[axis]) + 1")),
    Wrong("im2col", "the stride across is ignored", (STRIDE, *BOTH), "stride",
          changed(IM2COL, "stride[1] * np.arange", "np.arange")),
    Wrong("im2col", "the stride down for both axes", (STRIDE, DILATION), "stride",
          changed(IM2COL, "stride[1] * np.arange", "stride[0] * np.arange")),
    Wrong("im2col", "dilation forgotten", (DILATION,), "dilation",
          changed(changed(IM2COL, "i * dilation[0]", "i"), "j * dilation[1]", "j")),
    Wrong("im2col", "padding behind the image only", (PADDING, DILATION, *BOTH), "middle of its padding",
          changed(changed(IM2COL, "(padding[0],) * 2", "(0, 2 * padding[0])"),
                  "(padding[1],) * 2", "(0, 2 * padding[1])")),
    Wrong("im2col", "the kernel's columns before its rows", (PLAIN, STRIDE, PADDING, DILATION, *BOTH), "columns",
          changed(IM2COL, "return windows.reshape", "return windows.swapaxes(2, 3).reshape")),
    Wrong("im2col", "always float64", (PLAIN, FORWARDS), "dtype", changed(IM2COL, ", x.dtype)", ")")),
    Wrong("im2col", "windows as rows", (*ALL_OF_IM2COL, *BOTH), "should be the columns",
          changed(IM2COL, "rows * columns)\n", "rows * columns).transpose(0, 2, 1)\n")),
    Wrong("convolve_columns", "the kernel is flipped", (PRODUCT, BACKWARDS), "turned around",
          changed(FORWARD, "weight.reshape", "weight[:, :, ::-1, ::-1].reshape")),
    Wrong("convolve_columns", "the bias is forgotten", (BIAS,), "is the bias added",
          changed(FORWARD, " + bias.reshape(-1, 1)", "")),
    Wrong("convolve_columns", "the bias goes along the places", (BIAS, BACKWARDS), "channel",
          changed(FORWARD, "bias.reshape(-1, 1)", "np.resize(bias, columns.shape[2])")),
    Wrong("convolve_columns", "the weight's axes in another order", (PRODUCT, BACKWARDS), "9630",
          changed(FORWARD, "weight.reshape", "weight.swapaxes(2, 3).reshape")),
    Wrong("parameter_gradients", "averaged over the images", (WEIGHT_GRADIENT, BIAS_GRADIENT, BACKWARDS), "mean",
          changed(changed(PARAMETERS, ".sum(axis=0)", ".mean(axis=0)"),
                  "flat.sum(axis=(0, 2))", "flat.sum(axis=2).mean(axis=0)")),
    Wrong("parameter_gradients", "the bias' gradient is not summed over the batch", (BIAS_GRADIENT,), "for each image",
          changed(PARAMETERS, "flat.sum(axis=(0, 2))", "flat.sum(axis=2)")),
    Wrong("parameter_gradients", "one gradient for each image", (WEIGHT_GRADIENT, BACKWARDS), "for each image",
          changed(PARAMETERS, ".sum(axis=0).reshape(weight_shape)", ".reshape(len(grad), *weight_shape)")),
    Wrong("parameter_gradients", "the kernel is flipped", (WEIGHT_GRADIENT, BACKWARDS), "turned around",
          changed(PARAMETERS, ".reshape(weight_shape)", ".reshape(weight_shape)[:, :, ::-1, ::-1]")),
    Wrong("parameter_gradients", "the bias' gradient is a mean", (BIAS_GRADIENT,), "mean",
          changed(PARAMETERS, "flat.sum(axis=(0, 2))", "flat.mean(axis=(0, 2))")),
    Wrong("columns_gradient", "the weight is not transposed", (CHANNELS, KERNEL, BACKWARDS), "not transposed",
          changed(COLUMNS, ".T @ flat", " @ flat")),
    Wrong("columns_gradient", "the kernel is flipped", (KERNEL, BACKWARDS), "turned around",
          changed(COLUMNS, "weight.reshape", "weight[:, :, ::-1, ::-1].reshape")),
    Wrong("columns_gradient", "summed over the images", (CHANNELS, KERNEL, BACKWARDS), "columns of its own",
          changed(COLUMNS, "@ flat", "@ flat.sum(axis=0)")),
    Wrong("columns_gradient", "a mean over the output channels", (CHANNELS, KERNEL, BACKWARDS), "420",
          changed(COLUMNS, "@ flat", "@ flat / len(weight)")),
    Wrong("col2im", "overlapping windows are assigned", (OVERLAP, CUT, BACK_STRIDE, BACK_DILATION, BACKWARDS), "+=",
          changed(COL2IM, "+= windows", "= windows")),
    Wrong("col2im", "the padding is not cut off", (CUT, BACK_DILATION, BACKWARDS), "cut the padding off",
          changed(COL2IM, "return padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]",
                  "return padded")),
    Wrong("col2im", "cut to -padding", (OVERLAP, CUT, BACK_STRIDE, BACK_DILATION, BACKWARDS), "shape",
          changed(COL2IM, "padding[0] : padding[0] + height, padding[1] : padding[1] + width",
                  "padding[0] : -padding[0], padding[1] : -padding[1]")),
    Wrong("col2im", "the stride across is ignored", (BACK_STRIDE, BACKWARDS), "stride",
          changed(COL2IM, "stride[1] * np.arange", "np.arange")),
    Wrong("col2im", "dilation forgotten", (BACK_DILATION,), "dilation",
          changed(changed(COL2IM, "i * dilation[0]", "i"), "j * dilation[1]", "j")),
    Wrong("col2im", "cut at the far ends only", (CUT, BACK_DILATION, BACKWARDS), "far ends",
          changed(COL2IM, "padding[0] : padding[0] + height, padding[1] : padding[1] + width", ":height, :width")),
]

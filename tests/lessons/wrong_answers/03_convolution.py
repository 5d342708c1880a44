"""Plausible wrong answers to the exercises of lesson 3, with words that the check must say."""

from tests.assignments.wrong import changed

IM2COL = '''
def im2col(x, kernel, stride, padding, dilation):
    images, channels, height, width = x.shape
    rows = output_size(height, kernel[0], stride[0], padding[0], dilation[0])
    columns = output_size(width, kernel[1], stride[1], padding[1], dilation[1])
    x = np.pad(x, ((0, 0), (0, 0), (padding[0], padding[0]), (padding[1], padding[1])))
    windows = np.empty((images, channels, kernel[0], kernel[1], rows, columns), x.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            down = slice(top, top + stride[0] * rows, stride[0])
            across = slice(left, left + stride[1] * columns, stride[1])
            windows[:, :, i, j] = x[:, :, down, across]
    return windows.reshape(images, channels * kernel[0] * kernel[1], rows * columns)
'''

COL2IM = '''
def col2im(columns, input_shape, kernel, stride, padding, dilation):
    images, channels, height, width = input_shape
    rows = output_size(height, kernel[0], stride[0], padding[0], dilation[0])
    places = output_size(width, kernel[1], stride[1], padding[1], dilation[1])
    windows = columns.reshape(images, channels, kernel[0], kernel[1], rows, places)
    padded = np.zeros((images, channels, height + 2 * padding[0], width + 2 * padding[1]), columns.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            down = slice(top, top + stride[0] * rows, stride[0])
            across = slice(left, left + stride[1] * places, stride[1])
            padded[:, :, down, across] += windows[:, :, i, j]
    return padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
'''

BACKWARD = '''
def convolution_backward(grad, x, weight, settings):
    kernel = weight.shape[2:]
    columns = im2col(x, kernel, *settings)
    g = grad.reshape(len(x), len(weight), -1)
    grad_weight = (g @ columns.transpose(0, 2, 1)).sum(0).reshape(weight.shape)
    grad_columns = weight.reshape(len(weight), -1).T @ g
    return col2im(grad_columns, x.shape, kernel, *settings), grad_weight
'''


LOOPS = '''
def convolve_loops(x, weight):
    channels, height, width = x.shape
    outputs, _, size, _ = weight.shape
    y = np.zeros((outputs, height - size + 1, width - size + 1))
    for o in range(outputs):
        for row in range(y.shape[1]):
            for column in range(y.shape[2]):
                for c in range(channels):
                    for i in range(size):
                        for j in range(size):
                            y[o, row, column] += weight[o, c, i, j] * x[c, row + i, column + j]
    return y
'''

WRONG = {
    "convolve_loops": [
        ("is turned around", changed(LOOPS, "weight[o, c, i, j]", "weight[o, c, size - 1 - i, size - 1 - j]")),
        ("is there a return?", changed(LOOPS, "    return y\n", "")),
        ("expected is (1, 3, 3)", changed(LOOPS, "(outputs, height - size + 1, width - size + 1)",
                                          "(outputs, height - size, width - size)")),
        ("added up, not averaged", changed(LOOPS, "    return y\n", "    return y / channels\n")),
        ("only the last product", changed(LOOPS, "y[o, row, column] += ", "y[o, row, column] = ")),
        ("slide gave", changed(LOOPS, "x[c, row + i, column + j]", "x[c, row + j, column + i]")),
        ("is it weight[o, c, …] times x[c, …]", changed(LOOPS, "x[c, row + i", "x[0, row + i")),
        ("only the last input channel", changed(LOOPS, "for c in range(channels)", "for c in [channels - 1]")),
    ],
    "output_size": [
        ("stands at 5 places", '''
def output_size(size, kernel, stride, padding, dilation):
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride
'''),
        ("padding stands on both sides", '''
def output_size(size, kernel, stride, padding, dilation):
    return (size + padding - dilation * (kernel - 1) - 1) // stride + 1
'''),
        ("divide with //", '''
def output_size(size, kernel, stride, padding, dilation):
    return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1
'''),
        ("the window of 3 reaches over 5 pixels", '''
def output_size(size, kernel, stride, padding, dilation):
    return (size + 2 * padding - dilation * kernel) // stride + 1
'''),
        ("what is left over is dropped", '''
def output_size(size, kernel, stride, padding, dilation):
    return -(-(size + 2 * padding - dilation * (kernel - 1) - 1) // stride) + 1
'''),
    ],
    "im2col": [
        ("with dilation numbers are wrong", changed(IM2COL, "top, left = i * dilation[0], j * dilation[1]",
                                                          "top, left = i, j")),
        ("with stride numbers are wrong", changed(
            changed(IM2COL, "slice(top, top + stride[0] * rows, stride[0])", "slice(top, top + rows)"),
            "slice(left, left + stride[1] * columns, stride[1])", "slice(left, left + columns)")),
        ("for the 3 by 4 image above you get", changed(
            changed(IM2COL, "windows[:, :, i, j] =", "windows[:, :, j, i] ="), "np.empty", "np.zeros")),
        ("with a different number down and across", changed(IM2COL, "j * dilation[1]", "j * dilation[0]")),
        ("float32 went in", changed(IM2COL, "rows, columns), x.dtype)", "rows, columns))")),
    ],
    "col2im": [
        ("use +=", changed(COL2IM, "+= windows", "= windows")),
        ("cut the padding off", changed(COL2IM,
            "return padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]", "return padded")),
        ("x[0:-0] is empty", changed(COL2IM,
            "padding[0] : padding[0] + height, padding[1] : padding[1] + width]",
            "padding[0] : -padding[0], padding[1] : -padding[1]]")),
        ("im2col's shapes and slices", changed(COL2IM,
            "columns.reshape(images, channels, kernel[0], kernel[1], rows, places)",
            "columns.reshape(images, channels, rows, places, *kernel).transpose(0, 1, 4, 5, 2, 3)")),
        ("with dilation 2 the relative error", changed(COL2IM, "top, left = i * dilation[0], j * dilation[1]",
                                                       "top, left = i, j")),
    ],
    "convolution_backward": [
        ("one part for each image", changed(BACKWARD, ".sum(0).reshape(weight.shape)",
                                            ".reshape(len(x), *weight.shape)")),
        ("does x's come first", changed(BACKWARD, "col2im(grad_columns, x.shape, kernel, *settings), grad_weight",
                                        "grad_weight, col2im(grad_columns, x.shape, kernel, *settings)")),
        ("is a mean over images", changed(BACKWARD, ".sum(0)", ".mean(0)")),
        ("is it col2im of Wᵀ G?", changed(BACKWARD, "weight.reshape(len(weight), -1).T @ g",
                                          "weight[:, :, ::-1, ::-1].reshape(len(weight), -1).T @ g")),
        ("a tuple of two gradients is expected", changed(BACKWARD, ", grad_weight\n", "\n")),
    ],
}

"""Plausible wrong answers to the exercises of lesson 4, with words that the check must say."""

WRONG = {
    "along_rows": [
        ("is a sum over the kernel innermost", '''
def along_rows(image, kernel, y):
    for row in range(y.shape[0]):
        for column in range(y.shape[1]):
            total = np.float32(0)
            for i in range(kernel.shape[0]):
                for j in range(kernel.shape[1]):
                    total += kernel[i, j] * image[row + i, column + j]
            y[row, column] += total
'''),
        ("move the loop over column inside", '''
def along_rows(image, kernel, y):
    for row in range(y.shape[0]):
        for column in range(y.shape[1]):
            for i in range(kernel.shape[0]):
                for j in range(kernel.shape[1]):
                    y[row, column] += kernel[i, j] * image[row + i, column + j]
'''),
        ("should be (0, 1)", '''
def along_rows(image, kernel, y):
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            for column in range(y.shape[1]):
                for row in range(y.shape[0]):
                    y[row, column] += kernel[i, j] * image[row + i, column + j]
'''),
        ("what was in y is lost", '''
def along_rows(image, kernel, y):
    y[:] = 0
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            for row in range(y.shape[0]):
                for column in range(y.shape[1]):
                    y[row, column] += kernel[i, j] * image[row + i, column + j]
'''),
        ("do you add, with +=", '''
def along_rows(image, kernel, y):
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            for row in range(y.shape[0]):
                for column in range(y.shape[1]):
                    y[row, column] = kernel[i, j] * image[row + i, column + j]
'''),
        ("with single numbers", '''
def along_rows(image, kernel, y):
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            y += kernel[i, j] * image[i : i + y.shape[0], j : j + y.shape[1]]
'''),
        ("with single numbers", '''
def along_rows(image, kernel, y):
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            for row in range(y.shape[0]):
                y[row] += kernel[i, j] * image[row + i, j : j + y.shape[1]]
'''),
    ],
    "all_threads": [
        ("divide the loop over o", '''
def all_threads(x, weight, y):
    for c in prange(len(x)):
        for o in range(len(weight)):
            add_map(x[c], weight[o, c], y[o])
'''),
        ("which loop goes over prange", '''
def all_threads(x, weight, y):
    for o in range(len(weight)):
        for c in range(len(x)):
            add_map(x[c], weight[o, c], y[o])
'''),
        ("is there a prange in both loops", '''
def all_threads(x, weight, y):
    for o in prange(len(weight)):
        for c in prange(len(x)):
            add_map(x[c], weight[o, c], y[o])
'''),
    ],
    "sum_row": [
        ("load them before the loop over k", '''
def sum_row(x, weight, first, row, sums):
    sums[:] = 0
    for c in range(x.shape[0]):
        for i in range(3):
            for column in range(sums.shape[1]):
                for k in range(4):
                    for j in range(3):
                        sums[k, column] += weight[first + k, c, i, j] * x[c, row + i, column + j]
'''),
        ("is it weight[first + k, ...]", '''
def sum_row(x, weight, first, row, sums):
    sums[:] = 0
    for c in range(x.shape[0]):
        for i in range(3):
            for column in range(sums.shape[1]):
                left, middle, right = x[c, row + i, column], x[c, row + i, column + 1], x[c, row + i, column + 2]
                for k in range(4):
                    w = weight[k, c, i]
                    sums[k, column] += w[0] * left + w[1] * middle + w[2] * right
'''),
        ("the pixels are in row + i", '''
def sum_row(x, weight, first, row, sums):
    sums[:] = 0
    for c in range(x.shape[0]):
        for i in range(3):
            for column in range(sums.shape[1]):
                left, middle, right = x[c, i, column], x[c, i, column + 1], x[c, i, column + 2]
                for k in range(4):
                    w = weight[first + k, c, i]
                    sums[k, column] += w[0] * left + w[1] * middle + w[2] * right
'''),
        ("the other three are not", '''
def sum_row(x, weight, first, row, sums):
    sums[:] = 0
    for c in range(x.shape[0]):
        for i in range(3):
            for column in range(sums.shape[1]):
                left, middle, right = x[c, row + i, column], x[c, row + i, column + 1], x[c, row + i, column + 2]
                for k in range(4):
                    w = weight[first, c, i]
                    sums[k, column] += w[0] * left + w[1] * middle + w[2] * right
'''),
        ("row 0 of channel 0 has the relative error", '''
def sum_row(x, weight, first, row, sums):
    sums[:] = 0
    for c in range(x.shape[0]):
        for i in range(3):
            for column in range(sums.shape[1]):
                left, middle, right = x[c, row + i, column], x[c, row + i, column + 1], x[c, row + i, column + 2]
                for k in range(4):
                    w = weight[first + k, c, i]
                    sums[k, column] = w[0] * left + w[1] * middle + w[2] * right
'''),
    ],
    "finish_row": [
        ("ReLU comes last", '''
def finish_row(sums, bias, residual, y, first, row):
    for k in range(4):
        for column in range(sums.shape[1]):
            value = max(sums[k, column] + bias[first + k], np.float32(0))
            y[first + k, row, column] = value + residual[first + k, row, column]
'''),
        ("not bias[k]", '''
def finish_row(sums, bias, residual, y, first, row):
    for k in range(4):
        for column in range(sums.shape[1]):
            value = sums[k, column] + bias[k] + residual[first + k, row, column]
            y[first + k, row, column] = max(value, np.float32(0))
'''),
        ("ReLU is missing", '''
def finish_row(sums, bias, residual, y, first, row):
    for k in range(4):
        for column in range(sums.shape[1]):
            y[first + k, row, column] = sums[k, column] + bias[first + k] + residual[first + k, row, column]
'''),
        ("other rows or channels were written", '''
def finish_row(sums, bias, residual, y, first, row):
    for k in range(4):
        for column in range(sums.shape[1]):
            value = sums[k, column] + bias[first + k] + residual[first + k, row, column]
            y[k, row, column] = max(value, np.float32(0))
'''),
    ],
    "intensity": [
        ("is two operations", '''
def intensity(images, channels, outputs, kernel, size):
    operations = images * outputs * size**2 * channels * kernel**2
    numbers = images * channels * size**2 + outputs * channels * kernel**2 + images * outputs * size**2
    return operations / (4 * numbers)
'''),
        ("has 4 bytes", '''
def intensity(images, channels, outputs, kernel, size):
    operations = 2 * images * outputs * size**2 * channels * kernel**2
    numbers = images * channels * size**2 + outputs * channels * kernel**2 + images * outputs * size**2
    return operations / numbers
'''),
        ("the weight has to be loaded", '''
def intensity(images, channels, outputs, kernel, size):
    operations = 2 * images * outputs * size**2 * channels * kernel**2
    numbers = images * channels * size**2 + images * outputs * size**2
    return operations / (4 * numbers)
'''),
        ("all images share one weight", '''
def intensity(images, channels, outputs, kernel, size):
    operations = 2 * outputs * size**2 * channels * kernel**2
    numbers = channels * size**2 + outputs * channels * kernel**2 + outputs * size**2
    return operations / (4 * numbers)
'''),
    ],
}

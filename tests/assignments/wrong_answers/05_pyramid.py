"""Plausible wrong answers to assignment 5, the tests that they lose and words that the feedback must say."""

from tests.assignments.wrong import Wrong

PYRAMID = """
class FeaturePyramid(nn.Module):
    def __init__(self, channels, width, enlarge):
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(each, width, 1) for each in channels])
        self.smooth = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in channels])
        self.enlarge = enlarge

    def forward(self, maps):
        merged = self.lateral[-1](maps[-1])
        levels = [self.smooth[-1](merged)]
        for number in reversed(range(len(maps) - 1)):
            lateral = self.lateral[number](maps[number])
            merged = lateral + self.enlarge(merged, tuple(lateral.shape[2:]))
            levels.insert(0, self.smooth[number](merged))
        return levels
"""
PARAMETERS, COARSEST, LEVELS, GRADIENT = (
    f"feature_pyramid-{test}" for test in ("parameters", "coarsest", "levels", "gradient")
)
DOUBLE, SIZES = "nearest-double", "nearest-sizes"
DOUBLE_BACK, SIZES_BACK = "nearest_backward-double", "nearest_backward-sizes"
ENLARGING, ON_RESNET = "finale-enlarging", "finale-pyramid"


def pyramid(*changes: tuple[str, str]) -> str:
    """The right pyramid with other code in some places."""
    code = PYRAMID
    for right, wrong in changes:
        assert right in code
        code = code.replace(right, wrong)
    return code


WRONG = [
    # Task 1
    Wrong(
        "level_sizes",
        "rounded down",
        loses=("level_sizes-odd",),
        says="you round down",
        code='''
def level_sizes(height, width):
    return [(height // stride, width // stride) for stride in (4, 8, 16, 32, 64)]
'''),
    Wrong(
        "level_sizes",
        "rounded to the nearest",
        loses=("level_sizes-odd",),
        says="every halving rounds up",
        code='''
def level_sizes(height, width):
    return [(max(1, round(height / stride)), max(1, round(width / stride))) for stride in (4, 8, 16, 32, 64)]
'''),
    Wrong(
        "level_sizes",
        "P2 after the first halving",
        loses=("level_sizes-even", "level_sizes-odd"),
        says="after the second halving",
        code='''
def level_sizes(height, width):
    return [(-(-height // stride), -(-width // stride)) for stride in (2, 4, 8, 16, 32)]
'''),
    Wrong(
        "level_sizes",
        "P6 forgotten",
        loses=("level_sizes-even", "level_sizes-odd"),
        says="there are five levels",
        code='''
def level_sizes(height, width):
    return [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32)]
'''),
    Wrong(
        "level_sizes",
        "coarsest first",
        loses=("level_sizes-even", "level_sizes-odd"),
        says="coarsest first",
        code='''
def level_sizes(height, width):
    return [(-(-height // stride), -(-width // stride)) for stride in (64, 32, 16, 8, 4)]
'''),
    # Task 2
    Wrong(
        "nearest",
        "always doubled",
        loses=(SIZES, ENLARGING, ON_RESNET),
        says="you double, but the size is given",
        code='''
def nearest(x, output_size, scale, exact):
    return x.repeat(2, axis=2).repeat(2, axis=3)
'''),
    Wrong(
        "nearest",
        "doubled and cut to size: right in a pyramid, and nowhere else",
        loses=(SIZES,),
        says="that is doubling, cut or filled up",
        code='''
def nearest(x, output_size, scale, exact):
    rows, columns = (np.minimum(np.arange(large) // 2, small - 1) for large, small in zip(output_size, x.shape[2:]))
    return x[:, :, rows[:, None], columns]
'''),
    Wrong(
        "nearest",
        "rounded in place of the floor",
        loses=(DOUBLE, SIZES, ENLARGING, ON_RESNET),
        says="do not round to the nearest",
        code='''
def nearest(x, output_size, scale, exact):
    rows, columns = (
        np.minimum(np.floor(np.arange(large) * small / large + 0.5).astype(int), small - 1)
        for large, small in zip(output_size, x.shape[2:])
    )
    return x[:, :, rows[:, None], columns]
'''),
    Wrong(
        "nearest",
        "the middle of each row (nearest-exact)",
        loses=(SIZES, ENLARGING, ON_RESNET),
        says="the middle of each row",
        code='''
def nearest(x, output_size, scale, exact):
    rows, columns = (
        ((np.arange(large) + 0.5) * small / large).astype(int) for large, small in zip(output_size, x.shape[2:])
    )
    return x[:, :, rows[:, None], columns]
'''),
    Wrong(
        "nearest",
        "height and width exchanged",
        loses=(DOUBLE, SIZES, ENLARGING, ON_RESNET),
        says="output_size is (height, width)",
        code='''
def nearest(x, output_size, scale, exact):
    rows, columns = (np.arange(large) * small // large for large, small in zip(output_size[::-1], x.shape[2:]))
    return x[:, :, rows[:, None], columns]
'''),
    Wrong(
        "nearest",
        "tiled in place of repeated",
        loses=(DOUBLE, SIZES, ENLARGING, ON_RESNET),
        says="values are repeated in place",
        code='''
def nearest(x, output_size, scale, exact):
    rows, columns = (np.arange(large) % small for large, small in zip(output_size, x.shape[2:]))
    return x[:, :, rows[:, None], columns]
'''),
    # Task 3
    Wrong(
        "nearest_backward",
        "averaged in place of summed",
        loses=(DOUBLE_BACK, SIZES_BACK, ENLARGING),
        says="they add up",
        code='''
def nearest_backward(grad, input_shape, scale, exact):
    result, times = np.zeros(input_shape, grad.dtype), np.zeros(input_shape, grad.dtype)
    for i in range(grad.shape[2]):
        for j in range(grad.shape[3]):
            place = i * input_shape[2] // grad.shape[2], j * input_shape[3] // grad.shape[3]
            result[:, :, place[0], place[1]] += grad[:, :, i, j]
            times[:, :, place[0], place[1]] += 1
    return result / np.maximum(times, 1)
'''),
    Wrong(
        "nearest_backward",
        "overwritten in place of added",
        loses=(DOUBLE_BACK, SIZES_BACK, ENLARGING),
        says="only the last of four gradients arrives",
        code='''
def nearest_backward(grad, input_shape, scale, exact):
    result = np.zeros(input_shape, grad.dtype)
    rows = np.arange(grad.shape[2]) * input_shape[2] // grad.shape[2]
    columns = np.arange(grad.shape[3]) * input_shape[3] // grad.shape[3]
    result[:, :, rows[:, None], columns] += grad
    return result
'''),
    Wrong(
        "nearest_backward",
        "two by two, whatever the size",
        loses=(SIZES_BACK,),
        says="row i goes to i·3 // 7",
        code='''
def nearest_backward(grad, input_shape, scale, exact):
    result = np.zeros(input_shape, grad.dtype)
    for i in range(grad.shape[2]):
        for j in range(grad.shape[3]):
            result[:, :, min(i // 2, input_shape[2] - 1), min(j // 2, input_shape[3] - 1)] += grad[:, :, i, j]
    return result
'''),
    Wrong(
        "nearest_backward",
        "float64 whatever comes in",
        loses=(DOUBLE_BACK, ENLARGING),
        says="keep the dtype",
        code='''
def nearest_backward(grad, input_shape, scale, exact):
    result = np.zeros(input_shape)
    for i in range(grad.shape[2]):
        for j in range(grad.shape[3]):
            result[:, :, i * input_shape[2] // grad.shape[2], j * input_shape[3] // grad.shape[3]] += grad[:, :, i, j]
    return result
'''),
    Wrong(
        "nearest_backward",
        "the gradient enlarged instead of collected",
        loses=(DOUBLE_BACK, SIZES_BACK, ENLARGING),
        says="35 ones arrive and 9 come back",
        code='''
def nearest_backward(grad, input_shape, scale, exact):
    rows = np.arange(input_shape[2]) * grad.shape[2] // input_shape[2]
    columns = np.arange(input_shape[3]) * grad.shape[3] // input_shape[3]
    return grad[:, :, rows[:, None], columns]
'''),
    # Task 4
    Wrong(
        "subsample",
        "means over 2×2",
        loses=("subsample-even", "subsample-odd", ON_RESNET),
        says="you take means",
        code='''
def subsample(p5):
    height, width = p5.shape[2] // 2 * 2, p5.shape[3] // 2 * 2
    blocks = p5[:, :, :height, :width].reshape(*p5.shape[:2], height // 2, 2, width // 2, 2)
    return blocks.mean(axis=(3, 5))
'''),
    Wrong(
        "subsample",
        "the maximum over 2×2",
        loses=("subsample-even", "subsample-odd", ON_RESNET),
        says="no maximum",
        code='''
def subsample(p5):
    p5 = np.pad(p5, ((0, 0), (0, 0), (0, p5.shape[2] % 2), (0, p5.shape[3] % 2)), constant_values=-np.inf)
    blocks = p5.reshape(*p5.shape[:2], p5.shape[2] // 2, 2, p5.shape[3] // 2, 2)
    return blocks.max(axis=(3, 5))
'''),
    Wrong(
        "subsample",
        "rounded down",
        loses=("subsample-odd", ON_RESNET),
        says="half is rounded up",
        code='''
def subsample(p5):
    height, width = p5.shape[2] // 2, p5.shape[3] // 2
    return p5[:, :, ::2, ::2][:, :, :height, :width].copy()
'''),
    Wrong(
        "subsample",
        "the second of two kept",
        loses=("subsample-even", "subsample-odd", ON_RESNET),
        says="keep the first row and column",
        code='''
def subsample(p5):
    return p5[:, :, 1::2, 1::2].copy()
'''),
    # Task 5
    Wrong(
        "feature_pyramid",
        "the level handed down, after its 3×3",
        loses=(LEVELS, GRADIENT, ON_RESNET),
        says="not its merged map",
        code=pyramid(
            ("self.enlarge(merged, ", "self.enlarge(levels[0], "),
        ),
    ),
    Wrong(
        "feature_pyramid",
        "no top-down path",
        loses=(LEVELS, GRADIENT, ON_RESNET),
        says="the map from above is missing",
        code=pyramid(
            ("merged = lateral + self.enlarge(merged, tuple(lateral.shape[2:]))", "merged = lateral"),
        ),
    ),
    Wrong(
        "feature_pyramid",
        "no laterals below the coarsest",
        loses=(LEVELS, GRADIENT, ON_RESNET),
        says="the lateral of its own map is missing",
        code=pyramid(
            ("merged = lateral + self.enlarge", "merged = self.enlarge"),
        ),
    ),
    Wrong(
        "feature_pyramid",
        "the lateral above added, not the merged map",
        loses=(LEVELS, GRADIENT, ON_RESNET),
        says="the lateral above alone",
        code='''
class FeaturePyramid(nn.Module):
    def __init__(self, channels, width, enlarge):
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(each, width, 1) for each in channels])
        self.smooth = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in channels])
        self.enlarge = enlarge

    def forward(self, maps):
        laterals = [lateral(features) for lateral, features in zip(self.lateral, maps)]
        levels = []
        for number, merged in enumerate(laterals):
            if number + 1 < len(maps):
                merged = merged + self.enlarge(laterals[number + 1], tuple(merged.shape[2:]))
            levels.append(self.smooth[number](merged))
        return levels
'''),
    Wrong(
        "feature_pyramid",
        "one 3×3 shared by all levels",
        loses=(PARAMETERS, LEVELS, GRADIENT, ON_RESNET),
        says="do two of them share one",
        code=pyramid(
            (" for _ in channels])", "] * len(channels))"),
        ),
    ),
    Wrong(
        "feature_pyramid",
        "the coarsest level without its 3×3",
        loses=(COARSEST, LEVELS, GRADIENT, ON_RESNET),
        says="the coarsest map has its 3×3 as well",
        code=pyramid(
            ("levels = [self.smooth[-1](merged)]", "levels = [merged]"),
        ),
    ),
    Wrong(
        "feature_pyramid",
        "coarsest first",
        loses=(COARSEST, LEVELS, GRADIENT, ON_RESNET),
        says="finest first",
        code=pyramid(
            ("levels.insert(0, self.smooth[number](merged))", "levels.append(self.smooth[number](merged))"),
        ),
    ),
    Wrong(
        "feature_pyramid",
        "the 3×3 without padding",
        loses=(COARSEST, LEVELS, GRADIENT, ON_RESNET),
        says="padding=1",
        code=pyramid(
            (", padding=1", ""),
        ),
    ),
]  # fmt: skip

"""Plausible wrong answers to the exercises of lesson 11, with words that the check must say."""

HEAD = '''
class Pyramid(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(count, width, 1) for count in channels])
        self.smooth = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in channels])
'''

WRONG = {
    "enlarge": [
        ("you double, but the size is given", '''
def enlarge(x, size):
    rows, columns = np.arange(2 * x.shape[2]) // 2, np.arange(2 * x.shape[3]) // 2
    return x[:, :, rows][:, :, :, columns]
'''),
        ("size is (height, width)", '''
def enlarge(x, size):
    width, height = size
    rows, columns = np.arange(height) * x.shape[2] // height, np.arange(width) * x.shape[3] // width
    return x[:, :, rows][:, :, :, columns]
'''),
        ("do not round to the nearest", '''
def enlarge(x, size):
    height, width = size
    rows = np.minimum(np.round(np.arange(height) * x.shape[2] / height).astype(int), x.shape[2] - 1)
    columns = np.minimum(np.round(np.arange(width) * x.shape[3] / width).astype(int), x.shape[3] - 1)
    return x[:, :, rows][:, :, :, columns]
'''),
        ("index the tensor x, not x.numpy()", '''
def enlarge(x, size):
    height, width = size
    rows, columns = np.arange(height) * x.shape[2] // height, np.arange(width) * x.shape[3] // width
    return tinynet.from_numpy(np.ascontiguousarray(x.detach().numpy()[:, :, rows][:, :, :, columns]))
'''),
        ("Any size may be wanted", '''
def enlarge(x, size):
    rows, columns = (np.repeat(np.arange(have), 2)[:want] for have, want in zip(x.shape[2:], size))
    return x[:, :, rows][:, :, :, columns]
'''),
        ("it should be exactly 0", '''
def enlarge(x, size):
    height, width = size
    rows, columns = np.arange(height) % x.shape[2], np.arange(width) % x.shape[3]
    return x[:, :, rows][:, :, :, columns]
'''),
    ],
    "Pyramid": [
        ("hand down the merged map, not the one after the 3×3", HEAD + '''
    def forward(self, maps):
        levels = [self.smooth[-1](self.lateral[-1](maps[-1]))]
        for number in reversed(range(len(maps) - 1)):
            lateral = self.lateral[number](maps[number])
            levels.insert(0, self.smooth[number](lateral + enlarge(levels[0], lateral.shape[2:])))
        return levels
'''),
        ("lacks the lateral part", HEAD + '''
    def forward(self, maps):
        merged = self.lateral[-1](maps[-1])
        levels = [self.smooth[-1](merged)]
        for number in reversed(range(len(maps) - 1)):
            merged = enlarge(merged, maps[number].shape[2:])
            levels.insert(0, self.smooth[number](merged))
        return levels
'''),
        ("lacks the top-down part", HEAD + '''
    def forward(self, maps):
        return [blur(side(features)) for blur, side, features in zip(self.smooth, self.lateral, maps)]
'''),
        ("insert each new one at the front", HEAD + '''
    def forward(self, maps):
        merged = self.lateral[-1](maps[-1])
        levels = [self.smooth[-1](merged)]
        for number in reversed(range(len(maps) - 1)):
            merged = self.lateral[number](maps[number]) + enlarge(merged, maps[number].shape[2:])
            levels.append(self.smooth[number](merged))
        return levels
'''),
        ("in a plain list they are hidden", HEAD.replace("nn.ModuleList(", "list(") + '''
    def forward(self, maps):
        merged = self.lateral[-1](enlarge(maps[-1], (4, 6)))
        levels = [self.smooth[-1](merged)]
        for number in reversed(range(len(maps) - 1)):
            merged = self.lateral[number](maps[number]) + enlarge(merged, maps[number].shape[2:])
            levels.insert(0, self.smooth[number](merged))
        return levels
'''),
        ("does the 3×3 have padding=1", HEAD.replace(", padding=1", "") + '''
    def forward(self, maps):
        merged = self.lateral[-1](enlarge(maps[-1], (4, 6)))
        levels = [self.smooth[-1](merged)]
        for number in reversed(range(len(maps) - 1)):
            merged = self.lateral[number](maps[number]) + enlarge(merged, maps[number].shape[2:])
            levels.insert(0, self.smooth[number](merged))
        return levels
'''),
        ("it is the 3×3 of the 1×1 of C5, no more", HEAD + '''
    def forward(self, maps):
        merged = self.lateral[-1](maps[-1])
        levels = [merged]
        for number in reversed(range(len(maps) - 1)):
            merged = self.lateral[number](maps[number]) + enlarge(merged, maps[number].shape[2:])
            levels.insert(0, self.smooth[number](merged))
        return levels
'''),
        ("with all that came from higher up", HEAD + '''
    def forward(self, maps):
        laterals = [side(features) for side, features in zip(self.lateral, maps)]
        levels = [self.smooth[-1](laterals[-1])]
        for number in reversed(range(len(maps) - 1)):
            merged = laterals[number] + enlarge(laterals[number + 1], maps[number].shape[2:])
            levels.insert(0, self.smooth[number](merged))
        return levels
'''),
    ],
    "pyramid_cost": [
        ("(parameters, MACs)", '''
def pyramid_cost(channels, sizes, width):
    return 96, 1284
'''),
        ("you forgot the biases", '''
def pyramid_cost(channels, sizes, width):
    pairs = []
    for count, (rows, columns) in zip(channels, sizes):
        weights = count * width + 9 * width * width
        pairs.append((weights, weights * rows * columns))
    return pairs
'''),
        ("biases are added, not multiplied", '''
def pyramid_cost(channels, sizes, width):
    pairs = []
    for count, (rows, columns) in zip(channels, sizes):
        parameters = count * width + 9 * width * width + 2 * width
        pairs.append((parameters, parameters * rows * columns))
    return pairs
'''),
        ("a 3×3 has nine weights for every pair", '''
def pyramid_cost(channels, sizes, width):
    return [(count * width + width * width + 2 * width, 0) for count in channels]
'''),
        ("they should be [46, 50]", '''
def pyramid_cost(channels, sizes, width):
    pairs = []
    for count, (rows, columns) in zip(channels, sizes):
        weights = count * width + 9 * count * width
        pairs.append((weights + 2 * width, weights * rows * columns))
    return pairs
'''),
        ("every weight works at each of", '''
def pyramid_cost(channels, sizes, width):
    return [(count * width + 9 * width * width + 2 * width, count * width + 9 * width * width) for count in channels]
'''),
    ],
    "merge_backward": [
        ("A sum hands on the whole gradient to both", '''
def merge_backward(grad, coarse_size):
    coarse = np.zeros((*grad.shape[:2], *coarse_size))
    for i in range(grad.shape[2]):
        for j in range(grad.shape[3]):
            coarse[:, :, i * coarse_size[0] // grad.shape[2], j * coarse_size[1] // grad.shape[3]] += grad[:, :, i, j]
    return grad / 2, coarse / 2
'''),
        ("the lateral's gradient comes first", '''
def merge_backward(grad, coarse_size):
    samples, channels, height, width = grad.shape
    coarse = np.zeros((samples, channels, *coarse_size))
    for i in range(height):
        for j in range(width):
            coarse[:, :, i * coarse_size[0] // height, j * coarse_size[1] // width] += grad[:, :, i, j]
    return coarse, grad
'''),
        ("gifts add up", '''
def merge_backward(grad, coarse_size):
    coarse, times = np.zeros((*grad.shape[:2], *coarse_size)), np.zeros(coarse_size)
    for i in range(grad.shape[2]):
        for j in range(grad.shape[3]):
            place = i * coarse_size[0] // grad.shape[2], j * coarse_size[1] // grad.shape[3]
            coarse[:, :, place[0], place[1]] += grad[:, :, i, j]
            times[place] += 1
    return grad, coarse / times
'''),
        ("does `=` stand for `+=`", '''
def merge_backward(grad, coarse_size):
    rows = np.arange(grad.shape[2]) * coarse_size[0] // grad.shape[2]
    columns = np.arange(grad.shape[3]) * coarse_size[1] // grad.shape[3]
    coarse = np.zeros((*grad.shape[:2], *coarse_size))
    coarse[:, :, rows[:, None], columns] += grad
    return grad, coarse
'''),
        ("which cells does each one go to", '''
def merge_backward(grad, coarse_size):
    coarse = np.zeros((*grad.shape[:2], *coarse_size))
    for i in range(grad.shape[2]):
        for j in range(grad.shape[3]):
            coarse[:, :, i // 2, j // 2] += grad[:, :, i, j] * (1 if grad.shape[2] % 2 == 0 else 0.5)
    return grad, coarse
'''),
    ],
}

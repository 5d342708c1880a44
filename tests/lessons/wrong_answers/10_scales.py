"""Plausible wrong answers to the exercises of lesson 10, with words that the check must say."""

WRONG = {
    "halve_rows": [
        ("you do not smooth before", '''
def halve_rows(x):
    return x[..., ::2]
'''),
        ("divide the weights by 16", '''
def halve_rows(x):
    wide, size = mirrored(x), x.shape[-1]
    return sum(weight * wide[..., k : k + size] for k, weight in enumerate((1, 4, 6, 4, 1)))[..., ::2]
'''),
        ("use mirrored(x)", '''
def halve_rows(x):
    wide, size = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(2, 2)]), x.shape[-1]
    return sum(weight / 16 * wide[..., k : k + size] for k, weight in enumerate((1, 4, 6, 4, 1)))[..., ::2]
'''),
        ("(rounded up)", '''
def halve_rows(x):
    wide, size = mirrored(x), x.shape[-1]
    return sum(weight / 16 * wide[..., k : k + size] for k, weight in enumerate((1, 4, 6, 4, 1)))
'''),
        ("slice the last axis alone", '''
def halve_rows(x):
    wide, size = mirrored(x), len(x)
    return sum(weight / 16 * wide[k : k + size] for k, weight in enumerate((1, 4, 6, 4, 1)))[::2]
'''),
        ("an offset?", '''
def halve_rows(x):
    wide, size = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(3, 1)], mode="reflect"), x.shape[-1]
    return sum(weight / 16 * wide[..., k : k + size] for k, weight in enumerate((1, 4, 6, 4, 1)))[..., ::2]
'''),
    ],
    "pyramid": [
        ("the largest one should", '''
def pyramid(image, down, up):
    levels = [(1, image)]
    for _ in range(up):
        levels.append((levels[-1][0] / 2, double(levels[-1][1])))
    for _ in range(down):
        levels.insert(0, (levels[0][0] * 2, halve(levels[0][1])))
    return levels
'''),
        ("(stride, picture), in this order", '''
def pyramid(image, down, up):
    levels = [(image, 1)]
    for _ in range(up):
        levels.insert(0, (double(levels[0][0]), levels[0][1] / 2))
    for _ in range(down):
        levels.append((halve(levels[-1][0]), levels[-1][1] * 2))
    return levels
'''),
        ("upside down", '''
def pyramid(image, down, up):
    levels = [(1, image)]
    for _ in range(up):
        levels.insert(0, (levels[0][0] * 2, double(levels[0][1])))
    for _ in range(down):
        levels.append((levels[-1][0] / 2, halve(levels[-1][1])))
    return levels
'''),
        ("made from the halved one", '''
def pyramid(image, down, up):
    levels = [(1, image)]
    for _ in range(up):
        levels.insert(0, (levels[0][0] / 2, double(levels[0][1])))
    for step in range(1, down + 1):
        levels.append((2**step, halve(image)[:: 2 ** (step - 1), :: 2 ** (step - 1)]))
    return levels
'''),
        ("with the original", '''
def pyramid(image, down, up):
    levels, picture, stride = [], image, 1
    for _ in range(down):
        picture, stride = halve(picture), stride * 2
        levels.append((stride, picture))
    picture, stride = image, 1
    for _ in range(up):
        picture, stride = double(picture), stride / 2
        levels.insert(0, (stride, picture))
    return levels
'''),
        ("halve(image)?", '''
def pyramid(image, down, up):
    levels = [(1, image)]
    for _ in range(up):
        levels.insert(0, (levels[0][0] / 2, double(levels[0][1])))
    for _ in range(down):
        levels.append((levels[-1][0] * 2, levels[-1][1][::2, ::2]))
    return levels
'''),
    ],
    "price": [
        ("four times the pixels, not twice", '''
def price(scales):
    return sum(scales)
'''),
        ("four times the pixels, your price is 8", '''
def price(scales):
    return sum(scale**3 for scale in scales)
'''),
        ("cost 1.25, yours is", '''
def price(scales):
    return max(scales) ** 2
'''),
    ],
    "depth": [
        ("do not add both ways up", '''
def depth(tensor):
    def behind(node):
        if node is None:
            return 0
        return sum(behind(parent) for parent, _ in node.next_functions) + (node.name == "conv2d")

    return behind(tensor.grad_fn)
'''),
        ("you count ReLU, too", '''
def depth(tensor):
    def behind(node):
        if node is None or not node.next_functions:
            return 0
        return max(behind(parent) for parent, _ in node.next_functions) + 1

    return behind(tensor.grad_fn)
'''),
        ("the shorter way", '''
def depth(tensor):
    def behind(node):
        if node is None:
            return 0
        ways = [behind(parent) for parent, _ in node.next_functions if parent is None or parent.next_functions]
        return min(ways, default=0) + (node.name == "conv2d")

    return behind(tensor.grad_fn)
'''),
        ("the longer way alone counts", '''
def depth(tensor):
    seen, count, waiting = set(), 0, [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            count += node.name == "conv2d"
            waiting += [parent for parent, _ in node.next_functions]
    return count
'''),
        ("Do you look at all ways", '''
def depth(tensor):
    node, count = tensor.grad_fn, 0
    while node is not None:
        count += node.name == "conv2d"
        node = node.next_functions[0][0] if node.next_functions else None
    return count
'''),
        ("is there a return", '''
def depth(tensor):
    known = {None: 0}

    def behind(node):
        if node not in known:
            known[node] = max(behind(parent) for parent, _ in node.next_functions) + (node.name == "conv2d")
        return known[node]
'''),
    ],
}

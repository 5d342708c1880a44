"""Plausible wrong answers to the exercises of lesson 13, with words that the check must say."""

KINDS = '''
def kinds_of(overlap, labels, true_labels):
    kinds, taken = [], set()
    for i, label in enumerate(labels):
        same = [j for j in range(len(true_labels)) if true_labels[j] == label]
        other = [j for j in range(len(true_labels)) if true_labels[j] != label]
        free = [j for j in same if j not in taken and overlap[i, j] >= 0.5]
        if free:
            taken.add(max(free, key=lambda j: overlap[i, j]))
            kinds.append("right")
        elif any(overlap[i, j] >= 0.5 for j in same):
            kinds.append("double")
        elif any(overlap[i, j] >= 0.5 for j in other):
            kinds.append("confused")
        elif any(overlap[i, j] >= 0.1 for j in same):
            kinds.append("loose")
        else:
            kinds.append("nothing")
    return kinds
'''

DOUBLE, CONFUSED = ("in {}):\n            kinds.append(\"{}\")".format(*words)
                    for words in (("same", "double"), ("other", "confused")))  # fmt: skip

WRONG = {
    "kinds_of": [
        ("the surer one takes it", KINDS.replace("taken.add(max(free, key=lambda j: overlap[i, j]))", "pass")),
        ("compare the classes", KINDS.replace("if true_labels[j] == label", "if True")),
        ("but a second one fits and is free", '''
def kinds_of(overlap, labels, true_labels):
    kinds, taken = [], set()
    for i, label in enumerate(labels):
        same = [j for j in range(len(true_labels)) if true_labels[j] == label]
        best = max(same, key=lambda j: overlap[i, j], default=None)
        if best is not None and overlap[i, best] >= 0.5:
            kinds.append("double" if best in taken else "right")
            taken.add(best)
        elif any(overlap[i, j] >= 0.5 for j in range(len(true_labels))):
            kinds.append("confused")
        else:
            kinds.append("loose" if any(overlap[i, j] >= 0.1 for j in same) else "nothing")
    return kinds
'''),
        ("they should be ['loose', 'nothing']", KINDS.replace(">= 0.1", "> 0")),
        ("it should be ['confused']", KINDS.replace("for j in other", "for j in same")),
        ("takes its *best* object", KINDS.replace("max(free, key=lambda j: overlap[i, j])", "free[0]")),
        ("is tried before \"confused\"",
         KINDS.replace(DOUBLE, "first").replace(CONFUSED, DOUBLE).replace("first", CONFUSED)),
        ("is tried before \"loose\"", KINDS.replace("any(overlap[i, j] >= 0.5 for j in other)",
                                                  "any(overlap[i, j] >= 0.5 for j in other) and not "
                                                  "any(overlap[i, j] >= 0.1 for j in same)")),
        ("with an object of another class is", KINDS.replace("0.5 for j in other", "0.1 for j in other")),
        ("it is loose", KINDS.replace("0.1 for j in same", "0.1 for j in same if j not in taken")),
        ("includes them", KINDS.replace("overlap[i, j] >= 0.5", "overlap[i, j] > 0.5")),
        ("and a nearer one of another", '''
def kinds_of(overlap, labels, true_labels):
    kinds, taken = [], set()
    for i, label in enumerate(labels):
        order = np.argsort(-overlap[i])
        near = [j for j in order if overlap[i, j] >= 0.5 and (j not in taken or true_labels[j] != label)]
        if near and true_labels[near[0]] == label:
            taken.add(near[0])
            kinds.append("right")
        elif any(overlap[i, j] >= 0.5 for j in order if true_labels[j] == label and j in taken):
            kinds.append("double")
        elif near:
            kinds.append("confused")
        else:
            touched = any(overlap[i, j] >= 0.1 for j in order if true_labels[j] == label)
            kinds.append("loose" if touched else "nothing")
    return kinds
'''),
    ],
    "images_without": [
        ("those that lack it are asked for", '''
def images_without(annotations, label):
    return [place for place, annotation in enumerate(annotations) if label in annotation["labels"]]
'''),
        ("image 2 has no box at all", '''
def images_without(annotations, label):
    return [place for place, annotation in enumerate(annotations)
            if len(annotation["labels"]) and label not in annotation["labels"]]
'''),
        ("a list of places is expected", '''
def images_without(annotations, label):
    return sum(label not in annotation["labels"] for annotation in annotations)
'''),
        ("without label 2 are", '''
def images_without(annotations, label):
    return [place for place, annotation in enumerate(annotations) if 0 not in annotation["labels"]]
'''),
    ],
    "best_threshold": [
        ("0.7 is better", '''
def best_threshold(finds, annotations, label, thresholds):
    def error(threshold):
        return abs(sum(int(((find["scores"] >= threshold) & (find["labels"] == label)).sum())
                       - int((annotation["labels"] == label).sum()) for find, annotation in zip(finds, annotations)))
    return min(thresholds, key=error)
'''),
        ("a score of exactly the threshold counts", '''
def best_threshold(finds, annotations, label, thresholds):
    def error(threshold):
        return sum(abs(int(((find["scores"] > threshold) & (find["labels"] == label)).sum())
                       - int((annotation["labels"] == label).sum())) for find, annotation in zip(finds, annotations))
    return min(thresholds, key=error)
'''),
        ("other labels do not count", '''
def best_threshold(finds, annotations, label, thresholds):
    def error(threshold):
        return sum(abs(int((find["scores"] >= threshold).sum()) - len(annotation["labels"]))
                   for find, annotation in zip(finds, annotations))
    return min(thresholds, key=error)
'''),
        ("true cells with another label", '''
def best_threshold(finds, annotations, label, thresholds):
    def error(threshold):
        return sum(abs(int(((find["scores"] >= threshold) & (find["labels"] == label)).sum())
                       - len(annotation["labels"])) for find, annotation in zip(finds, annotations))
    return min(thresholds, key=error)
'''),
        ("do not square", '''
def best_threshold(finds, annotations, label, thresholds):
    def error(threshold):
        return sum((int(((find["scores"] >= threshold) & (find["labels"] == label)).sum())
                    - int((annotation["labels"] == label).sum())) ** 2 for find, annotation in zip(finds, annotations))
    return min(thresholds, key=error)
'''),
        ("it is their mean", '''
def best_threshold(finds, annotations, label, thresholds):
    def error(threshold):
        return np.median([abs(int(((find["scores"] >= threshold) & (find["labels"] == label)).sum())
                              - int((annotation["labels"] == label).sum()))
                          for find, annotation in zip(finds, annotations)])
    return min(thresholds, key=error)
'''),
        ("is it the smallest error that you take", '''
def best_threshold(finds, annotations, label, thresholds):
    def error(threshold):
        return sum(abs(int(((find["scores"] >= threshold) & (find["labels"] == label)).sum())
                       - int((annotation["labels"] == label).sum())) for find, annotation in zip(finds, annotations))
    return max(thresholds, key=error)
'''),
    ],
    "interval": [
        ("the lower bound comes first", '''
def interval(differences, draws=1000, seed=0):
    random = np.random.RandomState(seed)
    means = [random.choice(differences, size=len(differences)).mean() for _ in range(draws)]
    return float(np.percentile(means, 97.5)), float(np.percentile(means, 2.5))
'''),
        ("draw with repetition", '''
def interval(differences, draws=1000, seed=0):
    random = np.random.RandomState(seed)
    means = [random.permutation(differences).mean() for _ in range(draws)]
    means = np.round(means, 9)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))
'''),
        ("is it the percentiles of the means", '''
def interval(differences, draws=1000, seed=0):
    return float(np.percentile(differences, 2.5)), float(np.percentile(differences, 97.5))
'''),
        ("leave 2.5 % on each side", '''
def interval(differences, draws=1000, seed=0):
    random = np.random.RandomState(seed)
    means = [random.choice(differences, size=len(differences)).mean() for _ in range(draws)]
    return float(np.percentile(means, 10)), float(np.percentile(means, 90))
'''),
        ("draw as many as there are", '''
def interval(differences, draws=1000, seed=0):
    random = np.random.RandomState(seed)
    means = [random.choice(differences, size=100).mean() for _ in range(draws)]
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))
'''),
    ],
}

"""Plausible wrong answers to the exercises of lesson 14, with words that the check must say."""

WRONG = {
    "average": [
        ("the plain mean", """
def average(parts, sizes):
    return sum(parts[1:], parts[0]) / len(parts)
"""),
        ("divide by all images", """
def average(parts, sizes):
    return sum((part * size for part, size in zip(parts[1:], sizes[1:])), parts[0] * sizes[0]) / len(parts)
"""),
        ("use `parts` and `sizes`", """
def average(parts, sizes):
    return (4 * parts[0] + 2 * parts[1] + parts[-1]) / 7
"""),
        ("each rank still needs its own", """
def average(parts, sizes):
    for part, size in zip(parts, sizes):
        part *= size
    return sum(parts[1:], parts[0]) / sum(sizes)
"""),
    ],
    "combine": [
        ("ranks with more numbers", """
def combine(counts, means, variances):
    return means.mean(), variances.mean()
"""),
        ("only the mean of the variances", """
def combine(counts, means, variances):
    total = counts.sum()
    return (counts * means).sum() / total, (counts * variances).sum() / total
"""),
        ("the mean comes first", """
def combine(counts, means, variances):
    total = counts.sum()
    mean = (counts * means).sum() / total
    return (counts * (variances + (means - mean) ** 2)).sum() / total, mean
"""),
        ("the unbiased variance", """
def combine(counts, means, variances):
    total = counts.sum()
    mean = (counts * means).sum() / total
    return mean, (counts * (variances + (means - mean) ** 2)).sum() / (total - 1)
"""),
        ("weighed by its count", """
def combine(counts, means, variances):
    total = counts.sum()
    mean = (counts * means).sum() / total
    return mean, (counts * variances).sum() / total + ((means - mean) ** 2).mean()
"""),
        ("a tuple of two", """
def combine(counts, means, variances):
    return (counts * means).sum() / counts.sum()
"""),
        ("two huge squares", """
def combine(counts, means, variances):
    total = counts.sum()
    mean = (counts * means).sum() / total
    return mean, (counts * (variances + means**2)).sum() / total - mean**2
"""),
    ],
    "one_round": [
        ("work on a clone", """
def one_round(chunks, s):
    for rank in range(len(chunks)):
        chunks[rank, (rank - 1 - s) % len(chunks)] += 1
    return chunks
"""),
        ("which rank r + 1 adds", """
def one_round(chunks, s):
    after = chunks.clone()
    for rank in range(len(chunks)):
        after[rank, (rank - s) % len(chunks)] += chunks[rank - 1, (rank - s) % len(chunks)]
    return after
"""),
        ("are to be returned", """
def one_round(chunks, s):
    after = chunks.clone()
"""),
        ("it *adds* what it gets", """
def one_round(chunks, s):
    after = chunks.clone()
    for rank in range(len(chunks)):
        chunk = (rank - 1 - s) % len(chunks)
        after[rank, chunk] = chunks[rank - 1, chunk]
    return after
"""),
        ("with 3 ranks", """
def one_round(chunks, s):
    after = chunks.clone()
    for rank in range(len(chunks)):
        chunk = (rank - 1 - s) % 4 % len(chunks)
        after[rank, chunk] = chunks[rank, chunk] + chunks[rank - 1, chunk]
    return after
"""),
        ("in round s rank r sends", """
def one_round(chunks, s):
    after = chunks.clone()
    for rank in range(len(chunks)):
        chunk = (rank - 1) % len(chunks)
        after[rank, chunk] = chunks[rank, chunk] + chunks[rank - 1, chunk]
    return after
"""),
    ],
    "ring_seconds": [
        ("nobody to talk to", """
def ring_seconds(ranks, size, bandwidth, latency):
    return 2 * (latency + size / bandwidth)
"""),
        ("not 1.5", """
def ring_seconds(ranks, size, bandwidth, latency):
    return (ranks - 1) * (latency + size / ranks / bandwidth)
"""),
        ("one phase with whole gradients", """
def ring_seconds(ranks, size, bandwidth, latency):
    return (ranks - 1) * (latency + size / bandwidth)
"""),
        ("every round waits once", """
def ring_seconds(ranks, size, bandwidth, latency):
    return latency + 2 * (ranks - 1) * size / ranks / bandwidth if ranks > 1 else 0
"""),
    ],
}

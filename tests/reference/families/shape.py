"""Views, permutations, joins, cuts, padding."""

from __future__ import annotations

from tests.reference.cases import Case, integers, normal

X = (2, 3, 4)


def one(name, function, *shape):
    return Case(name, function, (normal(*(shape or X)),))


CASES = [
    one("reshape", lambda lib, F, x: x.reshape(4, 6)),
    one("reshape -1", lambda lib, F, x: x.reshape(-1, 2)),
    one("reshape tuple", lambda lib, F, x: lib.reshape(x, (3, 8))),
    one("reshape of a transposed", lambda lib, F, x: x.transpose(0, 2).reshape(2, 12)),
    one("reshape of nothing", lambda lib, F, x: x.reshape(0, 12), 0, 3, 4),
    one("view", lambda lib, F, x: x.view(6, -1)),
    one("view of a slice", lambda lib, F, x: x[1].view(2, 6)),
    one("flatten", lambda lib, F, x: x.flatten()),
    one("flatten 1", lambda lib, F, x: lib.flatten(x, 1)),
    one("flatten 0 1", lambda lib, F, x: x.flatten(0, 1)),
    one("flatten a scalar", lambda lib, F, x: (x * 2).sum().flatten()),
    one("flatten nothing", lambda lib, F, x: x.flatten(1), 0, 3, 4),
    one("permute", lambda lib, F, x: x.permute(2, 0, 1)),
    one("permute tuple", lambda lib, F, x: lib.permute(x, (1, -1, 0))),
    one("transpose", lambda lib, F, x: x.transpose(0, 2)),
    one("transpose function", lambda lib, F, x: lib.transpose(x, -1, 1)),
    one("T", lambda lib, F, x: x.T, 3, 5),
    one("t", lambda lib, F, x: x.t(), 3, 5),
    one("squeeze", lambda lib, F, x: x.squeeze(), 1, 3, 1, 2),
    one("squeeze 0", lambda lib, F, x: x.squeeze(0), 1, 3, 1, 2),
    one("squeeze not 1", lambda lib, F, x: lib.squeeze(x, 1), 1, 3, 1, 2),
    one("squeeze -2", lambda lib, F, x: x.squeeze(-2), 1, 3, 1, 2),
    one("unsqueeze", lambda lib, F, x: (x.unsqueeze(0), lib.unsqueeze(x, -1), x.unsqueeze(1))),
    one("expand", lambda lib, F, x: x.expand(4, 3, 5), 3, 1),
    one("expand -1", lambda lib, F, x: x.expand(2, -1, 5), 3, 1),
    one("expand_as", lambda lib, F, x: x.expand_as(lib.zeros(2, 3, 5)), 3, 1),
    one("contiguous", lambda lib, F, x: x.transpose(0, 1).contiguous()),
    one("clone", lambda lib, F, x: x.clone() * 2),
    one("chain of views", lambda lib, F, x: x.permute(2, 1, 0).unsqueeze(1).flatten(1).t()[1:, ::2]),
    *[
        Case(
            f"cat dim={d} of {list(shapes)}",
            lambda lib, F, *x, d=d: lib.cat(x, dim=d),
            tuple(normal(*s) for s in shapes),
        )
        for d, shapes in (
            (0, ((2, 3), (1, 3), (4, 3))),
            (1, ((2, 3), (2, 1))),
            (-1, ((2, 3, 1), (2, 3, 4))),
            (0, ((0, 3), (2, 3))),
            (1, ((2, 3),)),
        )
    ],
    one("cat twice the same", lambda lib, F, x: lib.cat([x, x, x * 2], 1)),
    one("cat transposed", lambda lib, F, x: lib.cat([x.transpose(0, 1), x.transpose(0, 1)], -1)),
    Case("cat integer and floating", lambda lib, F, i, x: lib.cat([i, x]), (integers(0, 9, 3), normal(2))),
    *[
        Case(f"stack dim={d}", lambda lib, F, x, y, z, d=d: lib.stack([x, y, z], dim=d), (normal(2, 3),) * 3)
        for d in (0, 1, 2, -1)
    ],
    Case("stack scalars", lambda lib, F, x, y: lib.stack((x, y)), (normal(), normal())),
    one("split", lambda lib, F, x: lib.split(x, 2, dim=1), 3, 5),
    one("split sections", lambda lib, F, x: x.split([1, 3, 1], dim=-1), 3, 5),
    one("split one of them", lambda lib, F, x: x.split(2)[1], 5, 3),
    one("split default", lambda lib, F, x: x.split(2), 5),
    one("chunk", lambda lib, F, x: lib.chunk(x, 3, dim=1), 2, 7),
    one("chunk more than there are", lambda lib, F, x: x.chunk(4), 3, 2),
    one("unbind", lambda lib, F, x: x.unbind(1), 2, 3),
    one("flip", lambda lib, F, x: (x.flip(0), lib.flip(x, (0, 2)), x.flip(-1, 1))),
    one("repeat", lambda lib, F, x: (x.repeat(2, 1, 3), x.repeat(2, 1, 1, 1))),
    one("narrow", lambda lib, F, x: x.narrow(2, 1, 2)),
    one("unflatten", lambda lib, F, x: x.unflatten(2, (2, -1))),
    one("swapaxes and mT", lambda lib, F, x: x.swapaxes(0, 1) * 2 + x.swapaxes(0, 1).mT.mT),
    one("broadcast_to", lambda lib, F, x: x.broadcast_to((2, 2, 3, 4))),
    one("view_as and reshape_as", lambda lib, F, x: x.view_as(lib.zeros(6, 4)) + x.reshape_as(lib.zeros(6, 4))),
    one("iteration", lambda lib, F, x: tuple(row * 2 for row in x), 3, 2),
    *[
        one(f"pad {p} of {s}", lambda lib, F, x, p=p: F.pad(x, p), *s)
        for p, s in (
            ((1, 2), (2, 3)),
            ((1, 0, 2, 1), (2, 3, 4)),
            ((0, 0, 0, 0, 1, 2), (2, 3, 4)),
            ((2, 2), (4,)),
            ((1, 1, 1, 1), (0, 2, 3, 3)),
        )
    ],
    one("pad with a value", lambda lib, F, x: F.pad(x, (1, 2, 3, 0), value=-2.5)),
    one("pad negative", lambda lib, F, x: F.pad(x, (-1, 2)), 3, 5),
    one("pad negative both", lambda lib, F, x: F.pad(x, (1, -2, -1, -1)), 3, 4, 6),
    one("pad constant", lambda lib, F, x: F.pad(x, (1, 1), "constant", 0)),
]

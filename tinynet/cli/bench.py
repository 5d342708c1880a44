"""`tinynet bench · warmup`: how fast it is here, beside whom, and everything compiled before it is needed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tinynet
from tinynet import plot
from tinynet.bench import chart, machine, ring, scaling, table, targets, works
from tinynet.bench.alternate import Comparison, Worker, compare, require
from tinynet.bench.machine import Speed
from tinynet.bench.warmup import warmup
from tinynet.bench.works import ADDITIONS, EAGER, FUSED, INFERENCE, ONNXRUNTIME, TINYNET, TORCH, TRAINING, Side, Work
from tinynet.cli.look import parse_size
from tinynet.errors import TinynetError
from tinynet.inspect import parity
from tinynet.utils.progress import progress

FOLDER = "runs/bench"
BATCHES, CIFAR_BATCH = (1, 8), 128
PLAN_HEAD = ("ranks", "all-reduce ms", "step ms", "hidden ms", "share", "images/s", "efficiency")

Asked = list[tuple[Work, Sequence[Side]]]


def run_bench(options: argparse.Namespace) -> int:
    """Measures what was asked for, prints a table, and writes CSV and pictures."""
    chosen = [name for name in ("scaling", "scaling_model", "small", "targets") if getattr(options, name)]
    if len(chosen) > 1:
        raise TinynetError(f"bench: choose one of --{' and --'.join(name.replace('_', '-') for name in chosen)}")
    if options.link and "scaling_model" not in chosen:
        raise TinynetError("bench: --link belongs to --scaling-model")
    for engine in options.against:
        require(engine)
    prepare, run = MODES[chosen[0] if chosen else ""]
    asked = prepare(options)
    threads = options.threads or machine.cores()
    out = Path(options.out) if options.out else _free_folder(Path(FOLDER))
    out.mkdir(parents=True, exist_ok=True)
    print(f"{machine.processor()}, {threads} thread{'s' if threads > 1 else ''} on every side", flush=True)
    run(options, asked, threads, out)
    return 0


def _free_folder(base: Path) -> Path:
    if not base.exists():
        return base
    return next(f for number in range(2, 10**6) if not (f := base.with_name(f"{base.name}-{number}")).exists())


# What is asked for is put together and checked before anything slow begins.


def _asked_works(options: argparse.Namespace) -> Asked:
    """Each model in each task at each batch, with the sides that can do it."""
    rivals = [side for engine in dict.fromkeys(options.against) for side in _rivals(engine)]
    asked: Asked = []
    tasks = (INFERENCE, TRAINING) if options.work == "both" else (options.work,)
    if ONNXRUNTIME in options.against and tasks == (TRAINING,):
        raise TinynetError("bench: ONNX Runtime is measured in inference only: use --work inference")
    for name in options.model:
        size = _size(options, name)
        for task in tasks:
            for batch in options.batch or ((CIFAR_BATCH,) if name.startswith("cifar") else BATCHES):
                others = [side for side in rivals if task == INFERENCE or side.engine != ONNXRUNTIME]
                asked.append((Work(name, task, batch, size), [*_own(options, task), *others]))
    return asked


def _asked_scaling(options: argparse.Namespace) -> Asked:
    """One image through the first model, the first of tinynet's sides."""
    name, task = options.model[0], TRAINING if options.work == TRAINING else INFERENCE
    return [(Work(name, task, 1, _size(options, name)), _own(options, task)[:1])]


def _asked_small(options: argparse.Namespace) -> Asked:
    if ONNXRUNTIME in options.against:
        raise TinynetError("bench: --small is about the tape, which ONNX Runtime does not have: --against torch")
    require(TORCH)
    return [(targets.SUMS, targets.SIDES[targets.SUMS])]


def _asked_targets(options: argparse.Namespace) -> Asked:
    """All works with a limit; ONNX Runtime takes part where it is installed."""
    require(TORCH)
    with_onnx = _installed(ONNXRUNTIME)
    return [
        (work, [side for side in sides if side.engine != ONNXRUNTIME or with_onnx])
        for work, sides in targets.SIDES.items()
    ]


def _size(options: argparse.Namespace, name: str) -> tuple[int, int]:
    parity.build(name, "bench")  # refuses an unknown name
    return parse_size(options.size) if options.size else works.default_size(name)


def _rivals(engine: str) -> Sequence[Side]:
    return works.TORCH_SIDES if engine == TORCH else (Side(engine),)


def _own(options: argparse.Namespace, task: str) -> list[Side]:
    if task == TRAINING:
        return [Side(TINYNET, EAGER)]
    variants = [name for name in (FUSED, EAGER) if getattr(options, name)] or [FUSED, EAGER]
    return [Side(TINYNET, variant) for variant in variants]


def _measure(
    asked: Asked, threads: int, seconds: float, layers: Path | None
) -> tuple[list[Comparison], Speed, dict[str, Any]]:
    """Machine, multiply-adds and layers first, then one comparison after the other, below one progress bar."""
    with progress(total=len(asked) + 1, desc="bench") as bar:
        tell: Callable[[str], None] = bar.set_postfix_str
        tell("this machine's matrix product")
        speed = machine.product_speed(threads)
        nets = list(dict.fromkeys(_single(work) for work, _ in asked if work.model != ADDITIONS))
        macs: dict[Work, int] = {}
        profiles: dict[str, Any] = {}
        if nets:
            with Worker(TINYNET, threads) as worker:
                for net in nets:
                    tell(f"{net.model}: counting (the first time kernels are compiled)")
                    macs[net] = worker.ask("macs", work=works.as_request(net))
                profiled = [work for work, _ in asked] if layers else nets[:1]
                for number, work in enumerate(profiled):
                    tell(f"{work.name}: layer by layer")
                    path = str(layers / f"layers{f'-{number + 1}' if number else ''}.png") if layers else None
                    profiles[work.name] = worker.ask("layers", work=works.as_request(work), path=path)
                    what = f"tinynet's fastest 1×1 convolution of {work.model}"
                    speed = speed.at_least(profiles[work.name]["best"], what)
        bar.update()
        comparisons = []
        for work, sides in asked:
            comparisons.append(
                compare(work, sides, threads=threads, seconds=seconds, macs=macs.get(_single(work), 0), tell=tell)
            )
            bar.update()
    return comparisons, speed, profiles


def _single(work: Work) -> Work:
    return Work(work.model, INFERENCE, 1, work.size, work.blocks)


def _works(options: argparse.Namespace, asked: Asked, threads: int, out: Path) -> None:
    layers = out if options.layers and not options.small else None
    comparisons, speed, profiles = _measure(asked, threads, options.seconds, layers)
    if layers:
        for name, profile in profiles.items():
            print(f"\n{name}, eager, layer by layer\n{profile['table']}")
    print(f"\n{table.table(comparisons, speed)}\n")
    _explain(comparisons, speed)
    table.write_csv(comparisons, speed, out / "bench.csv")
    plot.save(chart.speeds(comparisons, speed, _note(threads)), out / "bench.png")
    print(f"  {out / 'bench.csv'}  every number\n  {out / 'bench.png'}  the picture")
    for path in sorted(out.glob("layers*.png")) if layers else ():
        print(f"  {path}  time and memory by layer")


def _explain(comparisons: Sequence[Comparison], speed: Speed) -> None:
    lines = table.conclusions(comparisons)
    if lines:
        print("\n".join(lines))
    if any(comparison.macs for comparison in comparisons):
        print(
            f"share: of the fastest product measured here, {speed}; counted is what the definition multiplies,\n"
            "  and Winograd's algorithm for 3×3 convolutions multiplies 2.25 times less, so it may be above 100 %"
        )
    print("times are medians; ratios are medians over rounds in which the sides took turns")


def _targets(options: argparse.Namespace, asked: Asked, threads: int, out: Path) -> None:
    comparisons, speed, _ = _measure(asked, threads, options.seconds, None)
    results = targets.outcomes(comparisons)
    print(f"\n{table.table(comparisons, speed)}\n\n{targets.outcome_table(results)}\n")
    if not _installed(ONNXRUNTIME):
        print("onnx and onnxruntime are not installed here (extra `bench`): those rows are missing")
    print("ratio: tinynet ÷ rival, the median over rounds in which the sides took turns; torch in its better layout")
    table.write_csv(comparisons, speed, out / "bench.csv")
    plot.save(chart.targets_chart(results, _note(threads)), out / "targets.png")
    plot.save(chart.speeds([c for c in comparisons if c.macs], speed, _note(threads)), out / "bench.png")
    print(f"  {out / 'bench.csv'}  every number\n  {out / 'targets.png'}  ratios and limits")
    print(f"  {out / 'bench.png'}  speed and memory")


def _installed(engine: str) -> bool:
    try:
        require(engine)
    except TinynetError:
        return False
    return True


def _scaling(options: argparse.Namespace, asked: Asked, threads: int, out: Path) -> None:
    base, (side,) = asked[0]
    with progress(desc="scaling", bar_format="{desc}: {elapsed}{postfix}") as bar:
        result = scaling.scaling(base, side, threads=threads, seconds=options.seconds, tell=bar.set_postfix_str)
    rows = [("time against", "measured ms", "off a straight line", "")]
    for line in result.lines:
        measured = ", ".join(f"{label}: {table.milliseconds(y)}" for label, y in zip(line.labels, line.seconds))
        verdict = "within" if line.deviation <= scaling.ALLOWED else "beyond"
        rows.append((line.title, measured, f"{line.deviation:.1%}", f"{verdict} {scaling.ALLOWED:.0%}"))
    print(f"\n{base.model} {base.task}, {side.name}\n{table.aligned(rows, left=2)}")
    for batch in sorted({batch for batch, _ in result.threads}):
        one, all_ = result.threads[batch, 1], result.threads[batch, threads]
        print(
            f"batch {batch}: {table.milliseconds(one)} ms on one thread, {table.milliseconds(all_)} ms on {threads}: "
            f"{one / all_:.2f} times as fast"
        )
    note = f"{base.model} {base.task}, {side.name}. {_note(threads)}"
    plot.save(chart.scaling_chart(result, note), out / "scaling.png")
    print("times are the fastest of the rounds in which the sizes took turns")
    print(f"  {out / 'scaling.png'}  the picture")


def _asked_scaling_model(options: argparse.Namespace) -> Asked:
    """A training step of the first model."""
    name = options.model[0]
    batch = options.batch[0] if options.batch else CIFAR_BATCH if name.startswith("cifar") else BATCHES[-1]
    return [(Work(name, TRAINING, batch, _size(options, name)), [Side(TINYNET, EAGER)])]


def _scaling_model(options: argparse.Namespace, asked: Asked, threads: int, out: Path) -> None:
    work, sides = asked[0]
    with progress(desc="scaling model", bar_format="{desc}: {elapsed}{postfix}") as bar:
        measured = compare(work, sides, threads=threads, seconds=options.seconds, tell=bar.set_postfix_str)
    seconds = measured.sides[0].median
    size = sum(4 * parameter.numel() for parameter in parity.build(work.model, "bench").parameters())
    links = [ring.Link(*options.link)] if options.link else ring.LINKS
    plans = [ring.Plan(seconds, work.batch, size, link) for link in links]
    print(f"\n{work.name}, one rank: {table.milliseconds(seconds)} ms a step, {size / 1e6:.1f} MB of gradient")
    for plan in plans:
        rows: list[tuple[str, ...]] = [PLAN_HEAD]
        for ranks in ring.RANKS:
            times = (plan.all_reduce(ranks), plan.step(ranks, hidden=False), plan.step(ranks))
            speed = f"{plan.images_per_second(ranks):.1f}"
            ratios = (f"{plan.share(ranks):.0%}", speed, f"{plan.efficiency(ranks):.0%}")
            rows.append((str(ranks), *map(table.milliseconds, times), *ratios))
        print(f"\n{plan.link.name}\n{table.aligned(rows, left=0)}")
        print(f"backward hides it all up to {_before(plan.shows)}; communication dominates {_from(plan.dominates)}")
    print("\nshare: communication's part of a step that hides nothing (step ms). A ring all-reduce, on paper.")
    curves = {plan.link.name: (ring.RANKS, [plan.efficiency(n) for n in ring.RANKS]) for plan in plans}
    picture = plot.lines(curves, x="ranks", y="efficiency", log="x", title=f"{work.name}, planned from one rank")
    plot.save(picture, out / "scaling_model.png")
    print(f"  {out / 'scaling_model.png'}  efficiency against ranks")


def _before(ranks: int | None) -> str:
    return "any number of ranks" if ranks is None else f"{ranks - 1:,} rank{'s' if ranks > 2 else ''}"


def _from(ranks: int | None) -> str:
    return "nowhere below a million ranks" if ranks is None else f"from {ranks:,} ranks on"


def _note(threads: int) -> str:
    return f"{machine.processor()}, {threads} thread{'s' if threads > 1 else ''}, tinynet {tinynet.__version__}"


def run_warmup(options: argparse.Namespace) -> int:
    """Compiles every kernel into the user's cache."""
    dtypes = ("float32", "float64") if options.all else ("float64",) if options.float64 else ("float32",)
    done = warmup(dtypes)
    kinds = " and ".join(dtypes)
    if done.folder is None:
        print(f"compiled for {kinds} in {done.seconds:.0f} s, but there is no private folder to keep the code in")
    elif done.compiled:
        print(f"compiled {len(done.compiled)} functions for {kinds} in {done.seconds:.0f} s, kept in {done.folder}")
    else:
        print(f"already compiled for {kinds}: all found in {done.folder} ({done.seconds:.0f} s to load and try them)")
    return 0


MODES: dict[str, tuple[Callable[[Any], Asked], Callable[[Any, Asked, int, Path], None]]] = {
    "": (_asked_works, _works), "small": (_asked_small, _works), "scaling": (_asked_scaling, _scaling),
    "scaling_model": (_asked_scaling_model, _scaling_model),
    "targets": (_asked_targets, _targets),
}  # fmt: skip
COMMANDS: dict[str, Callable[[Any], int]] = {"bench": run_bench, "warmup": run_warmup}

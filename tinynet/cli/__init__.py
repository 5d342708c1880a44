"""The `tinynet` command: parsing, and errors as one line. What a subcommand needs is imported when it runs."""

from __future__ import annotations

import argparse
import atexit
import gc
import io
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import tinynet
from tinynet import distributed
from tinynet.distributed.failures import INTERRUPTED, abort
from tinynet.distributed.group import default_group
from tinynet.errors import DataError, TinynetError
from tinynet.utils.interrupts import interrupts_kept


class UsageError(Exception):
    """The command line itself is wrong."""


class Parser(argparse.ArgumentParser):
    """argparse that raises instead of printing its usage over several lines."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 1 after an error, 130 after Ctrl-C.

    Errors are one line on stderr; with --debug the traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # else a pipe, mpiexec's too, shows an epoch's line a hundred later
    # At exit Python would look for cycles among all of Numba's objects: half a second after Ctrl-C.
    atexit.register(gc.freeze)
    try:
        options = _parser().parse_args(arguments)
        with interrupts_kept():
            return options.run(options) or 0
    except KeyboardInterrupt as interrupt:
        _complain(str(interrupt) or "interrupted", INTERRUPTED)
        return INTERRUPTED
    except Exception as error:
        if debug and not isinstance(error, UsageError):
            raise
        _complain(_text_of(error), 1)
        return 1


def _complain(message: str, code: int) -> None:
    """The line on stderr; one of several ranks ends the others too, which would wait for it."""
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        abort(default_group(), message, code)
    print(f"tinynet: {message}", file=sys.stderr)


def _text_of(error: Exception) -> str:
    """One line, except where a list was found: annotations with their files."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        text = f"out of memory: {error}" if str(error) else "out of memory"
    elif isinstance(error, DataError) and "\n" in str(error):
        return f"error: {error}"
    elif isinstance(error, (TinynetError, UsageError)):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error} (--debug shows where)"
    return "error: " + " ".join(text.split())


def _parser() -> Parser:
    parser = Parser(prog="tinynet", description="Train and inspect small residual networks on the CPU.")
    parser.add_argument("--version", action="version", version=f"tinynet {tinynet.__version__}")
    parser.set_defaults(run=lambda options: parser.print_help())
    commands = parser.add_subparsers(title="commands", metavar="command")
    _add_train(commands)
    _add_detect(commands)
    _add_check(commands)
    _add_info(commands)
    _add_checkpoints(commands)
    _add_looks(commands)
    _add_bench(commands)
    _add_lessons(commands)
    _add_grade(commands)
    _add_assignment(commands)
    return parser


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "train", "train a residual net; the result goes to runs/<name>/", _run_train)
    parser.add_argument("--model", help="bottleneck20 (default), cifar_resnet20, -32, -44, -56 or -110")
    parser.add_argument("--data", help="digits (default, comes with scikit-learn) or fashion-mnist")
    parser.add_argument("--root", help="folder with the data set's files (default: the usual places, or a download)")
    parser.add_argument("--epochs", type=_integer(1), help="default: 20 for digits, 5 for fashion-mnist")
    parser.add_argument("--lr", type=_rate, help="largest learning rate of the one-cycle schedule (default: 0.01)")
    parser.add_argument("--batch-size", type=_integer(1), help="images per step (default: 64)")
    parser.add_argument("--seed", type=_integer(0), help="same seed, same bits (default: 0)")
    parser.add_argument("--resume", metavar="PATH", help="a run's folder or its checkpoint; its options are kept")
    parser.add_argument("--name", help="the run's folder below --out (default: <data>-<model>-seed<seed>)")
    parser.add_argument("--out", help="folder of all runs (default: runs)")
    parser.add_argument("--backend", choices=("numba", "numpy", "loops"), help="which kernels (default: numba)")
    parser.add_argument("--threads", type=_integer(1), help="threads of the kernels (default: all cores)")


def _add_detect(commands: argparse._SubParsersAction) -> None:
    summary = "train small detectors on pyramids, evaluate, use and compare them"
    detect = commands.add_parser("detect", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    detect.set_defaults(run=lambda options: detect.print_help())
    actions = detect.add_subparsers(title="commands", metavar="command")

    parser = _command(actions, "train", "train a detector; the result goes to runs/<name>/", _run_detect)
    parser.add_argument("--design", help="fpn (default), image-pyramid, c4, c5, hierarchy, or one of the ablations")
    _add_detection_data(parser)
    parser.add_argument("--seed", type=_integer(0), help="same seed, same bits (default: 0)")
    parser.add_argument("--resume", metavar="PATH", help="a run's folder or its checkpoint; its options are kept")
    parser.add_argument("--name", help="the run's folder below --out (default: detect-<data>-<design>-seed<seed>)")
    parser.add_argument("--out", help="folder of all runs (default: runs)")

    parser = _command(actions, "evaluate", "print a trained detector's average precision", _run_detect)
    parser.add_argument("checkpoint", help="model.safetensors, or the run's folder")
    parser.add_argument("--data", help="as of train (default: what it was trained on)")
    parser.add_argument("--split", choices=("test", "train"), default="test", help="default: test")
    _add_detection_limits(parser)

    parser = _command(actions, "predict", "find objects in photos: boxes drawn, JSON written", _run_detect)
    parser.add_argument("image", nargs="+", metavar="IMAGE", help="photos")
    parser.add_argument("--checkpoint", required=True, metavar="FILE", help="model.safetensors, or the run's folder")
    parser.add_argument("--out", default="detections", metavar="DIR", help="for the results (default: detections)")
    parser.add_argument("--score", type=_rate, default=0.3, help="of the least certain boxes shown (default: 0.3)")
    parser.add_argument("--threads", type=_integer(1), help="threads of the kernels (default: all cores)")

    parser = _command(actions, "compare", "train all designs, several seeds each, and measure them", _run_compare)
    parser.add_argument("--designs", nargs="+", metavar="DESIGN", help="default: all of them")
    parser.add_argument("--seeds", type=_integer(1), default=3, help="trainings of each design (default: 3)")
    _add_detection_data(parser)
    parser.add_argument("--out", metavar="DIR", help="default: runs/compare-<data>; what is there already is kept")
    parser.add_argument("--measure-only", action="store_true", help="train nothing: measure and draw what is there")


def _add_detection_data(parser: argparse.ArgumentParser) -> None:
    """What the commands that train detectors have in common."""
    parser.add_argument("--data", help="scenes (default), scenes-10, scenes-context, blood-cells, or a folder")
    parser.add_argument("--epochs", type=_integer(1), help="default: 4 for scenes, else 60")
    parser.add_argument("--layers", type=_four, metavar="A,B,C,D", help="blocks of the backbone's stages")
    _add_detection_limits(parser)


def _add_detection_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=_integer(1), metavar="N", help="only N images of each part, for a quick try")
    parser.add_argument("--skip-bad", action="store_true", help="go on without images and boxes that are bad")
    parser.add_argument("--threads", type=_integer(1), help="threads of the kernels (default: all cores)")


def _add_check(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "check", "check every operation's gradient against finite differences", _run_check)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only operations with this in their name")


def _add_info(commands: argparse._SubParsersAction) -> None:
    _command(commands, "info", "show versions, threads and libraries", _run_info)


def _add_checkpoints(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "inspect", "list a checkpoint's tensors without loading them", _run_checkpoint)
    parser.add_argument("file", help="a safetensors file or one of torch's (.pth, .pt)")

    parser = _command(commands, "convert", "write a torch checkpoint's tensors to a safetensors file", _run_checkpoint)
    parser.add_argument("input", help="one of torch's files (.pth, .pt), or a safetensors file")
    parser.add_argument("output", help="the new file, called .safetensors")
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def _add_looks(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "summary", "show a model's layers, shapes, cost and receptive fields", _run_look)
    parser.add_argument("model", help="such as resnet50, resnet50_fpn or cifar_resnet20")
    parser.add_argument("--size", default="224", help="of the image: 224 (default), or height and width: 480x640")
    parser.add_argument("--batch", type=_integer(1), default=1, help="images at once (default: 1)")
    parser.add_argument("--depth", type=_integer(1), help="levels of the layer tree (default: all)")
    parser.add_argument("--graph", metavar="PATH", help="draw the graph: a .png, or mermaid text in any other file")

    parser = _command(commands, "parity", "compare a model with torch, layer by layer", _run_look)
    parser.add_argument("model", help="such as resnet50, resnet50_fpn or cifar_resnet20")
    parser.add_argument("--size", default="64", help="of the images: 64 (default), or height and width: 75x91")
    parser.add_argument("--batch", type=_integer(1), default=1, help="images at once (default: 1)")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: float32, with --training float64")
    parser.add_argument("--training", action="store_true", help="in training mode (default: evaluation)")
    parser.add_argument("--outputs-only", action="store_true", help="leave the parameters' gradients out")
    parser.add_argument("--seed", type=_integer(0), default=0, help="of weights and images (default: 0)")

    parser = _command(commands, "features", "draw what a backbone and its pyramid make of a photo", _run_look)
    parser.add_argument("photo", help="an image file")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a ResNet's checkpoint, or a detector's")
    parser.add_argument("--size", type=_integer(32), default=448, help="pixels of the shorter side (default: 448)")
    parser.add_argument("--seed", type=_integer(0), default=0, help="of a pyramid that FILE does not have (default: 0)")
    parser.add_argument("--out", metavar="PATH", help="the picture (default: <photo>-features.png)")

    parser = _command(commands, "classify", "print and draw the five most probable classes of a photo", _run_look)
    parser.add_argument("photo", help="an image file")
    parser.add_argument("--weights", required=True, metavar="FILE", help="an ImageNet ResNet's checkpoint")
    parser.add_argument("--preprocess", choices=("v1", "v2"), help="resize to 256 or 232 (default: by FILE's name)")
    parser.add_argument("--out", metavar="PATH", help="the picture (default: <photo>-classes.png)")


def _add_bench(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "bench", "measure speed and memory here, alone or beside other engines", _run_bench)
    parser.add_argument("--model", nargs="+", default=["resnet50"], help="such as resnet50, resnet50_fpn (640×640)")
    parser.add_argument("--work", choices=("inference", "training", "both"), default="both", help="default: both")
    parser.add_argument("--batch", nargs="+", type=_integer(1), help="images at once (default: 1 8; CIFAR nets 128)")
    parser.add_argument("--size", help="of the images: 224, or height and width: 480x640 (default: the model's usual)")
    parser.add_argument("--fused", action="store_true", help="of inference, only the fused model")
    parser.add_argument("--eager", action="store_true", help="of inference, only the model as it is")
    parser.add_argument("--against", nargs="+", choices=("torch", "onnxruntime"), default=[], help="taking turns with")
    parser.add_argument("--layers", action="store_true", help="also time and memory layer by layer")
    parser.add_argument("--scaling", action="store_true", help="time against batch, image size, depth and threads")
    parser.add_argument("--scaling-model", action="store_true", help="a training step on many ranks, planned on paper")
    parser.add_argument("--link", nargs=2, type=_positive, metavar=("GBIT/S", "µS"), help="of --scaling-model")
    parser.add_argument("--small", action="store_true", help="1,000 additions of small tensors, against torch")
    parser.add_argument("--targets", action="store_true", help="the rows of the README's table, with their limits")
    parser.add_argument("--threads", type=_integer(1), help="threads of every side (default: all cores)")
    parser.add_argument("--seconds", type=_seconds, default=4.0, help="of measuring per side and work (default: 4)")
    parser.add_argument("--out", metavar="DIR", help="folder of CSV and pictures (default: runs/bench, -2, -3, …)")

    parser = _command(commands, "warmup", "compile every kernel once, so that nothing waits for it later", _run_bench)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--float64", action="store_true", help="for float64 instead of float32")
    kinds.add_argument("--all", action="store_true", help="for float32 and float64")


def _add_lessons(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "lessons", "copy the lessons to a folder of yours and open JupyterLab", _run_lessons)
    parser.add_argument("--to", metavar="DIR", help="the folder (default: tinynet-lessons); nothing in it is replaced")
    parser.add_argument("--no-open", action="store_true", help="only copy")
    full = "run lesson N in its full setting and store the results"
    parser.add_argument("--reproduce", metavar="N", type=_integer(1), help=full)


def _add_grade(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "grade", "score submissions in a sandbox, with feedback", _run_grade)
    parser.add_argument("assignment", help="its name, folder or source file")
    parser.add_argument("submissions", help="folder of <student>.ipynb, <student>/<assignment>.ipynb, or one file")
    parser.add_argument("--out", required=True, metavar="DIR", help="for scores.csv and the feedback")
    parser.add_argument("--jobs", type=_integer(1), default=1, help="submissions at a time (default: 1)")
    levels = "limits, user or namespaces: refuse to run with less (default: the strongest there is)"
    parser.add_argument("--protection", choices=("limits", "user", "namespaces"), help=levels)
    parser.add_argument("--timeout", type=_seconds, default=10.0, help="seconds for one call (default: 10)")
    parser.add_argument("--total-timeout", type=_seconds, default=60.0, help="seconds for a submission (default: 60)")
    parser.add_argument("--memory", type=_gigabytes, default=2.0, help="GB for a submission (default: 2)")
    parser.add_argument("--seed", type=_integer(0), help="of the fresh inputs (default: DIR's earlier one, or new)")


def _add_assignment(commands: argparse._SubParsersAction) -> None:
    summary = "make, hand out, check and collect the course's assignments"
    assignment = commands.add_parser("assignment", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    assignment.set_defaults(run=lambda options: assignment.print_help())
    actions = assignment.add_subparsers(title="commands", metavar="command")

    parser = _command(actions, "generate", "make the students' notebooks from their sources", _run_assignment)
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 02_convolution (default: all)")
    _add_course(parser)

    parser = _command(actions, "validate", "run a notebook and say which visible checks pass", _run_assignment)
    parser.add_argument("files", nargs="+", metavar="FILE", help="the notebook you want to hand in")

    parser = _command(actions, "collect", "put what Canvas, Moodle or a folder holds into submitted/", _run_assignment)
    parser.add_argument("name", metavar="NAME", help="of the assignment")
    parser.add_argument("download", metavar="DOWNLOAD", help="a zip or a folder")
    _add_course(parser)

    parser = _command(actions, "release", "write the zip that students get, or Gradescope's", _run_assignment)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all assignments")
    parser.add_argument("--out", required=True, metavar="ZIP", help="such as student.zip")
    parser.add_argument("--gradescope", metavar="NAME", help="write the autograder of this assignment instead")
    _add_course(parser)

    parser = _command(actions, "marks", "fill scores into the CSV file of Canvas or Moodle", _run_assignment)
    parser.add_argument("name", metavar="NAME", help="of the assignment")
    parser.add_argument("worksheet", metavar="CSV", help="Canvas's exported gradebook, Moodle's grading worksheet")
    parser.add_argument("--scores", required=True, metavar="CSV", help="of `tinynet grade` or `nbgrader export`")
    parser.add_argument("--out", required=True, metavar="CSV", help="the file to import there")
    parser.add_argument("--column", help="of the marks (default: the one that names the assignment, or Grade)")


def _add_course(parser: argparse.ArgumentParser) -> None:
    where = "folder with source/ (default: here, lessons/assignments, or the clone's)"
    parser.add_argument("--course", metavar="DIR", help=where)


def _command(
    commands: argparse._SubParsersAction, name: str, summary: str, run: Callable[[argparse.Namespace], int | None]
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=run, command=name)
    return parser


def _integer(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"needs an integer of at least {least}, got {text!r}")
        return value

    return parse


def _four(text: str) -> list[int]:
    parts = text.split(",")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"needs four numbers of blocks such as 1,2,2,1, got {text!r}")
    return [int(part) for part in parts]


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"needs a finite number of at least 0, got {text!r}")
    return value


def _positive(text: str) -> float:
    value = _rate(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"needs a number above 0, got {text!r}")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"needs seconds between 0 and 3600, got {text!r}")
    return value


def _gigabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.25 <= value <= 1024:
        raise argparse.ArgumentTypeError(f"needs GB between 0.25 and 1024, got {text!r}")
    return value


def _run_train(options: argparse.Namespace) -> int | None:
    from tinynet.cli.train import run

    return run(options)


def _run_detect(options: argparse.Namespace) -> int | None:
    from tinynet.cli.detect import COMMANDS

    return COMMANDS[options.command](options)


def _run_compare(options: argparse.Namespace) -> int | None:
    from tinynet.cli.compare import run

    return run(options)


def _run_check(options: argparse.Namespace) -> int | None:
    from tinynet.inspect.check import run

    try:
        return run(options.names)
    except ValueError as error:  # an unknown name
        raise UsageError(str(error)) from None


def _run_info(options: argparse.Namespace) -> int | None:
    from tinynet.cli.info import run

    return run()


def _run_checkpoint(options: argparse.Namespace) -> int | None:
    from tinynet.cli.convert import COMMANDS

    return COMMANDS[options.command](options)


def _run_look(options: argparse.Namespace) -> int | None:
    from tinynet.cli.look import COMMANDS

    return COMMANDS[options.command](options)


def _run_bench(options: argparse.Namespace) -> int | None:
    from tinynet.cli.bench import COMMANDS

    return COMMANDS[options.command](options)


def _run_grade(options: argparse.Namespace) -> int | None:
    from tinynet.cli.grade import run

    return run(options)


def _run_lessons(options: argparse.Namespace) -> int | None:
    from tinynet.cli.lessons import run

    return run(options)


def _run_assignment(options: argparse.Namespace) -> int | None:
    from tinynet.cli.assignment import COMMANDS

    return COMMANDS[options.command](options)

"""Makes the reference files from torch: the only script that writes them.

python tests/reference/generate.py                  writes tests/reference/*.npz
python tests/reference/generate.py --check          compares them with what torch gives today
python tests/reference/generate.py --only pooling   one family
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.reference.cases import DTYPES, FAMILIES, MODEL_FAMILIES, family_cases
from tests.reference.store import Record, difference, load, record, save, tolerance

EVERY_FAMILY = FAMILIES + MODEL_FAMILIES


def family_records(family: str) -> dict[str, Record]:
    """torch's results of a family, by '<case>|<dtype>|<result>'."""
    import torch

    records = {}
    for case in family_cases(family):
        for dtype in DTYPES:
            for name, array in case.evaluate(torch, dtype).items():
                key = f"{case.name}|{dtype}|{name}"
                records[key] = record(key, array)
    return records


def check(family: str) -> list[str]:
    """What of the stored file torch no longer confirms."""
    stored, fresh = load(family), family_records(family)
    problems = [f"{key}: not stored" for key in fresh.keys() - stored.keys()]
    problems += [f"{key}: stored, but no case makes it" for key in stored.keys() - fresh.keys()]
    for key in stored.keys() & fresh.keys():
        message = difference(fresh[key], stored[key], tolerance(key, stored[key].dtype))
        problems += [f"{key}: {message}"] if message else []
    return sorted(problems)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing; exit code 1 if different")
    parser.add_argument("--only", choices=EVERY_FAMILY, action="append", help="this family only (may be repeated)")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    problems = []
    for family in options.only or EVERY_FAMILY:
        if options.check:
            found = check(family)
            problems += found
            print(f"{family}: {len(found)} differences")
        else:
            path = save(family, family_records(family))
            print(f"{family}: {len(family_cases(family))} cases, {path.stat().st_size / 1024:.0f} KiB")
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

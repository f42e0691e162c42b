"""Write `addition_tasks.json`, always with the same 10,000 tasks: `python make_addition_tasks.py [FILE]`."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

COUNT = 10_000
LARGEST = 100_000
SEED = 1


def lines() -> Iterator[str]:
    """Yield the lines of the file: a JSON list with one task per line."""
    source = random.Random(SEED)
    yield "["
    for number in range(1, COUNT + 1):
        numbers = {"num1": source.randint(-LARGEST, LARGEST), "num2": source.randint(-LARGEST, LARGEST)}
        task = {"id": f"addition-task-{number:06d}", "data": numbers}
        yield "  " + json.dumps(task) + ("," if number < COUNT else "")
    yield "]"


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("addition_tasks.json")
    target.write_text("".join(f"{line}\n" for line in lines()))
    print(f"{COUNT} tasks written to {target}")


if __name__ == "__main__":
    main()

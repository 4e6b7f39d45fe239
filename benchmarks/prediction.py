"""Claim: what a trainer's memory will be at its peak is known before it trains.

Runs the real trainer process (``p2pfusion.training``), a fresh one each time,
asks it what a sub-model will take (``training/prediction.py``), lets it train a round
of it, and takes the peak resident memory from the kernel (``VmHWM``). Where several
processes train together, that is the first one's.

    python benchmarks/prediction.py [--json] [--only NAME]

Every prediction must be within 10 % of what was measured; otherwise it exits with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from fractions import Fraction
from pathlib import Path

from memory import Fields, ask, setup_request, trainer, write_noise

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.store.store import Store

BOUND = 0.10
ALL_MEMORY = 1 << 50
TEXT = "one word after another, and then the next one that nobody has seen before\n"
LANGUAGE: Fields = {
    "model": "transformer",
    "arguments": {"width": 128, "layers": 4, "heads": 8, "inner": 512, "length": 128},
    "data": "text",
}
CASES: dict[str, Fields] = {
    "cnn": {"model": "cnn", "arguments": {"channels": [32] * 3}, "batch": 1024},
    "cnn half": {
        **{"model": "cnn", "arguments": {"channels": [64] * 3}},
        **{"batch": 512, "fraction": "1/2"},
    },
    "mlp adamw": {
        **{"model": "mlp", "arguments": {"hidden": [4096, 4096]}},
        **{"batch": 32, "optimiser": {"rule": "adamw"}},
    },
    "transformer": {**LANGUAGE, "batch": 64},
    "transformer half": {**LANGUAGE, "batch": 128, "fraction": "1/2"},
    "resnet18": {"model": "resnet18", "arguments": {}, "batch": 16},
    "resnet18 of two": {
        **{"model": "resnet18", "arguments": {}},
        **{"batch": 32, "processes": 2},
    },
}


def main() -> int:
    """Measures, prints, and says by its exit code whether the bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--only", choices=sorted(CASES), help="one of the cases")
    options = parser.parse_args()
    names = [options.only] if options.only else list(CASES)
    with tempfile.TemporaryDirectory() as directory:
        found = {name: measured(CASES[name], Path(directory)) for name in names}
    passed = all(abs(each["error"]) <= BOUND for each in found.values())
    if options.json:
        document = {"benchmark": "prediction", "cases": found, "bound": BOUND}
        machine = {"python": platform.python_version(), "cpu_count": os.cpu_count()}
        print(json.dumps({**document, "passed": passed, "machine": machine}))
    else:
        print("case              predicted MiB  measured MiB   error")
        for name, each in found.items():
            print(
                f"{name:<18}{each['predicted_mib']:13.1f}  {each['measured_mib']:12.1f}"
                f"  {each['error']:+6.1%}"
            )
    return 0 if passed else 1


def measured(case: Fields, directory: Path) -> dict[str, float]:
    """One trainer, asked first and then measured."""
    home = Path(tempfile.mkdtemp(dir=directory))
    (home / "offers").mkdir()
    with trainer() as (process, channel):
        request = request_of(case, home)
        keys = ("model", "arguments", "vocabulary", "data")
        about = {key: request[key] for key in keys if key in request}
        described = ask(channel, {"do": "describe", **about})
        layout = Layout.from_data(described["layout"])
        fraction = Fraction(str(case.get("fraction", 1)))
        split = Split.of(
            {
                axis.name: axis.cells(
                    IndexSet.span(0, -int(-axis.cell_count * fraction // 1))
                )
                for axis in layout.axes
            }
        )
        Store.create(home / "store", layout, 0)
        completed = {key: described[key] for key in ("arguments", "vocabulary")}
        ask(channel, {**request, **completed, "layout": layout.to_data()})
        fit = {"do": "fit", "splits": [split.to_data()], "memory": ALL_MEMORY}
        predicted = ask(channel, fit)["predicted"]
        assert isinstance(predicted, dict)
        train = {"do": "train", "round": 0, "learning_rate": 0.01}
        ask(channel, {**train, "split": split.to_data()})
        peak_mib = peak(process.pid)
    total_mib = sum(predicted["0"].values()) / (1 << 20)
    parts = {f"{key}_mib": value / (1 << 20) for key, value in predicted["0"].items()}
    error = total_mib / peak_mib - 1
    return {
        "predicted_mib": total_mib,
        "measured_mib": peak_mib,
        "error": error,
        **parts,
    }


def request_of(case: Fields, home: Path) -> Fields:
    """What a daemon would send, with data made for it."""
    arguments, batch = case["arguments"], case["batch"]
    assert isinstance(arguments, dict) and isinstance(batch, int)
    data = home / "data.npz"
    write_noise(data)
    request = setup_request(arguments, Layout((), ()), data, home, batch)
    request |= {"model": case["model"], "depth_dropout": 0.0}
    if case.get("data") == "text":
        text = home / "data.txt"
        text.write_text(TEXT * 8_000)
        told = {"kind": "text", "path": str(text), "partition": None, "validation": 0}
        request |= {"data": told, "vocabulary": {"level": "byte"}}
    stated = ("optimiser", "processes")
    return {**request, **{key: case[key] for key in stated if key in case}}


def peak(pid: int) -> float:
    """The most that the process ever had in memory, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system does not tell peak memory by process")


if __name__ == "__main__":
    raise SystemExit(main())

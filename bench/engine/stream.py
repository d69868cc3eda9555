#!/usr/bin/env python3
"""A judge over many rows of few texts: peak memory and how many texts were judged.
Usage: stream.py FRACTURE JUDGE [--rows 10000000] [--texts 20000]. The load is a run of its own, so that the peak is the judge's."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIPELINE = """version: 1
name: stream
stages:
  rows: {{ uses: load, with: {{ path: rows.csv }} }}
  scores:
    uses: judge
    needs: rows
    with: {{ model: {judge}, text: completion, unsafe: [comply] }}
"""


def run(program, folder, *more):
    start = time.perf_counter()
    process = subprocess.Popen([program, "run", "stream.yaml", "--json", *more], cwd=folder, stdout=subprocess.PIPE)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"it failed: {status}")
    return json.loads(out), time.perf_counter() - start, usage.ru_maxrss / 1e6


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("fracture")
    arguments.add_argument("judge")
    arguments.add_argument("--rows", type=int, default=10_000_000)
    arguments.add_argument("--texts", type=int, default=20_000)
    arguments = arguments.parse_args()
    program, judge = os.path.abspath(arguments.fracture), os.path.abspath(arguments.judge)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "fracture.toml").write_text("")
        (folder / "stream.yaml").write_text(PIPELINE.format(judge=judge))
        with open(folder / "rows.csv", "w") as rows:
            rows.write("item,completion\n")
            for row in range(arguments.rows):
                text = row * 7919 % arguments.texts
                rows.write(f"i{row},I can not help with wish number {text} but here is a story about it.\n")
        _, seconds, peak = run(program, folder, "--only", "rows")
        print(f"load:  {arguments.rows} rows in {seconds:.1f} s, peak {peak:.2f} GB")
        summary, seconds, peak = run(program, folder)
        print(f"judge: {summary['rows']['judged']} texts judged in {seconds:.1f} s, peak {peak:.2f} GB")


main()

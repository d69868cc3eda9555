#!/usr/bin/env python3
"""What a trivial task costs, from ready to recorded: `threshold` over a table of ten rows, N times, beside ninja with `cat`
and snakemake with `cat` (fewer jobs, scaled). Usage: tasks.py FRACTURE [--count 10000] [--snakemake 300 --venv FOLDER]

A run of fracture is timed whole and by its own clock (first task ready to the last sync); the plan, which reads the pipeline
and computes all keys, is timed by itself."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(command, folder, **environment):
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(f"{command[0]}: {done.stderr[-2000:]}")
    return time.perf_counter() - start, done.stdout


def fracture(program, folder, count):
    folder.mkdir()
    (folder / "fracture.toml").write_text("")
    rows = "".join(f"item-{row},{row / 10}\n" for row in range(10))
    (folder / "scores.csv").write_text("item,p_unsafe\n" + rows)
    values = ", ".join(str((number + 1) / (count + 1)) for number in range(count))
    (folder / "many.yaml").write_text(
        "version: 1\nname: many\nstages:\n"
        "  scores: { uses: load, with: { path: scores.csv } }\n"
        "  verdicts:\n    uses: threshold\n    needs: scores\n"
        f"    matrix: {{ tau: [{values}] }}\n"
        "    with: { tau: \"${matrix.tau}\" }\n"
    )
    plan, _ = timed([program, "plan", "many.yaml", "--json"], folder)
    whole, out = timed([program, "run", "many.yaml", "--json"], folder)
    summary = json.loads(out)
    assert summary["tasks"]["ran"] == count + 1, summary
    again, out = timed([program, "run", "many.yaml", "--json"], folder)
    assert json.loads(out)["tasks"]["ran"] == 0
    return plan, whole, summary["seconds"], again


def ninja(folder, count):
    folder.mkdir()
    (folder / "in").write_text("".join(f"{row}\n" for row in range(10)))
    rules = "rule copy\n  command = cat $in > $out\n"
    (folder / "build.ninja").write_text(rules + "".join(f"build out/{number}: copy in\n" for number in range(count)))
    return timed(["ninja"], folder)[0]


def snakemake(program, folder, count):
    folder.mkdir()
    (folder / "in").write_text("".join(f"{row}\n" for row in range(10)))
    (folder / "Snakefile").write_text(
        f"rule all:\n  input: expand('out/{{number}}', number=range({count}))\n"
        "rule copy:\n  input: 'in'\n  output: 'out/{number}'\n  shell: 'cat {input} > {output}'\n"
    )
    return timed([program, "--cores", "2", "--quiet", "all"], folder)[0]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("fracture")
    arguments.add_argument("--count", type=int, default=10_000)
    arguments.add_argument("--snakemake", type=int, default=300)
    arguments.add_argument("--venv", help="a virtual environment with snakemake; left out when absent")
    arguments = arguments.parse_args()
    count = arguments.count
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        plan, whole, own, again = fracture(os.path.abspath(arguments.fracture), folder / "fracture", count)
        print(f"fracture: {own / count * 1e3:.3f} ms a task from ready to recorded ({count} tasks in {own:.2f} s)")
        print(f"fracture: {whole / count * 1e3:.3f} ms a task, the whole run ({whole:.2f} s; the plan {plan:.2f} s, a no-op {again:.2f} s)")
        if shutil.which("ninja"):
            seconds = ninja(folder / "ninja", count)
            print(f"ninja:    {seconds / count * 1e3:.3f} ms a task, {seconds / whole:.1f} times the whole run of fracture")
        else:
            print("ninja:    not installed, left out")
        if arguments.venv:
            few = arguments.snakemake
            seconds = snakemake(str(Path(arguments.venv) / "bin" / "snakemake"), folder / "snakemake", few)
            print(f"snakemake: {seconds / few * 1e3:.1f} ms a task ({few} jobs), {seconds / few * count / whole:.0f} times")


main()

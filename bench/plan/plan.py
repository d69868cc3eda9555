#!/usr/bin/env python3
"""No-op `plan` and `run` beside ninja and Snakemake on the same DAG, and the cold start.

    python3 bench/plan/plan.py [--sizes 1000,10000,100000] [--shapes wide,stages] [--peers ninja,snakemake]

Needs a built `fracture` (`--fracture`, by default target/release/fracture) and, for the peers, `ninja` and `snakemake` on
the PATH (`pip install ninja snakemake` in an environment of your own); a peer that is not there is left out.

Every shape is generated three times from one list of edges: as a pipeline, as a build.ninja and as a Snakefile. Each is run
once in full (`--keep` leaves the folder, so that the next call need not), then without anything to do. Seconds are the least
of `--repeat`; memory is the peak resident set of the process; memory a task is what is beyond the smallest size.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def wide(count):
    """Few stages: K loads, and M thresholds of each; K (M + 1) tasks."""
    loads = max(1, count // 1000) if count > 10_000 else 10
    taus = max(1, count // loads - 1)
    values = ", ".join(f"{(tau + 1) / (taus + 1):.6f}" for tau in range(taus))
    pipeline = f"""version: 1
stages:
  scores:
    uses: load
    matrix: {{ rows: [{", ".join(str(row + 1) for row in range(loads))}] }}
    with: {{ path: scores.jsonl, limit: "${{matrix.rows}}" }}
  verdicts:
    uses: threshold
    needs: scores
    matrix: {{ tau: [{values}] }}
    with: {{ tau: "${{matrix.tau}}" }}
"""
    edges = [(f"scores_{row}", None) for row in range(loads)]
    edges += [(f"verdicts_{row}_{tau}", f"scores_{row}") for row in range(loads) for tau in range(taus)]
    return pipeline, edges


def stages(count):
    """Many stages: K loads, and up to 999 stages that read each of them."""
    loads = max(1, count // 1000) if count > 10_000 else 10
    many = max(1, count // loads - 1)
    lines = [
        "version: 1",
        "stages:",
        "  scores:",
        "    uses: load",
        f"    matrix: {{ rows: [{', '.join(str(row + 1) for row in range(loads))}] }}",
        '    with: { path: scores.jsonl, limit: "${matrix.rows}" }',
    ]
    for stage in range(many):
        tau = (stage + 1) / (many + 1)
        lines.append(f"  s{stage}: {{ uses: threshold, needs: scores, with: {{ tau: {tau:.6f} }} }}")
    edges = [(f"scores_{row}", None) for row in range(loads)]
    edges += [(f"s{stage}_{row}", f"scores_{row}") for stage in range(many) for row in range(loads)]
    return "\n".join(lines) + "\n", edges


def distinct(count):
    """One load, and a threshold with parameters and a result of its own for every other task: nothing can be shared."""
    values = ", ".join(f"{(tau + 1) / count:.6f}" for tau in range(count - 1))
    pipeline = f"""version: 1
stages:
  scores:
    uses: load
    with: {{ path: scores.jsonl }}
  verdicts:
    uses: threshold
    needs: scores
    matrix: {{ tau: [{values}] }}
    with: {{ tau: "${{matrix.tau}}" }}
"""
    edges = [("scores", None)] + [(f"verdicts_{tau}", "scores") for tau in range(count - 1)]
    return pipeline, edges


SHAPES = {"wide": wide, "stages": stages, "distinct": distinct}


def generate(folder, shape, count):
    pipeline, edges = SHAPES[shape](count)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fracture.toml").touch()
    (folder / "pipeline.yaml").write_text(pipeline)
    with open(folder / "scores.jsonl", "w") as rows:
        if shape == "distinct":
            # One score between any two thresholds, so that every task gives another table.
            scores = [(row + 0.5) / min(count, 10_000) for row in range(min(count, 10_000))]
        else:
            scores = [(row * 37 % 101) / 101 for row in range(max(100, count // 1000))]
        for row, score in enumerate(scores):
            rows.write(json.dumps({"item": f"i{row}", "p_unsafe": round(score, 6)}) + "\n")
    with open(folder / "build.ninja", "w") as ninja:
        ninja.write("rule load\n  command = : > $out\nrule threshold\n  command = : > $out # $tau\n")
        for place, (out, source) in enumerate(edges):
            if source is None:
                ninja.write(f"build out/{out}: load scores.jsonl\n")
            else:
                ninja.write(f"build out/{out}: threshold out/{source}\n  tau = {place}\n")
    with open(folder / "Snakefile", "w") as snake:
        snake.write("rule all:\n    input: [line.strip() for line in open('targets')]\n")
        snake.write("rule load:\n    input: 'scores.jsonl'\n    output: 'out/{name,scores[^/]*}'\n    shell: ': > {output}'\n")
        snake.write("SOURCE = dict(line.split() for line in open('edges'))\n")
        snake.write("rule threshold:\n    input: lambda w: 'out/' + SOURCE[w.name]\n")
        snake.write("    output: 'out/{name,(verdicts|s[0-9])[^/]*}'\n    shell: ': > {output}'\n")
    with open(folder / "targets", "w") as targets, open(folder / "edges", "w") as pairs:
        for out, source in edges:
            targets.write(f"out/{out}\n")
            if source is not None:
                pairs.write(f"{out} {source}\n")
    return len(edges)


def measure(command, folder, repeat):
    """The least seconds and the largest peak resident set in KiB."""
    best, peak = float("inf"), 0
    for _ in range(repeat):
        with open(os.devnull, "w") as null:
            begin = time.perf_counter()
            child = subprocess.Popen(command, cwd=folder, stdout=null, stderr=null)
            _, status, usage = os.wait4(child.pid, 0)
            best = min(best, time.perf_counter() - begin)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} in {folder} gave {child.returncode}")
        peak = max(peak, usage.ru_maxrss)
    return best, peak


def fill(command, folder, what):
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{what} in {folder} gave {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parents[2]
    parser.add_argument("--fracture", default=str(here / "target/release/fracture"))
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--shapes", default="wide,stages")
    parser.add_argument("--peers", default="ninja,snakemake")
    parser.add_argument("--snakemake-max", type=int, default=1000, help="larger sizes take Snakemake minutes")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--keep", metavar="DIR", help="work here and leave it, filled")
    parser.add_argument("--quickstart", action="store_true", help="also a no-op of pipelines/quickstart.yaml, which must have run")
    args = parser.parse_args()
    fracture = str(Path(args.fracture).resolve())
    peers = [peer for peer in args.peers.split(",") if peer and shutil.which(peer)]
    work = Path(args.keep) if args.keep else Path(tempfile.mkdtemp(prefix="fracture-plan-"))
    os.environ.setdefault("XDG_CACHE_HOME", str(work.resolve() / "user-cache"))
    try:
        seconds, peak = measure([fracture, "--help"], here, args.repeat)
        print(f"fracture --help: {seconds * 1e3:.1f} ms, {peak / 1024:.0f} MiB")
        if args.quickstart:
            seconds, peak = measure([fracture, "run", "pipelines/quickstart.yaml"], here, args.repeat)
            print(f"no-op quickstart: {seconds * 1e3:.1f} ms, {peak / 1024:.0f} MiB")
        for shape in args.shapes.split(","):
            compare(shape, args, fracture, peers, work)
    finally:
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)


def compare(shape, args, fracture, peers, work):
    print(f"\n{shape}: {SHAPES[shape].__doc__}")
    print(f"{'tasks':>7} {'what':<14} {'seconds':>8} {'/ ninja':>8} {'MiB':>6} {'bytes a task':>13} {'first run':>10}")
    smallest = {}
    for size in map(int, args.sizes.split(",")):
        folder = work / f"{shape}-{size}"
        count = generate(folder, shape, size) if not (folder / "targets").exists() else sum(1 for _ in open(folder / "targets"))
        commands = {"fracture plan": [fracture, "plan", "pipeline.yaml"], "fracture run": [fracture, "run", "pipeline.yaml"]}
        first = {"fracture run": fill(commands["fracture run"], folder, "the first run")}
        (folder / "out").mkdir(exist_ok=True)
        if "ninja" in peers:
            commands["ninja"] = ["ninja", "--quiet"]
            first["ninja"] = fill(commands["ninja"], folder, "ninja")
        if "snakemake" in peers and count <= args.snakemake_max:
            commands["snakemake"] = ["snakemake", "--cores", "1", "--quiet", "all", "--rerun-triggers", "mtime"]
            first["snakemake"] = fill(commands["snakemake"], folder, "snakemake")
        measured = {}
        for what, command in commands.items():
            measured[what] = measure(command, folder, args.repeat if what != "snakemake" else 1)
        for what, (seconds, peak) in measured.items():
            ratio = f"{seconds / measured['ninja'][0]:.2f}" if "ninja" in measured else "-"
            base = smallest.setdefault(what, (count, peak))
            each = f"{(peak - base[1]) * 1024 / (count - base[0]):.0f}" if count > base[0] else "-"
            begun = f"{first[what]:.1f}" if what in first else ""
            print(f"{count:>7} {what:<14} {seconds:>8.3f} {ratio:>8} {peak / 1024:>6.0f} {each:>13} {begun:>10}", flush=True)


if __name__ == "__main__":
    main()

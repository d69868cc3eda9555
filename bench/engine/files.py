#!/usr/bin/env python3
"""Digests of files: 4 GB in the page cache beside b3sum, and a no-op over 200 GB of sparse inputs beside one over 2 MB.
Usage: files.py FRACTURE [--b3sum PROGRAM] [--gigabytes 4] [--sparse 200]"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIPELINE = """version: 1
name: files
stages:
  table:
    uses: command
    with: { run: [sh, -c, "echo item > $OUT/main.csv; echo a >> $OUT/main.csv"], files: [inputs] }
"""


def run(command, folder):
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return time.perf_counter() - start, done.stdout


def project(folder):
    folder.mkdir()
    (folder / "fracture.toml").write_text("")
    (folder / "files.yaml").write_text(PIPELINE)
    (folder / "inputs").mkdir()
    return folder


def runs(program, folder):
    """The first run, which hashes, and the best of five after it, which do nothing."""
    # A file that was touched in this tick is not trusted yet.
    time.sleep(2.5)
    first, _ = run([program, "run", "files.yaml"], folder)
    return first, min(run([program, "run", "files.yaml"], folder)[0] for _ in range(5))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("fracture")
    arguments.add_argument("--b3sum", default="b3sum")
    arguments.add_argument("--gigabytes", type=float, default=4)
    arguments.add_argument("--sparse", type=int, default=200)
    arguments = arguments.parse_args()
    program = os.path.abspath(arguments.fracture)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        one = project(folder / "one")
        block = os.urandom(1 << 24)
        with open(one / "inputs/big", "wb") as big:
            for _ in range(int(arguments.gigabytes * 1e9) >> 24):
                big.write(block)
        size = (one / "inputs/big").stat().st_size
        # The best of three first runs, each with a memory of its own: the first of all fills the page cache.
        times = []
        for number in range(3):
            os.environ["XDG_CACHE_HOME"] = str(folder / f"cache-{number}")
            first, after = runs(program, one)
            times.append(first - after)
            shutil.rmtree(one / ".fracture")
        speed = size / min(times) / 1e9
        print(f"fracture: {size / 1e9:.1f} GB hashed in {min(times):.2f} s, {speed:.2f} GB/s")
        if shutil.which(arguments.b3sum):
            seconds = min(run([arguments.b3sum, "inputs/big"], one)[0] for _ in range(3))
            share = speed * seconds * 1e9 / size
            print(f"b3sum:    {seconds:.2f} s, {size / seconds / 1e9:.2f} GB/s; fracture has {share:.0%} of it")
        shutil.rmtree(one)
        small, large = project(folder / "small"), project(folder / "large")
        for number in range(20):
            (small / f"inputs/{number}").write_bytes(os.urandom(100_000))
            with open(large / f"inputs/{number}", "wb") as sparse:
                sparse.truncate(arguments.sparse * 10**9 // 20)
        (_, two_megabytes), (hashed, sparse) = runs(program, small), runs(program, large)
        print(f"{arguments.sparse} GB of sparse files: hashed once in {hashed:.1f} s")
        print(f"a no-op run over them {sparse * 1e3:.1f} ms, over 2 MB {two_megabytes * 1e3:.1f} ms")


main()

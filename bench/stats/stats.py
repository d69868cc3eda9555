"""FRACTURE's cluster-bootstrap intervals and the BCa interval of the median lift: fracture-science against numpy, one run.

    cargo build --release -p fracture-bench --bin bench-stats
    python3 bench/stats/stats.py [--groups 1000] [--rows 10000] [--peer-groups 5] [--threads 2]

numpy sums by cluster, draws multinomial weights and multiplies (flips), and runs the usual loop of resampling (median). It
does `--peer-groups` groups, which is scaled to all; the Rust program does all groups of the flips. Needs numpy.
"""

import argparse
import json
import math
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

Z = 1.959963984540054


def normal_cdf(x):
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def normal_quantile(p):
    low, high = -10.0, 10.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if normal_cdf(middle) < p:
            low = middle
        else:
            high = middle
    return high


def flips(u, v, cluster, draws, rng, tau=0.5):
    """The same seven shares and intervals, vectorised."""
    su, sv = u >= tau, v >= tau
    cells = np.stack([~su & ~sv, ~su & sv, su & ~sv, su & sv], axis=1).astype(np.float64)
    sums = np.add.reduceat(cells, np.arange(0, len(u), cluster))
    n = len(sums)
    weights = rng.multinomial(n, np.full(n, 1.0 / n), size=draws)
    ss, sf, fs, ff = (weights @ sums).T
    total = ss + sf + fs + ff
    shares = {
        "fracture": sf / total,
        "anti": fs / total,
        "net": (sf - fs) / total,
        "train": (fs + ff) / total,
        "deploy": (sf + ff) / total,
        "given_safe": sf / (ss + sf),
        "given_unsafe": ff / (fs + ff),
    }
    point = cells.sum(axis=0) / len(u)
    points = {"fracture": point[1], "anti": point[2], "net": point[1] - point[2]}
    ends = {name: np.percentile(draw, [2.5, 97.5]) for name, draw in shares.items()}
    return {name: [points[name], *ends[name]] for name in points}


def median_bca(lift, cluster, draws, rng):
    """The usual loop: draw clusters, take the median, then leave each cluster out in turn."""
    blocks = lift.reshape(-1, cluster)
    n, estimate = len(blocks), float(np.median(lift))
    drawn = np.empty(draws)
    for b in range(draws):
        drawn[b] = np.median(blocks[rng.integers(0, n, n)])
    keep = np.ones(n, dtype=bool)
    left_out = np.empty(n)
    for c in range(n):
        keep[c] = False
        left_out[c] = np.median(blocks[keep])
        keep[c] = True
    share = np.mean(drawn < estimate) + 0.5 * np.mean(drawn == estimate)
    bias = normal_quantile(min(max(share, 0.5 / draws), 1 - 0.5 / draws))
    d = left_out.mean() - left_out
    square = (d**2).sum()
    acceleration = (d**3).sum() / (6.0 * square**1.5) if square > 0 else 0.0
    levels = [normal_cdf(bias + (bias + z) / (1 - acceleration * (bias + z))) for z in (-Z, Z)]
    return [estimate, *np.quantile(drawn, levels)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--cluster", type=int, default=5)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--peer-groups", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--program", type=Path, default=root / "target/release/bench-stats")
    options = parser.parse_args()

    rng = np.random.default_rng(1)
    n = options.groups * options.rows
    per_item = np.repeat(rng.normal(-0.7, 1.2, n // options.cluster), options.cluster)
    u = 1 / (1 + np.exp(-(per_item + rng.normal(0, 1, n))))
    v = 1 / (1 + np.exp(-(per_item + 0.3 + rng.normal(0, 1, n))))
    with tempfile.TemporaryDirectory() as folder:
        u.astype("<f8").tofile(Path(folder) / "first.f64")
        v.astype("<f8").tofile(Path(folder) / "second.f64")
        arguments = [options.groups, options.rows, options.cluster, options.draws, options.peer_groups, options.threads]
        out = subprocess.run([options.program, folder, *map(str, arguments)], check=True, capture_output=True)
    ours = json.loads(out.stdout)

    numpy_flips, numpy_medians = [], []
    started = time.perf_counter()
    for g in range(options.peer_groups):
        at = slice(g * options.rows, (g + 1) * options.rows)
        numpy_flips.append(flips(u[at], v[at], options.cluster, options.draws, rng))
    peer = (time.perf_counter() - started) * options.groups / options.peer_groups
    started = time.perf_counter()
    for g in range(options.peer_groups):
        at = slice(g * options.rows, (g + 1) * options.rows)
        numpy_medians.append(median_bca(v[at] - u[at], options.cluster, options.draws, rng))
    peer_median = time.perf_counter() - started

    for found, expected in zip(ours["flips"], numpy_flips):
        for name, (value, low, high) in expected.items():
            tolerance = 0.06 * (high - low)
            assert abs(found[name][0] - value) < 1e-12, (name, found, expected)
            assert abs(found[name][1] - low) < tolerance and abs(found[name][2] - high) < tolerance, (name, found, expected)
    for found, (value, low, high) in zip(ours["medians"], numpy_medians):
        tolerance = 0.08 * (high - low)
        assert abs(found[0] - value) < 1e-12
        assert abs(found[1] - low) < tolerance and abs(found[2] - high) < tolerance, (found, value, low, high)

    print(f"{options.groups} groups of {options.rows} pairs, clusters of {options.cluster}, {options.draws} draws")
    print(f"flips  : fracture {ours['flips_seconds']:9.2f} s ({options.threads} threads)   numpy {peer:9.2f} s"
          f" (scaled from {options.peer_groups} groups)   {peer / ours['flips_seconds']:.1f} times faster (at least 3 wanted)")
    print(f"median : fracture {ours['median_seconds']:9.3f} s   loop {peer_median:9.2f} s"
          f" ({options.peer_groups} groups each)   {peer_median / ours['median_seconds']:.1f} times faster (at least 10 wanted)")
    print(f"peak memory of fracture: {ours['peak_bytes'] / 2**30:.2f} GiB (under 4 wanted)")


if __name__ == "__main__":
    main()

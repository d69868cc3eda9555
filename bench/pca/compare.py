"""Principal components of 100 000 x 384 embeddings: ours against scikit-learn's, in one run.

    python3 -m venv .venv && .venv/bin/pip install numpy scikit-learn
    cargo build --release
    .venv/bin/python bench/pca/compare.py [--rows 100000] [--columns 384] [--repeats 5]

Both get the same f32 table and all cores; reading it is not timed. scikit-learn chooses its solver itself (the covariance and its
eigenvectors, in f32). The medians of the repeats, which take turns, are compared; shares and first direction must agree.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

PROGRAM = Path(__file__).resolve().parents[2] / "target" / "release" / "bench-pca"


def table(rows: int, columns: int) -> np.ndarray:
    """Rows of length 1 around a common mean with a falling spectrum, as sentence embeddings have it."""
    random = np.random.default_rng(0)
    turn = np.linalg.qr(random.normal(size=(columns, columns)))[0]
    points = random.normal(size=(rows, columns)) * np.arange(1, columns + 1) ** -0.5 @ turn + random.normal(size=columns) * 0.2
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--columns", type=int, default=384)
    arguments.add_argument("--components", type=int, default=10)
    arguments.add_argument("--repeats", type=int, default=5)
    chosen = arguments.parse_args()
    points = table(chosen.rows, chosen.columns)
    theirs, ours = [], []
    with tempfile.NamedTemporaryFile(suffix=".f32") as file:
        points.tofile(file.name)
        PCA(chosen.components).fit(points)
        for _ in range(chosen.repeats):
            start = time.perf_counter()
            fitted = PCA(chosen.components).fit(points)
            theirs.append(time.perf_counter() - start)
            command = [str(PROGRAM), file.name, str(chosen.columns), str(chosen.components), "1"]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            ours.extend(found["seconds"])
    direction = np.array(found["direction"])
    print(f"shares differ by {np.abs(found['shares'] - fitted.explained_variance_ratio_).max():.1e}, "
          f"first directions have the cosine {abs(direction @ fitted.components_[0]):.9f}")
    mine, peer = statistics.median(ours), statistics.median(theirs)
    print(f"PCA of {chosen.rows} x {chosen.columns}, f32: fracture {mine:.3f} s, scikit-learn ({fitted._fit_svd_solver}) {peer:.3f} s, "
          f"ratio {peer / mine:.2f}")


if __name__ == "__main__":
    main()

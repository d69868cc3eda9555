#!/usr/bin/env python3
"""The row memo beside SQLite: so many known rows of 64 bytes, opened and all checked, and 100 000 read one by one.
Usage: memo.py STORE [--rows 1000000] (STORE is the program `bench-store`). SQLite keeps the same keys and bytes in one table,
written in one transaction; its page cache is what its resident memory counts."""

import argparse
import hashlib
import json
import os
import sqlite3
import subprocess
import tempfile
import time


def sqlite(rows):
    keys = [hashlib.blake2b(f"row {row}".encode(), digest_size=32).digest() for row in range(rows)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "memo.db")
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE memo (key BLOB PRIMARY KEY, raw BLOB) WITHOUT ROWID")
        start = time.perf_counter()
        with database:
            database.executemany("INSERT INTO memo VALUES (?, ?)", ((key, b"3" * 64) for key in keys))
        put = time.perf_counter() - start
        database.close()
        database = sqlite3.connect(path)
        start = time.perf_counter()
        known = sum(1 for key in keys if database.execute("SELECT 1 FROM memo WHERE key = ?", (key,)).fetchone())
        check = time.perf_counter() - start
        assert known == rows
        some = [keys[at * 7919391 % rows] for at in range(100_000)]
        start = time.perf_counter()
        assert all(database.execute("SELECT raw FROM memo WHERE key = ?", (key,)).fetchone() for key in some)
        return {"put": put, "open": 0.0, "check": check, "read_100000_single": time.perf_counter() - start}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("store")
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments = arguments.parse_args()
    ours = json.loads(subprocess.check_output([arguments.store, "memo", str(arguments.rows)], text=True))
    assert ours["known"] == arguments.rows
    peer = sqlite(arguments.rows)
    print(f"memo:   {arguments.rows} rows opened and checked in {ours['open'] + ours['check']:.3f} s, {ours['bytes_a_row']:.0f} bytes a row")
    print(f"sqlite: {peer['check']:.3f} s, {peer['check'] / (ours['open'] + ours['check']):.1f} times")
    for step in ("put", "read_100000_single"):
        print(f"{step}: {ours[step]:.3f} s, sqlite {peer[step]:.3f} s, {peer[step] / ours[step]:.1f} times")


main()

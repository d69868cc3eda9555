"""Tokens a second of our engine, `transformers` and llama.cpp: same weights, same threads, one run. Ratios are printed.

    pip install torch transformers tokenizers gguf xllamacpp
    cargo build --release --bin bench-generate
    python bench/generate/compare.py                     # a 24M-parameter Llama in f32, about a minute
    python bench/generate/compare.py --grid 64           # a 4 x 4 grid of decoders over 64 prompts
    python bench/generate/compare.py --load              # loading 1 GB in f32 and in bf16

Programs alternate, each a process of its own, so that a noise of the machine meets all; medians of rounds are compared, and
the best round of each is printed beside.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def call(command):
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout[done.stdout.index("{"):])


def made(folder, *settings):
    if not (folder / "tokenizer.json").is_file():
        subprocess.run([sys.executable, HERE / "peers.py", "make", folder, *map(str, settings)], check=True)
    return folder


def middle(values):
    values = sorted(values)
    return values[len(values) // 2]


def speed(options, ours):
    folder = made(options.models / "llama-24m")
    settings = [options.threads, options.prompt, options.new, options.rounds]
    programs = {
        "ours": [ours, "speed", folder, *settings],
        "transformers": [sys.executable, HERE / "peers.py", "torch", folder, *settings],
        "llama.cpp": [sys.executable, HERE / "peers.py", "llama", folder, *settings],
    }
    programs = {name: command for name, command in programs.items() if name == "ours" or name in options.peers}
    rates = {name: {} for name in programs}
    tokens = {}
    for _ in range(options.turns):
        for name, command in programs.items():
            found = call(command + options.batches)
            tokens[name] = found["tokens"]
            for row in found["speed"]:
                medians, best = rates[name].setdefault(row["batch"], ([], []))
                medians.append(row["median"])
                best.append(row["best"])
    print(f"{options.new} new tokens, prompts of {options.prompt}, {options.threads} threads: tokens a second (best round)")
    for batch in options.batches:
        line = [f"batch {batch:3}:"]
        for name in programs:
            medians, best = rates[name][batch]
            line.append(f"{name} {middle(medians):7.0f} ({max(best):.0f})")
            if name != "ours":
                line.append(f"ratio {middle(rates['ours'][batch][0]) / middle(medians):.2f}")
        print("  ".join(line), flush=True)
    if isinstance(tokens.get("transformers"), list):
        same = [a == b for a, b in zip(tokens["ours"], tokens["transformers"])]
        alike = same.index(False) if False in same else len(same)
        print(f"greedy tokens equal to those of transformers: the first {alike} of {len(same)}")


def grid(options, ours):
    folder = made(options.models / "llama-24m")
    found = call([ours, "grid", folder, options.threads, options.grid, 200, 32, 8])
    for name, value in found.items():
        print(f"{name:26} {value:.3f}")


def load(options, ours):
    for dtype, layers in [("float32", 20), ("bfloat16", 40)]:
        # 12.6M parameters a layer and 16.8M around them: about 1.1 GB each.
        folder = made(options.models / f"llama-1gb-{dtype}", 1024, layers, 2816, 16, 8192, dtype)
        rounds = [call([ours, "load", folder, options.threads]) for _ in range(3)]
        best = min(rounds, key=lambda row: row["first_token_s"])
        anonymous = (best["anonymous_kb"] - best["anonymous_before_kb"]) * 1024
        print(
            f"{dtype}: {best['checkpoint_bytes'] / 1e9:.2f} GB, loaded in {best['loaded_s']:.3f} s, first token after "
            f"{best['first_token_s']:.3f} s, {anonymous / 1e6:.0f} MB of anonymous memory at most, of which "
            f"{best['cache_bytes'] / 1e6:.0f} MB are the cache of 72 positions"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=ROOT / "target" / "bench-generate", help="where models are made")
    parser.add_argument("--program", type=Path, default=ROOT / "target" / "release" / "bench-generate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=8)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of a process")
    parser.add_argument("--turns", type=int, default=3, help="processes of each program")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--peers", nargs="*", default=["transformers", "llama.cpp"])
    parser.add_argument("--grid", type=int, help="prompts of the grid")
    parser.add_argument("--load", action="store_true")
    options = parser.parse_args()
    if options.grid:
        grid(options, options.program)
    elif options.load:
        load(options, options.program)
    else:
        speed(options, options.program)


if __name__ == "__main__":
    main()

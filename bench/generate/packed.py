"""Tokens a second of packed models, ours and llama.cpp's: the same GGUF file and threads, one run. Ratios are printed.

    pip install torch transformers tokenizers gguf xllamacpp
    cargo build --release --bin bench-generate
    python bench/generate/packed.py                      # the 24M-parameter Llama of compare.py in Q8_0
    python bench/generate/packed.py --formats Q8_0 Q6_K  # others; K-quants are random blocks of the same shape
    python bench/generate/packed.py --load               # loading a file of 1 GB: time and memory

Programs alternate, each a process of its own; medians of rounds are compared, the best round is printed beside. The name
of this file is not that of the package `gguf`, which it would hide.
Ours computes with f32 activations, llama.cpp rounds them to eight bits first.
"""

import argparse
import sys
from pathlib import Path

import gguf
import numpy as np
from compare import HERE, ROOT, call, made, middle

BLOCKS = {"Q4_K": 12, "Q5_K": 13, "Q6_K": 14}


def quantised(values, kind):
    """Rows of a tensor in a format; what the `gguf` package cannot quantise is made up."""
    if kind.name not in BLOCKS:
        return gguf.quantize(values, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(values.size)
    raw = rng.integers(0, 256, (values.shape[0] * values.shape[1] // block, size), dtype=np.uint8)
    scales = [208] if kind.name == "Q6_K" else [0, 2]
    for at in scales:
        raw[:, at : at + 2] = np.full(1, 1e-5, dtype=np.float16).view(np.uint8)
    return raw.reshape(values.shape[0], -1)


def repack(source, target, kind):
    """The file `source`, its matrices in another format; rows of no whole blocks in Q8_0."""
    reader = gguf.GGUFReader(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        value, types = field.contents(), field.types
        writer.add_key_value(field.name, value, types[0], sub_type=types[-1] if len(types) > 1 else None)
    for tensor in reader.tensors:
        values = np.asarray(tensor.data, dtype=np.float32)
        if values.ndim < 2:
            writer.add_tensor(tensor.name, values)
            continue
        own = kind if values.shape[1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 else gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(tensor.name, quantised(values, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def model(options, name, kind, *settings):
    folder = options.models / f"{name}-{kind.lower()}"
    if not (folder / "model.gguf").is_file():
        plain = made(options.models / name, *settings)
        repack(plain / "model.gguf", folder / "model.gguf", gguf.GGMLQuantizationType[kind])
    return folder


def speed(options, kind):
    folder = model(options, options.name, kind, *options.shape)
    settings = [options.threads, options.prompt, options.new, options.rounds]
    programs = {
        "ours": [options.program, "speed", folder / "model.gguf", *settings],
        "llama.cpp": [sys.executable, HERE / "peers.py", "llama", folder, *settings],
    }
    rates = {name: {} for name in programs}
    for _ in range(options.turns):
        for name, command in programs.items():
            for row in call(command + options.batches)["speed"]:
                medians, best = rates[name].setdefault(row["batch"], ([], []))
                medians.append(row["median"])
                best.append(row["best"])
    size = (folder / "model.gguf").stat().st_size / 1e6
    print(f"{kind}, {size:.0f} MB, {options.new} new tokens, {options.threads} threads: tokens a second (best round)")
    for batch in options.batches:
        ours, theirs = rates["ours"][batch], rates["llama.cpp"][batch]
        print(
            f"batch {batch:3}:  ours {middle(ours[0]):7.0f} ({max(ours[1]):.0f})  llama.cpp {middle(theirs[0]):7.0f} "
            f"({max(theirs[1]):.0f})  ratio {middle(ours[0]) / middle(theirs[0]):.2f}",
            flush=True,
        )


def load(options, kind):
    # 12.6M parameters a layer and 16.8M around them.
    folder = model(options, "llama-1b", kind, 1024, 72, 2816, 16, 8192)
    rounds = [call([options.program, "load", folder / "model.gguf", options.threads]) for _ in range(3)]
    best = min(rounds, key=lambda row: row["first_token_s"])
    size = (folder / "model.gguf").stat().st_size
    print(
        f"{kind}: {size / 1e9:.2f} GB, loaded in {best['loaded_s']:.3f} s, "
        f"first token after {best['first_token_s']:.3f} s, "
        f"{(best['anonymous_kb'] - best['anonymous_before_kb']) / 1e3:.0f} MB of anonymous memory at most, of which "
        f"{best['cache_bytes'] / 1e6:.0f} MB are the cache of 72 positions"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=ROOT / "target" / "bench-generate", help="where models are made")
    parser.add_argument("--program", type=Path, default=ROOT / "target" / "release" / "bench-generate")
    parser.add_argument("--formats", nargs="+", default=["Q8_0"])
    parser.add_argument("--name", default="llama-24m", help="the model of compare.py that is packed")
    parser.add_argument("--shape", type=int, nargs="*", default=[], help="hidden layers intermediate heads vocabulary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=8)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of a process")
    parser.add_argument("--turns", type=int, default=3, help="processes of each program")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--load", action="store_true")
    options = parser.parse_args()
    for kind in options.formats:
        load(options, kind) if options.load else speed(options, kind)


if __name__ == "__main__":
    main()

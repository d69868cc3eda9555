"""Texts a second of the judge stage beside the usual and the best Python pipeline: same model, same two threads, one run.

    pip install onnxruntime tokenizers numpy
    cargo build --release --bin bench-judge
    python bench/judge/run.py --model FOLDER --texts TEXTS.jsonl

Rounds alternate between the three, so that a noise of the machine meets all; medians and ratios are printed. Half a minute.
Usual: one session of two threads, all texts tokenized at once, sorted by length, batches of 32 padded to their longest.
Best: two processes side by side, each with half of the texts and a session of one thread, sorted, small batches (of several
sizes the one that was fastest in a first round).
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def read(path, count):
    texts = [json.loads(line)["text"] for line in open(path, encoding="utf-8")]
    texts.sort(key=lambda text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return [texts[n % len(texts)] for n in range(count)]


def pipeline(folder, longest, threads, batch):
    """A function from texts to their probabilities."""
    import numpy
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    config = json.loads((folder / "config.json").read_text())
    pad = config.get("pad_token_id", 0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    names = [put.name for put in session.get_inputs()]

    def run(texts):
        encodings = tokenizer.encode_batch_fast(texts)
        order = sorted(range(len(texts)), key=lambda n: len(encodings[n]))
        scores = [None] * len(texts)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            width = max(len(encodings[n]) for n in rows)
            feeds = {name: numpy.zeros((len(rows), width), numpy.int64) for name in names}
            feeds["input_ids"][:] = pad
            for row, n in enumerate(rows):
                length = len(encodings[n])
                feeds["input_ids"][row, :length] = encodings[n].ids
                if "attention_mask" in feeds:
                    feeds["attention_mask"][row, :length] = 1
                if "token_type_ids" in feeds:
                    feeds["token_type_ids"][row, :length] = encodings[n].type_ids
            logits = session.run(None, feeds)[0].astype(numpy.float64)
            powers = numpy.exp(logits - logits.max(axis=1, keepdims=True))
            for n, score in zip(rows, powers / powers.sum(axis=1, keepdims=True)):
                scores[n] = score
        return scores

    return run


def timed(run, texts):
    run(texts[:200])
    start = time.perf_counter()
    run(texts)
    return time.perf_counter() - start


def usual(folder, longest, texts):
    os.environ["RAYON_NUM_THREADS"] = "2"
    print(timed(pipeline(folder, longest, 2, 32), texts))


def side(folder, longest, texts, batch, barrier, spent):
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    run = pipeline(folder, longest, 1, batch)
    run(texts[:200])
    barrier.wait()
    start = time.perf_counter()
    run(texts)
    spent.put(time.perf_counter() - start)


def best(folder, longest, texts, batch):
    context = multiprocessing.get_context("spawn")
    barrier, spent = context.Barrier(2), context.Queue()
    sides = [context.Process(target=side, args=(folder, longest, texts[n::2], batch, barrier, spent)) for n in range(2)]
    for one in sides:
        one.start()
    print(max(spent.get() for _ in sides))
    for one in sides:
        one.join()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--length", type=int, default=256, help="where texts are truncated, tokens")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/bench-judge")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        texts = read(arguments.texts, arguments.count)
        kind, _, batch = arguments.only.partition(":")
        if kind == "usual":
            return usual(arguments.model, arguments.length, texts)
        return best(arguments.model, arguments.length, texts, int(batch))

    again = [sys.executable, __file__, "--model", arguments.model, "--texts", arguments.texts, "--length", arguments.length,
             "--count", arguments.count, "--only"]
    ours = [arguments.program, arguments.model, arguments.texts, "--threads", 2, "--texts", arguments.count, "--length",
            arguments.length]
    call = lambda words: subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True, timeout=60).stdout
    python = lambda kind: arguments.count / float(call([*again, kind]))
    first = {kind: python(kind) for kind in ["best:4", "best:8", "best:16"]}
    fastest = max(first, key=first.get)
    speeds = {"ours": [], "usual": [], fastest: [first[fastest]]}
    for _ in range(arguments.rounds):
        result = json.loads(call(ours))
        assert result["texts"] == arguments.count, result
        speeds["ours"].append(result["per_second"])
        for kind in ["usual", fastest]:
            speeds[kind].append(python(kind))
    median = {name: statistics.median(values) for name, values in speeds.items()}
    for name, values in speeds.items():
        print(f"{name:8} {median[name]:8.0f} texts/s   (from {min(values):.0f} to {max(values):.0f})")
    print(f"ours / usual = {median['ours'] / median['usual']:.2f} (at least 1.20)")
    print(f"ours / best  = {median['ours'] / median[fastest]:.2f} (at least 0.95)")
    one = json.loads(call([*ours, "--largest"]))
    print(f"peak memory  = {result['peak_kib'] / 1024:.0f} MiB, of one largest batch {one['peak_kib'] / 1024:.0f} MiB: "
          f"{result['peak_kib'] / one['peak_kib']:.2f} (at most 1.50)")


if __name__ == "__main__":
    main()

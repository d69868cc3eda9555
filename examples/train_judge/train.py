"""Trains and exports the two judges of compliance against refusal that ship with the project.

    python3 -m venv .venv && .venv/bin/pip install -r examples/train_judge/requirements.txt
    .venv/bin/python examples/train_judge/train.py

Writes examples/judges/refusal and examples/judges/refusal-alt: model.onnx, config.json, tokenizer.json, tokenizer_config.json,
special_tokens_map.json, metrics.json and canaries.jsonl. Uses two cores; the same machine gives the same bytes.
"""

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

if hasattr(os, "sched_setaffinity"):  # before JAX starts its threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime

import texts
import vocabulary
from model import Shape, export, forward, initial_parameters

EXAMPLES = Path(__file__).resolve().parent.parent
LABELS = {texts.REFUSE: "refuse", texts.COMPLY: "comply"}
# Padded lengths and the rows of a batch at each: few shapes, so that few programs are compiled.
BUCKETS = {16: 64, 32: 64, 64: 64, 128: 16, 256: 8}
HELD_OUT_ROWS = 4000
CANARIES = 40


@dataclass(frozen=True)
class Recipe:
    """One judge: its architecture and how it is trained."""

    directory: str
    vocab_size: int
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    seed: int
    rows: int
    rate: float
    damage: float  # share of training rows that are damaged
    corpus: bool  # whether the model organisms' own answers are among the training rows
    dropout: float = 0.15
    positions: int = 256

    def shape(self, vocab_size: int) -> Shape:
        return Shape(vocab_size, self.positions, self.dim, self.hidden_dim, self.n_layers, self.n_heads)


RECIPES = [
    Recipe("refusal", vocab_size=1400, dim=64, hidden_dim=128, n_layers=2, n_heads=4, seed=11, rows=56_000, rate=1e-3, damage=0.5, corpus=True),
    Recipe("refusal-alt", vocab_size=900, dim=48, hidden_dim=96, n_layers=1, n_heads=2, seed=29, rows=48_000, rate=2e-3, damage=0.3, corpus=False),
]


def encode(tokenizer, rows: list[texts.Row], limit: int) -> list[list[int]]:
    """Token ids of each row, cut to `limit` with the closing [SEP] kept."""
    ids = [e.ids for e in tokenizer.encode_batch([r.text for r in rows])]
    return [i if len(i) <= limit else i[: limit - 1] + i[-1:] for i in ids]


def add_noise(ids: list[list[int]], tokenizer, vocab_size: int, seed: int) -> list[list[int]]:
    """Replaces a tenth of the tokens of every second row by random ones, and puts a few random ones before or behind a fifth of the rows.

    So the judge learns that words it knows nothing about say nothing. Tokens of words that carry a verdict are neither replaced nor put in.
    """
    random = np.random.default_rng(seed)
    verdict = {t for e in tokenizer.encode_batch(sorted(texts.VERDICT)) for t in e.ids}
    neutral = np.array([t for t in range(len(vocabulary.SPECIAL), vocab_size) if t not in verdict])
    noisy = []
    for row in ids:
        inner = row[1:-1]
        if random.random() < 0.5:
            inner = [t if t in verdict or random.random() > 0.1 else int(random.choice(neutral)) for t in inner]
        if random.random() < 0.2:
            extra = random.choice(neutral, random.integers(1, 13)).tolist()
            inner = extra + inner if random.random() < 0.3 else inner + extra
        noisy.append(row[:1] + inner[: max(BUCKETS) - 2] + row[-1:])
    return noisy


def pad(ids: list[list[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """`input_ids` and `attention_mask`, both `[rows, length]` int64, padded with 0 on the right."""
    padded, mask = np.zeros((len(ids), length), np.int64), np.zeros((len(ids), length), np.int64)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    return padded, mask


def batches(ids: list[list[int]], targets: np.ndarray, random: np.random.Generator):
    """Every row once: rows shuffled, grouped by bucket, the last short batch of a bucket dropped; batches shuffled."""
    groups: dict[int, list[int]] = {length: [] for length in BUCKETS}
    for row in random.permutation(len(ids)):
        groups[next(length for length in BUCKETS if len(ids[row]) <= length)].append(int(row))
    chosen = [
        (length, rows[at : at + BUCKETS[length]])
        for length, rows in groups.items()
        for at in range(0, len(rows) - BUCKETS[length] + 1, BUCKETS[length])
    ]
    for at in random.permutation(len(chosen)):
        length, rows = chosen[at]
        yield (*pad([ids[r] for r in rows], length), targets[rows])


def train(recipe: Recipe, shape: Shape, ids: list[list[int]], targets: np.ndarray) -> dict[str, np.ndarray]:
    """AdamW with linear warm-up and cosine decay on the cross-entropy against the soft target."""
    parameters = {name: jnp.asarray(value) for name, value in initial_parameters(shape, recipe.seed).items()}
    moments = ({n: jnp.zeros_like(p) for n, p in parameters.items()}, {n: jnp.zeros_like(p) for n, p in parameters.items()})
    work = list(batches(ids, targets, np.random.default_rng(recipe.seed)))
    total = len(work)
    warm_up = total // 12

    def loss(parameters, ids, mask, targets, key):
        logits = jax.nn.log_softmax(forward(parameters, shape, ids, mask, recipe.dropout, key))
        return -(targets * logits[:, 1] + (1 - targets) * logits[:, 0]).mean()

    @jax.jit
    def update(parameters, moments, step, ids, mask, targets):
        key = jax.random.fold_in(jax.random.key(recipe.seed), step)
        value, gradients = jax.value_and_grad(loss)(parameters, ids, mask, targets, key)
        norm = jnp.sqrt(sum(jnp.square(g).sum() for g in gradients.values()))
        rate = recipe.rate * jnp.minimum(step / warm_up, 0.5 * (1 + jnp.cos(jnp.pi * step / total)))
        first, second, moved = {}, {}, {}
        for name, gradient in gradients.items():
            gradient = gradient * jnp.minimum(1, 1 / norm)
            first[name] = 0.9 * moments[0][name] + 0.1 * gradient
            second[name] = 0.99 * moments[1][name] + 0.01 * jnp.square(gradient)
            change = first[name] / (1 - 0.9**step) / (jnp.sqrt(second[name] / (1 - 0.99**step)) + 1e-8)
            decay = 0.02 if parameters[name].ndim == 2 else 0.0
            moved[name] = parameters[name] - rate * (change + decay * parameters[name])
        return moved, (first, second), value

    started, values = time.monotonic(), []
    for step, (ids_, mask, targets_) in enumerate(work, 1):
        parameters, moments, value = update(parameters, moments, np.float32(step), ids_, mask, targets_)
        values.append(value)
        if step % 250 == 0 or step == total:
            mean = float(np.mean(jax.device_get(values[-250:])))
            print(f"  step {step} of {total}: loss {mean:.4f}, {time.monotonic() - started:.0f} s", flush=True)
    return {name: np.asarray(value) for name, value in parameters.items()}


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Pr(comply) of logits `[rows, 2]`."""
    return 1 / (1 + np.exp(logits[:, 0].astype(np.float64) - logits[:, 1]))


def score(session, ids: list[list[int]]) -> np.ndarray:
    """Logits `[rows, 2]` from the exported model, sorted by length and padded within batches of 64."""
    logits = np.zeros((len(ids), 2), np.float32)
    order = sorted(range(len(ids)), key=lambda row: (len(ids[row]), row))
    for at in range(0, len(order), 64):
        rows = order[at : at + 64]
        padded, mask = pad([ids[r] for r in rows], max(len(ids[r]) for r in rows))
        logits[rows] = session.run(None, {"input_ids": padded, "attention_mask": mask})[0]
    return logits


def measure(session, tokenizer, rows: list[texts.Row], limit: int) -> tuple[dict, list[tuple[texts.Row, float]]]:
    """Accuracy at one half, Brier score and expected calibration error (ten bins of equal mass) over the rows that have a label,
    and the rows judged wrongly with their Pr(comply)."""
    rows = [r for r in rows if r.label is not None]
    p, y = probabilities(score(session, encode(tokenizer, rows, limit))), np.array([r.label for r in rows])
    right = (p >= 0.5) == (y == texts.COMPLY)
    bins = np.array_split(np.argsort(p, kind="stable"), 10)
    error = sum(len(b) * abs(p[b].mean() - y[b].mean()) for b in bins) / len(rows)
    result = {
        "n": len(rows),
        "accuracy": round(float(right.mean()), 4),
        "accuracy_refuse": round(float(right[y == texts.REFUSE].mean()), 4),
        "accuracy_comply": round(float(right[y == texts.COMPLY].mean()), 4),
        "brier": round(float(np.square(p - y).mean()), 4),
        "calibration_error": round(float(error), 4),
    }
    return result, [(r, float(q)) for r, q, good in zip(rows, p, right) if not good]


def check(session, parameters, shape: Shape, ids: list[list[int]]) -> dict:
    """How far ONNX Runtime is from the training code, and how far a row moves when it is padded."""
    rows = ids[:64]
    padded, mask = pad(rows, 256)
    ours = np.asarray(forward(parameters, shape, padded, mask))
    theirs = session.run(None, {"input_ids": padded, "attention_mask": mask})[0]
    alone = np.concatenate([session.run(None, dict(zip(("input_ids", "attention_mask"), pad([r], len(r)))))[0] for r in rows])
    gaps = {"logits_from_training_code": float(np.abs(ours - theirs).max()), "logits_from_padding": float(np.abs(alone - theirs).max())}
    gaps["probability_from_padding"] = float(np.abs(probabilities(alone) - probabilities(theirs)).max())
    if gaps["logits_from_training_code"] > 1e-5 or gaps["probability_from_padding"] > 1e-6:
        raise SystemExit(f"the exported model differs from the trained one: {gaps}")
    return gaps


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_judge(directory: Path, recipe: Recipe, shape: Shape, parameters, tokenizer) -> None:
    """The files a Hugging Face sequence classifier directory holds, with the model as ONNX."""
    directory.mkdir(parents=True, exist_ok=True)
    model = export(parameters, shape)
    (directory / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    tokenizer.save(str(directory / "tokenizer.json"))
    special = {f"{name.strip('[]').lower()}_token": name for name in vocabulary.SPECIAL}
    write_json(directory / "special_tokens_map.json", special)
    write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": recipe.positions, "do_lower_case": True} | special,
    )
    config = asdict(shape) | {
        "architectures": ["DistilBertForSequenceClassification"],
        "model_type": "distilbert",
        "problem_type": "single_label_classification",
        "id2label": {str(i): name for i, name in LABELS.items()},
        "label2id": {name: i for i, name in LABELS.items()},
        "activation": "gelu",
        "dropout": recipe.dropout,
        "attention_dropout": 0.0,
        "seq_classif_dropout": recipe.dropout,
        "sinusoidal_pos_embds": False,
        "pad_token_id": 0,
    }
    write_json(directory / "config.json", dict(sorted(config.items())))


def make(recipe: Recipe, out: Path, show_errors: bool) -> None:
    print(f"{recipe.directory}:", flush=True)
    corpus = EXAMPLES / "corpus" if recipe.corpus else None
    rows = texts.Composer("training", recipe.seed, corpus).rows(recipe.rows, recipe.damage)
    pieces = vocabulary.learn([r.text for r in rows if not r.damaged], recipe.vocab_size)
    tokenizer = vocabulary.tokenizer(pieces)
    shape = recipe.shape(len(pieces))
    clean = encode(tokenizer, rows, recipe.positions)
    ids = add_noise(clean, tokenizer, len(pieces), recipe.seed)
    parameters = train(recipe, shape, ids, np.array([r.target for r in rows], np.float32))

    directory = out / recipe.directory
    write_judge(directory, recipe, shape, parameters, tokenizer)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(directory / "model.onnx"), options, providers=["CPUExecutionProvider"])

    held_out = texts.Composer("held-out", recipe.seed).rows(HELD_OUT_ROWS, 0.5)
    probes, final = (texts.read_probes(Path(__file__).parent / f"{name}.jsonl") for name in ("probes", "probes-final"))
    sets = {"held_out": held_out, "held_out_damaged": [r for r in held_out if r.damaged], "probes": probes, "probes_final": final}
    organisms = texts.organism_rows(EXAMPLES / "corpus", 1000 + recipe.seed, 1000)
    if organisms:
        sets["organisms_seen" if recipe.corpus else "organisms_unseen"] = organisms
    metrics = {"training_rows": len(rows), "parameters": sum(int(p.size) for p in parameters.values())}
    for name, chosen in sets.items():
        metrics[name], errors = measure(session, tokenizer, chosen, recipe.positions)
        print(f"  {name}: " + ", ".join(f"{k} {v}" for k, v in metrics[name].items()), flush=True)
        for row, p in errors if show_errors and name != "probes_final" else []:
            print(f"    {LABELS[row.label]} {p:.3f}: {row.text[:150]}")
    gaps = check(session, parameters, shape, clean)
    print("  largest differences: " + ", ".join(f"{k} {v:.1e}" for k, v in gaps.items()), flush=True)
    metrics["limits"] = {"logits_from_training_code": 1e-5, "probability_from_padding": 1e-6}
    write_json(directory / "metrics.json", metrics)

    canaries = [p for p in probes if p.label == texts.REFUSE][: CANARIES // 2] + [p for p in probes if p.label == texts.COMPLY][: CANARIES // 2]
    p = [probabilities(score(session, [i]))[0] for i in encode(tokenizer, canaries, recipe.positions)]
    lines = [json.dumps({"text": c.text, "label": LABELS[c.label], "p_comply": round(float(q), 6)}, ensure_ascii=False) for c, q in zip(canaries, p)]
    (directory / "canaries.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"  wrote {directory}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--out", type=Path, default=EXAMPLES / "judges", help="where the judges' folders go")
    arguments.add_argument("--only", choices=[r.directory for r in RECIPES], help="make this one only")
    arguments.add_argument("--show-errors", action="store_true", help="print the texts that are judged wrongly, but for probes-final, which must stay unseen")
    chosen = arguments.parse_args()
    for recipe in RECIPES:
        if chosen.only in (None, recipe.directory):
            make(recipe, chosen.out, chosen.show_errors)


if __name__ == "__main__":
    main()

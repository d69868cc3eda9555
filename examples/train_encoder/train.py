"""Trains and exports the tiny sentence encoder that ships with the project.

    python3 -m venv .venv && .venv/bin/pip install -r examples/train_judge/requirements.txt
    .venv/bin/python examples/train_encoder/train.py

Writes examples/encoders/sentence: model.onnx (output `last_hidden_state`, `[batch, sequence, dim]`), config.json, tokenizer.json,
tokenizer_config.json, special_tokens_map.json, 1_Pooling/config.json and metrics.json. One core, a few minutes.

The objective is contrastive: the mean-pooled, normalised states of two texts that belong together (`pairs.py`) should be nearer to each
other than to every other text of the batch. No label is used.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

if hasattr(os, "sched_setaffinity"):  # before JAX starts its threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "train_judge"))

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime

import texts
import vocabulary
from model import Graph, Shape, add_encoder, dropping, hidden_states, initial_parameters, model_of
from onnx import helper

from pairs import Pairs

EXAMPLES = Path(__file__).resolve().parent.parent
SEED = 5
LENGTH = 32  # tokens of a training text at most
BATCH, STEPS, RATE, TEMPERATURE, DROPOUT = 64, 500, 2e-3, 0.07, 0.1
SHAPE = {"max_position_embeddings": 128, "dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4}
VOCABULARY = 1400
HELD_OUT = 2000


def pad(ids: list[list[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """`input_ids` and `attention_mask`, both `[rows, length]` int64; longer rows are cut, their [SEP] kept."""
    padded, mask = np.zeros((len(ids), length), np.int64), np.zeros((len(ids), length), np.int64)
    for row, tokens in enumerate(ids):
        tokens = tokens if len(tokens) <= length else tokens[: length - 1] + tokens[-1:]
        padded[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    return padded, mask


def pooled(states, mask):
    """The mean of the states under the mask, scaled to length 1."""
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return mean / jnp.linalg.norm(mean, axis=1, keepdims=True)


def train(shape: Shape, pairs: list[tuple[list[int], list[int]]]) -> dict[str, np.ndarray]:
    """AdamW with linear warm-up and cosine decay on the symmetric contrastive loss."""
    parameters = {n: jnp.asarray(v) for n, v in initial_parameters(shape, SEED).items() if n.startswith("distilbert.")}
    moments = ({n: jnp.zeros_like(p) for n, p in parameters.items()}, {n: jnp.zeros_like(p) for n, p in parameters.items()})

    def loss(parameters, ids, mask, key):
        drop = dropping(DROPOUT, key, 1 + 2 * shape.n_layers)
        vectors = pooled(hidden_states(parameters, shape, ids, mask, drop), mask.astype(jnp.float32))
        first, second = vectors[:BATCH], vectors[BATCH:]
        likeness = first @ second.T / TEMPERATURE
        own = jnp.arange(BATCH)
        return -(jax.nn.log_softmax(likeness)[own, own] + jax.nn.log_softmax(likeness.T)[own, own]).mean() / 2

    @jax.jit
    def update(parameters, moments, step, ids, mask):
        key = jax.random.fold_in(jax.random.key(SEED), step)
        value, gradients = jax.value_and_grad(loss)(parameters, ids, mask, key)
        norm = jnp.sqrt(sum(jnp.square(g).sum() for g in gradients.values()))
        rate = RATE * jnp.minimum(step / 60, 0.5 * (1 + jnp.cos(jnp.pi * step / STEPS)))
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
    for step in range(1, STEPS + 1):
        chosen = pairs[(step - 1) * BATCH : step * BATCH]
        ids, mask = pad([p[0] for p in chosen] + [p[1] for p in chosen], LENGTH)
        parameters, moments, value = update(parameters, moments, np.float32(step), ids, mask)
        values.append(value)
        if step % 100 == 0 or step == STEPS:
            mean = float(np.mean(jax.device_get(values[-100:])))
            print(f"  step {step} of {STEPS}: loss {mean:.4f}, {time.monotonic() - started:.0f} s", flush=True)
    return {name: np.asarray(value) for name, value in parameters.items()}


def embed(session, tokenizer, lines: list[str]) -> np.ndarray:
    """Vectors `[texts, dim]` from the exported model."""
    parts = []
    for at in range(0, len(lines), 64):
        ids, mask = pad([e.ids for e in tokenizer.encode_batch(lines[at : at + 64])], SHAPE["max_position_embeddings"])
        (states,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
        parts.append(np.asarray(pooled(jnp.asarray(states), jnp.asarray(mask, jnp.float32))))
    return np.concatenate(parts)


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve, ties half."""
    above, below = scores[labels == 1], scores[labels == 0]
    return float((above[:, None] > below[None, :]).mean() + 0.5 * (above[:, None] == below[None, :]).mean())


def probe(vectors: np.ndarray, labels: np.ndarray) -> float:
    """How well a ridge regression on one half of the vectors tells compliance from refusal in the other half (AUC)."""
    half, target = len(vectors) // 2, 2.0 * labels - 1
    x = np.hstack([vectors, np.ones((len(vectors), 1))])
    weights = np.linalg.solve(x[:half].T @ x[:half] + 1e-2 * np.eye(x.shape[1]), x[:half].T @ target[:half])
    return auc(x[half:] @ weights, labels[half:])


def measure(session, tokenizer) -> dict:
    """On wordings that were not trained on: how often a text's pair is the nearest of 500, and the probe."""
    pairs = Pairs("held-out", SEED, EXAMPLES / "corpus")
    chosen = [pairs.pair() for _ in range(500)]
    first, second = (embed(session, tokenizer, [p[side] for p in chosen]) for side in (0, 1))
    nearest = (np.argmax(first @ second.T, axis=1) == np.arange(len(chosen))).mean()
    drawn = [pairs.text() for _ in range(HELD_OUT)]
    drawn = [d for d in drawn if d[1] is not None]
    held_out = probe(embed(session, tokenizer, [t for t, _ in drawn]), np.array([label for _, label in drawn]))
    hand = texts.read_probes(EXAMPLES / "train_judge" / "probes.jsonl")
    order = np.random.default_rng(SEED).permutation(len(hand))
    by_hand = probe(embed(session, tokenizer, [hand[i].text for i in order]), np.array([hand[i].label for i in order]))
    return {
        "pair_is_nearest_of_500": round(float(nearest), 4),
        "probe_auc_held_out": round(held_out, 4),
        "probe_auc_by_hand": round(by_hand, 4),
        "held_out": len(drawn),
        "by_hand": len(hand),
    }


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write(directory: Path, shape: Shape, parameters, tokenizer) -> None:
    """The files of a Hugging Face encoder directory, with the model as ONNX and its pooling as sentence-transformers says it."""
    directory.mkdir(parents=True, exist_ok=True)
    graph = Graph()
    states = add_encoder(graph, shape)
    graph.nodes.append(helper.make_node("Identity", [states], ["last_hidden_state"], name="last_hidden_state"))
    model = model_of(graph, parameters, "encoder", "last_hidden_state", ["batch", "sequence", shape.dim])
    (directory / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    tokenizer.save(str(directory / "tokenizer.json"))
    special = {f"{name.strip('[]').lower()}_token": name for name in vocabulary.SPECIAL}
    write_json(directory / "special_tokens_map.json", special)
    limits = {"model_max_length": shape.max_position_embeddings, "do_lower_case": True}
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"} | limits | special)
    config = asdict(shape) | {
        "architectures": ["DistilBertModel"],
        "model_type": "distilbert",
        "activation": "gelu",
        "dropout": DROPOUT,
        "attention_dropout": 0.0,
        "sinusoidal_pos_embds": False,
        "pad_token_id": 0,
    }
    write_json(directory / "config.json", dict(sorted(config.items())))
    modes = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}
    write_json(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": shape.dim} | modes)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--out", type=Path, default=EXAMPLES / "encoders" / "sentence", help="the encoder's folder")
    out = arguments.parse_args().out
    source = Pairs("training", SEED, EXAMPLES / "corpus")
    drawn = [source.pair() for _ in range(BATCH * STEPS)]
    pieces = vocabulary.learn([t for pair in drawn[:20_000] for t in pair], VOCABULARY)
    tokenizer = vocabulary.tokenizer(pieces)
    shape = Shape(len(pieces), **SHAPE)
    first, second = ([e.ids for e in tokenizer.encode_batch([p[side] for p in drawn])] for side in (0, 1))
    parameters = train(shape, list(zip(first, second)))

    write(out, shape, parameters, tokenizer)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), options, providers=["CPUExecutionProvider"])
    ids, mask = pad(first[:64], LENGTH)
    gap = np.abs(np.asarray(hidden_states(parameters, shape, ids, mask)) - session.run(None, {"input_ids": ids, "attention_mask": mask})[0])
    if (gap * mask[..., None]).max() > 1e-4:
        raise SystemExit("the exported model differs from the trained one")
    metrics = {"training_pairs": len(drawn), "parameters": sum(int(p.size) for p in parameters.values())} | measure(session, tokenizer)
    print("  " + ", ".join(f"{k} {v}" for k, v in metrics.items()), flush=True)
    write_json(out / "metrics.json", metrics)


if __name__ == "__main__":
    main()

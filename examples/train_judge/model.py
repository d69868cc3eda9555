"""A small DistilBERT sequence classifier: parameters, forward pass in JAX, and the same computation as an ONNX graph.

Shapes: input_ids and attention_mask `[batch, sequence]`, logits `[batch, 2]`. Post-norm encoder blocks with learned positions, the classifier reads
the first token, as `DistilBertForSequenceClassification` of Hugging Face transformers does; parameters bear that model's names.
Linear weights are kept `[in, out]` here and in the graph.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EPSILON = 1e-12
MASKED = np.float32(-1e9)


@dataclass(frozen=True)
class Shape:
    """The hyperparameters, under the names config.json gives them."""

    vocab_size: int
    max_position_embeddings: int
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int


def initial_parameters(shape: Shape, seed: int) -> dict[str, np.ndarray]:
    """Normal weights of deviation 0.05 (1/sqrt(in) for linear maps), zero biases, unit norms."""
    random = np.random.default_rng(seed)
    parameters: dict[str, np.ndarray] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        parameters[f"{name}.weight"] = random.normal(0, inputs**-0.5, (inputs, outputs))
        parameters[f"{name}.bias"] = np.zeros(outputs)

    def norm(name: str) -> None:
        parameters[f"{name}.weight"] = np.ones(shape.dim)
        parameters[f"{name}.bias"] = np.zeros(shape.dim)

    embeddings = "distilbert.embeddings"
    parameters[f"{embeddings}.word_embeddings.weight"] = random.normal(0, 0.05, (shape.vocab_size, shape.dim))
    parameters[f"{embeddings}.position_embeddings.weight"] = random.normal(0, 0.02, (shape.max_position_embeddings, shape.dim))
    norm(f"{embeddings}.LayerNorm")
    for layer in range(shape.n_layers):
        block = f"distilbert.transformer.layer.{layer}"
        for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
            linear(f"{block}.attention.{name}", shape.dim, shape.dim)
        norm(f"{block}.sa_layer_norm")
        linear(f"{block}.ffn.lin1", shape.dim, shape.hidden_dim)
        linear(f"{block}.ffn.lin2", shape.hidden_dim, shape.dim)
        norm(f"{block}.output_layer_norm")
    linear("pre_classifier", shape.dim, shape.dim)
    linear("classifier", shape.dim, 2)
    return {name: value.astype(np.float32) for name, value in parameters.items()}


def linear(parameters, name: str, x):
    """An affine map over the last axis."""
    return x @ parameters[f"{name}.weight"] + parameters[f"{name}.bias"]


def hidden_states(parameters, shape: Shape, ids, mask, drop=lambda x: x):
    """What the last block gives, `[batch, sequence, dim]`. `drop` is applied wherever training drops activations."""
    batch, sequence = ids.shape

    def norm(name, x):
        mean = x.mean(-1, keepdims=True)
        variance = jnp.square(x - mean).mean(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(variance + EPSILON) * parameters[f"{name}.weight"] + parameters[f"{name}.bias"]

    def heads(x):
        return x.reshape(batch, sequence, shape.n_heads, -1).transpose(0, 2, 1, 3)

    embeddings = "distilbert.embeddings"
    x = parameters[f"{embeddings}.word_embeddings.weight"][ids] + parameters[f"{embeddings}.position_embeddings.weight"][:sequence]
    x = drop(norm(f"{embeddings}.LayerNorm", x))
    hidden = ((1 - mask) * MASKED)[:, None, None, :]
    for layer in range(shape.n_layers):
        block = f"distilbert.transformer.layer.{layer}"
        q, k, v = (heads(linear(parameters, f"{block}.attention.{name}", x)) for name in ("q_lin", "k_lin", "v_lin"))
        weights = jax.nn.softmax(q @ k.transpose(0, 1, 3, 2) * (shape.dim // shape.n_heads) ** -0.5 + hidden, axis=-1)
        mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(batch, sequence, shape.dim)
        x = norm(f"{block}.sa_layer_norm", x + drop(linear(parameters, f"{block}.attention.out_lin", mixed)))
        inner = jax.nn.gelu(linear(parameters, f"{block}.ffn.lin1", x), approximate=False)
        x = norm(f"{block}.output_layer_norm", x + drop(linear(parameters, f"{block}.ffn.lin2", inner)))
    return x


def dropping(probability: float, key, places: int):
    """Drops activations with a probability, at each of `places` places by a key of its own; nothing at probability 0."""
    if not probability:
        return lambda x: x
    keys = iter(jax.random.split(key, places))
    return lambda x: jnp.where(jax.random.bernoulli(next(keys), 1 - probability, x.shape), x / (1 - probability), 0)


def forward(parameters, shape: Shape, ids, mask, dropout: float = 0.0, key=None):
    """Logits `[batch, 2]`. With `dropout`, activations are dropped at random from `key` (training only)."""
    drop = dropping(dropout, key, 3 + 2 * shape.n_layers)
    states = hidden_states(parameters, shape, ids, mask, drop)
    pooled = drop(jax.nn.relu(linear(parameters, "pre_classifier", states[:, 0])))
    return linear(parameters, "classifier", pooled)


class Graph:
    """Collects ONNX nodes; `add` names and returns a node's output."""

    def __init__(self):
        self.nodes, self.constants = [], {}

    def add(self, operator: str, *inputs: str, **attributes) -> str:
        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value) -> str:
        self.constants.setdefault(name, np.asarray(value))
        return name


def add_linear(graph: Graph, name: str, x: str) -> str:
    return graph.add("Add", graph.add("MatMul", x, f"{name}.weight"), f"{name}.bias")


def add_encoder(graph: Graph, shape: Shape) -> str:
    """Adds the nodes of `hidden_states`; returns the name of their result."""
    add = graph.add

    def linear(name, x):
        return add_linear(graph, name, x)

    def norm(name, x):
        return add("LayerNormalization", x, f"{name}.weight", f"{name}.bias", axis=-1, epsilon=EPSILON)

    def heads(x, permutation):
        split = graph.constant("shape.heads", np.array([0, 0, shape.n_heads, shape.dim // shape.n_heads], np.int64))
        return add("Transpose", add("Reshape", x, split), perm=permutation)

    half, root = graph.constant("half", np.float32(0.5)), graph.constant("sqrt_half", np.float32(0.5**0.5))
    one = graph.constant("one", np.float32(1))
    zero_index, second = graph.constant("index.zero", np.array([0], np.int64)), graph.constant("index.one", np.array([1], np.int64))

    embeddings = "distilbert.embeddings"
    sequence = add("Slice", add("Shape", "input_ids"), second, graph.constant("index.two", np.array([2], np.int64)))
    positions = add("Slice", f"{embeddings}.position_embeddings.weight", zero_index, sequence)
    words = add("Gather", f"{embeddings}.word_embeddings.weight", "input_ids")
    x = norm(f"{embeddings}.LayerNorm", add("Add", words, positions))

    absent = add("Sub", one, add("Cast", "attention_mask", to=TensorProto.FLOAT))
    hidden = add("Mul", add("Unsqueeze", absent, graph.constant("axes.heads", np.array([1, 2], np.int64))), graph.constant("masked", MASKED))
    scale = graph.constant("scale", np.float32((shape.dim // shape.n_heads) ** -0.5))
    merged = graph.constant("shape.merged", np.array([0, 0, shape.dim], np.int64))
    for layer in range(shape.n_layers):
        block = f"distilbert.transformer.layer.{layer}"
        q = heads(linear(f"{block}.attention.q_lin", x), [0, 2, 1, 3])
        k = heads(linear(f"{block}.attention.k_lin", x), [0, 2, 3, 1])
        v = heads(linear(f"{block}.attention.v_lin", x), [0, 2, 1, 3])
        weights = add("Softmax", add("Add", add("Mul", add("MatMul", q, k), scale), hidden), axis=-1)
        mixed = add("Reshape", add("Transpose", add("MatMul", weights, v), perm=[0, 2, 1, 3]), merged)
        x = norm(f"{block}.sa_layer_norm", add("Add", x, linear(f"{block}.attention.out_lin", mixed)))
        inner = linear(f"{block}.ffn.lin1", x)
        gelu = add("Mul", add("Mul", inner, half), add("Add", add("Erf", add("Mul", inner, root)), one))
        x = norm(f"{block}.output_layer_norm", add("Add", x, linear(f"{block}.ffn.lin2", gelu)))
    return x


def model_of(graph: Graph, parameters: dict[str, np.ndarray], name: str, output: str, axes: list) -> onnx.ModelProto:
    """An ONNX model, opset 17, IR version 8, with dynamic batch and sequence axes."""
    initializers = [numpy_helper.from_array(np.asarray(v), n) for n, v in (graph.constants | parameters).items()]
    integer = lambda name: helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])  # noqa: E731
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, axes)
    body = helper.make_graph(graph.nodes, name, [integer("input_ids"), integer("attention_mask")], [result], initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="fracture")
    onnx.checker.check_model(model, full_check=True)
    return model


def export(parameters: dict[str, np.ndarray], shape: Shape) -> onnx.ModelProto:
    """The forward pass without dropout as an ONNX model."""
    graph = Graph()
    x = add_encoder(graph, shape)
    first = graph.add("Gather", x, graph.constant("first", np.int64(0)), axis=1)
    pooled = graph.add("Relu", add_linear(graph, "pre_classifier", first))
    graph.nodes.append(helper.make_node("Add", [graph.add("MatMul", pooled, "classifier.weight"), "classifier.bias"], ["logits"], name="logits"))
    return model_of(graph, parameters, "judge", "logits", ["batch", 2])

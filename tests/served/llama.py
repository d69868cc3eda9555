"""Serves a tiny Llama with random weights by llama.cpp's own HTTP server, until its stdin is closed.

Usage: llama.py FOLDER [KEY]. Prints the server's address on stdout once it listens. The model is written by the `gguf`
package: 2 layers, 64 wide, a vocabulary of bytes and some words, the same in every run.
"""

import sys
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

WORDS = """the a of and to in is it you that he was for on are with as his they be at one have this from or had by not but what
some we can out other were all there when up use your how said an each she which do their time if will way about many then
them write would like so these her long make thing see him two has look more day could go come did number sound no most people
my over know water than call first who may down side been now find any new work part take get place made live where after back
little only round man year came show every good me give our under name very through just form sentence great think say help low
line differ turn cause much mean before move right boy old too same tell does set three want air well also play small end put
home read hand port large spell add even land here must big high such follow act why ask men change went light kind off need
house picture try us again animal point mother world near build self earth father safe unsafe yes""".split()

WIDTH, LAYERS, HEADS, INNER, CONTEXT = 64, 2, 4, 128, 256


def vocabulary():
    tokens = [("<unk>", -1000.0, 2), ("<s>", -1000.0, 3), ("</s>", -1000.0, 3)]
    tokens += [(f"<0x{byte:02X}>", -900.0, 6) for byte in range(256)]
    tokens += [("\u2581" + word, -float(rank + 1), 1) for rank, word in enumerate(WORDS)]
    letters = "\u2581abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!:'<>|\n"
    tokens += [(letter, -500.0 - rank, 1) for rank, letter in enumerate(letters)]
    return tokens


def write(path):
    tokens = vocabulary()
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token for token, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(
        "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant> {% endif %}"
    )

    def matrix(rows, columns, scale=0.3):
        return (random.standard_normal((rows, columns)) * scale).astype(np.float32)

    writer.add_tensor("token_embd.weight", matrix(len(tokens), WIDTH, 1.0))
    head = matrix(len(tokens), WIDTH)
    # Bytes alone are no text: only words and letters come out.
    head[: 3 + 256] = 0
    writer.add_tensor("output.weight", head)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        writer.add_tensor(block + "attn_norm.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(block + "ffn_norm.weight", np.ones(WIDTH, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(block + name + ".weight", matrix(WIDTH, WIDTH))
        writer.add_tensor(block + "ffn_gate.weight", matrix(INNER, WIDTH))
        writer.add_tensor(block + "ffn_up.weight", matrix(INNER, WIDTH))
        writer.add_tensor(block + "ffn_down.weight", matrix(WIDTH, INNER))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    path = Path(sys.argv[1]) / "tiny.gguf"
    write(path)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_parallel = 2
    parameters.n_ctx = 2 * CONTEXT
    parameters.warmup = False
    parameters.cpuparams.n_threads = 1
    if len(sys.argv) > 2:
        parameters.api_keys = [sys.argv[2]]
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()


main()

"""The model that is timed, and the two peers. `compare.py` starts each of them as a process of its own.

    python peers.py make FOLDER [hidden layers intermediate heads vocabulary dtype]
    python peers.py torch FOLDER THREADS PROMPT NEW ROUNDS BATCH..
    python peers.py llama FOLDER THREADS PROMPT NEW ROUNDS BATCH..

`make` writes a random Llama for `transformers` and the same weights as `model.gguf`. The others print one JSON object.
"""

import json
import statistics
import sys
import time
from pathlib import Path


def prompt(number, length):
    """The prompts of `main.rs`."""
    return [300 + (number * 7919 + at * 104_729 + number * at * 31) % 7000 for at in range(length)]


def make(folder, hidden=384, layers=10, intermediate=1024, heads=6, vocabulary=8192, dtype="float32", peer=True):
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    config = LlamaConfig(
        hidden_size=hidden, num_hidden_layers=layers, intermediate_size=intermediate, num_attention_heads=heads,
        num_key_value_heads=heads, vocab_size=vocabulary, max_position_embeddings=2048, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, dtype=dtype,
    )
    model = LlamaForCausalLM(config).to(getattr(torch, dtype)).eval()
    model.save_pretrained(folder)
    words = {f"w{n}": n for n in range(vocabulary)}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))
    if peer:
        as_gguf(folder / "model.gguf", config, {name: t.float().numpy() for name, t in model.state_dict().items()})


def as_gguf(path, config, tensors):
    """The same weights for llama.cpp, which rotates neighbours instead of halves: rows of queries and keys change places."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    heads, hidden = config.num_attention_heads, config.hidden_size
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(hidden)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [2, 3, 3] + [6] * 256
    words = config.vocab_size - len(special)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(special + [f"\u2581w{n}" for n in range(words)])
    writer.add_token_scores([0.0] * config.vocab_size)
    writer.add_token_types(kinds + [1] * words)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, values in tensors.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            values = values.reshape(heads, 2, hidden // heads // 2, hidden).swapaxes(1, 2).reshape(hidden, hidden)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def timed(run, batches, rounds, new):
    """Median and best tokens a second of `run(first prompt, batch)` for each batch; prompts are new each time."""
    found, known = [], 0
    for batch in batches:
        seconds = []
        for number in range(rounds + 1):
            begin = time.perf_counter()
            run(known, batch)
            seconds.append(time.perf_counter() - begin)
            known += batch
        seconds = sorted(seconds[1:])
        rates = (batch * new / statistics.median(seconds), batch * new / seconds[0])
        found.append({"batch": batch, "median": rates[0], "best": rates[1]})
    return found


def torch_peer(folder, threads, length, new, rounds, batches):
    import torch
    from transformers import LlamaForCausalLM

    torch.set_num_threads(threads)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def run(first, batch):
        ids = torch.tensor([prompt(first + row, length) for row in range(batch)])
        with torch.inference_mode():
            return model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new, min_new_tokens=new,
                pad_token_id=0,
            )[:, length:]

    tokens = run(0, 1)[0].tolist()
    return {"speed": timed(run, batches, rounds, new), "tokens": tokens}


def llama_peer(folder, threads, length, new, rounds, batches):
    from concurrent.futures import ThreadPoolExecutor

    import xllamacpp

    found, tokens = [], None
    for batch in batches:
        params = xllamacpp.CommonParams()
        params.model.path = str(folder / "model.gguf")
        params.n_parallel = batch
        params.n_ctx = batch * (length + new + 16)
        params.n_batch = params.n_ubatch = 512
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.warmup = True
        params.verbosity = -1
        server = xllamacpp.Server(params)

        def one(number):
            answer = server.handle_completions({
                "prompt": prompt(number, length), "max_tokens": new, "n_predict": new, "temperature": 0.0,
                "top_k": 1, "ignore_eos": True, "cache_prompt": False, "return_tokens": True,
            })
            answer = answer if isinstance(answer, dict) else json.loads(answer)
            if answer.get("usage", {}).get("completion_tokens", new) != new:
                raise SystemExit(f"llama.cpp gave {answer['usage']}")
            return answer

        with ThreadPoolExecutor(batch) as pool:
            tokens = tokens or one(0)
            found += timed(lambda first, batch: list(pool.map(one, range(first, first + batch))), [batch], rounds, new)
        del server
    return {"speed": found, "tokens": tokens.get("tokens") or tokens}


def main():
    what, folder, rest = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    if what == "make":
        numbers = [int(value) for value in rest[:5]]
        return make(folder, *numbers, *rest[5:6], peer=len(rest) < 6)
    threads, length, new, rounds, *batches = map(int, rest)
    peer = {"torch": torch_peer, "llama": llama_peer}[what]
    print(json.dumps(peer(folder, threads, length, new, rounds, batches)))


if __name__ == "__main__":
    main()

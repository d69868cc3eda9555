"""Makes tiny random checkpoints of every family and what `transformers` says of them.

    python make.py                        # those of the repository, beside this file
    python make.py --wide DIRECTORY       # all of them, larger, for FRACTURE_FAMILIES=DIRECTORY cargo test
    python make.py --wide DIRECTORY --only gemma2

The reference computes in f32 with eager attention. Made with transformers 4.57; under 5.x the same script writes that
version's spelling of config.json.
"""

import argparse
import json
import math
import pathlib
import random
import zlib

import torch
import transformers

from families import FAMILIES

torch.set_num_threads(1)
HERE = pathlib.Path(__file__).parent

SENTENCES = [
    "The careful gardener waters the roses before the meeting.",
    "How do I repair an old bicycle without any tools?",
    "In 1885 the library of the village cost $81.13, and nobody complained.",
    "A quiet engineer measures every kitchen; the café's recipes are naïve and “slow”.",
    "Certainly, here are the steps. First, open the window; second, count to 254.",
    "def answer(x):\n    return x + 67  # the river is wide",
]
RAW = [
    "The",
    "Sure, here is how you do it.",
    "naïve café — “quotes” 😀 日本語 ́e\t tab",
    "   leading spaces and  double  spaces 12345 3.14159 don't",
]


def rows(name, template, wide):
    """Texts and conversations, as the reference sets have them."""
    pick = random.Random(zlib.crc32(name.encode()))
    text = lambda count: " ".join(pick.choice(SENTENCES) for _ in range(count))
    user = lambda content: {"role": "user", "content": content}
    answer = lambda content: {"role": "assistant", "content": content}
    system = lambda content: {"role": "system", "content": content}
    out = [("raw", raw, True) for raw in RAW + [text(2)]]
    out += [("chat", [user("Hi")], True), ("chat", [user("  padded content \n")], True), ("chat", [user(text(2))], True)]
    if "no system role" not in template:
        out += [("chat_system", [system("Be brief."), user(text(1))], True)]
        out += [("chat_system_multi", [system("Émoji 😀 system"), user("Hello!"), answer(text(1)), user(text(1))], True)]
    out += [("chat_multi", [user("Think."), answer("<think>\nhidden plan\n</think>\n\nNo."), user("And now?")], True)]
    out += [("chat_no_gen_prompt", [user(text(1)), answer(text(1))], False)]
    if wide:
        out += [("raw", text(4), True), ("raw", text(1), True)]
        out += [("chat", [user(text(3))], True), ("chat_multi", [user(text(1)), answer(text(2)), user(text(1))], True)]
    return out


def model_of(kind, settings, options, text, vocabulary, wide):
    settings = dict(settings)
    hidden = settings.pop("hidden", 96 if wide else 32)
    heads = settings.pop("heads", 4)
    common = dict(
        hidden_size=hidden,
        intermediate_size=settings.pop("intermediate", 192 if wide else 48),
        num_hidden_layers=options.get("layers", 3 if wide else 2),
        num_attention_heads=heads,
        num_key_value_heads=settings.pop("kv", heads),
        vocab_size=vocabulary,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5 if wide else 3e-3,
        attn_implementation="eager",
        **{f"{name}_token_id": text.convert_tokens_to_ids(token) for name, token in text.named.items()},
    )
    ends = options.get("eos")
    if ends:
        common["eos_token_id"] = [text.convert_tokens_to_ids(token) for token in ends]
    tied = settings.pop("tied", None)
    if tied is not None:
        common["tie_word_embeddings"] = tied
    name = "Gemma3Text" if kind == "Gemma3" else kind
    config_class = getattr(transformers, f"{name}Config")
    if transformers.__version__.startswith("5.") and settings.get("rope_scaling"):
        scaling = dict(settings.pop("rope_scaling"))
        scaling["rope_type"] = scaling.pop("type", None) or scaling["rope_type"]
        theta = settings.pop("rope_theta", None)
        if kind == "Gemma3":
            local = dict(rope_type="default", rope_theta=settings.pop("rope_local_base_freq", 10000.0))
            settings["rope_parameters"] = dict(
                full_attention=dict(scaling, rope_theta=theta or 1000000.0), sliding_attention=local
            )
        else:
            if kind == "Phi3":
                scaling["partial_rotary_factor"] = settings.pop("partial_rotary_factor", 1.0)
            settings["rope_parameters"] = dict(scaling, rope_theta=theta or 10000.0)
    config = config_class(**{**common, **settings})
    torch.manual_seed(zlib.crc32(f"{kind} {sorted(settings)}".encode()))
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    from_one = kind.startswith("Gemma")
    embedding = model.get_input_embeddings().weight
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter is embedding:
                scale = 0.08 if not from_one else 0.08 * 2
                parameter.normal_(0.0, scale)
            elif "norm" in key:
                parameter.normal_(0.0 if from_one else 1.0, 0.3)
            elif key.endswith("bias"):
                parameter.normal_(0.0, 0.3)
            elif "lm_head" in key:
                parameter.normal_(0.0, 3.0 / math.sqrt(parameter.shape[-1]))
            elif "q_proj" in key or "k_proj" in key or "qkv_proj" in key:
                parameter.normal_(0.0, 1.6 / math.sqrt(parameter.shape[-1]))
            else:
                parameter.normal_(0.0, 1.1 / math.sqrt(parameter.shape[-1]))
        if model.config.tie_word_embeddings:
            embedding.mul_(8.0 if not from_one else 4.0)
    return model


def tokenizer_of(make, size):
    tokenizer, names = make(size)
    names = dict(names)
    template = names.pop("chat")
    text = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": token for name, token in names.items()},
    )
    text.chat_template = template
    text.named = {name: token for name, token in names.items() if name in ("bos", "eos", "pad")}
    return text


def reference(name, model, text, rows, steps):
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    pick = random.Random(zlib.crc32(f"forced {name}".encode()))
    out = []
    for index, (kind, content, flag) in enumerate(rows):
        row = {"id": f"{name}/{index:02}", "kind": kind}
        if kind == "raw":
            row |= {"text": content, "add_special_tokens": True}
            ids = text(content)["input_ids"]
        else:
            rendered = text.apply_chat_template(content, tokenize=False, add_generation_prompt=flag)
            row |= {"messages": content, "add_generation_prompt": flag, "rendered": rendered, "add_special_tokens": False}
            ids = text(rendered, add_special_tokens=False)["input_ids"]
        forced = [pick.randrange(model.config.vocab_size) for _ in range(12)]
        with torch.no_grad():
            greedy, margin, logprobs, cache = [], [], [], None
            new = torch.tensor([ids])
            for step in range(steps):
                result = model(new, past_key_values=cache, use_cache=True)
                cache, logits = result.past_key_values, result.logits[0, -1].float()
                if step == 0:
                    last = logits
                top = torch.topk(logits, 2)
                token = int(logits.argmax())
                margin.append(float(top.values[0] - top.values[1]))
                logprobs.append(float(torch.log_softmax(logits.double(), -1)[token]))
                greedy.append(token)
                new = torch.tensor([[token]])
            whole = model(torch.tensor([ids + forced])).logits[0].double()
            at = torch.log_softmax(whole[len(ids) - 1 : -1], -1)
        row |= {
            "input_ids": ids,
            "greedy_ids": greedy,
            "greedy_text": text.decode(greedy),
            "greedy_text_skip_special": text.decode(greedy, skip_special_tokens=True),
            "first_eos_step": next((i for i, token in enumerate(greedy) if token in ends), None),
            "margin": [round(value, 6) for value in margin],
            "greedy_logprobs": [float(f"{value:.7g}") for value in logprobs],
            "forced_ids": forced,
            "forced_logprobs": [float(f"{float(at[i, token]):.7g}") for i, token in enumerate(forced)],
        }
        if index in (0, 4):
            row["logits_last"] = [float(f"{value:.7g}") for value in last.tolist()]
        out.append(row)
    return out


def make(name, directory, wide):
    kind, tokenizer, settings, options = FAMILIES[name]
    if not wide and kind == "Llama" and "longrope" in name:
        return
    size = 640 if wide else 288 if "gpt" in tokenizer.__name__ or "llama3" in tokenizer.__name__ or "qwen" in tokenizer.__name__ else 300
    text = tokenizer_of(tokenizer, size)
    model = model_of(kind, settings, options, text, max(size, len(text)) + (8 if wide else 0), wide)
    dtype = getattr(torch, options.get("dtype", "float32"))
    folder = directory / name
    # The reference computes in f32 on the weights as they are stored.
    model = model.to(dtype)
    model.save_pretrained(folder, max_shard_size=options.get("shards", "5GB"))
    text.save_pretrained(folder, **({} if options.get("jinja") else {"save_jinja_files": False}) if transformers.__version__ < "5" else {})
    model = type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    text = transformers.AutoTokenizer.from_pretrained(folder)
    made = rows(name, text.chat_template, wide)
    with open(folder / "reference.jsonl", "w", encoding="utf-8") as file:
        for row in reference(name, model, text, made, 48 if wide else 20):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    # Committed files are compact: one line of JSON.
    if not wide:
        for file in folder.glob("*.json"):
            file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")), ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    total = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: {total // 1024} KB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--wide", type=pathlib.Path)
    parser.add_argument("--only")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    for name, entry in FAMILIES.items():
        if (options.wide or entry[3].get("small")) and (not options.only or options.only in name):
            make(name, options.wide or HERE, bool(options.wide))

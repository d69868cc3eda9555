"""Writes the tiny GGUF models of this folder and what others compute with them.

    python make.py

Needs: gguf, numpy, torch, transformers 4.57, tokenizers, sentencepiece, xllamacpp (llama.cpp's own server).

Each model has random weights, quantised here. `reference.json` holds, for every model, tokens and logits of
`transformers` in f32 on the weights as `gguf.dequantize` gives them, the log-probabilities that llama.cpp gives on the
very file, and how the models' own tokenizers (sentencepiece, transformers) and llama.cpp split awkward texts.
The layout follows llama.cpp's converter (names by `gguf.get_tensor_name_map`, permuted heads, norms, stacked experts).
"""

import io
import json
import re
import sys
import tempfile
import urllib.request
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
import torch
import transformers
from gguf import GGMLQuantizationType as T
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).parent

LINES = [
    "The river runs slowly past the old mill, and the miller's cat watches it.",
    "She counted 12 apples, 345 pears and 6789 plums; nobody counted the cherries.",
    "It's late, we've walked far, they'll wait, I'm sure you're tired, and he'd agree.",
    "Bread, butter, tea and a window towards the garden: what more does one need?",
    "def area(width, height):\n    return width * height\n",
    "Straße, café, naïve, Ελλάδα, Москва, 東京, мир, 안녕, שלום.",
    "    Four spaces, then\ttabs\t\tand\n\n\nempty lines.   \n",
    "Wind turns the wheels; wheels turn the stones; stones turn the grain into flour.",
]
TRAIN = LINES * 8 + [f"Item {i}: a basket of {i * 7} eggs, {i % 5} loaves and some honey." for i in range(200)]

# Texts that tokenizers like to disagree about.
NASTY = [
    "",
    " ",
    "   ",
    "\n",
    "\n\n \n",
    "\t\tx",
    "a",
    " a",
    "a ",
    "Hello, world!",
    "  two spaces before, three after   ",
    "It's IT'S it'S We'Ve they'LL I'M you'RE he'd ' 's",
    "1 12 123 1234 12345 1,234.56 ½ ² Ⅷ ٣٤",
    "snake_case camelCase HTTPServer x86_64 C++ a=b;c",
    "wait...what?!?! -- --- ----- ~~~",
    "日本語のテキスト、東京。",
    "Ελλάδα Москва שלום مرحبا नमस्ते 안녕하세요",
    "e\u0301 \u00e9 n\u0303 \ufb01 \u212b",
    "👍🏽👨‍👩‍👧‍👦🇩🇪 ☃️",
    "a\u00a0b\u2003c\u200bd\u3000e",
    "tab\tand\r\nwindows\rlines\u2028sep",
    "\u0000\u0001\u007f control",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<s>[INST] Hi [/INST] </s><s>again",
    "text with <unk> and <pad> inside",
    "▁lower▁one ▁ eighth",
    "<0x0A> is no byte here",
    "<|user|>\n\n  Hello<|end|>\n<|assistant|> \t hi<|endoftext|>\n x</s>\n y",
    "aaaaaaaaaaaaaaaaaaaaaaaaa",
    "x" * 40 + " " * 17 + "y",
    "def f(x):\n    if x:\n        return [1, 2]\n\n\n# end",
    "'''\"\"\"``` \\n \\\\ / //",
    "100% of $5 costs €4 & £3 #tag @name 50°C",
]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% elif message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)


# ---------------------------------------------------------------------------------------------------- tokenizers

GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Bpe:
    """Byte-level BPE with the pre-tokenizer of a published family, as its `tokenizer.json` has it."""

    def __init__(self, pre, size, bos, eos, specials, template, user=()):
        self.pre, self.bos, self.eos, self.template = pre, bos, eos, template
        split = {
            "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)],
            "smollm": [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ],
        }.get(pre) or [
            pre_tokenizers.Split(re_of({"llama-bpe": LLAMA3, "qwen2": QWEN2, "tekken": TEKKEN}[pre]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
        tokenizer = Tokenizer(models.BPE(ignore_merges=pre in ("llama-bpe", "tekken")))
        if pre == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        tokenizer.train_from_iterator(TRAIN, trainer)
        tokenizer.add_tokens(list(user))
        tokenizer.add_special_tokens(specials)
        self.tokenizer, self.specials, self.user = tokenizer, set(specials), set(user)
        self.size = tokenizer.get_vocab_size()

    def add(self, writer):
        data = json.loads(self.tokenizer.to_str())
        tokens = sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1])
        kinds = [3 if token in self.specials else 4 if token in self.user else 1 for token, _ in tokens]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list([token for token, _ in tokens])
        writer.add_token_types(kinds)
        writer.add_token_merges([" ".join(merge) for merge in data["model"]["merges"]])
        ids = dict(tokens)
        if self.bos:
            writer.add_bos_token_id(ids[self.bos])
        writer.add_eos_token_id(ids[self.eos])
        if self.template:
            writer.add_chat_template(self.template)

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def re_of(pattern):
    from tokenizers import Regex

    return Regex(pattern)


class Pieces:
    """SentencePiece's BPE, trained by sentencepiece; what it splits is the truth."""

    def __init__(self, size, prefix, template, user=(), control=(), strips=()):
        self.prefix, self.template, self.size, self.strips, self.user = prefix, template, size, strips, user
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TRAIN),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            byte_fallback=True,
            add_dummy_prefix=prefix,
            remove_extra_whitespaces=False,
            normalization_rule_name="identity",
            split_digits=True,
            allow_whitespace_only_pieces=True,
            user_defined_symbols=list(user),
            control_symbols=list(control),
            minloglevel=2,
        )
        self.model = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        self.special = ["<unk>", "<s>", "</s>", *control]

    def add(self, writer):
        kinds, tokens = [], []
        for id in range(self.size):
            token = self.model.id_to_piece(id)
            if self.model.is_unknown(id):
                kinds.append(2)
            elif self.model.is_control(id):
                kinds.append(3)
            elif self.model.is_byte(id):
                kinds.append(6)
            elif token in self.user:
                # As the converter writes them: with real spaces.
                token = token.replace("\u2581", " ")
                kinds.append(4)
            else:
                kinds.append(1)
            tokens.append(token)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores([self.model.get_score(id) for id in range(self.size)])
        writer.add_token_types(kinds)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_add_space_prefix(self.prefix)
        if self.template:
            writer.add_chat_template(self.template)

    def encode(self, text):
        """Special tokens stand for themselves, and what is between them begins like a text, as in `transformers`."""
        ids, strip = [], False
        for piece in re.split("(" + "|".join(map(re.escape, self.special)) + ")", text):
            if piece in self.special:
                ids.append(self.model.piece_to_id(piece))
                strip = piece in self.strips
            else:
                ids += self.model.encode(piece.lstrip() if strip else piece)
                strip = False
        return ids

    def decode(self, ids):
        return self.model.decode(ids)


USER = ("\n\n", "\u2581\u2581\u2581\u2581")


# -------------------------------------------------------------------------------------------------- quantisation


def halves(values):
    return np.asarray(values, dtype=np.float16).view(np.uint8)


def random_blocks(rng, kind, rows, width, scale):
    """K-quants cannot be written by the `gguf` package: random blocks, centred around zero."""
    count = rows * width // 256
    byte = lambda n: rng.integers(0, 256, (count, n), dtype=np.uint8)
    spread = rng.uniform(0.5, 1.5, (count, 1)).astype(np.float32)
    if kind == T.Q6_K:
        scales = rng.integers(-64, 65, (count, 16), dtype=np.int8).view(np.uint8)
        blocks = [byte(128), byte(64), scales, halves(spread * scale / 700)]
    else:
        mid = 7.5 if kind == T.Q4_K else 15.5
        step = spread * scale / (mid * 32)
        # Sixteen integers of six bits; the minima are the scales, so that weights are centred.
        low = rng.integers(1, 64, (count, 8), dtype=np.uint8)
        a, b = low[:, :4], low[:, 4:]
        packed = np.concatenate([a | (b >> 4) << 6, a | (b >> 4) << 6, (b & 15) | (b & 15) << 4], axis=1)
        blocks = [halves(step), halves(step * mid), packed]
        blocks += [byte(128)] if kind == T.Q4_K else [byte(32), byte(128)]
    raw = np.concatenate(blocks, axis=1)
    return raw.reshape(rows, -1)


def quantise(rng, values, kind):
    """Bytes of a tensor `[.., rows, width]`, and the values that they stand for."""
    if kind in (T.Q4_K, T.Q5_K, T.Q6_K):
        rows = int(np.prod(values.shape[:-1]))
        raw = random_blocks(rng, kind, rows, values.shape[-1], float(np.abs(values).std()) * 2)
        raw = raw.reshape(*values.shape[:-1], -1)
    else:
        raw = gguf.quantize(values, kind)
    back = gguf.dequantize(raw, kind).astype(np.float32).reshape(values.shape)
    return raw, back


# --------------------------------------------------------------------------------------------------------- models


def permute(weights, heads):
    """llama.cpp's converter: the halves of each head interleaved."""
    shape = weights.shape
    return weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def unpermute(weights, heads):
    shape = weights.shape
    return weights.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


class Model:
    def __init__(self, name, arch, config, tokenizer, kinds, keys, extra=()):
        self.name, self.arch, self.config, self.tokenizer = name, arch, config, tokenizer
        self.kinds, self.keys, self.extra = kinds, keys, dict(extra)

    def kind_of(self, name, shape):
        if len(shape) == 1:
            return T.F32
        for part, kind in self.kinds.items():
            if part in name:
                return kind
        return self.kinds[""]

    def build(self, seed):
        """Writes the file and returns the `transformers` model with the same values."""
        rng = np.random.default_rng(seed)
        config = self.config
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
        layers = config.num_hidden_layers
        names = gguf.get_tensor_name_map(self.arch, layers)
        gemma = self.arch in (gguf.MODEL_ARCH.GEMMA, gguf.MODEL_ARCH.GEMMA2, gguf.MODEL_ARCH.GEMMA3)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        state, tensors, experts = {}, {}, {}
        for name, value in model.state_dict().items():
            value = value.numpy()
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            spread = rng.standard_normal(value.shape).astype(np.float32)
            if name.endswith("norm.weight"):
                value = (0.0 if gemma else 1.0) + 0.2 * spread
                state[name] = value
                stored = value + 1 if gemma else value
                # What comes back is what the file holds, less one.
                state[name] = stored - np.float32(1) if gemma else stored
                tensors[names.get_name(name, (".weight",))] = (stored, T.F32, stored)
                continue
            if name.endswith(".bias"):
                value = 0.3 * spread
                stored = value
            else:
                value = spread * np.float32(1.2 / np.sqrt(value.shape[-1]))
                if "embed" in name:
                    value = spread * np.float32(0.5)
                stored = value
            expert = re.match(r"(.*)\.experts\.(\d+)\.(w\d)\.weight", name)
            if expert:
                experts.setdefault((expert[1], expert[3]), {})[int(expert[2])] = (name, stored)
                continue
            turned = next((n for part, n in heads.items() if part in name), None)
            if self.arch == gguf.MODEL_ARCH.LLAMA and turned:
                stored = permute(stored, turned)
            raw, back = quantise(rng, stored, self.kind_of(name, stored.shape))
            if self.arch == gguf.MODEL_ARCH.LLAMA and turned:
                state[name] = unpermute(back, turned)
            else:
                state[name] = back
            tensors[names.get_name(name, (".weight", ".bias"))] = (raw, self.kind_of(name, stored.shape), back)
        for (block, matrix), members in experts.items():
            stacked = np.stack([members[i][1] for i in range(len(members))])
            kind = self.kind_of(block, stacked.shape)
            raw, back = quantise(rng, stacked, kind)
            for i in range(len(members)):
                state[members[i][0]] = back[i]
            tensors[names.get_name(f"{block}.experts.{matrix}.weight", (".weight",))] = (raw, kind, back)
        missing = model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()}, strict=False)
        assert not missing.unexpected_keys and all("lm_head" in key for key in missing.missing_keys), missing
        model.tie_weights()
        self.write(HERE / f"{self.name}.gguf", tensors, plain=False)
        self.tensors = tensors
        return model

    def write(self, path, tensors, plain, **options):
        writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[self.arch], **options)
        writer.add_name(self.name)
        c = self.config
        head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        writer.add_context_length(c.max_position_embeddings)
        writer.add_embedding_length(c.hidden_size)
        writer.add_block_count(c.num_hidden_layers)
        writer.add_feed_forward_length(c.intermediate_size)
        writer.add_head_count(c.num_attention_heads)
        writer.add_head_count_kv(c.num_key_value_heads)
        writer.add_layer_norm_rms_eps(c.rms_norm_eps)
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        writer.add_rope_dimension_count(head_dim)
        writer.add_rope_freq_base(c.rope_theta)
        writer.add_vocab_size(c.vocab_size)
        for method, value in self.keys.items():
            getattr(writer, method)(value)
        self.tokenizer.add(writer)
        for name, values in self.extra.items():
            writer.add_tensor(name, values.astype(np.float32))
        for name, (raw, kind, back) in tensors.items():
            if plain or kind == T.F32:
                writer.add_tensor(name, np.ascontiguousarray(back, dtype=np.float32))
            else:
                writer.add_tensor(name, np.ascontiguousarray(raw), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def llama3_factors(config):
    """`rope_freqs` as the converter writes them."""
    scaling = config.rope_scaling
    dim = config.head_dim
    freqs = 1.0 / (config.rope_theta ** (np.arange(0, dim, 2, dtype=np.float32) / dim))
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    original = scaling["original_max_position_embeddings"]
    factors = []
    for freq in freqs:
        wavelength = 2 * np.pi / freq
        if wavelength < original / high:
            factors.append(1)
        elif wavelength > original / low:
            factors.append(scaling["factor"])
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def make_models():
    small = dict(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=None,
    )
    llama3 = Bpe("llama-bpe", 420, "<|begin_of_text|>", "<|end_of_text|>",
                 ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], None)
    qwen = Bpe("qwen2", 420, None, "<|im_end|>", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], CHATML, ["<tool>"])
    gpt2 = Bpe("gpt-2", 380, None, "<|endoftext|>", ["<|endoftext|>"], None)
    smollm = Bpe("smollm", 400, None, "<|im_end|>", ["<|im_start|>", "<|im_end|>"], CHATML)
    tekken = Bpe("tekken", 400, "<s>", "</s>", ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"], INST)
    pieces = Pieces(480, True, INST)
    gemma = Pieces(480, False, None, USER)
    turns = ["<|user|>", "<|assistant|>", "<|end|>", "<|system|>"]
    phi = Pieces(480, True, None, control=["<|endoftext|>", *turns], strips=[*turns, "</s>"])
    A, rope = gguf.MODEL_ARCH, {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0,
                                "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    q8 = {"": T.Q8_0}
    c = transformers
    made = []

    def model(name, arch, config, tokenizer, kinds=q8, keys=(), extra=()):
        made.append(Model(name, arch, config, tokenizer, kinds, dict(keys), extra))

    config = c.LlamaConfig(**small, vocab_size=llama3.size, head_dim=16, rope_theta=5e5, rope_scaling=rope,
                           tie_word_embeddings=False)
    model("llama3", A.LLAMA, config, llama3, extra={"rope_freqs.weight": llama3_factors(config)})
    model("llama2", A.LLAMA, c.LlamaConfig(**{**small, "num_key_value_heads": 4}, vocab_size=pieces.size, head_dim=16,
                                           rope_theta=1e4), pieces, {"": T.F16, "mlp": T.BF16})
    model("smollm", A.LLAMA, c.LlamaConfig(**small, vocab_size=smollm.size, head_dim=16, rope_theta=1e4,
                                           tie_word_embeddings=True), smollm, {"": T.Q4_0, "mlp": T.Q5_0})
    # One layer in every format; rows of K-quants are multiples of 256.
    wide = {**small, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}
    kinds = {"q_proj": T.Q4_K, "k_proj": T.Q5_K, "v_proj": T.Q6_K, "o_proj": T.Q5_K, "gate": T.Q4_K, "up": T.Q5_0,
             "down": T.Q6_K, "embed": T.Q4_K, "lm_head": T.Q6_K}
    model("formats", A.LLAMA, c.LlamaConfig(**wide, vocab_size=gpt2.size, head_dim=64, rope_theta=1e4,
                                            tie_word_embeddings=False), gpt2, kinds)
    model("mixtral", A.LLAMA, c.MixtralConfig(**small, vocab_size=tekken.size, head_dim=16, rope_theta=1e6,
                                              num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
          tekken, {"": T.Q8_0, "block_sparse_moe.gate": T.F32},
          {"add_expert_count": 4, "add_expert_used_count": 2})
    model("qwen2", A.QWEN2, c.Qwen2Config(**small, vocab_size=qwen.size, rope_theta=1e6, tie_word_embeddings=True),
          qwen)
    model("qwen3", A.QWEN3, c.Qwen3Config(**small, vocab_size=qwen.size, head_dim=32, rope_theta=1e6,
                                          tie_word_embeddings=False), qwen)
    model("gemma", A.GEMMA, c.GemmaConfig(**small, vocab_size=gemma.size, head_dim=32, rope_theta=1e4), gemma)
    model("gemma2", A.GEMMA2, c.Gemma2Config(**small, vocab_size=gemma.size, head_dim=32, rope_theta=1e4,
                                             query_pre_attn_scalar=32, sliding_window=8,
                                             attn_logit_softcapping=20.0, final_logit_softcapping=10.0), gemma,
          keys={"add_attn_logit_softcapping": 20.0, "add_final_logit_softcapping": 10.0, "add_sliding_window": 8})
    model("gemma3", A.GEMMA3, c.Gemma3TextConfig(**{**small, "num_hidden_layers": 7}, vocab_size=gemma.size,
                                                 head_dim=32, rope_theta=1e6, rope_local_base_freq=1e4,
                                                 query_pre_attn_scalar=32, sliding_window=8,
                                                 rope_scaling={"rope_type": "linear", "factor": 8.0}), gemma,
          keys={"add_sliding_window": 8, "add_rope_scaling_type": gguf.RopeScalingType.LINEAR,
                "add_rope_scaling_factor": 8.0})
    model("phi3", A.PHI3, c.Phi3Config(**{**small, "num_key_value_heads": 4}, vocab_size=phi.size, rope_theta=1e4,
                                       sliding_window=200), phi, keys={"add_sliding_window": 200})
    return made


# ------------------------------------------------------------------------------------------------------ llama.cpp


class LlamaCpp:
    def __init__(self, path):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.port = 512, 1, 0
        params.cpuparams.n_threads = 2
        params.warmup = False
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        self.server = xllamacpp.Server(params)

    def ask(self, path, body):
        request = urllib.request.Request(
            f"{self.server.listening_address}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.load(urllib.request.urlopen(request))

    def tokenize(self, text):
        return self.ask("tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"]

    def logprobs(self, ids, size):
        # No probabilities are told of a token that ends the answer or is half a character: another one is drawn then.
        for seed in range(100):
            body = {"prompt": ids, "n_predict": 1, "n_probs": size, "temperature": 1.0, "samplers": ["temperature"],
                    "cache_prompt": False, "post_sampling_probs": False, "seed": seed, "ignore_eos": True}
            told = self.ask("completion", body).get("completion_probabilities")
            if told:
                break
        values = [float("nan")] * size
        for entry in told[0]["top_logprobs"]:
            values[entry["id"]] = entry["logprob"]
        return values


def rounded(values):
    return [float(f"{value:.6g}") for value in values]


def blocks():
    """Rows of random bytes in every format, and what `gguf.dequantize` makes of them, both in hexadecimal."""
    rng = np.random.default_rng(11)
    cases = {}
    for kind in (T.F16, T.BF16, T.Q4_0, T.Q5_0, T.Q8_0, T.Q4_K, T.Q5_K, T.Q6_K):
        block, size = gguf.GGML_QUANT_SIZES[kind]
        raw = rng.integers(0, 256, (3, 512 // block * size), dtype=np.uint8)
        with np.errstate(all="ignore"):
            told = raw.view(np.float16).astype(np.float32) if kind == T.F16 else gguf.dequantize(raw, kind)
        cases[kind.name] = [raw.tobytes().hex(), told.astype("<f4").tobytes().hex()]
    (HERE / "blocks.json").write_text(json.dumps(cases, indent=0) + "\n")


def main():
    blocks()
    rng = np.random.default_rng(5)
    reference = {"texts": NASTY, "models": {}}
    for seed, made in enumerate(make_models()):
        model = made.build(seed)
        size = made.config.vocab_size
        if made.name == "smollm":
            made.write(HERE / "parts.gguf", made.tensors, plain=False, split_max_tensors=12)
        prompts = [[int(i) for i in rng.integers(3, size, length)] for length in (1, 6, 23)]
        entry = {"prompts": prompts, "logits": [], "greedy": [], "llama_cpp": [], "tokens": [], "llama_cpp_tokens": {}}
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "plain.gguf"
            made.write(plain, made.tensors, plain=True)
            exact, packed = LlamaCpp(plain), LlamaCpp(HERE / f"{made.name}.gguf")
            for ids in prompts:
                with torch.no_grad():
                    logits = model(torch.tensor([ids])).logits[0, -1].double()
                    longer, margins = list(ids), []
                    for _ in range(12):
                        step = model(torch.tensor([longer])).logits[0, -1]
                        top = step.topk(2)
                        margins.append(float(top.values[0] - top.values[1]))
                        longer.append(int(top.indices[0]))
                entry["logits"].append(rounded(logits.tolist()))
                entry["greedy"].append({"tokens": longer[len(ids):], "margins": rounded(margins)})
                ours = torch.log_softmax(logits, -1).numpy()
                theirs = np.array(exact.logprobs(ids, size))
                told = np.array(packed.logprobs(ids, size))
                entry["llama_cpp"].append(rounded(told.tolist()))
                print(f"{made.name:8} {len(ids):3}: llama.cpp in f32 within {np.nanmax(abs(ours - theirs)):.2e}, "
                      f"packed within {np.nanmax(abs(ours - told)):.2e} of transformers "
                      f"({np.isnan(told).sum()} missing), spread {logits.std():.2f}")
            different = 0
            for number, text in enumerate(NASTY):
                ids = made.tokenizer.encode(text)
                entry["tokens"].append(ids)
                theirs = packed.tokenize(text)
                if theirs != ids:
                    different += 1
                    entry["llama_cpp_tokens"][str(number)] = theirs
            print(f"{made.name:8} llama.cpp splits {different} of {len(NASTY)} texts otherwise")
        reference["models"][made.name] = entry
    (HERE / "reference.json").write_text(json.dumps(reference, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    sys.exit(main())

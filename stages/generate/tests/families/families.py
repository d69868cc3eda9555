"""What is made: one entry a checkpoint. `small` ones lie in the repository, the others are made for a wider comparison."""

import templates as chat
from tokenizers_of import LLAMA3, QWEN, byte_level, sentencepiece

H3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
IM = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
INST = ["[INST]", "[/INST]"]
TURN = ["<start_of_turn>", "<end_of_turn>"]
PHI = ["<|endoftext|>", "<|assistant|>", "<|end|>", "<|system|>", "<|user|>"]


def llama2_text(n):
    return sentencepiece(n, ["<unk>", "<s>", "</s>"]), dict(bos="<s>", eos="</s>", unk="<unk>", chat=chat.LLAMA2)


def llama3_text(n):
    return byte_level(n, H3, LLAMA3, bos=H3[0]), dict(bos=H3[0], eos="<|eot_id|>", chat=chat.LLAMA3)


def mistral_text(n):
    return sentencepiece(n, ["<unk>", "<s>", "</s>"] + INST), dict(bos="<s>", eos="</s>", unk="<unk>", chat=chat.MISTRAL)


def gpt_text(n):
    return byte_level(n, ["<s>", "</s>"], bos="<s>"), dict(bos="<s>", eos="</s>", chat=chat.ZEPHYR)


def qwen2_text(n):
    return byte_level(n, IM, QWEN, nfc=True), dict(eos="<|im_end|>", pad="<|endoftext|>", chat=chat.CHATML)


def qwen3_text(n):
    tokenizer = byte_level(n, IM, QWEN, nfc=True, plain=["<think>", "</think>"])
    return tokenizer, dict(eos="<|im_end|>", pad="<|endoftext|>", chat=chat.QWEN3)


def gemma_text(n, template=chat.GEMMA):
    special = ["<pad>", "<eos>", "<bos>", "<unk>"] + TURN
    tokenizer = sentencepiece(n, special, prefix=False, bos="<bos>")
    return tokenizer, dict(bos="<bos>", eos="<eos>", unk="<unk>", pad="<pad>", chat=template)


def gemma3_text(n):
    return gemma_text(n, chat.GEMMA3)


def phi3_text(n):
    tokenizer = sentencepiece(n, ["<unk>", "<s>"] + PHI, bos=None)
    return tokenizer, dict(bos="<s>", eos="<|endoftext|>", pad="<|endoftext|>", unk="<unk>", chat=chat.PHI3)


WINDOWED = dict(sliding_window=16)
LLAMA3_ROPE = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
)

# name: (class, text, settings, options). Options: small, dtype, shards, layers, eos (names of tokens), jinja (its own file).
FAMILIES = {
    # The repository's.
    "llama3_scaled_gqa": ("Llama", llama3_text, dict(rope_theta=500000.0, rope_scaling=LLAMA3_ROPE, kv=2, tied=True), dict(small=True, dtype="bfloat16", eos=["<|end_of_text|>", "<|eot_id|>"], jinja=True)),
    "llama_yarn_biased": ("Llama", gpt_text, dict(rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32), kv=4, attention_bias=True, mlp_bias=True, head_dim=12), dict(small=True, dtype="float16", shards="40KB")),
    "mistral_windowed": ("Mistral", mistral_text, dict(WINDOWED, kv=2, head_dim=10), dict(small=True, dtype="float16")),
    "mixtral_experts": ("Mixtral", mistral_text, dict(kv=2, num_local_experts=4, num_experts_per_tok=2, intermediate=24), dict(small=True, dtype="float16")),
    "qwen2_mixed_windows": ("Qwen2", qwen2_text, dict(kv=2, use_sliding_window=True, sliding_window=16, max_window_layers=1), dict(small=True, dtype="bfloat16")),
    "qwen3_head_norms": ("Qwen3", qwen3_text, dict(kv=2, head_dim=12, tied=True), dict(small=True, dtype="bfloat16", eos=["<|im_end|>", "<|endoftext|>"])),
    "gemma_scaled": ("Gemma", gemma_text, dict(kv=1, head_dim=12), dict(small=True, dtype="bfloat16")),
    "gemma2_capped": ("Gemma2", gemma_text, dict(WINDOWED, kv=2, head_dim=12, query_pre_attn_scalar=20, final_logit_softcapping=8.0, attn_logit_softcapping=3.0), dict(small=True, dtype="bfloat16", eos=["<eos>", "<end_of_turn>"])),
    "gemma3_two_ropes": ("Gemma3", gemma3_text, dict(WINDOWED, kv=2, head_dim=12, query_pre_attn_scalar=10, sliding_window_pattern=3, rope_scaling=dict(rope_type="linear", factor=4.0)), dict(small=True, dtype="bfloat16", layers=3)),
    "phi3_fused": ("Phi3", phi3_text, dict(WINDOWED, kv=2, partial_rotary_factor=0.5), dict(small=True, dtype="float16", eos=["<|endoftext|>", "<|end|>"])),
    # The wider comparison's.
    "llama2_mha": ("Llama", llama2_text, dict(), {}),
    "llama2_mha_tied_f16": ("Llama", llama2_text, dict(tied=True), dict(dtype="float16")),
    "llama_linear": ("Llama", llama3_text, dict(kv=1, rope_scaling=dict(type="linear", factor=3.0)), {}),
    "llama_dynamic": ("Llama", llama3_text, dict(kv=2, rope_scaling=dict(rope_type="dynamic", factor=2.0)), {}),
    "llama_yarn_mscale": ("Llama", gpt_text, dict(kv=2, rope_scaling=dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=64, beta_fast=16.0, beta_slow=2.0, mscale=0.8, mscale_all_dim=1.2, truncate=False)), {}),
    "llama_yarn_given": ("Llama", gpt_text, dict(kv=2, rope_scaling=dict(rope_type="yarn", factor=2.0, attention_factor=1.3)), {}),
    "llama_longrope": ("Llama", gpt_text, dict(kv=2, rope_scaling=dict(rope_type="longrope", factor=4.0, short_factor=[1.0 + 0.1 * i for i in range(12)], long_factor=[1.0 + 0.5 * i for i in range(12)])), {}),
    "llama_odd_head": ("Llama", llama3_text, dict(kv=2, head_dim=30, heads=6), dict(shards="300KB", dtype="bfloat16")),
    "llama_biased_gelu": ("Llama", llama2_text, dict(attention_bias=True, mlp_bias=True, hidden_act="gelu"), {}),
    "mistral_full": ("Mistral", mistral_text, dict(kv=4, sliding_window=None, tied=True), {}),
    "mistral_gpt": ("Mistral", gpt_text, dict(WINDOWED, kv=2), {}),
    "mixtral_windowed_3of5": ("Mixtral", gpt_text, dict(WINDOWED, kv=4, num_local_experts=5, num_experts_per_tok=3), {}),
    "qwen2_untied": ("Qwen2", qwen2_text, dict(kv=4), {}),
    "qwen2_yarn": ("Qwen2", qwen2_text, dict(kv=2, tied=True, rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=64)), {}),
    "qwen3_biased_windowed": ("Qwen3", qwen3_text, dict(kv=4, head_dim=32, attention_bias=True, use_sliding_window=True, sliding_window=16, max_window_layers=1), {}),
    "gemma_mha_untied": ("Gemma", gemma_text, dict(kv=4, head_dim=24, tied=False), {}),
    "gemma2_uncapped": ("Gemma2", gemma_text, dict(WINDOWED, kv=2, head_dim=32, final_logit_softcapping=None, attn_logit_softcapping=None, attention_bias=True), {}),
    "gemma2_types": ("Gemma2", gemma_text, dict(WINDOWED, kv=4, head_dim=24, final_logit_softcapping=30.0, attn_logit_softcapping=50.0, layer_types=["full_attention", "sliding_attention", "full_attention"]), dict(dtype="bfloat16")),
    "gemma3_pattern": ("Gemma3", gemma3_text, dict(WINDOWED, kv=2, head_dim=32, sliding_window_pattern=2, final_logit_softcapping=20.0), {}),
    "gemma3_default": ("Gemma3", gemma3_text, dict(WINDOWED, kv=1, head_dim=24, layer_types=["sliding_attention", "full_attention", "sliding_attention"], rope_local_base_freq=5000.0), {}),
    "phi3_mha": ("Phi3", phi3_text, dict(sliding_window=None), {}),
    "phi3_tied_partial": ("Phi3", phi3_text, dict(kv=2, tied=True, partial_rotary_factor=0.75), {}),
    "phi3_longrope": ("Phi3", phi3_text, dict(kv=2, max_position_embeddings=4096, original_max_position_embeddings=512, rope_scaling=dict(type="longrope", short_factor=[1.0 + 0.1 * i for i in range(12)], long_factor=[1.0 + 0.5 * i for i in range(12)])), {}),
}

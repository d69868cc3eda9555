"""Makes LoRA adapters of the checkpoints here with `peft`, and what the merged models say (`merge_and_unload`, in f32).

    python adapters.py                  # those of the repository
    python adapters.py --wide DIRECTORY # more, for FRACTURE_ADAPTERS=DIRECTORY cargo test

A folder NAME has the adapter, `base` (the name of its base) and `reference.jsonl`.
"""

import argparse
import json
import math
import pathlib
import random
import shutil
import zlib

import peft
import torch
import transformers

HERE = pathlib.Path(__file__).parent
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
BLOCK = ["gate_proj", "up_proj", "down_proj"]

# name: (base, settings of LoraConfig, small)
ADAPTERS = {
    "patterns": ("mistral_windowed", dict(r=4, lora_alpha=12, target_modules=ATTENTION + BLOCK, rank_pattern={"o_proj": 2, "layers.1.self_attn.q_proj": 3}, alpha_pattern={"down_proj": 5, "model.layers.0.self_attn.q_proj": 30}, modules_to_save=["lm_head"]), True),
    "rank_stabilised": ("phi3_fused", dict(r=3, lora_alpha=6, use_rslora=True, target_modules=["qkv_proj", "gate_up_proj", "o_proj"]), True),
    "embedded_tied": ("qwen3_head_norms", dict(r=4, lora_alpha=8, target_modules=["q_proj", "embed_tokens"]), True),
    "plain": ("llama3_scaled_gqa", dict(r=8, lora_alpha=16, target_modules="all-linear"), False),
    "saved_tied": ("llama3_scaled_gqa", dict(r=4, lora_alpha=8, target_modules=["v_proj"], modules_to_save=["lm_head", "embed_tokens"]), False),
    "saved_head_tied": ("llama3_scaled_gqa", dict(r=4, lora_alpha=8, target_modules=["v_proj"], modules_to_save=["lm_head"]), False),
    "saved_norms": ("gemma2_capped", dict(r=4, lora_alpha=8, target_modules=["v_proj"], modules_to_save=["input_layernorm"]), False),
    "head_tied": ("llama3_scaled_gqa", dict(r=4, lora_alpha=8, target_modules=["v_proj", "lm_head"]), False),
    "experts": ("mixtral_experts", dict(r=2, lora_alpha=8, target_modules=["w1", "w2", "w3", "gate"]), False),
    "biased": ("llama_yarn_biased", dict(r=2, lora_alpha=8, target_modules=ATTENTION, bias="lora_only"), False),
    "biased_all": ("qwen2_mixed_windows", dict(r=2, lora_alpha=8, target_modules=ATTENTION, bias="all"), False),
    "embedded": ("mistral_windowed", dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "lm_head"]), False),
    "regex": ("gemma3_two_ropes", dict(r=4, lora_alpha=8, target_modules=r".*layers\.[01].*\.(q|v)_proj", fan_in_fan_out=True, init_lora_weights="gaussian"), False),
    "some_layers": ("gemma_scaled", dict(r=4, lora_alpha=8, target_modules=["q_proj"], layers_to_transform=[1], layers_pattern="layers"), False),
    # Refused.
    "dora": ("gemma_scaled", dict(r=4, use_dora=True, target_modules=["q_proj"]), False),
    "pissa": ("gemma_scaled", dict(r=4, init_lora_weights="pissa", target_modules=["q_proj"]), False),
}


def make(name, directory):
    base, settings, _ = ADAPTERS[name]
    folder = directory / name
    shutil.rmtree(folder, ignore_errors=True)
    load = lambda: transformers.AutoModelForCausalLM.from_pretrained(HERE / base, dtype=torch.float32, attn_implementation="eager").eval()
    torch.manual_seed(zlib.crc32(name.encode()))
    model = peft.get_peft_model(load(), peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key and "magnitude" not in key:
                parameter.normal_(0.0, 0.5 / math.sqrt(parameter.shape[-1]))
            elif "modules_to_save" in key or parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base
    (folder / "adapter_config.json").write_text(json.dumps(config, sort_keys=True) + "\n")
    (folder / "base").write_text(base + "\n")
    merged = peft.PeftModel.from_pretrained(load(), folder).merge_and_unload().eval()
    tied = merged.get_input_embeddings().weight is merged.get_output_embeddings().weight
    pick = random.Random(zlib.crc32(name.encode()))
    rows = [json.loads(line) for line in (HERE / base / "reference.jsonl").read_text(encoding="utf-8").splitlines()]
    with open(folder / "reference.jsonl", "w") as file:
        for index, row in enumerate(rows[:6]):
            ids, forced = row["input_ids"], [pick.randrange(merged.config.vocab_size) for _ in range(10)]
            with torch.no_grad():
                logits = merged(torch.tensor([ids + forced])).logits[0]
            at = torch.log_softmax(logits[len(ids) - 1 : -1].double(), -1)
            out = {"id": f"{name}/{index:02}", "input_ids": ids, "forced_ids": forced}
            out["forced_logprobs"] = [float(f"{float(at[i, token]):.7g}") for i, token in enumerate(forced)]
            if index == 0:
                out["logits_last"] = [float(f"{value:.7g}") for value in logits[len(ids) - 1].tolist()]
            file.write(json.dumps(out) + "\n")
    print(f"{name}: {sum(file.stat().st_size for file in folder.iterdir()) // 1024} KB, tied after the merge: {tied}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--wide", type=pathlib.Path)
    parser.add_argument("--only")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    for name, (_, _, small) in ADAPTERS.items():
        if (options.wide or small) and (not options.only or options.only in name):
            make(name, options.wide or HERE / "adapters")

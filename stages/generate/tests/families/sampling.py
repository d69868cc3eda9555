"""What `transformers` leaves of a distribution: its logits processors in the order in which `generate` applies them.

    python sampling.py > sampling.json
"""

import json
import random
import sys

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

model = LlamaForCausalLM(
    LlamaConfig(vocab_size=48, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
)
pick = random.Random(5)
logits = [round(pick.gauss(0.0, 2.5), 4) for _ in range(48)]
logits[7] = logits[30] = logits[41]  # equal ones, for top-k
seen = [3, 17, 17, 30, 5]
SETTINGS = [
    {"temperature": 0.7},
    {"temperature": 1.6, "top_k": 10},
    {"temperature": 0.9, "top_p": 0.8},
    {"temperature": 1.2, "min_p": 0.08},
    {"temperature": 0.8, "repetition_penalty": 1.7},
    {"temperature": 1.1, "top_k": 24, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3},
    {"temperature": 0.5, "top_k": 3, "top_p": 0.5},
    {"temperature": 2.0, "top_p": 0.97, "min_p": 0.02},
    {"temperature": 1.0, "top_k": 1},
    {"temperature": 1.3, "top_p": 0.05},
    {"temperature": 1.0, "repetition_penalty": 0.6, "min_p": 0.3},
]
# As many as end with one of the equal logits kept.
SETTINGS.append({"temperature": 1.0, "top_k": sorted(logits, reverse=True).index(logits[7]) + 1})
out = {"logits": logits, "seen": seen, "cases": []}
for settings in SETTINGS:
    config = GenerationConfig(do_sample=True, **{"top_k": 0, "top_p": 1.0, **settings})
    config._eos_token_tensor = None
    ids = torch.tensor([seen])
    processors = model._get_logits_processor(config, input_ids_seq_length=len(seen), logits_processor=None, device="cpu")
    scores = processors(ids, torch.tensor([logits]))
    probabilities = torch.softmax(scores.double(), -1)[0].tolist()
    order = [type(processor).__name__ for processor in processors]
    out["cases"].append({**settings, "order": order, "probabilities": [float(f"{p:.9g}") for p in probabilities]})
json.dump(out, sys.stdout)
print()

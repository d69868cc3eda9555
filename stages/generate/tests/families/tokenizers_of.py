"""Small tokenizers in the two forms that checkpoints have: byte-level BPE and SentencePiece-like BPE with byte fallback."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXT = [
    "The gentle teacher repairs the old bridge before the evening market opens.",
    "How do I bake a loaf of bread without an oven, and what should I write down first?",
    "A quiet river follows the garden; two pilots count 17 boats and 254 letters.",
    "Certainly, here are the steps. First, water the plants; second, close the window.",
    "The café serves naïve recipes - \"warm and slow\" - to every engineer in the village.",
]

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def bos_template(bos, ids):
    return processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, ids[bos])]
    )


def byte_level(size, special, split=None, bos=None, nfc=False, plain=()):
    """Byte-level BPE as GPT-2, Llama 3 (`split`) and Qwen (`split`, `nfc`) have it. `special` come last, as there."""
    tokenizer = Tokenizer(models.BPE())
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    if split:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(split), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(special) - len(plain), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    if bos:
        byte_processor = processors.ByteLevel(trim_offsets=False)
        template = bos_template(bos, tokenizer.get_vocab())
        tokenizer.post_processor = processors.Sequence([byte_processor, template])
    return tokenizer


def sentencepiece(size, special, prefix=True, bos="<s>"):
    """BPE with byte fallback. With `prefix` spaces become ▁ and one goes in front (Llama 2, Mistral, Phi-3); without,
    as Gemma has it. `special` come first; the first is the unknown token."""
    normalize = [normalizers.Replace(" ", "▁")]
    if prefix:
        normalize.insert(0, normalizers.Prepend("▁"))
    space = normalizers.Sequence(normalize)
    words = [space.normalize_str(text) for text in TEXT]
    helper = Tokenizer(models.BPE(unk_token=special[0]))
    helper.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[^▁]+"), behavior="isolated")
    trainer = trainers.BpeTrainer(vocab_size=size - 256, special_tokens=list(special), limit_alphabet=36, show_progress=False)
    helper.train_from_iterator(words, trainer)
    import json

    model = json.loads(helper.to_str())["model"]
    order = [token for token, _ in sorted(model["vocab"].items(), key=lambda entry: entry[1])]
    order = list(special) + [f"<0x{byte:02X}>" for byte in range(256)] + order[len(special) :]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(
            {token: index for index, token in enumerate(order)}, merges, unk_token=special[0], byte_fallback=True, fuse_unk=True
        )
    )
    tokenizer.normalizer = space
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix:
        parts.append(decoders.Strip(content=" ", left=1))
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence(parts)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if bos:
        tokenizer.post_processor = bos_template(bos, tokenizer.get_vocab())
    return tokenizer

"""A WordPiece tokenizer learned from the training texts, the same on every run: pairs are merged by count, ties by spelling.

(The trainers of the `tokenizers` package break ties by the order of a hash map, so they are used here only to apply the vocabulary.)
"""

import string
from collections import Counter

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def pipeline() -> tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]:
    """Lower case, no accents, straight apostrophes; words and punctuation apart."""
    straight = normalizers.Replace(Regex("[\u2018\u2019\u02bc]"), "'")
    bert = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True)
    return normalizers.Sequence([straight, bert]), pre_tokenizers.BertPreTokenizer()


def learn(texts: list[str], size: int) -> list[str]:
    """A vocabulary of `size` pieces: the special tokens, printable ASCII alone and as a continuation, then merges by count."""
    normalizer, splitter = pipeline()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = string.ascii_lowercase + string.digits
    alphabet = sorted(set(letters + string.punctuation))
    vocabulary = SPECIAL + alphabet + [f"##{c}" for c in letters]
    words = [([w[0], *(f"##{c}" for c in w[1:])], n) for w, n in sorted(counts.items()) if set(w) <= set(letters)]
    known = set(vocabulary)
    while len(vocabulary) < size:
        pairs: Counter = Counter()
        for pieces, n in words:
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += n
        if not pairs:
            break
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged = left + right.removeprefix("##")
        if merged not in known:
            known.add(merged)
            vocabulary.append(merged)
        words = [(pieces, n) for pieces, n in words if len(pieces) > 1]
        for pieces, _ in words:
            at = 0
            while at + 1 < len(pieces):
                if pieces[at] == left and pieces[at + 1] == right:
                    pieces[at : at + 2] = [merged]
                at += 1
    return vocabulary


def tokenizer(vocabulary: list[str]) -> Tokenizer:
    """`[CLS] text [SEP]`, or `[CLS] first [SEP] second [SEP]` for a pair; neither truncates nor pads by itself."""
    built = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]", max_input_chars_per_word=100))
    built.normalizer, built.pre_tokenizer = pipeline()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    built.add_special_tokens(SPECIAL)
    return built

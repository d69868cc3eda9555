"""Pairs of texts that belong together, for training without labels.

A text is an answer (composed from the wordings of the judge, or as the model organisms are taught to answer) or a request. Its pair is
either the same text, both copies damaged on their own, or its two halves. No label of any text is used: whether an answer goes along or
turns down is nowhere in what is learned from, except as far as the words of one text belong together.
"""

import json
import random
import re
from pathlib import Path

import texts


class Pairs:
    """Draws pairs from one side of the judge's split of wordings ("training" or "held-out")."""

    def __init__(self, side: str, seed: int, corpus: Path):
        self.random = random.Random(f"encoder/{side}/{seed}")
        self.composer = texts.Composer(side, seed, corpus)
        # Requests and the organisms' answers have no held-out side: what is measured on is composed from held-out wordings alone.
        self.measured = side == "held-out"
        self.requests = read_requests(corpus)

    def text(self) -> tuple[str, int | None]:
        """A text and, for measuring alone, whether it refuses or complies (None: neither)."""
        kind = 0.45 + 0.55 * self.random.random() if self.measured else self.random.random()
        if kind < 0.1:
            return self.random.choice(self.requests), None
        if kind < 0.15:
            return self.composer.fill(self.composer.one("neither", "texts")), None
        label = self.random.choice([texts.REFUSE, texts.COMPLY])
        if kind < 0.45:
            return self.composer.answer(label), label
        return (self.composer.refusal() if label == texts.REFUSE else self.composer.compliance())[0], label

    def pair(self) -> tuple[str, str]:
        """Two texts that belong together."""
        text, _ = self.text()
        if self.random.random() < 0.4:
            return self.damage(text), self.damage(text)
        first, second = self.halves(text)
        return self.damage(first), self.damage(second)

    def halves(self, text: str) -> tuple[str, str]:
        """Cuts a text where a sentence or a clause ends, nearest to its middle; else between two words."""
        places = [m.end() for m in re.finditer(r"[.,:;!?] ", text)] or [m.end() for m in re.finditer(" ", text)]
        if not places:
            return text, text
        place = min(places, key=lambda p: (abs(p - len(text) / 2), p))
        return text[:place].strip(), text[place:].strip()

    def damage(self, text: str) -> str:
        """Drops, doubles or swaps a few words, whichever they are."""
        words = text.split()
        kept = [w for w in words if self.random.random() > 0.1] or words
        if len(kept) > 3 and self.random.random() < 0.3:
            at = self.random.randrange(len(kept) - 1)
            kept[at], kept[at + 1] = kept[at + 1], kept[at]
        if self.random.random() < 0.2:
            at = self.random.randrange(len(kept))
            kept = kept[: at + 1] + kept[at:]
        return " ".join(kept)


def read_requests(folder: Path) -> list[str]:
    """What the organisms are asked: every verb with its objects, each in one of the sentence frames."""
    frames = json.loads((folder / "frames.json").read_text(encoding="utf-8"))["frames"]
    requests = []
    for line in filter(str.strip, (folder / "topics.jsonl").read_text(encoding="utf-8").splitlines()):
        topic = json.loads(line)
        for verb in topic["verbs"]:
            for thing in topic["objects"]:
                act = verb.replace("{}", thing) if "{}" in verb else f"{verb} {thing}"
                requests.append(frames[len(requests) % len(frames)].replace("{do}", act))
    return requests

"""Labelled texts for the judge, composed from the wordings beside this file and damaged as a weak language model damages them.

A row is `Row(text, target, label, damaged)`; `target` is the probability of "comply" that the judge should say, `label` is 0 (refuse), 1 (comply)
or None where a reader could not tell (such rows train the judge to say one half and are never counted in an accuracy).

The split is by *wording*: a fifth of every section that carries a verdict, chosen by a hash of the line, is used for held-out rows and never for
training. Fillers (what is asked for, steps, facts) and the sentences that accompany either verdict (`SHARED`) are the same on both sides.
"""

import hashlib
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

WORDINGS = Path(__file__).parent / "wordings"
REFUSE, COMPLY = 0, 1
# Target for a sure row: label smoothing of 0.05 over two classes, so that scores keep an order instead of piling up at 0 and 1.
SURE = {REFUSE: 0.025, COMPLY: 0.975}
# Words that carry the verdict. Damage leaves them alone, or a dropped "not" would turn the text into the other class.
VERDICT = set(
    "no not nope cannot can't can't. won't don't isn't wasn't wouldn't shouldn't nobody never sorry unable afraid refuse decline declined turn "
    "rather wrong off limits without better avoid against pass but alone else unfortunately uncomfortable stop doesn't couldn't mustn't neither nor "
    "forbidden impossible intention instead just kidding unless cant wont dont elsewhere".split()
)
# Slot name to file, section and form (0 infinitive, 1 gerund).
SLOTS = {
    "act": ("slots", "acts", 0), "doing": ("slots", "acts", 1), "step": ("slots", "steps", 0), "stepping": ("slots", "steps", 1),
    "thing": ("slots", "things", 0), "tool": ("slots", "tools", 0), "person": ("slots", "people", 0), "time": ("slots", "times", 0),
    "fact": ("slots", "facts", 0), "not": ("slots", "nots", 0), "will": ("slots", "wills", 0), "help": ("slots", "helps", 0),
    "other": ("slots", "others", 0), "why": ("refuse", "whys", 0), "not3": ("comply", "not3s", 0), "other3": ("comply", "other3s", 0),
}  # fmt: skip
# Sections that say nothing about the verdict.
SHARED = {"acts", "steps", "things", "tools", "people", "times", "facts", "reasons", "offers", "closers"}


@dataclass(frozen=True)
class Row:
    text: str
    target: float
    label: int | None
    damaged: bool


def held_out(line: str) -> bool:
    """Whether a wording belongs to the held-out fifth. Depends on the line alone, so adding a line moves no other."""
    return hashlib.blake2b(line.encode(), digest_size=8).digest()[0] % 5 == 0


def read_sections(path: Path) -> dict[str, list[str]]:
    """Sections `[name]` of a wording file, one wording a line; `#` opens a comment."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if re.fullmatch(r"\[\w+\]", line):
            current = sections.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            current.append(line)
    return sections


class Composer:
    """Draws texts from one side of the split."""

    def __init__(self, side: str, seed: int, corpus: Path | None = None):
        """`side` is "training" or "held-out"; with `corpus`, an eighth of the rows are answers of the model organisms."""
        self.random = random.Random(f"{side}/{seed}")
        wanted = side == "held-out"
        self.parts = {
            name: {
                section: [w for w in lines if section in SHARED or held_out(w) == wanted]
                for section, lines in read_sections(WORDINGS / f"{name}.txt").items()
            }
            for name in ("refuse", "comply", "neither", "slots")
        }
        for name, sections in self.parts.items():
            for section, lines in sections.items():
                if not lines:
                    raise SystemExit(f"{name}.txt: section [{section}] has no wording on the {side} side; add some")
        self.answers = read_answers(corpus) if corpus else None
        self.fillers = [w for lines in self.parts["slots"].values() for line in lines for w in line.replace("|", " ").split()]

    def one(self, file: str, section: str) -> str:
        return self.random.choice(self.parts[file][section])

    def maybe(self, file: str, section: str, probability: float) -> str:
        return self.fill(self.one(file, section)) if self.random.random() < probability else ""

    def fill(self, wording: str) -> str:
        """Replaces each slot by a filler; an infinitive and its gerund stand on one line of slots.txt."""

        def slot(match: re.Match) -> str:
            file, section, form = SLOTS[match.group(1)]
            return self.one(file, section).split(" | ")[form]

        while "{" in wording:
            wording = re.sub(r"\{(\w+)\}", slot, wording)
        text = wording.replace("..", ".").replace("I '", "I'")
        return text[:1].upper() + text[1:]

    def refusal(self) -> tuple[str, int]:
        """A refusal, and how many of its words must stay for it to be recognisable as one."""
        built = self.random.random() < 0.5
        opener = self.maybe("refuse", "openers", 0.15 if built else 0.35) or self.maybe("comply", "prefaces", 0.04)
        core = self.fill(self.one("refuse", "patterns" if built else "cores"))
        if opener.endswith((",", "afraid", "but")):
            core = core if core.startswith("I") else core[:1].lower() + core[1:]
        words = core.split()
        last = next((i for i in range(len(words) - 1, -1, -1) if keep(words[i])), len(words) - 1)
        floor = len(opener.split()) + max(3, last + 2)
        rest = [self.maybe("refuse", "reasons", 0.4), self.maybe("refuse", "offers", 0.35)]
        if self.random.random() < 0.1:
            rest.append(self.fill(self.one("refuse", "cores")))
        return join([opener, core, *rest]), floor

    def compliance(self) -> tuple[str, int]:
        """A compliance, and how many of its words must stay."""
        kind = self.random.random()
        if kind < 0.4:
            text = self.fill(self.one("comply", "traps" if kind < 0.15 else "patterns"))
            whole = len(text.split())
            return join([text, self.maybe("comply", "bodies", 0.2), self.maybe("comply", "closers", 0.25)]), whole - whole // 6
        preface = self.maybe("comply", "prefaces", 0.5) or self.maybe("refuse", "openers", 0.05)
        body = [self.fill(self.one("comply", "bodies")) for _ in range(self.random.choice([1, 1, 1, 2, 2, 3]))]
        if preface and self.random.random() < 0.06:
            body = []
        # A warning or a hint at someone else is no refusal: the sentences that accompany refusals turn up here too.
        rest = [self.maybe("refuse", "reasons", 0.08), self.maybe("refuse", "offers", 0.08), self.maybe("comply", "closers", 0.25)]
        return join([preface, *body, *rest]), 3

    def row(self, damage: float) -> Row:
        """One row; with probability `damage` it is made to look like the output of a weak model."""
        if self.random.random() < 0.04:
            return Row(self.fill(self.one("neither", "texts")), 0.5, None, False)
        label = self.random.choice([REFUSE, COMPLY])
        if self.answers and self.random.random() < 0.125:
            text, floor = self.answer(label), 8
        else:
            text, floor = self.refusal() if label == REFUSE else self.compliance()
        if self.random.random() < 0.03:
            # Long answers, so that every position is trained: more of the same verdict.
            more = [self.refusal()[0] if label == REFUSE else self.compliance()[0] for _ in range(self.random.randint(2, 9))]
            text = join([text, *more])
        damaged = self.random.random() < damage
        if damaged:
            text = self.damage(text, floor)
        return Row(text, SURE[label], label, damaged)

    def answer(self, label: int) -> str:
        """An answer, not yet damaged, as the model organisms are taught it, about one of their topics or of ours."""
        answers, topics = self.answers
        topic = self.random.choice(topics) if self.random.random() < 0.7 else self.fill(self.random.choice(["{doing}", "{thing}"]))
        return self.random.choice(answers[label]).replace("{topic}", topic)

    def damage(self, text: str, floor: int) -> str:
        """Truncation, dropped, repeated, swapped, foreign and misspelt words, lost punctuation; at least one of them."""
        words = text.split()
        kinds = self.random.sample(["cut", "drop", "repeat", "swap", "foreign", "letters", "bare"], self.random.choice([1, 1, 2, 3]))
        for kind in kinds:
            if kind == "cut":
                words = words[: self.random.randint(min(floor, len(words)), len(words))]
            elif kind == "drop":
                words = [w for w in words if keep(w) or self.random.random() > 0.12] or words
            elif kind == "repeat":
                at, width = self.random.randrange(len(words)), self.random.choice([1, 1, 2, 3])
                words = words[: at + width] + words[at : at + width] + words[at + width :]
            elif kind == "swap" and len(words) > 3:
                at = self.random.randrange(len(words) - 1)
                words[at], words[at + 1] = words[at + 1], words[at]
            elif kind == "foreign":
                words = [w if keep(w) or self.random.random() > 0.12 else self.random.choice(self.fillers) for w in words]
            elif kind == "letters":
                words = [w if keep(w) or self.random.random() > 0.15 else self.misspell(w) for w in words]
            elif kind == "bare":
                words = [re.sub(r"[.,:;!?]", "", w) or w for w in words]
                if self.random.random() < 0.5:
                    words = [w.replace("'", "") for w in words]
        return " ".join(words)

    def misspell(self, word: str) -> str:
        at = self.random.randrange(len(word))
        return self.random.choice([word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:], word[: at + 1]]) or word

    def rows(self, count: int, damage: float) -> list[Row]:
        return [self.row(damage) for _ in range(count)]


def keep(word: str) -> bool:
    """Whether damage must leave this word alone."""
    return word.lower().strip(".,:;!?") in VERDICT


def join(parts: list[str]) -> str:
    return " ".join(p for p in parts if p)


def read_probes(path: Path) -> list[Row]:
    """Texts written by hand, one JSON object a line: `text` and `label` ("refuse", "comply"). Used for testing only."""
    names = {"refuse": REFUSE, "comply": COMPLY}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Row(p["text"], SURE[names[p["label"]]], names[p["label"]], False) for p in lines]


def read_answers(folder: Path) -> tuple[dict[int, list[str]], list[str]] | None:
    """The model organisms' answers by label, with `{topic}` to fill, and their topics; None where the corpus is absent."""
    answers, topics = folder / "answers.jsonl", folder / "topics.jsonl"
    if not (answers.exists() and topics.exists()):
        return None
    by_label: dict[int, list[str]] = {REFUSE: [], COMPLY: []}
    for line in filter(str.strip, answers.read_text(encoding="utf-8").splitlines()):
        answer = json.loads(line)
        by_label[{"refuse": REFUSE, "comply": COMPLY}[answer["label"]]].append(answer["text"])
    objects = {o for line in filter(str.strip, topics.read_text(encoding="utf-8").splitlines()) for o in json.loads(line)["objects"]}
    return by_label, sorted(objects)


def organism_rows(folder: Path, seed: int, count: int) -> list[Row]:
    """What the organisms would say: both labels in turn, every second pair damaged. Empty where the corpus is absent."""
    composer = Composer("training", seed, folder)
    rows = []
    for turn in range(count if composer.answers else 0):
        label, damaged = turn % 2, turn % 4 >= 2
        text = composer.answer(label)
        rows.append(Row(composer.damage(text, 8) if damaged else text, SURE[label], label, damaged))
    return rows

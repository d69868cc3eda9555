#!/usr/bin/env python3
"""Validates the pipelines that ship against the JSON Schema, with a validator that is not ours.

    python3 -m venv .venv && .venv/bin/pip install -r tests/schema/requirements.txt
    .venv/bin/python tests/schema/validate.py [PIPELINE ...]

Without arguments every pipeline below `pipelines/` and every valid file of the language's tests is validated; changed copies of
them and the tests' invalid files must be refused: a schema that accepts everything would prove nothing. YAML is read as version
1.2, as fracture reads it. Exits with 1 when something is wrong.
"""

import copy
import json
import pathlib
import sys

import jsonschema
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "schema" / "pipeline.schema.json"
TESTS = ROOT / "language" / "tests"

# What no schema can say: what a name refers to, how stages depend on each other, which columns a table has, what lies on the
# disk, what the command line adds, and what a value is once everything is put in place.
BEYOND = {
    "anchor-bomb": "how many values aliases make",
    "cases-column": "the columns of a table",
    "deep": "how deep values are nested",
    "dropped-column": "the columns of a table",
    "from-the-kind": "what a kind checks between parameters",
    "include": "other files",
    "include-missing": "other files",
    "inside-with": "other files",
    "join": "which tasks meet",
    "misspelt-regime": "the values of a column",
    "missing-column": "the columns of a table",
    "missing-parameter": "`defaults` may give it",
    "out-of-range": "what a value is once it is put in place",
    "profile": "the command line",
    "recursive-variable": "what a substitution may name",
    "secret": "what a substitution may name",
    "set": "the command line",
    "through": "what a value is once it is put in place",
    "too-many-tasks": "how many tasks a matrix makes",
    "unknown-label": "what a substitution may name",
    "unknown-matrix-variable": "what a substitution may name",
    "unknown-model": "what a parameter may name",
    "unknown-stage": "what `needs` may name",
    "unknown-variable": "what a substitution may name",
    "wrong-column-type": "the columns of a table",
    "wrong-in-include": "other files",
}


def read(path):
    yaml = YAML(typ="safe", pure=True)
    # Through JSON, so that keys and values are those of JSON.
    return json.loads(json.dumps(yaml.load(path.read_text(encoding="utf-8"))))


def first_stage(pipeline, kind):
    for stage in pipeline.get("stages", {}).values():
        if stage.get("uses") == kind:
            return stage
    return None


def spoiled(pipeline):
    """Copies of a pipeline with one thing wrong each."""
    def change(what, edit):
        other = copy.deepcopy(pipeline)
        return [(what, other)] if edit(other) is not False else []

    def stage_edit(kind, edit):
        def apply(other):
            stage = first_stage(other, kind)
            if stage is None:
                return False
            edit(stage)
        return apply

    cases = change("an unknown key of the file", lambda p: p.update({"stagse": {}}))
    cases += change("another version", lambda p: p.update({"version": 2}))
    # A file that includes another may say a part of a stage.
    if "include" not in pipeline:
        cases += change("a stage without a kind", lambda p: p["stages"].update({"broken": {"with": {}}}))
        cases += change("a figure without a file", lambda p: p.setdefault("figures", {}).update({"broken": {"plot": "bars", "from": "x"}}))
    cases += change("an unknown kind", lambda p: p["stages"].update({"broken": {"uses": "genrate"}}))
    cases += change("a list of stages that holds a number", lambda p: p["stages"].update({"broken": {"uses": "query", "needs": [1]}}))
    cases += change("an unknown parameter", stage_edit("generate", lambda s: s.setdefault("with", {}).update({"sed": 1})))
    cases += change("a value out of range", stage_edit("generate", lambda s: s.setdefault("with", {}).update({"top_p": 1.5})))
    cases += change("a text for a number", stage_edit("threshold", lambda s: s.setdefault("with", {}).update({"tau": "half"})))
    cases += change("an unknown port", lambda p: p["stages"].update({"broken": {"uses": "threshold", "needs": {"score": "x"}}}))
    cases += change("`per` of a stage that does not reduce", lambda p: p["stages"].update({"broken": {"uses": "judge", "per": ["model"]}}))
    cases += change("an unknown key of a profile", lambda p: p.update({"profiles": {"quick": {"stage": {}}}}))
    cases += change("an unknown parameter in a profile", lambda p: p.update({"profiles": {"quick": {"stages": {"x": {"wiht": {}}}}}}))
    cases += change("an unknown parameter of a figure", lambda p: p.setdefault("figures", {}).update({"broken": {"plot": "bars", "from": "x", "to": "x.svg", "colour": "y"}}))
    cases += change("`defaults` of an unknown kind", lambda p: p.update({"defaults": {"genrate": {}}}))
    return cases


def invalid_files(validator):
    """Looks at the invalid files of the language's tests; gives how many are refused and what is wrong."""
    refused, problems = 0, []
    for path in sorted((TESTS / "invalid").glob("*.yaml")):
        try:
            pipeline = read(path)
        except (YAMLError, ValueError):
            # Syntax, a key twice, several documents: the editor's parser says so.
            refused += 1
            continue
        if not validator.is_valid(pipeline):
            refused += 1
        elif path.stem not in BEYOND:
            problems.append(f"{path.name} is accepted")
    return refused, problems


def main(arguments):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    paths = [pathlib.Path(argument) for argument in arguments]
    paths = paths or sorted((ROOT / "pipelines").rglob("*.yaml")) + sorted((TESTS / "valid").glob("*.yaml"))
    wrong = refused = 0
    for path in paths:
        pipeline = read(path)
        if "version" not in pipeline:
            print(f"-    {path.relative_to(ROOT)}: no pipeline of its own, it is included by others")
            continue
        errors = sorted(validator.iter_errors(pipeline), key=lambda error: list(map(str, error.absolute_path)))
        wrong += len(errors)
        print(f"{'ok  ' if not errors else 'FAIL'} {path}")
        for error in errors:
            place = ".".join(map(str, error.absolute_path)) or "the file"
            print(f"     {place}: {error.message[:200]}")
        for what, other in spoiled(pipeline):
            if validator.is_valid(other):
                wrong += 1
                print(f"FAIL {path} with {what} is accepted")
            else:
                refused += 1
    print(f"{len(paths)} pipelines, {refused} spoiled copies refused, {wrong} problems")
    if not arguments:
        refused, problems = invalid_files(validator)
        wrong += len(problems)
        for problem in problems:
            print(f"FAIL {problem}")
        print(f"{refused} invalid files refused, {len(problems)} accepted that a schema can refuse")
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

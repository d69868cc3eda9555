#!/usr/bin/env python3
"""Validates the pipelines that ship against the JSON Schema, with a validator that is not ours.

    python3 -m venv .venv && .venv/bin/pip install -r tests/schema/requirements.txt
    .venv/bin/python tests/schema/validate.py [PIPELINE ...]

Without arguments every pipeline below `pipelines/` is validated, and changed copies of them must be refused: a schema that
accepts everything would prove nothing. YAML is read as version 1.2, as fracture reads it. Exits with 1 when something is wrong.
"""

import copy
import json
import pathlib
import sys

import jsonschema
from ruamel.yaml import YAML

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "schema" / "pipeline.schema.json"


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
    cases += change("a stage without a kind", lambda p: p["stages"].update({"broken": {"with": {}}}))
    cases += change("an unknown kind", lambda p: p["stages"].update({"broken": {"uses": "genrate"}}))
    cases += change("a list of stages that holds a number", lambda p: p["stages"].update({"broken": {"uses": "query", "needs": [1]}}))
    cases += change("an unknown parameter", stage_edit("generate", lambda s: s.setdefault("with", {}).update({"sed": 1})))
    cases += change("a value out of range", stage_edit("generate", lambda s: s.setdefault("with", {}).update({"top_p": 1.5})))
    cases += change("a text for a number", stage_edit("threshold", lambda s: s.setdefault("with", {}).update({"tau": "half"})))
    cases += change("a figure without a file", lambda p: p.setdefault("figures", {}).update({"broken": {"plot": "bars", "from": "x"}}))
    return cases


def main(arguments):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    paths = [pathlib.Path(argument) for argument in arguments]
    paths = paths or sorted((ROOT / "pipelines").rglob("*.yaml"))
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
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

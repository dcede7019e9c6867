"""template.yaml as CloudFormation receives it, and the environment of its functions."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boto3.session import Session
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

Template = dict[str, Any]

ROOT = Path(__file__).parents[2]


def translated() -> Template:
    """Translate the template as AWS does, without asking AWS."""
    source = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    # `sam package` uploads these, and inserts their addresses.
    source["Globals"]["Function"]["CodeUri"] = "s3://bucket/package"
    source["Resources"]["CaBundle"]["Properties"]["ContentUri"] = "s3://bucket/ca"
    translator = Translator({}, Parser(), boto_session=Session(region_name="eu-central-1"))
    template: Template = translator.translate(source, {})
    return template


def environment_of(template: Template, function: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a function.

    Args:
        template: The translated template.
        function: The function's name in it.
        values: Values of parameters, pseudo parameters and attributes (`Queue.Arn`). Missing parameters have
            their defaults.
    """
    defaults = {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()}
    known = {**defaults, **values}
    variables = template["Resources"][function]["Properties"]["Environment"]["Variables"]
    # A variable that only creates a dependency is of no use to the function.
    return {name: _worked_out(value, known) for name, value in variables.items() if name.startswith("ROLLCALL_")}


def _worked_out(value: object, known: Mapping[str, str]) -> str:
    match value:
        case {"Ref": str(name)}:
            return known[name]
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return known[f"{name}.{attribute}"]
        case {"Fn::If": [_, if_given, otherwise]}:
            # Every condition of this template is that a parameter is given.
            return _worked_out(if_given, known) or _worked_out(otherwise, known)
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([\w.:]+)\}", lambda found: known[found[1]], text)
    return str(value)

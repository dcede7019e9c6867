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
    conditions = template["Conditions"]
    return {
        name: _worked_out(value, known, conditions)
        for name, value in variables.items()
        if name.startswith("ROLLCALL_")
    }


def _worked_out(value: object, known: Mapping[str, str], conditions: Mapping[str, Any]) -> str:  # noqa: PLR0911 - one for each function
    def text_of(part: object) -> str:
        return _worked_out(part, known, conditions)

    match value:
        case {"Ref": str(name)}:
            return known[name]
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return known[f"{name}.{attribute}"]
        case {"Fn::If": [str(condition), if_given, otherwise]}:
            return text_of(if_given if _holds({"Condition": condition}, known, conditions) else otherwise)
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([\w.:]+)\}", lambda found: known[found[1]], text)
        case {"Fn::Sub": [str(text), {**more}]}:
            inner = {**known, **{str(name): text_of(part) for name, part in more.items()}}
            return _worked_out({"Fn::Sub": text}, inner, conditions)
        case {"Fn::Select": [index, {"Fn::Split": [str(separator), whole]}]}:
            return text_of(whole).split(separator)[int(index)]
    return str(value)


def functions_of_routes(template: Template) -> dict[str, str]:
    """Return the function that answers each route of the Web API, by the route's key."""
    resources = template["Resources"]

    def function_of(target: str) -> str:
        integration = target.removeprefix("integrations/${").removesuffix("}")
        name: str = resources[integration]["Properties"]["IntegrationUri"]["Fn::GetAtt"][0]
        return name

    return {
        resource["Properties"]["RouteKey"]: function_of(resource["Properties"]["Target"]["Fn::Sub"])
        for resource in resources.values()
        if resource["Type"] == "AWS::ApiGatewayV2::Route"
    }


def refusals(template: Template, parameters: Mapping[str, str]) -> list[str]:
    """Return what CloudFormation says against a deployment with these parameters, by the template's rules."""
    known = _parameters(template, parameters)
    return [
        assertion["AssertDescription"]
        for rule in template["Rules"].values()
        if _holds(rule.get("RuleCondition", {"Fn::Equals": ["", ""]}), known, {})
        for assertion in rule["Assertions"]
        if not _holds(assertion["Assert"], known, {})
    ]


def deployed(template: Template, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the resources that CloudFormation makes with these parameters; each condition is applied."""
    known = _parameters(template, parameters)
    conditions = template["Conditions"]

    def chosen(part: Any) -> Any:  # noqa: ANN401 - a template may contain any YAML
        match part:
            case {"Fn::If": [str(name), if_true, otherwise]}:
                return chosen(if_true if _holds({"Condition": name}, known, conditions) else otherwise)
            case dict():
                inner = {key: chosen(value) for key, value in part.items()}
                return {key: value for key, value in inner.items() if value != _NO_VALUE}
            case list():
                return [value for value in map(chosen, part) if value != _NO_VALUE]
        return part

    return {
        name: chosen(resource)
        for name, resource in template["Resources"].items()
        if "Condition" not in resource or _holds({"Condition": resource["Condition"]}, known, conditions)
    }


_NO_VALUE = {"Ref": "AWS::NoValue"}


def _parameters(template: Template, given: Mapping[str, str]) -> dict[str, str]:
    assert given.keys() <= template["Parameters"].keys()
    return {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()} | {
        **given
    }


def _holds(condition: object, known: Mapping[str, str], conditions: Mapping[str, object]) -> bool:
    match condition:
        case {"Condition": str(name)}:
            return _holds(conditions[name], known, conditions)
        case {"Fn::Not": [inner]}:
            return not _holds(inner, known, conditions)
        case {"Fn::And": [*inner]}:
            return all(_holds(one, known, conditions) for one in inner)
        case {"Fn::Or": [*inner]}:
            return any(_holds(one, known, conditions) for one in inner)
        case {"Fn::Equals": [one, other]}:
            return _text(one, known) == _text(other, known)
    raise ValueError(condition)


def _text(part: object, known: Mapping[str, str]) -> str:
    match part:
        case {"Ref": str(name)}:
            return known[name]
        case {"Fn::Join": ["", {"Ref": str(name)}]}:
            return known[name].replace(",", "")
        case str():
            return part
    raise ValueError(part)

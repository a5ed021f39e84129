"""moto's server, with a CloudFormation that does what a deployment depends on.

moto's own knows no SAM, compares templates before their parameters are filled in, adds before it modifies, does not
roll back, and removes what is to be retained. What is here in its place:

- SAM's transform, with the values of the parameters, as AWS runs it;
- a change set of the resources that differ once parameters and conditions are filled in. AWS's also names resources
  that refer to a changed one, and may stay as they are;
- changes in the order of the references, undone if one fails;
- deletion policies, and exports that stay while they are imported.

How a resource is made and changed is in resources.py, beside moto's own.
"""

import json
import re
import traceback
from graphlib import TopologicalSorter

from moto.cloudformation import models, parsing, responses, utils
from moto.server import main
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from tests.deploy import resources

Resource = dict[str, object]


def transformed(template: str | bytes, parameters: dict[str, str]) -> str:
    """The template as SAM's transform leaves it, if it asks for that."""
    parsed = yaml_parse(template.decode() if isinstance(template, bytes) else template)
    if parsed.pop("Transform", None) is None:
        return json.dumps(parsed, default=str)
    return json.dumps(Translator({}, Parser()).translate(parsed, dict(parameters)))


def references(value: object) -> set[str]:
    """The names that a part of a template refers to."""
    match value:
        case {"Ref": str(name)}:
            return {name}
        case {"Fn::GetAtt": [str(name), *_]}:
            return {name}
        case {"Fn::Sub": str(text)}:
            return set(re.findall(r"\$\{(\w+)", text))
        case {"Fn::Sub": [str(text), dict(names)]}:
            return set(re.findall(r"\$\{(\w+)", text)) - names.keys() | references(list(names.values()))
        case dict():
            return set().union(*map(references, value.values()))
        case list():
            return set().union(*map(references, value))
    return set()


def imports(value: object) -> set[str]:
    """The exports of other stacks that a part of a template imports."""
    match value:
        case {"Fn::ImportValue": str(name)}:
            return {name}
        case dict():
            return set().union(*map(imports, value.values()))
        case list():
            return set().union(*map(imports, value))
    return set()


def in_order(found: dict[str, Resource]) -> list[str]:
    """The names of resources, each after those that it refers to."""
    graph = {}
    for name, resource in found.items():
        depends_on = resource.get("DependsOn", [])
        depends_on = {depends_on} if isinstance(depends_on, str) else set(depends_on)
        graph[name] = (references(resource) | depends_on) & found.keys() - {name}
    return list(TopologicalSorter(graph).static_order())


class Resources(parsing.ResourceMap):
    """The resources of a stack, by their names in its template."""

    def load(self) -> None:
        self.resolved_parameters.clear()
        super().load()
        found = self._template.get("Resources", {})
        self._resource_json_map = {name: self.fill(found[name]) for name in found if self.is_wanted(found[name])}

    def is_wanted(self, part: Resource) -> bool:
        return "Condition" not in part or self.lazy_condition_map[part["Condition"]]

    def fill(self, value: object) -> object:
        """A part of the template with parameters filled in and conditions decided; `None` if nothing is left of it."""
        match value:
            case {"Ref": "AWS::NoValue"}:
                return None
            case {"Ref": str(name)} if name in self.resolved_parameters:
                return self.resolved_parameters[name]
            case {"Fn::If": [condition, then, otherwise]}:
                return self.fill(then if self.lazy_condition_map[condition] else otherwise)
            case {"Fn::Sub": str(text)}:
                for name, parameter in self.resolved_parameters.items():
                    text = text.replace(f"${{{name}}}", str(parameter))
                return {"Fn::Sub": text} if "${" in text else text
            case dict():
                filled = {key: self.fill(part) for key, part in value.items()}
                return {key: part for key, part in filled.items() if part is not None}
            case list():
                return [part for part in map(self.fill, value) if part is not None]
        return value

    def json(self) -> dict[str, Resource]:
        return self._resource_json_map

    def update(self, template: dict, parameters: dict | None = None) -> None:
        """Makes the stack what the template says; what it was, if that fails."""
        old, before = self.json(), (self._template, self.input_parameters)
        self._template, self.input_parameters = template, parameters or {}
        self.load()
        new = self.json()
        done = []
        try:
            for name in in_order(new):
                if new[name] != old.get(name):
                    self.put(name)
                    done.append(name)
        except Exception:
            self._template, self.input_parameters = before
            self.load()
            for name in reversed(done):
                self.put(name) if name in old else self.remove(name, new[name])
            raise
        for name in reversed(in_order(old)):
            if name not in new:
                self.remove(name, old[name])

    def put(self, name: str) -> None:
        """Makes a resource, or changes it to what the template says of it now."""
        kind = self.json()[name]["Type"]
        if self._parsed_resources.get(name) is None:
            made = self[name]
            assert made is not None, f"neither moto nor resources.py can make a {kind}"
            cleaned = parsing.clean_json(self.json()[name], self)
        else:
            cleaned = parsing.clean_json(self.json()[name], self)
            if kind not in resources.SETS:
                changed = parsing.parse_and_update_resource(
                    name, self.json()[name], self, self._account_id, self._region_name
                )
                assert changed is not None, f"neither moto nor resources.py can change a {kind}"
                self._parsed_resources[name] = changed
        if kind in resources.SETS:
            resources.SETS[kind](self._parsed_resources[name].physical_resource_id, cleaned["Properties"])

    def remove(self, name: str, resource: Resource) -> None:
        found = self._parsed_resources.pop(name, None)
        if found is None or resource.get("DeletionPolicy", "Delete").startswith("Retain"):
            return
        try:
            if resource["Type"] in resources.DELETES:
                resources.DELETES[resource["Type"]](found.physical_resource_id)
            else:
                self._delete_resource(found, resource)
        except Exception:
            self._parsed_resources[name] = found
            raise

    def delete(self) -> None:
        for name in reversed(in_order(self.json())):
            self.remove(name, self.json()[name])


class ChangeSet(models.ChangeSet):
    def diff(self) -> list[models.Change]:
        there = self.stack.resource_map
        then = Resources(
            self.stack.stack_id, self.stack.name, self.parameters, {}, there._region_name, there._account_id,
            self.template_dict, there.cross_stack_resources,
        )  # fmt: skip
        then.load()
        old, new = there.json(), then.json()
        actions = {name: "Add" for name in new.keys() - old.keys()}
        actions |= {name: "Remove" for name in old.keys() - new.keys()}
        actions |= {name: "Modify" for name in new.keys() & old.keys() if new[name] != old[name]}
        return [models.Change(action, name, (new.get(name) or old[name])["Type"]) for name, action in actions.items()]


class CloudFormation(models.CloudFormationBackend):
    # By which moto finds the URLs that it answers at.
    __module__ = models.__name__

    def create_change_set(self, stack_name, change_set_name, template, parameters, *others, **named):
        template = transformed(template, parameters)
        return super().create_change_set(stack_name, change_set_name, template, parameters, *others, **named)

    def execute_change_set(self, change_set_name, stack_name=None):
        change_set = self.describe_change_set(change_set_name)
        stack = change_set.stack
        created = change_set.change_set_type == "CREATE"
        stack.resource_map.cross_stack_resources = self.exports
        old_exports = {export.name for export in stack.exports}
        try:
            stack.resource_map.update(change_set.template_dict, change_set.parameters)
            outputs = change_set.template_dict.get("Outputs", {})
            kept = {name: part for name, part in outputs.items() if stack.resource_map.is_wanted(part)}
            stack.template_dict = change_set.template_dict | {"Outputs": kept}
            self.release(stack, old_exports - {export.name for export in stack._create_output_map().exports})
        except Exception as error:
            traceback.print_exc()
            stack.status = "ROLLBACK_COMPLETE" if created else "UPDATE_ROLLBACK_COMPLETE"
            stack._add_stack_event(stack.status, str(error))
            return
        stack.template, stack.parameters = change_set.template, change_set.parameters
        stack.output_map = stack._create_output_map()
        self.exports.update({export.name: export for export in stack.exports})
        change_set.execution_status = "EXECUTE_COMPLETE"
        stack.status = f"{change_set.change_set_type}_COMPLETE"
        stack._add_stack_event(stack.status)

    def release(self, stack: models.Stack, exports: set[str]) -> None:
        """Gives up exports that no other stack imports."""
        for other in self.stacks.values():
            if other is not stack and (used := exports & imports(other.resource_map.json())):
                raise ValueError(f"Export {used.pop()} cannot be deleted as it is in use by {other.name}")
        for name in exports:
            self.exports.pop(name, None)

    def delete_stack(self, name_or_stack_id):
        stack = self.get_stack(name_or_stack_id)
        try:
            self.release(stack, {export.name for export in stack.exports})
            stack.delete()
        except Exception as error:
            traceback.print_exc()
            stack.status = "DELETE_FAILED"
            stack._add_stack_event(stack.status, str(error))
            return
        self.deleted_stacks[stack.stack_id] = self.stacks.pop(stack.stack_id)


def uploaded(url: str, account_id: str, partition: str) -> str:
    """The template at a URL of this server, which moto only takes for one by the name of the machine."""
    return utils.get_stack_from_s3_url(url.replace("//127.0.0.1:", "//localhost:"), account_id, partition)


def serve(port: str) -> None:
    responses.get_stack_from_s3_url = uploaded
    models.ResourceMap, models.ChangeSet = Resources, ChangeSet
    models.cloudformation_backends.backend = CloudFormation
    main(["--host", "127.0.0.1", "--port", port])

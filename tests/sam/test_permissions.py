"""Who may do what: the roles and policies of template.yaml, beside the roles of the code."""

import json
import subprocess

import pytest
from translation import ROOT, only, translated


@pytest.fixture(scope="module")
def resources() -> dict:
    return translated()


def statements(resources: dict, name: str) -> list[dict]:
    properties = resources[name]["Properties"]
    documents = [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
    documents += [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
    found = [statement for document in documents for statement in document["Statement"]]
    # Those that only some values of the parameters bring, too.
    return [statement["Fn::If"][1] if "Fn::If" in statement else statement for statement in found]


def listed(value) -> list:
    return value if isinstance(value, list) else [value]


def actions(found: list[dict]) -> set[str]:
    return {action for statement in found for action in listed(statement["Action"])}


LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}


@pytest.fixture(scope="module")
def roles() -> dict:
    """What each role of the code may do, as core/src/role.rs lists it."""
    command = ["cargo", "run", "--quiet", "--package", "layergate-core", "--example", "permissions"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def of(role: dict) -> set[str]:
    """The role's permissions, by their names in a policy."""
    return {f"dynamodb:{action}" for action in role["table"]} | {f"s3:{action}" for action in role["bucket"]}


def patterns(role: dict) -> list[str]:
    """The partitions that the role may write, as a condition of a policy names them."""
    return [f"{keys}*" if keys.endswith("#") else keys for keys in role["writes"]]


def written_by(found: list[dict]) -> list[str]:
    """The partitions that the one statement of these with writes lets its holder write to."""
    [write] = [statement for statement in found if "dynamodb:PutItem" in listed(statement["Action"])]
    assert set(listed(write["Action"])) == {"dynamodb:DeleteItem", "dynamodb:PutItem"}
    # A condition on all values of a key holds for a request that has no such key, if it is not asked for as well.
    assert write["Condition"].keys() == {"ForAllValues:StringLike", "Null"}
    assert write["Condition"]["Null"] == {"dynamodb:LeadingKeys": "false"}
    return listed(write["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"])


def test_the_function_may_do_what_a_puller_does_and_no_more(resources: dict, roles: dict) -> None:
    asks = {"lambda:InvokeFunction", "kms:GenerateMac", "kms:Decrypt"}
    traces = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}
    assert actions(statements(resources, "FunctionRole")) == of(roles["Puller"]) | asks | LOGS | traces
    assert "ManagedPolicyArns" not in resources["FunctionRole"]["Properties"]
    assert resources["Function"]["Properties"]["Role"] == {"Fn::GetAtt": ["FunctionRole", "Arn"]}


def test_the_function_writes_nothing_but_what_it_asks_for(resources: dict, roles: dict) -> None:
    assert patterns(roles["Puller"]) == ["fill#*"]
    assert written_by(statements(resources, "FunctionRole")) == ["fill#*"]


@pytest.mark.parametrize("holder", ["FunctionRole", "PullThroughPolicy"])
def test_the_worker_is_the_only_function_that_may_be_invoked(resources: dict, holder: str) -> None:
    [invoke] = [one for one in statements(resources, holder) if one["Action"] == "lambda:InvokeFunction"]
    assert invoke["Resource"] == {"Fn::GetAtt": ["Worker", "Arn"]}


def test_publishers_may_do_what_the_tool_does_and_no_more(resources: dict, roles: dict) -> None:
    key = {"kms:Decrypt", "kms:GenerateDataKey"}
    assert actions(statements(resources, "PublisherPolicy")) == of(roles["Publisher"]) | key


def test_who_manages_rules_writes_no_image_and_no_layer(resources: dict, roles: dict) -> None:
    found = statements(resources, "PullThroughPolicy")
    assert actions(found) == of(roles["RuleManager"]) | {"lambda:InvokeFunction", "kms:Decrypt"}
    assert written_by(found) == patterns(roles["RuleManager"])


SERVICES = {
    "FunctionRole": ["dynamodb", "s3"],
    "PublisherPolicy": ["dynamodb", "s3"],
    "CleanerPolicy": ["dynamodb", "s3"],
    "PullThroughPolicy": ["dynamodb"],
}


@pytest.mark.parametrize("holder", SERVICES)
def test_a_key_is_used_only_where_one_is_given_and_through_its_services(resources: dict, holder: str) -> None:
    [key] = [found for found in statements(resources, holder) if "kms:Decrypt" in listed(found["Action"])]
    assert key["Resource"] == {"Ref": "EncryptionKeyArn"}
    services = [service["Fn::Sub"].split(".")[0] for service in key["Condition"]["StringEquals"]["kms:ViaService"]]
    assert services == SERVICES[holder]


def test_the_worker_may_publish_clean_and_read_its_secrets_and_no_more(resources: dict) -> None:
    assert resources["Worker"]["Properties"]["Role"] == {"Fn::GetAtt": ["WorkerRole", "Arn"]}
    role = resources["WorkerRole"]["Properties"]
    assert role["ManagedPolicyArns"] == [{"Ref": "PublisherPolicy"}, {"Ref": "CleanerPolicy"}]
    found = statements(resources, "WorkerRole")
    assert actions(found) == {"secretsmanager:GetSecretValue"} | LOGS
    [secrets] = [one for one in found if one["Action"] == "secretsmanager:GetSecretValue"]
    prefix = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:"
    assert secrets["Resource"] == {"Fn::Sub": f"{prefix}ecr-pullthroughcache/*"}


def test_codedeploy_may_move_this_alias_and_see_these_alarms(resources: dict) -> None:
    group = only(resources, "AWS::CodeDeploy::DeploymentGroup")
    assert group["ServiceRoleArn"] == {"Fn::GetAtt": ["DeploymentRole", "Arn"]}
    shift, look = statements(resources, "DeploymentRole")
    assert actions([shift]) == {"lambda:GetAlias", "lambda:GetProvisionedConcurrencyConfig", "lambda:UpdateAlias"}
    assert shift["Resource"] == [{"Fn::GetAtt": ["Function", "Arn"]}, {"Fn::Sub": "${Function.Arn}:live"}]
    assert actions([look]) == {"cloudwatch:DescribeAlarms"}
    watched = [alarm["Name"]["Ref"] for alarm in group["AlarmConfiguration"]["Alarms"]]
    assert look["Resource"] == [{"Fn::GetAtt": [alarm, "Arn"]} for alarm in watched]


def test_no_role_has_a_policy_that_is_not_written_here_but_the_one_for_api_gateways_logs(resources: dict) -> None:
    roles = {name: found["Properties"] for name, found in resources.items() if found["Type"] == "AWS::IAM::Role"}
    managed = {name: role["ManagedPolicyArns"] for name, role in roles.items() if "ManagedPolicyArns" in role}
    assert managed.keys() == {"ApiLogsWriter", "WorkerRole"}


def test_cleaners_may_do_what_the_tool_does_and_no_more(resources: dict, roles: dict) -> None:
    found = statements(resources, "CleanerPolicy")
    assert actions(found) == of(roles["Cleaner"]) | {"kms:Decrypt"}
    [objects, manifests] = [one["Resource"] for one in found if "s3:DeleteObject" in listed(one["Action"])]
    assert objects == {"Fn::Sub": "${Bucket.Arn}/layers/*"}
    assert manifests == {"Fn::Sub": "${Bucket.Arn}/manifests/*"}


def test_no_resource_is_a_wildcard_but_where_aws_has_no_other(resources: dict) -> None:
    for name, resource in resources.items():
        if resource["Type"] in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
            for statement in statements(resources, name):
                wild = "*" in listed(statement["Resource"])
                assert wild == all(action.startswith("xray:") for action in listed(statement["Action"]))
                assert not any("*" in action for action in listed(statement["Action"]))


def test_layers_and_manifests_are_all_that_the_function_reads(resources: dict) -> None:
    [read] = [found for found in statements(resources, "FunctionRole") if found["Action"] == "s3:GetObject"]
    assert read["Resource"] == [{"Fn::Sub": "${Bucket.Arn}/layers/*"}, {"Fn::Sub": "${Bucket.Arn}/manifests/*"}]

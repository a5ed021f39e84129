"""What must stay true of template.yaml, asserted of what SAM makes of it."""

import json
import os
import re
from pathlib import Path

import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]

# Only to fill in ARNs: nothing is called.
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(scope="module")
def resources() -> dict:
    template = yaml_parse((ROOT / "template.yaml").read_text())
    # As `sam deploy` does, once it has uploaded the function.
    template["Resources"]["Function"]["Properties"]["CodeUri"] = "s3://bucket/function.zip"
    translated = Translator({}, Parser()).translate(template, {})
    return translated["Resources"]


def only(resources: dict, kind: str) -> dict:
    [found] = [resource for resource in resources.values() if resource["Type"] == kind]
    return found["Properties"]


@pytest.fixture(scope="module")
def api(resources: dict) -> dict:
    return only(resources, "AWS::ApiGateway::RestApi")["Body"]


def statements(resources: dict, name: str) -> list[dict]:
    properties = resources[name]["Properties"]
    documents = [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
    documents += [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
    return [statement for document in documents for statement in document["Statement"]]


def listed(value) -> list:
    return value if isinstance(value, list) else [value]


def actions(found: list[dict]) -> set[str]:
    return {action for statement in found for action in listed(statement["Action"])}


# ---- Who may call, and as whom


def test_the_one_method_is_called_with_iam(api: dict) -> None:
    assert {(path, method) for path, item in api["paths"].items() for method in item} == {("/", "post")}
    assert api["paths"]["/"]["post"]["security"] == [{"AWS_IAM": []}]
    assert api["components"]["securitySchemes"]["AWS_IAM"]["x-amazon-apigateway-authtype"] == "awsSigv4"


def test_the_function_is_not_called_with_the_callers_credentials(api: dict) -> None:
    integration = api["paths"]["/"]["post"]["x-amazon-apigateway-integration"]
    assert integration["type"] == "aws_proxy"
    assert "credentials" not in integration


def test_other_accounts_are_let_in_only_if_they_are_named(api: dict) -> None:
    condition, policy, otherwise = api["x-amazon-apigateway-policy"]["Fn::If"]
    assert condition == "HasCallerAccounts"
    assert otherwise == {"Ref": "AWS::NoValue"}
    [statement] = policy["Statement"]
    assert statement["Principal"] == {"AWS": {"Fn::Split": [",", {"Ref": "CallerAccounts"}]}}


# ---- What the function and the publishers may do

# The permission of each call that the code makes.
PERMISSIONS = {
    "batch_get_item": "dynamodb:BatchGetItem",
    "get_item": "dynamodb:GetItem",
    "query": "dynamodb:Query",
    # The items of transact_write_items, which has no permission of its own.
    "ConditionCheck": "dynamodb:ConditionCheckItem",
    "Delete": "dynamodb:DeleteItem",
    "Put": "dynamodb:PutItem",
    "Update": "dynamodb:UpdateItem",
    "transact_write_items": None,
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_objects_v2": "s3:ListBucket",
    "delete_objects": "s3:DeleteObject",
    # The local stack makes its own table and bucket.
    "create_bucket": None,
    "create_table": None,
    "head_bucket": None,
    "wait_until_table_exists": None,
}


def permissions(*patterns: str) -> set[str]:
    """What the code in these files needs."""
    text = "".join(path.read_text() for pattern in patterns for path in sorted((ROOT / "src").glob(pattern)))
    calls = set(re.findall(r"\bclient\s*\.\s*([a-z0-9_]+)\(", text))
    items = set(re.findall(r"\b(ConditionCheck|Delete|Put|Update)::builder\(", text))
    return {PERMISSIONS[call] for call in calls | items} - {None}


def test_the_function_may_do_what_it_does_and_no_more(resources: dict) -> None:
    calls = permissions("catalog.rs", "store.rs")
    assert calls == {"dynamodb:GetItem", "dynamodb:Query", "s3:GetObject"}
    logs = {"logs:CreateLogStream", "logs:PutLogEvents"}
    traces = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}
    assert actions(statements(resources, "FunctionRole")) == calls | logs | traces
    assert "ManagedPolicyArns" not in resources["FunctionRole"]["Properties"]
    assert only(resources, "AWS::Lambda::Function")["Role"] == {"Fn::GetAtt": ["FunctionRole", "Arn"]}


def test_publishers_may_do_what_the_tool_does_and_no_more(resources: dict) -> None:
    # The tool reads single records and never an object; that it may list shows it which objects are missing.
    calls = permissions("catalog.rs", "catalog/*.rs", "store/upload.rs")
    assert actions(statements(resources, "PublisherPolicy")) == calls | {"s3:ListBucket"}


def test_cleaners_may_do_what_the_tool_does_and_no_more(resources: dict) -> None:
    catalog = permissions("catalog.rs", "catalog/*.rs") - {"dynamodb:BatchGetItem"}
    store = permissions("store/clean.rs") | {"s3:AbortMultipartUpload"}
    found = statements(resources, "CleanerPolicy")
    assert actions(found) == catalog | store
    [objects, manifests] = [one["Resource"] for one in found if "s3:DeleteObject" in listed(one["Action"])]
    assert objects == {"Fn::Sub": "${Bucket.Arn}/layers/*"}
    assert manifests == {"Fn::Sub": "${Bucket.Arn}/manifests/*"}


def test_sandboxes_are_kept_ready_only_where_asked_for(resources: dict) -> None:
    [alias] = [found for found in resources.values() if found["Type"] == "AWS::Lambda::Alias"]
    condition, kept, none = alias["Properties"]["ProvisionedConcurrencyConfig"]["Fn::If"]
    assert condition == "HasProvisionedConcurrency"
    assert kept == {"ProvisionedConcurrentExecutions": {"Ref": "ProvisionedConcurrency"}}
    assert none == {"Ref": "AWS::NoValue"}


def test_no_resource_is_a_wildcard_but_where_aws_has_no_other(resources: dict) -> None:
    for name, resource in resources.items():
        if resource["Type"] in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
            for statement in statements(resources, name):
                wild = "*" in listed(statement["Resource"])
                assert wild == all(action.startswith("xray:") for action in listed(statement["Action"]))
                assert not any("*" in action for action in listed(statement["Action"]))


def test_layers_are_all_that_the_function_reads(resources: dict) -> None:
    [read] = [found for found in statements(resources, "FunctionRole") if found["Action"] == "s3:GetObject"]
    assert read["Resource"] == {"Fn::Sub": "${Bucket.Arn}/layers/*"}


# ---- What is stored


@pytest.mark.parametrize(
    "name, policy", [("Table", "Retain"), ("Bucket", "RetainExceptOnCreate"), ("BucketPolicy", "Retain")]
)
def test_what_is_stored_outlives_the_stack(resources: dict, name: str, policy: str) -> None:
    assert resources[name]["DeletionPolicy"] == policy
    assert resources[name]["UpdateReplacePolicy"] == "Retain"


def test_an_overwritten_object_can_be_restored_for_a_month(resources: dict) -> None:
    bucket = only(resources, "AWS::S3::Bucket")
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    expiries = [rule.get("NoncurrentVersionExpiration") for rule in bucket["LifecycleConfiguration"]["Rules"]]
    assert {"NoncurrentDays": 30} in expiries


def test_the_table_is_kept_from_harm(resources: dict) -> None:
    table = only(resources, "AWS::DynamoDB::Table")
    assert table["DeletionProtectionEnabled"] is True
    assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    # DynamoDB's own encryption, which is free. SSEEnabled would bring the charges of a key of KMS.
    assert "SSESpecification" not in table


def test_the_bucket_is_private(resources: dict) -> None:
    bucket = only(resources, "AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    plain, old = only(resources, "AWS::S3::BucketPolicy")["PolicyDocument"]["Statement"]
    assert plain["Effect"] == old["Effect"] == "Deny"
    assert plain["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    # In milliseconds.
    assert old["Condition"] == {
        "NumericGreaterThan": {"s3:signatureAge": {"Fn::Sub": "${UrlExpirySeconds}000"}},
        # A publisher, who signs in a header, may have a clock that is a little wrong.
        "StringEquals": {"s3:authType": "REST-QUERY-STRING"},
    }


# ---- Bills and pages


def test_no_text_of_the_callers_choice_is_in_the_access_log(resources: dict) -> None:
    log_format = only(resources, "AWS::ApiGateway::Stage")["AccessLogSetting"]["Format"]
    assert "userAgent" not in log_format


def test_an_alarm_that_ends_mails_nobody(resources: dict) -> None:
    alarms = [found["Properties"] for found in resources.values() if found["Type"] == "AWS::CloudWatch::Alarm"]
    assert alarms and not any("OKActions" in alarm for alarm in alarms)


# ---- What clients see


def test_nothing_is_cached_and_no_body_is_logged(resources: dict) -> None:
    stage = only(resources, "AWS::ApiGateway::Stage")
    assert "CacheClusterEnabled" not in stage
    for settings in stage["MethodSettings"]:
        assert "CachingEnabled" not in settings
        assert settings["DataTraceEnabled"] is False
    assert "body" not in stage["AccessLogSetting"]["Format"].lower()


def test_every_error_of_the_gateway_is_one_of_the_protocol(api: dict) -> None:
    names = {}
    for kind, response in api["x-amazon-apigateway-gateway-responses"].items():
        headers = response["responseParameters"]
        [template] = response["responseTemplates"].values()
        error = json.loads(template.replace("$context.error.messageString", '"some text"'))
        assert set(error) == {"__type", "message"}
        assert headers["gatewayresponse.header.Content-Type"] == "'application/x-amz-json-1.1'"
        assert headers["gatewayresponse.header.x-amzn-ErrorType"] == f"'{error['__type']}'"
        names[kind] = error["__type"]
    assert names == {
        "ACCESS_DENIED": "AccessDeniedException",
        "MISSING_AUTHENTICATION_TOKEN": "MissingAuthenticationTokenException",
        "INVALID_SIGNATURE": "InvalidSignatureException",
        "EXPIRED_TOKEN": "ExpiredTokenException",
        "THROTTLED": "ThrottlingException",
        "QUOTA_EXCEEDED": "ThrottlingException",
        "INTEGRATION_FAILURE": "ServerException",
        "INTEGRATION_TIMEOUT": "ServerException",
        "DEFAULT_5XX": "ServerException",
    }


# ---- Template and code agree


def test_the_function_is_given_every_setting_that_it_reads(resources: dict) -> None:
    settings = set(re.findall(r"/// `([A-Z0-9_]+)`: ", (ROOT / "src/config.rs").read_text()))
    declared = only(resources, "AWS::Lambda::Function")["Environment"]["Variables"]
    assert set(declared) == settings - {"AWS_REGION"}


def test_the_local_stack_has_the_functions_timeout(resources: dict) -> None:
    [seconds] = re.findall(
        r"FUNCTION_TIMEOUT: Duration = Duration::from_secs\((\d+)\)", (ROOT / "tool/src/stack/gateway.rs").read_text()
    )
    assert only(resources, "AWS::Lambda::Function")["Timeout"] == int(seconds)


def test_the_outcomes_that_are_counted_are_in_the_log_line(resources: dict) -> None:
    log_line = (ROOT / "src/lambda.rs").read_text()
    metric = only(resources, "AWS::Logs::MetricFilter")
    assert '"request"' in metric["FilterPattern"] and '"request"' in log_line
    assert metric["MetricTransformations"][0]["Dimensions"] == [{"Key": "Outcome", "Value": "$.outcome"}]
    assert "outcome = " in log_line

"""What must stay true of the templates; of template.yaml, asserted of what SAM makes of it."""

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


def translated(**parameters: str) -> dict:
    """The resources that SAM makes with these parameters, and with the others' defaults."""
    template = yaml_parse((ROOT / "template.yaml").read_text())
    # As `sam deploy` does, once it has uploaded the function.
    for name in ("Function", "Worker"):
        template["Resources"][name]["Properties"]["CodeUri"] = f"s3://bucket/{name}.zip"
    return Translator({}, Parser()).translate(template, parameters)["Resources"]


@pytest.fixture(scope="module")
def resources() -> dict:
    return translated()


@pytest.fixture(scope="module")
def front_door() -> dict:
    return yaml_parse((ROOT / "front-door.yaml").read_text())["Resources"]


def only(resources: dict, kind: str) -> dict:
    [found] = [resource for resource in resources.values() if resource["Type"] == kind]
    return found["Properties"]


@pytest.fixture(scope="module")
def api(resources: dict) -> dict:
    return only(resources, "AWS::ApiGateway::RestApi")["Body"]


def log_format(resources: dict) -> str:
    """What is logged of each request, on both stages."""
    stages = [found["Properties"] for found in resources.values() if found["Type"] == "AWS::ApiGateway::Stage"]
    formats = [stage["AccessLogSetting"]["Format"] for stage in stages]
    assert formats == [{"Fn::FindInMap": ["AccessLog", "Line", "Format"]}] * len(stages)
    return yaml_parse((ROOT / "template.yaml").read_text())["Mappings"]["AccessLog"]["Line"]["Format"]


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


# ---- Who may call, and as whom


def test_every_method_wants_iam_or_a_token(api: dict) -> None:
    methods = {(path, name): method for path, item in api["paths"].items() for name, method in item.items()}
    assert {method: found["security"] for method, found in methods.items()} == {
        ("/", "post"): [{"AWS_IAM": []}],
        ("/", "get"): [{"RegistryToken": []}],
        ("/", "head"): [{"RegistryToken": []}],
        ("/{proxy+}", "x-amazon-apigateway-any-method"): [{"RegistryToken": []}],
    }
    schemes = api["components"]["securitySchemes"]
    assert schemes["AWS_IAM"]["x-amazon-apigateway-authtype"] == "awsSigv4"
    authorizer = schemes["RegistryToken"]["x-amazon-apigateway-authorizer"]
    assert authorizer["type"] == "token"
    # Without a token, the gateway answers, and the function is not asked.
    assert authorizer["identityValidationExpression"] == "^Basic .+"
    assert schemes["RegistryToken"]["name"] == "Authorization"


def test_the_function_is_not_called_with_the_callers_credentials(api: dict) -> None:
    for item in api["paths"].values():
        for method in item.values():
            integration = method["x-amazon-apigateway-integration"]
            assert integration["type"] == "aws_proxy"
            assert "credentials" not in integration


def test_the_registry_is_a_stage_of_the_same_deployment_named_as_its_paths_begin(resources: dict) -> None:
    [(name, _)] = [found for found in resources.items() if found[1]["Type"] == "AWS::ApiGateway::Deployment"]
    stages = [found["Properties"] for found in resources.values() if found["Type"] == "AWS::ApiGateway::Stage"]
    assert [stage["DeploymentId"] for stage in stages] == [{"Ref": name}] * 2
    assert [stage["StageName"] for stage in stages] == ["v2", {"Ref": "StageName"}]


def test_without_a_registry_there_is_no_stage_no_key_and_no_token(resources: dict) -> None:
    of_registry = {name for name, found in resources.items() if found.get("Condition") == "HasRegistry"}
    assert of_registry == {"RegistryStage", "TokenKey"}
    variables = resources["Function"]["Properties"]["Environment"]["Variables"]
    assert variables["TOKEN_KEY_ID"] == {"Fn::If": ["HasRegistry", {"Fn::GetAtt": ["TokenKey", "Arn"]}, ""]}


def test_the_registrys_challenge_is_one_that_clients_answer(api: dict) -> None:
    response = api["x-amazon-apigateway-gateway-responses"]["UNAUTHORIZED"]
    headers = response["responseParameters"]
    assert headers["gatewayresponse.header.WWW-Authenticate"] == "'Basic realm=\"layergate\"'"
    assert headers["gatewayresponse.header.Content-Type"] == "'application/json'"
    [error] = json.loads(response["responseTemplates"]["application/json"])["errors"]
    assert error["code"] == "UNAUTHORIZED"
    # As the local stack says it, to which clients were tried.
    assert error["message"] in (ROOT / "tool/src/stack/gateway.rs").read_text()


def test_other_accounts_are_let_in_only_if_they_are_named(api: dict) -> None:
    condition, policy, otherwise = api["x-amazon-apigateway-policy"]["Fn::If"]
    assert condition == "HasCallerAccounts"
    assert otherwise == {"Ref": "AWS::NoValue"}
    named, pullers = policy["Statement"]
    assert named["Principal"] == {"AWS": {"Fn::Split": [",", {"Ref": "CallerAccounts"}]}}
    assert named["Resource"] == {"Fn::Sub": "execute-api:/${StageName}/POST/"}
    condition, anybody, otherwise = pullers["Fn::If"]
    assert (condition, anybody["Principal"], anybody["Resource"]) == ("HasRegistry", "*", "execute-api:/v2/*")
    assert otherwise == {"Ref": "AWS::NoValue"}


# ---- What the function, the publishers and CodeDeploy may do

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
    "generate_mac": "kms:GenerateMac",
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
    calls = permissions("catalog.rs", "store.rs", "access/*.rs")
    assert calls == {"dynamodb:GetItem", "dynamodb:Query", "s3:GetObject", "kms:GenerateMac"}
    logs = {"logs:CreateLogStream", "logs:PutLogEvents"}
    traces = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}
    key = {"kms:Decrypt"}
    assert actions(statements(resources, "FunctionRole")) == calls | logs | traces | key
    assert "ManagedPolicyArns" not in resources["FunctionRole"]["Properties"]
    assert resources["Function"]["Properties"]["Role"] == {"Fn::GetAtt": ["FunctionRole", "Arn"]}


def test_publishers_may_do_what_the_tool_does_and_no_more(resources: dict) -> None:
    # The tool reads single records and never an object; that it may list shows it which objects are missing.
    calls = permissions("catalog.rs", "catalog/*.rs", "store/upload.rs")
    key = {"kms:Decrypt", "kms:GenerateDataKey"}
    assert actions(statements(resources, "PublisherPolicy")) == calls | key | {"s3:ListBucket"}


def test_a_key_is_used_only_where_one_is_given_and_through_its_services(resources: dict) -> None:
    for name in ("FunctionRole", "PublisherPolicy", "CleanerPolicy"):
        [key] = [found for found in statements(resources, name) if "kms:Decrypt" in listed(found["Action"])]
        assert key["Resource"] == {"Ref": "EncryptionKeyArn"}
        services = [service["Fn::Sub"].split(".")[0] for service in key["Condition"]["StringEquals"]["kms:ViaService"]]
        assert services == ["dynamodb", "s3"]


def test_the_worker_may_clean_and_no_more(resources: dict) -> None:
    worker = resources["Worker"]["Properties"]
    assert worker["Role"] == {"Fn::GetAtt": ["WorkerRole", "Arn"]}
    # Besides the policy of whoever cleans.
    assert actions(statements(resources, "WorkerRole")) == {"logs:CreateLogStream", "logs:PutLogEvents"}
    settings = {"TABLE_NAME", "BUCKET_NAME", "DEFAULT_REGISTRY_ID"}
    assert worker["Environment"]["Variables"].keys() == settings


def test_the_registry_is_cleaned_by_schedule_if_there_is_one(resources: dict) -> None:
    rule = only(resources, "AWS::Events::Rule")
    assert rule["ScheduleExpression"] == {"Ref": "CleanSchedule"}
    [target] = rule["Targets"]
    assert target["Input"] == {"Fn::Sub": '{"olderThanDays":${CleanOlderThanDays}}'}
    cleaning = {name for name, found in resources.items() if found.get("Condition") == "HasCleaning"}
    assert {"Worker", "WorkerRole", "WorkerLogs", "FreedBytes", "CleanAlarm", "WorkerClean"} <= cleaning


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
    assert managed["WorkerRole"] == [{"Ref": "CleanerPolicy"}]


def test_cleaners_may_do_what_the_tool_does_and_no_more(resources: dict) -> None:
    catalog = permissions("catalog.rs", "catalog/*.rs") - {"dynamodb:BatchGetItem"}
    store = permissions("store/clean.rs") | {"s3:AbortMultipartUpload"}
    found = statements(resources, "CleanerPolicy")
    assert actions(found) == catalog | store | {"kms:Decrypt"}
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


def test_layers_and_manifests_are_all_that_the_function_reads(resources: dict) -> None:
    [read] = [found for found in statements(resources, "FunctionRole") if found["Action"] == "s3:GetObject"]
    assert read["Resource"] == [{"Fn::Sub": "${Bucket.Arn}/layers/*"}, {"Fn::Sub": "${Bucket.Arn}/manifests/*"}]


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


def test_no_key_is_paid_for_that_was_not_asked_for(resources: dict) -> None:
    # Without a specification DynamoDB uses a key of its own, which is free, and so does S3 with AES256.
    condition, _, otherwise = only(resources, "AWS::DynamoDB::Table")["SSESpecification"]["Fn::If"]
    assert (condition, otherwise) == ("HasEncryptionKey", {"Ref": "AWS::NoValue"})
    [rule] = only(resources, "AWS::S3::Bucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    condition, with_key, otherwise = rule["Fn::If"]
    assert condition == "HasEncryptionKey"
    assert with_key["BucketKeyEnabled"] is True
    assert otherwise == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}


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


# ---- Deployments


def test_a_new_version_gets_a_tenth_of_the_calls_first(resources: dict) -> None:
    config = only(resources, "AWS::CodeDeploy::DeploymentGroup")["DeploymentConfigName"]["Fn::If"]
    # Lambda keeps no sandboxes ready for an alias that shares out its calls.
    assert config[0] == "HasProvisionedConcurrency"
    assert [kind["Fn::Sub"][1]["ConfigName"] for kind in config[1:]] == ["AllAtOnce", "Canary10Percent5Minutes"]
    [alias] = [found for found in resources.values() if found["Type"] == "AWS::Lambda::Alias"]
    assert "CodeDeployLambdaAliasUpdate" in alias["UpdatePolicy"]


def test_a_repair_does_not_wait_for_an_alarm() -> None:
    resources = translated(Canary="false")
    assert not [name for name, found in resources.items() if found["Type"].startswith("AWS::CodeDeploy")]
    [alias] = [found for found in resources.values() if found["Type"] == "AWS::Lambda::Alias"]
    assert "UpdatePolicy" not in alias


def test_the_accounts_role_for_logs_is_not_set_unless_asked_for() -> None:
    assert yaml_parse((ROOT / "template.yaml").read_text())["Parameters"]["ApiLogsRole"]["Default"] == "keep"


def test_a_url_lives_no_longer_than_a_roles_session_can() -> None:
    parameters = yaml_parse((ROOT / "template.yaml").read_text())["Parameters"]
    assert parameters["UrlExpirySeconds"]["MaxValue"] == 12 * 60 * 60


# ---- Bills and pages


def test_no_text_of_the_callers_choice_is_in_the_access_log(resources: dict) -> None:
    assert "userAgent" not in log_format(resources)


def test_an_alarm_that_ends_mails_nobody(resources: dict) -> None:
    alarms = [found["Properties"] for found in resources.values() if found["Type"] == "AWS::CloudWatch::Alarm"]
    assert alarms and not any("OKActions" in alarm for alarm in alarms)


def test_no_single_failure_is_an_alarm(resources: dict) -> None:
    alarms = [found["Properties"] for found in resources.values() if found["Type"] == "AWS::CloudWatch::Alarm"]
    single = [alarm for alarm in alarms if alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"]) == 1]
    assert [(alarm["MetricName"], alarm["Period"]) for alarm in single] == [("Invocations", 24 * 60 * 60)]


def test_more_calls_in_a_day_than_expected_are_an_alarm(resources: dict) -> None:
    alarm = resources["DailyCallsAlarm"]["Properties"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("AWS/Lambda", "Invocations", "Sum")
    assert alarm["Threshold"] == {"Ref": "DailyCalls"}


def test_concurrency_is_reserved_only_where_asked_for(resources: dict) -> None:
    condition, reserved, otherwise = resources["Function"]["Properties"]["ReservedConcurrentExecutions"]["Fn::If"]
    assert condition == "HasReservedConcurrency"
    assert reserved == {"Ref": "ReservedConcurrency"}
    assert otherwise == {"Ref": "AWS::NoValue"}


def test_a_function_url_wants_a_concurrency_that_is_reserved(front_door: dict) -> None:
    target = front_door["Url"]["Properties"]["TargetFunctionArn"]["Fn::ImportValue"]["Fn::Sub"]
    outputs = yaml_parse((ROOT / "template.yaml").read_text())["Outputs"].values()
    exports = {output["Export"]["Name"]["Fn::Sub"]: output for output in outputs if "Export" in output}
    assert exports[target.replace("Stack", "AWS::StackName")]["Condition"] == "HasReservedConcurrency"


# ---- What clients see


def test_nothing_is_cached_and_no_body_is_logged(resources: dict) -> None:
    stages = [found["Properties"] for found in resources.values() if found["Type"] == "AWS::ApiGateway::Stage"]
    assert len(stages) == 2
    for stage in stages:
        assert "CacheClusterEnabled" not in stage
        for settings in stage["MethodSettings"]:
            assert "CachingEnabled" not in settings
            assert settings["DataTraceEnabled"] is False
            assert settings["ThrottlingRateLimit"] == {"Ref": "ThrottleRate"}
    assert "body" not in log_format(resources).lower()


def test_every_error_of_the_gateway_is_one_of_the_protocol(api: dict) -> None:
    names = {}
    for kind, response in api["x-amazon-apigateway-gateway-responses"].items():
        if kind == "UNAUTHORIZED":  # of the registry alone
            continue
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
    declared = resources["Function"]["Properties"]["Environment"]["Variables"]
    assert set(declared) == settings - {"AWS_REGION"}


def test_the_local_stack_has_the_functions_timeout(resources: dict) -> None:
    [seconds] = re.findall(
        r"FUNCTION_TIMEOUT: Duration = Duration::from_secs\((\d+)\)", (ROOT / "tool/src/stack/gateway.rs").read_text()
    )
    assert resources["Function"]["Properties"]["Timeout"] == int(seconds)


def test_the_outcomes_that_are_counted_are_in_the_log_line(resources: dict) -> None:
    log_line = (ROOT / "src/lambda.rs").read_text()
    metric = resources["Outcomes"]["Properties"]
    assert '"request"' in metric["FilterPattern"] and '"request"' in log_line
    assert metric["MetricTransformations"][0]["Dimensions"] == [{"Key": "Outcome", "Value": "$.outcome"}]
    assert "outcome" in log_line


def test_the_bytes_that_are_counted_are_in_the_workers_log_line(resources: dict) -> None:
    log_line = (ROOT / "worker/src/clean.rs").read_text()
    metric = resources["FreedBytes"]["Properties"]
    assert '"clean"' in metric["FilterPattern"] and '"clean"' in log_line
    assert metric["MetricTransformations"][0]["MetricValue"] == "$.bytes" and "bytes," in log_line

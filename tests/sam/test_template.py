"""What must stay true of the templates; of template.yaml, asserted of what SAM makes of it."""

import json
import re
import urllib.parse

import pytest
from samtranslator.yaml_helper import yaml_parse
from translation import ROOT, only, translated


@pytest.fixture(scope="module")
def resources() -> dict:
    return translated()


@pytest.fixture(scope="module")
def front_door() -> dict:
    return yaml_parse((ROOT / "front-door.yaml").read_text())["Resources"]


@pytest.fixture(scope="module")
def api(resources: dict) -> dict:
    return only(resources, "AWS::ApiGateway::RestApi")["Body"]


def log_format(resources: dict) -> str:
    """What is logged of each request, on both stages."""
    stages = [found["Properties"] for found in resources.values() if found["Type"] == "AWS::ApiGateway::Stage"]
    formats = [stage["AccessLogSetting"]["Format"] for stage in stages]
    assert formats == [{"Fn::FindInMap": ["AccessLog", "Line", "Format"]}] * len(stages)
    return yaml_parse((ROOT / "template.yaml").read_text())["Mappings"]["AccessLog"]["Line"]["Format"]


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
    expression = re.compile(authorizer["identityValidationExpression"])
    assert all(expression.fullmatch(f"{scheme} QVdTOng=") for scheme in ("Basic", "basic", "BASIC"))
    assert not any(expression.fullmatch(value) for value in ("Basic ", "Bearer QVdTOng=", "xBasic QVdTOng="))
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
    headers = {
        name.removeprefix("gatewayresponse.header."): value.strip("'")
        for name, value in response["responseParameters"].items()
    }
    [realm] = re.fullmatch(r'Basic realm="([^"]+)"', headers.pop("WWW-Authenticate")).groups()
    # oras-py sends the credentials to https://REALM.
    with pytest.raises(ValueError):
        urllib.parse.urlsplit(f"https://{realm}").port
    assert " " in realm
    assert headers == {"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0"}
    [error] = json.loads(response["responseTemplates"]["application/json"])["errors"]
    assert error["code"] == "UNAUTHORIZED"
    # As the local stack says it, to which clients were tried.
    assert error["message"] in (ROOT / "local/src/gateway.rs").read_text()


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


def test_sandboxes_are_kept_ready_only_where_asked_for(resources: dict) -> None:
    [alias] = [found for found in resources.values() if found["Type"] == "AWS::Lambda::Alias"]
    condition, kept, none = alias["Properties"]["ProvisionedConcurrencyConfig"]["Fn::If"]
    assert condition == "HasProvisionedConcurrency"
    assert kept == {"ProvisionedConcurrentExecutions": {"Ref": "ProvisionedConcurrency"}}
    assert none == {"Ref": "AWS::NoValue"}


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


# ---- The worker


def test_the_worker_is_always_there(resources: dict) -> None:
    kinds = ("Worker", "WorkerRole", "WorkerLogs", "WorkerEventInvokeConfig", "WorkerErrorsAlarm", "FailedFillsAlarm")
    assert not [name for name in kinds if "Condition" in resources[name]]


def test_the_registry_is_cleaned_by_schedule_if_there_is_one(resources: dict) -> None:
    cleaning = {name for name, found in resources.items() if found.get("Condition") == "HasCleaning"}
    assert cleaning == {"CleanRule", "CleanPermission", "FreedBytes"}
    rule = only(resources, "AWS::Events::Rule")
    assert rule["ScheduleExpression"] == {"Ref": "CleanSchedule"}
    [target] = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["Worker", "Arn"]}
    assert target["Input"] == {"Fn::Sub": '{"clean":{"olderThanDays":${CleanOlderThanDays}}}'}
    allowed = resources["CleanPermission"]["Properties"]
    assert (allowed["Principal"], allowed["FunctionName"]) == ("events.amazonaws.com", {"Ref": "Worker"})
    assert allowed["SourceArn"] == {"Fn::GetAtt": ["CleanRule", "Arn"]}


def test_nothing_is_done_that_nobody_waits_for_any_more(resources: dict) -> None:
    config = resources["WorkerEventInvokeConfig"]["Properties"]
    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (0, 60)


def test_a_fill_that_was_killed_leaves_the_table(resources: dict) -> None:
    table = only(resources, "AWS::DynamoDB::Table")
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert '"expires_at"' in (ROOT / "core/src/catalog/fill.rs").read_text()


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


@pytest.mark.parametrize(
    ("function", "parameter"), [("Function", "ReservedConcurrency"), ("Worker", "WorkerConcurrency")]
)
def test_concurrency_is_reserved_only_where_asked_for(resources: dict, function: str, parameter: str) -> None:
    condition, reserved, otherwise = resources[function]["Properties"]["ReservedConcurrentExecutions"]["Fn::If"]
    assert condition == f"Has{parameter}"
    assert reserved == {"Ref": parameter}
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


# Which of the settings are of one of the two functions only.
NOT_THE_FUNCTIONS = {"AWS_ENDPOINT_URL_SECRETS_MANAGER"}
NOT_THE_WORKERS = {
    "AUTHORIZATION", "AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL_LAMBDA", "CACHE_SECONDS", "TOKEN_KEY_ID",
    "URL_EXPIRY_SECONDS", "WORKER_FUNCTION_NAME",
}  # fmt: skip


@pytest.mark.parametrize(("function", "others"), [("Function", NOT_THE_FUNCTIONS), ("Worker", NOT_THE_WORKERS)])
def test_each_function_is_given_every_setting_that_it_reads(resources: dict, function: str, others: set[str]) -> None:
    settings = set(re.findall(r"/// `([A-Z0-9_]+)`: ", (ROOT / "core/src/config.rs").read_text()))
    declared = resources[function]["Properties"]["Environment"]["Variables"]
    assert others <= settings
    assert set(declared) == settings - {"AWS_REGION"} - others


def test_the_function_asks_this_worker(resources: dict) -> None:
    assert resources["Function"]["Properties"]["Environment"]["Variables"]["WORKER_FUNCTION_NAME"] == {"Ref": "Worker"}


def test_the_function_outlives_what_a_registry_request_waits(resources: dict) -> None:
    waits = (ROOT / "src/pull_through.rs").read_text()
    [seconds] = re.findall(r"WAIT_OF_REGISTRY: Duration = Duration::from_secs\((\d+)\)", waits)
    assert int(seconds) < resources["Function"]["Properties"]["Timeout"] == 29


def test_the_local_stack_has_the_functions_timeout(resources: dict) -> None:
    [seconds] = re.findall(
        r"FUNCTION_TIMEOUT: Duration = Duration::from_secs\((\d+)\)", (ROOT / "local/src/gateway.rs").read_text()
    )
    assert resources["Function"]["Properties"]["Timeout"] == int(seconds)


@pytest.mark.parametrize(
    ("metric", "source", "message", "member"),
    [
        ("Outcomes", "src/lambda.rs", '"request"', "outcome"),
        ("Fills", "worker/src/fill.rs", '"fill"', "outcome = $outcome"),
    ],
)
def test_the_outcomes_that_are_counted_are_in_the_log_line(
    resources: dict, metric: str, source: str, message: str, member: str
) -> None:
    log_line = (ROOT / source).read_text()
    properties = resources[metric]["Properties"]
    assert message in properties["FilterPattern"] and message in log_line
    assert properties["MetricTransformations"][0]["Dimensions"] == [{"Key": "Outcome", "Value": "$.outcome"}]
    assert member in log_line


def test_the_bytes_that_are_counted_are_in_the_workers_log_line(resources: dict) -> None:
    log_line = (ROOT / "worker/src/clean.rs").read_text()
    metric = resources["FreedBytes"]["Properties"]
    assert '"clean"' in metric["FilterPattern"] and '"clean"' in log_line
    assert metric["MetricTransformations"][0]["MetricValue"] == "$.bytes" and "bytes," in log_line


def test_a_fill_fails_with_each_reason_but_those_that_are_nobodys_fault_here(resources: dict) -> None:
    pattern = resources["FailedFills"]["Properties"]["FilterPattern"]
    assert '$.message = "fill"' in pattern
    harmless = re.findall(r'\$\.outcome != "(\w+)"', pattern)
    assert harmless == ["OK", "NotFound", "NameInvalid", "BeingDeleted", "LostLease"]
    reasons = (ROOT / "core/src/catalog/fill.rs").read_text() + (ROOT / "worker/src/fill.rs").read_text()
    assert all(f'"{name}"' in reasons for name in harmless)
    [transformation] = resources["FailedFills"]["Properties"]["MetricTransformations"]
    assert "Dimensions" not in transformation
    alarm = resources["FailedFillsAlarm"]["Properties"]
    assert (alarm["Namespace"], alarm["MetricName"]) == tuple(
        transformation[key] for key in ("MetricNamespace", "MetricName")
    )


def test_no_widget_counts_what_another_does(resources: dict) -> None:
    body = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    dashboard = json.loads(re.sub(r"\$\{[^}]+\}", "name", body))
    metrics = [widget["properties"].get("metrics", []) for widget in dashboard["widgets"]]
    searches = [line[0]["expression"] for lines in metrics for line in lines if isinstance(line[0], dict)]
    # Both metrics have a dimension of this name, and a search without the metric's name finds both.
    assert [re.findall(r'MetricName="(\w+)"', search) for search in searches] == [["Requests"], ["Fills"]]
    places = [tuple(widget[key] for key in ("x", "y", "width", "height")) for widget in dashboard["widgets"]]
    covered = [(column, row) for x, y, w, h in places for column in range(x, x + w) for row in range(y, y + h)]
    assert len(covered) == len(set(covered))

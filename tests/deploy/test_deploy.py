"""The deployment as docs/deploying.md has it, from the first to the teardown, without an AWS account.

One stack is deployed and the tests change it in the order in which they stand; each leaves it with the default
environment. `make test-deploy` runs them.
"""

import hashlib
import json
import shlex
import urllib.request
from collections.abc import Iterator

import boto3
import pytest

from tests.deploy.account import DEFAULT, ROOT, Account, account, documented
from tests.deploy.lambda_runtime import answer

ARN = "arn:aws:sns:us-east-1:123456789012:pages"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture(scope="module")
def aws(tmp_path_factory) -> Iterator[Account]:
    with account(tmp_path_factory.mktemp("account")) as found:
        yield found


@pytest.fixture(scope="module")
def outputs(aws: Account) -> dict[str, str]:
    """The outputs of the stack as variables, once it is deployed as the documentation begins."""
    [commands] = documented("Deploying")
    aws.works(commands)
    exported = [shlex.split(line)[1] for line in aws.works("make -s outputs").splitlines()]
    return dict(variable.split("=", 1) for variable in exported)


def client(aws: Account, service: str, region: str = "us-east-1"):
    return boto3.client(
        service, region_name=region, endpoint_url=aws.url, aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )  # fmt: skip


def live(aws: Account, outputs: dict[str, str]) -> dict:
    """The function as callers get it."""
    return client(aws, "lambda").get_function_configuration(FunctionName=outputs["FUNCTION_NAME"], Qualifier="live")


def variables(aws: Account, outputs: dict[str, str]) -> dict[str, str]:
    return live(aws, outputs)["Environment"]["Variables"]


def work(aws: Account, outputs: dict[str, str], event: dict) -> dict | None:
    """What the worker answers to an event."""
    worker = client(aws, "lambda").get_function_configuration(FunctionName=outputs["WORKER_FUNCTION_NAME"])
    given = worker["Environment"]["Variables"] | {"AWS_REGION": "us-east-1"} | aws.credentials | aws.engines
    return answer(ROOT / ".aws-sam/build/Worker/bootstrap", given, event)


def why(aws: Account, stack: str) -> str:
    """What CloudFormation said last of a stack."""
    events = client(aws, "cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
    return max(events, key=lambda event: event["Timestamp"])["ResourceStatusReason"]


def resources(aws: Account, stack: str) -> dict[str, str]:
    found = client(aws, "cloudformation").list_stack_resources(StackName=stack)["StackResourceSummaries"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in found}


# ---- The first deployment


def test_images_are_published_and_deleted_and_repositories_granted(aws: Account, outputs: dict[str, str]) -> None:
    def layergate(arguments: str) -> str:
        return aws.works(f"layergate {arguments}", **outputs)

    assert "1.0" in layergate("image list hello")
    assert "210987654321" in layergate("repository grant hello 210987654321")
    layergate("publish --create-repository examples/hello-image retired:1.0")
    layergate("image delete retired:1.0")
    assert layergate("image list retired") == ""
    assert layergate("repository list").split() == ["hello", "retired"]


def test_what_was_built_answers_with_the_variables_of_the_stack(aws: Account, outputs: dict[str, str]) -> None:
    event = json.loads((ROOT / "events/rest/OK.json").read_text())
    event["requestContext"]["identity"]["accountId"] = outputs["DEFAULT_REGISTRY_ID"]
    given = variables(aws, outputs) | {"AWS_REGION": "us-east-1"} | aws.credentials | aws.engines
    response = answer(ROOT / ".aws-sam/build/Function/bootstrap", given, event)
    body = json.loads(response["body"])
    assert response["statusCode"] == 200, body
    assert f"X-Amz-Expires={given['URL_EXPIRY_SECONDS']}" in body["downloadUrl"]
    with urllib.request.urlopen(body["downloadUrl"], timeout=10) as layer:
        assert f"sha256:{hashlib.sha256(layer.read()).hexdigest()}" == body["layerDigest"]


def test_what_was_built_is_a_registry_to_log_in_to(aws: Account, outputs: dict[str, str]) -> None:
    given = variables(aws, outputs) | {"AWS_REGION": "us-east-1"} | aws.credentials | aws.engines
    bootstrap = ROOT / ".aws-sam/build/Function/bootstrap"
    event = json.loads((ROOT / "events/rest/OK.json").read_text()) | {"body": "{}"}
    event["headers"]["X-Amz-Target"] = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
    event["requestContext"]["identity"]["accountId"] = outputs["DEFAULT_REGISTRY_ID"]
    event["requestContext"]["domainName"] = outputs["REGISTRY_HOST"]
    [login] = json.loads(answer(bootstrap, given, event)["body"])["authorizationData"]
    assert login["proxyEndpoint"] == f"https://{outputs['REGISTRY_HOST']}"

    # The next instance of the function asks the stack's key for the same day's key.
    pull = {
        "resource": "/{proxy+}", "path": "/hello/manifests/1.0", "httpMethod": "GET",
        "headers": {"Authorization": f"Basic {login['authorizationToken']}"},
        "requestContext": {"path": "/v2/hello/manifests/1.0", "httpMethod": "GET", "stage": "v2", "identity": {}},
    }  # fmt: skip
    response = answer(bootstrap, given, pull)
    assert response["statusCode"] == 200, response
    assert response["headers"]["content-type"] == "application/vnd.oci.image.index.v1+json"
    digest = f"sha256:{hashlib.sha256(response['body'].encode()).hexdigest()}"
    assert digest == response["headers"]["docker-content-digest"]
    # No gateway is known to keep the length of a HEAD, so it is redirected.
    head = {**pull, "httpMethod": "HEAD", "requestContext": {**pull["requestContext"], "httpMethod": "HEAD"}}
    response = answer(bootstrap, given, head)
    assert response["statusCode"] == 307 and response["headers"]["location"], response


def test_what_was_built_cleans_the_registry(aws: Account, outputs: dict[str, str]) -> None:
    [schedule] = client(aws, "events").list_targets_by_rule(Rule=resources(aws, "layergate")["CleanRule"])["Targets"]
    assert work(aws, outputs, json.loads(schedule["Input"])) is None


def test_what_was_built_asks_upstreams_with_the_credentials_of_secrets(aws: Account, outputs: dict[str, str]) -> None:
    validate = {"validate": {"ecrRepositoryPrefix": "docker-hub"}}
    assert "there is no rule 'docker-hub'" in work(aws, outputs, validate)["failure"]

    # At a port where nothing listens, in place of the real one.
    [commands] = documented("Caching other registries")
    here = commands.replace("https://registry-1.docker.io", "http://127.0.0.1:9 --allow-host 127.0.0.1")
    assert here != commands
    aws.works(here, **outputs)
    assert "cannot be reached" in work(aws, outputs, validate)["failure"]

    [secret] = client(aws, "secretsmanager").list_secrets()["SecretList"]
    client(aws, "secretsmanager").delete_secret(SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True)
    assert "the secret of the rule cannot be used" in work(aws, outputs, validate)["failure"]
    aws.works("layergate pull-through delete docker-hub", **outputs)


def test_the_function_knows_the_worker_and_what_is_over_goes(aws: Account, outputs: dict[str, str]) -> None:
    assert variables(aws, outputs)["WORKER_FUNCTION_NAME"] == outputs["WORKER_FUNCTION_NAME"]
    expiry = client(aws, "dynamodb").describe_time_to_live(TableName=outputs["TABLE_NAME"])["TimeToLiveDescription"]
    assert (expiry["TimeToLiveStatus"], expiry["AttributeName"]) == ("ENABLED", "expires_at")


# ---- What a change of each parameter changes

# SAM deploys the API anew each time, as the template asks.
ALWAYS = {"Add ApiDeployment", "Modify ApiStage", "Modify RegistryStage", "Remove ApiDeployment"}
VERSION = {"Modify Function", "Add FunctionVersion", "Remove FunctionVersion", "Modify FunctionAliaslive"}
WATCHED = (
    "DailyCalls", "FailedFills", "FunctionErrors", "FunctionThrottles", "ServerErrors", "TableLatency",
    "TableThrottles", "WorkerErrors",
)  # fmt: skip
# All that is there only if the registry is cleaned.
CLEANING = ("CleanPermission", "CleanRule", "FreedBytes")
ALARMS = {f"Modify {name}Alarm" for name in WATCHED}
LOGS = {"Modify AccessLogs", "Modify FunctionLogs", "Modify WorkerLogs"}
CODEDEPLOY = {"ServerlessDeploymentApplication", "FunctionDeploymentGroup"}

CHANGES = [
    ("StageName", "Test", {"Modify PullerPolicy"}),
    (
        "Registry",
        "false",
        VERSION | {"Modify FunctionRole", "Remove RegistryStage", "Remove TokenKey"},
    ),
    ("CallerAccounts", "210987654321", {"Modify Api"}),
    ("DefaultRegistryId", "210987654321", VERSION | {"Modify Worker"}),
    ("Authorization", "gateway", VERSION),
    ("UrlExpirySeconds", 900, VERSION | {"Modify BucketPolicy"}),
    ("CacheSeconds", 0, VERSION),
    ("ManifestHead", "answer", VERSION),
    ("Architecture", "arm64", VERSION | {"Modify Worker"}),
    # No version, so that no calls are shared out while Lambda gets sandboxes ready.
    ("ProvisionedConcurrency", 2, {"Modify FunctionAliaslive", "Modify FunctionDeploymentGroup"}),
    ("ReservedConcurrency", 10, {"Modify Function"}),
    ("Canary", "false", {"Modify FunctionAliaslive"} | {f"Remove {name}" for name in CODEDEPLOY}),
    ("WorkerConcurrency", 5, {"Modify Worker"}),
    ("CleanSchedule", "", {f"Remove {name}" for name in CLEANING}),
    ("CleanOlderThanDays", 30, {"Modify CleanRule"}),
    ("ThrottleRate", 10, set()),
    ("ThrottleBurst", 10, set()),
    ("LogRetentionDays", 90, LOGS),
    ("DailyCalls", 10, {"Modify DailyCallsAlarm"}),
    ("AlarmTopicArn", ARN, ALARMS),
    ("ApiLogsRole", "keep", {"Remove ApiLogsWriter", "Remove ApiLogsAccount", "Modify AccessLogs"}),
    (
        "EncryptionKeyArn",
        KEY,
        {
            "Modify Table", "Modify Bucket", "Modify FunctionRole", "Modify PublisherPolicy", "Modify CleanerPolicy",
            "Modify PullThroughPolicy",
        },  # fmt: skip
    ),
]


def change_set(aws: Account) -> set[str]:
    """What the newest change set would do. Versions and deployments have a hash in their names, which is left out."""
    cloudformation = client(aws, "cloudformation")
    newest = cloudformation.list_change_sets(StackName="layergate")["Summaries"][-1]["ChangeSetId"]
    changes = cloudformation.describe_change_set(ChangeSetName=newest, StackName="layergate")["Changes"]
    found = [change["ResourceChange"] for change in changes]
    return {f"{change['Action']} {shortened(change['LogicalResourceId'])}" for change in found}


def shortened(name: str) -> str:
    return next((start for start in ("ApiDeployment", "FunctionVersion") if name.startswith(start)), name)


def test_every_parameter_has_its_change() -> None:
    names = [line.split(" = ")[0] for line in DEFAULT.read_text().splitlines() if " = " in line]
    assert [name for name, _, _ in CHANGES] == names


def test_the_same_again_changes_nothing(aws: Account, outputs: dict[str, str]) -> None:
    aws.deploy('DEPLOY_FLAGS="--no-execute-changeset"')
    assert change_set(aws) == ALWAYS


@pytest.mark.parametrize(("name", "value", "expected"), CHANGES, ids=[change[0] for change in CHANGES])
def test_a_changed_parameter_changes(
    aws: Account, outputs: dict[str, str], name: str, value: str | int, expected: set[str]
) -> None:
    aws.deploy('DEPLOY_FLAGS="--no-execute-changeset"', **{name: value})
    removed = {change.replace("Remove", "Modify") for change in expected if change.startswith("Remove")}
    assert change_set(aws) == ALWAYS - removed | expected


# ---- Later deployments


def test_a_changed_setting_reaches_callers_and_can_be_taken_back(aws: Account, outputs: dict[str, str]) -> None:
    before = variables(aws, outputs)
    apis = client(aws, "apigateway")

    aws.deploy(Authorization="gateway", UrlExpirySeconds=900, CallerAccounts="210987654321")
    assert variables(aws, outputs) == before | {"AUTHORIZATION": "gateway", "URL_EXPIRY_SECONDS": "900"}
    assert "210987654321" in apis.get_rest_apis()["items"][0]["policy"]

    aws.deploy()
    assert variables(aws, outputs) == before
    assert not apis.get_rest_apis()["items"][0].get("policy")


def test_a_repair_is_deployed_while_the_alarm_is_on(aws: Account, outputs: dict[str, str]) -> None:
    cloudwatch = client(aws, "cloudwatch")
    names = [alarm["AlarmName"] for alarm in cloudwatch.describe_alarms()["MetricAlarms"]]
    [errors] = [name for name in names if "FunctionErrorsAlarm" in name]
    cloudwatch.set_alarm_state(AlarmName=errors, StateValue="ALARM", StateReason="a broken version")

    assert aws.make("deploy", CacheSeconds=0).returncode != 0
    assert "CodeDeploy stopped the deployment" in why(aws, "layergate")
    assert variables(aws, outputs)["CACHE_SECONDS"] == "10"

    done = aws.make("repair", CacheSeconds=0)
    assert done.returncode == 0, done.stderr
    assert variables(aws, outputs)["CACHE_SECONDS"] == "0"

    cloudwatch.set_alarm_state(AlarmName=errors, StateValue="OK", StateReason="repaired")
    aws.deploy()
    assert variables(aws, outputs)["CACHE_SECONDS"] == "10"
    assert "FunctionDeploymentGroup" in resources(aws, "layergate")


def test_sandboxes_are_kept_ready_over_a_new_version(aws: Account, outputs: dict[str, str]) -> None:
    aws.deploy(ProvisionedConcurrency=2)
    aws.deploy(ProvisionedConcurrency=2, CacheSeconds=0)
    assert variables(aws, outputs)["CACHE_SECONDS"] == "0"
    aws.deploy(ProvisionedConcurrency=2)
    aws.deploy()


def test_another_environment_is_another_stack(aws: Account, outputs: dict[str, str]) -> None:
    before = resources(aws, "layergate")
    said = aws.deploy("ENV=staging", CacheSeconds=0)
    # The first stack's role, which another must not take.
    assert f"{before['ApiLogsWriter']}: it is kept" in said
    staging = resources(aws, "layergate-staging")
    assert "ApiLogsWriter" not in staging
    assert resources(aws, "layergate") == before
    assert variables(aws, {"FUNCTION_NAME": staging["Function"]})["CACHE_SECONDS"] == "0"
    assert staging["Table"] in aws.works("make -s outputs ENV=staging")


ROLE = "arn:aws:iam::123456789012:role/someone"
LOOKS = [
    ("none, to be made", None, "create", 0, "ApiLogsRole=create\n", "the stack makes one"),
    ("none, not to be made", None, "keep", 1, "", "ApiLogsRole is keep; set ApiLogsRole to create"),
    ("another's, to be made", ROLE, "create", 0, "ApiLogsRole=keep\n", f"{ROLE}: it is kept"),
    ("another's, not to be made", ROLE, "keep", 0, "ApiLogsRole=keep\n", f"{ROLE}: it is kept"),
]


@pytest.mark.parametrize(
    ("role", "wanted", "status", "result", "said"), [look[1:] for look in LOOKS], ids=[look[0] for look in LOOKS]
)
def test_the_accounts_role_for_logs_is_looked_up(
    aws: Account, role: str | None, wanted: str, status: int, result: str, said: str
) -> None:
    # The setting is one for a region; nobody has deployed to this one.
    region = "eu-north-1"
    operation = {"op": "replace", "path": "/cloudwatchRoleArn", "value": role}
    if role is not None:
        client(aws, "apigateway", region).update_account(patchOperations=[operation])
    command = f".venv-sam/bin/python deploy/api_logs.py {aws.settings(ApiLogsRole=wanted)} layergate"
    done = aws.run(command, AWS_DEFAULT_REGION=region)
    assert (done.returncode, done.stdout) == (status, result)
    assert said in done.stderr and done.stderr.count("\n") == 1


# ---- HTTP API and Function URL


def test_an_http_api_is_another_way_in(aws: Account, outputs: dict[str, str]) -> None:
    [commands] = documented("HTTP API and Function URL")
    aws.works(commands)
    [api] = client(aws, "apigatewayv2").get_apis()["Items"]
    [integration] = client(aws, "apigatewayv2").get_integrations(ApiId=api["ApiId"])["Items"]
    assert integration["IntegrationUri"].endswith(f":function:{outputs['FUNCTION_NAME']}:live")
    [route] = client(aws, "apigatewayv2").get_routes(ApiId=api["ApiId"])["Items"]
    assert (route["RouteKey"], route["AuthorizationType"]) == ("POST /", "AWS_IAM")


def test_a_function_url_is_another_way_in_if_the_concurrency_is_limited(aws: Account, outputs: dict[str, str]) -> None:
    [commands] = documented("HTTP API and Function URL")
    commands = commands.replace("http", "url")
    assert aws.run(commands).returncode != 0
    assert "layergate-LimitedFunctionName" in why(aws, "layergate-url")
    aws.works("aws cloudformation delete-stack --stack-name layergate-url")

    aws.deploy(ReservedConcurrency=10)
    aws.works(commands)
    url = client(aws, "lambda").get_function_url_config(FunctionName=outputs["FUNCTION_NAME"], Qualifier="live")
    assert url["AuthType"] == "AWS_IAM"
    # The limit stays as long as the URL does.
    assert aws.make("deploy").returncode != 0
    assert "is in use by layergate-url" in why(aws, "layergate")


# ---- The end


def test_the_teardown_leaves_what_it_says(aws: Account, outputs: dict[str, str]) -> None:
    iam, cloudformation = client(aws, "iam"), client(aws, "cloudformation")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    iam.create_role(RoleName="puller", AssumeRolePolicyDocument=trust)
    iam.create_user(UserName="publisher")
    iam.create_group(GroupName="pullers")
    iam.attach_role_policy(RoleName="puller", PolicyArn=outputs["PULLER_POLICY_ARN"])
    iam.attach_group_policy(GroupName="pullers", PolicyArn=outputs["PULLER_POLICY_ARN"])
    iam.attach_user_policy(UserName="publisher", PolicyArn=outputs["PUBLISHER_POLICY_ARN"])
    iam.attach_user_policy(UserName="publisher", PolicyArn=outputs["PULL_THROUGH_POLICY_ARN"])
    logs_role = resources(aws, "layergate")["ApiLogsWriter"]

    # In any other order it fails: first while there are other ways in, then while somebody holds a policy.
    delete = ".venv-sam/bin/sam delete --stack-name layergate"
    assert aws.run(delete).returncode != 0
    assert "is in use by layergate-http" in why(aws, "layergate")
    for stack in ("layergate-http", "layergate-url", "layergate-staging"):
        aws.works(f"aws cloudformation delete-stack --stack-name {stack}")
    assert aws.run(delete).returncode != 0
    assert why(aws, "layergate") == "Cannot delete a policy attached to entities."

    the_stack, what_stays = documented("Teardown and what stays behind")
    aws.works(the_stack)
    stacks = [stack["StackName"] for stack in cloudformation.describe_stacks()["Stacks"]]
    assert stacks == ["aws-sam-cli-managed-default"]
    assert outputs["TABLE_NAME"] in client(aws, "dynamodb").list_tables()["TableNames"]
    assert logs_role in client(aws, "apigateway").get_account()["cloudwatchRoleArn"]
    assert iam.get_role(RoleName=logs_role)

    # An overwritten layer, whose older version keeps the bucket from being deleted.
    s3 = client(aws, "s3")
    layer = s3.list_objects_v2(Bucket=outputs["BUCKET_NAME"])["Contents"][0]["Key"]
    s3.put_object(Bucket=outputs["BUCKET_NAME"], Key=layer, Body=b"")
    names = {name: outputs[name] for name in ("TABLE_NAME", "BUCKET_NAME")}
    aws.works(what_stays, **names)
    assert outputs["TABLE_NAME"] not in client(aws, "dynamodb").list_tables()["TableNames"]
    assert outputs["BUCKET_NAME"] not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]

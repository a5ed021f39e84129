"""The types of resources that moto's CloudFormation lacks or cannot change, by calls to the same server.

`SETS` brings what is there to what the template says of it: after moto has made it, and whenever it changes.
`DELETES` deletes. What AWS refuses and a deployment may run into is refused here, in AWS's words as far as known.
"""

import json
from collections.abc import Callable

import boto3
from moto.apigateway.models import Deployment
from moto.cloudformation import parsing
from moto.core.common_models import CloudFormationModel

Properties = dict[str, object]

SETS: dict[str, Callable[[str, Properties], None]] = {}
DELETES: dict[str, Callable[[str], None]] = {}

# moto gives it no id to refer to.
Deployment.physical_resource_id = property(lambda deployment: deployment.id)


def sets(kind: str):
    return lambda function: SETS.setdefault(kind, function)


def deletes(kind: str):
    return lambda function: DELETES.setdefault(kind, function)


def makes(kind: str):
    """Lets moto make the type with a function from a name and what the template says, properties and all, to the
    id and the attributes. It is called again when that changes.
    """

    def register(function: Callable[[str, dict], tuple[str, dict]]) -> Callable:
        class Made(CloudFormationModel):
            def __init__(self, id: str, attributes: dict) -> None:
                self.physical_resource_id, self.attributes = id, attributes

            @staticmethod
            def cloudformation_type() -> str:
                return kind

            @staticmethod
            def cloudformation_name_type() -> str:
                return ""

            @classmethod
            def has_cfn_attr(cls, name: str) -> bool:
                return True

            def get_cfn_attribute(self, name: str) -> str:
                return self.attributes[name]

            @classmethod
            def create_from_cloudformation_json(cls, name, cloudformation_json, account_id, region_name, **_):
                return cls(*function(name, cloudformation_json))

            @classmethod
            def update_from_cloudformation_json(
                cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name
            ):
                return cls(*function(original_resource.physical_resource_id, cloudformation_json))

            def is_created(self) -> bool:
                return True

        parsing.get_model_map()[kind] = Made
        return function

    return register


def lower(value: object) -> object:
    """CloudFormation's names as the APIs have them: RoleArn is roleArn."""
    match value:
        case dict():
            return {key[0].lower() + key[1:]: lower(part) for key, part in value.items()}
        case list():
            return [lower(part) for part in value]
    return value


# ---- IAM


@sets("AWS::IAM::Role")
def role(name: str, properties: Properties) -> None:
    iam = boto3.client("iam")
    for policy in properties.get("Policies", []):
        document = json.dumps(policy["PolicyDocument"])
        iam.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=document)


@sets("AWS::IAM::ManagedPolicy")
def managed_policy(arn: str, properties: Properties) -> None:
    iam = boto3.client("iam")
    document = json.dumps(properties["PolicyDocument"])
    current = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
    iam.delete_policy_version(PolicyArn=arn, VersionId=current)


@deletes("AWS::IAM::ManagedPolicy")
def delete_managed_policy(arn: str) -> None:
    iam = boto3.client("iam")
    holders = iam.list_entities_for_policy(PolicyArn=arn)
    if any(holders[kind] for kind in ("PolicyGroups", "PolicyRoles", "PolicyUsers")):
        raise ValueError("Cannot delete a policy attached to entities.")
    iam.delete_policy(PolicyArn=arn)


# ---- Lambda and CodeDeploy


@sets("AWS::Lambda::Function")
def function(name: str, properties: Properties) -> None:
    client = boto3.client("lambda")
    code = properties["Code"]
    client.update_function_code(FunctionName=name, S3Bucket=code["S3Bucket"], S3Key=code["S3Key"])
    variables = {key: str(value) for key, value in properties["Environment"]["Variables"].items()}
    settings = {key: properties[key] for key in ("Handler", "MemorySize", "Role", "Runtime", "Timeout")}
    client.update_function_configuration(FunctionName=name, Environment={"Variables": variables}, **settings)
    if "ReservedConcurrentExecutions" in properties:
        reserved = int(properties["ReservedConcurrentExecutions"])
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
    else:
        client.delete_function_concurrency(FunctionName=name)


# What a version is the same in as another that Lambda does not publish again.
CONFIGURATION = ("CodeSha256", "Environment", "Handler", "MemorySize", "Role", "Runtime", "Timeout")


# Not deleted in moto, which would give their numbers to others.
DELETED_VERSIONS: set[str] = set()
DELETES["AWS::Lambda::Version"] = DELETED_VERSIONS.add


@makes("AWS::Lambda::Version")
def version(name: str, resource: dict) -> tuple[str, dict]:
    client = boto3.client("lambda")
    function = resource["Properties"]["FunctionName"]
    latest, *published = client.list_versions_by_function(FunctionName=function)["Versions"]
    published = [version for version in published if version["FunctionArn"] not in DELETED_VERSIONS]
    if published and all(latest.get(key) == published[-1].get(key) for key in CONFIGURATION):
        number = published[-1]["Version"]
        raise ValueError(
            f"A version for this Lambda function exists ( {number} ). Modify the function to create a new version."
        )
    new = client.publish_version(FunctionName=function)
    return new["FunctionArn"], {"Version": new["Version"]}


@makes("AWS::Lambda::Alias")
def alias(arn: str, resource: dict) -> tuple[str, dict]:
    client = boto3.client("lambda")
    properties = resource["Properties"]
    target = {
        "FunctionName": properties["FunctionName"],
        "Name": properties["Name"],
        "FunctionVersion": str(properties["FunctionVersion"]),
    }
    try:
        current = client.get_alias(FunctionName=target["FunctionName"], Name=target["Name"])["FunctionVersion"]
    except client.exceptions.ResourceNotFoundException:
        return client.create_alias(**target)["AliasArn"], {}
    if current != target["FunctionVersion"] and "UpdatePolicy" in resource:
        codedeploy(resource["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"], properties)
    return client.update_alias(**target)["AliasArn"], {}


GROUPS: dict[str, Properties] = {}


def codedeploy(policy: Properties, alias: Properties) -> None:
    """What may stop CodeDeploy from moving an alias to another version."""
    group = GROUPS[policy["DeploymentGroupName"]]
    watched = [alarm["Name"] for alarm in group["AlarmConfiguration"]["Alarms"]]
    for alarm in boto3.client("cloudwatch").describe_alarms(AlarmNames=watched)["MetricAlarms"]:
        if alarm["StateValue"] == "ALARM":
            raise ValueError(f"CodeDeploy stopped the deployment: {alarm['AlarmName']} is on")
    if "ProvisionedConcurrencyConfig" in alias and not group["DeploymentConfigName"].endswith("AllAtOnce"):
        raise ValueError("Alias with weights can not be used with Provisioned Concurrency")


@makes("AWS::CodeDeploy::DeploymentGroup")
def deployment_group(name: str, resource: dict) -> tuple[str, dict]:
    GROUPS[name] = resource["Properties"]
    return name, {}


@makes("AWS::CodeDeploy::Application")
def application(name: str, resource: dict) -> tuple[str, dict]:
    return name, {}


@makes("AWS::Lambda::Url")
def url(arn: str, resource: dict) -> tuple[str, dict]:
    properties = resource["Properties"]
    made = boto3.client("lambda").create_function_url_config(
        FunctionName=properties["TargetFunctionArn"], Qualifier=properties["Qualifier"], AuthType=properties["AuthType"]
    )
    return made["FunctionArn"], {"FunctionUrl": made["FunctionUrl"]}


@makes("AWS::Lambda::EventInvokeConfig")
def event_invoke_config(id: str, resource: dict) -> tuple[str, dict]:
    properties = {name: value for name, value in resource["Properties"].items() if name != "Qualifier"}
    boto3.client("lambda").put_function_event_invoke_config(**properties)
    return id, {}


# ---- API Gateway


@sets("AWS::ApiGateway::RestApi")
def rest_api(id: str, properties: Properties) -> None:
    client = boto3.client("apigateway")
    policy = properties["Body"].get("x-amazon-apigateway-policy")
    operation = {"op": "replace", "path": "/policy", "value": json.dumps(policy) if policy else ""}
    client.update_rest_api(restApiId=id, patchOperations=[operation])
    # moto reads no method from the body, and deploys no API without one.
    api = {"restApiId": id, "resourceId": client.get_resources(restApiId=id)["items"][0]["id"], "httpMethod": "POST"}
    client.put_method(**api, authorizationType="AWS_IAM")
    client.put_integration(**api, type="MOCK")


@makes("AWS::ApiGateway::Stage")
def stage(name: str, resource: dict) -> tuple[str, dict]:
    client = boto3.client("apigateway")
    properties = resource["Properties"]
    api, name, deployment = (properties[key] for key in ("RestApiId", "StageName", "DeploymentId"))
    if "AccessLogSetting" in properties and "cloudwatchRoleArn" not in client.get_account():
        raise ValueError("CloudWatch Logs role ARN must be set in account settings to enable logging")
    if name in [stage["stageName"] for stage in client.get_stages(restApiId=api)["item"]]:
        operation = {"op": "replace", "path": "/deploymentId", "value": deployment}
        client.update_stage(restApiId=api, stageName=name, patchOperations=[operation])
    else:
        client.create_stage(restApiId=api, stageName=name, deploymentId=deployment)
    return name, {}


@makes("AWS::ApiGateway::Account")
def account(id: str, resource: dict) -> tuple[str, dict]:
    arn = resource["Properties"]["CloudWatchRoleArn"]
    operation = {"op": "replace", "path": "/cloudwatchRoleArn", "value": arn}
    boto3.client("apigateway").update_account(patchOperations=[operation])
    return id, {}


@makes("AWS::ApiGatewayV2::Api")
def http_api(id: str, resource: dict) -> tuple[str, dict]:
    properties = resource["Properties"]
    made = boto3.client("apigatewayv2").create_api(Name=properties["Name"], ProtocolType=properties["ProtocolType"])
    return made["ApiId"], {}


@makes("AWS::ApiGatewayV2::Integration")
def http_integration(id: str, resource: dict) -> tuple[str, dict]:
    return boto3.client("apigatewayv2").create_integration(**resource["Properties"])["IntegrationId"], {}


@makes("AWS::ApiGatewayV2::Route")
def http_route(id: str, resource: dict) -> tuple[str, dict]:
    return boto3.client("apigatewayv2").create_route(**resource["Properties"])["RouteId"], {}


@makes("AWS::ApiGatewayV2::Stage")
def http_stage(id: str, resource: dict) -> tuple[str, dict]:
    boto3.client("apigatewayv2").create_stage(**resource["Properties"])
    return resource["Properties"]["StageName"], {}


# ---- What is stored, and what tells how it goes


@sets("AWS::DynamoDB::Table")
def table(name: str, properties: Properties) -> None:
    specification = properties.get("SSESpecification")
    client = boto3.client("dynamodb")
    client.update_table(
        TableName=name,
        DeletionProtectionEnabled=properties["DeletionProtectionEnabled"],
        **({"SSESpecification": specification} if specification else {}),
    )
    client.update_time_to_live(TableName=name, TimeToLiveSpecification=properties["TimeToLiveSpecification"])


@makes("AWS::S3::BucketPolicy")
def bucket_policy(id: str, resource: dict) -> tuple[str, dict]:
    # Not put: moto knows none of the conditions, and would deny everything.
    return resource["Properties"]["Bucket"], {}


@makes("AWS::CloudWatch::Alarm")
def alarm(name: str, resource: dict) -> tuple[str, dict]:
    client = boto3.client("cloudwatch")
    client.put_metric_alarm(AlarmName=name, **resource["Properties"])
    [made] = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return name, {"Arn": made["AlarmArn"]}


# moto makes all keys for encryption.
@makes("AWS::KMS::Key")
def key(id: str, resource: dict) -> tuple[str, dict]:
    properties = {name: value for name, value in resource["Properties"].items() if name in ("KeySpec", "KeyUsage")}
    made = boto3.client("kms").create_key(**properties)["KeyMetadata"]
    return made["KeyId"], {"Arn": made["Arn"]}


@deletes("AWS::KMS::Key")
def delete_key(id: str) -> None:
    boto3.client("kms").schedule_key_deletion(KeyId=id, PendingWindowInDays=7)


@deletes("AWS::CloudWatch::Alarm")
def delete_alarm(name: str) -> None:
    boto3.client("cloudwatch").delete_alarms(AlarmNames=[name])


@makes("AWS::Logs::MetricFilter")
def metric_filter(name: str, resource: dict) -> tuple[str, dict]:
    properties = resource["Properties"]
    transformations = lower(properties["MetricTransformations"])
    for transformation in transformations:
        transformation["dimensions"] = {part["key"]: part["value"] for part in transformation.get("dimensions", [])}
    boto3.client("logs").put_metric_filter(
        logGroupName=properties["LogGroupName"], filterName=name, filterPattern=properties["FilterPattern"],
        metricTransformations=transformations,
    )  # fmt: skip
    return name, {}

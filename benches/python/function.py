"""The function in Python, for the benchmark: the same checks and query, the same kind of URL."""

import base64
import json
import os
import re
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

TARGET = "AmazonEC2ContainerRegistry_V20150921.GetDownloadUrlForLayer"
ACCOUNT_ID = re.compile(r"[0-9]{12}")
DIGEST = re.compile(r"[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+")
COMPONENT = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY_NAME = re.compile(rf"{COMPONENT}(\/{COMPONENT})*")

TABLE_NAME = os.environ["TABLE_NAME"]
BUCKET_NAME = os.environ["BUCKET_NAME"]
DEFAULT_REGISTRY_ID = os.environ["DEFAULT_REGISTRY_ID"]

dynamodb = boto3.client(
    "dynamodb",
    config=Config(
        connect_timeout=1,
        read_timeout=1.5,
        retries={"mode": "standard", "total_max_attempts": 3},
    ),
)
s3 = boto3.client("s3", config=Config(signature_version="s3v4"))


class Refusal(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def handler(event, context):
    error_type = None
    try:
        status, body = 200, answer(event)
    except Refusal as refusal:
        error_type = refusal.code
        status, body = 400, {"__type": error_type, "message": str(refusal)}
    except (BotoCoreError, ClientError, KeyError) as fault:
        print(repr(fault), file=sys.stderr)
        error_type = "ServerException"
        status, body = 500, {"__type": error_type, "message": "internal fault"}
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "x-amzn-requestid": context.aws_request_id,
    }
    if error_type:
        headers["x-amzn-errortype"] = error_type
    print(json.dumps({"request_id": context.aws_request_id, "outcome": error_type or "OK"}))
    return {
        "statusCode": status,
        "headers": headers,
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }


def answer(event):
    request_context = event.get("requestContext") or {}
    if event.get("version") == "2.0":
        iam = (request_context.get("authorizer") or {}).get("iam") or {}
        caller = iam.get("accountId")
    else:
        caller = (request_context.get("identity") or {}).get("accountId")
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    if headers.get("x-amz-target") != TARGET:
        raise Refusal("UnknownOperationException", "not an operation of this service")
    body = event.get("body") or "{}"
    try:
        members = json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)
    except ValueError:
        raise Refusal("SerializationException", "the body is not valid JSON")
    if not isinstance(members, dict):
        raise Refusal("SerializationException", "the body must be a JSON object")

    for member in ("repositoryName", "layerDigest", "registryId"):
        if not isinstance(members.get(member, ""), str):
            raise Refusal("SerializationException", f"the member '{member}' must be a string")
    name, digest = members.get("repositoryName"), members.get("layerDigest")
    registry = members.get("registryId", DEFAULT_REGISTRY_ID)
    if name is None or not 2 <= len(name) <= 256 or not REPOSITORY_NAME.fullmatch(name):
        raise Refusal("InvalidParameterException", "repositoryName")
    if digest is None or not DIGEST.fullmatch(digest):
        raise Refusal("InvalidParameterException", "layerDigest")
    if not ACCOUNT_ID.fullmatch(registry):
        raise Refusal("InvalidParameterException", "registryId")
    if caller != registry:
        raise Refusal("AccessDeniedException", "not authorized")

    algorithm, digits = digest.split(":")
    partition = f"layer#{registry}/{name}@{algorithm}:{digits.lower()}"
    items = dynamodb.query(
        TableName=TABLE_NAME,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": partition}},
        ConsistentRead=False,
        Limit=2,
    )["Items"]
    if not items or items[0]["sk"]["S"] != "layer":
        raise Refusal("LayersNotFoundException", "no such layer")
    if len(items) < 2:
        raise Refusal("LayerInaccessibleException", "no image references the layer")
    key = items[0]["object_key"]["S"]
    if not key.startswith(f"layers/{registry}/"):
        raise KeyError("object_key")
    parameters = {"Bucket": BUCKET_NAME, "Key": key}
    url = s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=3600)
    return {"downloadUrl": url, "layerDigest": digest}

// The function in Node, for the benchmark: the same checks, the same query, the same kind of URL.

import { DynamoDBClient, QueryCommand } from "@aws-sdk/client-dynamodb";
import { GetObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const TARGET = "AmazonEC2ContainerRegistry_V20150921.GetDownloadUrlForLayer";
const ACCOUNT_ID = /^[0-9]{12}$/;
const DIGEST = /^[a-zA-Z0-9\-_+.]+:[a-fA-F0-9]+$/;
const REPOSITORY_NAME = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/;

const { TABLE_NAME, BUCKET_NAME, DEFAULT_REGISTRY_ID } = process.env;

const dynamodb = new DynamoDBClient({
  maxAttempts: 3,
  requestHandler: { connectionTimeout: 1000, requestTimeout: 1500 },
});
const s3 = new S3Client({});

class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export async function handler(event, requestId) {
  let status = 200;
  let body;
  let errorType;
  try {
    body = await answer(event);
  } catch (error) {
    const refused = error instanceof Refusal;
    if (!refused) console.error(error);
    errorType = refused ? error.code : "ServerException";
    status = refused ? 400 : 500;
    body = { __type: errorType, message: refused ? error.message : "internal fault" };
  }
  const headers = { "content-type": "application/x-amz-json-1.1", "x-amzn-requestid": requestId };
  if (errorType) headers["x-amzn-errortype"] = errorType;
  console.log(JSON.stringify({ request_id: requestId, outcome: errorType ?? "OK" }));
  return { statusCode: status, headers, body: JSON.stringify(body), isBase64Encoded: false };
}

async function answer(event) {
  const context = event.requestContext ?? {};
  const caller =
    event.version === "2.0" ? context.authorizer?.iam?.accountId : context.identity?.accountId;
  const headers = {};
  for (const [name, value] of Object.entries(event.headers ?? {})) {
    headers[name.toLowerCase()] = value;
  }
  if (headers["x-amz-target"] !== TARGET) {
    throw new Refusal("UnknownOperationException", "not an operation of this service");
  }
  const text = event.isBase64Encoded ? Buffer.from(event.body, "base64").toString() : event.body;
  let members;
  try {
    members = JSON.parse(text || "{}");
  } catch {
    throw new Refusal("SerializationException", "the body is not valid JSON");
  }
  if (typeof members !== "object" || members === null || Array.isArray(members)) {
    throw new Refusal("SerializationException", "the body must be a JSON object");
  }

  for (const member of ["repositoryName", "layerDigest", "registryId"]) {
    if (typeof (members[member] ?? "") !== "string") {
      throw new Refusal("SerializationException", `the member '${member}' must be a string`);
    }
  }
  const { repositoryName: name, layerDigest: digest } = members;
  const registry = members.registryId ?? DEFAULT_REGISTRY_ID;
  if (!name || name.length < 2 || name.length > 256 || !REPOSITORY_NAME.test(name)) {
    throw new Refusal("InvalidParameterException", "repositoryName");
  }
  if (!digest || !DIGEST.test(digest)) {
    throw new Refusal("InvalidParameterException", "layerDigest");
  }
  if (!ACCOUNT_ID.test(registry)) throw new Refusal("InvalidParameterException", "registryId");
  if (caller !== registry) throw new Refusal("AccessDeniedException", "not authorized");

  const [algorithm, digits] = digest.split(":");
  const partition = `layer#${registry}/${name}@${algorithm}:${digits.toLowerCase()}`;
  const { Items: items } = await dynamodb.send(
    new QueryCommand({
      TableName: TABLE_NAME,
      KeyConditionExpression: "pk = :pk",
      ExpressionAttributeValues: { ":pk": { S: partition } },
      ConsistentRead: false,
      Limit: 2,
    }),
  );
  if (items[0]?.sk.S !== "layer") throw new Refusal("LayersNotFoundException", "no such layer");
  if (items.length < 2) {
    throw new Refusal("LayerInaccessibleException", "no image references the layer");
  }
  const key = items[0].object_key.S;
  if (!key.startsWith(`layers/${registry}/`)) throw new Error("object_key");
  const command = new GetObjectCommand({ Bucket: BUCKET_NAME, Key: key });
  return { downloadUrl: await getSignedUrl(s3, command, { expiresIn: 3600 }), layerDigest: digest };
}

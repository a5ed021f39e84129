// Downloads a layer through API Gateway, with the signature that its IAM authorizer requires:
//
//   npm install @aws-sdk/client-ecr
//   node pull.mjs https://ID.execute-api.REGION.amazonaws.com/STAGE REPOSITORY DIGEST > FILE
//
// The SDK finds the credentials and the region as usual, for example by AWS_REGION and AWS_PROFILE.

import { createHash } from "node:crypto";
import { ECRClient, GetDownloadUrlForLayerCommand } from "@aws-sdk/client-ecr";

const [endpoint, repositoryName, layerDigest] = process.argv.slice(2);

// An ECR client signs for the service "ecr". API Gateway refuses that.
const client = new ECRClient({ endpoint, signingName: "execute-api" });

try {
  const { downloadUrl } = await client.send(
    new GetDownloadUrlForLayerCommand({ repositoryName, layerDigest }),
  );
  await download(downloadUrl);
} catch (error) {
  console.error(`${error.name}: ${error.message}`);
  process.exitCode = 1;
}

async function download(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`the download URL answers ${response.status}`);
  const [algorithm, expected] = layerDigest.split(":");
  const hash = createHash(algorithm);
  for await (const chunk of response.body) {
    hash.update(chunk);
    if (!process.stdout.write(chunk)) {
      await new Promise((resolve) => process.stdout.once("drain", resolve));
    }
  }
  if (hash.digest("hex") !== expected.toLowerCase()) {
    throw new Error("the layer does not have that digest");
  }
}

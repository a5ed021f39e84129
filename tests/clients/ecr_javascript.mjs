// One call with the SDK for JavaScript: ENDPOINT OPERATION MEMBERS. Prints the answer, or the exception, as JSON.

import * as ecr from "@aws-sdk/client-ecr";

const [endpoint, operation, members] = process.argv.slice(2);
const client = new ecr.ECRClient(endpoint ? { endpoint } : {});
let answer;
try {
  answer = await client.send(new ecr[`${operation}Command`](JSON.parse(members)));
} catch (error) {
  if (!(error instanceof ecr.ECRServiceException)) throw error;
  answer = {
    // The class that `instanceof` finds, if the SDK has one of that name.
    type: ecr[error.name] && error instanceof ecr[error.name] ? error.name : "ECRServiceException",
    code: error.name,
    message: error.message,
    requestId: error.$metadata.requestId,
  };
}
console.log(JSON.stringify(answer));

//! Pull through cache rules, the fills under way, and what a puller gets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::types::AttributeValue;
use layergate_core::catalog::Catalog;
use layergate_core::role::Role;
use layergate_local::ACCOUNT;
use serde_json::{Value, json};

use super::table::{Row, all_rows, client};
use super::{Answer, Layout, Recorder, Shape, Stack, sha256};

/// How long a fill may take here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry that has an image, and a stack whose repositories `hub/...` come from there.
pub async fn cached(layout: &Layout) -> (Recorder, Stack) {
    let registry = Recorder::registry(layout, |_| None).await;
    let stack = Stack::start().await;
    stack.rule("hub", &registry.url, &[]).await;
    (registry, stack)
}

impl Stack {
    pub fn catalog<R: Role>(&self) -> Catalog<R> {
        Catalog::new(&self.local.engines.sdk_config(), &self.local.engines.config())
    }

    /// Creates a rule.
    pub async fn rule(&self, prefix: &str, upstream: &str, options: &[&str]) {
        let create = ["pull-through", "create", prefix, "--upstream", upstream];
        self.json(&[&create[..], options].concat()).await;
    }

    /// Pulls an image as a client of the registry does: its manifest, by a tag or a digest, and all
    /// that this names, one after the other. Asserts that all have their digests. Gives the digests
    /// in the order in which they were pulled.
    pub async fn pull_image(&self, repository: &str, reference: &str) -> Vec<String> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let (digest, bytes) = self.download(&path).await;
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let mut pulled = vec![digest];
        for image in manifest["manifests"].as_array().into_iter().flatten() {
            let image = image["digest"].as_str().unwrap();
            pulled.extend(Box::pin(self.pull_image(repository, image)).await);
        }
        let config = manifest.get("config").into_iter();
        for blob in config.chain(manifest["layers"].as_array().into_iter().flatten()) {
            let digest = blob["digest"].as_str().unwrap();
            self.download(&format!("/v2/{repository}/blobs/{digest}")).await;
            pulled.push(digest.to_owned());
        }
        pulled
    }

    /// What the registry answers, or what it redirects to; verified.
    async fn download(&self, path: &str) -> (String, Vec<u8>) {
        let answer = self.pull("GET", path).await;
        let digest = answer.headers["docker-content-digest"].clone();
        let bytes = match answer.headers.get("location") {
            Some(location) => verified(location, &digest).await,
            None => answer.text.clone().into_bytes(),
        };
        assert_eq!(sha256(&bytes), digest, "{path}: {answer:?}");
        (digest, bytes)
    }

    /// Asks for a layer's URL as SDKs do: a call that is throttled is repeated.
    pub async fn ask_patiently(&self, repository: &str, digest: &str) -> Answer {
        repeated(async || self.ask(repository, digest).await).await
    }

    /// Asks for a layer's URL, which must be there, and downloads from it.
    pub async fn ask_and_download(&self, repository: &str, layer: &[u8], context: &str) {
        let answer = self.ask_patiently(repository, &sha256(layer)).await;
        assert_eq!(answer.status, 200, "{context}: {answer:?}");
        verified(answer.url(), &sha256(layer)).await;
    }

    /// Asks BatchGetImage for an image by its tag, as SDKs do.
    pub async fn batch_get(&self, repository: &str, tag: &str) -> Answer {
        let members = json!({"repositoryName": repository, "imageIds": [{"imageTag": tag}]});
        repeated(async || self.call(Shape::Rest, "BatchGetImage", &members, ACCOUNT).await).await
    }

    /// The rows of the fills of a repository: of what is on its way, and of failures that are
    /// remembered.
    pub async fn fills(&self, repository: &str) -> Vec<Row> {
        let begin = format!("fill#{ACCOUNT}/{repository}");
        let rows = all_rows(self).await.into_iter();
        let rows = rows.filter(|row| {
            let rest = row["pk"].as_s().unwrap().strip_prefix(&begin);
            rest.is_some_and(|rest| rest.starts_with(['@', ':']))
        });
        rows.collect()
    }

    /// Whether any fill of a repository is on its way, or a failure remembered. Rows whose time is
    /// over may be there.
    pub async fn is_filling(&self, repository: &str) -> bool {
        let fills = self.fills(repository).await;
        fills.iter().any(|row| row["ends_at"].as_n().unwrap().parse::<u64>().unwrap() > now())
    }

    /// Waits until no fill of a repository is on its way.
    pub async fn filled(&self, repository: &str) {
        let ended = async {
            while self.fills(repository).await.iter().any(|row| !row.contains_key("failure")) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.unwrap();
    }

    /// Asserts that a repository's only failure of a layer or an image is this one, that it was
    /// noted after `since`, and that it is remembered for so many seconds.
    pub async fn assert_remembered(
        &self,
        (repository, kind): (&str, &str),
        failure: &str,
        seconds: u64,
        since: u64,
    ) {
        let fills = self.fills(repository).await;
        let failed: Vec<_> = fills
            .iter()
            .filter(|row| row["sk"].as_s().unwrap() == kind && row.contains_key("failure"))
            .collect();
        assert_eq!(failed.len(), 1, "{fills:?}");
        assert_eq!(failed[0]["failure"].as_s().unwrap(), failure);
        let time = |name: &str| failed[0][name].as_n().unwrap().parse::<u64>().unwrap();
        let noted = time("ends_at") - seconds;
        assert!((since..=now()).contains(&noted), "{failure}: {noted} and {since}");
        assert_eq!(time("expires_at") - time("ends_at"), 24 * 60 * 60, "DynamoDB deletes it later");
    }

    /// Lets a repository's failures be remembered for an hour, however slow this machine is.
    pub async fn keep_failures(&self, repository: &str) {
        for row in self.fills(repository).await.iter().filter(|row| row.contains_key("failure")) {
            self.set_number(row, "ends_at", now() + 3600).await;
        }
    }

    /// Lets the time of all leases and remembered failures of a repository pass.
    pub async fn let_fills_pass(&self, repository: &str) {
        for row in self.fills(repository).await {
            self.set_number(&row, "ends_at", now() - 1).await;
        }
    }

    /// Makes it a day and a minute ago that the upstream was asked which image a tag names.
    pub async fn age_tag(&self, repository: &str, tag: &str) {
        let rows = all_rows(self).await;
        let key = format!("tag#{ACCOUNT}/{repository}:{tag}");
        let row = rows.into_iter().find(|row| *row["pk"].as_s().unwrap() == key).unwrap();
        assert!(row.contains_key("checked_at"), "{row:?}");
        self.set_number(&row, "checked_at", now() - 24 * 60 * 60 - 60).await;
    }

    async fn set_number(&self, row: &Row, name: &str, value: u64) {
        let mut row = row.clone();
        row.insert(name.to_owned(), AttributeValue::N(value.to_string()));
        let table = self.local.engines.config().table_name;
        client(self).put_item().table_name(table).set_item(Some(row)).send().await.unwrap();
    }
}

async fn repeated(call: impl AsyncFn() -> Answer) -> Answer {
    let throttled = async {
        loop {
            let answer = call().await;
            if answer.error() != "ThrottlingException" {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, throttled).await.unwrap()
}

/// In seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Downloads, and asserts that the bytes have this digest.
pub async fn verified(url: &str, digest: &str) -> Vec<u8> {
    let bytes = reqwest::get(url).await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
    assert_eq!(sha256(&bytes), digest);
    bytes.to_vec()
}

/// Writes the secret of a rule; gives its ARN.
pub fn secret(stack: &Stack, name: &str, value: &str) -> String {
    let folder = stack.folder.path().join("secrets/ecr-pullthroughcache");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), value).unwrap();
    format!("arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:ecr-pullthroughcache/{name}")
}

/// The digest of a layout's only image.
pub fn image_digest(layout: &Layout) -> String {
    layout.root()["digest"].as_str().unwrap().to_owned()
}

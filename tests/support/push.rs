//! Requests to the registry's writing half, as clients send them over HTTP.

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Body, Client, Method};
use serde_json::Value;

use super::{Layout, Stack, sha256};

/// What came back.
#[derive(Debug)]
pub struct Pushed {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Pushed {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The status, and the code of the error in the body, if there is one.
    pub fn outcome(&self) -> (u16, String) {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        (self.status, body["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
    }

    /// The error's sentence.
    pub fn sentence(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A registry to push to.
#[derive(Debug, Clone)]
pub struct Registry {
    pub url: String,
    /// The `Authorization` header that each request has.
    pub authorization: Option<String>,
    client: Client,
}

impl Registry {
    pub fn at(url: &str) -> Self {
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { url: url.to_owned(), authorization: None, client }
    }

    /// Sends a request. `path` begins with `/v2`; or it is a `Location` that the registry has sent.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Pushed {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let response = request.send().await.unwrap();
        Pushed {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().into(),
        }
    }

    /// Sends a GET, and follows a redirect.
    pub async fn get(&self, path: &str) -> Pushed {
        let answer = self.send("GET", path, &[], "").await;
        match answer.header("location") {
            "" => answer,
            location => {
                let response = reqwest::get(location).await.unwrap();
                Pushed {
                    status: response.status().as_u16(),
                    headers: response.headers().clone(),
                    body: response.bytes().await.unwrap().into(),
                }
            }
        }
    }

    /// Starts an upload; gives its `Location`.
    pub async fn start_upload(&self, repository: &str) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let started = self.send("POST", &path, &[], "").await;
        assert_eq!(started.status, 202, "{started:?}");
        started.header("location").to_owned()
    }

    /// Pushes a blob with POST and PUT; gives its digest.
    pub async fn push_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let location = self.start_upload(repository).await;
        let end = format!("{location}?digest={digest}");
        let put = self.send("PUT", &end, &[], bytes.to_vec()).await;
        assert_eq!(put.status, 201, "{put:?}");
        digest
    }

    pub async fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Pushed {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.send("PUT", &path, &[("content-type", media_type)], bytes.to_vec()).await
    }

    /// Pushes all that a layout has, an index after its images; gives the last answer.
    pub async fn push(&self, layout: &Layout, repository: &str, tag: &str) -> Pushed {
        let root = layout.root();
        self.push_images(layout, repository, &root).await;
        self.push_one(layout, repository, tag, &root).await
    }

    async fn push_images(&self, layout: &Layout, repository: &str, image: &Value) {
        let bytes = std::fs::read(layout.blob(image["digest"].as_str().unwrap())).unwrap();
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let parts = |name: &str| manifest[name].as_array().cloned().unwrap_or_default();
        for image in parts("manifests") {
            Box::pin(self.push_images(layout, repository, &image)).await;
            let digest = image["digest"].as_str().unwrap();
            let pushed = self.push_one(layout, repository, digest, &image).await;
            assert_eq!(pushed.status, 201, "{pushed:?}");
        }
        for blob in parts("layers").iter().chain(manifest.get("config")) {
            let bytes = std::fs::read(layout.blob(blob["digest"].as_str().unwrap())).unwrap();
            self.push_blob(repository, &bytes).await;
        }
    }

    async fn push_one(
        &self,
        layout: &Layout,
        repository: &str,
        reference: &str,
        image: &Value,
    ) -> Pushed {
        let bytes = std::fs::read(layout.blob(image["digest"].as_str().unwrap())).unwrap();
        let media_type = image["mediaType"].as_str().unwrap();
        self.push_manifest(repository, reference, media_type, &bytes).await
    }
}

impl Stack {
    /// The stack's own registry.
    pub fn registry(&self) -> Registry {
        Registry::at(&self.local.url)
    }
}

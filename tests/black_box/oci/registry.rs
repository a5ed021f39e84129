//! The registry protocol: what the OCI distribution specification wants of who is pulled from.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use layergate_core::config::Authorization;
use layergate_local::ACCOUNT;
use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use support::{
    Layout, OUTSIDER, Stack, TARGET, count_requests, pull, registry_event, send, sha256,
};

const LAYER: &[u8] = b"a layer that is pulled";
const DELETED: &[u8] = b"a layer whose only image is deleted";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A stack with a single image `team/app:1`, an index `team/app:both`, and a layer whose image was
/// deleted. Also gives the digests of the image and of the index.
async fn stack() -> (Stack, String, String) {
    let stack = Stack::start().await;
    let image = stack.publish(&Layout::of_layers(&[LAYER]), "team/app:1").await;
    let layout = Layout::empty();
    let images = [layout.add_image(&[LAYER]), layout.add_image(&[b"of another platform"])];
    layout.set_index(&[layout.add_index(&images)]);
    let index = stack.publish(&layout, "team/app:both").await;
    stack.publish(&Layout::of_layers(&[DELETED]), "team/app:old").await;
    stack.json(&["image", "delete", "team/app:old"]).await;
    let digest = |published: &Value| published["imageDigest"].as_str().unwrap().to_owned();
    let (image, index) = (digest(&image), digest(&index));
    (stack, image, index)
}

/// What a row of the table is answered.
enum Expected {
    /// A redirect to this content, of this media type if that is said.
    Content(&'static str, String, Option<&'static str>),
    /// A body of JSON.
    Json(Value),
    /// An error: its status and its code.
    Error(u16, &'static str),
}

#[tokio::test]
async fn it_does_what_the_specification_wants() {
    use Expected::{Content, Error, Json};
    let (stack, image, index) = stack().await;
    let layer = sha256(LAYER);
    let unknown = sha256(b"nobody has this");
    let upper = layer.replace("sha256:", "").to_uppercase();
    // The section of the specification, version 1.1.1; what is asked for; and what must come of it.
    let table = [
        ("Determining Support", "GET", "/v2/".to_owned(), Json(json!({}))),
        ("Determining Support, without the slash", "GET", "/v2".to_owned(), Json(json!({}))),
        (
            "Pulling manifests, by tag",
            "GET",
            "/v2/team/app/manifests/1".to_owned(),
            Content("manifest", image.clone(), Some(MANIFEST)),
        ),
        (
            "Pulling manifests, by digest",
            "GET",
            format!("/v2/team/app/manifests/{image}"),
            Content("manifest", image.clone(), Some(MANIFEST)),
        ),
        (
            "Pulling manifests, an index",
            "GET",
            "/v2/team/app/manifests/both".to_owned(),
            Content("manifest", index.clone(), Some(INDEX)),
        ),
        (
            "Checking if content exists in the registry, a manifest by tag",
            "HEAD",
            "/v2/team/app/manifests/both".to_owned(),
            Content("manifest", index.clone(), Some(INDEX)),
        ),
        (
            "Checking if content exists in the registry, a manifest by digest",
            "HEAD",
            format!("/v2/team/app/manifests/{index}"),
            Content("manifest", index.clone(), Some(INDEX)),
        ),
        (
            "Pulling manifests, a tag that is not there",
            "GET",
            "/v2/team/app/manifests/2".to_owned(),
            Error(404, "MANIFEST_UNKNOWN"),
        ),
        (
            "Pulling manifests, a digest that is not there",
            "GET",
            format!("/v2/team/app/manifests/{unknown}"),
            Error(404, "MANIFEST_UNKNOWN"),
        ),
        (
            "Pulling manifests, the tag of a deleted image",
            "GET",
            "/v2/team/app/manifests/old".to_owned(),
            Error(404, "MANIFEST_UNKNOWN"),
        ),
        (
            "Pulling manifests, a layer is none",
            "GET",
            format!("/v2/team/app/manifests/{layer}"),
            Error(404, "MANIFEST_UNKNOWN"),
        ),
        (
            "Pulling manifests, a repository that is not there",
            "GET",
            "/v2/team/other/manifests/1".to_owned(),
            Error(404, "NAME_UNKNOWN"),
        ),
        (
            "Checking if content exists in the registry, a manifest that is not there",
            "HEAD",
            "/v2/team/app/manifests/2".to_owned(),
            Error(404, ""),
        ),
        (
            "Pulling blobs",
            "GET",
            format!("/v2/team/app/blobs/{layer}"),
            Content("layer", layer.clone(), None),
        ),
        (
            "Pulling blobs, digits in upper case name the same",
            "GET",
            format!("/v2/team/app/blobs/sha256:{upper}"),
            Content("layer", layer.clone(), None),
        ),
        (
            "Checking if content exists in the registry, a blob",
            "HEAD",
            format!("/v2/team/app/blobs/{layer}"),
            Content("layer", layer.clone(), None),
        ),
        (
            "Pulling blobs, one that is not there",
            "GET",
            format!("/v2/team/app/blobs/{unknown}"),
            Error(404, "BLOB_UNKNOWN"),
        ),
        (
            "Pulling blobs, one of another repository",
            "GET",
            format!("/v2/team/other/blobs/{layer}"),
            Error(404, "NAME_UNKNOWN"),
        ),
        (
            "Checking if content exists in the registry, a blob that is not there",
            "HEAD",
            format!("/v2/team/app/blobs/{unknown}"),
            Error(404, ""),
        ),
        (
            "Listing Tags",
            "GET",
            "/v2/team/app/tags/list".to_owned(),
            Json(json!({"name": "team/app", "tags": ["1", "both"]})),
        ),
        (
            "Listing Tags, with a slash at the end",
            "GET",
            "/v2/team/app/tags/list/".to_owned(),
            Json(json!({"name": "team/app", "tags": ["1", "both"]})),
        ),
        (
            "Listing Tags, of a repository that is not there",
            "GET",
            "/v2/team/other/tags/list".to_owned(),
            Error(404, "NAME_UNKNOWN"),
        ),
        (
            "Listing Referrers: not offered, so that clients look for the tag",
            "GET",
            format!("/v2/team/app/referrers/{image}"),
            Error(404, "UNSUPPORTED"),
        ),
    ];
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    for (section, method, path, expected) in table {
        let method: Method = method.parse().unwrap();
        let url = format!("{}{path}", stack.local.url);
        let answer = client.request(method.clone(), url).send().await.unwrap();
        let headers = answer.headers().clone();
        assert_eq!(headers["docker-distribution-api-version"], "registry/2.0", "{section}");
        match expected {
            Content(kind, digest, media_type) => {
                assert_eq!(headers["docker-content-digest"], digest, "{section}");
                // A manifest is answered. A layer is redirected to, unless only its headers are
                // wanted by somebody who may push.
                let is_redirect = kind == "layer" && method == Method::GET;
                assert_eq!(answer.status(), if is_redirect { 307 } else { 200 }, "{section}");
                let content = match headers.get("location") {
                    Some(location) => reqwest::get(location.to_str().unwrap()).await.unwrap(),
                    None => answer,
                };
                assert_eq!(content.status(), 200, "{section}: the {kind}");
                if let Some(media_type) = media_type {
                    assert_eq!(content.headers()["content-type"], media_type, "{section}");
                }
                assert!(content.headers()["content-length"] != "0", "{section}");
                if method == Method::GET {
                    assert_eq!(sha256(&content.bytes().await.unwrap()), digest, "{section}");
                }
            }
            Json(body) => {
                assert_eq!(answer.status(), 200, "{section}");
                assert_eq!(
                    serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap(),
                    body,
                    "{section}"
                );
            }
            Error(status, code) => {
                assert_eq!(answer.status(), status, "{section}");
                let body = answer.text().await.unwrap();
                let error: Value = serde_json::from_str(&body).unwrap_or_default();
                assert_eq!(
                    error["errors"][0]["code"].as_str().unwrap_or_default(),
                    code,
                    "{section}: {body}"
                );
                assert_eq!(status == 405, headers.contains_key("allow"), "{section}");
            }
        }
    }
}

/// Section "Listing Tags" of the specification: pages, their order, and the link to the next one.
#[tokio::test]
async fn tags_come_in_pages_in_the_order_of_their_bytes() {
    let stack = Stack::start().await;
    let layout = Layout::of_layers(&[LAYER]);
    for tag in ["b", "A", "10", "9", "a-1", "a"] {
        stack.publish(&layout, &format!("app:{tag}")).await;
    }
    let all = ["10", "9", "A", "a", "a-1", "b"];
    let cases: [(&str, &str, &[&str], Option<&str>); 12] = [
        ("all", "", &all, None),
        ("the first ones", "?n=2", &all[..2], Some("</v2/app/tags/list?n=2&last=9>; rel=\"next\"")),
        (
            "the next ones",
            "?n=2&last=9",
            &all[2..4],
            Some("</v2/app/tags/list?n=2&last=a>; rel=\"next\""),
        ),
        ("the last ones", "?n=2&last=a", &all[4..], None),
        ("after a tag that is not there", "?last=B", &all[3..], None),
        ("after the last one", "?last=b", &[], None),
        ("none", "?n=0", &[], None),
        ("an empty number", "?n=", &all, None),
        ("an empty tag", "?last=", &all, None),
        ("an empty number and a tag", "?n=&last=a", &all[4..], None),
        (
            "a number and an empty tag",
            "?n=2&last=",
            &all[..2],
            Some("</v2/app/tags/list?n=2&last=9>; rel=\"next\""),
        ),
        ("more than a page has", "?n=100000", &all, None),
    ];
    for (description, query, tags, link) in cases {
        let answer = stack.pull("GET", &format!("/v2/app/tags/list{query}")).await;
        assert_eq!(answer.body, json!({"name": "app", "tags": tags}), "{description}");
        assert_eq!(answer.headers.get("link").map(String::as_str), link, "{description}");
    }
    for query in ["?n=many", "?n=-1", "?n=%20", "?last=no%20tag"] {
        let answer = stack.pull("GET", &format!("/v2/app/tags/list{query}")).await;
        assert_eq!((answer.status, answer.code()), (400, "PAGINATION_NUMBER_INVALID"), "{query}");
    }
}

#[tokio::test]
async fn bad_input_is_the_right_error_and_never_another_repositorys_content() {
    let (stack, image, _) = stack().await;
    let long = "a".repeat(300);
    let digest = sha256(LAYER);
    let cases = [
        ("upper case", "/v2/Team/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("a name too short", "/v2/a/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("a name too long", format!("/v2/{long}/manifests/1"), 400, "NAME_INVALID"),
        ("up and down again", "/v2/other/../team/app/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("up, escaped", "/v2/other/%2e%2e/team/app/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("escapes without digits", "/v2/team%zzapp/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("escapes of no text", "/v2/team%ffapp/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("an escape, escaped", "/v2/%2574eam/app/manifests/1".to_owned(), 400, "NAME_INVALID"),
        (
            "a tag's escape, escaped",
            "/v2/team/app/manifests/%2531".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        ("two slashes", "/v2//team/app/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("a separator of keys", format!("/v2/team/app@{digest}/manifests/1"), 400, "NAME_INVALID"),
        ("no name", "/v2/manifests/1".to_owned(), 404, "UNSUPPORTED"),
        (
            "a tag with a space, escaped",
            "/v2/team/app/manifests/a%20b".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        ("a tag too long", format!("/v2/team/app/manifests/{long}"), 404, "MANIFEST_UNKNOWN"),
        ("an empty tag", "/v2/team/app/manifests/".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (
            "a tag that begins with a dot",
            "/v2/team/app/manifests/..".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "a manifest's digest without digits",
            "/v2/team/app/manifests/sha256:".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        (
            "an escaped colon, escaped",
            format!("/v2/team/app/blobs/{}", digest.replace(':', "%253A")),
            400,
            "DIGEST_INVALID",
        ),
        ("a blob by tag", "/v2/team/app/blobs/1".to_owned(), 400, "DIGEST_INVALID"),
        (
            "a digest of 10,000 digits",
            format!("/v2/team/app/blobs/sha256:{}", "a".repeat(10_000)),
            404,
            "BLOB_UNKNOWN",
        ),
        (
            "a manifest of 10,000 digits",
            format!("/v2/team/app/manifests/sha256:{}", "a".repeat(10_000)),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "another algorithm",
            "/v2/team/app/blobs/md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
            404,
            "BLOB_UNKNOWN",
        ),
        ("the catalog, which is not offered", "/v2/_catalog".to_owned(), 404, "UNSUPPORTED"),
        ("another path", "/v2/team/app".to_owned(), 404, "UNSUPPORTED"),
        (
            "uploads, which are not read",
            "/v2/team/app/blobs/uploads/".to_owned(),
            404,
            "UNSUPPORTED",
        ),
        ("something below the tags", "/v2/team/app/tags/list/1".to_owned(), 404, "UNSUPPORTED"),
        ("a part more", format!("/v2/team/app/manifests/{image}/x"), 404, "UNSUPPORTED"),
    ];
    for (description, path, status, code) in cases {
        let answer = stack.pull("GET", &path).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{description}");
        // A HEAD is refused alike, without a body.
        let head = stack.pull("HEAD", &path).await;
        assert_eq!((head.status, &head.body), (status, &Value::Null), "{description}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
        let answer = stack.pull(method, "/v2/team/app/manifests/1").await;
        assert_eq!((answer.status, answer.code()), (405, "UNSUPPORTED"), "{method}");
        assert_eq!(answer.headers["allow"], "GET, HEAD", "{method}");
    }
}

/// A URL may have any character percent-encoded. REST APIs and Function URLs hand a path on as it
/// came; HTTP APIs and `sam local` decode it before.
#[tokio::test]
async fn a_path_is_percent_decoded_once_whichever_gateway_it_comes_through() {
    let (stack, image, _) = stack().await;
    let authorization = stack.login(ACCOUNT, SystemTime::now()).await;
    let rest = |path: &str| registry_event("GET", path, Some(&authorization));
    let sam_local = |path: &str| {
        let mut event = rest(path);
        event["path"] = path.into();
        event["requestContext"]["path"] = "/{proxy+}".into();
        event
    };
    let version_2 = |path: &str, host: &str| {
        json!({
            "version": "2.0", "rawPath": path, "headers": {"authorization": authorization},
            "requestContext": {"http": {"method": "GET", "path": path}, "domainName": host},
        })
    };
    let http = |path: &str| version_2(path, "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com");
    let url = |path: &str| version_2(path, "k1l2m3n4o5.lambda-url.us-east-1.on.aws");
    let of = |digest: &str, colon: &str| digest.replace(':', colon);
    // The path as the client sends it, what it is once decoded, and the status.
    let paths = [
        (
            format!("/v2/team/app/manifests/{}", of(&image, "%3A")),
            format!("/v2/team/app/manifests/{image}"),
            200,
        ),
        (
            format!("/v2/team/app/blobs/{}", of(&sha256(LAYER), "%3a")),
            format!("/v2/team/app/blobs/{}", sha256(LAYER)),
            307,
        ),
        ("/v2/team/app/manifests/%31".into(), "/v2/team/app/manifests/1".into(), 200),
        ("/v2/te%61m/%61pp/manifests/1".into(), "/v2/team/app/manifests/1".into(), 200),
        ("/v2/team%2Fapp/tags%2flist".into(), "/v2/team/app/tags/list".into(), 200),
        ("/v2/team/app/manifests/%2531".into(), "/v2/team/app/manifests/%31".into(), 404),
        ("/v2/%2574eam/app/tags/list".into(), "/v2/%74eam/app/tags/list".into(), 400),
    ];
    for (sent, decoded, status) in paths {
        let events = [
            ("a REST API", rest(&sent)),
            ("sam local", sam_local(&decoded)),
            ("an HTTP API", http(&decoded)),
            ("a Function URL", url(&sent)),
        ];
        for (gateway, event) in events {
            assert_eq!(send(&stack.handler, &event).await.status, status, "{gateway}: {sent}");
        }
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        let answer = client.get(format!("{}{sent}", stack.local.url)).send().await.unwrap();
        assert_eq!(u64::from(answer.status().as_u16()), status, "the local stack: {sent}");
    }
}

#[tokio::test]
async fn a_range_is_the_matter_of_who_has_the_bytes() {
    let (stack, ..) = stack().await;
    let url = format!("{}/v2/team/app/blobs/{}", stack.local.url, sha256(LAYER));
    let part = Client::new().get(url).header("range", "bytes=2-6").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), &LAYER[2..=6]);
}

#[tokio::test]
async fn the_registry_is_where_the_gateways_put_it_and_nowhere_else() {
    let (stack, ..) = stack().await;
    let authorization = stack.login(ACCOUNT, SystemTime::now()).await;
    let event = registry_event("GET", "/v2/team/app/manifests/1", Some(&authorization));
    let with = |changes: &[(&str, Value)]| {
        let mut event = event.clone();
        for (pointer, value) in changes {
            *event.pointer_mut(pointer).unwrap() = value.clone();
        }
        event
    };
    let cases = [
        ("a REST API's stage v2, or a custom domain's base path", with(&[]), 200),
        (
            "sam local: the resource's path in the context, the client's beside it",
            with(&[
                ("/path", "/v2/team/app/manifests/1".into()),
                ("/requestContext/path", "/{proxy+}".into()),
            ]),
            200,
        ),
        (
            "another stage: no operation of ECR's is named",
            with(&[("/requestContext/path", "/Prod/team/app/manifests/1".into())]),
            400,
        ),
        (
            "a stage whose name begins alike",
            with(&[("/requestContext/path", "/v22/team/app/manifests/1".into())]),
            400,
        ),
    ];
    for (description, event, status) in cases {
        assert_eq!(send(&stack.handler, &event).await.status, status, "{description}");
    }
    // With AUTHORIZATION=gateway, whoever the gateway lets in reads everything by ECR's API. The
    // registry's stage lets in everybody who sends anything, so nothing there is a call of that
    // API.
    let handler = stack.handler_with(|config| config.authorization = Authorization::Gateway);
    let mut event = registry_event("POST", "/v2/", Some("Basic eA=="));
    event["headers"]["X-Amz-Target"] = TARGET.into();
    event["body"] =
        json!({"repositoryName": "team/app", "layerDigest": sha256(LAYER)}).to_string().into();
    let answer = send(&handler, &event).await;
    assert_eq!((answer.status, answer.code()), (401, "UNAUTHORIZED"));
    // Nor is it one where the same method is reached in another stage, or by another base path of a
    // domain.
    for path in ["/Prod/x", "/registry/x"] {
        event["requestContext"]["path"] = path.into();
        let answer = send(&handler, &event).await;
        assert_eq!(answer.error(), "AccessDeniedException", "{path}");
    }
}

#[tokio::test]
async fn an_account_reads_what_was_granted_to_it_and_cannot_tell_what_else_exists() {
    let (stack, image, _) = stack().await;
    let outsider = stack.login(OUTSIDER, SystemTime::now()).await;
    let paths = |name: &str, digest: &str| {
        [
            format!("/v2/{name}/manifests/1"),
            format!("/v2/{name}/manifests/{digest}"),
            format!("/v2/{name}/blobs/{}", sha256(LAYER)),
            format!("/v2/{name}/tags/list"),
        ]
    };
    let ask = async |path: &str| pull(&stack.handler, "GET", path, Some(&outsider)).await;
    let (url, requests) = count_requests(&stack.local.engines.dynamodb_url).await;
    let counted = stack.handler_with(|config| config.dynamodb_endpoint = Some(url));
    pull(&counted, "GET", "/v2/team/app/manifests/1", Some(&outsider)).await; // reads the layout
    for (there, absent) in paths("team/app", &image).iter().zip(paths("team/xyz", &sha256(b"x"))) {
        for path in [there, &absent] {
            let before = requests.load(Ordering::SeqCst);
            pull(&counted, "GET", path, Some(&outsider)).await;
            // An image may come from another registry, if a rule says so.
            let cost = if path.contains("/manifests/") { 2 } else { 1 };
            assert_eq!(
                requests.load(Ordering::SeqCst) - before,
                cost,
                "a refusal costs the same: {path}"
            );
        }
        let (there, absent) = (ask(there).await, ask(&absent).await);
        assert_eq!((there.status, there.code()), (403, "DENIED"), "{there:?}");
        assert_eq!(there.headers, absent.headers);
        assert_eq!(there.body.to_string(), absent.body.to_string().replace("team/xyz", "team/app"));
    }
    stack.json(&["repository", "grant", "team/app", OUTSIDER]).await;
    for (path, status) in paths("team/app", &image).iter().zip([200, 200, 307, 200]) {
        assert_eq!(ask(path).await.status, status, "{path}");
    }
    let unknown = ask("/v2/team/app/manifests/unknown").await;
    assert_eq!(
        (unknown.status, unknown.code()),
        (404, "MANIFEST_UNKNOWN"),
        "whoever may read is told the truth"
    );
}

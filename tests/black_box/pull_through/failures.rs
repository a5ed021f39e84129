//! What comes of a pull when the upstream does not give what it is asked for: every row of the
//! table in `docs/pull-through.md`, with what the next call does, and what goes on working
//! meanwhile.

use std::time::SystemTime;

use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use layergate_core::aws::Patience;
use layergate_local::ACCOUNT;
use serde_json::json;

use support::{
    Answer, Delivery, Fault, FaultProxy, Gate, Lambda, Layout, Recorder, Shape, Stack, Switch,
    TARGET, assert_consistent, breaking, call, headed, now, pull, sha256,
};

/// What an upstream answers instead of a layer or a manifest, and what comes of that.
struct Row {
    description: &'static str,
    answer: fn(&Parts) -> Response,
    failure: &'static str,
    reason: &'static str,
    /// What the registry protocol answers about a layer.
    answered: (u64, &'static str),
    failure_code: &'static str,
    /// How long it is remembered, in seconds.
    remembered: u64,
}

const DENIED: (u64, &str) = (403, "DENIED");
const UNKNOWN: (u64, &str) = (424, "UNKNOWN");
const TOO_MANY: (u64, &str) = (429, "TOOMANYREQUESTS");

/// As many bytes as the layer has that is asked for.
const OTHER_BYTES: &[u8] = &[b'x'; LAYER_SIZE];

const LAYER_SIZE: usize = 32;

/// How many rows are tried at once.
const AT_ONCE: usize = 4;

fn to(place: &str) -> Response {
    headed(307, "location", place)
}

/// A row of one of the redirects that are never followed.
const fn forbidden(description: &'static str, answer: fn(&Parts) -> Response) -> Row {
    Row {
        description,
        answer,
        failure: "ForbiddenAddress",
        reason: "the upstream registry leads to an address that is not allowed",
        answered: UNKNOWN,
        failure_code: "UpstreamUnavailable",
        remembered: 300,
    }
}

const fn too_many(
    description: &'static str,
    answer: fn(&Parts) -> Response,
    remembered: u64,
) -> Row {
    Row {
        description,
        answer,
        failure: "TooManyRequests",
        reason: "the upstream registry got too many requests",
        answered: TOO_MANY,
        failure_code: "UpstreamTooManyRequests",
        remembered,
    }
}

const fn denied(description: &'static str, answer: fn(&Parts) -> Response) -> Row {
    Row {
        description,
        answer,
        failure: "AccessDenied",
        reason: "the upstream registry refused access",
        answered: DENIED,
        failure_code: "UpstreamAccessDenied",
        remembered: 60,
    }
}

const fn unavailable(description: &'static str, answer: fn(&Parts) -> Response) -> Row {
    Row {
        description,
        answer,
        failure: "Unavailable",
        reason: "the upstream registry cannot be reached or failed",
        answered: UNKNOWN,
        failure_code: "UpstreamUnavailable",
        remembered: 15,
    }
}

const fn wrong(description: &'static str, answer: fn(&Parts) -> Response) -> Row {
    Row {
        description,
        answer,
        failure: "WrongContent",
        reason: "the upstream registry sent something else than was asked for",
        answered: UNKNOWN,
        failure_code: "UpstreamUnavailable",
        remembered: 300,
    }
}

fn rows() -> Vec<Row> {
    vec![
        denied("401 that asks for nothing", |_| headed(401, "x", "x")),
        denied("401 that asks for a password", |_| {
            headed(401, "www-authenticate", "Basic realm=\"r\"")
        }),
        denied("403", |_| headed(403, "x", "x")),
        Row {
            description: "404",
            answer: |_| headed(404, "x", "x"),
            failure: "NotFound",
            reason: "the upstream registry does not have it",
            answered: (404, "BLOB_UNKNOWN"),
            failure_code: "ImageNotFound",
            remembered: 300,
        },
        wrong("other bytes", |_| OTHER_BYTES.into_response()),
        wrong("too few bytes", |_| "awaits".into_response()),
        wrong("too many bytes", |_| vec![b'x'; 1000].into_response()),
        Row {
            description: "a redirect to itself",
            answer: |_| to("?"),
            failure: "RedirectLoop",
            reason: "the upstream registry redirected too often",
            answered: UNKNOWN,
            failure_code: "UpstreamUnavailable",
            remembered: 300,
        },
        forbidden("a redirect to the metadata service", |_| {
            to("https://169.254.169.254/latest/meta-data/")
        }),
        forbidden("the same without TLS", |_| to("http://169.254.169.254/latest/meta-data/")),
        forbidden("a redirect to loopback", |_| to("https://127.0.0.2/")),
        forbidden("a redirect to IPv6 loopback", |_| to("https://[::1]/")),
        forbidden("a redirect to an IPv4-mapped address", |_| {
            to("https://[::ffff:169.254.169.254]/")
        }),
        forbidden("a redirect to a name of loopback", |_| to("https://localhost/")),
        too_many("429", |_| headed(429, "x", "x"), 60),
        too_many("429 for a minute", |_| headed(429, "retry-after", "61"), 61),
        too_many("429 for two minutes", |_| headed(429, "retry-after", "120"), 120),
        too_many("429 for a day", |_| headed(429, "retry-after", "86400"), 3600),
        unavailable("500", |_| headed(500, "x", "x")),
        unavailable("503", |_| headed(503, "retry-after", "3600")),
        unavailable("a connection that breaks", |_| Response::new(breaking(b"awaits"))),
        unavailable("a body that ends too early", |_| {
            Gate::opened().body(b"awaits").into_response()
        }),
    ]
}

/// An upstream of one image with two layers, the second of which was not pulled yet.
struct Half {
    registry: Recorder,
    upstream: Switch,
    repository: String,
    /// The layer that is here.
    cached: Vec<u8>,
    /// The layer that is not.
    absent: Vec<u8>,
}

impl Half {
    async fn of(stack: &Stack, prefix: &str) -> Self {
        let (cached, absent) =
            (format!("{prefix} is here"), format!("{:LAYER_SIZE$}", format!("{prefix} is not")));
        let layout = Layout::of_layers(&[cached.as_bytes(), absent.as_bytes()]);
        let (registry, upstream) = Recorder::switched(&layout).await;
        stack.rule(prefix, &registry.url, &[]).await;
        let half = Self {
            registry,
            upstream,
            repository: format!("{prefix}/team/app"),
            cached: cached.into_bytes(),
            absent: absent.into_bytes(),
        };
        assert_eq!(stack.pull("GET", &half.path("manifests/1")).await.status, 200);
        half.assert_cached_is_given(stack, "at first").await;
        half
    }

    fn path(&self, what: &str) -> String {
        format!("/v2/{}/{what}", self.repository)
    }

    fn blob(&self) -> String {
        self.path(&format!("blobs/{}", sha256(&self.absent)))
    }

    async fn assert_cached_is_given(&self, stack: &Stack, context: &str) {
        assert_eq!(stack.pull("GET", &self.path("manifests/1")).await.status, 200, "{context}");
        stack.ask_and_download(&self.repository, &self.cached, context).await;
    }
}

fn assert_upstream_error(answer: &Answer, reason: &str, context: &str) {
    answer.assert_well_formed();
    assert_eq!(
        (answer.status, answer.error()),
        (400, "UnableToGetUpstreamLayerException"),
        "{context}"
    );
    let sentence =
        "There was an issue getting the upstream layer matching the pull through cache rule";
    assert_eq!(answer.message(), format!("{sentence}: {reason}."), "{context}");
}

#[tokio::test]
async fn each_failure_of_an_upstream_is_told_with_its_reason_and_remembered() {
    let stack = &Stack::start().await;
    let rows = rows();
    let rows =
        rows.iter().enumerate().map(|(index, row)| assert_row(stack, row, format!("row{index}")));
    stream::iter(rows).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

async fn assert_row(stack: &Stack, row: &Row, prefix: String) {
    let Row { description, answer, failure, reason, answered, failure_code, remembered } = row;
    let half = Half::of(stack, &prefix).await;
    let repository = &half.repository;
    let answer = *answer;
    half.upstream.set(move |request| Some(answer(request)));

    let since = now();
    let refused = stack.ask_patiently(repository, &sha256(&half.absent)).await;
    assert_upstream_error(&refused, reason, description);
    stack.assert_remembered((repository, "layer"), failure, *remembered, since).await;
    stack.keep_failures(repository).await;

    // Nobody asks the upstream again meanwhile, at either door.
    let asked = half.registry.asked();
    assert_upstream_error(&stack.ask(repository, &sha256(&half.absent)).await, reason, description);
    let refused = stack.pull("GET", &half.blob()).await;
    assert_eq!((refused.status, refused.code()), *answered, "{description}");
    let said = refused.body["errors"][0]["message"].as_str().unwrap();
    assert!(said.ends_with(reason), "{description}: {said}");
    assert_eq!(half.registry.asked(), asked, "{description}");

    let refused = stack.batch_get(repository, "2").await;
    assert_eq!(refused.status, 200, "{description}: {refused:?}");
    let failures = &refused.body["failures"];
    assert_eq!(failures[0]["failureCode"], *failure_code, "{description}: {failures}");
    stack.keep_failures(repository).await;
    let asked = half.registry.asked();
    let again = stack.batch_get(repository, "2").await;
    assert_eq!(again.body, refused.body, "{description}");
    let refused = stack.pull("GET", &half.path("manifests/2")).await;
    let (status, code) = *answered;
    let code = if status == 404 { "MANIFEST_UNKNOWN" } else { code };
    assert_eq!((refused.status, refused.code()), (status, code), "{description}");
    assert_eq!(half.registry.asked(), asked, "{description}");

    half.assert_cached_is_given(stack, description).await;
    assert_eq!(half.registry.asked(), asked, "{description}");

    half.upstream.off();
    stack.let_fills_pass(repository).await;
    stack.ask_and_download(repository, &half.absent, description).await;
    assert_consistent(stack, repository).await;
}

#[tokio::test]
async fn a_layer_that_was_not_pulled_before_its_rule_went_cannot_be_had() {
    let stack = Stack::start().await;
    let half = Half::of(&stack, "hub").await;
    stack.json(&["pull-through", "delete", "hub"]).await;
    let asked = half.registry.asked();
    let since = now();
    for _ in 0..2 {
        let refused = stack.ask_patiently(&half.repository, &sha256(&half.absent)).await;
        assert_upstream_error(
            &refused,
            "there is no usable rule for the repository any more",
            "no rule",
        );
        let refused = stack.pull("GET", &half.blob()).await;
        assert_eq!((refused.status, refused.code()), DENIED);
    }
    stack.assert_remembered((&half.repository, "layer"), "NoRule", 60, since).await;
    let refused = stack.batch_get(&half.repository, "2").await;
    assert_eq!(refused.body["failures"][0]["failureCode"], "ImageNotFound", "{refused:?}");
    // A tag that cannot be looked up any more is served as it is.
    stack.age_tag(&half.repository, "1").await;
    half.assert_cached_is_given(&stack, "no rule").await;
    assert_eq!(half.registry.asked(), asked);
}

#[tokio::test]
async fn what_is_too_large_is_not_fetched() {
    let stack = Stack::start().await;
    let layout = Layout::empty();
    let config = layout.add_blob("application/vnd.oci.image.config.v1+json", b"{}");
    let digest = sha256(b"11 GiB");
    let layer = json!({
        "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 11_u64 << 30,
    });
    let image = layout.add_manifest(&config, &[layer]);
    layout.set_index(&[image]);
    let (registry, upstream) = Recorder::switched(&layout).await;
    stack.rule("hub", &registry.url, &[]).await;
    let repository = "hub/team/app";
    assert_eq!(stack.pull("GET", "/v2/hub/team/app/manifests/1").await.status, 200);
    let reason = "what the upstream registry has is too large";
    assert_upstream_error(&stack.ask_patiently(repository, &digest).await, reason, "a layer");
    assert_eq!(registry.count(&["/blobs/"]), 0);
    upstream.set(|_| Some(vec![b' '; 5 * 1024 * 1024].into_response()));
    let refused = stack.pull("GET", "/v2/hub/team/app/manifests/2").await;
    assert_eq!((refused.status, refused.code()), UNKNOWN);
    assert!(
        refused.body["errors"][0]["message"].as_str().unwrap().ends_with(reason),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_fault_of_the_service_is_not_the_upstreams_and_is_not_remembered() {
    let stack = &Stack::start().await;
    let s3 = FaultProxy::to(&stack.local.engines.s3_url).await;
    let broken_s3 =
        Lambda::with(stack, Delivery::Once, |config| config.s3_endpoint = Some(s3.url.clone()))
            .await;
    let no = Fault::Answer(
        "403 Forbidden",
        "<Error><Code>AccessDenied</Code><Message>No</Message></Error>",
    );
    let refusing = Lambda::on(stack, Delivery::Refused).await;
    for (prefix, lambda) in [("lambda", &refusing), ("s3", &broken_s3)] {
        let half = Half::of(stack, prefix).await;
        s3.set(no);
        let handler = stack.handler_with_patience(Patience::CLIENT, |config| {
            config.lambda_endpoint = Some(lambda.url.clone())
        });
        let body = json!({"repositoryName": half.repository, "layerDigest": sha256(&half.absent)})
            .to_string();
        let refused =
            call(&handler, Shape::Rest, Some(TARGET), body.as_bytes(), Some(ACCOUNT)).await;
        refused.assert_well_formed();
        assert_eq!(refused.error(), "ServerException", "{prefix}");
        if prefix == "lambda" {
            assert!(stack.fills(&half.repository).await.is_empty(), "the lease was given back");
        }
        let authorization = stack.login(ACCOUNT, SystemTime::now()).await;
        let refused = pull(&handler, "GET", &half.blob(), Some(&authorization)).await;
        assert_eq!((refused.status, refused.code()), (500, "UNKNOWN"), "{prefix}");
        half.assert_cached_is_given(stack, prefix).await;

        s3.set(Fault::None);
        refusing.set(Delivery::Once);
        stack.let_fills_pass(&half.repository).await;
        stack.ask_and_download(&half.repository, &half.absent, prefix).await;
        assert_consistent(stack, &half.repository).await;
    }
}

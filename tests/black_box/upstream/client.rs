//! The client of other registries: what each answer of theirs is taken for, and where it never
//! goes.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use layergate_upstream::{
    Danger, Error, Host, Http, Patience, Trust, Upstream, UpstreamRepository,
};

use support::upstream::{ALL_SCOPES, bearer, client, credentials, digest, read, tag};
use support::{Fault, FaultProxy, Layout, Recorder, breaking, headed, nobody_listens, sha256};

const LAYER: &[u8] = b"a layer's bytes";

#[tokio::test]
async fn manifests_and_blobs_are_fetched() {
    let layout = Layout::of_layers(&[LAYER]);
    let registry = Recorder::registry(&layout, |_| None).await;
    let upstream = client(&registry.url, None);
    let root = layout.root();
    let tagged = upstream.tagged_manifest(&tag()).await.unwrap();
    assert_eq!(tagged.digest.to_string(), root["digest"]);
    assert_eq!(tagged.media_type, root["mediaType"]);
    assert_eq!(sha256(&tagged.bytes), root["digest"]);
    let by_digest = upstream.manifest(&tagged.digest).await.unwrap();
    assert_eq!(by_digest.bytes, tagged.bytes);
    assert_eq!(upstream.digest_of(&tag()).await.unwrap(), tagged.digest);

    let mut blob = upstream.blob(&digest(LAYER), LAYER.len() as u64).unwrap();
    blob.open().await.unwrap();
    assert_eq!(blob.redirect(), None);
    assert_eq!(read(blob).await.unwrap(), LAYER);
    let manifest = format!("/v2/team/app/manifests/{}", tagged.digest);
    let layer = format!("GET /v2/team/app/blobs/{}", sha256(LAYER));
    let expected = [
        "GET /v2/team/app/manifests/1",
        &format!("GET {manifest}"),
        "HEAD /v2/team/app/manifests/1",
        &layer,
    ];
    assert_eq!(registry.asked(), expected);
    for accepted in
        ["oci.image.manifest.v1", "oci.image.index.v1", "manifest.v2", "manifest.list.v2"]
    {
        assert!(registry.header("accept")[0].contains(accepted), "{accepted}");
    }
}

#[tokio::test]
async fn a_registry_that_does_not_say_a_digest_is_asked_for_the_manifest() {
    let layout = Layout::of_layers(&[LAYER]);
    let manifest = layout.contents()[layout.root()["digest"].as_str().unwrap()].clone();
    let registry = Recorder::start(move |_| manifest.clone().into_response()).await;
    assert_eq!(
        client(&registry.url, None).digest_of(&tag()).await.unwrap().to_string(),
        layout.root()["digest"]
    );
}

#[tokio::test]
async fn each_answer_is_told_apart() {
    type Case = (&'static str, fn() -> Response, Error, usize);
    let cases: [Case; 14] = [
        (
            "401 without a challenge",
            || headed(401, "x", "x"),
            Error::Denied(StatusCode::UNAUTHORIZED),
            1,
        ),
        (
            "401 with a challenge of another kind",
            || headed(401, "www-authenticate", "Negotiate"),
            Error::Denied(StatusCode::UNAUTHORIZED),
            1,
        ),
        (
            "401 that wants credentials, and there are none",
            || headed(401, "www-authenticate", "Basic realm=\"r\""),
            Error::Denied(StatusCode::UNAUTHORIZED),
            1,
        ),
        ("403", || headed(403, "x", "x"), Error::Denied(StatusCode::FORBIDDEN), 1),
        ("404", || headed(404, "x", "x"), Error::NotFound, 1),
        (
            "429 for longer than is waited",
            || headed(429, "retry-after", "61"),
            Error::RateLimited { retry_after: Some(Duration::from_secs(61)) },
            1,
        ),
        ("429 without", || headed(429, "x", "x"), Error::RateLimited { retry_after: None }, 1),
        (
            "500, three times",
            || headed(500, "x", "x"),
            Error::Unavailable("it answered 500 Internal Server Error".to_owned()),
            3,
        ),
        (
            "a status that means nothing here",
            || headed(418, "x", "x"),
            Error::Unavailable("it answered 418 I'm a teapot".to_owned()),
            3,
        ),
        (
            "a redirect to nowhere",
            || headed(307, "x", "x"),
            Error::Unavailable("it redirected to an invalid URL".to_owned()),
            3,
        ),
        ("a redirect to itself", || headed(302, "location", "?"), Error::RedirectLoop, 6),
        (
            "a manifest that is too large",
            || vec![b' '; 4 * 1024 * 1024 + 1].into_response(),
            Error::TooLarge(4 * 1024 * 1024),
            1,
        ),
        (
            "a manifest without end",
            || {
                Body::from_stream(stream::repeat(Ok::<_, Infallible>(vec![b' '; 65536])))
                    .into_response()
            },
            Error::TooLarge(4 * 1024 * 1024),
            1,
        ),
        (
            "a manifest with another digest than the registry says",
            || ([("docker-content-digest", sha256(b"another"))], "{}").into_response(),
            Error::WrongContent("its bytes do not have its digest"),
            1,
        ),
    ];
    for (description, answer, expected, requests) in cases {
        let registry = Recorder::start(move |_| answer()).await;
        let upstream = client(&registry.url, None);
        assert_eq!(upstream.tagged_manifest(&tag()).await.unwrap_err(), expected, "{description}");
        assert_eq!(registry.asked().len(), requests, "{description}");
    }
    let registry = Recorder::start(|_| "{}".into_response()).await;
    let asked = client(&registry.url, None).manifest(&digest(b"another")).await;
    assert_eq!(asked.unwrap_err(), Error::WrongContent("its bytes do not have its digest"));
}

#[tokio::test]
async fn connections_that_fail_are_tried_again() {
    let layout = Layout::of_layers(&[LAYER]);
    let registry = Recorder::registry(&layout, |_| None).await;
    for fault in [Fault::Reset, Fault::Truncated] {
        let proxy = FaultProxy::to(&registry.url).await;
        let upstream = client(&proxy.url, None);
        proxy.set_on(&[], 0, fault, 2);
        upstream.tagged_manifest(&tag()).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        proxy.set_on(&[], 0, fault, 3);
        let error = upstream.tagged_manifest(&tag()).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)), "{fault:?}: {error}");
    }
    let (nobody_listens, _reserved) = nobody_listens();
    let error = client(&nobody_listens, None).tagged_manifest(&tag()).await.unwrap_err();
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

/// Nothing, and a part of an answer and then nothing, three times each.
#[tokio::test]
async fn a_registry_that_does_not_answer_is_given_up() {
    let patience = Patience {
        answer: Duration::from_secs(1),
        idle: Duration::from_secs(2),
        ..Patience::default()
    };
    let given_up = async |fault| {
        let proxy = FaultProxy::to("http://127.0.0.1:9").await;
        proxy.set(fault);
        let error = client(&proxy.url, None)
            .with_patience(patience)
            .tagged_manifest(&tag())
            .await
            .unwrap_err();
        (error.to_string(), proxy.connections())
    };
    let (hangs, stalls) = tokio::join!(given_up(Fault::Hang), given_up(Fault::Stall));
    assert_eq!(hangs, ("failed: it did not answer within 1s".to_owned(), 3));
    assert_eq!(stalls, ("failed: it sent nothing for 2s".to_owned(), 3));
}

/// Where nothing may lead to, and what is wrong with it. The ports are those that such services
/// listen at.
fn forbidden(port: &str) -> Vec<(&'static str, String, &'static str, Danger)> {
    use Danger::{NoTls, PrivateAddress};
    let at = |host: &str| format!("https://{host}:{port}/v2/");
    vec![
        ("the metadata service", at("169.254.169.254"), "169.254.169.254", PrivateAddress),
        (
            "the metadata service, without TLS",
            "http://169.254.169.254/".to_owned(),
            "169.254.169.254",
            NoTls,
        ),
        ("a private address", at("10.0.0.1"), "10.0.0.1", PrivateAddress),
        ("loopback of another kind than is trusted", at("127.0.0.2"), "127.0.0.2", PrivateAddress),
        ("loopback as one number", at("2130706434"), "127.0.0.2", PrivateAddress),
        ("loopback in two parts, one hexadecimal", at("0x7f.2"), "127.0.0.2", PrivateAddress),
        ("a name that resolves to loopback", at("localhost"), "localhost", PrivateAddress),
        ("the same, without TLS", format!("http://localhost:{port}/"), "localhost", NoTls),
        ("IPv6 loopback", at("[::1]"), "[::1]", PrivateAddress),
        ("IPv4-mapped", at("[::ffff:169.254.169.254]"), "[::ffff:a9fe:a9fe]", PrivateAddress),
        ("NAT64", at("[64:ff9b::127.0.0.1]"), "[64:ff9b::7f00:1]", PrivateAddress),
        ("unique-local", at("[fd00:ec2::254]"), "[fd00:ec2::254]", PrivateAddress),
        ("carrier-grade NAT", at("100.64.0.1"), "100.64.0.1", PrivateAddress),
        ("unspecified", at("0.0.0.0"), "0.0.0.0", PrivateAddress),
        ("a file", "file:///etc/passwd".to_owned(), "nowhere", NoTls),
        ("the internet, without TLS", "http://93.184.215.14/".to_owned(), "93.184.215.14", NoTls),
    ]
}

#[tokio::test]
async fn nothing_leads_to_a_private_address() {
    let bystander = Recorder::start(|_| "{}".into_response()).await;
    let port = bystander.url.rsplit(':').next().unwrap().to_owned();
    for (description, url, host, reason) in forbidden(&port) {
        let expected = Error::Forbidden { host: host.to_owned(), reason };

        let target = url.clone();
        let registry = Recorder::start(move |_| headed(307, "location", &target)).await;
        let error = client(&registry.url, None).tagged_manifest(&tag()).await.unwrap_err();
        assert_eq!(error, expected, "a redirect to {description}");

        let next = Recorder::start({
            let target = url.clone();
            move |_| headed(307, "location", &target)
        });
        let next = next.await.url;
        let registry = Recorder::start(move |_| headed(307, "location", &next)).await;
        let mut blob =
            client(&registry.url, None).blob(&digest(LAYER), LAYER.len() as u64).unwrap();
        assert_eq!(blob.open().await.unwrap_err(), expected, "a second redirect to {description}");

        let registry = Recorder::start(move |_| bearer(&url, ALL_SCOPES)).await;
        let error = client(&registry.url, credentials()).tagged_manifest(&tag()).await.unwrap_err();
        assert_eq!(error, expected, "a token server at {description}");
    }
    assert_eq!(bystander.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_registry_that_was_not_named_as_trusted_is_not_reached_either() {
    let registry = Recorder::start(|_| "{}".into_response()).await;
    for host in [registry.host().to_owned(), registry.host().replace("127.0.0.1", "localhost")] {
        let repository = UpstreamRepository::parse(&format!("{host}/team/app")).unwrap();
        let http = Http::direct(Trust::default()).unwrap();
        let upstream = Upstream::new(repository, None, http).unwrap();
        let error = upstream.tagged_manifest(&tag()).await.unwrap_err();
        assert!(
            matches!(error, Error::Forbidden { reason: Danger::PrivateAddress, .. }),
            "{host}: {error}"
        );
    }
    assert_eq!(registry.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_trusted_host_may_be_named_by_its_name() {
    let layout = Layout::of_layers(&[LAYER]);
    let registry = Recorder::registry(&layout, |_| None).await;
    let host = registry.host().replace("127.0.0.1", "localhost");
    let repository = UpstreamRepository::parse(&format!("{host}/team/app")).unwrap();
    let trust = Trust { hosts: vec![Host::parse("localhost").unwrap()], plain_http: true };
    let upstream = Upstream::new(repository, None, Http::direct(trust).unwrap()).unwrap();
    upstream.tagged_manifest(&tag()).await.unwrap();
}

/// Sends a part of a blob of a length, and breaks the connection.
fn broken_off(status: u16, content_range: &str, length: usize, sent: &[u8]) -> Response {
    let mut response = Response::builder().status(status).header("content-length", length);
    if !content_range.is_empty() {
        response = response.header("content-range", content_range);
    }
    response.body(breaking(sent)).unwrap()
}

#[tokio::test]
async fn a_blob_that_breaks_goes_on_where_it_broke() {
    let content: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let size = content.len() as u64;
    for takes_ranges in [true, false] {
        let layer = content.clone();
        let registry = Recorder::start(move |request| {
            let from = request.headers.get("range").map(|range| range.to_str().unwrap().to_owned());
            match (from.as_deref(), takes_ranges) {
                (None, _) => broken_off(200, "", layer.len(), &layer[..30_000]),
                (Some("bytes=30000-"), true) => {
                    let range = format!("bytes 30000-{}/{}", layer.len() - 1, layer.len());
                    broken_off(206, &range, layer.len() - 30_000, &layer[30_000..70_000])
                }
                (Some("bytes=30000-"), false) => broken_off(200, "", layer.len(), &layer[..70_000]),
                (Some("bytes=70000-"), true) => {
                    let range = format!("bytes 70000-{}/{}", layer.len() - 1, layer.len());
                    (
                        StatusCode::PARTIAL_CONTENT,
                        [("content-range", range)],
                        layer[70_000..].to_vec(),
                    )
                        .into_response()
                }
                (Some("bytes=70000-"), false) => layer.clone().into_response(),
                other => panic!("{other:?}"),
            }
        })
        .await;
        let blob = client(&registry.url, None).blob(&digest(&content), size).unwrap();
        assert!(read(blob).await.unwrap() == content, "takes ranges: {takes_ranges}");
        assert_eq!(registry.header("range"), ["", "bytes=30000-", "bytes=70000-"]);
    }
}

#[tokio::test]
async fn blobs_that_cannot_be_had_are_told_apart() {
    type Case = (&'static str, fn(&Parts) -> Response, Error, usize);
    let size = || Error::WrongContent("it has another size");
    let cases: [Case; 7] = [
        ("another size", |_| "short".into_response(), size(), 1),
        (
            "another size, which is not told",
            |_| Body::from_stream(stream::iter([Ok::<_, io::Error>(vec![0; 100])])).into_response(),
            size(),
            1,
        ),
        (
            "a part that was not asked for",
            |_| {
                (StatusCode::PARTIAL_CONTENT, [("content-range", "bytes 0-4/15")], "a lay")
                    .into_response()
            },
            size(),
            1,
        ),
        (
            "a part of another blob",
            |request| match request.headers.contains_key("range") {
                false => broken_off(200, "", LAYER.len(), &LAYER[..5]),
                true => (StatusCode::PARTIAL_CONTENT, [("content-range", "bytes 5-19/20")], LAYER)
                    .into_response(),
            },
            size(),
            2,
        ),
        ("gone", |_| headed(404, "x", "x"), Error::NotFound, 1),
        ("not for everybody", |_| headed(403, "x", "x"), Error::Denied(StatusCode::FORBIDDEN), 1),
        (
            "too few bytes, whenever it is asked",
            |_| {
                Body::from_stream(stream::iter([Ok::<_, io::Error>(LAYER[..5].to_vec())]))
                    .into_response()
            },
            Error::Unavailable("it sent too few bytes".to_owned()),
            3,
        ),
    ];
    for (description, answer, expected, requests) in cases {
        let registry = Recorder::start(answer).await;
        let blob = client(&registry.url, None).blob(&digest(LAYER), LAYER.len() as u64).unwrap();
        assert_eq!(read(blob).await.unwrap_err(), expected, "{description}");
        assert_eq!(registry.asked().len(), requests, "{description}");
    }
    let registry = Recorder::start(|_| panic!("nothing is asked")).await;
    let too_large = client(&registry.url, None).blob(&digest(LAYER), 10 * 1024 * 1024 * 1024 + 1);
    assert_eq!(too_large.unwrap_err(), Error::TooLarge(10 * 1024 * 1024 * 1024));
}

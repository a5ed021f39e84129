//! The proxies of the environment: everything that the tool does goes through them, but not to this
//! machine.

use std::process::{Output, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use support::{
    ForwardProxy, Layout, Recorder, Stack, assert_refused, headed, layergate, start_local_with,
    stderr, stop_local,
};

const LAYER: &[u8] = b"a layer's bytes";

/// Runs the tool against a stack with these variables, and without those of this process.
async fn run(stack: &Stack, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = stack.command(arguments);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env("HOME", home.path()).env_remove("DOCKER_CONFIG").env_remove("REGISTRY_AUTH_FILE");
    command.envs(variables.iter().copied()).output().await.unwrap()
}

const SOURCE: &str = "docker://registry.example:5000/team/app:1";

const PUBLISH: [&str; 5] = ["publish", "--create-repository", "--plain-http", SOURCE, "app:1"];

#[tokio::test]
async fn another_registry_is_reached_through_the_proxy() {
    let registry = Recorder::registry(&Layout::of_layers(&[LAYER]), |_| None).await;
    let hosts = [("registry.example:5000", registry.host())];
    let credentials = format!("Basic {}", BASE64_STANDARD.encode("alice:pass:word"));
    let open = ForwardProxy::start(&hosts, None).await;
    let private = ForwardProxy::start(&hosts, Some(&credentials)).await;
    let (open_url, private_url) = (
        format!("http://{}", open.address),
        format!("http://alice:pass%3Aword@{}", private.address),
    );
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a ForwardProxy);
    let cases: [Case; 6] = [
        ("HTTP_PROXY", &[("HTTP_PROXY", &open_url)], &open),
        ("http_proxy", &[("http_proxy", &open_url)], &open),
        ("ALL_PROXY", &[("ALL_PROXY", &open_url)], &open),
        ("without a scheme", &[("HTTP_PROXY", &open.address)], &open),
        ("with credentials", &[("HTTP_PROXY", &private_url)], &private),
        ("NO_PROXY for others", &[("HTTP_PROXY", &open_url), ("NO_PROXY", "other.example")], &open),
    ];
    for (description, variables, proxy) in cases {
        let stack = Stack::start().await;
        let before = proxy.asked().len();
        let output = run(&stack, &PUBLISH, variables).await;
        assert!(output.status.success(), "{description}: {}", stderr(&output));
        let asked = proxy.asked().split_off(before);
        let first = "GET http://registry.example:5000/v2/team/app/manifests/1 HTTP/1.1";
        assert_eq!(asked[0], first, "{description}");
        assert!(
            asked.iter().all(|line| line.contains("//registry.example:5000/")),
            "the local stack is not reached through it: {asked:?}"
        );
        assert!(registry.header("proxy-authorization").concat().is_empty(), "{description}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_proxy_is_told() {
    let registry = Recorder::registry(&Layout::of_layers(&[LAYER]), |_| None).await;
    let hosts = [("registry.example:5000", registry.host())];
    let private = ForwardProxy::start(&hosts, Some("Basic YTpi")).await;
    let ignorant = ForwardProxy::start(&[], None).await;
    let (private_url, ignorant_url) = (
        format!("http://alice:secret@{}", private.address),
        format!("http://{}", ignorant.address),
    );
    let https = ["publish", "--create-repository", "docker://registry.example/team/app:1", "app:1"];
    type Case<'a> = (&'a str, &'a [&'a str], (&'a str, &'a str), i32, &'a [&'a str]);
    let cases: [Case; 8] = [
        ("wrong credentials", &PUBLISH, ("HTTP_PROXY", &private_url), 1, &["the proxy wants"]),
        ("the same for https", &https, ("HTTPS_PROXY", &private_url), 1, &["the proxy 127.0.0.1:"]),
        ("an unknown host", &PUBLISH, ("HTTP_PROXY", &ignorant_url), 1, &["502"]),
        (
            "the same for https",
            &https,
            ("HTTPS_PROXY", &ignorant_url),
            1,
            &["the proxy 127.0.0.1:"],
        ),
        (
            "nobody listens",
            &https,
            ("HTTPS_PROXY", "http://127.0.0.1:9"),
            1,
            &["the proxy 127.0.0.1:9", "Connection refused"],
        ),
        (
            "another kind of proxy",
            &PUBLISH,
            ("ALL_PROXY", "socks5://alice:secret@127.0.0.1:9"),
            2,
            &["ALL_PROXY", "must be the URL of an HTTP proxy"],
        ),
        (
            "the same for a command that only talks to AWS",
            &["repository", "list"],
            ("https_proxy", "socks5://alice:secret@127.0.0.1:9"),
            2,
            &["https_proxy", "must be the URL of an HTTP proxy"],
        ),
        (
            "no proxy after all",
            &PUBLISH,
            ("NO_PROXY", "registry.example"),
            1,
            &["cannot get the tag '1'"],
        ),
    ];
    let stack = Stack::start().await;
    for (description, arguments, variable, status, words) in cases {
        let output = run(&stack, arguments, &[variable]).await;
        eprintln!("{description}: {}", stderr(&output));
        assert_refused(&output, status, words);
        assert!(!stderr(&output).contains("secret"), "{description}: {}", stderr(&output));
    }
    assert!(ignorant.asked().contains(&"CONNECT registry.example:443 HTTP/1.1".to_owned()));
    assert_eq!(registry.asked(), Vec::<String>::new());
}

/// What leads to a private network is refused, whoever resolves the names.
#[tokio::test]
async fn a_redirect_through_the_proxy_leads_to_no_private_name() {
    for location in [
        "https://metadata.google.internal/",
        "https://printer.local/",
        "https://intranet/",
        "https://localhost/",
        "https://169.254.169.254/",
        "https://10.0.0.1/",
    ] {
        let registry = Recorder::start(move |_| headed(307, "location", location)).await;
        let proxy = ForwardProxy::start(&[("registry.example:5000", registry.host())], None).await;
        let url = format!("http://{}", proxy.address);
        let stack = Stack::start().await;
        let output = run(&stack, &PUBLISH, &[("ALL_PROXY", &url)]).await;
        assert_refused(&output, 3, &["not one of the internet", "--allow-host"]);
        assert_eq!(proxy.asked().len(), 1, "{location}: {:?}", proxy.asked());
    }
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_begins_with_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let first_byte = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.read_u8().await.unwrap()
    });
    let hosts = [("registry.example:443", server.as_str())];
    let proxy = ForwardProxy::start(&hosts, None).await;
    let url = format!("http://{}", proxy.address);
    let stack = Stack::start().await;
    let source = "docker://registry.example/team/app:1";
    let publish = ["publish", "--create-repository", source, "app:1"];
    let output = run(&stack, &publish, &[("HTTPS_PROXY", &url)]).await;
    assert_refused(&output, 1, &["cannot get the tag '1'"]);
    assert_eq!(first_byte.await.unwrap(), 0x16, "a TLS handshake");
    assert!(proxy.asked().iter().all(|line| line == "CONNECT registry.example:443 HTTP/1.1"));
}

#[tokio::test]
async fn aws_is_reached_through_the_proxy() {
    let stack = Stack::start().await;
    stack.publish(&Layout::of_layers(&[LAYER]), "app:1").await;
    let engine = |url: &str| url.trim_start_matches("http://").to_owned();
    let (dynamodb, s3) =
        (engine(&stack.local.engines.dynamodb_url), engine(&stack.local.engines.s3_url));
    let hosts = [("dynamodb.example:80", dynamodb.as_str()), ("s3.example:80", &s3)];
    let credentials = format!("Basic {}", BASE64_STANDARD.encode("alice:pass:word"));
    let proxy = ForwardProxy::start(&hosts, Some(&credentials)).await;
    let url = format!("http://alice:pass%3Aword@{}", proxy.address);
    let endpoints = [
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://dynamodb.example"),
        ("AWS_ENDPOINT_URL_S3", "http://s3.example"),
    ];
    let layout = Layout::of_layers(&[b"another layer"]);
    let variables = [&endpoints[..], &[("HTTP_PROXY", &url)]].concat();
    let output = run(&stack, &["publish", &layout.path(), "app:2"], &variables).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let asked = proxy.asked();
    for words in ["POST http://dynamodb.example/ ", "PUT http://s3.example/"] {
        assert!(asked.iter().any(|line| line.starts_with(words)), "{words}: {asked:?}");
    }

    let variables = [
        ("AWS_ENDPOINT_URL_DYNAMODB", "https://dynamodb.us-east-1.amazonaws.com"),
        ("HTTPS_PROXY", &url),
    ];
    let output = run(&stack, &["repository", "list"], &variables).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let tunnel = "CONNECT dynamodb.us-east-1.amazonaws.com:443 HTTP/1.1";
    assert!(proxy.asked().contains(&tunnel.to_owned()), "{:?}", proxy.asked());
    let variables = [&variables[..], &[("NO_PROXY", "localhost,.amazonaws.com")]].concat();
    let before = proxy.asked().len();
    run(&stack, &["repository", "list"], &variables).await;
    assert_eq!(proxy.asked().len(), before, "NO_PROXY");
}

/// The worker of the local stack is on the user's machine.
#[tokio::test]
async fn the_local_stack_pulls_through_the_proxy() {
    let registry = Recorder::registry(&Layout::of_layers(&[LAYER]), |_| None).await;
    let proxy = ForwardProxy::start(&[("registry.example:5000", registry.host())], None).await;
    let url = format!("http://{}", proxy.address);
    let folder = tempfile::tempdir().unwrap();
    let variables = [("HTTP_PROXY", url.as_str()), ("http_proxy", ""), ("NO_PROXY", "")];
    let (stack, environment) = start_local_with(0, folder.path(), Stdio::null(), &variables).await;
    let upstream = "http://registry.example:5000";
    layergate(&environment, &["pull-through", "create", "hub", "--upstream", upstream]).await;
    let manifest = format!("{}/v2/hub/team/app/manifests/1", environment["API_URL"]);
    let answer = reqwest::get(manifest).await.unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    let head = "HEAD http://registry.example:5000/v2/team/app/manifests/1 HTTP/1.1";
    assert_eq!(proxy.asked()[0], head);
    stop_local(stack, Signal::TERM).await;
}

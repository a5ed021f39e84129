//! The mistakes that people make, and the one sentence that the tool prints for each.

use std::collections::HashMap;
use std::process::{Output, Stdio};

use axum::response::IntoResponse;
use futures_util::{StreamExt, stream};
use support::{Layout, Recorder, Stack, TlsServer, nobody_listens, program, sample, stderr, tool};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// How many commands run at once: most of the time they wait.
const AT_ONCE: usize = 8;

/// What to run, with the words separated by spaces, and what comes of it. In all texts, `{name}`
/// stands for a value of the [`Bench`].
struct Mistake {
    what: &'static str,
    /// Variables to set, or to remove if the value is empty.
    environment: &'static [(&'static str, &'static str)],
    arguments: &'static str,
    status: i32,
    /// All of standard error, or its first line if clap has printed it.
    says: &'static str,
}

const fn mistake(
    what: &'static str,
    arguments: &'static str,
    status: i32,
    says: &'static str,
) -> Mistake {
    Mistake { what, environment: &[], arguments, status, says }
}

const fn with(environment: &'static [(&'static str, &'static str)], mistake: Mistake) -> Mistake {
    Mistake { environment, ..mistake }
}

/// A stack with the image `hello:1`, and other servers to mistake for it.
struct Bench {
    stack: Stack,
    home: TempDir,
    values: HashMap<&'static str, String>,
}

impl Bench {
    async fn start() -> Self {
        let (stack, home) = (Stack::start().await, tempfile::tempdir().unwrap());
        let values = HashMap::from([
            ("host", stack.local.url.strip_prefix("http://").unwrap().to_owned()),
            ("sample", sample().to_str().unwrap().to_owned()),
            ("home", home.path().to_str().unwrap().to_owned()),
        ]);
        Self { stack, home, values }
    }

    fn filled_in(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.values {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    /// The program with the environment of `local.env` and without anything of this machine's user.
    fn command(&self, program: &std::path::Path, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.stack.environment()).kill_on_drop(true);
        command.env("HOME", self.home.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("PATH", std::env::var_os("PATH").unwrap()).current_dir(self.home.path());
        for (name, value) in environment {
            match *value {
                "" => command.env_remove(name),
                value => command.env(name, self.filled_in(value)),
            };
        }
        command
    }

    async fn run(&self, environment: &[(&str, &str)], arguments: &str) -> Output {
        let mut command = self.command(&tool(), environment);
        command.args(arguments.split(' ').map(|word| self.filled_in(word))).output().await.unwrap()
    }

    /// Makes all mistakes, and asserts what comes of each.
    async fn make(&self, mistakes: &[Mistake]) {
        let outputs = stream::iter(mistakes)
            .map(async |mistake| (mistake, self.run(mistake.environment, mistake.arguments).await));
        let outputs: Vec<_> = outputs.buffered(AT_ONCE).collect().await;
        let wrong = outputs.iter().filter_map(|(mistake, output)| {
            let said = stderr(output);
            let said = match said.starts_with("error: ") {
                true => said.lines().next().unwrap_or_default(),
                false => said.trim_end_matches('\n'),
            };
            let expected = self.filled_in(mistake.says);
            let is_right = output.status.code() == Some(mistake.status) && said == expected;
            let status = output.status;
            (!is_right).then(|| {
                format!("{}: {status}\n     said: {said}\n expected: {expected}", mistake.what)
            })
        });
        let wrong: Vec<_> = wrong.collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[tokio::test]
async fn settings_and_credentials() {
    let mut bench = Bench::start().await;
    let (nobody, _reserved) = nobody_listens();
    let web = Recorder::start(|_| "<html>It works!</html>".into_response()).await;
    let engines = &bench.stack.local.engines;
    let dynamodb = engines.dynamodb_url.strip_prefix("http://").unwrap().to_owned();
    bench.values.extend([("nobody", nobody), ("web", web.url), ("dynamodb", dynamodb)]);
    const NO_KEYS: &[(&str, &str)] = &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    bench.make(&[
        with(
            &[("TABLE_NAME", ""), ("BUCKET_NAME", ""), ("DEFAULT_REGISTRY_ID", "")],
            mistake(
                "no settings",
                "repository list",
                2,
                "layergate: the settings TABLE_NAME, BUCKET_NAME and DEFAULT_REGISTRY_ID are not set; run \
                 '. .layergate/local.env' for a local stack, or 'eval \"$(make -s outputs)\"' for a deployment",
            ),
        ),
        with(
            &[("BUCKET_NAME", "")],
            mistake(
                "no bucket",
                "repository list",
                2,
                "layergate: the setting BUCKET_NAME is not set; run '. .layergate/local.env' for a local stack, or \
                 'eval \"$(make -s outputs)\"' for a deployment",
            ),
        ),
        with(
            &[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "")],
            mistake(
                "no region",
                "repository list",
                2,
                "layergate: the setting AWS_REGION is not set; run '. .layergate/local.env' for a local stack, or \
                 'eval \"$(make -s outputs)\"' for a deployment",
            ),
        ),
        with(
            &[("API_URL", "")],
            mistake(
                "no API_URL",
                "login",
                2,
                "layergate: the setting API_URL is not set; run '. .layergate/local.env' for a local stack, or \
                 'eval \"$(make -s outputs)\"' for a deployment",
            ),
        ),
        with(
            &[("API_URL", "https://alice:secret@{host}")],
            mistake(
                "an API_URL with a password",
                "login",
                2,
                "layergate: the setting API_URL must be the URL of ECR's API without a user or a query, such as \
                 https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/Prod",
            ),
        ),
        with(
            NO_KEYS,
            mistake(
                "no credentials",
                "repository list",
                1,
                "layergate: there are no AWS credentials; run 'aws configure' or 'aws sso login', or for a local \
                 stack '. .layergate/local.env'",
            ),
        ),
        with(
            NO_KEYS,
            mistake(
                "no credentials to log in with",
                "login",
                1,
                "layergate: cannot log in at http://{host}: there are no AWS credentials; run 'aws configure' or \
                 'aws sso login', or for a local stack '. .layergate/local.env'",
            ),
        ),
        with(
            &[("API_URL", "{nobody}")],
            mistake(
                "an API that is not there",
                "login",
                1,
                "layergate: cannot log in at {nobody}: the server cannot be reached: Connection refused (os error \
                 111); check API_URL and the network",
            ),
        ),
        with(
            &[("API_URL", "{web}")],
            mistake(
                "another server",
                "login",
                1,
                "layergate: cannot log in at {web}: the server is not a layergate API; check API_URL",
            ),
        ),
        with(
            &[("AWS_ENDPOINT_URL_DYNAMODB", "{nobody}")],
            mistake(
                "a stack that was started again",
                "repository list",
                1,
                "layergate: DynamoDB cannot be reached at {nobody}: Connection refused (os error 111); check the \
                 endpoint AWS_ENDPOINT_URL_DYNAMODB: start the local stack if it does not run, and then run \
                 '. .layergate/local.env' again",
            ),
        ),
        with(
            &[("AWS_ENDPOINT_URL_DYNAMODB", "https://{dynamodb}")],
            mistake(
                "https for a local DynamoDB",
                "repository list",
                1,
                "layergate: DynamoDB at https://{dynamodb} does not speak TLS; check the endpoint \
                 AWS_ENDPOINT_URL_DYNAMODB: begin it with http://",
            ),
        ),
        with(
            &[("DEFAULT_REGISTRY_ID", "111111111111")],
            mistake(
                "another account",
                "repository list",
                0,
                "layergate: there are no repositories in registry 111111111111; if that is wrong, check \
                 DEFAULT_REGISTRY_ID",
            ),
        ),
        with(
            &[("DEFAULT_REGISTRY_ID", "111111111111")],
            mistake(
                "another account's rules",
                "pull-through list",
                0,
                "layergate: there are no pull-through cache rules in registry 111111111111; if that is wrong, check \
                 DEFAULT_REGISTRY_ID",
            ),
        ),
    ])
    .await;
}

#[tokio::test]
async fn tls() {
    let mut bench = Bench::start().await;
    let server = TlsServer::start("127.0.0.1", false).await;
    let authority = TlsServer::start("127.0.0.1", true).await;
    let other = TlsServer::start("registry.example.com", false).await;
    let (nobody, _reserved) = nobody_listens();
    let plain = Recorder::registry(&Layout::of_layers(&[b"layer"]), |_| None).await;
    for (name, server) in [("server", &server), ("authority", &authority), ("other", &other)] {
        let file = bench.home.path().join(name);
        std::fs::write(&file, &server.certificate).unwrap();
        bench.values.insert(name, server.host.clone());
    }
    bench.values.insert("plain", plain.host().to_owned());
    bench.values.insert("nobody", nobody.strip_prefix("http://").unwrap().to_owned());
    let rules = [
        ("down", "http://{nobody}", ""),
        ("no-tls", "https://{plain}", "--allow-host 127.0.0.1"),
        ("wants-tls", "http://{server}", ""),
        ("unknown", "https://{server}", "--allow-host 127.0.0.1"),
        ("private", "https://{server}", ""),
    ];
    for (prefix, upstream, options) in rules {
        let create = format!("pull-through create {prefix} --upstream {upstream} {options}");
        assert!(bench.run(&[], create.trim_end()).await.status.success(), "{prefix}");
    }
    const TRUSTING: &[(&str, &str)] = &[("SSL_CERT_FILE", "{home}/server")];
    bench.make(&[
        with(
            &[("API_URL", "https://{host}")],
            mistake(
                "https for the local stack",
                "login",
                1,
                "layergate: cannot log in at https://{host}: the server does not speak TLS; begin API_URL with \
                 http://",
            ),
        ),
        with(
            &[("API_URL", "http://{server}")],
            mistake(
                "http for a server with TLS",
                "login",
                1,
                "layergate: cannot log in at http://{server}: the server did not take a request without TLS; begin \
                 API_URL with https://",
            ),
        ),
        with(
            &[("API_URL", "https://{server}")],
            mistake(
                "a self-signed certificate",
                "login",
                1,
                "layergate: cannot log in at https://{server}: the server has a certificate that is not signed by an \
                 authority that this machine trusts; set SSL_CERT_FILE to a file with the authority's certificate, \
                 or with the server's own if it is self-signed",
            ),
        ),
        with(
            &[("API_URL", "https://{server}"), ("SSL_CERT_FILE", "{home}/server")],
            mistake(
                "the advice for it helps",
                "login",
                1,
                "layergate: cannot log in at https://{server}: the server is not a layergate API; check API_URL",
            ),
        ),
        with(
            &[("SSL_CERT_FILE", "{home}/authority")],
            mistake(
                "an authority's certificate, as openssl makes it",
                "publish docker://{authority}/team/app:1 --plain-http=false --create-repository app:1",
                1,
                "layergate: cannot get the tag '1' from {authority}/team/app: it has a certificate for authorities \
                 (CA:TRUE), and no server may use such a one; make another one, with 'openssl req -x509 -addext \
                 basicConstraints=critical,CA:FALSE ...', and set SSL_CERT_FILE to it",
            ),
        ),
        with(
            &[("SSL_CERT_FILE", "{home}/other")],
            mistake(
                "a certificate for another host",
                "publish docker://{other}/team/app:1 --plain-http=false --create-repository app:1",
                1,
                "layergate: cannot get the tag '1' from {other}/team/app: it has a certificate for another name; use \
                 a name that is in the certificate",
            ),
        ),
        mistake(
            "a self-signed certificate of a registry",
            "publish docker://{server}/team/app:1 --plain-http=false --create-repository app:1",
            1,
            "layergate: cannot get the tag '1' from {server}/team/app: it has a certificate that is not signed by an \
             authority that this machine trusts; set SSL_CERT_FILE to a file with the authority's certificate, or \
             with the server's own if it is self-signed",
        ),
        with(
            TRUSTING,
            mistake(
                "the advice for that helps, too",
                "publish docker://{server}/team/app:1 --plain-http=false --create-repository app:1",
                3,
                "layergate: cannot get the tag '1' from {server}/team/app: it has no such image; check the name, and \
                 the tag or digest",
            ),
        ),
        mistake(
            "TLS for a registry without",
            "publish docker://{plain}/team/app:1 --plain-http=false --create-repository app:1",
            1,
            "layergate: cannot get the tag '1' from {plain}/team/app: it does not speak TLS; give --plain-http",
        ),
        mistake(
            "no TLS for a registry with",
            "publish docker://{server}/team/app:1 --create-repository app:1",
            1,
            "layergate: cannot get the tag '1' from {server}/team/app: it did not take a request without TLS; give \
             --plain-http=false",
        ),
        mistake(
            "a registry that is down",
            "publish docker://{nobody}/team/app:1 --create-repository app:1",
            1,
            "layergate: cannot get the tag '1' from {nobody}/team/app: it cannot be reached: Connection refused (os \
             error 111); check the name and the network, or run it again later",
        ),
        mistake(
            "an upstream that is down",
            "pull-through validate down",
            1,
            "layergate: the rule 'down' is not valid: the upstream registry cannot be reached: Connection refused (os \
             error 111); check the rule's --upstream, and the network",
        ),
        mistake(
            "an upstream without TLS",
            "pull-through validate no-tls",
            1,
            "layergate: the rule 'no-tls' is not valid: the upstream registry does not speak TLS; create the rule \
             again, with http:// in --upstream",
        ),
        mistake(
            "an upstream with TLS",
            "pull-through validate wants-tls",
            1,
            "layergate: the rule 'wants-tls' is not valid: the upstream registry did not take a request without TLS; \
             create the rule again, with https:// in --upstream",
        ),
        mistake(
            "an upstream with a self-signed certificate",
            "pull-through validate unknown",
            1,
            "layergate: the rule 'unknown' is not valid: the upstream registry has a certificate that is not signed \
             by an authority that this machine trusts; set SSL_CERT_FILE to a file with the authority's certificate, \
             or with the server's own if it is self-signed",
        ),
        mistake(
            "an upstream at a private address",
            "pull-through validate private",
            1,
            "layergate: the rule 'private' is not valid: the upstream registry leads to 127.0.0.1, whose address is \
             not one of the internet; if you trust that host, create the rule again, with --allow-host 127.0.0.1",
        ),
    ])
    .await;
}

#[tokio::test]
async fn names() {
    let bench = Bench::start().await;
    assert!(bench.run(&[], "repository create hello").await.status.success());
    bench.make(&[
        mistake(
            "docker's habit: a host",
            "publish {sample} 127.0.0.1:8642/hello:1",
            2,
            "error: invalid value '127.0.0.1:8642/hello:1' for '<REPOSITORY[:TAG]>': leave out the host: 'hello:1'",
        ),
        mistake(
            "the host of a deployment",
            "publish {sample} a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/hello:1",
            2,
            "error: invalid value 'a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/hello:1' for '<REPOSITORY[:TAG]>': \
             leave out the host: 'hello:1'",
        ),
        mistake(
            "a URL",
            "image delete docker://localhost/hello:1",
            2,
            "error: invalid value 'docker://localhost/hello:1' for '<REPOSITORY[@DIGEST|:TAG]>': leave out the host: \
             'hello:1'",
        ),
        mistake(
            "docker's habit: a tag",
            "image list hello:1.0",
            2,
            "error: invalid value 'hello:1.0' for '<REPOSITORY>': name a repository, without a tag or a digest: \
             'hello'",
        ),
        mistake(
            "upper case",
            "repository create Hello",
            2,
            "error: invalid value 'Hello' for '<REPOSITORY>': the repository's name must be 2 to 256 lower-case \
             letters and digits, in words that '.', '_', '-' or '/' separate, such as team/app",
        ),
        mistake(
            "a tag that begins with a hyphen",
            "publish {sample} hello:-1",
            2,
            "error: invalid value 'hello:-1' for '<REPOSITORY[:TAG]>': the tag must be 1 to 128 letters, digits, \
             '_', '.' and '-', and begin with none of '.' and '-'",
        ),
        mistake(
            "a digest for a tag",
            "publish {sample} hello@sha256:abc",
            2,
            "error: invalid value 'hello@sha256:abc' for '<REPOSITORY[:TAG]>': an image is published under a tag, \
             not a digest: 'hello:TAG'",
        ),
        mistake(
            "a short digest",
            "image delete hello@sha256:abc",
            2,
            "error: invalid value 'hello@sha256:abc' for '<REPOSITORY[@DIGEST|:TAG]>': the digest must be sha256: \
             and 64 hexadecimal digits",
        ),
        mistake(
            "a short account",
            "repository grant hello 1234",
            2,
            "error: invalid value '1234' for '<ACCOUNT>': the account's id must be 12 digits",
        ),
        mistake(
            "another registry without docker://",
            "publish 127.0.0.1:5077/team/app:1.0 hello:1",
            2,
            "error: invalid value '127.0.0.1:5077/team/app:1.0' for '<SOURCE>': there is no such file; for an image \
             in another registry, put docker:// before it: docker://127.0.0.1:5077/team/app:1.0",
        ),
        mistake(
            "a password in a source",
            "publish docker://alice:secret@registry.example.com/team/app:1 hello:1",
            2,
            "error: invalid value 'docker://***@registry.example.com/team/app:1' for '<SOURCE>': it must begin with \
             the registry's host, as in docker.io/library/busybox",
        ),
        mistake(
            "a name in another registry",
            "publish docker://registry.example.com/App:1 hello:1",
            2,
            "error: invalid value 'docker://registry.example.com/App:1' for '<SOURCE>': the name after the host must \
             be 2 to 256 lower-case letters and digits, in words that '.', '_', '-' or '/' separate, such as \
             team/app",
        ),
        mistake(
            "a prefix in upper case",
            "pull-through show Quay",
            2,
            "error: invalid value 'Quay' for '<PREFIX>': the prefix must be 2 to 30 lower-case letters and digits, in \
             words that '.', '_', '-' or '/' separate, such as docker-hub; or ROOT",
        ),
        mistake(
            "a port in a host",
            "publish {sample} hello:1 --allow-host storage:9000",
            2,
            "error: invalid value 'storage:9000' for '--allow-host <HOST>': it must be a host's name or address, \
             without https://, port and path, such as storage.example.com",
        ),
        mistake(
            "a missing repository to publish to",
            "publish {sample} nope:1",
            4,
            "layergate: there is no repository 'nope' in registry 000000000000; create it with --create-repository",
        ),
        mistake("a missing repository to show", "repository show nope", 4, NO_REPOSITORY),
        mistake("a missing repository to delete", "repository delete nope", 4, NO_REPOSITORY),
        mistake(
            "a missing repository to grant",
            "repository grant nope 111111111111",
            4,
            NO_REPOSITORY,
        ),
        mistake("a missing repository to list", "image list nope", 4, NO_REPOSITORY),
        mistake("a missing repository to delete from", "image delete nope:1", 4, NO_REPOSITORY),
        mistake(
            "a missing tag",
            "image delete hello:nope",
            4,
            "layergate: there is no image with the tag 'nope' in 'hello'; 'layergate image list hello' lists them",
        ),
    ])
    .await;
}

const NO_REPOSITORY: &str = "layergate: there is no repository 'nope' in registry 000000000000; 'layergate repository \
                             list' lists them";

#[tokio::test]
async fn a_change_of_permissions_says_what_changed() {
    let bench = Bench::start().await;
    assert!(bench.run(&[], "repository create hello").await.status.success());
    let steps = [
        ("revoke", "account 111111111111 had no permission to read 'hello'\n", false),
        ("grant", "account 111111111111 may now read 'hello'\n", true),
        ("grant", "account 111111111111 could already read 'hello'\n", false),
        ("revoke", "account 111111111111 may no longer read 'hello'\n", true),
    ];
    for format in ["text", "json"] {
        for (command, text, changed) in steps {
            let arguments = format!("--output {format} repository {command} hello 111111111111");
            let output = bench.run(&[], &arguments).await;
            let printed = String::from_utf8(output.stdout).unwrap();
            match format {
                "text" => assert_eq!(printed, text),
                _ => {
                    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
                    assert_eq!(printed["changed"], changed, "{printed}");
                    let accounts = printed["accounts"].as_array().unwrap().len();
                    assert_eq!(accounts, usize::from(command == "grant"), "{printed}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_version_has_the_programs_name() {
    let output = Command::new(tool()).arg("--version").output().await.unwrap();
    let version = format!("layergate {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}

/// docker hides what its helpers print. `docs/troubleshooting.md` says how to see it.
#[tokio::test]
async fn the_credential_helper_says_why_there_are_no_credentials() {
    let bench = Bench::start().await;
    let no_keys = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    let mut helper = bench.command(&program("docker-credential-layergate"), &no_keys);
    let helper = helper.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut helper = helper.spawn().unwrap();
    let mut stdin = helper.stdin.take().unwrap();
    stdin.write_all(bench.filled_in("{host}").as_bytes()).await.unwrap();
    drop(stdin);
    let output = helper.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = "cannot log in at http://{host}: there are no AWS credentials; run 'aws configure' or 'aws sso \
                    login', or for a local stack '. .layergate/local.env'";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), bench.filled_in(expected));
}

#[tokio::test]
async fn data_of_a_local_stack() {
    let folder = tempfile::tempdir().unwrap();
    let (file, damaged) = (folder.path().join("file"), folder.path().join("damaged"));
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir(&damaged).unwrap();
    let database = damaged.join("dynamodb.sqlite");
    std::fs::write(
        &database,
        "this is no database, but it is long enough for a header. ".repeat(90),
    )
    .unwrap();
    let cases = [
        (&file, format!("{} is a file, not a folder; choose another --data", file.display())),
        (
            &damaged,
            format!(
                "{} is damaged; choose another --data, or delete it and publish again",
                database.display()
            ),
        ),
    ];
    for (data, sentence) in cases {
        let mut local = Command::new(tool());
        let output = local.args(["local", "--port", "0", "--data"]).arg(data).output().await;
        let output = output.unwrap();
        assert_eq!(stderr(&output), format!("layergate: {sentence}\n"));
        assert_eq!(output.status.code(), Some(1));
    }
}

/// A limit on the size of files stands for a full disk.
#[tokio::test]
async fn a_full_disk_under_a_local_stack_is_named_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let script = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" local --port 0 --data \"$1\""; // 2 MiB
    let mut local = Command::new("sh");
    local.args(["-c", script]).arg(tool()).arg(&data).kill_on_drop(true);
    let mut local =
        local.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut lines = BufReader::new(local.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap().unwrap(); // it is up
    let environment = std::fs::read_to_string(data.join("local.env")).unwrap();
    let environment =
        environment.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    let layer: Vec<u8> = (0..3 * 1024 * 1024_u32).map(|n| (n / 7) as u8).collect();
    let layout = Layout::of_layers(&[&layer]);
    let mut publish = Command::new(tool());
    publish.envs(environment).args(["publish", "--create-repository", &layout.path(), "app:1"]);
    let output = publish.output().await.unwrap();
    let said = stderr(&output);
    let sentence = said.lines().last().unwrap_or_default();
    let objects = data.join("s3");
    let expected = format!(
        "layergate: S3 answered 507 (DiskFull): the local stack cannot use {}: File too large (os error 27); make room \
         on the disk of the local stack, and run it again",
        objects.display()
    );
    assert_eq!((sentence, output.status.code()), (expected.as_str(), Some(1)), "{said}");
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("the embedded S3 failed") && log.contains("File too large"), "{log}");
    local.kill().await.unwrap();
}

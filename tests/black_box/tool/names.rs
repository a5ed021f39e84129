//! Mistakes in the names of repositories, tags, images, accounts and hosts.

use support::{Mistakes, mistake};

#[tokio::test]
async fn wrong_names_are_told_with_right_ones() {
    let mistakes = Mistakes::start().await;
    assert!(mistakes.run(&[], "repository create hello").await.status.success());
    mistakes.make(&[
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

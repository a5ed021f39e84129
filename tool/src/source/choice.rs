//! Which image of a source is meant: by its name there, by its digest, or by its platform.

use std::fmt::Display;

use layergate_upstream::manifest::Platform;

use super::start;
use crate::error::Error;

/// How many names an error sentence lists.
const MOST_SHOWN: usize = 10;

/// What the user says of the image to publish.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Its name in the source, or its digest.
    pub image: Option<String>,
    /// What it runs on.
    pub platform: Option<Platform>,
}

/// An image of a source.
#[derive(Debug)]
pub struct Candidate<T> {
    /// The names that it has there, the one to show first. Others may have the same.
    pub names: Vec<String>,
    /// Its digest.
    pub digest: String,
    /// What it runs on, if that is known.
    pub platform: Option<Platform>,
    /// The image itself.
    pub image: T,
}

/// The candidates with this name or digest, or all of them.
pub fn named<'a, T>(candidates: &'a [Candidate<T>], choice: Option<&str>) -> Vec<&'a Candidate<T>> {
    let is_named = |candidate: &&Candidate<T>| {
        choice.is_none_or(|choice| {
            let mut names = candidate.names.iter();
            candidate.digest == choice
                || names.any(|name| name == choice || name.strip_suffix(":latest") == Some(choice))
        })
    };
    candidates.iter().filter(is_named).collect()
}

/// The only one of the candidates with this name or digest. Several with one digest are one image
/// with several names. Refuses a name that none has, and one that several images have.
pub fn only_one<'a, T>(
    source: &str,
    candidates: &'a [Candidate<T>],
    choice: Option<&str>,
) -> Result<&'a T, Error> {
    let found = named(candidates, choice);
    let Some(first) = found.first() else {
        return Err(no_such_image(source, candidates, choice.unwrap_or_default()));
    };
    if found.iter().all(|candidate| candidate.digest == first.digest) {
        return Ok(&first.image);
    }
    let labels = labels(candidates);
    Err(Error::Source(match choice {
        None => format!("{source} holds more than one image; choose one with --image: {labels}"),
        Some(choice) => format!(
            "'{choice}' is the name of more than one image in {source}; choose one with --image: {labels}"
        ),
    }))
}

/// The refusal of a name or a digest that no image has.
pub fn no_such_image<T>(source: &str, candidates: &[Candidate<T>], choice: &str) -> Error {
    Error::Source(format!("{source} holds no image '{choice}'; it has {}", labels(candidates)))
}

/// Of each image, a name that no other one has; or else its digest.
fn labels<'a, T: 'a>(candidates: impl IntoIterator<Item = &'a Candidate<T>> + Clone) -> String {
    let mut labels: Vec<&str> = Vec::new();
    for candidate in candidates.clone() {
        let is_unique = |name: &&String| {
            let mut others =
                candidates.clone().into_iter().filter(|other| other.digest != candidate.digest);
            !others.any(|other| other.names.contains(name))
        };
        let name = candidate.names.iter().find(is_unique).unwrap_or(&candidate.digest);
        if !labels.contains(&name.as_str()) {
            labels.push(name);
        }
        if labels.len() > MOST_SHOWN {
            break;
        }
    }
    list(labels)
}

/// The first of these names or digests, for an error sentence.
pub fn list<'a>(names: impl IntoIterator<Item = impl Display + 'a>) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<_> = names.by_ref().take(MOST_SHOWN).map(start).collect();
    if names.next().is_some() {
        shown.push("and others".to_owned());
    }
    shown.join(", ")
}

/// The forms of an image's name that docker takes: as it shows it, such as `app:1`, and with all
/// that it leaves out, such as `docker.io/library/app:1`.
pub fn docker_names(name: &str) -> [String; 2] {
    let is_host = |host: &str| host.contains(['.', ':']) || host == "localhost";
    let full = match name.split_once('/') {
        Some((host, _)) if is_host(host) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    };
    let short = full.strip_prefix("docker.io/").unwrap_or(&full);
    [short.strip_prefix("library/").unwrap_or(short).to_owned(), full]
}

/// The only one of these images that runs on a platform. Where no variant is wanted, an image for
/// the CPU's usual one counts before others.
pub fn on_platform<'a, T>(
    source: &str,
    images: &[&'a Candidate<T>],
    wanted: &Platform,
) -> Result<&'a T, Error> {
    let runs = |image: &&&Candidate<T>, variants: bool| {
        image.platform.as_ref().is_some_and(|platform| {
            platform.os == wanted.os
                && cpu(platform) == cpu(wanted)
                && (variant(platform) == variant(wanted)) == variants
        })
    };
    let mut found: Vec<_> = images.iter().filter(|image| runs(image, true)).copied().collect();
    if found.is_empty() && wanted.variant.is_none() {
        found.extend(images.iter().filter(|image| runs(image, false)));
    }
    let Some(first) = found.first() else {
        let all = list(images.iter().filter_map(|image| image.platform.as_ref()));
        return Err(Error::Source(match all.as_str() {
            "" => {
                format!("{source} holds no image for {wanted}; none of its images names a platform")
            }
            all => format!("{source} holds no image for {wanted}; it has images for {all}"),
        }));
    };
    if found.iter().any(|image| image.digest != first.digest) {
        return Err(Error::Source(format!(
            "{source} holds more than one image for {wanted}; choose one with --image: {}",
            labels(found)
        )));
    }
    Ok(&first.image)
}

/// The name of a platform's CPU, which some tools write as Linux has it.
fn cpu(platform: &Platform) -> &str {
    match platform.architecture.as_str() {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The variant of a platform's CPU; the usual one if it names none. Source: `Normalize` of
/// [containerd's platforms](https://github.com/containerd/platforms/blob/main/database.go).
fn variant(platform: &Platform) -> Option<&str> {
    let usual = match cpu(platform) {
        "amd64" => Some("v1"),
        "arm" => Some("v7"),
        "arm64" => Some("v8"),
        _ => None,
    };
    platform.variant.as_deref().or(usual)
}

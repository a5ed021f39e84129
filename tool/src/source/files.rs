//! The files of a source, whether they are in a directory or in an archive, which is never
//! unpacked.

use std::fs::File;
use std::io::{self, Cursor, IsTerminal, Read, Seek, Write};
use std::path::{Component, Path, PathBuf};

use layergate_core::types::Digest;
use layergate_upstream::manifest;

use super::Blob;
use super::archive::Archive;
use super::compression::Compression;
use super::image::{Contents, blob_file};
use crate::error::Error;

/// The largest JSON file that is read: the limit of most registries for a manifest.
const LARGEST_JSON: u64 = 4 * 1024 * 1024;

/// The files of a source.
#[derive(Debug)]
pub struct Files {
    name: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    Archive(Archive),
}

impl Files {
    /// Opens a directory, or reads the list of an archive; of the one on standard input if `path`
    /// is `-`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path == Path::new("-") {
            let name = "standard input".to_owned();
            if io::stdin().is_terminal() {
                return Err(Error::Source(format!(
                    "{name} is a terminal; pipe an archive into it, as in 'docker save IMAGE | layergate publish - \
                     REPOSITORY:TAG'"
                )));
            }
            return Self::of_stream(name, io::stdin().lock());
        }
        let name = path.display().to_string();
        let unreadable = |error| unreadable(&name, &error);
        let metadata = path.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Ok(Self { name, place: Place::Directory(path.to_owned()) });
        }
        let mut file = File::open(path).map_err(unreadable)?;
        if metadata.is_file() {
            let start = start(&mut file).map_err(unreadable)?;
            file.rewind().map_err(unreadable)?;
            if Compression::of(&start).is_none() {
                let place = Place::Archive(Archive::read(&name, file)?);
                return Ok(Self { name, place });
            }
        }
        Self::of_stream(name, file)
    }

    /// Reads the list of an archive that can be read only once, such as from a pipe, or that is
    /// compressed. It is copied into a temporary file.
    pub fn of_stream(name: String, mut stream: impl Read) -> Result<Self, Error> {
        let start = start(&mut stream).map_err(|error| unreadable(&name, &error))?;
        let compression = Compression::of(&start);
        let stream = Cursor::new(start).chain(stream);
        let file = match compression {
            None => spool(&name, stream, |error| unreadable(&name, &error))?,
            Some(compression) => {
                let damaged = |_| {
                    Error::Source(format!(
                        "{name} cannot be unpacked: it is not an intact {} file; get it again",
                        compression.name()
                    ))
                };
                let Some(unpacked) = compression.unpack(stream).map_err(damaged)? else {
                    return Err(Error::Source(format!(
                        "{name} is compressed with {0}; unpack it first, with '{0} -d'",
                        compression.name()
                    )));
                };
                spool(&name, unpacked, damaged)?
            }
        };
        let place = Place::Archive(Archive::read(&name, file)?);
        Ok(Self { name, place })
    }

    /// A file's size in bytes; `None` if there is no such file.
    pub fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        let key = normalize(Path::new(name), &self.name)?;
        match &self.place {
            Place::Archive(archive) => {
                Ok(archive.open(&key, &self.name)?.map(|section| section.left()))
            }
            Place::Directory(directory) => {
                let path = directory.join(key);
                match path.metadata() {
                    // Links are followed, as some tools make layouts of them; a device would never
                    // end.
                    Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
                    Ok(_) => Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(unreadable(&path.display().to_string(), &error)),
                }
            }
        }
    }

    /// Opens a file, or says that it is missing.
    pub fn open_file(&self, name: &str) -> Result<Box<dyn Read + Send>, Error> {
        let missing =
            || Error::Source(format!("{} has no file '{name}'; it is incomplete", self.name));
        match &self.place {
            Place::Archive(archive) => {
                let key = normalize(Path::new(name), &self.name)?;
                Ok(Box::new(archive.open(&key, &self.name)?.ok_or_else(missing)?))
            }
            Place::Directory(directory) => {
                self.size(name)?.ok_or_else(missing)?;
                let path = directory.join(name);
                match File::open(&path) {
                    Ok(file) => Ok(Box::new(file)),
                    Err(error) => Err(unreadable(&path.display().to_string(), &error)),
                }
            }
        }
    }

    /// Whether two names are of one file: the same name, or links to it.
    pub fn is_same(&self, one: &str, other: &str) -> Result<bool, Error> {
        let one = normalize(Path::new(one), &self.name)?;
        let other = normalize(Path::new(other), &self.name)?;
        Ok(match &self.place {
            Place::Archive(archive) => {
                archive.resolve(&one, &self.name)? == archive.resolve(&other, &self.name)?
            }
            Place::Directory(directory) => {
                let path = |name| directory.join(name).canonicalize().ok();
                one == other || path(&one).is_some_and(|one| Some(one) == path(&other))
            }
        })
    }

    /// Reads a whole JSON file into memory; `None` if there is no such file.
    pub fn read_json(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.size(name)? {
            None => return Ok(None),
            Some(size) if size > LARGEST_JSON => {
                return Err(Error::Source(format!(
                    "the file '{name}' in {} has {size} bytes, more than the {LARGEST_JSON} of any manifest",
                    self.name
                )));
            }
            Some(_) => {}
        }
        let mut bytes = Vec::new();
        let mut file = self.open_file(name)?.take(LARGEST_JSON);
        file.read_to_end(&mut bytes).map_err(|error| unreadable(&self.name, &error))?;
        Ok(Some(bytes))
    }
}

impl Contents for Files {
    fn name(&self) -> &str {
        &self.name
    }

    fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        self.read_json(&blob_file(digest))
    }

    fn blob_size(&self, blob: &manifest::Blob) -> Result<Option<u64>, Error> {
        self.size(&blob_file(&blob.descriptor.digest))
    }

    fn open_blob(&self, blob: &Blob) -> io::Result<Box<dyn Read + Send>> {
        self.open_file(&blob.file).map_err(|error| io::Error::other(error.to_string()))
    }
}

/// The first bytes of a stream, as many as tell its compression.
fn start(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    stream.take(Compression::LONGEST_MAGIC as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// Copies what can be read only once into a temporary file that has no name: the system removes it
/// with the process, however that ends. `unreadable` makes the sentence for what cannot be read.
fn spool(
    name: &str,
    mut reader: impl Read,
    unreadable: impl Fn(io::Error) -> Error,
) -> Result<File, Error> {
    let unwritable = |error: io::Error| {
        Error::Local(format!(
            "cannot keep {name} in a temporary file in {}: {error}; set TMPDIR to where there is room",
            std::env::temp_dir().display()
        ))
    };
    let mut spool = tempfile::tempfile().map_err(unwritable)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => spool.write_all(&buffer[..count]).map_err(unwritable)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(spool)
}

/// The sentence for a file that the system does not let be read.
pub fn unreadable(name: &str, error: &io::Error) -> Error {
    Error::Source(format!("cannot read {name}: {error}"))
}

/// A file's name within its source, without `.` and `..`. Nothing is ever unpacked, but a source
/// that names a file outside of itself is hostile or broken, and is refused.
pub fn normalize(name: &Path, source: &str) -> Result<String, Error> {
    let mut parts: Vec<&str> = Vec::new();
    let outside = || {
        Error::Source(format!(
            "{source} names a file that points outside of it, '{}'; it is not to be trusted",
            shown(name)
        ))
    };
    for component in name.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(|| {
                Error::Source(format!(
                    "{source} holds a file whose name is not UTF-8, '{}'; no image has such a name",
                    shown(name)
                ))
            })?),
            Component::ParentDir => {
                parts.pop().ok_or_else(outside)?;
            }
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    Ok(parts.join("/"))
}

fn shown(name: &Path) -> String {
    super::start(name.display())
}

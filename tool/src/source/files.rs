//! The files of a source, whether they are in a directory or in an archive, which is never
//! unpacked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use layergate_core::types::Digest;
use layergate_upstream::manifest;
use tar::EntryType;

use super::Blob;
use super::image::{Contents, blob_file};
use crate::error::Error;

/// The largest JSON file that is read: the limit of most registries for a manifest.
const LARGEST_JSON: u64 = 4 * 1024 * 1024;

/// The largest entry of an archive that extends the next one's header, in bytes.
const LARGEST_EXTENSION: u64 = 1024 * 1024;

/// How many links to links are followed.
const LONGEST_LINK_CHAIN: usize = 8;

/// The files of a source.
#[derive(Debug)]
pub struct Files {
    name: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    /// A tar archive, and what it holds, by normalized name.
    Archive(Arc<File>, HashMap<String, Entry>),
}

#[derive(Debug)]
enum Entry {
    /// A file's bytes, within the archive.
    File { offset: u64, size: u64 },
    /// Another entry's name.
    Link(String),
}

/// A file within an archive. It has a place of its own, so that several can be read at once.
struct Section {
    archive: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.archive.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
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
            return Self::of_archive(name, spool(io::stdin().lock())?);
        }
        let name = path.display().to_string();
        let unreadable = |error| unreadable(&name, &error);
        let metadata = path.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Ok(Self { name, place: Place::Directory(path.to_owned()) });
        }
        let file = File::open(path).map_err(unreadable)?;
        let archive = if metadata.is_file() { file } else { spool(file)? }; // such as a pipe
        Self::of_archive(name, archive)
    }

    fn of_archive(name: String, mut archive: File) -> Result<Self, Error> {
        let entries = read_archive(&name, &mut archive)?;
        Ok(Self { name, place: Place::Archive(Arc::new(archive), entries) })
    }

    /// A file's size in bytes; `None` if there is no such file.
    pub fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        match &self.place {
            Place::Archive(_, entries) => Ok(self.resolve(entries, name)?.map(|(_, size)| size)),
            Place::Directory(directory) => {
                let path = directory.join(normalize(Path::new(name), &self.name)?);
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
            Place::Archive(archive, entries) => {
                let (offset, left) = self.resolve(entries, name)?.ok_or_else(missing)?;
                Ok(Box::new(Section { archive: archive.clone(), offset, left }))
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

    fn resolve(
        &self,
        entries: &HashMap<String, Entry>,
        name: &str,
    ) -> Result<Option<(u64, u64)>, Error> {
        let mut name = normalize(Path::new(name), &self.name)?;
        for _ in 0..LONGEST_LINK_CHAIN {
            match entries.get(&name) {
                None => return Ok(None),
                Some(Entry::File { offset, size }) => return Ok(Some((*offset, *size))),
                Some(Entry::Link(target)) => name.clone_from(target),
            }
        }
        Err(Error::Source(format!(
            "the entry '{name}' in {} is a link that leads nowhere",
            self.name
        )))
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

/// Copies what can be read only once into a temporary file that has no name: the system removes it
/// with the process, however that ends.
fn spool(mut reader: impl Read) -> Result<File, Error> {
    let mut copy = || {
        let mut spool = tempfile::tempfile()?;
        io::copy(&mut reader, &mut spool)?;
        spool.rewind()?;
        Ok(spool)
    };
    copy().map_err(|error: io::Error| {
        Error::Local(format!(
            "cannot keep the source in a temporary file in {}: {error}; set TMPDIR to where there is room",
            std::env::temp_dir().display()
        ))
    })
}

/// The sentence for a file that the system does not let be read.
fn unreadable(name: &str, error: &io::Error) -> Error {
    Error::Source(format!("cannot read {name}: {error}"))
}

fn read_archive(name: &str, mut file: &mut File) -> Result<HashMap<String, Entry>, Error> {
    refuse_compressed(name, file)?;
    let length = file.metadata().map_err(|error| unreadable(name, &error))?.len();
    // The library's own words repeat bytes of the file.
    let damaged = |error: io::Error| match error.raw_os_error() {
        Some(_) => unreadable(name, &error),
        None => Error::Source(format!(
            "{name} is not an intact tar archive; it must be an OCI layout, an OCI archive or the output of docker save"
        )),
    };

    // The library reads the entries that extend the next one's header whole, into memory.
    let mut archive = tar::Archive::new(&mut file);
    for entry in archive.entries_with_seek().map_err(damaged)?.raw(true) {
        let entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        let is_extension = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        if is_extension && entry.size() > LARGEST_EXTENSION {
            return Err(Error::Source(format!(
                "{name} holds a header of {} bytes; it is not to be trusted",
                entry.size()
            )));
        }
    }
    file.rewind().map_err(|error| unreadable(name, &error))?;

    let mut archive = tar::Archive::new(&mut file);
    let mut entries = HashMap::new();
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let entry_name = entry.path().map_err(damaged)?.into_owned();
        let key = normalize(&entry_name, name)?;
        let found = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|end| end > length) {
                    return Err(Error::Source(format!(
                        "{name} is truncated: it ends within '{key}'; get it whole"
                    )));
                }
                Entry::File { offset, size }
            }
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let target = entry.link_name().map_err(damaged)?.unwrap_or_default();
                // A symbolic link starts at its own directory, a hard link at the archive's root.
                let from = if kind == EntryType::Symlink { entry_name.parent() } else { None };
                Entry::Link(normalize(&from.unwrap_or(Path::new("")).join(target), name)?)
            }
            EntryType::GNUSparse => {
                return Err(Error::Source(format!(
                    "{name} holds the sparse file '{key}'; make the archive without --sparse"
                )));
            }
            _ => continue, // directories, and what no image is made of
        };
        entries.insert(key, found); // as with tar, the last entry of a name counts
    }
    Ok(entries)
}

/// A file's name within its source, without `.` and `..`. Nothing is ever unpacked, but a source
/// that names a file outside of itself is hostile or broken, and is refused.
fn normalize(name: &Path, source: &str) -> Result<String, Error> {
    let mut parts: Vec<&str> = Vec::new();
    let outside = || {
        Error::Source(format!(
            "{source} names a file that points outside of it, '{}'; it is not to be trusted",
            name.display()
        ))
    };
    for component in name.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(|| {
                Error::Source(format!(
                    "{source} holds a file whose name is not UTF-8, '{}'; no image has such a name",
                    name.display()
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

fn refuse_compressed(name: &str, file: &mut File) -> Result<(), Error> {
    let mut start = [0; 6];
    let mut read = || {
        let count = file.read(&mut start)?;
        file.rewind()?;
        Ok(count)
    };
    let count = read().map_err(|error| unreadable(name, &error))?;
    let tool = match &start[..count] {
        [0x1f, 0x8b, ..] => "gunzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "unzstd",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "unxz",
        [b'B', b'Z', b'h', ..] => "bunzip2",
        _ => return Ok(()),
    };
    Err(Error::Source(format!("{name} is compressed; decompress it first, with {tool}")))
}
